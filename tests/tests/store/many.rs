//! Many addresses: what they cost. `ADDRAUTH_ADDRESSES=1000000` with `--nocapture` prints it for a million.

use std::time::Instant;

use addrauth::store::Added;

use crate::*;

on_each_store! {
    many_addresses_are_enlisted_issued_to_and_asked_about_without_a_burst_of_cost
}

/// How many addresses there are.
fn count() -> usize {
    std::env::var("ADDRAUTH_ADDRESSES").ok().and_then(|count| count.parse().ok()).unwrap_or(5_000)
}

/// Resident memory of this process, in KiB.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

async fn many_addresses_are_enlisted_issued_to_and_asked_about_without_a_burst_of_cost(bed: Bed) {
    let (count, memory_before, disk_before) = (count(), memory(), bed.disk());
    let name = |n: usize| format!("user{n}@example.com");
    let due = |n: usize| i64::try_from(n).unwrap() % 432_000;
    let table = bed.keys().await;
    let begin = Instant::now();
    let rows: Vec<_> = (0..count).map(|n| row(&name(n), None, due(n))).collect();
    assert_eq!(table.enlist(&rows, &mut |_| {}).await.unwrap(), u64::try_from(count).unwrap());
    drop(rows);
    let enlisted = begin.elapsed();

    // As the AS issues: those whose turn has come, 100 at a time, each key with its post.
    let (begin, mut slowest, mut made) = (Instant::now(), Duration::ZERO, 0);
    while made < count.min(20_000) {
        let turn = Instant::now();
        let due = table.due(&domains(), at(432_000), 100).await.unwrap();
        let keys: Vec<_> = due.iter().map(|row| turn_key(&row.address, 432_000, 900_000)).collect();
        let added = table.add_all(&keys, 9).await.unwrap();
        assert!(added.iter().all(|added| *added == Added::Generation(1)), "{added:?}");
        made += added.len();
        slowest = slowest.max(turn.elapsed());
    }
    let issued = begin.elapsed();

    let begin = Instant::now();
    for n in 0..2_000 {
        table.of(&mailbox(&name(n * 7 % count))).await.unwrap();
    }
    let asked = begin.elapsed();
    let begin = Instant::now();
    let other = bed.keys().await;
    other.of(&mailbox(&name(0))).await.unwrap();
    let started = begin.elapsed();
    let begin = Instant::now();
    let found = table.running_out(at(432_001), at(432_002)).await.unwrap();
    assert_eq!(found.addresses, u64::try_from(made).unwrap());
    assert_eq!(table.owing().await.unwrap().waiting, found.addresses);
    let counted = begin.elapsed();

    let per = |octets: u64| octets / u64::try_from(count).unwrap();
    println!(
        "{}: {count} addresses enlisted in {enlisted:.1?}, {} octets each on disk with {made} keys, {} in memory; issued \
         {:.0} keys/s (100 at once, the slowest {slowest:.1?}); read {:.0}/s one after another; another process ready in \
         {started:.1?}; all counted in {counted:.1?}",
        bed.name(),
        per(bed.disk().saturating_sub(disk_before)),
        per(memory().saturating_sub(memory_before) * 1_024),
        f64::from(u32::try_from(made).unwrap()) / issued.as_secs_f64(),
        2_000.0 / asked.as_secs_f64(),
    );
    // Generous, and far below what a scan of the table for each key or question would take.
    assert!(slowest < Duration::from_secs(5), "a batch of 100 keys took {slowest:?}");
    assert!(started < Duration::from_secs(5), "a process took {started:?} to start");
}
