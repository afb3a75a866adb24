//! The Authentication Server that answered, and the way the answer took.

use std::fmt;

/// The AS that answered. [`Display`](fmt::Display) writes it as `as.example.com:4410`, with ` over TLS` behind it where the
/// answer came that way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Answerer {
    /// The AS as host:port.
    pub authority: String,
    /// Whether the answer came over TLS, and not over UDP.
    pub over_tls: bool,
}

impl Answerer {
    /// An AS, as host:port, that answered over UDP.
    pub fn over_udp(authority: impl Into<String>) -> Answerer {
        Answerer { authority: authority.into(), over_tls: false }
    }
}

impl fmt::Display for Answerer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.authority)?;
        f.write_str(if self.over_tls { " over TLS" } else { "" })
    }
}
