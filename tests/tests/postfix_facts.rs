//! What Postfix does between an SMTP client and a milter: the facts that the filter is built on, shown with a stand-in.

use addrauth_tests::postfix::{Bed, Door, Kind, as_sent};
use addrauth_tests::probe::{self, Packet, Probe};
use addrauth_tests::smtp::{self, Reply};

const HEAD: &[u8] = b"From: alice@send.test\r\nSubject: a\r\n";
const TAIL: &[u8] = b"\r\nTo: bob\r\n\r\nbody\r\n";

/// The frames that delete `count` key fields in this order of indexes, then accept.
fn delete(indexes: impl Iterator<Item = u32>) -> Vec<u8> {
    let mut frames: Vec<u8> = indexes.flat_map(|index| probe::change("X-Auth-Key", index, "")).collect();
    frames.extend(probe::accept());
    frames
}

/// Deletes every key field that Postfix showed, from the last to the first.
fn delete_all(packets: &[Packet]) -> Vec<u8> {
    let fields = probe::fields(packets);
    let count = fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("X-Auth-Key")).count();
    delete((1..=u32::try_from(count).unwrap()).rev())
}

/// What a message with `odd` in its header became on its way through a milter that deletes all keys.
struct Passed {
    /// The fields that the milter saw, without From, Subject and To.
    seen: Vec<(String, Vec<u8>)>,
    /// The body that it saw.
    body: Vec<u8>,
    /// The delivered file, without what Postfix added.
    file: Vec<u8>,
}

fn pass(bed: &Bed, odd: &[u8]) -> Passed {
    let door = bed.door(Kind::Inet);
    let milter = Probe::inet(door.milter_port(), delete_all);
    let reply = send(&door, &[HEAD, odd, TAIL].concat());
    assert_eq!(reply.code, 250, "{reply:?}");
    let packets = milter.messages().pop().unwrap();
    let mut seen = probe::fields(&packets);
    seen.retain(|(name, _)| !["From", "Subject", "To"].contains(&name.as_str()));
    Passed { seen, body: probe::body(&packets), file: as_sent(&door.delivered("bob", 1)[0]) }
}

fn send(door: &Door, message: &[u8]) -> Reply {
    smtp::send(door.port, "alice@send.test", &[&door.address("bob")], message)
}

#[test]
fn postfix_hands_over_every_spelling_of_a_field_under_its_bare_name_and_deletes_it() {
    let Some(bed) = Bed::shared() else { return };
    let spellings: [(&[u8], &[u8]); 9] = [
        (b"X-Auth-Key : v", b" v"),
        (b"X-Auth-Key\t: v", b" v"),
        (b"x-auth-KEY:v", b"v"),
        (b"X-Auth-Key:\r\n v", b"\n v"),
        (b"X-Auth-Key: v\r\n \r\n w", b" v\n \n w"),
        (b"X-Auth-Key:", b""),
        (b"X-Auth-Key: \xff\xfe", b" \xff\xfe"),
        // NUL ends what the milter is shown, but not what is deleted; a bare CR becomes a space.
        (b"X-Auth-Key: v\0w", b" v"),
        (b"X-Auth-Key: v\rX-Auth-Key: w", b" v X-Auth-Key: w"),
    ];
    for (sent, value) in spellings {
        let passed = pass(bed, sent);
        let text = String::from_utf8_lossy(sent);
        assert_eq!(passed.seen.len(), 1, "{text:?}: {:?}", passed.seen);
        assert!(passed.seen[0].0.eq_ignore_ascii_case("X-Auth-Key"), "{text:?}: {:?}", passed.seen);
        assert_eq!(passed.seen[0].1, value, "{text:?}");
        assert_eq!(passed.body, b"body\r\n", "{text:?}");
        let left = String::from_utf8(passed.file).unwrap();
        assert_eq!(left, "From: alice@send.test\nSubject: a\nTo: bob\n\nbody\n", "{text:?}");
    }
}

/// A field of this name, its value octets `o` in lines of at most `line`, `END` behind them.
fn long(name: &str, octets: usize, line: usize) -> Vec<u8> {
    let lines: Vec<Vec<u8>> = vec![b'o'; octets].chunks(line).map(<[u8]>::to_vec).collect();
    [name.as_bytes(), b": ", &lines.join(&b"\r\n "[..]), b"END"].concat()
}

#[test]
fn postfix_cuts_a_field_at_60_000_octets_deletes_the_whole_of_it_and_what_was_cut_off_is_gone() {
    let Some(bed) = Bed::shared() else { return };
    // Below the limit, over it and below header_size_limit, over both; in one line and in folds.
    for (octets, line) in [(59_000, 59_000), (70_000, 70_000), (200_000, 200_000), (90_000, 900), (200_000, 900)] {
        let about = format!("{octets} octets in lines of {line}");
        let after = "X-Auth-Key: behind\r\nX-Auth-Key-Status: VALIDKEY";
        let passed = pass(bed, &[&long("X-Auth-Key", octets, line)[..], b"\r\n", after.as_bytes()].concat());
        let names: Vec<&str> = passed.seen.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["X-Auth-Key", "X-Auth-Key", "X-Auth-Key-Status"], "{about}");
        let value = &passed.seen[0].1;
        let whole = "X-Auth-Key:".len() + value.len();
        match (octets, line) {
            (59_000, _) => assert!(value.ends_with(b"END") && whole == "X-Auth-Key: END".len() + octets, "{about}"),
            (_, 900) => assert!((59_000..=60_000).contains(&whole) && value.ends_with(b"oo"), "{about}: {whole}"),
            _ => assert_eq!(whole, 60_000, "{about}"),
        }
        assert_eq!(passed.body, b"body\r\n", "{about}");
        // Every key is deleted, and nothing of the long one, whether it was shown or not, became something else.
        let left = String::from_utf8(passed.file).unwrap();
        assert_eq!(
            left, "From: alice@send.test\nSubject: a\nX-Auth-Key-Status: VALIDKEY\nTo: bob\n\nbody\n",
            "{about}"
        );
    }
}

#[test]
fn a_reader_of_a_long_field_gets_no_more_of_it_than_the_milter_and_what_follows_is_seen() {
    let Some(bed) = Bed::shared() else { return };
    for (octets, line) in [(70_000, 70_000), (200_000, 200_000), (90_000, 900), (200_000, 900)] {
        let passed =
            pass(bed, &[&long("X-Odd", octets, line)[..], b"\r\n X-Auth-Key: fold\r\nX-Auth-Key: behind"].concat());
        let names: Vec<&str> = passed.seen.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["X-Odd", "X-Auth-Key"], "{octets} {line}");
        let file = String::from_utf8(passed.file).unwrap();
        let shown = String::from_utf8(passed.seen[0].1.clone()).unwrap();
        assert_eq!(
            file,
            format!("From: alice@send.test\nSubject: a\nX-Odd:{shown}\nTo: bob\n\nbody\n"),
            "{octets} {line}"
        );
        assert!(!file.contains("X-Auth-Key") && !file.contains("END"), "{octets} {line}");
    }
}

#[test]
fn postfix_finds_owners_in_the_order_of_the_vectors() {
    let Some(bed) = Bed::shared() else { return };
    let (door, to) = (bed.door(Kind::Owning), format!("RCPT TO:<{}>", bed.door(Kind::Bare).address("bob")));
    let rows = include_str!("../vectors/owners/rows");
    let owners = include_str!("../vectors/owners/owners");
    let mut session = smtp::Session::open(door.port);
    for (sender, owner) in owners.lines().filter_map(|line| line.split_once('\t')) {
        for login in rows.lines().filter_map(|row| row.split('\t').nth(1)) {
            assert_eq!(session.say(&format!("XCLIENT LOGIN={login}")).code, 220);
            assert_eq!(session.say("EHLO client.test").code, 250);
            assert_eq!(session.say(&format!("MAIL FROM:<{sender}>")).code, 250, "{sender}");
            let reply = session.say(&to);
            assert_eq!(reply.code, if login == owner { 250 } else { 553 }, "{login} {sender}: {reply:?}");
            session.say("RSET");
        }
    }
}

#[test]
fn postfix_takes_a_bare_line_feed_for_a_line_end() {
    let Some(bed) = Bed::shared() else { return };
    let passed = pass(bed, b"X-Auth-Key: v\nX-Auth-Key: w");
    assert_eq!(passed.seen.len(), 2);
    assert!(!String::from_utf8_lossy(&passed.file).contains("X-Auth-Key"));
}

#[test]
fn postfix_ends_the_header_at_a_junk_line_and_calls_the_rest_body() {
    let Some(bed) = Bed::shared() else { return };
    let passed = pass(bed, b"junk line\r\nX-Auth-Key: v");
    assert_eq!(passed.seen, []);
    assert_eq!(passed.body, b"junk line\r\nX-Auth-Key: v\r\nTo: bob\r\n\r\nbody\r\n");
    // The delivered file has an empty line before the junk: what follows is body for every reader.
    let file = String::from_utf8(passed.file).unwrap();
    assert_eq!(file, "From: alice@send.test\nSubject: a\n\njunk line\nX-Auth-Key: v\nTo: bob\n\nbody\n");
}

#[test]
fn postfix_takes_an_indented_key_field_for_a_fold_of_the_field_above() {
    let Some(bed) = Bed::shared() else { return };
    let passed = pass(bed, b" X-Auth-Key: v");
    assert_eq!(passed.seen, []);
    assert!(String::from_utf8(passed.file).unwrap().contains("Subject: a\n X-Auth-Key: v\n"));
}

#[test]
fn postfix_counts_the_fields_that_are_left_so_that_deleting_upwards_leaves_every_second_one() {
    let Some(bed) = Bed::shared() else { return };
    let four = b"X-Auth-Key: one\r\nx-auth-key: two\r\nX-AUTH-KEY: three\r\nX-aUtH-kEy: four";
    let message = [HEAD, four, TAIL].concat();
    let down = bed.door(Kind::Inet);
    Probe::inet(down.milter_port(), |_| delete((1..=4).rev()));
    assert_eq!(send(&down, &message).code, 250);
    assert_eq!(as_sent(&down.delivered("bob", 1)[0]), b"From: alice@send.test\nSubject: a\nTo: bob\n\nbody\n");
    let up = bed.door(Kind::Inet);
    Probe::inet(up.milter_port(), |_| delete(1..=4));
    assert_eq!(send(&up, &message).code, 250);
    let left = String::from_utf8(as_sent(&up.delivered("bob", 1)[0])).unwrap();
    assert!(
        left.contains("two") && left.contains("four") && !left.contains("one") && !left.contains("three"),
        "{left}"
    );
}

#[test]
fn postfix_inserts_at_0_above_its_own_received_field_and_at_1_below_it() {
    let Some(bed) = Bed::shared() else { return };
    let door = bed.door(Kind::Inet);
    Probe::inet(door.milter_port(), |_| {
        [probe::insert(0, "X-Zero", " v"), probe::insert(1, "X-One", " v"), probe::accept()].concat()
    });
    assert_eq!(send(&door, &[HEAD, b"X: y", TAIL].concat()).code, 250);
    let file = String::from_utf8(door.delivered("bob", 1)[0].clone()).unwrap();
    let at = |name: &str| file.find(&format!("\n{name}:")).unwrap_or_else(|| panic!("no {name} in\n{file}"));
    assert!(at("X-Zero") < at("X-One") && at("X-Zero") < at("Received") && at("X-One") < at("From"), "{file}");
}

#[test]
fn a_chrooted_smtpd_finds_the_socket_in_its_queue_directory() {
    let Some(bed) = Bed::shared() else { return };
    let door = bed.door(Kind::Chroot);
    let milter = Probe::unix(&door.milter_socket(), delete_all);
    let reply = send(&door, &[HEAD, b"X-Auth-Key: v", TAIL].concat());
    assert_eq!(reply.code, 250, "{reply:?}\n{}", door.log());
    assert_eq!(milter.messages().len(), 1);
    assert_eq!(as_sent(&door.delivered("bob", 1)[0]), b"From: alice@send.test\nSubject: a\nTo: bob\n\nbody\n");
}

#[test]
fn postfix_says_451_at_mail_while_its_milter_is_down() {
    let Some(bed) = Bed::shared() else { return };
    let door = bed.door(Kind::Inet);
    let reply = send(&door, &[HEAD, b"X: y", TAIL].concat());
    assert_eq!(reply.code, 451, "{reply:?}");
}

#[test]
fn a_login_reaches_the_milter_as_auth_authen() {
    let Some(bed) = Bed::shared() else { return };
    let door = bed.door(Kind::Submission);
    let milter = Probe::inet(door.milter_port(), delete_all);
    let mut session = smtp::Session::open(door.port);
    session.log_in(addrauth_tests::postfix::ALICE);
    let reply = session.deliver("alice@send.test", &[&door.address("bob")], &[HEAD, b"X: y", TAIL].concat());
    assert_eq!(reply.code, 250, "{reply:?}");
    let login = b"{auth_authen}\0alice@send.test\0";
    let packets = milter.messages().pop().unwrap();
    let told = |octets: &[u8]| octets.first() == Some(&b'M') && octets.windows(login.len()).any(|w| w == login);
    assert!(packets.iter().any(|(command, octets)| *command == b'D' && told(octets)), "{packets:?}");
}
