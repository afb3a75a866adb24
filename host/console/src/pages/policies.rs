//! The policies: what each is, whose word binds it, all that it decides, and what its candidate would.

use addrauth::case::{Differs, KeyStatus};
use addrauth::policy::Listed;
use addrauth::store::Role;
use maud::{Markup, html};

use super::parts::{age, plain, word};
use super::{page as whole, token};
use crate::answer::Answer;
use crate::fault::Fault;
use crate::form::{query, segment};
use crate::table::{Page, may};
use crate::verbs;
use crate::visit::Visit;

/// All of them.
pub(super) fn list(visit: &Visit) -> Result<Answer, Fault> {
    let listed = visit.current.loaded()?.list();
    let policy = &visit.current.config.policy;
    let by_word: Vec<(String, usize)> = {
        let mut bound: Vec<(String, usize)> =
            policy.domain.keys().map(|domain| (format!("domain {domain}"), 1)).collect();
        bound.push(("recipients".into(), policy.recipient.len()));
        bound
    };
    let main = html! {
        h1 { "Policies" }
        div.wide tabindex="0" role="region" aria-label="Policies" { table.rows {
            thead { tr { th { "Policy" } th { "What it does" } th { "Treats" } th { "From" } } }
            tbody { @for policy in &listed { tr {
                td data-name="Policy" { a href={ "/policies/" (segment(&policy.id)) } { (plain(&policy.id)) } }
                td data-name="What it does" { (policy.summary) }
                td data-name="Treats" { @for status in &policy.bound { (word(status.word())) " " } }
                td data-name="From" { (plain(&policy.origin.to_string())) }
            } } }
        } }
        h2 { "Whose word counts" }
        p { "For a recipient the first of these that says something: the administrator's line for the address, the user's own choice, his domain's, the site's." }
        dl.facts {
            @for status in KeyStatus::ALL { @let treats: Vec<&str> = listed.iter().filter(|p| p.bound.contains(&status)).map(|p| p.id.as_str()).collect();
                dt { (word(status.word())) } dd { (plain(&treats.join(", "))) }
            }
            @for (whose, count) in &by_word { @if *count > 0 { dt { (plain(whose)) } dd { (count) " with lines of their own" } } }
            dt { "Open to users" } dd { (plain(&visit.current.config.policy.user_may.join(", "))) @if visit.current.config.policy.user_rules { "; and rules of their own" } }
        }
    };
    Ok(whole(visit, "Policies", &main))
}

/// The policy in the path.
pub(super) fn named(visit: &Visit) -> Result<Listed, Fault> {
    let listed = visit.current.loaded()?.list();
    // What begins with a dash would be an option of a verb.
    let is_it = |policy: &Listed| policy.id == visit.part("id") && !policy.id.starts_with('-');
    listed.into_iter().find(is_it).ok_or(Fault::NotFound)
}

/// One of them; with other rules, where some are tried.
pub(super) async fn one(visit: &Visit) -> Result<Answer, Fault> {
    let policy = named(visit)?;
    let rules = rules(visit, &policy.id);
    let tried = visit.form.raw("rules").replace("\r\n", "\n");
    let lines: Vec<&str> = tried.lines().filter(|line| !line.trim().is_empty()).collect();
    let set = format!("rules={}", serde_json::Value::from(lines.clone()));
    let mut words = vec!["policy", "table", policy.id.as_str()];
    if rules.is_some() && !lines.is_empty() {
        words.extend(["--set", &set]);
    }
    let table = verbs::run(&visit.desk, &words, b"").await;
    let (since, span) = age(visit.query.some("since").unwrap_or("7d"));
    let role = visit.who()?.role;
    let shadows = if may(role, Page::Overview) {
        shadows(visit, &policy.id, span).await?
    } else {
        html! {}
    };
    let main = html! {
        h1 { (plain(&policy.id)) }
        (facts(&policy))
        p { a href={ "/messages?" (query(&[("policy", &policy.id), ("since", since)])) } { "Messages that it decided" } }
        (shadows)
        @if may(role, Page::Candidate) { p { a href={ "/policies/" (segment(&policy.id)) "/candidate" } { "Its candidate: record, promotion, another one" } } }
        h2 { @if lines.is_empty() { "All that it decides" } @else { "All that it would decide by the rules below" } }
        @match table {
            Ok(said) => { @if said.good { pre tabindex="0" { (said.text) } } @else { p.notice.bad role="alert" { (said.text) } } }
            Err(fault) => p.notice.odd { (fault) },
        }
        @if let (Some(rules), true) = (&rules, may(role, Page::PolicyRules)) {
            (editor(visit, &policy.id, if lines.is_empty() { rules } else { &tried }, role))
        }
    };
    Ok(whole(visit, "Policy", &main))
}

fn facts(policy: &Listed) -> Markup {
    html! {
        p { (policy.summary) }
        dl.facts {
            dt { "Name" } dd { (policy.name) " " (policy.version) }
            dt { "From" } dd { (plain(&policy.origin.to_string())) }
            dt { "SHA-256" } dd { code { (policy.digest) } }
            dt { "Treats" } dd { @if policy.bound.is_empty() { "nothing by the site's word" } @for status in &policy.bound { (word(status.word())) " " } }
            @if let Some(shadow) = &policy.shadow {
                dt { "Candidate" } dd { @match &shadow.refused { Some(why) => { "not loaded: " (plain(why)) } None => { (plain(&shadow.file.display().to_string())) } } }
            }
        }
    }
}

/// The lines of rules of a policy that has some, one below the other.
pub(super) fn rules(visit: &Visit, id: &str) -> Option<String> {
    let lines = visit.current.config.policies.get(id)?.settings.get("rules")?.as_array()?;
    Some(lines.iter().filter_map(toml::Value::as_str).collect::<Vec<_>>().join("\n"))
}

/// Rules to be tried, and to be made the candidate: nothing of them is in force before that is promoted.
fn editor(visit: &Visit, id: &str, text: &str, role: Role) -> Markup {
    let place = format!("/policies/{}", segment(id));
    html! {
        form.card method="post" action=(place) {
            (token(&visit.secret))
            label for="rules" { "Its rules, one a line" }
            textarea id="rules" name="rules" rows="10" spellcheck="false" { (text) }
            div.buttons {
                button { "Show what they would decide" }
                @if may(role, Page::CandidatePut) { button.quiet formaction={ (place) "/candidate" } { "Check them, and make them the candidate" } }
                a href=(place) { "As it is in force" }
            }
            p { small { "What is in force stays in force: a candidate decides beside it until it is promoted." } }
        }
    }
}

/// What its candidate decided beside it.
pub(super) async fn shadows(visit: &Visit, id: &str, span: std::time::Duration) -> Result<Markup, Fault> {
    let summary = visit.desk.summary(span).await?;
    let own: Vec<_> = summary.shadows.iter().filter(|((of, _), _)| of == id).collect();
    Ok(html! { @if !own.is_empty() {
        h2 { "What its candidate decided beside it" }
        div.wide tabindex="0" role="region" aria-label="Candidate" { table {
            thead { tr { th { "Candidate" } @for differs in Differs::ALL { th.number { (differs.word()) } } } }
            tbody { @for ((_, candidate), counts) in own { tr { td { code { (plain(candidate)) } } @for count in counts { td.number { (count) } } } } }
        } }
    } })
}
