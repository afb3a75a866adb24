//! `[metrics]`: where figures and the state of a daemon are to be had over HTTP.

use super::*;

/// `[metrics]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// Where to listen, as in `[milter]`: unix sockets, and places of loopback, since nobody shows a password; empty: nowhere.
    pub listen: Vec<Listen>,
    /// The group of a unix socket; empty: the process's own. Its mode is always 0660.
    pub group: String,
}

impl Metrics {
    /// Whether nobody but this host reaches it.
    pub(super) fn check(&self) -> Result<(), Error> {
        let beyond =
            |place: &&Listen| matches!(place, Listen::Inet(address) if !address.ip().to_canonical().is_loopback());
        match self.listen.iter().find(beyond) {
            Some(place) => wrong(format!(
                "metrics.listen has {place}, which others can reach, and asks nobody for a password: name a place of loopback \
                 or a unix socket, and have a web server with TLS and logins before it"
            )),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_told_to_this_host_alone_and_to_nobody_by_default() {
        let parse = |listen: &str| Config::parse(&format!("[metrics]\nlisten = [\"{listen}\"]"), "x".as_ref());
        assert_eq!(Config::default().metrics.listen, []);
        for place in ["inet:127.0.0.1:9464", "inet:[::1]:9464", "inet:[::ffff:127.0.0.1]:9464", "unix:/run/metrics"] {
            assert!(parse(place).is_ok(), "{place}");
        }
        for place in ["inet:0.0.0.0:9464", "inet:[::]:9464", "inet:192.0.2.1:9464"] {
            assert!(parse(place).unwrap_err().to_string().contains("metrics.listen"), "{place}");
        }
    }
}
