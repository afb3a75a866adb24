//! A flood of forged mail to one recipient, through the real daemon's milter socket: notices are no weapon (attack J1, J4).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use addrauth::config::{Config, Limits, Listen};
use addrauth::custody::Custody;
use addrauth::outbox::Turn;
use addrauth_lab::mailbox::Mailbox;
use addrauth_lab::mta::{Envelope, Fate, Mta};
use addrauth_tests::authority::{Act, Authority};
use addrauth_tests::daemon::{Daemon, LOG_LEVEL};
use addrauth_tests::dns;

/// Keys inside the grammar that no AS has issued.
const WRONG: [&str; 2] = [
    "WRONGkeyWRONGkeyWRONGkeyWRONGkeyWRONGkeyWRONGkeyWRONGkeyWRONGkey",
    "OTHERkeyOTHERkeyOTHERkeyOTHERkeyOTHERkeyOTHERkeyOTHERkeyOTHERkey",
];
/// Connections of the MTA at once.
const CONNECTIONS: usize = 8;
/// One message in so many really comes from this sender's server.
const PROVEN: (usize, &str) = (50, "proven@send.test");
/// bob's mailbox in its spellings.
const BOB: [&str; 4] = ["bob@example.com", "BOB@example.com", "bob+news@example.com", "bob+x@Example.com"];

/// Writes the filter's configuration: bob wants to be told of everything and the sender too, carol takes all.
fn configure(dir: &Path, authority: &Authority, mailbox: &Mailbox) -> PathBuf {
    let told =
        ["invalid", "missing", "unverified", "unusable"].map(|result| format!("{result} = \"reject-notify-both\"\n"));
    let (state, socket, server, notify) = (dir.join("state"), dir.join("milter"), authority.addr, mailbox.address());
    let text = format!(
        "hostname = \"mx.example.com\"\nfinal_domains = [\"example.com\"]\nobserve = false\nstate_dir = {state:?}\n\
         trusted_authserv_ids = [\"mx.example.com\"]\n[milter]\nlisten = [\"unix:{}\"]\n\
         [notices]\nnotify_via = \"{notify}\"\n[verify]\ndns = [\"{}\"]\n[verify.domain.\"send.test\"]\nas = \"{server}\"\n\
         [policy]\ninvalid = \"accept\"\nunusable = \"accept\"\nquarantine = \"store\"\n\
         [policy.recipient.\"bob@example.com\"]\n{}",
        socket.display(),
        dns::empty(),
        told.concat()
    );
    let file = dir.join("filter.toml");
    std::fs::write(&file, text).unwrap();
    file
}

/// Starts the filter and waits until it listens.
async fn start(file: &Path) -> Daemon {
    let daemon = Daemon::start("filter", file);
    let (begin, socket) = (Instant::now(), file.with_file_name("milter"));
    while tokio::net::UnixStream::connect(&socket).await.is_err() {
        assert!(begin.elapsed() < Duration::from_secs(60), "{}", daemon.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    daemon
}

/// The message of this number: to bob alone or to carol as well, in the name of a victim who never wrote it, with what a forger may
/// think of to have the victim told; now and then one that a proven sender wrote.
fn forged(number: usize) -> (Envelope, Vec<u8>) {
    let victim = match number % PROVEN.0 {
        0 => PROVEN.1.to_owned(),
        _ => format!("victim{}@send.test", number % 2_000),
    };
    let trace = match number % PROVEN.0 {
        0 => "Authentication-Results: mx.example.com; spf=pass smtp.mailfrom=send.test\r\n",
        _ => match number % 5 {
            0 => "",
            1 => "Authentication-Results: mx.send.test; spf=pass smtp.mailfrom=send.test\r\n",
            2 => "Authentication-Results: mx.example.com; spf=fail smtp.mailfrom=send.test\r\n",
            3 => "Authentication-Results: mx.example.com; spf=pass smtp.mailfrom=forger.test\r\n",
            _ => "Authentication-Results: mx.example.com; dkim=pass header.d=forger.test\r\n",
        },
    };
    let keys = match number % 4 {
        0 => "".to_owned(),
        1 => format!("X-Auth-Key: {}\r\n", WRONG[0]),
        _ => WRONG.map(|key| format!("X-Auth-Key: {key}\r\n")).concat(),
    };
    let mut envelope = Envelope::inbound(&victim, BOB[number % BOB.len()]);
    if number.is_multiple_of(2) {
        envelope.recipients.push("carol@example.com".into());
    }
    envelope.queue_id = format!("4F{number:08X}");
    (envelope, format!("{trace}{keys}From: {victim}\r\nSubject: {number}\r\n\r\ntext\r\n").into_bytes())
}

/// Brings the messages of these numbers over several connections; how many were refused, and how many taken.
async fn pour(socket: &Path, numbers: std::ops::Range<usize>) -> BTreeMap<&'static str, usize> {
    let pouring: Vec<_> = (0..CONNECTIONS)
        .map(|connection| {
            let (place, numbers) = (Listen::Unix(socket.to_owned()), numbers.clone());
            tokio::spawn(async move {
                let mut mta = Mta::connect(&place).await.unwrap();
                let mut fates = BTreeMap::<_, usize>::new();
                for number in numbers.skip(connection).step_by(CONNECTIONS) {
                    let (envelope, message) = forged(number);
                    let fate = match mta.send(&envelope, &message).await.unwrap().fate {
                        Fate::Refused(text) if text.starts_with("550 ") => "refused",
                        Fate::Refused(text) => panic!("{number}: {text}"),
                        _ => "taken",
                    };
                    *fates.entry(fate).or_default() += 1;
                }
                fates
            })
        })
        .collect();
    let mut all = BTreeMap::new();
    for fates in pouring {
        for (fate, count) in fates.await.unwrap() {
            *all.entry(fate).or_default() += count;
        }
    }
    all
}

/// What the mailbox took so far: how many for each recipient.
fn told(mailbox: &Mailbox) -> BTreeMap<String, usize> {
    let mut told = BTreeMap::new();
    for taken in mailbox.taken() {
        assert_eq!(taken.from, "<>", "{}", taken.text);
        assert!(WRONG.iter().all(|key| !taken.text.contains(key)), "{}", taken.text);
        for to in taken.to {
            *told.entry(to.to_ascii_lowercase()).or_default() += 1;
        }
    }
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn j1_j4_ten_thousand_forged_mails_make_five_notices_and_no_report_to_who_did_not_write() {
    let _ = LOG_LEVEL.set("warn");
    let dir = tempfile::tempdir().unwrap();
    let (mailbox, authority) = (Mailbox::start().unwrap(), Authority::start([Act::invalid()]).await.unwrap());
    let file = configure(dir.path(), &authority, &mailbox);
    let socket = dir.path().join("milter");

    let begin = Instant::now();
    let daemon = start(&file).await;
    let first = pour(&socket, 0..5_000).await;
    daemon.kill();
    let daemon = start(&file).await;
    let second = pour(&socket, 5_000..10_000).await;
    println!("{first:?} and {second:?} in {:?}", begin.elapsed());
    for fates in [first, second] {
        assert!(fates["refused"] > 1_000 && fates["taken"] == 2_500, "{fates:?}");
    }
    drop(daemon);

    // All that is still owed, with two hours of waiting between: the digest, and no more notices than that.
    let custody = Custody::open(&Config::read(&file).unwrap(), &Arc::new(Limits::default())).await.unwrap();
    for hours in [0, 2] {
        while custody.outbox().turn(SystemTime::now() + Duration::from_secs(hours * 3_600)).await.unwrap() != Turn::Idle
        {
        }
        let told = told(&mailbox);
        let bob: usize = told.iter().filter(|(to, _)| to.starts_with("<bob")).map(|(_, count)| count).sum();
        let most = if hours == 0 { 5 } else { 6 };
        // One more where the kill came between sending a notice and noting that.
        assert!((5..=most + 1).contains(&bob), "{told:?}");
        let victims: Vec<&String> = told.keys().filter(|to| to.starts_with("<victim")).collect();
        assert!(victims.is_empty(), "reports to senders who did not write: {victims:?}");
        assert_eq!(told.get("<proven@send.test>"), Some(&1), "one report an hour to who did: {told:?}");
    }
}
