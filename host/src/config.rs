//! The configuration as plain data: TOML in, every default visible, an unknown key an error. It opens nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::case::MarkAs;
use crate::files;
use crate::proto::address::{Address, folded};

mod keyring;
mod limits;
mod policy;
mod warnings;

pub use keyring::{Deliver, Keyring, Store, Tls, Where};
pub use limits::{Limits, PolicyOutline};
pub use policy::{Bindings, Mixed, Module, OnFault, Policy, QuarantineIn};

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
    /// Whether `hostname` is the system's, since the file names none: then what the MTA calls itself goes before it.
    #[serde(skip)]
    pub hostname_assumed: bool,
    /// The domains whose mail ends here. Without any, nothing is changed: we may be a relay.
    pub final_domains: Vec<String>,
    /// Decide and log, but only strip keys and forged results, and write the status field. Absent: true.
    pub observe: Observe,
    /// Where the journal, the mark's key and the AS's table live.
    pub state_dir: StateDir,
    /// Networks of our own servers that examined the mail already: with one status field and no key it passes untouched.
    #[serde(with = "networks")]
    pub trusted_hops: Vec<IpNet>,
    /// Networks of backup MXs and list hosts: refusing their mail would make them bounce it to somebody innocent, so what
    /// would be rejected is quarantined.
    #[serde(with = "networks")]
    pub trusted_relays: Vec<IpNet>,
    /// Clients that send for us without a login, and the From addresses with which each counts as one.
    pub trusted_submitters: BTreeMap<IpAddr, Vec<String>>,
    /// The authserv-ids whose Authentication-Results fields are believed (RFC 8601 §2.5): those alone of our own mail servers
    /// that run before us and remove what others wrote in their name.
    pub trusted_authserv_ids: Vec<String>,
    /// No milter before us writes Authentication-Results with our host name: each that is there is forged, removed, and not
    /// believed.
    pub first_in_chain: bool,
    /// Write an Authentication-Results field of our own beside the status field (RFC 8601 §2.7.6), while observing too.
    pub authentication_results: bool,
    /// The milter door.
    pub milter: Milter,
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
    #[serde(with = "span")]
    pub timeout: Duration,
    /// Ports below 1024 that an `AS=` record may name.
    pub low_ports: Vec<u16>,
    /// Networks whose addresses may be asked although they are internal, as ADDRESS/PREFIX: where an AS of one's own, found
    /// through DNS, is inside. Everything in them is within reach of whoever publishes an `AS=` record: keep them narrow.
    #[serde(with = "networks")]
    pub allow_targets: Vec<IpNet>,
    /// A PEM file of root certificates that are trusted beside the system's, for servers asked over TLS; empty: none.
    pub tls_roots: PathBuf,
    /// Fixed endpoints per domain, asked over UDP alone and exempt from the guard against internal addresses.
    pub domain: BTreeMap<String, FixedAs>,
}

impl Default for Verify {
    fn default() -> Verify {
        Verify {
            dns: Vec::new(),
            timeout: Duration::from_secs(5),
            low_ports: Vec::new(),
            allow_targets: Vec::new(),
            tls_roots: PathBuf::new(),
            domain: BTreeMap::new(),
        }
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

/// `[verify.domain."example.com"]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FixedAs {
    /// The domain's AS as ADDRESS:PORT.
    #[serde(rename = "as")]
    pub endpoint: SocketAddr,
}

/// `[notices]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Notices {
    /// The SMTP server that takes our notices, as HOST:PORT.
    pub notify_via: String,
    /// Their From address; empty: postmaster at `hostname`.
    pub from: String,
    /// Where texts of one's own lie, a file each; empty: the texts that ship.
    pub templates: PathBuf,
}

impl Default for Notices {
    fn default() -> Notices {
        Notices { notify_via: "127.0.0.1:25".into(), from: String::new(), templates: PathBuf::new() }
    }
}

/// `[custody]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Custody {
    /// How long a journal row is kept.
    #[serde(with = "span")]
    pub journal_kept: Duration,
    /// Journal rows kept at most; the oldest go first.
    pub journal_rows: u64,
    /// How long a quarantined message is kept.
    #[serde(with = "span")]
    pub quarantine_kept: Duration,
    /// MiB of quarantined messages at most; beyond it, what would be quarantined is deferred.
    pub quarantine_mib: u64,
}

impl Default for Custody {
    fn default() -> Custody {
        Custody {
            journal_kept: Duration::from_secs(90 * 86_400),
            journal_rows: 1_000_000,
            quarantine_kept: Duration::from_secs(30 * 86_400),
            quarantine_mib: 2_048,
        }
    }
}

/// `[authority]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Authority {
    /// The domains that this AS answers for.
    pub domains: Vec<String>,
    /// Where to answer VERIFY, as ADDRESS:PORT: over UDP, and over TLS where `tls` is set.
    pub listen: Vec<SocketAddr>,
    /// AGI, the interval between two keys of an address.
    #[serde(with = "span")]
    pub agi: Duration,
    /// AVT, how long an old key stays good beside the new one.
    #[serde(with = "span")]
    pub avt: Duration,
    /// How new keys reach their addresses: "mail", "keyring" or "nobody".
    pub deliver: Deliver,
    /// The From address of the mails that bring them; empty: that of notices.
    pub from: String,
    /// VERIFY over TLS.
    pub tls: Tls,
    /// The file that holds the token with which a submission server of ours may fetch keys over TLS; empty: nobody may.
    pub fetch_token_file: PathBuf,
}

impl Default for Authority {
    fn default() -> Authority {
        Authority {
            domains: Vec::new(),
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 4410))],
            agi: Duration::from_secs(5 * 86_400),
            avt: Duration::from_secs(7 * 86_400),
            deliver: Deliver::Mail,
            from: String::new(),
            tls: Tls::default(),
            fetch_token_file: PathBuf::new(),
        }
    }
}

impl Config {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Config, Error> {
        Config::parse(&Config::text(path)?, path)
    }

    /// The text of a file, for [`Config::parse`].
    pub fn text(path: &Path) -> Result<String, Error> {
        let read = files::read_text(path, Limits::default().config_octets);
        read.map_err(|e| Error::Read { path: path.to_owned(), source: e.into() })
    }

    /// Reads TOML; `path` is for the errors.
    pub fn parse(text: &str, path: &Path) -> Result<Config, Error> {
        let mut config: Config = toml::from_str(text)
            .map_err(|e| Error::Syntax { path: path.to_owned(), text: explained(&e.to_string()) })?;
        config.spell_domains()?;
        config.check()?;
        Ok(config)
    }

    /// Domains in the one spelling in which addresses have them: lower-case A-labels without a final dot; recipients as
    /// they are looked up.
    fn spell_domains(&mut self) -> Result<(), Error> {
        for domain in &mut self.final_domains {
            *domain = domain_name("final_domains", domain)?;
        }
        for domain in &mut self.authority.domains {
            *domain = domain_name("authority.domains", domain)?;
        }
        for (domain, bindings) in std::mem::take(&mut self.policy.domain) {
            let name = domain_name("policy.domain", &domain)?;
            if self.policy.domain.insert(name, bindings).is_some() {
                return Err(Error::Meaning(format!("policy.domain names {domain:?} twice, in different spellings")));
            }
        }
        for (recipient, bindings) in std::mem::take(&mut self.policy.recipient) {
            let name = mailbox_name(&recipient)?;
            if self.policy.recipient.insert(name.clone(), bindings).is_some() {
                return Err(Error::Meaning(format!(
                    "policy.recipient names the mailbox {name} twice, {recipient:?} among them: letter case and +tag do not \
                     matter, write it once"
                )));
            }
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
        for (setting, networks) in [("trusted_hops", &self.trusted_hops), ("trusted_relays", &self.trusted_relays)] {
            if let Some(network) = networks.iter().find(|network| network.prefix_len() == 0) {
                return wrong(format!("{setting}: {network} is everybody, name the networks of your own servers"));
            }
        }
        for address in self.trusted_submitters.values().flatten() {
            if Address::parse(address.as_bytes(), true).is_err() {
                return wrong(format!(
                    "trusted_submitters: {address:?} is no address, write one such as \"shop@example.com\""
                ));
            }
        }
        let plays = self.keyring.learn.is_anywhere() || self.keyring.stamp.is_anywhere();
        if plays && self.final_domains.is_empty() {
            return wrong(
                "keyring.learn and keyring.stamp need final_domains: which addresses are ours, and what stays inside and so \
                 gets no key"
                    .into(),
            );
        }
        let folder = &self.policy.spam_folder;
        let tag = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '+' | '=' | '.');
        // Another delimiter may stand in a mailbox's own name: mary-jane's folder would be one of mary's.
        let follows = folder.len() <= 64 && folder.starts_with('+') && folder.chars().all(tag);
        if !folder.is_empty() && !follows {
            return wrong(format!(
                "policy.spam_folder = {folder:?} cannot follow a local part: write \"+\" and a name, such as \"+Junk\" (the MTA \
                 needs recipient_delimiter = +)"
            ));
        }
        let levels = self.policy.domain.values().chain(self.policy.recipient.values()).map(|bindings| bindings.mark);
        if folder.is_empty() && levels.chain([Some(self.policy.mark)]).any(|mark| mark == Some(MarkAs::Folder)) {
            return wrong(
                "mark = \"folder\" needs policy.spam_folder, such as \"+Junk\": how a spam folder is addressed".into(),
            );
        }
        let tls = &self.authority.tls;
        if tls.certificate.as_os_str().is_empty() != tls.key.as_os_str().is_empty() {
            return wrong(
                "authority.tls needs both certificate and key, or neither: without them VERIFY is UDP only".into(),
            );
        }
        if self.keyring.fetch_from.is_empty() != self.keyring.fetch_token_file.as_os_str().is_empty() {
            return wrong(
                "keyring.fetch_from and keyring.fetch_token_file belong together: where keys are, and what opens the door".into(),
            );
        }
        if !self.authority.fetch_token_file.as_os_str().is_empty() && !tls.is_on() {
            return wrong(
                "authority.fetch_token_file needs [authority.tls]: keys are handed out over TLS alone".into(),
            );
        }
        if self.authority.agi.saturating_add(self.authority.avt) < Duration::from_secs(1) {
            return wrong("authority.agi and authority.avt are both zero: a key would end as it is made".into());
        }
        Ok(())
    }
}

/// The parser's words, and the slip behind them where it is a common one.
fn explained(text: &str) -> String {
    match text.contains("unknown field") {
        true => format!(
            "{}\nA key belongs to the [section] above it; those of no section stand before the first one",
            text.trim_end()
        ),
        false => text.to_owned(),
    }
}

/// A domain as an address would have it; `setting` is where it stands.
fn domain_name(setting: &str, domain: &str) -> Result<String, Error> {
    let name = domain.strip_suffix('.').unwrap_or(domain);
    let address = Address::parse(format!("x@{name}").as_bytes(), true);
    let wrong = |_| Error::Meaning(format!("{setting}: {domain:?} is no domain, write a name such as \"example.com\""));
    address.map(|address| address.domain().to_owned()).map_err(wrong)
}

/// The mailbox of a `policy.recipient` line, as it is looked up.
fn mailbox_name(recipient: &str) -> Result<String, Error> {
    let address = Address::parse(recipient.as_bytes(), true).ok();
    address.and_then(|address| folded(&address.to_string())).ok_or_else(|| {
        Error::Meaning(format!("policy.recipient: {recipient:?} is no address, write one such as \"bob@example.com\""))
    })
}

#[cfg(test)]
mod tests;
