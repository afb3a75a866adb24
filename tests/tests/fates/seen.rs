//! What became of a message, as the MTA, the tables and the messages themselves tell it.

use std::collections::BTreeMap;
use std::time::Duration;

use addrauth_lab::mta::{Fate, Outcome};
use addrauth_tests::world::{GOOD, JUNK};
use rusqlite::{Connection, Row};

use crate::stage::{self, AWAY, FORGED, Stage};
use crate::table::{Cell, Expected};

/// Recipient, outcome and octets of a message that is kept.
type Held = (String, Option<String>, Vec<u8>);

/// All that the tables hold, by queue id.
#[derive(Default)]
pub struct Tables {
    journal: BTreeMap<String, Vec<String>>,
    kept: BTreeMap<String, Vec<Held>>,
    /// Kind, recipient.
    outbox: BTreeMap<String, Vec<(String, String)>>,
}

impl Tables {
    /// Reads them as soon as the journal has `rows` rows.
    pub async fn read(stage: &Stage, rows: usize) -> Tables {
        let file = Connection::open(stage.filter.tables()).unwrap();
        file.busy_timeout(Duration::from_secs(30)).unwrap();
        for _ in 0..600 {
            let count: i64 = file.query_row("SELECT count(*) FROM journal", (), |row| row.get(0)).unwrap();
            if usize::try_from(count).unwrap() >= rows {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let mut tables = Tables::default();
        each(&file, "SELECT queue_id, result FROM journal", |id, row| {
            tables.journal.entry(id).or_default().push(row.get(1).unwrap());
        });
        let kept =
            "SELECT queue_id, recipient, outcome, message FROM held JOIN quarantine ON quarantine = quarantine.id";
        each(&file, kept, |id, row| {
            let kept = (row.get(1).unwrap(), row.get(2).unwrap(), row.get(3).unwrap());
            tables.kept.entry(id).or_default().push(kept);
        });
        let outbox = "SELECT queue_id, kind, recipient FROM outbox JOIN journal ON outbox.journal = journal.id WHERE ended IS NULL";
        each(&file, outbox, |id, row| {
            tables.outbox.entry(id).or_default().push((row.get(1).unwrap(), row.get(2).unwrap()));
        });
        tables
    }
}

/// Shows each row that is found, with the queue id in its first column.
fn each(file: &Connection, query: &str, mut see: impl FnMut(String, &Row<'_>)) {
    let mut statement = file.prepare(query).unwrap();
    let mut rows = statement.query(()).unwrap();
    while let Some(row) = rows.next().unwrap() {
        see(row.get(0).unwrap(), row);
    }
}

/// What can be seen of one cell.
pub struct Seen<'a> {
    pub cell: &'a Cell,
    pub outcome: &'a Outcome,
    pub tables: &'a Tables,
}

impl Seen<'_> {
    /// Everything that is not as the table says.
    pub fn differs(&self, expected: &Expected) -> Vec<String> {
        let result = self.rows(&self.tables.journal).first().cloned();
        let rows = self.rows(&self.tables.journal).len();
        let notices = self.rows(&self.tables.outbox).iter().filter(|(kind, _)| kind == "notice").count();
        let mut wrong = Vec::new();
        let mut compare = |what: &str, seen: &str, expected: &str| {
            if seen != expected {
                wrong.push(format!("{}: {what} is {seen} and not {expected}", self.cell));
            }
        };
        compare("answer", self.answer(), &expected.answer);
        compare("here", &self.here(), &expected.here);
        compare("away", &self.away(), &expected.away);
        compare("result", &format!("{result:?}"), &format!("{:?}", expected.result));
        compare("rows", &rows.to_string(), if expected.result.is_some() { "1" } else { "0" });
        compare("notices", &notices.to_string(), &expected.notices.to_string());
        wrong.extend(self.spoiled(expected).map(|how| format!("{}: {how}", self.cell)));
        wrong
    }

    fn rows<'b, T>(&self, table: &'b BTreeMap<String, Vec<T>>) -> &'b [T] {
        table.get(&self.cell.queue_id()).map(Vec::as_slice).unwrap_or_default()
    }

    fn answer(&self) -> &str {
        match &self.outcome.fate {
            Fate::Delivered => "deliver",
            Fate::Discarded => "drop",
            Fate::Held(_) => "hold",
            Fate::Refused(text) if text.starts_with("550 5.7.1 ") => "refuse",
            Fate::Refused(text) if text.starts_with("451 4.7.1 ") => "defer",
            Fate::Refused(text) => text,
        }
    }

    fn gets(&self, address: &str) -> bool {
        self.outcome.fate == Fate::Delivered && self.outcome.recipients.iter().any(|to| to == address)
    }

    /// Every place where the copy of the one here is; more than one word is a fault by itself.
    fn here(&self) -> String {
        if self.cell.place == "outside" {
            return "-".into();
        }
        let bob = stage::here(self.cell);
        let folder = bob.replacen('@', "+Junk@", 1);
        let text = text(&self.outcome.message);
        let mut places = Vec::new();
        match self.answer() {
            "refuse" => places.push("refused"),
            "defer" => places.push("deferred"),
            "deliver" if self.gets(&bob) && key_of(&text).is_some() => places.push("the key"),
            "deliver" if self.gets(&bob) => places.push(match (status_of(&text), is_marked(&text)) {
                (None, false) => "same",
                (Some(_), false) => "inbox",
                (Some(_), true) => "marked",
                (None, true) => "a mark without a status",
            }),
            _ => {}
        }
        if self.gets(&folder) {
            places.push(if key_of(&text).is_none() { "folder" } else { "the key, in the folder" });
        }
        for (to, outcome, message) in self.rows(&self.tables.kept) {
            let marked = is_marked(&self::text(message));
            places.push(match (outcome.as_deref(), to) {
                (None, to) if *to == bob => "kept",
                (Some("copied"), to) if *to == bob && marked => "copy+mark",
                (Some("copied"), to) if *to == bob => "copy",
                (Some("copied"), to) if *to == folder && !marked => "copy+folder",
                _ => "a copy for nobody",
            });
        }
        let reports = self.rows(&self.tables.outbox).iter().filter(|(kind, _)| kind == "report");
        places.extend(reports.map(|(_, to)| if *to == stage::own(self.cell) { "reported" } else { "misreported" }));
        if places.is_empty() { "dropped".into() } else { places.join(" and ") }
    }

    /// What the one elsewhere gets.
    fn away(&self) -> String {
        let text = text(&self.outcome.message);
        if self.cell.place == "inside" {
            return "-".into();
        }
        let word = match (self.answer(), key_of(&text)) {
            ("deliver", _) if !self.gets(AWAY) => "nothing",
            ("deliver", Some(key))
                if text.starts_with(&format!("X-Auth-Key: {GOOD}\nX-Auth-Agent: SMTP - postfix 3.7\n")) =>
            {
                if key == GOOD { "stamped" } else { "two keys" }
            }
            ("deliver", Some(key)) if Some(key.as_str()) == stage::brought(self.cell) => "key",
            ("deliver", Some(_)) => "another key",
            ("deliver", None) if status_of(&text).is_some() => "told",
            ("deliver", None) => "bare",
            ("defer", _) => "deferred",
            (other, _) => other,
        };
        let ours = is_marked(&text) || word != "told" && status_of(&text).is_some();
        if ours { format!("{word}, with a field of ours") } else { word.into() }
    }

    /// What is wrong with the octets of what anybody here gets, or is kept for him: they are the message's, less key and forged
    /// words, with one status on top.
    fn spoiled(&self, expected: &Expected) -> Option<String> {
        let left = stage::message(self.cell)[1].clone();
        let ours = |word: &str| {
            let word = match word {
                "valid" => "VALIDKEY",
                "invalid" => "INVALIDKEY",
                _ => "NOKEY",
            };
            let reason = if word == "INVALIDKEY" { "; reason=wrong" } else { "" };
            format!("X-Auth-Key-Status: {word}; address={}; by=mx.home.example{reason}\r\n", stage::author(self.cell))
        };
        let status = expected.result.as_deref().map(ours).unwrap_or_default();
        for (_, outcome, message) in self.rows(&self.tables.kept) {
            let mark = if expected.here == "copy+mark" { "X-Spam-Flag: YES\r\n" } else { "" };
            let due = [status.as_bytes(), mark.as_bytes(), &left].concat();
            if *message != due {
                return Some(format!("{outcome:?} is {}\nand not {}", text(message), text(&due)));
            }
            let under_way = self.rows(&self.tables.outbox).iter().any(|(kind, _)| kind == "copy");
            if outcome.is_some() != under_way {
                return Some("a copy that is not under way, or is not to be".into());
            }
        }
        let text = text(&self.outcome.message);
        let status = status.replace("\r\n", "\n");
        match expected.here.as_str() {
            _ if text.is_empty() => None,
            "inbox" | "marked" | "folder" => {
                let due = format!("{status}{}", self::text(&left));
                (without_mark(&text) != due).then(|| format!("he gets {text}\nand not {due}"))
            }
            _ if expected.away == "told" => {
                (text != format!("{status}{}", self::text(&left))).then(|| format!("told {text}"))
            }
            _ => {
                // A stranger's mail that only passes is left as it is, forged words and all.
                let passes = text.contains(FORGED);
                let relayed = matches!(expected.away.as_str(), "key" | "bare")
                    && (self.cell.who == "stranger" || self.cell.who == "submitter" && self.cell.from != "own");
                (passes != relayed).then(|| format!("forged words: {text}"))
            }
        }
    }
}

fn text(message: &[u8]) -> String {
    String::from_utf8_lossy(message).replace("\r\n", "\n")
}

fn head(text: &str) -> impl Iterator<Item = &str> {
    text.lines().take_while(|line| !line.is_empty())
}

/// The value of the key field, if there is one; of two, both.
fn key_of(text: &str) -> Option<String> {
    let value = |line: &str| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("X-Auth-Key").then(|| value.trim().to_owned())
    };
    let keys: Vec<String> = head(text).filter_map(value).collect();
    assert!(keys.iter().all(|key| key == GOOD || key == JUNK), "{text}");
    if keys.is_empty() { None } else { Some(keys.join(" and ")) }
}

/// Our status.
fn status_of(text: &str) -> Option<&str> {
    head(text).find(|line| line.starts_with("X-Auth-Key-Status:") && line.contains("by=mx.home.example"))
}

fn is_marked(text: &str) -> bool {
    head(text).any(|line| line == "X-Spam-Flag: YES")
}

fn without_mark(text: &str) -> String {
    text.replacen("X-Spam-Flag: YES\n", "", 1)
}
