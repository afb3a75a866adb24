//! Many decisions into one reply, pure: the only place where a disposition becomes an SMTP answer.

use std::iter::repeat_n;

use crate::case::{Decision, Direction, Disposition, Finding, Found, Mail, Owed, Refusal, Reply, Verdict};
use crate::proto::address::Address;
use crate::proto::header::{Edit, KEY_FIELD, STATUS_FIELD, deletions};
use crate::proto::mark::MARK_FIELD;

/// What the filters of mail clients and delivery agents know as "this is spam".
pub const SPAM_FIELD: &str = "X-Spam-Flag";

/// What settling needs of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Decide, but only strip keys and write the status field.
    pub observe: bool,
    /// The `by=` of the status field.
    pub hostname: String,
}

/// Turns what was found and decided into the one answer that the MTA gets.
///
/// A message is accepted, held, discarded, refused or deferred, and never two of these; what has to be durable first is in
/// [`Reply::owed`]. Decisions that differ between recipients hold the whole message: nothing is lost, nothing is delivered
/// against a recipient's wish.
pub fn settle(mail: &Mail, finding: &Finding, decisions: &[Decision], rules: &Rules) -> Reply {
    let found = match finding {
        Finding::Found(found) => found,
        Finding::Passing(direction) => {
            let edits = if *direction == Direction::Own { removals(MARK_FIELD, mail) } else { Vec::new() };
            return Reply { verdict: Verdict::Accept, edits, owed: Vec::new() };
        }
    };
    let (verdict, mark, owed) =
        if rules.observe { (Verdict::Accept, false, Vec::new()) } else { fate(found, decisions) };
    let edits = match verdict {
        Verdict::Accept | Verdict::Hold(_) => edits(mail, found, mark, rules),
        Verdict::Discard | Verdict::Reject(_) | Verdict::Defer(_) => Vec::new(),
    };
    Reply { verdict, edits, owed }
}

/// The verdict, whether the mark field is written, and what is owed.
fn fate(found: &Found, decisions: &[Decision]) -> (Verdict, bool, Vec<Owed>) {
    let Some((first, others)) = decisions.split_first() else {
        return (Verdict::Defer(defer("no policy decided")), false, Vec::new());
    };
    if others.iter().any(|d| (d.disposition, d.notify) != (first.disposition, first.notify)) {
        return (Verdict::Hold("the recipients' policies differ".into()), false, vec![Owed::Record]);
    }
    let mut owed = Vec::new();
    let verdict = match first.disposition {
        Disposition::Accept => return (Verdict::Accept, false, owed),
        Disposition::Mark => return (Verdict::Accept, true, owed),
        Disposition::Defer => return (Verdict::Defer(defer(&first.reason)), false, owed),
        Disposition::Quarantine => {
            owed.push(Owed::Record);
            Verdict::Hold(text(found, &first.reason))
        }
        Disposition::Reject if first.notify.sender => {
            Verdict::Reject(Refusal { code: 550, status: "5.7.1", text: text(found, &first.reason) })
        }
        Disposition::Reject => {
            owed.push(Owed::Record);
            Verdict::Discard
        }
    };
    if first.notify.recipient {
        let everybody = decisions.iter().flat_map(|d| &d.recipients);
        owed.extend(everybody.map(|&recipient| Owed::Notice(recipient)));
    }
    (verdict, false, owed)
}

fn defer(reason: &str) -> Refusal {
    let text = if reason.is_empty() { "please try again later" } else { reason };
    Refusal { code: 451, status: "4.7.1", text: format!("Address Authentication: {text}") }
}

/// The text of a refusal or hold: the policy's own words, else the result's word.
fn text(found: &Found, reason: &str) -> String {
    let reason = if reason.is_empty() { found.status.word() } else { reason };
    format!("Address Authentication: {reason}")
}

/// The changes to the header: all deletions first, each name from its last field up, then ours on top.
fn edits(mail: &Mail, found: &Found, mark: bool, rules: &Rules) -> Vec<Edit> {
    let mut edits = deletions(repeat_n(KEY_FIELD, mail.keys.len()), |_, _| true);
    edits.extend(removals(STATUS_FIELD, mail));
    edits.extend(removals(MARK_FIELD, mail));
    if mark {
        edits.push(insertion(SPAM_FIELD, "YES"));
    }
    edits.push(insertion(STATUS_FIELD, &status(found, &rules.hostname)));
    edits
}

/// Deletes every field of this name.
fn removals(name: &str, mail: &Mail) -> Vec<Edit> {
    deletions(repeat_n(name, mail.named(name).count()), |_, _| true)
}

fn insertion(name: &str, value: &str) -> Edit {
    Edit::Insert { index: 0, name: name.into(), value: format!(" {value}") }
}

/// The value of the status field: `WORD; address=…; by=HOST; reason=…`.
pub fn status(found: &Found, hostname: &str) -> String {
    let mut value = String::from(found.status.status_word());
    if let Some(sender) = &found.sender {
        value += "; address=";
        value += &plain(sender);
    }
    value += "; by=";
    value += hostname;
    if let Some(why) = found.why {
        value += "; reason=";
        value += why.word();
    }
    value
}

/// An address as one word of ASCII: every octet that could end the word or the field is percent-encoded.
fn plain(address: &Address) -> String {
    let mut word = String::new();
    for octet in address.to_string().bytes() {
        match octet {
            b'%' | b';' | b'"' | b'\\' | b'(' | b')' | b',' | 0..=b' ' | 0x7f.. => word += &format!("%{octet:02X}"),
            _ => word.push(char::from(octet)),
        }
    }
    word
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::case::{Client, Field, KeyStatus, Notify, Recipient, ReversePath, Why};

    fn mail(keys: usize, fields: &[&str]) -> Mail {
        let recipient = |name: &str| Recipient { path: format!("<{name}@home.example>").into_bytes(), address: None };
        Mail {
            received: SystemTime::UNIX_EPOCH,
            queue_id: Some("4F1".into()),
            client: Client::default(),
            daemon: String::new(),
            login: None,
            reverse_path: ReversePath::Null,
            smtputf8: false,
            size: None,
            recipients: vec![recipient("bob"), recipient("carol")],
            fields: fields.iter().map(|name| Field { name: (*name).into(), value: b" x".to_vec() }).collect(),
            keys: vec![None; keys],
            malformed: false,
        }
    }

    fn found(status: KeyStatus, why: Option<Why>) -> Finding {
        Finding::Found(Found::bare(status, why, None))
    }

    fn decision(disposition: Disposition, sender: bool, recipient: bool) -> Decision {
        Decision {
            recipients: vec![0, 1],
            policy: "p".into(),
            digest: "d".into(),
            disposition,
            notify: Notify { sender, recipient },
            reason: String::new(),
            fault: None,
            clamped: None,
        }
    }

    fn rules(observe: bool) -> Rules {
        Rules { observe, hostname: "mx.home.example".into() }
    }

    /// One word for a verdict, and what is owed.
    fn shape(reply: &Reply) -> (&'static str, Vec<Owed>) {
        let word = match &reply.verdict {
            Verdict::Accept => "accept",
            Verdict::Hold(_) => "hold",
            Verdict::Discard => "discard",
            Verdict::Reject(refusal) => {
                assert_eq!((refusal.code, refusal.status), (550, "5.7.1"));
                "reject"
            }
            Verdict::Defer(refusal) => {
                assert_eq!((refusal.code, refusal.status), (451, "4.7.1"));
                "defer"
            }
        };
        (word, reply.owed.clone())
    }

    #[test]
    fn each_uniform_decision_has_one_verdict_and_its_obligations() {
        use Disposition::{Accept, Defer, Mark, Quarantine, Reject};
        let notices = [Owed::Notice(0), Owed::Notice(1)];
        let recorded: Vec<Owed> = [&[Owed::Record], notices.as_slice()].concat();
        let table = [
            (decision(Accept, false, false), "accept", vec![]),
            (decision(Mark, false, false), "accept", vec![]),
            (decision(Reject, false, false), "discard", vec![Owed::Record]),
            (decision(Reject, true, false), "reject", vec![]),
            (decision(Reject, false, true), "discard", recorded.clone()),
            (decision(Reject, true, true), "reject", notices.to_vec()),
            (decision(Quarantine, false, false), "hold", vec![Owed::Record]),
            (decision(Quarantine, false, true), "hold", recorded),
            (decision(Defer, false, false), "defer", vec![]),
        ];
        for (decision, word, owed) in table {
            let finding = found(KeyStatus::Invalid, Some(Why::Wrong));
            let reply = settle(&mail(1, &[]), &finding, std::slice::from_ref(&decision), &rules(false));
            assert_eq!(shape(&reply), (word, owed), "{decision:?}");
            let edited = matches!(word, "accept" | "hold");
            assert_eq!(!reply.edits.is_empty(), edited, "a message that is kept is edited, another is not");
            let marked = reply.edits.iter().any(|e| matches!(e, Edit::Insert { name, .. } if name == SPAM_FIELD));
            assert_eq!(marked, decision.disposition == Mark);
        }
    }

    #[test]
    fn observing_changes_nothing_but_keys_and_status() {
        let finding = found(KeyStatus::Invalid, Some(Why::Wrong));
        for disposition in [Disposition::Accept, Disposition::Mark, Disposition::Quarantine, Disposition::Reject] {
            let reply = settle(&mail(1, &[]), &finding, &[decision(disposition, false, false)], &rules(true));
            assert_eq!(shape(&reply), ("accept", vec![]));
            assert_eq!(reply.edits.len(), 2, "one deletion, one status: {:?}", reply.edits);
        }
    }

    #[test]
    fn deletions_come_first_and_run_from_the_last_field_to_the_first() {
        let mail = mail(3, &["From", "x-auth-key-STATUS", "X-Auth-Key-Status"]);
        let reply = settle(
            &mail,
            &found(KeyStatus::Valid, None),
            &[decision(Disposition::Accept, false, false)],
            &rules(false),
        );
        let shown: Vec<String> = reply
            .edits
            .iter()
            .map(|edit| match edit {
                Edit::Delete { name, index } => format!("-{name} {index}"),
                Edit::Insert { index, name, value } => format!("+{index} {name}:{value}"),
            })
            .collect();
        assert_eq!(
            shown,
            [
                "-X-Auth-Key 3",
                "-X-Auth-Key 2",
                "-X-Auth-Key 1",
                "-X-Auth-Key-Status 2",
                "-X-Auth-Key-Status 1",
                "+0 X-Auth-Key-Status: VALIDKEY; by=mx.home.example",
            ]
        );
    }

    #[test]
    fn decisions_that_differ_hold_the_message_for_all() {
        let decisions = [decision(Disposition::Accept, false, false), decision(Disposition::Reject, false, false)];
        let reply = settle(&mail(0, &[]), &found(KeyStatus::Invalid, Some(Why::Wrong)), &decisions, &rules(false));
        assert_eq!(shape(&reply), ("hold", vec![Owed::Record]));
    }

    #[test]
    fn without_a_decision_the_message_is_deferred() {
        let reply = settle(&mail(0, &[]), &found(KeyStatus::Valid, None), &[], &rules(false));
        assert_eq!(shape(&reply), ("defer", vec![]));
    }

    #[test]
    fn mail_that_is_not_ours_to_judge_passes_untouched_and_ours_loses_its_mark() {
        let mail = mail(2, &[MARK_FIELD, STATUS_FIELD]);
        for direction in [Direction::Relay, Direction::Outbound] {
            let reply = settle(&mail, &Finding::Passing(direction), &[], &rules(false));
            assert_eq!(reply, Reply { verdict: Verdict::Accept, edits: vec![], owed: vec![] });
        }
        let reply = settle(&mail, &Finding::Passing(Direction::Own), &[], &rules(false));
        assert_eq!(reply.edits, [Edit::Delete { name: MARK_FIELD.into(), index: 1 }]);
    }
}
