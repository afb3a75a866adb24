//! New keys on their way: real sockets for VERIFY, DNS and SMTP, real database files, and a clock that is moved.

mod bed;
mod process;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use addrauth::authority::{Error, Intervals, PostTurn};
use addrauth::config::{Config, Deliver, Limits, StateDir};
use addrauth::proto::wire::Reason;
use addrauth::store::{self, Keyring as _, Opening, PostEnd, SqliteKeyring};
use addrauth_lab::zone::Records;
use addrauth_tests::authority::{Act, Authority as Fake};
use addrauth_tests::keys::mailbox;
use addrauth_tests::world::LOOPBACK;
use bed::{ALICE, Bed, DAY, START, address, holds, key_of, octets_below, opened, posted, posting};
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn a_key_is_mailed_only_after_every_endpoint_answers_validkey_and_is_kept_sealed_until_then() {
    let bed = Bed::start(|_| {}).await;
    let replica = Fake::start([Act::invalid()]).await.unwrap();
    bed.publish(&[bed.endpoint, replica.addr]);
    let owed = bed.authority.rotate(&address(ALICE)).await.unwrap();
    for (act, said) in [
        (Act::invalid(), "INVALIDKEY"),
        (Act::unverified(Reason::Temp), "no answer"),
        (Act::unverified(Reason::Domain), "not a server of this domain"),
        (Act::Silence, "no answer"),
    ] {
        replica.now_does(act);
        assert_eq!(bed.turn().await, posted(1, 0));
        assert_eq!(bed.turn().await, posted(0, 0), "not again at once");
        let (outcome, note) = bed.way(ALICE).await;
        let note = note.unwrap();
        assert!(outcome.is_none() && note.contains(&format!("as1.example.com:{}", replica.addr.port())), "{note}");
        assert!(note.contains(said) && !note.contains("as0"), "{note}");
        bed.pass(80);
    }
    assert!(bed.mailbox.taken().is_empty());
    let meanwhile = octets_below(bed.dir.path());
    replica.now_does(Act::valid());
    assert_eq!(bed.turn().await, posted(1, 1));
    assert_eq!(bed.way(ALICE).await, (Some(PostEnd::Sent), None));
    let [mail] = &bed.mailbox.taken()[..] else { panic!("one mail") };
    assert_eq!((mail.from.as_str(), mail.to.as_slice()), ("<>", ["<alice@example.com>".to_owned()].as_slice()));
    let key = key_of(mail);
    assert_eq!(key.verify_key().fingerprint(), owed.fingerprint);
    assert!(bed.says(ALICE, key.expose()).await.starts_with("VALIDKEY"));
    assert!(!holds(&meanwhile, &key) && !holds(&octets_below(bed.dir.path()), &key), "sealed at rest");
    assert!(holds(mail.text.as_bytes(), &key), "the search would find it");
    bed.pass(DAY);
    assert_eq!(bed.turn().await, posted(0, 0), "once");
}

#[tokio::test]
async fn the_mail_parses_and_the_key_stands_on_one_line_of_it() {
    let bed = Bed::start(|_| {}).await;
    bed.authority.rotate(&address(ALICE)).await.unwrap();
    bed.turn().await;
    let mail = bed.mailbox.taken().remove(0);
    let parsed = mail_parser::MessageParser::new().parse(mail.text.as_bytes()).unwrap();
    assert_eq!(parsed.from().unwrap().first().unwrap().address(), Some("keys@example.com"));
    let to: Vec<_> = parsed.to().unwrap().iter().map(|to| to.address().unwrap().to_owned()).collect();
    assert_eq!(to, [ALICE]);
    assert_eq!(parsed.date().unwrap().to_timestamp(), i64::try_from(START).unwrap());
    assert!(parsed.message_id().unwrap().ends_with("@as.example.com"));
    assert_eq!(mail.field("Auto-Submitted").as_deref(), Some("auto-generated"));
    let key = key_of(&mail);
    let lines: Vec<_> = mail.text.lines().filter(|line| line.contains(key.expose())).collect();
    assert_eq!(lines, [format!("X-New-Auth-Key: {}", key.expose())]);
    assert!(parsed.subject().unwrap().contains("nothing to do"));
    let body = parsed.body_text(0).unwrap();
    for words in [ALICE, "You need not do anything", "do not forward it", "postmaster: keys@example.com"] {
        assert!(body.contains(words), "{words}:\n{body}");
    }
}

#[tokio::test]
async fn a_domain_without_a_record_holds_its_keys_back_and_says_what_to_publish() {
    let bed = Bed::unpublished(|_| {}).await;
    bed.authority.rotate(&address(ALICE)).await.unwrap();
    assert_eq!(bed.turn().await, posted(1, 0));
    let note = bed.way(ALICE).await.1.unwrap();
    assert!(
        note.contains("`addrauth record example.com`") && note.contains("[verify.domain.\"example.com\"]"),
        "{note}"
    );
    assert!(bed.mailbox.taken().is_empty());
    // A fixed endpoint takes the place of DNS.
    let mut config = bed.config.clone();
    let fixed = addrauth::config::FixedAs { endpoint: bed.endpoint };
    config.verify.domain.insert("example.com".parse().unwrap(), fixed);
    let poster = posting(&config, &bed.authority).await.unwrap();
    bed.pass(60);
    assert_eq!(poster.turn().await.unwrap(), posted(1, 1));
    assert_eq!(bed.mailbox.taken().len(), 1);
}

#[tokio::test]
async fn an_endpoint_that_cannot_be_asked_holds_keys_back() {
    let bed = Bed::start(|config| config.verify.allow_targets.clear()).await;
    bed.authority.rotate(&address(ALICE)).await.unwrap();
    bed.turn().await;
    assert!(bed.way(ALICE).await.1.unwrap().contains("allow_targets"));
    let records = |rest: &str| {
        let port = bed.endpoint.port();
        let one = Records::default().txt("example.com", &format!("AS=as0.example.com:{port}"));
        one.txt("example.com", rest).address("as0.example.com", LOOPBACK)
    };
    let mut config = bed.config.clone();
    config.verify.allow_targets = vec!["127.0.0.0/8".parse().unwrap()];
    for (other, words) in [("AS=as9.example.com:4410", "no address"), ("AS=as0.example.com:4410; t=tls", "no answer")] {
        bed.zone.replace(records(other));
        bed.pass(3_600);
        let poster = posting(&config, &bed.authority).await.unwrap();
        assert_eq!(poster.turn().await.unwrap(), posted(1, 0));
        let note = bed.way(ALICE).await.1.unwrap();
        assert!(note.contains(words), "{words}: {note}");
    }
    assert!(bed.mailbox.taken().is_empty());
}

#[tokio::test]
async fn a_key_that_was_revoked_or_ended_before_it_was_sent_never_is() {
    let bed = Bed::unpublished(|_| {}).await;
    let authority = &bed.authority;
    for who in ["alice", "bob", "carol"] {
        authority.rotate(&address(&format!("{who}@example.com"))).await.unwrap();
    }
    assert_eq!(bed.turn().await, posted(3, 0));
    authority.revoke(&address("bob@example.com"), None).await.unwrap();
    authority.enlist(&[(address("carol@example.com"), Intervals::default())], &mut |_| {}).await.unwrap();
    authority.strike(&[address("carol@example.com")]).await.unwrap();
    bed.publish(&[bed.endpoint]);
    bed.pass(600);
    // The absence of the record is remembered for a while; another process has not seen it.
    let poster = posting(&bed.config, authority).await.unwrap();
    assert_eq!(poster.turn().await.unwrap(), posted(1, 1));
    let to: Vec<_> = bed.mailbox.taken().into_iter().flat_map(|mail| mail.to).collect();
    assert_eq!(to, ["<alice@example.com>"]);
    assert_eq!(bed.way("bob@example.com").await.0, Some(PostEnd::Revoked));
    assert_eq!(bed.way("carol@example.com").await.0, Some(PostEnd::Revoked));
    bed.zone.replace(Records::default());
    authority.rotate(&address("dave@example.com")).await.unwrap();
    bed.pass(13 * DAY);
    assert_eq!(poster.turn().await.unwrap(), posted(0, 0));
    assert_eq!(bed.way("dave@example.com").await.0, Some(PostEnd::Expired));
    assert_eq!(bed.mailbox.taken().len(), 1);
}

#[tokio::test]
async fn a_refusal_for_good_gives_up_and_one_for_now_does_not() {
    let bed = Bed::start(|_| {}).await;
    bed.authority.rotate(&address(ALICE)).await.unwrap();
    bed.mailbox.refuse(Some("451 4.3.0 later"));
    assert_eq!(bed.turn().await, posted(1, 0));
    let (outcome, note) = bed.way(ALICE).await;
    assert!(outcome.is_none() && note.as_ref().unwrap().contains("4.3.0"), "{note:?}");
    bed.pass(60);
    bed.mailbox.refuse(Some("550 5.1.1 no such user"));
    for n in 1..10 {
        assert_eq!(bed.turn().await, posted(1, 0));
        let (outcome, note) = bed.way(ALICE).await;
        let note = note.unwrap();
        assert!(outcome.is_none() && note.starts_with(&format!("refused, {n} of 10 times: ")), "{note}");
        bed.pass(7_200);
    }
    assert_eq!(bed.turn().await, PostTurn { taken: 1, done: 0, given_up: 1 });
    let (outcome, note) = bed.way(ALICE).await;
    assert!(matches!(outcome, Some(PostEnd::GivenUp(_))) && note.is_none());
    bed.pass(DAY);
    bed.mailbox.refuse(None);
    assert_eq!(bed.turn().await, posted(0, 0));
    let (ids, keys): (Vec<_>, Vec<_>) =
        bed.mailbox.taken().iter().map(|mail| (mail.field("Message-ID").unwrap(), key_of(mail))).unzip();
    assert!(
        ids.len() == 11 && ids.iter().all(|id| *id == ids[0]) && keys.iter().all(|key| *key == keys[0]),
        "each try is the same mail"
    );
    assert!(!holds(&octets_below(bed.dir.path()), &keys[0]));
}

#[tokio::test]
async fn many_keys_go_out_several_a_second_over_few_connections() {
    let bed = Bed::start(|_| {}).await;
    for n in 0..160 {
        bed.authority.rotate(&address(&format!("user{n}@example.com"))).await.unwrap();
    }
    let (begin, stop) = (std::time::Instant::now(), CancellationToken::new());
    let running = bed.poster.as_ref().unwrap().run(stop.clone());
    let watching = async {
        while bed.mailbox.taken().len() < 160 && begin.elapsed() < Duration::from_secs(60) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        stop.cancel();
    };
    tokio::join!(running, watching);
    let rate = 160.0 / begin.elapsed().as_secs_f64();
    println!("{rate:.0} keys a second");
    assert_eq!(bed.mailbox.taken().len(), 160);
    assert!(rate > 2.5, "{rate}");
}

#[tokio::test]
async fn where_the_mta_is_away_keys_wait() {
    let bed = Bed::start(|config| config.notices.notify_via = "127.0.0.1:9".into()).await;
    bed.authority.rotate(&address(ALICE)).await.unwrap();
    assert_eq!(bed.turn().await, posted(1, 0));
    assert!(bed.way(ALICE).await.1.unwrap().contains("the connection"));
}

#[tokio::test]
async fn keys_that_go_straight_into_the_keyring_are_mailed_to_nobody() {
    let bed = Bed::start(|config| config.authority.deliver = Deliver::Keyring).await;
    let owed = bed.authority.rotate(&address("Alice+x@Example.com")).await.unwrap();
    assert_eq!(bed.turn().await, posted(1, 1));
    assert_eq!(bed.way(ALICE).await.0, Some(PostEnd::Stored));
    assert!(bed.mailbox.taken().is_empty());
    let opening = Opening { busy: Duration::from_secs(2), readers: 1 };
    let keyring = SqliteKeyring::open(bed.dir.path(), opening).await.unwrap();
    let newest = keyring.newest(&mailbox(ALICE)).await.unwrap().unwrap();
    assert_eq!((newest.fingerprint.as_str(), newest.expires), (owed.fingerprint.as_str(), owed.expires));
    let opener = store::read_or_make_opener(&store::keyring_key(&bed.config)).unwrap();
    let key = opener.open(ALICE, &newest.sealed).unwrap();
    assert!(bed.says(ALICE, key.expose()).await.starts_with("VALIDKEY"));
    assert!(!holds(&octets_below(bed.dir.path()), &key));
    bed.pass(60);
    let second = bed.authority.rotate(&address(ALICE)).await.unwrap();
    bed.turn().await;
    assert_eq!(keyring.newest(&mailbox(ALICE)).await.unwrap().unwrap().fingerprint, second.fingerprint);
}

#[tokio::test]
async fn a_revoked_key_leaves_the_keyring_at_once_and_the_address_gets_another_one_soon() {
    let bed = Bed::start(|config| config.authority.deliver = Deliver::Keyring).await;
    assert!(bed.authority.reaches_keyring());
    let opening = Opening { busy: Duration::from_secs(2), readers: 1 };
    let keyring = SqliteKeyring::open(bed.dir.path(), opening).await.unwrap();
    let present = async || keyring.newest(&mailbox(ALICE)).await.unwrap().map(|key| key.fingerprint);
    bed.authority.enlist(&[(address(ALICE), Intervals::default())], &mut |_| {}).await.unwrap();
    bed.authority.set(&address(ALICE), Some(Some(Duration::from_secs(20 * DAY))), None).await.unwrap();
    let long = bed.authority.rotate(&address(ALICE)).await.unwrap();
    assert_eq!(bed.turn().await, posted(1, 1));
    bed.authority.set(&address(ALICE), Some(None), None).await.unwrap();
    assert_eq!(present().await, Some(long.fingerprint.clone()));
    assert_eq!(bed.authority.issue_due().await.unwrap().made, 0, "it is not its turn");
    assert_eq!(bed.authority.revoke(&address(ALICE), Some(&long.fingerprint)).await.unwrap(), 1);
    assert_eq!(present().await, None);
    assert_eq!(bed.authority.issue_due().await.unwrap().made, 1);
    assert_eq!(bed.turn().await, posted(1, 1));
    assert_eq!(bed.way(ALICE).await.0, Some(PostEnd::Stored), "a shorter-lived one than the revoked one");
    assert_ne!(present().await.unwrap(), long.fingerprint);
    assert_eq!(bed.authority.strike(&[address(ALICE)]).await.unwrap(), 1);
    assert_eq!(present().await, None);
}

#[tokio::test]
async fn an_address_whose_domain_has_left_gets_no_keys_and_can_be_taken_out() {
    let bed = Bed::start(|config| config.authority.domains.push("left.example".parse().unwrap())).await;
    let (eve, alice) = (address("eve@left.example"), address(ALICE));
    let both = [(eve.clone(), Intervals::default()), (alice.clone(), Intervals::default())];
    bed.authority.enlist(&both, &mut |_| {}).await.unwrap();
    bed.authority.issue(&eve).await.unwrap();
    let mut config = bed.config.clone();
    config.authority.domains.pop();
    let left = opened(&config, &bed.clock).await;
    bed.pass(6 * DAY);
    for _ in 0..3 {
        left.issue_due().await.unwrap();
    }
    assert_eq!((left.list(&alice).await.unwrap().len(), bed.authority.list(&eve).await.unwrap().len()), (1, 1));
    let others = left.strike(&[address("mallory@left.example")]).await.unwrap_err();
    assert!(matches!(others, Error::OtherDomain { .. }), "{others}");
    assert_eq!(left.strike(&[eve.clone(), alice]).await.unwrap(), 2);
    assert!(left.enlisted(None).await.unwrap().is_empty());
    assert!(matches!(left.strike(&[eve]).await.unwrap_err(), Error::OtherDomain { .. }));
}

#[tokio::test]
async fn where_nobody_posts_no_key_is_made_but_by_hand() {
    let bed = Bed::start(|config| config.authority.deliver = Deliver::Nobody).await;
    assert!(bed.poster.is_none());
    let error = bed.authority.rotate(&address(ALICE)).await.unwrap_err();
    assert!(matches!(error, Error::NobodyPosts { .. }) && error.to_string().contains("key issue"), "{error}");
    bed.authority.enlist(&[(address(ALICE), Intervals::default())], &mut |_| {}).await.unwrap();
    bed.pass(6 * DAY);
    assert_eq!(bed.authority.issue_due().await.unwrap().made, 0);
    assert!(bed.authority.list(&address(ALICE)).await.unwrap().is_empty());
    bed.authority.issue(&address(ALICE)).await.unwrap();
    assert!(bed.authority.list(&address(ALICE)).await.unwrap()[0].post.is_none());
}

#[tokio::test]
async fn two_servers_on_one_table_make_and_post_each_key_once() {
    let bed = Bed::start(|_| {}).await;
    let second = opened(&bed.config, &bed.clock).await;
    let other = posting(&bed.config, &second).await.unwrap();
    let names: Vec<_> = (0..40).map(|n| address(&format!("user{n}@example.com"))).collect();
    let wanted: Vec<_> = names.iter().map(|name| (name.clone(), Intervals::default())).collect();
    bed.authority.enlist(&wanted, &mut |_| {}).await.unwrap();
    bed.pass(10 * DAY);
    for _ in 0..40 {
        let (one, two) = tokio::join!(bed.authority.issue_due(), second.issue_due());
        assert!(one.unwrap().made <= 1 && two.unwrap().made <= 1, "a look is no burst");
    }
    for name in &names {
        assert_eq!(bed.authority.list(name).await.unwrap().len(), 1, "{name}");
    }
    loop {
        let (one, two) = tokio::join!(bed.turn(), other.turn());
        if (one.taken, two.unwrap().taken) == (0, 0) {
            break;
        }
    }
    let mut to: Vec<_> = bed.mailbox.taken().into_iter().flat_map(|mail| mail.to).collect();
    to.sort();
    let mut wanted: Vec<_> = names.iter().map(|name| format!("<{name}>")).collect();
    wanted.sort();
    assert_eq!(to, wanted);
}

#[tokio::test]
async fn a_key_sealed_to_another_pair_is_kept_and_the_note_says_why() {
    let bed = Bed::start(|_| {}).await;
    bed.authority.rotate(&address(ALICE)).await.unwrap();
    let pair = bed.dir.path().join("post.key");
    let kept = std::fs::read(&pair).unwrap();
    std::fs::remove_file(&pair).unwrap();
    let stranger = posting(&bed.config, &bed.authority).await.unwrap();
    assert_eq!(stranger.turn().await.unwrap(), posted(1, 0));
    assert!(bed.way(ALICE).await.1.unwrap().contains("post.key"));
    std::fs::write(&pair, kept).unwrap();
    bed.pass(60);
    assert_eq!(bed.turn().await, posted(1, 1), "who has the right pair sends it");
}

#[tokio::test]
async fn an_import_of_ten_thousand_makes_no_burst_and_issue_times_are_even_over_agi() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config { state_dir: StateDir(dir.path().to_owned()), ..Config::default() };
    config.authority.domains = vec!["example.com".parse().unwrap()];
    config.authority.agi = Duration::from_secs(DAY);
    let clock = Arc::new(AtomicU64::new(START));
    let authority = opened(&config, &clock).await;
    let wanted: Vec<_> =
        (0..10_000).map(|n| (address(&format!("user{n}@example.com")), Intervals::default())).collect();
    authority.enlist(&wanted, &mut |_| {}).await.unwrap();
    // 10,000 turns in 1,440 minutes: 6.9 in a look on average, and 21 at most.
    assert_eq!(authority.due_at_once(Limits::default().authority.issue_every).await.unwrap(), 21);
    let mut hours = [0; 24];
    for minute in 0..1_440 {
        clock.fetch_add(60, Ordering::SeqCst);
        let look = authority.issue_due().await.unwrap();
        assert!(look.made <= 21 && look.full.is_empty(), "{look:?}");
        hours[minute / 60] += look.made;
    }
    assert_eq!(hours.iter().sum::<usize>(), 10_000, "each of them once in its first AGI");
    println!("keys made in each hour: {hours:?}");
    // 417 on average, with a deviation of 20.
    assert!(hours.iter().all(|made| (330..=500).contains(made)), "{hours:?}");
    // A standstill of three days, and a restart after it: made up for at three times the usual rate at most.
    authority.close().await;
    clock.fetch_add(3 * DAY, Ordering::SeqCst);
    let authority = opened(&config, &clock).await;
    let mut looks = Vec::new();
    for _ in 0..60 {
        looks.push(authority.issue_due().await.unwrap().made);
        clock.fetch_add(60, Ordering::SeqCst);
    }
    assert!(looks.iter().all(|made| *made == 21), "{looks:?}");
}
