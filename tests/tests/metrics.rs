//! `[metrics]`: what the daemons tell of themselves, to whom, and at what bound.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use addrauth::config::{Config, Limits, Listen};
use addrauth::daemon::{authority, filter};
use addrauth::policy::Trial;
use addrauth::store::{self, NewestKey, Opening};
use addrauth_lab::mta::{Envelope, Fate, Mta};
use addrauth_lab::zone::Zone;
use addrauth_tests::authority::{Act, Authority};
use addrauth_tests::world::{self, ALICE, GOOD};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

const PATIENCE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

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
        ("addrauth_step_seconds_count{step=\"verify\"}", 4.0),
        ("addrauth_step_seconds_count{step=\"decide\"}", 3.0),
        ("addrauth_step_seconds_count{step=\"keep\"}", 4.0),
        ("addrauth_policy_faults_total", 0.0),
        ("addrauth_cache_entries{cache=\"answers\"}", 0.0),
        ("addrauth_cache_entries{cache=\"choices\"}", 1.0),
        ("addrauth_cache_lookups_total{cache=\"choices\",found=\"no\"}", 1.0),
        ("addrauth_cache_lookups_total{cache=\"choices\",found=\"yes\"}", 2.0),
        ("addrauth_dns_lookups_total", 0.0),
    ] {
        assert_eq!(after.get(name), Some(&count), "{name}: {after:?}");
    }
    assert!(after.len() <= 40 && !after.keys().any(|name| name.contains("example")), "{after:?}");
    running.stop().await.unwrap();
    assert!(!socket.exists());
}

/// A filter that learns, for home.example, that asks `server` about example.com, and puts mail without a usable sender off.
async fn busy(dir: &Path, zone: &Zone) -> filter::Running {
    let settings = "final_domains = [\"home.example\"]\nobserve = false\nkeyring.learn = true\n\
                    policy = { invalid = \"reject-notify-sender\", unusable = \"later\", user_rules = true }\n\
                    policies.later = { module = \"rules\", settings = { rules = [\"otherwise defer\"] } }";
    let mut config = config(dir, settings);
    config.milter.listen = vec!["inet:127.0.0.1:0".parse().unwrap()];
    config.verify = world::config(zone);
    let keyring = store::open_keyring(&config, Opening { busy: PATIENCE, readers: 1 }).await.unwrap();
    let address = "carol@home.example";
    let sealed = store::keyring_seal_to(&config).unwrap().seal(address, &world::key(GOOD)).unwrap();
    let (learned, expires) = (SystemTime::now() - HOUR, SystemTime::now() + HOUR);
    let key = NewestKey { address: address.into(), fingerprint: "f".into(), sealed, learned, expires };
    keyring.learn(&key).await.unwrap();
    keyring.close().await;
    filter::Running::start(config, Arc::default(), Trial::waived()).await.unwrap()
}

/// A filter in ordinary work, and all that it tells.
async fn ordinary(dir: &Path) -> BTreeMap<String, f64> {
    let server = Authority::start([Act::valid(), Act::invalid()]).await.unwrap();
    let zone = Zone::start(world::leading_to(&[&server], "")).await.unwrap();
    let running = busy(dir, &zone).await;
    let (place, socket) = (running.listening()[0].clone(), dir.join("metrics"));
    let signed = |key: &str| format!("From:{ALICE}\r\nX-Auth-Key: {key}\r\n\r\nx\r\n");
    for (message, fate) in [
        (signed(GOOD), "Delivered"),
        (signed(GOOD), "Delivered"),
        (signed(world::JUNK), "Refused(\"5"),
        (format!("From:{ALICE}\r\n\r\nx\r\n"), "Delivered"),
        ("From: a@nowhere.example\r\n\r\nx\r\n".into(), "Delivered"),
        ("From: a@one.example\r\nFrom: b@one.example\r\n\r\nx\r\n".into(), "Refused(\"4"),
    ] {
        let became = bring(&place, "bob@home.example", message.as_bytes()).await;
        assert!(format!("{became:?}").starts_with(fate), "{became:?} and not {fate}: {message}");
    }
    bring(&place, "bob@elsewhere.example", b"From: a@one.example\r\n\r\nx\r\n").await;
    let told = series(&socket).await;
    running.stop().await.unwrap();
    told
}

/// A name and its labels as they are told.
fn parts(series: &str) -> (&str, Vec<(&str, &str)>) {
    let (name, labels) = series.trim_end_matches('}').split_once('{').unwrap_or((series, ""));
    let pairs = labels.split("\",").filter_map(|pair| pair.split_once("=\""));
    (name, pairs.map(|(label, value)| (label, value.trim_end_matches('"'))).collect())
}

/// The series that an expression names: each name with the values that it wants of labels.
fn wanted(expression: &str) -> Vec<(&str, Vec<(&str, &str)>)> {
    let starts = expression.match_indices("addrauth_").map(|(at, _)| &expression[at..]);
    starts
        .map(|rest| {
            let name = rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap();
            let selector = rest[name.len()..].strip_prefix('{').and_then(|rest| rest.split_once('}'));
            let pairs = selector.map_or("", |(selector, _)| selector).split(',');
            let pairs = pairs.filter(|pair| !pair.contains("=~")).filter_map(|pair| pair.split_once('='));
            (name, pairs.map(|(label, value)| (label.trim(), value.trim_matches('"'))).collect())
        })
        .collect()
}

#[test]
fn what_an_expression_wants_is_read_out_of_it() {
    let expression = "rate(addrauth_a_total{instance=~\"$x\",le=\"0.25\"}[5m]) / addrauth_b > 0";
    assert_eq!(wanted(expression), [("addrauth_a_total", vec![("le", "0.25")]), ("addrauth_b", vec![])]);
    assert_eq!(parts("a{b=\"c\",d=\"e\"}"), ("a", vec![("b", "c"), ("d", "e")]));
    assert_eq!(parts("a"), ("a", vec![]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_dashboard_and_the_alerts_name_what_daemons_tell() {
    let dir = tempfile::tempdir().unwrap();
    let mut told = ordinary(dir.path()).await;
    let of_domains = |name: &&String| name.starts_with("addrauth_keyring_") || name.starts_with("addrauth_policy_info");
    assert_eq!(told.get("addrauth_keyring_addresses{domain=\"home.example\"}"), Some(&1.0), "{told:?}");
    assert!(told["addrauth_keyring_oldest_key_seconds{domain=\"home.example\"}"] >= HOUR.as_secs_f64());
    let count = told.keys().filter(|name| !of_domains(name)).count();
    assert!(count <= 45, "{count}: {told:?}");
    assert_eq!(told.get("addrauth_answers_used_total{over=\"memory\"}"), Some(&1.0), "{told:?}");
    assert!(told["addrauth_dns_lookups_total"] > told["addrauth_dns_questions_total"], "{told:?}");
    let running = authority_for(dir.path()).await;
    told.extend(series(&dir.path().join("metrics")).await);
    running.stop().await.unwrap();
    let etc = Path::new(env!("CARGO_MANIFEST_DIR")).join("../host/cli/etc/prometheus");
    let mut seen = 0;
    for file in ["dashboard.json", "addrauth.rules.yml"] {
        let text = std::fs::read_to_string(etc.join(file)).unwrap().replace("\\\"", "\"");
        for (name, labels) in wanted(&text).into_iter().filter(|(name, _)| !name.ends_with('_')) {
            let is_told = |series: &String| {
                let (known, all) = parts(series);
                known == name && labels.iter().all(|label| all.contains(label))
            };
            assert!(told.keys().any(is_told), "{file} names {name} {labels:?}, which nobody tells: {told:?}");
            seen += 1;
        }
    }
    assert!(seen > 25, "{seen}");
    let page = std::fs::read_to_string(etc.join("../../../doc/metrics.md")).unwrap();
    for series in told.keys() {
        let (name, _) = parts(series);
        let name = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        assert!(page.contains(&format!("`{name}`")), "host/doc/metrics.md does not say what {name} is");
    }
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

async fn authority_for(dir: &Path) -> authority::Running {
    let mut config = config(dir, "");
    config.authority.domains = vec!["send.example".parse().unwrap()];
    config.authority.listen = vec!["127.0.0.1:0".parse().unwrap()];
    config.authority.deliver = addrauth::config::Deliver::Nobody;
    authority::Running::start(config, Arc::new(Limits::default())).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authority_counts_its_answers_and_tells_how_its_keys_stand() {
    let dir = tempfile::tempdir().unwrap();
    let running = authority_for(dir.path()).await;
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
    let question = format!("VERIFY {:032x} alice@send.example {}\r\n", 7, GOOD);
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
