//! What a line may ask of one fact, and the answer.

use addrauth_policy::{Address, AuthResult, Claim, Facts, KeyStatus, Trail, Wants, Why};

use crate::network::{self, Network};

/// A fact that may be absent, by the words that name it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fact {
    Result,
    Why,
    Claim,
    Trail,
    Auth(Method),
    ClientIp,
    ClientName,
    Helo,
    Tls,
    Sender,
    Recipient,
    EnvelopeSender,
    Size,
    LastValid,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Method {
    Spf,
    Dkim,
    Dmarc,
}

/// One question about one fact.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Test<'a> {
    Result(KeyStatus),
    Why(Why),
    Claim(Claim),
    /// This mark; empty: none at all.
    Trail(Trail),
    Auth(Method, AuthResult),
    Aligned(Method),
    Ip(Network),
    Name(Host<'a>),
    Helo(Host<'a>),
    Tls,
    /// Of one of the three addresses.
    Address(Fact, Pattern<'a>),
    /// The null reverse-path.
    EmptyPath,
    Over(u64),
    Under(u64),
    Within(u32),
    Never,
    Unknown(Fact),
}

/// Which addresses are meant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Pattern<'a> {
    One(&'a str, &'a str),
    Domain(&'a str),
    /// Those of its subdomains.
    Below(&'a str),
}

/// Which host names are meant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Host<'a> {
    One(&'a str),
    Below(&'a str),
}

impl Fact {
    /// What must be asked for to see it.
    pub(crate) fn wants(self) -> Wants {
        match self {
            Fact::Result => Wants::empty(),
            Fact::Why => Wants::WHY,
            Fact::Claim => Wants::CLAIM,
            Fact::Trail => Wants::TRAIL,
            Fact::Auth(_) => Wants::MAIL_AUTH,
            Fact::ClientIp | Fact::ClientName | Fact::Helo | Fact::Tls => Wants::CLIENT,
            Fact::Sender => Wants::SENDER,
            Fact::Recipient => Wants::RECIPIENT,
            Fact::EnvelopeSender => Wants::ENVELOPE_SENDER,
            Fact::Size => Wants::SIZE,
            Fact::LastValid => Wants::LAST_VALID,
        }
    }

    fn is_absent(self, facts: &Facts) -> bool {
        match self {
            // The null reverse-path is none by its nature.
            Fact::Result | Fact::EnvelopeSender => false,
            Fact::Why => facts.why.is_none(),
            Fact::Claim => facts.claim.is_none(),
            Fact::Trail => facts.trail.is_none(),
            Fact::Auth(_) => facts.mail_auth.is_none(),
            Fact::ClientIp | Fact::Helo | Fact::Tls => facts.client.is_none(),
            Fact::ClientName => facts.client.as_ref().is_none_or(|client| client.name.is_none()),
            Fact::Sender => facts.sender.is_none(),
            Fact::Recipient => facts.recipient.is_none(),
            Fact::Size => facts.size.is_none(),
            Fact::LastValid => facts.last_valid.is_none(),
        }
    }
}

impl Test<'_> {
    pub(crate) fn fact(&self) -> Fact {
        match self {
            Test::Result(_) => Fact::Result,
            Test::Why(_) => Fact::Why,
            Test::Claim(_) => Fact::Claim,
            Test::Trail(_) => Fact::Trail,
            Test::Auth(method, _) | Test::Aligned(method) => Fact::Auth(*method),
            Test::Ip(_) => Fact::ClientIp,
            Test::Name(_) => Fact::ClientName,
            Test::Helo(_) => Fact::Helo,
            Test::Tls => Fact::Tls,
            Test::Address(fact, _) | Test::Unknown(fact) => *fact,
            Test::EmptyPath => Fact::EnvelopeSender,
            Test::Over(_) | Test::Under(_) => Fact::Size,
            Test::Within(_) | Test::Never => Fact::LastValid,
        }
    }

    /// Whether it holds; absent where the fact is.
    pub(crate) fn ask(&self, facts: &Facts) -> Option<bool> {
        match self {
            Test::Unknown(fact) => return Some(fact.is_absent(facts)),
            Test::Never => return Some(facts.last_valid.is_none()),
            _ if self.fact().is_absent(facts) => return None,
            _ => {}
        }
        let auth = facts.mail_auth.as_ref();
        let client = facts.client.as_ref();
        Some(match self {
            Test::Result(status) => facts.status == *status,
            Test::Why(why) => facts.why == Some(*why),
            Test::Claim(claim) => facts.claim == Some(*claim),
            Test::Trail(mark) => {
                facts.trail.is_some_and(|trail| if mark.is_empty() { trail.is_empty() } else { trail.contains(*mark) })
            }
            Test::Auth(method, result) => auth.is_some_and(|auth| {
                *result
                    == match method {
                        Method::Spf => auth.spf,
                        Method::Dkim => auth.dkim,
                        Method::Dmarc => auth.dmarc,
                    }
            }),
            Test::Aligned(method) => auth.is_some_and(|auth| match method {
                Method::Spf => auth.spf_aligned,
                Method::Dkim => auth.dkim_aligned,
                Method::Dmarc => auth.dmarc == AuthResult::Pass,
            }),
            Test::Ip(network) => {
                let ip = client.and_then(|client| network::Address::parse(client.ip.as_bytes()));
                return ip.map(|ip| network.holds(ip));
            }
            Test::Name(host) => client.and_then(|client| client.name.as_deref()).is_some_and(|name| host.names(name)),
            Test::Helo(host) => client.is_some_and(|client| host.names(&client.helo)),
            Test::Tls => client.is_some_and(|client| client.tls),
            Test::Address(fact, pattern) => {
                let address = match fact {
                    Fact::Sender => &facts.sender,
                    Fact::Recipient => &facts.recipient,
                    _ => &facts.envelope_sender,
                };
                address.as_ref().is_some_and(|address| pattern.names(address, *fact == Fact::Recipient))
            }
            Test::EmptyPath => facts.envelope_sender.is_none(),
            Test::Over(octets) => facts.size.is_some_and(|size| size > *octets),
            Test::Under(octets) => facts.size.is_some_and(|size| size < *octets),
            Test::Within(days) => facts.last_valid.is_some_and(|ago| ago <= *days),
            Test::Never | Test::Unknown(_) => false,
        })
    }
}

impl Pattern<'_> {
    /// Letter case does not matter; the +tag of our own recipients does not either.
    fn names(&self, address: &Address, tagged: bool) -> bool {
        match self {
            Pattern::One(local, domain) => {
                let own = if tagged { untagged(&address.local) } else { &address.local };
                domain.eq_ignore_ascii_case(&address.domain) && local.eq_ignore_ascii_case(own)
            }
            Pattern::Domain(domain) => domain.eq_ignore_ascii_case(&address.domain),
            Pattern::Below(domain) => is_below(&address.domain, domain),
        }
    }
}

impl Host<'_> {
    fn names(&self, name: &str) -> bool {
        let name = name.strip_suffix('.').unwrap_or(name);
        match self {
            Host::One(host) => host.eq_ignore_ascii_case(name),
            Host::Below(domain) => is_below(name, domain),
        }
    }
}

/// The local part of the mailbox: SPECIFICATION §1 says what a tag is.
pub(crate) fn untagged(local: &str) -> &str {
    let tag = local.bytes().skip(1).position(|octet| octet == b'+').filter(|_| !local.starts_with('"'));
    tag.and_then(|at| local.get(..at + 1)).unwrap_or(local)
}

fn is_below(name: &str, domain: &str) -> bool {
    let (name, domain) = (name.as_bytes(), domain.as_bytes());
    let Some(dot) = name.len().checked_sub(domain.len() + 1).filter(|dot| *dot > 0) else { return false };
    name[dot] == b'.' && name[dot + 1..].eq_ignore_ascii_case(domain)
}
