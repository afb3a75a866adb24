//! The verifier and TLS: when it asks over it, what it sends there, and what it makes of servers that keep to no rule.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use addrauth::case::{KeyStatus, Limited, Why};
use addrauth::config::{Limits, Verify};
use addrauth::proto::address::Address;
use addrauth::proto::wire::{Reason, Status};
use addrauth::verify::{Said, Verifier};
use addrauth_lab::zone::Zone;
use addrauth_tests::authority::{Act, Authority};
use addrauth_tests::certificates::Root;
use addrauth_tests::quiet::undisturbed;
use addrauth_tests::streams::{Does, StreamAuthority};
use addrauth_tests::world::*;

const HOST: &str = "as0.example.com";

/// A server of example.com on UDP and TLS, and a verifier that trusts its root.
struct World {
    udp: Authority,
    tls: StreamAuthority,
    root: Root,
    verify: Verify,
    verifier: Arc<Verifier>,
    zone: Zone,
}

impl World {
    async fn new(act: Act, does: Does, rest: &str) -> World {
        World::limited(act, does, rest, Limits::default()).await
    }

    async fn limited(act: Act, does: Does, rest: &str, limits: Limits) -> World {
        let root = Root::new();
        let certificate = root.issue(HOST);
        let (udp, tls) = loop {
            let udp = saying(act.clone()).await;
            // The port that UDP was given may be taken on TCP.
            if let Ok(tls) = StreamAuthority::start(udp.addr, &certificate, does.clone()).await {
                break (udp, tls);
            }
        };
        let zone = Zone::start(leading_to(&[&udp], rest)).await.unwrap();
        let verify = Verify { tls_roots: root.file(), ..config(&zone) };
        let verifier = Arc::new(Verifier::new(&verify, "mx.example.net", &Arc::new(limits)).unwrap());
        World { udp, tls, root, verify, verifier, zone }
    }

    async fn ask(&self, text: &str) -> (KeyStatus, Option<Why>) {
        result(&self.verifier.verify(&mail(&[ALICE], &[text])).await.unwrap())
    }
}

#[tokio::test]
async fn e_stream_leads_to_tls_at_once_and_that_is_told() {
    undisturbed(run_e_stream_leads_to_tls_at_once_and_that_is_told).await;
}

async fn run_e_stream_leads_to_tls_at_once_and_that_is_told() {
    let world = World::new(Act::unverified(Reason::Stream), Does::Check(key(GOOD)), "; t=udp,tls").await;
    let start = Instant::now();
    let found = world.verifier.verify(&mail(&[ALICE], &[GOOD])).await.unwrap();
    assert_eq!(result(&found), (KeyStatus::Valid, None));
    assert!(start.elapsed() < Duration::from_millis(400), "{:?}", start.elapsed());
    let told = found.authority.as_ref().map(ToString::to_string);
    assert_eq!(told, Some(format!("{HOST}:{} over TLS", world.udp.addr.port())));
    let line = &world.tls.lines()[0];
    assert!(line.contains(" h1.") && !line.contains(GOOD) && line.ends_with(" v=1 from=mx.example.net\r\n"), "{line}");
    assert_ne!(world.udp.received()[0].word(1), line.split(' ').nth(1).unwrap(), "another seq");
    assert_eq!((world.udp.count(), world.tls.lines().len()), (1, 1));
    assert_eq!(world.ask(JUNK).await, (KeyStatus::Invalid, Some(Why::Wrong)));
    let cached = world.verifier.verify(&mail(&[ALICE], &[GOOD])).await.unwrap();
    assert!(cached.cached && cached.authority == found.authority);
    assert_eq!(world.tls.connections(), 1, "the connection is kept");
}

#[tokio::test]
async fn e_stream_without_tls_or_with_a_tls_that_fails_counts_as_e_limit() {
    undisturbed(run_e_stream_without_tls_or_with_a_tls_that_fails_counts_as_e_limit).await;
}

async fn run_e_stream_without_tls_or_with_a_tls_that_fails_counts_as_e_limit() {
    for (does, rest) in [(Does::valid(), ""), (Does::Close, "; t=udp,tls"), (Does::NoAlpn, "; t=udp,tls")] {
        let world = World::new(Act::unverified(Reason::Stream), does, rest).await;
        let start = Instant::now();
        let later = world.verifier.verify(&mail(&[ALICE], &[GOOD])).await.unwrap_err();
        assert_eq!(later.limited, Limited::There, "{rest}");
        assert!(start.elapsed() < Duration::from_millis(500));
        assert_eq!(world.udp.count(), 1, "it is not sent to again");
        assert_eq!(world.tls.connections(), usize::from(!rest.is_empty()), "and TLS is tried once");
    }
    // A second endpoint has its say after the first one's TLS failed.
    let world = World::new(Act::unverified(Reason::Stream), Does::Close, "; t=udp,tls").await;
    let second = saying(Act::valid()).await;
    world.zone.replace(leading_to(&[&world.udp, &second], "; t=udp,tls"));
    assert_eq!(world.ask(&junk(1)).await, (KeyStatus::Valid, None));
    assert_eq!(second.count(), 1);
}

#[tokio::test]
async fn where_udp_comes_to_nothing_tls_is_tried_within_the_messages_time() {
    undisturbed(run_where_udp_comes_to_nothing_tls_is_tried_within_the_messages_time).await;
}

async fn run_where_udp_comes_to_nothing_tls_is_tried_within_the_messages_time() {
    let world = World::new(Act::Silence, Does::Check(key(GOOD)), "; t=udp,tls").await;
    let start = Instant::now();
    assert_eq!(world.ask(GOOD).await, (KeyStatus::Valid, None));
    let took = start.elapsed();
    assert!(took >= Duration::from_secs(3) && took < Duration::from_millis(3_500), "{took:?}");
    for reason in [Reason::Temp, Reason::Limit, Reason::Domain] {
        let world = World::new(Act::unverified(reason), Does::Check(key(GOOD)), "; t=udp,tls").await;
        let start = Instant::now();
        assert_eq!(world.ask(GOOD).await, (KeyStatus::Valid, None), "{reason:?}");
        assert!(start.elapsed() < Duration::from_millis(500), "{reason:?}");
    }
    // The time of the message is over by then.
    let world = World::new(Act::Silence, Does::valid(), "; t=udp,tls").await;
    let verify = Verify { timeout: Duration::from_millis(600), ..world.verify.clone() };
    let found = verifier(&verify).verify(&mail(&[ALICE], &[GOOD])).await.unwrap();
    assert_eq!(result(&found), (KeyStatus::Unverified, Some(Why::Timeout)));
    assert_eq!(world.tls.connections(), 0);
}

#[tokio::test]
async fn once_udp_is_known_to_be_dead_tls_is_asked_at_once() {
    undisturbed(run_once_udp_is_known_to_be_dead_tls_is_asked_at_once).await;
}

async fn run_once_udp_is_known_to_be_dead_tls_is_asked_at_once() {
    let world = World::limited(
        Act::Silence,
        Does::valid(),
        "; t=udp,tls",
        Limits::default().with(|limits| limits.verify.breaker_timeouts = 2),
    )
    .await;
    let (first, second) = (junk(1), junk(2));
    let (first, second) = tokio::join!(world.ask(&first), world.ask(&second));
    assert_eq!((first.0, second.0), (KeyStatus::Valid, KeyStatus::Valid));
    let (sent, start) = (world.udp.count(), Instant::now());
    assert_eq!(world.ask(&junk(3)).await, (KeyStatus::Valid, None));
    assert!(start.elapsed() < Duration::from_millis(300), "{:?}", start.elapsed());
    assert_eq!((world.udp.count(), world.tls.connections()), (sent, 1));
}

#[tokio::test]
async fn a_record_with_tls_alone_is_asked_over_tls_alone() {
    let world = World::new(Act::valid(), Does::Check(key(GOOD)), "; t=tls").await;
    assert_eq!(world.ask(GOOD).await, (KeyStatus::Valid, None));
    assert_eq!(world.ask(JUNK).await, (KeyStatus::Invalid, Some(Why::Wrong)));
    assert!(world.udp.count() == 0 && world.tls.lines().iter().all(|line| line.contains(" h1.")));
    // So is a new key before it is sent out.
    let alice = Address::parse(b"alice@example.com", true).unwrap();
    let said = world.verifier.everywhere(&alice, &key(GOOD)).await.unwrap();
    assert!(matches!(said[..], [(_, Said::Valid { valid_for: Some(3_600) })]), "{said:?}");
    world.tls.now_does(Does::Close);
    let said = world.verifier.everywhere(&alice, &key(GOOD)).await.unwrap();
    assert!(matches!(said[..], [(_, Said::Unverified(Why::Timeout))]), "{said:?}");
    assert_eq!(world.ask(&junk(1)).await, (KeyStatus::Unverified, Some(Why::Timeout)));
}

#[tokio::test]
async fn a11_the_key_itself_goes_out_over_tls_alone_and_only_to_the_right_certificate() {
    for rest in ["; h=none; t=tls", "; h=none; t=udp,tls"] {
        let world = World::new(Act::valid(), Does::Check(key(GOOD)), rest).await;
        assert_eq!(world.ask(GOOD).await, (KeyStatus::Valid, None), "{rest}");
        let lines = world.tls.lines();
        assert!(lines[0].contains(&format!(" {GOOD} v=1 ")), "that is what h=none asks for");
        assert_eq!(world.udp.count(), 0);
        // No root, another name, an expired certificate: the handshake ends before a line is written.
        let untrusting = verifier(&Verify { tls_roots: Root::new().file(), ..world.verify.clone() });
        let found = untrusting.verify(&mail(&[ALICE], &[GOOD])).await.unwrap();
        assert_eq!(result(&found), (KeyStatus::Unverified, Some(Why::Timeout)), "{rest}");
        for (host, ends) in [("other.example.com", 86_400), (HOST, -86_400)] {
            let now = std::time::SystemTime::now();
            let span = Duration::from_secs(i64::unsigned_abs(ends));
            let certificate = world.root.issue_until(host, if ends > 0 { now + span } else { now - span });
            let (udp, tls) = loop {
                let udp = saying(Act::valid()).await;
                if let Ok(tls) = StreamAuthority::start(udp.addr, &certificate, Does::valid()).await {
                    break (udp, tls);
                }
            };
            let zone = Zone::start(leading_to(&[&udp], rest)).await.unwrap();
            let verify = Verify { tls_roots: world.root.file(), ..config(&zone) };
            let found = verifier(&verify).verify(&mail(&[ALICE], &[GOOD])).await.unwrap();
            assert_eq!(result(&found), (KeyStatus::Unverified, Some(Why::Timeout)), "{host} {rest}");
            assert!(tls.connections() == 1 && tls.lines().is_empty() && udp.count() == 0);
        }
    }
}

#[tokio::test]
async fn a_certificate_that_does_not_pass_leaves_the_proof_over_udp() {
    let world = World::new(Act::Check(key(GOOD)), Does::invalid(), "; t=udp,tls").await;
    let verifier = verifier(&Verify { tls_roots: Root::new().file(), ..world.verify.clone() });
    let message = mail(&[ALICE], &[JUNK]);
    let found = verifier.verify(&message).await.unwrap();
    assert_eq!(result(&found), (KeyStatus::Invalid, Some(Why::Wrong)));
    // Before a silent drop TLS would be asked, and cannot: UDP is, with another seq.
    let again = verifier.confirm(&message, &found).await.unwrap();
    assert_eq!(result(&again), (KeyStatus::Invalid, Some(Why::Wrong)));
    let received = world.udp.received();
    assert_eq!((received.len(), world.tls.connections(), world.tls.lines().len()), (2, 1, 0));
    assert!(received.iter().all(|one| one.word(3).starts_with("h1.")) && received[0].word(1) != received[1].word(1));
}

#[tokio::test]
async fn before_a_silent_drop_a_lone_endpoint_is_asked_over_tls() {
    let world = World::new(Act::invalid(), Does::invalid(), "; t=udp,tls").await;
    let message = mail(&[ALICE], &[JUNK]);
    let found = world.verifier.verify(&message).await.unwrap();
    assert_eq!((world.udp.count(), world.tls.lines().len()), (1, 0));
    assert_eq!(
        result(&world.verifier.confirm(&message, &found).await.unwrap()),
        (KeyStatus::Invalid, Some(Why::Wrong))
    );
    assert_eq!((world.udp.count(), world.tls.lines().len()), (1, 1));
    // Whoever could forge a datagram cannot forge this: the two disagree, and nothing is dropped.
    world.tls.now_does(Does::Check(key(JUNK)));
    assert_eq!(world.verifier.confirm(&message, &found).await.unwrap().status, KeyStatus::Unverified);
}

#[tokio::test]
async fn d2_d8_d9_lines_that_answer_nothing_are_ignored_on_tls_too() {
    undisturbed(run_d2_d8_d9_lines_that_answer_nothing_are_ignored_on_tls_too).await;
}

async fn run_d2_d8_d9_lines_that_answer_nothing_are_ignored_on_tls_too() {
    let noise =
        ["\r\n", "INVALIDKEY\r\n", "VERIFY_REPLY INVALIDKEY\r\n", "VERDICT 0 alice@example.com VALIDKEY\r\n", "x\n"];
    let noise = noise.map(|line| Does::Raw(line.into())).into_iter();
    let all = noise.chain([Does::OtherSeq(Status::Valid), Does::invalid(), Does::valid()]).collect();
    let world = World::new(Act::Silence, Does::All(all), "; t=tls").await;
    assert_eq!(world.ask(GOOD).await, (KeyStatus::Invalid, Some(Why::Wrong)), "the first answer counts");
    // The second one of before is a stray to the next question.
    world.tls.now_does(Does::valid());
    assert_eq!(world.ask(&junk(1)).await, (KeyStatus::Valid, None));
    assert_eq!(world.tls.connections(), 1);
    // Nothing but noise: the connection is given up.
    world.tls.now_does(Does::Raw(b"noise\r\n".repeat(1_000)));
    let start = Instant::now();
    assert_eq!(world.ask(&junk(2)).await, (KeyStatus::Unverified, Some(Why::Timeout)));
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

#[tokio::test]
async fn d4_a_slow_answer_is_waited_for_on_tls_and_overtaken_by_quicker_ones() {
    undisturbed(run_d4_a_slow_answer_is_waited_for_on_tls_and_overtaken_by_quicker_ones).await;
}

async fn run_d4_a_slow_answer_is_waited_for_on_tls_and_overtaken_by_quicker_ones() {
    let late = Does::Late(Duration::from_millis(800), Box::new(Does::Check(key(GOOD))));
    let world = World::new(Act::Silence, late, "; t=tls").await;
    let start = Instant::now();
    let slow = tokio::spawn({
        let verifier = world.verifier.clone();
        async move { verifier.verify(&mail(&[ALICE], &[GOOD])).await.unwrap().status }
    });
    while world.tls.lines().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    world.tls.now_does(Does::Check(key(GOOD)));
    assert_eq!(world.ask(JUNK).await, (KeyStatus::Invalid, Some(Why::Wrong)));
    assert!(start.elapsed() < Duration::from_millis(700), "{:?}", start.elapsed());
    assert_eq!(slow.await.unwrap(), KeyStatus::Valid);
    assert!(start.elapsed() >= Duration::from_millis(800));
    assert_eq!(world.tls.connections(), 1, "one connection for both");
}

#[tokio::test]
async fn d5_d6_d7_f6_no_server_on_tls_holds_a_question_longer_than_its_time() {
    undisturbed(run_d5_d6_d7_f6_no_server_on_tls_holds_a_question_longer_than_its_time).await;
}

async fn run_d5_d6_d7_f6_no_server_on_tls_holds_a_question_longer_than_its_time() {
    for (does, most) in [
        (Does::Silence, 3_300),
        (Does::HalfOpen, 3_300),
        (Does::Endless, 1_000),
        (Does::Close, 1_000),
        (Does::Reset, 1_000),
        (Does::NoAlpn, 1_000),
    ] {
        let world = World::new(Act::Silence, does.clone(), "; t=tls").await;
        let start = Instant::now();
        assert_eq!(world.ask(GOOD).await, (KeyStatus::Unverified, Some(Why::Timeout)), "{does:?}");
        assert!(start.elapsed() < Duration::from_millis(most), "{does:?} {:?}", start.elapsed());
        // What it did then does not stand in the way of what it does now.
        world.tls.now_does(Does::valid());
        assert_eq!(world.ask(&junk(1)).await, (KeyStatus::Valid, None), "{does:?}");
    }
}

#[tokio::test]
async fn a_kept_connection_that_ends_meanwhile_is_made_anew() {
    let world = World::limited(
        Act::Silence,
        Does::valid(),
        "; t=tls",
        Limits::default().with(|limits| limits.verify.stream_kept_for = Duration::from_millis(200)),
    )
    .await;
    assert_eq!(world.ask(&junk(1)).await, (KeyStatus::Valid, None));
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(world.ask(&junk(2)).await, (KeyStatus::Valid, None));
    assert_eq!(world.tls.connections(), 2, "we closed it");
    // The server closes on the line: asked once more on a new connection, and no oftener.
    world.tls.now_does(Does::Close);
    assert_eq!(world.ask(&junk(3)).await, (KeyStatus::Unverified, Some(Why::Timeout)));
    assert_eq!(world.tls.connections(), 3);
}

#[tokio::test]
async fn beyond_what_may_be_kept_a_connection_ends_with_its_answer() {
    let world = World::limited(
        Act::Silence,
        Does::valid(),
        "; t=tls",
        Limits::default().with(|limits| limits.verify.streams_kept = 0),
    )
    .await;
    for number in 1..=3 {
        assert_eq!(world.ask(&junk(number)).await, (KeyStatus::Valid, None));
        assert_eq!(world.tls.connections(), number);
    }
}

#[tokio::test]
async fn many_questions_share_one_connection_and_get_their_own_answers() {
    let late = Does::Late(Duration::from_millis(50), Box::new(Does::Check(key(GOOD))));
    let world = World::limited(
        Act::Silence,
        late,
        "; t=tls",
        Limits::default().with(|limits| limits.verify.failures_burst = 1_000.0),
    )
    .await;
    let mut asking = tokio::task::JoinSet::new();
    for number in 0..60 {
        let (verifier, text) = (world.verifier.clone(), if number % 2 == 0 { GOOD.to_owned() } else { junk(number) });
        let from = format!("user{number}@example.com");
        asking.spawn(async move { (number, verifier.verify(&mail(&[&from], &[&text])).await.unwrap().status) });
    }
    for (number, status) in asking.join_all().await {
        assert_eq!(status, if number % 2 == 0 { KeyStatus::Valid } else { KeyStatus::Invalid }, "{number}");
    }
    assert_eq!((world.tls.connections(), world.tls.lines().len()), (1, 60));
}

#[tokio::test]
async fn e_internal_addresses_are_not_connected_to_over_tcp_either() {
    let world = World::new(Act::valid(), Does::valid(), "; t=tls").await;
    let verify = Verify { allow_targets: Vec::new(), ..world.verify.clone() };
    let found = verifier(&verify).verify(&mail(&[ALICE], &[GOOD])).await.unwrap();
    assert_eq!(result(&found), (KeyStatus::Unverified, Some(Why::Dns)));
    assert_eq!(world.tls.connections(), 0);
    // Fixed by the administrator: exempt from the guard, and asked over UDP.
    let mut verify = verify;
    let endpoint: SocketAddr = world.udp.addr;
    verify.domain.insert("example.com".parse().unwrap(), addrauth::config::FixedAs { endpoint });
    let found = verifier(&verify).verify(&mail(&[ALICE], &[GOOD])).await.unwrap();
    assert_eq!((result(&found), world.tls.connections()), ((KeyStatus::Valid, None), 0));
}

#[tokio::test]
async fn a_dead_tls_is_left_alone_after_five_failures() {
    let world = World::new(Act::Silence, Does::Close, "; t=tls").await;
    for number in 1..=5 {
        assert_eq!(world.ask(&junk(number)).await.0, KeyStatus::Unverified);
    }
    let before = world.tls.connections();
    world.tls.now_does(Does::valid());
    assert_eq!(world.ask(&junk(6)).await, (KeyStatus::Unverified, Some(Why::Timeout)));
    assert_eq!((before, world.tls.connections()), (5, 5));
}
