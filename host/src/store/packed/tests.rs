use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::case::WrittenCase;

const BESIDE: Beside<'_> =
    Beside { at: 1_795_966_860, queue_id: Some("4ZbX2k1mQz"), sender: Some("alice@sender.example") };

fn back(json: &str, beside: Beside<'_>) -> Option<String> {
    unpack(&pack_json(json, beside)?, beside)
}

/// The story of ordinary mail, as the filter writes it.
fn ordinary() -> Value {
    json!({
        "version": 2, "received": "2026-11-29T15:41:00.865Z", "queue_id": "4ZbX2k1mQz",
        "client": { "ip": "192.0.2.25", "name": "mail.sender.example", "helo": "mail.sender.example", "tls": true },
        "daemon": "smtpd", "login": null, "reverse_path": "<alice@sender.example>", "recipients": ["<bob@example.com>"],
        "size": 4096, "keys": 1,
        "finding": { "found": { "status": "valid", "why": null, "sender": "alice@sender.example", "claim": "all",
            "authority": "as.sender.example:4050 over TLS", "cached": true, "mail_auth": null } },
        "decisions": [{ "recipients": [0], "by": "site", "mark": "header", "policy": "accept",
            "digest": "3da7ffbad24604c86602cb1fac9305345ee9974bfdb5b264ac4b6c1a8f9e3b5b", "disposition": "accept",
            "notify": { "sender": false, "recipient": false }, "reason": "", "fault": null, "clamped": null,
            "facts": { "status": "valid" }, "settings": {} }],
        "reply": { "verdict": "accept", "added": ["X-Auth-Key-Status"], "removed": [], "redirected": [], "owed": [] }
    })
}

#[test]
fn ordinary_mail_takes_less_than_a_fifth_of_its_json_and_is_read_back_alike() {
    // The members in the order in which the filter writes them.
    let json = serde_json::to_string(&WrittenCase::read(&ordinary().to_string()).unwrap()).unwrap();
    let packed = pack_json(&json, BESIDE).unwrap();
    let told: Value = serde_json::from_str(&unpack(&packed, BESIDE).unwrap()).unwrap();
    assert_eq!(told, ordinary());
    assert!(packed.len() * 5 < json.len(), "{} of {}", packed.len(), json.len());
}

#[test]
fn a_candidate_beside_a_decision_takes_its_digest_and_a_few_octets_more() {
    let packed = |story: &Value| pack(&WrittenCase::read(&story.to_string()).unwrap(), BESIDE).unwrap();
    let mut shadowed = ordinary();
    shadowed["decisions"][0]["shadow"] = json!({
        "digest": "8d5e957f297a24604c86602cb1fac9305345ee9974bfdb5b264ac4b6c1a8f9e3", "settings": {},
        "decisions": [{ "disposition": "mark", "notify": { "sender": false, "recipient": false } }]
    });
    let octets = packed(&shadowed);
    let told: Value = serde_json::from_str(&unpack(&octets, BESIDE).unwrap()).unwrap();
    assert_eq!(told, shadowed);
    let more = octets.len() - packed(&ordinary()).len();
    assert!((33..=42).contains(&more), "{more}");
}

#[test]
fn an_address_stands_literally_in_the_row() {
    let packed = pack_json(&ordinary().to_string(), BESIDE).unwrap();
    let holds = |needle: &str| packed.windows(needle.len()).any(|some| some == needle.as_bytes());
    assert!(holds("<bob@example.com>") && !holds("alice@"), "the sender's is in the column");
    for word in WORDS.into_iter().chain(SHAPES.into_iter().flatten().copied()) {
        assert!(!word.contains('@'), "{word}");
    }
}

#[test]
fn texts_that_only_look_like_another_kind_stay_as_they_are() {
    for text in [
        "192.0.2.025",
        "1.2.3",
        "::ffff:192.0.2.1",
        "2001:DB8::1",
        "2001:db8::1",
        "::",
        "abc",
        "0",
        "2026-11-29T15:41:00.8650",
        "2026-11-29t15:41:00.865Z",
        "2026-02-30T15:41:00.865Z",
        "2026-11-29T15:41:00.865Z",
        "1969-12-31T23:59:59.000Z",
        "9999-12-31T23:59:59.999Z",
        "alice@sender.example",
        "<alice@sender.example>",
        "<>",
        "<<alice@sender.example>>",
        "4ZbX2k1mQz",
        "\u{0}\"\\\u{1f600}",
        "none",
        "None",
        &"a".repeat(64),
        &"A".repeat(64),
        &"g".repeat(64),
    ] {
        let json = Value::from(vec![text, text]).to_string();
        for beside in [BESIDE, Beside::default(), Beside { at: i64::MAX, ..BESIDE }] {
            assert_eq!(back(&json, beside).as_deref(), Some(json.as_str()), "{beside:?}");
        }
    }
}

#[test]
fn no_json_is_not_packed_and_no_octets_are_read_as_what_they_are_not() {
    for text in ["", "{", "[1,]", "{} {}", "nul", "1e999", "0.5", "-1", "bob@example.com"] {
        assert_eq!(pack_json(text, BESIDE), None, "{text}");
    }
    let packed = pack_json(&ordinary().to_string(), BESIDE).unwrap();
    for end in 0..packed.len() {
        assert_eq!(unpack(&packed[..end], BESIDE), None, "cut at {end}");
    }
    assert_eq!(unpack(&[packed, vec![NULL]].concat(), BESIDE), None);
    assert_eq!(unpack(&[LIST_OF_ONE].repeat(100_000), BESIDE), None, "nesting is bounded");
}

#[test]
fn a_message_to_a_thousand_recipients_is_packed_alike_too() {
    let mut story = ordinary();
    story["recipients"] = (0..1_000).map(|n| Value::from(format!("<r{n}@example.com>"))).collect();
    story["decisions"][0]["recipients"] = (0..1_000).collect();
    story["reply"]["removed"] = (0..1_000).rev().collect();
    let json = story.to_string();
    assert_eq!(back(&json, BESIDE).as_deref(), Some(json.as_str()));
}

/// What a case itself is packed to is what its JSON is packed to: members that stand within the name of a variant, and those that
/// are left out, too.
#[test]
fn a_case_is_packed_as_its_json_is() {
    let found = json!({ "status": "invalid", "why": "wrong", "sender": "alice@sender.example", "claim": "all", "authority": null,
        "cached": false, "mail_auth": null, "own_key": true, "elsewhere": [1, 2] });
    let proven = json!({ "proven": { "address": "bob@example.com", "fingerprint": "0a1b", "ends": "2026-12-29T15:41:00.000Z",
        "authority": "as.sender.example:4050", "learned": null } });
    let mut with_key = found.clone();
    with_key["new_key"] = proven;
    for finding in [
        json!({ "passing": "outbound" }),
        json!({ "found": found }),
        json!({ "found": with_key }),
        json!({ "submitted": { "sender": null, "stamp": { "newest": "0a1b" }, "inside": found } }),
        json!({ "submitted": { "sender": null, "stamp": "client" } }),
        json!({ "postponed": { "limited": { "domain": "sender.example", "by": "here" } } }),
        json!({ "postponed": { "owners": "no file" } }),
        json!("unclear"),
    ] {
        let mut story = ordinary();
        story["finding"] = finding.clone();
        story["reply"]["verdict"] = json!({ "reject": { "code": 550, "status": "5.7.1", "text": "no" } });
        story["decisions"][0]["settings"] = json!({ "days": -1, "words": ["a", "b"] });
        for days in [-1, 7] {
            story["decisions"][0]["settings"]["days"] = json!(days);
            let case = WrittenCase::read(&story.to_string()).unwrap_or_else(|e| panic!("{finding}: {e}"));
            let packed = pack(&case, BESIDE);
            assert_eq!(packed, pack_json(&serde_json::to_string(&case).unwrap(), BESIDE), "{finding}");
            assert_eq!(packed.is_some(), days > 0, "{finding}");
        }
    }
}

/// JSON of numbers from 0 on, with texts that the tables know among the others.
fn any_json() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        any::<String>(),
        (0..WORDS.len()).prop_map(|at| WORDS[at].to_owned()),
        "<?[a-z]{0,5}@sender\\.example>?",
        "[0-9a-f]{64}",
        "[0-9]{1,3}\\.[0-9]\\.[0-9]\\.[0-9]",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (0_u8..40).prop_map(Value::from),
        text.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((text.clone(), inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_story_is_read_back_alike(value in any_json(), at in any::<i64>()) {
        let (json, beside) = (value.to_string(), Beside { at, ..BESIDE });
        prop_assert_eq!(pack(&value, beside), pack_json(&json, beside));
        prop_assert_eq!(back(&json, beside), Some(json));
    }

    #[test]
    fn any_octets_are_read_or_refused(octets in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = unpack(&octets, BESIDE);
    }
}
