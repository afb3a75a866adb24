//! The books after a run: what each client was told, and what lies in mailboxes, journal, quarantine and outbox.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use addrauth::config::{Config, Limits};
use addrauth::custody::Custody;
use addrauth::outbox::Turn;
use addrauth::store::{Ledger, Opening};
use addrauth_tests::daemon::Rig;
use addrauth_tests::load::Sent;
use addrauth_tests::postfix::Bed;
use serde_json::Value;

const USERS: [&str; 6] = ["bob", "carol", "dave", "erin", "frank", "grace"];

/// A journal row, as far as it tells what became of whom.
#[derive(Debug)]
struct Row {
    queue_id: String,
    discarded: bool,
    removed: Vec<usize>,
    /// The words of what was owed, with the recipients.
    owed: Vec<(String, Vec<usize>)>,
    note: String,
    /// The component that decided, and its word, for each recipient.
    decided: BTreeSet<(String, String)>,
}

impl Row {
    fn owes(&self, what: &str, recipient: usize) -> bool {
        self.owed.iter().any(|(word, list)| word == what && list.contains(&recipient))
    }
}

/// Everything that can be looked up after a run, by the messages' numbers.
pub struct Account {
    sent: Vec<Sent>,
    rows: HashMap<usize, Vec<Row>>,
    /// By user and number: for each delivered file, whether it is marked.
    delivered: HashMap<(&'static str, usize), Vec<bool>>,
    /// By user: the queue id that a notice refers to, and its Message-ID.
    notices: HashMap<&'static str, Vec<(String, String)>>,
    /// By number: how many messages lie in quarantine for a user.
    kept: HashMap<(String, usize), usize>,
    /// By number: reports that came back to its reverse-path.
    reports: HashMap<usize, usize>,
}

impl Account {
    /// Sends what is still owed, waits until Postfix has delivered all, and reads everything. The filter is down.
    pub fn close(bed: &Bed, rig: &Rig, sent: Vec<Sent>) -> Account {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let rows = runtime.block_on(settle_debts(rig));
        let begin = Instant::now();
        while !bed.is_idle() {
            assert!(begin.elapsed() < Duration::from_secs(60), "Postfix does not get done: {:?}", bed.queue());
            std::thread::sleep(Duration::from_millis(100));
        }
        let (mut delivered, mut notices) = (HashMap::<_, Vec<bool>>::new(), HashMap::<_, Vec<_>>::new());
        for user in USERS {
            for file in rig.door.mailbox(user) {
                let text = String::from_utf8_lossy(&file).into_owned();
                match field(&text, "Subject").and_then(|subject| subject.strip_prefix("load ")) {
                    Some(number) => {
                        let marked = field(&text, "X-Spam-Flag") == Some("YES");
                        delivered.entry((user, number.parse().unwrap())).or_default().push(marked);
                    }
                    None => {
                        let id = field(&text, "Message-ID").unwrap_or_default().to_owned();
                        let reference = text.lines().find_map(|line| line.strip_prefix("Reference: "));
                        notices.entry(user).or_default().push((reference.unwrap_or_default().to_owned(), id));
                    }
                }
            }
        }
        let mut reports = HashMap::new();
        for number in bed.returned().iter().filter_map(|(address, _)| number_of(address)) {
            *reports.entry(number).or_default() += 1;
        }
        Account { sent, rows, delivered, notices, kept: runtime.block_on(kept(rig)), reports }
    }

    /// How often each kind of end came, by user.
    fn ends(&self) -> BTreeMap<String, usize> {
        let mut ends = BTreeMap::new();
        for sent in &self.sent {
            for (index, user) in sent.letter.users.iter().enumerate() {
                *ends.entry(format!("{user} {}", self.end(sent, index))).or_default() += 1;
            }
        }
        ends
    }

    /// What became of this recipient's copy, by the reply and the journal alone: `delivered`, `refused`, or the word of what was
    /// owed instead.
    fn end(&self, sent: &Sent, index: usize) -> &'static str {
        if sent.decided().code / 100 == 5 {
            return "refused";
        }
        let rows = self.rows.get(&sent.letter.number);
        let row = rows.and_then(|rows| rows.iter().find(|row| Some(row.queue_id.as_str()) == sent.queue_id()));
        match row.filter(|row| row.discarded || row.removed.contains(&index)) {
            None => "delivered",
            Some(row) => {
                let words = ["copy", "quarantine", "report"];
                words.into_iter().find(|word| row.owes(word, index)).unwrap_or("silent")
            }
        }
    }

    /// One line of numbers.
    pub fn summary(&self) -> String {
        let notices: usize = self.notices.values().map(Vec::len).sum();
        let rows: usize = self.rows.values().map(Vec::len).sum();
        let again = rows - self.rows.len();
        let reports = self.reports.len();
        format!(
            "{:?}; {rows} journal rows, {again} of them second ones, {notices} notices, {reports} reports",
            self.ends()
        )
    }

    /// How many messages were answered for good and have no journal row. What was dropped, kept or owed without one is among the
    /// [`Account::faults`].
    pub fn without_a_row(&self) -> usize {
        self.sent.iter().filter(|sent| !self.rows.contains_key(&sent.letter.number)).count()
    }

    /// A run in which something never happened says nothing about it.
    pub fn assert_that_all_happened(&self) {
        let ends = self.ends();
        for end in [
            "bob delivered",
            "carol silent",
            "dave refused",
            "dave report",
            "erin silent",
            "frank quarantine",
            "grace copy",
            "grace delivered",
        ] {
            assert!(ends.contains_key(end), "no `{end}` in {ends:?}");
        }
        assert!(!self.notices.is_empty(), "no notice at all");
    }

    /// What must not be. For each recipient of each message exactly one end, the one that he wishes; and what is
    /// allowed beside that because a filter was killed after it had written something down and before Postfix had heard of it (the
    /// client was told 451 and came again): a second journal row with what hangs on it, that is a second kept message, a second
    /// copy, a report or notice (at most one by the caps). Never a second delivery by the MTA itself.
    pub fn faults(&self, kills: usize) -> Vec<String> {
        let mut faults = Vec::new();
        let mut resent = 0;
        for sent in &self.sent {
            let rows = self.rows.get(&sent.letter.number).map_or(&[][..], Vec::as_slice);
            for (index, user) in sent.letter.users.iter().enumerate() {
                let end = self.end(sent, index);
                let wrong = self.wrong(sent, index, user, end, rows, &mut resent);
                faults.extend(wrong.map(|what| {
                    let replies: Vec<u16> = sent.replies.iter().map(|reply| reply.code).collect();
                    let story = format!("message {} ({}) for {user}, {end}", sent.letter.number, sent.letter.kind);
                    format!("{story}: {what}; replies {replies:?}, rows {rows:?}")
                }));
            }
            let tries = sent.replies.len();
            let names: BTreeSet<&str> = rows.iter().map(|row| row.queue_id.as_str()).collect();
            if names.len() > tries || names.len() != rows.len() {
                faults.push(format!("message {}: {tries} tries, rows {rows:?}", sent.letter.number));
            }
        }
        faults.extend(self.wrong_notices());
        if resent > kills {
            faults.push(format!("{resent} copies were sent again, {kills} kills cut off at most one each"));
        }
        faults
    }

    /// What is wrong with this recipient's end.
    fn wrong(
        &self,
        sent: &Sent,
        index: usize,
        user: &'static str,
        end: &str,
        rows: &[Row],
        resent: &mut usize,
    ) -> Option<String> {
        let Sent { letter, .. } = sent;
        let files = self.delivered.get(&(user, letter.number)).map_or(&[][..], Vec::as_slice);
        let owing = |word: &str| rows.iter().filter(|row| row.owes(word, index)).count();
        let kept = self.kept.get(&(user.to_owned(), letter.number)).copied().unwrap_or_default();
        if !wished(letter.kind, user, &letter.users).contains(&end) {
            return Some("nobody wished for that".into());
        }
        if kept != owing("quarantine") {
            return Some(format!("{kept} in quarantine, {} rows say so", owing("quarantine")));
        }
        match end {
            "delivered" if files.len() != 1 => Some(format!("delivered {} times", files.len())),
            "delivered" if files[0] != (user == "grace" && letter.kind == "two") => {
                Some(format!("marked: {}", files[0]))
            }
            "copy" if files.len() < owing("copy") => Some(format!("{} copies", files.len())),
            "copy" if files.contains(&false) => Some("an unmarked copy".into()),
            "copy" => {
                *resent += files.len() - owing("copy");
                None
            }
            "delivered" => None,
            _ if !files.is_empty() => Some(format!("delivered {} times all the same", files.len())),
            "report" if !self.reports.contains_key(&letter.number) => Some("the sender was not told".into()),
            "silent" if matches!(user, "dave" | "erin") && !self.noticed(user, rows) => {
                Some("no notice, and no word why".into())
            }
            "refused" | "report" | "quarantine" if user == "dave" && !self.noticed(user, rows) => {
                Some("no notice, and no word why".into())
            }
            "silent" if owing("report") > 0 => Some("a report was owed in silence".into()),
            _ => None,
        }
    }

    /// Messages that more or less than one version decided, that failed, or that were not treated as their version says; and how
    /// many each version decided.
    pub fn faults_of_versions(&self) -> (Vec<String>, BTreeMap<String, usize>) {
        let (mut faults, mut seen) = (Vec::new(), BTreeMap::new());
        for sent in &self.sent {
            let number = sent.letter.number;
            let rows = self.rows.get(&number).map_or(&[][..], Vec::as_slice);
            let files = |user| self.delivered.get(&(user, number)).map_or(&[][..], Vec::as_slice);
            let mut decided = rows.iter().flat_map(|row| &row.decided);
            let (Some((digest, word)), None, 1) = (decided.next(), decided.next(), rows.len()) else {
                faults.push(format!("message {number}: {rows:?}"));
                continue;
            };
            *seen.entry(format!("{word} {}", &digest[..12])).or_default() += 1;
            let (code, marked): (u16, &[bool]) = match word.as_str() {
                "accept" => (250, &[false]),
                "mark" => (250, &[true]),
                _ => (550, &[]),
            };
            let codes: Vec<u16> = sent.replies.iter().map(|reply| reply.code).collect();
            if codes != [code] || files("bob") != marked || files("carol") != marked {
                let files = (files("bob"), files("carol"));
                faults.push(format!("message {number}, {word}: replies {codes:?}, delivered marked {files:?}"));
            }
        }
        (faults, seen)
    }

    /// Whether the user got a notice about one of these tries, or the journal says why not.
    fn noticed(&self, user: &str, rows: &[Row]) -> bool {
        let notices = self.notices.get(user).map_or(&[][..], Vec::as_slice);
        let about = |row: &Row| notices.iter().any(|(reference, _)| *reference == row.queue_id);
        rows.iter().any(|row| about(row) || row.note.contains(&format!("notice to {user}@")))
    }

    /// Notices about nothing that was owed, and two about different messages under one Message-ID.
    fn wrong_notices(&self) -> Vec<String> {
        let mut faults = Vec::new();
        // Postfix uses its short names again and again.
        let mut owed = HashMap::<&str, Vec<(&Row, usize)>>::new();
        for (number, rows) in &self.rows {
            for row in rows {
                owed.entry(row.queue_id.as_str()).or_default().push((row, *number));
            }
        }
        let users: HashMap<usize, &Vec<&'static str>> =
            self.sent.iter().map(|sent| (sent.letter.number, &sent.letter.users)).collect();
        for (user, notices) in &self.notices {
            let mut ids: HashMap<&str, &str> = HashMap::new();
            for (reference, id) in notices.iter().filter(|(reference, _)| !reference.is_empty()) {
                let owes = |(row, number): &(&Row, usize)| {
                    let index = users[number].iter().position(|other| other == user);
                    index.is_some_and(|index| row.owes("notice", index))
                };
                if !owed.get(reference.as_str()).is_some_and(|rows| rows.iter().any(owes)) {
                    faults.push(format!("a notice to {user} about {reference}, of which nobody was to be told"));
                }
                if *ids.entry(id).or_insert(reference) != reference {
                    faults.push(format!("notices to {user} about {reference} and another message have one Message-ID"));
                }
            }
            // A run takes less than an hour.
            if ids.len() > 5 {
                faults.push(format!("{} notices to {user} within an hour", ids.len()));
            }
        }
        faults
    }
}

/// The ends that this recipient's wish allows. One refusal is for all, so it comes only where all wish it; and where the AS was
/// asked too often, `wrong` is unverified, which all accept.
fn wished(kind: &str, user: &str, users: &[&str]) -> &'static [&'static str] {
    match (kind, user) {
        ("wrong", "carol") => &["silent", "delivered"],
        ("two", "dave") if users.iter().all(|user| *user == "dave") => &["refused"],
        ("two", "dave") => &["report", "quarantine"],
        ("two", "erin") => &["silent"],
        ("two", "frank") => &["quarantine"],
        ("two", "grace") => &["delivered", "copy"],
        _ => &["delivered"],
    }
}

/// The value of a header field.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let header = text.split("\n\n").next()?;
    header.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
}

/// The number in `m17@send.test`.
fn number_of(path: &str) -> Option<usize> {
    let path = path.trim_start_matches('<').trim_end_matches('>');
    path.strip_prefix('m')?.strip_suffix("@send.test")?.parse().ok()
}

/// Sends all that the outbox owes, whatever time it waits for, and reads the journal.
async fn settle_debts(rig: &Rig) -> HashMap<usize, Vec<Row>> {
    let config = Config::read(&rig.path("filter.toml")).unwrap();
    let custody = Custody::open(&config, &Arc::new(Limits::default())).await.unwrap();
    // Every pause between two tries is over by then.
    let later = SystemTime::now() + Duration::from_secs(12 * 3_600);
    loop {
        match custody.outbox().turn(later).await.unwrap() {
            Turn::Idle => break,
            failed @ (Turn::Postponed(_) | Turn::GivenUp(_)) => panic!("{failed:?}"),
            _ => {}
        }
    }
    let mut rows = HashMap::<usize, Vec<Row>>::new();
    for row in custody.journal(u32::MAX).await.unwrap() {
        let json: Value = serde_json::from_str(&row.entry.json).unwrap();
        let Some(number) = json["reverse_path"].as_str().and_then(number_of) else { continue };
        let reply = &json["reply"];
        let owed = reply["owed"].as_array().unwrap().iter().flat_map(|owed| match owed {
            Value::Object(object) => object.iter().map(|(word, who)| (word.clone(), indices(who))).collect(),
            word => vec![(word.as_str().unwrap().to_owned(), Vec::new())],
        });
        rows.entry(number).or_default().push(Row {
            queue_id: row.entry.queue_id.unwrap_or_default(),
            discarded: row.entry.verdict == addrauth::store::RowVerdict::Discard,
            removed: indices(&reply["removed"]),
            owed: owed.collect(),
            note: row.entry.note,
            decided: json["decisions"].as_array().unwrap().iter().map(decided).collect(),
        });
    }
    custody.close().await;
    rows
}

/// The digest and the disposition of a decision.
fn decided(decision: &Value) -> (String, String) {
    let word = |name: &str| decision[name].as_str().unwrap().to_owned();
    (word("digest"), word("disposition"))
}

/// A number or a list of them.
fn indices(value: &Value) -> Vec<usize> {
    let one = |value: &Value| usize::try_from(value.as_u64().unwrap()).unwrap();
    value.as_array().map_or_else(|| vec![one(value)], |list| list.iter().map(one).collect())
}

/// What lies in quarantine for somebody who waits for it, by user and number.
async fn kept(rig: &Rig) -> HashMap<(String, usize), usize> {
    let limits = Limits::default();
    let opening = Opening { busy: limits.store.busy, readers: limits.store.readers };
    let ledger = Ledger::open(&rig.path("filter"), opening).await.unwrap();
    let mut kept = HashMap::new();
    for held in ledger.held(None, u32::MAX).await.unwrap() {
        let Some(number) = held.subject.trim().strip_prefix("load ").and_then(|number| number.parse().ok()) else {
            panic!("{held:?}")
        };
        for waiting in held.recipients.iter().filter(|to| to.outcome.is_none()) {
            let user = waiting.recipient.split('@').next().unwrap().to_owned();
            *kept.entry((user, number)).or_default() += 1;
        }
    }
    ledger.close().await;
    kept
}
