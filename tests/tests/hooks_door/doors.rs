//! Both doors of one filter, as the daemon opens them.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use addrauth::config::{Config, Limits, Listen};
use addrauth::daemon::filter::{Error, Running};
use addrauth::policy::Trial;
use addrauth::tls::Connector;
use addrauth_lab::mta::{Envelope, Fate, Mta};
use addrauth_tests::certificates::Root;
use addrauth_tests::http::request;
use addrauth_tests::stalwart::{Brought, Stalwart};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

async fn start(dir: &Path, more: &str) -> Result<Running, Error> {
    let text = format!(
        "hostname = \"mx.home.example\"\nfinal_domains = [\"home.example\"]\nobserve = false\nstate_dir = {:?}\n{more}\n\
         [notices]\nnotify_via = \"127.0.0.1:9\"\n[verify]\ndns = [\"127.0.0.1:9\"]\n",
        dir.join("state")
    );
    let config = Config::parse(&text, "filter.toml".as_ref()).unwrap();
    Running::start(config, Arc::new(Limits::default()), Trial::waived()).await
}

fn inet(running: &Running, at: usize) -> SocketAddr {
    let Listen::Inet(place) = running.listening()[at] else { panic!("not inet") };
    place
}

fn secret(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_filter_serves_both_doors_and_each_of_them_alone() {
    let dir = tempfile::tempdir().unwrap();
    let [milter, hooks] = ["milter", "hooks"].map(|door| format!("[{door}]\nlisten = [\"inet:127.0.0.1:0\"]\n"));
    let shut = "[milter]\nlisten = []\n";
    let octets = b"From: a@one.example\r\nSubject: s\r\n\r\nbody\r\n";
    let brought =
        Brought { from: "a@one.example", to: vec!["b@elsewhere.example".into()], login: None, id: "1", octets };
    for (text, by_milter, by_hooks) in [
        (format!("{milter}{hooks}"), Some(0), Some(1)),
        (format!("{shut}{hooks}"), None, Some(0)),
        (milter.clone(), Some(0), None),
    ] {
        let running = start(dir.path(), &text).await.unwrap();
        // Twice: a door without a place does not close the other one.
        for _ in 0..2 {
            if let Some(at) = by_milter {
                let mut mta = Mta::connect(&running.listening()[at]).await.unwrap();
                let told = mta.send(&Envelope::inbound("a@one.example", "b@elsewhere.example"), octets).await.unwrap();
                assert_eq!(told.fate, Fate::Delivered, "{text}");
            }
            if let Some(at) = by_hooks {
                let outcome = Stalwart::asking(inet(&running, at)).takes(&brought, true).await;
                assert_eq!(outcome.reply, "250 2.0.0 Message queued", "{text}");
            }
        }
        running.stop().await.unwrap();
    }
    assert!(matches!(start(dir.path(), shut).await, Err(Error::NoDoor)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_come_from_files_and_what_is_none_stops_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let (token, basic) = (dir.path().join("token"), dir.path().join("basic"));
    secret(&token, "0123456789abcdef\n");
    secret(&basic, "stalwart:correct horse\n");
    let shut = "[milter]\nlisten = []\n[hooks]\nlisten = [\"inet:127.0.0.1:0\"]\n";
    let text = format!("{shut}tokens = [{token:?}]\nbasic = [{basic:?}]");
    let running = start(dir.path(), &text).await.unwrap();
    let place = inet(&running, 0);
    for (shown, status) in
        [("Bearer 0123456789abcdef", 422), ("Basic c3RhbHdhcnQ6Y29ycmVjdCBob3JzZQ==", 422), ("Bearer x", 401)]
    {
        let fields = [("authorization", shown), ("content-type", "application/json")];
        assert_eq!(request(place, "POST /draft-01/registrations", &fields, b"{}").await.status, status, "{shown}");
    }
    running.stop().await.unwrap();
    let mut running = start(dir.path(), &text).await.unwrap();
    let place = inet(&running, 0);
    let said = async |shown: &str| {
        let fields = [("authorization", shown), ("content-type", "application/json")];
        request(place, "POST /draft-01/registrations", &fields, b"{}").await.status
    };
    secret(&token, "fedcba9876543210\n");
    assert_eq!((said("Bearer 0123456789abcdef").await, said("Bearer fedcba9876543210").await), (422, 401));
    let config = running.config();
    running.reload(config.clone()).await.unwrap();
    assert_eq!((said("Bearer 0123456789abcdef").await, said("Bearer fedcba9876543210").await), (401, 422));
    // One that cannot be read leaves those in force, and so does a section for other places, though it needs none.
    secret(&basic, "short");
    running.reload(config.clone()).await.unwrap();
    assert_eq!(said("Bearer fedcba9876543210").await, 422);
    let mut elsewhere = config.clone();
    elsewhere.hooks.listen = vec!["unix:/nowhere/hooks".parse().unwrap()];
    (elsewhere.hooks.tokens, elsewhere.hooks.basic) = (Vec::new(), Vec::new());
    running.reload(elsewhere).await.unwrap();
    assert_eq!((said("Bearer x").await, said("Basic c3RhbHdhcnQ6Y29ycmVjdCBob3JzZQ==").await), (401, 422));
    // Without any, as the section may have it on loopback, everybody may ask.
    let mut open = config;
    (open.hooks.tokens, open.hooks.basic) = (Vec::new(), Vec::new());
    running.reload(open).await.unwrap();
    assert_eq!(said("Bearer x").await, 422);
    running.stop().await.unwrap();
    secret(&basic, "stalwart:correct horse\n");
    secret(&token, "short");
    assert!(matches!(start(dir.path(), &text).await, Err(Error::Hooks(_))));
    std::fs::remove_file(&token).unwrap();
    assert!(matches!(start(dir.path(), &text).await, Err(Error::Hooks(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_door_speaks_tls_and_over_a_unix_socket() {
    let dir = tempfile::tempdir().unwrap();
    let (root, socket) = (Root::new(), dir.path().join("hooks"));
    let tls = root.issue("mx.home.example");
    let text = format!(
        "[milter]\nlisten = []\n[hooks]\nlisten = [\"inet:127.0.0.1:0\"]\ntls = {{ certificate = {:?}, key = {:?} }}",
        tls.certificate, tls.key
    );
    let running = start(dir.path(), &text).await.unwrap();
    let connector = Connector::http(&root.file()).unwrap();
    let mut stream = connector.connect("mx.home.example", inet(&running, 0)).await.unwrap();
    let get = b"GET / HTTP/1.1\r\nhost: mx\r\nconnection: close\r\n\r\n";
    stream.write_all(get).await.unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).await.unwrap();
    assert!(said.starts_with("HTTP/1.1 200 ") && said.contains("This is addrauth"), "{said}");
    running.stop().await.unwrap();

    let text = format!("[milter]\nlisten = []\n[hooks]\nlisten = [\"unix:{}\"]", socket.display());
    let running = start(dir.path(), &text).await.unwrap();
    let mut stream = UnixStream::connect(&socket).await.unwrap();
    stream.write_all(get).await.unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).await.unwrap();
    assert!(said.starts_with("HTTP/1.1 200 "), "{said}");
    running.stop().await.unwrap();
    assert!(!socket.exists());
}
