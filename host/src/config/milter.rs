//! `[milter]`: where the mail server connects.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// `[milter]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Milter {
    /// Where to listen, in Postfix's spelling: `inet:127.0.0.1:8891`, `unix:/var/spool/postfix/addrauth/milter`.
    pub listen: Vec<Listen>,
    /// The group of a unix socket; empty: the process's own. Its mode is always 0660.
    pub group: String,
}

impl Default for Milter {
    fn default() -> Milter {
        Milter { listen: vec![Listen::Inet(SocketAddr::from(([127, 0, 0, 1], 8891)))], group: String::new() }
    }
}

/// A place to listen for milter connections, in Postfix's spelling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// `inet:ADDRESS:PORT`
    Inet(SocketAddr),
    /// `unix:/PATH`
    Unix(PathBuf),
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Listen, String> {
        let wrong = || format!("`{text}` is no place to listen: write inet:127.0.0.1:8891 or unix:/path/of/socket");
        match text.split_once(':') {
            Some(("inet", rest)) => rest.parse().map(Listen::Inet).map_err(|_| wrong()),
            Some(("unix", rest)) if rest.starts_with('/') => Ok(Listen::Unix(rest.into())),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listen::Inet(address) => write!(f, "inet:{address}"),
            Listen::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Listen, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for Listen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
