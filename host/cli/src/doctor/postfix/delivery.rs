//! Whether Postfix brings mail to the LMTP door, and says who brought it.

use super::Setup;
use crate::doctor::Report;
use addrauth::config::{Config, Listen};

/// The parameters that name where mail for mailboxes goes.
const TRANSPORTS: [&str; 4] = ["virtual_transport", "mailbox_transport", "local_transport", "relay_transport"];

/// Looks at the parameters, where the configuration opens such a door.
pub(super) fn judge(setup: &Setup, config: &Config, report: &mut Report) {
    if config.lmtp.listen.is_empty() {
        return;
    }
    let names = |name: &&&str| config.lmtp.listen.iter().any(|place| is_at(setup.of(name), place));
    match TRANSPORTS.iter().find(names) {
        Some(name) => report.good(&format!("Postfix {name}"), "names our LMTP door"),
        None if setup.of("transport_maps").is_empty() => report.warn(
            "Postfix virtual_transport",
            "no transport names our LMTP door: mail for mailboxes does not come to it, see host/doc/lmtp.md",
        ),
        None => report.unknown(
            "Postfix transport_maps",
            "no other transport names our LMTP door, and whether these do is not looked at",
        ),
    }
    let about = "Postfix lmtp_send_xforward_command";
    match setup.of("lmtp_send_xforward_command") {
        "yes" => report.good(about, "yes: Postfix tells of the client, and its queue id"),
        _ => report.warn(
            about,
            "is not yes: trusted_hops, trusted_relays and trusted_submitters match nothing, and the journal has no queue ids",
        ),
    }
}

/// Whether a transport leads to this place: `lmtp:inet:127.0.0.1:2424`, `lmtp:unix:addrauth/lmtp`.
fn is_at(transport: &str, place: &Listen) -> bool {
    let Some((_, next)) = transport.split_once(':') else { return false };
    match place {
        Listen::Inet(address) => {
            let port = next.rsplit(':').next().is_some_and(|port| port == address.port().to_string());
            port && !next.starts_with("unix:")
        }
        // Postfix gives the path from its queue directory on.
        Listen::Unix(path) => {
            next.strip_prefix("unix:").is_some_and(|next| path.ends_with(next.trim_start_matches('/')))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(listen: &str, main: &str) -> String {
        let text = format!("[lmtp]\nlisten = [{listen:?}]\nnext = \"unix:/run/agent\"");
        let config = Config::parse(&text, "filter.toml".as_ref()).unwrap();
        let mut report = Report::default();
        judge(&Setup::parse(main, "", ""), &config, &mut report);
        report.text()
    }

    #[test]
    fn a_transport_that_leads_here_is_known_in_either_spelling() {
        let unix = "unix:/var/spool/postfix/addrauth/lmtp";
        for (listen, main, good) in [
            (unix, "virtual_transport = lmtp:unix:addrauth/lmtp", "2 ok"),
            ("inet:127.0.0.1:2424", "mailbox_transport = lmtp:inet:localhost:2424", "2 ok"),
            ("inet:127.0.0.1:2424", "mailbox_transport = lmtp:[127.0.0.1]:2424", "2 ok"),
            (unix, "virtual_transport = lmtp:unix:private/dovecot-lmtp", "1 ok"),
            (unix, "virtual_transport = virtual", "1 ok"),
        ] {
            let told = told(listen, &format!("{main}\nlmtp_send_xforward_command = yes\n"));
            assert!(told.contains(good), "{told}");
        }
        let told = told(unix, "transport_maps = hash:/etc/postfix/transport\nlmtp_send_xforward_command = no\n");
        assert!(told.contains("0 wrong, 1 warnings, 1 could not be told"), "{told}");
    }
}
