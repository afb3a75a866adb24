//! Mails with one-use links: what lets a user in, and what is newly kept back for him.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::SystemTime;

use addrauth::proto::address::{Address, Mailbox};
use addrauth::proto::preview::plain;
use addrauth::proto::text::masked;
use addrauth::store::{Held, Link, LinkAct, Sought};

use crate::desk::Desk;
use crate::fault::Fault;
use crate::post::Post;
use crate::secret::Secret;

/// Mails a link that lets its reader in, where the address is one of ours and did not get too many. Whoever asked is told the same
/// in any case, and at once.
pub(crate) async fn let_in(desk: &Arc<Desk>, address: &Address) -> Result<(), Fault> {
    let (Some(post), current) = (&desk.post, desk.current()) else { return Ok(()) };
    let (config, bounds) = (&current.config, &desk.limits.console);
    if !config.console.mails_links() || !config.final_domains.contains(address.domain()) {
        return Ok(());
    }
    let Ok(room) = Arc::clone(&post.room).try_acquire_owned() else {
        tracing::warn!("too many mails wait to be handed over: a link is not mailed");
        return Ok(());
    };
    let (secret, now) = (Secret::fresh(), SystemTime::now());
    let hour = std::time::Duration::from_secs(3_600);
    let bound = (bounds.entrances_per_hour, now.checked_sub(hour).unwrap_or(SystemTime::UNIX_EPOCH));
    // To the mailbox itself: an address with a tag, or in other letters, may be somebody else's to the mail server.
    let mailbox = address.mailbox();
    let Ok(address) = Address::parse(mailbox.as_str().as_bytes(), true) else { return Ok(()) };
    let ends = now + bounds.entrance;
    if !desk.register.make_entrance(secret.hash(), mailbox.as_str(), bound, ends, now).await? {
        tracing::warn!(%mailbox, "a link is not mailed: too many were asked for within an hour");
        return Ok(());
    }
    let minutes = bounds.entrance.as_secs() / 60;
    let body = format!(
        "Somebody, probably you, asked to see what happens to mail for {mailbox}.\n\n\
         This link opens that page, once, within {minutes} minutes:\n\n{}\n\n\
         If it was not you, do nothing: without this mail nobody gets in.\n\nQuestions? Write to your postmaster: {}\n",
        link(&config.console.url, &secret),
        post.letters.postmaster()
    );
    let letters = Arc::clone(&post.letters);
    tokio::spawn(async move {
        if let Err(failure) = letters.send(&address, "Your link to what happens to your mail", &body, now).await {
            tracing::warn!("a link to {} is not mailed: {}", address.mailbox(), failure.text);
        }
        drop(room);
    });
    Ok(())
}

fn link(url: &str, secret: &Secret) -> String {
    format!("{}/l/{}", url.trim_end_matches('/'), secret.expose())
}

/// Mails each recipient what is kept back for him since the last such mail. A mail that is not taken is made anew next time.
pub(crate) async fn digests(desk: &Arc<Desk>, now: SystemTime) -> Result<usize, Fault> {
    let Some(post) = &desk.post else { return Ok(0) };
    let held = desk.ledger.sought(&Sought::default(), desk.limits.custody.quarantine_listed).await?;
    let mut of: BTreeMap<Mailbox, Vec<&Held>> = BTreeMap::new();
    for held in &held {
        for recipient in held.recipients.iter().filter(|recipient| recipient.outcome.is_none()) {
            if let Some(mailbox) = Mailbox::parse(&recipient.recipient) {
                of.entry(mailbox).or_default().push(held);
            }
        }
    }
    let mut sent = 0;
    for (mailbox, held) in of {
        let upto = desk.register.told_upto(mailbox.as_str()).await?;
        let fresh: Vec<&Held> = held.into_iter().filter(|held| held.id > upto).collect();
        let Some(newest) = fresh.iter().map(|held| held.id).max() else { continue };
        let Ok(address) = Address::parse(mailbox.as_str().as_bytes(), true) else { continue };
        let body = digest(desk, post, &mailbox, &fresh, now).await?;
        let subject = format!("Kept back for you: {} messages", fresh.len());
        match post.letters.send(&address, &subject, &body, now).await {
            Ok(()) => {
                desk.register.note_told(mailbox.as_str(), newest).await?;
                sent += 1;
            }
            Err(failure) => tracing::warn!("a digest to {mailbox} is not mailed: {}", failure.text),
        }
    }
    Ok(sent)
}

/// The text of a digest, its links made.
async fn digest(desk: &Desk, post: &Post, mailbox: &Mailbox, held: &[&Held], now: SystemTime) -> Result<String, Fault> {
    let (bounds, url) = (&desk.limits.console, desk.current().config.console.url.clone());
    let shown = held.get(..bounds.digest_messages).unwrap_or(held);
    let mut links = Vec::new();
    let mut make = |act, quarantine| {
        let secret = Secret::fresh();
        links.push((secret.hash(), Link { mailbox: mailbox.to_string(), act, quarantine }));
        link(&url, &secret)
    };
    // Writing to a string cannot fail.
    let mut body = format!("These messages to {mailbox} are kept back. Each link shows one button, and works once.\n");
    for held in shown {
        let sender = held.sender.as_deref().unwrap_or("(no usable address)");
        let sender = masked(&plain(sender), 200).replace('@', " [at] ").replace('.', " [dot] ");
        let subject = masked(&plain(&held.subject), 100).replace("://", ": //");
        let _ = write!(body, "\nFrom:    {sender}\nSubject: {subject}\n");
        let _ = writeln!(body, "  deliver it:                  {}", make(LinkAct::Release, Some(held.id)));
        let _ = writeln!(body, "  deliver it and want sender:  {}", make(LinkAct::Want, Some(held.id)));
        let _ = writeln!(body, "  delete it:                   {}", make(LinkAct::Delete, Some(held.id)));
    }
    if held.len() > shown.len() {
        let _ = writeln!(body, "\nand {} more.", held.len() - shown.len());
    }
    let _ = write!(
        body,
        "\nAll of them, and what you can choose: {}\n\nQuestions? Write to your postmaster: {}\n",
        make(LinkAct::Enter, None),
        post.letters.postmaster()
    );
    desk.register.make_links(links, now + bounds.link, now).await?;
    Ok(body)
}
