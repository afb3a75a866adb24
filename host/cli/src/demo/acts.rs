//! The cases of the demonstration: a message each, and how it should end.

use addrauth::case::{Case, Finding};
use addrauth::proto::address::Address;
use addrauth::proto::header::{self, Bounds, KEY_FIELD, SPAM_FIELD, STATUS_FIELD as STATUS};

use super::act::{Act, Ending, Expected};
use super::scene::{Error, Scene};
use addrauth_lab::mta::Envelope;

/// What is in the header besides the usual fields.
struct Header<'a> {
    from: &'a str,
    to: &'a str,
    extra: Vec<String>,
}

const ALICE: &str = "Alice <alice@sender.example>";
const ACCEPT: &str = "250 accepted";

/// All cases.
pub(super) fn all(scene: &Scene) -> Result<Vec<Act>, Error> {
    let key = format!("{KEY_FIELD}: {}", scene.key.expose());
    let forged = format!("{KEY_FIELD}: {}", scene.stranger.expose());
    let mut acts =
        vec![act("valid key", "mark", header(ALICE, &[&key]), expect("valid", "accept", ACCEPT, Some(&[STATUS])))];
    acts.extend(scenarios(&forged));
    acts.extend([
        act("no key", "mark", header(ALICE, &[]), expect("missing", "accept", ACCEPT, Some(&[STATUS]))),
        act(
            "domain without a server",
            "mark",
            header("Dan <dan@plain.example>", &[]),
            expect("none", "accept", ACCEPT, Some(&[STATUS])),
        ),
        act(
            "server down",
            "mark",
            header("Dora <dora@down.example>", &[&key]),
            expect("unverified (timeout)", "accept", ACCEPT, Some(&[STATUS])),
        ),
        act(
            "forged status field",
            "mark",
            header(ALICE, &["X-Auth-Key-Status: VALIDKEY; by=mx.home.example", "x-auth-key-status: VALIDKEY"]),
            expect("missing", "accept", ACCEPT, Some(&[STATUS])),
        ),
        act(
            "four copies of the key",
            "mark",
            header(ALICE, &[&key, &key.replace("X-Auth", "x-auth"), &key.replace("X-Auth-Key", "X-AUTH-KEY"), &key]),
            expect("valid", "accept", ACCEPT, Some(&[STATUS])),
        ),
        act(
            "keys that differ",
            "mark",
            header(ALICE, &[&key, &forged]),
            expect("unusable (several-keys)", "mark", ACCEPT, Some(&[STATUS, SPAM_FIELD])),
        ),
        act(
            "two From fields",
            "mark",
            header(ALICE, &[&key, "From: mallory@sender.example"]),
            expect("unusable (several-from)", "mark", ACCEPT, Some(&[STATUS, SPAM_FIELD])),
        ),
        act(
            "two mailboxes in From",
            "mark",
            header("alice@sender.example, mallory@sender.example", &[&key]),
            expect("unusable (several-from)", "mark", ACCEPT, Some(&[STATUS, SPAM_FIELD])),
        ),
    ]);
    Ok(acts)
}

/// A key that the server does not know, under each scenario.
fn scenarios(forged: &str) -> Vec<Act> {
    let invalid = "invalid (wrong)";
    let silent = "250 and dropped";
    let refused = "550 5.7.1";
    let table = [
        ("accept", "bob", expect(invalid, "accept", ACCEPT, Some(&[STATUS]))),
        ("mark", "bob", expect(invalid, "mark", ACCEPT, Some(&[STATUS, SPAM_FIELD]))),
        ("reject-silently", "bob", expect(invalid, "reject-silently", silent, None)),
        ("reject-notify-sender", "bob", expect(invalid, "reject-notify-sender", refused, None)),
        ("reject-notify-recipient", "bob", noticed(expect(invalid, "reject-notify-recipient", silent, None))),
        ("reject-notify-both", "carol", noticed(expect(invalid, "reject-notify-both", refused, None))),
        ("quarantine", "bob", expect(invalid, "quarantine", "250 and kept in quarantine", None)),
    ];
    let one = |(policy, to, expected): (&'static str, &str, Expected)| {
        let mut header = header(ALICE, &[forged]);
        let to = format!("{to}@home.example");
        header.to = &to;
        act(&format!("forged key, {policy}"), policy, header, expected)
    };
    let mut acts: Vec<Act> = table.into_iter().map(one).collect();
    acts.push(four_wishes(forged));
    acts
}

/// A forged key to four who each want something else: the scene's configuration binds them.
fn four_wishes(forged: &str) -> Act {
    let expected = expect("invalid (wrong)", "each his own (4)", "250 accepted, for 1 of 4", Some(&[STATUS]));
    let mut act = act("forged key, four wishes", "mark", header(ALICE, &[forged]), noticed(expected));
    act.envelope.recipients = ["ann", "ben", "cleo", "dora"].map(|name| format!("{name}@home.example")).into();
    act
}

/// A person's own message as it is, and, where it claims to come from alice of the demonstration, also with her key.
pub(super) fn own(scene: &Scene, message: Vec<u8>) -> Result<Vec<Act>, Error> {
    let envelope = || Envelope::inbound("alice@sender.example", "bob@home.example");
    let mut acts = vec![Act {
        name: "your message".into(),
        invalid: "mark",
        envelope: envelope(),
        message: message.clone(),
        expected: None,
    }];
    let octets = |range: &std::ops::Range<usize>| message.get(range.clone()).unwrap_or_default();
    let block = header::scan(&message, scene.bounds());
    let from = block.fields.iter().find(|f| octets(&f.name).eq_ignore_ascii_case(b"From"));
    let sender = from.and_then(|f| Address::from_field(octets(&f.value), true).ok());
    if sender.is_some_and(|sender| sender == scene.alice) {
        acts.push(Act {
            name: "the same with alice's key".into(),
            invalid: "mark",
            envelope: envelope(),
            message: header::inject(&message, 0, KEY_FIELD, format!(" {}", scene.key.expose()).as_bytes())?,
            expected: None,
        });
    }
    Ok(acts)
}

impl Act {
    /// What did not end as it should, in words; empty: all is well.
    pub(super) fn faults(&self, ending: &Ending, bounds: Bounds) -> Vec<String> {
        let Some(expected) = &self.expected else { return Vec::new() };
        let mut faults = Vec::new();
        let mut same = |what: &str, is: &str, should: &str| {
            if is != should {
                faults.push(format!("{what} is `{is}`, should be `{should}`"));
            }
        };
        same("result", &found(&ending.case), expected.found);
        same("policy", &policy(&ending.case), expected.policy);
        same("answer", ending.told.get(..expected.told.len()).unwrap_or(&ending.told), expected.told);
        same("notice", yes(ending.notice.is_some()), yes(expected.notice));
        if let Some(added) = expected.added {
            let should = self.delivered(added, ending, bounds).ok();
            if should.is_none() || ending.delivered != should {
                faults.push("the delivered message is not the sent one less its key fields, with ours on top".into());
            }
        } else if ending.delivered.is_some() {
            faults.push("it is delivered, and should not be".into());
        }
        faults
    }

    /// The message as it should be delivered: every key and status field gone, ours on top, every other octet as sent.
    fn delivered(&self, added: &[&str], ending: &Ending, bounds: Bounds) -> Result<Vec<u8>, Error> {
        let mut message = header::strip(&self.message, &[KEY_FIELD, STATUS], bounds)?;
        for name in added.iter().rev() {
            let value = match *name {
                STATUS => match &ending.case.finding {
                    Finding::Found(found) => addrauth::settle::status(found, "mx.home.example"),
                    _ => String::new(),
                },
                _ => "YES".into(),
            };
            message = header::inject(&message, 0, name, format!(" {value}").as_bytes())?;
        }
        Ok(message)
    }
}

fn yes(is: bool) -> &'static str {
    if is { "yes" } else { "no" }
}

/// The result and its reason, as the table prints them.
pub(super) fn found(case: &Case) -> String {
    match &case.finding {
        Finding::Passing(direction) => direction.word().into(),
        Finding::Submitted(_) => "submitted".into(),
        Finding::Postponed(_) => "postponed".into(),
        Finding::Unclear => "unclear".into(),
        Finding::Found(found) => match found.why {
            Some(why) => format!("{} ({})", found.status.word(), why.word()),
            None => found.status.word().into(),
        },
    }
}

/// The policies that decided.
pub(super) fn policy(case: &Case) -> String {
    match case.decisions.as_slice() {
        [one] => one.policy.clone(),
        [] => String::new(),
        several => format!("each his own ({})", several.len()),
    }
}

fn header<'a>(from: &'a str, extra: &[&str]) -> Header<'a> {
    Header { from, to: "bob@home.example", extra: extra.iter().map(|line| String::from(*line)).collect() }
}

fn expect(
    found: &'static str,
    policy: &'static str,
    told: &'static str,
    added: Option<&'static [&'static str]>,
) -> Expected {
    Expected { found, policy, told, added, notice: false }
}

fn noticed(expected: Expected) -> Expected {
    Expected { notice: true, ..expected }
}

fn act(name: &str, invalid: &'static str, header: Header<'_>, expected: Expected) -> Act {
    let mut message = format!("From: {}\r\nTo: {}\r\nSubject: {name}\r\n", header.from, header.to);
    message += &format!("Message-ID: <{}@sender.example>\r\n", name.replace([' ', ','], "-"));
    for line in &header.extra {
        message += line;
        message += "\r\n";
    }
    message += "\r\nHello,\r\n\r\nthis is a message of the demonstration.\r\n";
    let envelope = Envelope::inbound("alice@sender.example", header.to);
    Act { name: name.into(), invalid, envelope, message: message.into_bytes(), expected: Some(expected) }
}
