//! Which mail is stamped, and which is left as it is.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use super::*;
use crate::case::{Envelope, Field, Head};
use crate::config;
use crate::proto::key::AuthKey;

const NOW: SystemTime = SystemTime::UNIX_EPOCH;

fn key(letter: u8) -> AuthKey {
    AuthKey::parse(&[letter; 64]).unwrap()
}

/// alice's key ends in a minute, bob's has ended, carol's cannot be read, dave's never comes, and nobody else has one.
#[derive(Debug, Default)]
struct Shelf(AtomicUsize);

#[async_trait]
impl Source for Shelf {
    async fn newest(&self, address: &Address) -> Result<Option<(AuthKey, SystemTime)>, Error> {
        self.0.fetch_add(1, Ordering::SeqCst);
        match address.mailbox().as_str() {
            "alice@example.com" => Ok(Some((key(b'a'), NOW + Duration::from_secs(60)))),
            "bob@example.com" => Ok(Some((key(b'b'), NOW))),
            "carol@example.com" => Err(Error::Shut { address: address.to_string() }),
            "dave@example.com" => std::future::pending().await,
            _ => Ok(None),
        }
    }
}

fn address(text: &str) -> Option<Address> {
    Some(Address::parse(text.as_bytes(), false).unwrap())
}

fn mail(fields: &[(&str, &str)], path: Option<&str>) -> Mail {
    let field = |(name, value): &(&str, &str)| Field { name: (*name).into(), value: format!(" {value}").into_bytes() };
    Mail::new(
        Envelope {
            received: NOW,
            mta: "Postfix 3.7.11".into(),
            login: Some("alice@example.com".into()),
            reverse_path: path.map_or(ReversePath::Null, |path| ReversePath::Path(address(path))),
            ..Envelope::default()
        },
        Head { fields: fields.iter().map(field).collect(), ..Head::default() },
    )
}

fn stamper() -> Stamper {
    let limits = Limits::default().with(|limits| limits.custody.keep = Duration::from_millis(50));
    Stamper::new(Arc::new(Shelf::default()), &Arc::new(limits))
}

/// What becomes of a message of this login with this From.
async fn stamped(login: &str, from: &str, mail: &Mail) -> Finding {
    let owners = Owners::new(&config::Keyring::default(), &Arc::default()).unwrap();
    stamper().stamp(mail, address(from), &Author::Login(login, &owners), NOW).await
}

async fn alices(mail: &Mail) -> Stamp {
    match stamped("alice@example.com", "alice@example.com", mail).await {
        Finding::Submitted(submitted) => submitted.stamp,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_login_that_owns_the_from_address_and_the_path_is_stamped_with_its_newest_key() {
    for path in [None, Some("alice@example.com"), Some("alice+bob=other.test@example.com")] {
        assert_eq!(alices(&mail(&[], path)).await, Stamp::Newest(key(b'a')), "{path:?}");
    }
    for path in ["mallory@example.com", "alice@example.org"] {
        assert_eq!(alices(&mail(&[], Some(path))).await, Stamp::Bare(NotStamped::OtherPath), "{path}");
    }
    let no_address = mail(&[], None).altered(|envelope, _| envelope.reverse_path = ReversePath::Path(None));
    assert_eq!(alices(&no_address).await, Stamp::Bare(NotStamped::OtherPath));
    let tagged = stamped("alice@example.com", "Alice+x@example.com", &mail(&[], None)).await;
    assert!(matches!(tagged, Finding::Submitted(Submitted { stamp: Stamp::Newest(_), .. })), "{tagged:?}");
}

#[tokio::test]
async fn i_whoever_writes_as_somebody_else_is_not_stamped() {
    for login in ["mallory@example.com", "alice", "alice@example.org"] {
        let Finding::Submitted(submitted) = stamped(login, "alice@example.com", &mail(&[], None)).await else {
            panic!("judged")
        };
        assert_eq!(submitted.stamp, Stamp::Bare(NotStamped::NotOwner), "{login}");
    }
    let several = mail(&[], None).altered(|_, head| head.fields = Vec::new());
    let owners = Owners::new(&config::Keyring::default(), &Arc::default()).unwrap();
    let found = stamper().stamp(&several, None, &Author::Login("alice@example.com", &owners), NOW).await;
    let bare = Submitted { sender: None, stamp: Stamp::Bare(NotStamped::NoSender), inside: None };
    assert_eq!(found, Finding::Submitted(bare));
}

#[tokio::test]
async fn forwarded_resent_redistributed_and_bounced_mail_is_left_as_it_is() {
    for (name, value, why) in [
        ("List-Id", "<l.example.com>", NotStamped::List),
        ("LIST-POST", "<mailto:l@example.com>", NotStamped::List),
        ("Precedence", "list", NotStamped::List),
        ("Precedence", "Bulk (sorry)", NotStamped::List),
        ("Delivered-To", "alice@example.com", NotStamped::Forwarded),
        ("X-Forwarded-To", "b@other.example", NotStamped::Forwarded),
        ("X-Forwarded-For", "a b", NotStamped::Forwarded),
        ("ARC-Seal", "i=1", NotStamped::Forwarded),
        ("Auto-Submitted", "auto-forwarded", NotStamped::Forwarded),
        ("Resent-From", "alice@example.com", NotStamped::Resent),
        ("Resent-To", "b@other.example", NotStamped::Resent),
        ("Content-Type", "Multipart/Report; report-type=delivery-status", NotStamped::Bounce),
    ] {
        assert_eq!(alices(&mail(&[(name, value)], None)).await, Stamp::Bare(why), "{name}: {value}");
    }
    for (name, value) in
        [("Auto-Submitted", "auto-generated"), ("Precedence", "first-class"), ("List-Unsubscribe", "<mailto:x>")]
    {
        assert_eq!(alices(&mail(&[(name, value)], None)).await, Stamp::Newest(key(b'a')), "{name}: {value}");
    }
    let report = mail(&[("Content-Type", "multipart/report")], Some("alice@example.com"));
    assert_eq!(alices(&report).await, Stamp::Newest(key(b'a')), "a report that returns to her is hers");
    let malformed = mail(&[], None).altered(|_, head| head.malformed = true);
    assert_eq!(alices(&malformed).await, Stamp::Bare(NotStamped::Malformed));
}

#[tokio::test]
async fn whoever_resends_does_so_in_his_own_name_or_the_key_goes() {
    let resent = |by: &str| mail(&[("Resent-From", by), ("Resent-To", "b@other.example")], None);
    let eves = async |mail: &Mail| match stamped("eve@example.com", "x@other.example", mail).await {
        Finding::Submitted(submitted) => submitted.stamp,
        other => panic!("{other:?}"),
    };
    assert_eq!(eves(&resent("Eve <eve@example.com>")).await, Stamp::Bare(NotStamped::Resent));
    assert_eq!(eves(&resent("alice@example.com")).await, Stamp::Bare(NotStamped::NotOwner));
    assert_eq!(eves(&mail(&[("Resent-Date", "now")], None)).await, Stamp::Bare(NotStamped::NotOwner));
}

#[tokio::test]
async fn a_clients_own_good_key_stays_and_any_other_makes_room() {
    let keyed = |keys: Vec<Option<AuthKey>>| mail(&[], None).altered(|_, head| head.keys = keys);
    assert_eq!(alices(&keyed(vec![Some(key(b'x'))])).await, Stamp::Client);
    for keys in [vec![None], vec![Some(key(b'x')), Some(key(b'y'))], vec![Some(key(b'x')), None]] {
        assert_eq!(alices(&keyed(keys)).await, Stamp::Newest(key(b'a')));
    }
}

#[tokio::test]
async fn nothing_is_stamped_after_its_end_and_what_cannot_be_read_is_put_off() {
    let found = async |who: &str| stamped(who, who, &mail(&[], None)).await;
    let stamp = |finding: Finding| match finding {
        Finding::Submitted(submitted) => Some(submitted.stamp),
        _ => None,
    };
    assert_eq!(stamp(found("bob@example.com").await), Some(Stamp::Bare(NotStamped::Ended)));
    assert_eq!(stamp(found("erin@example.com").await), Some(Stamp::Bare(NotStamped::NoKey)));
    for who in ["carol@example.com", "dave@example.com"] {
        assert!(matches!(found(who).await, Finding::Postponed(Postponed::Keyring(_))), "{who}");
    }
}

#[tokio::test]
async fn an_address_whose_newest_key_ends_within_a_day_is_warned_about() {
    let own = address("alice@example.com").unwrap();
    for (alarm, warned) in [(60, true), (59, false)] {
        let limits = Limits::default().with(|limits| limits.keyring.alarm = Duration::from_secs(alarm));
        let stamper = Stamper::new(Arc::new(Shelf::default()), &Arc::new(limits));
        stamper.stamp(&mail(&[], None), Some(own.clone()), &Author::Client(&[&own]), NOW).await;
        assert_eq!(stamper.told.is_due("alice@example.com ends"), !warned, "{alarm}");
    }
}

#[tokio::test]
async fn all_that_one_message_asks_has_one_end_before_the_mta_gives_up() {
    let limits = Limits::default().with(|limits| limits.keyring.owner_message = Duration::from_millis(20));
    assert!(Limits::default().keyring.owner_message * 2 < limits.mta.examine, "inside and outward");
    let stamper = Stamper::new(Arc::new(Shelf::default()), &Arc::new(limits));
    let own = address("dave@example.com").unwrap();
    let found = stamper.stamp(&mail(&[], None), Some(own.clone()), &Author::Client(&[&own]), NOW).await;
    let Finding::Postponed(Postponed::Owners(why)) = found else { panic!("{found:?}") };
    assert!(why.contains("no answer within 20ms"), "{why}");
}

#[tokio::test]
async fn a_submitter_without_a_login_owns_what_is_listed_for_it() {
    let own = ["shop@example.com", "alice@example.com"].map(|own| address(own).unwrap());
    let own: Vec<&Address> = own.iter().collect();
    let author = Author::Client(&own);
    let found = async |from: &str, path: &str| {
        let finding = stamper().stamp(&mail(&[], Some(path)), address(from), &author, NOW).await;
        let Finding::Submitted(submitted) = finding else { panic!("judged") };
        submitted.stamp
    };
    assert_eq!(found("Alice+x@example.com", "shop@example.com").await, Stamp::Newest(key(b'a')));
    assert_eq!(found("alice@example.com", "eve@example.com").await, Stamp::Bare(NotStamped::OtherPath));
    assert_eq!(found("eve@example.com", "shop@example.com").await, Stamp::Bare(NotStamped::NotOwner));
}
