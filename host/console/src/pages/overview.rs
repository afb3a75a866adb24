//! What was judged how of late, whose mail makes trouble, and what waits.

use addrauth::case::Differs;
use addrauth::store::Summary;
use maud::{Markup, html};

use super::messages::of_kind;
use super::page as whole;
use super::parts::{age, plain, size, word};
use crate::answer::Answer;
use crate::fault::Fault;
use crate::form::query;
use crate::visit::Visit;

/// The page.
pub(super) async fn page(visit: &Visit) -> Result<Answer, Fault> {
    let (since, span) = age(visit.query.text("since"));
    let summary = visit.desk.summary(span).await?;
    let (kept, octets) = visit.desk.ledger.kept().await?;
    let owed = visit.desk.ledger.owed().await?;
    let (config, refused) = (&visit.current.config, would_refuse(&summary));
    let main = html! {
        h1 { "Overview" }
        p.ages { @for (word, words) in [("1h", "1 hour"), ("1d", "1 day"), ("7d", "7 days"), ("30d", "30 days")] {
            a href={ "?since=" (word) } aria-current=[(word == since).then_some("true")] { (words) }
        } }
        @if config.observe.0 {
            p.notice.odd { "Observing: nothing is carried out (" code { "observe = true" } "). It would have refused or kept back "
                b { (refused) } " of " (summary.messages) " messages." }
        }
        ul.tiles {
            li { b { (summary.messages) } " messages were judged" }
            li { a href="/quarantine" { b { (kept) } " are in quarantine" } ", " (size(octets)) }
            li { b { (owed) } " mails wait to be sent" }
            @if summary.unread > 0 { li { b { (summary.unread) } " rows cannot be read" } }
        }
        @if summary.messages > 0 { (counts(&summary, since)) (domains(&summary, since)) (candidates(&summary)) }
    };
    Ok(whole(visit, "Overview", &main))
}

/// How many decisions kept a message from its recipient, and were only observed.
fn would_refuse(summary: &Summary) -> u64 {
    let keeps = |word: &str| matches!(word, "reject" | "quarantine" | "defer");
    summary.sorted().into_iter().filter(|((_, word), _)| keeps(word)).map(|(_, counts)| counts.observed).sum()
}

fn counts(summary: &Summary, since: &str) -> Markup {
    html! {
        h2 { "Results and decisions" }
        div.wide tabindex="0" role="region" aria-label="Results and decisions" {
            table {
                thead { tr { th { "Result" } th { "Decision" } th.number { "In force" } th.number { "Observed" } th.number { "Put off" } } }
                tbody { @for ((result, decision), counts) in summary.sorted() { tr {
                    td { (word(result)) }
                    td { a href=(of_kind(result, decision, since)) { (decision) } }
                    td.number { (counts.in_force) } td.number { (counts.observed) } td.number { (counts.put_off) }
                } } }
            }
        }
    }
}

fn domains(summary: &Summary, since: &str) -> Markup {
    let troubled: Vec<_> = summary.domains.iter().filter(|(_, domains)| !domains.top().is_empty()).collect();
    html! {
        @if !troubled.is_empty() {
            h2 { "Senders' domains without a right key" }
            div.columns { @for (result, domains) in troubled {
                section.card {
                    h3 { (word(result)) }
                    ol { @for (domain, count) in domains.top() { li {
                        a href={ "/messages?" (query(&[("result", result), ("domain", domain), ("since", since)])) } { (plain(domain)) }
                        " " span.number { (count) }
                    } } }
                    @if domains.others > 0 { p { (domains.others) " of domains that are not counted singly" } }
                }
            } }
        }
    }
}

fn candidates(summary: &Summary) -> Markup {
    html! {
        @if !summary.shadows.is_empty() {
            h2 { "Candidates, deciding beside the policies" }
            div.wide tabindex="0" role="region" aria-label="Candidates" {
                table {
                    thead { tr { th { "Policy" } th { "Candidate" } @for differs in Differs::ALL { th.number { (differs.word()) } } } }
                    tbody { @for ((policy, candidate), counts) in &summary.shadows { tr {
                        td { (plain(policy)) } td { code { (plain(candidate)) } }
                        @for count in counts { td.number { (count) } }
                    } } }
                }
            }
        }
    }
}
