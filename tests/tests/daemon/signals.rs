//! Signals are ready before anything else.

use std::fs;

use crate::bed::{Bed, Running};

const HUP: u32 = 1;
const TERM: u32 = 15;

#[tokio::test]
async fn a_sighup_during_the_start_is_one_reload_after_it() {
    let bed = Bed::new();
    let mut filter = bed.filter();
    filter.until_it_handles(HUP);
    assert!(!bed.path("state/filter.db").exists(), "the start is not over: components are loaded first");
    for _ in 0..20 {
        filter.signal("HUP");
    }
    bed.until_it_listens();
    bed.until_said("reloaded: the next message", 1);
    assert!(filter.is_alive());
    let log = bed.log();
    let at = |words: &str| log.find(words).unwrap();
    assert!(at("listening on") < at("reloaded: the next message"), "{log}");
}

/// Somebody else has the database, so the start waits.
fn taken(bed: &Bed) -> rusqlite::Connection {
    let database = rusqlite::Connection::open(bed.path("state/filter.db")).unwrap();
    database.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE").unwrap();
    database
}

#[tokio::test]
async fn a_sigterm_during_the_start_ends_it_at_once_and_cleanly() {
    for name in ["TERM", "INT"] {
        let bed = Bed::new();
        let _database = taken(&bed);
        let mut filter = bed.filter();
        filter.until_it_handles(TERM);
        filter.signal(name);
        assert_eq!(filter.end().code(), Some(0), "{name}\n{}", bed.log());
        assert!(!bed.log().contains("listening on") && !bed.path("milter").exists(), "{}", bed.log());
        assert!(bed.log().contains("before the start was over"), "{}", bed.log());
    }
}

#[tokio::test]
async fn a_sigterm_during_a_reload_is_not_kept_waiting() {
    let bed = Bed::new();
    let mut filter = bed.filter();
    bed.until_it_listens();
    // The new state directory's database is somebody else's.
    let other = Bed::new();
    let _database = taken(&other);
    bed.write(&bed.text().replace(bed.path("state").to_str().unwrap(), other.path("state").to_str().unwrap()));
    filter.signal("HUP");
    filter.signal("TERM");
    assert_eq!(filter.end().code(), Some(0), "{}", bed.log());
    assert!(!bed.log().contains("reloaded"), "{}", bed.log());
}

#[test]
fn the_authority_is_ready_for_signals_too() {
    let bed = Bed::new();
    let state = bed.path("state");
    bed.write(&format!(
        "hostname = \"as.home.example\"\nstate_dir = {state:?}\n[authority]\ndomains = [\"home.example\"]\nlisten = [\"127.0.0.1:0\"]\n\
         deliver = \"nobody\"\n"
    ));
    let log = fs::File::create(bed.path("log")).unwrap();
    let mut command = bed.command(&["authority"]);
    command.stderr(log);
    let mut authority = Running::spawn(command);
    authority.until_it_handles(HUP);
    authority.signal("HUP");
    bed.until_said("authority started", 1);
    authority.signal("HUP");
    authority.signal("TERM");
    assert_eq!(authority.end().code(), Some(0), "{}", bed.log());
    bed.until_said("authority stopped by SIGTERM", 1);
}
