//! The configuration as plain data: TOML in, every default visible, an unknown key an error. It opens nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Every bound of the program, each with its reason. Not configurable, unless a setting of the same name says so.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Header fields in one message. Real mail stays below 200; a reader of ours is linear in it.
    pub header_fields: usize,
    /// Octets of one header block: the same as Postfix's `header_size_limit` times ten.
    pub header_octets: usize,
    /// Mailboxes read in one From field before it counts as unusable.
    pub mailboxes: usize,
    /// Recipients of one message; Postfix's `smtpd_recipient_limit`.
    pub recipients: usize,
    /// Octets of one milter frame, checked before anything is allocated. Postfix sends at most 64 KiB of body at a time.
    pub milter_frame: usize,
    /// Milter connections at once: a Postfix smtpd process each, 100 of them by default.
    pub milter_connections: usize,
    /// Messages in flight, between MAIL and our answer: bounds what their headers can occupy (256 KiB each).
    pub messages_in_flight: usize,
    /// How long a milter connection may stay silent: longer than an SMTP client may (5 min, RFC 5321 §4.5.3.2).
    pub milter_idle: Duration,
    /// How long writing one answer to the MTA may take.
    pub milter_write: Duration,
    /// How long a new milter connection may take to negotiate: an MTA does so at once, a half-open connection never.
    pub milter_greeting: Duration,
    /// Octets of one name, path or macro value that the MTA tells: Postfix's `line_length_limit`.
    pub milter_text: usize,
    /// `X-Auth-Key` fields in one message that the MTA is asked to delete. Postfix counts from the top for each of them,
    /// so its work grows with the square; a message with more is refused for now.
    pub key_fields: usize,
    /// How long examining one message may take: more than verification (20 s) and decisions (2 s) together.
    pub examine: Duration,
    /// How long our answer may take from the end of the message on: Postfix waits 30 s.
    pub milter_answer: Duration,
    /// How long messages in flight may go on when the program stops: the longest answer.
    pub milter_drain: Duration,
    /// How long verification may take for one message; `verify.timeout`, at most 20 s, since Postfix waits 30 s.
    pub verify: Duration,
    /// VERIFY questions in flight.
    pub questions: usize,
    /// VERIFY questions in flight to one AS address.
    pub questions_per_endpoint: usize,
    /// Questions per second and AS domain that were not answered VALIDKEY.
    pub failures_per_second: f64,
    /// The burst above [`Limits::failures_per_second`].
    pub failures_burst: f64,
    /// How long finding an AS in DNS may take: what `verify` leaves beside the 3 s of a question.
    pub locate: Duration,
    /// DNS answers kept, and failures of DNS remembered: a busy server's daily domains, at a few hundred octets each.
    pub dns_kept: u64,
    /// How long a DNS answer is believed at most, whatever its TTL: a withdrawn AS must not live on for a week.
    pub dns_kept_for: Duration,
    /// How long the absence of a record is believed at most: how soon a domain that joins is noticed.
    pub dns_absence_kept_for: Duration,
    /// Addresses of a domain's AS that one question goes to (VERIFY §3: the first four count).
    pub endpoints: usize,
    /// Timeouts in a row after which an endpoint is left alone.
    pub breaker_timeouts: u32,
    /// How long it is left alone before one probe.
    pub breaker_open_for: Duration,
    /// Endpoints, and domains with failures, that are remembered at once; the least used are forgotten first.
    pub peers_known: usize,
    /// `AS=` records of one name; more, and the domain counts as unverified.
    pub as_records: usize,
    /// `AS=` records that are used, in order of priority.
    pub as_used: usize,
    /// Entries of the cache of valid keys: 83 octets each, and the strings.
    pub cache_valid: usize,
    /// Entries of the cache of invalid keys; a cache of its own, so that junk evicts no good entry.
    pub cache_invalid: usize,
    /// How long a valid answer is believed, at most.
    pub cache_valid_for: Duration,
    /// How long a valid answer without `t=` is believed.
    pub cache_valid_without_t: Duration,
    /// How long an invalid answer is believed.
    pub cache_invalid_for: Duration,
    /// How long a failure to verify is believed.
    pub cache_unverified_for: Duration,
    /// How long one call of a policy may run. A decision takes microseconds.
    pub policy_time: Duration,
    /// Memory of one policy instance, in octets.
    pub policy_memory: usize,
    /// Octets that a policy may hand back in one call.
    pub policy_result: usize,
    /// Octets of a policy's text that are kept.
    pub policy_text: usize,
    /// Octets of a component file.
    pub policy_file: usize,
    /// How long all decisions on one message may take.
    pub policy_message: Duration,
    /// Decisions that wait for a free thread; beyond it the failure decision applies.
    pub policy_queue: usize,
    /// Threads that decide, apart from the daemon's own; a decision takes microseconds, so a few serve any machine.
    pub policy_threads: usize,
    /// How long compiling one component may take; a policy takes 25 ms, and a slow machine is to be forgiven.
    pub policy_compile: Duration,
    /// Octets of native stack that a policy may use; its own memory holds most of what it works on.
    pub policy_stack: usize,
    /// INVALIDKEY answers of our AS to one /24 or /56 in ten seconds; right proofs are always answered.
    pub invalid_answers: u32,
    /// Networks whose INVALIDKEY answers are counted within one window; more, and the window begins anew: some 3 MB.
    pub invalid_networks: usize,
    /// VERIFY questions that one socket of our AS works on at once; beyond it they wait in the kernel's buffer.
    pub answers_at_once: usize,
    /// How long the AS keeps an ended key, to say `e=expired`.
    pub expired_kept: Duration,
    /// Between two sweeps of the AS's ended keys: a late one costs a few rows.
    pub key_sweep: Duration,
    /// Living keys of one address: each costs every answer a comparison. AGI and AVT by default leave three.
    pub keys_per_address: usize,
    /// How long a statement waits for another process's lock on a database.
    pub store_busy: Duration,
    /// Connections that read one database; two cores are busy with that.
    pub store_readers: u32,
    /// How long making an obligation durable may take before the message is deferred: Postfix waits 30 s for a milter.
    pub keep: Duration,
    /// How long a journal row is kept.
    pub journal_kept: Duration,
    /// Tries to submit one notice before it is given up and journalled so.
    pub notice_tries: u32,
    /// Notices to one recipient in an hour.
    pub notices_per_hour: u32,
    /// Between two notices to one recipient about one sender.
    pub notice_pair: Duration,
    /// Between two notices of this installation: one a second at most.
    pub notice_interval: Duration,
    /// How long each step of handing a notice to the SMTP server may take.
    pub notice_step: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            header_fields: 1_000,
            header_octets: 256 * 1024,
            mailboxes: 100,
            recipients: 1_000,
            milter_frame: 1024 * 1024,
            milter_connections: 500,
            messages_in_flight: 500,
            milter_idle: Duration::from_secs(600),
            milter_write: Duration::from_secs(30),
            milter_greeting: Duration::from_secs(10),
            milter_text: 2_048,
            key_fields: 1_000,
            examine: Duration::from_secs(25),
            milter_answer: Duration::from_secs(28),
            milter_drain: Duration::from_secs(30),
            verify: Duration::from_secs(5),
            questions: 256,
            questions_per_endpoint: 8,
            failures_per_second: 10.0,
            failures_burst: 20.0,
            locate: Duration::from_secs(2),
            dns_kept: 10_000,
            dns_kept_for: Duration::from_secs(3_600),
            dns_absence_kept_for: Duration::from_secs(300),
            endpoints: 4,
            breaker_timeouts: 5,
            breaker_open_for: Duration::from_secs(30),
            peers_known: 10_000,
            as_records: 16,
            as_used: 8,
            cache_valid: 100_000,
            cache_invalid: 10_000,
            cache_valid_for: Duration::from_secs(3_600),
            cache_valid_without_t: Duration::from_secs(300),
            cache_invalid_for: Duration::from_secs(60),
            cache_unverified_for: Duration::from_secs(5),
            policy_time: Duration::from_millis(10),
            policy_memory: 16 * 1024 * 1024,
            policy_result: 64 * 1024,
            policy_text: 400,
            policy_file: 4 * 1024 * 1024,
            policy_message: Duration::from_secs(2),
            policy_queue: 1_000,
            policy_threads: std::thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 8)),
            policy_compile: Duration::from_secs(20),
            policy_stack: 256 * 1024,
            invalid_answers: 50,
            invalid_networks: 65_536,
            answers_at_once: 8,
            expired_kept: Duration::from_secs(14 * 86_400),
            key_sweep: Duration::from_secs(3_600),
            keys_per_address: 64,
            store_busy: Duration::from_secs(2),
            store_readers: 4,
            keep: Duration::from_secs(5),
            journal_kept: Duration::from_secs(90 * 86_400),
            notice_tries: 20,
            notices_per_hour: 5,
            notice_pair: Duration::from_secs(86_400),
            notice_interval: Duration::from_secs(1),
            notice_step: Duration::from_secs(30),
        }
    }
}

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
        let config: Config =
            toml::from_str(text).map_err(|e| Error::Syntax { path: path.to_owned(), text: e.to_string() })?;
        config.check()?;
        Ok(config)
    }

    /// Whether the parts fit together; what needs the component files is checked where they are loaded.
    fn check(&self) -> Result<(), Error> {
        let wrong = |text: String| Err(Error::Meaning(text));
        if self.verify.timeout > Duration::from_secs(20) || self.verify.timeout < Duration::from_millis(100) {
            return wrong("verify.timeout must be between 100ms and 20s: Postfix waits 30 s for a milter".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = include_str!("../etc/addrauth.toml");

    /// The sample with its defaults switched on: `#key = value` becomes `key = value`, except below a commented section.
    fn switched_on() -> String {
        let mut example = false;
        let mut text = String::new();
        for line in SAMPLE.lines() {
            example = !line.starts_with('[') && (example || line.starts_with("#["));
            let key = line.strip_prefix('#').filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()));
            text += if example { line } else { key.unwrap_or(line) };
            text.push('\n');
        }
        text
    }

    #[test]
    fn the_sample_shows_every_setting_with_its_default() {
        let shown = Config::parse(&switched_on(), Path::new("addrauth.toml")).unwrap();
        assert_eq!(shown, Config::default());
        let default = toml::Value::try_from(Config::default()).unwrap();
        for (section, value) in default.as_table().unwrap() {
            let keys: Vec<&String> = match value.as_table() {
                Some(table) => table.keys().collect(),
                None => vec![section],
            };
            for key in keys {
                let line = if key == "domain" { "[verify.domain.".into() } else { format!("#{key} = ") };
                assert!(SAMPLE.contains(&line), "the sample lacks {section}.{key}");
            }
        }
    }

    #[test]
    fn the_sample_as_it_ships_is_the_default() {
        assert_eq!(Config::parse(SAMPLE, Path::new("addrauth.toml")).unwrap(), Config::default());
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line() {
        let error = Config::parse("observe = true\nfinal_domain = [\"a.example\"]\n", Path::new("x.toml")).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("x.toml") && text.contains("final_domain") && text.contains("line 2"), "{text}");
    }

    #[test]
    fn a_wrong_place_to_listen_is_refused_with_the_right_spelling() {
        for wrong in ["8891", "inet:8891@localhost", "unix:relative", "tcp:127.0.0.1:1"] {
            let text = format!("[milter]\nlisten = [\"{wrong}\"]\n");
            let error = Config::parse(&text, Path::new("x.toml")).unwrap_err().to_string();
            assert!(error.contains("inet:127.0.0.1:8891"), "{error}");
        }
    }

    #[test]
    fn a_time_out_that_postfix_would_not_wait_for_is_refused() {
        let error = Config::parse("[verify]\ntimeout = \"25s\"\n", Path::new("x.toml")).unwrap_err();
        assert!(error.to_string().contains("20s"), "{error}");
    }
}
