//! `[lmtp]`: the door between a mail server's queue and its mailboxes.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Error, Listen, wrong};

/// `[lmtp]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lmtp {
    /// Where to listen, as in `[milter]`; empty: nowhere.
    pub listen: Vec<Listen>,
    /// The group of a unix socket; empty: the process's own. Its mode is always 0660.
    pub group: String,
    /// Where messages go on: the delivery agent's LMTP, `unix:/run/dovecot/lmtp` or `inet:mailstore.example.com:24`.
    #[serde(with = "maybe")]
    pub next: Option<NextHop>,
}

/// A next hop as its text, none as an empty one.
mod maybe {
    use super::*;

    pub(super) fn serialize<S: Serializer>(next: &Option<NextHop>, serializer: S) -> Result<S::Ok, S::Error> {
        match next {
            Some(next) => serializer.collect_str(next),
            None => serializer.serialize_str(""),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<NextHop>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let next = (!text.is_empty()).then(|| text.parse().map_err(serde::de::Error::custom));
        next.transpose()
    }
}

impl Lmtp {
    /// Whether its parts fit together.
    pub(super) fn check(&self) -> Result<(), Error> {
        let Some(next) = &self.next else {
            return match self.listen.is_empty() {
                true => Ok(()),
                false => wrong("lmtp.next is missing: name the delivery agent, such as unix:/run/dovecot/lmtp"),
            };
        };
        match self.listen.iter().find(|place| place.to_string() == next.to_string()) {
            Some(place) => {
                wrong(format!("lmtp.next is {place}, where lmtp.listen listens itself: mail would never end"))
            }
            None => Ok(()),
        }
    }
}

/// The server to which messages go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextHop {
    /// `inet:HOST:PORT`, where the host is a name or an address; one of IPv6 stands in brackets.
    Inet(String, u16),
    /// `unix:/PATH`
    Unix(PathBuf),
}

impl FromStr for NextHop {
    type Err = String;

    fn from_str(text: &str) -> Result<NextHop, String> {
        let wrong = || format!("`{text}` is no next hop: write inet:HOST:PORT or unix:/path/of/socket");
        match text.split_once(':') {
            Some(("inet", rest)) => {
                let (host, port) = rest.rsplit_once(':').ok_or_else(wrong)?;
                let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
                let bad = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
                let host = match bare {
                    Some(bare) if bare.parse::<std::net::Ipv6Addr>().is_ok() => bare,
                    None if !host.is_empty() && !host.contains(bad) => host,
                    _ => return Err(wrong()),
                };
                let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)?;
                Ok(NextHop::Inet(host.to_owned(), port))
            }
            Some(("unix", rest)) if rest.starts_with('/') => Ok(NextHop::Unix(rest.into())),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NextHop::Inet(host, port) if host.contains(':') => write!(f, "inet:[{host}]:{port}"),
            NextHop::Inet(host, port) => write!(f, "inet:{host}:{port}"),
            NextHop::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn a_next_hop_is_a_socket_or_a_host_and_a_port() {
        for text in ["unix:/run/dovecot/lmtp", "inet:mail-1.example:24", "inet:192.0.2.1:24", "inet:[2001:db8::1]:24"] {
            assert_eq!(text.parse::<NextHop>().unwrap().to_string(), text);
        }
        for text in
            ["", "inet:24", "inet::24", "inet:a b:24", "inet:2001:db8::1:24", "inet:h:0", "unix:run", "tcp:h:24"]
        {
            assert!(text.parse::<NextHop>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_door_that_is_open_leads_somewhere_and_not_to_itself() {
        let read = |text: &str| Config::parse(text, "filter.toml".as_ref()).map(|config| config.lmtp);
        assert_eq!(read("").unwrap(), Lmtp::default());
        assert!(read("[lmtp]\nlisten = [\"unix:/run/a\"]").is_err());
        assert!(read("[lmtp]\nlisten = [\"inet:127.0.0.1:24\"]\nnext = \"inet:127.0.0.1:24\"").is_err());
        assert!(read("[lmtp]\nlisten = [\"unix:/run/a\"]\nnext = \"unix:/run/b\"").is_ok());
        assert!(read("[lmtp]\nnext = \"unix:/run/b\"").is_ok());
    }
}
