//! `[notices]`: notices to recipients, reports to senders.

use super::*;

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

impl Notices {
    /// Whether the settings can be used.
    pub(super) fn check(&self) -> Result<(), Error> {
        self.server()?;
        self.from().map(|_| ())
    }

    /// Host and port of `notify_via`; the host without brackets.
    ///
    /// # Errors
    /// It names no server.
    pub fn server(&self) -> Result<(&str, u16), Error> {
        let via = self.notify_via.as_str();
        let server = via.rsplit_once(':').and_then(|(host, port)| {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            let port = port.parse().ok().filter(|port| *port != 0)?;
            (!host.is_empty()).then_some((host, port))
        });
        server.ok_or_else(|| {
            Error::Meaning(format!("notices.notify_via = {via:?} is no server: write HOST:PORT, such as 127.0.0.1:25"))
        })
    }

    /// The From address of notices, where one is set.
    ///
    /// # Errors
    /// What is set is no address.
    pub fn from(&self) -> Result<Option<Address>, Error> {
        sender_address("notices.from", &self.from, "postmaster@example.com")
    }
}

/// The address that a setting holds, where it is set.
pub(super) fn sender_address(setting: &str, text: &str, example: &str) -> Result<Option<Address>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = |_| {
        Error::Meaning(format!("{setting} = {text:?} is no address: write one such as {example:?}, or leave it empty"))
    };
    Address::parse(text.as_bytes(), false).map(Some).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_host_and_a_port() {
        for (via, server) in [
            ("127.0.0.1:25", Some(("127.0.0.1", 25))),
            ("[::1]:2525", Some(("::1", 2525))),
            ("mx.example.com:25", Some(("mx.example.com", 25))),
            ("mx.example.com", None),
            ("127.0.0.1:0", None),
            ("127.0.0.1:smtp", None),
            (":25", None),
            ("", None),
        ] {
            let notices = Notices { notify_via: via.into(), ..Notices::default() };
            assert_eq!(notices.server().ok(), server, "{via}");
            assert_eq!(notices.check().is_ok(), server.is_some(), "{via}");
        }
    }

    #[test]
    fn a_from_address_is_none_or_a_good_one() {
        for (from, good) in [("", true), ("root@example.com", true), ("root", false), ("a@b@c", false)] {
            let notices = Notices { from: from.into(), ..Notices::default() };
            assert_eq!(notices.check().is_ok(), good, "{from}");
        }
    }
}
