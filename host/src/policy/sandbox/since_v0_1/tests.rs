//! No conversion between the versions loses a fact that the old one has, or makes a decision more lenient.

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::policy::sandbox::contract;

/// How severe a decision is; absent for a deferral, which stands beside all others.
fn severity(disposition: &str) -> Option<u8> {
    match disposition {
        "accept" => Some(0),
        "mark" => Some(1),
        "quarantine" => Some(2),
        "reject" => Some(3),
        "defer" => None,
        other => panic!("{other}"),
    }
}

fn word_of_old(disposition: old::Disposition) -> &'static str {
    match disposition {
        old::Disposition::Accept => "accept",
        old::Disposition::Mark => "mark",
        old::Disposition::Quarantine => "quarantine",
        old::Disposition::Reject => "reject",
        old::Disposition::Defer => "defer",
    }
}

fn word_of_new(disposition: newest::Disposition) -> &'static str {
    match disposition {
        newest::Disposition::Accept => "accept",
        newest::Disposition::Mark => "mark",
        newest::Disposition::Quarantine => "quarantine",
        newest::Disposition::Reject => "reject",
        newest::Disposition::Defer => "defer",
    }
}

#[test]
fn no_decision_becomes_more_lenient_and_a_deferral_stays_one() {
    use old::Disposition::{Accept, Defer, Mark, Quarantine, Reject};
    let told = [old::Notify::empty(), old::Notify::SENDER, old::Notify::RECIPIENT, old::Notify::all()];
    for disposition in [Accept, Mark, Quarantine, Reject, Defer] {
        for notify in told {
            let said = newest::Decision::from(Decision { disposition, notify, reason: "words".into() });
            let (before, after) = (severity(word_of_old(disposition)), severity(word_of_new(said.disposition)));
            assert_eq!(before.is_none(), after.is_none(), "{disposition:?}");
            assert!(after >= before, "{disposition:?} became {:?}", said.disposition);
            let kept = |old: bool, new: bool| assert_eq!(old, new, "{disposition:?} {notify:?}");
            kept(notify.contains(old::Notify::SENDER), said.notify.contains(newest::Notify::SENDER));
            kept(notify.contains(old::Notify::RECIPIENT), said.notify.contains(newest::Notify::RECIPIENT));
            assert_eq!(said.reason, "words");
        }
    }
}

#[test]
fn a_reason_is_the_same_word_in_both_versions_or_other() {
    for why in contract::Why::ALL {
        let (new, old) = (format!("{why:?}"), format!("{:?}", old::Why::from(*why)));
        assert!(old == new || old == "Why::Other", "{new} became {old}");
    }
    assert_eq!(old::Why::from(newest::Why::Other), old::Why::Other);
}

#[test]
fn every_flag_of_one_version_is_in_the_table_of_both() {
    assert_eq!(WANTS.iter().fold(old::Wants::empty(), |all, (word, _)| all | *word), old::Wants::all());
    let new = WANTS.iter().fold(newest::Wants::empty(), |all, (_, word)| all | *word);
    assert_eq!(new | newest::Wants::LAST_VALID, newest::Wants::all());
    assert_eq!(TRAIL.iter().fold(newest::Trail::empty(), |all, (word, _)| all | *word), newest::Trail::all());
    assert_eq!(TRAIL.iter().fold(old::Trail::empty(), |all, (_, word)| all | *word), old::Trail::all());
    assert_eq!(NOTIFY.iter().fold(old::Notify::empty(), |all, (word, _)| all | *word), old::Notify::all());
}

#[test]
fn a_policy_of_this_version_wants_the_same_facts_by_the_same_words_and_never_last_valid() {
    let wants = |wants| {
        let text = String::new;
        let headers = vec!["Subject".to_owned()];
        wanted(Description { name: text(), version: text(), summary: text(), wants, headers, settings: Vec::new() })
    };
    for (index, (word, _)) in WANTS.iter().enumerate() {
        // Both versions declare their flags in one order, so the words are told by their places.
        assert_eq!(wants(*word).facts.words(), [contract::Wants::WORDS[index].0]);
    }
    assert_eq!(
        wants(old::Wants::empty()),
        newest::Wanted { facts: newest::Wants::empty(), headers: vec!["Subject".into()] }
    );
    assert!(!wants(old::Wants::all()).has(newest::Wants::LAST_VALID));
}

fn trail() -> impl Strategy<Value = newest::Trail> {
    vec(select(TRAIL.map(|(word, _)| word).to_vec()), 0..5)
        .prop_map(|words| words.into_iter().fold(newest::Trail::empty(), |all, word| all | word))
}

fn address() -> impl Strategy<Value = newest::Address> {
    ("[a-z]{1,4}", "[a-z]{1,4}").prop_map(|(local, domain)| newest::Address { local, domain })
}

fn client() -> impl Strategy<Value = newest::Client> {
    ("[0-9.]{1,4}", of("[a-z]{1,4}"), "[a-z]{0,4}", any::<bool>()).prop_map(|(ip, name, helo, tls)| newest::Client {
        ip,
        name,
        helo,
        tls,
    })
}

fn mail_auth() -> impl Strategy<Value = newest::MailAuth> {
    let result = || select(contract::AuthResult::ALL);
    (result(), any::<bool>(), result(), any::<bool>(), result()).prop_map(
        |(spf, spf_aligned, dkim, dkim_aligned, dmarc)| newest::MailAuth {
            spf,
            spf_aligned,
            dkim,
            dkim_aligned,
            dmarc,
        },
    )
}

prop_compose! {
    fn facts()(
        (status, why, claim) in (select(contract::KeyStatus::ALL), of(select(contract::Why::ALL)), of(select(contract::Claim::ALL))),
        (sender, recipient, envelope_sender) in (of(address()), of(address()), of(address())),
        (client, size, trail, mail_auth) in (of(client()), of(any::<u64>()), of(trail()), of(mail_auth())),
        headers in vec(vec("[a-z]{0,4}", 0..3), 0..3),
    ) -> newest::Facts {
        newest::Facts {
            status, why, sender, recipient, envelope_sender, client, size, trail, mail_auth, claim, last_valid: None, headers,
        }
    }
}

proptest! {
    /// Both versions print their fields by the contract's names, so that a fact under another name is seen.
    #[test]
    fn an_old_policy_is_told_what_a_new_one_is_but_for_last_valid(facts in facts(), days in any::<u32>()) {
        let told = format!("{:?}", Facts::from(&facts));
        prop_assert_eq!(&told, &format!("{facts:?}").replacen(", last-valid: None", "", 1));
        prop_assert!(!told.contains("last-valid"));
        let remembered = newest::Facts { last_valid: Some(days), ..facts };
        prop_assert_eq!(told, format!("{:?}", Facts::from(&remembered)));
    }
}

#[test]
fn settings_keep_their_types_and_values() {
    let values = [
        (newest::Value::Text("x".into()), Value::Text("x".into())),
        (newest::Value::Number(-1), Value::Number(-1)),
        (newest::Value::Flag(true), Value::Flag(true)),
        (newest::Value::Texts(vec!["x".into()]), Value::Texts(vec!["x".into()])),
    ];
    for (new, expected) in values {
        assert_eq!(Value::from(&new), expected);
    }
    let kinds = [
        (old::Kind::Text(Some("x".into())), newest::Kind::Text(Some("x".into()))),
        (old::Kind::Number(None), newest::Kind::Number(None)),
        (old::Kind::Flag(Some(false)), newest::Kind::Flag(Some(false))),
        (old::Kind::Texts(None), newest::Kind::Texts(None)),
    ];
    for (kind, expected) in kinds {
        let setting = newest::Setting::from(old::Setting { name: "n".into(), summary: "s".into(), kind });
        assert_eq!(setting, newest::Setting { name: "n".into(), summary: "s".into(), kind: expected });
    }
}
