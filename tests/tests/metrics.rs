//! `[metrics]`: what the daemons tell of themselves, to whom, and at what bound.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use addrauth::config::{Config, Limits, Listen};
use addrauth::daemon::{authority, filter};
use addrauth::policy::Trial;
use addrauth_lab::mta::{Envelope, Fate, Mta};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

const PATIENCE: Duration = Duration::from_secs(60);

/// Status and body of a page.
async fn page(socket: &Path, request: &str) -> (u16, String) {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    stream.write_all(format!("{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut said = String::new();
    tokio::time::timeout(PATIENCE, stream.read_to_string(&mut said)).await.unwrap().unwrap();
    let (head, body) = said.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// The series, by their names with labels.
async fn series(socket: &Path) -> BTreeMap<String, f64> {
    let (status, text) = page(socket, "GET /metrics").await;
    assert_eq!(status, 200, "{text}");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(name, value)| (name.into(), value.parse().unwrap()))
        .collect()
}

fn config(dir: &Path, more: &str) -> Config {
    let text = format!(
        "hostname = \"mx.home.example\"\nstate_dir = {:?}\n{more}\n[metrics]\nlisten = [\"unix:{}\"]\n",
        dir.join("state"),
        dir.join("metrics").display()
    );
    Config::parse(&text, "x.toml".as_ref()).unwrap()
}

/// A filter that can find nothing out: DNS is nowhere.
async fn filter(dir: &Path, limits: Limits) -> filter::Running {
    let mut config = config(dir, "final_domains = [\"home.example\"]\nobserve = false");
    config.milter.listen = vec!["inet:127.0.0.1:0".parse().unwrap()];
    config.verify.dns = vec!["127.0.0.1:9".parse().unwrap()];
    filter::Running::start(config, Arc::new(limits), Trial::waived()).await.unwrap()
}

async fn bring(place: &Listen, to: &str, message: &[u8]) -> Fate {
    Mta::connect(place).await.unwrap().send(&Envelope::inbound("a@one.example", to), message).await.unwrap().fate
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filter_counts_each_message_once_and_names_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let running = filter(dir.path(), Limits::default()).await;
    let (place, socket) = (running.listening()[0].clone(), dir.path().join("metrics"));
    assert_eq!(running.telling(), [Listen::Unix(socket.clone())]);
    let before = series(&socket).await;
    assert!(before.keys().any(|name| name.starts_with("addrauth_policy_info{policy=\"mark\"")), "{before:?}");
    let two: &[u8] = b"From: a@one.example\r\nFrom: b@one.example\r\n\r\nx\r\n";
    for _ in 0..3 {
        assert_eq!(bring(&place, "bob@home.example", two).await, Fate::Delivered);
    }
    assert_eq!(bring(&place, "bob@elsewhere.example", two).await, Fate::Delivered);
    let after = series(&socket).await;
    for (name, count) in [
        ("addrauth_messages_total{door=\"reception\"}", 4.0),
        ("addrauth_results_total{result=\"unusable\"}", 3.0),
        ("addrauth_results_total{result=\"passing\"}", 1.0),
        ("addrauth_decisions_total{decision=\"mark\",mode=\"in-force\"}", 3.0),
        ("addrauth_step_seconds_count{step=\"examine\"}", 4.0),
        ("addrauth_step_seconds_count{step=\"keep\"}", 4.0),
        ("addrauth_policy_faults_total", 0.0),
    ] {
        assert_eq!(after.get(name), Some(&count), "{name}: {after:?}");
    }
    assert!(after.len() <= 40 && !after.keys().any(|name| name.contains("example")), "{after:?}");
    running.stop().await.unwrap();
    assert!(!socket.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filter_is_healthy_without_dns_and_not_ready() {
    let dir = tempfile::tempdir().unwrap();
    let running = filter(dir.path(), Limits::default()).await;
    let socket = dir.path().join("metrics");
    assert_eq!(page(&socket, "GET /healthz").await, (200, "ok\n".into()));
    let (status, why) = page(&socket, "GET /readyz").await;
    assert!(status == 503 && why.contains("DNS"), "{status} {why}");
    for (request, status) in [
        ("HEAD /metrics", 200),
        ("POST /metrics", 405),
        ("DELETE /readyz", 405),
        ("GET /", 404),
        ("GET /metrics/../../etc/passwd", 404),
        ("GET /metrics?x=%00", 200),
    ] {
        assert_eq!(page(&socket, request).await.0, status, "{request}");
    }
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_holds_connections_open_stops_no_mail_and_no_stop() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits::default().with(|limits| {
        limits.metrics.connections = 3;
        limits.metrics.connection = Duration::from_millis(300);
    });
    let running = filter(dir.path(), limits).await;
    let (place, socket) = (running.listening()[0].clone(), dir.path().join("metrics"));
    let mut idle = Vec::new();
    for _ in 0..20 {
        let mut stream = UnixStream::connect(&socket).await.unwrap();
        let _ = stream.write_all(b"GET /metrics HT").await;
        idle.push(stream);
    }
    assert_eq!(bring(&place, "bob@elsewhere.example", b"From: a@one.example\r\n\r\nx\r\n").await, Fate::Delivered);
    for stream in &mut idle {
        // Closed at once beyond the bound, and later within it.
        let mut said = Vec::new();
        let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut said)).await.expect("the connection is closed");
    }
    assert_eq!(page(&socket, "GET /healthz").await.0, 200);
    let _open = UnixStream::connect(&socket).await.unwrap();
    tokio::time::timeout(PATIENCE, running.stop()).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authority_counts_its_answers_and_tells_how_its_keys_stand() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path(), "");
    config.authority.domains = vec!["send.example".parse().unwrap()];
    config.authority.listen = vec!["127.0.0.1:0".parse().unwrap()];
    config.authority.deliver = addrauth::config::Deliver::Nobody;
    let running = authority::Running::start(config, Arc::new(Limits::default())).await.unwrap();
    let socket = dir.path().join("metrics");
    for page_ in ["GET /healthz", "GET /readyz"] {
        assert_eq!(page(&socket, page_).await, (200, "ok\n".into()), "{page_}");
    }
    let before = series(&socket).await;
    assert_eq!(before.get("addrauth_authority_answers_total{answer=\"unverified\"}"), Some(&0.0), "{before:?}");
    for name in ["keys_owed", "oldest_owed_seconds", "addresses", "addresses_without_key"] {
        assert_eq!(before.get(&format!("addrauth_authority_{name}")), Some(&0.0), "{name}: {before:?}");
    }
    let asker = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    asker.set_read_timeout(Some(PATIENCE)).unwrap();
    let question = format!("VERIFY {:032x} alice@send.example {}\r\n", 7, addrauth_tests::world::GOOD);
    asker.send_to(question.as_bytes(), running.listening()[0]).unwrap();
    asker.recv(&mut [0; 2_048]).unwrap();
    let after = series(&socket).await;
    let sum = |series: &BTreeMap<String, f64>| -> f64 {
        series
            .iter()
            .filter(|(name, _)| name.starts_with("addrauth_authority_answers_total"))
            .map(|(_, count)| count)
            .sum()
    };
    assert_eq!(sum(&after) - sum(&before), 1.0, "{after:?}");
    running.stop().await.unwrap();
}
