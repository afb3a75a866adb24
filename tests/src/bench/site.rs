//! An Authentication Server for a bench: a filled store, the daemon on it, and the questions that it is asked.

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use addrauth::authority::{Authority, Clock, Intervals};
use addrauth::config::{Config, Limits};
use addrauth::proto::address::Address;
use addrauth::proto::key::AuthKey;
use addrauth::store::{self, NewKey, Opening};

use crate::daemon::{Daemon, binary};
use crate::ports::claim;
use crate::postgres::Postgres;

/// The text of the nth address's key, the same in every run.
pub fn key_text(n: usize) -> String {
    format!("{n:0>64}")
}

fn key(n: usize) -> AuthKey {
    AuthKey::parse(key_text(n).as_bytes()).unwrap()
}

/// The nth address.
pub fn address(n: usize) -> String {
    format!("user{n}@example.com")
}

/// Questions with right proofs, about addresses all over the first `addresses`; another salt asks others, in another order.
pub fn questions(count: usize, addresses: usize, salt: usize) -> Vec<Vec<u8>> {
    let one = |n: usize| {
        let who = n.wrapping_mul(7_919).wrapping_add(salt * 104_729) % addresses;
        let (seq, address) = (format!("{n:032x}"), address(who));
        let proof = key(who).verify_key().prove(seq.as_bytes(), address.as_bytes(), b"v=1");
        format!("VERIFY {seq} {address} {proof} v=1\r\n").into_bytes()
    };
    (0..count).map(one).collect()
}

/// How a round of questions went.
#[derive(Clone, Debug)]
pub struct Asked {
    /// How many were answered; UDP may lose some.
    pub answered: usize,
    /// How long all of it took.
    pub took: Duration,
    /// How long each answer took, where one question was under way at a time.
    pub latencies: Vec<Duration>,
}

/// Asks all of it, `window` at once.
pub fn ask_all(port: u16, questions: &[Vec<u8>], window: usize) -> Asked {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let (mut latencies, mut room, mut answered, mut waiting) = (Vec::new(), [0; 1024], 0, 0_usize);
    let begin = Instant::now();
    for question in questions {
        let sent = Instant::now();
        socket.send(question).unwrap();
        waiting += 1;
        if waiting < window {
            continue;
        }
        // What does not come in the time is lost.
        if socket.recv(&mut room).is_ok() {
            answered += 1;
            if window == 1 {
                latencies.push(sent.elapsed());
            }
        }
        waiting -= 1;
    }
    while waiting > 0 && socket.recv(&mut room).is_ok() {
        answered += 1;
        waiting -= 1;
    }
    Asked { answered, took: begin.elapsed(), latencies }
}

/// One of the stores, with its configuration.
#[derive(Debug)]
pub struct Site {
    /// Which.
    pub name: &'static str,
    /// Where its files are.
    pub dir: PathBuf,
    /// The daemon's configuration.
    pub config: PathBuf,
    /// Where the daemon answers.
    pub port: u16,
}

impl Site {
    /// On SQLite below this directory.
    pub fn sqlite(root: &Path) -> Site {
        Site::new("SQLite", root, "")
    }

    /// In this database.
    pub fn postgresql(root: &Path, server: &Postgres, database: &str) -> Site {
        let url = server.url("postgres", database);
        let site = Site::new("PostgreSQL", root, &format!("[store]\nurl = {url:?}"));
        let migrated = Command::new(binary()).arg("--config").arg(&site.config).args(["store", "migrate"]).status();
        assert!(migrated.unwrap().success(), "the schema is not made");
        site
    }

    fn new(name: &'static str, root: &Path, store: &str) -> Site {
        let dir = root.join(name);
        fs::create_dir_all(&dir).unwrap();
        let port = claim();
        let config = dir.join("addrauth.toml");
        let text = format!(
            "state_dir = {:?}\nhostname = \"as.example.com\"\n{store}\n[authority]\ndomains = [\"example.com\"]\n\
             listen = [\"127.0.0.1:{port}\"]\ndeliver = \"nobody\"\n",
            dir.join("state")
        );
        fs::write(&config, text).unwrap();
        Site { name, dir, config, port }
    }

    /// Its configuration as the daemon reads it.
    pub fn read(&self) -> Config {
        Config::read(&self.config).unwrap()
    }

    /// Puts the addresses in, and a key for each; tells how long the addresses took.
    pub async fn fill(&self, count: usize, clock: &Clock) -> Duration {
        let limits = Arc::new(Limits::default().with(|limits| limits.store.busy = Duration::from_secs(60)));
        let authority = Authority::with_clock(&self.read(), &limits, clock.clone()).await.unwrap();
        let parsed = |n: usize| (Address::parse(address(n).as_bytes(), false).unwrap(), Intervals::default());
        let all: Vec<_> = (0..count).map(parsed).collect();
        let begun = Instant::now();
        authority.enlist(&all, &mut |_| {}).await.unwrap();
        let took = begun.elapsed();
        authority.close().await;

        let keys = store::open_keys(&self.read(), Opening { busy: limits.store.busy, readers: 1 }).await.unwrap();
        let now = clock.now();
        let new = |n: usize| NewKey {
            address: address(n),
            k: key(n).verify_key(),
            created: now,
            expires: now + Duration::from_secs(12 * 86_400),
            others_end: None,
            turn: None,
            only_due: false,
            post: None,
        };
        for begin in (0..count).step_by(1_000) {
            let batch: Vec<_> = (begin..count.min(begin + 1_000)).map(new).collect();
            keys.add_all(&batch, 64).await.unwrap();
        }
        keys.close().await;
        took
    }

    /// Starts the daemon; returns it and how long it took until the first answer.
    pub fn start(&self, addresses: usize) -> (Daemon, Duration) {
        let begun = Instant::now();
        let daemon = Daemon::start("authority", &self.config);
        let question = questions(1, addresses, 1);
        while ask_all(self.port, &question, 1).answered == 0 {
            assert!(begun.elapsed() < Duration::from_secs(120), "{}: no answer", self.name);
        }
        (daemon, begun.elapsed())
    }
}
