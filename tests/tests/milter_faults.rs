//! The milter door when things go wrong: aborts, shutdown, too many connections, an MTA that offers less, hostile frames.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use addrauth::case::ReversePath;
use addrauth::config::Limits;
use addrauth_lab::mta::{Envelope, Fate, Mta, Offer};
use addrauth_tests::milter::{POSTFIX, Peer, open};

const PLACE: &str = "inet:127.0.0.1:0";
const CONTINUE: Option<(u8, Vec<u8>)> = Some((b'c', vec![]));
const ACCEPT: Option<(u8, Vec<u8>)> = Some((b'a', vec![]));

fn inbound() -> Envelope {
    Envelope::inbound("a@one.example", "b@two.example")
}

/// From MAIL to the end of the header, with this field.
fn message(field: &[u8]) -> [(u8, &[u8]); 4] {
    [(b'M', b"<a@one.example>\0"), (b'R', b"<b@two.example>\0"), (b'L', field), (b'N', b"")]
}

/// Says a message without any key, and hears it accepted with nothing but the judge's field.
async fn is_well(peer: &mut Peer) {
    peer.say(&message(b"A\0 b\0")).await;
    assert_eq!(peer.hear().await, CONTINUE);
    peer.say(&[(b'E', b"")]).await;
    assert_eq!(peer.hear().await, Some((b'i', b"\0\0\0\0X-Judge\0 one\0".to_vec())));
    assert_eq!(peer.hear().await, ACCEPT);
}

#[tokio::test]
async fn an_abort_in_the_middle_of_a_message_leaves_nothing_of_it() {
    let daemon = open(PLACE, Limits::default());
    let mut peer = Peer::negotiate(&daemon.place, POSTFIX).await;
    let whole = message(b"X-Auth-Key\0 k\0");
    for cut in 1..=whole.len() {
        peer.say(&[(b'D', b"M{auth_authen}\0alice\0i\0QID1\0")]).await;
        peer.say(&whole[..cut]).await;
        assert_eq!(peer.hear().await, CONTINUE);
        peer.say(&[(b'A', b"")]).await;
        is_well(&mut peer).await;
    }
    let kept = daemon.fake();
    let kept = kept.kept.lock().unwrap();
    assert_eq!(kept.len(), whole.len());
    let clean = kept.iter().all(|m| {
        m.head().keys.is_empty()
            && m.recipients.len() == 1
            && m.head().fields.len() == 1
            && m.login.is_none()
            && m.queue_id.is_none()
    });
    assert!(clean, "{kept:?}");
}

#[tokio::test]
async fn an_abort_while_the_answer_is_due_ends_the_examination_and_is_answered_by_nothing() {
    let daemon = open(PLACE, Limits::default());
    let mut peer = Peer::negotiate(&daemon.place, POSTFIX).await;
    peer.say(&message(b"Subject\0 never\0")).await;
    assert_eq!(peer.hear().await, CONTINUE);
    peer.say(&[(b'E', b"")]).await;
    daemon.begun(1).await;
    assert!(peer.hears_nothing().await);
    peer.say(&[(b'A', b"")]).await;
    is_well(&mut peer).await;
    let judge = daemon.fake();
    assert_eq!((judge.begun.load(Ordering::SeqCst), judge.over.load(Ordering::SeqCst)), (2, 2));
    assert_eq!(judge.kept.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_frame_that_does_not_belong_there_while_the_answer_is_due_is_451_and_the_end() {
    let daemon = open(PLACE, Limits::default());
    for stray in *b"MRLEDOZ" {
        let mut peer = Peer::negotiate(&daemon.place, POSTFIX).await;
        peer.say(&message(b"Subject\0 never\0")).await;
        assert_eq!(peer.hear().await, CONTINUE);
        peer.say(&[(b'E', b""), (stray, b"x\0")]).await;
        assert!(peer.hears_451("4.3.0").await, "{}", stray.escape_ascii());
        assert_eq!(peer.hear().await, None);
    }
    assert!(daemon.fake().kept.lock().unwrap().is_empty());
}

#[tokio::test]
async fn at_shutdown_a_message_in_flight_gets_its_answer_and_an_idle_connection_ends() {
    let daemon = open(PLACE, Limits::default());
    let mut idle = Peer::negotiate(&daemon.place, POSTFIX).await;
    let mut peer = Peer::negotiate(&daemon.place, POSTFIX).await;
    peer.say(&message(b"Subject\0 slow\0")).await;
    assert_eq!(peer.hear().await, CONTINUE);
    daemon.shutdown.cancel();
    assert_eq!(idle.hear().await, None);
    peer.say(&[(b'E', b"")]).await;
    assert_eq!(peer.hear().await.map(|(command, _)| command), Some(b'i'));
    assert_eq!(peer.hear().await, ACCEPT);
    assert_eq!(peer.hear().await, None);
    daemon.task.await.unwrap();
}

#[tokio::test]
async fn at_the_end_of_the_drain_what_is_left_gets_451() {
    let drain = Duration::from_millis(300);
    let daemon = open(PLACE, Limits::default().with(|limits| limits.mta.drain = drain));
    let mut due = Peer::negotiate(&daemon.place, POSTFIX).await;
    let mut begun = Peer::negotiate(&daemon.place, POSTFIX).await;
    due.say(&message(b"Subject\0 never\0")).await;
    begun.say(&message(b"Subject\0 never\0")[..2]).await;
    assert_eq!((due.hear().await, begun.hear().await), (CONTINUE, CONTINUE));
    due.say(&[(b'E', b"")]).await;
    daemon.begun(1).await;
    let since = Instant::now();
    daemon.shutdown.cancel();
    for peer in [&mut due, &mut begun] {
        assert!(peer.hears_451("4.3.0").await);
        assert_eq!(peer.hear().await, None);
    }
    assert!(since.elapsed() >= drain);
    daemon.task.await.unwrap();
}

#[tokio::test]
async fn at_shutdown_a_message_that_failed_already_still_hears_451_at_its_end() {
    let daemon = open(PLACE, Limits::default());
    let mut peer = Peer::negotiate(&daemon.place, POSTFIX).await;
    peer.say(&message(b"no value")).await;
    assert_eq!(peer.hear().await, CONTINUE);
    daemon.shutdown.cancel();
    peer.say(&[(b'E', b"")]).await;
    assert!(peer.hears_451("4.3.0").await);
    assert_eq!(peer.hear().await, None);
}

#[tokio::test]
async fn f6_beyond_the_connections_mail_gets_451_beyond_twice_as_many_a_new_one_is_closed() {
    let daemon = open(PLACE, Limits::default().with(|limits| limits.mta.connections = 1));
    let mut seated = Peer::negotiate(&daemon.place, POSTFIX).await;
    let mut standing = Peer::negotiate(&daemon.place, POSTFIX).await;
    assert_eq!(Peer::connect(&daemon.place).await.hear().await, None);
    for _ in 0..2 {
        standing.say(&message(b"A\0 b\0")).await;
        assert!(standing.hears_451("4.3.2").await);
        standing.say(&[(b'E', b"")]).await;
        assert!(standing.hears_451("4.3.2").await);
        standing.say(&[(b'A', b"")]).await;
    }
    is_well(&mut seated).await;
    seated.say(&[(b'Q', b"")]).await;
    assert_eq!(seated.hear().await, None);
    // The seat is free a moment after its connection closed.
    tokio::time::sleep(Duration::from_millis(50)).await;
    is_well(&mut Peer::negotiate(&daemon.place, POSTFIX).await).await;
}

#[tokio::test]
async fn an_mta_that_lets_a_milter_do_less_gets_451_where_the_answer_needs_more() {
    let daemon = open(PLACE, Limits::default());
    let (key, plain, hold) = ("X-Auth-Key: k\r\n\r\n", "A: b\r\n\r\n", "Subject: hold\r\n\r\n");
    for (lacking, message, delivered) in [
        (0x10, key, false),
        (0x10, plain, true),
        (0x01, plain, false),
        (0x20, hold, false),
        (0x20, key, true),
        (0x1ff, "Subject: discard\r\n\r\n", true),
    ] {
        let offer = Offer { actions: 0x1ff & !lacking, ..Offer::default() };
        let mut mta = Mta::connect_offering(&daemon.place, offer).await.unwrap();
        let fate = mta.send(&inbound(), message.as_bytes()).await.unwrap().fate;
        let later = matches!(&fate, Fate::Refused(text) if text.starts_with("451 4.3.0 "));
        assert_eq!(later, !delivered, "{lacking:#x} {message:?}: {fate:?}");
    }
}

#[tokio::test]
async fn old_and_plain_protocols_lose_no_octet_and_keep_no_key() {
    let daemon = open(PLACE, Limits::default());
    let body = "0123456789abcde\n".repeat(20_000);
    let message = ["X-Auth-Key: 1\nA:b\nB: c\nX-Auth-Key:2\n C\n\n", &body].concat();
    let expected = ["X-Judge: one\nA:b\nB: c\n\n", &body].concat();
    let all = Offer::default();
    for offer in [
        Offer { protocol: 0, ..all },
        Offer { protocol: all.protocol & !0x400, ..all },
        Offer { protocol: all.protocol & !0x10_0000, ..all },
        Offer { protocol: all.protocol & !0x8_f080, ..all },
        Offer { version: 2, actions: 0x3f, protocol: 0x7f },
        Offer { version: 4, actions: 0x3f, protocol: 0x3ff },
    ] {
        let mut mta = Mta::connect_offering(&daemon.place, offer).await.unwrap();
        for _ in 0..2 {
            let outcome = mta.send(&inbound(), message.as_bytes()).await.unwrap();
            assert_eq!(outcome.fate, Fate::Delivered, "{offer:?}");
            assert!(outcome.message == expected.as_bytes(), "{offer:?}: {} octets", outcome.message.len());
        }
    }
}

#[tokio::test]
async fn keeping_that_panics_or_never_ends_is_451_and_the_connection_goes_on() {
    let daemon = open(PLACE, Limits::default().with(|limits| limits.mta.answer = Duration::from_millis(200)));
    let mut mta = Mta::connect(&daemon.place).await.unwrap();
    for subject in ["panic in keep", "never kept", "panic in keep"] {
        let outcome = mta.send(&inbound(), format!("Subject: {subject}\r\n\r\nx").as_bytes()).await.unwrap();
        assert!(matches!(&outcome.fate, Fate::Refused(text) if text.starts_with("451 4.3.0 ")), "{outcome:?}");
    }
    assert_eq!(mta.send(&inbound(), b"A: b\r\n\r\n").await.unwrap().fate, Fate::Delivered);
}

#[tokio::test]
async fn two_messages_on_one_connection_do_not_mix() {
    let daemon = open(PLACE, Limits::default());
    let mut mta = Mta::connect(&daemon.place).await.unwrap();
    let first = Envelope {
        login: Some("alice".into()),
        tls: true,
        parameters: vec!["SMTPUTF8".into(), "SIZE=7".into()],
        recipients: vec!["b@two.example".into(), "c@two.example".into()],
        queue_id: "FIRST".into(),
        ..inbound()
    };
    let second = Envelope {
        reverse_path: String::new(),
        helo: "other.example".into(),
        recipients: vec!["d@three.example".into()],
        queue_id: "SECOND".into(),
        ..inbound()
    };
    for envelope in [&first, &second] {
        let message = format!("X-Auth-Key: {}\r\nSubject: {}\r\n\r\nx", "k".repeat(22), envelope.queue_id);
        mta.send(envelope, if envelope.login.is_some() { message.as_bytes() } else { b"A: b\r\n\r\nx" }).await.unwrap();
    }
    let judge = daemon.fake();
    let kept = judge.kept.lock().unwrap();
    let [one, two] = kept.as_slice() else { panic!("{kept:?}") };
    assert_eq!((one.head().keys.len(), one.recipients.len(), one.queue_id.as_deref()), (1, 2, Some("FIRST")));
    assert_eq!((one.login.as_deref(), one.size, one.smtputf8, one.client.tls), (Some("alice"), Some(7), true, true));
    assert_eq!((two.head().keys.len(), two.recipients.len(), two.queue_id.as_deref()), (0, 1, Some("SECOND")));
    assert_eq!((two.login.as_deref(), two.size, two.smtputf8, two.client.tls), (None, None, false, false));
    assert_eq!(
        (two.head().fields.len(), &two.reverse_path, two.client.helo.as_str()),
        (1, &ReversePath::Null, "other.example")
    );
}

#[tokio::test]
async fn a6_a_nul_in_a_value_is_451_for_its_message_and_a_value_that_was_cut_there_goes_with_its_field() {
    let daemon = open(PLACE, Limits::default());
    let mut peer = Peer::negotiate(&daemon.place, POSTFIX).await;
    for field in [b"X-Auth-Key\0 k\0k\0".as_slice(), b"A\0 b\0X-Auth-Key: k\0", b"A\0b\0\0", b"A\0", b"A", b""] {
        peer.say(&message(field)).await;
        assert_eq!(peer.hear().await, CONTINUE);
        peer.say(&[(b'E', b"")]).await;
        assert!(peer.hears_451("4.3.0").await, "{}", field.escape_ascii());
        is_well(&mut peer).await;
    }
    let mut mta = Mta::connect(&daemon.place).await.unwrap();
    let outcome = mta.send(&inbound(), b"X-Auth-Key: k\0X-Auth-Key: k\r\nA: b\r\n\r\nx").await.unwrap();
    assert_eq!((outcome.fate, outcome.message), (Fate::Delivered, b"X-Judge: one\r\nA: b\r\n\r\nx".to_vec()));
}

#[tokio::test]
async fn macros_between_any_two_commands_change_nothing_and_a_cut_one_is_451_and_the_end() {
    let daemon = open(PLACE, Limits::default());
    let mut peer = Peer::negotiate(&daemon.place, POSTFIX).await;
    let aside: (u8, &[u8]) = (b'D', b"Xi\0QID1\0{x}\0y\0");
    let whole = message(b"A\0 b\0");
    for frame in whole {
        peer.say(&[aside, frame, aside]).await;
    }
    assert_eq!(peer.hear().await, CONTINUE);
    peer.say(&[aside, (b'E', b"")]).await;
    assert_eq!(peer.hear().await.map(|(command, _)| command), Some(b'i'));
    assert_eq!(peer.hear().await, ACCEPT);
    is_well(&mut peer).await;
    peer.say(&whole[..2]).await;
    assert_eq!(peer.hear().await, CONTINUE);
    peer.say(&[(b'D', b"Li\0")]).await;
    assert!(peer.hears_451("4.3.0").await);
    assert_eq!(peer.hear().await, None);
}

#[tokio::test]
async fn n_a_peer_that_reads_no_answers_is_left_and_its_seat_is_free() {
    let limits = Limits::default().with(|limits| {
        limits.mta.connections = 1;
        limits.mta.write = Duration::from_millis(200);
    });
    let daemon = open(PLACE, limits);
    // Without the quiet commands every HELO is answered.
    let mut deaf = Peer::negotiate(&daemon.place, [6, 0x1ff, 0]).await;
    let helo = [0, 0, 0, 3, b'H', b'h', 0].repeat(10_000);
    assert!(deaf.flood(&helo).await, "the door still takes what it cannot answer");
    tokio::time::sleep(Duration::from_millis(50)).await;
    is_well(&mut Peer::negotiate(&daemon.place, POSTFIX).await).await;
}

#[tokio::test]
async fn n_a_frame_over_the_limit_is_refused_for_good_although_the_mta_is_still_writing_it() {
    let daemon = open(PLACE, Limits::default().with(|limits| limits.mta.frame = 1_000));
    let mut peer = Peer::negotiate(&daemon.place, POSTFIX).await;
    peer.say(&message(b"A\0 b\0")[..2]).await;
    assert_eq!(peer.hear().await, CONTINUE);
    // More than what the system's buffers hold: closing over it would take the reply away.
    let long = [b"A\0".as_slice(), &vec![b'x'; 4 << 20], b"\0"].concat();
    peer.say(&[(b'L', &long)]).await;
    assert!(peer.hears_reply("552 5.3.4 ").await);
    assert_eq!(peer.hear().await, None);
}

#[tokio::test]
async fn n_all_connections_share_the_room_for_frames_and_half_of_one_takes_no_more_than_came() {
    let daemon = open(PLACE, Limits::default().with(|limits| limits.mta.frames_octets = 200_000));
    let mut half = Peer::negotiate(&daemon.place, POSTFIX).await;
    half.say(&message(b"A\0 b\0")).await;
    assert_eq!(half.hear().await, CONTINUE);
    half.begin(b'B', 1_000_000, &[b'x'; 100_000]).await;
    let mut other = Peer::negotiate(&daemon.place, POSTFIX).await;
    let begin = Instant::now();
    loop {
        // As soon as the first half is read there is no room for this.
        other.say(&message(b"A\0 b\0")).await;
        assert_eq!(other.hear().await, CONTINUE);
        other.say(&[(b'B', &[b'x'; 120_000])]).await;
        match other.hear().await {
            Some((b'y', text)) => break assert!(text.starts_with(b"451 4.3.2 ")),
            heard => assert!(heard == Some((b's', vec![])) && begin.elapsed() < Duration::from_secs(10), "{heard:?}"),
        }
        other.say(&[(b'A', b"")]).await;
    }
    assert_eq!(other.hear().await, None);
    drop(half);
    let begin = Instant::now();
    loop {
        let mut third = Peer::negotiate(&daemon.place, POSTFIX).await;
        third.say(&message(b"A\0 b\0")).await;
        assert_eq!(third.hear().await, CONTINUE);
        third.say(&[(b'B', &[b'x'; 120_000])]).await;
        if third.hear().await == Some((b's', vec![])) {
            break;
        }
        assert!(begin.elapsed() < Duration::from_secs(10), "the room does not come back");
    }
}
