//! `DECISION when FACT=VALUE and …`: the clauses of properties.

use std::fmt;
use std::net::IpAddr;

use super::super::sandbox::contract::{Address, AuthResult, Trail, Wanted, Wants};
use super::answers::Answers;
use super::axis::{Aspect, Kind};
use super::rule_line::{is_below, network, untagged};
use super::samples::Samples;
use super::space::Space;
use super::subject::Answer;
use crate::case::Disposition;
use crate::proto::address::{self as mailbox, Domain};

/// Why a property cannot be read, in words for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub String);

/// Decisions, and the facts under which they are looked for.
#[derive(Clone, Debug)]
pub struct Clause {
    text: String,
    decisions: Vec<Decided>,
    conditions: Vec<Condition>,
}

/// A decision as a clause names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decided {
    Error,
    Disposition(Disposition, Option<Told>),
}

/// Who is told, where a clause says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Nobody,
    Sender,
    Recipient,
    Both,
}

#[derive(Clone, Debug)]
struct Condition {
    fact: Fact,
    compare: Compare,
    values: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Fact {
    Why,
    Of(Kind),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compare {
    Is,
    IsNot,
    Below,
    AtMost,
    Above,
    AtLeast,
}

/// A clause's conditions over the rows of a space.
pub(super) struct Over(Vec<(usize, Vec<bool>)>);

impl Over {
    pub(super) fn holds(&self, row: &[u8]) -> bool {
        let good = |(axis, classes): &(usize, Vec<bool>)| {
            row.get(*axis).and_then(|class| classes.get(usize::from(*class))).copied().unwrap_or(false)
        };
        self.0.iter().all(good)
    }
}

/// The facts that a condition may name.
const FACTS: &str = "result, why, claim, trail, spf, dkim, dmarc, last-valid, sender, recipient, envelope-sender, client, \
                     client-name, helo, tls, size, or the name of a header field with a colon behind it";

/// What is said of a method; the first word is none of DMARC's.
const METHODS: &[&str] =
    &["aligned", "unsaid", "none", "pass", "fail", "softfail", "neutral", "policy", "temperror", "permerror"];

impl fmt::Display for Clause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Clause {
    /// Reads a clause such as `reject, tell nobody when result=missing and trail=none`.
    ///
    /// # Errors
    /// What cannot be read, and what could stand there.
    pub fn read(text: &str) -> Result<Clause, Malformed> {
        let (decisions, conditions) = match text.split_once(" when ") {
            Some((decisions, conditions)) => (decisions, conditions),
            None => (text, ""),
        };
        let decisions = decisions.split(" or ").map(|word| decided(word.trim())).collect::<Result<Vec<_>, _>>()?;
        let conditions = conditions.split(" and ").map(str::trim).filter(|condition| !condition.is_empty());
        let conditions = conditions.map(condition).collect::<Result<Vec<_>, _>>()?;
        Ok(Clause { text: text.to_owned(), decisions, conditions })
    }

    pub(super) fn is_unconditional(&self) -> bool {
        self.conditions.is_empty()
    }

    /// The facts that it names.
    pub(super) fn wanted(&self) -> Wanted {
        let mut wanted = Wanted { facts: Wants::empty(), headers: Vec::new() };
        for condition in &self.conditions {
            match &condition.fact {
                Fact::Why => wanted.facts |= Wants::WHY,
                Fact::Of(Kind::Header(_, name)) => wanted.headers.push(name.clone()),
                Fact::Of(kind) => wanted.facts |= kind.wants().unwrap_or(Wants::empty()),
            }
        }
        wanted
    }

    /// Takes the values that its conditions name in, each as one value of its fact.
    pub(super) fn tell(&self, samples: &mut Samples) {
        samples.ask(&self.text);
        for condition in &self.conditions {
            let Fact::Of(kind) = &condition.fact else { continue };
            samples.keep_apart(kind.clone());
            for value in &condition.values {
                samples.value(kind, value);
                condition.aspects(value).into_iter().for_each(|aspect| samples.name(kind.clone(), aspect));
            }
        }
    }

    /// Its conditions over a space that has all facts that it names.
    pub(super) fn over(&self, space: &Space) -> Over {
        let place = |fact: &Fact| {
            space.axes.iter().position(|axis| match (fact, &axis.kind) {
                (Fact::Why, Kind::Result) => true,
                (Fact::Of(Kind::Header(_, name)), Kind::Header(_, known)) => name.eq_ignore_ascii_case(known),
                (Fact::Of(kind), known) => kind == known,
                (Fact::Why, _) => false,
            })
        };
        let over = |condition: &Condition| {
            let axis = place(&condition.fact)?;
            let classes = 0..space.axes.get(axis)?.classes.len();
            let test = |class: usize| {
                let value = u8::try_from(class).ok().and_then(|class| space.axes.get(axis)?.value(class));
                value.is_some_and(|value| condition.holds(value))
            };
            Some((axis, classes.map(test).collect()))
        };
        // A fact that is not there is no reason to let a row through: `over` is asked of spaces that have all.
        Over(self.conditions.iter().map(|condition| over(condition).unwrap_or((usize::MAX, Vec::new()))).collect())
    }

    /// Whether the answer to a row is among its decisions.
    pub(super) fn among<'a>(&self, answers: &'a Answers) -> impl Fn(usize) -> bool + use<'a> {
        let is: Vec<bool> = answers.distinct.iter().map(|answer| self.names(answer)).collect();
        move |row| {
            let number = answers.number(row).and_then(|number| usize::try_from(number).ok());
            number.and_then(|number| is.get(number)).copied().unwrap_or(false)
        }
    }

    fn names(&self, answer: &Answer) -> bool {
        self.decisions.iter().any(|decided| match (decided, &answer.decision) {
            (Decided::Error, _) => answer.fault.is_some(),
            (Decided::Disposition(disposition, told), Some(decision)) => {
                let notify = (decision.notify.sender, decision.notify.recipient);
                let tells = told.is_none_or(|told| match told {
                    Told::Nobody => notify == (false, false),
                    Told::Sender => notify == (true, false),
                    Told::Recipient => notify == (false, true),
                    Told::Both => notify == (true, true),
                });
                decision.disposition == *disposition && tells
            }
            (Decided::Disposition(..), None) => false,
        })
    }
}

fn decided(text: &str) -> Result<Decided, Malformed> {
    let (word, told) = match text.split_once(", tell ") {
        Some((word, told)) => (word, Some(told.trim())),
        None => (text, None),
    };
    let disposition = match word.trim() {
        "accept" => Disposition::Accept,
        "mark" => Disposition::Mark,
        "quarantine" => Disposition::Quarantine,
        "reject" => Disposition::Reject,
        "defer" => Disposition::Defer,
        "error" if told.is_none() => return Ok(Decided::Error),
        other => {
            let text = format!("`{other}` is no decision: write accept, mark, quarantine, reject, defer or error");
            return Err(Malformed(text));
        }
    };
    let told = match told {
        None => None,
        Some("nobody") => Some(Told::Nobody),
        Some("sender" | "the sender") => Some(Told::Sender),
        Some("recipient" | "the recipient") => Some(Told::Recipient),
        Some("both" | "sender and recipient") => Some(Told::Both),
        Some(other) => {
            let text = format!("`tell {other}`: write tell nobody, tell the sender, tell the recipient or tell both");
            return Err(Malformed(text));
        }
    };
    Ok(Decided::Disposition(disposition, told))
}

fn condition(text: &str) -> Result<Condition, Malformed> {
    let signs = [
        ("!=", Compare::IsNot),
        ("<=", Compare::AtMost),
        (">=", Compare::AtLeast),
        ("=", Compare::Is),
        ("<", Compare::Below),
        (">", Compare::Above),
    ];
    let found = signs.into_iter().find_map(|(sign, compare)| Some((text.split_once(sign)?, compare)));
    let Some(((fact, values), compare)) = found else {
        return Err(Malformed(format!(
            "`{text}` is no condition: write FACT=VALUE, such as result=valid or trail=none"
        )));
    };
    let values: Vec<String> = values.split('|').map(|value| value.trim().to_owned()).collect();
    let fact = match fact.trim() {
        "result" => Fact::Of(Kind::Result),
        "why" => Fact::Why,
        "claim" => Fact::Of(Kind::Claim),
        "trail" => Fact::Of(Kind::Trail),
        "spf" => Fact::Of(Kind::Spf),
        "dkim" => Fact::Of(Kind::Dkim),
        "dmarc" => Fact::Of(Kind::Dmarc),
        "last-valid" => Fact::Of(Kind::LastValid),
        "sender" => Fact::Of(Kind::Sender),
        "recipient" => Fact::Of(Kind::Recipient),
        "envelope-sender" => Fact::Of(Kind::EnvelopeSender),
        "client" => Fact::Of(Kind::Ip),
        "client-name" => Fact::Of(Kind::ClientName),
        "helo" => Fact::Of(Kind::Helo),
        "tls" => Fact::Of(Kind::Tls),
        "size" => Fact::Of(Kind::Size),
        field if field.len() > 1 && field.ends_with(':') => {
            Fact::Of(Kind::Header(0, field.trim_end_matches(':').to_owned()))
        }
        other => return Err(Malformed(format!("`{other}` is no fact: write {FACTS}"))),
    };
    let mut condition = Condition { fact, compare, values };
    condition.check()?;
    if let Fact::Of(kind) = &condition.fact {
        let read = condition.values.iter().map(|value| canonical(kind, value));
        condition.values = read.collect::<Result<_, _>>()?;
    }
    Ok(condition)
}

/// The value as the fact has it: mail that is meant by another spelling would never be met.
fn canonical(kind: &Kind, value: &str) -> Result<String, Malformed> {
    let is_mailbox = matches!(kind, Kind::Sender | Kind::Recipient | Kind::EnvelopeSender);
    let is_host = matches!(kind, Kind::ClientName | Kind::Helo);
    // A recipient may have a domain of one label.
    let is_label = |text: &str| text.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-');
    let domain = |text: &str| match Domain::parse(text) {
        Ok(domain) => Some(domain.as_str().to_owned()),
        Err(_) => (!text.is_empty() && is_label(text)).then(|| text.to_ascii_lowercase()),
    };
    let upper = value.strip_prefix("*.").filter(|upper| !upper.contains('@'));
    let read = match (upper, value.strip_prefix('@')) {
        _ if value == "none" || !(is_mailbox || is_host) => return Ok(value.to_owned()),
        (Some(upper), _) => domain(upper).map(|upper| format!("*.{upper}")),
        (None, Some(at)) if is_mailbox => domain(at).map(|at| format!("@{at}")),
        _ if is_mailbox => {
            let (local, at) = value.rsplit_once('@').unzip();
            let local = local.filter(|local| local.starts_with('"') || !local.contains('*'));
            let somewhere = Domain::parse("b.example").ok();
            let read = local.zip(somewhere).and_then(|(local, domain)| mailbox::Address::at(local, &domain).ok());
            read.zip(at.and_then(domain)).map(|(address, domain)| format!("{}@{domain}", address.local()))
        }
        _ => {
            let is_no_pattern = |c: char| !(c.is_whitespace() || c.is_control() || "\"'<>*@".contains(c));
            value.chars().all(is_no_pattern).then(|| value.to_owned())
        }
    };
    let way = match is_mailbox {
        true => "a@b.example, @b.example for a domain, *.b.example for its subdomains, or none",
        false => "mx.b.example, *.b.example for all below it, or none",
    };
    read.ok_or_else(|| Malformed(format!("`{value}` is no value of that fact: write {way}")))
}

impl Condition {
    /// A word that no value has would make a clause that says nothing.
    fn check(&self) -> Result<(), Malformed> {
        let number = matches!(self.fact, Fact::Of(Kind::Size | Kind::LastValid));
        if !matches!(self.compare, Compare::Is | Compare::IsNot) && !number {
            return Err(Malformed("< and > compare last-valid (days) and size (octets) alone".into()));
        }
        let bounds = !matches!(self.compare, Compare::Is | Compare::IsNot);
        if bounds && !matches!(&self.values[..], [value] if value.parse::<u64>().is_ok()) {
            return Err(Malformed("< and > need one number behind them".into()));
        }
        let words: &[&str] = match &self.fact {
            Fact::Of(Kind::Result) => &["valid", "invalid", "missing", "none", "unverified", "unusable"],
            Fact::Why => &[
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
                "no-proof",
                "other",
                "none",
            ],
            Fact::Of(Kind::Claim) => &["testing", "some", "all", "none"],
            Fact::Of(Kind::Trail) => &["none", "any", "mailing-list", "forwarded", "resent", "automatic", "bounce"],
            Fact::Of(Kind::Spf | Kind::Dkim) => METHODS,
            // DMARC is about the domain of the sender, and a pass is always one for it.
            Fact::Of(Kind::Dmarc) => METHODS.split_first().map_or(METHODS, |(_, words)| words),
            Fact::Of(Kind::Tls) => &["yes", "no"],
            _ => &[],
        };
        for value in &self.values {
            let good = match &self.fact {
                _ if !words.is_empty() => words.contains(&value.as_str()),
                Fact::Of(Kind::Size | Kind::LastValid) => value == "none" || value.parse::<u64>().is_ok(),
                Fact::Of(Kind::Ip) => value == "none" || network(value).is_some(),
                _ => !value.is_empty(),
            };
            if !good {
                let way = if words.is_empty() { "a number, an address or none".into() } else { words.join(", ") };
                return Err(Malformed(format!("`{value}` is no value of that fact: write {way}")));
            }
        }
        Ok(())
    }

    /// Values of the fact that a word of the condition tells apart from others; of closed facts all are there anyway.
    fn aspects(&self, value: &str) -> Vec<Aspect> {
        let Fact::Of(kind) = &self.fact else { return Vec::new() };
        if value == "none" {
            return Vec::new();
        }
        let mailbox = |make: fn(Option<Address>) -> Aspect| {
            let (local, domain) = match (value.strip_prefix("*."), value.rsplit_once('@')) {
                (Some(upper), None) => ("someone", format!("below.{upper}")),
                (_, Some(("", domain))) => ("someone", domain.to_owned()),
                (_, Some((local, domain))) => (local, domain.to_owned()),
                (None, None) => return None,
            };
            Some(make(Some(Address { local: local.into(), domain })))
        };
        let host = || value.strip_prefix("*.").map_or_else(|| value.to_owned(), |upper| format!("below.{upper}"));
        let beside = || {
            let number = value.parse::<u64>().ok();
            number.map(|number| [number.saturating_sub(1), number, number.saturating_add(1)]).into_iter().flatten()
        };
        match kind {
            Kind::Sender => mailbox(Aspect::Sender).into_iter().collect(),
            Kind::Recipient => mailbox(Aspect::Recipient).into_iter().collect(),
            Kind::EnvelopeSender => mailbox(Aspect::EnvelopeSender).into_iter().collect(),
            Kind::Ip => {
                let first = network(value).and_then(|network| network.hosts().next());
                first.map(|ip| Aspect::Ip(Some(ip.to_canonical().to_string()))).into_iter().collect()
            }
            Kind::ClientName => vec![Aspect::ClientName(Some(host()))],
            Kind::Helo => vec![Aspect::Helo(host())],
            Kind::Size => beside().map(|octets| Aspect::Size(Some(octets))).collect(),
            Kind::LastValid => {
                beside().filter_map(|days| u32::try_from(days).ok()).map(|days| Aspect::LastValid(Some(days))).collect()
            }
            Kind::Header(place, _) => vec![Aspect::Header(*place, vec![value.to_owned()])],
            _ => Vec::new(),
        }
    }

    fn holds(&self, aspect: &Aspect) -> bool {
        match self.compare {
            Compare::Is => self.values.iter().any(|value| self.is(aspect, value)),
            Compare::IsNot => !self.values.iter().any(|value| self.is(aspect, value)),
            compare => {
                let number = match aspect {
                    Aspect::Size(size) => *size,
                    Aspect::LastValid(days) => days.map(u64::from),
                    _ => None,
                };
                let bound = self.values.first().and_then(|value| value.parse::<u64>().ok());
                number.zip(bound).is_some_and(|(number, bound)| match compare {
                    Compare::Below => number < bound,
                    Compare::AtMost => number <= bound,
                    Compare::Above => number > bound,
                    _ => number >= bound,
                })
            }
        }
    }

    fn is(&self, aspect: &Aspect, value: &str) -> bool {
        let method = |told: &Option<(AuthResult, bool)>| match (told, value) {
            (None, _) => value == "unsaid",
            (Some((_, aligned)), "aligned") => *aligned,
            (Some((result, _)), _) => result.word() == value,
        };
        let host = |name: &str| {
            let name = name.strip_suffix('.').unwrap_or(name);
            match value.strip_prefix("*.") {
                Some(upper) => is_below(name, upper),
                None => name.eq_ignore_ascii_case(value.strip_suffix('.').unwrap_or(value)),
            }
        };
        let number = |number: Option<u64>| number.map_or(value == "none", |number| value.parse() == Ok(number));
        match aspect {
            Aspect::Result(_, why) if self.fact == Fact::Why => why.map_or("none", |why| why.word()) == value,
            Aspect::Result(status, _) => status.word() == value,
            Aspect::Claim(claim) => claim.map_or("none", |claim| claim.word()) == value,
            Aspect::Trail(trail) => match value {
                "none" => *trail == Trail::empty(),
                "any" => *trail != Trail::empty(),
                mark => Trail::WORDS.iter().any(|(word, flag)| *word == mark && trail.contains(*flag)),
            },
            Aspect::Spf(told) | Aspect::Dkim(told) => method(told),
            Aspect::Dmarc(told) => method(&told.map(|result| (result, false))),
            Aspect::Sender(known) | Aspect::EnvelopeSender(known) => is_mailbox(known.as_ref(), value, |local| local),
            Aspect::Recipient(known) => is_mailbox(known.as_ref(), value, untagged),
            Aspect::Tls(tls) => *tls == (value == "yes"),
            Aspect::Ip(ip) => match ip.as_ref().and_then(|ip| ip.parse::<IpAddr>().ok()) {
                Some(ip) => network(value).is_some_and(|network| network.contains(&ip)),
                None => value == "none",
            },
            Aspect::ClientName(name) => name.as_deref().map_or(value == "none", host),
            Aspect::Helo(helo) => host(helo) || helo.is_empty() && value == "none",
            Aspect::Size(size) => number(*size),
            Aspect::LastValid(days) => number(days.map(u64::from)),
            Aspect::Header(_, values) => match value {
                "none" => values.is_empty(),
                value => values.iter().any(|known| known == value),
            },
        }
    }
}

/// `@domain` is any mailbox of it, and `*.domain` of those below it. Letter case does not matter, nor does the tag of a recipient that is named without one.
fn is_mailbox(address: Option<&Address>, value: &str, own: fn(&str) -> &str) -> bool {
    let Some(address) = address else { return value == "none" };
    match value.rsplit_once('@') {
        None => value.strip_prefix("*.").is_some_and(|upper| is_below(&address.domain, upper)),
        Some(("", domain)) => address.domain.eq_ignore_ascii_case(domain),
        Some((local, domain)) => {
            let is_local =
                [address.local.as_str(), own(&address.local)].iter().any(|own| own.eq_ignore_ascii_case(local));
            is_local && address.domain.eq_ignore_ascii_case(domain)
        }
    }
}
