//! A13: a message that repeats its key wherever a message can: nothing of what is kept, journalled, sent or logged holds it.

use std::collections::HashSet;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use addrauth::config::Bindings;
use addrauth::outbox::Turn;
use addrauth::proto::address;
use addrauth_lab::mailbox::Mailbox;
use addrauth_lab::mta::{Envelope, Fate, Outcome};
use addrauth_tests::keys::House;

/// Where all log lines go.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Octets of what is searched for.
const WINDOW: usize = 16;

/// A key that no other message has.
fn key(number: usize) -> String {
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut state = (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(digits[usize::try_from(state >> 40).unwrap() % digits.len()])
    };
    (0..64).map(|_| next()).collect()
}

fn base64(text: &str) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |octets: &[u8]| {
        let bits = octets.iter().fold(0_u32, |bits, octet| bits << 8 | u32::from(*octet));
        [18, 12, 6, 0].map(|shift| char::from(DIGITS[usize::try_from(bits >> shift & 63).unwrap()]))
    };
    text.as_bytes().chunks_exact(3).flat_map(group).collect()
}

fn escaped(text: &str, sign: char) -> String {
    text.bytes().map(|octet| format!("{sign}{octet:02X}")).collect()
}

/// The ways to write a key at a place.
fn ways(place: &str) -> &'static [&'static str] {
    match place {
        "body" => &["plain", "folded", "soft", "equals", "percent", "base64", "base64 shifted"],
        "subject" | "dkim" | "renamed" | "references" => &["plain", "folded", "equals", "percent", "base64"],
        _ => &["plain"],
    }
}

fn written(key: &str, way: &str) -> String {
    let (begin, end) = key.split_at(27);
    match way {
        "plain" => key.to_owned(),
        "folded" => format!("{begin}\r\n {end}"),
        "soft" => format!("{begin}=\r\n{end}"),
        "equals" => escaped(key, '='),
        "percent" => format!("{begin}{}", escaped(end, '%')),
        "base64" => base64(&format!("{key}xx")),
        _ => base64(&format!("a{key}x")),
    }
}

/// A message whose key stands at one place besides its own field, as it is written there; with a word beside it that is kept.
///
/// A second key that differs makes it `unusable` without a question to anybody.
fn message(place: &str, key: &str, other: &str, written: &str, control: &str) -> String {
    let spot = |here: &str| if here == place { format!("{control} {written}") } else { "nothing".to_owned() };
    let junk = match place {
        "junk" => format!("a line of junk\r\n{}X-Auth-Key: {key}\r\nX-Kept: {control}\r\n", "X: y\r\n".repeat(100)),
        _ => String::new(),
    };
    format!(
        "From: Alice <alice@home.example>\r\nTo: bob@home.example\r\nSubject: {}\r\nX-Auth-Key: {key}\r\nX-Auth-Key: {other}\r\n\
         DKIM-Signature: v=1; a=rsa-sha256; d=home.example; s=x; z=From:=20a|X-Auth-Key:=20{}|Date:x;\r\n\tb=abcd\r\n\
         X-Original-X-Auth-Key: {}\r\nMessage-ID: <{}@home.example>\r\nReferences: {}\r\n{junk}\r\n{}\r\n",
        spot("subject"),
        if place == "dkim" { format!("{written}|X:{control}") } else { "x".into() },
        spot("renamed"),
        if place == "message-id" { format!("{control}.{key}") } else { "x".into() },
        spot("references"),
        spot("body"),
    )
}

const PLACES: [&str; 10] =
    ["subject", "dkim", "renamed", "message-id", "references", "body", "junk", "helo", "path", "login-name"];

#[tokio::test]
async fn a13_nothing_that_is_kept_or_told_holds_a_copy_of_a_key() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::DEBUG)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .init();
    let mailbox = Mailbox::start().unwrap();
    let house = House::build(|config| {
        config.notices.notify_via = mailbox.address().to_string();
        let bound = |id: &str| Bindings { unusable: Some(id.into()), ..Bindings::default() };
        for (who, id) in
            [("bob", "quarantine"), ("carol", "reject-notify-recipient"), ("dave", "mark"), ("erin", "accept")]
        {
            let mailbox = address::Mailbox::parse(&format!("{who}@home.example")).unwrap();
            config.policy.recipient.insert(mailbox, bound(id));
        }
    })
    .await;
    let mut sent = Vec::new();
    let mut replies = String::new();
    for place in PLACES {
        for way in ways(place) {
            let number = sent.len();
            let (key, control) = (key(number), format!("control.{number:03}.word"));
            let (copy, other) = (written(&key, way), self::key(number + 1_000));
            let mut envelope = Envelope::inbound("mallory@evil.example", "bob@home.example");
            envelope.recipients = ["bob", "carol", "dave", "erin"].map(|who| format!("{who}@home.example")).into();
            envelope.queue_id = format!("Q{number}");
            match place {
                "helo" => envelope.helo = format!("{control}.{}", copy),
                "path" => envelope.reverse_path = format!("{key}@{control}.example"),
                "login-name" => envelope.client_name = format!("{control}.{key}"),
                _ => {}
            }
            let outcome: Outcome = house.send(&envelope, &message(place, &key, &other, &copy, &control)).await;
            // Everybody's wish is carried out; the message itself goes on to one of them.
            assert_eq!(outcome.fate, Fate::Delivered, "{place} {way}: {outcome:?}");
            replies += &format!("{:?}\n", outcome.fate);
            sent.push((place, way, key, control));
        }
    }
    let rows = house.journal().await;
    assert_eq!(rows.len(), sent.len());
    while house.filter.custody().unwrap().outbox().turn(SystemTime::now()).await.unwrap() != Turn::Idle {}
    let mails: Vec<u8> = mailbox.taken().into_iter().flat_map(|mail| mail.text.into_bytes()).collect();
    let log = log.0.lock().unwrap().clone();
    let kept = [house.octets(), format!("{rows:?}").into_bytes(), mails, log, replies.into_bytes()].concat();
    let windows: HashSet<&[u8]> = kept.windows(WINDOW).collect();
    let holds = |text: &str| windows.contains(&text.as_bytes()[..WINDOW]);
    for (place, way, key, control) in &sent {
        // What stands beside it is there: a search in the wrong octets would find no key either.
        assert!(holds(control), "{place} {way}: the control");
        // A part of the key is as bad as the whole of it, in any alphabet.
        for part in [&key[..16], &key[24..40], &key[48..]] {
            for form in [part.to_owned(), escaped(part, '='), escaped(part, '%')] {
                assert!(!holds(&form), "{place} {way}: {form} of {key}");
            }
        }
        for shift in ["", "a", "aa"] {
            let digits = base64(&format!("{shift}{key}xx"));
            assert!(!holds(&digits[8..24]) && !holds(&digits[40..56]), "{place} {way}: base64");
        }
    }
}
