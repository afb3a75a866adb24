//! Several processes on one store at once: handles of their own, and nothing twice.

use std::collections::BTreeSet;

use addrauth::store::{Added, ForgedRow, Learned, PostEnd};

use crate::*;

on_each_store! {
    of_several_that_serve_one_turn_one_makes_the_key
    generations_never_collide_and_the_bound_holds
    a_post_goes_to_one_process
    of_two_that_learn_at_once_the_longest_lived_key_stays
    counts_of_several_add_up
    importing_and_issuing_and_taking_out_do_not_wait_in_a_circle
}

const TASKS: usize = 4;

/// Runs a task for each of several handles; what they return.
async fn at_once<T: Send + 'static, F>(bed: &Bed, task: impl Fn(usize, Arc<dyn KeyTable>) -> F) -> Vec<T>
where
    F: Future<Output = T> + Send + 'static,
{
    let mut tasks = Vec::new();
    for number in 0..TASKS {
        tasks.push(tokio::spawn(task(number, bed.keys().await)));
    }
    let mut done = Vec::new();
    for task in tasks {
        done.push(task.await.unwrap());
    }
    done
}

async fn of_several_that_serve_one_turn_one_makes_the_key(bed: Bed) {
    let names: Vec<String> = (0..60).map(|n| format!("u{n}@example.com")).collect();
    let rows: Vec<_> = names.iter().map(|name| row(name, None, 300)).collect();
    bed.keys().await.enlist(&rows, &mut |_| {}).await.unwrap();
    let added = at_once(&bed, |number, table| async move {
        let mut made = 0;
        for part in 0..6 {
            let mut due = table.due(&domains(), at(300), 20).await.unwrap();
            if number % 2 == 0 {
                due.reverse(); // others come in another order
            }
            let keys: Vec<_> = due.iter().map(|row| turn_key(&row.address, 300 + part, 900)).collect();
            let added = table.add_all(&keys, 9).await.unwrap();
            made += added.iter().filter(|added| matches!(added, Added::Generation(1))).count();
            assert!(added.iter().all(|added| matches!(added, Added::Generation(1) | Added::NotDue)), "{added:?}");
        }
        made
    })
    .await;
    assert_eq!(added.iter().sum::<usize>(), 60, "{added:?}");
    let table = bed.keys().await;
    for name in &names {
        assert_eq!(table.of(&mailbox(name)).await.unwrap().len(), 1, "{name}");
    }
    assert_eq!(table.owing().await.unwrap().waiting, 60);
}

async fn generations_never_collide_and_the_bound_holds(bed: Bed) {
    let added = at_once(&bed, |_, table| async move {
        let mut added = Vec::new();
        for _ in 0..10 {
            added.extend(
                table.add_all(&[new_key("a@example.com", 100), new_key("b@example.com", 100)], 25).await.unwrap(),
            );
        }
        added
    })
    .await;
    let generations: Vec<i64> = added
        .iter()
        .flatten()
        .filter_map(|added| match added {
            Added::Generation(generation) => Some(*generation),
            Added::Full(25) => None,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(generations.len(), 50, "25 for each of two addresses");
    assert_eq!(generations.iter().collect::<BTreeSet<_>>().len(), 25);
    assert_eq!(bed.keys().await.of(&mailbox("a@example.com")).await.unwrap().len(), 25);
}

async fn a_post_goes_to_one_process(bed: Bed) {
    let table = bed.keys().await;
    let owed = |n| NewKey { post: Some(sealed("x")), ..new_key(&format!("u{n}@example.com"), 100) };
    let keys: Vec<_> = (0..80).map(owed).collect();
    table.add_all(&keys, 9).await.unwrap();
    let taken = at_once(&bed, |_, table| async move {
        let mut taken = Vec::new();
        while let Some(post) = table.take_post(at(100), |_| Duration::from_secs(600)).await.unwrap() {
            table.end_post(&post, &PostEnd::Sent, at(100)).await.unwrap();
            taken.push(post.address);
        }
        taken
    })
    .await;
    let all: Vec<_> = taken.iter().flatten().collect();
    assert_eq!(all.len(), 80);
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 80);
}

async fn of_two_that_learn_at_once_the_longest_lived_key_stays(bed: Bed) {
    let mut tasks = Vec::new();
    for number in 0..TASKS {
        let keyring = bed.keyring().await;
        tasks.push(tokio::spawn(async move {
            let mut newest = Vec::new();
            for turn in 0..25 {
                // Each address gets the same 100 keys from all, in another order; the one that ends at 1,099 lives longest.
                let lived = (turn * 37 + number * 25) % 100;
                for address in ["a@example.com", "b@example.com"] {
                    let key = learned(address, &format!("f{lived}"), 1_000 + i64::try_from(lived).unwrap());
                    if keyring.learn(&key).await.unwrap() == Learned::Newest {
                        newest.push((address, lived));
                    }
                }
            }
            newest
        }));
    }
    let mut newest = Vec::new();
    for task in tasks {
        newest.extend(task.await.unwrap());
    }
    assert_eq!(newest.iter().collect::<BTreeSet<_>>().len(), newest.len(), "a key was the newest one twice");
    let keyring = bed.keyring().await;
    for address in ["a@example.com", "b@example.com"] {
        let longest = newest.iter().filter(|(of, _)| *of == address).map(|(_, lived)| lived).max().unwrap();
        let found = keyring.newest(&mailbox(address)).await.unwrap().unwrap();
        assert_eq!(found.fingerprint, format!("f{longest}"));
        assert_eq!(found.sealed, sealed(&found.fingerprint));
        assert_eq!(
            keyring.learn(&learned(address, "f99", 1_099)).await.unwrap(),
            match longest {
                99 => Learned::Known,
                _ => Learned::Newest,
            }
        );
    }
}

async fn counts_of_several_add_up(bed: Bed) {
    at_once(&bed, |number, table| async move {
        for _ in 0..20 {
            let forged = |n: usize| ForgedRow {
                domain: "example.com".into(),
                address: format!("u{n}@example.com"),
                verifier: "x.test".into(),
                network: "192.0.2.0/24".into(),
                answers: 1,
                first: at(100),
                last: at(200),
            };
            let mut rows: Vec<_> = (0..10).map(forged).collect();
            if number % 2 == 0 {
                rows.reverse();
            }
            table.count_forged(&rows, 1_000).await.unwrap();
        }
    })
    .await;
    let rows = bed.keys().await.forged(None, at(0)).await.unwrap();
    assert_eq!(rows.len(), 10);
    assert!(rows.iter().all(|row| row.answers == u64::try_from(TASKS).unwrap() * 20), "{rows:?}");
}

async fn importing_and_issuing_and_taking_out_do_not_wait_in_a_circle(bed: Bed) {
    let names: Vec<String> = (0..50).map(|n| format!("u{n}@example.com")).collect();
    let rows: Vec<_> = names.iter().map(|name| row(name, Some(7_200), 300)).collect();
    bed.keys().await.enlist(&rows, &mut |_| {}).await.unwrap();
    at_once(&bed, |number, table| {
        let (mut names, mut rows) = (names.clone(), rows.clone());
        async move {
            for turn in 0..10 {
                names.rotate_left(7);
                match number {
                    0 => {
                        rows.reverse();
                        rows.iter_mut().for_each(|row| row.agi = Some(Duration::from_secs(4_000 + turn)));
                        table.enlist(&rows, &mut |_| {}).await.unwrap();
                    }
                    1 => {
                        let keys: Vec<_> = names.iter().map(|name| new_key(name, 300)).collect();
                        table.add_all(&keys, 64).await.unwrap();
                    }
                    2 => {
                        let keys: Vec<_> = names.iter().rev().map(|name| (name.clone(), 1)).collect();
                        table.take_back(&keys, at(310)).await.unwrap();
                    }
                    _ => {
                        // Another one may have put them in again by then, or not yet.
                        let _ = table.strike(&names[..5], at(320)).await;
                        table.enlist(&rows, &mut |_| {}).await.unwrap();
                    }
                }
            }
        }
    })
    .await;
    assert_eq!(bed.keys().await.enlisted(None).await.unwrap().len(), 50);
    assert_eq!(bed.keys().await.of(&mailbox("u7@example.com")).await.unwrap().len(), 10);
}
