//! Many processes that open, use and close the same files at once, as daemons and commands do.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use addrauth_tests::daemon::{self, Daemon};
use rusqlite::Connection;

use crate::*;

const USERS: usize = 8;

fn configuration(dir: &Path) -> PathBuf {
    let file = dir.join("addrauth.toml");
    let (state, door) = (dir.join("state"), dir.join("door"));
    let text = format!(
        "hostname = \"mx.example.com\"\nfinal_domains = [\"example.com\"]\nstate_dir = {state:?}\n[verify]\ndns = [\"127.0.0.1:9\"]\n\
         [milter]\nlisten = [\"unix:{}\"]\n[authority]\ndomains = [\"example.com\"]\n[policy]\nuser_may = [\"mark\"]\n",
        door.display()
    );
    std::fs::write(&file, text).unwrap();
    std::fs::create_dir(&state).unwrap();
    file
}

fn begin(file: &Path, words: &[&str]) -> Child {
    let mut command = Command::new(daemon::binary());
    command.arg("--config").arg(file).args(words);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn said(what: &str, out: &Output) -> String {
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    assert!(out.status.success(), "{what}: {} {}{}", out.status, text(&out.stdout), text(&out.stderr));
    text(&out.stdout)
}

/// Each user chooses at the same moment, and so many addresses get a key; nobody is told of a lock, and nothing is missing.
fn all_at_once(file: &Path, round: usize) {
    let user = |n: usize| format!("u{n}-{round}@example.com");
    let all: Vec<_> = (0..USERS)
        .map(|n| (begin(file, &["user", "set", &user(n), "invalid=mark"]), begin(file, &["key", "issue", &user(n)])))
        .collect();
    for (n, (choice, key)) in all.into_iter().enumerate() {
        said(&format!("choice {n}"), &choice.wait_with_output().unwrap());
        said(&format!("key {n}"), &key.wait_with_output().unwrap());
    }
    for n in 0..USERS {
        let shown = said("show", &begin(file, &["user", "show", &user(n)]).wait_with_output().unwrap());
        assert!(shown.contains("mark"), "{shown}");
    }
}

#[test]
fn commands_at_once_make_a_fresh_database_and_use_it_without_a_word_of_locks() {
    let dir = tempfile::tempdir().unwrap();
    let file = configuration(dir.path());
    // The second time the files are there, and each command is for a moment the last one to close them.
    for round in 0..2 {
        all_at_once(&file, round);
    }
}

#[test]
fn commands_work_while_daemons_start_stop_and_are_killed() {
    let dir = tempfile::tempdir().unwrap();
    let file = configuration(dir.path());
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0.. {
                let mut filter = Daemon::start("filter", &file);
                filter.until_it_takes_mail(&format!("unix:{}", dir.path().join("door").display()));
                // A killed one leaves its log behind, and the next one to open recovers it.
                if round % 2 == 0 {
                    filter.kill()
                } else {
                    drop(filter)
                }
                if stop.load(std::sync::atomic::Ordering::Relaxed) {
                    return;
                }
            }
        });
        for round in 0..2 {
            all_at_once(&file, round);
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

/// How somebody else holds the file.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Hold {
    /// Reads, with the rollback journal: SQLite does not wait for it when the log is to be switched on.
    Reading,
    /// Has locked all of it, with the rollback journal.
    Locked,
    /// Writes, with the log.
    Writing,
}

fn held(path: &Path, hold: Hold) -> Connection {
    let other = Connection::open(path).unwrap();
    other.busy_timeout(Duration::from_secs(60)).unwrap();
    let statements = match hold {
        Hold::Reading => "PRAGMA journal_mode = DELETE; BEGIN; SELECT count(*) FROM sqlite_schema",
        Hold::Locked => "PRAGMA journal_mode = DELETE; BEGIN EXCLUSIVE",
        Hold::Writing => "PRAGMA journal_mode = WAL; BEGIN IMMEDIATE",
    };
    other.execute_batch(statements).unwrap();
    other
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_another_process_holds_for_a_while_is_waited_for() {
    for (made, hold) in [
        (false, Hold::Reading),
        (false, Hold::Locked),
        (true, Hold::Reading),
        (true, Hold::Locked),
        (true, Hold::Writing),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let file = configuration(dir.path());
        if made {
            said("first", &begin(&file, &["user", "set", "a@example.com", "invalid=mark"]).wait_with_output().unwrap());
        }
        let other = held(&dir.path().join("state/filter.db"), hold);
        let children: Vec<_> =
            (0..3).map(|n| begin(&file, &["user", "set", &format!("b{n}@example.com"), "invalid=mark"])).collect();
        // Longer than many short tries.
        tokio::time::sleep(Duration::from_secs(5)).await;
        other.execute_batch("ROLLBACK").unwrap();
        other.close().unwrap();
        for child in children {
            said(&format!("made {made}, {hold:?}"), &child.wait_with_output().unwrap());
        }
    }
}
