//! One message in quarantine as text, and what is done with messages there.

use std::time::SystemTime;

use addrauth::proto::preview::{halves, plain, printable};
use addrauth::proto::text::masked;
use addrauth::store::{Act, Held, LinkAct};
use mail_parser::MessageParser;
use maud::{Markup, html};

use super::parts::{moment, size};
use super::{page as whole, token};
use crate::answer::Answer;
use crate::fault::Fault;
use crate::form::query;
use crate::visit::Visit;
use crate::who::{Scope, Who};

/// Messages that one form names: as many as a page has, and some.
const AT_ONCE: usize = 200;
/// Characters of a subject that are shown.
const SUBJECT: usize = 200;
/// Fields of the header that are shown first; the others are below.
const FIRST: [&str; 5] = ["From", "To", "Cc", "Date", "Subject"];

/// What somebody wants done with a message in quarantine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Release,
    Want,
    Delete,
}

impl Wish {
    fn of_word(word: &str) -> Result<Wish, Fault> {
        [Wish::Release, Wish::Want, Wish::Delete].into_iter().find(|wish| wish.word() == word).ok_or(Fault::NotFound)
    }

    /// What a link in a mail wants.
    pub(super) fn of_link(act: LinkAct) -> Option<Wish> {
        match act {
            LinkAct::Release => Some(Wish::Release),
            LinkAct::Want => Some(Wish::Want),
            LinkAct::Delete => Some(Wish::Delete),
            _ => None,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Wish::Release => "release",
            Wish::Want => "want",
            Wish::Delete => "delete",
        }
    }

    /// What is said once it is done.
    pub(super) fn told(self) -> &'static str {
        match self {
            Wish::Release => "The message is on its way to you.",
            Wish::Want => "The message is on its way to you, and its sender is wanted from now on.",
            Wish::Delete => "The message is deleted.",
        }
    }
}

/// The recipients of a kept message that may be seen and that wait for a word about it.
fn waiting<'a>(held: &'a Held, scope: &'a Scope) -> impl Iterator<Item = &'a str> {
    let waits = held.recipients.iter().filter(|r| r.outcome.is_none() && scope.includes(&r.recipient));
    waits.map(|r| r.recipient.as_str())
}

/// The page.
pub(super) async fn page(visit: &Visit) -> Result<Answer, Fault> {
    let who = visit.who()?;
    let (ledger, id) = (&visit.desk.ledger, visit.number("id")?);
    let held = ledger.held_row(id).await?.ok_or(Fault::NotFound)?;
    let seen: Vec<&str> = held
        .recipients
        .iter()
        .map(|r| r.recipient.as_str())
        .filter(|recipient| who.scope.includes(recipient))
        .collect();
    if seen.is_empty() {
        return Err(Fault::NotFound);
    }
    let (_, message) = ledger.held_message(id).await?.ok_or(Fault::NotFound)?;
    let most = visit.desk.limits.console.preview_lines;
    let preview = tokio::task::spawn_blocking(move || preview(&message, most)).await;
    let preview = preview.map_err(|fault| Fault::Trouble(fault.to_string()))?;
    let back = if who.mailbox().is_some() { "/me/quarantine" } else { "/quarantine" };
    let main = html! {
        h1 { (subject(&held.subject)) }
        dl.facts {
            dt { "From" } dd { (plain(held.sender.as_deref().unwrap_or("no usable address"))) }
            dt { "For" } dd { (plain(&seen.join(", "))) }
            dt { "Came" } dd { (moment(held.at)) ", kept until " (moment(held.expires)) }
            dt { "Kept because" } dd { (plain(held.reason.as_str())) }
            dt { "Size" } dd { (size(held.size)) }
        }
        @if held.reason.is_wrong() {
            p.notice.bad { "The sender's own domain says that the key in it is wrong: it is probably forged." }
        }
        form.actions method="post" action="/quarantine" {
            (token(&visit.secret))
            input type="hidden" name="id" value=(held.id);
            input type="hidden" name="back" value=(back);
            button name="wish" value="release" { "Release" }
            @if held.sender.is_some() { button name="wish" value="want" { "Release and want the sender" } }
            button.risky name="wish" value="delete" { "Delete" }
            a href=(back) { "Back" }
        }
        (preview)
    };
    Ok(whole(visit, "Kept back", &main))
}

/// The message as text: no part of it is shown as anything else.
fn preview(message: &[u8], most: usize) -> Markup {
    let (header, _) = halves(message);
    let lines: Vec<String> = header.split_inclusive(|&octet| octet == b'\n').take(most).map(printable).collect();
    let parsed = MessageParser::default().parse(message);
    let text = parsed.as_ref().and_then(|parsed| parsed.body_text(0)).map(|text| text.into_owned());
    let text = text.unwrap_or_default();
    let all: Vec<String> = text.lines().take(most + 1).map(|line| masked(&plain(line), 1_000)).collect();
    let shown = all.get(..most).unwrap_or(&all);
    let attached = parsed.as_ref().map_or(0, |parsed| parsed.attachment_count());
    let is_first = |line: &&String| {
        FIRST
            .iter()
            .any(|name| line.get(..name.len() + 1).is_some_and(|begin| begin.eq_ignore_ascii_case(&format!("{name}:"))))
    };
    html! {
        h2 { "What it says" }
        @if shown.iter().all(|line| line.trim().is_empty()) { p { "Nothing that can be shown as text." } }
        @else { pre.mail tabindex="0" { @for line in shown { (line) "\n" } @if all.len() > shown.len() { "[…]" } } }
        @if attached > 0 { p { (attached) " attachments: they are not shown here." } }
        h2 { "Header" }
        pre.lines tabindex="0" { @for line in lines.iter().filter(is_first) { (line) "\n" } }
        details { summary { "All of it" } pre.lines tabindex="0" { @for line in &lines { (line) "\n" } } }
    }
}

/// A subject as people read it.
pub(super) fn subject(written: &str) -> String {
    let field = format!("Subject: {}\r\n\r\n", written.replace(['\r', '\n'], " "));
    let read = MessageParser::default().parse(field.as_bytes()).and_then(|parsed| parsed.subject().map(str::to_owned));
    let text = masked(&plain(read.as_deref().unwrap_or(written)), SUBJECT);
    if text.trim().is_empty() { "(no subject)".into() } else { text }
}

/// Does what a form asks for with each message that it names.
pub(super) async fn act(visit: &Visit) -> Result<Answer, Fault> {
    let (who, wish) = (visit.who()?, Wish::of_word(visit.form.text("wish"))?);
    let ids: Vec<i64> = visit.form.all("id").take(AT_ONCE).filter_map(|id| id.parse().ok()).collect();
    let back = match visit.form.text("back") {
        place if place.starts_with("/messages/") && place.bytes().all(|o| o.is_ascii_graphic()) => {
            place.split('?').next().unwrap_or_default()
        }
        _ if who.mailbox().is_some() => "/me/quarantine",
        _ => "/quarantine",
    };
    if ids.is_empty() {
        return Err(Fault::Refused("choose a message first".into()));
    }
    let mut failed = None;
    for id in &ids {
        if let Err(fault) = carry_out(visit, who, *id, wish).await {
            failed = Some(fault);
        }
    }
    match failed {
        Some(fault) if ids.len() == 1 => Err(fault),
        Some(fault @ (Fault::Store(_) | Fault::Trouble(_))) => Err(fault),
        failed => {
            let done = if failed.is_some() { "some" } else { wish.word() };
            Ok(Answer::To(format!("{back}?{}", query(&[("done", done)]))))
        }
    }
}

/// Does it for those recipients that are this person's, and notes it.
pub(super) async fn carry_out(visit: &Visit, who: &Who, id: i64, wish: Wish) -> Result<(), Fault> {
    let ledger = &visit.desk.ledger;
    let held = ledger.held_row(id).await?.ok_or(Fault::NotFound)?;
    let any = held.recipients.iter().any(|r| who.scope.includes(&r.recipient));
    let all: Vec<String> = waiting(&held, &who.scope).map(str::to_owned).collect();
    if all.is_empty() {
        let late = Fault::Refused("somebody was quicker: it is released or deleted already".into());
        return Err(if any { late } else { Fault::NotFound });
    }
    let most = visit.desk.limits.custody.allowed_per_user;
    for recipient in &all {
        let now = SystemTime::now();
        let done: Result<bool, Fault> = match wish {
            Wish::Delete => ledger.delete_held(id, Some(recipient), now).await.map(|_| true).map_err(Fault::from),
            Wish::Release => ledger.release(id, Some(recipient), None, now).await.map(|_| true).map_err(Fault::from),
            Wish::Want => {
                ledger.release(id, Some(recipient), Some(most), now).await.map(|r| r.allowed).map_err(Fault::from)
            }
        };
        let outcome = match &done {
            Ok(true) => "done".to_owned(),
            Ok(false) => "released; the list of wanted senders is full".to_owned(),
            Err(fault) => fault.to_string(),
        };
        let act = Act {
            act: wish.word().into(),
            about: format!("message {id} in quarantine for {recipient}"),
            journal: held.journal,
            quarantine: Some(id),
            mailbox: Some(recipient.clone()),
            outcome,
            ..Act::default()
        };
        visit.desk.note(who, &visit.source, act).await?;
        done?;
    }
    Ok(())
}
