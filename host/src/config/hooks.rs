//! `[hooks]`: where mail servers that speak MTA Hooks connect, and what they show.

use super::*;

/// `[hooks]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Hooks {
    /// Where to listen, as in `[milter]`; empty: nowhere.
    pub listen: Vec<Listen>,
    /// The group of a unix socket; empty: the process's own. Its mode is always 0660.
    pub group: String,
    /// The dialects that are spoken, each under its own path.
    pub dialects: Vec<Dialect>,
    /// Files with one token each. A mail server shows one of them as `Authorization: Bearer`.
    pub tokens: Vec<PathBuf>,
    /// Files with one `USER:PASSWORD` each. A mail server shows one of them as `Authorization: Basic`.
    pub basic: Vec<PathBuf>,
    /// HTTPS.
    pub tls: Tls,
}

/// A dialect of MTA Hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Dialect {
    /// What Stalwart speaks, JSON: path `/stalwart`.
    Stalwart,
    /// draft-degennaro-mta-hooks-01, JSON and CBOR: paths below `/draft-01`.
    #[serde(rename = "draft-01")]
    Draft01,
}

impl Default for Hooks {
    fn default() -> Hooks {
        Hooks {
            listen: Vec::new(),
            group: String::new(),
            dialects: vec![Dialect::Stalwart, Dialect::Draft01],
            tokens: Vec::new(),
            basic: Vec::new(),
            tls: Tls::default(),
        }
    }
}

impl Hooks {
    /// Whether it listens anywhere.
    pub fn is_open(&self) -> bool {
        !self.listen.is_empty()
    }

    /// Whether this dialect is spoken.
    pub fn speaks(&self, dialect: Dialect) -> bool {
        self.dialects.contains(&dialect)
    }

    /// Whether the settings fit together.
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.tls.certificate.as_os_str().is_empty() != self.tls.key.as_os_str().is_empty() {
            return wrong("hooks.tls needs both certificate and key, or neither");
        }
        if self.is_open() && self.dialects.is_empty() {
            return wrong("hooks.dialects is empty: write \"stalwart\", \"draft-01\" or both");
        }
        let anybody = self.tokens.is_empty() && self.basic.is_empty();
        match self.beyond_loopback().filter(|_| anybody) {
            Some(place) => wrong(format!(
                "hooks.listen has {place}, which others can reach, so hooks.tokens or hooks.basic has to name a file: anybody who \
                 can connect could otherwise say which login sent a message"
            )),
            None => Ok(()),
        }
    }

    /// The first place that other hosts may reach.
    fn beyond_loopback(&self) -> Option<&Listen> {
        self.listen
            .iter()
            .find(|place| matches!(place, Listen::Inet(address) if !address.ip().to_canonical().is_loopback()))
    }

    /// What is allowed and probably not meant.
    pub(super) fn warnings(&self, config: &Config) -> Vec<Warning> {
        if !self.is_open() {
            return Vec::new();
        }
        let mut warnings = Vec::new();
        if let Some(place) = self.beyond_loopback().filter(|_| !self.tls.is_on()) {
            warnings.push(Warning::HooksInClear(place.clone()));
        }
        let stalwart = self.speaks(Dialect::Stalwart);
        for (is_set, setting) in [
            (config.policy.quarantine == QuarantineIn::Mta, "policy.quarantine = \"mta\""),
            (!config.policy.spam_folder.is_empty(), "policy.spam_folder"),
            (!config.trusted_authserv_ids.is_empty(), "trusted_authserv_ids"),
        ] {
            warnings.extend((stalwart && is_set).then_some(Warning::NotForStalwart(setting)));
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, Error> {
        Config::parse(
            &format!("hostname = \"mx.example.com\"\nfinal_domains = [\"example.com\"]\n{text}"),
            "x".as_ref(),
        )
    }

    #[test]
    fn the_door_is_shut_by_default_and_opens_to_others_only_with_credentials() {
        assert!(!parse("").unwrap().hooks.is_open());
        for (text, good) in [
            ("[hooks]\nlisten = [\"inet:127.0.0.1:8893\", \"inet:[::1]:8893\", \"unix:/run/hooks\"]", true),
            ("[hooks]\nlisten = [\"inet:0.0.0.0:8893\"]", false),
            ("[hooks]\nlisten = [\"inet:[::]:8893\"]", false),
            ("[hooks]\nlisten = [\"inet:192.0.2.1:8893\"]\ntokens = [\"/t\"]", true),
            ("[hooks]\nlisten = [\"inet:192.0.2.1:8893\"]\nbasic = [\"/b\"]", true),
            ("[hooks]\nlisten = [\"inet:127.0.0.1:8893\"]\ndialects = []", false),
            ("[hooks]\ntls = { certificate = \"/c\" }", false),
            ("[hooks]\ndialects = [\"draft-02\"]", false),
        ] {
            assert_eq!(parse(text).is_ok(), good, "{text}");
        }
    }

    #[test]
    fn what_stalwart_cannot_do_and_what_others_can_read_is_warned_of() {
        let open = "[hooks]\nlisten = [\"inet:192.0.2.1:8893\"]\ntokens = [\"/t\"]\n";
        let told = |text: &str| parse(text).unwrap().warnings();
        let of_hooks = |warning: &Warning| matches!(warning, Warning::HooksInClear(_) | Warning::NotForStalwart(_));
        let count = |text: &str| told(text).iter().filter(|warning| of_hooks(warning)).count();
        assert_eq!(count(open), 1);
        assert_eq!(count(&format!("{open}tls = {{ certificate = \"/c\", key = \"/k\" }}")), 0);
        let settings = "trusted_authserv_ids = [\"mx\"]\npolicy = { quarantine = \"mta\", spam_folder = \"+Junk\" }\n";
        assert_eq!(count(&format!("{settings}{open}")), 4);
        assert_eq!(count(&format!("{settings}{open}dialects = [\"draft-01\"]")), 1);
        assert_eq!(count(settings), 0);
    }
}
