//! What is kept back, to be released or deleted, several at once.

use addrauth::proto::address::Mailbox;
use addrauth::proto::whom::Whom;
use addrauth::store::{Held, Sought};
use maud::{Markup, html};

use super::held::subject;
use super::parts::{self, moment, plain, size};
use super::{page as whole, token};
use crate::answer::Answer;
use crate::fault::Fault;
use crate::table::{Page, may};
use crate::visit::Visit;
use crate::who::Scope;

/// An address that no message is for.
const NOBODY: &str = "nobody@invalid";

/// The page; of one mailbox alone where it is a user's own.
pub(super) async fn page(visit: &Visit, own: Option<&Mailbox>) -> Result<Answer, Fault> {
    let who = visit.who()?;
    let (ledger, bounds) = (&visit.desk.ledger, &visit.desk.limits);
    let recipient = match own {
        Some(mailbox) => Some(mailbox.to_string()),
        // Who asks for another's finds nothing, shared messages neither.
        None => match visit.query.some("recipient") {
            Some(asked) if !who.scope.includes(asked) => Some(NOBODY.into()),
            asked => asked.map(str::to_owned),
        },
    };
    let since = visit.query.some("since").and_then(parts::since);
    let sought = Sought { recipient, since, under_way: true };
    let mut held = ledger.sought(&sought, bounds.custody.quarantine_listed).await?;
    held.retain(|held| held.recipients.iter().any(|r| who.scope.includes(&r.recipient)));
    if let Some(sender) = visit.query.some("sender") {
        let whom = Whom::parse(sender);
        held.retain(|held| {
            let from = held.sender.as_deref();
            whom.as_ref().is_some_and(|whom| from.is_some_and(|from| whom.includes(from)))
        });
    }
    let below = visit.query.some("below").and_then(|text| text.parse().ok()).unwrap_or(i64::MAX);
    held.retain(|held| held.id < below);
    let more = held.len() > bounds.console.rows;
    held.truncate(bounds.console.rows);
    let next = held.last().map(|held| held.id).filter(|_| more);
    let title = if own.is_some() { "Kept back for you" } else { "Quarantine" };
    let (count, octets) = if who.scope.is_all() { ledger.kept().await? } else { (0, 0) };
    let main = html! {
        h1 { (title) }
        (parts::done(&visit.query))
        @if who.scope.is_all() {
            p { (count) " messages, " (size(octets)) " of " (visit.current.config.custody.quarantine_mib) " MiB." }
        }
        (filters(visit, own.is_some()))
        @if held.is_empty() { p { "Nothing is kept back." } } @else { (list(visit, &held, &who.scope)?) }
        @if let Some(next) = next { p.pages { a rel="next" href={ "?" (visit.query.with("below", &next.to_string())) } { "Older" } } }
    };
    Ok(whole(visit, title, &main))
}

fn filters(visit: &Visit, is_own: bool) -> Markup {
    let (query, place) = (&visit.query, visit.place.split('?').next().unwrap_or_default());
    html! {
        form.filters method="get" action=(place) role="search" {
            label { "Sender" input name="sender" value=(query.text("sender")) placeholder="alice@example.com or @example.com"; }
            @if !is_own { label { "Recipient" input name="recipient" value=(query.text("recipient")) placeholder="bob@example.com"; } }
            label { "Since" input name="since" value=(query.text("since")) placeholder="2d"; }
            div.buttons { button { "Show" } a href=(place) { "All" } }
        }
    }
}

fn list(visit: &Visit, held: &[Held], scope: &Scope) -> Result<Markup, Fault> {
    let acts = may(visit.who()?.role, Page::HeldAct);
    let opens = may(visit.who()?.role, Page::Held);
    let shown = |held: &Held| {
        let seen: Vec<&str> =
            held.recipients.iter().map(|r| r.recipient.as_str()).filter(|r| scope.includes(r)).collect();
        seen.join(", ")
    };
    let on_its_way = |held: &Held| {
        let mut seen = held.recipients.iter().filter(|r| scope.includes(&r.recipient));
        seen.all(|r| r.outcome.is_some())
    };
    Ok(html! {
        form method="post" action="/quarantine" {
            (token(&visit.secret))
            div.wide tabindex="0" role="region" aria-label="Kept back" {
                table.rows {
                    thead { tr { @if acts { th { span.hidden { "Choose" } } } th { "Came" } th { "From" } th { "Subject" } th { "For" } th { "Because" } } }
                    tbody { @for held in held { tr {
                        @if acts { td.pick { @if !on_its_way(held) {
                            input type="checkbox" name="id" value=(held.id) aria-label={ "Choose message " (held.id) };
                        } } }
                        td data-name="Came" { (moment(held.at)) }
                        td data-name="From" { (plain(held.sender.as_deref().unwrap_or("no usable address"))) }
                        td data-name="Subject" { @if opens { a href={ "/quarantine/" (held.id) } { (subject(&held.subject)) } } @else { (subject(&held.subject)) } }
                        td data-name="For" { (plain(&shown(held))) }
                        td data-name="Because" { (plain(held.reason.as_str())) @if on_its_way(held) { " " span.word.plain { "on its way" } } }
                    } } }
                }
            }
            @if acts {
                div.actions {
                    button name="wish" value="release" { "Release" }
                    button name="wish" value="want" { "Release and want the senders" }
                    button.risky name="wish" value="delete" { "Delete" }
                }
            }
        }
    })
}
