//! One fact of the space and what it can be, with the words for it.

use super::super::sandbox::contract::{
    Address, AuthResult, Claim, Client, Facts, KeyStatus, MailAuth, Trail, Wants, Why,
};

/// Which fact an axis is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The result, with its reason where a policy asks for that.
    Result,
    Claim,
    LastValid,
    Sender,
    Recipient,
    EnvelopeSender,
    Ip,
    Tls,
    ClientName,
    Helo,
    Size,
    Trail,
    Spf,
    Dkim,
    Dmarc,
    /// A header field, by its place among those that are asked for.
    Header(usize, String),
}

/// One value of a fact.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Aspect {
    /// A reason of `None` is one that nobody asks for, or a result without a reason.
    Result(KeyStatus, Option<Why>),
    Claim(Option<Claim>),
    LastValid(Option<u32>),
    Sender(Option<Address>),
    Recipient(Option<Address>),
    EnvelopeSender(Option<Address>),
    Ip(Option<String>),
    Tls(bool),
    ClientName(Option<String>),
    Helo(String),
    Size(Option<u64>),
    Trail(Trail),
    /// None: no trusted server said anything.
    Spf(Option<(AuthResult, bool)>),
    Dkim(Option<(AuthResult, bool)>),
    Dmarc(Option<AuthResult>),
    Header(usize, Vec<String>),
}

/// A value with its word.
#[derive(Clone, Debug)]
pub(super) struct Point {
    pub(super) aspect: Aspect,
    pub(super) label: String,
}

/// One fact of the space.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    pub(super) kind: Kind,
    pub(super) points: Vec<Point>,
    /// Points that are alike; the first of each class stands for it.
    pub(super) classes: Vec<Vec<usize>>,
    /// Whether the points are, or stand for, all that the fact can be.
    pub(super) closed: bool,
    /// Whether the points of a class are one since no word of the text tells them apart, and not since a probe found so.
    pub(super) by_text: bool,
    /// Samples that there was no room for.
    pub(super) left_out: usize,
}

impl Kind {
    /// The fact's word.
    pub(super) fn word(&self) -> &str {
        match self {
            Kind::Result => "result",
            Kind::Claim => "claim",
            Kind::LastValid => "last-valid",
            Kind::Sender => "sender",
            Kind::Recipient => "recipient",
            Kind::EnvelopeSender => "envelope-sender",
            Kind::Ip => "client",
            Kind::Tls => "tls",
            Kind::ClientName => "client-name",
            Kind::Helo => "helo",
            Kind::Size => "size",
            Kind::Trail => "trail",
            Kind::Spf => "spf",
            Kind::Dkim => "dkim",
            Kind::Dmarc => "dmarc",
            Kind::Header(_, name) => name,
        }
    }

    /// What a policy asks for to see it; none: every policy sees it, or it is a header field.
    pub(super) fn wants(&self) -> Option<Wants> {
        Some(match self {
            Kind::Result | Kind::Header(..) => return None,
            Kind::Claim => Wants::CLAIM,
            Kind::LastValid => Wants::LAST_VALID,
            Kind::Sender => Wants::SENDER,
            Kind::Recipient => Wants::RECIPIENT,
            Kind::EnvelopeSender => Wants::ENVELOPE_SENDER,
            Kind::Ip | Kind::Tls | Kind::ClientName | Kind::Helo => Wants::CLIENT,
            Kind::Size => Wants::SIZE,
            Kind::Trail => Wants::TRAIL,
            Kind::Spf | Kind::Dkim | Kind::Dmarc => Wants::MAIL_AUTH,
        })
    }
}

impl Aspect {
    /// Writes this value into facts.
    pub(super) fn write(&self, facts: &mut Facts) {
        let client = || Client { ip: String::new(), name: None, helo: String::new(), tls: false };
        let nothing = || MailAuth {
            spf: AuthResult::None,
            spf_aligned: false,
            dkim: AuthResult::None,
            dkim_aligned: false,
            dmarc: AuthResult::None,
        };
        match self {
            Aspect::Result(status, why) => (facts.status, facts.why) = (*status, *why),
            Aspect::Claim(claim) => facts.claim = *claim,
            Aspect::LastValid(days) => facts.last_valid = *days,
            Aspect::Sender(address) => facts.sender.clone_from(address),
            Aspect::Recipient(address) => facts.recipient.clone_from(address),
            Aspect::EnvelopeSender(address) => facts.envelope_sender.clone_from(address),
            Aspect::Ip(ip) => facts.client = ip.as_ref().map(|ip| Client { ip: ip.clone(), ..client() }),
            // Behind the address: without one there is no client.
            Aspect::Tls(tls) => facts.client.iter_mut().for_each(|client| client.tls = *tls),
            Aspect::ClientName(name) => facts.client.iter_mut().for_each(|client| client.name.clone_from(name)),
            Aspect::Helo(helo) => facts.client.iter_mut().for_each(|client| client.helo.clone_from(helo)),
            Aspect::Size(size) => facts.size = *size,
            Aspect::Trail(trail) => facts.trail = Some(*trail),
            Aspect::Spf(None) => facts.mail_auth = None,
            Aspect::Spf(Some((spf, spf_aligned))) => {
                facts.mail_auth = Some(MailAuth { spf: *spf, spf_aligned: *spf_aligned, ..nothing() });
            }
            // Behind SPF: without a trusted server none of the three is there.
            Aspect::Dkim(Some((dkim, aligned))) => {
                if let Some(auth) = &mut facts.mail_auth {
                    (auth.dkim, auth.dkim_aligned) = (*dkim, *aligned);
                }
            }
            Aspect::Dmarc(Some(dmarc)) => facts.mail_auth.iter_mut().for_each(|auth| auth.dmarc = *dmarc),
            Aspect::Dkim(None) | Aspect::Dmarc(None) => {}
            Aspect::Header(place, values) => {
                if let Some(field) = facts.headers.get_mut(*place) {
                    field.clone_from(values);
                }
            }
        }
    }

    /// The value of this fact in facts that somebody wrote down.
    pub(super) fn read(kind: &Kind, facts: &Facts, has_why: bool) -> Aspect {
        let client = facts.client.as_ref();
        match kind {
            Kind::Result => Aspect::Result(facts.status, facts.why.filter(|_| has_why)),
            Kind::Claim => Aspect::Claim(facts.claim),
            Kind::LastValid => Aspect::LastValid(facts.last_valid),
            Kind::Sender => Aspect::Sender(facts.sender.clone()),
            Kind::Recipient => Aspect::Recipient(facts.recipient.clone()),
            Kind::EnvelopeSender => Aspect::EnvelopeSender(facts.envelope_sender.clone()),
            Kind::Ip => Aspect::Ip(client.map(|client| client.ip.clone())),
            Kind::Tls => Aspect::Tls(client.is_some_and(|client| client.tls)),
            Kind::ClientName => Aspect::ClientName(client.and_then(|client| client.name.clone())),
            Kind::Helo => Aspect::Helo(client.map(|client| client.helo.clone()).unwrap_or_default()),
            Kind::Size => Aspect::Size(facts.size),
            Kind::Trail => Aspect::Trail(facts.trail.unwrap_or(Trail::empty())),
            Kind::Spf => Aspect::Spf(facts.mail_auth.map(|auth| (auth.spf, auth.spf_aligned))),
            Kind::Dkim => Aspect::Dkim(facts.mail_auth.map(|auth| (auth.dkim, auth.dkim_aligned))),
            Kind::Dmarc => Aspect::Dmarc(facts.mail_auth.map(|auth| auth.dmarc)),
            Kind::Header(place, _) => Aspect::Header(*place, facts.headers.get(*place).cloned().unwrap_or_default()),
        }
    }

    /// The value's word.
    pub(super) fn word(&self) -> String {
        let address = |address: &Option<Address>, none: &str| match address {
            Some(address) => format!("{}@{}", address.local, address.domain),
            None => none.to_owned(),
        };
        // Aligned is a pass alone.
        let method = |result: AuthResult, aligned: bool| if aligned { "aligned" } else { result.word() };
        match self {
            Aspect::Result(status, None) => status.word().into(),
            Aspect::Result(status, Some(why)) => format!("{} ({})", status.word(), why.word()),
            Aspect::Claim(claim) => claim.map_or("no AS", Claim::word).into(),
            Aspect::LastValid(days) => days.map_or("never".into(), |days| format!("{days} days")),
            Aspect::Sender(sender) => address(sender, "nobody"),
            Aspect::Recipient(recipient) => address(recipient, "no address"),
            Aspect::EnvelopeSender(path) => address(path, "<>"),
            Aspect::Ip(ip) => ip.clone().unwrap_or_else(|| "local socket".into()),
            Aspect::Tls(tls) => if *tls { "yes" } else { "no" }.into(),
            Aspect::ClientName(name) => name.clone().unwrap_or_else(|| "no name".into()),
            Aspect::Helo(helo) => {
                if helo.is_empty() {
                    "nothing".into()
                } else {
                    helo.clone()
                }
            }
            Aspect::Size(size) => size.map_or("not said".into(), |size| size.to_string()),
            Aspect::Trail(trail) => {
                let set = Trail::WORDS.iter().filter(|(_, mark)| trail.contains(*mark)).map(|(word, _)| *word);
                let words = set.collect::<Vec<_>>().join("+");
                if words.is_empty() { "none".into() } else { words }
            }
            Aspect::Spf(told) | Aspect::Dkim(told) => {
                told.map_or("unsaid", |(result, aligned)| method(result, aligned)).into()
            }
            Aspect::Dmarc(told) => told.map_or("unsaid", AuthResult::word).into(),
            Aspect::Header(_, values) if values.is_empty() => "absent".into(),
            Aspect::Header(_, values) => values.iter().map(|value| format!("{value:?}")).collect::<Vec<_>>().join(", "),
        }
    }

    /// What rules other facts out is never taken for what does not.
    pub(super) fn bearing(&self) -> (u8, bool) {
        match self {
            Aspect::Claim(claim) => (1, claim.is_some()),
            Aspect::Sender(sender) => (2, sender.is_some()),
            Aspect::EnvelopeSender(path) => (3, path.is_some()),
            Aspect::Ip(ip) => (4, ip.is_some()),
            Aspect::Trail(trail) => (5, trail.contains(Trail::BOUNCE)),
            Aspect::Spf(Some((_, aligned))) | Aspect::Dkim(Some((_, aligned))) => (6, *aligned),
            Aspect::Spf(None) | Aspect::Dkim(None) | Aspect::Dmarc(None) => (7, false),
            Aspect::ClientName(name) => (8, name.is_some()),
            Aspect::Helo(helo) => (9, helo.is_empty()),
            Aspect::Tls(tls) => (10, *tls),
            _ => (0, false),
        }
    }
}

impl Axis {
    /// An axis of all that a closed fact can be.
    pub(super) fn closed(kind: Kind, values: impl IntoIterator<Item = Aspect>) -> Axis {
        let points = values.into_iter().map(|aspect| Point { label: aspect.word(), aspect });
        Axis::of(kind, points.collect(), true, 0)
    }

    /// An axis of these points.
    pub(super) fn of(kind: Kind, points: Vec<Point>, closed: bool, left_out: usize) -> Axis {
        let classes = (0..points.len()).map(|point| vec![point]).collect();
        Axis { kind, points, classes, closed, by_text: false, left_out }
    }

    /// The value that stands for a class.
    pub(super) fn value(&self, class: u8) -> Option<&Aspect> {
        let point = self.classes.get(usize::from(class))?.first()?;
        self.points.get(*point).map(|point| &point.aspect)
    }

    /// The class of a value; none where it is no point of this axis.
    pub(super) fn class(&self, value: &Aspect) -> Option<u8> {
        let point = self.points.iter().position(|point| point.aspect == *value)?;
        let class = self.classes.iter().position(|class| class.contains(&point))?;
        u8::try_from(class).ok()
    }

    /// Whether several points are taken for one, since a probe found no difference.
    pub(super) fn is_probed(&self) -> bool {
        self.has_classes() && !self.by_text
    }

    /// Whether several points are one class.
    pub(super) fn has_classes(&self) -> bool {
        self.classes.len() < self.points.len()
    }
}

/// The marks whose place is a one in these bits.
pub(super) fn of_bits(bits: u8) -> Trail {
    let set = Trail::WORDS.iter().enumerate().filter(|(place, _)| bits & (1 << place) != 0);
    set.fold(Trail::empty(), |trail, (_, (_, mark))| trail | *mark)
}
