//! Two domains with all of their hosts: keys are made, mailed, learned, stamped, verified and replaced, behind real Postfixes.
//! Where `ADDRAUTH_LIVE` is not set, each test says that it is skipped.

use addrauth_tests::estate::{Estate, Role, Settings};

/// A message; `lines` are further fields, each with its CRLF.
fn message(from: &str, subject: &str, lines: &str) -> String {
    format!(
        "{lines}From: {from}\r\nTo: somebody\r\nSubject: {subject}\r\nMessage-ID: <{subject}@client.test>\r\n\r\nhello\r\n"
    )
}

/// The value of the one status field of a delivered message, after its word is known to be this one.
#[track_caller]
fn assert_status(text: &str, word: &str) -> String {
    let head = text.split("\n\n").next().unwrap();
    let fields: Vec<&str> = head.lines().filter_map(|line| line.strip_prefix("X-Auth-Key-Status: ")).collect();
    let [field] = fields[..] else { panic!("not one status field:\n{text}") };
    assert_eq!(field.split(';').next(), Some(word), "{text}");
    assert!(
        !lower(head).contains("x-auth-key:") && !lower(head).contains("x-new-auth-key"),
        "a key field is left:\n{text}"
    );
    field.to_owned()
}

fn lower(text: &str) -> String {
    text.to_ascii_lowercase()
}

#[test]
fn before_the_first_key_is_made_all_mail_flows_and_each_recipient_is_told_the_truth() {
    let Some(estate) = Estate::start(Settings::default()) else { return };
    let alice = "alice@one.test";
    let to = ["bob@two.test", "carol@one.test", "friend@fwd.test"];
    for (at, to) in to.iter().enumerate() {
        let reply = estate.submit(alice, &[to], &message(alice, &format!("m{at}"), ""));
        assert_eq!(reply.code, 250, "{reply:?}");
    }
    assert_status(&estate.far.delivered("bob@two.test", "m0"), "NOKEY");
    assert_status(&estate.mx.delivered("carol@one.test", "m1"), "VALIDKEY");
    assert_status(&estate.far.delivered("bob@two.test", "m2"), "NOKEY");
    let stranger = message("zoe@else.test", "m3", "");
    assert_eq!(estate.to_mx("zoe@else.test", &[alice], &stranger).code, 250);
    assert_status(&estate.mx.delivered(alice, "m3"), "NOSERVER");
    let told = estate.wait_for("a row for each of bob's messages", || {
        let rows = String::from_utf8(estate.addrauth(Role::Far, &["--json", "journal", "list"]).stdout).unwrap();
        (rows.matches("alice@one.test").count() >= 2).then_some(rows)
    });
    assert!(!told.contains("VALIDKEY"), "{told}");
}
