//! A directory with a configuration, and the processes that run on it.

use std::fs;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use addrauth_lab::mta::{Envelope, Fate, Mta, Outcome};
use addrauth_tests::daemon::binary;

/// How long anything may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// A message that names no sender: it is quarantined.
const MESSAGE: &str = "Subject: nobody\n\nbody\n";
/// The user `nobody`, whom files may be kept from.
const NOBODY: u32 = 65_534;

/// A directory in which one filter lives.
pub struct Bed {
    dir: tempfile::TempDir,
}

impl Bed {
    /// With a configuration by which mail that names no sender is quarantined.
    pub fn new() -> Bed {
        let dir = tempfile::Builder::new().prefix("aa-d-").tempdir_in("/tmp").unwrap();
        let bed = Bed { dir };
        for name in ["state", "policies"] {
            fs::create_dir(bed.path(name)).unwrap();
        }
        fs::write(bed.file(), bed.text()).unwrap();
        bed
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The configuration's file.
    pub fn file(&self) -> PathBuf {
        self.path("addrauth.toml")
    }

    /// Its text at first.
    pub fn text(&self) -> String {
        let (state, milter, policies) = (self.path("state"), self.path("milter"), self.path("policies"));
        format!(
            "hostname = \"mx.home.example\"\nfinal_domains = [\"home.example\"]\nobserve = false\nstate_dir = {state:?}\n\
             [milter]\nlisten = [\"unix:{}\"]\n[notices]\nnotify_via = \"127.0.0.1:9\"\n[verify]\ndns = [\"127.0.0.1:9\"]\n\
             [policy]\ndir = {policies:?}\nunusable = \"quarantine\"\n",
            milter.display()
        )
    }

    /// Writes the configuration anew, whole at once.
    pub fn write(&self, text: &str) {
        fs::write(self.path("new"), text).unwrap();
        fs::rename(self.path("new"), self.file()).unwrap();
    }

    /// `addrauth --config FILE VERB…`
    pub fn command(&self, verb: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.arg("--config").arg(self.file()).args(verb).stdin(Stdio::null()).env("ADDRAUTH_LOG", "info");
        command
    }

    /// What a verb comes to.
    pub fn run(&self, verb: &[&str]) -> (Option<i32>, String, String) {
        ended(self.command(verb))
    }

    /// Starts the filter, its log in a file.
    pub fn filter(&self) -> Running {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path("log")).unwrap();
        let mut command = self.command(&["filter"]);
        command.stdout(Stdio::null()).stderr(log);
        Running::spawn(command)
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Waits until the log has as many lines with these words.
    pub fn until_said(&self, words: &str, times: usize) {
        let said = || self.log().lines().filter(|line| line.contains(words)).count();
        until(&format!("{words:?} {times} times"), || said() >= times, || self.log());
        assert_eq!(said(), times, "{words:?}\n{}", self.log());
    }

    /// Waits until the filter takes connections.
    pub fn until_it_listens(&self) {
        until("a milter", || UnixStream::connect(self.path("milter")).is_ok(), || self.log());
    }

    /// Sends a message that is to be quarantined; what the mail server was told.
    pub async fn send(&self, id: &str) -> Fate {
        self.talk(id, MESSAGE).await.fate
    }

    /// Sends a message from outside; what became of it.
    pub async fn talk(&self, id: &str, message: &str) -> Outcome {
        let place = format!("unix:{}", self.path("milter").display()).parse().unwrap();
        let envelope = Envelope { queue_id: id.into(), ..Envelope::inbound("eve@far.example", "bob@home.example") };
        let talk = async {
            let mut mta = Mta::connect(&place).await.unwrap();
            let outcome = mta.send(&envelope, message.as_bytes()).await.unwrap();
            mta.quit().await.unwrap();
            outcome
        };
        tokio::time::timeout(PATIENCE, talk).await.expect("an answer")
    }

    /// The queue ids of the messages that are kept.
    pub fn kept(&self) -> Vec<String> {
        let (code, out, err) = self.run(&["quarantine", "list", "--json"]);
        assert_eq!(code, Some(0), "{out}{err}");
        let rows = out.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let mut ids: Vec<String> = rows.map(|row| row["queue_id"].as_str().unwrap().to_owned()).collect();
        ids.sort();
        ids
    }
}

/// A process; dropped, it is killed by its id.
pub struct Running(Child);

impl Running {
    pub fn spawn(mut command: Command) -> Running {
        Running(command.spawn().unwrap())
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.0.id().to_string()]).status().unwrap();
        assert!(status.success(), "cannot send {name}");
    }

    pub fn is_alive(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    /// Octets of its address space (proc(5), `VmSize`).
    pub fn address_space(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
        size.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1_024
    }

    /// Waits until it handles this signal itself (proc(5), `SigCgt`).
    pub fn until_it_handles(&mut self, number: u32) {
        let file = format!("/proc/{}/status", self.0.id());
        let mask = || {
            let status = fs::read_to_string(&file).unwrap_or_default();
            let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:").map(str::trim).map(String::from));
            mask.and_then(|mask| u64::from_str_radix(&mask, 16).ok()).unwrap_or_default()
        };
        until("a handler", || mask() & (1 << (number - 1)) != 0, String::new);
        assert!(self.is_alive());
    }

    /// How it ends, which must be soon.
    pub fn end(&mut self) -> ExitStatus {
        let begin = Instant::now();
        loop {
            match self.0.try_wait().unwrap() {
                Some(status) => return status,
                None => assert!(begin.elapsed() < PATIENCE, "it does not end"),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits for something.
pub fn until(what: &str, mut ready: impl FnMut() -> bool, log: impl Fn() -> String) {
    let begin = Instant::now();
    while !ready() {
        assert!(begin.elapsed() < PATIENCE, "no {what}\n{}", log());
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// How a command ends that must not wait for anybody, and what it says.
pub fn ended(mut command: Command) -> (Option<i32>, String, String) {
    let told = format!("{command:?}");
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let id = child.id();
    let (done, over) = std::sync::mpsc::channel();
    std::thread::spawn(move || done.send(child.wait_with_output()));
    let Ok(Ok(Output { status, stdout, stderr })) = over.recv_timeout(PATIENCE) else {
        let _ = Command::new("kill").args(["-9", &id.to_string()]).status();
        panic!("{told} does not end");
    };
    assert_eq!(status.signal(), None, "{told}: {}", String::from_utf8_lossy(&stderr));
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// Has a command run as a user whom files can be kept from; root is `nobody` then.
pub fn without_rights(command: &mut Command) {
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
}

/// Whether these tests run as root.
pub fn is_root() -> bool {
    std::os::unix::fs::MetadataExt::uid(&fs::metadata("/proc/self").unwrap()) == 0
}

/// Makes a FIFO.
pub fn fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}
