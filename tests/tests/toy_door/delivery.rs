//! The scenarios between queue and mailbox (tests/cases/delivery.tsv), brought to the LMTP door.

use std::collections::HashMap;
use std::sync::Arc;

use addrauth::config::{Lmtp, NextHop};
use addrauth::mta::Lanes;
use addrauth::mta::lmtp::{self, Settings};
use addrauth::mta::reception::Reception;
use addrauth_lab::zone::Zone;
use addrauth_tests::agent::{Agent, Client, Habits};
use addrauth_tests::authority::{Act, Authority};
use addrauth_tests::world::{GOOD, key, leading_to};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::scenarios::{BODY, Cell, FRIEND, Fates, Files, Stage, expected};

/// What came of one message.
struct Outcome {
    /// The answer for each recipient.
    answers: HashMap<String, String>,
    /// The copy of each that got one.
    copies: HashMap<String, Vec<String>>,
}

impl Outcome {
    fn word(&self) -> &'static str {
        match () {
            () if !self.copies.is_empty() => "deliver",
            () if self.answers.values().all(|answer| answer.starts_with("250 2.")) => "drop",
            () if self.answers.values().all(|answer| answer.starts_with("451 4.")) => "defer",
            () => "something else",
        }
    }

    fn place(&self, kept: &[(String, String)], recipient: &str, sender: &str) -> String {
        let mut places = Vec::new();
        if self.answers[recipient].starts_with("451 4.") {
            places.push("deferred");
        }
        for copy in self.copies.get(recipient).into_iter().flatten() {
            places.push(looks(copy));
        }
        places.extend(kept.iter().filter_map(|(kind, to)| match kind.as_str() {
            "kept" if to == recipient => Some("kept"),
            "copy" if to == recipient => Some("copy"),
            "report" if to == sender => Some("reported"),
            _ => None,
        }));
        if places.is_empty() { "dropped".into() } else { places.join("+") }
    }
}

/// What a copy that was delivered is: told, clean, and the body's octets as they were.
fn looks(copy: &str) -> &'static str {
    let Some((head, body)) = copy.split_once("\r\n\r\n") else { return "spoiled" };
    let status = |line: &str| line.to_ascii_lowercase().starts_with("x-auth-key-status");
    let told = head.starts_with("X-Auth-Key-Status: ") && head.split("\r\n").filter(|line| status(line)).count() == 1;
    let clean = !head.to_ascii_lowercase().contains("x-auth-key:") && !head.contains("forged.example");
    let kept =
        head.ends_with("smtp.mailfrom=alice@example.com\r\nSubject:  odd") || head.ends_with("\r\nSubject:  odd");
    match head.contains("\r\nX-Spam-Flag: YES\r\n") {
        _ if !told || !clean || !kept || body != BODY => "spoiled",
        true => "marked",
        false => "inbox",
    }
}

async fn by_lmtp(stage: &Stage, cells: &[Cell], habits: Habits) -> Vec<Outcome> {
    let agent = Agent::start(habits).await;
    let open = Lmtp { listen: vec!["inet:127.0.0.1:0".parse().unwrap()], ..Lmtp::default() };
    let listeners = lmtp::bind(&open).unwrap();
    let addrauth::config::Listen::Inet(place) = listeners[0].local() else { panic!("not inet") };
    let (_sender, judge) = watch::channel(Arc::clone(&stage.filter));
    let (stop, spool) = (CancellationToken::new(), tempfile::tempdir().unwrap());
    let settings = Settings {
        next: NextHop::Inet(agent.address.ip().to_string(), agent.address.port()),
        name: "mx.home.example".into(),
        spool: spool.path().to_owned(),
    };
    let reception = Reception::open(judge, Arc::default(), stop.clone());
    let serving = tokio::spawn(lmtp::serve(listeners, reception, Lanes::here(), settings));
    let (mut mta, _) = Client::open(place).await;
    let mut outcomes = Vec::new();
    for cell in cells {
        let facts = format!("XFORWARD ADDR=192.0.2.7 NAME=client.example IDENT={}", cell.queue_id());
        assert_eq!(mta.say(&facts).await, ["250 2.0.0 Ok"]);
        let header: String = cell.fields().iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let message = format!("{}\r\n{BODY}", header.replace('\n', "\r\n"));
        let answers = mta.bring(&cell.sender(), &cell.recipients(), message.as_bytes()).await;
        assert_eq!(answers.len(), cell.recipients().len(), "{answers:?}");
        let mut copies = HashMap::<String, Vec<String>>::new();
        for delivery in agent.take() {
            for to in delivery.to {
                copies.entry(to).or_default().push(String::from_utf8(delivery.message.clone()).unwrap());
            }
        }
        outcomes.push(Outcome { answers: cell.recipients().into_iter().zip(answers).collect(), copies });
    }
    mta.say("QUIT").await;
    stop.cancel();
    serving.await.unwrap();
    outcomes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_scenario_has_the_fate_that_belongs_between_queue_and_mailbox() {
    let cells = Cell::all();
    let server = Authority::start([Act::Check(key(GOOD))]).await.unwrap();
    let zone = Zone::start(leading_to(&[&server], "")).await.unwrap();
    let stage = Stage::set(&zone).await;
    let outcomes = by_lmtp(&stage, &cells, Habits::default()).await;
    let mut wrong = Vec::new();
    for ((cell, outcome), Files { journal, kept }) in cells.iter().zip(&outcomes).zip(stage.files(&cells).await) {
        let notices = kept.iter().filter(|owed| **owed == ("notice".to_owned(), cell.own())).count();
        let row = journal.iter().filter(|(result, _)| result == cell.key.2).count();
        let other = if cell.mixed { outcome.place(&kept, FRIEND, "") } else { "-".into() };
        let own = outcome.place(&kept, &cell.own(), &cell.sender());
        let seen: Fates = [outcome.word().into(), own, other, row.to_string(), notices.to_string()];
        let expected = expected(cell, include_str!("../../cases/delivery.tsv"));
        if seen != expected || journal.len() != 1 {
            wrong.push(format!("{cell:?}: {seen:?} and not {expected:?}; {journal:?} {kept:?} {:?}", outcome.answers));
        }
    }
    assert!(wrong.is_empty(), "{} differences\n{}", wrong.len(), wrong.join("\n"));
    stage.filter.custody().unwrap().close().await;
}
