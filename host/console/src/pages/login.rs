//! Signing in and out: by a password, or by a link that reached the mailbox; and what other links do.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

/// Octets of a name that an account can have, and more.
const NAME: usize = 256;

use addrauth::proto::address::{Address, Mailbox};
use addrauth::store::{Act, Holder, Link, LinkAct, Role};
use axum::http::StatusCode;
use maud::{Markup, html};

use super::{frame, held, home, parts, token};
use crate::answer::Answer;
use crate::fault::Fault;
use crate::secret::Secret;
use crate::visit::Visit;
use crate::who::{Scope, Who};
use crate::{mail, password};

/// The page, and why the last try failed.
pub(super) fn page(visit: &Visit, wrong: Option<&str>) -> Result<Answer, Fault> {
    if let (Some(who), None) = (&visit.who, wrong) {
        return Ok(Answer::To(home(who.role).into()));
    }
    let next = place_of_ours(visit.query.some("next").or(visit.form.some("next")).unwrap_or("/"));
    let main = html! {
        div.narrow {
            h1 { "Sign in" }
            (parts::done(&visit.query))
            @if let Some(wrong) = wrong { p.notice.bad role="alert" { (wrong) } }
            @if visit.current.config.console.mails_links() {
                form.card method="post" action="/login/link" {
                    h2 { "See what happens to your mail" }
                    p { "We mail you a link that lets you in, once." }
                    (token(&visit.secret))
                    label { "Your mail address" input type="email" name="address" required autocomplete="email" maxlength="320"; }
                    button { "Mail me a link" }
                }
            }
            form.card method="post" action="/login" {
                h2 { "With a password" }
                (token(&visit.secret))
                input type="hidden" name="next" value=(next);
                label { "Name" input name="name" required autocomplete="username" maxlength="200" autocapitalize="none"; }
                label { "Password" input type="password" name="password" required autocomplete="current-password" maxlength="1024"; }
                button { "Sign in" }
            }
        }
    };
    let status = if wrong.is_some() { StatusCode::UNAUTHORIZED } else { StatusCode::OK };
    Ok(Answer::Page(status, frame(None, &visit.secret, ("Sign in", ""), &main, false)))
}

/// A path of this console, whatever somebody wrote into a link.
fn place_of_ours(next: &str) -> &str {
    let good = |c: char| c.is_ascii_graphic() && c != '\\';
    if next.starts_with('/') && !next.starts_with("//") && next.chars().all(good) { next } else { "/" }
}

/// Signs in by a password.
pub(super) async fn enter(visit: &Visit) -> Result<Answer, Fault> {
    let (desk, name) = (&visit.desk, visit.form.text("name").to_owned());
    if name.len() > NAME {
        return page(visit, Some("Name and password do not belong together."));
    }
    let keys = vec![format!("from {}", visit.source), format!("to {}", name.to_lowercase())];
    if !desk.attempts.begin(&keys, Instant::now()) {
        tracing::debug!(source = visit.source, "a login is refused without a look: too many failed");
        return Err(Fault::TooMany);
    }
    let account = desk.register.account(&name).await?;
    let password = visit.form.raw("password").to_owned();
    let kept = account.as_ref().map(|account| account.password.clone());
    let is_right = {
        let _waiting = desk.waiting.try_acquire().map_err(|_| Fault::TooMany)?;
        let room = Arc::clone(&desk.checking).acquire_owned().await;
        let checked = tokio::task::spawn_blocking(move || {
            let is_right = password::matches(&password, kept.as_deref());
            drop((room, zeroize::Zeroizing::new(password)));
            is_right
        });
        checked.await.unwrap_or(false)
    };
    let Some(account) = account.filter(|_| is_right) else {
        tracing::warn!(source = visit.source, name = addrauth::proto::text::word(&name), "a login failed");
        return page(visit, Some("Name and password do not belong together."));
    };
    desk.attempts.succeeded(&keys);
    let secret = begin(visit, &Holder::Account(account.name.clone())).await?;
    let who = Who { name: account.name, role: account.role, scope: Scope::All };
    desk.note(&who, &visit.source, Act { act: "sign in".into(), outcome: "done".into(), ..Act::default() }).await?;
    let next = place_of_ours(visit.form.some("next").unwrap_or("/")).to_owned();
    Ok(Answer::Enter(secret, next))
}

/// A new session, by a new cookie: one that somebody knew before is of no use.
async fn begin(visit: &Visit, holder: &Holder) -> Result<Secret, Fault> {
    let (secret, register) = (Secret::fresh(), &visit.desk.register);
    register.end_session(visit.secret.hash()).await?;
    register.begin(secret.hash(), holder, visit.desk.limits.console.sessions, SystemTime::now()).await?;
    Ok(secret)
}

/// Mails a link to whoever asks for one, as far as it may be.
pub(super) async fn ask(visit: &Visit) -> Result<Answer, Fault> {
    if !visit.desk.asked.begin(&[format!("from {}", visit.source)], Instant::now()) {
        return Err(Fault::TooMany);
    }
    if let Ok(address) = Address::parse(visit.form.text("address").as_bytes(), true) {
        mail::let_in(&visit.desk, &address).await?;
    }
    Ok(Answer::To("/login?done=mailed".into()))
}

/// Ends the session.
pub(super) async fn leave(visit: &Visit) -> Result<Answer, Fault> {
    visit.desk.register.end_session(visit.secret.hash()).await?;
    Ok(Answer::Leave("/login?done=out".into()))
}

/// What a link does, and the button that does it: programs that follow links in mail change nothing.
pub(super) async fn show(visit: &Visit) -> Result<Answer, Fault> {
    let link = match Secret::shown(visit.part("token")) {
        Some(secret) => visit.desk.register.link(secret.hash(), SystemTime::now()).await?,
        None => None,
    };
    let Some(link) = link else { return Ok(Answer::Page(StatusCode::NOT_FOUND, over(visit))) };
    let (button, about) = match link.act {
        LinkAct::Release => ("Deliver it", "This delivers a message that is kept back for"),
        LinkAct::Want => {
            ("Deliver it, and want its sender", "This delivers a message, and wants its sender's mail from now on, for")
        }
        LinkAct::Delete => ("Delete it", "This deletes a message that is kept back for"),
        _ => ("Go on", "This shows what happens to the mail of"),
    };
    let held = match link.quarantine {
        Some(id) => visit.desk.ledger.held_row(id).await?,
        None => None,
    };
    let main = html! {
        div.narrow {
            h1 { "One more step" }
            form.card method="post" action=(visit.place) {
                p { (about) " " b { (link.mailbox) } "." }
                @if let Some(held) = held {
                    dl { dt { "From" } dd { (parts::plain(held.sender.as_deref().unwrap_or("no usable address"))) }
                         dt { "Subject" } dd { (held::subject(&held.subject)) } }
                }
                (token(&visit.secret))
                button { (button) }
            }
        }
    };
    Ok(Answer::Page(StatusCode::OK, frame(None, &visit.secret, ("One more step", ""), &main, false)))
}

fn over(visit: &Visit) -> Markup {
    let main = html! {
        div.narrow {
            h1 { "This link does not work" }
            p { "It was used already, its time is over, or it was not copied whole." }
            p { a href="/login" { "Ask for another one" } }
        }
    };
    frame(None, &visit.secret, ("This link does not work", ""), &main, false)
}

/// Does what a link is for, the first time.
pub(super) async fn act(visit: &Visit) -> Result<Answer, Fault> {
    // Nobody guesses one, and what is none costs a look alone.
    let (register, now) = (&visit.desk.register, SystemTime::now());
    let link = match Secret::shown(visit.part("token")) {
        Some(secret) if register.link(secret.hash(), now).await?.is_some() => {
            register.use_link(secret.hash(), now).await?
        }
        _ => None,
    };
    let Some(Link { mailbox, act, quarantine }) = link else {
        return Ok(Answer::Page(StatusCode::NOT_FOUND, over(visit)));
    };
    let mailbox = Mailbox::parse(&mailbox).ok_or(Fault::NotFound)?;
    let who = Who { name: mailbox.to_string(), role: Role::User, scope: Scope::Mailbox(mailbox.clone()) };
    if let (Some(id), Some(act)) = (quarantine, held::Wish::of_link(act)) {
        held::carry_out(visit, &who, id, act).await?;
        let main = html! {
            div.narrow {
                h1 { "Done" }
                p.notice.good role="status" { (act.told()) }
                p { "You can close this page." }
            }
        };
        return Ok(Answer::Page(StatusCode::OK, frame(None, &visit.secret, ("Done", ""), &main, false)));
    }
    let secret = begin(visit, &Holder::Mailbox(mailbox)).await?;
    visit
        .desk
        .note(&who, &visit.source, Act { act: "sign in by link".into(), outcome: "done".into(), ..Act::default() })
        .await?;
    Ok(Answer::Enter(secret, "/me".into()))
}
