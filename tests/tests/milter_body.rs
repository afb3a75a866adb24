//! The milter door and what comes after the header: bodies that are to be kept, within their bounds, and bodies that are not.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use addrauth::case::Body;
use addrauth::config::Limits;
use addrauth_lab::mta::{Envelope, Fate, Mta, Offer};
use addrauth_tests::milter::{Daemon, POSTFIX, Peer, SLOW, open};

const PLACE: &str = "inet:127.0.0.1:0";
const CONTINUE: Option<(u8, Vec<u8>)> = Some((b'c', vec![]));
const SKIP: Option<(u8, Vec<u8>)> = Some((b's', vec![]));
const ACCEPT: Option<(u8, Vec<u8>)> = Some((b'a', vec![]));

fn inbound() -> Envelope {
    Envelope::inbound("a@one.example", "b@two.example")
}

/// Says a message up to the end of its header.
async fn begin(peer: &mut Peer, subject: &str) {
    let subject = format!("Subject\0 {subject}\0");
    let frames: [(u8, &[u8]); 4] =
        [(b'M', b"<a@one.example>\0"), (b'R', b"<b@two.example>\0"), (b'L', subject.as_bytes()), (b'N', b"")];
    peer.say(&frames).await;
    assert_eq!(peer.hear().await, CONTINUE);
}

/// Says the end of a message with this last piece, and hears it accepted.
async fn end(peer: &mut Peer, rest: &[u8]) {
    peer.say(&[(b'E', rest)]).await;
    assert_eq!(peer.hear().await, Some((b'i', b"\0\0\0\0X-Judge\0 one\0".to_vec())));
    assert_eq!(peer.hear().await, ACCEPT);
}

fn bodies(daemon: &Daemon) -> Vec<Option<Vec<u8>>> {
    let judge = daemon.fake();
    let bodies = judge.bodies.lock().unwrap();
    bodies.iter().map(|body| body.as_ref().map(|Body(octets)| octets.clone())).collect()
}

#[tokio::test]
async fn a_wanted_body_is_kept_octet_for_octet_however_it_is_cut() {
    let daemon = open(PLACE, Limits::default());
    let mut peer = Peer::negotiate(&daemon.place, POSTFIX).await;
    let body: Vec<u8> = (0..=255).cycle().take(1_000).chain(*b"\r\n.\r\n\0\xff").collect();
    let cuts: [(&[usize], usize); 5] = [(&[], 0), (&[1_007], 0), (&[1, 2, 1_000], 0), (&[500], 7), (&[], 1_007)];
    for (pieces, rest) in cuts {
        begin(&mut peer, "body").await;
        let mut left = if pieces.is_empty() && rest == 0 { &[][..] } else { &body[..] };
        for length in pieces {
            let (piece, after) = left.split_at((*length).min(left.len() - rest));
            left = after;
            peer.say(&[(b'B', piece)]).await;
            assert_eq!(peer.hear().await, CONTINUE);
        }
        end(&mut peer, left).await;
    }
    let kept = bodies(&daemon);
    assert_eq!(kept.len(), cuts.len());
    assert_eq!(kept[0].as_deref(), Some(&b""[..]));
    assert!(kept[1..].iter().all(|kept| kept.as_deref() == Some(&body)));
}

#[tokio::test]
async fn a_body_that_nobody_wants_is_skipped_at_its_first_piece_and_not_kept() {
    let daemon = open(PLACE, Limits::default());
    let mut peer = Peer::negotiate(&daemon.place, POSTFIX).await;
    begin(&mut peer, "x").await;
    peer.say(&[(b'B', b"piece")]).await;
    assert_eq!(peer.hear().await, SKIP);
    end(&mut peer, b"").await;
    let large = ["Subject: x\r\n\r\n", &"0123456789abcde\n".repeat(20_000)].concat();
    for (offer, pieces) in
        [(Offer::default(), 1), (Offer { protocol: Offer::default().protocol & !0x400, ..Offer::default() }, 5)]
    {
        let mut mta = Mta::connect_offering(&daemon.place, offer).await.unwrap();
        let outcome = mta.send(&inbound(), large.as_bytes()).await.unwrap();
        assert_eq!((outcome.fate, outcome.pieces), (Fate::Delivered, pieces));
    }
    assert_eq!(bodies(&daemon), [None, None, None]);
}

#[tokio::test]
async fn a_body_of_many_pieces_is_read_to_its_end_where_it_is_wanted_and_the_next_message_is_its_own() {
    let daemon = open(PLACE, Limits::default());
    let mut mta = Mta::connect(&daemon.place).await.unwrap();
    let body = "0123456789abcd\r\n".repeat(20_000);
    for body in [body.as_str(), "short\r\n", ""] {
        let outcome = mta.send(&inbound(), format!("Subject: body\r\n\r\n{body}").as_bytes()).await.unwrap();
        assert_eq!((outcome.fate, outcome.pieces), (Fate::Delivered, body.len().div_ceil(65_535)));
        assert_eq!(bodies(&daemon).last().unwrap().as_deref(), Some(body.as_bytes()));
    }
}

#[tokio::test]
async fn n_a_wanted_body_over_its_limit_is_refused_for_good_and_its_room_is_free_again() {
    let limits = Limits::default().with(|limits| {
        limits.custody.body_octets = 10;
        limits.custody.bodies_octets = 15;
    });
    let daemon = open(PLACE, limits);
    let mut peer = Peer::negotiate(&daemon.place, POSTFIX).await;
    for _ in 0..3 {
        // In the first piece, in a later one, and in the end.
        begin(&mut peer, "body").await;
        peer.say(&[(b'B', b"0123456789x")]).await;
        assert!(peer.hears_reply("552 5.3.4 ").await);
        peer.say(&[(b'A', b"")]).await;
        begin(&mut peer, "body").await;
        peer.say(&[(b'B', b"0123456789")]).await;
        assert_eq!(peer.hear().await, CONTINUE);
        peer.say(&[(b'B', b"x")]).await;
        assert!(peer.hears_reply("552 5.3.4 ").await);
        peer.say(&[(b'E', b"")]).await;
        assert!(peer.hears_reply("552 5.3.4 ").await);
        begin(&mut peer, "body").await;
        peer.say(&[(b'B', b"0123456789")]).await;
        assert_eq!(peer.hear().await, CONTINUE);
        peer.say(&[(b'E', b"x")]).await;
        assert!(peer.hears_reply("552 5.3.4 ").await);
    }
    begin(&mut peer, "body").await;
    end(&mut peer, b"0123456789").await;
    assert_eq!(bodies(&daemon), [Some(b"0123456789".to_vec())]);
}

#[tokio::test]
async fn n_all_connections_share_the_room_for_bodies_until_each_is_kept() {
    let daemon = open(PLACE, Limits::default().with(|limits| limits.custody.bodies_octets = 10));
    let mut one = Peer::negotiate(&daemon.place, POSTFIX).await;
    let mut other = Peer::negotiate(&daemon.place, POSTFIX).await;
    for leave in [&[(b'A', &b""[..])][..], &[(b'Q', b"")]] {
        begin(&mut one, "body").await;
        one.say(&[(b'B', b"0123456")]).await;
        assert_eq!(one.hear().await, CONTINUE);
        begin(&mut other, "body").await;
        other.say(&[(b'B', b"0123")]).await;
        assert!(other.hears_451("4.3.2").await);
        other.say(&[(b'A', b"")]).await;
        one.say(leave).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        begin(&mut other, "body").await;
        other.say(&[(b'B', b"0123")]).await;
        assert_eq!(other.hear().await, CONTINUE);
        end(&mut other, b"").await;
    }
    // While it is being kept, its octets are in memory still.
    let mut one = Peer::negotiate(&daemon.place, POSTFIX).await;
    begin(&mut one, "body kept late").await;
    one.say(&[(b'E', b"0123456")]).await;
    daemon.begun(7).await;
    assert!(one.hears_nothing().await);
    begin(&mut other, "body").await;
    other.say(&[(b'E', b"0123")]).await;
    assert!(other.hears_451("4.3.2").await);
    assert_eq!(one.hear().await.map(|(command, _)| command), Some(b'i'));
    assert_eq!(one.hear().await, ACCEPT);
    begin(&mut other, "body").await;
    end(&mut other, b"0123").await;
}

#[tokio::test]
async fn n_a_message_that_ends_by_the_macros_of_the_next_connection_leaves_no_octets_behind() {
    let daemon = open(PLACE, Limits::default().with(|limits| limits.custody.bodies_octets = 10));
    let mut one = Peer::negotiate(&daemon.place, POSTFIX).await;
    let mut other = Peer::negotiate(&daemon.place, POSTFIX).await;
    begin(&mut one, "body").await;
    one.say(&[(b'B', b"0123456789")]).await;
    assert_eq!(one.hear().await, CONTINUE);
    one.say(&[(b'D', b"Cj\0mx\0")]).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    begin(&mut other, "body").await;
    end(&mut other, b"0123456789").await;
}

#[tokio::test]
async fn an_abort_or_a_close_while_the_first_piece_waits_ends_the_examination() {
    let daemon = open(PLACE, Limits::default());
    let judge = daemon.fake();
    let mut peer = Peer::negotiate(&daemon.place, POSTFIX).await;
    begin(&mut peer, "never").await;
    peer.say(&[(b'B', b"x")]).await;
    daemon.begun(1).await;
    assert!(peer.hears_nothing().await);
    peer.say(&[(b'A', b"")]).await;
    begin(&mut peer, "x").await;
    end(&mut peer, b"").await;
    assert_eq!(judge.over.load(Ordering::SeqCst), 2);
    begin(&mut peer, "never").await;
    peer.say(&[(b'B', b"x")]).await;
    daemon.begun(3).await;
    peer.say(&[(b'Q', b"")]).await;
    assert_eq!(peer.hear().await, None);
    let mut closing = Peer::negotiate(&daemon.place, POSTFIX).await;
    begin(&mut closing, "never").await;
    closing.say(&[(b'B', b"x")]).await;
    daemon.begun(4).await;
    drop(closing);
    let since = Instant::now();
    while judge.over.load(Ordering::SeqCst) < 4 {
        assert!(since.elapsed() < Duration::from_secs(60), "the examination goes on for nobody");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(bodies(&daemon), [None]);
}

#[tokio::test]
async fn a_frame_that_does_not_belong_there_while_the_first_piece_waits_is_451_and_the_end() {
    let daemon = open(PLACE, Limits::default());
    for stray in *b"MRLEBDOZ" {
        let mut peer = Peer::negotiate(&daemon.place, POSTFIX).await;
        begin(&mut peer, "never").await;
        peer.say(&[(b'B', b"x"), (stray, b"x\0")]).await;
        assert!(peer.hears_451("4.3.0").await, "{}", stray.escape_ascii());
        assert_eq!(peer.hear().await, None);
    }
}

#[tokio::test]
async fn a_judge_that_panics_or_is_late_makes_the_first_piece_451_and_the_connection_goes_on() {
    let daemon = open(PLACE, Limits::default().with(|limits| limits.mta.examine = Duration::from_millis(100)));
    let mut peer = Peer::negotiate(&daemon.place, POSTFIX).await;
    for subject in ["panic", "never"] {
        begin(&mut peer, subject).await;
        peer.say(&[(b'B', b"x")]).await;
        assert!(peer.hears_451("4.3.0").await);
        // An MTA that goes on all the same hears it again.
        peer.say(&[(b'E', b"")]).await;
        assert!(peer.hears_451("4.3.0").await);
        begin(&mut peer, "x").await;
        end(&mut peer, b"").await;
    }
}

#[tokio::test]
async fn at_shutdown_a_body_under_way_is_read_to_its_end_and_kept() {
    let daemon = open(PLACE, Limits::default());
    let mut peer = Peer::negotiate(&daemon.place, POSTFIX).await;
    begin(&mut peer, "body slowly").await;
    peer.say(&[(b'B', b"one ")]).await;
    let since = Instant::now();
    daemon.begun(1).await;
    daemon.shutdown.cancel();
    assert_eq!(peer.hear().await, CONTINUE);
    assert!(since.elapsed() >= SLOW / 2);
    peer.say(&[(b'B', b"two ")]).await;
    assert_eq!(peer.hear().await, CONTINUE);
    let judge = daemon.fake();
    end(&mut peer, b"three").await;
    assert_eq!(peer.hear().await, None);
    daemon.task.await.unwrap();
    assert_eq!(*judge.bodies.lock().unwrap(), [Some(Body(b"one two three".to_vec()))]);
}

#[tokio::test]
async fn at_the_end_of_the_drain_a_first_piece_that_waits_gets_one_451() {
    let daemon = open(PLACE, Limits::default().with(|limits| limits.mta.drain = Duration::from_millis(200)));
    let mut peer = Peer::negotiate(&daemon.place, POSTFIX).await;
    begin(&mut peer, "never").await;
    peer.say(&[(b'B', b"x")]).await;
    daemon.begun(1).await;
    daemon.shutdown.cancel();
    assert!(peer.hears_451("4.3.0").await);
    assert_eq!(peer.hear().await, None);
    daemon.task.await.unwrap();
}

#[tokio::test]
async fn a_reload_between_two_pieces_leaves_the_message_to_the_judge_it_began_with() {
    let daemon = open(PLACE, Limits::default());
    let old = daemon.fake();
    let mut peer = Peer::negotiate(&daemon.place, POSTFIX).await;
    begin(&mut peer, "body").await;
    peer.say(&[(b'B', b"one ")]).await;
    assert_eq!(peer.hear().await, CONTINUE);
    daemon.judge.send(addrauth_tests::milter::Fake::named("two")).unwrap();
    end(&mut peer, b"two").await;
    assert_eq!(*old.bodies.lock().unwrap(), [Some(Body(b"one two".to_vec()))]);
    assert!(daemon.fake().bodies.lock().unwrap().is_empty());
}
