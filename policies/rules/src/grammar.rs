//! The grammar of a line: README.md beside this crate has it in one piece.
//!
//! Nothing is built: what a condition comes to is worked out while it is read, by a [`Sense`]. `not` is pushed down to the single
//! questions, so a sense sees none.

use addrauth_policy::{AuthResult, Claim, Disposition, KeyStatus, Notify, Trail, Why};

use crate::fault::{Fault, Wrong};
use crate::line::{Failed, Line, Token};
use crate::network::Network;
use crate::test::{Fact, Host, Method, Pattern, Test, untagged};

/// Brackets within each other.
pub(crate) const DEEPEST: u32 = 16;
/// What the filter keeps of a reason.
pub(crate) const REASON: usize = 400;

const CONDITIONS: &[&str] = &[
    "result",
    "why",
    "claim",
    "trail",
    "spf",
    "dkim",
    "dmarc",
    "tls",
    "client",
    "helo",
    "sender",
    "recipient",
    "envelope",
    "size",
    "last",
    "never",
    "not",
    "(",
];
const DECISIONS: &[&str] = &["accept", "mark", "quarantine", "reject", "defer"];
const RESULTS: &[&str] = &["valid", "invalid", "missing", "none", "unverified", "unusable"];
const REASONS: &[&str] = &[
    "wrong",
    "expired",
    "no-from",
    "several-from",
    "bad-address",
    "several-keys",
    "bad-key",
    "malformed-header",
    "dns",
    "timeout",
    "limit",
    "no-proof",
    "other",
    "unknown",
];
const CLAIMS: &[&str] = &["testing", "some", "all", "unknown"];
const TRAILS: &[&str] = &["none", "mailing-list", "forwarded", "resent", "automatic", "bounce", "unknown"];
const AUTHS: &[&str] =
    &["pass", "fail", "softfail", "neutral", "policy", "temperror", "permerror", "none", "aligned", "unknown"];

/// What conditions come to. The grammar is there once for all of them, which keeps the component small: so a value is a number
/// whose meaning the sense alone knows.
pub(crate) trait Sense {
    /// The value of a question, or of its contrary.
    fn test(&mut self, test: Test<'_>, negated: bool) -> Worth;

    /// The value of both together (`and`), or of either (`or`).
    fn join(&mut self, joint: Joint, left: Worth, right: Worth) -> Worth;

    /// Whether nothing that is joined to this value changes it, so that the rest is left unread: of a group, and of a line that
    /// cannot match.
    fn is_settled(&self, joint: Joint, value: Worth) -> bool;
}

/// The value of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Worth(pub(crate) u64);

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Joint {
    And,
    Or,
}

/// What a line says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Rule<'a> {
    /// Nothing, or a remark.
    Blank,
    /// It cannot match, and its rest was not read.
    Passed,
    When(Worth, Said<'a>),
    Otherwise(Said<'a>),
}

/// A decision as it is written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Said<'a> {
    pub(crate) disposition: Disposition,
    pub(crate) notify: Notify,
    pub(crate) reason: Option<&'a str>,
}

/// Reads a whole line.
pub(crate) fn rule<'a>(text: &'a str, sense: &mut dyn Sense) -> Result<Rule<'a>, Fault<'a>> {
    let mut line = Line::new(text);
    read(&mut line, sense).map_err(|Failed| line.fault())
}

fn read<'a>(line: &mut Line<'a>, sense: &mut dyn Sense) -> Result<Rule<'a>, Failed> {
    let at = line.start();
    match line.token()? {
        Token::End => Ok(Rule::Blank),
        Token::Word("when") => {
            let value = group(line, sense, false, 0)?;
            if sense.is_settled(Joint::And, value) {
                return Ok(Rule::Passed);
            }
            let at = line.start();
            match line.token()? {
                Token::Mark(b':') => Ok(Rule::When(value, decision(line)?)),
                other => line.unknown(at, other, "end of the condition", &["and", "or", ":"]),
            }
        }
        Token::Word("otherwise") => {
            line.takes_mark(b':');
            decision(line).map(Rule::Otherwise)
        }
        other => line.unknown(at, other, "beginning of a rule", &["when", "otherwise"]),
    }
}

/// Conditions joined by `and`, or by `or`, up to what is neither.
fn group<'a>(line: &mut Line<'a>, sense: &mut dyn Sense, negated: bool, depth: u32) -> Result<Worth, Failed> {
    let mut value = operand(line, sense, negated, depth)?;
    let mut known = None;
    loop {
        let at = line.start();
        let written = match line.token()? {
            Token::Word("and") => Joint::And,
            Token::Word("or") => Joint::Or,
            _ => {
                line.back(at);
                return Ok(value);
            }
        };
        if known.is_some_and(|known| known != written) {
            let text = "put brackets around what belongs together: `and` and `or` stand side by side here";
            return line.fail(at, Wrong::Text(text));
        }
        known = Some(written);
        let joint = under(written, negated);
        if sense.is_settled(joint, value) {
            // The rest of a line that does not match is never looked at.
            if depth > 0 || joint == Joint::Or {
                line.skip_group()?;
            }
            return Ok(value);
        }
        let right = operand(line, sense, negated, depth)?;
        value = sense.join(joint, value, right);
    }
}

/// `not (a and b)` is `(not a) or (not b)`.
fn under(joint: Joint, negated: bool) -> Joint {
    match (joint, negated) {
        (Joint::And, false) | (Joint::Or, true) => Joint::And,
        _ => Joint::Or,
    }
}

fn operand<'a>(line: &mut Line<'a>, sense: &mut dyn Sense, mut negated: bool, depth: u32) -> Result<Worth, Failed> {
    loop {
        let at = line.start();
        let fact = match line.token()? {
            Token::Word("not") => {
                negated = !negated;
                continue;
            }
            Token::Mark(b'(') => {
                if depth >= DEEPEST {
                    return line.fail(at, Wrong::Text("more than 16 brackets within each other"));
                }
                let value = group(line, sense, negated, depth + 1)?;
                let at = line.start();
                return match line.token()? {
                    Token::Mark(b')') => Ok(value),
                    other => line.unknown(at, other, "end of the bracket", &["and", "or", ")"]),
                };
            }
            Token::Word("tls") => return Ok(sense.test(Test::Tls, negated)),
            Token::Word("last") => return Ok(sense.test(last_valid(line)?, negated)),
            Token::Word("never") => {
                expect(line, "valid", &["valid"])?;
                return Ok(sense.test(Test::Never, negated));
            }
            Token::Word("size") => return size(line, sense, negated),
            Token::Word(word @ ("spf" | "dkim" | "dmarc")) => {
                let method = match word {
                    "spf" => Method::Spf,
                    "dkim" => Method::Dkim,
                    _ => Method::Dmarc,
                };
                if line.takes("aligned") {
                    return Ok(sense.test(Test::Aligned(method), negated));
                }
                Fact::Auth(method)
            }
            Token::Word("result") => Fact::Result,
            Token::Word("why") => Fact::Why,
            Token::Word("claim") => Fact::Claim,
            Token::Word("trail") => Fact::Trail,
            Token::Word("sender") => Fact::Sender,
            Token::Word("recipient") => Fact::Recipient,
            Token::Word("helo") => Fact::Helo,
            Token::Word("envelope") => {
                expect(line, "sender", &["sender"])?;
                Fact::EnvelopeSender
            }
            Token::Word("client") => {
                let at = line.start();
                match line.token()? {
                    Token::Word("ip") => Fact::ClientIp,
                    Token::Word("name") => Fact::ClientName,
                    other => {
                        return line.unknown(at, other, "word about the client", &["ip", "name"]);
                    }
                }
            }
            other => return line.unknown(at, other, "condition", CONDITIONS),
        };
        return values(line, sense, negated, fact);
    }
}

fn expect<'a>(line: &mut Line<'a>, word: &str, possible: &'static [&'static str]) -> Result<(), Failed> {
    let at = line.start();
    match line.token()? {
        Token::Word(found) if found == word => Ok(()),
        other => line.unknown(at, other, "word that can stand here", possible),
    }
}

/// `is`, `is not`, `is in`, `is not in` and a value, or a list of them: one of them is enough.
fn values<'a>(line: &mut Line<'a>, sense: &mut dyn Sense, mut negated: bool, fact: Fact) -> Result<Worth, Failed> {
    let possible = if matches!(fact, Fact::Auth(_)) { &["is", "aligned"][..] } else { &["is"] };
    expect(line, "is", possible)?;
    negated ^= line.takes("not");
    line.takes("in");
    if !line.takes_mark(b'[') {
        return Ok(sense.test(value(line, fact)?, negated));
    }
    let joint = under(Joint::Or, negated);
    let test = value(line, fact)?;
    let mut all = sense.test(test, negated);
    loop {
        let at = line.start();
        match line.token()? {
            Token::Mark(b',') => {
                let test = value(line, fact)?;
                let next = sense.test(test, negated);
                all = sense.join(joint, all, next);
            }
            Token::Mark(b']') => return Ok(all),
            other => return line.unknown(at, other, "end of the list", &[",", "]"]),
        }
    }
}

/// One value of a fact.
fn value<'a>(line: &mut Line<'a>, fact: Fact) -> Result<Test<'a>, Failed> {
    let at = line.start();
    let found = line.token()?;
    if let (Token::Word("unknown"), false) = (found, matches!(fact, Fact::Result | Fact::EnvelopeSender)) {
        return Ok(Test::Unknown(fact));
    }
    let (what, names) = match fact {
        Fact::Result => ("result", RESULTS),
        Fact::Why => ("reason", REASONS),
        Fact::Claim => ("claim", CLAIMS),
        Fact::Trail => ("mark of a trail", TRAILS),
        Fact::Auth(_) => ("result of this method", AUTHS),
        _ => return open_value(line, fact, at, found),
    };
    let place = match found {
        Token::Word(word) => names.iter().position(|name| *name == word),
        _ => None,
    };
    let Some(place) = place else { return line.unknown(at, found, what, names) };
    Ok(match fact {
        Fact::Result => Test::Result(status(place)),
        Fact::Why => Test::Why(why(place)),
        Fact::Claim => Test::Claim(claim(place)),
        Fact::Auth(method) if place == 8 => Test::Aligned(method),
        Fact::Auth(method) => Test::Auth(method, auth(place)),
        _ => Test::Trail(trail(place)),
    })
}

/// A value that is none of a few words.
fn open_value<'a>(line: &mut Line<'a>, fact: Fact, at: usize, found: Token<'a>) -> Result<Test<'a>, Failed> {
    let text = match found {
        Token::Word("empty") if fact == Fact::EnvelopeSender => return Ok(Test::EmptyPath),
        Token::Word(text) | Token::Quoted(text) => text,
        other => return line.unknown(at, other, "value", &["a value", "a list in ["]),
    };
    let test = match fact {
        Fact::ClientIp => Network::parse(text).map(Test::Ip),
        Fact::ClientName => host(text, found).map(Test::Name),
        Fact::Helo => host(text, found).map(Test::Helo),
        _ => pattern(text, fact).map(|pattern| Test::Address(fact, pattern)),
    };
    test.or_else(|sentence| line.fail(at, Wrong::Value(text, sentence)))
}

fn claim(place: usize) -> Claim {
    match place {
        0 => Claim::Testing,
        1 => Claim::Some,
        _ => Claim::All,
    }
}

fn status(place: usize) -> KeyStatus {
    match place {
        0 => KeyStatus::Valid,
        1 => KeyStatus::Invalid,
        2 => KeyStatus::Missing,
        3 => KeyStatus::None,
        4 => KeyStatus::Unverified,
        _ => KeyStatus::Unusable,
    }
}

fn why(place: usize) -> Why {
    match place {
        0 => Why::Wrong,
        1 => Why::Expired,
        2 => Why::NoFrom,
        3 => Why::SeveralFrom,
        4 => Why::BadAddress,
        5 => Why::SeveralKeys,
        6 => Why::BadKey,
        7 => Why::MalformedHeader,
        8 => Why::Dns,
        9 => Why::Timeout,
        10 => Why::Limit,
        11 => Why::NoProof,
        _ => Why::Other,
    }
}

fn trail(place: usize) -> Trail {
    match place {
        0 => Trail::empty(),
        1 => Trail::MAILING_LIST,
        2 => Trail::FORWARDED,
        3 => Trail::RESENT,
        4 => Trail::AUTOMATIC,
        _ => Trail::BOUNCE,
    }
}

fn auth(place: usize) -> AuthResult {
    match place {
        0 => AuthResult::Pass,
        1 => AuthResult::Fail,
        2 => AuthResult::Softfail,
        3 => AuthResult::Neutral,
        4 => AuthResult::Policy,
        5 => AuthResult::Temperror,
        6 => AuthResult::Permerror,
        _ => AuthResult::None,
    }
}

/// `a@b.example`, `@b.example`, `*.b.example`.
fn pattern(text: &str, fact: Fact) -> Result<Pattern<'_>, &'static str> {
    let (pattern, domain) = match (text.strip_prefix("*."), text.rsplit_once('@')) {
        (Some(domain), None) => (Pattern::Below(domain), domain),
        (_, Some(("", domain))) => (Pattern::Domain(domain), domain),
        (_, Some((local, domain))) if local.len() <= 250 => {
            if fact == Fact::Recipient && untagged(local) != local {
                return Err("never occurs: a recipient's +tag does not matter, so leave it out");
            }
            (Pattern::One(local, domain), domain)
        }
        _ => return Err("is no address: write a@b.example, @b.example for a domain, *.b.example for its subdomains"),
    };
    check_domain(domain)?;
    Ok(pattern)
}

fn check_domain(domain: &str) -> Result<(), &'static str> {
    if !domain.is_ascii() {
        return Err("has letters beyond ASCII: write its domain in the form of DNS, xn--...");
    }
    let label = |label: &str| {
        let good = |octet: u8| octet.is_ascii_alphanumeric() || octet == b'-';
        (1..=63).contains(&label.len()) && label.bytes().all(good)
    };
    if domain.len() <= 253 && domain.contains('.') && domain.split('.').all(label) {
        Ok(())
    } else {
        Err("has no domain such as b.example: write a@b.example, @b.example, or *.b.example for subdomains")
    }
}

/// A name in quotes may be anything that a client calls itself.
fn host<'a>(text: &'a str, found: Token<'a>) -> Result<Host<'a>, &'static str> {
    let good = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'.' | b'-' | b'_');
    if let Some(domain) = text.strip_prefix("*.") {
        check_domain(domain)?;
        return Ok(Host::Below(domain));
    }
    if text.is_empty() || !(matches!(found, Token::Quoted(_)) || text.bytes().all(good)) || text.ends_with('.') {
        return Err(
            "is no host name: write mail.b.example, or *.b.example for all below it; \"[192.0.2.1]\" in quotes",
        );
    }
    Ok(Host::One(text))
}

/// `over 10M`, `under 500K`, `is unknown`.
fn size<'a>(line: &mut Line<'a>, sense: &mut dyn Sense, mut negated: bool) -> Result<Worth, Failed> {
    if line.takes("is") {
        negated ^= line.takes("not");
    }
    let at = line.start();
    let over = match line.token()? {
        Token::Word("over") => true,
        Token::Word("under") => false,
        Token::Word("unknown") => return Ok(sense.test(Test::Unknown(Fact::Size), negated)),
        other => {
            return line.unknown(at, other, "word about the size", &["over", "under", "is unknown"]);
        }
    };
    let at = line.start();
    let found = line.token()?;
    let octets = match found {
        Token::Word(word) => octets(word),
        _ => None,
    };
    let Some(octets) = octets else { return line.unknown(at, found, "size", &["500000", "500K", "10M", "1G"]) };
    Ok(sense.test(if over { Test::Over(octets) } else { Test::Under(octets) }, negated))
}

/// A number of octets, with K, M or G for 1024 of the one before.
fn octets(word: &str) -> Option<u64> {
    let (digits, unit) = match word.as_bytes().last()? {
        b'K' | b'k' => (word.get(..word.len() - 1)?, 1 << 10),
        b'M' | b'm' => (word.get(..word.len() - 1)?, 1 << 20),
        b'G' | b'g' => (word.get(..word.len() - 1)?, 1 << 30),
        _ => (word, 1),
    };
    number(digits)?.checked_mul(unit)
}

fn number(digits: &str) -> Option<u64> {
    let digit = |sum: u64, octet: u8| {
        octet.is_ascii_digit().then(|| sum.checked_mul(10)?.checked_add(u64::from(octet - b'0'))).flatten()
    };
    if digits.is_empty() { None } else { digits.bytes().try_fold(0, digit) }
}

/// `valid within 30 days`.
fn last_valid<'a>(line: &mut Line<'a>) -> Result<Test<'a>, Failed> {
    expect(line, "valid", &["valid within"])?;
    expect(line, "within", &["within"])?;
    let at = line.start();
    let found = line.token()?;
    let days = match found {
        Token::Word(word) => number(word).and_then(|days| u32::try_from(days).ok()),
        _ => None,
    };
    let Some(days) = days else { return line.unknown(at, found, "number of days", &["30 days"]) };
    if !line.takes("days") && !line.takes("day") {
        expect(line, "days", &["days"])?;
    }
    Ok(Test::Within(days))
}

/// `reject, tell the sender "why"`, up to the end of the line.
fn decision<'a>(line: &mut Line<'a>) -> Result<Said<'a>, Failed> {
    let start = line.start();
    let disposition = match line.token()? {
        Token::Word("accept") => Disposition::Accept,
        Token::Word("mark") => Disposition::Mark,
        Token::Word("quarantine") => Disposition::Quarantine,
        Token::Word("reject") => Disposition::Reject,
        Token::Word("defer") => Disposition::Defer,
        other => return line.unknown(start, other, "decision", DECISIONS),
    };
    line.takes_mark(b',');
    let at = line.start();
    let told = if line.takes("tell") { Some(told(line)?) } else { None };
    match (disposition, told) {
        (Disposition::Reject, None) => {
            let text =
                "say who hears of it: `reject, tell the sender`, `tell the recipient`, `tell both` or `tell nobody`";
            return line.fail(start, Wrong::Text(text));
        }
        (Disposition::Quarantine, Some(who)) if who.contains(Notify::SENDER) => {
            let text = "the sender cannot be told of mail that is kept back: `tell the recipient`, or nobody";
            return line.fail(at, Wrong::Text(text));
        }
        (Disposition::Accept | Disposition::Mark | Disposition::Defer, Some(_)) => {
            let text = "nobody is told of mail that is delivered or comes again: leave `tell` out";
            return line.fail(at, Wrong::Text(text));
        }
        _ => {}
    }
    line.takes_mark(b',');
    let at = line.start();
    let reason = match line.token()? {
        Token::End => None,
        Token::Quoted(reason) => {
            let good = |octet: u8| matches!(octet, b' '..=b'~') && octet != b'%';
            if reason.len() > REASON || !reason.bytes().all(good) {
                let text = "a reason has at most 400 characters, of ASCII and without %, since mail servers pass it on";
                return line.fail(at, Wrong::Text(text));
            }
            Some(reason)
        }
        other => {
            let possible: &[&str] = match (told, disposition) {
                (None, Disposition::Quarantine) => &["tell the recipient", "a reason in quotes", "the end of the line"],
                _ => &["a reason in quotes", "the end of the line"],
            };
            return line.unknown(at, other, "part of a decision", possible);
        }
    };
    if reason.is_some() {
        let at = line.start();
        match line.token()? {
            Token::End => {}
            other => {
                return line.unknown(at, other, "part of a decision", &["the end of the line"]);
            }
        }
    }
    Ok(Said { disposition, notify: told.unwrap_or(Notify::empty()), reason })
}

/// `the sender`, `the recipient`, `both`, `nobody`.
fn told<'a>(line: &mut Line<'a>) -> Result<Notify, Failed> {
    line.takes("the");
    let at = line.start();
    match line.token()? {
        Token::Word("sender") => Ok(Notify::SENDER),
        Token::Word("recipient") => Ok(Notify::RECIPIENT),
        Token::Word("both") => Ok(Notify::SENDER | Notify::RECIPIENT),
        Token::Word("nobody") => Ok(Notify::empty()),
        other => {
            let possible = &["the sender", "the recipient", "both", "nobody"];
            line.unknown(at, other, "one who can be told", possible)
        }
    }
}
