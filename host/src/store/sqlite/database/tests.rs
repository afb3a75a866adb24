use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::super::Statements as _;
use super::super::opened::{first, patiently, unopened};
use super::*;

const OPENING: Opening = Opening { busy: Duration::from_secs(2), readers: 2 };
const X: Plan = Plan { of: "x.db", steps: &["CREATE TABLE t (x INTEGER)"] };
const LATER: Plan = Plan { of: "x.db", steps: &["CREATE TABLE t (x INTEGER)", "ALTER TABLE t ADD COLUMN y INTEGER"] };

fn rows(db: &Database) -> Vec<i64> {
    db.read(|work| work.all("SELECT coalesce(x, 0) FROM t ORDER BY x", (), |row| Ok(row.get(0).unwrap_or_default())))
        .unwrap()
}

async fn put(db: &Database, row: i64) {
    db.write(move |work| work.run("INSERT INTO t (x) VALUES (?)", [row])).await.unwrap();
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn a_database_that_was_full_takes_writes_again() {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::open(dir.path(), X, OPENING).await.unwrap();
    let write =
        async |octets: i64| db.write(move |work| work.run("INSERT INTO t VALUES (zeroblob(?))", [octets])).await;
    db.run("PRAGMA max_page_count = 8").await.unwrap();
    for _ in 0..3 {
        let full = write(1 << 20).await.unwrap_err().to_string();
        assert!(full.contains("full"), "{full}");
        write(1).await.unwrap();
        db.run("PRAGMA max_page_count = 8").await.unwrap();
    }
    assert_eq!(rows(&db).len(), 3);
}

#[tokio::test]
async fn directory_and_files_are_for_their_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("a/b");
    let db = Database::open(&state, X, OPENING).await.unwrap();
    put(&db, 1).await;
    assert_eq!(mode(&state), 0o700);
    for name in ["x.db", "x.db-wal", "x.db-shm"] {
        assert_eq!(mode(&state.join(name)), 0o600, "{name}");
    }
}

#[tokio::test]
async fn what_root_makes_in_another_users_directory_is_that_users() {
    let dir = tempfile::tempdir().unwrap();
    // Only root may; for anybody else the directory stays his own, and so must the files.
    let _ = std::os::unix::fs::chown(dir.path(), Some(65_534), Some(65_533));
    let db = Database::open(dir.path(), X, OPENING).await.unwrap();
    put(&db, 1).await;
    let owner = |path: &Path| std::fs::metadata(path).map(|found| (found.uid(), found.gid())).unwrap();
    for name in ["x.db", "x.db-wal", "x.db-shm"] {
        assert_eq!(owner(&dir.path().join(name)), owner(dir.path()), "{name}");
        assert_eq!(mode(&dir.path().join(name)), 0o600, "{name}");
    }
}

#[tokio::test]
async fn every_commit_is_synced_and_locks_are_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::open(dir.path(), X, OPENING).await.unwrap();
    let settings = |work: &Connection| {
        let numbers = ["synchronous", "busy_timeout", "foreign_keys", "secure_delete", "journal_size_limit"];
        let numbers: Result<Vec<i64>, _> = numbers.iter().map(|name| work.one(&format!("PRAGMA {name}"), ())).collect();
        Ok((work.one::<String>("PRAGMA journal_mode", ())?, numbers?))
    };
    let want = ("wal".to_owned(), vec![2, 2000, 1, 1, 67_108_864]);
    for (kind, found) in
        [("read", db.read(settings)), ("scan", db.scan(settings).await), ("write", db.write(settings).await)]
    {
        assert_eq!(found.unwrap(), want, "{kind}");
    }
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    Database::open(dir.path(), LATER, OPENING).await.unwrap().close().await;
    let error = Database::open(dir.path(), X, OPENING).await.unwrap_err();
    assert!(matches!(error, Error::Newer { found: 2, known: 1, .. }), "{error}");
    assert!(error.to_string().contains("newer addrauth"));
    let again = Plan { steps: &["not run again"; 2], ..X };
    Database::open(dir.path(), again, OPENING).await.unwrap();
}

#[tokio::test]
async fn an_older_schema_is_brought_up_to_date() {
    let dir = tempfile::tempdir().unwrap();
    Database::open(dir.path(), X, OPENING).await.unwrap().close().await;
    let db = Database::open(dir.path(), LATER, OPENING).await.unwrap();
    db.run("INSERT INTO t (x, y) VALUES (1, 2)").await.unwrap();
}

#[tokio::test]
async fn a_step_that_fails_leaves_the_file_as_it_was_with_the_steps_before_it_undone() {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::open(dir.path(), X, OPENING).await.unwrap();
    put(&db, 7).await;
    db.close().await;
    const BROKEN: Plan = Plan {
        steps: &["CREATE TABLE t (x INTEGER)", "ALTER TABLE t ADD COLUMN y INTEGER; DELETE FROM t", "ALTER TABLE no"],
        ..X
    };
    assert!(matches!(Database::open(dir.path(), BROKEN, OPENING).await, Err(Error::Open { .. })));
    let db = Database::open(dir.path(), X, OPENING).await.unwrap();
    assert_eq!(rows(&db), [7]);
}

#[tokio::test]
async fn a_file_with_tables_and_no_version_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::open(dir.path(), X, OPENING).await.unwrap();
    db.run("PRAGMA user_version = 0").await.unwrap();
    db.close().await;
    let error = Database::open(dir.path(), LATER, OPENING).await.unwrap_err().to_string();
    assert!(error.contains("x.db is damaged") && error.contains("user_version"), "{error}");
}

#[tokio::test]
async fn several_openers_at_once_make_one_schema() {
    let dir = tempfile::tempdir().unwrap();
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let path = dir.path().to_owned();
            tokio::spawn(async move { Database::open(&path, X, OPENING).await.map(|_| ()) })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_who_open_write_and_close_a_file_again_and_again_never_hear_of_locks() {
    async fn each(path: PathBuf) -> Result<(), Error> {
        for _ in 0..12 {
            let db = Database::open(&path, X, OPENING).await?;
            db.write(|work| work.run("INSERT INTO t VALUES (1)", ())).await?;
            db.read(|work| work.one::<i64>("SELECT count(*) FROM t", ()))?;
            db.close().await;
        }
        Ok(())
    }
    let dir = tempfile::tempdir().unwrap();
    let tasks: Vec<_> = (0..6).map(|_| tokio::spawn(each(dir.path().to_owned()))).collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    let db = Database::open(dir.path(), X, OPENING).await.unwrap();
    assert_eq!(rows(&db).len(), 72);
}

#[tokio::test]
async fn a_file_that_stays_locked_is_given_up_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.db");
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let opening = Opening { busy: Duration::from_millis(50), readers: 1 };
    let most = Duration::from_secs(1);
    let attempt = || {
        let path = path.clone();
        move || first(&path, X, opening)
    };
    let error = patiently(most, attempt).await.err().unwrap();
    assert!(unopened(&path, &error, most).to_string().contains("kept it locked for 1 s"), "{error}");
}

#[tokio::test]
async fn what_is_no_database_is_named_with_the_way_out() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("x.db"), vec![b'x'; 4096]).unwrap();
    let error = Database::open(dir.path(), X, OPENING).await.unwrap_err().to_string();
    assert!(error.contains("x.db is damaged") && error.contains("move it away"), "{error}");
    let error = Database::open(&dir.path().join("x.db"), X, OPENING).await.unwrap_err().to_string();
    assert!(error.contains("state_dir"), "{error}");
}

/// Puts a row in, by somebody else's handle on what is at the path now; all rows there.
async fn rows_of_others(dir: &Path) -> Vec<i64> {
    let other = Database::open(dir, X, OPENING).await.unwrap();
    let check = other.scan(|work| work.one::<String>("PRAGMA integrity_check", ())).await.unwrap();
    assert_eq!(check, "ok");
    let rows = rows(&other);
    other.close().await;
    rows
}

/// A file that was closed in good order, with these rows.
async fn backup(dir: &Path, rows: std::ops::Range<i64>) -> PathBuf {
    let other = Database::open(dir, X, OPENING).await.unwrap();
    let all =
        move |work: &Connection| rows.map(|row| work.run("INSERT INTO t VALUES (?)", [row])).sum::<Result<u64, _>>();
    other.write(all).await.unwrap();
    other.close().await;
    dir.join("x.db")
}

fn remove_all(dir: &Path, ends: &[&str]) {
    for end in ends {
        std::fs::remove_file(dir.join(format!("x.db{end}"))).unwrap();
    }
}

/// Waits until the file that is there is in use.
async fn in_place_again(db: &Database, what: &str) {
    let begin = Instant::now();
    while db.in_place().is_err() {
        assert!(begin.elapsed() < Duration::from_secs(60), "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Asks until several attempts to open what is there have ended, each with a refusal.
async fn is_refused_for_long(db: &Database, what: &str) {
    for _ in 0..3 {
        assert!(matches!(db.in_place(), Err(Error::Moved { .. })), "{what}");
        while db.0.reopening.load(Ordering::Acquire) {
            assert!(matches!(db.in_place(), Err(Error::Moved { .. })), "{what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn used_with_rows(dir: &Path, rows: i64) -> Database {
    let db = Database::open(dir, X, OPENING).await.unwrap();
    for row in 0..rows {
        put(&db, row).await;
    }
    db.in_place().unwrap();
    db
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_file_is_gone_none_is_made_and_the_one_that_is_put_there_is_opened() {
    type Do = fn(&Path);
    let cases: [(&str, Do); 3] = [
        ("all removed", |dir| remove_all(dir, &["", "-wal", "-shm"])),
        ("the database removed", |dir| remove_all(dir, &[""])),
        ("moved away", |dir| std::fs::rename(dir.join("x.db"), dir.join("y.db")).unwrap()),
    ];
    for (what, change) in cases {
        let home = tempfile::tempdir().unwrap();
        let (dir, other) = (home.path().join("state"), home.path().join("backup"));
        let saved = backup(&other, 50..53).await;
        let db = used_with_rows(&dir, 20).await;
        change(&dir);
        is_refused_for_long(&db, what).await;
        assert!(!dir.join("x.db").exists(), "{what}");
        std::fs::copy(&saved, dir.join("x.db")).unwrap();
        in_place_again(&db, what).await;
        assert_eq!(rows_of_others(&dir).await, [50, 51, 52], "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_comes_back_has_what_its_log_held() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("state");
    let db = used_with_rows(&dir, 20).await;
    std::fs::rename(dir.join("x.db"), dir.join("y.db")).unwrap();
    is_refused_for_long(&db, "moved away").await;
    std::fs::rename(dir.join("y.db"), dir.join("x.db")).unwrap();
    in_place_again(&db, "moved back").await;
    assert_eq!(rows_of_others(&dir).await, (0..20).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_with_nothing_in_it_or_half_of_a_copy_is_not_taken_up_and_left_alone() {
    let home = tempfile::tempdir().unwrap();
    let (other, new) = (home.path().join("backup"), home.path().join("new"));
    let whole = std::fs::read(backup(&other, 0..3_000).await).unwrap();
    assert!(whole.len() > 4 * 4096);
    let blank = std::fs::read(backup(&new, 0..0).await).unwrap();
    let mut no_version = whole.clone();
    no_version[60..64].fill(0);
    let cases: [(&str, &[u8]); 6] = [
        ("empty", b""),
        ("a part of the header", &whole[..50]),
        ("a page", &whole[..4096]),
        ("half", &whole[..whole.len() / 8192 * 4096]),
        ("no row", &blank),
        ("no version", &no_version),
    ];
    for (number, (what, octets)) in cases.into_iter().enumerate() {
        let dir = home.path().join(format!("state{number}"));
        let db = used_with_rows(&dir, 20).await;
        remove_all(&dir, &["", "-wal", "-shm"]);
        std::fs::write(dir.join("x.db"), octets).unwrap();
        is_refused_for_long(&db, what).await;
        assert_eq!(std::fs::read(dir.join("x.db")).unwrap(), octets, "{what}");
        // The copy goes on, into the same file.
        std::fs::write(dir.join("x.db"), &whole).unwrap();
        in_place_again(&db, what).await;
        assert_eq!(rows_of_others(&dir).await.len(), 3_000, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_replaced_is_noticed_and_the_one_that_is_there_is_opened() {
    type Do = fn(&Path, &Path);
    let cases: [(&str, Do, &[i64]); 4] = [
        ("the log removed", |dir, _| remove_all(dir, &["-wal"]), &[]),
        ("replaced", |dir, backup| std::fs::rename(backup, dir.join("x.db")).unwrap(), &[50, 51, 52]),
        (
            "replaced, without its log",
            |dir, backup| {
                remove_all(dir, &["", "-wal", "-shm"]);
                std::fs::rename(backup, dir.join("x.db")).unwrap();
            },
            &[50, 51, 52],
        ),
        (
            "the directory replaced",
            |dir, backup| {
                std::fs::rename(dir, dir.with_extension("old")).unwrap();
                std::fs::rename(backup.parent().unwrap(), dir).unwrap();
            },
            &[50, 51, 52],
        ),
    ];
    for (what, change, there) in cases {
        let home = tempfile::tempdir().unwrap();
        let (dir, other) = (home.path().join("state"), home.path().join("backup"));
        let saved = backup(&other, 50..53).await;
        let db = used_with_rows(&dir, 20).await;
        change(&dir, &saved);
        let error = db.in_place().unwrap_err();
        assert!(matches!(error, Error::Moved { .. }) && error.to_string().contains("Stop addrauth"), "{what}: {error}");
        in_place_again(&db, what).await;
        put(&db, 99).await;
        db.in_place().unwrap();
        let found = rows_of_others(&dir).await;
        // What the log alone held is gone with it; what the file had is there.
        let lost_log = what == "the log removed";
        assert!(found.ends_with(&[99]) && (lost_log || found[..found.len() - 1] == *there), "{what}: {found:?}");
        db.close().await;
        assert_eq!(rows_of_others(&dir).await, found, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_is_gone_is_not_made_again_and_used_when_it_is_back() {
    let home = tempfile::tempdir().unwrap();
    let (dir, away) = (home.path().join("state"), home.path().join("away"));
    let db = Database::open(&dir, X, OPENING).await.unwrap();
    std::fs::rename(&dir, &away).unwrap();
    for _ in 0..5 {
        assert!(db.in_place().is_err());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(!dir.exists());
    std::fs::rename(&away, &dir).unwrap();
    in_place_again(&db, "the directory is back").await;
    put(&db, 1).await;
    assert_eq!(rows_of_others(&dir).await, [1]);
}

/// Another process that has the lock for writing.
fn locked(dir: &Path) -> Connection {
    let other = Connection::open(dir.join("x.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    other
}

#[tokio::test]
async fn what_is_given_up_before_its_commit_is_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::open(dir.path(), X, OPENING).await.unwrap();
    let other = locked(dir.path());
    // The first waits for the lock, the second for its turn.
    let first = db.write(|work| work.run("INSERT INTO t VALUES (1)", ()));
    let second = db.write(|work| work.run("INSERT INTO t VALUES (2)", ()));
    let both = async { tokio::join!(first, second) };
    assert!(tokio::time::timeout(Duration::from_millis(200), both).await.is_err(), "nobody can write");
    // The third is in its transaction.
    other.execute_batch("ROLLBACK").unwrap();
    let (begun, has_begun) = std::sync::mpsc::channel();
    let (go_on, may_go_on) = std::sync::mpsc::channel();
    let third = db.write(move |work| {
        let done = work.run("INSERT INTO t VALUES (3)", ());
        begun.send(()).unwrap();
        may_go_on.recv().unwrap();
        done
    });
    let mut third = Box::pin(third);
    while has_begun.try_recv().is_err() {
        assert!(tokio::time::timeout(Duration::from_millis(20), &mut third).await.is_err());
    }
    drop(third);
    go_on.send(()).unwrap();
    put(&db, 4).await;
    assert_eq!(rows(&db), [4]);
}

#[tokio::test]
async fn a_short_read_runs_where_it_is_asked_and_waits_for_nothing_that_takes_long() {
    let dir = tempfile::tempdir().unwrap();
    let opening = Opening { busy: Duration::from_millis(300), readers: 1 };
    let db = Database::open(dir.path(), X, opening).await.unwrap();
    put(&db, 7).await;
    let (end, ends) = std::sync::mpsc::channel::<()>();
    let (begun, has_begun) = std::sync::mpsc::channel();
    let (scanned, written) = (begun.clone(), begun);
    let ends = Arc::new(Mutex::new(ends));
    let (one, other) = (ends.clone(), ends);
    let scan = db.scan(move |_| {
        scanned.send(()).unwrap();
        let _ = one.lock().unwrap().recv();
        Ok(std::thread::current().id())
    });
    let write = db.write(move |work| {
        let done = work.run("INSERT INTO t VALUES (8)", ())?;
        written.send(()).unwrap();
        let _ = other.lock().unwrap().recv();
        Ok(done)
    });
    let here = std::thread::current().id();
    let looking = async {
        let mut count = 0;
        while count < 2 {
            count += has_begun.try_iter().count();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(rows(&db), [7]);
        assert_eq!(db.read(|_| Ok(std::thread::current().id())).unwrap(), here);
        // Who wants what is taken waits for as long as for a lock, and is told.
        for refused in [db.scan(|_| Ok(())).await, db.write(|_| Ok(())).await] {
            let refused = refused.unwrap_err().to_string();
            assert!(refused.contains("x.db") && refused.contains("busy for too long"), "{refused}");
        }
        drop(end);
    };
    let (scan, write, ()) = tokio::join!(scan, write, looking);
    assert_ne!(scan.unwrap(), here);
    assert_eq!((write.unwrap(), rows(&db)), (1, vec![7, 8]));
}

#[tokio::test]
async fn a_verb_that_panics_or_fails_leaves_nothing_and_the_next_one_works() {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::open(dir.path(), X, OPENING).await.unwrap();
    let panicked = db.write(|work| -> Result<(), Fault> {
        work.run("INSERT INTO t VALUES (1)", ())?;
        panic!("as a bug would");
    });
    assert!(panicked.await.unwrap_err().to_string().contains("given up"));
    let failed = db.write(|work| {
        work.run("INSERT INTO t VALUES (2)", ())?;
        work.run("INSERT INTO nowhere VALUES (2)", ())
    });
    assert!(failed.await.unwrap_err().to_string().contains("nowhere"));
    put(&db, 3).await;
    assert_eq!(rows(&db), [3]);
    db.close().await;
    let closed = db.read(|work| work.one::<i64>("SELECT 1", ())).unwrap_err().to_string();
    assert!(closed.contains("x.db") && closed.contains("closed"), "{closed}");
    assert!(db.write(|_| Ok(())).await.unwrap_err().to_string().contains("closed"));
}
