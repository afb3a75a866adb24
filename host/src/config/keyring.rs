//! `[store]` and `[keyring]`: where keys are kept, and what is done with those of our own addresses.

use super::*;

/// `[store]`: where the AS's table and the keyring are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// A PostgreSQL database that several hosts share, as postgres://USER@HOST/DATABASE, without a password; empty: SQLite
    /// files in `state_dir`.
    pub url: String,
    /// A file that holds the password and nothing else; empty: none, or what ~/.pgpass says.
    pub password_file: PathBuf,
}

/// The mail for which keys are learned or stamped: that of all daemons of the MTA or of some, by their `{daemon_name}`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(untagged)]
pub enum Where {
    /// Mail of every daemon, or of none.
    All(bool),
    /// Mail that these daemons took: `milter_macro_daemon_name` in Postfix.
    Daemons(Vec<String>),
}

impl Where {
    /// Whether mail that this daemon took is among it.
    pub fn covers(&self, daemon: &str) -> bool {
        match self {
            Where::All(all) => *all,
            Where::Daemons(names) => names.iter().any(|name| name == daemon),
        }
    }

    /// Whether it is any mail at all.
    pub fn is_anywhere(&self) -> bool {
        match self {
            Where::All(all) => *all,
            Where::Daemons(names) => !names.is_empty(),
        }
    }
}

impl Keyring {
    /// Whether the settings fit together, and with the domains that are ours.
    pub(super) fn check(&self, final_domains: &[Domain]) -> Result<(), Error> {
        if (self.learn.is_anywhere() || self.stamp.is_anywhere()) && final_domains.is_empty() {
            return wrong(
                "keyring.learn and keyring.stamp need final_domains: which addresses are ours, and what stays inside and so \
                 gets no key",
            );
        }
        if self.fetch_from.is_empty() != self.fetch_token_file.as_os_str().is_empty() {
            return wrong(
                "keyring.fetch_from and keyring.fetch_token_file belong together: where keys are, and what opens the door",
            );
        }
        Ok(())
    }
}

impl Default for Where {
    fn default() -> Where {
        Where::All(false)
    }
}

/// `[keyring]`: what is done with the keys of our own addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Keyring {
    /// Record the new keys that the AS mails to our addresses: the MX's part. true, false, or names of the MTA's daemons.
    pub learn: Where,
    /// Put the newest key into mail that our logins send: the submission server's part. true, false, or names of daemons.
    pub stamp: Where,
    /// Deliver the mails that bring new keys, for clients that record them (Phase II); otherwise they end here (Phase I).
    pub deliver_key_mail: bool,
    /// The public half to which keys are sealed, as `addrauth keyring key` prints it; empty: that of the pair in `state_dir`,
    /// which is made where there is none.
    pub seal_to: String,
    /// The file of the secret half, for stamping alone; empty: `keyring.key` in systemd's credentials or in `state_dir`.
    pub secret_file: PathBuf,
    /// Which logins own which From addresses: tables in Postfix's spelling, those of `smtpd_sender_login_maps`. Empty: a
    /// login owns the address that it is.
    pub owners: Vec<String>,
    /// The domains that Postfix calls local, its `myorigin` and `mydestination`. A table's row of a bare user (`alice`)
    /// counts for addresses in these domains and for no others.
    pub local_domains: Vec<String>,
    /// The domain of a login without `@`; empty: such a login owns no address unless a table says so.
    pub login_domain: String,
    /// Fetch keys from the AS over TLS, at HOST:PORT, instead of learning them from mail; empty: no.
    pub fetch_from: String,
    /// The file that holds the token for that.
    pub fetch_token_file: PathBuf,
}

/// How new keys reach their addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Deliver {
    /// By mail to the address, with `X-New-Auth-Key`.
    #[default]
    Mail,
    /// Straight into the keyring, sealed to `keyring.seal_to`: where one administrator runs both sides.
    Keyring,
    /// By nobody: keys are made by hand alone.
    Nobody,
}

/// `[authority.tls]`: VERIFY over TLS beside UDP, on the same ports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// The file of the certificate chain, PEM; empty: no TLS.
    pub certificate: PathBuf,
    /// The file of its key, PEM.
    pub key: PathBuf,
}

impl Tls {
    /// Whether VERIFY is answered over TLS.
    pub fn is_on(&self) -> bool {
        !self.certificate.as_os_str().is_empty()
    }
}
