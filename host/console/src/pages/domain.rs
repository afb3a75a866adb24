//! One domain of ours: how far it takes part, how its keys stand, and who forges it; never a key.

use addrauth::proto::address::Domain;
use addrauth::store::Summary;
use maud::{Markup, html};
use serde_json::Value;

use super::page as whole;
use super::parts::{age, plain, word};
use crate::answer::Answer;
use crate::fault::Fault;
use crate::form::query;
use crate::table::{Page, may};
use crate::verbs::{self, Said};
use crate::visit::Visit;
use crate::who::Scope;

/// How far back is looked for those who forge it.
const FORGED: &str = "30d";
/// How far back mail is counted.
const COUNTED: &str = "7d";

/// The domains of this site that somebody may see.
pub(super) fn seen(visit: &Visit) -> Result<Vec<Domain>, Fault> {
    let (config, scope) = (&visit.current.config, &visit.who()?.scope);
    let mut domains: Vec<Domain> = config.final_domains.iter().chain(&config.authority.domains).cloned().collect();
    domains.retain(|domain| match scope {
        Scope::All => true,
        Scope::Domains(own) => own.contains(domain),
        Scope::Mailbox(_) => false,
    });
    domains.sort();
    domains.dedup();
    Ok(domains)
}

/// The page.
pub(super) async fn page(visit: &Visit) -> Result<Answer, Fault> {
    let asked = visit.part("domain");
    let domain = seen(visit)?.into_iter().find(|domain| domain.as_str() == asked).ok_or(Fault::NotFound)?;
    let followed = verbs::run(&visit.desk, &["--json", "doctor", domain.as_str(), "--steps"], b"").await?;
    let is_server = visit.current.config.authority.domains.contains(&domain);
    let forged = match is_server {
        true => Some(verbs::run(&visit.desk, &["--json", "report", domain.as_str(), "--since", FORGED], b"").await?),
        false => None,
    };
    let summary = visit.desk.summary(age(COUNTED).1).await?;
    let told = followed.json();
    let main = html! {
        h1 { (plain(domain.as_str())) }
        p { a href="/keys" { "All domains" } @if may(visit.who()?.role, Page::Doctor) { " · " a href="/doctor" { "What the doctor says" } } }
        @if told.is_object() { (steps(&told)) (keys(&told)) } @else { p.notice.odd { (plain(&followed.text)) } }
        (mail(&summary, domain.as_str()))
        @if let Some(forged) = &forged { (forgers(forged)) }
    };
    Ok(whole(visit, "Domain", &main))
}

fn text(value: &Value) -> String {
    value.as_str().map(plain).unwrap_or_default()
}

fn steps(told: &Value) -> Markup {
    let all = || told["steps"].as_array().into_iter().flatten();
    let next = all().find(|step| step["stand"] == "open");
    html! {
        h2 { "How far it takes part" }
        @match next {
            Some(step) => p.notice.odd { "Next is step " (step["step"]) ": " (text(&step["next"])) "." },
            None if all().all(|step| step["stand"] == "done") => p.notice.good { "All steps are done." },
            None => p.notice { "What is not done could not be told." },
        }
        div.wide tabindex="0" role="region" aria-label="Steps" { table.rows {
            thead { tr { th { "Step" } th { "Stands" } th { "What" } th { "Found" } } }
            tbody { @for step in all() { tr aria-current=[(next == Some(step)).then_some("step")] {
                td data-name="Step" { (step["step"]) }
                td data-name="Stands" { (stand(&step["stand"])) }
                td data-name="What" { (text(&step["what"])) }
                td data-name="Found" { (text(&step["found"])) }
            } } }
        } }
    }
}

fn stand(stand: &Value) -> Markup {
    match stand.as_str() {
        Some("done") => word("done"),
        Some("open") => html! { span.word.odd { "open" } },
        _ => html! { span.word.plain { "not known here" } },
    }
}

fn keys(told: &Value) -> Markup {
    let tables = [("Keys that our server gave", &told["keys"]), ("Keys that mail is stamped with", &told["keyring"])];
    html! {
        @if tables.iter().any(|(_, count)| count.is_object()) {
            h2 { "Keys" }
            ul.tiles { @for (name, count) in tables { @if count.is_object() {
                li { (name) ": " b { (count["living"]) } " of " (count["addresses"]) " addresses have a living one"
                    @if count["soon"] != 0 { "; " (count["soon"]) " end within a day" }
                    @if count["without"] != 0 { "; " b { (count["without"]) } " have none" } }
            } } }
        }
    }
}

/// Mail in the name of the domain that came here without a right key.
fn mail(summary: &Summary, domain: &str) -> Markup {
    let found: Vec<(&str, u64)> = summary
        .domains
        .iter()
        .filter_map(|(result, domains)| {
            let count = domains.single.get(domain)?;
            Some((result.as_str(), *count))
        })
        .collect();
    html! {
        h2 { "Mail in its name, of the last 7 days" }
        @if found.is_empty() { p { "None that came without a right key is counted singly." } } @else {
            ul.tiles { @for (result, count) in &found { li {
                a href={ "/messages?" (query(&[("domain", domain), ("result", result), ("since", COUNTED)])) } { b { (count) } " " (result) }
            } } }
        }
        p { a href={ "/messages?" (query(&[("domain", domain), ("since", COUNTED)])) } { "All of it" } }
    }
}

/// Who asked about wrong keys of it elsewhere.
fn forgers(said: &Said) -> Markup {
    let rows = said.json_lines();
    let seen = |row: &Value| {
        let by = |seen: &Value| {
            let place = [&seen["verifier"], &seen["network"]].map(text).into_iter().filter(|text| !text.is_empty());
            format!("{} ({})", place.collect::<Vec<_>>().join(" at "), seen["answers"])
        };
        row["seen_by"].as_array().into_iter().flatten().map(by).collect::<Vec<_>>().join(", ")
    };
    html! {
        h2 { "Who uses it without a key of it, of the last 30 days" }
        @if !said.good { p.notice.odd { (plain(&said.text)) } }
        @else if rows.is_empty() { p { "No wrong key was asked about." } }
        @else {
            div.wide tabindex="0" role="region" aria-label="Forged" { table.rows {
                thead { tr { th { "Address" } th.number { "Answers" } th { "First" } th { "Last" } th { "Seen by" } } }
                tbody { @for row in &rows { tr {
                    td data-name="Address" { @if row["address"].is_string() { (text(&row["address"])) } @else { "others" } }
                    td.number data-name="Answers" { (row["answers"]) }
                    td data-name="First" { (text(&row["first"])) }
                    td data-name="Last" { (text(&row["last"])) }
                    td data-name="Seen by" { (seen(row)) }
                } } }
            } }
        }
    }
}
