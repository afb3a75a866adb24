//! The grammar of a line: README.md beside this crate has it in one piece.
//!
//! Nothing is built: what a condition comes to is worked out while it is read, by a [`Sense`]. `not` is pushed down to the single
//! questions, so a sense sees none.

use crate::decision::{Said, decision};
use crate::fault::{Fault, Wrong};
use crate::line::{Failed, Line, Token};
use crate::test::{Fact, Method, Test};
use crate::value::{last_valid, octets, value};

/// Brackets within each other.
pub(crate) const DEEPEST: u32 = 16;
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
                line.expect("valid", &["valid"])?;
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
                line.expect("sender", &["sender"])?;
                Fact::EnvelopeSender
            }
            Token::Word("client") => client(line)?,
            other => return line.unknown(at, other, "condition", CONDITIONS),
        };
        return values(line, sense, negated, fact);
    }
}

/// What follows `client`.
fn client(line: &mut Line<'_>) -> Result<Fact, Failed> {
    let at = line.start();
    match line.token()? {
        Token::Word("ip") => Ok(Fact::ClientIp),
        Token::Word("name") => Ok(Fact::ClientName),
        other => line.unknown(at, other, "word about the client", &["ip", "name"]),
    }
}

/// `is`, `is not`, `is in`, `is not in` and a value, or a list of them: one of them is enough.
fn values<'a>(line: &mut Line<'a>, sense: &mut dyn Sense, mut negated: bool, fact: Fact) -> Result<Worth, Failed> {
    let possible = if matches!(fact, Fact::Auth(_)) { &["is", "aligned"][..] } else { &["is"] };
    line.expect("is", possible)?;
    // Each token is read once: this is where nearly all of a text is.
    let (mut at, mut found) = next(line)?;
    if found == Token::Word("not") {
        negated = !negated;
        (at, found) = next(line)?;
    }
    if found == Token::Word("in") {
        (at, found) = next(line)?;
    }
    if found != Token::Mark(b'[') {
        return Ok(sense.test(value(line, fact, at, found)?, negated));
    }
    let joint = under(Joint::Or, negated);
    let (at, found) = next(line)?;
    let test = value(line, fact, at, found)?;
    let mut all = sense.test(test, negated);
    loop {
        let at = line.start();
        match line.token()? {
            Token::Mark(b',') => {
                let (at, found) = next(line)?;
                let test = value(line, fact, at, found)?;
                let worth = sense.test(test, negated);
                all = sense.join(joint, all, worth);
            }
            Token::Mark(b']') => return Ok(all),
            other => return line.unknown(at, other, "end of the list", &[",", "]"]),
        }
    }
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

/// The next token and where it begins.
fn next<'a>(line: &mut Line<'a>) -> Result<(usize, Token<'a>), Failed> {
    Ok((line.start(), line.token()?))
}
