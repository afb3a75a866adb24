//! The milter door behind a real Postfix, with a judge that does what the Subject says: bodies that are to be kept, recipients
//! struck out, redirected and told apart. Where `ADDRAUTH_LIVE` is not set, each test says that it is skipped.

use std::sync::Arc;
use std::time::Duration;

use addrauth::case::Body;
use addrauth::config::Limits;
use addrauth_tests::milter::{Daemon, Fake, open_with};
use addrauth_tests::postfix::{Bed, Door, Kind};
use addrauth_tests::smtp::{self, Session};

fn behind(bed: &Bed, judge: Arc<Fake>, limits: Limits) -> (Door, Daemon) {
    let door = bed.door(Kind::Inet);
    let daemon = open_with(judge, &door.milter, limits);
    (door, daemon)
}

fn message(subject: &str, body: &str) -> Vec<u8> {
    format!("From: alice@send.test\r\nSubject: {subject}\r\n\r\n{body}").into_bytes()
}

/// Hands a message over, and waits until nothing of it is under way.
fn deliver(bed: &Bed, door: &Door, to: &[&str], subject: &str) -> u16 {
    let to: Vec<String> = to.iter().map(|user| door.address(user)).collect();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    let code = smtp::send(door.port, "alice@send.test", &to, &message(subject, "x\r\n")).code;
    for _ in 0..200 {
        if bed.is_idle() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    code
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_wanted_comes_whole_and_one_that_is_not_is_delivered_all_the_same() {
    let Some(bed) = Bed::shared() else { return };
    let (door, daemon) = behind(bed, Fake::named("one"), Limits::default());
    let long = ".\r\n..\r\n \t\r\n".to_owned() + &"0123456789abcd\r\n".repeat(20_000);
    let bob = door.address("bob");
    for (subject, body) in [("body", long.as_str()), ("x", long.as_str()), ("body", ""), ("body", "short\r\n")] {
        assert_eq!(smtp::send(door.port, "alice@send.test", &[&bob], &message(subject, body)).code, 250);
    }
    let judge = daemon.fake();
    let kept = judge.bodies.lock().unwrap().clone();
    let wanted = |body: &str| Some(Body(body.as_bytes().to_vec()));
    assert!(kept == [wanted(&long), None, wanted(""), wanted("short\r\n")], "{kept:?}");
    let delivered = door.delivered("bob", 4);
    let whole = |file: &&Vec<u8>| file.ends_with(long.replace("\r\n", "\n").as_bytes());
    assert_eq!(delivered.iter().filter(whole).count(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_at_the_first_piece_of_a_body_or_at_a_later_one_is_refused_and_the_next_message_is_well() {
    let Some(bed) = Bed::shared() else { return };
    let limits = Limits::default().with(|limits| {
        limits.custody.body_octets = 100_000;
        limits.mta.examine = Duration::from_millis(200);
    });
    let (door, _daemon) = behind(bed, Fake::named("one"), limits);
    let (bob, large) = (door.address("bob"), "0123456789abcd\r\n".repeat(20_000));
    let mut session = Session::open(door.port);
    for (subject, body, code, status) in [
        ("panic", "x\r\n", 451, "4.3.0 "),
        ("never", "x\r\n", 451, "4.3.0 "),
        ("never", &large, 451, "4.3.0 "),
        ("body", &large, 552, "5.3.4 "),
        ("panic", "", 451, "4.3.0 "),
    ] {
        let reply = session.deliver("alice@send.test", &[&bob], &message(subject, body));
        assert!(reply.code == code && reply.text.starts_with(status), "{subject}: {reply:?}");
        assert_eq!(session.deliver("alice@send.test", &[&bob], &message("x", body)).code, 250);
    }
    assert_eq!(door.delivered("bob", 5).len(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postfix_delivers_to_those_who_are_left_and_to_those_who_were_added() {
    let Some(bed) = Bed::shared() else { return };
    let (door, _daemon) = behind(bed, Fake::named("one"), Limits::default());
    assert_eq!(deliver(bed, &door, &["bob", "carol"], "remove 0"), 250);
    assert_eq!((door.mailbox("bob").len(), door.delivered("carol", 1).len()), (0, 1));
    let redirect = format!("redirect {}", door.address("carol"));
    assert_eq!(deliver(bed, &door, &["bob"], &redirect), 250);
    assert_eq!((door.mailbox("bob").len(), door.delivered("carol", 2).len()), (0, 2));
    // Struck out and added at once: he is deleted before he is added, and gets it.
    let both = format!("redirect {}", door.address("bob"));
    assert_eq!(deliver(bed, &door, &["Bob", "bob"], &both), 250);
    assert_eq!(door.delivered("bob", 1).len(), 1);
    // Everybody struck out would be a silent loss.
    assert_eq!(deliver(bed, &door, &["bob", "carol"], "remove 0 1"), 451);
}

/// Spellings of dave@DOMAIN in RCPT, and whether their own octets strike him out.
const DAVE: [(&str, bool); 18] = [
    ("<dave@DOMAIN>", true),
    ("<DAVE@DOMAIN>", true),
    ("<dave@DOMAIN >", true),
    ("<dave @ DOMAIN>", true),
    ("<(c)dave(d)@DOMAIN(e)>", true),
    ("<\"dave\"@\"DOMAIN\">", true),
    ("<d\\ave@\\DOMAIN>", true),
    ("<dave@DOMAIN.>", true),
    ("<dave%DOMAIN>", true),
    ("<DOMAIN!dave>", true),
    ("<\"dave@DOMAIN\">", true),
    ("<dave\\@DOMAIN>", true),
    ("dave@DOMAIN", false),
    ("<@x.test:dave@DOMAIN>", false),
    ("<@x.test,@y.test:dave@DOMAIN>", false),
    ("<<dave@DOMAIN>>", false),
    ("<Dave <dave@DOMAIN>>", false),
    ("<x:dave@DOMAIN;>", false),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whomever_postfix_takes_a_path_for_is_who_is_judged_and_struck_out_or_the_message_is_put_off() {
    let Some(bed) = Bed::shared() else { return };
    let (door, daemon) = behind(bed, Fake::named("one"), Limits::default());
    let (dave, carol) = (door.address("dave"), door.address("carol"));
    let mut struck = 0;
    for (path, certain) in DAVE {
        let mut session = Session::open(door.port);
        assert_eq!(session.say("MAIL FROM:<alice@send.test>").code, 250);
        assert_eq!(session.say(&format!("RCPT TO:{}", path.replace("DOMAIN", &door.domain))).code, 250, "{path}");
        assert_eq!(session.say(&format!("RCPT TO:<{carol}>")).code, 250);
        assert_eq!(session.say("DATA").code, 354);
        session.write(b"Subject: remove 0\r\n\r\nx\r\n.\r\n");
        assert_eq!(session.reply().code, if certain { 250 } else { 451 }, "{path}");
        struck += usize::from(certain);
        assert_eq!(door.delivered("carol", struck).len(), struck);
        let judge = daemon.fake();
        let kept = judge.kept.lock().unwrap();
        let seen = kept.last().and_then(|mail| mail.recipients[0].mailbox());
        assert_eq!(seen.as_deref(), Some(dave.as_str()), "{path}");
    }
    for _ in 0..200 {
        if bed.is_idle() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(door.mailbox("dave").len(), 0, "{}", door.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_hears_452_for_a_recipient_unlike_the_first_and_brings_him_in_another_message() {
    let Some(bed) = Bed::shared() else { return };
    let (door, daemon) = behind(bed, Fake::splitting(), Limits::default());
    let (bob, other) = (format!("RCPT TO:<{}>", door.address("bob")), "RCPT TO:<carol@bench.test>");
    let mut session = Session::open(door.port);
    for first in [bob.as_str(), other] {
        assert_eq!(session.say("MAIL FROM:<alice@send.test>").code, 250);
        assert_eq!(session.say(first).code, 250);
        let second = session.say(if first == other { &bob } else { other });
        assert_eq!(second.code, 452, "{second:?}");
        assert!(second.text.starts_with("4.5.3 One recipient at a time"), "{second:?}");
        assert_eq!(session.say(first).code, 250);
        assert_eq!(session.say("DATA").code, 354);
        session.write(b"Subject: x\r\n\r\nx\r\n.\r\n");
        assert_eq!(session.reply().code, 250);
    }
    let judge = daemon.fake();
    let kept = judge.kept.lock().unwrap();
    assert_eq!(kept.iter().map(|mail| mail.recipients.len()).collect::<Vec<_>>(), [2, 2]);
}
