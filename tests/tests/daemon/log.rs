//! Whoever reads the log, or does not, no message waits for him or loses its answer.

use std::fs;
use std::io::{Read as _, Write as _};
use std::process::Stdio;

use addrauth_lab::mta::Fate;

use crate::bed::{Bed, Running, until};

/// Under quarantine: one copy, one answer, and an end in time.
async fn messages_are_kept_once(name: &str, stderr: impl Into<Stdio>) {
    let bed = Bed::new();
    let mut command = bed.command(&["filter"]);
    // As talkative as may be, so that lines come between the commit and the answer, too.
    command.env("ADDRAUTH_LOG", "info,addrauth=trace,sqlx=trace").stdout(Stdio::null()).stderr(stderr);
    let mut filter = Running::spawn(command);
    bed.until_it_listens();
    let ids: Vec<String> = (0..5).map(|number| format!("4Q{number}")).collect();
    for id in &ids {
        assert_eq!(bed.send(id).await, Fate::Discarded, "{name}: {id}");
    }
    assert!(filter.is_alive(), "{name}");
    assert_eq!(bed.kept(), ids, "{name}");
    filter.signal("HUP");
    assert_eq!(bed.send("4Q9").await, Fate::Discarded, "{name}");
    filter.signal("TERM");
    assert_eq!(filter.end().code(), Some(0), "{name}");
}

#[tokio::test]
async fn a_dead_reader_of_the_log_stops_nothing_and_repeats_nothing() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    messages_are_kept_once("dead", writer).await;
}

#[tokio::test]
async fn a_full_disk_under_the_log_stops_nothing_and_repeats_nothing() {
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    messages_are_kept_once("full", full).await;
}

#[tokio::test]
async fn a_reader_of_the_log_that_stands_still_stops_nothing_and_repeats_nothing() {
    let (_reader, mut writer) = std::io::pipe().unwrap();
    let theirs = writer.try_clone().unwrap();
    // More than a pipe holds: from here on it is full.
    std::thread::spawn(move || while writer.write_all(&[b'x'; 4_096]).is_ok() {});
    std::thread::sleep(std::time::Duration::from_millis(200));
    messages_are_kept_once("standing", theirs).await;
}

#[tokio::test]
async fn lines_that_a_standing_reader_lost_are_told_of_once_he_goes_on() {
    let bed = Bed::new();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut command = bed.command(&["filter"]);
    // The compiler of components says more than may wait.
    command.env("ADDRAUTH_LOG", "trace").stdout(Stdio::null()).stderr(writer);
    let mut filter = Running::spawn(command);
    bed.until_it_listens();
    let (heard, hear) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut octets = [0; 65_536];
        while let Ok(count @ 1..) = reader.read(&mut octets) {
            heard.send(octets[..count].to_vec()).unwrap();
        }
    });
    let mut all = Vec::new();
    let told = |all: &[u8]| String::from_utf8_lossy(all).contains("log lines are lost");
    until(
        "word of lost lines",
        || {
            all.extend(hear.try_iter().flatten());
            told(&all)
        },
        || "nothing is told".into(),
    );
    let text = String::from_utf8_lossy(&all).into_owned();
    let line = text.lines().find(|line| line.contains("log lines are lost")).unwrap();
    let lost: u64 = line.split_once("lines=").unwrap().1.split_whitespace().next().unwrap().parse().unwrap();
    assert!(lost > 0, "{line}");
    assert!(line.contains("ERROR"), "{line}");
    filter.signal("TERM");
    assert_eq!(filter.end().code(), Some(0));
}

#[test]
fn a_daemon_that_cannot_start_says_why_in_the_usual_words() {
    let bed = Bed::new();
    bed.write("nonsense = 1\n");
    for verb in ["filter", "authority"] {
        let (code, out, err) = bed.run(&[verb]);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{err}");
        assert!(err.starts_with("addrauth") && err.contains("nonsense"), "{err}");
    }
}

#[test]
fn a_level_that_is_empty_or_wrong_is_told() {
    let bed = Bed::new();
    for (level, told) in [("", true), ("verbose", true), ("warn", false), ("addrauth=debug", false)] {
        let mut command = bed.command(&["config", "check"]);
        command.env("ADDRAUTH_LOG", level);
        let (code, _, err) = crate::bed::ended(command);
        assert_eq!((code, err.contains("ADDRAUTH_LOG")), (Some(0), told), "{level:?}: {err}");
    }
}
