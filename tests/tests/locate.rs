//! From a domain to its AS, over real DNS packets on loopback: which records count, and where none may lead.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use addrauth::case::{Answerer, KeyStatus, Why};
use addrauth::config::{FixedAs, Verify};
use addrauth::proto::address::Domain;
use addrauth::proto::record::Claim;
use addrauth::verify::{Failure, Published};
use addrauth_lab::zone::{Fault, Records, Zone};
use addrauth_tests::authority::{Act, Authority};
use addrauth_tests::quiet::undisturbed;
use addrauth_tests::world::*;

fn example() -> Domain {
    Domain::parse("example.com").unwrap()
}

#[tokio::test]
async fn the_second_name_wins_and_the_weakest_claim_counts() {
    let server = saying(Act::valid()).await;
    let port = server.addr.port();
    let records = Records::default()
        .txt("example.com", "AS=other.example.com:4410; m=all")
        .txt("_addrauth.example.com", "unrelated")
        .txt("_addrauth.example.com", &format!("AS=as.example.com:{port}; m=all"))
        .txt("_addrauth.example.com", "AS=nowhere.example.com:4410; p=20; m=testing")
        .txt("_addrauth.example.com", "AS=as.example.com:0")
        .address("as.example.com", LOOPBACK);
    let zone = Zone::start(records).await.unwrap();
    let verifier = verifier(&config(&zone));
    let found = verifier.verify(&mail(&[ALICE], &[GOOD])).await.unwrap();
    assert_eq!((found.status, found.claim), (KeyStatus::Valid, Some(Claim::Testing)));
    let (Published::Records(records), endpoints) = verifier.locate(&example()).await else { panic!("records") };
    assert_eq!((records.name.as_str(), records.used.len(), records.bad.len()), ("_addrauth.example.com", 2, 1));
    assert_eq!((endpoints.usable.len(), endpoints.failed.len()), (1, 1));
}

#[tokio::test]
async fn a_failure_of_either_name_is_unverified_and_never_a_fall_to_the_other() {
    undisturbed(run_a_failure_of_either_name_is_unverified_and_never_a_fall_to_the_other).await;
}

async fn run_a_failure_of_either_name_is_unverified_and_never_a_fall_to_the_other() {
    let server = saying(Act::valid()).await;
    for fault in [Fault::ServFail, Fault::Silence] {
        for name in ["example.com", "_addrauth.example.com"] {
            for records in [leading_to(&[&server], ""), Records::default()] {
                let zone = Zone::start(records.fault(name, fault)).await.unwrap();
                let verifier = verifier(&config(&zone));
                let start = Instant::now();
                let found = verifier.verify(&mail(&[ALICE], &[GOOD])).await.unwrap();
                assert_eq!(result(&found), (KeyStatus::Unverified, Some(Why::Dns)), "{fault:?} of {name}");
                assert!(start.elapsed() < Duration::from_millis(2_500), "{fault:?} took {:?}", start.elapsed());
                let again = Instant::now();
                assert_eq!(verifier.verify(&mail(&[ALICE], &[])).await.unwrap().status, KeyStatus::Unverified);
                assert!(again.elapsed() < Duration::from_millis(50), "failures are remembered");
            }
        }
    }
    assert_eq!(server.count(), 0);
}

#[tokio::test]
async fn a_domain_too_long_for_the_second_name_is_judged_by_the_first() {
    let server = saying(Act::valid()).await;
    let domain = ["a".repeat(60), "b".repeat(60), "c".repeat(60), "d".repeat(60), "test".into()].join(".");
    let from = format!("a@{domain}");
    let zone = Zone::start(Records::default()).await.unwrap();
    let found = verifier(&config(&zone)).verify(&mail(&[&from], &[])).await.unwrap();
    assert_eq!(result(&found), (KeyStatus::None, None));
    let text = format!("AS=as.example.com:{}", server.addr.port());
    let records = Records::default().txt(&domain, &text).address("as.example.com", LOOPBACK);
    let zone = Zone::start(records).await.unwrap();
    let found = verifier(&config(&zone)).verify(&mail(&[&from], &[GOOD])).await.unwrap();
    assert_eq!(result(&found), (KeyStatus::Valid, None));
}

/// A DNS server whose answers a forger races: his come first, with another id, another question or from another port.
async fn forged_zone() -> SocketAddr {
    let socket = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let stranger = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 1_500];
        while let Ok((length, to)) = socket.recv_from(&mut buffer).await {
            let query = &buffer[..length];
            let name_end = 12 + query[12..].iter().position(|octet| *octet == 0).unwrap() + 1;
            let question = &query[12..name_end + 4];
            let reply = |id: [u8; 2], flags: [u8; 2], question: &[u8], text: Option<&[u8]>| {
                let counts = [0, 1, 0, u8::from(text.is_some()), 0, 0, 0, 0];
                let mut octets = [&id[..], &flags, &counts, question].concat();
                if let Some(text) = text {
                    octets.extend([0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 60, 0, text.len() as u8 + 1, text.len() as u8]);
                    octets.extend(text);
                }
                octets
            };
            let (id, ok, absent) = ([query[0], query[1]], [0x81, 0x80], [0x81, 0x83]);
            let lie = Some(&b"AS=evil.example:4410"[..]);
            let mut other = question.to_vec();
            other[1] ^= 1;
            socket.send_to(&reply([!id[0], id[1]], ok, question, lie), to).await.unwrap();
            socket.send_to(&reply(id, ok, &other, lie), to).await.unwrap();
            stranger.send_to(&reply(id, ok, question, lie), to).await.unwrap();
            socket.send_to(&reply(id, absent, question, None), to).await.unwrap();
        }
    });
    address
}

#[tokio::test]
async fn d1_a_forged_dns_answer_is_not_believed() {
    let dns = forged_zone().await;
    let verifier = verifier(&Verify { dns: vec![dns], ..Verify::default() });
    let found = verifier.verify(&mail(&[ALICE], &[GOOD])).await.unwrap();
    assert_ne!(found.status, KeyStatus::Valid);
    assert!(found.claim.is_none() && !matches!(verifier.locate(&example()).await.0, Published::Records(_)));
}

#[tokio::test]
async fn the_first_four_endpoints_by_priority_host_and_port_count() {
    let text = |host: &str, port: u16, p: u16| format!("AS={host}.example.com:{port}; p={p}");
    let records = Records::default()
        .txt("example.com", &text("b", 5_000, 5))
        .txt("example.com", &text("a", 6_001, 5))
        .txt("example.com", &text("a", 6_000, 5))
        .txt("example.com", &text("late", 4_410, 9))
        .txt("example.com", &text("first", 4_410, 1))
        .address("first.example.com", "::1".parse().unwrap())
        .address("first.example.com", "127.0.0.2".parse().unwrap())
        .address("a.example.com", "127.0.0.3".parse().unwrap())
        .address("b.example.com", "127.0.0.4".parse().unwrap())
        .address("late.example.com", "127.0.0.5".parse().unwrap());
    let zone = Zone::start(records).await.unwrap();
    let mut config = config(&zone);
    config.allow_targets.push("::1/128".parse().unwrap());
    let (_, endpoints) = verifier(&config).locate(&example()).await;
    let order: Vec<String> = endpoints.usable.iter().map(|endpoint| endpoint.address.to_string()).collect();
    assert_eq!(order, ["127.0.0.2:4410", "[::1]:4410", "127.0.0.3:6000", "127.0.0.3:6001"]);
}

#[tokio::test]
async fn e_no_record_leads_to_an_internal_address() {
    let server = saying(Act::valid()).await;
    let port = server.addr.port();
    for address in ["127.0.0.1", "127.1.2.3", "0.0.0.0", "::1", "::ffff:127.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1"] {
        let text = format!("AS=as.example.com:{port}");
        let records = Records::default().txt("example.com", &text).address("as.example.com", address.parse().unwrap());
        expect_no_contact(records, &server, address).await;
    }
    for host in ["127.0.0.1", "127.1", "0x7f000001", "2130706433", "0177.0.0.1", "[::1]", "localhost", "as.localhost"] {
        let records = Records::default().txt("example.com", &format!("AS={host}:{port}"));
        expect_no_contact(records, &server, host).await;
    }
    let alias = Records::default()
        .txt("example.com", &format!("AS=as.example.com:{port}"))
        .alias("as.example.com", "inside.example.com")
        .address("inside.example.com", LOOPBACK);
    expect_no_contact(alias, &server, "an alias").await;
}

async fn expect_no_contact(records: Records, server: &Authority, what: &str) {
    let zone = Zone::start(records).await.unwrap();
    let verifier = verifier(&Verify { dns: vec![zone.addr], ..Verify::default() });
    let found = verifier.verify(&mail(&[ALICE], &[GOOD])).await.unwrap();
    assert_eq!(result(&found), (KeyStatus::Unverified, Some(Why::Dns)), "{what}");
    assert_eq!(server.count(), 0, "{what}");
}

#[tokio::test]
async fn a_fixed_endpoint_needs_neither_dns_nor_the_guard() {
    let server = saying(Act::Check(key(GOOD))).await;
    let zone = Zone::start(Records::default().fault("example.com", Fault::ServFail)).await.unwrap();
    let mut config = Verify { dns: vec![zone.addr], ..Verify::default() };
    config.domain.insert("Example.COM".parse().unwrap(), FixedAs { endpoint: server.addr });
    let found = verifier(&config).verify(&mail(&[ALICE], &[GOOD])).await.unwrap();
    assert_eq!((found.status, found.claim), (KeyStatus::Valid, Some(Claim::Some)));
    assert_eq!(found.authority, Some(Answerer::over_udp(server.addr.to_string())));
}

#[tokio::test]
async fn f3_a_huge_txt_set_comes_over_tcp_and_too_many_as_records_are_refused() {
    let server = saying(Act::valid()).await;
    let huge = (0..40).fold(leading_to(&[&server], ""), |records, n| {
        records.txt("example.com", &format!("{n} {}", "x".repeat(1_000)))
    });
    let zone = Zone::start(huge).await.unwrap();
    assert_eq!(verifier(&config(&zone)).verify(&mail(&[ALICE], &[GOOD])).await.unwrap().status, KeyStatus::Valid);
    for (count, status) in [(16, KeyStatus::Missing), (17, KeyStatus::Unverified)] {
        let many = (0..count)
            .fold(Records::default(), |records, n| records.txt("example.com", &format!("AS=as{n}.example.com:4410")));
        let zone = Zone::start(many).await.unwrap();
        assert_eq!(verifier(&config(&zone)).verify(&mail(&[ALICE], &[])).await.unwrap().status, status, "{count}");
    }
}

#[tokio::test]
async fn f4_a_cname_loop_is_a_failure_and_an_alias_is_followed() {
    let server = saying(Act::valid()).await;
    let loops = [
        Records::default().alias("example.com", "example.com"),
        Records::default().alias("example.com", "a.example").alias("a.example", "example.com"),
        (0..20).fold(Records::default().alias("example.com", "c0.example"), |records, n| {
            records.alias(&format!("c{n}.example"), &format!("c{}.example", n + 1))
        }),
    ];
    for records in loops {
        let zone = Zone::start(records).await.unwrap();
        let verifier = verifier(&config(&zone));
        let found = verifier.verify(&mail(&[ALICE], &[])).await.unwrap();
        assert_eq!(result(&found), (KeyStatus::Unverified, Some(Why::Dns)));
        assert!(matches!(verifier.locate(&example()).await.0, Published::Failed(Failure::Dns { .. })));
    }
    let records =
        leading_to(&[&server], "").alias("alias.example", "example.com").alias("dead.example", "gone.example");
    let zone = Zone::start(records).await.unwrap();
    let verifier = verifier(&config(&zone));
    assert_eq!(verifier.verify(&mail(&["x@alias.example"], &[GOOD])).await.unwrap().status, KeyStatus::Valid);
    assert_eq!(verifier.verify(&mail(&["x@dead.example"], &[GOOD])).await.unwrap().status, KeyStatus::None);
}

#[tokio::test]
async fn a_dns_server_that_knows_no_edns_is_asked_again_without() {
    let server = saying(Act::valid()).await;
    // FORMERR and NOTIMP, as servers answer that were written before EDNS (RFC 6891 §7).
    for (code, bare) in [(1, false), (1, true), (4, false), (4, true)] {
        let zone = Zone::start(leading_to(&[&server], "")).await.unwrap();
        let (old, counts) = addrauth_tests::dns::without_edns(zone.addr, code, bare);
        let verifier = verifier(&Verify { dns: vec![old], ..config(&zone) });
        let found = verifier.verify(&mail(&[ALICE], &[GOOD])).await.unwrap();
        assert_eq!(result(&found), (KeyStatus::Valid, None), "{code} {bare}");
        let [refused, passed] = [0, 1].map(|kind| counts[kind].load(std::sync::atomic::Ordering::SeqCst));
        assert!(refused > 0 && passed > 0, "{refused} {passed}");
        // It is remembered, so that not every look-up is made twice.
        let none = verifier.verify(&mail(&["bob@elsewhere.example"], &[])).await.unwrap();
        assert_eq!(none.status, KeyStatus::None);
        assert_eq!(counts[0].load(std::sync::atomic::Ordering::SeqCst), refused);
    }
}
