//! The published test vectors, run by their own runner (`tests/vectors/run.py`) against our Authentication Server over UDP and TLS,
//! and against our verifier through `addrauth ask --adapter`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, SystemTime};

use addrauth::proto::key::AuthKey;
use addrauth::store::{Keys as _, Opening, SqliteKeys};
use addrauth_tests::certificates::Root;
use addrauth_tests::daemon::{Daemon, binary};
use addrauth_tests::keys::mailbox;
use addrauth_tests::ports::claim_place;
use addrauth_tests::quiet::undisturbed;
use serde::Deserialize;

/// The name in the server's certificate.
const HOST: &str = "as.example.com";

#[derive(Deserialize)]
struct Table {
    domains: Vec<String>,
    keys: Vec<Key>,
}

#[derive(Deserialize)]
struct Key {
    address: String,
    key: String,
    ends_in: i64,
    #[serde(default)]
    revoked: bool,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors")
}

/// What the runner says; absent where there is no Python.
fn run(words: &[&str]) -> Option<Output> {
    let mut runner = Command::new("python3");
    // Nothing is to be written beside the sources.
    runner.arg("-B").arg(folder().join("run.py")).arg("--quiet").args(words).stdin(Stdio::null());
    match runner.output() {
        Ok(output) => Some(output),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            println!("skipped: there is no python3");
            None
        }
        Err(e) => panic!("python3: {e}"),
    }
}

/// All of them passed, none was skipped, and there were this many at least.
fn expect_all_passed(output: &Output, least: usize) {
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let totals = text.lines().last().unwrap_or_default();
    let passed = totals.strip_suffix(" passed, 0 failed, 0 skipped").and_then(|count| count.parse::<usize>().ok());
    assert!(passed.is_some_and(|passed| passed >= least), "{text}");
}

/// The table of the vectors, in the file of a server that is yet to start.
async fn write_table(table: &Table, dir: &Path) {
    let opening = Opening { busy: Duration::from_secs(60), readers: 1 };
    let keys = SqliteKeys::open(dir, opening).await.unwrap();
    let now = SystemTime::now();
    for key in &table.keys {
        let span = Duration::from_secs(key.ends_in.unsigned_abs());
        let ends = if key.ends_in < 0 { now - span } else { now + span };
        let made = now - Duration::from_secs(40 * 86_400);
        let k = AuthKey::parse(key.key.as_bytes()).unwrap().verify_key();
        let generation = keys.add(&mailbox(&key.address), &k, made, ends, usize::MAX).await.unwrap();
        if key.revoked {
            assert_eq!(keys.revoke(&mailbox(&key.address), &[generation], now).await.unwrap(), 1);
        }
    }
    keys.close().await;
}

#[test]
fn the_files_keep_to_their_schema_and_the_proofs_to_their_keys() {
    if let Some(output) = run(&["check"]) {
        expect_all_passed(&output, 30);
    }
}

#[tokio::test]
async fn our_authentication_server_answers_as_published_over_udp_and_tls() {
    let table: Table = serde_json::from_slice(&std::fs::read(folder().join("table.json")).unwrap()).unwrap();
    let (dir, root, place) = (tempfile::tempdir().unwrap(), Root::new(), claim_place());
    let state = dir.path().join("state");
    write_table(&table, &state).await;
    let tls = root.issue(HOST);
    let config = dir.path().join("authority.toml");
    let text = format!(
        "state_dir = {state:?}\n[authority]\ndomains = {:?}\nlisten = [\"{place}\"]\ndeliver = \"nobody\"\n\
         tls = {{ certificate = {:?}, key = {:?} }}\n",
        table.domains, tls.certificate, tls.key
    );
    std::fs::write(&config, text).unwrap();
    let mut server = Daemon::start("authority", &config);
    // A domain of nobody's: the answer counts against no limit.
    server.until_it_answers(place, "elsewhere.example");
    let (place, root) = (place.to_string(), root.file());
    let ca = root.to_str().unwrap();
    if let Some(output) = run(&["as", "--udp", &place, "--tls", &place, "--ca", ca, "--name", HOST]) {
        expect_all_passed(&output, 250);
    }
}

#[tokio::test]
async fn our_verifier_finds_out_through_its_adapter_what_is_published() {
    undisturbed(run_our_verifier_finds_out_through_its_adapter_what_is_published).await;
}

async fn run_our_verifier_finds_out_through_its_adapter_what_is_published() {
    let program = binary();
    if let Some(output) = run(&["adapter", "--", program.to_str().unwrap(), "ask", "--adapter"]) {
        expect_all_passed(&output, 330);
    }
}
