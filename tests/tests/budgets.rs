//! The budgets for questions, over real packets on loopback: what is over one is put off, and never decided.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use addrauth::case::{Client, KeyStatus, Limited, Mail, Postponed, Why};
use addrauth::config::{Limits, Verify};
use addrauth::proto::wire::Reason;
use addrauth::verify::Verifier;
use addrauth_lab::zone::Zone;
use addrauth_tests::authority::Act;
use addrauth_tests::world::*;

/// A message of a client at this address.
fn from_client(client: [u8; 4], from: &str, key: &str) -> Mail {
    let client = Client { ip: Some(client.into()), ..Client::default() };
    mail(&[from], &[key]).altered(|envelope, _| envelope.client = client)
}

#[tokio::test]
async fn f1_mail_that_names_a_victims_domain_reaches_its_as_in_drops_and_is_never_decided_for_want_of_budget() {
    let server = saying(Act::Check(key(GOOD))).await;
    let (_zone, verifier) = world(&[&server], "").await;
    let (verifier, start) = (Arc::new(verifier), Instant::now());
    let mut asking = tokio::task::JoinSet::new();
    for number in 0..300 {
        let verifier = verifier.clone();
        let message = from_client([192, 0, 2, 1], ALICE, &junk(number));
        asking.spawn(async move { verifier.verify(&message).await });
    }
    let (mut denied, mut put_off) = (0, 0);
    for found in asking.join_all().await {
        match found {
            Ok(found) => {
                assert_eq!(result(&found), (KeyStatus::Invalid, Some(Why::Wrong)));
                denied += 1;
            }
            Err(later) => {
                assert_eq!((later.limited, result(&later.found)), (Limited::Here, (KeyStatus::Unverified, None)));
                let domain = "example.com".to_owned();
                assert_eq!(later.postponed(), Postponed::Limited { domain, by: Limited::Here });
                put_off += 1;
            }
        }
    }
    let allowed = 20.0 + 10.0 * start.elapsed().as_secs_f64();
    let questions: BTreeSet<String> = server.received().iter().map(|one| one.word(1).to_owned()).collect();
    assert!(questions.len() as f64 <= allowed && questions.len() >= 15, "{} questions", questions.len());
    assert!(denied >= 15 && put_off > 200, "{denied} {put_off}");
}

#[tokio::test]
async fn equal_questions_of_one_network_are_put_off_beyond_those_that_may_wait() {
    let server = saying(Act::Silence).await;
    let (_zone, verifier) = world(&[&server], "").await;
    let verifier = Arc::new(verifier);
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..450 {
        let (verifier, message) = (verifier.clone(), from_client([192, 0, 2, 1], ALICE, JUNK));
        asking.spawn(async move { verifier.verify(&message).await });
    }
    let all = asking.join_all().await;
    let put_off = all.iter().filter(|found| found.as_ref().is_err_and(|later| later.limited == Limited::Here)).count();
    assert!((300..450).contains(&put_off), "{put_off}");
}

#[tokio::test]
async fn g7_what_is_cached_needs_no_budget_and_a_proven_network_has_its_own() {
    let server = saying(Act::Check(key(GOOD))).await;
    let zone = Zone::start(leading_to(&[&server], "")).await.unwrap();
    // No token comes back within the test, and a right key is forgotten at once but for who brought it.
    let limits = Limits::default().with(|limits| {
        limits.verify.failures_per_second = 0.001;
        limits.verify.cache_valid_for = Duration::ZERO;
        limits.verify.cache_valid_without_t = Duration::ZERO;
    });
    let verify = Verify { timeout: Duration::from_millis(800), ..config(&zone) };
    let verifier = Verifier::new(&verify, "mx.example.net", &Arc::new(limits)).unwrap();
    let (home, flooder, elsewhere) = ([198, 51, 100, 1], [192, 0, 2, 1], [203, 0, 113, 1]);
    assert_eq!(verifier.verify(&from_client(home, ALICE, GOOD)).await.unwrap().status, KeyStatus::Valid);
    let mut denied = 0;
    for number in 0..30 {
        denied += usize::from(verifier.verify(&from_client(flooder, ALICE, &junk(number))).await.is_ok());
    }
    assert_eq!(denied, 15, "the strangers' part of the burst");
    assert!(verifier.verify(&from_client(flooder, ALICE, &junk(0))).await.unwrap().cached, "it was denied before");
    let strangers = verifier.verify(&from_client(elsewhere, ALICE, GOOD)).await;
    assert_eq!(strangers.unwrap_err().limited, Limited::Here, "nothing is left for strangers");
    let neighbour = [198, 51, 100, 77];
    assert_eq!(verifier.verify(&from_client(neighbour, ALICE, GOOD)).await.unwrap().status, KeyStatus::Valid);
    let other = verifier.verify(&from_client(home, "bob@example.com", GOOD)).await;
    assert!(other.is_err(), "an address that the network did not bring is none of its own");
}

#[tokio::test]
async fn an_endpoint_that_could_not_be_asked_for_want_of_budget_is_no_silent_one() {
    // The first is in trouble, and the second one's budget is spent: it might have said that the key is right.
    let (first, second) = (saying(Act::unverified(Reason::Temp)).await, saying(Act::Check(key(GOOD))).await);
    let text = format!("AS=as1.example.com:{}", second.addr.port());
    let zone = Zone::start(leading_to(&[&first, &second], "").txt("other.example", &text)).await.unwrap();
    let limits = Limits::default().with(|limits| {
        limits.verify.failures_per_second = 0.001;
        limits.verify.breaker_timeouts = 1_000;
    });
    let verify = Verify { timeout: Duration::from_millis(800), ..config(&zone) };
    let verifier = Verifier::new(&verify, "mx.example.net", &Arc::new(limits)).unwrap();
    let (one, other) = ([192, 0, 2, 1], [203, 0, 113, 1]);
    assert_eq!(verifier.verify(&from_client(other, ALICE, JUNK)).await.unwrap().status, KeyStatus::Invalid);
    for number in 0..20 {
        let _ = verifier.verify(&from_client(one, "mallory@other.example", &junk(number))).await;
    }
    let asked = second.count();
    let later = verifier.verify(&from_client(other, ALICE, GOOD)).await.unwrap_err();
    assert_eq!((later.limited, first.count(), second.count()), (Limited::Here, 2, asked));
}

#[tokio::test]
async fn f1_a_domain_with_a_server_of_its_own_cannot_have_another_one_asked_as_often_as_it_likes() {
    // Its own server lets the other one be asked, and then says that the key is right.
    let own = saying(Act::Late(Duration::from_millis(1_500), Box::new(Act::valid()))).await;
    let victim = saying(Act::Silence).await;
    let zone = Zone::start(leading_to(&[&own, &victim], "")).await.unwrap();
    let limits = Limits::default().with(|limits| {
        limits.verify.failures_per_second = 0.001;
        limits.verify.breaker_timeouts = 1_000;
    });
    let verifier = Arc::new(Verifier::new(&config(&zone), "mx.example.net", &Arc::new(limits)).unwrap());
    let mut valid = 0;
    for wave in 0..6 {
        let mut asking = tokio::task::JoinSet::new();
        for number in 0..6 {
            let message = from_client([192, 0, 2, 1], &format!("user{}@example.com", 6 * wave + number), GOOD);
            let verifier = verifier.clone();
            asking.spawn(async move { verifier.verify(&message).await });
        }
        let found = asking.join_all().await;
        valid += found.iter().flatten().filter(|found| found.status == KeyStatus::Valid).count();
    }
    let asked: BTreeSet<String> = victim.received().iter().map(|one| one.word(1).to_owned()).collect();
    assert!((5..=20).contains(&asked.len()) && valid > 20, "{} asked, {valid} valid", asked.len());
}

#[tokio::test]
async fn an_as_over_its_own_limit_is_alive() {
    let server = saying(Act::unverified(Reason::Limit)).await;
    let (_zone, verifier) = world(&[&server], "").await;
    for number in 0..10 {
        let later = verifier.verify(&mail(&[ALICE], &[&junk(number)])).await.unwrap_err();
        assert_eq!(later.limited, Limited::There);
    }
    server.now_does(Act::Check(key(GOOD)));
    assert_eq!(verifier.verify(&mail(&[ALICE], &[GOOD])).await.unwrap().status, KeyStatus::Valid);
}
