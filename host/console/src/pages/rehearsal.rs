//! A message tried: what a policy, and its candidate, would decide about it.

use addrauth::proto::header::{KEY_FIELD, NEW_KEY_FIELD};
use maud::html;

use super::parts::{plain, select};
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

/// The form.
pub(super) fn page(visit: &Visit) -> Result<Answer, Fault> {
    form(visit, None)
}

fn form(visit: &Visit, said: Option<(&str, Said)>) -> Result<Answer, Fault> {
    let listed = visit.current.loaded()?.list();
    let ids: Vec<(&str, &str)> = listed.iter().map(|policy| (policy.id.as_str(), policy.id.as_str())).collect();
    let form = &visit.form;
    let main = html! {
        h1 { "Try a message" }
        @if let Some((policy, said)) = &said {
            section.card {
                h2 { "What " (plain(policy)) " decides" }
                pre tabindex="0" { (said.text) }
                @if !said.good { p.notice.odd { "It did not come to a decision." } }
            }
        }
        form.card method="post" action="/try" {
            (token(&visit.secret))
            label for="message" { "The message, header and all" }
            textarea id="message" name="message" rows="14" required spellcheck="false" { (shown(form.raw("message"))) }
            (select("policy", "Policy", &ids, form.text("policy")))
            (select("result", "Found of its key", &RESULTS, form.text("result")))
            (select("claim", "The sender's domain claims keys for", &CLAIMS, form.text("claim")))
            label { "Recipient" input name="to" value=(form.text("to")) maxlength="320" placeholder="as the message says"; }
            button { "Try it" }
            p { small { "Nothing of it is kept, and nobody is asked about it." } }
        }
    };
    Ok(whole(visit, "Try", &main))
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
    let asked = visit.form.text("policy");
    let policy = listed.iter().find(|policy| policy.id == asked && !asked.starts_with('-')).ok_or(Fault::NotFound)?;
    let mut words = vec!["policy", "run", policy.id.as_str(), "-", "--explain"];
    let (result, claim, to) = (visit.form.text("result"), visit.form.text("claim"), visit.form.text("to"));
    for (name, value, known) in [("--result", result, RESULTS.as_slice()), ("--claim", claim, CLAIMS.as_slice())] {
        if !known.iter().any(|(word, _)| *word == value) {
            return Err(Fault::NotFound);
        }
        if !value.is_empty() {
            words.extend([name, value]);
        }
    }
    let to = format!("--to={to}");
    if to.len() > "--to=".len() {
        words.push(&to);
    }
    if visit.form.raw("message").len() > visit.desk.limits.console.upload {
        return Err(Fault::TooLarge);
    }
    let said = verbs::run(&visit.desk, &words, visit.form.raw("message").as_bytes()).await?;
    form(visit, Some((&policy.id, said)))
}
