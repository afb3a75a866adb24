use proptest::prelude::*;

use super::*;

#[test]
fn a8_a_key_behind_a_line_of_junk_can_be_taken_out_and_nothing_else() {
    let key = "Vb3kQ9w2Zr7tYp0sXn4mLc8dHf1gJa6eUi5oRk2yTq9wEz3xBv7nMs4pDl8hGj0K";
    let body = format!(
        "junk\r\nX-Auth-Key: {key}\r\nx-auth-key:\r\n {key}\r\nX-Auth-Key: of words\r\n\r\nX-Auth-Key: {key}\r\n"
    );
    let stripped = strip_hidden(body.as_bytes(), &[KEY_FIELD]);
    let want = format!("junk\r\nX-Auth-Key: of words\r\n\r\nX-Auth-Key: {key}\r\n");
    assert_eq!(String::from_utf8(stripped).unwrap(), want);
    for plain in [&b""[..], b"\r\n", b"hello\nworld", b"a\r\n b\r\n\r\nc"] {
        assert_eq!(strip_hidden(plain, &[KEY_FIELD, NEW_KEY_FIELD]), plain);
    }
}
use crate::proto::key::AuthKey;

const NAME: &str = "X-Auth-Key";
const WIDE: Bounds = Bounds { fields: 1_000, octets: 1024 * 1024 };

/// The ways to spell a key field that have got past one reader or another (INVARIANTS §5, A1 to A7).
fn spellings() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("X-Auth-Key", b" Vb3kQ9w2Zr7tYp0sXn4mLc8d".to_vec()),
        ("x-auth-key", b" k".to_vec()),
        ("X-AUTH-KEY", b"k".to_vec()),
        ("X-Auth-Key ", b" k".to_vec()),
        ("X-Auth-Key \t ", b"\tk".to_vec()),
        ("X-Auth-Key", b"\n k".to_vec()),
        ("X-Auth-Key", b" k\r\n\tk\n k".to_vec()),
        ("X-Auth-Key", b" k\n \n\t\n k".to_vec()),
        ("X-Auth-Key", b"".to_vec()),
        ("X-Auth-Key", b" \xe4\xff\x80".to_vec()),
        ("X-Auth-Key", b" k\0k\rX-Auth-Key: k\r".to_vec()),
        ("X-Auth-Key", [b" ".to_vec(), vec![b'k'; 200 * 1024]].concat()),
    ]
}

fn names(message: &[u8]) -> Vec<String> {
    let block = scan(message, WIDE);
    block.fields.iter().map(|f| String::from_utf8_lossy(&message[f.name.clone()]).into_owned()).collect()
}

/// Asserts that every spelling of the field disappears again, at the top, below the first field and at the end.
fn assert_all_spellings_vanish(message: &[u8]) {
    let plain = strip(message, &[NAME], WIDE).unwrap();
    for (name, value) in spellings() {
        for position in [0, 1, usize::MAX] {
            let folded_top = matches!(message.first(), Some(b' ' | b'\t'));
            match inject(message, position, name, &value) {
                Ok(injected) => {
                    assert!(injected.len() > message.len());
                    assert!(names(&injected).iter().any(|n| n.eq_ignore_ascii_case(NAME)));
                    let length = value.len();
                    assert!(strip(&injected, &[NAME], WIDE).unwrap() == plain, "{name:?} {length} at {position}");
                }
                Err(error) => assert!(error == BadField::Place && folded_top, "{error}"),
            }
        }
    }
}

#[test]
fn a1_to_a7_no_spelling_of_a_key_field_survives() {
    for message in [
        "From: a@one.test\r\nSubject: x\r\n\r\nbody\r\n",
        "From: a@one.test\nSubject: x\n folded\n\t\n\nbody\n",
        "X-Auth-Key: a\r\nX-Auth-Key: b\r\nTo: c\r\nx-auth-key : d\r\n\r\nX-Auth-Key: in the body\r\n",
        "\r\nbody",
        "",
        "To: c",
        "To: c\r\nTo: d",
        "junk\r\nX-Auth-Key: k\r\n",
        " folded\r\nTo: c\r\n\r\n",
    ] {
        assert_all_spellings_vanish(message.as_bytes());
    }
}

/// Messages, and what is left of each without its key fields: the scanner of haraka-plugin-addrauth is tried on them too.
const VECTORS: &str = include_str!("../../../../tests/cases/strip.json");

#[test]
fn a_message_is_stripped_as_the_vectors_say_that_the_plugin_of_haraka_keeps_too() {
    let file: serde_json::Value = serde_json::from_str(VECTORS).unwrap();
    let vectors = file["vectors"].as_array().unwrap();
    assert!(vectors.len() > 50);
    for vector in vectors {
        // Each character is one octet.
        let octets = |member: &str| -> Vec<u8> {
            vector[member].as_str().unwrap().chars().map(|octet| u8::try_from(u32::from(octet)).unwrap()).collect()
        };
        let stripped = strip(&octets("message"), &[NAME], WIDE).unwrap();
        assert_eq!(stripped, octets("stripped"), "{}", vector["what"]);
    }
}

#[test]
fn a8_a_key_below_a_line_of_junk_is_not_in_the_block_but_seen() {
    let message = b"From: a@one.test\r\nthis is junk\r\nX-Auth-Key: k\r\n\r\nbody";
    let block = scan(message, WIDE);
    assert_eq!((block.fields.len(), block.ending), (1, Ending::Junk));
    assert!(hides_field(&message[block.end..], NAME));
    let key = "k".repeat(22);
    let after_junk = |line: &str| hides_key(format!("junk\r\n{line}\r\nmore\r\n").as_bytes(), NAME);
    assert!(after_junk(&format!("x-auth-KEY : {key}")) && after_junk(&format!("X-Auth-Key:\r\n {key}")));
    assert!(!after_junk("X-Auth-Key: is what the field is called") && !after_junk(&format!("\r\nX-Auth-Key: {key}")));
    assert!(hides_field(b"junk\nx-auth-key \t: k", NAME));
    assert!(hides_field(b"junk\rX-Auth-Key: k", NAME));
    assert!(hides_field(b" value of another field\rX-AUTH-KEY:", NAME));
    assert!(!hides_field(b"\r\nX-Auth-Key: k", NAME));
    assert!(!hides_field(b"text\r\n\r\nX-Auth-Key: k", NAME));
    assert!(!hides_field(b"text X-Auth-Key: k\r\n X-Auth-Key: k\r\nX-Auth-Keys: k", NAME));
}

#[test]
fn a9_nested_parts_are_left_alone() {
    let message =
        b"To: c\r\nX-Auth-Key: k\r\n\r\n--b\r\nContent-Type: message/rfc822\r\n\r\nX-Auth-Key: n\r\n\r\n--b--\r\n";
    let stripped = strip(message, &[NAME], WIDE).unwrap();
    assert_eq!(stripped, [&message[..7], &message[22..]].concat());
}

#[test]
fn a10_the_field_after_a_date_in_zulu_time_is_seen() {
    let message = b"Date: Sat, 21 Nov 2026 20:00:00 Z\r\nX-Auth-Key: k\r\n\r\n";
    assert_eq!(names(message), ["Date", "X-Auth-Key"]);
    assert_eq!(strip(message, &[NAME], WIDE).unwrap(), b"Date: Sat, 21 Nov 2026 20:00:00 Z\r\n\r\n");
}

#[test]
fn spans_name_their_octets() {
    let message = b"A b\r\n";
    assert_eq!(scan(message, WIDE), Block { fields: vec![], end: 0, ending: Ending::Junk });
    let message = b"A \t: b\r\n c\r\n\r\n";
    let Block { fields, end, ending } = scan(message, WIDE);
    let [field] = fields.as_slice() else { panic!("{fields:?}") };
    assert_eq!(&message[field.name.clone()], b"A");
    assert_eq!(&message[field.value.clone()], b" b\r\n c");
    assert_eq!((field.whole.clone(), end, ending), (0..12, 12, Ending::Blank));
}

#[test]
fn only_the_grammar_begins_a_field() {
    for (line, field) in [
        ("A:", true),
        ("A:b", true),
        ("~!#: b", true),
        ("From a@one.test: x", false),
        (":", false),
        (" A: b", false),
        ("A\x7f: b", false),
        ("\u{c4}: b", false),
        ("A\0: b", false),
        ("A", false),
        ("A ", false),
        ("A\r: b", false),
    ] {
        let found = scan(line.as_bytes(), WIDE).fields.len() == 1;
        assert_eq!(found, field, "{line:?}");
    }
}

#[test]
fn f5_a_block_over_its_bounds_is_not_half_read() {
    let message = b"A: 1\r\nX-Auth-Key: 2\r\nB: 3\r\n\r\n";
    let strip = |fields, octets| strip(message, &[NAME], Bounds { fields, octets });
    assert!(strip(3, 27).is_ok());
    assert!(strip(2, 27).is_err());
    assert!(strip(3, 26).is_err());
    assert_eq!(scan(message, Bounds { fields: 0, octets: 0 }).ending, Ending::Bound);
    let many = b"a:\n".repeat(200_000);
    let block = scan(&many, WIDE);
    assert_eq!((block.fields.len(), block.ending), (WIDE.fields, Ending::Bound));
}

#[test]
fn a_field_that_would_change_others_is_refused() {
    for name in ["", "A:", "A b", " A", "\u{c4}", "A\r\nB"] {
        assert_eq!(inject(b"To: c\r\n", 0, name, b" x"), Err(BadField::Name), "{name:?}");
    }
    for value in ["a\nb", "\n", "a\r\n", "a\n\n b"] {
        assert_eq!(inject(b"To: c\r\n", 0, "A", value.as_bytes()), Err(BadField::Value), "{value:?}");
    }
    assert_eq!(inject(b"To: c\n", 0, "A", b" x\r\n y").unwrap(), b"A: x\n y\nTo: c\n");
    assert_eq!(inject(b"To: c\r\nTo: d\r\n", 1, "A", b" x").unwrap(), b"To: c\r\nA: x\r\nTo: d\r\n");
}

#[test]
fn a_key_is_read_with_folds_around_it_but_none_inside() {
    let key = "Vb3kQ9w2Zr7tYp0sXn4mLc8d";
    let whole = |text: &str| AuthKey::parse(key_value(text.as_bytes())).is_ok();
    for around in [format!(" {key}"), format!("\r\n\t {key} \r\n"), format!("\n \n {key}\n \n"), key.to_owned()] {
        assert!(whole(&around));
    }
    let (left, right) = key.split_at(12);
    for inside in ["\r\n ", "\n\t", " ", "\r", "\0"] {
        assert!(!whole(&format!(" {left}{inside}{right}")));
    }
    assert!(!whole(&format!("\r{key}")));
    assert_eq!(key_value(b" \r\n\t\n "), b"");
}

/// Which fields an MTA keeps when it counts as milter's `SMFIR_CHGHEADER` is understood: among those that are left, or
/// among those it had.
fn deleted_by_a_model(names: &[String], edits: &[Edit], among_the_left: bool) -> Vec<String> {
    let mut fields: Vec<(usize, &String)> = names.iter().enumerate().collect();
    for edit in edits {
        let Edit::Delete { name, index } = edit else { panic!("no deletion") };
        let counted: Vec<usize> = if among_the_left {
            fields.iter().filter(|f| f.1.trim_end().eq_ignore_ascii_case(name)).map(|f| f.0).collect()
        } else {
            (0..names.len()).filter(|&n| names[n].trim_end().eq_ignore_ascii_case(name)).collect()
        };
        let doomed = counted[*index as usize - 1];
        fields.retain(|f| f.0 != doomed);
    }
    fields.into_iter().map(|f| f.1.clone()).collect()
}

#[test]
fn deleting_from_the_highest_index_down_leaves_no_key() {
    let names =
        ["X-Auth-Key", "To", "x-auth-key ", "X-AUTH-KEY", "X-Auth-Key-Status", "X-Auth-Key\t"].map(String::from);
    let edits = deletions(names.iter().map(String::as_str), |_, name| name.eq_ignore_ascii_case(NAME));
    assert_eq!(edits.len(), 4);
    for among_the_left in [true, false] {
        assert_eq!(deleted_by_a_model(&names, &edits, among_the_left), ["To", "X-Auth-Key-Status"]);
    }
}

proptest! {
    #[test]
    fn deletions_mean_the_same_to_every_mta(picks in prop::collection::vec((0..4_usize, any::<bool>()), 0..40)) {
        let spelled = ["X-Auth-Key", "x-auth-KEY ", "Received", "RECEIVED"];
        let names: Vec<String> = picks.iter().map(|pick| spelled[pick.0].to_owned()).collect();
        let edits = deletions(names.iter().map(String::as_str), |position, _| picks[position].1);
        let kept: Vec<String> = picks.iter().filter(|p| !p.1).map(|p| spelled[p.0].to_owned()).collect();
        prop_assert_eq!(&deleted_by_a_model(&names, &edits, true), &kept);
        prop_assert_eq!(&deleted_by_a_model(&names, &edits, false), &kept);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_was_injected_is_stripped_and_nothing_else(
        lines in prop::collection::vec("(A|To|X-Auth-Key|x-auth-key |Subject|)[: \t]?[ -~\u{e9}\r\0]{0,8}", 0..8),
        crlf: bool, ended: bool, body in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let ending = if crlf { "\r\n" } else { "\n" };
        let mut message = lines.join(ending).into_bytes();
        if ended {
            message.extend_from_slice(ending.as_bytes());
            message.extend_from_slice(&body);
        }
        assert_all_spellings_vanish(&message);
    }

    #[test]
    fn no_octets_upset_the_scanner(message in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(b"aX: \t\r\n".to_vec())], 0..200), fields in 0..9_usize, octets in 0..200_usize) {
        let block = scan(&message, Bounds { fields, octets });
        let mut at = 0;
        for field in &block.fields {
            prop_assert_eq!(field.whole.start, at);
            prop_assert!(field.name.end < field.value.start && field.value.end <= field.whole.end);
            at = field.whole.end;
        }
        prop_assert_eq!(block.end, at);
        prop_assert!(at <= octets.min(message.len()) && block.fields.len() <= fields);
        let _ = (hides_field(&message, NAME), key_value(&message));
    }
}
