//! The configuration as plain data: TOML in, every default visible, an unknown key an error. It opens nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::proto::address::Address;

mod limits;

pub use limits::Limits;

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// It is no TOML, or holds an unknown key or a wrong type; the text names the line.
    #[error("{path}: {text}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The parser's words, line and column included.
        text: String,
    },
    /// The parts do not fit together.
    #[error("{0}")]
    Meaning(String),
}

/// The whole configuration; every key has a default.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The host name of the `by=` in the status field; empty: the system's.
    pub hostname: String,
    /// The domains whose mail ends here. Without any, nothing is changed: we may be a relay.
    pub final_domains: Vec<String>,
    /// Decide and log, but only strip keys and write the status field. Absent: true.
    pub observe: Observe,
    /// Where the journal, the mark's key and the AS's table live.
    pub state_dir: StateDir,
    /// The milter door.
    pub milter: Milter,
    /// DNS and VERIFY.
    pub verify: Verify,
    /// Which policy treats which result.
    pub policy: Policy,
    /// Policies of one's own, by id.
    pub policies: BTreeMap<String, Module>,
    /// Notices to recipients.
    pub notices: Notices,
    /// The AS role.
    pub authority: Authority,
}

/// `observe`, on unless switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Observe(pub bool);

impl Default for Observe {
    fn default() -> Observe {
        Observe(true)
    }
}

/// `state_dir`, by default /var/lib/addrauth.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct StateDir(pub PathBuf);

impl Default for StateDir {
    fn default() -> StateDir {
        StateDir("/var/lib/addrauth".into())
    }
}

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

/// `[verify]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Verify {
    /// DNS servers as ADDRESS:PORT; none: those of /etc/resolv.conf.
    pub dns: Vec<SocketAddr>,
    /// How long verification may take for one message: at most 20 s.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// Ports below 1024 that an `AS=` record may name.
    pub low_ports: Vec<u16>,
    /// Networks whose addresses may be asked although they are internal, as ADDRESS/PREFIX: where an AS of one's own, found
    /// through DNS, is inside. Everything in them is within reach of whoever publishes an `AS=` record: keep them narrow.
    #[serde(with = "networks")]
    pub allow_targets: Vec<IpNet>,
    /// Fixed endpoints per domain, exempt from the guard against internal addresses.
    pub domain: BTreeMap<String, FixedAs>,
}

impl Default for Verify {
    fn default() -> Verify {
        Verify {
            dns: Vec::new(),
            timeout: Duration::from_secs(5),
            low_ports: Vec::new(),
            allow_targets: Vec::new(),
            domain: BTreeMap::new(),
        }
    }
}

/// Networks as their text: the library's own serde support would come with more than that.
mod networks {
    use super::*;

    pub(super) fn serialize<S: Serializer>(networks: &[IpNet], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(networks.iter().map(IpNet::to_string))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
        let wrong = |text| format!("`{text}` is no network: write 192.0.2.0/24 or 2001:db8::/32");
        let parse = |text: String| text.parse().map_err(|_| serde::de::Error::custom(wrong(text)));
        Vec::<String>::deserialize(deserializer)?.into_iter().map(parse).collect()
    }
}

/// `[verify.domain."example.com"]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FixedAs {
    /// The domain's AS as ADDRESS:PORT.
    #[serde(rename = "as")]
    pub endpoint: SocketAddr,
}

/// `[policy]`: the id of the policy that treats each result.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// Where component files lie; a file `ID.wasm` there wins over the shipped component of that id. Empty: none.
    pub dir: PathBuf,
    /// For `valid`.
    pub valid: String,
    /// For `invalid`.
    pub invalid: String,
    /// For `missing`.
    pub missing: String,
    /// For `none`.
    pub none: String,
    /// For `unverified`.
    pub unverified: String,
    /// For `unusable`.
    pub unusable: String,
}

impl Default for Policy {
    fn default() -> Policy {
        let [accept, mark] = ["accept", "mark"].map(String::from);
        Policy {
            dir: PathBuf::new(),
            valid: accept.clone(),
            invalid: mark.clone(),
            missing: accept.clone(),
            none: accept.clone(),
            unverified: accept,
            unusable: mark,
        }
    }
}

/// `[policies.ID]`: a policy of one's own, or a shipped one with other settings.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Module {
    /// The component file, relative to `policy.dir`; absent: the shipped component of this id.
    #[serde(default)]
    pub module: Option<PathBuf>,
    /// Its settings.
    #[serde(default)]
    pub settings: BTreeMap<String, toml::Value>,
    /// What happens when it faults.
    #[serde(default)]
    pub on_fault: OnFault,
    /// The file's SHA-256 in hexadecimal; another file is refused.
    #[serde(default)]
    pub sha256: Option<String>,
}

/// What happens to a message whose policy faults. Never accept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFault {
    /// 451: the sending server comes again.
    #[default]
    Defer,
    /// Keep it back.
    Quarantine,
    /// Refuse it and tell the sender.
    Reject,
}

/// `[notices]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Notices {
    /// The SMTP server that takes our notices, as HOST:PORT.
    pub notify_via: String,
    /// Their From address; empty: postmaster at `hostname`.
    pub from: String,
}

impl Default for Notices {
    fn default() -> Notices {
        Notices { notify_via: "127.0.0.1:25".into(), from: String::new() }
    }
}

/// `[authority]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Authority {
    /// The domains that this AS answers for.
    pub domains: Vec<String>,
    /// Where to answer VERIFY, as ADDRESS:PORT (UDP).
    pub listen: Vec<SocketAddr>,
    /// AGI, the interval between two keys of an address.
    #[serde(with = "humantime_serde")]
    pub agi: Duration,
    /// AVT, how long an old key stays good beside the new one.
    #[serde(with = "humantime_serde")]
    pub avt: Duration,
}

impl Default for Authority {
    fn default() -> Authority {
        Authority {
            domains: Vec::new(),
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 4410))],
            agi: Duration::from_secs(5 * 86_400),
            avt: Duration::from_secs(7 * 86_400),
        }
    }
}

impl Config {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Config, Error> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        Config::parse(&text, path)
    }

    /// Reads TOML; `path` is for the errors.
    pub fn parse(text: &str, path: &Path) -> Result<Config, Error> {
        let mut config: Config =
            toml::from_str(text).map_err(|e| Error::Syntax { path: path.to_owned(), text: e.to_string() })?;
        config.spell_domains()?;
        config.check()?;
        Ok(config)
    }

    /// Domains in the one spelling in which addresses have them: lower-case A-labels without a final dot.
    fn spell_domains(&mut self) -> Result<(), Error> {
        for domain in &mut self.final_domains {
            *domain = domain_name("final_domains", domain)?;
        }
        for domain in &mut self.authority.domains {
            *domain = domain_name("authority.domains", domain)?;
        }
        for (domain, fixed) in std::mem::take(&mut self.verify.domain) {
            let name = domain_name("verify.domain", &domain)?;
            if self.verify.domain.insert(name, fixed).is_some() {
                return Err(Error::Meaning(format!("verify.domain names {domain:?} twice, in different spellings")));
            }
        }
        Ok(())
    }

    /// Whether the parts fit together; what needs the component files is checked where they are loaded.
    fn check(&self) -> Result<(), Error> {
        let wrong = |text: String| Err(Error::Meaning(text));
        if self.verify.timeout > Duration::from_secs(20) || self.verify.timeout < Duration::from_millis(100) {
            return wrong("verify.timeout must be between 100ms and 20s: Postfix waits 30 s for a milter".into());
        }
        if self.authority.agi.saturating_add(self.authority.avt) < Duration::from_secs(1) {
            return wrong("authority.agi and authority.avt are both zero: a key would end as it is made".into());
        }
        Ok(())
    }
}

/// A domain as an address would have it; `setting` is where it stands.
fn domain_name(setting: &str, domain: &str) -> Result<String, Error> {
    let name = domain.strip_suffix('.').unwrap_or(domain);
    let address = Address::parse(format!("x@{name}").as_bytes(), true);
    let wrong = |_| Error::Meaning(format!("{setting}: {domain:?} is no domain, write a name such as \"example.com\""));
    address.map(|address| address.domain().to_owned()).map_err(wrong)
}

#[cfg(test)]
mod tests;
