//! What became of a message, as the MTA, the tables and the log tell it.

use std::time::{Duration, Instant};

use addrauth_tests::agent::Delivery;
use addrauth_tests::courier::Answer;
use addrauth_tests::fault::Filter;
use rusqlite::{Connection, Row};

use crate::Expected;
use crate::stage::Heard;

/// How long the log's line of a message may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// The result where the log has no line.
const NO_LINE: &str = "-";

/// What can be seen of one message: its row of the table as it turned out.
#[derive(Debug)]
pub struct Seen {
    heard: Heard,
    /// What the delivery agent got of it.
    copies: Vec<Delivery>,
    result: String,
    /// The verdicts of its journal rows, and when they were written.
    pub journal: Vec<(String, i64)>,
    /// Who waits in quarantine for it.
    kept: Vec<String>,
    /// Kinds and recipients of what is to be sent about it.
    outbox: Vec<(String, String)>,
}

fn rows<T>(tables: &Connection, query: &str, id: &str, read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>) -> Vec<T> {
    let mut statement = tables.prepare(query).unwrap();
    statement.query_map([id], read).unwrap().map(Result::unwrap).collect()
}

impl Seen {
    /// Looks it up: in what the MTA was told, in the tables and in the log.
    pub fn look(filter: &Filter, id: &str, heard: Heard, copies: Vec<Delivery>) -> Seen {
        let tables = Connection::open(filter.tables()).unwrap();
        tables.busy_timeout(Duration::from_secs(5)).unwrap();
        let kept = "SELECT recipient FROM held JOIN quarantine ON quarantine = quarantine.id
                    WHERE queue_id = ? AND outcome IS NULL";
        let outbox =
            "SELECT kind, recipient FROM outbox JOIN journal ON outbox.journal = journal.id WHERE queue_id = ?";
        let mut seen = Seen {
            heard,
            copies,
            result: String::new(),
            journal: rows(&tables, "SELECT verdict, at FROM journal WHERE queue_id = ?", id, |row| {
                Ok((row.get(0)?, row.get(1)?))
            }),
            kept: rows(&tables, kept, id, |row| row.get(0)),
            outbox: rows(&tables, outbox, id, |row| Ok((row.get(0)?, row.get(1)?))),
        };
        // The log's line of a message that was answered comes a moment later, and on a busy machine later than that.
        let (begin, comes) = (Instant::now(), !matches!(seen.answer(), "gone" | "silent"));
        seen.result = result(&filter.log(), id);
        while comes && seen.result == NO_LINE && begin.elapsed() < PATIENCE {
            seen.result = result(&filter.log(), id);
        }
        seen
    }

    /// The answer as a word of the table.
    pub fn answer(&self) -> &str {
        let told = match &self.heard {
            Heard::Milter(told) => told,
            Heard::Lmtp(replies) => return self.reply(replies),
        };
        match &told.answer {
            Answer::Deliver => "deliver",
            Answer::Drop => "drop",
            Answer::Hold => "hold",
            Answer::Gone => "gone",
            Answer::Silent => "silent",
            Answer::Reply(text) if text.starts_with("550 5.7.1 ") => "refuse",
            Answer::Reply(text) if text.starts_with("451 4.") => "defer",
            Answer::Reply(text) => text,
        }
    }

    /// The same of replies for each recipient; a refusal for good as it is, since none may be one.
    fn reply<'a>(&self, replies: &'a [(String, String)]) -> &'a str {
        let all = |begin: &str| replies.iter().all(|(_, reply)| reply.starts_with(begin));
        let other = |(_, reply): &&(String, String)| {
            !reply.is_empty() && !["250 ", "451 4."].iter().any(|begin| reply.starts_with(begin))
        };
        match replies.iter().find(other) {
            Some((_, reply)) => reply,
            None if replies.iter().all(|(_, reply)| reply.is_empty()) => "gone",
            None if all("451 4.") => "defer",
            None if all("250 ") && self.copies.is_empty() => "drop",
            None if all("250 ") => "deliver",
            None => "some put off",
        }
    }

    /// Where the recipient's copy is by what the MTA and the delivery agent know, and whether it was struck out.
    fn outside(&self, recipient: &str) -> (Vec<&'static str>, bool) {
        let mut places = Vec::new();
        match &self.heard {
            Heard::Milter(told) => {
                let struck = told.removed.contains(&format!("<{recipient}>"));
                match self.answer() {
                    "deliver" if !struck && told.field("X-Spam-Flag").is_some() => places.push("marked"),
                    "deliver" if !struck => places.push("inbox"),
                    "refuse" => places.push("refused"),
                    "defer" | "gone" => places.push("deferred"),
                    "hold" => places.push("held"),
                    _ => {}
                }
                (places, struck)
            }
            Heard::Lmtp(replies) => {
                let reply = replies.iter().find(|(to, _)| to == recipient).map(|(_, reply)| reply.as_str());
                if !reply.is_some_and(|reply| reply.starts_with("250 ")) {
                    places.push("deferred");
                }
                let own = self.copies.iter().filter(|copy| copy.to.iter().any(|to| to == recipient));
                let is_marked = |copy: &Delivery| text(copy).contains("\r\nX-Spam-Flag: YES\r\n");
                places.extend(own.map(|copy| if is_marked(copy) { "marked" } else { "inbox" }));
                let struck = places.is_empty();
                (places, struck)
            }
        }
    }

    /// Every place where a recipient's copy is; more than one word is a fault by itself.
    pub fn places(&self, recipient: &str) -> String {
        let (mut places, struck) = self.outside(recipient);
        places.extend(self.kept.iter().filter(|kept| *kept == recipient).map(|_| "kept"));
        places.extend(self.outbox.iter().filter(|(kind, to)| kind == "copy" && to == recipient).map(|_| "copy"));
        // A report goes to the sender, and is about whoever is struck out.
        places.extend(self.outbox.iter().filter(|(kind, _)| kind == "report" && struck).map(|_| "reported"));
        if places.is_empty() && self.answer() == "drop" || places.is_empty() && struck {
            places.push("dropped");
        }
        places.join("+")
    }

    /// Notices about it, to whomever.
    fn notices(&self) -> usize {
        self.outbox.iter().filter(|(kind, _)| kind == "notice").count()
    }

    /// What must be true whatever the table says.
    fn hold_true(&self, scenario: &str) -> Result<(), String> {
        let want = |truth: bool, what: &str| if truth { Ok(()) } else { Err(what.to_owned()) };
        let own = self.places(&format!("{scenario}@home.example"));
        want(own != "inbox" || scenario == "accept", "delivered against the recipient's wish")?;
        want(!own.contains('+') && !own.is_empty(), "the copy has not exactly one fate")?;
        let word = match self.answer() {
            "deliver" => "accept",
            "drop" => "discard",
            "refuse" => "reject",
            other => other,
        };
        want(self.journal.iter().all(|(verdict, _)| verdict == word), "the journal says otherwise than the answer")?;
        want(self.journal.len() <= 1, "journalled twice")?;
        let ours = matches!(own.as_str(), "dropped" | "kept" | "copy" | "reported");
        want(!ours || self.journal.len() == 1, "gone without a row")?;
        want(own != "deferred" || self.kept.is_empty() && self.outbox.is_empty(), "deferred, and owed all the same")?;
        match &self.heard {
            Heard::Milter(told) => {
                let delivered = self.answer() == "deliver";
                let stripped = told.deleted.iter().any(|name| name == "X-Auth-Key");
                want(!delivered || stripped, "delivered with its key")?;
                want(!delivered || told.field("X-Auth-Key-Status").is_some(), "delivered without a status")
            }
            Heard::Lmtp(replies) => {
                want(replies.iter().all(|(_, reply)| !reply.starts_with('5')), "refused for good behind a queue")?;
                let all = |holds: fn(&str) -> bool| self.copies.iter().all(|copy| holds(&text(copy)));
                want(all(|copy| !copy.contains("X-Auth-Key:")), "delivered with its key")?;
                want(all(|copy| copy.starts_with("X-Auth-Key-Status: ")), "delivered without a status")?;
                want(all(|copy| copy.ends_with("\r\n\r\none line\r\n.\r\nanother\r\n")), "another body")
            }
        }
    }

    /// Where it is otherwise than the table says.
    pub fn differs(&self, scenario: &str, shape: &str, expected: &Expected) -> Option<String> {
        let other = if shape == "mixed" { self.places("friend@home.example") } else { "-".into() };
        let seen = Expected {
            result: self.result.clone(),
            answer: self.answer().to_owned(),
            own: self.places(&format!("{scenario}@home.example")),
            other,
            // A row that need not be there may be.
            journal: expected.journal && self.journal.len() == 1,
            notices: self.notices(),
        };
        let rules = self.hold_true(scenario).err();
        (seen != *expected || rules.is_some()).then(|| format!("{seen:?}\n  not {expected:?}\n  {rules:?} {self:?}"))
    }
}

fn text(copy: &Delivery) -> String {
    String::from_utf8_lossy(&copy.message).into_owned()
}

/// Result and reason of a message by its line in the log.
fn result(log: &str, id: &str) -> String {
    let Some(line) = log.lines().rev().find(|line| line.contains(&format!(" {id}: ")) && line.contains(" verdict="))
    else {
        return NO_LINE.into();
    };
    let word = |name: &str| line.split(' ').find_map(|word| word.strip_prefix(name));
    [word("result="), word("why=")].into_iter().flatten().collect::<Vec<_>>().join("/")
}
