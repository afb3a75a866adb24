//! Every saved input of the fuzz targets, and thousands of mutated copies, through what must hold for any octets.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use addrauth_tests::fuzz::TARGETS;

/// Mutated copies of each saved input.
const COPIES: u64 = 2_000;
/// The same of those that go through a whole door.
const COPIES_TO_A_DOOR: u64 = 300;
/// Octets that grammars care about.
const TELLING: &[u8] = b"\0\r\n\t :;.@<>()\",=%-\x7f\x80\xff";

fn fuzz(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(folder)
}

fn listed(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn stems(folder: &str) -> BTreeSet<String> {
    listed(&fuzz(folder)).iter().map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

/// A small generator of numbers (xorshift64): the same copies in every run.
struct Dice(u64);

impl Dice {
    /// A number below `bound`, which is not 0.
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap() % bound
    }
}

/// A copy of `octets` with one to four changes, some of them pieces of `other`.
fn mutated(octets: &[u8], other: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut copy = octets.to_vec();
    for _ in 0..=dice.below(4) {
        let at = dice.below(copy.len() + 1);
        let to = at + dice.below(copy.len() - at + 1).min(40);
        match dice.below(6) {
            0 => copy.insert(at, TELLING[dice.below(TELLING.len())]),
            1 => drop(copy.drain(at..to)),
            2 => copy.splice(at..at, octets[at.min(octets.len())..to.min(octets.len())].to_vec()).for_each(drop),
            3 if at < copy.len() => copy[at] = TELLING[dice.below(TELLING.len())],
            4 if at < copy.len() => copy[at] ^= 1 << dice.below(8),
            _ => {
                let from = dice.below(other.len() + 1);
                let piece = other[from..(from + 40).min(other.len())].to_vec();
                copy.splice(at..to, piece).for_each(drop);
            }
        }
    }
    copy
}

#[test]
fn every_target_has_its_function_its_file_and_its_corpus() {
    let names: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(stems("fuzz_targets"), names);
    assert_eq!(stems("corpus"), names);
}

#[test]
fn what_must_hold_holds_for_the_saved_corpus_and_for_mutated_copies_of_it() {
    for (name, target) in TARGETS {
        let files = listed(&fuzz("corpus").join(name));
        assert!(!files.is_empty(), "the corpus of {name} is empty");
        let saved: Vec<Vec<u8>> = files.iter().map(|path| fs::read(path).unwrap()).collect();
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
        let is_door = ["draft01_cbor", "draft01_json", "stalwart"].contains(&name);
        let copies = if is_door { COPIES_TO_A_DOOR } else { COPIES };
        for (file, octets) in files.iter().zip(&saved) {
            run(name, target, octets, file);
            for _ in 0..copies {
                let other = &saved[dice.below(saved.len())];
                run(name, target, &mutated(octets, other, &mut dice), file);
            }
        }
    }
}

/// Says what the octets were, where they break something.
fn run(name: &str, target: fn(&[u8]), octets: &[u8], file: &Path) {
    if let Err(panic) = std::panic::catch_unwind(|| target(octets)) {
        eprintln!("{name} fails for these octets, made from {}: {}", file.display(), octets.escape_ascii());
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn the_mutator_changes_what_it_is_given() {
    let mut dice = Dice(1);
    let copies: BTreeSet<Vec<u8>> = (0..100).map(|_| mutated(b"A: b\r\n", b"other", &mut dice)).collect();
    assert!(copies.len() > 50, "{}", copies.len());
    assert!(mutated(b"", b"", &mut dice).len() <= 4);
}
