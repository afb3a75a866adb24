//! A line of a text for the shipped `rules`, as far as it tells what the line can ask.

use std::net::IpAddr;

use ipnet::IpNet;

use super::super::sandbox::contract::{Address, Value};
use super::axis::{Aspect, Kind};

/// The condition of a line, in its words.
#[derive(Clone, Debug, Default)]
pub(super) struct RuleLine {
    /// All of them, quoted ones too.
    words: Vec<String>,
    /// Those that stand where the name of a host does.
    hosts: Vec<String>,
    /// Those that stand where a network does.
    networks: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece<'a> {
    Word(&'a str),
    Quoted(&'a str),
    Mark(u8),
}

impl RuleLine {
    /// Reads a line that the grammar takes.
    pub(super) fn read(line: &str) -> RuleLine {
        let pieces = condition(line);
        let mut words = Vec::new();
        for piece in &pieces {
            if let Piece::Word(word) | Piece::Quoted(word) = piece {
                words.push((*word).to_owned());
            }
        }
        RuleLine { words, hosts: behind(&pieces, &["helo", "name"]), networks: behind(&pieces, &["ip"]) }
    }

    /// The lines in these settings.
    pub(super) fn all(settings: &[&Value]) -> Vec<RuleLine> {
        let lines = settings.iter().flat_map(|value| match value {
            Value::Texts(lines) => lines.as_slice(),
            Value::Text(line) => std::slice::from_ref(line),
            _ => &[],
        });
        lines.map(|line| RuleLine::read(line)).collect()
    }

    /// Whether it may ask for the fact.
    pub(super) fn asks(&self, kind: &Kind) -> bool {
        let asks = |word: &str| match kind {
            Kind::LastValid => matches!(word, "last" | "never"),
            Kind::EnvelopeSender => word == "envelope",
            Kind::Ip => word == "ip",
            Kind::ClientName => word == "name",
            // A reason is one of its result.
            Kind::Result => true,
            kind => word == kind.word(),
        };
        self.words.iter().any(|word| asks(word))
    }

    /// The words that may stand for values of the fact.
    pub(super) fn values(&self, kind: &Kind) -> &[String] {
        match kind {
            Kind::Helo | Kind::ClientName => &self.hosts,
            Kind::Ip => &self.networks,
            _ => &self.words,
        }
    }

    /// Whether each network in it is read here as the component reads it: none with a zero before its length, none of IPv4 written
    /// within IPv6, and none that only one of the two can read.
    pub(super) fn has_plain_networks(&self) -> bool {
        let is_plain = |word: &String| {
            let zero = word.rsplit_once('/').is_some_and(|(_, length)| length.len() > 1 && length.starts_with('0'));
            let mapped = word.to_ascii_lowercase().starts_with("::ffff:");
            !zero && !mapped && network(word).is_some()
        };
        self.networks.iter().all(is_plain)
    }
}

/// A network, or an address alone.
pub(super) fn network(word: &str) -> Option<IpNet> {
    word.parse().ok().or_else(|| word.parse::<IpAddr>().ok().map(IpNet::from))
}

/// Whether a word of a line is a value of its fact that this value is one of, as `policies/rules/src/test.rs` has it.
pub(super) fn tells(aspect: &Aspect, word: &str) -> bool {
    match aspect {
        Aspect::Sender(Some(address)) | Aspect::EnvelopeSender(Some(address)) => {
            is_mailbox(address, &address.local, word)
        }
        Aspect::Recipient(Some(address)) => is_mailbox(address, untagged(&address.local), word),
        Aspect::ClientName(Some(name)) | Aspect::Helo(name) => is_host(name, word),
        Aspect::Ip(Some(ip)) => {
            ip.parse::<IpAddr>().is_ok_and(|ip| network(word).is_some_and(|network| network.contains(&ip)))
        }
        _ => false,
    }
}

fn is_mailbox(address: &Address, local: &str, word: &str) -> bool {
    match word.rsplit_once('@') {
        Some(("", domain)) => domain.eq_ignore_ascii_case(&address.domain),
        Some((named, domain)) => domain.eq_ignore_ascii_case(&address.domain) && named.eq_ignore_ascii_case(local),
        None => word.strip_prefix("*.").is_some_and(|domain| is_below(&address.domain, domain)),
    }
}

fn is_host(name: &str, word: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    match word.strip_prefix("*.") {
        Some(domain) => is_below(name, domain),
        None => word.eq_ignore_ascii_case(name),
    }
}

pub(super) fn is_below(name: &str, domain: &str) -> bool {
    let (name, domain) = (name.as_bytes(), domain.as_bytes());
    let Some(dot) = name.len().checked_sub(domain.len() + 1).filter(|dot| *dot > 0) else { return false };
    let (begin, end) = name.split_at(dot);
    !begin.is_empty() && end.first() == Some(&b'.') && end.get(1..).is_some_and(|end| end.eq_ignore_ascii_case(domain))
}

/// The local part of the mailbox (SPECIFICATION §1).
pub(super) fn untagged(local: &str) -> &str {
    let tag = local.bytes().skip(1).position(|octet| octet == b'+').filter(|_| !local.starts_with('"'));
    tag.and_then(|at| local.get(..at + 1)).unwrap_or(local)
}

/// What stands behind `helo is`, where `helo` is one of these facts: a value, or the values of a list.
fn behind(pieces: &[Piece<'_>], facts: &[&str]) -> Vec<String> {
    let (mut values, mut rest) = (Vec::new(), pieces.iter().copied().peekable());
    while let Some(piece) = rest.next() {
        if !matches!(piece, Piece::Word(fact) if facts.contains(&fact)) {
            continue;
        }
        // Each once, as the grammar has it: a host may be called `in`.
        for word in ["is", "not", "in"] {
            let _ = rest.next_if_eq(&Piece::Word(word));
        }
        match rest.next() {
            Some(Piece::Word(word) | Piece::Quoted(word)) => values.push(word.to_owned()),
            Some(Piece::Mark(b'[')) => {
                while let Some(piece) = rest.next_if(|piece| *piece != Piece::Mark(b']')) {
                    if let Piece::Word(word) | Piece::Quoted(word) = piece {
                        values.push(word.to_owned());
                    }
                }
            }
            _ => {}
        }
    }
    values
}

/// The pieces of a line up to the colon behind its condition, cut as `policies/rules/src/line.rs` cuts them.
fn condition(line: &str) -> Vec<Piece<'_>> {
    let (octets, mut at, mut pieces) = (line.as_bytes(), 0, Vec::new());
    let octet = |at: usize| octets.get(at).copied();
    let ends_at = |at: usize| matches!(octet(at), None | Some(b' ' | b'\t'));
    while let Some(first) = octet(at) {
        let begin = at;
        match first {
            b' ' | b'\t' => at += 1,
            b'(' | b')' | b'[' | b']' | b',' => {
                pieces.push(Piece::Mark(first));
                at += 1;
            }
            b'#' => break,
            b':' if ends_at(at + 1) => break,
            b'"' | b'\'' => {
                let end = line.get(begin + 1..).and_then(|rest| rest.find(char::from(first)));
                let end = end.map_or(line.len(), |length| begin + 1 + length);
                pieces.extend(line.get(begin + 1..end).map(Piece::Quoted));
                at = end + 1;
            }
            _ => {
                let is_end = |at: usize| match octet(at) {
                    None | Some(b' ' | b'\t' | b'"' | b'(' | b')' | b'[' | b']' | b',') => true,
                    Some(b':') => ends_at(at + 1),
                    _ => false,
                };
                at = (begin + 1..).find(|at| is_end(*at)).unwrap_or(line.len());
                pieces.extend(line.get(begin..at).map(Piece::Word));
            }
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        RuleLine::read(line).words
    }

    #[test]
    fn the_words_of_a_condition_are_cut_as_the_grammar_cuts_them() {
        assert_eq!(
            words("when client ip is in [2001:db8::/32,::1] and helo is \"is: this\": reject, tell the sender 'never'"),
            ["when", "client", "ip", "is", "in", "2001:db8::/32", "::1", "and", "helo", "is", "is: this"]
        );
        assert_eq!(words("when sender is a'b@x.example: mark"), ["when", "sender", "is", "a'b@x.example"]);
        assert_eq!(words("  # nothing"), [""; 0]);
        for odd in
            ["\"", "'", "when \"", ":", "a:", "\u{fc}:\u{fc} ", "((", "", "helo", "helo is [", "name is not in ["]
        {
            let _ = RuleLine::read(odd);
        }
    }

    #[test]
    fn the_names_of_hosts_are_what_stands_behind_helo_and_name_whatever_it_is() {
        let hosts = |line: &str| RuleLine::read(line).hosts;
        assert_eq!(
            hosts(
                "when helo is not in [\"is\", client, \"not\"] and (client name is name or helo is not helo) and tls: mark"
            ),
            ["is", "client", "not", "name", "helo"]
        );
        assert_eq!(hosts("when sender is @name.example: mark \"helo is x\""), [""; 0]);
        for (line, host) in [
            ("when helo is is: mark", "is"),
            ("when helo is in in: mark", "in"),
            ("when helo is not not and tls: mark", "not"),
            ("when client name is not in not: mark", "not"),
            ("when client name is in is: mark", "is"),
        ] {
            assert_eq!(hosts(line), [host], "{line}");
        }
    }

    #[test]
    fn a_network_that_only_one_of_two_readers_takes_is_not_plain() {
        let is_plain = |word: &str| RuleLine::read(&format!("when client ip is {word}: mark")).has_plain_networks();
        for word in ["10.0.0.0/8", "192.0.2.1", "2001:db8::/32", "::", "::1", "0.0.0.0/0"] {
            assert!(is_plain(word), "{word}");
        }
        for word in ["10.0.0.0/008", "2001:db8::/032", "::ffff:10.0.0.0/104", "10.0.0.0/", "1.2.3", "::1/129"] {
            assert!(!is_plain(word), "{word}");
        }
        let elsewhere = "when helo is not in ['a: b', 10.0.0.0/008] and client ip is not in [10.0.0.0/8, ::1]: mark";
        assert!(RuleLine::read(elsewhere).has_plain_networks());
        let beside = "when helo is ip and (client ip is not 10.0.0.0/008 or tls): mark";
        assert!(!RuleLine::read(beside).has_plain_networks());
    }
}
