//! `[authority]`: the AS role.

use std::net::SocketAddr;

use super::notices::sender_address;
use super::*;

/// `[authority]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Authority {
    /// The domains that this AS answers for.
    #[serde(deserialize_with = "spelt::authority_domains")]
    pub domains: Vec<Domain>,
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
    /// The From address of the mails that bring keys; empty: that of notices.
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

impl Authority {
    /// Whether the settings fit together.
    pub(super) fn check(&self) -> Result<(), Error> {
        let tls = &self.tls;
        if tls.certificate.as_os_str().is_empty() != tls.key.as_os_str().is_empty() {
            return wrong("authority.tls needs both certificate and key, or neither: without them VERIFY is UDP only");
        }
        if self.hands_out() && !tls.is_on() {
            return wrong("authority.fetch_token_file needs [authority.tls]: keys are handed out over TLS alone");
        }
        if self.agi.saturating_add(self.avt) < Duration::from_secs(1) {
            return wrong("authority.agi and authority.avt are both zero: a key would end as it is made");
        }
        self.from().map(|_| ())
    }

    /// The From address of the mails that bring keys, where one is set.
    ///
    /// # Errors
    /// What is set is no address.
    pub fn from(&self) -> Result<Option<Address>, Error> {
        sender_address("authority.from", &self.from, "keys@example.com")
    }

    /// Whether keys may be fetched from this AS.
    fn hands_out(&self) -> bool {
        !self.fetch_token_file.as_os_str().is_empty()
    }
}

/// What `[authority]` allows and yet cannot work, works on one host alone, or loses mail or keys.
pub(super) fn warnings(config: &Config) -> Vec<Warning> {
    let (authority, keyring) = (&config.authority, &config.keyring);
    if authority.domains.is_empty() {
        return Vec::new();
    }
    let mut warnings = Vec::new();
    if authority.avt < Limits::default().authority.avt_advised {
        warnings.push(Warning::ShortAvt);
    }
    let (shared, straight) = (!config.store.url.is_empty(), authority.deliver == Deliver::Keyring);
    if authority.hands_out() && !straight && !shared && !keyring.learn.is_anywhere() {
        warnings.push(Warning::NothingToFetch);
    }
    if straight && !authority.hands_out() && !shared && !keyring.stamp.is_anywhere() {
        warnings.push(Warning::KeyringOfOneHost { state_dir: config.state_dir.0.clone() });
    }
    let is_here = |host: &str| host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    let goes_out = config.notices.server().is_ok_and(|(host, _)| !is_here(host));
    if authority.deliver == Deliver::Mail && goes_out {
        warnings.push(Warning::KeysInClear { via: config.notices.notify_via.clone() });
    }
    warnings
}
