//! `addrauth doctor` and `addrauth record` as a postmaster runs them: through the binary, against a zone and servers on
//! loopback, and where `ADDRAUTH_LIVE` is set, beside a real Postfix.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use addrauth::config::{Config, Limits};
use addrauth_lab::zone::{Records, Zone};
use addrauth_tests::authority::{Act, Authority};
use addrauth_tests::certificates::Root;
use addrauth_tests::daemon::{Rig, binary};
use addrauth_tests::milter::{Fake, open_with};
use addrauth_tests::ports::Closed;
use addrauth_tests::postfix::{Bed, Kind};
use addrauth_tests::server::{HOST, Server};
use addrauth_tests::world::{leading_to, saying};
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

/// The exit code, and what was printed.
async fn addrauth(config: &Path, words: &[&str]) -> (i32, String) {
    let mut command = Command::new(binary());
    command.arg("--config").arg(config).args(words).stdin(Stdio::null());
    let out = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = String::from_utf8(out.stdout).unwrap() + &String::from_utf8_lossy(&out.stderr);
    (out.status.code().unwrap(), text)
}

/// The checks of `addrauth doctor --json`, with the exit code, which must be that of the gravest of them.
async fn doctor(config: &Path, words: &[&str]) -> Vec<(String, String, String)> {
    let (code, text) = addrauth(config, &[&["doctor", "--json"], words].concat()).await;
    let report: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    let word = |check: &Value, name: &str| check[name].as_str().unwrap().to_owned();
    let checks = report["checks"].as_array().unwrap();
    let checks: Vec<_> = checks.iter().map(|c| (word(c, "state"), word(c, "about"), word(c, "text"))).collect();
    let has = |state: &str| checks.iter().any(|check| check.0 == state);
    let expected = if has("WRONG") { 1 } else { 2 * i32::from(has("could not tell")) };
    assert_eq!((code, report["ok"].as_bool().unwrap()), (expected, expected != 1), "{text}");
    checks
}

fn of<'a>(checks: &'a [(String, String, String)], state: &str) -> Vec<&'a (String, String, String)> {
    // Whether anything tells of the clock depends on the machine.
    checks.iter().filter(|check| check.0 == state && check.1 != "clock").collect()
}

fn says(checks: &[(String, String, String)], state: &str, words: &str) {
    let found = checks.iter().any(|check| check.0 == state && check.2.contains(words));
    assert!(found, "{state} {words}: {checks:#?}");
}

/// A server that greets as SMTP servers do; its place.
async fn greeting() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"220 mx.example.com ESMTP\r\n").await;
        }
    });
    place
}

/// A whole small installation of example.com in a directory; its configuration's file.
async fn installed(dir: &Path, zone: &Zone, milter: &str, rest: &str) -> PathBuf {
    let (state, file, notify) = (dir.join("state"), dir.join("addrauth.toml"), greeting().await);
    let text = format!(
        "hostname = \"mx.example.com\"\nfinal_domains = [\"example.com\"]\nobserve = false\nstate_dir = {state:?}\n\
         [milter]\nlisten = [\"{milter}\"]\n[notices]\nnotify_via = \"{notify}\"\n\
         [verify]\ndns = [\"{}\"]\nallow_targets = [\"127.0.0.0/8\"]\n{rest}\n",
        zone.addr
    );
    fs::write(&file, text).unwrap();
    let config = Config::read(&file).unwrap();
    let limits = std::sync::Arc::new(Limits::default());
    addrauth::custody::Custody::open(&config, &limits).await.unwrap().close().await;
    file
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_installation_is_good_and_what_breaks_is_found() {
    let server = saying(Act::invalid()).await;
    let zone = Zone::start(leading_to(&[&server], "")).await.unwrap();
    let milter = open_with(Fake::named("one"), "inet:127.0.0.1:0", Limits::default());
    let dir = tempfile::tempdir().unwrap();
    let file = installed(dir.path(), &zone, &milter.place.to_string(), "").await;
    let none = ["--postconf", "/nonexistent/postconf"];
    let checks = doctor(&file, &none).await;
    assert!(of(&checks, "WRONG").is_empty() && of(&checks, "could not tell").is_empty(), "{checks:#?}");
    says(&checks, "ok", "INVALIDKEY for a key of nobody");
    says(&checks, "ok", "a milter answers");
    says(&checks, "ok", "220 mx.example.com");
    let line = &server.received()[0];
    assert!(line.word(2).starts_with("addrauth-doctor-") && line.word(3).starts_with("h1."), "{line:?}");

    server.now_does(Act::valid());
    says(&doctor(&file, &none).await, "WRONG", "vouch for everybody");
    server.now_does(Act::Silence);
    says(&doctor(&file, &none).await, "WRONG", "no answer within");
    milter.shutdown.cancel();
    milter.task.await.unwrap();
    fs::set_permissions(dir.path().join("state"), fs::Permissions::from_mode(0o755)).unwrap();
    zone.replace(Records::default().txt("example.com", "AS=nonsense"));
    let checks = doctor(&file, &none).await;
    for words in ["is `addrauth filter` running?", "chmod 700", "no usable AS= record"] {
        says(&checks, "WRONG", words);
    }
    let (code, text) = addrauth(&file, &["doctor", "no domain"]).await;
    assert!(code == 2 && text.contains("is no domain"), "{code} {text}");
    fs::write(&file, "final_domain = []").unwrap();
    says(&doctor(&file, &none).await, "WRONG", "final_domain");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_record_that_is_printed_leads_a_verifier_to_the_server() {
    let server: Authority = saying(Act::invalid()).await;
    let zone = Zone::start(Records::default()).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let own = format!("[authority]\ndomains = [\"example.com\"]\nlisten = [\"{}\"]", server.addr);
    let file = installed(dir.path(), &zone, "inet:127.0.0.1:1", &own).await;
    let words = ["record", "example.com", "--host", "as.example.com", "--json"];
    let (code, text) = addrauth(&file, &words).await;
    let sheet: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(code, 0, "{text}");
    assert!(sheet["warnings"].to_string().contains("is internal"), "{text}");
    says(&doctor(&file, &["example.com"]).await, "WRONG", "`addrauth record example.com`");
    let records = sheet["records"].as_array().unwrap().iter().fold(Records::default(), |all, record| {
        let strings: String = record["strings"].as_array().unwrap().iter().map(|s| s.as_str().unwrap()).collect();
        all.txt(record["name"].as_str().unwrap(), &strings)
    });
    zone.replace(records.address("as.example.com", server.addr.ip()));
    let checks = doctor(&file, &["example.com"]).await;
    says(&checks, "ok", "_addrauth.example.com");
    says(&checks, "ok", "INVALIDKEY for a key of nobody");
    let alone = fs::read_to_string(&file).unwrap().replace("final_domains = [\"example.com\"]", "");
    fs::write(&file, alone).unwrap();
    let checks = doctor(&file, &[]).await;
    assert!(
        of(&checks, "WRONG").is_empty() && !checks.iter().any(|check| check.1.starts_with("milter")),
        "{checks:#?}"
    );
    let (code, text) = addrauth(&file, &["record", "example.com", "--host", "10.0.0.1"]).await;
    assert!(code == 1 && text.contains("names no host"), "{code} {text}");
    let (code, text) = addrauth(&dir.path().join("nowhere"), &["record", "example.com"]).await;
    assert!(code == 2 && text.contains("cannot read"), "{code} {text}");
}

/// The checks about Postfix, its configuration being a copy of the bed's with another main.cf or master.cf.
async fn beside_postfix(rig: &Rig, etc: &Path, change: impl Fn(String) -> String) -> Vec<(String, String, String)> {
    let copy = rig.path("etc");
    fs::create_dir_all(&copy).unwrap();
    for name in ["main.cf", "master.cf", "mailboxes", "transport"] {
        fs::write(copy.join(name), change(fs::read_to_string(etc.join(name)).unwrap())).unwrap();
    }
    doctor(&rig.path("filter.toml"), &["--postfix", copy.to_str().unwrap()]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_a_real_postfix_a_good_setup_is_good_and_each_wrong_one_is_wrong() {
    let Some(bed) = Bed::shared() else { return };
    let rig = Rig::start(bed, Kind::Chroot, "");
    // As the daemon would have made it.
    fs::set_permissions(rig.path("filter"), fs::Permissions::from_mode(0o700)).unwrap();
    let etc = rig.door.etc();
    let same = |text: String| text;
    let checks = beside_postfix(&rig, &etc, same).await;
    assert!(of(&checks, "WRONG").is_empty(), "{checks:#?}");
    says(&checks, "ok", "mail waits");
    says(&checks, "ok", "user postfix may connect");
    let place = format!("unix:{}", rig.door.milter_socket().file_name().unwrap().to_str().unwrap());
    let relative = place.replace("unix:", "unix:addrauth/");
    let braced = format!("-o {{ smtpd_milters = {relative} }}");
    let with = |other: String| move |text: String| text.replace(&braced.clone(), &other);
    let accept = format!("-o {{ smtpd_milters = {{ {relative}, default_action=accept }} }}");
    says(&beside_postfix(&rig, &etc, with(accept)).await, "WRONG", "comes through unexamined");
    let braced = format!("-o {{ smtpd_milters = {relative} }}");
    let with = |other: String| move |text: String| text.replace(&braced.clone(), &other);
    says(&beside_postfix(&rig, &etc, with(String::new())).await, "WRONG", "no smtpd names our milter");
    let braced = format!("-o {{ smtpd_milters = {relative} }}");
    let hurried = format!("{braced}\n  -o milter_content_timeout=3s");
    says(&beside_postfix(&rig, &etc, |text| text.replace(&braced, &hurried)).await, "WRONG", "content_timeout=3s");
    let checks = rig.path("checks");
    fs::write(&checks, "/^X-Auth-Key:/ IGNORE\n").unwrap();
    let eaten = format!("header_checks = regexp:{}\nmilter_protocol", checks.display());
    let checks = beside_postfix(&rig, &etc, |text| text.replace("milter_protocol", &eaten)).await;
    says(&checks, "WRONG", "does IGNORE to X-Auth-Key");
    fs::set_permissions(rig.door.milter_socket(), fs::Permissions::from_mode(0o600)).unwrap();
    says(&beside_postfix(&rig, &etc, same).await, "WRONG", "may not connect");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_that_is_offered_is_tried_and_what_is_wrong_with_it_is_named() {
    let server = Server::start(Limits::default()).await;
    let records = |rest: &str| {
        let text = format!("AS={HOST}:{}; {rest}", server.address.port());
        Records::default().txt("example.com", &text).address(HOST, server.address.ip())
    };
    let zone = Zone::start(records("t=udp,tls")).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let trusting = |root: &Root| format!("tls_roots = {:?}", root.file());
    let file = installed(dir.path(), &zone, "inet:127.0.0.1:1", &trusting(&server.root)).await;
    let checks = doctor(&file, &["example.com"]).await;
    let over_tls = |checks: &[(String, String, String)], state: &str, words: &str| {
        let found = checks.iter().any(|c| c.0 == state && c.1.ends_with("over TLS") && c.2.contains(words));
        assert!(found, "{state} {words}: {checks:#?}");
    };
    over_tls(&checks, "ok", "INVALIDKEY for a key of nobody");
    over_tls(&checks, "ok", "ends in 89 days");
    assert_eq!(checks.iter().filter(|check| check.2.contains("INVALIDKEY for a key of nobody")).count(), 2, "UDP too");

    server.root.issue_until(HOST, SystemTime::now() + Duration::from_secs(5 * 86_400 + 60));
    server.streams.renew();
    over_tls(&doctor(&file, &["example.com"]).await, "warning", "ends in 5 days");
    server.root.issue_until(HOST, SystemTime::now() - Duration::from_secs(86_400));
    server.streams.renew();
    over_tls(&doctor(&file, &["example.com"]).await, "WRONG", "certificate does not pass");
    server.root.issue(HOST);
    server.streams.renew();
    // Asked over TLS alone, with a proof and with the key itself; by the tool that asks, too.
    for rest in ["t=tls", "t=tls; h=none"] {
        zone.replace(records(rest));
        let checks = doctor(&file, &["example.com"]).await;
        over_tls(&checks, "ok", "INVALIDKEY for a key of nobody");
        assert_eq!(checks.iter().filter(|check| check.2.contains("INVALIDKEY for a key of nobody")).count(), 1);
        let key = dir.path().join("key");
        fs::write(&key, server.key.expose()).unwrap();
        let (code, text) = addrauth(&file, &["ask", "alice@example.com", "--key-file", key.to_str().unwrap()]).await;
        assert!(code == 0 && text.contains("over TLS, after"), "{code} {text}");
    }
    // Another root; and nobody there.
    let untrusting = fs::read_to_string(&file).unwrap().replace(&trusting(&server.root), &trusting(&Root::new()));
    let other = dir.path().join("other.toml");
    fs::write(&other, untrusting.replace("tls_roots", "#tls_roots")).unwrap();
    over_tls(&doctor(&other, &["example.com"]).await, "WRONG", "a certificate for as.example.com");
    let closed = Closed::take();
    let nobody = format!("AS={HOST}:{}; t=tls", closed.place.port());
    zone.replace(Records::default().txt("example.com", &nobody).address(HOST, server.address.ip()));
    over_tls(&doctor(&file, &["example.com"]).await, "WRONG", "does it run with [authority.tls]");
    server.stop().await;
}
