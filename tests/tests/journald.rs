//! The filter's log as the journal of systemd gets it: a process whose standard error is a stream to a journal that is played.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use addrauth_lab::mta::{Envelope, Fate, Mta};
use addrauth_tests::daemon::binary;
use addrauth_tests::world::GOOD;

const PATIENCE: Duration = Duration::from_secs(60);

/// A journal that is played, and a filter that sees it where systemd's is.
struct Stage {
    home: tempfile::TempDir,
    journal: UnixDatagram,
    stderr: UnixStream,
    filter: Child,
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = self.filter.kill();
        let _ = self.filter.wait();
    }
}

/// Whether a process may have its own `/run` here.
fn may_mount() -> bool {
    let may = namespace().arg("true").stderr(Stdio::null()).status().is_ok_and(|status| status.success());
    if !may {
        println!("skipped: no process may mount anything here");
    }
    may
}

fn namespace() -> Command {
    let mut command = Command::new("unshare");
    command.arg("--mount");
    if fs::metadata("/proc/self").is_ok_and(|own| own.uid() != 0) {
        command.arg("--map-root-user");
    }
    command
}

impl Stage {
    /// `stream`: what `JOURNAL_STREAM` says, made of device and inode of standard error.
    fn set(stream: impl FnOnce(u64, u64) -> String) -> Stage {
        let home = tempfile::tempdir().unwrap();
        let run = home.path().join("run");
        fs::create_dir_all(run.join("systemd/journal")).unwrap();
        let journal = UnixDatagram::bind(run.join("systemd/journal/socket")).unwrap();
        journal.set_read_timeout(Some(PATIENCE)).unwrap();
        let config = format!(
            "hostname = \"mx.home.example\"\nfinal_domains = [\"home.example\"]\nobserve = false\nstate_dir = {:?}\n\
             [milter]\nlisten = [\"inet:127.0.0.1:0\"]\n[verify]\ndns = [\"127.0.0.1:9\"]\n",
            home.path().join("state")
        );
        fs::write(home.path().join("filter.toml"), config).unwrap();
        let (stderr, theirs) = UnixStream::pair().unwrap();
        let theirs = fs::File::from(OwnedFd::from(theirs));
        let known = theirs.metadata().unwrap();
        let mut command = namespace();
        command.args(["sh", "-c", "mount --bind \"$1\" /run && shift && exec \"$@\"", "sh"]).arg(&run).arg(binary());
        command.arg("filter").arg("--config").arg(home.path().join("filter.toml")).stdin(Stdio::null());
        command.env("JOURNAL_STREAM", stream(known.dev(), known.ino())).env("ADDRAUTH_LOG", "info");
        let filter = command.stdout(Stdio::null()).stderr(theirs).spawn().unwrap();
        Stage { home, journal, stderr, filter }
    }

    /// The next record, a field a line: none of those that this reads has several.
    fn record(&self) -> BTreeMap<String, String> {
        let mut octets = vec![0; 1 << 16];
        let length = self.journal.recv(&mut octets).expect("a record");
        let text = String::from_utf8(octets[..length].to_vec()).unwrap();
        text.lines().filter_map(|line| line.split_once('=')).map(|(name, value)| (name.into(), value.into())).collect()
    }

    /// The first record whose words hold this.
    fn until(&self, words: &str) -> BTreeMap<String, String> {
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE {
            let record = self.record();
            if record["MESSAGE"].contains(words) {
                return record;
            }
        }
        panic!("no record has {words:?}");
    }

    /// Ends the filter well: what it wrote to standard error, and what is in the journal still.
    fn ended(mut self) -> (String, Vec<String>) {
        let pid = self.filter.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        assert!(self.filter.wait().unwrap().success());
        let (mut text, mut rest) = (String::new(), Vec::new());
        self.stderr.read_to_string(&mut text).unwrap();
        self.journal.set_nonblocking(true).unwrap();
        let mut octets = vec![0; 1 << 16];
        loop {
            match self.journal.recv(&mut octets) {
                Ok(length) => rest.push(String::from_utf8_lossy(&octets[..length]).into_owned()),
                Err(fault) if fault.kind() == ErrorKind::WouldBlock => return (text, rest),
                Err(fault) => panic!("{fault}"),
            }
        }
    }
}

async fn bring(place: &str, id: &str) {
    let mut mta = Mta::connect(&place.parse().unwrap()).await.unwrap();
    let envelope = Envelope { queue_id: id.into(), ..Envelope::inbound("a@one.example", "bob@home.example") };
    let message = format!("From: a@one.example\r\nX-Auth-Key: {GOOD}\r\n\r\nx\r\n");
    assert_eq!(mta.send(&envelope, message.as_bytes()).await.unwrap().fate, Fate::Delivered);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_journal_finds_a_message_and_standard_error_has_no_line() {
    if !may_mount() {
        return;
    }
    let stage = Stage::set(|device, inode| format!("{device}:{inode}"));
    let listening = stage.until("listening on ");
    assert_eq!((listening["PRIORITY"].as_str(), listening["SYSLOG_IDENTIFIER"].as_str()), ("6", "addrauth"));
    assert!(!listening.contains_key("ADDRAUTH_QUEUE_ID"));
    bring(listening["MESSAGE"].split_once("listening on ").unwrap().1, "4ZbX2k1mQz").await;
    let about = stage.until("4ZbX2k1mQz: result=");
    for (name, value) in [
        ("ADDRAUTH_QUEUE_ID", "4ZbX2k1mQz"),
        ("ADDRAUTH_RESULT", "unverified"),
        ("ADDRAUTH_DECISION", "accept"),
        ("ADDRAUTH_VERDICT", "accept"),
    ] {
        assert_eq!(about.get(name).map(String::as_str), Some(value), "{about:?}");
    }
    assert!(stage.home.path().join("state/filter.db").exists());
    let (text, rest) = stage.ended();
    assert_eq!(text, "", "a line is told twice");
    assert!(rest.iter().any(|record| record.contains("MESSAGE=stopping: ")), "{rest:?}");
    assert!(!rest.iter().any(|record| record.contains("4ZbX2k1mQz")), "told twice: {rest:?}");
    assert!(!rest.iter().chain(about.values()).any(|told| told.contains(GOOD)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_standard_error_is_another_s_lines_are_text_and_the_journal_has_no_record() {
    if !may_mount() {
        return;
    }
    // As of a unit that starts the filter with its standard error elsewhere.
    let stage = Stage::set(|device, inode| format!("{device}:{}", inode + 1));
    let mut text = Vec::new();
    let mut stderr = stage.stderr.try_clone().unwrap();
    stderr.set_read_timeout(Some(PATIENCE)).unwrap();
    while !String::from_utf8_lossy(&text).contains("treats: ") {
        let mut some = [0; 1_024];
        let length = stderr.read(&mut some).expect("a line");
        assert!(length > 0, "it ended: {}", String::from_utf8_lossy(&text));
        text.extend_from_slice(&some[..length]);
    }
    let place = String::from_utf8_lossy(&text).into_owned();
    let place = place.split_once("listening on ").unwrap().1.lines().next().unwrap().to_owned();
    bring(&place, "4ZbX2k1mQz").await;
    let (more, records) = stage.ended();
    let line = more.lines().find(|line| line.contains(" 4ZbX2k1mQz: ")).unwrap_or_else(|| panic!("{more}"));
    assert!(line.ends_with(" verdict=accept") && !line.contains("case."), "{line}");
    assert_eq!(records, Vec::<String>::new());
}
