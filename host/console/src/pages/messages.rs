//! The journal, filtered by what the URL says, a page at a time.

use std::collections::BTreeSet;
use std::time::SystemTime;

use addrauth::case::{Decision, WrittenCase};
use addrauth::proto::address::Mailbox;
use addrauth::proto::whom::Whom;
use addrauth::store::{Found, JournalRow, RowResult, RowVerdict, Wanted};
use addrauth::why::story;
use maud::{Markup, html};

use super::page as whole;
use super::parts::{self, bare, moment, plain, select, word};
use crate::answer::Answer;
use crate::fault::Fault;
use crate::form::{Form, query};
use crate::visit::Visit;
use crate::who::Scope;

const RESULTS: [&str; 9] =
    ["", "valid", "invalid", "missing", "none", "unverified", "unusable", "submitted", "postponed"];
const DECISIONS: [&str; 6] = ["", "accept", "mark", "quarantine", "reject", "defer"];
const VERDICTS: [&str; 6] = ["", "accept", "hold", "discard", "reject", "defer"];

/// The page; of one mailbox alone where it is a user's own.
pub(super) async fn page(visit: &Visit, own: Option<&Mailbox>) -> Result<Answer, Fault> {
    let scope = &visit.who()?.scope;
    let found = match wanted(&visit.query, scope) {
        Ok(wanted) => {
            let found = found(visit, &wanted, scope).await?;
            Ok((reached(visit, &found).await?, found))
        }
        Err(wrong) => Err(wrong),
    };
    let title = if own.is_some() { "My mail" } else { "Messages" };
    let main = html! {
        h1 { (title) }
        (filters(&visit.query, own.is_some(), visit))
        @match &found {
            Err(wrong) => p.notice.bad role="alert" { (wrong) },
            Ok((reached, found)) => (table(found, *reached, visit, scope)),
        }
    };
    Ok(whole(visit, title, &main))
}

/// What the query asks for, within what may be seen.
fn wanted(query: &Form, scope: &Scope) -> Result<Wanted, String> {
    let whom = |name: &str| match query.some(name) {
        None => Ok(None),
        Some(text) => {
            Whom::parse(text).map(Some).ok_or(format!("{text:?} is no address: write bob@example.com, or @example.com"))
        }
    };
    let known = |name: &str, words: &[&str]| match query.some(name) {
        None => Ok(None),
        Some(text) if words.contains(&text) => Ok(Some(text.to_owned())),
        Some(text) => Err(format!("{text:?} is not known here")),
    };
    let since = match query.some("since") {
        None => None,
        Some(text) => Some(parts::since(text).ok_or("write an age (2d, 12h, 30min) or a day (2026-11-20)")?),
    };
    let domain = query.some("domain").map(|domain| format!("@{}", domain.trim_start_matches('@')));
    let domain = match domain {
        None => None,
        Some(text) => Some(Whom::parse(&text).ok_or(format!("{text:?} is no domain"))?),
    };
    // The database looks through less where it knows whose mail may be seen. Who asks for others' mail finds none.
    let (own, recipients) = match scope {
        Scope::Mailbox(mailbox) => (Some(Whom::Mailbox(mailbox.clone())), Vec::new()),
        Scope::Domains(domains) => (None, domains.iter().cloned().map(Whom::Domain).collect()),
        Scope::All => (None, Vec::new()),
    };
    let asked = whom("recipient")?;
    let is_in_scope = |asked: &Whom| match (scope, asked) {
        (Scope::Domains(domains), Whom::Domain(domain)) => domains.contains(domain),
        (Scope::Domains(_), Whom::Mailbox(mailbox)) => scope.includes(mailbox.as_str()),
        _ => true,
    };
    if asked.as_ref().is_some_and(|asked| !is_in_scope(asked)) {
        return Err("that recipient is in no domain of yours".into());
    }
    let recipient = match (scope, asked) {
        (Scope::Mailbox(_), _) | (_, None) => own,
        (_, asked) => asked,
    };
    Ok(Wanted {
        sender: whom("sender")?.or(domain),
        recipient,
        recipients,
        result: known("result", &RESULTS)?.map(|word| RowResult::of_word(&word)),
        verdict: known("verdict", &VERDICTS)?.map(|word| RowVerdict::of_word(&word)),
        decision: known("decision", &DECISIONS)?,
        policy: query.some("policy").map(str::to_owned),
        since,
    })
}

/// The rows of the page.
async fn found(visit: &Visit, wanted: &Wanted, scope: &Scope) -> Result<Found, Fault> {
    let (ledger, bounds) = (&visit.desk.ledger, &visit.desk.limits.console);
    let may = |row: &JournalRow| {
        scope.is_all()
            || story(row).is_ok_and(|story| {
                let seen: Vec<bool> = story.recipients.iter().map(|r| scope.includes(r)).collect();
                // What is asked of decisions is asked of those about recipients who may be seen.
                let is_asked = |decision: &Decision| {
                    let of_seen = decision.recipients.iter().any(|index| seen.get(*index) == Some(&true));
                    let fits = wanted.decision.as_deref().is_none_or(|word| decision.disposition.word() == word)
                        && wanted.policy.as_deref().is_none_or(|policy| decision.policy == policy);
                    of_seen && fits
                };
                let any = wanted.decision.is_none() && wanted.policy.is_none();
                seen.contains(&true) && (any || story.decisions.iter().any(is_asked))
            })
    };
    if let Some(id) = visit.query.some("id") {
        let mut rows = ledger.journal_of(id).await?;
        if let (true, Ok(number)) = (rows.is_empty(), id.parse()) {
            rows.extend(ledger.journal_row(number).await?);
        }
        rows.reverse();
        rows.retain(|row| may(row) && wanted.fits(row));
        rows.truncate(bounds.rows);
        return Ok(Found { rows, next: None });
    }
    let below = visit.query.some("below").and_then(|text| text.parse().ok());
    Ok(ledger.wanted(wanted, below, (bounds.rows, bounds.looked), may).await?)
}

/// How far back was looked, where a page is short and older rows were not looked at yet.
async fn reached(visit: &Visit, found: &Found) -> Result<Option<SystemTime>, Fault> {
    let is_short = found.rows.len() < visit.desk.limits.console.rows;
    // When others' mail came is told to those alone who see it.
    match found.next.filter(|_| is_short && visit.who.as_ref().is_some_and(|who| who.scope.is_all())) {
        Some(next) => Ok(visit.desk.ledger.journal_row(next).await?.map(|row| row.at)),
        None => Ok(None),
    }
}

fn filters(query: &Form, is_own: bool, visit: &Visit) -> Markup {
    let field = |name: &str, label: &str, hint: &str| {
        html! { label { (label) input name=(name) value=(query.text(name)) placeholder=(hint) maxlength="320"; } }
    };
    let words = |words: &'static [&'static str]| -> Vec<(&str, &str)> {
        words.iter().map(|word| (*word, if word.is_empty() { "any" } else { *word })).collect()
    };
    let place = visit.place.split('?').next().unwrap_or_default();
    let more = ["verdict", "policy", "domain", "id"].iter().any(|name| query.some(name).is_some());
    html! {
        form.filters method="get" action=(place) role="search" {
            (field("sender", "Sender", "alice@example.com or @example.com"))
            @if !is_own { (field("recipient", "Recipient", "bob@example.com")) }
            (select("result", "Result", &words(&RESULTS), query.text("result")))
            (select("decision", "Decision", &words(&DECISIONS), query.text("decision")))
            (field("since", "Since", "2d or 2026-11-20"))
            details open[more] {
                summary { "More" }
                div.filters {
                    (field("id", "Queue id or row", "4XyZ1bQ7"))
                    (field("domain", "Sender's domain", "example.com"))
                    (field("policy", "Policy", "mark"))
                    (select("verdict", "Mail server was told", &words(&VERDICTS), query.text("verdict")))
                }
            }
            div.buttons { button { "Show" } a href=(place) { "All" } }
        }
    }
}

fn table(found: &Found, reached: Option<SystemTime>, visit: &Visit, scope: &Scope) -> Markup {
    let older = found.next.map(|next| visit.query.with("below", &next.to_string()));
    html! {
        @if found.rows.is_empty() {
            p { @if older.is_some() { "None among the rows that were looked at; older ones were not yet." } @else { "There is no such message." } }
        } @else {
            div.wide tabindex="0" role="region" aria-label="Messages" {
                table.rows {
                    thead { tr { th { "When" } th { "From" } th { "To" } th { "Result" } th { "Decision" } th { "Queue id" } } }
                    tbody { @for row in &found.rows { (line(row, scope)) } }
                }
            }
        }
        @if let Some(reached) = reached {
            p { "Searched back to " (moment(reached)) ": " b { "Older" } " goes on from there." }
        }
        p.pages {
            @if visit.query.some("below").is_some() { a href={ "?" (visit.query.with("below", "")) } { "Newest" } }
            @if let Some(older) = older { a rel="next" href={ "?" (older) } { "Older" } }
        }
    }
}

fn line(row: &JournalRow, scope: &Scope) -> Markup {
    let entry = &row.entry;
    let story = story(row).ok();
    let sender = entry.sender.as_deref().unwrap_or("no usable address");
    html! {
        tr {
            td data-name="When" { a href={ "/messages/" (row.id) } { (moment(row.at)) } }
            td data-name="From" { (plain(sender)) }
            td data-name="To" { @match &story { Some(story) => (recipients(story, scope)), None => "?" } }
            td data-name="Result" { (word(entry.result.word())) }
            td data-name="Decision" {
                @if let Some(story) = &story { @for decided in decisions(story, scope) { (word(&decided)) " " } }
            }
            td data-name="Queue id" { code { (plain(entry.queue_id.as_deref().unwrap_or("-"))) } }
        }
    }
}

/// The first recipient that may be seen, and how many more.
fn recipients(story: &WrittenCase, scope: &Scope) -> String {
    let seen: Vec<&str> = story.recipients.iter().filter(|r| scope.includes(r)).map(|r| bare(r)).collect();
    match seen.as_slice() {
        [] => "nobody".into(),
        [one] => plain(one),
        [first, more @ ..] => format!("{} and {} more", plain(first), more.len()),
    }
}

/// The decisions about recipients that may be seen, each once.
fn decisions(story: &WrittenCase, scope: &Scope) -> BTreeSet<String> {
    let seen = |index: &usize| story.recipients.get(*index).is_some_and(|recipient| scope.includes(recipient));
    let of_theirs = story.decisions.iter().filter(|decision| decision.recipients.iter().any(seen));
    of_theirs.map(|decision| decision.word().to_owned()).collect()
}

/// The query of the messages of a result and decision.
pub(super) fn of_kind(result: &str, decision: &str, age: &str) -> String {
    format!("/messages?{}", query(&[("result", result), ("decision", decision), ("since", age)]))
}
