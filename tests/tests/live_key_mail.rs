//! The mail that brings a key, through a real Postfix.

use std::sync::Arc;

use addrauth::authority::{Authority, PostTurn, Poster};
use addrauth::config::{Config, FixedAs, Limits, StateDir};
use addrauth::daemon::Asking;
use addrauth::proto::address::Address;
use addrauth::proto::key::AuthKey;
use addrauth_tests::postfix::{Bed, Kind};
use addrauth_tests::world::LOOPBACK;
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn a_real_postfix_takes_the_mail_and_delivers_it_with_the_key_on_one_line() {
    let Some(bed) = Bed::shared() else { return };
    let door = bed.door(Kind::Bare);
    let (dir, who) = (tempfile::tempdir().unwrap(), Address::parse(door.address("bob").as_bytes(), false).unwrap());
    let mut config = Config { hostname: "as.example.com".into(), ..Config::default() };
    config.state_dir = StateDir(dir.path().to_owned());
    config.authority.domains = vec![who.domain().clone()];
    config.authority.listen = vec![(LOOPBACK, 0).into()];
    config.notices.notify_via = format!("127.0.0.1:{}", door.port);
    config.verify.dns = vec!["127.0.0.1:9".parse().unwrap()];
    let limits = Arc::new(Limits::default());
    let authority = Arc::new(Authority::open(&config, &limits).await.unwrap());
    let sockets = authority.bind().unwrap();
    let fixed = FixedAs { endpoint: sockets[0].local_addr().unwrap() };
    config.verify.domain.insert(who.domain().clone(), fixed);
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn(authority.clone().serve(sockets, shutdown.clone()));
    let owed = authority.rotate(&who).await.unwrap();
    let asks = Arc::new(Asking::new(&config, &limits));
    let poster = Poster::open(&config, authority.clone(), asks).await.unwrap().unwrap();
    assert_eq!(poster.turn().await.unwrap(), PostTurn { taken: 1, done: 1, given_up: 0 });
    let text = String::from_utf8(door.delivered("bob", 1).pop().unwrap()).unwrap();
    assert!(text.starts_with("Return-Path: <>\n"), "{text}");
    let key = text.lines().find_map(|line| line.strip_prefix("X-New-Auth-Key: ")).unwrap();
    let key = AuthKey::parse(key.as_bytes()).unwrap();
    assert_eq!(key.verify_key().fingerprint(), owed.fingerprint);
    assert!(
        text.contains(&format!("\nTo: <{who}>\n")) && text.contains("\nAuto-Submitted: auto-generated\n"),
        "{text}"
    );
    shutdown.cancel();
    serving.await.unwrap();
}
