//! Every way in which decisions become a reply.

use std::time::SystemTime;

use super::*;
use crate::case::{Client, Field, KeyStatus, Notify, Recipient, ReversePath, Why};

mod every;

fn mail(keys: usize, fields: &[&str]) -> Mail {
    let recipient = |name: &str| Recipient {
        path: format!("<{name}@home.example>").into_bytes(),
        address: None,
        never_notify: false,
    };
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
        truncated: false,
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
        by: crate::case::By::Site,
        mark: MarkAs::Header,
        facts: Default::default(),
        settings: Default::default(),
    }
}

const PERMITS: Permits = Permits { report: Ok(()), refuse: true };

fn rules(observe: bool) -> Rules {
    Rules { observe, hostname: "mx.home.example".into(), ..Rules::default() }
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
        (decision(Quarantine, false, false), "discard", vec![Owed::Record, Owed::Quarantine(vec![0, 1])]),
        (
            decision(Quarantine, false, true),
            "discard",
            [&[Owed::Record, Owed::Quarantine(vec![0, 1])], notices.as_slice()].concat(),
        ),
        (decision(Defer, false, false), "defer", vec![]),
    ];
    for (decision, word, owed) in table {
        let finding = found(KeyStatus::Invalid, Some(Why::Wrong));
        let reply = settle(&mail(1, &[]), &finding, std::slice::from_ref(&decision), &rules(false), &PERMITS);
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
        let reply = settle(&mail(1, &[]), &finding, &[decision(disposition, false, false)], &rules(true), &PERMITS);
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
        &PERMITS,
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
fn a_message_goes_to_those_who_want_it_and_the_others_are_struck_out() {
    let keep = Decision { recipients: vec![0], ..decision(Disposition::Accept, false, false) };
    let drop = Decision { recipients: vec![1], ..decision(Disposition::Reject, false, true) };
    let finding = found(KeyStatus::Invalid, Some(Why::Wrong));
    let reply = settle(&mail(0, &[]), &finding, &[keep, drop], &rules(false), &PERMITS);
    assert_eq!(shape(&reply), ("accept", vec![Owed::Record, Owed::Notice(1)]));
    assert_eq!(reply.removed, [1]);
}

#[test]
fn without_a_decision_the_message_is_deferred() {
    let reply = settle(&mail(0, &[]), &found(KeyStatus::Valid, None), &[], &rules(false), &PERMITS);
    assert_eq!(shape(&reply), ("defer", vec![]));
}

#[test]
fn mail_that_is_not_ours_to_judge_passes_untouched_and_ours_loses_its_mark() {
    let mail = mail(2, &[MARK_FIELD, STATUS_FIELD]);
    for direction in [Direction::Relay, Direction::Outbound] {
        let reply = settle(&mail, &Finding::Passing(direction), &[], &rules(false), &PERMITS);
        assert_eq!(
            reply,
            Reply { verdict: Verdict::Accept, edits: vec![], removed: vec![], redirected: vec![], owed: vec![] }
        );
    }
    let reply = settle(&mail, &Finding::Passing(Direction::Own), &[], &rules(false), &PERMITS);
    assert_eq!(reply.edits, [Edit::Delete { name: MARK_FIELD.into(), index: 1 }]);
}

#[test]
fn a_copy_that_could_never_be_sent_is_none_so_the_mta_keeps_the_message() {
    let bare = Recipient { path: b"<postmaster>".to_vec(), address: None, never_notify: false };
    let dotted = Recipient { path: b"<bob@home.example.>".to_vec(), address: None, never_notify: false };
    for (recipient, word) in [(bare, "hold"), (dotted, "accept")] {
        let mut mail = mail(0, &[]);
        mail.recipients[1] = recipient;
        let keep = Decision { recipients: vec![0], ..decision(Disposition::Accept, false, false) };
        let mark = Decision { recipients: vec![1], ..decision(Disposition::Mark, false, false) };
        let finding = found(KeyStatus::Invalid, Some(Why::Wrong));
        let reply = settle(&mail, &finding, &[keep, mark], &rules(false), &PERMITS);
        assert_eq!(shape(&reply).0, word, "{reply:?}");
    }
}
