//! The filter killed again and again, and its policies swapped, under a steady stream of mail through a real Postfix.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use addrauth_tests::daemon::{LOG_LEVEL, Rig, component};
use addrauth_tests::load::{Chance, Letter, Load, rounds, seed};
use addrauth_tests::postfix::{Bed, Door, Kind};

mod account;

use account::Account;

/// Two keys inside the grammar that no AS has issued.
const WRONG: [&str; 2] = [
    "WRONGkeyWRONGkeyWRONGkeyWRONGkeyWRONGkeyWRONGkeyWRONGkeyWRONGkey",
    "OTHERkeyOTHERkeyOTHERkeyOTHERkeyOTHERkeyOTHERkeyOTHERkeyOTHERkey",
];

/// One of the tests at a time: at its end each waits until Postfix has nothing more to do.
static TURN: Mutex<()> = Mutex::new(());

/// Everybody wants something else: bob takes all, carol wants silence, dave wants both told, erin wants to be told herself,
/// frank's mail is kept back, grace's is marked.
fn wishes(door: &Door) -> [String; 2] {
    let top = format!("trusted_authserv_ids = [\"mx.{}\"]", door.domain);
    let mut policy = "invalid = \"accept\"\nunusable = \"accept\"\nquarantine = \"store\"\n".to_owned();
    for (user, both, silent) in [
        ("carol", None, Some("reject-silently")),
        ("dave", Some("reject-notify-both"), None),
        ("erin", Some("reject-notify-recipient"), None),
        ("frank", Some("quarantine"), None),
        ("grace", Some("mark"), None),
    ] {
        policy += &format!("[policy.recipient.\"{}\"]\n", door.address(user));
        policy += &both.map_or(String::new(), |id| format!("unusable = {id:?}\n"));
        policy += &silent.map_or(String::new(), |id| format!("invalid = {id:?}\n"));
    }
    [top, policy]
}

/// The message of this number, chosen by seed and number alone: a right key, none, a wrong one (rarely, since the filter asks
/// an AS for no more than ten denials a second), or two that differ, which is what most wishes are about.
fn letter(seed: u64, number: usize, key: &str, domain: &str) -> Letter {
    let mut chance = Chance::new(seed.wrapping_add(u64::try_from(number).unwrap() << 20));
    let kind = chance.pick(&["right", "none", "wrong", "two", "two", "two", "two", "two"]);
    let users = match kind {
        "wrong" => vec!["bob", "carol"],
        _ => chance.some(&["bob", "carol", "dave", "erin", "frank", "grace"], 4),
    };
    let from = format!("m{number}@send.test");
    let (sender, keys) = match kind {
        "right" => ("alice@send.test", vec![key]),
        "none" => (from.as_str(), vec![]),
        "wrong" => (from.as_str(), vec![WRONG[0]]),
        _ => (from.as_str(), WRONG.to_vec()),
    };
    let keys: String = keys.iter().map(|key| format!("X-Auth-Key: {key}\r\n")).collect();
    // As a milter before ours would have written it: so a report may go to the sender.
    let spf = format!("Authentication-Results: mx.{domain}; spf=pass smtp.mailfrom=send.test\r\n");
    let octets = format!(
        "{spf}{keys}From: {sender}\r\nSubject: load {number}\r\nMessage-ID: <{number}@client.test>\r\n\r\n{}\r\n",
        "A line of text, as mail has it.\r\n".repeat(chance.below(40))
    );
    Letter { number, kind, from, users, octets: octets.into_bytes() }
}

/// What is allowed, and nothing else: [`Account::faults`].
#[test]
fn kill_9_under_load_loses_nothing_and_delivers_nothing_twice() {
    let Some(bed) = Bed::shared() else { return };
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = LOG_LEVEL.set("info");
    let (seed, kills) = (seed(), rounds("ADDRAUTH_KILLS", 20, 200));
    let mut rig = Rig::start_with_settings(bed, Kind::Chroot, &[], wishes);
    let (key, domain) = (rig.key.clone(), rig.door.domain.clone());
    let at = (rig.door.port, rig.door.domain.as_str());
    let load = Load::start(at, 10, Duration::from_millis(60), move |number| letter(seed, number, &key, &domain));
    let mut chance = Chance::new(seed);
    for _ in 0..kills {
        std::thread::sleep(Duration::from_millis(u64::try_from(chance.below(900)).unwrap()));
        rig.filter.take().unwrap().kill();
        rig.start_filter();
    }
    let begin = Instant::now();
    let enough = load.decided() + 40;
    while load.decided() < enough && begin.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(50));
    }
    let sent = load.finish();
    let again: usize = sent.iter().map(|sent| sent.replies.len() - 1).sum();
    let cut_off: usize = sent.iter().map(|sent| sent.cut_off).sum();
    println!("{kills} kills, {} messages, {again} times put off, {cut_off} of them after the last octet", sent.len());
    assert!(cut_off >= kills / 20, "the kills hit no message at its end");

    drop(rig.filter.take());
    let begin = Instant::now();
    let account = Account::close(bed, &rig, sent);
    println!("{}; the rest was sent in {:?}", account.summary(), begin.elapsed());
    // INVARIANTS §3.5: of the rows that may wait, those of half a second. Ten clients take a breath of 60 ms after each message.
    let without = account.without_a_row();
    println!("{without} messages have no row");
    assert!(without <= kills * 100, "seed {seed}: {without} messages have no row after {kills} kills");
    let faults = account.faults(kills);
    assert!(faults.is_empty(), "seed {seed}: {} faults\n{}", faults.len(), faults[..faults.len().min(20)].join("\n"));
    account.assert_that_all_happened();
}

/// The components that are swapped for one another.
const VERSIONS: [&str; 3] = ["accept", "mark", "reject-notify-sender"];

/// bob and carol have a policy each, and both are replaced by the same version at once: a message that saw two versions would
/// be decided in two ways. The reply, what is delivered, and the digests in the journal say which version it was.
#[test]
fn l_each_message_is_decided_by_exactly_one_version_while_versions_are_swapped() {
    let Some(bed) = Bed::shared() else { return };
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = LOG_LEVEL.set("info");
    let swaps = rounds("ADDRAUTH_SWAPS", 20, 1_000);
    let first = ["bob.wasm", "carol.wasm"].map(|name| (name, component(VERSIONS[0])));
    let mut rig = Rig::start_with_settings(bed, Kind::Chroot, &first, |door| {
        let policies = ["bob", "carol"].map(|user| format!("[policies.{user}]\nmodule = \"{user}.wasm\"\n")).concat();
        let carol = door.address("carol");
        [String::new(), format!("valid = \"bob\"\n[policy.recipient.{carol:?}]\nvalid = \"carol\"\n{policies}")]
    });
    let key = rig.key.clone();
    let at = (rig.door.port, rig.door.domain.as_str());
    let load = Load::start(at, 4, Duration::from_millis(5), move |number| valid_for_two(number, &key));
    for swap in 1..=swaps {
        swap_to(&rig, VERSIONS[swap % VERSIONS.len()]);
    }
    let sent = load.finish();
    drop(rig.filter.take());
    let account = Account::close(bed, &rig, sent);
    let (faults, seen) = account.faults_of_versions();
    println!("{swaps} swaps, messages by version: {seen:?}");
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults[..faults.len().min(20)].join("\n"));
    assert_eq!(seen.len(), VERSIONS.len(), "{seen:?}");
}

/// A message with alice's key to bob and carol.
fn valid_for_two(number: usize, key: &str) -> Letter {
    let octets = format!("X-Auth-Key: {key}\r\nFrom: alice@send.test\r\nSubject: load {number}\r\n\r\ntext\r\n");
    let (from, users) = (format!("m{number}@send.test"), vec!["bob", "carol"]);
    Letter { number, kind: "right", from, users, octets: octets.into_bytes() }
}

/// Replaces both components by this one, and waits until the filter has taken them.
fn swap_to(rig: &Rig, version: &str) {
    let filter = rig.filter.as_ref().unwrap();
    let before = filter.log_length();
    for name in ["bob.wasm", "carol.wasm"] {
        rig.put_component(name, &component(version));
    }
    filter.signal("HUP");
    let begin = Instant::now();
    while !filter.log_beyond(before).contains(" reloaded: ") {
        assert!(begin.elapsed() < Duration::from_secs(60), "no reload: {}", filter.log_beyond(before));
        std::thread::sleep(Duration::from_millis(10));
    }
}
