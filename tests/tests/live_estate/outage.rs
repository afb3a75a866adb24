//! PostgreSQL dies under a load of submissions and key mails, and comes again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::*;

/// Clients that submit at once.
const CLIENTS: usize = 3;

/// Submits numbered messages until told to stop, each until it is taken; the Subjects of all.
fn client(estate: &Estate, number: usize, stop: &AtomicBool) -> (Vec<String>, usize) {
    let (mut taken, mut deferred) = (Vec::new(), 0);
    while !stop.load(Ordering::SeqCst) {
        let subject = format!("load-{number}-{}", taken.len());
        let text = message(ALICE, &subject, "");
        loop {
            let reply = estate.submit(ALICE, &[BOB], &text);
            match reply.code {
                250 => break,
                400..500 => deferred += 1,
                _ => panic!("{reply:?}"),
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        taken.push(subject);
        std::thread::sleep(Duration::from_millis(30));
    }
    (taken, deferred)
}

/// Has keys made for carol and mallory in turn, each command until it succeeds; the fingerprints of all that it told of.
fn rotations(estate: &Estate, stop: &AtomicBool) -> Vec<(&'static str, String)> {
    let mut made = Vec::new();
    while !stop.load(Ordering::SeqCst) && made.len() < 8 {
        // Ends are told in whole seconds: two keys of one moment are not told apart by them.
        std::thread::sleep(Duration::from_secs(2));
        for address in [CAROL, MALLORY] {
            let said = estate.wait_for("a key is made", || {
                let out = estate.addrauth(Role::Authority, &["--json", "key", "rotate", address]);
                out.status.success().then_some(out.stdout)
            });
            let said: Value = serde_json::from_slice(&said).unwrap();
            made.push((address, said["fingerprint"].as_str().unwrap().to_owned()));
        }
    }
    made
}

#[test]
fn postgresql_killed_and_restarted_under_load_loses_no_mail_and_no_key_and_all_goes_on_by_itself() {
    if std::env::var_os("ADDRAUTH_LIVE").is_none() {
        return;
    }
    let cluster = Arc::new(Postgres::start().expect("PostgreSQL"));
    let shared = Shared::Database(cluster.clone());
    let estate = Estate::start(Settings { shared, ..Settings::default() }).unwrap();
    let key = enlist(&estate, ALICE);
    let others = [enlist(&estate, CAROL), enlist(&estate, MALLORY)];
    let stop = AtomicBool::new(false);
    let (sent, made, deferred) = std::thread::scope(|scope| {
        let (estate, stop) = (&estate, &stop);
        let clients: Vec<_> = (0..CLIENTS).map(|number| scope.spawn(move || client(estate, number, stop))).collect();
        let keys = scope.spawn(move || rotations(estate, stop));
        std::thread::sleep(Duration::from_secs(3));
        cluster.kill();
        std::thread::sleep(Duration::from_secs(4));
        cluster.restart();
        std::thread::sleep(Duration::from_secs(6));
        stop.store(true, Ordering::SeqCst);
        let made = keys.join().unwrap();
        let results: Vec<_> = clients.into_iter().map(|client| client.join().unwrap()).collect();
        let deferred: usize = results.iter().map(|(_, deferred)| deferred).sum();
        (results.into_iter().flat_map(|(taken, _)| taken).collect::<Vec<_>>(), made, deferred)
    });
    println!("{} messages taken, {deferred} times one was put off; {} keys made", sent.len(), made.len());
    assert!(deferred > 0, "the outage was not felt");
    for site in [estate.submission(), &estate.mx, &estate.far] {
        site.until_it_is_empty();
    }
    each_arrived_once_with_its_stamp(&estate, &sent);
    every_key_was_brought(&estate, &made);
    let last = [estate.key_of(CAROL).unwrap(), estate.key_of(MALLORY).unwrap()];
    assert_ne!(last, others);
    assert_nowhere(&estate, &[&key, &others[0], &others[1], &last[0], &last[1]]);
}

fn each_arrived_once_with_its_stamp(estate: &Estate, sent: &[String]) {
    let got = estate.far.mailbox(BOB);
    assert_eq!(got.len(), sent.len(), "lost, or delivered twice");
    for subject in sent {
        let line = format!("\nSubject: {subject}\n");
        let copies: Vec<_> = got.iter().filter(|text| text.contains(&line)).collect();
        let [copy] = copies[..] else { panic!("{} copies of {subject}", copies.len()) };
        // What was not stamped was not sent; while the AS could not read its table, it could not be asked.
        let status = fields(copy, "X-Auth-Key-Status");
        let word = status[0].split(';').next().unwrap();
        assert!(["VALIDKEY", "UNVERIFIED"].contains(&word), "{copy}");
    }
}

/// No key that the AS told of is still owed, and the last one of each address is in the keyring.
fn every_key_was_brought(estate: &Estate, made: &[(&str, String)]) {
    for address in [CAROL, MALLORY] {
        let of_address: Vec<&String> =
            made.iter().filter(|(whose, _)| *whose == address).map(|(_, print)| print).collect();
        let last = of_address.last().expect("keys were made for both");
        estate.wait_for(&format!("the last key of {address} in the keyring"), || {
            estate.says(Role::Submission, &["keyring", "list"]).contains(last.as_str()).then_some(())
        });
        estate.wait_for(&format!("nothing is owed to {address}"), || {
            let table = estate.says(Role::Authority, &["key", "show", address]);
            let row = |print: &&String| table.lines().find(|line| line.contains(print.as_str())).map(String::from);
            let rows: Vec<String> = of_address.iter().filter_map(row).collect();
            assert_eq!(rows.len(), of_address.len(), "a key that was told of is gone:\n{table}");
            rows.iter().all(|row| row.trim_end().ends_with("sent")).then_some(())
        });
    }
}

#[test]
fn a_key_mail_that_comes_while_the_filter_is_down_is_put_off_and_learned_later() {
    let Some(mut estate) = apart(Settings::default()) else { return };
    let first = enlist(&estate, ALICE);
    estate.at(60);
    estate.end(Role::Mx);
    estate.says(Role::Authority, &["key", "rotate", ALICE]);
    estate.mx.logged("connect to Milter service inet:127.0.0.1");
    submit(&estate, ALICE, &[BOB], &message(ALICE, "meanwhile", ""));
    assert_status(&estate.far.delivered(BOB, "meanwhile"), "VALIDKEY");
    estate.kill(Role::Authority);
    estate.run(Role::Authority);
    estate.run(Role::Mx);
    estate.at(3_600);
    let second = estate.wait_for("the second key in the keyring", || estate.key_of(ALICE).filter(|key| *key != first));
    assert_eq!(estate.mx.mailbox(ALICE), [""; 0]);
    submit(&estate, ALICE, &[SINK], &message(ALICE, "stamped", ""));
    assert_eq!(fields(&estate.far.delivered(SINK, "stamped"), "X-Auth-Key"), [&second]);
    estate.far.empty(SINK);
    assert_nowhere(&estate, &[&first, &second]);
}

/// The worst kind of outage: connections stay open, and nobody answers.
#[test]
fn while_postgresql_hangs_mail_is_put_off_in_time_and_all_goes_on_when_it_wakes() {
    if std::env::var_os("ADDRAUTH_LIVE").is_none() {
        return;
    }
    let cluster = Arc::new(Postgres::start().expect("PostgreSQL"));
    let shared = Shared::Database(cluster.clone());
    let estate = Estate::start(Settings { shared, ..Settings::default() }).unwrap();
    let key = enlist(&estate, ALICE);
    cluster.freeze(true);
    let begin = Instant::now();
    let reply = estate.submit(ALICE, &[BOB], &message(ALICE, "asleep", ""));
    let took = begin.elapsed();
    assert_eq!(reply.code, 451, "{reply:?}");
    assert!(took < Duration::from_secs(20), "Postfix waits 30 s for a milter, and this took {took:?}");
    // Nothing is known of what comes to bob meanwhile, and it is delivered as that.
    let text = message(ALICE, "unknown", &format!("X-Auth-Key: {key}\r\n"));
    assert_eq!(estate.to_far(ALICE, &[BOB], &text).code, 250);
    assert_status(&estate.far.delivered(BOB, "unknown"), "UNVERIFIED");
    // What needs no key goes its way: from outside to alice, and between colleagues.
    submit(&estate, ALICE, &[CAROL], &message(ALICE, "to-carol", ""));
    assert_status(&estate.mx.delivered(CAROL, "to-carol"), "VALIDKEY");
    cluster.freeze(false);
    // Beyond the seconds for which bob's server remembers that it got no answer.
    estate.at(60);
    estate.wait_for("mail is taken again", || {
        (estate.submit(ALICE, &[BOB], &message(ALICE, "awake", "")).code == 250).then_some(())
    });
    assert_status(&estate.far.delivered(BOB, "awake"), "VALIDKEY");
    let second = rotate(&estate, ALICE);
    assert_nowhere(&estate, &[&key, &second]);
}
