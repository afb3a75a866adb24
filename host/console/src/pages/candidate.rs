//! The candidate of a policy: what it is and decided beside it, another one in its place, promotion and rollback.

use std::io::Write as _;
use std::path::Path;

use addrauth::store::Act;
use axum::http::StatusCode;
use maud::{Markup, html};
use serde_json::Value;
use tempfile::NamedTempFile;

use super::parts::{plain, select};
use super::policies::{named, rules, shadows};
use super::report::{looked, record};
use super::{frame, page as whole, parts, token};
use crate::answer::Answer;
use crate::fault::Fault;
use crate::form::{Form, segment};
use crate::table::{Page, may};
use crate::verbs::{self, Said};
use crate::visit::Visit;

/// The ages of mail that a record may be of.
const AGES: [(&str, &str); 3] = [("1d", "1 day"), ("7d", "7 days"), ("30d", "30 days")];
/// How a component begins.
const COMPONENT: &[u8] = b"\0asm";

/// What a record is held against.
struct Gates {
    since: &'static str,
    at_least: u64,
    max_change: f64,
}

impl Gates {
    fn of(form: &Form) -> Result<Gates, Fault> {
        let refused = |words: &str| Fault::Refused(words.to_owned());
        let at_least = form.some("at_least").unwrap_or("1000").parse();
        let share = form.some("max_change").unwrap_or("0.1").trim_end_matches('%').trim().parse();
        let share = share.ok().filter(|share: &f64| (0.0..=100.0).contains(share));
        let since = AGES.iter().map(|(age, _)| *age).find(|age| form.text("since") == *age);
        Ok(Gates {
            since: since.unwrap_or("7d"),
            at_least: at_least.map_err(|_| refused("write a number of decisions, such as 1000"))?,
            max_change: share.ok_or_else(|| refused("write a share of decisions from 0 to 100, such as 0.1"))?,
        })
    }

    fn words(&self) -> [String; 3] {
        let Gates { since, at_least, max_change } = self;
        [format!("--since={since}"), format!("--at-least={at_least}"), format!("--max-change={max_change}%")]
    }
}

/// What became of a candidate that was brought a moment ago.
struct Brought {
    status: StatusCode,
    told: Markup,
}

/// The page.
pub(super) async fn page(visit: &Visit) -> Result<Answer, Fault> {
    shown(visit, None).await
}

async fn shown(visit: &Visit, brought: Option<Brought>) -> Result<Answer, Fault> {
    let policy = named(visit)?;
    let gates = Gates::of(&visit.query)?;
    let acts = may(visit.who()?.role, Page::CandidatePut);
    let place = if acts {
        Some(verbs::run(&visit.desk, &["--json", "policy", "shadow", &policy.id, "--where"], b"").await?)
    } else {
        None
    };
    let place = place.map(|said| (said.json(), said.text));
    // What lies there now, though this console may not have read it yet.
    let is_there = match &place {
        Some((place, _)) => place["candidate"].is_string(),
        None => policy.shadow.is_some(),
    };
    let found = if is_there && brought.is_none() { Some(weighed(visit, &policy.id, &gates).await) } else { None };
    let (_, span) = parts::age(gates.since);
    let own = format!("/policies/{}", segment(&policy.id));
    let main = html! {
        h1 { "Candidate of " (plain(&policy.id)) }
        @if let Some(brought) = &brought { (brought.told) }
        p { a href=(own) { "The policy in force" } }
        @match (&policy.shadow, is_there) {
            (Some(shadow), true) => {
                dl.facts {
                    dt { "File" } dd { (plain(&shadow.file.display().to_string())) }
                    @if let Some(digest) = &shadow.digest { dt { "SHA-256" } dd { code { (digest) } } }
                    dt { "Decides beside it" } dd { "on " ((shadow.share * 1e5).round() / 1e3) "% of messages" }
                    @if let Some(why) = &shadow.refused { dt { "Not loaded" } dd { (plain(why)) } }
                }
            }
            (None, true) => p.notice.odd { "It was put there a moment ago." },
            (_, false) => p { "There is none: nothing decides beside the policy." },
        }
        (shadows(visit, &policy.id, span).await?)
        @if let Some(found) = found { (weight(visit, found, &gates)) }
        @if let Some(place) = &place {
            (places(visit, &own, is_there, &place.0, &gates))
            (bring(visit, &own, &rules(visit, &policy.id).unwrap_or_default(), place))
        }
    };
    let Some(brought) = brought else { return Ok(whole(visit, "Candidate", &main)) };
    let page = frame(visit.who.as_ref(), &visit.secret, ("Candidate", &visit.place), &main, visit.by_proxy);
    Ok(Answer::Page(brought.status, page))
}

/// What promotion would say.
async fn weighed(visit: &Visit, id: &str, gates: &Gates) -> Result<Said, Fault> {
    let [since, least, change] = gates.words();
    let words = ["--json", "policy", "promote", id, "--dry-run", &since, &least, &change];
    verbs::run(&visit.desk, &words, b"").await
}

/// The record, and the bounds that it is held against.
fn weight(visit: &Visit, found: Result<Said, Fault>, gates: &Gates) -> Markup {
    let place = visit.place.split('?').next().unwrap_or_default();
    html! {
        h2 { "Its record" }
        @match found {
            Ok(said) => { @let told = said.json(); @if told.is_object() { (record(&told)) } @else { p.notice.odd { (plain(&said.text)) } } }
            Err(fault) => p.notice.odd { (fault) },
        }
        form.filters method="get" action=(place) {
            (select("since", "Mail of the last", &AGES, gates.since))
            label { "Decisions of both, at least" input name="at_least" inputmode="numeric" value=(gates.at_least) maxlength="12"; }
            label { "Per cent that may change" input name="max_change" inputmode="decimal" value=(gates.max_change) maxlength="12"; }
            div.buttons { button.quiet { "Look again" } }
        }
    }
}

/// What puts the candidate in place, takes that back, and takes the candidate away.
fn places(visit: &Visit, own: &str, is_there: bool, place: &Value, gates: &Gates) -> Markup {
    let promotes = &place["promotes"];
    html! {
        @if promotes["may"] == true {
            form.actions method="post" action={ (own) "/place" } {
                (token(&visit.secret))
                input type="hidden" name="since" value=(gates.since);
                input type="hidden" name="at_least" value=(gates.at_least);
                input type="hidden" name="max_change" value=(gates.max_change);
                @if is_there {
                    button name="wish" value="promote" { "Put the candidate in place" }
                    button.quiet name="wish" value="off" { "Take the candidate away" }
                }
                button.quiet name="wish" value="rollback" { "Take the last promotion back" }
            }
        } @else if !promotes.is_null() {
            p.notice { "Promotion and rollback are not for this console's user: " (plain(promotes["why"].as_str().unwrap_or_default()))
                ". They are done by " code { "addrauth policy promote" } " and " code { "rollback" } "." }
        }
    }
}

/// The forms that bring another one, or what stands in their way and the commands that do it.
fn bring(visit: &Visit, own: &str, in_force: &str, (place, said): &(Value, String)) -> Markup {
    let action = format!("{own}/candidate");
    let form = &visit.form;
    let barred = |kind: &str| place[kind]["may"] != true;
    let why = |kind: &str| place[kind]["why"].as_str().map_or_else(|| said.clone(), str::to_owned);
    let commands: Vec<&str> = place["commands"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let not_here = |kind: &str| {
        html! {
            p.notice { "It cannot be put from here: " (plain(&why(kind))) }
            @if !commands.is_empty() { p { "Whoever may, does it by:" } pre.lines tabindex="0" { @for command in &commands { (command) "\n" } } }
        }
    };
    html! {
        h2 { "Another one" }
        p { "It is checked, held to its cases or else to those of the policy in force, and then decides beside it. What is in force stays in force." }
        section.card {
            h3 { "A component" }
            @if barred("component") { (not_here("component")) } @else {
                form method="post" action=(action) enctype="multipart/form-data" {
                    (token(&visit.secret))
                    label { "Component (.wasm)" input type="file" name="component" accept=".wasm,application/wasm" required; }
                    label { "Its cases (.toml), where it has some" input type="file" name="cases" accept=".toml"; }
                    label { "Its signature (.minisig), where it has one" input type="file" name="signature" accept=".minisig"; }
                    div.buttons { button { "Check it, and make it the candidate" } }
                }
            }
        }
        section.card {
            h3 { "Rules" }
            @if barred("text") { (not_here("text")) } @else {
                form method="post" action=(action) {
                    (token(&visit.secret))
                    label for="rules" { "One rule a line" }
                    textarea id="rules" name="rules" rows="8" required spellcheck="false" autocomplete="off" { (form.some("rules").map_or(in_force, |_| form.raw("rules"))) }
                    label for="cases" { "Cases that they have to pass, as in cases.toml" }
                    textarea id="cases" name="cases_text" rows="4" spellcheck="false" { (form.raw("cases_text")) }
                    div.buttons { button { "Check them, and make them the candidate" } }
                }
            }
        }
    }
}

/// What a form brings.
struct Given<'a> {
    octets: &'a [u8],
    is_rules: bool,
    cases: Option<&'a [u8]>,
    signature: Option<&'a [u8]>,
}

impl<'a> Given<'a> {
    fn of(visit: &'a Visit) -> Result<Given<'a>, Fault> {
        let form = &visit.form;
        let refused = |words: &str| Err(Fault::Refused(words.to_owned()));
        let file = |name: &str| form.file(name).map(|octets| octets.as_ref());
        let cases = form.some("cases_text").map(|_| form.raw("cases_text").as_bytes());
        let (signature, cases) = (file("signature"), file("cases").or(cases));
        if form.some("rules").is_some() {
            return Ok(Given { octets: form.raw("rules").as_bytes(), is_rules: true, cases, signature: None });
        }
        let Some(octets) = file("component") else { return refused("choose a component, or write rules") };
        if octets.len() > visit.desk.limits.console.upload {
            return Err(Fault::TooLarge);
        }
        // A text in its place could name any file of this machine.
        if octets.starts_with(COMPONENT) {
            Ok(Given { octets, is_rules: false, cases, signature })
        } else {
            refused("that is no component: a file .wasm, as `addrauth policy build` makes it")
        }
    }
}

/// A file that goes once it was read.
async fn lent(octets: &[u8]) -> Result<NamedTempFile, Fault> {
    let octets = octets.to_owned();
    let written = tokio::task::spawn_blocking(move || {
        let mut file = NamedTempFile::new()?;
        file.write_all(&octets)?;
        Ok::<_, std::io::Error>(file)
    });
    let trouble = |fault: &dyn std::fmt::Display| Fault::Trouble(format!("a file cannot be lent: {fault}"));
    written.await.map_err(|fault| trouble(&fault))?.map_err(|fault| trouble(&fault))
}

/// Brings another candidate: checked, held to its cases, and put beside the policy; or refused.
pub(super) async fn put(visit: &Visit) -> Result<Answer, Fault> {
    let policy = named(visit)?;
    let given = Given::of(visit)?;
    let lends = [("--cases", given.cases), ("--signature", given.signature)];
    let mut lent_files = Vec::new();
    for (name, octets) in lends {
        if let Some(octets) = octets {
            lent_files.push((name, lent(octets).await?));
        }
    }
    let option = |(name, file): &(&str, NamedTempFile)| option(name, file.path());
    let options: Vec<String> = lent_files.iter().map(option).collect();
    let mut words = vec!["--json", "policy", "shadow", policy.id.as_str(), "-"];
    words.extend(given.is_rules.then_some("--rules"));
    words.extend(options.iter().map(String::as_str));
    let said = verbs::run(&visit.desk, &words, given.octets).await?;
    let told = said.json();
    let digest = told["digest"].as_str().or(told["check"]["digest"].as_str()).and_then(|digest| digest.get(..12));
    let about = format!(
        "policy {}: {}",
        policy.id,
        digest.map_or_else(|| "unread".to_owned(), |digest| format!("SHA-256 {digest}"))
    );
    noted(visit, "candidate", about, &said).await?;
    let status = if said.good { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    let told = match told.is_object() {
        true => looked(&told),
        false => html! { p.notice.bad role="alert" { (plain(&said.text)) } },
    };
    shown(visit, Some(Brought { status, told })).await
}

fn option(name: &str, path: &Path) -> String {
    format!("{name}={}", path.display())
}

/// Puts the act into the record, and lets the configuration be read again where it may have been edited.
async fn noted(visit: &Visit, act: &str, about: String, said: &Said) -> Result<(), Fault> {
    let outcome = if said.good { "done" } else { "refused" };
    if said.good {
        visit.desk.edited.notify_one();
    }
    let act = Act { act: act.into(), about, outcome: outcome.into(), ..Act::default() };
    visit.desk.note(visit.who()?, &visit.source, act).await
}

/// Puts a candidate in place, takes that back, or takes the candidate away, as far as the verb of the program lets it be.
pub(super) async fn place(visit: &Visit) -> Result<Answer, Fault> {
    let (policy, gates) = (named(visit)?, Gates::of(&visit.form)?);
    let bounds = gates.words();
    let (act, words): (&str, Vec<&str>) = match visit.form.text("wish") {
        "promote" => (
            "promote",
            ["policy", "promote", &policy.id].into_iter().chain(bounds.iter().map(String::as_str)).collect(),
        ),
        "rollback" => ("rollback", vec!["policy", "rollback", &policy.id]),
        "off" => ("candidate taken away", vec!["policy", "shadow", &policy.id, "--off"]),
        _ => return Err(Fault::NotFound),
    };
    let said = verbs::run(&visit.desk, &words, b"").await?;
    noted(visit, act, format!("policy {}", policy.id), &said).await?;
    let main = html! {
        h1 { (plain(&policy.id)) }
        @if said.good { p.notice.good role="status" { "Done. The filter obeys with its next reload." } } @else { p.notice.odd role="alert" { "Not done." } }
        pre.lines tabindex="0" { (said.text) }
        p { a href={ "/policies/" (segment(&policy.id)) "/candidate" } { "Back" } }
    };
    Ok(whole(visit, "Policy", &main))
}
