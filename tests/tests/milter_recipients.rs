//! The milter door and a message's recipients: told apart at RCPT, struck out and redirected at the end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use addrauth::config::Limits;
use addrauth_lab::mta::{Envelope, Fate, Mta, Offer, Outcome};
use addrauth_tests::milter::{Daemon, Fake, POSTFIX, Peer, open, open_with};

const PLACE: &str = "inet:127.0.0.1:0";
const CONTINUE: Option<(u8, Vec<u8>)> = Some((b'c', vec![]));

fn to(recipients: &[&str]) -> Envelope {
    let recipients = recipients.iter().map(|recipient| (*recipient).to_owned()).collect();
    Envelope { recipients, ..Envelope::inbound("a@one.example", "") }
}

async fn sent(mta: &mut Mta, envelope: &Envelope, subject: &str) -> Outcome {
    mta.send(envelope, format!("Subject: {subject}\r\n\r\nx").as_bytes()).await.unwrap()
}

fn is_later(outcome: &Outcome) -> bool {
    matches!(&outcome.fate, Fate::Refused(text) if text.starts_with("451 4.3.0 ")) && outcome.recipients.is_empty()
}

/// The recipients of the messages that were kept.
fn kept(daemon: &Daemon) -> Vec<Vec<String>> {
    let path = |path: &[u8]| String::from_utf8_lossy(path).into_owned();
    let judge = daemon.fake();
    let kept = judge.kept.lock().unwrap();
    kept.iter().map(|mail| mail.recipients.iter().map(|recipient| path(&recipient.path)).collect()).collect()
}

#[tokio::test]
async fn the_others_are_struck_out_by_the_octets_they_came_with_and_the_rest_get_the_message() {
    let daemon = open(PLACE, Limits::default());
    let mut mta = Mta::connect(&daemon.place).await.unwrap();
    let envelope = to(&["Bob@Two.Example", "bob@two.example", "c@three.example"]);
    let outcome = sent(&mut mta, &envelope, "remove 0 2").await;
    assert_eq!((outcome.fate, outcome.recipients), (Fate::Delivered, vec!["bob@two.example".to_owned()]));
    assert_eq!(outcome.message, b"X-Judge: one\r\nSubject: remove 0 2\r\n\r\nx");
    let outcome = sent(&mut mta, &envelope, "redirect bob+Junk@two.example").await;
    assert_eq!(outcome.recipients, ["bob@two.example", "c@three.example", "bob+Junk@two.example"]);
}

#[tokio::test]
async fn an_envelope_is_never_left_empty_but_for_somebody_in_the_place_of_the_last() {
    let daemon = open(PLACE, Limits::default());
    let mut mta = Mta::connect(&daemon.place).await.unwrap();
    let both = to(&["b@two.example", "c@three.example"]);
    assert!(is_later(&sent(&mut mta, &both, "remove 0 1").await));
    assert!(is_later(&sent(&mut mta, &both, "remove 2").await));
    let alone = sent(&mut mta, &to(&["b@two.example"]), "redirect b+Junk@two.example").await;
    assert_eq!((alone.fate, alone.recipients), (Fate::Delivered, vec!["b+Junk@two.example".to_owned()]));
}

#[tokio::test]
async fn an_mta_that_lets_a_milter_change_no_recipients_gets_451_for_a_message_that_needs_it() {
    let daemon = open(PLACE, Limits::default());
    let envelope = to(&["b@two.example", "c@three.example"]);
    for (lacking, subject, later) in [
        (0x08, "remove 0", true),
        (0x04, "remove 0", false),
        (0x04, "redirect d@two.example", true),
        (0x08, "redirect d@two.example", true),
        (0x0c, "x", false),
    ] {
        let offer = Offer { actions: 0x1ff & !lacking, ..Offer::default() };
        let mut mta = Mta::connect_offering(&daemon.place, offer).await.unwrap();
        assert_eq!(is_later(&sent(&mut mta, &envelope, subject).await), later, "{lacking:#x} {subject}");
    }
}

#[tokio::test]
async fn a_recipient_unlike_the_first_is_told_to_come_alone_and_is_no_part_of_the_message() {
    let daemon = open_with(Fake::splitting(), PLACE, Limits::default());
    let mut mta = Mta::connect(&daemon.place).await.unwrap();
    let envelope = to(&["a@one.example", "b@two.example", "c@one.example", "d@two.example"]);
    let outcome = sent(&mut mta, &envelope, "x").await;
    assert_eq!(outcome.fate, Fate::Delivered);
    assert_eq!(outcome.recipients, ["a@one.example", "c@one.example"]);
    let text = "452 4.5.3 One recipient at a time here, please send to this one again";
    let refused = ["b@two.example", "d@two.example"].map(|refused| (refused.to_owned(), text.to_owned()));
    assert_eq!(outcome.refused, refused);
    let outcome = sent(&mut mta, &to(&["b@two.example", "d@two.example"]), "x").await;
    assert_eq!((outcome.recipients.len(), outcome.refused.len()), (2, 0));
    let expected = [["<a@one.example>", "<c@one.example>"], ["<b@two.example>", "<d@two.example>"]];
    assert_eq!(kept(&daemon), expected);
}

#[tokio::test]
async fn a_login_is_told_of_no_recipient_to_come_again_since_no_mail_client_would() {
    let daemon = open_with(Fake::splitting(), PLACE, Limits::default());
    let mut mta = Mta::connect(&daemon.place).await.unwrap();
    let envelope = Envelope { login: Some("alice".into()), ..to(&["a@one.example", "b@two.example"]) };
    let outcome = sent(&mut mta, &envelope, "x").await;
    assert_eq!((outcome.recipients.len(), outcome.refused.len()), (2, 0));
}

#[tokio::test]
async fn a_comparison_that_takes_too_long_or_panics_is_the_last_one_and_the_recipients_stay_together() {
    let limits = Limits::default().with(|limits| limits.mta.compare = Duration::from_millis(200));
    let daemon = open_with(Fake::splitting(), PLACE, limits);
    let mut mta = Mta::connect(&daemon.place).await.unwrap();
    for (first, compared) in [("slow@two.example", 1), ("panic@two.example", 2)] {
        let since = Instant::now();
        let outcome = sent(&mut mta, &to(&["a@one.example", first, "slow@three.example", "d@four.example"]), "x").await;
        assert_eq!((outcome.fate, outcome.recipients.len()), (Fate::Delivered, 4));
        assert!(since.elapsed() < Duration::from_secs(60));
        assert_eq!(daemon.fake().compared.load(Ordering::SeqCst), compared);
    }
    // The next message's are compared again.
    assert_eq!(sent(&mut mta, &to(&["a@one.example", "b@two.example"]), "x").await.refused.len(), 1);
}

#[tokio::test]
async fn where_recipients_are_not_told_apart_rcpt_is_not_answered_and_nobody_is_compared() {
    let daemon = open(PLACE, Limits::default());
    let mut peer = Peer::negotiate(&daemon.place, POSTFIX).await;
    peer.say(&[(b'M', b"<>\0"), (b'R', b"<a@one.example>\0"), (b'R', b"<b@two.example>\0"), (b'N', b"")]).await;
    assert_eq!(peer.hear().await, CONTINUE);
    assert!(peer.hears_nothing().await);
    // An MTA that wants an answer to each all the same gets one.
    let mut peer = Peer::negotiate(&daemon.place, [6, 0x1ff, 0x1f_ffff & !0x8000]).await;
    for frame in [(b'M', &b"<>\0"[..]), (b'R', b"<a@one.example>\0"), (b'R', b"<b@two.example>\0")] {
        peer.say(&[frame]).await;
        assert_eq!(peer.hear().await, CONTINUE);
    }
    assert_eq!(daemon.fake().compared.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn the_judge_of_the_messages_own_snapshot_tells_its_recipients_apart() {
    let daemon = open_with(Fake::splitting(), PLACE, Limits::default());
    let mut mta = Mta::connect(&daemon.place).await.unwrap();
    let envelope = to(&["a@one.example", "b@two.example"]);
    assert_eq!(sent(&mut mta, &envelope, "x").await.refused.len(), 1);
    // A reload ends it on connections that stay open; one that begins it counts for those that come.
    daemon.judge.send(Fake::named("together")).unwrap();
    assert_eq!(sent(&mut mta, &envelope, "x").await.refused.len(), 0);
    let mut together = Mta::connect(&daemon.place).await.unwrap();
    daemon.judge.send(Fake::splitting()).unwrap();
    assert_eq!(sent(&mut mta, &envelope, "x").await.refused.len(), 1);
    assert_eq!(sent(&mut together, &envelope, "x").await.recipients.len(), 2);
    let mut apart = Mta::connect(&daemon.place).await.unwrap();
    assert_eq!(sent(&mut apart, &envelope, "x").await.refused.len(), 1);
    assert_eq!(Arc::strong_count(&daemon.fake()), 2);
}

#[tokio::test]
async fn n_recipients_over_the_limit_come_again_where_rcpt_is_answered_and_are_refused_for_good_where_it_is_not() {
    let limits = Limits::default().with(|limits| limits.mta.recipients = 2);
    let daemon = open_with(Fake::splitting(), PLACE, limits.clone());
    let mut mta = Mta::connect(&daemon.place).await.unwrap();
    let within = to(&["a@one.example", "b@two.example", "c@one.example"]);
    assert_eq!(sent(&mut mta, &within, "x").await.recipients.len(), 2);
    let over = to(&["a@one.example", "b@one.example", "c@one.example", "d@one.example"]);
    let outcome = sent(&mut mta, &over, "x").await;
    assert_eq!((outcome.fate, outcome.recipients.len(), outcome.refused.len()), (Fate::Delivered, 2, 2));
    assert!(outcome.refused.iter().all(|(_, reply)| reply.starts_with("452 4.5.3 ")), "{:?}", outcome.refused);

    let daemon = open(PLACE, limits);
    let mut mta = Mta::connect(&daemon.place).await.unwrap();
    for _ in 0..2 {
        let outcome = sent(&mut mta, &over, "x").await;
        assert!(matches!(&outcome.fate, Fate::Refused(text) if text.starts_with("554 5.5.3 ")), "{outcome:?}");
        assert_eq!(sent(&mut mta, &within, "x").await.fate, outcome.fate);
    }
    assert_eq!(sent(&mut mta, &to(&["a@one.example", "b@one.example"]), "x").await.recipients.len(), 2);
}

/// What Postfix 3.7.11 says at RCPT (measured), path and macros; then whom the message is for, as the judge sees it.
#[tokio::test]
async fn whom_postfix_takes_a_path_for_is_who_the_judge_sees_and_the_path_strikes_him_out() {
    let daemon = open(PLACE, Limits::default());
    let mut peer = Peer::negotiate(&daemon.place, POSTFIX).await;
    let macros =
        |said: &str| format!("Ri\0Q\0{{rcpt_addr}}\0{said}\0{{rcpt_host}}\0two.example\0{{rcpt_mailer}}\0virtual\0");
    let said = [
        ("<boss%two.example>", Some("boss@two.example")),
        ("<(c)Bob@two.example >", Some("bob@two.example")),
        ("<carol>", Some("carol@two.example")),
        ("<\"a b\"@two.example>", Some("a b@two.example")),
        ("<dave%two.example>", None),
    ];
    peer.say(&[(b'D', b"Cj\0mx.example\0v\0Postfix 3.7.11\0"), (b'C', b"x\x004\x9c\x40192.0.2.7\0")]).await;
    peer.say(&[(b'M', b"<a@one.example>\0")]).await;
    assert_eq!(peer.hear().await, CONTINUE);
    for (path, said) in said {
        if let Some(said) = said {
            peer.say(&[(b'D', macros(said).as_bytes())]).await;
        }
        peer.say(&[(b'R', format!("{path}\0").as_bytes())]).await;
    }
    peer.say(&[(b'L', b"Subject\0 remove 0 1 2\0"), (b'N', b""), (b'E', b"")]).await;
    let mut deleted = Vec::new();
    loop {
        match peer.hear().await.unwrap() {
            (b'-', path) => deleted.push(String::from_utf8(path).unwrap()),
            (b'a', _) => break,
            (b'i', _) => {}
            other => panic!("{other:?}"),
        }
    }
    deleted.sort();
    assert_eq!(deleted, ["<(c)Bob@two.example >\0", "<boss%two.example>\0", "<carol>\0"]);
    let who = |address: &str| Some(address.to_owned());
    let judge = daemon.fake();
    let kept = judge.kept.lock().unwrap();
    let seen: Vec<_> =
        kept[0].recipients.iter().map(|recipient| recipient.address().map(ToString::to_string)).collect();
    let expected = ["boss@two.example", "Bob@two.example", "carol@two.example", "\"a b\"@two.example"].map(who);
    assert_eq!((&seen[..4], &seen[4]), (&expected[..], &None));
}

#[tokio::test]
async fn a_path_that_may_not_strike_its_recipient_out_is_none_to_do_it_by() {
    let daemon = open(PLACE, Limits::default());
    let mut mta = Mta::connect(&daemon.place).await.unwrap();
    for odd in ["@x.test:b@two.example", "<b@two.example>", "b:b@two.example;"] {
        assert!(is_later(&sent(&mut mta, &to(&[odd, "c@three.example"]), "remove 0").await), "{odd}");
        let outcome = sent(&mut mta, &to(&[odd, "c@three.example"]), "remove 1").await;
        assert_eq!((outcome.fate, outcome.recipients), (Fate::Delivered, vec![odd.to_owned()]));
    }
}

/// Postfix's cleanup would answer a refusal with a deferral that never ends.
#[tokio::test]
async fn no_recipient_of_a_message_by_sendmail_is_refused_by_himself() {
    let limits = Limits::default().with(|limits| {
        limits.mta.recipients = 3;
        limits.mta.text = 200;
    });
    let daemon = open_with(Fake::splitting(), PLACE, limits);
    let mut mta = Mta::connect(&daemon.place).await.unwrap();
    mta.picks_up();
    let unlike = to(&["a@one.example", "b@two.example", "c@three.example"]);
    let outcome = sent(&mut mta, &unlike, "x").await;
    assert_eq!((outcome.fate, outcome.refused.len()), (Fate::Delivered, 0));
    assert_eq!(outcome.recipients, ["a@one.example", "b@two.example", "c@three.example"]);
    assert_eq!(daemon.fake().compared.load(Ordering::SeqCst), 0);
    let long = format!("{}@one.example", "x".repeat(300));
    let many = to(&["a@one.example", "b@one.example", "c@one.example", "d@one.example", "e@one.example"]);
    for (envelope, words) in [
        (many, "554 5.5.3 "),
        (to(&["a@one.example", &long, "b@one.example"]), "554 5.1.3 "),
        (to(&[&long]), "554 5.1.3 "),
    ] {
        let outcome = sent(&mut mta, &envelope, "x").await;
        assert!(matches!(&outcome.fate, Fate::Refused(text) if text.starts_with(words)), "{outcome:?}");
        // What is answered after RCPT is the message's own.
        assert_eq!((outcome.at, outcome.refused.len()), ('B', 0));
    }
    assert_eq!(sent(&mut mta, &unlike, "x").await.recipients.len(), 3);
}

/// What a Stalwart says of a client, and of a message to these recipients up to its end, in one connection.
async fn stalwart(daemon: &Daemon, recipients: &[&str], at_data: bool) -> Vec<(u8, Vec<u8>)> {
    let mut peer = Peer::negotiate(&daemon.place, [6, 0xff, 0x42]).await;
    let mut heard = Vec::new();
    let paths: Vec<String> = recipients.iter().map(|recipient| format!("<{recipient}>\0")).collect();
    let mut frames: Vec<(u8, &[u8])> = vec![(b'C', b"client.test\x004\x9c@192.0.2.10\0"), (b'H', b"client.test\0")];
    frames.push((b'M', b"<a@one.example>\0"));
    frames.extend(paths.iter().map(|path| (b'R', path.as_bytes())));
    if at_data {
        frames.extend([(b'T', &b""[..]), (b'L', b"Subject\0x\0"), (b'N', b""), (b'B', b"Subject: x\r\n\r\nx\r\n")]);
    }
    peer.say(&[(b'D', b"C{daemon_name}\0Stalwart v0.15.5\0")]).await;
    for frame in frames {
        peer.say(&[frame]).await;
        heard.extend(peer.hear().await);
        // As Stalwart does: whatever is no "go on" ends it.
        if heard.last().is_some_and(|(command, _)| *command != b'c') {
            return heard;
        }
    }
    if at_data {
        peer.say(&[(b'E', b"")]).await;
        while heard.last().is_some_and(|(command, _)| !matches!(command, b'a' | b'y')) {
            heard.extend(peer.hear().await);
        }
    }
    peer.say(&[(b'Q', b"")]).await;
    assert_eq!(peer.hear().await, None);
    heard
}

fn refused(heard: &[(u8, Vec<u8>)], begin: &str) -> bool {
    heard.last().is_some_and(|(command, text)| *command == b'y' && text.starts_with(begin.as_bytes()))
}

#[tokio::test]
async fn a_stalwart_that_asks_at_rcpt_has_recipients_told_apart_and_one_that_does_not_is_refused_with_words() {
    let daemon = open_with(Fake::splitting(), PLACE, Limits::default());
    let both = ["b@two.example", "c@three.example"];
    for recipients in [&both[..1], &both] {
        assert!(refused(&stalwart(&daemon, recipients, true).await, "451 4.3.5 "));
    }
    assert_eq!(daemon.fake().compared.load(Ordering::SeqCst), 0);
    // The stage RCPT: the first recipient alone, then both.
    assert!(stalwart(&daemon, &both[..1], false).await.iter().all(|(command, _)| *command == b'c'));
    assert!(refused(&stalwart(&daemon, &both, false).await, "452 4.5.3 "));
    let heard = stalwart(&daemon, &both[..1], true).await;
    assert_eq!(heard.last(), Some(&(b'a', vec![])), "{heard:?}");
    assert_eq!(kept(&daemon), [["<b@two.example>"]]);
}
