//! Counts over real messages: which From fields are usable, why the others are not, and what trails they have.
//!
//! `tests/readings` fetches the messages and runs it: `cargo run --example readings -- [--list] FOLDER…`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use addrauth::case::trail::Trail;
use addrauth::case::{Envelope, Field, Head, Mail, ReversePath, Why};
use addrauth::proto::address::Address;
use addrauth::proto::header::{Bounds, scan};

/// Names of files that are messages.
const ENDINGS: [&str; 4] = ["eml", "msg", "txt", "mbox"];

/// How often each thing was seen.
type Counts = BTreeMap<String, usize>;

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        match path.is_dir() {
            true => files(&path, found),
            false if path.extension().is_some_and(|e| ENDINGS.iter().any(|known| e == *known)) => found.push(path),
            false => {}
        }
    }
}

/// A message as the door would tell it; absent where the file begins with no header. Its Return-Path is the reverse-path.
fn mail(octets: &[u8]) -> Option<Mail> {
    let line = octets.iter().position(|octet| *octet == b'\n').map_or(octets.len(), |end| end + 1);
    let octets = if octets.starts_with(b"From ") { &octets[line..] } else { octets };
    let block = scan(octets, Bounds { fields: 1_000, octets: 256 * 1_024 });
    let text = |range: &std::ops::Range<usize>| String::from_utf8_lossy(&octets[range.clone()]).into_owned();
    let fields: Vec<Field> = (block.fields.iter())
        .map(|span| Field { name: text(&span.name), value: octets[span.value.clone()].to_vec() })
        .collect();
    let path = fields.iter().find(|field| field.name.eq_ignore_ascii_case("Return-Path"));
    let path = path.map(|field| String::from_utf8_lossy(&field.value).trim().to_owned());
    let reverse_path = match path.as_deref() {
        Some("<>") => ReversePath::Null,
        Some(path) => ReversePath::Path(Address::parse(path.trim_matches(['<', '>']).as_bytes(), false).ok()),
        None => ReversePath::Path(None),
    };
    (!fields.is_empty())
        .then(|| Mail::new(Envelope { reverse_path, ..Envelope::default() }, Head { fields, ..Head::default() }))
}

fn count(mail: &Mail, list: bool, counts: &mut Counts) {
    let mut one = |what: &str| *counts.entry(what.to_owned()).or_default() += 1;
    one("messages");
    match mail.sender() {
        Ok(_) => one("From usable"),
        Err(why) => {
            one(&format!("From unusable, {}", why.word()));
            let value = mail.named("From").next().map(|field| field.value.escape_ascii().to_string());
            if list && why != Why::NoFrom {
                println!("{}: {}", why.word(), value.unwrap_or_default());
            }
        }
    }
    let trail = Trail::of(mail, 0);
    for (set, mark) in [
        (trail.mailing_list, "mailing-list"),
        (trail.forwarded, "forwarded"),
        (trail.resent, "resent"),
        (trail.automatic, "automatic"),
        (trail.bounce, "bounce"),
        (trail == Trail::default(), "none: direct"),
        (trail.is_bulk(), "(list or automatic: nobody is told)"),
        (trail != Trail::default() && !trail.forwarded, "(some besides forwarded)"),
    ] {
        if set {
            one(&format!("trail {mark}"));
        }
    }
}

fn main() {
    let list = std::env::args().any(|argument| argument == "--list");
    for folder in std::env::args().skip(1).filter(|argument| argument != "--list") {
        let mut found = Vec::new();
        files(Path::new(&folder), &mut found);
        found.sort();
        let mut counts = Counts::new();
        for octets in found.iter().filter_map(|path| std::fs::read(path).ok()) {
            if let Some(mail) = mail(&octets) {
                count(&mail, list, &mut counts);
            }
        }
        println!("{folder}");
        counts.iter().for_each(|(what, count)| println!("{count:>7}  {what}"));
    }
}
