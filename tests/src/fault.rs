//! The real filter as a process, and what can befall it: death, a full disk, no descriptors, a clock that jumps.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::daemon::{binary, settled};

/// How long the filter may take to listen on a machine that is busy with many of them.
const PATIENCE: Duration = Duration::from_secs(60);
/// The size of the small disk: enough for the tables, and soon full.
const SMALL: &str = "size=4m,mode=700";

/// What kind of place a filter runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// As it is.
    Usual,
    /// `state_dir` is a small disk of its own; where none may be mounted, the same by the largest size that a file may have.
    SmallDisk,
    /// The wall clock is what the test says.
    OwnClock,
}

/// A running filter; dropped, it is killed by its process id.
#[derive(Debug)]
pub struct Filter {
    child: Child,
    /// Whether `state_dir` is on a disk that nobody else sees.
    mounted: bool,
    dir: PathBuf,
    /// Where its milter door is.
    pub door: SocketAddr,
}

impl Filter {
    /// Starts the filter of `DIR/filter.toml`, whose `state_dir` is `DIR/state`, and waits until it listens. Its words go to
    /// `DIR/filter.log`.
    pub fn start(dir: &Path, place: Place) -> Filter {
        let (log, state) = (dir.join("filter.log"), dir.join("state"));
        let from = log.metadata().map_or(0, |file| usize::try_from(file.len()).unwrap());
        fs::create_dir_all(&state).unwrap();
        let mounted = place == Place::SmallDisk && may_mount();
        let mut command = match place {
            Place::SmallDisk if mounted => on_a_small_disk(&state),
            Place::SmallDisk => with_small_files(),
            _ => Command::new(binary()),
        };
        if place == Place::OwnClock {
            let shift = dir.join("shift");
            fs::write(&shift, [0; 8]).unwrap();
            command.env("LD_PRELOAD", clock(dir)).env("CLOCK_SHIFT", shift);
        }
        command.arg("filter").arg("--config").arg(dir.join("filter.toml")).stdin(Stdio::null());
        let words = OpenOptions::new().create(true).append(true).open(&log).unwrap();
        command.env("ADDRAUTH_LOG", "info,addrauth=debug").stdout(words.try_clone().unwrap()).stderr(words);
        let mut child = command.spawn().unwrap();
        let begin = Instant::now();
        let door = loop {
            let said = fs::read_to_string(&log).unwrap_or_default();
            let mut words = said.get(from..).unwrap_or_default().lines().filter(|line| !line.is_empty());
            if let Some(door) = words.find_map(|line| line.split_once("listening on inet:")?.1.trim().parse().ok()) {
                break door;
            }
            if let Some(status) = child.try_wait().unwrap() {
                panic!("the filter ended before it listened: {status}\n{said}");
            }
            assert!(begin.elapsed() < PATIENCE, "the filter does not listen\n{said}");
            std::thread::sleep(Duration::from_millis(20));
        };
        Filter { child, mounted, dir: dir.to_owned(), door }
    }

    /// All that it has said, over all its lives.
    pub fn log(&self) -> String {
        settled(&self.dir.join("filter.log"))
    }

    /// Its tables, to be read. Those on a disk of its own are copied: SQLite would look for them on ours.
    pub fn tables(&self) -> PathBuf {
        let own = self.state();
        if !self.mounted {
            return own.join("filter.db");
        }
        // While nobody has them open there is no log beside them; it may come or go while we copy.
        let names = ["filter.db-wal", "filter.db"];
        let sizes = || names.map(|name| Some(own.join(name).metadata().ok()?.len()));
        loop {
            let (copies, before) = (tempfile::tempdir_in(&self.dir).unwrap().keep(), sizes());
            let mut there = names.iter().zip(&before).filter(|(_, size)| size.is_some()).map(|(name, _)| name);
            if there.all(|name| fs::copy(own.join(name), copies.join(name)).is_ok()) && sizes() == before {
                return copies.join("filter.db");
            }
        }
    }

    /// Its `state_dir`, seen from here.
    fn state(&self) -> PathBuf {
        let state = self.dir.join("state");
        let inside = PathBuf::from(format!("/proc/{}/root", self.child.id()));
        if self.mounted { inside.join(state.strip_prefix("/").unwrap()) } else { state }
    }

    /// Whether it still runs.
    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Ends it at once (SIGKILL).
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Fills its small disk to the last octet.
    pub fn fill_disk(&self) {
        if !self.mounted {
            let wal = self.state().join("filter.db-wal").metadata().unwrap().len();
            return self.limit(&format!("--fsize={wal}:"));
        }
        let mut file = File::create(self.state().join("filler")).unwrap();
        for size in [65_536, 4_096, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
    }

    /// Makes room on its disk again.
    pub fn free_disk(&self) {
        if !self.mounted {
            return self.limit("--fsize=unlimited:");
        }
        fs::remove_file(self.state().join("filler")).unwrap();
    }

    /// Lets it open no more files or sockets; what is open stays open.
    pub fn take_descriptors(&self) {
        let lowest_free = || {
            let open = fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap();
            let open: Vec<u32> = open.flatten().filter_map(|fd| fd.file_name().to_str()?.parse().ok()).collect();
            (0..).find(|fd| !open.contains(fd)).unwrap()
        };
        // Whatever is open for a moment only is to be gone first.
        let mut seen = (lowest_free(), 0);
        while seen.1 < 10 {
            std::thread::sleep(Duration::from_millis(50));
            let now = lowest_free();
            seen = if now == seen.0 { (now, seen.1 + 1) } else { (now, 0) };
        }
        self.limit(&format!("--nofile={}:", seen.0));
    }

    /// Lets it open files again.
    pub fn give_descriptors(&self) {
        self.limit("--nofile=1024:");
    }

    /// Shifts its wall clock, from now on, against the true one.
    pub fn shift_clock(&self, seconds: i64) {
        let file = OpenOptions::new().write(true).open(self.dir.join("shift")).unwrap();
        file.write_all_at(&seconds.to_ne_bytes(), 0).unwrap();
    }

    fn limit(&self, what: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("prlimit").args(["--pid", &pid, what]).status().unwrap().success(), "prlimit {what}");
    }
}

impl Drop for Filter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether a process may have a disk of its own here: as root, or in a user namespace.
fn may_mount() -> bool {
    namespace().arg("true").stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

fn namespace() -> Command {
    let mut command = Command::new("unshare");
    command.arg("--mount");
    if !fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0) {
        command.arg("--map-root-user");
    }
    command
}

/// The mount is in a namespace of the filter's own: nobody else sees it, and it ends with the filter.
fn on_a_small_disk(state: &Path) -> Command {
    let script = "mount -t tmpfs -o \"$1\" none \"$2\" && shift 2 && exec \"$@\"";
    let mut command = namespace();
    command.args(["sh", "-c", script, "sh", SMALL]).arg(state).arg(binary());
    command
}

/// Whoever writes beyond the size that a file may have gets an error and no signal.
fn with_small_files() -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"]).arg(binary());
    command
}

/// The library that shifts the clock of a process by what the file that `CLOCK_SHIFT` names holds, compiled into this directory.
/// It is looked at whenever the time is asked for, so a running process's clock can be moved.
pub fn clock(dir: &Path) -> PathBuf {
    let (source, library) = (Path::new(env!("CARGO_MANIFEST_DIR")).join("src/clock.c"), dir.join("clock.so"));
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source);
    assert!(compiler.status().expect("a C compiler, which linking Rust needs too").success());
    library
}
