//! One message, several recipients who wish for different things, behind a real Postfix: what each mailbox, the journal and the
//! quarantine hold afterwards.

use std::time::Duration;

use addrauth_tests::daemon::Rig;
use addrauth_tests::postfix::{Bed, Door, Kind, as_sent, without};
use addrauth_tests::smtp::{self, Reply, Session};
use serde_json::Value;

/// A key inside the grammar that no AS has issued.
const WRONG: &str = "WRONGkeyWRONGkeyWRONGkeyWRONGkeyWRONGkeyWRONGkeyWRONGkeyWRONGkey";
const SENDER: &str = "sender@send.test";
/// Who wishes for what: bob accepts, carol wants silence, dave wants both told, erin's mail is kept back.
const FOUR: [(&str, &str); 4] =
    [("bob", "accept"), ("carol", "reject-silently"), ("dave", "reject-notify-both"), ("erin", "quarantine")];
/// What must arrive as it was sent: odd spacing, a fold, 8-bit octets, dot lines, a line that looks like a field.
const REST: &[u8] = b"Subject:  two  spaces,\r\n\ta fold\r\nX-Odd:\xe9t\xe9 \r\n\r\n.\r\n..two dots\r\n\
    X-Auth-Key: in the body it is text\r\ntrailing \t\r\n\xc3\xa9 \xff\r\n";

/// A rig with these lines below `[policy]`, and these policies for mail with a wrong key.
fn rig(bed: &Bed, policy: &str, wishes: &[(&str, &str)]) -> Rig {
    Rig::start_with_settings(bed, Kind::Inet, &[], |door| {
        let bind = |(user, id): &(&str, &str)| format!("[policy.recipient.\"{}\"]\n{id}\n", door.address(user));
        let wishes: String = wishes.iter().map(bind).collect();
        let top = format!("trusted_authserv_ids = [\"mx.{}\"]", door.domain);
        [top, format!("invalid = \"accept\"\nquarantine = \"store\"\n{policy}\n{wishes}")]
    })
}

/// The four of them.
fn four(bed: &Bed, policy: &str) -> Rig {
    let lines = FOUR.map(|(user, id)| (user, format!("invalid = {id:?}")));
    rig(bed, policy, &lines.each_ref().map(|(user, line)| (*user, line.as_str())))
}

/// The field by which a milter before ours says that SPF passed for the reverse-path.
fn spf_passed(door: &Door) -> String {
    format!("Authentication-Results: mx.{}; spf=pass smtp.mailfrom=send.test\r\n", door.domain)
}

/// A message of SENDER's with these lines on top, and the same as it is to arrive: without its key.
fn message(lines: &str) -> [Vec<u8>; 2] {
    let from = format!("From: {SENDER}\r\n");
    let whole = [lines.as_bytes(), format!("X-Auth-Key: {WRONG}\r\n").as_bytes(), from.as_bytes(), REST].concat();
    let mut left = [lines.as_bytes(), from.as_bytes(), REST].concat();
    left.retain(|&octet| octet != b'\r');
    [whole, left]
}

fn send(door: &Door, from: &str, users: &[&str], octets: &[u8]) -> Reply {
    let to: Vec<String> = users.iter().map(|user| door.address(user)).collect();
    smtp::send(door.port, from, &to.iter().map(String::as_str).collect::<Vec<_>>(), octets)
}

/// The status's word and the mark of a delivered file, and the octets without them and Postfix's own fields.
fn taken_apart(file: &[u8]) -> (String, bool, Vec<u8>) {
    let sent = as_sent(file);
    let field = |line: &[u8], name: &str| line.to_ascii_lowercase().starts_with(name.as_bytes());
    let ours = |line: &[u8]| field(line, "x-auth-key-status:") || field(line, "x-spam-flag:");
    let text = String::from_utf8_lossy(&sent).into_owned();
    let head: Vec<&str> = text.lines().take_while(|line| !line.is_empty()).collect();
    let status: Vec<&str> = head.iter().filter_map(|line| line.strip_prefix("X-Auth-Key-Status: ")).collect();
    assert_eq!(status.len(), 1, "one status, ours, in\n{text}");
    assert!(!text.contains(WRONG), "the key reached a recipient:\n{text}");
    let word = status[0].split(';').next().unwrap().to_owned();
    (word, head.contains(&"X-Spam-Flag: YES"), without(&sent, ours))
}

/// Asserts that the user's mailbox holds this message alone, with this status.
fn assert_has(rig: &Rig, user: &str, word: &str, left: &[u8]) {
    let files = rig.door.delivered(user, 1);
    assert_eq!(files.len(), 1, "{user}");
    let (status, marked, rest) = taken_apart(&files[0]);
    assert_eq!((status.as_str(), marked), (word, false), "{user}");
    assert_eq!(String::from_utf8_lossy(&rest), String::from_utf8_lossy(left), "{user}");
    assert_eq!(rest, left, "{user}");
}

/// Asserts that the user's mailbox holds one notice and nothing else.
fn assert_has_notice(rig: &Rig, user: &str, fate: &str) {
    let files = rig.door.delivered(user, 1);
    let text = String::from_utf8_lossy(&files[0]);
    assert!(files.len() == 1 && text.starts_with("Return-Path: <>\n"), "{user}: {} files, {text}", files.len());
    assert!(text.contains("Auto-Submitted:") && text.contains("sender [at] send [dot] test"), "{text}");
    assert!(text.contains(fate), "{text}");
    assert!(!text.contains(WRONG) && !text.contains("two  spaces"), "{text}");
}

/// What came back to the sender, after `count` messages had the time to.
fn reports(bed: &Bed, door: &Door, sender: &str) -> Vec<String> {
    let ours = |text: &String| text.contains(&door.domain);
    let back = bed.returned().into_iter().filter(|(to, _)| to == sender);
    back.map(|(_, file)| String::from_utf8_lossy(&file).into_owned()).filter(ours).collect()
}

/// What lies in quarantine: its id, and for whom.
fn kept(rig: &Rig) -> Vec<(u64, Vec<String>)> {
    let list = rig.says(&["quarantine", "list", "--json"]);
    let one = |row: &str| {
        let row: Value = serde_json::from_str(row).unwrap();
        let to = row["recipients"].as_array().unwrap().iter().map(|to| to["recipient"].as_str().unwrap().to_owned());
        (row["id"].as_u64().unwrap(), to.collect())
    };
    list.lines().map(one).collect()
}

/// What the journal owes and strikes out, a row each, the oldest first.
fn journal(rig: &Rig) -> Vec<(String, Value, Value)> {
    let list = rig.says(&["journal", "list", "--json"]);
    let rows = list.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut rows: Vec<_> = rows
        .map(|row| {
            let reply = &row["case"]["reply"];
            (row["verdict"].as_str().unwrap().to_owned(), reply["removed"].clone(), reply["owed"].clone())
        })
        .collect();
    rows.reverse();
    rows
}

/// Time for what must not come: deliveries here take a tenth of that.
fn let_things_settle() {
    std::thread::sleep(Duration::from_millis(1_500));
}

#[test]
fn four_recipients_of_one_message_each_get_what_they_wish() {
    let Some(bed) = Bed::shared() else { return };
    let rig = four(bed, "");
    let [octets, left] = message(&spf_passed(&rig.door));
    let reply = send(&rig.door, SENDER, &["bob", "carol", "dave", "erin"], &octets);
    assert_eq!(reply.code, 250, "{reply:?}");
    assert_has(&rig, "bob", "INVALIDKEY", &left);
    assert_has_notice(&rig, "dave", "It was not delivered to you.");
    let_things_settle();
    let reports = reports(bed, &rig.door, SENDER);
    assert_eq!(reports.len(), 1, "the sender is told once");
    let dave = rig.door.address("dave");
    assert!(reports[0].starts_with("Return-Path: <>\n") && reports[0].contains("multipart/report"), "{}", reports[0]);
    assert!(reports[0].contains(&format!("Final-Recipient: rfc822; {dave}")), "{}", reports[0]);
    for secret in [WRONG.to_owned(), rig.door.address("carol"), rig.door.address("erin"), "two dots".to_owned()] {
        assert!(!reports[0].contains(&secret), "{secret} in\n{}", reports[0]);
    }
    for user in ["carol", "erin"] {
        assert!(rig.door.mailbox(user).is_empty(), "{user}");
    }
    assert_eq!([rig.door.mailbox("bob").len(), rig.door.mailbox("dave").len()], [1, 1]);
    let kept = kept(&rig);
    assert_eq!(kept.iter().map(|(_, to)| to.clone()).collect::<Vec<_>>(), [[rig.door.address("erin")]]);
    let owed = serde_json::json!(["record", {"quarantine": [3]}, {"report": [2]}, {"notice": 2}]);
    assert_eq!(journal(&rig), [("accept".to_owned(), serde_json::json!([1, 2, 3]), owed)]);

    let said = rig.says(&["quarantine", "release", &kept[0].0.to_string()]);
    assert!(said.contains(&format!("{}: delivered", rig.door.address("erin"))), "{said}");
    assert_has(&rig, "erin", "INVALIDKEY", &left);
    assert!(self::kept(&rig).is_empty(), "what is released is not kept");
    let_things_settle();
    assert_eq!(rig.door.mailbox("erin").len(), 1);
}

#[test]
fn without_proof_of_the_sender_nobody_is_told_but_the_recipient_and_the_message_is_kept() {
    let Some(bed) = Bed::shared() else { return };
    let rig = four(bed, "");
    // Another server's word counts for nothing, nor does a failure.
    let forged = "Authentication-Results: mx.send.test; spf=pass smtp.mailfrom=send.test\r\n";
    let [octets, left] = message(forged);
    assert_eq!(send(&rig.door, SENDER, &["bob", "carol", "dave", "erin"], &octets).code, 250);
    assert_has(&rig, "bob", "INVALIDKEY", &left);
    assert_has_notice(&rig, "dave", "");
    let_things_settle();
    assert!(reports(bed, &rig.door, SENDER).is_empty(), "no mail to whom a forger named");
    let both = ["dave", "erin"].map(|user| rig.door.address(user));
    assert_eq!(kept(&rig).into_iter().map(|(_, to)| to).collect::<Vec<_>>(), [both]);
    assert_eq!(["bob", "carol", "dave", "erin"].map(|user| rig.door.mailbox(user).len()), [1, 0, 1, 0]);
}

#[test]
fn a_null_reverse_path_gets_no_report_although_a_recipient_wants_the_sender_told() {
    let Some(bed) = Bed::shared() else { return };
    let rig = four(bed, "");
    let [octets, left] = message(&spf_passed(&rig.door));
    assert_eq!(send(&rig.door, "", &["bob", "carol", "dave", "erin"], &octets).code, 250);
    assert_has(&rig, "bob", "INVALIDKEY", &left);
    assert_has_notice(&rig, "dave", "It was not delivered to you.");
    let_things_settle();
    assert!(reports(bed, &rig.door, SENDER).is_empty());
    assert_eq!(["bob", "carol", "dave", "erin"].map(|user| rig.door.mailbox(user).len()), [1, 0, 1, 0]);
    assert_eq!(kept(&rig).into_iter().map(|(_, to)| to).collect::<Vec<_>>(), [[rig.door.address("erin")]]);
}

#[test]
fn split_recipients_come_one_after_the_other_and_each_gets_what_he_wishes() {
    let Some(bed) = Bed::shared() else { return };
    let rig = four(bed, "mixed = \"split\"");
    let [octets, left] = message(&spf_passed(&rig.door));
    let mut session = Session::open(rig.door.port);
    let mut waiting: Vec<&str> = FOUR.iter().map(|(user, _)| *user).collect();
    let mut ends = Vec::new();
    while !waiting.is_empty() {
        assert_eq!(session.say(&format!("MAIL FROM:<{SENDER}>")).code, 250);
        let replies: Vec<Reply> =
            waiting.iter().map(|user| session.say(&format!("RCPT TO:<{}>", rig.door.address(user)))).collect();
        assert_eq!(replies[0].code, 250, "{replies:?}");
        for reply in &replies[1..] {
            assert_eq!((reply.code, &reply.text[..6]), (452, "4.5.3 "), "{reply:?}");
        }
        assert_eq!(session.say("DATA").code, 354);
        session.write(&smtp::stuffed(&octets));
        session.write(b".\r\n");
        ends.push((waiting.remove(0), session.reply().code));
    }
    assert_eq!(ends, [("bob", 250), ("carol", 250), ("dave", 550), ("erin", 250)]);
    assert_has(&rig, "bob", "INVALIDKEY", &left);
    assert_has_notice(&rig, "dave", "It was not delivered to you.");
    let_things_settle();
    assert!(reports(bed, &rig.door, SENDER).is_empty(), "his own server tells him");
    assert_eq!(["bob", "carol", "dave", "erin"].map(|user| rig.door.mailbox(user).len()), [1, 0, 1, 0]);
    assert_eq!(kept(&rig).into_iter().map(|(_, to)| to).collect::<Vec<_>>(), [[rig.door.address("erin")]]);
}

#[test]
fn recipients_who_wish_for_the_same_stay_together_in_a_split_message() {
    let Some(bed) = Bed::shared() else { return };
    let rig = rig(bed, "mixed = \"split\"", &[("carol", "invalid = \"accept\"")]);
    let [octets, left] = message("");
    assert_eq!(send(&rig.door, SENDER, &["bob", "carol", "frank"], &octets).code, 250);
    for user in ["bob", "carol", "frank"] {
        assert_has(&rig, user, "INVALIDKEY", &left);
    }
}

#[test]
fn bounces_list_posts_and_forwarded_mail_without_a_key_are_delivered_under_all_defaults() {
    let Some(bed) = Bed::shared() else { return };
    let rig = Rig::start(bed, Kind::Inet, "");
    let kinds = [
        ("", "From: Mail Delivery System <mailer-daemon@send.test>\r\nAuto-Submitted: auto-replied\r\n"),
        ("list-bounces@lists.test", "From: alice@send.test\r\nList-Id: <l.lists.test>\r\nPrecedence: list\r\n"),
        (
            "alice@send.test",
            "Received: from a.test by forwarder.test; Sat, 21 Nov 2026 00:00:00 +0000\r\n\
            Resent-From: someone@forwarder.test\r\nFrom: alice@send.test\r\n",
        ),
    ];
    for (number, (from, head)) in kinds.into_iter().enumerate() {
        let octets = format!("{head}Subject: kind {number}\r\n\r\ntext\r\n");
        assert_eq!(send(&rig.door, from, &["bob", "carol"], octets.as_bytes()).code, 250, "{head}");
        for user in ["bob", "carol"] {
            let file = rig.door.delivered(user, number + 1).pop().unwrap();
            let (word, marked, rest) = taken_apart(&file);
            assert_eq!((word.as_str(), marked), ("NOKEY", false), "{head}");
            assert!(rest.ends_with(format!("Subject: kind {number}\n\ntext\n").as_bytes()), "{head}");
        }
    }
    let_things_settle();
    assert_eq!([rig.door.mailbox("bob").len(), rig.door.mailbox("carol").len()], [3, 3]);
}

#[test]
fn scenario_2_marks_by_a_field_or_by_the_spam_folder() {
    let Some(bed) = Bed::shared() else { return };
    let lines = [("bob", "invalid = \"mark\""), ("carol", "invalid = \"mark\"\nmark = \"folder\"")];
    let rig = rig(bed, "spam_folder = \"+Junk\"", &lines);
    let [octets, left] = message("");
    assert_eq!(send(&rig.door, SENDER, &["bob"], &octets).code, 250);
    assert_eq!(send(&rig.door, SENDER, &["carol"], &octets).code, 250);
    let file = rig.door.delivered("bob", 1).pop().unwrap();
    assert_eq!(taken_apart(&file), ("INVALIDKEY".to_owned(), true, left.clone()));
    let folder = rig.door.delivered_as_spam("carol", 1);
    let_things_settle();
    let (word, _, rest) = taken_apart(&folder[0]);
    assert_eq!((folder.len(), word.as_str(), rest), (1, "INVALIDKEY", left));
    assert!(rig.door.mailbox("carol").is_empty() && rig.door.spam_folder("bob").is_empty());
    assert_eq!(rig.door.mailbox("bob").len(), 1);
}

#[test]
fn who_accepts_gets_it_unmarked_and_who_wants_a_mark_gets_a_marked_copy() {
    let Some(bed) = Bed::shared() else { return };
    let rig = rig(bed, "", &[("carol", "invalid = \"mark\"")]);
    let [octets, left] = message("");
    assert_eq!(send(&rig.door, SENDER, &["bob", "carol"], &octets).code, 250);
    assert_has(&rig, "bob", "INVALIDKEY", &left);
    let file = rig.door.delivered("carol", 1).pop().unwrap();
    assert_eq!(taken_apart(&file), ("INVALIDKEY".to_owned(), true, left));
    let_things_settle();
    assert_eq!([rig.door.mailbox("bob").len(), rig.door.mailbox("carol").len()], [1, 1]);
}

#[test]
fn who_accepts_gets_it_unmarked_and_who_wants_a_mark_gets_it_in_his_spam_folder() {
    let Some(bed) = Bed::shared() else { return };
    let rig = rig(bed, "spam_folder = \"+Junk\"", &[("carol", "invalid = \"mark\"")]);
    let [octets, left] = message("");
    assert_eq!(send(&rig.door, SENDER, &["bob", "carol"], &octets).code, 250);
    assert_has(&rig, "bob", "INVALIDKEY", &left);
    let folder = rig.door.delivered_as_spam("carol", 1);
    let_things_settle();
    assert_eq!(folder.len(), 1);
    assert_eq!(taken_apart(&folder[0]).2, left);
    assert!(rig.door.mailbox("carol").is_empty() && rig.door.spam_folder("bob").is_empty());
}
