//! Components change under a running filter: by a signal, or by themselves (`policy.watch`).

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use addrauth_lab::mta::Fate;
use addrauth_tests::daemon::component;
use sha2::{Digest as _, Sha256};

use crate::bed::{Bed, PATIENCE, until};

/// Puts a file in its place, whole at once.
pub fn put(path: &Path, octets: &[u8]) {
    let fresh = path.with_extension("fresh");
    fs::write(&fresh, octets).unwrap();
    fs::rename(fresh, path).unwrap();
}

/// A component's SHA-256, as hexadecimal digits.
pub fn digest(octets: &[u8]) -> String {
    Sha256::digest(octets).iter().map(|octet| format!("{octet:02x}")).collect()
}

/// Sends messages until one has this fate.
async fn until_fate(bed: &Bed, fate: &Fate) {
    let begin = Instant::now();
    for number in 0.. {
        if bed.send(&format!("4W{number:03}")).await == *fate {
            return;
        }
        assert!(begin.elapsed() < PATIENCE, "never {fate:?}\n{}", bed.log());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn changed_components_are_taken_without_a_signal_and_bad_ones_leave_the_old_in_force() {
    let bed = Bed::new();
    let (file, cases) = (bed.path("policies").join("ours.wasm"), bed.path("policies").join("ours.cases.toml"));
    put(&file, &component("accept"));
    let text = bed.text().replace("unusable = \"quarantine\"", "watch = true\nunusable = \"ours\"");
    bed.write(&text);
    let mut filter = bed.filter();
    bed.until_it_listens();
    assert_eq!(bed.send("4W00").await, Fate::Delivered);
    put(&file, &component("quarantine"));
    until_fate(&bed, &Fate::Discarded).await;

    // A component that is broken, one whose cases fail, and one that is gone.
    let case = "[[case]]\nname = \"never let through\"\nfacts = { status = \"unusable\" }\n\
                expect = { disposition = \"quarantine\" }\n";
    let put_accept = || {
        fs::write(&cases, case).unwrap();
        put(&file, &component("accept"));
    };
    type Change<'a> = (&'a str, &'a dyn Fn());
    let changes: [Change<'_>; 3] = [
        ("ours.wasm", &|| put(&file, b"\0asm broken")),
        ("ours.cases.toml:4", &put_accept),
        ("ours.wasm is gone", &|| fs::remove_file(&file).unwrap()),
    ];
    for (words, change) in changes {
        let said = bed.log().len();
        change();
        let refused = || bed.log()[said..].lines().any(|line| line.contains("not reloaded") && line.contains(words));
        until(words, refused, || bed.log());
        assert_eq!(bed.send("4W01").await, Fate::Discarded, "{words}");
    }
    assert!(bed.log().contains("never let through"), "the case is named: {}", bed.log());

    // The configuration is not looked at: an editor has saved half of it.
    bed.write("final_domains = [\n");
    fs::remove_file(&cases).unwrap();
    put(&file, &component("accept"));
    until_fate(&bed, &Fate::Delivered).await;
    assert!(filter.is_alive());
}

#[tokio::test]
async fn every_message_during_swaps_is_decided_by_exactly_one_version() {
    let bed = Bed::new();
    let file = bed.path("policies").join("ours.wasm");
    let versions = [component("accept"), component("quarantine")];
    put(&file, &versions[0]);
    bed.write(&bed.text().replace("unusable = \"quarantine\"", "unusable = \"ours\""));
    let filter = bed.filter();
    bed.until_it_listens();
    let swapping = async {
        for number in 1..=6 {
            put(&file, &versions[number % 2]);
            filter.signal("HUP");
            let done =
                || bed.log().lines().filter(|line| line.contains("reloaded: the next message")).count() >= number;
            while !done() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    };
    let stop = std::cell::Cell::new(false);
    let sending = |client: usize| {
        let (bed, stop) = (&bed, &stop);
        async move {
            let mut fates = Vec::new();
            while !stop.get() {
                let id = format!("4S{client}{:04X}", fates.len());
                fates.push((id.clone(), bed.send(&id).await));
            }
            fates
        }
    };
    let swapped = async {
        swapping.await;
        stop.set(true);
    };
    let ((), one, other) = tokio::join!(swapped, sending(1), sending(2));
    let fates: BTreeMap<String, Fate> = one.into_iter().chain(other).collect();
    let rows = journal(&bed, fates.len());
    let known: BTreeMap<String, &str> = [(digest(&versions[0]), "accept"), (digest(&versions[1]), "quarantine")].into();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for row in &rows {
        let decisions = row["case"]["decisions"].as_array().unwrap();
        assert_eq!(decisions.len(), 1, "{row}");
        let by = known[decisions[0]["digest"].as_str().unwrap()];
        assert_eq!(decisions[0]["disposition"], by, "{row}");
        let fate = &fates[row["queue_id"].as_str().unwrap()];
        assert_eq!(*fate, if by == "accept" { Fate::Delivered } else { Fate::Discarded }, "{row}");
        *counts.entry(by).or_default() += 1;
    }
    println!("{} messages during 6 swaps: {counts:?}", rows.len());
    assert_eq!(counts.len(), 2, "both versions decided some: {counts:?}");
}

/// The rows of the journal, once there are so many; a row for each message.
pub fn journal(bed: &Bed, count: usize) -> Vec<serde_json::Value> {
    let begin = Instant::now();
    loop {
        let (code, out, err) = bed.run(&["journal", "list", "--json", "--last", "0"]);
        assert!(matches!(code, Some(0 | 1)), "{out}{err}");
        let rows: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        if rows.len() >= count {
            assert_eq!(rows.len(), count);
            return rows;
        }
        assert!(begin.elapsed() < PATIENCE, "{} rows of {count}", rows.len());
        std::thread::sleep(Duration::from_millis(100));
    }
}
