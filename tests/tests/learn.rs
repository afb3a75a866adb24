//! New keys that arrive by mail (attack C): the real filter behind its milter socket, a real AS, and DNS between them.

use addrauth::case::{KeyStatus, Learned};
use addrauth::config::{Config, Where};
use addrauth::proto::header::Edit;
use addrauth::store::{RowResult, RowVerdict};
use addrauth_lab::mta::{Envelope, Fate, Outcome};
use addrauth_tests::keys::House;
use addrauth_tests::world::JUNK;

const ALICE: &str = "alice@home.example";
const BOB: &str = "bob@home.example";

fn learning(config: &mut Config) {
    config.keyring.learn = Where::All(true);
}

/// A house that learns.
async fn house() -> House {
    House::build(learning).await
}

/// A message to this address that brings this key, as the AS writes it.
fn key_mail(to: &str, key: &str) -> String {
    format!(
        "From: keys@home.example\nTo: {to}\nSubject: a new key\nX-New-Auth-Key: {key}\n\nThis is for your server.\n"
    )
}

async fn sent(house: &House, to: &str, message: &str) -> Outcome {
    house.send(&Envelope::inbound("keys@home.example", to), message).await
}

/// Asserts that a message that is no key mail was delivered without the field, and that the journal says why.
async fn expect_refused(house: &House, outcome: &Outcome, why: &str) {
    assert_eq!(outcome.fate, Fate::Delivered);
    let text = String::from_utf8_lossy(&outcome.message).into_owned();
    assert!(!text.to_ascii_lowercase().contains("x-new-auth-key"), "{text}");
    assert!(text.contains("X-Auth-Key-Status: NOKEY"), "judged like any other: {text}");
    let row = house.journal().await.remove(0);
    assert!(row.entry.note.contains("not learned, since") && row.entry.note.contains(why), "{}", row.entry.note);
    assert!(house.kept(ALICE).await.is_none(), "nothing is learned");
}

/// The note of the newest journal row.
async fn note(house: &House) -> String {
    house.journal().await.remove(0).entry.note
}

#[tokio::test]
async fn a_new_key_is_in_the_keyring_before_its_mail_ends_here_and_no_key_stands_anywhere() {
    let house = house().await;
    let key = house.issue(ALICE).await;
    let outcome = sent(&house, ALICE, &key_mail(ALICE, key.expose())).await;
    assert_eq!((outcome.fate, outcome.message.len()), (Fate::Discarded, 0));
    let (kept, expires) = house.kept(ALICE).await.unwrap();
    assert_eq!(kept, key);
    let left = expires.duration_since(std::time::SystemTime::now()).unwrap().as_secs();
    assert!((12 * 86_400 - 60..=12 * 86_400).contains(&left), "as long as the AS says: {left}");

    let row = house.journal().await.remove(0);
    assert_eq!((row.entry.verdict, row.entry.result), (RowVerdict::Discard, RowResult::Judged(KeyStatus::Missing)));
    assert_eq!(row.entry.note, "a new key of alice@home.example: learned");
    let told: serde_json::Value = serde_json::from_str(&row.entry.json).unwrap();
    let proven = &told["finding"]["found"]["new_key"]["proven"];
    assert_eq!(proven["fingerprint"].as_str(), Some(key.verify_key().fingerprint().as_str()), "{told}");
    assert_eq!((proven["learned"].as_str(), proven["address"].as_str()), (Some("newest"), Some(ALICE)));
    let octets = house.octets();
    assert!(!octets.windows(16).any(|part| part == &key.expose().as_bytes()[..16]), "a key stands in a file");

    let again = sent(&house, "Alice+news@Home.Example", &key_mail("Alice <ALICE@home.example>", key.expose())).await;
    assert_eq!(again.fate, Fate::Discarded);
    assert_eq!(note(&house).await, format!("a new key of ALICE@home.example: {}", Learned::Known.word()));
}

#[tokio::test]
async fn proof_counts_and_not_who_brings_it() {
    let house = house().await;
    let key = house.issue(ALICE).await;
    let message = key_mail(ALICE, key.expose()).replace("keys@home.example", "anybody@elsewhere.example");
    let outcome = house.send(&Envelope::inbound("", ALICE), &message).await;
    assert_eq!((outcome.fate, house.kept(ALICE).await.map(|kept| kept.0)), (Fate::Discarded, Some(key)));
}

#[tokio::test]
async fn c1_c2_c3_a_key_that_the_as_does_not_know_is_not_learned_from_anybody() {
    let house = house().await;
    let key = house.issue(ALICE).await;
    house.keep(ALICE, &key, std::time::SystemTime::now() + std::time::Duration::from_secs(3_600)).await;
    let outside = Envelope::inbound("eve@elsewhere.example", ALICE);
    let spoofed = Envelope::inbound("keys@home.example", ALICE);
    let inside =
        Envelope { login: Some("mallory@home.example".into()), ..Envelope::inbound("mallory@home.example", ALICE) };
    for envelope in [outside, spoofed, inside] {
        let outcome = house.send(&envelope, &key_mail(ALICE, JUNK)).await;
        assert_eq!(outcome.fate, Fate::Delivered);
        assert!(!String::from_utf8_lossy(&outcome.message).contains(JUNK));
        assert!(note(&house).await.contains("says that it is none of this address"));
        assert_eq!(house.kept(ALICE).await.unwrap().0, key, "her own key stays");
    }
}

#[tokio::test]
async fn c4_a_key_of_another_address_is_not_learned_although_the_as_itself_brings_it() {
    let house = house().await;
    let bobs = house.issue(BOB).await;
    let from_the_as =
        Envelope { client: "127.0.0.1".parse().unwrap(), ..Envelope::inbound("keys@home.example", ALICE) };
    let outcome = house.send(&from_the_as, &key_mail(ALICE, bobs.expose())).await;
    expect_refused(&house, &outcome, "none of this address").await;
}

#[tokio::test]
async fn c5_a_superseded_key_is_never_learned_again_although_it_still_lives() {
    let house = house().await;
    let first = house.issue(ALICE).await;
    house.pass(60);
    assert_eq!(sent(&house, ALICE, &key_mail(ALICE, first.expose())).await.fate, Fate::Discarded);
    let second = house.issue(ALICE).await;
    assert_eq!(sent(&house, ALICE, &key_mail(ALICE, second.expose())).await.fate, Fate::Discarded);
    assert_eq!(house.kept(ALICE).await.unwrap().0, second);
    assert_eq!(sent(&house, ALICE, &key_mail(ALICE, first.expose())).await.fate, Fate::Discarded);
    assert_eq!(note(&house).await, "a new key of alice@home.example: superseded");
    assert_eq!(house.kept(ALICE).await.unwrap().0, second);
}

#[tokio::test]
async fn a_key_that_ends_earlier_does_not_replace_the_present_one() {
    let house = house().await;
    let first = house.issue(ALICE).await;
    house.pass(60);
    let second = house.issue(ALICE).await;
    sent(&house, ALICE, &key_mail(ALICE, second.expose())).await;
    assert_eq!(sent(&house, ALICE, &key_mail(ALICE, first.expose())).await.fate, Fate::Discarded);
    assert!(note(&house).await.ends_with("shorter-lived than the present one"));
    assert_eq!(house.kept(ALICE).await.unwrap().0, second);
}

#[tokio::test]
async fn c6_two_keys_in_one_message_are_none_and_every_spelling_of_the_field_goes() {
    let house = house().await;
    let key = house.issue(ALICE).await;
    let more = ["x-new-auth-key : junk", "X-NEW-AUTH-KEY\t:", "X-New-Auth-Key:\n\tfolded", "X-New-Auth-Key: a\u{e9}b"];
    for second in more.into_iter().chain([format!("X-New-Auth-Key: {}", key.expose()).as_str()]) {
        for message in [
            key_mail(ALICE, key.expose()).replace("Subject", &format!("{second}\nSubject")),
            format!("{second}\n{}", key_mail(ALICE, key.expose())),
        ] {
            let outcome = sent(&house, ALICE, &message).await;
            expect_refused(&house, &outcome, "brings several").await;
            let rest = String::from_utf8(outcome.message).unwrap();
            let (_, rest) = rest.split_once('\n').unwrap();
            let plain = key_mail(ALICE, "").replace("X-New-Auth-Key: \n", "");
            assert_eq!(rest, plain, "and no other octet is changed");
        }
    }
}

#[tokio::test]
async fn c7_a_key_that_goes_to_several_or_to_another_is_not_learned() {
    let house = house().await;
    let key = house.issue(ALICE).await;
    let both = Envelope { recipients: vec![ALICE.into(), BOB.into()], ..Envelope::inbound("keys@home.example", ALICE) };
    let outcome = house.send(&both, &key_mail(ALICE, key.expose())).await;
    expect_refused(&house, &outcome, "one recipient alone").await;
    let outcome = sent(&house, BOB, &key_mail(ALICE, key.expose())).await;
    expect_refused(&house, &outcome, "another one than its recipient").await;
    let to_both = key_mail(ALICE, key.expose()).replace("To: alice", "To: bob@home.example, alice");
    expect_refused(&house, &sent(&house, ALICE, &to_both).await, "no one To field").await;
}

#[tokio::test]
async fn what_cannot_be_a_key_is_taken_off_and_asked_about_nowhere() {
    let mut house = house().await;
    house.silence().await;
    for value in ["", "short", &"x".repeat(200), &format!("{JUNK} {JUNK}")] {
        expect_refused(&house, &sent(&house, ALICE, &key_mail(ALICE, value)).await, "cannot be a key").await;
    }
    let folded = key_mail(ALICE, &format!("\n\t{JUNK}"));
    assert!(
        matches!(sent(&house, ALICE, &folded).await.fate, Fate::Refused(_)),
        "a whole one on a fold is asked about"
    );
}

#[tokio::test]
async fn a_revoked_key_is_not_learned_although_mail_with_it_was_valid_a_moment_ago() {
    let house = house().await;
    let key = house.issue(ALICE).await;
    let used = format!("From: alice@home.example\nX-Auth-Key: {}\n\nbody\n", key.expose());
    let outcome = sent(&house, BOB, &used).await;
    assert!(String::from_utf8_lossy(&outcome.message).contains("VALIDKEY"), "it is in the cache");
    house.authority.revoke(&addrauth_tests::keys::address(ALICE), None).await.unwrap();
    let outcome = sent(&house, ALICE, &key_mail(ALICE, key.expose())).await;
    expect_refused(&house, &outcome, "Authentication Server says").await;
}

#[tokio::test]
async fn where_the_as_cannot_be_asked_the_mail_is_to_come_again_and_nothing_is_lost() {
    let mut house = house().await;
    let key = house.issue(ALICE).await;
    house.silence().await;
    let outcome = sent(&house, ALICE, &key_mail(ALICE, key.expose())).await;
    let Fate::Refused(reply) = outcome.fate else { panic!("{:?}", outcome.fate) };
    assert!(reply.starts_with("451 4.7.1 "), "{reply}");
    let row = house.journal().await.remove(0);
    assert_eq!((&row.entry.verdict, &row.entry.result), (&RowVerdict::Defer, &RowResult::Postponed));
    assert!(row.entry.note.contains("could not be checked"), "{}", row.entry.note);
    let other = "From: a@elsewhere.example\nTo: alice@home.example\n\nbody\n";
    assert_eq!(sent(&house, ALICE, other).await.fate, Fate::Delivered, "other mail goes its way");
}

#[tokio::test]
async fn where_the_keyring_cannot_be_written_the_mail_is_to_come_again_and_is_learned_then() {
    let house = house().await;
    let key = house.issue(ALICE).await;
    // Another process holds the keyring's lock for longer than anybody waits.
    let file = house.config.state_dir.0.join("keyring.db");
    let other = rusqlite::Connection::open(file).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let outcome = sent(&house, ALICE, &key_mail(ALICE, key.expose())).await;
    let Fate::Refused(reply) = outcome.fate else { panic!("{:?}", outcome.fate) };
    assert!(reply.starts_with("451 4.3.0 ") && !reply.contains("keyring"), "{reply}");
    assert!(note(&house).await.contains("key cannot be had"), "{}", note(&house).await);
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(sent(&house, ALICE, &key_mail(ALICE, key.expose())).await.fate, Fate::Discarded);
    assert_eq!(house.kept(ALICE).await.unwrap().0, key);
}

#[tokio::test]
async fn in_phase_two_a_key_mail_is_delivered_with_a_key_that_still_counts_and_past_every_policy() {
    let house = House::build(|config| {
        learning(config);
        config.keyring.deliver_key_mail = true;
        config.policy.missing = "reject-notify-sender".into();
    })
    .await;
    let first = house.issue(ALICE).await;
    house.pass(60);
    let outcome = sent(&house, ALICE, &key_mail(ALICE, first.expose())).await;
    let text = String::from_utf8(outcome.message).unwrap();
    assert_eq!(outcome.fate, Fate::Delivered);
    assert!(text.ends_with(&key_mail(ALICE, first.expose())) && text.starts_with("X-Auth-Key-Status: NOKEY"), "{text}");
    let second = house.issue(ALICE).await;
    sent(&house, ALICE, &key_mail(ALICE, second.expose())).await;
    let outcome = sent(&house, ALICE, &key_mail(ALICE, first.expose())).await;
    assert_eq!(outcome.fate, Fate::Delivered);
    assert!(
        !String::from_utf8_lossy(&outcome.message).contains("X-New-Auth-Key"),
        "a superseded key goes to no client"
    );
    let forged = sent(&house, ALICE, &key_mail(ALICE, JUNK)).await;
    assert!(matches!(forged.fate, Fate::Refused(_)), "what is not proven is treated by the policies");
}

#[tokio::test]
async fn while_observing_a_key_is_learned_and_its_mail_delivered_without_it() {
    let house = House::build(|config| {
        learning(config);
        config.observe.0 = true;
    })
    .await;
    let key = house.issue(ALICE).await;
    let outcome = sent(&house, ALICE, &key_mail(ALICE, key.expose())).await;
    assert_eq!(outcome.fate, Fate::Delivered);
    assert!(!String::from_utf8_lossy(&outcome.message).contains("X-New-Auth-Key"));
    assert_eq!(house.kept(ALICE).await.unwrap().0, key);
}

#[tokio::test]
async fn while_observing_a_key_that_cannot_be_proved_now_is_not_lost_and_no_other_mail_waits() {
    let mut house = House::build(|config| {
        learning(config);
        config.observe.0 = true;
    })
    .await;
    let key = house.issue(ALICE).await;
    house.silence().await;
    let outcome = sent(&house, ALICE, &key_mail(ALICE, key.expose())).await;
    assert!(matches!(&outcome.fate, Fate::Refused(reply) if reply.starts_with("451 4.7.1 ")), "{:?}", outcome.fate);
    for other in ["", &format!("X-Auth-Key: {JUNK}\n")] {
        let other = format!("{other}From: alice@home.example\nTo: alice@home.example\n\nbody\n");
        assert_eq!(sent(&house, ALICE, &other).await.fate, Fate::Delivered);
    }
}

#[tokio::test]
async fn a_delivered_key_mail_is_told_of_by_the_mail_servers_name_where_none_is_set() {
    for assumed in [true, false] {
        let house = House::build(|config| {
            learning(config);
            config.keyring.deliver_key_mail = true;
            config.hostname_assumed = assumed;
        })
        .await;
        let key = house.issue(ALICE).await;
        let outcome = sent(&house, ALICE, &key_mail(ALICE, key.expose())).await;
        let by = if assumed { "by=mx.example" } else { "by=mx.home.example" };
        let text = String::from_utf8_lossy(&outcome.message).into_owned();
        let status = text.lines().next().unwrap();
        assert!(status.starts_with("X-Auth-Key-Status: ") && status.split("; ").any(|part| part == by), "{status}");
    }
}

#[tokio::test]
async fn keys_are_learned_where_the_configuration_says_and_taken_off_everywhere() {
    let house = House::build(|config| config.keyring.learn = Where::Daemons(vec!["smtpd".into()])).await;
    let key = house.issue(ALICE).await;
    let at = |daemon: &str| Envelope { daemon: daemon.into(), ..Envelope::inbound("keys@home.example", ALICE) };
    let outcome = house.send(&at("ORIGINATING"), &key_mail(ALICE, key.expose())).await;
    expect_refused(&house, &outcome, "keyring.learn").await;
    assert_eq!(house.send(&at("smtpd"), &key_mail(ALICE, key.expose())).await.fate, Fate::Discarded);

    let plain = House::build(|_| {}).await;
    let outcome = sent(&plain, ALICE, &key_mail(ALICE, JUNK)).await;
    assert!(!String::from_utf8_lossy(&outcome.message).contains(JUNK));
    assert!(!plain.config.state_dir.0.join("keyring.db").exists(), "no keyring is made where nothing is learned");
}

#[tokio::test]
async fn examined_by_a_hop_of_ours_a_message_loses_new_keys_and_keeps_the_rest() {
    let house = House::build(|config| config.trusted_hops = vec!["192.0.2.0/24".parse().unwrap()]).await;
    let message = format!("X-Auth-Key-Status: NOKEY; by=hop\n{}", key_mail(ALICE, JUNK));
    let outcome = sent(&house, ALICE, &message).await;
    assert_eq!(outcome.edits, [Edit::Delete { name: "X-New-Auth-Key".into(), index: 1 }]);
    // On its way to elsewhere it is not ours.
    let relayed = sent(&house, "x@elsewhere.example", &key_mail("x@elsewhere.example", JUNK)).await;
    assert!(relayed.edits.is_empty());
}

#[tokio::test]
async fn a14_a_living_key_of_ours_that_comes_from_outside_is_told() {
    let house = House::build(|config| config.trusted_hops = vec!["198.51.100.9/32".parse().unwrap()]).await;
    let key = house.issue(ALICE).await;
    let message = |key: &str| format!("From: alice@home.example\nX-Auth-Key: {key}\n\nbody\n");
    let from = |client: &str, login: Option<&str>| Envelope {
        client: client.parse().unwrap(),
        login: login.map(String::from),
        ..Envelope::inbound(ALICE, BOB)
    };
    for (envelope, key, told) in [
        (from("192.0.2.7", None), key.expose(), true),
        (from("192.0.2.7", Some("mallory@home.example")), key.expose(), true),
        (from("192.0.2.7", Some(ALICE)), key.expose(), false),
        (from("198.51.100.9", None), key.expose(), false),
        (from("192.0.2.7", None), JUNK, false),
    ] {
        assert_eq!(house.send(&envelope, &message(key)).await.fate, Fate::Delivered);
        assert_eq!(note(&house).await.contains("addrauth key rotate alice@home.example"), told, "{envelope:?}");
    }
}
