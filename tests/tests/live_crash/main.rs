//! The filter killed again and again, and its policies swapped, under a steady stream of mail through a real Postfix.

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
    let _ = LOG_LEVEL.set("info");
    let (seed, kills) = (seed(), rounds("ADDRAUTH_KILLS", 20, 200));
    let mut rig = Rig::start_with_settings(bed, Kind::Chroot, wishes);
    let (key, domain) = (rig.key.clone(), rig.door.domain.clone());
    let at = (rig.door.port, rig.door.domain.as_str());
    let load = Load::start(at, 6, Duration::from_millis(25), move |number| letter(seed, number, &key, &domain));
    let mut chance = Chance::new(seed);
    for _ in 0..kills {
        std::thread::sleep(Duration::from_millis(u64::try_from(chance.below(900)).unwrap()));
        rig.filter.take().unwrap().kill();
        rig.start_filter();
    }
    let begin = Instant::now();
    let enough = load.decided() + 40;
    while load.decided() < enough && begin.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(50));
    }
    let sent = load.finish();
    let again: usize = sent.iter().map(|sent| sent.replies.len() - 1).sum();
    println!("{} messages, {again} times put off, {kills} kills", sent.len());
    assert!(again >= kills / 4, "the kills hit no message: {again} of {kills}");

    drop(rig.filter.take());
    let account = Account::close(bed, &rig, sent);
    println!("{}", account.summary());
    let faults = account.faults(kills);
    assert!(faults.is_empty(), "seed {seed}: {} faults\n{}", faults.len(), faults[..faults.len().min(20)].join("\n"));
    account.assert_that_all_happened();
}
