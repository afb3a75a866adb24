//! The values of facts: the words that name them, and those that are written out.

use addrauth_policy::{AuthResult, Claim, KeyStatus, Trail, Why};

use crate::fault::Wrong;
use crate::line::{Failed, Line, Token};
use crate::network::Network;
use crate::test::{Fact, Host, Pattern, Test, untagged};

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

/// One value of a fact: the token that was found at this place.
pub(crate) fn value<'a>(line: &mut Line<'a>, fact: Fact, at: usize, found: Token<'a>) -> Result<Test<'a>, Failed> {
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
        (_, Some((local, domain))) if local.len() <= 250 && !local.bytes().any(|octet| octet == b'*') => {
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
        return Err("is not ASCII: write its domain as DNS does, xn--...");
    }
    let label = |label: &str| {
        let good = |octet: u8| octet.is_ascii_alphanumeric() || octet == b'-';
        (1..=63).contains(&label.len()) && label.bytes().all(good)
    };
    if domain.len() <= 253 && domain.contains('.') && domain.split('.').all(label) {
        Ok(())
    } else {
        Err("has no domain such as b.example")
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

/// A number of octets, with K, M or G for 1024 of the one before.
pub(crate) fn octets(word: &str) -> Option<u64> {
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
pub(crate) fn last_valid<'a>(line: &mut Line<'a>) -> Result<Test<'a>, Failed> {
    line.expect("valid", &["valid within"])?;
    line.expect("within", &["within"])?;
    let at = line.start();
    let found = line.token()?;
    let days = match found {
        Token::Word(word) => number(word).and_then(|days| u32::try_from(days).ok()),
        _ => None,
    };
    let Some(days) = days else { return line.unknown(at, found, "number of days", &["30 days"]) };
    if !line.takes("days") && !line.takes("day") {
        line.expect("days", &["days"])?;
    }
    Ok(Test::Within(days))
}
