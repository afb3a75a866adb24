//! A message tried: what a policy would decide about it, and beside that its candidate, or other rules.

use addrauth::proto::header::{KEY_FIELD, NEW_KEY_FIELD};
use maud::{Markup, html};

use super::parts::{plain, select};
use super::policies::rules;
use super::{page as whole, token};
use crate::answer::Answer;
use crate::fault::Fault;
use crate::verbs::{self, Said};
use crate::visit::Visit;

const RESULTS: [(&str, &str); 8] = [
    ("invalid:wrong", "invalid (wrong)"),
    ("invalid:expired", "invalid (expired)"),
    ("missing", "missing"),
    ("none", "none"),
    ("valid", "valid"),
    ("unverified:dns", "unverified (DNS)"),
    ("unverified:timeout", "unverified (time)"),
    ("", "as the message is: unusable"),
];
/// Octets of a message that stands in the form again.
const ECHO: usize = 64 * 1024;
const CLAIMS: [(&str, &str); 4] = [("", "nothing"), ("testing", "testing"), ("some", "some"), ("all", "all")];

/// What decides beside the policy.
const BESIDE: [(&str, &str); 3] = [("", "nothing"), ("candidate", "its candidate"), ("rules", "the rules below")];

/// A decision, and another one beside it.
struct Both {
    policy: String,
    said: Said,
    beside: Option<(&'static str, Said)>,
}

/// The form.
pub(super) fn page(visit: &Visit) -> Result<Answer, Fault> {
    shown_with(visit, None)
}

fn shown_with(visit: &Visit, both: Option<&Both>) -> Result<Answer, Fault> {
    let listed = visit.current.loaded()?.list();
    let ids: Vec<(&str, &str)> = listed.iter().map(|policy| (policy.id.as_str(), policy.id.as_str())).collect();
    let form = &visit.form;
    let asked = form.some("policy").unwrap_or(visit.query.text("policy"));
    let main = html! {
        h1 { "Try a message" }
        @if let Some(both) = both { (told(both)) }
        form.card method="post" action="/try" enctype="multipart/form-data" {
            (token(&visit.secret))
            label { "The message as a file (.eml)" input type="file" name="file" accept=".eml,message/rfc822"; }
            label for="message" { "or its text, header and all" }
            textarea id="message" name="message" rows="14" spellcheck="false" { (shown(form.raw("message"))) }
            (select("policy", "Policy", &ids, asked))
            (select("beside", "Beside it decides", &BESIDE, form.text("beside")))
            label for="rules" { "Rules, one a line" }
            textarea id="rules" name="rules" rows="4" spellcheck="false" { (form.raw("rules")) }
            (select("result", "Found of its key", &RESULTS, form.text("result")))
            (select("claim", "The sender's domain claims keys for", &CLAIMS, form.text("claim")))
            label { "Recipient" input name="to" value=(form.text("to")) maxlength="320" placeholder="as the message says"; }
            button { "Try it" }
            p { small { "Nothing of it is kept, and nobody is asked about it." } }
        }
    };
    Ok(whole(visit, "Try", &main))
}

/// What was decided; of two decisions the lines that differ are marked.
fn told(both: &Both) -> Markup {
    let lines = |said: &Said| -> Vec<String> { said.text.lines().map(str::to_owned).collect() };
    let one = lines(&both.said);
    let Some((name, other)) = &both.beside else {
        return html! { section.card { h2 { "What " (plain(&both.policy)) " decides" } (said(&both.said, &one, &one)) } };
    };
    let two = lines(other);
    html! {
        @if one == two { p.notice.good role="status" { "Nothing differs." } } @else { p.notice.odd role="status" { "What differs is marked." } }
        div.columns {
            section.card { h2 { "What " (plain(&both.policy)) " decides" } (said(&both.said, &one, &two)) }
            section.card { h2 { "What " (name) " would decide" } (said(other, &two, &one)) }
        }
    }
}

fn said(said: &Said, lines: &[String], others: &[String]) -> Markup {
    html! {
        pre.lines tabindex="0" {
            @for line in lines { @if others.contains(line) { (line) } @else { mark { (line) } } "\n" }
        }
        @if !said.good { p.notice.odd { "It did not come to a decision." } }
    }
}

/// The message as it is shown again: short ones, and without a key.
fn shown(message: &str) -> String {
    if message.len() > ECHO {
        return String::new();
    }
    let is_key = |line: &str| {
        let name = line.split(':').next().unwrap_or_default().trim();
        [KEY_FIELD, NEW_KEY_FIELD].iter().any(|known| name.eq_ignore_ascii_case(known))
    };
    let (mut shown, mut is_in_key) = (String::new(), false);
    for line in message.split_inclusive('\n') {
        is_in_key = if line.starts_with([' ', '\t']) { is_in_key } else { is_key(line) };
        shown.push_str(if !is_in_key {
            line
        } else if is_key(line) {
            "X-Auth-Key: (taken out)\n"
        } else {
            ""
        });
    }
    shown
}

/// Decides it.
pub(super) async fn examine(visit: &Visit) -> Result<Answer, Fault> {
    let listed = visit.current.loaded()?.list();
    let form = &visit.form;
    let asked = form.text("policy");
    let policy = listed.iter().find(|policy| policy.id == asked && !asked.starts_with('-')).ok_or(Fault::NotFound)?;
    let beside = BESIDE.iter().find(|(word, _)| *word == form.text("beside")).ok_or(Fault::NotFound)?;
    let mut options: Vec<String> = Vec::new();
    let (result, claim, to) = (form.text("result"), form.text("claim"), form.text("to"));
    for (name, value, known) in [("--result", result, RESULTS.as_slice()), ("--claim", claim, CLAIMS.as_slice())] {
        if !known.iter().any(|(word, _)| *word == value) {
            return Err(Fault::NotFound);
        }
        if !value.is_empty() {
            options.push(format!("{name}={value}"));
        }
    }
    if !to.is_empty() {
        options.push(format!("--to={to}"));
    }
    let message = form.file("file").map_or_else(|| form.raw("message").as_bytes(), |octets| octets.as_ref());
    if message.is_empty() {
        return Err(Fault::Refused("choose a message, or paste one".into()));
    }
    if message.len() > visit.desk.limits.console.upload {
        return Err(Fault::TooLarge);
    }
    let decided = async |id: &str, more: &[&str]| {
        let words = ["policy", "run", id, "-", "--explain"].into_iter();
        let words: Vec<&str> = words.chain(options.iter().map(String::as_str)).chain(more.iter().copied()).collect();
        verbs::run(&visit.desk, &words, message).await
    };
    let said = decided(&policy.id, &[]).await?;
    let beside = match beside.0 {
        "candidate" => Some(("its candidate", decided(&policy.id, &["--candidate"]).await?)),
        "rules" => {
            let lines: Vec<&str> = form.raw("rules").trim_end().lines().collect();
            let set = format!("--set=rules={}", serde_json::Value::from(lines));
            // Rules under another policy's id would be settings that it does not have.
            let id = if rules(visit, &policy.id).is_some() { policy.id.as_str() } else { "rules" };
            Some(("the rules", decided(id, &[&set]).await?))
        }
        _ => None,
    };
    shown_with(visit, Some(&Both { policy: policy.id.clone(), said, beside }))
}
