//! One message: why it was treated as it was, what became of it, and what can be done about it.

use addrauth::case::WrittenCase;
use addrauth::proto::address::Mailbox;
use addrauth::store::{Act, ActRow, wanted};
use addrauth::why::{Account, Line};
use maud::{Markup, html};

use super::narrow::{OTHER, narrowed};
use super::parts::{self, bare, base, moment, plain, word};
use super::{page as whole, token};
use crate::answer::Answer;
use crate::fault::Fault;
use crate::table::{Page, may};
use crate::visit::Visit;

/// Acts on one message that are shown.
const ACTS: u32 = 50;

/// The page.
pub(super) async fn page(visit: &Visit) -> Result<Answer, Fault> {
    let account = account(visit).await?;
    let held: Vec<i64> = account.traces.held.iter().map(|held| held.quarantine).collect();
    let who = visit.who()?;
    let mut acts = visit.desk.register.acts_on(account.id, &held, ACTS).await?;
    acts.retain(|row| {
        who.scope.is_all() || row.act.mailbox.as_deref().is_some_and(|mailbox| who.scope.includes(mailbox))
    });
    let title = account.story.queue_id.clone().unwrap_or_else(|| format!("row {}", account.id));
    let main = html! {
        h1 { "Message " (plain(&title)) }
        (parts::done(&visit.query))
        (actions(visit, &account)?)
        (told(&account))
        (trail(&acts))
    };
    Ok(whole(visit, "Message", &main))
}

/// The account of the row in the path as far as it may be seen, its decisions made again.
async fn account(visit: &Visit) -> Result<Account, Fault> {
    let ledger = &visit.desk.ledger;
    let row = ledger.journal_row(visit.number("id")?).await?.ok_or(Fault::NotFound)?;
    let mut account = Account::of(ledger, row).await?;
    if narrowed(account.clone(), &visit.who()?.scope).is_none() {
        return Err(Fault::NotFound);
    }
    let current = std::sync::Arc::clone(&visit.current);
    // On the facts of that day, before what names others is left out of them.
    let proving = tokio::task::spawn_blocking(move || {
        account.prove(current.policies.as_ref());
        account
    });
    let account = proving.await.map_err(|fault| Fault::Trouble(fault.to_string()))?;
    narrowed(account, &visit.who()?.scope).ok_or(Fault::NotFound)
}

/// The account, line by line.
fn told(account: &Account) -> Markup {
    let hidden = account.story.recipients.iter().filter(|recipient| *recipient == OTHER).count();
    let seen: Vec<&str> = account.story.recipients.iter().filter(|r| *r != OTHER).map(|r| bare(r)).collect();
    let lines = account.lines();
    let (fields, others): (Vec<&Line>, Vec<&Line>) = lines.iter().partition(|line| matches!(line, Line::Field(..)));
    html! {
        dl.facts {
            @for line in fields {
                @if let Line::Field(name, value) = line {
                    dt { (name) }
                    dd {
                        @if *name == "To" {
                            (plain(&seen.join(", ")))
                            @if hidden > 0 { " and " (hidden) " whose mail is none of yours" }
                        } @else { (value) }
                    }
                }
            }
        }
        section.told {
            @for line in others {
                @match line {
                    Line::Heading(words) => h2 { (words) },
                    Line::Words(words) => p { (words) },
                    Line::Part(words) => p.part { (words) },
                    _ => {}
                }
            }
        }
    }
}

/// What can be done.
fn actions(visit: &Visit, account: &Account) -> Result<Markup, Fault> {
    let who = visit.who()?;
    if !may(who.role, Page::MessageWant) {
        return Ok(html! {});
    }
    let held: Vec<i64> = {
        let waits = account.traces.held.iter().filter(|held| held.outcome.is_none());
        let mut held: Vec<i64> = waits.map(|held| held.quarantine).collect();
        held.dedup();
        held
    };
    let ours = ours(visit, &account.story);
    let sender = account.story.author().and_then(wanted);
    Ok(html! {
        section.actions aria-label="What can be done" {
            @for id in held {
                form method="post" action="/quarantine" {
                    (token(&visit.secret))
                    input type="hidden" name="id" value=(id);
                    input type="hidden" name="back" value=(visit.place);
                    button name="wish" value="release" { "Release" }
                    @if sender.is_some() { button name="wish" value="want" { "Release and want the sender" } }
                    button.risky name="wish" value="delete" { "Delete" }
                    a href={ "/quarantine/" (id) } { "Look at it" }
                }
            }
            @if let (Some(sender), false) = (&sender, ours.is_empty()) {
                form method="post" action={ "/messages/" (account.id) "/want" } {
                    (token(&visit.secret))
                    @if let [one] = ours.as_slice() {
                        input type="hidden" name="for" value=(one.as_str());
                    } @else {
                        label { "For " select name="for" { @for mailbox in &ours { option value=(mailbox.as_str()) { (mailbox.as_str()) } } } }
                    }
                    button.quiet { "Want mail from " (plain(sender)) }
                }
            }
            @for mailbox in ours.iter().take(3) {
                a href=(base(who, mailbox)) { "Treat such mail otherwise" @if ours.len() > 1 { " for " (mailbox.as_str()) } }
            }
        }
    })
}

/// The mailboxes among its recipients whose mail ends here and may be seen.
fn ours(visit: &Visit, story: &WrittenCase) -> Vec<Mailbox> {
    let Ok(who) = visit.who() else { return Vec::new() };
    let domains = &visit.current.config.final_domains;
    let seen = story.recipients.iter().filter(|recipient| who.scope.includes(recipient));
    let mut found: Vec<Mailbox> = Vec::new();
    for mailbox in seen.filter_map(|recipient| Mailbox::parse(bare(recipient))) {
        if domains.iter().any(|domain| mailbox.is_of(domain)) && !found.contains(&mailbox) {
            found.push(mailbox);
        }
    }
    found
}

fn trail(acts: &[ActRow]) -> Markup {
    html! {
        @if !acts.is_empty() {
            h2 { "What was done here" }
            ul { @for row in acts { li {
                (moment(row.at)) " " b { (plain(&row.act.who)) } " (" (row.act.role) "): " (plain(&row.act.act)) " "
                (plain(&row.act.about)) " " (word(&plain(&row.act.outcome)))
            } } }
        }
    }
}

/// Puts the sender on the list of wanted ones of one recipient.
pub(super) async fn want(visit: &Visit) -> Result<Answer, Fault> {
    let ledger = &visit.desk.ledger;
    let row = ledger.journal_row(visit.number("id")?).await?.ok_or(Fault::NotFound)?;
    let (who, id) = (visit.who()?, row.id);
    let account = narrowed(Account::of(ledger, row).await?, &who.scope).ok_or(Fault::NotFound)?;
    let asked = Mailbox::parse(visit.form.text("for")).ok_or(Fault::NotFound)?;
    let mailbox = ours(visit, &account.story).into_iter().find(|mailbox| *mailbox == asked).ok_or(Fault::NotFound)?;
    let nobody = || Fault::Refused("the message names no sender that could be wanted".into());
    let sender = account.story.author().and_then(wanted).ok_or_else(nobody)?;
    ledger.allow(&mailbox, &sender, visit.desk.limits.custody.allowed_per_user).await?;
    let act = Act {
        act: "want".into(),
        about: format!("{sender} for {mailbox}"),
        journal: Some(id),
        mailbox: Some(mailbox.to_string()),
        outcome: "done".into(),
        ..Act::default()
    };
    visit.desk.note(who, &visit.source, act).await?;
    Ok(Answer::To(format!("/messages/{id}?done=wanted")))
}
