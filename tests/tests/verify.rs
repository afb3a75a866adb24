//! The verifier against a real DNS server and a real, misbehaving AS, over real packets on loopback.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use addrauth::case::{Answerer, Field, Found, KeyStatus, Limited, ReversePath, Why};
use addrauth::config::{Limits, Verify};
use addrauth::proto::address::Address;
use addrauth::proto::record::Claim;
use addrauth::proto::wire::{Reason, Status};
use addrauth::verify::{BudgetSpent, Verifier};
use addrauth_lab::zone::{Records, Zone};
use addrauth_tests::authority::{Act, Authority};
use addrauth_tests::daemon::binary;
use addrauth_tests::ports::Closed;
use addrauth_tests::quiet::undisturbed;
use addrauth_tests::world::*;

#[tokio::test]
async fn the_six_results_are_told_apart() {
    let server = saying(Act::Check(key(GOOD))).await;
    let (_zone, verifier) = world(&[&server], "; m=all").await;
    let found = verifier.verify(&mail(&[ALICE], &[GOOD])).await.unwrap();
    assert_eq!(result(&found), (KeyStatus::Valid, None));
    assert_eq!(found.claim, Some(Claim::All));
    assert_eq!(found.authority, Some(Answerer::over_udp(format!("as0.example.com:{}", server.addr.port()))));
    assert_eq!(found.sender.as_ref().unwrap().to_string(), "alice@example.com");
    let wrong = verifier.verify(&mail(&[ALICE], &[JUNK])).await.unwrap();
    assert_eq!(result(&wrong), (KeyStatus::Invalid, Some(Why::Wrong)));
    let missing = verifier.verify(&mail(&[ALICE], &[])).await.unwrap();
    assert_eq!((result(&missing), missing.claim), ((KeyStatus::Missing, None), Some(Claim::All)));
    for keys in [&[][..], &[GOOD]] {
        let none = verifier.verify(&mail(&["bob@elsewhere.example"], keys)).await.unwrap();
        assert_eq!((result(&none), none.claim), ((KeyStatus::None, None), None));
    }
    server.now_does(Act::Say(Status::Invalid, None, Some(Reason::Expired)));
    let expired = verifier.verify(&mail(&[ALICE], &[&junk(1)])).await.unwrap();
    assert_eq!(result(&expired), (KeyStatus::Invalid, Some(Why::Expired)));
    let subdomain = verifier.verify(&mail(&["alice@sub.example.com"], &[GOOD])).await.unwrap();
    assert_eq!(subdomain.status, KeyStatus::None, "no tree walk");
}

#[tokio::test]
async fn what_is_unusable_is_so_before_anything_else() {
    let server = saying(Act::valid()).await;
    let (_zone, verifier) = world(&[&server], "; m=testing").await;
    let cases: [(&[&str], &[&str], Why); 9] = [
        (&[], &[GOOD], Why::NoFrom),
        (&[ALICE, ALICE], &[GOOD], Why::SeveralFrom),
        (&["alice@example.com, bob@example.com"], &[GOOD], Why::SeveralFrom),
        (&["alice"], &[GOOD], Why::BadAddress),
        (&[ALICE], &[GOOD, JUNK], Why::SeveralKeys),
        (&[ALICE], &[GOOD, "short"], Why::SeveralKeys),
        (&[ALICE], &["short", GOOD], Why::SeveralKeys),
        (&[ALICE], &["short"], Why::BadKey),
        (&["bob@elsewhere.example"], &["short"], Why::BadKey),
    ];
    for (from, keys, why) in cases {
        let found = verifier.verify(&mail(from, keys)).await.unwrap();
        assert_eq!(result(&found), (KeyStatus::Unusable, Some(why)), "{from:?}");
    }
    let malformed = mail(&[ALICE], &[GOOD]).altered(|_, head| head.malformed = true);
    let found = verifier.verify(&malformed).await.unwrap();
    assert_eq!(result(&found), (KeyStatus::Unusable, Some(Why::MalformedHeader)));
    assert_eq!(found.claim, Some(Claim::Testing), "the domain's claim is looked up all the same");
    assert_eq!(server.count(), 0);
    let copies = verifier.verify(&mail(&[ALICE], &[GOOD, GOOD])).await.unwrap();
    assert_eq!(copies.status, KeyStatus::Valid, "equal copies are one key");
}

#[tokio::test]
async fn a_bounce_that_names_nobody_has_a_reason_of_its_own_and_nothing_else_has() {
    let server = saying(Act::valid()).await;
    let (_zone, verifier) = world(&[&server], "").await;
    let field = |name: &str, value: &str| Field { name: name.into(), value: value.into() };
    let bounce = |from: &str| mail(&[from], &[]).altered(|envelope, _| envelope.reverse_path = ReversePath::Null);
    for from in ["<>", "\"\" <>", "MAILER-DAEMON", "Mail Delivery System <MAILER-DAEMON>", ""] {
        assert_eq!(result(&verifier.verify(&bounce(from)).await.unwrap()).1, Some(Why::NoAddress), "{from}");
        let sender_too =
            bounce(from).altered(|_, head| head.fields = vec![field("From", from), field("Sender", "\"\" <>")]);
        assert_eq!(result(&verifier.verify(&sender_too).await.unwrap()).1, Some(Why::NoAddress), "{from}");
        let path = ReversePath::Path(Address::parse(b"eve@evil.example", false).ok());
        for other in [
            bounce(from).altered(|envelope, _| envelope.reverse_path = path),
            bounce(from).altered(|envelope, _| envelope.reverse_path = ReversePath::Path(None)),
            bounce(from).altered(|_, head| head.malformed = true),
            bounce(from).altered(|_, head| head.keys = vec![None]),
            bounce(from).altered(|_, head| head.new_keys = vec![None]),
            bounce(from)
                .altered(|_, head| head.fields = vec![field("From", from), field("Sender", "alice@example.com")]),
            bounce(from).altered(|_, head| {
                head.fields = vec![field("Sender", "<>"), field("Sender", "a@x.test, b"), field("From", from)]
            }),
        ] {
            assert_eq!(result(&verifier.verify(&other).await.unwrap()).1, Some(Why::BadAddress), "{from} {other:?}");
        }
    }
    for from in
        ["alice@example.com <>", "=?utf-8?Q?alice=40example.com?= <>", "alice\u{ff20}example.com", "<alice@>", "@"]
    {
        assert_eq!(result(&verifier.verify(&bounce(from)).await.unwrap()).1, Some(Why::BadAddress), "{from}");
    }
    assert_eq!(verifier.verify(&bounce(ALICE)).await.unwrap().status, KeyStatus::Missing);
}

#[tokio::test]
async fn f1_at_most_eight_questions_are_in_flight_to_one_endpoint() {
    undisturbed(run_f1_at_most_eight_questions_are_in_flight_to_one_endpoint).await;
}

async fn run_f1_at_most_eight_questions_are_in_flight_to_one_endpoint() {
    let server = saying(Act::Late(Duration::from_millis(250), Box::new(Act::valid()))).await;
    let (_zone, verifier) = world(&[&server], "").await;
    let verifier = Arc::new(verifier);
    let mut asking = tokio::task::JoinSet::new();
    for number in 0..16 {
        let verifier = verifier.clone();
        asking.spawn(async move { verifier.verify(&mail(&[ALICE], &[&junk(number)])).await.unwrap() });
    }
    assert!(asking.join_all().await.iter().all(|found| found.status == KeyStatus::Valid));
    let received = server.received();
    let early = received.iter().filter(|one| one.at < received[0].at + Duration::from_millis(240)).count();
    assert_eq!((early, received.len()), (8, 16));
}

#[tokio::test]
async fn d2_a_reply_with_another_seq_or_address_or_more_octets_is_ignored() {
    let lies = [Act::OtherSeq, Act::OtherAddress, Act::Extra, Act::Huge].map(|lie| lie(Status::Valid));
    let noise = [b"".to_vec(), b"\r\n".to_vec(), vec![0xff; 512], vec![b'A'; 1_400]].map(Act::Raw);
    let all = lies.into_iter().chain(noise).chain([Act::invalid()]).collect();
    let server = saying(Act::All(all)).await;
    let (_zone, verifier) = world(&[&server], "").await;
    let found = verifier.verify(&mail(&[ALICE], &[GOOD])).await.unwrap();
    assert_eq!(result(&found), (KeyStatus::Invalid, Some(Why::Wrong)));
    assert_eq!(server.count(), 1);
}

#[tokio::test]
async fn d2_the_first_of_two_replies_counts() {
    for (acts, status) in
        [([Act::valid(), Act::invalid()], KeyStatus::Valid), ([Act::invalid(), Act::valid()], KeyStatus::Invalid)]
    {
        let server = saying(Act::All(acts.into())).await;
        let (_zone, verifier) = world(&[&server], "").await;
        assert_eq!(verifier.verify(&mail(&[ALICE], &[GOOD])).await.unwrap().status, status);
    }
}

#[tokio::test]
async fn d3_a_reply_from_another_port_is_ignored() {
    let late = Act::Late(Duration::from_millis(60), Box::new(Act::invalid()));
    let server = saying(Act::All(vec![Act::OtherPort(Status::Valid), late])).await;
    let (_zone, verifier) = world(&[&server], "").await;
    assert_eq!(verifier.verify(&mail(&[ALICE], &[GOOD])).await.unwrap().status, KeyStatus::Invalid);
}

#[tokio::test]
async fn d4_a_slow_answer_is_waited_for() {
    undisturbed(run_d4_a_slow_answer_is_waited_for).await;
}

async fn run_d4_a_slow_answer_is_waited_for() {
    let server = saying(Act::Late(Duration::from_secs(1), Box::new(Act::valid()))).await;
    let (_zone, verifier) = world(&[&server], "").await;
    let start = Instant::now();
    assert_eq!(verifier.verify(&mail(&[ALICE], &[GOOD])).await.unwrap().status, KeyStatus::Valid);
    assert!(start.elapsed() >= Duration::from_secs(1) && start.elapsed() < Duration::from_millis(1_300));
    assert_eq!(server.count(), 3);
}

#[tokio::test]
async fn d7_a_closed_port_ends_the_question_at_once() {
    undisturbed(run_d7_a_closed_port_ends_the_question_at_once).await;
}

async fn run_d7_a_closed_port_ends_the_question_at_once() {
    let closed = Closed::take();
    let records = Records::default()
        .txt("example.com", &format!("AS=as.example.com:{}", closed.place.port()))
        .address("as.example.com", LOOPBACK);
    let zone = Zone::start(records).await.unwrap();
    let verifier = verifier(&config(&zone));
    let start = Instant::now();
    let found = verifier.verify(&mail(&[ALICE], &[GOOD])).await.unwrap();
    assert_eq!(result(&found), (KeyStatus::Unverified, Some(Why::Timeout)));
    assert!(start.elapsed() < Duration::from_millis(300), "{:?}", start.elapsed());
}

#[tokio::test]
async fn d8_d9_a_bare_word_and_an_unknown_verb_are_ignored() {
    for line in ["INVALIDKEY\r\n", "VERIFY_REPLY INVALIDKEY\r\n", "VERDICT 0 alice@example.com INVALIDKEY\r\n"] {
        let server = saying(Act::Raw(line.into())).await;
        let zone = Zone::start(leading_to(&[&server], "")).await.unwrap();
        let verifier = verifier(&Verify { timeout: Duration::from_millis(300), ..config(&zone) });
        let found = verifier.verify(&mail(&[ALICE], &[GOOD])).await.unwrap();
        assert_eq!(result(&found), (KeyStatus::Unverified, Some(Why::Timeout)), "{line}");
    }
}

#[tokio::test]
async fn a_silent_server_is_sent_to_at_the_moments_of_the_protocol() {
    undisturbed(run_a_silent_server_is_sent_to_at_the_moments_of_the_protocol).await;
}

async fn run_a_silent_server_is_sent_to_at_the_moments_of_the_protocol() {
    let (first, second) = (saying(Act::Silence).await, saying(Act::Silence).await);
    let (_zone, verifier) = world(&[&first, &second], "").await;
    let start = Instant::now();
    let found = verifier.verify(&mail(&[ALICE], &[GOOD])).await.unwrap();
    assert_eq!(result(&found), (KeyStatus::Unverified, Some(Why::Timeout)));
    assert!(start.elapsed() >= Duration::from_secs(3) && start.elapsed() < Duration::from_millis(3_300));
    let (a, b) = (first.received(), second.received());
    let zero = a.first().unwrap().at;
    for (got, wanted) in [(&a, &[0, 400, 1_200, 1_600][..]), (&b, &[800, 2_000])] {
        assert_eq!(got.len(), wanted.len());
        for (received, wanted) in got.iter().zip(wanted) {
            let off = received.at.duration_since(zero).as_millis().abs_diff(*wanted);
            assert!(off <= 80 + 60, "{off} ms off {wanted}");
        }
        assert!(got.iter().all(|other| other.line == got[0].line && other.from == got[0].from), "repeats are equal");
    }
    assert_ne!(a[0].word(1), b[0].word(1), "each endpoint has its own seq");
    assert_ne!(a[0].from, b[0].from, "and its own socket");
}

#[tokio::test]
async fn an_answer_that_decides_nothing_moves_on_to_the_next_endpoint_at_once() {
    undisturbed(run_an_answer_that_decides_nothing_moves_on_to_the_next_endpoint_at_once).await;
}

async fn run_an_answer_that_decides_nothing_moves_on_to_the_next_endpoint_at_once() {
    use Reason::{Domain, Limit, Other, Stream, Syntax, Temp, Version};
    for reason in [Limit, Temp, Stream, Domain, Version, Syntax, Other] {
        let (first, second) = (saying(Act::unverified(reason)).await, saying(Act::valid()).await);
        let (_zone, verifier) = world(&[&first, &second], "").await;
        let start = Instant::now();
        assert_eq!(verifier.verify(&mail(&[ALICE], &[GOOD])).await.unwrap().status, KeyStatus::Valid, "{reason:?}");
        assert!(start.elapsed() < Duration::from_millis(250), "{reason:?}");
        assert_eq!((first.count(), second.count()), (1, 1));
        let (_zone, verifier) = world(&[&first], "").await;
        let found = verifier.verify(&mail(&[ALICE], &[GOOD])).await;
        let why = match reason {
            Limit | Stream => None,
            Domain | Version | Syntax => Some(Why::Dns),
            _ => Some(Why::Timeout),
        };
        let got = found.map(|found| result(&found)).map_err(|later| later.limited);
        let expected = why.map(|why| (KeyStatus::Unverified, Some(why))).ok_or(Limited::There);
        assert_eq!(got, expected, "{reason:?}");
        assert_eq!(first.count(), 2, "it is not sent to again");
    }
}

#[tokio::test]
async fn f1_equal_questions_at_the_same_time_go_out_once() {
    let server = saying(Act::Late(Duration::from_millis(100), Box::new(Act::valid()))).await;
    let (_zone, verifier) = world(&[&server], "").await;
    let verifier = Arc::new(verifier);
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let verifier = verifier.clone();
        asking.spawn(async move { verifier.verify(&mail(&[ALICE], &[GOOD])).await.unwrap() });
    }
    let all = asking.join_all().await;
    assert!(all.len() == 50 && all.iter().all(|found| found.status == KeyStatus::Valid));
    assert_eq!(server.count(), 1);
}

#[tokio::test]
async fn after_five_timeouts_an_endpoint_is_left_alone() {
    undisturbed(run_after_five_timeouts_an_endpoint_is_left_alone).await;
}

async fn run_after_five_timeouts_an_endpoint_is_left_alone() {
    let server = saying(Act::Silence).await;
    let zone = Zone::start(leading_to(&[&server], "")).await.unwrap();
    let verifier = Arc::new(verifier(&Verify { timeout: Duration::from_millis(1_100), ..config(&zone) }));
    let silent = ask_at_once(&verifier, 5, |_| "example.com".into()).await;
    assert!(silent.iter().all(is_silence), "{silent:?}");
    let sent = server.count();
    assert!((10..=15).contains(&sent), "5 questions, {sent} datagrams");
    server.now_does(Act::valid());
    let start = Instant::now();
    let found = verifier.verify(&mail(&[ALICE], &[&junk(6)])).await.unwrap();
    assert_eq!(result(&found), (KeyStatus::Unverified, Some(Why::Timeout)));
    assert!(start.elapsed() < Duration::from_millis(50));
    assert_eq!(server.count(), sent);
}

#[tokio::test]
async fn a_question_without_time_closes_no_endpoint() {
    let server = saying(Act::Silence).await;
    let zone = Zone::start(leading_to(&[&server], "")).await.unwrap();
    let verifier = verifier(&Verify { timeout: Duration::from_millis(150), ..config(&zone) });
    for number in 0..6 {
        let found = verifier.verify(&mail(&[ALICE], &[&junk(number)])).await.unwrap();
        assert_eq!(result(&found), (KeyStatus::Unverified, Some(Why::Timeout)));
    }
    server.now_does(Act::valid());
    assert_eq!(verifier.verify(&mail(&[ALICE], &[&junk(6)])).await.unwrap().status, KeyStatus::Valid);
}

/// Asks about so many keys at the same time, each of alice at the domain of its number.
async fn ask_at_once(
    verifier: &Arc<Verifier>,
    count: usize,
    domain: impl Fn(usize) -> String,
) -> Vec<Result<Found, Box<BudgetSpent>>> {
    let mut asking = tokio::task::JoinSet::new();
    for number in 0..count {
        let (verifier, from) = (verifier.clone(), format!("alice@{}", domain(number)));
        asking.spawn(async move { verifier.verify(&mail(&[&from], &[&junk(number)])).await });
    }
    asking.join_all().await
}

/// Whether a question came to nothing because nobody answered.
fn is_silence(found: &Result<Found, Box<BudgetSpent>>) -> bool {
    found.as_ref().is_ok_and(|found| result(found) == (KeyStatus::Unverified, Some(Why::Timeout)))
}

/// Domains d0.example and so on, all of which name this server as theirs.
fn many_domains(count: usize, server: &Authority) -> Records {
    let text = format!("AS=victim.example:{}", server.addr.port());
    let records = Records::default().address("victim.example", LOOPBACK);
    (0..count).fold(records, |records, number| records.txt(&format!("d{number}.example"), &text))
}

#[tokio::test]
async fn f2_many_domains_that_name_one_silent_host_send_it_one_round_of_questions() {
    let host = saying(Act::Silence).await;
    let zone = Zone::start(many_domains(30, &host)).await.unwrap();
    let verifier = Arc::new(verifier(&config(&zone)));
    let found = ask_at_once(&verifier, 30, |number| format!("d{number}.example")).await;
    assert!(found.iter().all(is_silence), "{found:?}");
    // Eight in flight, six datagrams each. The breaker opens with the fifth time-out, so the first four to end may let one
    // more in each; the other eighteen of thirty saw it open and sent nothing.
    assert!((8..=(8 + 4) * 6).contains(&host.count()), "{} datagrams", host.count());
}

#[tokio::test]
async fn f2_those_who_wait_for_one_slow_host_take_nobody_elses_place() {
    undisturbed(run_f2_those_who_wait_for_one_slow_host_take_nobody_elses_place).await;
}

async fn run_f2_those_who_wait_for_one_slow_host_take_nobody_elses_place() {
    let (slow, quick) = (saying(Act::Silence).await, saying(Act::valid()).await);
    let records = many_domains(4, &slow)
        .txt("example.com", &format!("AS=as.example.com:{}", quick.addr.port()))
        .address("as.example.com", LOOPBACK);
    let zone = Zone::start(records).await.unwrap();
    let limits = Limits::default().with(|limits| {
        limits.verify.questions = 2;
        limits.verify.questions_per_endpoint = 1;
    });
    let verify = Verify { timeout: Duration::from_secs(1), ..config(&zone) };
    let verifier = Arc::new(Verifier::new(&verify, "mx.example.net", &Arc::new(limits)).unwrap());
    let waiting = verifier.clone();
    let waiting = tokio::spawn(async move { ask_at_once(&waiting, 4, |number| format!("d{number}.example")).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let start = Instant::now();
    assert_eq!(verifier.verify(&mail(&[ALICE], &[GOOD])).await.unwrap().status, KeyStatus::Valid);
    assert!(start.elapsed() < Duration::from_millis(300), "{:?}", start.elapsed());
    let waited = waiting.await.unwrap();
    let limited =
        |found: &Result<Found, Box<BudgetSpent>>| found.as_ref().is_err_and(|later| later.limited == Limited::Here);
    assert!(waited.iter().all(|found| is_silence(found) || limited(found)), "{waited:?}");
    assert_eq!(waited.iter().filter(|found| limited(found)).count(), 3, "{waited:?}");
}

#[tokio::test]
async fn g1_g3_a_cached_valid_key_is_not_asked_about_and_another_valid_one_replaces_it() {
    let server = saying(Act::Check(key(GOOD))).await;
    let (zone, verifier) = world(&[&server], "").await;
    let ask = async |text: &str| {
        let found = verifier.verify(&mail(&[ALICE], &[text])).await.unwrap();
        (found.status, found.cached, server.count())
    };
    assert_eq!(ask(GOOD).await, (KeyStatus::Valid, false, 1));
    assert_eq!(ask(GOOD).await, (KeyStatus::Valid, true, 1));
    assert_eq!(ask(JUNK).await, (KeyStatus::Invalid, false, 2));
    assert_eq!(ask(JUNK).await, (KeyStatus::Invalid, true, 2));
    assert_eq!(ask(GOOD).await, (KeyStatus::Valid, true, 2), "a wrong key locks nobody out");
    server.now_does(Act::Check(key(&junk(7))));
    assert_eq!(ask(&junk(7)).await, (KeyStatus::Valid, false, 3));
    assert_eq!(ask(&junk(7)).await, (KeyStatus::Valid, true, 3));
    assert_eq!(ask(GOOD).await, (KeyStatus::Invalid, false, 4), "it was replaced, so it is asked about");
    let spelled = verifier.verify(&mail(&["<alice@EXAMPLE.com>"], &[&junk(7)])).await.unwrap();
    assert!(spelled.cached, "domains are one whatever their case");
    let other = verifier.verify(&mail(&["Alice@example.com"], &[&junk(7)])).await.unwrap();
    assert!(!other.cached, "local parts are not");
    drop(zone);
}

#[tokio::test]
async fn before_a_silent_drop_another_endpoint_has_its_say() {
    let (first, second) = (saying(Act::invalid()).await, saying(Act::invalid()).await);
    let (_zone, verifier) = world(&[&first, &second], "").await;
    let message = mail(&[ALICE], &[JUNK]);
    let found = verifier.verify(&message).await.unwrap();
    assert_eq!((first.count(), second.count()), (1, 0));
    let again = verifier.confirm(&message, &found).await.unwrap();
    assert_eq!(result(&again), (KeyStatus::Invalid, Some(Why::Wrong)));
    assert_eq!((first.count(), second.count()), (1, 1));
    assert_ne!(first.received()[0].word(1), second.received()[0].word(1));
    for act in [Act::valid(), Act::unverified(Reason::Temp)] {
        second.now_does(act);
        assert_eq!(verifier.confirm(&message, &found).await.unwrap().status, KeyStatus::Unverified);
    }
    second.now_does(Act::Say(Status::Invalid, None, Some(Reason::Expired)));
    assert_eq!(result(&verifier.confirm(&message, &found).await.unwrap()), (KeyStatus::Invalid, Some(Why::Expired)));
}

#[tokio::test]
async fn before_a_silent_drop_a_lone_endpoint_is_asked_with_a_new_seq() {
    let server = saying(Act::invalid()).await;
    let (_zone, verifier) = world(&[&server], "").await;
    let message = mail(&[ALICE], &[JUNK]);
    let found = verifier.verify(&message).await.unwrap();
    assert_eq!(verifier.confirm(&message, &found).await.unwrap().status, KeyStatus::Invalid);
    let received = server.received();
    assert_eq!(received.len(), 2);
    assert_ne!(received[0].word(1), received[1].word(1));
    let missing = verifier.verify(&mail(&[ALICE], &[])).await.unwrap();
    assert_eq!(
        verifier.confirm(&mail(&[ALICE], &[]), &missing).await.unwrap(),
        missing,
        "only an invalid key is confirmed"
    );
    assert_eq!(server.count(), 2);
}

#[tokio::test]
async fn a11_the_key_never_leaves_over_udp_and_who_takes_no_proof_is_not_asked_there() {
    let server = saying(Act::valid()).await;
    let (_zone, first) = world(&[&server], "").await;
    first.verify(&mail(&[ALICE], &[GOOD])).await.unwrap();
    let line = &server.received()[0].line;
    assert!(!line.contains(GOOD) && line.contains(" h1.") && line.ends_with(" v=1 from=mx.example.net\r\n"), "{line}");
    for rest in ["; h=none; t=udp,tls", "; t=tls"] {
        let (_zone, verifier) = world(&[&server], rest).await;
        let found = verifier.verify(&mail(&[ALICE], &[GOOD])).await.unwrap();
        assert_eq!(result(&found), (KeyStatus::Unverified, Some(Why::Timeout)), "nobody answers TLS there: {rest}");
    }
    assert_eq!(server.count(), 1);
}

#[tokio::test]
async fn the_verb_ask_says_yes_no_or_could_not_tell() {
    let server = saying(Act::Check(key(GOOD))).await;
    let zone = Zone::start(leading_to(&[&server], "; m=all")).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        std::fs::write(dir.path().join(name), text).unwrap();
        dir.path().join(name)
    };
    let dns: SocketAddr = zone.addr;
    let config = write("c.toml", &format!("[verify]\ndns = [\"{dns}\"]\nallow_targets = [\"127.0.0.0/8\"]\n"));
    for (address, text, code) in [
        ("alice@example.com", Some(GOOD), 0),
        ("alice@example.com", Some(JUNK), 1),
        ("alice@elsewhere.example", Some(GOOD), 2),
        ("alice@example.com", Some("no key"), 2),
        ("alice", Some(GOOD), 2),
        ("alice@example.com", None, 0),
        ("alice@elsewhere.example", None, 1),
    ] {
        let mut ask = std::process::Command::new(binary());
        ask.args(["ask", "--json", "--config"]).arg(&config).arg(address);
        match text {
            Some(text) => ask.arg("--key-file").arg(write("key", &format!("{text}\n"))),
            None => ask.arg("--no-key"),
        };
        ask.stdin(std::process::Stdio::null());
        let said = tokio::task::spawn_blocking(move || ask.output().unwrap()).await.unwrap();
        assert_eq!(said.status.code(), Some(code), "{address} {text:?} {}", String::from_utf8_lossy(&said.stderr));
    }
}
