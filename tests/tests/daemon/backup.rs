//! A copy of the state that is taken while mail comes in, put in the place of what was lost.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use addrauth_lab::mta::Fate;

use crate::bed::{Bed, until};

/// What host/doc/backup-restore.md says of a database: one statement, while the daemon writes.
fn copy(from: &Path, to: &Path) {
    let database = rusqlite::Connection::open(from).unwrap();
    database.busy_timeout(crate::bed::PATIENCE).unwrap();
    database.execute("VACUUM INTO ?1", [to.to_str().unwrap()]).unwrap();
}

/// A copy of a state directory: its databases by that statement, and all other files but locks.
fn back_up(state: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    fs::set_permissions(to, PermissionsExt::from_mode(0o700)).unwrap();
    for entry in fs::read_dir(state).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        match path.extension().and_then(|end| end.to_str()) {
            Some("db") => copy(&path, &target),
            Some("db-wal" | "db-shm" | "lock") => continue,
            _ => drop(fs::copy(&path, &target).unwrap()),
        }
        fs::set_permissions(&target, PermissionsExt::from_mode(0o600)).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_copy_taken_under_load_has_all_that_was_promised_before_it() {
    let bed = Arc::new(Bed::new());
    let mut filter = bed.filter();
    bed.until_it_listens();
    let (stop, taken) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    // Three who send until they are told not to, each message with an id of its own.
    let senders: Vec<_> = (0..3)
        .map(|sender| {
            let (bed, stop, taken) = (Arc::clone(&bed), Arc::clone(&stop), Arc::clone(&taken));
            tokio::spawn(async move {
                let mut ids = Vec::new();
                while !stop.load(Ordering::SeqCst) {
                    let id = format!("S{sender}N{}", ids.len());
                    assert_eq!(bed.send(&id).await, Fate::Discarded, "{}", bed.log());
                    ids.push(id);
                    taken.fetch_add(1, Ordering::SeqCst);
                }
                ids
            })
        })
        .collect();
    let state = bed.path("state");
    let enough = |least: usize| until("messages", || taken.load(Ordering::SeqCst) >= least, || bed.log());
    tokio::task::block_in_place(|| enough(30));
    // What the mail server was told before the copy began.
    let promised: BTreeSet<String> = bed.kept().into_iter().collect();
    assert!(promised.len() >= 30);
    let begin = taken.load(Ordering::SeqCst);
    tokio::task::block_in_place(|| back_up(&state, &bed.path("backup")));
    tokio::task::block_in_place(|| enough(begin + 30));
    stop.store(true, Ordering::SeqCst);
    let mut all = BTreeSet::new();
    for sender in senders {
        all.extend(sender.await.unwrap());
    }
    filter.signal("TERM");
    filter.end();
    // The state is lost, and the copy takes its place.
    fs::remove_dir_all(&state).unwrap();
    fs::rename(bed.path("backup"), &state).unwrap();
    let _filter = bed.filter();
    bed.until_said("listening on", 2);
    let kept: BTreeSet<String> = bed.kept().into_iter().collect();
    assert!(kept.is_superset(&promised), "lost: {:?}", promised.difference(&kept));
    assert!(kept.is_subset(&all) && kept.len() < all.len(), "{} of {}", kept.len(), all.len());
    assert_eq!(bed.send("AFTER").await, Fate::Discarded, "{}", bed.log());
    assert!(bed.kept().contains(&"AFTER".to_owned()));
    let (code, out, err) = bed.run(&["journal", "list", "--last", "5"]);
    assert_eq!(code, Some(0), "{out}{err}");
}
