//! A whole estate on loopback: the Postfixes of two domains, the daemons behind them as processes with clocks of their own, an
//! Authentication Server that DNS leads to, and what they share.
//!
//! ```text
//! alice ──SASL──► submission of one.test ──► MX of two.test ──► bob
//!                   stamps      │    │        verifies, strips      ▲
//!                               ▼    └──► friend@fwd.test on ───────┘
//! AS of one.test ──key mail──► MX of one.test (learns; forwards mail to friend@fwd.test)
//! ```
//!
//! Each host brings its mail from an address of its own: the MX of one.test 127.0.0.2, its submission server 127.0.0.3, the
//! MX of two.test 127.0.0.4; clients and the AS come from 127.0.0.1. `sink@raw.test` is a mailbox at two.test's host before
//! which there is no filter: what lies there is what went over the wire.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use addrauth::config::{Config, Limits};
use addrauth::store::{self, Opening};
use addrauth_lab::zone::{Records, Zone};

use crate::daemon::{Daemon, binary};
use crate::fault;
use crate::keys::mailbox;
use crate::ports::claim;
use crate::smtp::{Reply, Session, plain};

mod settings;
mod site;

pub use settings::{Certified, Settings, Shared};
pub use site::{PASSWORD, Plan, Port, Site};

/// How long something may take to become true on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Whose mail may be delivered over LMTP.
pub const DAVE: &str = "dave@one.test";
/// A day, in seconds.
pub const DAY: i64 = 86_400;

/// A daemon of the estate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// The AS of one.test.
    Authority,
    /// The filter at one.test's MX; where the hosts of one.test are one, also the one at its submission port.
    Mx,
    /// The filter at one.test's submission server.
    Submission,
    /// The filter at two.test's MX.
    Far,
}

impl Role {
    /// The name of its configuration, its log and its directory.
    pub fn name(self) -> &'static str {
        match self {
            Role::Authority => "authority",
            Role::Mx => "mx",
            Role::Submission => "submission",
            Role::Far => "far",
        }
    }
}

/// The TCP and UDP ports that the parts find each other at.
#[derive(Clone, Debug)]
struct Ports {
    mx: [u16; 2],
    submission: [u16; 2],
    /// Where the submission server takes its filter's own mail.
    own: u16,
    far: [u16; 2],
    raw: u16,
    authority: SocketAddr,
}

impl Ports {
    fn free() -> Ports {
        let [mx, submission, far] = [(); 3].map(|()| [claim(), claim()]);
        let authority = SocketAddr::from((Ipv4Addr::LOCALHOST, claim()));
        Ports { mx, submission, own: claim(), far, raw: claim(), authority }
    }
}

/// All of it; dropped, everything stops and is removed.
pub struct Estate {
    /// The MX of one.test; its submission port too where its hosts are one.
    pub mx: Site,
    /// The MX of two.test.
    pub far: Site,
    submission: Option<Site>,
    daemons: BTreeMap<Role, Daemon>,
    settings: Settings,
    ports: Ports,
    zone: Zone,
    /// DNS answers in it.
    _runtime: tokio::runtime::Runtime,
    dir: tempfile::TempDir,
}

impl Estate {
    /// Starts all of it; `None`, and a line that says so, where `ADDRAUTH_LIVE` is not set.
    pub fn start(settings: Settings) -> Option<Estate> {
        if std::env::var_os("ADDRAUTH_LIVE").is_none() {
            println!("skipped: ADDRAUTH_LIVE=1 is not set (tests/run sets it where root and Postfix are at hand)");
            return None;
        }
        let dir = tempfile::Builder::new().prefix("aa-estate-").tempdir_in("/tmp").unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let zone = runtime.block_on(Zone::start(Records::default())).unwrap();
        let ports = Ports::free();
        let (mx, submission, far) = sites(&ports, &settings);
        fault::clock(dir.path());
        let daemons = BTreeMap::new();
        let mut estate = Estate { mx, far, submission, daemons, settings, ports, zone, _runtime: runtime, dir };
        estate.settings.write(estate.dir.path(), &estate.ports, estate.zone.addr, &estate.submission().root);
        estate.publish("");
        std::thread::scope(|scope| {
            for site in [Some(&estate.mx), Some(&estate.far), estate.submission.as_ref()].into_iter().flatten() {
                scope.spawn(|| site.start());
            }
        });
        for role in estate.roles() {
            estate.run(role);
        }
        for site in [Some(&estate.mx), Some(&estate.far), estate.submission.as_ref()].into_iter().flatten() {
            site.until_it_listens();
        }
        Some(estate)
    }

    /// The daemons that it has.
    pub fn roles(&self) -> Vec<Role> {
        let mut roles = vec![Role::Authority, Role::Mx, Role::Submission, Role::Far];
        roles.retain(|role| *role != Role::Submission || self.submission.is_some());
        roles
    }

    /// The host that takes mail from one.test's logins.
    pub fn submission(&self) -> &Site {
        self.submission.as_ref().unwrap_or(&self.mx)
    }

    /// Publishes where the AS of one.test is, as `addrauth record` prints it, with this behind it (`; m=all`).
    pub fn publish(&self, rest: &str) {
        let out = self.addrauth(Role::Authority, &["record", "one.test", "--host", "as.one.test"]);
        let sheet = String::from_utf8(out.stdout).unwrap();
        let record = sheet.lines().find_map(|line| line.strip_prefix("one.test. IN TXT \"")).unwrap_or_else(|| {
            panic!("`addrauth record` prints no TXT record:\n{sheet}{}", String::from_utf8_lossy(&out.stderr))
        });
        let text = record.trim_end_matches('"').to_owned() + rest;
        self.zone.replace(Records::default().txt("one.test", &text).address("as.one.test", Ipv4Addr::LOCALHOST.into()));
    }

    /// Starts a daemon and waits until it answers. What its clock was moved by stays.
    pub fn run(&mut self, role: Role) {
        let (config, shift) = (self.config_file(role), self.path(role, ".shift"));
        if !shift.exists() {
            fs::write(&shift, [0; 16]).unwrap();
        }
        let verb = if role == Role::Authority { "authority" } else { "filter" };
        let environment = [("LD_PRELOAD", self.dir.path().join("clock.so")), ("CLOCK_SHIFT", shift)];
        let mut daemon = Daemon::start_with(verb, &config, &environment);
        let milters = match role {
            Role::Authority => vec![],
            Role::Mx if self.submission.is_none() => vec![self.ports.mx[1], self.ports.submission[1]],
            Role::Mx => vec![self.ports.mx[1]],
            Role::Submission => vec![self.ports.submission[1]],
            Role::Far => vec![self.ports.far[1]],
        };
        for milter in milters {
            daemon.until_it_takes_mail(&format!("inet:127.0.0.1:{milter}"));
        }
        if role == Role::Authority {
            daemon.until_it_answers(self.ports.authority, "one.test");
        }
        self.daemons.insert(role, daemon);
    }

    /// Ends a daemon as an administrator does.
    pub fn end(&mut self, role: Role) {
        self.daemons.remove(&role);
    }

    /// Ends a daemon at once (SIGKILL).
    pub fn kill(&mut self, role: Role) {
        self.daemons.remove(&role).expect("it runs").kill();
    }

    /// A running daemon.
    pub fn daemon(&self, role: Role) -> &Daemon {
        self.daemons.get(&role).expect("it runs")
    }

    /// Moves the clocks of all daemons forward to this many seconds after the true time: the wall clocks, and those by which
    /// they measure how long something lasts.
    pub fn at(&self, seconds: i64) {
        for role in self.roles() {
            let file = fs::OpenOptions::new().write(true).open(self.path(role, ".shift")).unwrap();
            let octets = [seconds.to_ne_bytes(), seconds.to_ne_bytes()].concat();
            std::os::unix::fs::FileExt::write_all_at(&file, &octets, 0).unwrap();
        }
        // Whoever sleeps looks at its clock when it is woken.
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.send_to(b"wake up\r\n", self.ports.authority).unwrap();
        for port in [self.ports.mx[1], self.ports.submission[1], self.ports.far[1]] {
            let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, port));
        }
    }

    /// Runs `addrauth --config FILE VERB…` on the host of this role, by its clock.
    pub fn addrauth(&self, role: Role, verb: &[&str]) -> Output {
        let mut command = Command::new(binary());
        command.arg("--config").arg(self.config_file(role)).args(verb).stdin(Stdio::null());
        let shift = self.path(role, ".shift");
        if shift.exists() {
            command.env("LD_PRELOAD", self.dir.path().join("clock.so")).env("CLOCK_SHIFT", shift);
        }
        command.output().unwrap()
    }

    /// What it prints; panics where it does not succeed.
    pub fn says(&self, role: Role, verb: &[&str]) -> String {
        let out = self.addrauth(role, verb);
        let words = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{verb:?}: {}\n{words}{}", out.status, String::from_utf8_lossy(&out.stdout));
        String::from_utf8(out.stdout).unwrap()
    }

    /// One message by a login over the submission port; From is what the header says, the reverse-path the login.
    pub fn submit(&self, login: &str, to: &[&str], message: &str) -> Reply {
        let mut session = Session::open(self.ports.submission[0]);
        session.log_in(&plain(login, PASSWORD));
        session.deliver(login, to, message.as_bytes())
    }

    /// One message from outside, straight to the MX of one.test.
    pub fn to_mx(&self, from: &str, to: &[&str], message: &str) -> Reply {
        Session::open(self.ports.mx[0]).deliver(from, to, message.as_bytes())
    }

    /// One message from outside, straight to the MX of two.test.
    pub fn to_far(&self, from: &str, to: &[&str], message: &str) -> Reply {
        Session::open(self.ports.far[0]).deliver(from, to, message.as_bytes())
    }

    /// The newest key of an address in the keyring, opened as the submission server does; the tests alone look.
    pub fn key_of(&self, address: &str) -> Option<String> {
        let stamps = if self.submission.is_some() { Role::Submission } else { Role::Mx };
        let config = |role: Role| Config::read(&self.config_file(role)).unwrap();
        let opener = store::read_or_make_opener(&store::keyring_key(&config(stamps))).unwrap();
        let config = config(self.settings.keyring());
        let opening = Opening { busy: Limits::default().store.busy, readers: 1 };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let keyring = store::open_keyring(&config, opening).await.unwrap();
            let newest = keyring.newest(&mailbox(address)).await.unwrap();
            keyring.close().await;
            newest.map(|newest| opener.open(address, &newest.sealed).unwrap().expose().to_owned())
        })
    }

    /// What bob's host says of an address and a key: the exit code of `addrauth ask`.
    pub fn asked(&self, address: &str, key: &str) -> Option<i32> {
        let mut command = Command::new(binary());
        command.arg("--config").arg(self.config_file(Role::Far)).args(["ask", address]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(key.as_bytes()).unwrap();
        child.wait().unwrap().code()
    }

    /// What PostgreSQL answers to the role of a host of one.test.
    pub fn sql(&self, role: Role, statement: &str) -> Result<String, String> {
        let cluster = self.settings.cluster().expect("the hosts share a database");
        let (user, database) = settings::database(role, self.dir.path());
        cluster.sql(user, &database, statement)
    }

    /// Where a word stands in clear below the directories of the estate, of its databases and of its Postfixes: no key may.
    pub fn places_of(&self, word: &str) -> Vec<PathBuf> {
        let mut roots: Vec<&Path> = vec![self.dir.path(), &self.mx.root, &self.far.root];
        roots.extend(self.submission.as_ref().map(|site| site.root.as_path()));
        roots.extend(self.settings.cluster().map(|cluster| cluster.socket_dir()));
        let mut found = Vec::new();
        // Half a key would be as bad; a page of a database may end within one.
        for part in [&word[..24], &word[word.len() - 24..]] {
            let out = Command::new("grep").args(["-rlaF", "--devices=skip", "-e", part]).args(&roots).output().unwrap();
            found.extend(String::from_utf8_lossy(&out.stdout).lines().map(PathBuf::from));
        }
        found.sort();
        found.dedup();
        found
    }

    /// Waits until this is there.
    pub fn wait_for<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let begin = Instant::now();
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(begin.elapsed() < PATIENCE, "not in time: {what}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// The configuration of a role's host.
    pub fn config_file(&self, role: Role) -> PathBuf {
        self.path(role, ".toml")
    }

    fn path(&self, role: Role, end: &str) -> PathBuf {
        self.dir.path().join(format!("{}{end}", role.name()))
    }
}

/// The Postfixes, laid out and not started: the MX of one.test, its submission server if it is a host of its own, and two.test's.
fn sites(ports: &Ports, settings: &Settings) -> (Site, Option<Site>, Site) {
    let port = |[number, milter]: [u16; 2], daemon, login| Port { number, milter: Some(milter), daemon, login };
    let mx_port = port(ports.mx, "smtpd", false);
    let submission_port = port(ports.submission, "ORIGINATING", true);
    let outside = vec![("two.test", ports.far[0]), ("raw.test", ports.raw)];
    let logins = vec!["alice@one.test", "mallory@one.test", "carol@one.test"];
    let mut mx = Plan {
        name: "mx.one.test",
        ports: vec![mx_port],
        from: 2,
        mailboxes: [logins.clone(), vec![DAVE]].concat(),
        forwards: vec![("friend@fwd.test", "bob@two.test")],
        routes: outside.clone(),
        lmtp: settings.lmtp.map(|port| (DAVE, port)),
        logins: vec![],
    };
    let submission = if settings.is_apart() {
        let inside = [("one.test", ports.mx[0]), ("fwd.test", ports.mx[0])];
        let routes = [inside.to_vec(), outside].concat();
        // Copies for colleagues come back through the server that they were sent by, and go to the MX from its address.
        let own = port([ports.own, ports.submission[1]], "smtpd", false);
        let (name, ports) = ("smtp.one.test", vec![submission_port, own]);
        Some(Site::new(Plan { name, ports, from: 3, routes, logins, ..Plan::default() }))
    } else {
        mx.ports.push(submission_port);
        mx.logins = logins;
        None
    };
    let raw = Port { number: ports.raw, milter: None, daemon: "raw", login: false };
    let far = Plan {
        name: "mx.two.test",
        ports: vec![port(ports.far, "smtpd", false), raw],
        from: 4,
        mailboxes: vec!["bob@two.test", "dora@two.test", "sink@raw.test"],
        ..Plan::default()
    };
    (Site::new(mx), submission, Site::new(far))
}
