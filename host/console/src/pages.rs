//! The pages, and what all of them have around them.

mod acts;
mod candidate;
mod domain;
mod held;
mod keys;
mod login;
mod me;
mod message;
mod messages;
mod narrow;
mod overview;
mod parts;
mod policies;
mod quarantine;
mod rehearsal;
mod report;
mod users;

use axum::http::StatusCode;
use maud::{DOCTYPE, Markup, html};

use addrauth::store::Role;

use crate::answer::Answer;
use crate::fault::Fault;
use crate::secret::Secret;
use crate::table::{Page, TABLE};
use crate::visit::{TOKEN, Visit};
use crate::who::Who;

/// What htmx may do: nothing inline, nothing elsewhere.
const HTMX: &str = r#"{"includeIndicatorStyles":false,"allowEval":false,"selfRequestsOnly":true,"historyCacheSize":0}"#;

/// The answer to a visit that may be.
pub(crate) async fn of(page: Page, visit: &Visit) -> Result<Answer, Fault> {
    match page {
        Page::Asset => asset(visit.part("file")),
        Page::Login => login::page(visit, None),
        Page::LoginTry => login::enter(visit).await,
        Page::LinkAsk => login::ask(visit).await,
        Page::LinkShow => login::show(visit).await,
        Page::LinkUse => login::act(visit).await,
        Page::Logout => login::leave(visit).await,
        Page::Home => Ok(Answer::To(home(visit.who()?.role).into())),
        Page::Overview => overview::page(visit).await,
        Page::Messages => messages::page(visit, None).await,
        Page::MeMessages => messages::page(visit, visit.who()?.mailbox()).await,
        Page::Message => message::page(visit).await,
        Page::MessageWant => message::want(visit).await,
        Page::Quarantine => quarantine::page(visit, None).await,
        Page::MeQuarantine => quarantine::page(visit, visit.who()?.mailbox()).await,
        Page::Held => held::page(visit).await,
        Page::HeldAct => held::act(visit).await,
        Page::Users => users::page(visit).await,
        Page::UserPage | Page::Me => me::page(visit, None).await,
        Page::UserChoices | Page::MeChoices => me::choose(visit).await,
        Page::UserSenders | Page::MeSenders => me::senders(visit).await,
        Page::UserRules | Page::MeRules => me::rules(visit).await,
        Page::RulesCheck => me::check(visit).await,
        Page::Policies => policies::list(visit),
        Page::Policy | Page::PolicyRules => policies::one(visit).await,
        Page::PolicyPlace => candidate::place(visit).await,
        Page::Candidate => candidate::page(visit).await,
        Page::CandidatePut => candidate::put(visit).await,
        Page::Try => rehearsal::page(visit),
        Page::TryMessage => rehearsal::examine(visit).await,
        Page::Keys => keys::page(visit).await,
        Page::DomainPage => domain::page(visit).await,
        Page::Doctor => keys::doctor(visit).await,
        Page::Acts => acts::page(visit).await,
    }
}

/// Where somebody begins.
fn home(role: Role) -> &'static str {
    match role {
        Role::Admin | Role::Reader => "/overview",
        Role::User => "/me",
        _ => "/messages",
    }
}

fn asset(file: &str) -> Result<Answer, Fault> {
    match file {
        "console.css" => Ok(Answer::File("text/css; charset=utf-8", include_bytes!("../assets/console.css"))),
        "htmx.js" => Ok(Answer::File("text/javascript; charset=utf-8", include_bytes!("../assets/htmx.min.js"))),
        "icon.svg" => Ok(Answer::File("image/svg+xml", include_bytes!("../assets/icon.svg"))),
        _ => Err(Fault::NotFound),
    }
}

/// A page as it is sent.
fn page(visit: &Visit, title: &str, main: &Markup) -> Answer {
    Answer::Page(StatusCode::OK, frame(visit.who.as_ref(), &visit.secret, (title, &visit.place), main, visit.by_proxy))
}

/// What keeps a request from its answer, as a page.
pub(crate) fn fault(who: Option<&Who>, secret: &Secret, fault: &Fault) -> Markup {
    let title = match fault {
        Fault::SignIn | Fault::Denied => "Not for you",
        Fault::NotFound => "Not found",
        Fault::Store(_) | Fault::Trouble(_) | Fault::Late => "Trouble",
        _ => "Not done",
    };
    let words = fault.to_string();
    let main = html! {
        h1 { (title) }
        p.notice.bad role="alert" { (sentence(&words)) }
        p { a href="/" { "To the beginning" } }
    };
    frame(who, secret, (title, ""), &main, false)
}

/// The same page once more, asked for by a page of ours: the browser shows its cookie then.
pub(crate) fn again(place: &str) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="refresh" content={ "0; url=" (place) };
                title { "One moment · addrauth" }
                link rel="stylesheet" href="/assets/console.css";
            }
            body { main { p { a href=(place) { "Go on" } } } }
        }
    }
}

/// Words that begin with a capital letter and end with a full stop.
fn sentence(words: &str) -> String {
    let mut letters = words.chars();
    let first: String = letters.next().map(|c| c.to_uppercase().collect()).unwrap_or_default();
    let stop = if words.ends_with(['.', '?', '!']) { "" } else { "." };
    format!("{first}{}{stop}", letters.as_str())
}

fn frame(who: Option<&Who>, secret: &Secret, (title, place): (&str, &str), main: &Markup, by_proxy: bool) -> Markup {
    let place = place.split('?').next().unwrap_or_default();
    let begins = |path: &str| place == path || place.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'));
    let role = who.map(|who| who.role);
    let links: Vec<_> =
        TABLE.iter().filter(|row| role.is_some() && !row.link.is_empty() && row.may.includes(role)).collect();
    // Of /me and /me/messages the longer one.
    let here = links.iter().filter(|row| begins(row.path)).max_by_key(|row| row.path.len()).map(|row| row.path);
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="htmx-config" content=(HTMX);
                title { (title) " · addrauth" }
                link rel="icon" href="/assets/icon.svg" type="image/svg+xml";
                link rel="stylesheet" href="/assets/console.css";
                script src="/assets/htmx.js" defer {}
            }
            body {
                a.skip href="#main" { "To the text" }
                header.top {
                    a.brand href="/" { "addrauth" }
                    @if !links.is_empty() {
                        nav aria-label="Pages" {
                            @for row in &links {
                                a href=(row.path) aria-current=[(here == Some(row.path)).then_some("page")] { (row.link) }
                            }
                        }
                    }
                    @if let Some(who) = who {
                        form.who method="post" action="/logout" {
                            span { (who.name) " " small { (who.role.word()) } }
                            @if !by_proxy { (token(secret)) button.quiet { "Sign out" } }
                        }
                    }
                }
                main id="main" { (main) }
            }
        }
    }
}

/// The field that shows that a form is ours.
fn token(secret: &Secret) -> Markup {
    html! { input type="hidden" name=(TOKEN) value=(secret.form_token()); }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_browser_loads_is_small_and_the_rest_is_not_there() {
        let files = ["console.css", "htmx.js", "icon.svg"].map(|file| match asset(file) {
            Ok(Answer::File(_, octets)) => octets.len(),
            other => panic!("{file}: {other:?}"),
        });
        // Before any compression.
        assert!(files.iter().sum::<usize>() < 64 * 1024, "{files:?}");
        for file in ["", "htmx.min.js", "../Cargo.toml", "console.css/"] {
            assert!(matches!(asset(file), Err(Fault::NotFound)), "{file}");
        }
    }

    #[test]
    fn a_sentence_begins_and_ends_as_one() {
        assert_eq!(sentence("that took too long"), "That took too long.");
        assert_eq!(sentence("is it?"), "Is it?");
        assert_eq!(sentence(""), ".");
    }
}
