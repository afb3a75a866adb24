//! The log of changes: whoever remembers keys hears of each change of one, whoever made it.

use addrauth::store::{Changed, LogPlace};

use crate::*;

/// The stores that have a log; what is asked over a connection has none.
fn beds() -> [Bed; 2] {
    [Bed::sqlite(), Bed::memory()]
}

/// Whose keys changed since a place, sorted, and the place up to which that is known.
async fn since(keys: &Arc<dyn KeyTable>, place: &mut Option<LogPlace>) -> Option<Vec<String>> {
    let look = keys.log().unwrap().changes(place.as_ref()).await.unwrap();
    *place = Some(look.place);
    match look.changed {
        Changed::Of(mut addresses) => {
            addresses.sort();
            addresses.dedup();
            Some(addresses)
        }
        Changed::Anybodys => None,
    }
}

fn of<const N: usize>(names: [&str; N]) -> Option<Vec<String>> {
    Some(names.map(|name| format!("{name}@example.com")).to_vec())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_change_of_a_key_is_told_and_nothing_else() {
    for bed in beds() {
        let (keys, mut place) = (bed.keys().await, None);
        assert_eq!(since(&keys, &mut place).await, None, "who has seen nothing knows nothing");
        assert_eq!(since(&keys, &mut place).await, of([]));
        let new = |name: &str, created| new_key(&format!("{name}@example.com"), created);
        keys.enlist(&[row("a@example.com", None, 1), row("b@example.com", None, 1)], &mut |_| {}).await.unwrap();
        assert_eq!(since(&keys, &mut place).await, of([]), "no key yet");
        keys.add_all(&[new("a", 100), new("b", 100), new("c", 100), new("a", 150)], 8).await.unwrap();
        assert_eq!(since(&keys, &mut place).await, of(["a", "b", "c"]));
        // The older keys of an address end where a new one says so.
        keys.add_all(&[NewKey { others_end: Some(at(300)), ..new("b", 200) }], 8).await.unwrap();
        assert_eq!(since(&keys, &mut place).await, of(["b"]));
        keys.revoke(&mailbox("c@example.com"), &[1], at(250)).await.unwrap();
        assert_eq!(since(&keys, &mut place).await, of(["c"]));
        keys.take_back(&[("a@example.com".into(), 2)], at(260)).await.unwrap();
        assert_eq!(since(&keys, &mut place).await, of(["a"]));
        keys.strike(&["b@example.com".into()], at(270)).await.unwrap();
        assert_eq!(since(&keys, &mut place).await, of(["b"]));
        assert_eq!(keys.sweep(at(280)).await.unwrap(), 4);
        assert_eq!(since(&keys, &mut place).await, of(["a", "b", "c"]));
        keys.set(&row("a@example.com", Some(4_000), 5)).await.unwrap();
        keys.running_out(at(1), at(2)).await.unwrap();
        assert_eq!(since(&keys, &mut place).await, of([]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changed_before_the_place_was_taken_is_not_told_again() {
    for bed in beds() {
        let (keys, mut place) = (bed.keys().await, None);
        keys.add_all(&[new_key("a@example.com", 100)], 8).await.unwrap();
        since(&keys, &mut place).await;
        // Somebody else, who has a handle of his own.
        let other = bed.keys().await;
        for turn in 0..5 {
            other.add_all(&[new_key("b@example.com", 100 + turn)], 8).await.unwrap();
            assert_eq!(since(&keys, &mut place).await, of(["b"]));
            assert_eq!(since(&keys, &mut place).await, of([]));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_changes_and_a_log_that_was_cut_are_told_as_anybodys() {
    for bed in beds() {
        let (keys, mut place) = (bed.keys().await, None);
        since(&keys, &mut place).await;
        let many: Vec<_> = (0..1_001).map(|n| new_key(&format!("u{n}@example.com"), 100)).collect();
        keys.add_all(&many[..900], 8).await.unwrap();
        let mut early = place.clone();
        assert_eq!(since(&keys, &mut place).await.map(|told| told.len()), Some(900));
        let from = place.clone();
        keys.add_all(&many, 8).await.unwrap();
        assert_eq!(since(&keys, &mut place).await, None, "too many");
        assert_eq!(since(&keys, &mut place).await, of([]));
        keys.add_all(&many[..3], 8).await.unwrap();
        let mut early_too = from;
        keys.log().unwrap().trim_changes(10).await.unwrap();
        assert_eq!(since(&keys, &mut early).await, None, "what lies between is gone");
        assert_eq!(since(&keys, &mut early_too).await, None);
        assert_eq!(keys.log().unwrap().trim_changes(10).await.unwrap(), 0, "not more than half of it each time");
        let mut place = None;
        since(&keys, &mut place).await;
        keys.add_all(&many[..1], 8).await.unwrap();
        assert_eq!(since(&keys, &mut place).await.map(|told| told.len()), Some(1), "and it goes on");
    }
}

#[tokio::test]
async fn what_others_write_by_hand_is_told_in_sqlite_too() {
    let bed = Bed::sqlite();
    let (keys, mut place) = (bed.keys().await, None);
    let all = ["a", "b", "c"].map(|name| new_key(&format!("{name}@example.com"), 100));
    keys.add_all(&all, 8).await.unwrap();
    since(&keys, &mut place).await;
    let other = rusqlite::Connection::open(bed.config.state_dir.0.join("authority.db")).unwrap();
    other.execute_batch("PRAGMA foreign_keys = ON").unwrap();
    for (statement, told) in [
        ("UPDATE keys SET revoked = 1 WHERE address = 'a@example.com'", of(["a"])),
        ("DELETE FROM addresses WHERE address = 'b@example.com'", of(["b"])),
        ("BEGIN; UPDATE keys SET expires = 1; ROLLBACK", of([])),
        ("DELETE FROM keys", of(["a", "c"])),
    ] {
        other.execute_batch(statement).unwrap();
        assert_eq!(since(&keys, &mut place).await, told, "{statement}");
    }
}

#[tokio::test]
async fn a_log_of_another_history_is_not_taken_for_the_same() {
    // Two files with the same numbers in their logs.
    let beds = [Bed::sqlite(), Bed::sqlite()];
    let mut places = Vec::new();
    for (bed, name) in beds.iter().zip(["a", "b"]) {
        let (keys, mut place) = (bed.keys().await, None);
        keys.add_all(&[new_key(&format!("{name}@example.com"), 100)], 8).await.unwrap();
        since(&keys, &mut place).await;
        places.push(place);
        keys.close().await;
    }
    let keys = beds[0].keys().await;
    assert_eq!(since(&keys, &mut places[0]).await, of([]));
    assert_eq!(since(&keys, &mut places[1]).await, None);
}
