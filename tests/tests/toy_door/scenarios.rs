//! The scenario table (tests/cases/doors.tsv), brought to all doors of a reception.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use addrauth::config::{Config, Limits, Milter};
use addrauth::filter::Filter;
use addrauth::mta::Lanes;
use addrauth::mta::milter::{self, serve};
use addrauth::mta::reception::Reception;
use addrauth::policy::Trial;
use addrauth_lab::mta::{Envelope, Fate, Mta};
use addrauth_lab::zone::Zone;
use addrauth_tests::authority::{Act, Authority};
use addrauth_tests::bridge::Bridge;
use addrauth_tests::hooks;
use addrauth_tests::stalwart::{Brought, Stalwart};
use addrauth_tests::toy::Toy;
use addrauth_tests::world::{GOOD, JUNK, key, leading_to};
use rusqlite::Connection;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The scenarios, and the shipped policies that are them; `None`: one that puts everything off.
const SCENARIOS: [(&str, Option<&str>); 8] = [
    ("accept", Some("accept")),
    ("mark", Some("mark")),
    ("silent", Some("reject-silently")),
    ("sender", Some("reject-notify-sender")),
    ("recipient", Some("reject-notify-recipient")),
    ("both", Some("reject-notify-both")),
    ("quarantine", Some("quarantine")),
    ("defer", None),
];
pub(super) const KEYS: [(&str, Option<&str>, &str); 3] =
    [("valid", Some(GOOD), "valid"), ("wrong", Some(JUNK), "invalid"), ("none", None, "missing")];
pub(super) const FRIEND: &str = "friend@accept.here.example";
pub(super) const BODY: &str = "one line\r\n.\r\nX-Auth-Key: in the body it is text\r\n";

/// A message to be brought.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cell {
    number: usize,
    scenario: &'static str,
    pub(super) mixed: bool,
    pub(super) key: (&'static str, Option<&'static str>, &'static str),
}

/// What a line of the table expects, or what was seen: answer, own, other, row, notice.
pub(super) type Fates = [String; 5];

/// What the MTA does with a message in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Outcome {
    answer: String,
    gets: Vec<String>,
    /// Header and body, LF for CRLF.
    message: String,
}

impl Cell {
    pub(super) fn all() -> Vec<Cell> {
        let mut all = Vec::new();
        for (scenario, _) in SCENARIOS {
            for mixed in [false, true] {
                all.extend(KEYS.map(|key| Cell { number: 0, scenario, mixed, key }));
            }
        }
        all.iter_mut().enumerate().for_each(|(number, cell)| cell.number = number);
        all
    }

    /// An address of its own where a report may go to it, of which each gets one in an hour.
    pub(super) fn sender(&self) -> String {
        let told = ["silent", "sender", "both"].contains(&self.scenario);
        if told { format!("u{}@example.com", self.number) } else { "alice@example.com".into() }
    }

    pub(super) fn own(&self) -> String {
        format!("bob{}@{}.here.example", self.number, self.scenario)
    }

    pub(super) fn recipients(&self) -> Vec<String> {
        if self.mixed { vec![self.own(), FRIEND.into()] } else { vec![self.own()] }
    }

    pub(super) fn queue_id(&self) -> String {
        format!("C{}", self.number)
    }

    /// Names and values, LF for line endings.
    pub(super) fn fields(&self) -> Vec<(&'static str, String)> {
        let from = self.sender();
        let mut fields = vec![
            ("X-Auth-Key-Status", " VALIDKEY; address=boss@example.com; by=forged.example".to_owned()),
            ("From", format!(" Alice <{from}>")),
            ("Authentication-Results", format!(" mx.home.example; spf=pass\n\tsmtp.mailfrom={from}")),
            ("Subject", "  odd".to_owned()),
        ];
        if let Some(key) = self.key.1 {
            fields.insert(2, ("x-auth-key", format!(" {key}")));
        }
        fields
    }
}

/// The line of this table that speaks of a cell.
pub(super) fn expected(cell: &Cell, table: &str) -> Fates {
    let mut lines = table.lines().filter(|line| !line.starts_with('#'));
    assert_eq!(lines.next(), Some("scenario\tshape\tkey\tanswer\town\tother\trow\tnotice"));
    let shape = if cell.mixed { "mixed" } else { "one" };
    let speaks = |words: &Vec<&str>| {
        (words[0], words[1]) == (cell.scenario, shape)
            && (words[2] == "*" || words[2].split(',').any(|key| key == cell.key.0))
    };
    let lines: Vec<Vec<&str>> = lines.map(|line| line.split('\t').collect()).filter(speaks).collect();
    let [line] = lines.as_slice() else { panic!("{} lines speak of {cell:?}", lines.len()) };
    std::array::from_fn(|at| line[at + 3].to_owned())
}

/// A filter in a folder of its own; there is one behind each door.
pub(super) struct Stage {
    home: tempfile::TempDir,
    pub(super) filter: Arc<Filter>,
}

/// What the filter's files have of one message.
pub(super) struct Files {
    /// Result and verdict of each row of the journal.
    pub(super) journal: Vec<(String, String)>,
    /// What waits, and for whom.
    pub(super) kept: Vec<(String, String)>,
}

impl Stage {
    pub(super) async fn set(zone: &Zone) -> Stage {
        let home = tempfile::tempdir().unwrap();
        let finals: Vec<String> = SCENARIOS.iter().map(|(name, _)| format!("{name}.here.example")).collect();
        let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("hostile/hostile.wasm");
        let mut text = format!(
            "hostname = \"mx.home.example\"\nfinal_domains = {finals:?}\nobserve = false\nstate_dir = {:?}\n\
             trusted_authserv_ids = [\"mx.home.example\"]\n[notices]\nnotify_via = \"127.0.0.1:9\"\n\
             [verify]\ndns = [\"{}\"]\nallow_targets = [\"127.0.0.0/8\"]\n\
             [policies.putting-off]\nmodule = {module:?}\nsettings = {{ does = \"trap\" }}\n\
             [policy]\nquarantine = \"store\"\n",
            home.path(),
            zone.addr
        );
        for (name, policy) in SCENARIOS {
            text += &format!("[policy.domain.\"{name}.here.example\"]\n");
            for result in ["valid", "invalid", "missing", "none", "unverified", "unusable"] {
                let policy = match policy {
                    // Bound to a missing key that would be a fault of the configuration.
                    Some("reject-silently") if result == "missing" => "reject-notify-sender",
                    Some(policy) => policy,
                    None => "putting-off",
                };
                text += &format!("{result} = \"{policy}\"\n");
            }
        }
        let config = Config::parse(&text, Path::new("filter.toml")).unwrap();
        Stage { home, filter: Arc::new(Filter::builder(config, Trial::waived()).open().await.unwrap()) }
    }

    /// What the files have of each message.
    pub(super) async fn files(&self, cells: &[Cell]) -> Vec<Files> {
        self.filter.custody().unwrap().flush().await;
        let file = Connection::open(self.home.path().join("filter.db")).unwrap();
        file.busy_timeout(Duration::from_secs(30)).unwrap();
        let files = |cell: &Cell| {
            let id = cell.queue_id();
            let rows = |query: &str| -> Vec<(String, String)> {
                let mut statement = file.prepare(query).unwrap();
                let rows = statement.query_map([&id], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
                rows.map(Result::unwrap).collect()
            };
            let journal = rows("SELECT result, verdict FROM journal WHERE queue_id = ?");
            let mut kept = rows(
                "SELECT 'kept', recipient FROM held JOIN quarantine ON quarantine = quarantine.id
                     WHERE queue_id = ? AND outcome IS NULL",
            );
            let owed = rows(
                "SELECT kind, recipient FROM outbox JOIN journal ON outbox.journal = journal.id WHERE queue_id = ?",
            );
            kept.extend(owed);
            Files { journal, kept }
        };
        cells.iter().map(files).collect()
    }

    /// Everything that is not as the table says; `reports` where the door shows what vouches for a reverse-path.
    async fn differences(&self, cells: &[Cell], outcomes: &[Outcome], reports: bool) -> Vec<String> {
        let mut wrong = Vec::new();
        for ((cell, outcome), Files { journal, kept }) in cells.iter().zip(outcomes).zip(self.files(cells).await) {
            let notices = kept.iter().filter(|owed| **owed == ("notice".to_owned(), cell.own())).count();
            let row = journal.iter().filter(|(result, _)| result == cell.key.2).count();
            let other = if cell.mixed { outcome.place(&kept, FRIEND, "") } else { "-".into() };
            let own = outcome.place(&kept, &cell.own(), &cell.sender());
            let seen: Fates = [outcome.word().into(), own, other, row.to_string(), notices.to_string()];
            let expected = expected(cell, include_str!("../../cases/doors.tsv"));
            let expected = expected.map(|word| if word == "reported" && !reports { "kept".into() } else { word });
            if seen != expected || journal.len() != 1 {
                wrong.push(format!("{cell:?}: {seen:?} and not {expected:?}; {journal:?} {kept:?}"));
            }
        }
        wrong
    }
}

impl Outcome {
    /// The answer as a word of the table.
    fn word(&self) -> &str {
        match self.answer.as_str() {
            "delivered" => "deliver",
            "dropped" => "drop",
            answer if answer.starts_with("550 5.7.1 ") => "refuse",
            answer if answer.starts_with("451 4.") => "defer",
            answer => answer,
        }
    }

    /// Where this recipient's copy is, as words of the table; `sender` is who may be told that it is nowhere.
    fn place(&self, kept: &[(String, String)], recipient: &str, sender: &str) -> String {
        let head = self.message.split("\n\n").next().unwrap_or_default();
        let mut places = Vec::new();
        match self.word() {
            "refuse" => places.push("refused"),
            "defer" => places.push("deferred"),
            "deliver" if self.gets.iter().any(|path| path == recipient) => {
                let (marked, told) = (head.contains("\nX-Spam-Flag: YES\n"), head.starts_with("X-Auth-Key-Status: "));
                let clean = !head.to_ascii_lowercase().contains("x-auth-key:") && !head.contains("forged.example");
                places.push(if !told || !clean {
                    "spoiled"
                } else if marked {
                    "marked"
                } else {
                    "inbox"
                });
            }
            _ => {}
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

async fn by_milter(stage: &Stage, cells: &[Cell]) -> Vec<Outcome> {
    let milter = Milter { listen: vec!["inet:127.0.0.1:0".parse().unwrap()], group: String::new() };
    let listeners = milter::bind(&milter).unwrap();
    let place = listeners[0].local();
    let (_sender, judge) = watch::channel(Arc::clone(&stage.filter));
    let stop = CancellationToken::new();
    let serving = tokio::spawn(serve(listeners, Reception::open(judge, Arc::default(), stop.clone()), Lanes::here()));
    let mut mta = Mta::connect(&place).await.unwrap();
    let mut outcomes = Vec::new();
    for cell in cells {
        let envelope = Envelope {
            recipients: cell.recipients(),
            queue_id: cell.queue_id(),
            ..Envelope::inbound(&cell.sender(), "")
        };
        let header: String = cell.fields().iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let message = format!("{}\r\n{BODY}", header.replace('\n', "\r\n"));
        let told = mta.send(&envelope, message.as_bytes()).await.unwrap();
        let answer = match told.fate {
            Fate::Delivered => "delivered".into(),
            Fate::Discarded => "dropped".into(),
            Fate::Held(_) => "held".into(),
            Fate::Refused(reply) => reply,
        };
        let message = String::from_utf8(told.message).unwrap().replace("\r\n", "\n");
        outcomes.push(Outcome { answer, gets: told.recipients, message });
    }
    drop(mta);
    stop.cancel();
    serving.await.unwrap();
    outcomes
}

async fn by_toy(stage: &Stage, cells: &[Cell]) -> Vec<Outcome> {
    let (_sender, judge) = watch::channel(Arc::clone(&stage.filter));
    let toy = Toy::open(judge, Arc::new(Limits::default()), CancellationToken::new());
    let mut outcomes = Vec::new();
    for cell in cells {
        let (id, sender) = (cell.queue_id(), cell.sender());
        let mut said = format!("client 192.0.2.7 client.example\nid {id}\nmail <{sender}>\n");
        cell.recipients().iter().for_each(|to| said += &format!("rcpt <{to}>\n"));
        cell.fields().iter().for_each(|(name, value)| said += &format!("field {name}:{value}\n"));
        let said = format!("{said}\n{BODY}");
        let heard = String::from_utf8(toy.converse(said.as_bytes()).await.unwrap()).unwrap();
        let (envelope, message) = heard.split_once("\n\n").unwrap_or((&heard, ""));
        let (answer, rest) = envelope.split_once('\n').unwrap_or((envelope, ""));
        let answer = answer.strip_prefix("250 2.0.0 ").unwrap_or(answer).to_owned();
        let path = |line: &str| line.strip_prefix("to <").unwrap().strip_suffix('>').unwrap().to_owned();
        outcomes.push(Outcome {
            answer,
            gets: rest.lines().map(path).collect(),
            message: message.replace("\r\n", "\n"),
        });
    }
    toy.drain().await;
    outcomes
}

async fn by_stalwart(stage: &Stage, cells: &[Cell]) -> Vec<Outcome> {
    let door = hooks::open(Arc::clone(&stage.filter), Limits::default(), Default::default());
    let mta = Stalwart::asking(door.place);
    let mut outcomes = Vec::new();
    for cell in cells {
        let (id, sender) = (cell.queue_id(), cell.sender());
        let header: String = cell.fields().iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let octets = format!("{}\r\n{BODY}", header.replace('\n', "\r\n")).into_bytes();
        let brought = Brought { from: &sender, to: cell.recipients(), login: None, id: &id, octets: &octets };
        let told = mta.takes(&brought, false).await;
        let answer = match told.reply.as_str() {
            "250 2.0.0 Message queued" => "delivered".into(),
            "250 2.0.0 Message queued for delivery." => "dropped".into(),
            reply => reply.into(),
        };
        let mut message = String::from_utf8(told.message).unwrap().replace("\r\n", "\n");
        // This version cuts the last line ending.
        message += if message.is_empty() { "" } else { "\n" };
        outcomes.push(Outcome { answer, gets: told.gets, message });
    }
    door.close().await;
    outcomes
}

async fn by_bridge(stage: &Stage, cells: &[Cell]) -> Vec<Outcome> {
    let door = hooks::open(Arc::clone(&stage.filter), Limits::default(), Default::default());
    let bridge = Bridge::registered(door.place, None, &["data"]).await;
    let mut outcomes = Vec::new();
    for cell in cells {
        let (id, sender) = (cell.queue_id(), cell.sender());
        let header: String = cell.fields().iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let octets = format!("{}\r\n{BODY}", header.replace('\n', "\r\n")).into_bytes();
        let brought = Brought { from: &sender, to: cell.recipients(), login: None, id: &id, octets: &octets };
        let told = bridge.takes(&brought, false).await;
        let answer = match told.reply.as_str() {
            "250 2.0.0 Ok: queued" => "delivered".into(),
            "250 2.0.0 Ok: dropped" => "dropped".into(),
            reply => reply.into(),
        };
        let message = String::from_utf8(told.message).unwrap().replace("\r\n", "\n");
        outcomes.push(Outcome { answer, gets: told.gets, message });
    }
    door.close().await;
    outcomes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_scenario_has_the_same_fate_whatever_door_a_message_comes_to() {
    let cells = Cell::all();
    assert_eq!(cells.len(), 8 * 2 * 3);
    let server = Authority::start([Act::Check(key(GOOD))]).await.unwrap();
    let zone = Zone::start(leading_to(&[&server], "")).await.unwrap();
    let (one, other) = (Stage::set(&zone).await, Stage::set(&zone).await);
    let (third, fourth) = (Stage::set(&zone).await, Stage::set(&zone).await);
    let (by_milter, by_toy) = (by_milter(&one, &cells).await, by_toy(&other, &cells).await);
    let (by_stalwart, by_bridge) = (by_stalwart(&third, &cells).await, by_bridge(&fourth, &cells).await);
    let mut wrong = Vec::new();
    for (door, stage, outcomes) in [
        ("the milter", &one, &by_milter),
        ("the toy", &other, &by_toy),
        ("Stalwart", &third, &by_stalwart),
        ("the bridge", &fourth, &by_bridge),
    ] {
        // Stalwart shows no Authentication-Results of its own, so nobody is proved, and no report goes out.
        let differences = stage.differences(&cells, outcomes, door != "Stalwart").await;
        wrong.extend(differences.into_iter().map(|how| format!("{door}, {how}")));
        for ((cell, milter), outcome) in cells.iter().zip(&by_milter).zip(outcomes) {
            if milter != outcome {
                wrong.push(format!("{door}, {cell:?}: {outcome:?} and not {milter:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} differences\n{}", wrong.len(), wrong.join("\n"));
    for stage in [one, other, third, fourth] {
        stage.filter.custody().unwrap().close().await;
    }
}
