//! A list of milters in Postfix's spelling, and whether one of them is ours.

use std::net::IpAddr;
use std::path::Path;

use addrauth::config::Listen;

/// One milter of a list, with the options of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Milter {
    /// As it stands: `inet:127.0.0.1:8891`, `unix:addrauth/milter`.
    pub(super) place: String,
    pub(super) options: Vec<(String, String)>,
}

/// The milters of a list, in their order: `a, { b, name=value }`.
pub(super) fn list(text: &str) -> Vec<Milter> {
    let read = |item: String| {
        let mut inner = match item.strip_prefix('{') {
            Some(rest) => items(rest.strip_suffix('}').unwrap_or(rest)).into_iter(),
            None => vec![item].into_iter(),
        };
        let place = inner.next()?;
        let option = |item: String| {
            let item = item.trim_start_matches('{').trim_end_matches('}');
            item.split_once('=').map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
        };
        Some(Milter { place, options: inner.filter_map(option).collect() })
    };
    items(text).into_iter().filter_map(read).collect()
}

/// The items of a list, divided by commas and blanks, with what stands in braces left whole.
pub(super) fn items(text: &str) -> Vec<String> {
    let (mut found, mut depth) = (vec![String::new()], 0_u32);
    for c in text.chars() {
        match c {
            '{' => depth = depth.saturating_add(1),
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 && (c == ',' || c.is_ascii_whitespace()) {
            found.push(String::new());
        } else if let Some(last) = found.last_mut() {
            last.push(c);
        }
    }
    found.retain(|item| !item.is_empty());
    found
}

impl Milter {
    pub(super) fn option(&self, name: &str) -> Option<&str> {
        self.options.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether this names our place, for an smtpd with this queue directory that runs in its chroot or not.
    pub(super) fn is_at(&self, listen: &Listen, queue: &Path, chrooted: bool) -> bool {
        match listen {
            Listen::Inet(address) => {
                let Some((host, port)) = self.place.strip_prefix("inet:").and_then(|rest| rest.rsplit_once(':')) else {
                    return false;
                };
                let (ip, any) = (address.ip(), address.ip().is_unspecified());
                let host = host.trim_start_matches('[').trim_end_matches(']');
                let same = match host.parse::<IpAddr>() {
                    Ok(named) => named == ip || any,
                    Err(_) => any || (host == "localhost" && ip.is_loopback()),
                };
                same && port.parse() == Ok(address.port())
            }
            Listen::Unix(path) => {
                let Some(named) = self.place.strip_prefix("unix:").or_else(|| self.place.strip_prefix("local:")) else {
                    return false;
                };
                let inside = chrooted || !named.starts_with('/');
                let named = if inside { queue.join(named.trim_start_matches('/')) } else { named.into() };
                named == *path
            }
        }
    }

    /// The name of a milter that writes Authentication-Results, where the place gives it away.
    pub(super) fn known(&self) -> Option<&'static str> {
        let named = ["opendkim", "opendmarc", "rspamd", "dkimpy", "spf"];
        let ports = [(":8891", "opendkim"), (":8893", "opendmarc"), (":11332", "rspamd")];
        let by_name = named.into_iter().find(|name| self.place.contains(name));
        by_name.or_else(|| ports.into_iter().find(|(port, _)| self.place.ends_with(port)).map(|(_, name)| name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_with_and_without_braces() {
        let text = "inet:localhost:11332, { unix:addrauth/milter, default_action=tempfail,\
                    { content_timeout = 40s } }\tunix:/x";
        let found = list(text);
        let places: Vec<_> = found.iter().map(|milter| milter.place.as_str()).collect();
        assert_eq!(places, ["inet:localhost:11332", "unix:addrauth/milter", "unix:/x"]);
        assert_eq!(found[1].option("default_action"), Some("tempfail"));
        assert_eq!(found[1].option("content_timeout"), Some("40s"));
        assert_eq!(found[0].option("default_action"), None);
        assert!(list("").is_empty() && list(" , {}").is_empty());
        assert_eq!(list("{ a, { b").len(), 1);
    }

    #[test]
    fn our_place_is_known_in_every_spelling() {
        let queue = Path::new("/q");
        for (listen, place, chrooted, ours) in [
            ("inet:127.0.0.1:8891", "inet:127.0.0.1:8891", true, true),
            ("inet:127.0.0.1:8891", "inet:localhost:8891", false, true),
            ("inet:[::1]:8891", "inet:[::1]:8891", false, true),
            ("inet:0.0.0.0:8891", "inet:mx.example.com:8891", false, true),
            ("inet:127.0.0.1:8891", "inet:127.0.0.1:8892", false, false),
            ("inet:127.0.0.1:8891", "inet:10.0.0.1:8891", false, false),
            ("inet:127.0.0.1:8891", "unix:/q/m", false, false),
            ("unix:/q/a/m", "unix:a/m", false, true),
            ("unix:/q/a/m", "unix:a/m", true, true),
            ("unix:/q/a/m", "unix:/q/a/m", false, true),
            ("unix:/q/a/m", "unix:/q/a/m", true, false),
            ("unix:/q/a/m", "unix:/a/m", true, true),
            ("unix:/run/m", "unix:/run/m", true, false),
            ("unix:/run/m", "inet:127.0.0.1:1", false, false),
        ] {
            let milter = Milter { place: place.into(), options: Vec::new() };
            assert_eq!(milter.is_at(&listen.parse().unwrap(), queue, chrooted), ours, "{listen} {place} {chrooted}");
        }
    }

    #[test]
    fn well_known_milters_are_known_by_name_or_port() {
        let known = |place: &str| Milter { place: place.into(), options: Vec::new() }.known();
        assert_eq!(known("unix:opendkim/opendkim.sock"), Some("opendkim"));
        assert_eq!(known("inet:localhost:11332"), Some("rspamd"));
        assert_eq!(known("inet:localhost:113320"), None);
    }
}
