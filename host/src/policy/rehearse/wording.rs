//! What a text asks for, as far as its words tell: which fact it names, and which of that fact's values it speaks of.
//!
//! It reads lines of `rules`, clauses of properties, and any other setting by its words alone. Nothing rests on it but which facts
//! are tried first: a text that it reads wrongly is tried with facts that miss it.

use std::net::IpAddr;

use ipnet::IpNet;

use super::super::sandbox::contract::{Address, AuthResult, Trail};
use super::axis::{Aspect, Axis, Kind};

/// What a line of text asks for.
#[derive(Clone, Debug, Default)]
pub(super) struct Wording {
    /// The tests that it names by their fact.
    pub(super) tests: Vec<Test>,
    /// All words, for a text that names no fact.
    words: Vec<String>,
}

/// Words that stand behind the name of a fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Test {
    fact: Fact,
    not: bool,
    words: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Fact {
    Why,
    Of(Kind),
}

#[derive(Debug, PartialEq, Eq)]
enum Token {
    Open,
    Close,
    Word(String),
}

/// What two words that name a fact are as one.
const PAIRS: [(&str, &str, &str); 5] = [
    ("envelope", "sender", "envelope-sender"),
    ("client", "ip", "client"),
    ("client", "name", "client-name"),
    ("last", "valid", "last-valid"),
    ("never", "valid", "never-valid"),
];

fn fact(word: &str) -> Option<Fact> {
    Some(Fact::Of(match word {
        "why" => return Some(Fact::Why),
        "result" => Kind::Result,
        "claim" => Kind::Claim,
        "trail" => Kind::Trail,
        "spf" => Kind::Spf,
        "dkim" => Kind::Dkim,
        "dmarc" => Kind::Dmarc,
        "last-valid" | "never-valid" => Kind::LastValid,
        "sender" => Kind::Sender,
        "recipient" => Kind::Recipient,
        "envelope-sender" => Kind::EnvelopeSender,
        "client" => Kind::Ip,
        "client-name" => Kind::ClientName,
        "helo" => Kind::Helo,
        "tls" => Kind::Tls,
        "size" => Kind::Size,
        field => Kind::Header(0, field.strip_suffix(':').filter(|name| !name.is_empty())?.to_owned()),
    }))
}

/// The part of a line that is a condition.
fn condition(line: &str) -> &str {
    let line = line.trim();
    let begin = line.strip_prefix("when ").or_else(|| Some(line.split_once(" when ")?.1)).unwrap_or(line);
    // A decision and its reason stand behind the colon.
    begin.split_once(": ").map_or(begin, |(condition, _)| condition)
}

fn tokens(text: &str) -> Vec<Token> {
    let (mut tokens, mut word, mut quote) = (Vec::new(), String::new(), None);
    let end = |word: &mut String, tokens: &mut Vec<Token>| {
        if !word.is_empty() {
            tokens.push(Token::Word(std::mem::take(word)));
        }
    };
    for c in text.chars() {
        match (quote, c) {
            (Some(known), c) if c == known => {
                quote = None;
                end(&mut word, &mut tokens);
            }
            (Some(_), c) => word.push(c),
            (None, '"' | '\'') if word.is_empty() => quote = Some(c),
            (None, '(' | ')' | '[' | ']' | ',' | '|' | '=' | '<' | '>' | '!') => {
                end(&mut word, &mut tokens);
                match c {
                    '(' => tokens.push(Token::Open),
                    ')' => tokens.push(Token::Close),
                    '<' => tokens.push(Token::Word("under".into())),
                    '>' => tokens.push(Token::Word("over".into())),
                    '!' => tokens.push(Token::Word("not".into())),
                    _ => {}
                }
            }
            (None, c) if c.is_whitespace() => end(&mut word, &mut tokens),
            (None, c) => word.push(c),
        }
    }
    end(&mut word, &mut tokens);
    tokens
}

/// Two words that are one fact's name made one.
fn paired(tokens: Vec<Token>) -> Vec<Token> {
    let mut out: Vec<Token> = Vec::with_capacity(tokens.len());
    for token in tokens {
        let pair = match (out.last(), &token) {
            (Some(Token::Word(one)), Token::Word(two)) => PAIRS.iter().find(|(a, b, _)| a == one && b == two),
            _ => None,
        };
        match pair {
            Some((_, _, whole)) => {
                out.pop();
                out.push(Token::Word((*whole).into()));
            }
            None => out.push(token),
        }
    }
    out
}

impl Wording {
    /// Reads a line.
    pub(super) fn of(line: &str) -> Wording {
        let mut wording = Wording::default();
        let (mut not, mut brackets) = (false, Vec::new());
        let mut current: Option<Test> = None;
        for token in paired(tokens(condition(line))) {
            let word = match token {
                Token::Open => {
                    brackets.push(std::mem::take(&mut not));
                    continue;
                }
                Token::Close => {
                    wording.tests.extend(current.take());
                    brackets.pop();
                    continue;
                }
                Token::Word(word) => word,
            };
            wording.words.push(word.clone());
            match (word.as_str(), &mut current) {
                ("and" | "or", _) => wording.tests.extend(current.take()),
                ("not", Some(test)) if test.words.is_empty() => test.not = !test.not,
                ("not", _) => not = !not,
                ("is" | "in", _) => {}
                (name, _) if let Some(fact) = fact(name) => {
                    let turned = brackets.iter().filter(|not| **not).count() % 2 == 1;
                    let words = if name == "never-valid" { vec!["unknown".to_owned()] } else { Vec::new() };
                    let test = Test { fact, not: std::mem::take(&mut not) != turned, words };
                    wording.tests.extend(current.replace(test));
                }
                (_, Some(test)) => test.words.push(word),
                (_, None) => {}
            }
        }
        wording.tests.extend(current);
        wording
    }

    /// Takes in the words of another text, as one that names no fact.
    pub(super) fn join(&mut self, other: &Wording) {
        self.words.extend(other.words.iter().cloned());
    }

    /// The names that a client may have by this text.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let hosts = self.tests.iter().filter(|test| matches!(test.fact, Fact::Of(Kind::Helo | Kind::ClientName)));
        hosts.flat_map(|test| &test.words).map(String::as_str).filter(|word| !word.starts_with("*."))
    }

    /// The points of an axis that the text speaks of; empty: it says nothing of this fact.
    pub(super) fn points(&self, axis: &Axis) -> Vec<usize> {
        let points = |holds: &dyn Fn(&Aspect) -> bool| -> Vec<usize> {
            let all = axis.points.iter().enumerate();
            all.filter(|(_, point)| holds(&point.aspect)).map(|(place, _)| place).collect()
        };
        if self.tests.is_empty() {
            return points(&|aspect| self.words.iter().any(|word| names(aspect, word)));
        }
        let of_kind = |test: &&Test| match (&test.fact, &axis.kind) {
            (Fact::Why, kind) => *kind == Kind::Result,
            (Fact::Of(Kind::Header(_, one)), Kind::Header(_, two)) => one.eq_ignore_ascii_case(two),
            (Fact::Of(one), two) => one == two,
        };
        let tests: Vec<&Test> = self.tests.iter().filter(of_kind).collect();
        if tests.is_empty() {
            return Vec::new();
        }
        let all = points(&|aspect| tests.iter().all(|test| test.holds(aspect)));
        if all.is_empty() { points(&|aspect| tests.iter().any(|test| test.holds(aspect))) } else { all }
    }
}

impl Test {
    fn holds(&self, aspect: &Aspect) -> bool {
        // What is absent is no contrary.
        if self.not && is_absent(aspect) && !self.words.iter().any(|word| names(aspect, word)) {
            return false;
        }
        let is = match aspect {
            Aspect::Result(_, why) if self.fact == Fact::Why => {
                let why = why.map_or("unknown", |why| why.word());
                self.words.iter().any(|word| word == why || word == "none" && why == "unknown")
            }
            Aspect::Tls(tls) => *tls != self.words.iter().any(|word| word == "no"),
            Aspect::Size(Some(size)) => self.bounds(*size, "under"),
            Aspect::LastValid(Some(days)) => self.bounds(u64::from(*days), "within"),
            aspect => self.words.iter().any(|word| names(aspect, word)),
        };
        is != self.not
    }

    /// Whether a number is over or under all that are named, or one of them.
    fn bounds(&self, number: u64, most: &str) -> bool {
        let has = |word: &str| self.words.iter().any(|known| known == word);
        let mut named = self.words.iter().flat_map(|word| numbers(word));
        match (has("over"), has("under") || has(most)) {
            (true, _) => named.all(|bound| number > bound) && !has("unknown"),
            (false, true) if has("within") => named.all(|bound| number <= bound),
            (false, true) => named.all(|bound| number < bound),
            (false, false) => named.any(|bound| number == bound),
        }
    }
}

pub(super) fn is_absent(aspect: &Aspect) -> bool {
    match aspect {
        Aspect::Claim(None)
        | Aspect::LastValid(None)
        | Aspect::Sender(None)
        | Aspect::Recipient(None)
        | Aspect::EnvelopeSender(None)
        | Aspect::Ip(None)
        | Aspect::ClientName(None)
        | Aspect::Size(None)
        | Aspect::Spf(None)
        | Aspect::Dkim(None)
        | Aspect::Dmarc(None) => true,
        Aspect::Header(_, values) => values.is_empty(),
        _ => false,
    }
}

/// Whether a word speaks of this value.
fn names(aspect: &Aspect, word: &str) -> bool {
    let nothing = matches!(word, "unknown" | "none" | "empty" | "unsaid");
    if is_absent(aspect) {
        return nothing;
    }
    let method = |result: AuthResult, aligned: bool| result.word() == word || aligned && word == "aligned";
    match aspect {
        Aspect::Result(status, why) => status.word() == word || why.is_some_and(|why| why.word() == word),
        Aspect::Claim(claim) => claim.is_some_and(|claim| claim.word() == word),
        Aspect::Trail(trail) if *trail == Trail::empty() => nothing,
        Aspect::Trail(trail) => {
            word == "any" || Trail::WORDS.iter().any(|(known, mark)| *known == word && trail.contains(*mark))
        }
        Aspect::Spf(told) | Aspect::Dkim(told) => told.is_some_and(|(result, aligned)| method(result, aligned)),
        Aspect::Dmarc(told) => told.is_some_and(|result| method(result, result == AuthResult::Pass)),
        Aspect::Sender(Some(address)) | Aspect::Recipient(Some(address)) | Aspect::EnvelopeSender(Some(address)) => {
            is_mailbox(address, word)
        }
        Aspect::Tls(tls) => *tls && matches!(word, "tls" | "yes"),
        Aspect::Ip(Some(ip)) => ip
            .parse::<IpAddr>()
            .is_ok_and(|ip| word.parse::<IpNet>().is_ok_and(|network| network.contains(&ip)) || word.parse() == Ok(ip)),
        Aspect::ClientName(Some(name)) | Aspect::Helo(name) => is_host(name, word),
        Aspect::Size(Some(size)) => numbers(word).contains(size),
        Aspect::LastValid(Some(days)) => numbers(word).contains(&u64::from(*days)),
        Aspect::Header(_, values) => values.iter().any(|value| value.contains(word)),
        _ => false,
    }
}

/// What a number may be: with a unit of size the two that people mean by it, without one itself.
pub(super) fn numbers(word: &str) -> Vec<u64> {
    let digits = word.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let Ok(number) = digits.parse::<u64>() else { return Vec::new() };
    let power = match word.get(digits.len()..).map(str::to_ascii_lowercase).as_deref() {
        Some("k" | "kb" | "kib") => 1,
        Some("m" | "mb" | "mib") => 2,
        Some("g" | "gb" | "gib") => 3,
        _ => return vec![number],
    };
    [1_000_u64, 1_024].into_iter().filter_map(|unit| number.checked_mul(unit.pow(power))).collect()
}

fn is_host(name: &str, word: &str) -> bool {
    let below = |domain: &str| name.to_ascii_lowercase().ends_with(&format!(".{}", domain.to_ascii_lowercase()));
    word.strip_prefix("*.").map_or_else(|| name.eq_ignore_ascii_case(word), below)
}

fn is_mailbox(address: &Address, word: &str) -> bool {
    match word.rsplit_once('@') {
        Some(("" | "*", domain)) => address.domain.eq_ignore_ascii_case(domain),
        Some((local, domain)) => {
            address.local.eq_ignore_ascii_case(local) && address.domain.eq_ignore_ascii_case(domain)
        }
        None => is_host(&address.domain, word),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Vec<(String, bool, String)> {
        let told = Wording::of(text).tests.into_iter().map(|test| {
            let fact = match &test.fact {
                Fact::Why => "why".to_owned(),
                Fact::Of(kind) => kind.word().to_owned(),
            };
            (fact, test.not, test.words.join(" "))
        });
        told.collect()
    }

    #[test]
    fn a_line_tells_its_facts_and_values_and_what_is_turned_round() {
        let line = "when result is not invalid and not (spf aligned or dkim is not pass) and client ip is in [10.0.0.0/8, ::1] and \
                    never valid and helo is \"[192.0.2.1]\": reject \"sender is x\"";
        let expected = [
            ("result", true, "invalid"),
            ("spf", true, "aligned"),
            ("dkim", false, "pass"),
            ("client", false, "10.0.0.0/8 ::1"),
            ("last-valid", false, "unknown"),
            ("helo", false, "[192.0.2.1]"),
        ];
        assert_eq!(told(line), expected.map(|(fact, not, words)| (fact.into(), not, words.into())));
        assert_eq!(
            told("reject when why!=wrong and size>=10 and Subject:=x"),
            [("why", true, "wrong"), ("size", false, "over 10"), ("Subject", false, "x")].map(|(fact, not, words)| (
                fact.into(),
                not,
                words.into()
            ))
        );
    }

    #[test]
    fn a_text_of_any_shape_is_read() {
        for text in
            ["", "when", "when ", ")))", "((((", "not not not", "'", "\"a", "sender sender", "sender is", "\u{fc}: "]
        {
            let _ = Wording::of(text);
        }
    }
}
