//! Constants that texts and settings name, and the values of a fact that they and what lies beside them make.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::super::sandbox::contract::Address;
use super::axis::{Aspect, Kind};
use super::rule_line::network;
use super::wording::numbers;
use crate::proto::address as mailbox;

/// A client that no constant should name; the next where one does (RFC 5737, RFC 3849).
const NOBODYS_CLIENTS: [&str; 4] = ["203.0.113.77", "198.51.100.77", "192.0.2.77", "2001:db8::77"];
/// Days and octets that are tried where no setting names a number: what people write into code.
const DAYS: [u32; 8] = [0, 1, 7, 30, 31, 90, 365, 10_000];
const OCTETS: [u64; 5] = [1_000, 100_000, 1_000_000, 10_000_000, 100_000_000];
/// Constants, as far as they are no words of a grammar.
#[derive(Clone, Debug, Default)]
pub(super) struct Constants {
    addresses: BTreeSet<(String, String)>,
    domains: BTreeSet<String>,
    /// Names of hosts that are no domains.
    pub(super) names: BTreeSet<String>,
    networks: BTreeSet<IpNet>,
    pub(super) numbers: BTreeSet<u64>,
    /// Numbers with a unit of size.
    octets: BTreeSet<u64>,
}

impl Constants {
    /// Takes the constants of others in.
    pub(super) fn extend(&mut self, other: &Constants) {
        self.addresses.extend(other.addresses.iter().cloned());
        self.domains.extend(other.domains.iter().cloned());
        self.names.extend(other.names.iter().cloned());
        self.networks.extend(other.networks.iter().copied());
        self.numbers.extend(other.numbers.iter().copied());
        self.octets.extend(other.octets.iter().copied());
    }

    /// Takes in a word of a condition for `rules` that may be a value of this fact.
    pub(super) fn rule(&mut self, kind: &Kind, word: &str) {
        let below = word.strip_prefix("*.").map(str::to_ascii_lowercase);
        match kind {
            Kind::Sender | Kind::Recipient | Kind::EnvelopeSender => match (word.rsplit_once('@'), below) {
                (Some(("", domain)), _) => _ = self.domains.insert(domain.to_ascii_lowercase()),
                (Some((local, domain)), _) => {
                    self.addresses.insert((local.to_owned(), domain.to_ascii_lowercase()));
                }
                (None, Some(domain)) => _ = self.domains.insert(domain),
                (None, None) => {}
            },
            Kind::Helo | Kind::ClientName => match below {
                Some(domain) => _ = self.domains.insert(domain),
                None => _ = self.names.insert(word.to_ascii_lowercase()),
            },
            Kind::Ip => self.networks.extend(network(word).map(|network| network.trunc())),
            Kind::Size | Kind::LastValid => self.numbers.extend(numbers(word).last()),
            _ => {}
        }
    }

    /// Takes in the words of a text.
    pub(super) fn words(&mut self, text: &str) {
        let ends = |c: char| c.is_whitespace() || ",;\"'()[]{}<>=|".contains(c);
        for word in text.split(ends) {
            // A colon may be an address's own end.
            let bare = word.trim_end_matches(['.', ':', '!', '?']);
            let word = if network(word).is_some() { word } else { bare };
            if !word.is_empty() {
                self.word(word);
            }
        }
        // Some of the marks that end a word may stand in an address, and a quoted local part may hold any.
        let whole = text.split(|c: char| c.is_whitespace() || ",;".contains(c));
        for piece in whole.chain([text.trim()]) {
            let bare = piece.trim_matches(|c: char| "'()[]{}<>:.!?".contains(c));
            for spelt in [bare, bare.trim_matches('"')] {
                if let Ok(address) = mailbox::Address::parse(spelt.as_bytes(), true) {
                    self.addresses.insert((address.local().to_owned(), address.domain().as_str().to_owned()));
                }
            }
            // What a client calls itself may look like an address of it or like a number: in quotes, or as a text of its own.
            let plain = bare.trim_matches('"');
            let stands_alone = piece != bare || bare != plain || text == bare;
            if stands_alone && (network(plain).is_some() || plain.parse::<f64>().is_ok()) {
                self.names.insert(plain.to_owned());
            }
        }
        // A text of one word may be a name.
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if !text.is_empty() && text.chars().all(good) && numbers(text).is_empty() {
            self.names.insert(text.to_owned());
        }
    }

    fn word(&mut self, word: &str) {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let lower = |text: &str| text.strip_prefix("*.").unwrap_or(text).to_ascii_lowercase();
        let domain = |text: &str| {
            let text = lower(text);
            let last = text.rsplit('.').next().is_some_and(|label| label.chars().any(|c| c.is_ascii_alphabetic()));
            (text.contains('.') && text.chars().all(good) && last && !text.starts_with('.')).then_some(text)
        };
        if let Some((local, at)) = word.rsplit_once('@') {
            // Behind the sign a name without a dot is one, too.
            let bare = || Some(lower(at)).filter(|at| !at.is_empty() && !at.starts_with('.') && at.chars().all(good));
            match domain(at).or_else(bare) {
                Some(domain) if local.is_empty() || local == "*" => _ = self.domains.insert(domain),
                Some(domain) => _ = self.addresses.insert((local.to_owned(), domain)),
                None => {}
            }
        } else if let Ok(network) = word.parse::<IpNet>() {
            self.networks.insert(network.trunc());
        } else if let Ok(ip) = word.parse::<IpAddr>() {
            self.networks.insert(IpNet::from(ip));
        } else if let [number] = numbers(word)[..] {
            self.numbers.insert(number);
        } else if let several @ [_, ..] = &numbers(word)[..] {
            self.octets.extend(several);
        } else if let Some(domain) = domain(word) {
            self.domains.insert(domain);
        }
    }

    /// The values of an open fact, and one that no constant is.
    pub(super) fn values(&self, kind: &Kind) -> (Vec<Aspect>, Vec<Aspect>) {
        match kind {
            Kind::LastValid => self.days(),
            Kind::Size => self.sizes(),
            Kind::Sender => self.mailboxes(Aspect::Sender),
            Kind::Recipient => self.mailboxes(Aspect::Recipient),
            Kind::EnvelopeSender => self.mailboxes(Aspect::EnvelopeSender),
            Kind::Ip => self.clients(),
            Kind::ClientName => self.names(|name| Aspect::ClientName(Some(name)), Aspect::ClientName(None)),
            Kind::Helo => self.names(Aspect::Helo, Aspect::Helo(String::new())),
            _ => (Vec::new(), Vec::new()),
        }
    }

    /// No day, the numbers named and those beside them.
    fn days(&self) -> (Vec<Aspect>, Vec<Aspect>) {
        let days: Vec<u32> = match self.numbers.is_empty() {
            true => DAYS.to_vec(),
            false => beside(&self.numbers, [0, 10_000]).filter_map(|days| u32::try_from(days).ok()).collect(),
        };
        (std::iter::once(None).chain(days.into_iter().map(Some)).map(Aspect::LastValid).collect(), Vec::new())
    }

    fn sizes(&self) -> (Vec<Aspect>, Vec<Aspect>) {
        let named: BTreeSet<u64> = self.numbers.union(&self.octets).copied().collect();
        let sizes: Vec<u64> = match named.is_empty() {
            true => OCTETS.to_vec(),
            false => beside(&named, [1_000, 1 << 40]).collect(),
        };
        (std::iter::once(None).chain(sizes.into_iter().map(Some)).map(Aspect::Size).collect(), Vec::new())
    }

    /// No address; each that is named, another one of its domain, one of each domain that is named and one below it; nobody's.
    fn mailboxes(&self, make: fn(Option<Address>) -> Aspect) -> (Vec<Aspect>, Vec<Aspect>) {
        let address = |local: &str, domain: &str| make(Some(Address { local: local.into(), domain: domain.into() }));
        let mut found = vec![make(None)];
        found.extend(self.addresses.iter().map(|(local, domain)| address(local, domain)));
        let beside: BTreeSet<&String> = self.addresses.iter().map(|(_, domain)| domain).chain(&self.domains).collect();
        let someone = |domain: &str| {
            let is_named = |local: &str| {
                self.addresses.iter().any(|(known, at)| known.eq_ignore_ascii_case(local) && at == domain)
            };
            address(&unnamed("someone", is_named), domain)
        };
        found.extend(beside.iter().map(|domain| someone(domain)));
        found.extend(self.domains.iter().map(|domain| someone(&below(domain, |name| beside.contains(name)))));
        (found, vec![someone(&nobodys(|name| beside.iter().any(|known| is_at_or_below(name, known))))])
    }

    /// A local socket; an address of each network that is named; one of none.
    fn clients(&self) -> (Vec<Aspect>, Vec<Aspect>) {
        let ip = |ip: IpAddr| Aspect::Ip(Some(ip.to_canonical().to_string()));
        let mut found = vec![Aspect::Ip(None)];
        found.extend(self.networks.iter().filter_map(|network| self.own_of(network)).map(ip));
        // What no network holds begins behind one of them, or at the lowest address.
        let ends = self.networks.iter().filter_map(|network| following(network.broadcast()));
        let lowest = [IpAddr::from([0_u8; 4]), IpAddr::from([0_u8; 16])];
        let known = NOBODYS_CLIENTS.iter().filter_map(|text| text.parse().ok());
        // An IPv4 address within IPv6 is that IPv4 address.
        let canonical = |ip: IpAddr| ip.to_canonical() == ip;
        let free = known.chain(ends).chain(lowest).filter(|ip| canonical(*ip));
        let rest = { free }.find(|ip| !self.networks.iter().any(|network| network.contains(ip)));
        (found, rest.map(ip).into_iter().collect())
    }

    /// An address of a network that is in no narrower one; none where the narrower ones fill it.
    fn own_of(&self, network: &IpNet) -> Option<IpAddr> {
        let narrower: Vec<&IpNet> =
            self.networks.iter().filter(|other| *other != network && network.contains(*other)).collect();
        let behind = narrower.iter().filter_map(|narrower| following(narrower.broadcast()));
        let mut candidates = network.hosts().next().into_iter().chain([network.network()]).chain(behind);
        candidates.find(|ip| network.contains(ip) && !narrower.iter().any(|narrower| narrower.contains(ip)))
    }

    fn names(&self, make: impl Fn(String) -> Aspect, none: Aspect) -> (Vec<Aspect>, Vec<Aspect>) {
        let named: BTreeSet<&String> = self.names.iter().chain(&self.domains).collect();
        let mut found = vec![none];
        found.extend(named.iter().map(|name| make((*name).clone())));
        found.extend(self.domains.iter().map(|domain| make(below(domain, |name| named.contains(name)))));
        let is_named = |name: &str| named.iter().any(|known| is_at_or_below(&format!("host.{name}"), known));
        (found, vec![make(format!("host.{}", nobodys(is_named)))])
    }
}

/// The name, or with a number behind it, so that nothing that is named is called so.
fn unnamed(name: &str, is_named: impl Fn(&str) -> bool) -> String {
    let numbered = (2_u32..).map(|number| format!("{name}{number}"));
    std::iter::once(name.to_owned()).chain(numbered).find(|name| !is_named(name)).unwrap_or_default()
}

/// A domain below this one that nothing names.
fn below(domain: &str, is_named: impl Fn(&String) -> bool) -> String {
    let full = |label: &str| format!("{label}.{domain}");
    full(&unnamed("below", |label| is_named(&full(label))))
}

/// A domain at or above which nothing is named.
fn nobodys(is_named: impl Fn(&str) -> bool) -> String {
    let numbered = (2_u32..).map(|number| format!("elsewhere.nowhere{number}"));
    let known = ["elsewhere.example", "elsewhere.test", "elsewhere.invalid"].map(str::to_owned);
    known.into_iter().chain(numbered).find(|name| !is_named(name)).unwrap_or_default()
}

fn is_at_or_below(name: &str, domain: &str) -> bool {
    name.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// The next address; none behind the last.
fn following(ip: IpAddr) -> Option<IpAddr> {
    match ip {
        IpAddr::V4(ip) => u32::from(ip).checked_add(1).map(|next| IpAddr::V4(next.into())),
        IpAddr::V6(ip) => u128::from(ip).checked_add(1).map(|next| IpAddr::V6(next.into())),
    }
}

/// Numbers and those before and behind them, with two more for the ends.
fn beside(numbers: &BTreeSet<u64>, ends: [u64; 2]) -> impl Iterator<Item = u64> {
    let near = |number: &u64| [number.saturating_sub(1), *number, number.saturating_add(1)];
    numbers.iter().flat_map(near).chain(ends).collect::<BTreeSet<u64>>().into_iter()
}
