//! Every way in which decisions become a reply.

use std::time::SystemTime;

use super::outward::agent;
use super::*;
use crate::case::{
    Envelope, Field, Head, KeyStatus, Limited, MarkAs, NotStamped, Notify, Postponed, Recipient, Redirect, ReversePath,
    Stamp, Why,
};
use crate::proto::address::Address;
use crate::proto::header::AGENT_FIELD;

mod every;
mod means;
mod untold;

fn mail(keys: usize, fields: &[&str]) -> Mail {
    let recipient = |name: &str| Recipient::new(format!("<{name}@home.example>"));
    Mail::new(
        Envelope {
            queue_id: Some("4F1".into()),
            recipients: vec![recipient("bob"), recipient("carol")],
            ..Envelope::default()
        },
        Head {
            fields: fields.iter().map(|name| Field { name: (*name).into(), value: b" x".to_vec() }).collect(),
            keys: vec![None; keys],
            ..Head::default()
        },
    )
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
        passed_over: None,
        rules_unread: None,
        shadow: None,
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
fn a_user_is_told_of_rules_that_cannot_be_read_whenever_the_message_is_taken() {
    let finding = found(KeyStatus::Invalid, Some(Why::Wrong));
    use Disposition::{Accept, Defer, Mark, Quarantine, Reject};
    for disposition in [Accept, Mark, Quarantine, Reject, Defer] {
        for (sender, recipient, observe) in
            [(false, false, false), (true, false, false), (false, true, false), (false, false, true)]
        {
            let plain = decision(disposition, sender, recipient);
            let unread = Decision { rules_unread: Some("line 1, column 2: x".into()), ..plain.clone() };
            let owed = |decision| settle(&mail(1, &[]), &finding, &[decision], &rules(observe), &PERMITS).owed;
            let told = disposition != Defer && !observe;
            let letters = if told { vec![Owed::RulesUnread(0), Owed::RulesUnread(1)] } else { vec![] };
            assert_eq!(owed(unread), [owed(plain), letters].concat(), "{disposition:?} {observe}");
        }
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
            Edit::InsertKey { .. } => "+0 X-Auth-Key".into(),
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
    let reply = settle(&mail, &Finding::Passing(Direction::Relay), &[], &rules(false), &PERMITS);
    assert_eq!(reply, Reply::bare(Verdict::Accept));
    let reply = settle(&mail, &Finding::Passing(Direction::Own), &[], &rules(false), &PERMITS);
    assert_eq!(reply.edits, [Edit::Delete { name: MARK_FIELD.into(), index: 1 }]);
}

#[test]
fn a_copy_that_could_never_be_sent_is_none_so_the_mta_keeps_the_message() {
    let bare = Recipient::new(b"<postmaster>");
    let dotted = Recipient::new(b"<bob@home.example.>");
    for (recipient, word) in [(bare, "hold"), (dotted, "accept")] {
        let mail = mail(0, &[]).altered(|envelope, _| envelope.recipients[1] = recipient);
        let keep = Decision { recipients: vec![0], ..decision(Disposition::Accept, false, false) };
        let mark = Decision { recipients: vec![1], ..decision(Disposition::Mark, false, false) };
        let finding = found(KeyStatus::Invalid, Some(Why::Wrong));
        let reply = settle(&mail, &finding, &[keep, mark], &rules(false), &PERMITS);
        assert_eq!(shape(&reply).0, word, "{reply:?}");
    }
}

fn proven(learned: Option<Learned>) -> Finding {
    let key = AuthKey::parse(&[b'k'; 64]).unwrap();
    let address = Address::parse(b"bob@home.example", false).unwrap();
    let proven = Proven { address, key, ends: SystemTime::UNIX_EPOCH, authority: None, learned };
    let Finding::Found(found) = found(KeyStatus::Missing, None) else { panic!("examined") };
    Finding::Found(Found { new_key: Some(NewKey::Proven(proven)), ..found })
}

#[test]
fn a_key_mail_ends_here_in_phase_one_and_is_delivered_in_phase_two_with_a_key_that_still_counts() {
    use crate::case::Learned::{Known, Newest, Shorter, Superseded};
    let mail = mail(1, &["From"]).altered(|_, head| head.new_keys = vec![None]);
    let deletes = |reply: &Reply, field: &str| {
        reply.edits.iter().any(|edit| matches!(edit, Edit::Delete { name, .. } if name == field))
    };
    for learned in [None, Some(Newest), Some(Known), Some(Superseded), Some(Shorter)] {
        let current = matches!(learned, None | Some(Newest | Known));
        let settled = |rules: &Rules| settle(&mail, &proven(learned), &[], rules, &PERMITS);
        assert_eq!(shape(&settled(&rules(false))), ("discard", vec![Owed::Record]));
        let delivered = settled(&Rules { deliver_key_mail: true, ..rules(false) });
        assert_eq!(shape(&delivered), ("accept", vec![]));
        assert!(deletes(&delivered, KEY_FIELD));
        assert_eq!(deletes(&delivered, NEW_KEY_FIELD), !current, "{learned:?}");
        let observed = settled(&rules(true));
        assert_eq!(shape(&observed), ("accept", vec![]));
        assert!(deletes(&observed, NEW_KEY_FIELD), "nothing but taken off");
    }
}

#[test]
fn every_new_key_is_taken_off_what_is_examined_and_off_nothing_else() {
    let mail = mail(0, &["From"]).altered(|_, head| head.new_keys = vec![None, None]);
    let accept = decision(Disposition::Accept, false, false);
    let new_keys = |finding: &Finding| -> Vec<u32> {
        let reply = settle(&mail, finding, std::slice::from_ref(&accept), &rules(false), &PERMITS);
        let index = |edit: &Edit| match edit {
            Edit::Delete { name, index } if name == NEW_KEY_FIELD => Some(*index),
            _ => None,
        };
        reply.edits.iter().filter_map(index).collect()
    };
    assert_eq!(new_keys(&found(KeyStatus::Valid, None)), [2, 1]);
    assert_eq!(new_keys(&Finding::Passing(Direction::Examined)), [2, 1]);
    for direction in [Direction::Outbound, Direction::Relay] {
        assert!(new_keys(&Finding::Passing(direction)).is_empty());
    }
}

#[test]
fn c3_a_login_brings_no_new_keys_to_anybody() {
    let new_keys = |login: Option<&str>, finding: &Finding| {
        let mail = mail(1, &["From"]).altered(|envelope, head| {
            envelope.login = login.map(str::to_owned);
            head.new_keys = vec![None, None];
        });
        let reply = settle(&mail, finding, &[], &rules(false), &PERMITS);
        reply.edits.iter().filter(|edit| matches!(edit, Edit::Delete { name, .. } if name == NEW_KEY_FIELD)).count()
    };
    let submitted = |stamp| Finding::Submitted(Submitted { sender: None, stamp, inside: None });
    for finding in [
        Finding::Passing(Direction::Outbound),
        submitted(Stamp::Client),
        submitted(Stamp::Bare(NotStamped::List)),
        submitted(Stamp::Newest(AuthKey::parse(&[b'k'; 64]).unwrap())),
    ] {
        assert_eq!(new_keys(Some("mallory"), &finding), 2, "{finding:?}");
        assert_eq!(new_keys(None, &finding), 0, "a host of ours, such as the AS's own");
    }
}

#[test]
fn a_stamp_stands_on_top_and_takes_the_place_of_what_was_there() {
    let submitted = |stamp| Finding::Submitted(Submitted { sender: None, stamp, inside: None });
    let settled = |stamp| {
        let reply = settle(&mail(2, &["From"]), &submitted(stamp), &[], &rules(false), &PERMITS);
        assert_eq!(shape(&reply), ("accept", vec![]));
        reply.edits
    };
    let key = AuthKey::parse(&[b'k'; 64]).unwrap();
    let delete = |index| Edit::Delete { name: KEY_FIELD.into(), index };
    let agent = |value: &str| Edit::Insert { index: 0, name: AGENT_FIELD.into(), value: value.into() };
    let own = format!(" SMTP - addrauth {}", env!("CARGO_PKG_VERSION").rsplit_once('.').unwrap().0);
    assert_eq!(
        settled(Stamp::Newest(key.clone())),
        [delete(2), delete(1), agent(&own), Edit::InsertKey { key }],
        "the key is inserted last, and so on top"
    );
    assert_eq!(settled(Stamp::Bare(NotStamped::NotOwner)), [delete(2), delete(1)]);
    for stamp in [Stamp::Client, Stamp::Bare(NotStamped::Forwarded), Stamp::Bare(NotStamped::OtherPath)] {
        assert!(settled(stamp).is_empty());
    }
}

#[test]
fn what_goes_out_says_of_its_key_what_we_say_and_nothing_else() {
    let key = AuthKey::parse(&[b'k'; 64]).unwrap();
    let result = |value: &str| Field { name: RESULTS_FIELD.into(), value: format!(" {value}").into_bytes() };
    let results = [result("home.example; x-auth-key=pass"), result("other.example; spf=pass")];
    let mail = mail(1, &["From", STATUS_FIELD, "x-auth-key-status"]).altered(|_, head| head.fields.extend(results));
    let forged = [(STATUS_FIELD, 2), (STATUS_FIELD, 1), (RESULTS_FIELD, 1)];
    let forged = forged.map(|(name, index)| Edit::Delete { name: name.into(), index });
    let rules = Rules { authentication_results: true, ..rules(false) };
    let settled = |finding: &Finding| settle(&mail, finding, &[], &rules, &PERMITS).edits;
    assert_eq!(settled(&Finding::Passing(Direction::Outbound)), forged);

    let submitted = |stamp, inside| Finding::Submitted(Submitted { sender: None, stamp, inside });
    assert_eq!(settled(&submitted(Stamp::Client, None)), forged);
    let key_gone = Edit::Delete { name: KEY_FIELD.into(), index: 1 };
    let edits = settled(&submitted(Stamp::Bare(NotStamped::NotOwner), None));
    assert_eq!((&edits[..3], &edits[3..]), (&forged[..], &[key_gone.clone()][..]));
    let edits = settled(&submitted(Stamp::Newest(key.clone()), None));
    assert_eq!((&edits[..3], &edits[3]), (&forged[..], &key_gone));
    let words = |edit: &Edit| matches!(edit, Edit::Insert { name, .. } if name != AGENT_FIELD);
    assert!(!edits.iter().any(words), "no word of ours about the key goes out");
    assert_eq!(edits.last(), Some(&Edit::InsertKey { key }), "the key stays on top");
}

#[test]
fn the_agent_names_the_mta_and_its_version_and_nothing_that_could_end_a_field() {
    let own = agent("");
    for (mta, said) in [
        ("Postfix 3.7.11", "SMTP - postfix 3.7"),
        ("Postfix 3.9-20240101", "SMTP - postfix 3.9"),
        ("My Own Mailer 10.2", "SMTP - myownmailer 10.2"),
        ("Postfix", &own),
        ("8.17.1", &own),
        ("Postfix x.y", &own),
        ("Postfix 3", &own),
        ("\u{e9} 1.2", &own),
        ("P\r\nX: y 1.2", "SMTP - pxy 1.2"),
    ] {
        assert_eq!(agent(mta), said, "{mta:?}");
    }
}

#[test]
fn what_cannot_be_judged_now_comes_again() {
    let limited = |by| Postponed::Limited { domain: "sender.example".into(), by };
    for postponed in [
        Postponed::Owners("x".into()),
        Postponed::Keyring("x".into()),
        Postponed::NewKey(Why::Timeout),
        limited(Limited::Here),
        limited(Limited::There),
    ] {
        for observe in [false, true] {
            let reply = settle(&mail(1, &[]), &Finding::Postponed(postponed.clone()), &[], &rules(observe), &PERMITS);
            let Verdict::Defer(refusal) = &reply.verdict else { panic!("{reply:?}") };
            assert!(refusal.code == 451 && reply.edits.is_empty() && reply.owed.is_empty());
        }
    }
}

/// A reply to a message for bob, whose path is this, and carol, with these dispositions.
fn mixed(path: &str, [bob, carol]: [Disposition; 2]) -> Reply {
    let bob_by = Recipient::by_mta(path, b"bob@home.example");
    let mail = mail(1, &[]).altered(|envelope, _| envelope.recipients[0] = bob_by);
    let decided = |index, disposition| Decision { recipients: vec![index], ..decision(disposition, false, false) };
    let finding = found(KeyStatus::Invalid, Some(Why::Wrong));
    settle(&mail, &finding, &[decided(0, bob), decided(1, carol)], &rules(false), &PERMITS)
}

/// Paths that Postfix 3.7.11 (measured) takes for bob@home.example and does not strike out by their own octets.
const STAYS: [&str; 5] = [
    "<@x.test:bob@home.example>",
    "<@x.test,@y.test:bob@home.example>",
    "<<bob@home.example>>",
    "<bob:bob@home.example;>",
    "bob@home.example",
];

#[test]
fn where_somebody_may_not_be_struck_out_for_certain_all_get_copies_and_nobody_is_struck_out() {
    use Disposition::{Accept, Mark, Quarantine, Reject};
    for path in STAYS {
        for (wishes, owed) in [
            ([Quarantine, Accept], vec![Owed::Record, Owed::Quarantine(vec![0]), Owed::Apart(vec![1])]),
            ([Reject, Accept], vec![Owed::Record, Owed::Apart(vec![1])]),
            ([Mark, Accept], vec![Owed::Record, Owed::Copy(vec![0]), Owed::Apart(vec![1])]),
        ] {
            let reply = mixed(path, wishes);
            assert_eq!((reply.verdict, reply.removed, reply.edits), (Verdict::Discard, vec![], vec![]), "{path}");
            assert_eq!(reply.owed, owed, "{path}");
        }
        // He himself is struck out of nothing here: carol is, and that is certain.
        let reply = mixed(path, [Accept, Quarantine]);
        assert_eq!((reply.verdict, reply.removed), (Verdict::Accept, vec![1]), "{path}");
        let reply = mixed(path, [Reject, Reject]);
        assert_eq!(
            (reply.verdict, reply.owed),
            (Verdict::Discard, vec![Owed::Record]),
            "{path}: no deletion is needed"
        );
    }
    for path in ["<bob@home.example>", "<BOB@home.example.>", "<\"bob\" (c) @home.example>", "<bob%home.example>"] {
        let reply = mixed(path, [Quarantine, Accept]);
        assert_eq!((reply.verdict, reply.removed), (Verdict::Accept, vec![0]), "{path}");
    }
}

#[test]
fn the_spam_folder_of_one_who_may_not_be_struck_out_gets_a_copy() {
    let only = vec![Recipient::new("<@x.test:bob@home.example>")];
    let mail = mail(1, &[]).altered(|envelope, _| envelope.recipients = only);
    let mark = Decision { recipients: vec![0], mark: MarkAs::Folder, ..decision(Disposition::Mark, false, false) };
    let rules = Rules { spam_folder: "+Junk".into(), ..rules(false) };
    let finding = found(KeyStatus::Invalid, Some(Why::Wrong));
    let reply = settle(&mail, &finding, &[mark], &rules, &PERMITS);
    let to = Address::parse(b"bob+Junk@home.example", false).unwrap();
    let owed = vec![Owed::Record, Owed::Folder(vec![Redirect { recipient: 0, to }])];
    assert_eq!((reply.verdict, reply.redirected, reply.owed), (Verdict::Discard, vec![], owed));
}

/// Postfix counts a path that is deleted and added as one that it has had.
#[test]
fn a_spam_folder_whose_path_is_struck_out_as_another_recipient_gets_a_copy() {
    use Disposition::{Accept, Mark, Quarantine, Reject};
    let rules = Rules { spam_folder: "+Junk".into(), ..rules(false) };
    let finding = found(KeyStatus::Invalid, Some(Why::Wrong));
    let to = |address: &str| Address::parse(address.as_bytes(), false).unwrap();
    let bob = Redirect { recipient: 0, to: to("bob+Junk@home.example") };
    let settled = |second: Recipient, disposition, truncated| {
        let all = vec![Recipient::new("<bob@home.example>"), second, Recipient::new("<dave@home.example>")];
        let mail = mail(1, &[]).altered(|envelope, head| (envelope.recipients, head.truncated) = (all, truncated));
        let decided = |index, disposition, mark| Decision {
            recipients: vec![index],
            mark,
            ..decision(disposition, false, false)
        };
        let decisions = [
            decided(0, Mark, MarkAs::Folder),
            decided(1, disposition, MarkAs::Header),
            decided(2, Accept, MarkAs::Header),
        ];
        settle(&mail, &finding, &decisions, &rules, &PERMITS)
    };
    let (junk, other) = ("<bob+Junk@home.example>", "<bob+junk@HOME.example>");
    for second in
        [Recipient::new(junk), Recipient::new(other), Recipient::by_mta("<x%home.example>", b"bob+Junk@home.example")]
    {
        for (disposition, owed) in [(Quarantine, Some(Owed::Quarantine(vec![1]))), (Reject, None)] {
            let reply = settled(second.clone(), disposition, false);
            assert_eq!((&reply.verdict, &reply.removed, &reply.redirected), (&Verdict::Accept, &vec![0, 1], &vec![]));
            let owed = [Some(Owed::Record), owed, Some(Owed::Folder(vec![bob.clone()]))];
            assert_eq!(reply.owed, owed.into_iter().flatten().collect::<Vec<_>>());
        }
        // Who stays clashes with nobody.
        let reply = settled(second, Accept, false);
        assert_eq!((reply.verdict, reply.removed, reply.redirected), (Verdict::Accept, vec![], vec![bob.clone()]));
    }
    // One whose own path it is by its octets, and who is somebody else to the MTA.
    let reply = settled(Recipient::by_mta(junk, b"carol@home.example"), Reject, false);
    assert_eq!((reply.removed, reply.redirected), (vec![0, 1], vec![]));
    // Others' paths are no matter.
    let reply = settled(Recipient::new("<carol+Junk@home.example>"), Quarantine, false);
    assert_eq!((reply.removed, reply.redirected), (vec![1], vec![bob.clone()]));
    // A copy that cannot be made holds the message for somebody to look at.
    assert!(matches!(settled(Recipient::new(junk), Reject, true).verdict, Verdict::Hold(_)));
}

#[test]
fn a_message_that_goes_elsewhere_too_is_refused_where_somebody_here_may_not_be_struck_out() {
    for path in STAYS {
        let both = vec![Recipient::by_mta(path, b"bob@home.example"), Recipient::new("<x@elsewhere.example>")];
        let mail = mail(1, &[]).altered(|envelope, _| envelope.recipients = both);
        let Finding::Found(found) = found(KeyStatus::Invalid, Some(Why::Wrong)) else { panic!("examined") };
        let found = Found { elsewhere: vec![1], ..found };
        let kept = Decision { recipients: vec![0], ..decision(Disposition::Quarantine, false, false) };
        for finding in [
            Finding::Found(found.clone()),
            Finding::Submitted(Submitted { sender: None, stamp: Stamp::Client, inside: Some(found.clone()) }),
        ] {
            let reply = settle(&mail, &finding, std::slice::from_ref(&kept), &rules(false), &PERMITS);
            assert!(matches!(reply.verdict, Verdict::Reject(Refusal { code: 550, .. })), "{path} {reply:?}");
            assert!(reply.owed.is_empty() && reply.removed.is_empty(), "{path}");
        }
    }
}

#[test]
fn who_is_unclear_is_refused_for_good_and_no_address_is_named() {
    for observe in [false, true] {
        let reply = settle(&mail(1, &[]), &Finding::Unclear, &[], &rules(observe), &PERMITS);
        let Verdict::Reject(Refusal { code: 553, status: "5.1.3", text }) = &reply.verdict else { panic!("{reply:?}") };
        assert!(!text.contains("bob") && reply.owed.is_empty() && reply.edits.is_empty(), "{text}");
    }
}
