//! Applying a door's answer to a message is the plan of its reply, whatever the message is made of and whichever door it is.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use addrauth::case::{Body, Case, Direction, Finding, Mail, Redirect, Reply, Verdict};
use addrauth::config::{Limits, Listen, Lmtp, Milter, NextHop};
use addrauth::mta::reception::Reception;
use addrauth::mta::{Judge, Lanes, lmtp, milter};
use addrauth::proto::address::Address;
use addrauth::proto::header::{Edit, deletions};
use addrauth::proto::key::AuthKey;
use addrauth_lab::mta::{Envelope, Fate, Mta};
use addrauth_tests::agent::{Agent, Client, Habits};
use addrauth_tests::bridge::{Bridge, shown};
use addrauth_tests::hooks;
use addrauth_tests::stalwart::{Brought, Stalwart};
use addrauth_tests::world::GOOD;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The fields that are to go, by the names that readers see.
const DOOMED: [&str; 3] = ["x-auth-key", "x-new-auth-key", "x-auth-key-status"];

/// A judge that deletes what is doomed, and otherwise does what it is told.
#[derive(Default)]
struct Planner {
    told: Mutex<(Vec<usize>, bool)>,
    bodies: Mutex<Vec<Mail>>,
}

impl Judge for Planner {
    async fn examine(&self, mail: Mail) -> Case {
        let (removed, redirects) = self.told.lock().unwrap().clone();
        let keys = |name, count| deletions(std::iter::repeat_n(name, count), |_, _| true);
        let mut edits = keys("X-Auth-Key", mail.head().keys.len());
        edits.extend(keys("X-New-Auth-Key", mail.head().new_keys.len()));
        edits.extend(keys("X-Auth-Key-Status", mail.named("X-Auth-Key-Status").count()));
        let insert = |name: &str, value: &str| Edit::Insert { index: 0, name: name.into(), value: value.into() };
        edits.push(insert("X-Spam-Flag", " YES"));
        edits.push(insert("X-Auth-Key-Status", " VALIDKEY;\n\tby=mx"));
        edits.push(Edit::InsertKey { key: AuthKey::parse(GOOD.as_bytes()).unwrap() });
        let to = Address::parse(b"bob+Junk@recv.test", false).unwrap();
        let redirected = if redirects { vec![Redirect { recipient: 0, to }] } else { Vec::new() };
        let reply = Reply { edits, removed, redirected, ..Reply::bare(Verdict::Accept) };
        Case { mail, finding: Finding::Passing(Direction::Relay), decisions: vec![], reply }
    }

    async fn keep(&self, case: Case, _: Option<Body>) -> Case {
        self.bodies.lock().unwrap().push(case.mail.clone());
        case
    }
}

/// A line of a header: a name in some spelling, and a value.
fn line() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let name = prop_oneof![
        Just("X-Auth-Key"),
        Just("x-AUTH-key"),
        Just("X-New-Auth-Key"),
        Just("X-Auth-Key-Status"),
        Just("Subject"),
        Just("From"),
        Just("X-Auth-Key-Statuses"),
        Just("Authentication-Results"),
    ];
    let blanks = prop_oneof![4 => Just(""), 1 => Just(" "), 1 => Just("\t"), 1 => Just(" \t ")];
    let value = prop_oneof![
        Just(b" plain".to_vec()),
        Just(b"".to_vec()),
        Just(b"\r\n\tfolded\r\n  twice".to_vec()),
        Just(b" caf\xe9".to_vec()),
        Just("  Jürgen <a@b.example>".as_bytes().to_vec()),
        Just(format!(" {GOOD}").into_bytes()),
    ];
    (name, blanks, value).prop_map(|(name, blanks, value)| ([name.as_bytes(), blanks.as_bytes()].concat(), value))
}

/// What the plan inserts, folded or in one line.
fn inserted(fold: &str) -> Vec<u8> {
    format!("X-Auth-Key: {GOOD}\r\nX-Auth-Key-Status: VALIDKEY;{fold}\tby=mx\r\nX-Spam-Flag: YES\r\n").into_bytes()
}

/// What the plan leaves of a message, made from its lines.
fn left(lines: &[(Vec<u8>, Vec<u8>)], body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    for (name, value) in lines {
        let read = String::from_utf8_lossy(name).trim_end().to_ascii_lowercase();
        if !DOOMED.contains(&read.as_str()) {
            whole.extend([name, b":".as_slice(), value, b"\r\n"].concat());
        }
    }
    whole.extend([b"\r\n", body].concat());
    whole
}

/// Opens the milter's door with this judge behind it.
fn open_milter(judge: watch::Receiver<Arc<Planner>>, stop: &CancellationToken) -> Listen {
    let places = Milter { listen: vec!["inet:127.0.0.1:0".parse().unwrap()], group: String::new() };
    let listeners = milter::bind(&places).unwrap();
    let place = listeners[0].local();
    let reception = Reception::open(judge, Arc::new(Limits::default()), stop.clone());
    tokio::spawn(milter::serve(listeners, reception, Lanes::here()));
    place
}

/// Opens the LMTP door with this judge behind it, and behind that the agent.
fn open_lmtp(
    judge: watch::Receiver<Arc<Planner>>,
    stop: &CancellationToken,
    agent: &Agent,
    spool: &std::path::Path,
) -> std::net::SocketAddr {
    let places = Lmtp { listen: vec!["inet:127.0.0.1:0".parse().unwrap()], ..Lmtp::default() };
    let listeners = lmtp::bind(&places).unwrap();
    let Listen::Inet(place) = listeners[0].local() else { panic!("not inet") };
    let next = NextHop::Inet(agent.address.ip().to_string(), agent.address.port());
    let settings = lmtp::Settings { next, name: "mx.home.example".into(), spool: spool.to_owned() };
    let reception = Reception::open(judge, Arc::new(Limits::default()), stop.clone());
    tokio::spawn(lmtp::serve(listeners, reception, Lanes::here(), settings));
    place
}

#[test]
fn an_answer_applied_by_the_mail_server_is_the_plan() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let _within = runtime.enter();
    let judge = Arc::new(Planner::default());
    let door = hooks::open(Arc::clone(&judge), Limits::default(), Default::default());
    let bridge = runtime.block_on(Bridge::registered(door.place, None, &["data"]));
    let stalwart = Stalwart { cuts: false, ..Stalwart::asking(door.place) };
    let ((_judge, heard), stop) = (watch::channel(Arc::clone(&judge)), CancellationToken::new());
    let place = open_milter(heard.clone(), &stop);
    let mta = tokio::sync::Mutex::new(runtime.block_on(Mta::connect(&place)).unwrap());
    let spool = tempfile::tempdir().unwrap();
    let agent = runtime.block_on(Agent::start(Habits { offers: vec!["8BITMIME"], ..Habits::default() }));
    let place = open_lmtp(heard, &stop, &agent, spool.path());
    let client = tokio::sync::Mutex::new(runtime.block_on(Client::open(place)).0);
    let body = prop_oneof![
        Just(b"".to_vec()),
        Just(b"hello \xe9\r\n.\r\n..\r\n".to_vec()),
        Just("käse\r\n".as_bytes().to_vec()),
        Just(b"X-Auth-Key: text\r\nno end".to_vec()),
    ];
    let case =
        (proptest::collection::vec(line(), 1..12), body, proptest::collection::vec(any::<bool>(), 2), any::<bool>());
    let mut runner = TestRunner::new(Config { cases: 200, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&case, |(lines, body, gone, redirects)| {
        // Never all of them: such a reply is none.
        let removed: Vec<usize> = (0..2).filter(|at| gone[*at]).map(|at| at + 1).collect();
        *judge.told.lock().unwrap() = (removed.clone(), redirects);
        let mut octets: Vec<u8> = Vec::new();
        lines.iter().for_each(|(name, value)| octets.extend([name, b":".as_slice(), value, b"\r\n"].concat()));
        octets.extend([b"\r\n", body.as_slice()].concat());
        let to = ["Bob@recv.test", "CAROL@recv.test", "dave@recv.test"].map(String::from).to_vec();
        let brought = Brought { from: "a@send.test", to, login: None, id: "1", octets: &octets };
        let stays = |names: [&str; 3], junk: &str| -> Vec<String> {
            let stay = names.into_iter().enumerate().filter(|(at, _)| !(removed.contains(at) || redirects && *at == 0));
            stay.map(|(_, to)| to.to_owned()).chain(redirects.then(|| junk.to_owned())).collect()
        };
        let seen = runtime.block_on(bridge.takes(&brought, false));
        prop_assert_eq!(
            &seen.gets,
            &stays(["Bob@recv.test", "CAROL@recv.test", "dave@recv.test"], "bob+Junk@recv.test")
        );
        let plan = [inserted(""), shown(&left(&lines, &body))].concat();
        prop_assert!(
            seen.message == plan,
            "{}\n\n{}",
            String::from_utf8_lossy(&seen.message),
            String::from_utf8_lossy(&plan)
        );
        prop_assert!(judge.bodies.lock().unwrap().pop().unwrap().means.exact);

        let seen = runtime.block_on(stalwart.takes(&brought, false));
        prop_assert_eq!(
            &seen.gets,
            &stays(["bob@recv.test", "carol@recv.test", "dave@recv.test"], "bob+junk@recv.test")
        );
        let plan = [inserted("\r\n"), left(&lines, &body)].concat();
        prop_assert!(
            seen.message == plan,
            "{}\n\n{}",
            String::from_utf8_lossy(&seen.message),
            String::from_utf8_lossy(&plan)
        );
        let mail = judge.bodies.lock().unwrap().pop().unwrap();
        let lossy = octets.contains(&0xe9);
        prop_assert_eq!(mail.means.exact, !lossy);

        let envelope = Envelope { recipients: brought.to.clone(), ..Envelope::inbound("a@send.test", "") };
        let seen = runtime.block_on(async { mta.lock().await.send(&envelope, &octets).await }).unwrap();
        prop_assert_eq!(&seen.fate, &Fate::Delivered);
        let gets = stays(["Bob@recv.test", "CAROL@recv.test", "dave@recv.test"], "bob+Junk@recv.test");
        prop_assert_eq!(&seen.recipients, &gets);
        prop_assert!(
            seen.message == plan,
            "{}\n\n{}",
            String::from_utf8_lossy(&seen.message),
            String::from_utf8_lossy(&plan)
        );

        // Between a queue and an agent a message ends with a line's end, and each recipient is answered.
        let ended = if octets.ends_with(b"\r\n") { octets.clone() } else { [&octets, b"\r\n".as_slice()].concat() };
        let plan = if octets.ends_with(b"\r\n") { plan } else { [plan, b"\r\n".to_vec()].concat() };
        let replies = runtime.block_on(async { client.lock().await.bring("a@send.test", &brought.to, &ended).await });
        prop_assert!(replies.len() == 3 && replies.iter().all(|reply| reply.starts_with("250")), "{replies:?}");
        let deliveries = agent.take();
        prop_assert!(deliveries.iter().all(|delivery| delivery.message == plan), "{deliveries:?}");
        let got: Vec<&String> = deliveries.iter().flat_map(|delivery| &delivery.to).collect();
        prop_assert_eq!(got.len(), gets.len());
        prop_assert_eq!(got.into_iter().collect::<BTreeSet<_>>(), gets.iter().collect::<BTreeSet<_>>());
        Ok(())
    });
    stop.cancel();
    runtime.block_on(door.close());
    outcome.unwrap();
}
