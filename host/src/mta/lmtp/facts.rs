//! What the MTA tells of the client that brought the message to it: Postfix's XFORWARD.

use std::net::IpAddr;

use crate::case::Client;
use crate::mta::intake::{client_ip, client_name, text};

/// The attributes that are taken, for the reply to LHLO.
pub(super) const ATTRIBUTES: &str = "NAME ADDR PORT PROTO HELO IDENT SOURCE";

/// What is known of the client of the next message. What is not told is a fact that is missing.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    ip: Option<IpAddr>,
    name: Option<String>,
    helo: String,
    /// The MTA's name for the message.
    pub(super) queue_id: String,
}

impl Facts {
    /// Takes attributes in; `limit` octets of one value.
    pub(super) fn learn(&mut self, told: &[(&[u8], Option<Vec<u8>>)], limit: usize) {
        for (name, value) in told {
            let value = value.as_deref().unwrap_or_default();
            match name.to_ascii_uppercase().as_slice() {
                b"ADDR" => self.ip = address(value),
                b"NAME" => self.name = client_name(value, limit),
                b"HELO" => self.helo = text(value, limit).unwrap_or_default(),
                b"IDENT" => self.queue_id = text(value, limit).unwrap_or_default(),
                _ => {}
            }
        }
    }

    /// The client, of a message that a host with this name hands over.
    pub(super) fn client(&self, server: Option<String>) -> Client {
        let server = server.filter(|name| !name.is_empty());
        Client { ip: self.ip, name: self.name.clone(), helo: self.helo.clone(), tls: false, server }
    }
}

/// An address; before one of IPv6 may stand a tag, in any letter case.
fn address(value: &[u8]) -> Option<IpAddr> {
    let (tag, rest) = value.split_at_checked(5).unwrap_or((value, b""));
    client_ip(if tag.eq_ignore_ascii_case(b"IPV6:") { rest } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_of_the_client_is_known_and_what_is_not_is_missing() {
        let mut facts = Facts::default();
        let value = |text: &str| Some(text.as_bytes().to_vec());
        facts.learn(
            &[
                (b"name", value("mail.example")),
                (b"ADDR", value("IPV6:2001:db8::1")),
                (b"IDENT", value("4XyZ")),
                (b"HELO", None),
            ],
            64,
        );
        let client = facts.client(Some("mx.example".into()));
        assert_eq!(client.ip.map(|ip| ip.to_string()).as_deref(), Some("2001:db8::1"));
        assert_eq!((client.name.as_deref(), client.helo.as_str()), (Some("mail.example"), ""));
        assert_eq!((facts.queue_id.as_str(), client.server.as_deref()), ("4XyZ", Some("mx.example")));
        facts
            .learn(&[(b"ADDR", value("unknown")), (b"NAME", value("unknown")), (b"IDENT", value(&"x".repeat(65)))], 64);
        let client = facts.client(None);
        assert_eq!((client.ip, client.name, facts.queue_id.as_str()), (None, None, ""));
    }
}
