//! The real daemon as child processes: an AS that issues keys, and the filter behind one of Postfix's doors.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::dns;
use crate::ports::claim_place;
use crate::postfix::{Bed, Door, Kind};

/// How long a process may take to listen or to end on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// How talkative the daemons are: at their most where a key could pass (the compiler of components would drown all), unless a benchmark sets another level first.
pub static LOG_LEVEL: OnceLock<&str> = OnceLock::new();

/// The program under test: `ADDRAUTH_BIN`, else the one that cargo built beside this test.
pub fn binary() -> PathBuf {
    let beside = || {
        let test = std::env::current_exe().unwrap();
        test.ancestors().nth(2).unwrap().join("addrauth")
    };
    let path = std::env::var_os("ADDRAUTH_BIN").map_or_else(beside, PathBuf::from);
    assert!(path.exists(), "{} is not built: run `cargo build --bin addrauth`", path.display());
    path
}

/// A shipped component, found by its id below `policies/`.
pub fn component(id: &str) -> Vec<u8> {
    let policies = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies");
    let names = [format!("{id}.wasm"), format!("{}.wasm", id.replace('-', "_"))];
    let mut folders = vec![policies];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" {
                folders.push(path);
            } else if names.contains(&name) {
                return fs::read(path).unwrap();
            }
        }
    }
    panic!("no component {id}.wasm below policies/")
}

/// What a daemon has written to its log. It writes on a thread of its own, a moment after the answer that a line is about.
pub fn settled(log: &Path) -> String {
    let read = || fs::read_to_string(log).unwrap_or_default();
    let mut text = read();
    for _ in 0..40 {
        std::thread::sleep(Duration::from_millis(50));
        let before = std::mem::replace(&mut text, read());
        if before.len() == text.len() {
            break;
        }
    }
    text
}

/// A running process of the daemon; dropped, it is ended by its process id.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Starts `addrauth VERB --config FILE`, its words going to a file beside the configuration.
    pub fn start(verb: &str, config: &Path) -> Daemon {
        Daemon::start_with(verb, config, &[])
    }

    /// The same, with these variables in its environment.
    pub fn start_with(verb: &str, config: &Path, environment: &[(&str, PathBuf)]) -> Daemon {
        let log = config.with_extension("log");
        let file = fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
        let mut command = Command::new(binary());
        command.arg(verb).arg("--config").arg(config).stdin(Stdio::null());
        command.env(
            "ADDRAUTH_LOG",
            LOG_LEVEL.get_or_init(|| "info,addrauth=trace,hickory_resolver=trace,lettre=trace,sqlx=trace"),
        );
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        let child = command.stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
        Daemon { child, log }
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        settled(&self.log)
    }

    /// What it has said beyond these first octets of its log.
    pub fn log_beyond(&self, octets: u64) -> String {
        use std::io::{Read as _, Seek as _, SeekFrom};
        let mut text = Vec::new();
        let mut file = fs::File::open(&self.log).unwrap();
        file.seek(SeekFrom::Start(octets)).unwrap();
        file.read_to_end(&mut text).unwrap();
        String::from_utf8_lossy(&text).into_owned()
    }

    /// How long its log is, in octets.
    pub fn log_length(&self) -> u64 {
        fs::metadata(&self.log).unwrap().len()
    }

    /// Sends it a signal, such as `HUP`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success(), "cannot send {name}");
    }

    /// Ends it at once (SIGKILL).
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until it takes milter connections at this place, as `milter.listen` spells it.
    pub fn until_it_takes_mail(&mut self, milter: &str) {
        self.wait_for("milter connections", || match milter.strip_prefix("unix:") {
            Some(path) => UnixStream::connect(path).is_ok(),
            None => TcpStream::connect(milter.trim_start_matches("inet:")).is_ok(),
        });
    }

    /// Waits until it answers VERIFY there, for whatever address of this domain.
    pub fn until_it_answers(&mut self, endpoint: SocketAddr, domain: &str) {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let question = format!("VERIFY 0a nobody@{domain} {}\r\n", "x".repeat(64));
        self.wait_for("questions", || {
            let _ = socket.send_to(question.as_bytes(), endpoint);
            socket.recv(&mut [0; 512]).is_ok()
        });
    }

    fn wait_for(&mut self, what: &str, mut ready: impl FnMut() -> bool) {
        let begin = Instant::now();
        while !ready() {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the daemon ended before it took {what}: {status}\n{}", self.log());
            }
            assert!(begin.elapsed() < PATIENCE, "the daemon does not take {what}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let begin = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && begin.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let plain = log.lines().filter(|line| !line.contains("DEBUG") && !line.contains("TRACE"));
            eprintln!("{}:\n{}", self.log.display(), plain.fold(String::new(), |all, line| all + line + "\n"));
        }
    }
}

/// A door of the bed with the filter behind it, and the AS of `send.test`.
#[derive(Debug)]
pub struct Rig {
    /// The door.
    pub door: Door,
    /// The filter; `None` while it is down.
    pub filter: Option<Daemon>,
    /// The AS; `None` while it is down.
    pub authority: Option<Daemon>,
    /// The key of `alice@send.test`.
    pub key: String,
    endpoint: SocketAddr,
    dir: tempfile::TempDir,
}

impl Drop for Rig {
    /// Attack A11, held in every test that has a rig: whatever happened, no key stands in a log, at its most talkative.
    fn drop(&mut self) {
        if std::thread::panicking() || self.key.is_empty() {
            return;
        }
        for name in ["filter", "authority"] {
            let log = fs::read_to_string(self.dir.path().join(format!("{name}.log"))).unwrap_or_default();
            assert!(!log.contains(&self.key), "the log of {name} holds the key");
        }
    }
}

impl Rig {
    /// Starts both daemons. `policy` is the text of `[policy]` and what follows it in the filter's configuration.
    pub fn start(bed: &Bed, kind: Kind, policy: &str) -> Rig {
        Rig::lay_out(bed.door(kind), policy, bed.door_without_milter()).run()
    }

    /// The same on TCP, notices taking the same door as the mail that causes them.
    pub fn start_with_notices_through_itself(bed: &Bed, policy: &str) -> Rig {
        let door = bed.door(Kind::Inet);
        let notify = door.port;
        Rig::lay_out(door, policy, notify).run()
    }

    /// On any door, with these component files in `policy.dir`, and with settings that name the door's domain: what `settings`
    /// returns goes to the top of the filter's configuration and below its `[policy]`. On TCP its own mail takes the same door.
    pub fn start_with_settings(
        bed: &Bed,
        kind: Kind,
        components: &[(&str, Vec<u8>)],
        settings: impl Fn(&Door) -> [String; 2],
    ) -> Rig {
        let door = bed.door(kind);
        let [top, policy] = settings(&door);
        let notify = if kind == Kind::Inet { door.port } else { bed.door_without_milter() };
        let rig = Rig::lay_out(door, &policy, notify);
        for (name, octets) in components {
            rig.put_component(name, octets);
        }
        let file = rig.path("filter.toml");
        let rest = fs::read_to_string(&file).unwrap();
        fs::write(file, format!("{top}\n{rest}")).unwrap();
        rig.run()
    }

    /// The same on TCP, with these component files in `policy.dir`.
    pub fn start_with_components(bed: &Bed, policy: &str, components: &[(&str, Vec<u8>)]) -> Rig {
        let rig = Rig::lay_out(bed.door(Kind::Inet), policy, bed.door_without_milter());
        for (name, octets) in components {
            rig.put_component(name, octets);
        }
        rig.run()
    }

    fn lay_out(door: Door, policy: &str, notify: u16) -> Rig {
        let dir = tempfile::Builder::new().prefix("aa-rig-").tempdir_in("/tmp").unwrap();
        for part in ["filter", "authority", "policies"] {
            fs::create_dir(dir.path().join(part)).unwrap();
        }
        let endpoint = claim_place();
        let rig = Rig { door, endpoint, filter: None, authority: None, key: String::new(), dir };
        fs::write(rig.path("authority.toml"), rig.authority_toml()).unwrap();
        fs::write(rig.path("filter.toml"), rig.filter_toml(notify, policy)).unwrap();
        rig
    }

    fn run(mut self) -> Rig {
        self.key = self.issue("alice@send.test");
        self.start_authority();
        self.start_filter();
        self
    }

    /// Puts a file into `policy.dir`, whole at once.
    pub fn put_component(&self, name: &str, octets: &[u8]) {
        let (new, file) = (self.path("policies.new"), self.path("policies").join(name));
        fs::write(&new, octets).unwrap();
        fs::rename(new, file).unwrap();
    }

    /// A path in the rig's own directory; `policies/` in it is what `policy.dir` names.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Has the AS issue a key to an address.
    pub fn issue(&self, address: &str) -> String {
        let mut command = Command::new(binary());
        command.args(["key", "issue", address, "--config"]).arg(self.path("authority.toml"));
        let out = command.stdin(Stdio::null()).output().unwrap();
        let words = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "key issue {address}: {}\n{words}", out.status);
        let key = String::from_utf8(out.stdout).unwrap().trim().to_owned();
        assert!(key.len() >= 22 && !key.contains(char::is_whitespace), "no key on standard output\n{words}");
        key
    }

    /// What another verb of the program prints, on the filter's configuration: `addrauth --config FILE VERB…`. Panics where it
    /// cannot tell; no is an answer.
    pub fn says(&self, verb: &[&str]) -> String {
        let mut command = Command::new(binary());
        command.arg("--config").arg(self.path("filter.toml")).args(verb).stdin(Stdio::null());
        let out = command.output().unwrap();
        let words = String::from_utf8_lossy(&out.stderr);
        assert!(matches!(out.status.code(), Some(0 | 1)), "{verb:?}: {}\n{words}", out.status);
        String::from_utf8(out.stdout).unwrap()
    }

    /// Starts the filter and waits until it listens.
    pub fn start_filter(&mut self) {
        let mut filter = Daemon::start("filter", &self.path("filter.toml"));
        filter.until_it_takes_mail(&self.door.milter);
        self.filter = Some(filter);
    }

    fn start_authority(&mut self) {
        let mut authority = Daemon::start("authority", &self.path("authority.toml"));
        authority.until_it_answers(self.endpoint, "send.test");
        self.authority = Some(authority);
    }

    fn authority_toml(&self) -> String {
        let (endpoint, state) = (self.endpoint, self.path("authority"));
        format!(
            "state_dir = {state:?}\n[notices]\nnotify_via = \"127.0.0.1:9\"\n[authority]\ndomains = [\"send.test\"]\n\
             listen = [\"{endpoint}\"]\n"
        )
    }

    fn filter_toml(&self, notify: u16, policy: &str) -> String {
        let endpoint = self.endpoint;
        let (state, policies) = (self.path("filter"), self.path("policies"));
        let Door { domain, milter, .. } = &self.door;
        let dns = dns::empty();
        format!(
            "hostname = \"mx.{domain}\"\nfinal_domains = [\"{domain}\", \"bench.test\"]\nobserve = false\nstate_dir = {state:?}\n\
             [milter]\nlisten = [\"{milter}\"]\ngroup = \"postfix\"\n\
             [notices]\nnotify_via = \"127.0.0.1:{notify}\"\nfrom = \"postmaster@{domain}\"\n\
             [verify]\ndns = [\"{dns}\"]\ntimeout = \"4s\"\n[verify.domain.\"send.test\"]\nas = \"{endpoint}\"\n\
             [policy]\ndir = {policies:?}\n{policy}\n"
        )
    }
}
