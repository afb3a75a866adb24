//! A server that is lost: every verb fails in time, nothing acknowledged is gone or twice, and all goes on by itself.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use addrauth::store::{Added, Error, Learned};

use crate::*;

const QUICK: Opening = Opening { busy: Duration::from_secs(1), readers: 3 };

async fn quick(bed: &Bed) -> (Arc<dyn KeyTable>, Arc<dyn Keyring>) {
    let keys = store::open_keys(&bed.config, QUICK).await.unwrap();
    (keys, store::open_keyring(&bed.config, QUICK).await.unwrap())
}

/// The time that a verb takes to fail.
async fn fails<T: std::fmt::Debug>(verb: impl Future<Output = Result<T, Error>>) -> Duration {
    let begin = Instant::now();
    let error = verb.await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    begin.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_server_every_verb_fails_in_time_and_works_again_after_it() {
    let Some(cluster) = Postgres::start() else { return };
    let bed = Bed::in_cluster(&cluster).await;
    let (keys, keyring) = quick(&bed).await;
    keys.add(&mailbox("a@example.com"), &k(1), at(100), at(200), 4).await.unwrap();
    let bound = QUICK.busy + Duration::from_millis(800);
    for frozen in [false, true] {
        match frozen {
            true => cluster.freeze(true),
            false => cluster.kill(),
        }
        let key = learned("a@example.com", "f", 500);
        let took = [
            fails(keys.of(&mailbox("a@example.com"))).await,
            fails(keys.add(&mailbox("a@example.com"), &k(1), at(100), at(200), 4)).await,
            fails(keys.enlist(&[row("a@example.com", None, 1)], &mut |_| {})).await,
            fails(keys.running_out(at(1), at(2))).await,
            fails(keys.sweep(at(1))).await,
            fails(keys.enlisted(None)).await,
            fails(keys.take_post(at(1), |_| Duration::ZERO)).await,
            fails(keyring.learn(&key)).await,
            fails(keyring.newest(&mailbox("a@example.com"))).await,
            fails(keyring.rows(None)).await,
        ];
        assert!(took.iter().all(|took| *took < bound), "{took:?}");
        // A daemon starts without it too.
        let (late, _) = quick(&bed).await;
        match frozen {
            true => cluster.freeze(false),
            false => cluster.restart(),
        }
        for table in [&keys, &late] {
            let begin = Instant::now();
            while let Err(error) = table.of(&mailbox("a@example.com")).await {
                assert!(begin.elapsed() < Duration::from_secs(60), "{error}");
            }
            assert_eq!(table.of(&mailbox("a@example.com")).await.unwrap().len(), 1, "frozen: {frozen}");
        }
        assert!(keyring.newest(&mailbox("a@example.com")).await.unwrap().is_none(), "nothing came in late");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_restarts_in_good_order_is_not_noticed_by_who_reads() {
    let Some(cluster) = Postgres::start() else { return };
    let bed = Bed::in_cluster(&cluster).await;
    let (keys, keyring) = quick(&bed).await;
    keys.add(&mailbox("a@example.com"), &k(1), at(100), at(200), 4).await.unwrap();
    for _ in 0..3 {
        // All connections lie idle, and all of them die.
        let [a, b] = ["a@example.com", "b@example.com"].map(mailbox);
        let both = tokio::join!(keys.of(&a), keys.of(&b));
        both.0.unwrap();
        both.1.unwrap();
        cluster.stop();
        cluster.restart();
        let both = tokio::join!(keys.of(&a), keys.of(&a));
        assert_eq!((both.0.unwrap().len(), both.1.unwrap().len()), (1, 1));
        cluster.stop();
        cluster.restart();
        keyring.learn(&learned("a@example.com", "f1", 500)).await.unwrap();
    }
}

/// What was acknowledged under load.
#[derive(Default)]
struct Acknowledged {
    /// By address and generation, the octet of its K.
    keys: BTreeMap<(String, i64), u8>,
    learned: BTreeMap<String, i64>,
    failed: u64,
}

/// Adds keys to addresses of its own until it is told to end.
async fn issue(number: usize, keys: Arc<dyn KeyTable>, end: Arc<AtomicBool>, done: Arc<AtomicU64>) -> Acknowledged {
    let mut mine = Acknowledged::default();
    let mut turn = 0_u64;
    while !end.load(Ordering::Relaxed) {
        turn += 1;
        let octet = u8::try_from(turn % 251).unwrap();
        let address = |n: u64| format!("u{number}-{n}@example.com");
        let addresses = [address(turn % 50), address(50 + turn % 7)];
        let key = |address: &String| NewKey { k: k(octet), post: Some(sealed(address)), ..new_key(address, 100) };
        match keys.add_all(&addresses.each_ref().map(key), 100_000).await {
            Ok(added) => {
                for (address, added) in addresses.into_iter().zip(added) {
                    let Added::Generation(generation) = added else { panic!("{added:?}") };
                    let twice = mine.keys.insert((address, generation), octet);
                    assert!(twice.is_none(), "a generation was given twice");
                }
                done.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) => {
                mine.failed += 1;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    mine
}

/// Learns ever longer-lived keys, and reads as VERIFY does.
async fn learn(number: usize, bed: (Arc<dyn KeyTable>, Arc<dyn Keyring>), end: Arc<AtomicBool>) -> Acknowledged {
    let mut mine = Acknowledged::default();
    let mut turn = 0;
    while !end.load(Ordering::Relaxed) {
        turn += 1;
        let address = format!("l{number}-{}@example.com", turn % 5);
        match bed.1.learn(&learned(&address, &format!("f{turn}"), 1_000 + turn)).await {
            Ok(Learned::Newest) => {
                mine.learned.insert(address, 1_000 + turn);
            }
            Ok(other) => panic!("{other:?}"),
            Err(_) => mine.failed += 1,
        }
        match bed.0.of(&mailbox(&format!("u0-{}@example.com", turn % 50))).await {
            Ok(_) => {}
            Err(_) => {
                mine.failed += 1;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    mine
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgresql_killed_and_restarted_under_load_loses_nothing_and_service_resumes() {
    let Some(cluster) = Postgres::start() else { return };
    let bed = Bed::in_cluster(&cluster).await;
    let (end, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut tasks = Vec::new();
    for number in 0..3 {
        tasks.push(tokio::spawn(issue(number, quick(&bed).await.0, end.clone(), done.clone())));
        tasks.push(tokio::spawn(learn(number, quick(&bed).await, end.clone())));
    }
    let mut resumed = Vec::new();
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(700)).await;
        cluster.kill();
        tokio::time::sleep(Duration::from_millis(300)).await;
        cluster.restart();
        let (begin, before) = (Instant::now(), done.load(Ordering::Relaxed));
        while done.load(Ordering::Relaxed) < before + 5 {
            assert!(begin.elapsed() < Duration::from_secs(60), "service does not resume");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        resumed.push(begin.elapsed());
    }
    end.store(true, Ordering::Relaxed);
    let mut all = Acknowledged::default();
    for task in tasks {
        let mine = task.await.unwrap();
        all.keys.extend(mine.keys);
        all.learned.extend(mine.learned);
        all.failed += mine.failed;
    }
    let (keys, keyring) = quick(&bed).await;
    for ((address, generation), octet) in &all.keys {
        let row = keys.of(&mailbox(address)).await.unwrap().into_iter().find(|row| row.generation == *generation);
        let row = row.unwrap_or_else(|| panic!("{address} has lost generation {generation}"));
        assert!(row.k == k(*octet), "{address} {generation}");
        assert!(keys.posts_of(&mailbox(address)).await.unwrap().iter().any(|post| post.generation == *generation));
    }
    for (address, expires) in &all.learned {
        let newest = keyring.newest(&mailbox(address)).await.unwrap().unwrap();
        assert!(newest.expires >= at(*expires), "{address}");
        assert_eq!(newest.sealed, sealed(&newest.fingerprint));
    }
    let counted = |query: &str| cluster.sql("postgres", &bed.database, query).unwrap();
    // What was not acknowledged may be there, and then it is whole.
    assert_eq!(
        counted(
            "SELECT count(*) FROM addrauth.keys k LEFT JOIN addrauth.posts USING (address, generation) WHERE sealed IS NULL"
        ),
        "0"
    );
    assert_eq!(
        counted(
            "SELECT count(*) FROM addrauth.addresses a WHERE generation <> (SELECT count(*) FROM addrauth.keys k WHERE k.address = a.address)"
        ),
        "0"
    );
    println!("{} keys acknowledged, {} verbs failed, service was back after {resumed:?}", all.keys.len(), all.failed);
    assert!(
        all.failed > 0 && all.keys.len() > 50,
        "{} failed, {} keys: no load met a kill",
        all.failed,
        all.keys.len()
    );
}
