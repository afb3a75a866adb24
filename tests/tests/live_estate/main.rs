//! Two domains with all of their hosts: keys are made, mailed, learned, stamped, verified and replaced, behind real Postfixes.
//! Where `ADDRAUTH_LIVE` is not set, each test says that it is skipped.

use std::sync::{Arc, OnceLock};

use addrauth_tests::estate::{Estate, Role, Settings, Shared};
use addrauth_tests::postgres::Postgres;

mod clocks;
mod exchange;
mod fetched;
mod others;
mod outage;

const ALICE: &str = "alice@one.test";
const MALLORY: &str = "mallory@one.test";
const CAROL: &str = "carol@one.test";
const BOB: &str = "bob@two.test";
/// Forwarded to bob by the MX of one.test.
const FRIEND: &str = "friend@fwd.test";
/// Where mail lies as it came over the wire.
const SINK: &str = "sink@raw.test";

/// Three hosts that share PostgreSQL; `None` where live tests are not wanted. The tests share a cluster, each has a database.
fn apart(settings: Settings) -> Option<Estate> {
    static CLUSTER: OnceLock<Arc<Postgres>> = OnceLock::new();
    std::env::var_os("ADDRAUTH_LIVE")?;
    let cluster = CLUSTER.get_or_init(|| Arc::new(Postgres::start().expect("PostgreSQL")));
    Estate::start(Settings { shared: Shared::Database(cluster.clone()), ..settings })
}

/// A message; `lines` are further fields, each with its CRLF.
fn message(from: &str, subject: &str, lines: &str) -> String {
    format!(
        "{lines}From: {from}\r\nTo: somebody\r\nSubject: {subject}\r\nMessage-ID: <{subject}@client.test>\r\n\r\nhello\r\n"
    )
}

/// A message that is taken for delivery.
#[track_caller]
fn submit(estate: &Estate, login: &str, to: &[&str], message: &str) {
    let reply = estate.submit(login, to, message);
    assert_eq!(reply.code, 250, "{reply:?}");
}

fn head(text: &str) -> &str {
    text.split("\n\n").next().unwrap()
}

/// The values of the header fields of this name, in their order.
fn fields<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let value = |line: &'a str| {
        let (known, value) = line.split_once(':')?;
        known.eq_ignore_ascii_case(name).then_some(value.trim())
    };
    head(text).lines().filter_map(value).collect()
}

/// The value of the one status field of a delivered message, whose word is this one; no field with a key is left.
#[track_caller]
fn assert_status(text: &str, word: &str) -> String {
    let status = fields(text, "X-Auth-Key-Status");
    let [field] = status[..] else { panic!("not one status field:\n{text}") };
    assert_eq!(field.split(';').next(), Some(word), "{text}");
    for name in ["X-Auth-Key", "X-New-Auth-Key"] {
        assert!(fields(text, name).is_empty(), "{name} is left:\n{text}");
    }
    field.to_owned()
}

/// Puts an address into the AS's table and has it make a key now; the key as soon as the submission server could stamp it.
fn enlist(estate: &Estate, address: &str) -> String {
    estate.says(Role::Authority, &["address", "add", address]);
    rotate(estate, address)
}

/// Has the AS make another key, and waits until the keyring has it. Ends are told in whole seconds: the clocks are to have moved
/// since the last one was made.
fn rotate(estate: &Estate, address: &str) -> String {
    let before = estate.key_of(address);
    let said = estate.says(Role::Authority, &["key", "rotate", address]);
    let key = estate.wait_for(&format!("a new key of {address} in the keyring"), || {
        estate.key_of(address).filter(|key| Some(key) != before.as_ref())
    });
    assert!(!said.contains(&key), "`key rotate` printed the key");
    key
}

/// No key stands anywhere once nothing is under way: no mailbox, queue, log, journal or table.
#[track_caller]
fn assert_nowhere(estate: &Estate, keys: &[&str]) {
    for site in [&estate.mx, estate.submission(), &estate.far] {
        site.until_it_is_empty();
    }
    for key in keys {
        let places = estate.places_of(key);
        assert!(places.is_empty(), "a key stands in {places:#?}");
    }
}

/// The rows of a host's journal as JSON, one line, once there is one with this word.
fn journal(estate: &Estate, role: Role, word: &str) -> String {
    estate.wait_for(&format!("a row of {}'s journal with `{word}`", role.name()), || {
        let rows = String::from_utf8(estate.addrauth(role, &["--json", "journal", "list"]).stdout).unwrap();
        rows.contains(word).then_some(rows)
    })
}

#[test]
fn before_the_first_key_is_made_all_mail_flows_and_each_recipient_is_told_the_truth() {
    let Some(estate) = Estate::start(Settings::default()) else { return };
    for (at, to) in [BOB, CAROL, FRIEND].iter().enumerate() {
        submit(&estate, ALICE, &[to], &message(ALICE, &format!("m{at}"), ""));
    }
    assert_status(&estate.far.delivered(BOB, "m0"), "NOKEY");
    assert_status(&estate.mx.delivered(CAROL, "m1"), "VALIDKEY");
    assert_status(&estate.far.delivered(BOB, "m2"), "NOKEY");
    let stranger = message("zoe@else.test", "m3", "");
    assert_eq!(estate.to_mx("zoe@else.test", &[ALICE], &stranger).code, 250);
    assert_status(&estate.mx.delivered(ALICE, "m3"), "NOSERVER");
    assert!(!journal(&estate, Role::Far, ALICE).contains("VALIDKEY"));
}

#[test]
fn the_doctor_finds_nothing_wrong_on_any_host() {
    let Some(estate) = apart(Settings::default()) else { return };
    enlist(&estate, ALICE);
    for role in estate.roles() {
        let site = match role {
            Role::Authority | Role::Mx => &estate.mx,
            Role::Submission => estate.submission(),
            Role::Far => &estate.far,
        };
        let postfix = site.root.join("etc").display().to_string();
        let out = estate.addrauth(role, &["doctor", "one.test", "--postfix", &postfix]);
        let said = String::from_utf8(out.stdout).unwrap();
        assert!(said.contains("one.test: 1 usable AS= records"), "{said}");
        assert!(!said.contains("WRONG"), "{}: {said}", role.name());
    }
}
