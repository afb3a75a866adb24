//! What a configuration allows and probably does not mean. `config check`, `doctor` and both daemons tell the same.

use std::fmt;
use std::path::PathBuf;

use super::{Config, Listen, authority};
use crate::proto::address::{Domain, Mailbox, is_host_name};

/// Something that is allowed and probably not meant. [`Display`](fmt::Display) says it in an administrator's words.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// The host name is no full name, so others do not know this host by it.
    HostName {
        /// The name.
        name: String,
        /// Whether it is the system's, since the file sets none.
        assumed: bool,
    },
    /// `final_domains` is empty.
    NoFinalDomains,
    /// No door listens.
    NoDoor,
    /// A place of `hooks.listen` that other hosts may reach, without TLS.
    HooksInClear(Listen),
    /// A setting that mail from Stalwart's hooks is treated without.
    NotForStalwart(&'static str),
    /// `observe` is true.
    Observing,
    /// `authority.avt` is shorter than mail may wait in queues.
    ShortAvt,
    /// Keys may be fetched from a keyring that stays empty.
    NothingToFetch,
    /// New keys go into a keyring that other hosts cannot read, and this host does not stamp.
    KeyringOfOneHost {
        /// The directory of the keyring.
        state_dir: PathBuf,
    },
    /// New keys go over the network in plain SMTP.
    KeysInClear {
        /// `notices.notify_via`.
        via: String,
    },
    /// A line of `policy.domain` for a domain that is not in `final_domains`.
    ForeignDomain(Domain),
    /// A line of `policy.recipient` for an address whose domain is not in `final_domains`.
    ForeignRecipient(Mailbox),
}

/// The daemons that a warning concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concern {
    /// Filter and Authentication Server.
    Both,
    /// The filter.
    Filter,
    /// The Authentication Server.
    Authority,
}

impl Warning {
    /// The daemons that it concerns.
    pub fn concerns(&self) -> Concern {
        match self {
            Warning::HostName { .. } => Concern::Both,
            Warning::NoFinalDomains
            | Warning::NoDoor
            | Warning::HooksInClear(_)
            | Warning::NotForStalwart(_)
            | Warning::Observing
            | Warning::ForeignDomain(_)
            | Warning::ForeignRecipient(_) => Concern::Filter,
            Warning::ShortAvt
            | Warning::NothingToFetch
            | Warning::KeyringOfOneHost { .. }
            | Warning::KeysInClear { .. } => Concern::Authority,
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = "set hostname to this server's full name, such as \"mx.example.com\"";
        match self {
            Warning::HostName { name, assumed: true } => write!(
                f,
                "hostname is not set, and the system's, {name:?}, is no full name: where the mail server tells its own, that \
                 stands in by= and in notices; {way}"
            ),
            Warning::HostName { name, assumed: false } => {
                write!(f, "hostname = {name:?} is no full name, and stands in by= and in notices: {way}")
            }
            Warning::NoFinalDomains => f.write_str("final_domains is empty: the filter examines and changes nothing"),
            Warning::NoDoor => f.write_str("milter.listen, hooks.listen and lmtp.listen are empty: no mail server can connect"),
            Warning::HooksInClear(place) => write!(
                f,
                "hooks.listen has {place} without TLS, so mail, keys and credentials cross the network in clear: set hooks.tls"
            ),
            Warning::NotForStalwart(setting) => write!(
                f,
                "{setting} is not for mail that comes to the path /stalwart: Stalwart keeps no mail on hold, files nothing into \
                 folders for a hook, and shows no Authentication-Results of its own"
            ),
            Warning::Observing => f.write_str("observe = true: policies decide, and only the status field tells of it"),
            Warning::ShortAvt => {
                f.write_str("authority.avt is below 5d, the time that mail may wait in queues: late mail will fail")
            }
            Warning::NothingToFetch => f.write_str(
                "authority.fetch_token_file is set, and nothing fills the keyring that is handed out, so there will be no key \
                 to fetch: set authority.deliver = \"keyring\"",
            ),
            Warning::KeyringOfOneHost { state_dir } => write!(
                f,
                "authority.deliver = \"keyring\" fills keyring.db in {} on this host alone: the filter that stamps must run \
                 here with the same state_dir, or have the keys by store.url or authority.fetch_token_file",
                state_dir.display()
            ),
            Warning::KeysInClear { via } => write!(
                f,
                "notices.notify_via = {via:?} is another host, and new keys go there in plain SMTP: let an MTA on this host \
                 take them, and send them on over TLS"
            ),
            Warning::ForeignDomain(domain) => write!(
                f,
                "policy.domain.{domain:?}: the domain is not in final_domains, so its mail is not examined"
            ),
            Warning::ForeignRecipient(recipient) => write!(
                f,
                "policy.recipient.{:?}: the domain is not in final_domains, so its mail is not examined",
                recipient.as_str()
            ),
        }
    }
}

impl Config {
    /// All that this configuration allows and probably does not mean. What only the loaded components show is in
    /// `Policies::warnings`.
    pub fn warnings(&self) -> Vec<Warning> {
        let mut warnings = Vec::new();
        if !is_host_name(&self.hostname) {
            warnings.push(Warning::HostName { name: self.hostname.clone(), assumed: self.hostname_assumed });
        }
        for (is_so, warning) in [
            (self.final_domains.is_empty(), Warning::NoFinalDomains),
            (self.milter.listen.is_empty() && !self.hooks.is_open() && self.lmtp.listen.is_empty(), Warning::NoDoor),
            (self.observe.0, Warning::Observing),
        ] {
            warnings.extend(is_so.then_some(warning));
        }
        warnings.extend(self.hooks.warnings(self));
        warnings.extend(authority::warnings(self));
        warnings.extend(self.policy.warnings(&self.final_domains));
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Deliver;

    fn of_authority(text: &str) -> Vec<Warning> {
        let head = "final_domains = [\"example.com\"]\n";
        let tls = "tls = { certificate = \"/c\", key = \"/k\" }\ndomains = [\"example.com\"]";
        let config = Config::parse(&format!("{head}[authority]\n{tls}\n{text}"), "x".as_ref()).unwrap();
        authority::warnings(&config)
    }

    #[test]
    fn a_keyring_that_nobody_fills_or_that_stays_on_one_host_is_warned_of() {
        let here = || Warning::KeyringOfOneHost { state_dir: "/var/lib/addrauth".into() };
        for (text, warning) in [
            ("fetch_token_file = \"/t\"", Some(Warning::NothingToFetch)),
            ("fetch_token_file = \"/t\"\ndeliver = \"nobody\"", Some(Warning::NothingToFetch)),
            ("fetch_token_file = \"/t\"\ndeliver = \"keyring\"", None),
            ("fetch_token_file = \"/t\"\n[keyring]\nlearn = true", None),
            ("fetch_token_file = \"/t\"\n[store]\nurl = \"postgres:///a\"", None),
            ("deliver = \"keyring\"", Some(here())),
            ("deliver = \"keyring\"\n[keyring]\nstamp = true", None),
            ("deliver = \"keyring\"\n[store]\nurl = \"postgres:///a\"", None),
            ("avt = \"4d\"", Some(Warning::ShortAvt)),
            ("", None),
        ] {
            assert_eq!(of_authority(text), Vec::from_iter(warning), "{text}");
        }
        assert!(authority::warnings(&Config::default()).is_empty());
    }

    #[test]
    fn keys_that_cross_the_network_in_clear_are_warned_of() {
        let mut config = Config::default();
        config.authority.domains = vec!["example.com".parse().unwrap()];
        for (via, warns) in [
            ("127.0.0.1:25", false),
            ("[::1]:25", false),
            ("localhost:25", false),
            ("mx.example.com:25", true),
            ("192.0.2.1:25", true),
        ] {
            config.notices.notify_via = via.into();
            let told = Warning::KeysInClear { via: via.into() };
            assert_eq!(authority::warnings(&config), Vec::from_iter(warns.then_some(told)), "{via}");
        }
        config.authority.deliver = Deliver::Nobody;
        assert_eq!(authority::warnings(&config), []);
    }

    #[test]
    fn each_warning_is_told_once_and_concerns_somebody() {
        let text = "hostname = \"mx\"\nfinal_domains = [\"example.com\"]\n[milter]\nlisten = []\n\
            [policy.domain.\"other.example\"]\nvalid = \"accept\"\n[policy.recipient.\"bob@other.example\"]\nvalid = \"accept\"";
        let told = Config::parse(text, "x".as_ref()).unwrap().warnings();
        let expected = [
            Warning::HostName { name: "mx".into(), assumed: false },
            Warning::NoDoor,
            Warning::Observing,
            Warning::ForeignDomain("other.example".parse().unwrap()),
            Warning::ForeignRecipient(Mailbox::parse("bob@other.example").unwrap()),
        ];
        assert_eq!(told, expected);
        assert!(told[1..].iter().all(|warning| warning.concerns() == Concern::Filter));
    }
}
