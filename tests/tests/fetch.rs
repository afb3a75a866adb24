//! Fetching keys from one's own AS: over TLS, for a token, sealed to the one who fetches.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use addrauth::authority::Authority;
use addrauth::config::{Config, Limits, StateDir};
use addrauth::keyring::fetch::Fetched;
use addrauth::keyring::{Error, Source as _};
use addrauth::proto::key::AuthKey;
use addrauth::proto::seal::Opener;
use addrauth::store::{self, KeyTable, Keyring, Learned, NewestKey, Opening};
use addrauth::tls::Connector;
use addrauth_tests::certificates::Root;
use addrauth_tests::keys::{self, mailbox};
use addrauth_tests::quiet::undisturbed;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const HOST: &str = "localhost";
const TOKEN: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const SEQ: &str = "00112233445566778899aabbccddeeff";

/// An AS with a keyring, and who may fetch from it.
struct World {
    config: Config,
    limits: Arc<Limits>,
    keyring: Arc<dyn Keyring>,
    keys: Arc<dyn KeyTable>,
    opener: Opener,
    root: Root,
    running: Option<(Arc<Authority>, CancellationToken, JoinHandle<()>)>,
    address: SocketAddr,
    dir: tempfile::TempDir,
}

fn secret(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).unwrap();
}

impl World {
    async fn new(limits: Limits) -> World {
        let (dir, root) = (tempfile::tempdir().unwrap(), Root::new());
        let mut config = Config { state_dir: StateDir(dir.path().join("as")), ..Config::default() };
        config.authority.domains = vec!["example.com".parse().unwrap()];
        config.authority.listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
        config.authority.tls = root.issue(HOST);
        config.authority.fetch_token_file = dir.path().join("token");
        config.keyring.fetch_token_file = dir.path().join("token");
        config.verify.tls_roots = root.file();
        secret(&config.authority.fetch_token_file, &format!("{TOKEN}\n"));
        let opening = Opening { busy: Duration::from_secs(2), readers: 2 };
        let keyring = store::open_keyring(&config, opening).await.unwrap();
        let keys = store::open_keys(&config, opening).await.unwrap();
        let (opener, address) = (Opener::new().unwrap(), SocketAddr::from(([127, 0, 0, 1], 0)));
        let limits = Arc::new(limits);
        let mut world = World { config, limits, keyring, keys, opener, root, running: None, address, dir };
        world.start().await;
        world
    }

    /// Starts the AS, where it was before.
    async fn start(&mut self) {
        let authority = Arc::new(Authority::open(&self.config, &self.limits).await.unwrap());
        let streams = loop {
            let sockets = authority.bind().unwrap();
            if let Ok(Some(streams)) = authority.bind_streams(&self.config, &sockets).await {
                self.address = sockets[0].local_addr().unwrap();
                break streams;
            }
        };
        self.config.authority.listen = vec![self.address];
        // The name of the certificate, at the port that was found.
        self.config.keyring.fetch_from = format!("{HOST}:{}", self.address.port());
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(authority.clone().serve_streams(streams, shutdown.clone()));
        self.running = Some((authority, shutdown, task));
    }

    async fn stop(&mut self) {
        if let Some((authority, shutdown, task)) = self.running.take() {
            shutdown.cancel();
            task.await.unwrap();
            authority.close().await;
        }
    }

    /// Makes a key and puts it into the keyring, one that ends after so many seconds.
    async fn store(&self, address: &str, letter: u8, seconds: u64) -> AuthKey {
        let key = AuthKey::parse(&[letter; 64]).unwrap();
        let row = NewestKey {
            address: address.into(),
            fingerprint: key.verify_key().fingerprint(),
            sealed: self.opener.seal_to().seal(address, &key).unwrap(),
            learned: SystemTime::now(),
            expires: SystemTime::now() + Duration::from_secs(seconds),
        };
        self.keys.add(&mailbox(address), &key.verify_key(), row.learned, row.expires, 9).await.unwrap();
        assert_eq!(self.keyring.learn(&row).await.unwrap(), Learned::Newest);
        key
    }

    fn fetcher(&self) -> Fetched {
        Fetched::new(&self.config, self.opener.clone(), &self.limits).unwrap()
    }

    /// What the AS says to this line, to its end where it closes the connection.
    async fn say(&self, line: &str) -> String {
        let connector = Connector::new(&self.root.file()).unwrap();
        let mut stream = connector.connect(HOST, self.address).await.unwrap();
        stream.write_all(line.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        let mut read = Vec::new();
        let reading = async { while !read.ends_with(b"\n") && stream.read_buf(&mut read).await.unwrap_or(0) > 0 {} };
        tokio::time::timeout(Duration::from_secs(60), reading).await.unwrap();
        String::from_utf8(read).unwrap()
    }
}

async fn fetch(fetcher: &Fetched, address: &str) -> Option<AuthKey> {
    fetcher.newest(&keys::address(address)).await.unwrap().map(|(key, _)| key)
}

#[tokio::test]
async fn the_newest_key_is_fetched_in_any_spelling_of_the_address_and_kept_for_a_while() {
    let limits = Limits::default().with(|limits| {
        limits.keyring.fetch_kept = Duration::from_millis(300);
        limits.keyring.fetch_absence_kept = Duration::from_millis(300);
    });
    let world = World::new(limits).await;
    let first = world.store("alice@example.com", b'a', 1_000).await;
    let fetcher = world.fetcher();
    assert_eq!(fetch(&fetcher, "alice@example.com").await, Some(first.clone()));
    assert_eq!(fetch(&fetcher, "Alice+news@Example.COM").await, Some(first.clone()));
    assert_eq!(fetch(&fetcher, "bob@example.com").await, None);
    assert_eq!(fetch(&fetcher, "alice@other.example").await, None, "not a domain of this AS");
    let second = world.store("alice@example.com", b'b', 2_000).await;
    let bobs = world.store("bob@example.com", b'c', 1_000).await;
    assert_eq!(fetch(&fetcher, "alice@example.com").await, Some(first), "remembered");
    tokio::time::sleep(Duration::from_millis(350)).await;
    assert_eq!(fetch(&fetcher, "alice@example.com").await, Some(second));
    assert_eq!(fetch(&fetcher, "bob@example.com").await, Some(bobs));
    let (_, ends) = fetcher.newest(&keys::address("alice@example.com")).await.unwrap().unwrap();
    let left = ends.duration_since(SystemTime::now()).unwrap().as_secs();
    assert!((1_990..=2_000).contains(&left), "{left}");
    assert!(!format!("{fetcher:?}").contains(TOKEN));
}

#[tokio::test]
async fn an_ended_key_is_not_handed_out_and_not_kept() {
    let world = World::new(Limits::default()).await;
    world.store("alice@example.com", b'a', 2).await;
    let fetcher = world.fetcher();
    assert!(fetch(&fetcher, "alice@example.com").await.is_some());
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    assert_eq!(fetch(&fetcher, "alice@example.com").await, None);
}

#[tokio::test]
async fn a_key_that_the_server_itself_does_not_vouch_for_is_not_handed_out() {
    let world = World::new(Limits::default()).await;
    world.store("alice@example.com", b'a', 1_000).await;
    let bobs = world.store("bob@example.com", b'b', 1_000).await;
    let line = |who: &str| format!("FETCH {SEQ} {who}@example.com {TOKEN}\r\n");
    assert!(world.say(&line("alice")).await.contains(" KEY "));
    world.keys.revoke(&mailbox("alice@example.com"), &[1], SystemTime::now()).await.unwrap();
    assert!(world.say(&line("alice")).await.ends_with(" NOKEY\r\n"), "revoked");
    assert_eq!(fetch(&world.fetcher(), "bob@example.com").await, Some(bobs));
    let stray = AuthKey::parse(&[b'c'; 64]).unwrap();
    let row = NewestKey {
        address: "carol@example.com".into(),
        fingerprint: stray.verify_key().fingerprint(),
        sealed: world.opener.seal_to().seal("carol@example.com", &stray).unwrap(),
        learned: SystemTime::now(),
        expires: SystemTime::now() + Duration::from_secs(900),
    };
    world.keyring.learn(&row).await.unwrap();
    assert!(world.say(&line("carol")).await.ends_with(" NOKEY\r\n"), "never made here");
}

#[tokio::test]
async fn a_thief_of_the_token_gets_nothing_that_he_can_open() {
    let world = World::new(Limits::default()).await;
    let key = world.store("alice@example.com", b'a', 1_000).await;
    let said = world.say(&format!("FETCH {SEQ} alice@example.com {TOKEN}\r\n")).await;
    assert!(said.starts_with(&format!("FETCH_REPLY {SEQ} alice@example.com KEY ")), "{said}");
    assert!(!said.contains(key.expose()) && !said.contains(&key.expose()[..16]));
    let thief = Fetched::new(&world.config, Opener::new().unwrap(), &world.limits).unwrap();
    assert!(matches!(thief.newest(&keys::address("alice@example.com")).await, Err(Error::Shut { .. })));
}

#[tokio::test]
async fn a_wrong_token_is_refused_and_a_right_one_never() {
    let mut world = World::new(Limits::default().with(|limits| {
        limits.authority.wrong_tokens = 3;
        limits.keyring.fetch_rest = Duration::ZERO;
    }))
    .await;
    world.store("alice@example.com", b'a', 1_000).await;
    let wrong = TOKEN.replace('0', "1");
    for n in 0..6 {
        let said = world.say(&format!("FETCH {SEQ} alice@example.com {wrong}\r\nFETCH {SEQ} a@b.c {TOKEN}\r\n")).await;
        let want = if n < 3 { format!("FETCH_REPLY {SEQ} alice@example.com REFUSED\r\n") } else { String::new() };
        assert_eq!(
            said, want,
            "{n}: beyond the limit the connection is closed unheard, and nothing follows a wrong token"
        );
    }
    assert!(world.say(&format!("FETCH {SEQ} alice@example.com {TOKEN}\r\n")).await.contains(" KEY "));
    for almost in [&TOKEN[1..], &format!("{TOKEN}0"), &TOKEN.to_uppercase()] {
        assert!(!world.say(&format!("FETCH {SEQ} alice@example.com {almost}\r\n")).await.contains("KEY"), "{almost}");
    }
    world.config.keyring.fetch_token_file = world.dir.path().join("wrong");
    secret(&world.config.keyring.fetch_token_file, &wrong);
    let error = world.fetcher().newest(&keys::address("alice@example.com")).await.unwrap_err().to_string();
    assert!(error.contains("closed the connection") || error.contains("refuses the token"), "{error}");
    assert!(!error.contains(&wrong), "{error}");
}

#[tokio::test]
async fn without_a_token_file_and_on_udp_there_is_no_such_verb() {
    let mut world = World::new(Limits::default()).await;
    world.store("alice@example.com", b'a', 1_000).await;
    let line = format!("FETCH {SEQ} alice@example.com {TOKEN}\r\n");
    let authority = world.running.as_ref().unwrap().0.clone();
    assert_eq!(authority.answer(line.as_bytes(), world.address).await, None);
    world.stop().await;
    world.config.authority.fetch_token_file = Default::default();
    world.start().await;
    assert_eq!(world.say(&line).await, "", "closed, as any unknown verb");
}

#[tokio::test]
async fn while_the_as_is_away_a_living_key_is_used_for_a_time_and_then_mail_waits() {
    undisturbed(run_while_the_as_is_away_a_living_key_is_used_for_a_time_and_then_mail_waits).await;
}

async fn run_while_the_as_is_away_a_living_key_is_used_for_a_time_and_then_mail_waits() {
    let limits = Limits::default().with(|limits| {
        limits.keyring.fetch_kept = Duration::ZERO;
        limits.keyring.fetch_stale = Duration::from_secs(2);
        limits.keyring.fetch_rest = Duration::from_millis(300);
    });
    let mut world = World::new(limits).await;
    let key = world.store("alice@example.com", b'a', 1_000).await;
    let fetcher = world.fetcher();
    assert_eq!(fetch(&fetcher, "alice@example.com").await, Some(key.clone()));
    let start = Instant::now();
    world.stop().await;
    assert_eq!(fetch(&fetcher, "alice@example.com").await, Some(key.clone()), "it still lives");
    let error = fetcher.newest(&keys::address("bob@example.com")).await.unwrap_err().to_string();
    assert!(error.contains("bob@example.com") && error.contains(&world.config.keyring.fetch_from), "{error}");
    let asked = Instant::now();
    for _ in 0..100 {
        fetch(&fetcher, "alice@example.com").await;
    }
    assert!(asked.elapsed() < Duration::from_millis(200), "nobody waits for it again and again");
    tokio::time::sleep(Duration::from_secs(2).saturating_sub(start.elapsed())).await;
    assert!(fetcher.newest(&keys::address("alice@example.com")).await.is_err(), "long enough");
    // It comes back, and the connection of before is no hindrance.
    world.start().await;
    tokio::time::sleep(Duration::from_millis(350)).await;
    assert_eq!(fetch(&fetcher, "alice@example.com").await, Some(key));
}

#[tokio::test]
async fn a_certificate_of_another_name_gets_no_token() {
    let mut world = World::new(Limits::default()).await;
    world.store("alice@example.com", b'a', 1_000).await;
    world.config.keyring.fetch_from = world.config.keyring.fetch_from.replace(HOST, "127.0.0.1");
    let error = world.fetcher().newest(&keys::address("alice@example.com")).await.unwrap_err().to_string();
    assert!(error.contains("certificate"), "{error}");
}

#[tokio::test]
async fn many_who_want_keys_at_once_all_get_theirs() {
    let world = World::new(Limits::default()).await;
    for n in 0..50_u8 {
        world.store(&format!("user{n}@example.com"), b'A' + n % 26, 1_000).await;
    }
    let fetcher = Arc::new(world.fetcher());
    let mut asking = tokio::task::JoinSet::new();
    for n in 0..200 {
        let fetcher = fetcher.clone();
        asking.spawn(async move { (n % 50, fetch(&fetcher, &format!("user{}@example.com", n % 50)).await) });
    }
    for (n, key) in asking.join_all().await {
        assert_eq!(key, AuthKey::parse(&[b'A' + n % 26; 64]).ok(), "{n}");
    }
}

#[tokio::test]
async fn what_fetching_lacks_is_told_at_the_start() {
    let mut world = World::new(Limits::default()).await;
    let told =
        |config: &Config| Fetched::new(config, Opener::new().unwrap(), &Arc::new(Limits::default())).unwrap_err();
    for place in ["as.example.com", "as.example.com:0", ":4410", "as.example.com:x"] {
        let config = Config { keyring: world.config.keyring.clone(), ..world.config.clone() };
        let mut config = config;
        config.keyring.fetch_from = place.into();
        assert!(told(&config).to_string().contains("as.example.com:4410"), "{place}");
    }
    secret(&world.config.authority.fetch_token_file, "short");
    assert!(told(&world.config).to_string().contains("32 to 128"));
    world.stop().await;
    let authority = Authority::open(&world.config, &world.limits).await.unwrap();
    let sockets = authority.bind().unwrap();
    let error = authority.bind_streams(&world.config, &sockets).await.unwrap_err().to_string();
    assert!(error.contains("openssl rand -hex 32"), "{error}");
    for text in [
        "[authority]\nfetch_token_file = \"/x\"",
        "[keyring]\nfetch_from = \"as.example.com:4410\"",
        "[keyring]\nfetch_token_file = \"/x\"",
    ] {
        assert!(Config::parse(text, Path::new("x")).is_err(), "{text}");
    }
}
