//! The process, killed at any moment: what it made comes, at most repeated.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use addrauth_tests::daemon::{Daemon, binary};

use addrauth::authority::{Authority, Clock, Intervals};
use addrauth::config::{Config, Limits};
use addrauth_lab::mailbox::{Mailbox, Taken};
use addrauth_tests::ports::claim_place;
use addrauth_tests::world::LOOPBACK;

use super::bed::{ALICE, DAY, SEQ, address, holds, key_of, octets_below};

fn written(dir: &Path, listen: SocketAddr, via: SocketAddr, deliver: &str) -> std::path::PathBuf {
    let file = dir.join("authority.toml");
    let text = format!(
        "hostname = \"as.example.com\"\nstate_dir = {:?}\n[notices]\nnotify_via = \"{via}\"\n\
         [verify]\ndns = [\"127.0.0.1:9\"]\n[verify.domain.\"example.com\"]\nas = \"{listen}\"\n\
         [authority]\ndomains = [\"example.com\"]\nlisten = [\"{listen}\"]\ndeliver = \"{deliver}\"\n",
        dir.join("state")
    );
    fs::write(&file, text).unwrap();
    file
}

fn say(file: &Path, words: &[&str]) -> (Option<i32>, String, String) {
    let output = std::process::Command::new(binary()).arg("--config").arg(file).args(words).output().unwrap();
    let text = |octets: Vec<u8>| String::from_utf8(octets).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let begin = std::time::Instant::now();
    while !done() {
        assert!(begin.elapsed() < Duration::from_secs(60), "{what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn kill_9_between_making_and_sending_loses_no_key_and_no_log_holds_one() {
    let (dir, mailbox) = (tempfile::tempdir().unwrap(), Mailbox::start().unwrap());
    let file = written(dir.path(), claim_place(), mailbox.address(), "mail");
    let config = Config::read(&file).unwrap();
    let authority = Authority::open(&config, &Arc::new(Limits::default())).await.unwrap();
    let names: Vec<_> = (0..60).map(|n| format!("user{n}@example.com")).collect();
    for name in &names {
        authority.rotate(&address(name)).await.unwrap();
    }
    for pause in [60, 110, 160, 200, 260, 320, 400, 500] {
        let daemon = Daemon::start("authority", &file);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        daemon.kill();
    }
    let killed = mailbox.taken().len();
    let daemon = Daemon::start("authority", &file);
    let arrived = || {
        let mut mails: BTreeMap<String, Vec<Taken>> = BTreeMap::new();
        for mail in mailbox.taken() {
            mails.entry(mail.to[0].clone()).or_default().push(mail);
        }
        mails
    };
    until("all keys arrive", || arrived().len() == 60).await;
    println!("{killed} mails before the last start, {} in all", mailbox.taken().len());
    let log = daemon.log();
    for (to, mails) in arrived() {
        let (id, key) = (mails[0].field("Message-ID"), key_of(&mails[0]));
        assert!(mails.iter().all(|mail| mail.field("Message-ID") == id && key_of(mail) == key), "{to}");
        let who = address(to.trim_matches(['<', '>']));
        let listed = authority.list(&who).await.unwrap();
        assert_eq!((listed.len(), &listed[0].fingerprint), (1, &key.verify_key().fingerprint()));
        assert!(!log.contains(&key.expose()[..16]) && !log.contains(&key.expose()[48..]));
        assert!(!holds(&octets_below(&dir.path().join("state")), &key));
    }
    assert!(log.contains("new key sent"), "{log}");
    authority.close().await;
}

#[tokio::test]
async fn the_running_daemon_makes_the_keys_of_those_whose_turn_has_come_and_mails_them() {
    let (dir, mailbox) = (tempfile::tempdir().unwrap(), Mailbox::start().unwrap());
    let file = written(dir.path(), claim_place(), mailbox.address(), "mail");
    let config = Config::read(&file).unwrap();
    let past = SystemTime::now() - Duration::from_secs(10 * DAY);
    let limits = Arc::new(Limits::default());
    let earlier = Authority::with_clock(&config, &limits, Clock::new(move || past)).await.unwrap();
    earlier.enlist(&[(address(ALICE), Intervals::default())], &mut |_| {}).await.unwrap();
    earlier.close().await;
    let _daemon = Daemon::start("authority", &file);
    until("the key of the first look", || mailbox.taken().len() == 1).await;
    let first = key_of(&mailbox.taken()[0]);
    // By hand, while the daemon runs: nothing secret is printed, and it is posted within a look.
    let (code, out, err) = say(&file, &["key", "rotate", "Alice+x@example.com"]);
    assert_eq!((code, out.as_str()), (Some(0), ""), "{err}");
    assert!(err.contains("key 2 of alice@example.com") && err.contains("posts it"), "{err}");
    until("the key made by hand", || mailbox.taken().len() == 2).await;
    let second = key_of(&mailbox.taken()[1]);
    assert!(first != second && err.contains(&second.verify_key().fingerprint()));
    until("the end of the post", || say(&file, &["key", "show", ALICE]).1.matches("  sent\n").count() == 2).await;
    let (_, json, _) = say(&file, &["--json", "key", "show", ALICE]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["keys"][0]["post"]["outcome"], "sent");
    for key in [&first, &second] {
        assert!(![&err, &json.to_string()].iter().any(|text| text.contains(key.expose())));
    }
}

#[tokio::test]
async fn an_mta_that_keeps_silent_holds_up_neither_answers_nor_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let silent = std::net::TcpListener::bind((LOOPBACK, 0)).unwrap();
    let listen = claim_place();
    let file = written(dir.path(), listen, silent.local_addr().unwrap(), "mail");
    let daemon = Daemon::start("authority", &file);
    until("the start", || daemon.log().contains("authority started")).await;
    assert_eq!(say(&file, &["key", "rotate", ALICE]).0, Some(0));
    let (_held, _) = silent.accept().unwrap();
    let key = say(&file, &["key", "issue", "bob@example.com"]).1;
    let client = tokio::net::UdpSocket::bind((LOOPBACK, 0)).await.unwrap();
    let question = format!("VERIFY {SEQ} bob@example.com {} v=1 from=mx.example.net\r\n", key.trim_end());
    client.send_to(question.as_bytes(), listen).await.unwrap();
    let mut room = [0; 512];
    let length = tokio::time::timeout(Duration::from_secs(60), client.recv(&mut room)).await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&room[..length]).contains("VALIDKEY t="));
    let begin = std::time::Instant::now();
    daemon.signal("TERM");
    until("the end", || daemon.log().contains("authority stopped by SIGTERM")).await;
    assert!(begin.elapsed() < Duration::from_secs(15), "{:?}", begin.elapsed());
    assert!(daemon.log().contains("keys under way are cut off"));
    assert!(say(&file, &["key", "show", ALICE]).1.contains("owed"), "and is not lost");
}

#[test]
fn rotate_says_that_nobody_would_post_the_key_and_makes_none() {
    let dir = tempfile::tempdir().unwrap();
    let file = written(dir.path(), claim_place(), claim_place(), "nobody");
    let (code, out, err) = say(&file, &["key", "rotate", ALICE]);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(err.contains("nobody would post") && err.contains("key issue alice@example.com"), "{err}");
    assert_eq!(say(&file, &["key", "show", ALICE]).0, Some(1), "no key");
    let (code, out, _) = say(&file, &["key", "issue", ALICE]);
    assert_eq!((code, out.trim_end().len()), (Some(0), 64));
    assert!(say(&file, &["key", "show", ALICE]).1.ends_with("  -\n"), "printed, and not posted");
}

#[test]
fn a_setting_that_no_mail_can_be_sent_with_ends_the_start_with_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let file = written(dir.path(), claim_place(), claim_place(), "mail");
    let text = fs::read_to_string(&file).unwrap() + "from = \"nobody\"\n";
    fs::write(&file, text).unwrap();
    let (code, _, err) = say(&file, &["authority"]);
    assert!(code == Some(2) && err.contains("authority.from"), "{err}");
}
