//! The table (tests/cases/fates.tsv): its lines, and the one that speaks of a cell.

use std::fmt;

const HEADING: &str = "bringer\twhere\tkey\tstamp\tobserve\tpolicy\tresult\tanswer\there\taway\trow\tnotice";
/// Who brings a message, and whose address stands in its From.
pub const BRINGERS: [(&str, &str); 9] = [
    ("login", "own"),
    ("login", "colleague"),
    ("login", "foreign"),
    ("submitter", "own"),
    ("submitter", "colleague"),
    ("submitter", "foreign"),
    ("stranger", "own"),
    ("stranger", "colleague"),
    ("stranger", "foreign"),
];
/// Where its recipients are.
pub const PLACES: [&str; 3] = ["inside", "outside", "both"];
/// The key that it brings.
pub const KEYS: [&str; 3] = ["none", "valid", "wrong"];
/// What those here have bound to every result, and the shipped policy that is it; `None`: one that puts everything off.
pub const POLICIES: [(&str, Option<&str>); 9] = [
    ("accept", Some("accept")),
    ("mark", Some("mark")),
    ("folder", Some("mark")),
    ("quarantine", Some("quarantine")),
    ("silent", Some("reject-silently")),
    ("sender", Some("reject-notify-sender")),
    ("recipient", Some("reject-notify-recipient")),
    ("both", Some("reject-notify-both")),
    ("defer", None),
];

/// A case of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Its number among all.
    pub number: usize,
    /// Who brings the message.
    pub who: &'static str,
    /// Whose address stands in From.
    pub from: &'static str,
    /// Where its recipients are.
    pub place: &'static str,
    /// The key that it brings.
    pub key: &'static str,
    /// Whether the daemon of the MTA is one that stamps.
    pub stamp: bool,
    /// Whether the filter only observes.
    pub observe: bool,
    /// What the policy says.
    pub policy: &'static str,
}

/// What a line expects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The result of the journal's row; absent where there is none.
    pub result: Option<String>,
    /// The MTA's answer to its client.
    pub answer: String,
    /// What becomes of the copy of the one here.
    pub here: String,
    /// What the one elsewhere gets.
    pub away: String,
    /// How many notices the one here gets.
    pub notices: usize,
}

/// All lines: what they speak of, and what they expect.
pub struct Table(Vec<([String; 6], [String; 6])>);

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [who, place, key, stamp, observe, policy] = self.words();
        write!(f, "{who} to {place}, key {key}, stamp {stamp}, observe {observe}, {policy} (C{})", self.number)
    }
}

impl Cell {
    /// Every one there is.
    pub fn all() -> Vec<Cell> {
        let mut all = Vec::new();
        for (who, from) in BRINGERS {
            for place in PLACES {
                for key in KEYS {
                    for (stamp, observe) in [(false, false), (false, true), (true, false), (true, true)] {
                        for (policy, _) in POLICIES {
                            let number = all.len();
                            all.push(Cell { number, who, from, place, key, stamp, observe, policy });
                        }
                    }
                }
            }
        }
        all
    }

    fn words(&self) -> [String; 6] {
        let yes = |is: bool| if is { "yes" } else { "no" };
        let who = format!("{}/{}", self.who, self.from);
        [&who, self.place, self.key, yes(self.stamp), yes(self.observe), self.policy].map(str::to_owned)
    }

    /// The MTA's name for its message.
    pub fn queue_id(&self) -> String {
        format!("C{}", self.number)
    }
}

impl Table {
    /// Reads it.
    pub fn read() -> Table {
        let text = include_str!("../../cases/fates.tsv");
        let mut lines = text.lines().filter(|line| !line.starts_with('#'));
        assert_eq!(lines.next(), Some(HEADING));
        let line = |line: &str| {
            let words: Vec<String> = line.split('\t').map(String::from).collect();
            let words: [String; 12] = words.try_into().unwrap_or_else(|_| panic!("12 words: {line}"));
            let (of, expects) = words.split_at(6);
            (of.to_vec().try_into().unwrap(), expects.to_vec().try_into().unwrap())
        };
        Table(lines.map(line).collect())
    }

    /// What is expected of a cell: by the one line that speaks of it.
    pub fn of(&self, cell: &Cell) -> Expected {
        let words = cell.words();
        let speaks = |of: &[String; 6]| of.iter().zip(&words).all(|(pattern, word)| matches(pattern, word));
        let lines: Vec<_> = self.0.iter().filter(|(of, _)| speaks(of)).collect();
        let [(_, [result, answer, here, away, row, notices])] = lines.as_slice() else {
            panic!("{} lines speak of {cell}", lines.len());
        };
        let result = match (result.as_str(), cell.key) {
            ("-", _) => None,
            ("by-key", "none") => Some("missing".to_owned()),
            ("by-key", "valid") => Some("valid".to_owned()),
            ("by-key", _) => Some("invalid".to_owned()),
            (word, _) => Some(word.to_owned()),
        };
        assert_eq!(result.is_some(), row == "1", "{cell}");
        let away = if away == "alone" { self.of(&Cell { place: "outside", ..*cell }).away } else { away.clone() };
        Expected { result, answer: answer.clone(), here: here.clone(), away, notices: notices.parse().unwrap() }
    }

    /// The lines that speak of no cell.
    pub fn idle(&self, cells: &[Cell]) -> Vec<&[String; 6]> {
        let met = |of: &&[String; 6]| {
            cells.iter().any(|cell| of.iter().zip(&cell.words()).all(|(pattern, word)| matches(pattern, word)))
        };
        self.0.iter().map(|(of, _)| of).filter(|of| !met(of)).collect()
    }
}

/// Whether a pattern has this word: `*`, or words with commas between; `WHO/*` has each `WHO/…`.
fn matches(pattern: &str, word: &str) -> bool {
    let one = |one: &str| one == "*" || one == word || one.strip_suffix('*').is_some_and(|who| word.starts_with(who));
    pattern.split(',').any(one)
}
