//! `[verify]`: DNS and VERIFY.

use std::net::SocketAddr;

use super::*;

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
    /// Networks, as ADDRESS/PREFIX, whose addresses may be asked although they are internal: for an AS of one's own that DNS
    /// leads to. Any domain can lead a question there by its `AS=` record, so keep them narrow.
    #[serde(with = "networks")]
    pub allow_targets: Vec<IpNet>,
    /// A PEM file of root certificates that are trusted beside the system's, for servers asked over TLS; empty: none.
    pub tls_roots: PathBuf,
    /// Fixed endpoints per domain, asked over UDP alone and exempt from the guard against internal addresses.
    #[serde(deserialize_with = "spelt::verify_domain")]
    pub domain: BTreeMap<Domain, FixedAs>,
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

/// `[verify.domain."example.com"]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FixedAs {
    /// The domain's AS as ADDRESS:PORT.
    #[serde(rename = "as")]
    pub endpoint: SocketAddr,
}

impl Verify {
    /// Whether the settings can be kept.
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.timeout > Duration::from_secs(20) || self.timeout < Duration::from_millis(100) {
            return wrong("verify.timeout must be between 100ms and 20s: Postfix waits 30 s for a milter");
        }
        Ok(())
    }
}
