//! An AS, whoever posts its keys, and all that they need, on loopback.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use addrauth::authority::{Authority, Clock, PostTurn, Poster};
use addrauth::config::{Config, Limits, StateDir};
use addrauth::daemon::Asking;
use addrauth::proto::address::Address;
use addrauth::proto::key::AuthKey;
use addrauth::store::PostEnd;
use addrauth_lab::mailbox::{Mailbox, Taken};
use addrauth_lab::zone::{Records, Zone};
use addrauth_tests::world::LOOPBACK;
use tokio_util::sync::CancellationToken;

pub const DAY: u64 = 86_400;
pub const START: u64 = 1_800_000_000;
pub const SEQ: &str = "00112233445566778899aabbccddeeff";
pub const ALICE: &str = "alice@example.com";

pub fn address(text: &str) -> Address {
    Address::parse(text.as_bytes(), true).unwrap()
}

/// An AS that answers on a socket of its own, whoever posts its keys, and all that they need.
pub struct Bed {
    pub dir: tempfile::TempDir,
    pub config: Config,
    pub authority: Arc<Authority>,
    pub poster: Option<Poster>,
    pub mailbox: Mailbox,
    pub zone: Zone,
    pub endpoint: SocketAddr,
    pub clock: Arc<AtomicU64>,
    shutdown: CancellationToken,
}

impl Bed {
    /// The domain's record leads to the AS alone.
    pub async fn start(change: impl FnOnce(&mut Config)) -> Bed {
        let bed = Bed::unpublished(change).await;
        bed.publish(&[bed.endpoint]);
        bed
    }

    /// The domain has no record.
    pub async fn unpublished(change: impl FnOnce(&mut Config)) -> Bed {
        let (dir, mailbox) = (tempfile::tempdir().unwrap(), Mailbox::start().unwrap());
        let zone = Zone::start(Records::default().txt("else.test", "x")).await.unwrap();
        let mut config = Config { hostname: "as.example.com".into(), ..Config::default() };
        config.state_dir = StateDir(dir.path().to_owned());
        config.authority.domains = vec!["example.com".parse().unwrap()];
        config.authority.listen = vec![(LOOPBACK, 0).into()];
        config.authority.from = "keys@example.com".into();
        config.notices.notify_via = mailbox.address().to_string();
        config.verify = addrauth_tests::world::config(&zone);
        change(&mut config);
        let clock = Arc::new(AtomicU64::new(START));
        let authority = opened(&config, &clock).await;
        let sockets = authority.bind().unwrap();
        let endpoint = sockets[0].local_addr().unwrap();
        let shutdown = CancellationToken::new();
        tokio::spawn(authority.clone().serve(sockets, shutdown.clone()));
        let poster = posting(&config, &authority).await;
        Bed { dir, config, authority, poster, mailbox, zone, endpoint, clock, shutdown }
    }

    /// The domain's records lead to these servers, each under a name of its own.
    pub fn publish(&self, servers: &[SocketAddr]) {
        let records = servers.iter().enumerate().fold(Records::default(), |records, (index, server)| {
            let host = format!("as{index}.example.com");
            records.txt("example.com", &format!("AS={host}:{}; p={index}", server.port())).address(&host, server.ip())
        });
        self.zone.replace(records);
    }

    pub async fn turn(&self) -> PostTurn {
        self.poster.as_ref().unwrap().turn().await.unwrap()
    }

    pub fn pass(&self, seconds: u64) {
        self.clock.fetch_add(seconds, Ordering::SeqCst);
    }

    /// What the list says of the newest key's way: outcome and note.
    pub async fn way(&self, who: &str) -> (Option<PostEnd>, Option<String>) {
        let post = self.authority.list(&address(who)).await.unwrap()[0].post.clone().unwrap();
        (post.outcome, post.note)
    }

    /// What the AS answers about a key.
    pub async fn says(&self, who: &str, key: &str) -> String {
        let question = format!("VERIFY {SEQ} {who} {key} v=1 from=mx.example.net\r\n");
        let answer = self.authority.answer(question.as_bytes(), "192.0.2.1:5000".parse().unwrap()).await.unwrap();
        let text = String::from_utf8(answer).unwrap();
        text.trim_end().splitn(4, ' ').nth(3).unwrap().to_owned()
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

pub async fn opened(config: &Config, clock: &Arc<AtomicU64>) -> Arc<Authority> {
    let now = clock.clone();
    let seam = Clock::new(move || UNIX_EPOCH + Duration::from_secs(now.load(Ordering::SeqCst)));
    Arc::new(Authority::with_clock(config, &Arc::new(Limits::default()), seam).await.unwrap())
}

pub async fn posting(config: &Config, authority: &Arc<Authority>) -> Option<Poster> {
    let asks = Arc::new(Asking::new(config, &Arc::new(Limits::default())));
    Poster::open(config, authority.clone(), asks).await.unwrap()
}

pub fn key_of(mail: &Taken) -> AuthKey {
    AuthKey::parse(mail.field("X-New-Auth-Key").unwrap().as_bytes()).unwrap()
}

/// All octets of all files of a state directory, WAL included.
pub fn octets_below(dir: &Path) -> Vec<u8> {
    let files: Vec<_> =
        std::fs::read_dir(dir).unwrap().map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect();
    assert!(files.len() >= 3, "a database, its log, and the pair");
    files.concat()
}

pub fn holds(octets: &[u8], key: &AuthKey) -> bool {
    let needle = &key.expose().as_bytes()[..24];
    octets.windows(needle.len()).any(|window| window == needle)
}

pub const fn posted(taken: usize, done: usize) -> PostTurn {
    PostTurn { taken, done, given_up: 0 }
}
