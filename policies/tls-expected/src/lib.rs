//! Marks mail that came without TLS, directly from a domain that claims that all its mail has a key.
//!
//! A domain that gives all its mail keys takes care of its mail, and sends it over TLS. Mail that comes without was sent by somebody else,
//! or somebody on the way took TLS out of the offer and can read the key. Networks of one's own need no TLS; nor does a local socket.

use std::net::IpAddr;

use addrauth_policy::{
    Claim, Client, Decision, Description, Facts, KeyStatus, Policy, Settings, Trail, Wanted, Wants, accept, defer,
    mark, quarantine, reject,
};

/// The policy.
#[derive(Debug)]
pub struct TlsExpected;

impl Policy for TlsExpected {
    fn describe() -> Description {
        Description::new(
            "tls-expected",
            env!("CARGO_PKG_VERSION"),
            "Marks direct mail without TLS from a domain that claims that all its mail has a key.",
        )
        .texts("own", "networks whose mail needs no TLS, such as 10.0.0.0/8", &["127.0.0.0/8", "::1"][..])
        .text(
            "then",
            "what happens to such mail: mark, quarantine, reject (the sender is told) or defer",
            "mark",
        )
    }

    fn check_settings(settings: &Settings) -> Result<Wanted, String> {
        if let Some(text) = settings.texts("own").iter().find(|text| Network::read(text).is_none()) {
            return Err(format!("own: \"{text}\" is no network: write 192.0.2.1, 192.0.2.0/24 or 2001:db8::/32"));
        }
        match settings.text("then") {
            "mark" | "quarantine" | "reject" | "defer" => {
                Ok(Wanted::facts(Wants::CLAIM | Wants::TRAIL | Wants::CLIENT))
            }
            other => Err(format!("then = \"{other}\": write \"mark\", \"quarantine\", \"reject\" or \"defer\"")),
        }
    }

    fn decide(facts: &Facts, settings: &Settings) -> Decision {
        let direct = facts.claim == Some(Claim::All) && facts.trail == Some(Trail::empty());
        if direct && facts.client.as_ref().is_some_and(|client| is_open(client, settings.texts("own"))) {
            let reason = "it came without TLS, from a domain that gives all its mail keys";
            return match settings.text("then") {
                "quarantine" => quarantine(reason),
                "reject" => reject(reason).tell_sender(),
                "defer" => defer(reason),
                _ => mark(reason),
            };
        }
        match facts.status {
            KeyStatus::Invalid | KeyStatus::Unusable => mark("nobody vouches for the sender of this message"),
            _ => accept(),
        }
    }
}

/// Whether the connection is not encrypted, and comes from none of these networks. An address that cannot be read is in none.
fn is_open(client: &Client, own: &[String]) -> bool {
    let ip = client.ip.parse::<IpAddr>().ok();
    let holds = |text: &String| Network::read(text).zip(ip).is_some_and(|(network, ip)| network.holds(ip));
    !client.tls && !own.iter().any(holds)
}

/// Addresses that begin with the same bits.
#[derive(Clone, Copy)]
struct Network {
    first: IpAddr,
    length: u32,
}

impl Network {
    fn read(text: &str) -> Option<Network> {
        let (address, length) = text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
        let first: IpAddr = address.parse().ok()?;
        let whole = if first.is_ipv4() { 32 } else { 128 };
        let length = match length {
            None => whole,
            Some(digits) if !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit()) => {
                digits.parse().ok().filter(|length| *length <= whole)?
            }
            Some(_) => return None,
        };
        Some(Network { first, length })
    }

    fn holds(self, ip: IpAddr) -> bool {
        match (self.first, ip) {
            (IpAddr::V4(first), IpAddr::V4(ip)) => {
                (first.to_bits() ^ ip.to_bits()).checked_shr(32 - self.length).unwrap_or(0) == 0
            }
            (IpAddr::V6(first), IpAddr::V6(ip)) => {
                (first.to_bits() ^ ip.to_bits()).checked_shr(128 - self.length).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

addrauth_policy::export!(TlsExpected);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_what_begins_with_its_bits() {
        for (network, ip, expected) in [
            ("10.0.0.0/8", "10.255.255.255", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("0.0.0.0/0", "255.1.2.3", true),
            ("0.0.0.0/0", "::1", false),
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.0", false),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("::/0", "fe80::1", true),
            ("::1", "::1", true),
        ] {
            assert_eq!(Network::read(network).unwrap().holds(ip.parse().unwrap()), expected, "{network} {ip}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in ["", "/", "192.0.2", "192.0.2.0/33", "192.0.2.0/", "192.0.2.0/+8", "::/129", "mail.example"] {
            assert!(Network::read(text).is_none(), "{text}");
        }
    }
}
