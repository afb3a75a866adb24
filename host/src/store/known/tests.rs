use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::proto::address::Mailbox;
use crate::proto::mark::MarkKey;
use crate::store::plan::{self, Plan};
use crate::store::sqlite::Database;
use crate::store::{Entry, NewRow, Opening, time};

const OPENING: Opening = Opening { busy: Duration::from_secs(2), readers: 2 };
/// Noon of a day.
const TODAY: i64 = 20_000;

fn noon(day: i64) -> SystemTime {
    time(day * 86_400 + 43_200)
}

fn sender(address: &str) -> Pseudonym {
    MarkKey::from_octets([7; 32]).pseudonym(&Mailbox::parse(address).unwrap())
}

fn nth(n: i64) -> Pseudonym {
    sender(&format!("s{n}@example.com"))
}

async fn ledger() -> (tempfile::TempDir, Ledger) {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(dir.path(), OPENING).await.unwrap();
    (dir, ledger)
}

/// A row of a message that shows this sender to be a known one.
fn row(known: KnownSender) -> Arc<NewRow> {
    let mut row = NewRow::again(Entry::default(), noon(known.day));
    row.known = Some(known);
    Arc::new(row)
}

/// Writes down that these senders were valid on these days.
async fn valid(ledger: &Ledger, senders: impl IntoIterator<Item = (Pseudonym, i64)>) {
    let rows = senders.into_iter().map(|(sender, day)| row(KnownSender::new(sender, noon(day)))).collect();
    ledger.append(rows).await.unwrap();
}

async fn ago(ledger: &Ledger, sender: Pseudonym, day: i64) -> Option<u32> {
    ledger.last_valid(sender, noon(day)).await.unwrap()
}

/// How many senders there are of each day, counted, after a look whether that is what is known of them.
async fn of_days(ledger: &Ledger) -> BTreeMap<i64, i64> {
    let count = |of: &'static str| async move {
        let counted = ledger.0.scan(move |work| work.all(of, (), |row| Ok((row.get::<_, i64>(0)?, row.get(1)?)))).await;
        counted.unwrap().into_iter().collect::<BTreeMap<i64, i64>>()
    };
    let counted = count("SELECT day, count(*) FROM known GROUP BY day").await;
    assert_eq!(counted, count("SELECT day, senders FROM known_days WHERE senders <> 0").await);
    counted
}

#[tokio::test]
async fn a_sender_is_known_from_the_day_of_the_last_valid_mail_and_no_other_sender_is() {
    let (_dir, ledger) = ledger().await;
    let (alice, bob) = (sender("alice@example.com"), sender("bob@example.com"));
    assert_eq!(ago(&ledger, alice, TODAY).await, None);
    valid(&ledger, [(alice, TODAY - 3)]).await;
    assert_eq!((ago(&ledger, alice, TODAY).await, ago(&ledger, bob, TODAY).await), (Some(3), None));
    valid(&ledger, [(alice, TODAY - 1), (alice, TODAY - 1)]).await;
    assert_eq!(ago(&ledger, alice, TODAY).await, Some(1));
    // A message that waited over midnight takes nothing back.
    valid(&ledger, [(alice, TODAY - 2)]).await;
    assert_eq!(ago(&ledger, alice, TODAY).await, Some(1));
    assert_eq!(ago(&ledger, alice, TODAY - 2).await, Some(0), "midnight may lie between two clocks");
    assert_eq!(of_days(&ledger).await, [(TODAY - 1, 1)].into());
}

#[tokio::test]
async fn a_day_that_a_wrong_clock_wrote_counts_for_nothing_and_gives_way() {
    let (_dir, ledger) = ledger().await;
    let (alice, bob) = (nth(1), nth(2));
    valid(&ledger, [(alice, TODAY + 9_000), (bob, TODAY + 9_000)]).await;
    assert_eq!(ago(&ledger, alice, TODAY).await, None);
    valid(&ledger, [(alice, TODAY)]).await;
    assert_eq!(ago(&ledger, alice, TODAY).await, Some(0));
    assert_eq!(ledger.forget_old(noon(TODAY), 365, 100).await.unwrap(), 1);
    assert_eq!(of_days(&ledger).await, [(TODAY, 1)].into());
}

#[tokio::test]
async fn a_clock_that_is_behind_forgets_nobody_and_days_to_come_go_first_where_there_are_too_many() {
    let (_dir, ledger) = ledger().await;
    valid(&ledger, [(nth(1), TODAY - 300), (nth(2), TODAY - 2), (nth(3), TODAY), (nth(4), TODAY)]).await;
    for behind in [1, 2, 5, 60] {
        assert_eq!(ledger.forget_old(noon(TODAY - behind), 365, 100).await.unwrap(), 0, "{behind} days behind");
    }
    assert_eq!(ago(&ledger, nth(3), TODAY - 5).await, None, "it counts for nothing until its day");
    assert_eq!(ago(&ledger, nth(3), TODAY).await, Some(0));
    assert_eq!(ledger.forget_old(noon(TODAY - 60), 365, 2).await.unwrap(), 2);
    let left = of_days(&ledger).await;
    assert_eq!((left.get(&(TODAY - 300)), left.values().sum::<i64>()), (Some(&1), 2), "{left:?}");
}

#[tokio::test]
async fn what_is_too_much_by_one_makes_room_for_more_than_one() {
    let (_dir, ledger) = ledger().await;
    valid(&ledger, (0..201).map(|n| (nth(n), TODAY - n))).await;
    assert_eq!(ledger.forget_old(noon(TODAY), 365, 200).await.unwrap(), 5);
    assert_eq!(ledger.forget_old(noon(TODAY), 365, 200).await.unwrap(), 0);
    assert_eq!(of_days(&ledger).await.keys().next(), Some(&(TODAY - 195)));
}

#[tokio::test]
async fn a_row_and_what_it_shows_of_its_sender_are_written_together_or_not_at_all() {
    let (_dir, ledger) = ledger().await;
    let known = KnownSender::new(nth(1), noon(TODAY));
    let broken = "CREATE TRIGGER broken BEFORE INSERT ON known BEGIN SELECT RAISE(ABORT, 'broken'); END";
    ledger.0.run(broken).await.unwrap();
    assert!(ledger.append(vec![row(known)]).await.is_err());
    assert!(ledger.journal(9).await.unwrap().is_empty() && !ledger.is_noted(known));
    ledger.0.run("DROP TRIGGER broken").await.unwrap();
    ledger.append(vec![row(known)]).await.unwrap();
    assert_eq!((ledger.journal(9).await.unwrap().len(), ago(&ledger, nth(1), TODAY).await), (1, Some(0)));
}

#[tokio::test]
async fn a_sender_is_written_down_once_a_day_by_one_process_and_each_process_sees_it() {
    let (dir, ledger) = ledger().await;
    let known = |n, day| KnownSender::new(nth(n), noon(day));
    assert!(!ledger.is_noted(known(1, TODAY)));
    valid(&ledger, [(nth(1), TODAY)]).await;
    assert!(ledger.is_noted(known(1, TODAY)));
    assert!(!ledger.is_noted(known(2, TODAY)) && !ledger.is_noted(known(1, TODAY + 1)));
    let other = Ledger::open(dir.path(), OPENING).await.unwrap();
    assert_eq!((other.is_noted(known(1, TODAY)), ago(&other, nth(1), TODAY).await), (false, Some(0)));
    valid(&other, [(nth(1), TODAY + 1), (nth(2), TODAY + 1)]).await;
    assert_eq!(ago(&ledger, nth(1), TODAY + 1).await, Some(0));
    valid(&ledger, [(nth(3), TODAY + 1)]).await;
    assert!(ledger.is_noted(known(3, TODAY + 1)) && !ledger.is_noted(known(1, TODAY)), "yesterday's are of no use");
    assert_eq!(of_days(&ledger).await, [(TODAY + 1, 3)].into());
}

#[tokio::test]
async fn what_was_noted_in_another_file_is_noted_again() {
    let (dir, ledger) = ledger().await;
    let known = KnownSender::new(nth(1), noon(TODAY));
    valid(&ledger, [(nth(1), TODAY)]).await;
    let elsewhere = tempfile::tempdir().unwrap();
    let restored = Ledger::open(elsewhere.path(), OPENING).await.unwrap();
    restored.append(vec![Arc::new(NewRow::again(Entry::default(), noon(TODAY)))]).await.unwrap();
    restored.close().await;
    std::fs::rename(elsewhere.path().join("filter.db"), dir.path().join("filter.db")).unwrap();
    let begin = std::time::Instant::now();
    while let Err(e) = ledger.append(vec![Arc::new(NewRow::again(Entry::default(), noon(TODAY)))]).await {
        assert!(begin.elapsed() < Duration::from_secs(60), "{e}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(!ledger.is_noted(known));
    assert_eq!(ago(&ledger, nth(1), TODAY).await, None);
}

#[tokio::test]
async fn senders_are_forgotten_after_their_time_by_name_and_the_oldest_where_there_are_too_many() {
    let (_dir, ledger) = ledger().await;
    // Day by day: one of 400 days ago, 2 of 365, 3 of 10, 4 of today.
    let days = [(400, 1), (365, 2), (10, 3), (0, 4)];
    let senders = days.into_iter().flat_map(|(ago, count)| (0..count).map(move |n| (nth(ago * 10 + n), TODAY - ago)));
    valid(&ledger, senders).await;
    assert_eq!(ledger.forget_old(noon(TODAY), 365, 100).await.unwrap(), 1);
    assert_eq!(ledger.forget_old(noon(TODAY), 365, 9).await.unwrap(), 0);
    assert_eq!((ago(&ledger, nth(4_000), TODAY).await, ago(&ledger, nth(3_651), TODAY).await), (None, Some(365)));
    assert_eq!((ledger.forget(nth(101)).await.unwrap(), ledger.forget(nth(101)).await.unwrap()), (true, false));
    assert_eq!(ledger.forget_old(noon(TODAY), 365, 5).await.unwrap(), 3);
    assert_eq!(of_days(&ledger).await, [(TODAY - 10, 1), (TODAY, 4)].into());
    assert_eq!(ledger.forget_old(noon(TODAY), 365, 2).await.unwrap(), 3, "a day that is too large is cut");
    assert_eq!(of_days(&ledger).await, [(TODAY, 2)].into());
    assert_eq!(ledger.forget_old(noon(TODAY + 365), 365, 2).await.unwrap(), 0);
    assert_eq!(ledger.forget_old(noon(TODAY + 366), 365, 2).await.unwrap(), 2);
    valid(&ledger, [(nth(1), TODAY)]).await;
    assert_eq!(ledger.forget_old(noon(TODAY), 0, 2).await.unwrap(), 1, "who keeps nothing keeps today neither");
    assert_eq!(of_days(&ledger).await, BTreeMap::new());
    let left: i64 = ledger.0.read(|work| work.one("SELECT count(*) FROM known_days", ())).unwrap();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn many_senders_are_forgotten_page_by_page() {
    let (_dir, ledger) = ledger().await;
    let all = i64::from(PAGE) * 2 + 100;
    let written = ledger.0.write(move |work| {
        work.run(
            "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?1)
             INSERT INTO known SELECT n * 7919 - 400000000, 20000 - n % 2 FROM n",
            [all],
        )
    });
    written.await.unwrap();
    assert_eq!(ledger.forget_old(noon(TODAY), 0, 0).await.unwrap(), all as u64);
    assert_eq!(of_days(&ledger).await, BTreeMap::new());
}

#[tokio::test]
async fn a_database_of_the_version_before_keeps_its_rows_and_remembers_from_now_on() {
    let dir = tempfile::tempdir().unwrap();
    let before = Plan { steps: &plan::FILTER.steps[..4], ..plan::FILTER };
    let old = Database::open(dir.path(), before, OPENING).await.unwrap();
    old.run("INSERT INTO journal (at, result, verdict, entry) VALUES (5, 'valid', 'accept', '{}')").await.unwrap();
    old.close().await;
    let ledger = Ledger::open(dir.path(), OPENING).await.unwrap();
    assert_eq!((ledger.journal(9).await.unwrap().len(), ago(&ledger, nth(1), TODAY).await), (1, None));
    valid(&ledger, [(nth(1), TODAY)]).await;
    assert_eq!((ledger.journal(9).await.unwrap().len(), ago(&ledger, nth(1), TODAY).await), (2, Some(0)));
}

#[tokio::test]
async fn no_address_stands_in_the_table() {
    let (dir, ledger) = ledger().await;
    valid(&ledger, [(sender("alice@secret.example"), TODAY)]).await;
    ledger.close().await;
    for file in std::fs::read_dir(dir.path()).unwrap() {
        let octets = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!octets.windows(14).any(|some| some == b"secret.example"));
    }
}
