//! A direction belongs to a recipient, behind a real Postfix: one message to six people here, who wish for six things, and to
//! one elsewhere.

use std::time::{Duration, Instant, SystemTime};

use addrauth::config::{Config, StateDir};
use addrauth::proto::key::AuthKey;
use addrauth::store::{NewestKey, Opening, open_keyring, read_or_make_opener};
use addrauth_tests::daemon::Rig;
use addrauth_tests::postfix::{Bed, Kind, as_sent};
use addrauth_tests::smtp;

/// How long what has to come may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
const ALICE: &str = "alice@send.test";
/// Who wishes for what.
const SIX: [(&str, &str); 6] = [
    ("bob", "accept"),
    ("carol", "mark"),
    ("dave", "mark"),
    ("erin", "quarantine"),
    ("frank", "reject-notify-sender"),
    ("grace", "reject-notify-recipient"),
];
const REST: &str = "Subject:  two  spaces,\n\ta fold\nDate: Thu, 1 Jan 2026 00:00:00 +0000\nMessage-ID: <1@send.test>\n\nhello\n\n.\n..dots \n";

/// The filter of a host whose own programs send as alice, stamped with her key; what the six wish for is bound to each result.
fn rig(bed: &Bed) -> Rig {
    let dir = tempfile::tempdir().unwrap().keep();
    let half = dir.join("keyring.key");
    let opener = read_or_make_opener(&half).unwrap();
    let rig = Rig::start_with_settings(bed, Kind::Inet, &[], |door| {
        let bind = |(user, policy): (&str, &str)| {
            let results = ["valid", "missing", "invalid"].map(|result| format!("{result} = {policy:?}\n")).concat();
            let mark = if user == "dave" { "mark = \"folder\"\n" } else { "" };
            format!("[policy.recipient.\"{}\"]\n{results}{mark}", door.address(user))
        };
        let six = SIX.map(bind).concat();
        let keyring = format!("[keyring]\nstamp = true\nsecret_file = {half:?}\n");
        let top = format!("trusted_submitters = {{ \"127.0.0.1\" = [{ALICE:?}] }}");
        [top, format!("spam_folder = \"+Junk\"\n{six}{keyring}")]
    });
    keep(&rig, &opener);
    rig
}

fn keep(rig: &Rig, opener: &addrauth::proto::seal::Opener) {
    let key = AuthKey::parse(rig.key.as_bytes()).unwrap();
    let config = Config { state_dir: StateDir(rig.path("filter")), ..Config::default() };
    let learned = SystemTime::now();
    let newest = NewestKey {
        address: ALICE.into(),
        fingerprint: key.verify_key().fingerprint(),
        sealed: opener.seal_to().seal(ALICE, &key).unwrap(),
        learned,
        expires: learned + Duration::from_secs(3_600 * 48),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let keyring = open_keyring(&config, Opening { busy: Duration::from_secs(5), readers: 1 }).await.unwrap();
        keyring.learn(&newest).await.unwrap();
        keyring.close().await;
    });
}

/// What is elsewhere by this filter's configuration: the address is another one in each test.
fn away(rig: &Rig) -> String {
    format!("away-{}@send.test", rig.door.domain)
}

fn letter(from: &str) -> String {
    format!("From: {from}\n{REST}")
}

/// Sends it to the six, and to the one elsewhere.
fn send(rig: &Rig, path: &str, message: &str) {
    let mut to: Vec<String> = SIX.iter().map(|(user, _)| rig.door.address(user)).collect();
    to.insert(3, away(rig));
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    let reply = smtp::send(rig.door.port, path, &to, message.replace('\n', "\r\n").as_bytes());
    assert_eq!(reply.code, 250, "{reply:?}");
}

/// What comes to an address of send.test.
fn arrived(bed: &Bed, rig: &Rig, to: &str) -> String {
    let begin = Instant::now();
    loop {
        if let Some((_, file)) = bed.returned().into_iter().find(|(address, _)| address == to) {
            return String::from_utf8(as_sent(&file)).unwrap();
        }
        assert!(begin.elapsed() < PATIENCE, "nothing for {to}\n{}", rig.door.log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The one message that a user has, as it was sent to him.
fn only(rig: &Rig, user: &str) -> String {
    let files = if user == "dave" { rig.door.delivered_as_spam(user, 1) } else { rig.door.delivered(user, 1) };
    assert_eq!(files.len(), 1, "{user}");
    String::from_utf8(as_sent(&files[0])).unwrap()
}

fn let_things_settle() {
    std::thread::sleep(Duration::from_millis(2_000));
}

#[test]
fn six_here_each_have_what_they_wish_and_the_one_elsewhere_has_the_stamp() {
    let Some(bed) = Bed::shared() else { return };
    let rig = rig(bed);
    send(&rig, ALICE, &letter(ALICE));
    let text = arrived(bed, &rig, &away(&rig));
    let rest = text.strip_prefix(&format!("X-Auth-Key: {}\nX-Auth-Agent: SMTP - postfix ", rig.key));
    let rest = rest.and_then(|rest| rest.split_once('\n')).unwrap_or_else(|| panic!("{text}")).1;
    assert_eq!(rest, letter(ALICE), "no field of ours goes out");

    let status = format!("X-Auth-Key-Status: VALIDKEY; address={ALICE}; by=mx.{}\n", rig.door.domain);
    assert_eq!(only(&rig, "bob"), format!("{status}{}", letter(ALICE)), "our mark is taken off on its way");
    assert_eq!(only(&rig, "carol"), format!("{status}X-Spam-Flag: YES\n{}", letter(ALICE)));
    assert_eq!(only(&rig, "dave"), format!("{status}{}", letter(ALICE)));
    let notice = only(&rig, "grace");
    assert!(notice.contains("It was not delivered to you.") && !notice.contains("hello"), "{notice}");
    let report = arrived(bed, &rig, ALICE);
    assert!(report.contains(&format!("Final-Recipient: rfc822; {}", rig.door.address("frank"))), "{report}");
    assert!(!report.contains(&away(&rig)) && !report.contains(&rig.door.address("erin")), "{report}");
    let_things_settle();
    for user in ["erin", "frank"] {
        assert!(rig.door.mailbox(user).is_empty(), "{user}");
    }
    assert!(rig.says(&["quarantine", "release", "1", "--for", &rig.door.address("erin")]).contains("delivered"));
    assert_eq!(only(&rig, "erin"), format!("{status}{}", letter(ALICE)));
    let_things_settle();
    for (user, count) in [("bob", 1), ("carol", 1), ("dave", 0), ("grace", 1)] {
        assert_eq!(rig.door.mailbox(user).len(), count, "nobody gets it twice: {user}");
    }
    let list = rig.says(&["journal", "list", "--json"]);
    assert_eq!(list.lines().count(), 1, "copies that come back have no row of their own: {list}");
    let why = rig.says(&["why", "1"]);
    for words in ["For <away-", "sent on, with the sender's key", "as a copy of its own, without the key"] {
        assert!(why.split_whitespace().collect::<Vec<_>>().join(" ").contains(words), "{words}\n{why}");
    }
}

#[test]
fn what_a_stranger_brings_to_both_is_stripped_for_all_and_marked_or_dropped_for_those_here_alone() {
    let Some(bed) = Bed::shared() else { return };
    let rig = rig(bed);
    // The submitter may not send as dave, so this is anybody's.
    let dave = "dave@send.test";
    send(&rig, ALICE, &format!("X-Auth-Key: {}\n{}", rig.key, letter(dave)));
    let status = format!("X-Auth-Key-Status: INVALIDKEY; address={dave}; by=mx.{}; reason=wrong\n", rig.door.domain);
    let plain = format!("{status}{}", letter(dave));
    assert_eq!(arrived(bed, &rig, &away(&rig)), plain);
    assert_eq!(only(&rig, "bob"), plain);
    assert_eq!(only(&rig, "dave"), plain);
    assert!(only(&rig, "grace").contains("It was not delivered to you."));
    let_things_settle();
    assert_eq!(rig.door.spam_folder("carol").len(), 1, "where others share the message, a mark is the spam folder");
    for user in ["carol", "erin", "frank"] {
        assert!(rig.door.mailbox(user).is_empty(), "{user}");
    }
    let kept = rig.says(&["quarantine", "list", "--json"]);
    assert!(kept.contains(&rig.door.address("erin")) && kept.contains(&rig.door.address("frank")), "{kept}");
}

#[test]
fn while_observing_those_here_get_copies_for_the_keys_sake_alone() {
    let Some(bed) = Bed::shared() else { return };
    let mut rig = rig(bed);
    rig.filter = None;
    let file = rig.path("filter.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("observe = false", "observe = true")).unwrap();
    rig.start_filter();
    send(&rig, ALICE, &letter(ALICE));
    assert!(arrived(bed, &rig, &away(&rig)).starts_with(&format!("X-Auth-Key: {}\n", rig.key)));
    let status = format!("X-Auth-Key-Status: VALIDKEY; address={ALICE}; by=mx.{}\n", rig.door.domain);
    for (user, _) in SIX {
        let files = rig.door.delivered(user, 1);
        let text = String::from_utf8(as_sent(&files[0])).unwrap();
        assert_eq!((files.len(), text), (1, format!("{status}{}", letter(ALICE))), "{user}");
    }
}
