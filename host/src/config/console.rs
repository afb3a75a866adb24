//! `[console]`: where browsers connect, which proxy is believed, and what is mailed.

use super::*;

/// `[console]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Console {
    /// Where to listen, as in `[milter]`; TCP on loopback addresses alone. Others reach it through a proxy that has a certificate.
    pub listen: Vec<Listen>,
    /// Unix sockets of a reverse proxy that says who the user is, in `user_header`, and where he connects from, last in
    /// `X-Forwarded-For`. Whoever may connect there may be anybody.
    pub trusted_proxy: Vec<Listen>,
    /// The field in which the proxy names an account, or an address of `final_domains`. It is believed at `trusted_proxy` alone.
    pub user_header: String,
    /// The group of the unix sockets; empty: the process's own. Their mode is always 0660.
    pub group: String,
    /// Where browsers find it, such as "https://mail.example.com": it begins the links that are mailed. Empty: none are.
    pub url: String,
    /// Users may ask for a link by mail that lets them in.
    pub mail_links: bool,
    /// How often a user is mailed what is newly kept back for him, with links that release it; zero: never.
    #[serde(with = "span")]
    pub digest: Duration,
}

impl Default for Console {
    fn default() -> Console {
        Console {
            listen: vec![Listen::Inet(std::net::SocketAddr::from(([127, 0, 0, 1], 8894)))],
            trusted_proxy: Vec::new(),
            user_header: "X-Remote-User".into(),
            group: String::new(),
            url: String::new(),
            mail_links: true,
            digest: Duration::ZERO,
        }
    }
}

impl Console {
    /// Whether users can ask for a link by mail.
    pub fn mails_links(&self) -> bool {
        self.mail_links && !self.url.is_empty()
    }

    /// Whether the settings fit together.
    pub(super) fn check(&self) -> Result<(), Error> {
        let beyond = |place: &&Listen| matches!(place, Listen::Inet(at) if !at.ip().to_canonical().is_loopback());
        if let Some(place) = self.listen.iter().find(beyond) {
            return wrong(format!(
                "console.listen has {place}, which others can reach, and passwords would cross the network in clear: listen on \
                 inet:127.0.0.1:8894 or a unix socket, and put a web server with a certificate before it"
            ));
        }
        if let Some(place) = self.trusted_proxy.iter().find(|place| !matches!(place, Listen::Unix(_))) {
            return wrong(format!(
                "console.trusted_proxy has {place}: write a unix socket. Whoever connects there may say who he is"
            ));
        }
        let is_token = |text: &str| text.bytes().all(|o| o.is_ascii_alphanumeric() || o == b'-');
        if !self.trusted_proxy.is_empty() && (self.user_header.is_empty() || !is_token(&self.user_header)) {
            return wrong(format!("console.user_header = {:?} is no field's name", self.user_header));
        }
        let host = ["https://", "http://"].into_iter().find_map(|begin| self.url.strip_prefix(begin));
        let is_host =
            |host: &str| !host.is_empty() && host.bytes().all(|o| o.is_ascii_alphanumeric() || b".-:[]".contains(&o));
        if !self.url.is_empty() && !host.is_some_and(is_host) {
            return wrong(format!(
                "console.url = {:?}: write where browsers find the console, without a path, such as \
                 \"https://mail.example.com\"",
                self.url
            ));
        }
        if !self.digest.is_zero() && self.url.is_empty() {
            return wrong("console.digest needs console.url: its mails hold links");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_listens_where_nobody_else_reads_passwords_and_believes_only_a_socket() {
        let parse = |text: &str| Config::parse(&format!("[console]\n{text}"), "x".as_ref());
        assert!(!parse("").unwrap().console.mails_links());
        assert!(parse("url = \"https://mail.example.com\"").unwrap().console.mails_links());
        for (text, good) in [
            ("listen = [\"inet:[::1]:80\", \"unix:/run/console\"]", true),
            ("listen = [\"inet:0.0.0.0:80\"]", false),
            ("listen = [\"inet:192.0.2.1:80\"]", false),
            ("trusted_proxy = [\"unix:/run/proxy\"]", true),
            ("trusted_proxy = [\"inet:127.0.0.1:80\"]", false),
            ("trusted_proxy = [\"unix:/run/proxy\"]\nuser_header = \"\"", false),
            ("trusted_proxy = [\"unix:/run/proxy\"]\nuser_header = \"X: y\"", false),
            ("url = \"https://mail.example.com:8443\"", true),
            ("url = \"http://[::1]:8894\"", true),
            ("url = \"mail.example.com\"", false),
            ("url = \"https://\"", false),
            ("url = \"https://mail.example.com/a\\r\\nx\"", false),
            ("digest = \"1d\"", false),
            ("digest = \"1d\"\nurl = \"https://mail.example.com\"", true),
        ] {
            assert_eq!(parse(text).is_ok(), good, "{text}");
        }
    }
}
