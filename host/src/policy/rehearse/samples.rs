//! Samples of facts that have no end of values: the constants found in settings and cases, what lies beside them, and one value
//! that is nobody's.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::super::sandbox::contract::{Address, Facts, Value, Wanted};
use super::axis::{Aspect, Axis, Kind, Point};
use super::subject::Subject;
use super::wording::{Wording, numbers};

/// The word of a value that no constant is.
const REST: &str = "anything else";
/// A client that no constant should name; the next where one does (RFC 5737, RFC 3849).
const NOBODYS_CLIENTS: [&str; 4] = ["203.0.113.77", "198.51.100.77", "192.0.2.77", "2001:db8::77"];
/// Days and octets that are tried where no setting names a number: what people write into code.
const DAYS: [u32; 8] = [0, 1, 7, 30, 31, 90, 365, 10_000];
const OCTETS: [u64; 5] = [1_000, 100_000, 1_000_000, 10_000_000, 100_000_000];
/// The longest text that is looked through for constants, in octets.
const TEXT: usize = 64 * 1024;

/// What settings and cases name.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    addresses: BTreeSet<(String, String)>,
    domains: BTreeSet<String>,
    /// Names of hosts that are no domains.
    names: BTreeSet<String>,
    networks: BTreeSet<IpNet>,
    numbers: BTreeSet<u64>,
    /// Numbers with a unit of size.
    octets: BTreeSet<u64>,
    texts: BTreeSet<String>,
    /// Values that a property names.
    named: Vec<(Kind, Aspect)>,
    /// The facts of cases, as they are.
    pub(super) whole: Vec<Whole>,
    /// What the texts ask for, line by line, and all texts of a subject as one.
    pub(super) lines: Vec<Wording>,
}

/// The facts of a case, with the names of their header fields.
#[derive(Clone, Debug)]
pub(super) struct Whole {
    facts: Facts,
    headers: Vec<String>,
}

impl Whole {
    /// The value of a fact.
    pub(super) fn aspect(&self, kind: &Kind, has_why: bool) -> Aspect {
        match kind {
            Kind::Header(place, name) => {
                let known = self.headers.iter().position(|known| known.eq_ignore_ascii_case(name));
                let values = known.and_then(|known| self.facts.headers.get(known));
                Aspect::Header(*place, values.cloned().unwrap_or_default())
            }
            kind => Aspect::read(kind, &self.facts, has_why),
        }
    }
}

impl Samples {
    /// The constants in the settings of these subjects.
    pub(super) fn of(subjects: &[&Subject]) -> Samples {
        let mut samples = Samples::default();
        for subject in subjects {
            let begin = samples.lines.len();
            for value in subject.settings() {
                match value {
                    Value::Text(text) => samples.read(text),
                    Value::Texts(texts) => texts.iter().for_each(|text| samples.read(text)),
                    Value::Number(number) => samples.numbers.extend(u64::try_from(*number)),
                    Value::Flag(_) => {}
                }
            }
            // Several settings, each with a word or two, count together.
            let mut all = Wording::default();
            samples.lines.iter().skip(begin).for_each(|line| all.join(line));
            samples.lines.push(all);
        }
        samples
    }

    /// Takes the constants of others in.
    pub fn extend(&mut self, other: &Samples) {
        self.addresses.extend(other.addresses.iter().cloned());
        self.domains.extend(other.domains.iter().cloned());
        self.names.extend(other.names.iter().cloned());
        self.networks.extend(other.networks.iter().copied());
        self.numbers.extend(other.numbers.iter().copied());
        self.octets.extend(other.octets.iter().copied());
        self.texts.extend(other.texts.iter().cloned());
        self.named.extend(other.named.iter().cloned());
        self.whole.extend(other.whole.iter().cloned());
        self.lines.extend(other.lines.iter().cloned());
    }

    /// Takes the facts of a case in, which are told to a policy that wants these.
    pub(super) fn tell(&mut self, facts: &Facts, wanted: &Wanted) {
        self.whole.push(Whole { facts: facts.clone(), headers: wanted.headers.clone() });
    }

    /// Takes in a value that a property names: it comes before what is found in texts.
    pub(super) fn name(&mut self, kind: Kind, aspect: Aspect) {
        self.named.push((kind, aspect));
    }

    /// Takes in what a property asks for.
    pub(super) fn ask(&mut self, text: &str) {
        self.words(text);
        self.lines.push(Wording::of(text));
    }

    /// Takes in what a text names.
    pub(super) fn read(&mut self, text: &str) {
        let mut end = text.len().min(TEXT);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let text = &text[..end];
        if !text.is_empty() {
            self.texts.insert(text.to_owned());
        }
        self.words(text);
        for line in text.lines() {
            let wording = Wording::of(line);
            self.names
                .extend(wording.names().filter(|name| !name.contains('.') || name.contains('[')).map(str::to_owned));
            self.lines.push(wording);
        }
    }

    fn words(&mut self, text: &str) {
        let ends = |c: char| c.is_whitespace() || ",;\"'()[]{}<>=|".contains(c);
        for word in text.split(ends) {
            let word = word.trim_end_matches(['.', ':', '!', '?']);
            if !word.is_empty() {
                self.word(word);
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

    /// The axis of an open fact; at most so many samples.
    pub(super) fn axis(&self, kind: Kind, most: usize) -> Axis {
        let named = self.named.iter().filter_map(|(known, aspect)| placed(known, aspect, &kind));
        let told = self.whole.iter().map(|whole| whole.aspect(&kind, true));
        let (mut aspects, rest): (Vec<Aspect>, Vec<Aspect>) = match &kind {
            Kind::LastValid => self.days(),
            Kind::Size => self.sizes(),
            Kind::Sender => self.mailboxes(Aspect::Sender),
            Kind::Recipient => self.mailboxes(Aspect::Recipient),
            Kind::EnvelopeSender => self.mailboxes(Aspect::EnvelopeSender),
            Kind::Ip => self.clients(),
            Kind::ClientName => self.names(|name| Aspect::ClientName(Some(name)), Aspect::ClientName(None)),
            Kind::Helo => self.names(Aspect::Helo, Aspect::Helo(String::new())),
            Kind::Header(place, _) => self.fields(*place),
            _ => (Vec::new(), Vec::new()),
        };
        let first = usize::from(!aspects.is_empty());
        // Behind the value that is not there, and before what was guessed: somebody wrote these down.
        aspects.splice(first..first, named.chain(told).collect::<Vec<_>>());
        let mut points: Vec<Point> = Vec::new();
        for aspect in aspects {
            if !points.iter().any(|point| point.aspect == aspect) && !rest.contains(&aspect) {
                points.push(Point { label: aspect.word(), aspect });
            }
        }
        let left_out = points.len().saturating_sub(most);
        points.truncate(most);
        points.extend(rest.into_iter().map(|aspect| Point { label: REST.into(), aspect }));
        Axis::of(kind, points, false, left_out)
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
        found.extend(beside.iter().map(|domain| address("someone", domain)));
        found.extend(self.domains.iter().map(|domain| address("someone", &format!("below.{domain}"))));
        let named =
            |domain: &str| beside.iter().any(|known| domain == *known || domain.ends_with(&format!(".{known}")));
        let nobodys = ["elsewhere.example", "elsewhere.test", "elsewhere.invalid"];
        let domain = nobodys.into_iter().find(|domain| !named(domain)).unwrap_or(nobodys[2]);
        (found, vec![address("someone", domain)])
    }

    /// A local socket; an address of each network that is named; one of none.
    fn clients(&self) -> (Vec<Aspect>, Vec<Aspect>) {
        let ip = |ip: IpAddr| Aspect::Ip(Some(ip.to_canonical().to_string()));
        let mut found = vec![Aspect::Ip(None)];
        for network in &self.networks {
            let Some(first) = network.hosts().next() else { continue };
            found.push(ip(first));
            // Where another network of these takes the first address, the last one may be this one's own.
            if self.networks.iter().any(|other| other != network && network.contains(other) && other.contains(&first)) {
                found.push(ip(network.broadcast()));
            }
        }
        let free = |candidate: &&&str| {
            let candidate = candidate.parse::<IpAddr>().ok();
            candidate.is_some_and(|ip| !self.networks.iter().any(|network| network.contains(&ip)))
        };
        let rest = NOBODYS_CLIENTS.iter().find(free).map(|text| Aspect::Ip(Some((*text).into())));
        (found, rest.into_iter().collect())
    }

    fn names(&self, make: impl Fn(String) -> Aspect, none: Aspect) -> (Vec<Aspect>, Vec<Aspect>) {
        let mut found = vec![none];
        let domains = self.names.iter().chain(&self.domains);
        found.extend(domains.map(|name| make(name.clone())));
        found.extend(self.domains.iter().map(|domain| make(format!("below.{domain}"))));
        (found, vec![make("host.elsewhere.invalid".into())])
    }

    fn fields(&self, place: usize) -> (Vec<Aspect>, Vec<Aspect>) {
        let mut found = vec![Aspect::Header(place, Vec::new())];
        found.extend(self.texts.iter().map(|text| Aspect::Header(place, vec![text.clone()])));
        (found, vec![Aspect::Header(place, vec!["something else".into()])])
    }
}

/// The value where it is one of this fact; a header field is known by its name.
fn placed(known: &Kind, aspect: &Aspect, kind: &Kind) -> Option<Aspect> {
    match (known, aspect, kind) {
        (Kind::Header(_, one), Aspect::Header(_, values), Kind::Header(place, two)) => {
            one.eq_ignore_ascii_case(two).then(|| Aspect::Header(*place, values.clone()))
        }
        _ => (known == kind).then(|| aspect.clone()),
    }
}

/// Numbers and those before and behind them, with two more for the ends.
fn beside(numbers: &BTreeSet<u64>, ends: [u64; 2]) -> impl Iterator<Item = u64> {
    let near = |number: &u64| [number.saturating_sub(1), *number, number.saturating_add(1)];
    numbers.iter().flat_map(near).chain(ends).collect::<BTreeSet<u64>>().into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(samples: &Samples, kind: Kind) -> Vec<String> {
        samples.axis(kind, 20).points.into_iter().map(|point| point.label).collect()
    }

    #[test]
    fn constants_are_found_in_any_text_with_what_lies_beside_them() {
        let mut samples = Samples::default();
        samples.read(
            "when sender is in [\"boss@ours.example\", @bank.example], client in 192.0.2.0/24 and size > 10kb: defer",
        );
        assert_eq!(
            words(&samples, Kind::Sender),
            [
                "nobody",
                "boss@ours.example",
                "someone@bank.example",
                "someone@ours.example",
                "someone@below.bank.example",
                "anything else"
            ]
        );
        assert_eq!(words(&samples, Kind::Ip), ["local socket", "192.0.2.1", "anything else"]);
        assert_eq!(
            words(&samples, Kind::Size),
            ["not said", "1000", "9999", "10000", "10001", "10239", "10240", "10241", "1099511627776"]
        );
    }

    #[test]
    fn what_is_nobodys_is_none_of_the_constants() {
        let mut samples = Samples::default();
        samples.read("@elsewhere.example 203.0.113.0/24 @elsewhere.test");
        let last = |kind| samples.axis(kind, 20).points.pop().map(|point| point.aspect.word());
        assert_eq!(last(Kind::Recipient).as_deref(), Some("someone@elsewhere.invalid"));
        assert_eq!(last(Kind::Ip).as_deref(), Some("198.51.100.77"));
    }

    #[test]
    fn a_text_of_any_shape_is_read_and_too_many_samples_are_counted() {
        let mut samples = Samples::default();
        for text in [
            "",
            "@",
            "a@",
            "@@",
            "1/2/3",
            "999999999999999999999",
            "\u{fc}@\u{fc}",
            "*.",
            "@.",
            "::/0",
            "0.0.0.0/0",
            "%\0",
        ] {
            samples.read(text);
        }
        (0..50).for_each(|n| samples.read(&format!("user{n}@many.example")));
        let axis = samples.axis(Kind::Sender, 5);
        assert_eq!((axis.points.len(), axis.left_out > 40), (6, true));
        assert!(samples.axis(Kind::Ip, 5).points.iter().all(|point| !point.label.is_empty()));
    }
}
