//! What a user chose for his own mail, whose mail he wants, and his rules: for himself, and for an administrator in his place.

use std::collections::BTreeMap;
use std::sync::Arc;

use addrauth::case::{KeyStatus, Recipient, Why, Wish};
use addrauth::policy::Policies;
use addrauth::proto::address::{Address, Mailbox};
use addrauth::proto::text::masked;
use addrauth::store::{Act, OWN_RULES, wanted};
use axum::http::StatusCode;
use maud::{Markup, html};

use super::parts::{self, base, plain, select};
use super::{frame, token};
use crate::answer::Answer;
use crate::fault::Fault;
use crate::visit::Visit;

/// The results that a user has a say over, with what each means to him.
const RESULTS: [(KeyStatus, &str); 5] = [
    (KeyStatus::Invalid, "The sender's domain says that the key is wrong: probably forged"),
    (KeyStatus::Missing, "The sender's domain gives keys, and the message has none: perhaps forged, perhaps forwarded"),
    (KeyStatus::None, "The sender's domain gives no keys: most mail today"),
    (KeyStatus::Unverified, "It could not be asked about"),
    (KeyStatus::Unusable, "Nobody can tell who the sender is"),
];

/// What goes wrong in a form of this page, to be shown beside it.
pub(super) struct Wrong {
    /// Which form.
    part: &'static str,
    /// Why.
    words: String,
    /// What was written.
    text: String,
}

/// All that the page shows of a mailbox.
struct Chosen {
    mailbox: Mailbox,
    choices: BTreeMap<String, String>,
    senders: Vec<String>,
}

/// Whose choices they are: the user's own, or those of an address that an administrator may see.
fn whose(visit: &Visit) -> Result<Mailbox, Fault> {
    let who = visit.who()?;
    if let Some(own) = who.mailbox() {
        return Ok(own.clone());
    }
    let address = Address::parse(visit.part("address").as_bytes(), true).map_err(|_| Fault::NotFound)?;
    let is_ours = visit.current.config.final_domains.contains(address.domain());
    let mailbox = address.mailbox();
    if is_ours && who.scope.includes(mailbox.as_str()) { Ok(mailbox) } else { Err(Fault::NotFound) }
}

/// The page, and what went wrong in one of its forms.
pub(super) async fn page(visit: &Visit, wrong: Option<Wrong>) -> Result<Answer, Fault> {
    let (ledger, mailbox) = (&visit.desk.ledger, whose(visit)?);
    let (choices, senders) = (ledger.choices(&mailbox).await?, ledger.allowed(&mailbox).await?);
    let chosen = Chosen { mailbox, choices, senders };
    let is_own = visit.who()?.mailbox().is_some();
    let title = if is_own { "My choices" } else { "Choices" };
    let wrong_in = |part: &str| wrong.as_ref().filter(|wrong| wrong.part == part);
    let main = html! {
        h1 { (title) @if !is_own { " of " (chosen.mailbox.as_str()) } }
        (parts::done(&visit.query))
        @match &visit.current.policies {
            Ok(policies) => {
                (results(visit, policies, &chosen, wrong_in("choices"))?)
                (wanted_senders(visit, &chosen, wrong_in("senders"))?)
                @if visit.current.config.policy.user_rules { (own_rules(visit, policies, &chosen, wrong_in("rules"))?) }
            }
            Err(_) => p.notice.bad { "Nothing can be chosen now: the policies cannot be loaded." },
        }
    };
    let status = if wrong.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    let place = base(visit.who()?, &chosen.mailbox);
    let page = frame(visit.who.as_ref(), &visit.secret, (title, &place), &main, visit.by_proxy);
    Ok(Answer::Page(status, page))
}

fn told(wrong: Option<&Wrong>) -> Markup {
    html! { @if let Some(wrong) = wrong { p.notice.bad role="alert" { (wrong.words) } } }
}

/// The policy that treats this result where the user chooses nothing.
fn without(policies: &Policies, mailbox: &Mailbox, status: KeyStatus) -> String {
    let why = (status == KeyStatus::Invalid).then_some(Why::Wrong);
    let recipient = Recipient::new(format!("<{mailbox}>"));
    policies.explain(&recipient, status, why, &Wish::default()).word.policy
}

fn results(visit: &Visit, policies: &Policies, chosen: &Chosen, wrong: Option<&Wrong>) -> Result<Markup, Fault> {
    let place = base(visit.who()?, &chosen.mailbox);
    let of = |name: &str| chosen.choices.get(name).map_or("", String::as_str);
    let is_any = RESULTS.iter().any(|(status, _)| !policies.open_to_users(*status).is_empty());
    let folder = !visit.current.config.policy.spam_folder.is_empty();
    let listed = policies.list();
    let summary = |id: &str| listed.iter().find(|policy| policy.id == id).map_or("", |policy| policy.summary.as_str());
    let named = |id: &str| format!("{id}: {}", masked(summary(id), 80));
    let marks = [
        ("", "as the administrator has it"),
        ("header", "in place, with a header field"),
        ("folder", "in the spam folder"),
    ];
    Ok(html! {
        section.card {
            h2 { "What happens to mail" }
            (told(wrong))
            @if !is_any { p { "The administrator decides: nothing is open to users here." } } @else {
                form method="post" action={ (place) "/choices" } {
                    (token(&visit.secret))
                    @for (status, meaning) in RESULTS {
                        @let open = policies.open_to_users(status);
                        @let default = format!("as the administrator has it: {}", without(policies, &chosen.mailbox, status));
                        @let names: Vec<String> = open.iter().map(|id| named(id)).collect();
                        @let options: Vec<(&str, &str)> = std::iter::once(("", default.as_str())).chain(open.iter().copied().zip(names.iter().map(String::as_str))).collect();
                        @let now = of(status.word());
                        div.choice {
                            p { b { (status.word()) } " " (meaning) "." }
                            (select(status.word(), "Then", &options, now))
                            @if !now.is_empty() && !open.contains(&now) { p.notice.odd { "Your choice " b { (plain(now)) } " does not count: it is not open to users any more." } }
                        }
                    }
                    @if folder { div.choice { (select("mark", "Marked mail is shown", &marks, of("mark"))) } }
                    button { "Keep these choices" }
                }
            }
        }
    })
}

fn wanted_senders(visit: &Visit, chosen: &Chosen, wrong: Option<&Wrong>) -> Result<Markup, Fault> {
    let action = format!("{}/senders", base(visit.who()?, &chosen.mailbox));
    Ok(html! {
        section.card {
            h2 { "Wanted senders" }
            p { "Their mail passes, except where the sender's own domain says that it is forged." }
            (told(wrong))
            @if !chosen.senders.is_empty() {
                ul.senders { @for sender in &chosen.senders { li {
                    form method="post" action=(action) {
                        (token(&visit.secret))
                        input type="hidden" name="remove" value=(sender);
                        span { (plain(sender)) } " "
                        button.quiet aria-label={ "Take " (plain(sender)) " off the list" } { "Remove" }
                    }
                } } }
            }
            form.row method="post" action=(action) {
                (token(&visit.secret))
                label { "An address, or @example.com for all of a domain"
                    input name="add" required maxlength="320" value=(wrong.map_or("", |wrong| wrong.text.as_str())); }
                button { "Add" }
            }
        }
    })
}

fn own_rules(visit: &Visit, policies: &Policies, chosen: &Chosen, wrong: Option<&Wrong>) -> Result<Markup, Fault> {
    let kept = chosen.choices.get(OWN_RULES).map_or("", String::as_str);
    let text = wrong.map_or(kept, |wrong| wrong.text.as_str());
    let place = base(visit.who()?, &chosen.mailbox);
    let idle = if wrong.is_none() && !kept.is_empty() { policies.check_rules(kept).err() } else { None };
    Ok(html! {
        section.card {
            h2 { "Rules" }
            p { "The first line that matches decides, for the results where nothing is chosen above. No rule decides what no choice could." }
            form method="post" action={ (place) "/rules" } {
                (token(&visit.secret))
                label for="rules" { "One rule a line" }
                textarea id="rules" name="rules" rows="10" spellcheck="false" autocomplete="off"
                    placeholder="when result is missing and sender is @bank.example: quarantine\notherwise accept"
                    hx-post="/rules/check" hx-trigger="input changed delay:600ms" hx-target="#told" hx-include="closest form" { (text) }
                div id="told" aria-live="polite" {
                    (told(wrong))
                    @if let Some(idle) = idle { p.notice.odd { "These rules do not count: " (idle) } }
                }
                div.buttons { button { "Keep these rules" } button.quiet name="clear" value="yes" formnovalidate { "Have none" } }
            }
        }
    })
}

/// What is wrong with rules that are being written, for the script on the page.
pub(super) async fn check(visit: &Visit) -> Result<Answer, Fault> {
    let text = visit.form.raw("rules").replace("\r\n", "\n");
    let (read, current) = (text.clone(), visit.current.clone());
    let reading = tokio::task::spawn_blocking(move || match read.trim().is_empty() {
        true => Ok(None),
        false => Ok::<_, Fault>(current.loaded()?.check_rules(&read).err()),
    });
    let wrong = reading.await.map_err(|fault| Fault::Trouble(fault.to_string()))??;
    Ok(Answer::Part(html! {
        @match (wrong, text.trim().is_empty()) {
            (Some(wrong), _) => p.notice.bad { (wrong) },
            (None, false) => p.notice.good { "These rules can be read." },
            (None, true) => {}
        }
    }))
}

/// Keeps choices: all of them or, where one is refused, none.
pub(super) async fn choose(visit: &Visit) -> Result<Answer, Fault> {
    let (ledger, mailbox) = (&visit.desk.ledger, whose(visit)?);
    let mut wish = Wish::default();
    let (mut chosen, mut back) = (Vec::new(), Vec::new());
    let before = ledger.choices(&mailbox).await?;
    let names = RESULTS.iter().map(|(status, _)| status.word()).chain(["mark"]);
    for name in names {
        match visit.form.text(name) {
            "" => back.push(name),
            // What does not count any more stays until another choice is made.
            value if before.get(name).is_some_and(|known| known == value) => {}
            value => {
                let checked =
                    visit.current.loaded()?.check_choice(&visit.current.config, &mailbox, (name, value), &mut wish);
                if let Err(error) = checked {
                    let wrong = Wrong { part: "choices", words: error.to_string(), text: String::new() };
                    return page(visit, Some(wrong)).await;
                }
                chosen.push((name, value));
            }
        }
    }
    ledger.choose_all(&mailbox, &chosen).await?;
    back.retain(|name| before.contains_key(*name));
    for name in &back {
        ledger.unchoose(&mailbox, Some(name)).await?;
    }
    if chosen.is_empty() && back.is_empty() {
        return Ok(to(visit, &mailbox, "choices"));
    }
    let words = chosen.iter().map(|(name, value)| format!("{name}={value}"));
    let words: Vec<String> = words.chain(back.iter().map(|name| format!("{name} taken back"))).collect();
    note(visit, &mailbox, "choose", format!("{} for {mailbox}", words.join(", "))).await?;
    Ok(to(visit, &mailbox, "choices"))
}

/// Adds a wanted sender, or takes one off.
pub(super) async fn senders(visit: &Visit) -> Result<Answer, Fault> {
    let (ledger, mailbox) = (&visit.desk.ledger, whose(visit)?);
    if let Some(sender) = visit.form.some("remove") {
        let Some(sender) = wanted(sender) else { return Err(Fault::NotFound) };
        if ledger.disallow(&mailbox, &sender).await? {
            note(visit, &mailbox, "want no more", format!("{sender} for {mailbox}")).await?;
        }
        return Ok(to(visit, &mailbox, "unwanted"));
    }
    let text = visit.form.text("add");
    // A star for all of a domain is not put there as the address that it would be.
    let Some(sender) = wanted(text).filter(|_| !text.starts_with("*@")) else {
        let words = "That is no sender: write an address, or @example.com for all of a domain.".to_owned();
        return page(visit, Some(Wrong { part: "senders", words, text: text.to_owned() })).await;
    };
    let most = visit.desk.limits.custody.allowed_per_user;
    match ledger.allow(&mailbox, &sender, most).await.map_err(Fault::from) {
        Ok(_) => {}
        Err(Fault::Refused(words)) => {
            return page(visit, Some(Wrong { part: "senders", words, text: text.to_owned() })).await;
        }
        Err(fault) => return Err(fault),
    }
    note(visit, &mailbox, "want", format!("{sender} for {mailbox}")).await?;
    Ok(to(visit, &mailbox, "wanted"))
}

/// Keeps a text of rules, or none.
pub(super) async fn rules(visit: &Visit) -> Result<Answer, Fault> {
    let (ledger, mailbox) = (&visit.desk.ledger, whose(visit)?);
    let text = visit.form.raw("rules").replace("\r\n", "\n");
    if visit.form.some("clear").is_some() || text.trim().is_empty() {
        ledger.unchoose(&mailbox, Some(OWN_RULES)).await?;
        note(visit, &mailbox, "rules", format!("none for {mailbox}")).await?;
        return Ok(to(visit, &mailbox, "rules"));
    }
    let (current, asked) = (Arc::clone(&visit.current), text.clone());
    let checked = tokio::task::spawn_blocking(move || current.loaded().map(|policies| policies.check_rules(&asked)));
    if let Err(error) = checked.await.map_err(|fault| Fault::Trouble(fault.to_string()))?? {
        return page(visit, Some(Wrong { part: "rules", words: error.to_string(), text })).await;
    }
    ledger.choose(&mailbox, OWN_RULES, &text).await?;
    let lines = text.lines().filter(|line| !line.trim().is_empty()).count();
    note(visit, &mailbox, "rules", format!("{lines} lines for {mailbox}")).await?;
    Ok(to(visit, &mailbox, "rules"))
}

async fn note(visit: &Visit, mailbox: &Mailbox, word: &str, about: String) -> Result<(), Fault> {
    let act =
        Act { act: word.into(), about, mailbox: Some(mailbox.to_string()), outcome: "done".into(), ..Act::default() };
    visit.desk.note(visit.who()?, &visit.source, act).await
}

fn to(visit: &Visit, mailbox: &Mailbox, done: &str) -> Answer {
    let place = visit.who.as_ref().map_or_else(|| "/me".to_owned(), |who| base(who, mailbox));
    Answer::To(format!("{place}?done={done}"))
}
