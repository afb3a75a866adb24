//! The configuration as plain data, read from TOML: every default is visible, an unknown key is an error. It opens nothing.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::files;
use crate::proto::address::{Address, Domain};

mod authority;
mod console;
mod custody;
mod hooks;
mod hostname;
mod keyring;
pub mod limits;
mod lmtp;
mod metrics;
mod milter;
mod notices;
mod peer;
mod policy;
mod size;
mod sources;
mod spelt;
mod trusted;
mod verify;
mod warnings;

pub use authority::Authority;
pub use console::Console;
pub use custody::Custody;
pub use hooks::{Dialect, Hooks};
pub use hostname::system_hostname;
pub use keyring::{Deliver, Keyring, Store, Tls, Where};
pub use limits::{Limits, PolicyOutline};
pub use lmtp::{Lmtp, NextHop};
pub use metrics::Metrics;
pub use milter::{Listen, Milter};
pub use notices::Notices;
pub use peer::{Peer, Unfit};
pub use policy::{Bindings, Mixed, Module, OnFault, Policy, QuarantineIn};
pub use size::Size;
pub use sources::Sources;
pub use trusted::{NoKey, TrustedKey};
pub use verify::{FixedAs, Verify};
pub use warnings::{Concern, Warning};

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
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
    /// Whether `hostname` is the system's, since the file sets none. Then the name that the MTA gives its host goes before
    /// it.
    #[serde(skip)]
    pub hostname_assumed: bool,
    /// The domains whose mail ends here. Without any, nothing is changed: we may be a relay.
    #[serde(deserialize_with = "spelt::final_domains")]
    pub final_domains: Vec<Domain>,
    /// Decide and log, but only strip keys and forged results, and write the status field. Absent: true.
    pub observe: Observe,
    /// The directory of the journal, the mark's key and the AS's table.
    pub state_dir: StateDir,
    /// Networks of our own servers that examine mail before us. Mail from there with one status field and no key passes
    /// untouched.
    #[serde(with = "networks")]
    pub trusted_hops: Vec<IpNet>,
    /// Networks of backup MXs and list hosts. They would bounce a refused message to somebody innocent, so what would be
    /// rejected is quarantined.
    #[serde(with = "networks")]
    pub trusted_relays: Vec<IpNet>,
    /// Clients that send for us without a login, and the From addresses with which each of them counts as a login.
    #[serde(deserialize_with = "spelt::trusted_submitters")]
    pub trusted_submitters: BTreeMap<IpAddr, Vec<Address>>,
    /// The authserv-ids whose Authentication-Results fields are believed (RFC 8601 §2.5). Name only mail servers of our own
    /// that run before us and remove what others wrote in their name.
    pub trusted_authserv_ids: Vec<String>,
    /// No milter before us writes Authentication-Results with our host name. So a field with it is forged: it is removed and
    /// not believed.
    pub first_in_chain: bool,
    /// Write an Authentication-Results field of our own beside the status field (RFC 8601 §2.7.6), with `observe = true` too.
    pub authentication_results: bool,
    /// The milter door.
    pub milter: Milter,
    /// The door of MTA Hooks.
    pub hooks: Hooks,
    /// The LMTP door.
    pub lmtp: Lmtp,
    /// Figures and state over HTTP.
    pub metrics: Metrics,
    /// DNS and VERIFY.
    pub verify: Verify,
    /// Which policy treats which result.
    pub policy: Policy,
    /// Policies of one's own, by id.
    pub policies: BTreeMap<String, Module>,
    /// Notices to recipients, reports to senders.
    pub notices: Notices,
    /// How long and how much is kept.
    pub custody: Custody,
    /// Where the AS's table and the keyring are.
    pub store: Store,
    /// The keys of our own addresses: learning and stamping.
    pub keyring: Keyring,
    /// The AS role.
    pub authority: Authority,
    /// The web console.
    pub console: Console,
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

/// Spans of time as people write them: whole days as days, anything else in humantime's words.
mod span {
    use super::*;

    pub(super) fn serialize<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        match (span.as_secs(), span.subsec_nanos()) {
            (seconds, 0) if seconds > 0 && seconds % 86_400 == 0 => {
                serializer.collect_str(&format_args!("{}d", seconds / 86_400))
            }
            _ => humantime_serde::serialize(span, serializer),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let hint = |e| {
            serde::de::Error::custom(format!("{e}: write a number and its unit, such as \"5s\", \"10m\" or \"7d\""))
        };
        humantime_serde::deserialize(deserializer).map_err(|e: D::Error| hint(e.to_string()))
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

impl Config {
    /// Reads a file, and where it is called `addrauth.toml` those of `conf.d` beside it: see [`Sources`].
    pub fn read(path: &Path) -> Result<Config, Error> {
        Sources::read(path)?.config()
    }

    /// The text of a file, for [`Config::parse`].
    pub fn text(path: &Path) -> Result<String, Error> {
        let read = files::read_text(path, Limits::default().files.config);
        read.map_err(|e| Error::Read { path: path.to_owned(), source: e.into() })
    }

    /// Reads TOML; `path` is for the errors.
    pub fn parse(text: &str, path: &Path) -> Result<Config, Error> {
        let config = Config::syntax(text, path)?;
        config.check()?;
        Ok(config)
    }

    /// Reads TOML, and does not ask whether the parts fit together.
    fn syntax(text: &str, path: &Path) -> Result<Config, Error> {
        toml::from_str(text).map_err(|e| Error::Syntax { path: path.to_owned(), text: explained(&e.to_string()) })
    }

    /// Whether the parts fit together. What hangs on the component files is checked where they are loaded; what fits and is
    /// probably not meant is in [`Config::warnings`].
    fn check(&self) -> Result<(), Error> {
        self.verify.check()?;
        self.lmtp.check()?;
        self.check_trust()?;
        self.hooks.check()?;
        self.metrics.check()?;
        self.keyring.check(&self.final_domains)?;
        self.policy.check(&self.policies)?;
        self.policies.iter().try_for_each(|(id, module)| module.check(id))?;
        self.notices.check()?;
        self.console.check()?;
        self.authority.check()
    }

    fn check_trust(&self) -> Result<(), Error> {
        for (setting, networks) in [("trusted_hops", &self.trusted_hops), ("trusted_relays", &self.trusted_relays)] {
            if let Some(network) = networks.iter().find(|network| network.prefix_len() == 0) {
                return wrong(format!("{setting}: {network} is everybody, name the networks of your own servers"));
            }
        }
        Ok(())
    }
}

/// A refusal of parts that do not fit together.
fn wrong(text: impl Into<String>) -> Result<(), Error> {
    Err(Error::Meaning(text.into()))
}

/// The parser's words, and behind them what a common slip needs.
fn explained(text: &str) -> String {
    match text.contains("unknown field") {
        true => format!(
            "{}\nA key belongs to the [section] above it; those of no section stand before the first one",
            text.trim_end()
        ),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
