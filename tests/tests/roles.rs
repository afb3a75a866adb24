//! The roles in the library: started, reloaded, stopped and dropped without a process of their own.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use addrauth::config::{Config, Limits};
use addrauth::daemon::{authority, filter};
use addrauth::policy::Trial;
use addrauth_lab::mta::{Envelope, Fate, Mta};
use addrauth_lab::zone::{Records, Zone};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

fn config(dir: &Path, zone: &Zone, hostname: &str) -> Config {
    let text = format!(
        "hostname = \"{hostname}\"\nfinal_domains = [\"home.example\"]\nstate_dir = {:?}\n[milter]\nlisten = \
         [\"inet:127.0.0.1:0\"]\n[verify]\ndns = [\"{}\"]\n",
        dir.join("state"),
        zone.addr
    );
    Config::parse(&text, Path::new("x.toml")).unwrap()
}

async fn start(config: Config) -> Result<filter::Running, filter::Error> {
    filter::Running::start(config, Arc::new(Limits::default()), Trial::waived()).await
}

/// What a message gets as its status field.
async fn status(running: &filter::Running) -> String {
    let mut mta = Mta::connect(&running.listening()[0]).await.unwrap();
    let envelope = Envelope::inbound("alice@sender.example", "bob@home.example");
    let outcome = mta.send(&envelope, b"From: alice@sender.example\r\n\r\nx\r\n").await.unwrap();
    assert_eq!(outcome.fate, Fate::Delivered);
    mta.quit().await.unwrap();
    let text = String::from_utf8(outcome.message).unwrap();
    text.lines().find(|line| line.starts_with("X-Auth-Key-Status")).unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filter_serves_takes_another_configuration_and_stops() {
    let (dir, zone) = (tempfile::tempdir().unwrap(), Zone::start(Records::default()).await.unwrap());
    let mut running = start(config(dir.path(), &zone, "mx1.home.example")).await.unwrap();
    assert!(status(&running).await.contains("by=mx1.home.example"));
    assert_eq!(running.health().trouble(Duration::from_secs(60)).await, None);
    running.reload(config(dir.path(), &zone, "mx2.home.example")).await.unwrap();
    assert!(status(&running).await.contains("by=mx2.home.example"));
    let wrong = Config {
        policies: toml::from_str("[mark]\nmodule = \"/nowhere/x.wasm\"").unwrap(),
        ..config(dir.path(), &zone, "mx3.home.example")
    };
    assert!(running.reload(wrong).await.is_err());
    assert!(status(&running).await.contains("by=mx2.home.example"), "the old one stays");
    let second = start(config(dir.path(), &zone, "mx4.home.example")).await;
    assert!(matches!(second.err(), Some(filter::Error::Taken(_))), "the state directory is taken");
    let (place, health) = (running.listening()[0].clone(), running.health());
    running.stop().await.unwrap();
    assert!(Mta::connect(&place).await.is_err());
    assert_eq!(health.trouble(Duration::from_millis(10)).await, None, "what is stopped need not turn");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filter_that_is_dropped_stops_and_gives_its_directory_back() {
    let (dir, zone) = (tempfile::tempdir().unwrap(), Zone::start(Records::default()).await.unwrap());
    let running = start(config(dir.path(), &zone, "mx.home.example")).await.unwrap();
    let place = running.listening()[0].clone();
    drop(running);
    let again = async {
        loop {
            match start(config(dir.path(), &zone, "mx.home.example")).await {
                Ok(running) => return running,
                Err(filter::Error::Taken(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(e) => panic!("{e}"),
            }
        }
    };
    let again = tokio::time::timeout(Duration::from_secs(60), again).await.unwrap();
    assert!(Mta::connect(&place).await.is_err(), "the first one listens no more");
    again.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filter_runs_until_it_is_shut_down() {
    let (dir, zone) = (tempfile::tempdir().unwrap(), Zone::start(Records::default()).await.unwrap());
    let (shutdown, (_reload, reloads)) = (CancellationToken::new(), mpsc::channel(1));
    let running = tokio::spawn(filter::run(
        config(dir.path(), &zone, "mx.home.example"),
        Trial::waived(),
        reloads,
        shutdown.clone(),
    ));
    tokio::time::sleep(Duration::from_millis(50)).await;
    shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(60), running).await.unwrap().unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authority_answers_until_it_is_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let text =
        format!("state_dir = {:?}\n[authority]\ndomains = [\"example.com\"]\nlisten = [\"127.0.0.1:0\"]\n", dir.path());
    let config = Config::parse(&text, Path::new("x.toml")).unwrap();
    let running = authority::Running::start(config, Arc::new(Limits::default())).await.unwrap();
    let client = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.connect(running.listening()[0]).await.unwrap();
    client.send(b"VERIFY 01 alice@example.com abcdefghijklmnopqrstuv v=1 from=example.net\r\n").await.unwrap();
    let mut room = [0; 600];
    let length = tokio::time::timeout(Duration::from_secs(60), client.recv(&mut room)).await.unwrap().unwrap();
    assert_eq!(&room[..length], b"VERIFY_REPLY 01 alice@example.com INVALIDKEY\r\n");
    running.renew().await;
    running.stop().await.unwrap();
}
