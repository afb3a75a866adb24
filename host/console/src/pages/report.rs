//! What the program's verbs found of a candidate, as parts of a page.

use maud::{Markup, html};
use serde_json::Value;

use super::parts::{plain, word};

fn text(value: &Value) -> String {
    value.as_str().map(plain).unwrap_or_default()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn count(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

/// What `policy shadow --json` said: refused and why, or put; what the candidate is, what is odd about it, and its cases.
pub(super) fn looked(told: &Value) -> Markup {
    let refused = told["refused"].as_str();
    html! {
        @match refused {
            Some(why) => p.notice.bad role="alert" { "Refused, and nothing was changed: " (plain(why)) },
            None => {
                p.notice.good role="status" { "It is the candidate now, and decides beside the policy in force." }
                @match told["next"].as_str() {
                    Some(next) => p { "The filter takes it up with its next reload: " code { (plain(next)) } },
                    None => p { "The filter takes it up by itself within seconds." },
                }
            }
        }
        @if told["check"].is_object() { (described(&told["check"])) }
        (cases(told))
    }
}

fn described(check: &Value) -> Markup {
    let words = |value: &Value| {
        let words: Vec<String> = list(value).map(text).collect();
        if words.is_empty() { "none".to_owned() } else { words.join(", ") }
    };
    let wants = |value: &Value| if value.is_null() { "they follow from its settings".to_owned() } else { words(value) };
    html! {
        section.card {
            h2 { (text(&check["name"])) " " (text(&check["version"])) }
            p { (text(&check["summary"])) }
            dl.facts {
                dt { "SHA-256" } dd { code { (text(&check["digest"])) } }
                dt { "Size" } dd { (count(&check["octets"])) " octets, class " (text(&check["size"])) }
                dt { "Facts" } dd { (wants(&check["wants"])) }
                dt { "Fields" } dd { (wants(&check["headers"])) }
                @for setting in list(&check["settings"]) {
                    dt { "Setting " (text(&setting["name"])) }
                    dd { (text(&setting["kind"])) ": " (text(&setting["summary"])) }
                }
                @for (status, said) in check["decisions"].as_object().into_iter().flatten() { dt { (word(status)) } dd { (text(said)) } }
            }
            @for odd in list(&check["odd"]) {
                p class=(if odd["wrong"] == true { "notice bad" } else { "notice odd" }) { (text(&odd["id"])) ": " (text(&odd["text"])) }
            }
        }
    }
}

fn cases(told: &Value) -> Markup {
    let (passed, failed) = (count(&told["passed"]), count(&told["failed"]));
    let shown: Vec<&Value> = list(&told["cases"]).collect();
    html! {
        @if passed + failed > 0 { p { (passed) " of " (passed + failed) " cases pass." } }
        @if count(&told["left_out"]) > 0 { p { (count(&told["left_out"])) " cases name a message, and are left to " code { "addrauth policy test" } "." } }
        @if !shown.is_empty() {
            div.wide tabindex="0" role="region" aria-label="Cases that fail" { table.rows {
                thead { tr { th { "Case" } th { "Where" } th { "Expected" } th { "Came" } } }
                tbody { @for ran in &shown { tr {
                    td data-name="Case" { (text(&ran["case"])) }
                    td data-name="Where" { (text(&ran["file"])) ":" (count(&ran["expect_line"])) }
                    td data-name="Expected" { (text(&ran["expected"])) }
                    td data-name="Came" { @if ran["wrong"].is_string() { (text(&ran["wrong"])) } @else { (text(&ran["actual"])) } }
                } } }
            } }
        }
        @if failed > shown.len() as u64 { p { "and " (failed - shown.len() as u64) " more that fail." } }
    }
}

/// What `policy promote --dry-run --json` said: how a candidate decided beside its policy, and what speaks against it.
pub(super) fn record(told: &Value) -> Markup {
    let against: Vec<&Value> = list(&told["against"]).collect();
    html! {
        p { b { (count(&told["decisions"])) } " decisions of both, " (count(&told["same"])) " of them the same; "
            (count(&told["faults"])) " failures, " (count(&told["late"])) " late."
            @if count(&told["unreadable"]) > 0 { " " (count(&told["unreadable"])) " rows cannot be read." } }
        @if list(&told["changes"]).next().is_some() {
            div.wide tabindex="0" role="region" aria-label="What would change" { table.rows {
                thead { tr { th { "Change" } th { "In force" } th { "Candidate" } th.number { "Decisions" } th.number { "Recipients" } th { "Such as" } } }
                tbody { @for change in list(&told["changes"]) { tr {
                    td data-name="Change" { (word(&text(&change["change"]))) }
                    td data-name="In force" { (text(&change["old"])) }
                    td data-name="Candidate" { (text(&change["new"])) }
                    td.number data-name="Decisions" { (count(&change["decisions"])) }
                    td.number data-name="Recipients" { (count(&change["recipients"])) }
                    td data-name="Such as" { @for example in list(&change["examples"]) { (row(example)) " " } }
                } } }
            } }
        }
        @for failed in list(&told["failed"]) { p.notice.bad { "It failed: " (text(&failed[2])) " " (row(failed)) } }
        @if against.is_empty() { p.notice.good { "Nothing speaks against putting it in place." } }
        @for reason in against { p.notice.odd { "Against it: " (text(reason)) } }
    }
}

/// A message of a record, by the number of its row and the domain of its sender.
fn row(example: &Value) -> Markup {
    let (id, domain) = (example[0].as_i64().unwrap_or_default(), text(&example[1]));
    html! { a href={ "/messages/" (id) } { (id) @if !domain.is_empty() { " of " (domain) } } }
}
