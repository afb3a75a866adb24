//! The real daemon behind a real Postfix: what the client is told, what the log says, what lies in the mailboxes.

use std::time::{Duration, Instant};

use addrauth_tests::daemon::{Rig, component};
use addrauth_tests::postfix::{Bed, Door, Kind, as_sent, without};
use addrauth_tests::smtp::{self, Reply, Session};

/// A key inside the grammar that no AS has issued.
const WRONG: &str = "WRONGkeyWRONGkeyWRONGkeyWRONGkeyWRONGkeyWRONGkeyWRONGkeyWRONGkey";
/// What must arrive as it was sent: odd spacing, a fold, 8-bit octets, a field of nearly the key's name, dot lines.
const HEAD: &[u8] = b"Subject:  two  spaces,\r\n\ta fold\r\nX-Auth-Keys: not a key\r\nX-Odd:\xe9t\xe9 \r\n";
const BODY: &[u8] = b"\r\n.\r\n..two dots\r\nX-Auth-Key: in the body it is text\r\ntrailing \t\r\n\xc3\xa9 \xff\r\n";

/// A message from `sender` with these lines between From and the rest; a line needs no CRLF.
fn message(sender: &str, lines: &[&[u8]]) -> Vec<u8> {
    let mut octets = format!("From: {sender}\r\n").into_bytes();
    for line in lines {
        octets.extend_from_slice(line);
        octets.extend_from_slice(b"\r\n");
    }
    [&octets, HEAD, BODY].concat()
}

fn key_field(key: &str) -> Vec<u8> {
    format!("X-Auth-Key: {key}").into_bytes()
}

fn send(door: &Door, message: &[u8]) -> Reply {
    smtp::send(door.port, "alice@send.test", &[&door.address("bob")], message)
}

/// A delivered file taken apart: the values of its status fields, and the octets without them and Postfix's fields.
fn taken_apart(file: &[u8]) -> (Vec<String>, Vec<u8>) {
    let sent = as_sent(file);
    let ours = |line: &[u8]| line.to_ascii_lowercase().starts_with(b"x-auth-key-status");
    let rest = without(&sent, ours);
    let lines = header(&sent).lines().filter(|line| ours(line.as_bytes())).map(String::from).collect();
    (lines, rest)
}

/// The header of a delivered file, 8-bit octets replaced.
fn header(file: &[u8]) -> String {
    let end = file.windows(2).position(|w| w == b"\n\n").map_or(file.len(), |at| at + 1);
    String::from_utf8_lossy(&file[..end]).into_owned()
}

/// What a Maildir holds of a message that was left alone.
fn on_disk(message: &[u8]) -> Vec<u8> {
    let mut octets = message.to_vec();
    octets.retain(|&b| b != b'\r');
    octets
}

/// Asserts that a file has exactly one status field, with this word, and nothing else of ours.
fn assert_status(file: &[u8], word: &str) {
    let (status, _) = taken_apart(file);
    let text = String::from_utf8_lossy(file);
    assert_eq!(status.len(), 1, "{text}");
    let said = status[0].strip_prefix("X-Auth-Key-Status: ").unwrap_or_else(|| panic!("{}", status[0]));
    assert_eq!(said.split(';').next(), Some(word), "{text}");
    let keys = header(file)
        .lines()
        .filter(|line| line.to_ascii_lowercase().replace(' ', "").starts_with("x-auth-key:"))
        .count();
    assert_eq!(keys, 0, "{text}");
}

/// A rig whose policy for `invalid` is `id`, and Postfix's answer to a message with a wrong key.
fn invalid_under(bed: &Bed, id: &str) -> (Rig, Reply) {
    let rig = Rig::start(bed, Kind::Inet, &format!("invalid = {id:?}"));
    let reply = send(&rig.door, &message("alice@send.test", &[&key_field(WRONG)]));
    (rig, reply)
}

/// Asserts that bob was told: one notice, from nobody, about alice, without the key.
fn assert_notice(rig: &Rig) {
    let notice = rig.door.delivered("bob", 1).pop().unwrap();
    let text = String::from_utf8_lossy(&notice);
    assert!(text.starts_with("Return-Path: <>\n"), "{text}");
    assert!(header(&notice).contains("Auto-Submitted:"), "{text}");
    assert!(text.contains("alice [at] send [dot] test"), "spelled so that no mail client makes a link of it: {text}");
    assert!(!text.contains(WRONG) && !text.contains("two  spaces"), "{text}");
}

#[test]
fn a_valid_key_is_delivered_with_its_status_and_without_the_key() {
    let Some(bed) = Bed::shared() else { return };
    let rig = Rig::start(bed, Kind::Inet, "");
    let reply = send(&rig.door, &message("alice@send.test", &[&key_field(&rig.key)]));
    assert_eq!(reply.code, 250, "{reply:?}");
    let file = rig.door.delivered("bob", 1).pop().unwrap();
    assert_status(&file, "VALIDKEY");
    assert_eq!(taken_apart(&file).1, on_disk(&message("alice@send.test", &[])));
    assert!(!String::from_utf8_lossy(&file).contains(&rig.key));
    assert!(!rig.filter.as_ref().unwrap().log().contains(&rig.key), "the key stands in the filter's log");
}

#[test]
fn scenario_1_accepts_an_invalid_key_unmarked() {
    let Some(bed) = Bed::shared() else { return };
    let (rig, reply) = invalid_under(bed, "accept");
    assert_eq!(reply.code, 250, "{reply:?}");
    let file = rig.door.delivered("bob", 1).pop().unwrap();
    assert_status(&file, "INVALIDKEY");
    assert_eq!(taken_apart(&file).1, on_disk(&message("alice@send.test", &[])));
}

#[test]
fn scenario_2_marks_an_invalid_key() {
    let Some(bed) = Bed::shared() else { return };
    let (rig, reply) = invalid_under(bed, "mark");
    assert_eq!(reply.code, 250, "{reply:?}");
    let file = rig.door.delivered("bob", 1).pop().unwrap();
    assert_status(&file, "INVALIDKEY");
    let (sent, rest) = (on_disk(&message("alice@send.test", &[])), taken_apart(&file).1);
    assert!(rest.len() > sent.len() && rest.ends_with(&sent), "no mark on top of\n{}", String::from_utf8_lossy(&file));
}

#[test]
fn scenario_3_drops_an_invalid_key_and_tells_nobody() {
    let Some(bed) = Bed::shared() else { return };
    let (rig, reply) = invalid_under(bed, "reject-silently");
    assert_eq!(reply.code, 250, "{reply:?}");
    rig.door.logged("milter-discard: END-OF-MESSAGE");
    assert_nothing_more_comes(&rig.door, 0);
}

#[test]
fn scenario_4_refuses_an_invalid_key_and_leaves_the_telling_to_the_sending_server() {
    let Some(bed) = Bed::shared() else { return };
    let (rig, reply) = invalid_under(bed, "reject-notify-sender");
    assert_eq!(reply.code, 550, "{reply:?}");
    assert!(reply.text.starts_with("5.7."), "{reply:?}");
    rig.door.logged("milter-reject: END-OF-MESSAGE");
    assert_nothing_more_comes(&rig.door, 0);
}

#[test]
fn scenario_5_drops_an_invalid_key_and_tells_the_recipient() {
    let Some(bed) = Bed::shared() else { return };
    let (rig, reply) = invalid_under(bed, "reject-notify-recipient");
    assert_eq!(reply.code, 250, "{reply:?}");
    rig.door.logged("milter-discard: END-OF-MESSAGE");
    assert_notice(&rig);
    assert_nothing_more_comes(&rig.door, 1);
}

#[test]
fn scenario_6_refuses_an_invalid_key_and_tells_both() {
    let Some(bed) = Bed::shared() else { return };
    let (rig, reply) = invalid_under(bed, "reject-notify-both");
    assert_eq!(reply.code, 550, "{reply:?}");
    rig.door.logged("milter-reject: END-OF-MESSAGE");
    assert_notice(&rig);
    assert_nothing_more_comes(&rig.door, 1);
}

#[test]
fn quarantine_keeps_an_invalid_key_in_the_hold_queue_until_it_is_released() {
    let Some(bed) = Bed::shared() else { return };
    let rig = Rig::start(bed, Kind::Inet, "invalid = \"quarantine\"\nquarantine = \"mta\"");
    let reply = send(&rig.door, &message("alice@send.test", &[&key_field(WRONG)]));
    assert_eq!(reply.code, 250, "{reply:?}");
    rig.door.logged("milter-hold");
    let id = reply.text.rsplit(' ').next().unwrap().to_owned();
    let held = bed.queue().into_iter().find(|line| line.contains(&id)).unwrap_or_default();
    assert!(held.contains("\"queue_name\": \"hold\""), "{id}: {held}");
    assert!(rig.door.mailbox("bob").is_empty());
    bed.release(&id);
    assert_status(&rig.door.delivered("bob", 1)[0], "INVALIDKEY");
}

#[test]
fn a_message_released_from_our_own_store_passes_our_own_door_and_arrives_as_it_was_kept() {
    let Some(bed) = Bed::shared() else { return };
    let rig = Rig::start_with_notices_through_itself(bed, "invalid = \"reject-notify-recipient\"");
    let text = "X-Auth-Key-Status: INVALIDKEY; by=mx\r\nFrom: alice@send.test\r\nSubject: two\r\n\tlines\r\n";
    let rest =
        "Date: Thu, 1 Jan 2026 00:00:00 +0000\r\nTo: bob@example.org\r\n\r\n.\r\n..dots\r\nGr\u{fc}\u{df}e\r\n\r\n";
    let bob = format!("bob@{}", rig.door.domain);
    // Postfix gives a Message-ID to mail of its own network that has none.
    for (number, id) in [(1, "Message-ID:\r\n <1@send.test>\r\n"), (2, "")] {
        let kept = addrauth::store::Kept {
            queue_id: None,
            sender: Some("alice@send.test".into()),
            reverse_path: "bounces@send.test".into(),
            recipients: vec![bob.clone()],
            subject: "two lines".into(),
            reason: addrauth::store::Reason::written("quarantine: invalid (wrong)".into()),
            message: format!("{text}{id}{rest}").into_bytes(),
            expires: std::time::SystemTime::now() + Duration::from_secs(3_600),
            copy: false,
        };
        keep(&rig, kept);
        let mut command = std::process::Command::new(addrauth_tests::daemon::binary());
        command.args(["quarantine", "release", &number.to_string(), "--config"]).arg(rig.path("filter.toml"));
        let out = command.output().unwrap();
        assert!(
            out.status.success(),
            "{}{}",
            String::from_utf8_lossy(&out.stdout),
            String::from_utf8_lossy(&out.stderr)
        );
    }
    for (delivered, id) in rig.door.delivered("bob", 2).iter().zip(["Message-ID:\n <1@send.test>\n", ""]) {
        let delivered = String::from_utf8_lossy(delivered);
        let want = format!("{text}{id}{rest}").replace("\r\n", "\n");
        let (fields, body) = want.split_once("\n\n").unwrap();
        assert!(delivered.starts_with("Return-Path: <bounces@send.test>\n"), "{delivered}");
        assert!(
            delivered.contains(&format!("\n{fields}\n")) && delivered.ends_with(&format!("\n\n{body}")),
            "{delivered}"
        );
        assert!(!delivered.to_ascii_lowercase().contains("x-addrauth-mark"), "{delivered}");
        assert_eq!(delivered.matches("X-Auth-Key-Status").count(), 1, "examined anew, it had another: {delivered}");
    }
}

/// Puts a message into the rig's quarantine.
fn keep(rig: &Rig, kept: addrauth::store::Kept) {
    use addrauth::store::{Caps, Entry, Ledger, NewRow, Opening, RowResult, RowVerdict};
    let (day, path) = (Duration::from_secs(86_400), rig.path("filter"));
    let keep = async {
        let ledger = Ledger::open(&path, Opening { busy: Duration::from_secs(2), readers: 1 }).await?;
        let hour = day / 24;
        let caps = Caps {
            per_hour: 5,
            pair: day,
            waiting: 9,
            report_pair: hour,
            rules_pair: day,
            digest_after: hour,
            digest_senders: 20,
        };
        let (result, verdict) = (RowResult::Judged(addrauth::case::KeyStatus::Invalid), RowVerdict::Discard);
        let entry = Entry { queue_id: None, sender: None, result, verdict, json: String::new(), note: String::new() };
        let now = std::time::SystemTime::now();
        ledger.record_and_keep(NewRow::again(entry, now), Vec::new(), (vec![kept], 1 << 20), caps, now).await?;
        ledger.close().await;
        Ok::<(), addrauth::store::Error>(())
    };
    tokio::runtime::Runtime::new().unwrap().block_on(keep).unwrap();
}

#[test]
fn a_notice_through_our_own_door_passes_and_loses_its_mark() {
    let Some(bed) = Bed::shared() else { return };
    let rig = Rig::start_with_notices_through_itself(bed, "invalid = \"reject-notify-recipient\"");
    let reply = send(&rig.door, &message("alice@send.test", &[&key_field(WRONG)]));
    assert_eq!(reply.code, 250, "{reply:?}");
    assert_notice(&rig);
    let text = header(&rig.door.delivered("bob", 1)[0]).to_ascii_lowercase();
    assert!(!text.contains("x-addrauth-mark"), "{text}");
}

#[test]
fn every_recipient_of_a_dropped_message_is_told() {
    let Some(bed) = Bed::shared() else { return };
    let rig = Rig::start(bed, Kind::Inet, "invalid = \"reject-notify-recipient\"");
    let (bob, carol) = (rig.door.address("bob"), rig.door.address("carol"));
    let octets = message("alice@send.test", &[&key_field(WRONG)]);
    assert_eq!(smtp::send(rig.door.port, "alice@send.test", &[&bob, &carol], &octets).code, 250);
    for user in ["bob", "carol"] {
        let notice = rig.door.delivered(user, 1).pop().unwrap();
        assert!(header(&notice).contains(&rig.door.address(user)));
    }
}

#[test]
fn four_key_fields_in_mixed_case_all_go_and_the_rest_stays_octet_for_octet() {
    let Some(bed) = Bed::shared() else { return };
    let rig = Rig::start(bed, Kind::Inet, "");
    let four = ["X-Auth-Key", "x-auth-key", "X-AUTH-KEY", "x-AuTh-kEy"].map(|name| format!("{name}: {}", rig.key));
    let lines: Vec<&[u8]> = four.iter().map(|line| line.as_bytes()).collect();
    assert_eq!(send(&rig.door, &message("alice@send.test", &lines)).code, 250);
    let file = rig.door.delivered("bob", 1).pop().unwrap();
    assert_status(&file, "VALIDKEY");
    assert_eq!(taken_apart(&file).1, on_disk(&message("alice@send.test", &[])));
}

#[test]
fn keys_that_differ_are_unusable_and_go_all_the_same() {
    let Some(bed) = Bed::shared() else { return };
    let rig = Rig::start(bed, Kind::Inet, "unusable = \"accept\"");
    let octets = message("alice@send.test", &[&key_field(&rig.key), &key_field(WRONG)]);
    assert_eq!(send(&rig.door, &octets).code, 250);
    let file = rig.door.delivered("bob", 1).pop().unwrap();
    assert_status(&file, "UNUSABLE");
    assert_eq!(taken_apart(&file).1, on_disk(&message("alice@send.test", &[])));
}

#[test]
fn a_forged_status_is_removed() {
    let Some(bed) = Bed::shared() else { return };
    let rig = Rig::start(bed, Kind::Inet, "invalid = \"accept\"");
    let forged: [&[u8]; 4] = [
        b"X-Auth-Key-Status: VALIDKEY; by=forged",
        b"x-auth-key-status : VALIDKEY; by=forged",
        b"X-AUTH-KEY-STATUS:\r\n VALIDKEY;\r\n by=forged",
        b"X-Auth-Key-Status:",
    ];
    let key = key_field(WRONG);
    let lines: Vec<&[u8]> = forged.into_iter().chain([key.as_slice()]).collect();
    assert_eq!(send(&rig.door, &message("alice@send.test", &lines)).code, 250);
    let file = rig.door.delivered("bob", 1).pop().unwrap();
    assert_status(&file, "INVALIDKEY");
    assert_eq!(taken_apart(&file).1, on_disk(&message("alice@send.test", &[])));
}

#[test]
fn b2_b3_results_forged_in_our_method_are_removed_from_between_those_of_others() {
    let Some(bed) = Bed::shared() else { return };
    let rig = Rig::start(bed, Kind::Inet, "missing = \"accept\"");
    let forged: [&[u8]; 3] = [
        b"Authentication-Results: mx.forged.test; x-auth-key=pass header.from=alice@send.test",
        b"authentication-RESULTS : (a (b))\r\n \"mx\\.forged.test\" 1;\r\n\tX-Auth-Key (c) = pass",
        b"Authentication-Results: x-auth-key=pass (open",
    ];
    let honest: [&[u8]; 2] = [
        b"Authentication-Results: one.test; dkim=pass header.d=a.test",
        b"AUTHENTICATION-results:two.test;\r\n spf=none",
    ];
    let ten = forged.into_iter().cycle().take(10);
    let lines: Vec<&[u8]> = [honest[0]].into_iter().chain(ten).chain([honest[1], forged[0]]).collect();
    assert_eq!(send(&rig.door, &message("alice@send.test", &lines)).code, 250);
    let file = rig.door.delivered("bob", 1).pop().unwrap();
    assert_status(&file, "NOKEY");
    assert_eq!(taken_apart(&file).1, on_disk(&message("alice@send.test", &honest)));
}

#[test]
fn no_spelling_of_the_key_field_reaches_a_recipient() {
    let Some(bed) = Bed::shared() else { return };
    let rig = Rig::start(bed, Kind::Inet, "unusable = \"accept\"");
    let key = rig.key.clone();
    let spellings: [(String, &[&str]); 8] = [
        (format!("X-Auth-Key : {key}"), &["VALIDKEY"]),
        (format!("X-Auth-Key\t:{key}"), &["VALIDKEY"]),
        (format!("X-Auth-Key:\r\n {key}"), &["VALIDKEY"]),
        (format!("X-Auth-Key:\r\n \r\n\t{key}\r\n "), &["VALIDKEY", "UNUSABLE"]),
        (format!("X-Auth-Key: {}\r\n {}", &key[..20], &key[20..]), &["VALIDKEY", "UNUSABLE"]),
        ("X-Auth-Key:".into(), &["NOKEY", "UNUSABLE"]),
        (format!("X-Auth-Key: é{key}"), &["UNUSABLE"]),
        (format!("X-Auth-Key: {}", key.repeat(3000)), &["UNUSABLE"]),
    ];
    for (number, (line, words)) in spellings.into_iter().enumerate() {
        let shown: String = line.chars().take(60).collect();
        let reply = send(&rig.door, &message("alice@send.test", &[line.as_bytes()]));
        assert_eq!(reply.code, 250, "{shown:?}: {reply:?}");
        let file = rig.door.delivered("bob", number + 1).pop().unwrap();
        let (status, rest) = taken_apart(&file);
        assert_eq!(status.len(), 1, "{shown:?}: {status:?}");
        assert!(words.iter().any(|word| status[0].contains(&format!(": {word};"))), "{shown:?}: {status:?}");
        assert!(!String::from_utf8_lossy(&file).contains(&key[..20]), "{shown:?} reached the recipient");
        assert_eq!(rest, on_disk(&message("alice@send.test", &[])), "{shown:?}");
    }
}

#[test]
fn behind_a_junk_line_a_key_is_text_of_the_body_and_counts_for_nothing() {
    let Some(bed) = Bed::shared() else { return };
    let rig = Rig::start(bed, Kind::Inet, "unusable = \"accept\"");
    let octets = message("alice@send.test", &[b"junk line", &key_field(&rig.key)]);
    assert_eq!(send(&rig.door, &octets).code, 250);
    let file = rig.door.delivered("bob", 1).pop().unwrap();
    let (status, _) = taken_apart(&file);
    assert!(status.len() == 1 && status[0].contains("UNUSABLE"), "{status:?}");
    assert!(!header(&file).contains(&rig.key));
}

#[test]
fn without_a_key_or_without_an_as_mail_is_delivered() {
    let Some(bed) = Bed::shared() else { return };
    let rig = Rig::start(bed, Kind::Inet, "");
    assert_eq!(send(&rig.door, &message("alice@send.test", &[])).code, 250);
    assert_status(&rig.door.delivered("bob", 1)[0], "NOKEY");
    assert_eq!(send(&rig.door, &message("dave@elsewhere.test", &[&key_field(WRONG)])).code, 250);
    assert_status(&rig.door.delivered("bob", 2)[1], "NOSERVER");
}

#[test]
fn while_the_as_is_down_mail_is_unverified_and_delivered() {
    let Some(bed) = Bed::shared() else { return };
    let mut rig = Rig::start(bed, Kind::Inet, "");
    rig.authority.take().unwrap().kill();
    assert_eq!(send(&rig.door, &message("alice@send.test", &[&key_field(&rig.key)])).code, 250);
    assert_status(&rig.door.delivered("bob", 1)[0], "UNVERIFIED");
}

#[test]
fn a_replaced_component_decides_the_next_message_of_an_open_session() {
    let Some(bed) = Bed::shared() else { return };
    let rig = Rig::start_with_components(
        bed,
        "valid = \"door\"\n[policies.door]\nmodule = \"door.wasm\"",
        &[("door.wasm", component("accept"))],
    );
    let bob = rig.door.address("bob");
    let octets = message("alice@send.test", &[&key_field(&rig.key)]);
    let mut session = Session::open(rig.door.port);
    let mut deliver = || session.deliver("alice@send.test", &[&bob], &octets).code;
    assert_eq!(deliver(), 250);
    let filter = rig.filter.as_ref().unwrap();

    rig.put_component("door.wasm", &component("reject-notify-sender"));
    filter.signal("HUP");
    let begin = Instant::now();
    while deliver() != 550 {
        assert!(begin.elapsed() < Duration::from_secs(60), "the new component never decides\n{}", filter.log());
        std::thread::sleep(Duration::from_millis(100));
    }
    rig.put_component("door.wasm", b"\0asm broken");
    let said = filter.log().len();
    filter.signal("HUP");
    let begin = Instant::now();
    while filter.log().len() == said && begin.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(filter.log()[said..].contains("door"), "a refused component is named in the log\n{}", filter.log());
    assert_eq!(deliver(), 550, "a broken file must leave the old component in place");
}

#[test]
fn while_the_filter_is_down_the_client_is_asked_to_come_again() {
    let Some(bed) = Bed::shared() else { return };
    let mut rig = Rig::start(bed, Kind::Inet, "");
    rig.filter.take().unwrap().kill();
    let octets = message("alice@send.test", &[&key_field(&rig.key)]);
    assert_eq!(send(&rig.door, &octets).code, 451);
    rig.start_filter();
    assert_eq!(send(&rig.door, &octets).code, 250);
    assert_status(&rig.door.delivered("bob", 1)[0], "VALIDKEY");
}

#[test]
fn a_filter_killed_in_the_middle_loses_nothing_and_delivers_nothing_twice() {
    let Some(bed) = Bed::shared() else { return };
    let mut rig = Rig::start(bed, Kind::Inet, "");
    let octets = message("alice@send.test", &[&key_field(&rig.key)]);
    let bob = format!("RCPT TO:<{}>", rig.door.address("bob"));
    let mut accepted = 0;
    for step in 0..5 {
        let mut session = Session::open(rig.door.port);
        let mut kill_at = |here: i32| {
            if step == here {
                rig.filter.take().unwrap().kill();
            }
        };
        kill_at(0);
        let mail = session.say("MAIL FROM:<alice@send.test>").code;
        kill_at(1);
        let rcpt = if mail == 250 { session.say(&bob).code } else { mail };
        kill_at(2);
        let data = if rcpt == 250 { session.say("DATA").code } else { rcpt };
        kill_at(3);
        let end = if data == 354 { finish(&mut session, &octets, || kill_at(4)) } else { data };
        assert!(end == 250 || end / 100 == 4, "step {step}: {end}");
        accepted += usize::from(end == 250);
        if let Some(filter) = rig.filter.take() {
            filter.kill();
        }
        rig.start_filter();
        assert_eq!(rig.door.delivered("bob", accepted).len(), accepted, "step {step}");
    }
    assert_eq!(send(&rig.door, &octets).code, 250);
    for file in rig.door.delivered("bob", accepted + 1) {
        assert_status(&file, "VALIDKEY");
    }
    assert_nothing_more_comes(&rig.door, accepted + 1);
}

/// Sends the message and the final dot; `now` runs before the reply is read.
fn finish(session: &mut Session, octets: &[u8], now: impl FnOnce()) -> u16 {
    session.write(&smtp::stuffed(octets));
    session.write(b".\r\n");
    now();
    session.reply().code
}

#[test]
fn the_unix_socket_serves_a_chrooted_smtpd() {
    let Some(bed) = Bed::shared() else { return };
    let rig = Rig::start(bed, Kind::Chroot, "");
    let reply = send(&rig.door, &message("alice@send.test", &[&key_field(&rig.key)]));
    assert_eq!(reply.code, 250, "{reply:?}\n{}", rig.door.log());
    assert_status(&rig.door.delivered("bob", 1)[0], "VALIDKEY");
    use std::os::unix::fs::MetadataExt;
    let socket = std::fs::metadata(rig.door.milter_socket()).unwrap();
    assert_eq!(socket.mode() & 0o777, 0o660);
    assert_eq!(socket.gid(), addrauth_tests::postfix::number_of("-g"));
}

/// Asserts that bob's mailbox stays at `count` for a second: deliveries here take a tenth of that.
fn assert_nothing_more_comes(door: &Door, count: usize) {
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(door.mailbox("bob").len(), count, "{}", door.log());
}
