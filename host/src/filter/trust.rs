//! Whom we believe: submitters without a login, servers that examined the mail already, relays that must not bounce.

use crate::case::{Client, Mail};
use crate::config::Config;
use crate::proto::address::Address;
use crate::proto::header::STATUS_FIELD;
use crate::verify;
use ipnet::IpNet;

/// The sender address, where the client may send for us without a login and this address is among its own
/// (`trusted_submitters`); with another From its mail is anybody's. Who logs in is asked about by his login alone.
pub(super) fn submitter(config: &Config, mail: &Mail) -> Option<Address> {
    if mail.login.is_some() {
        return None;
    }
    let ip = mail.client.ip?.to_canonical();
    let mut own =
        config.trusted_submitters.iter().filter(|(client, _)| client.to_canonical() == ip).flat_map(|(_, own)| own);
    let sender = verify::sender(mail).ok()?;
    let is_sender = |own: &String| Address::parse(own.as_bytes(), true).is_ok_and(|own| same_mailbox(&own, &sender));
    own.any(is_sender).then_some(sender)
}

/// The addresses for which this client may send without a login.
pub(super) fn own_addresses<'a>(config: &'a Config, mail: &Mail) -> Vec<&'a str> {
    let Some(ip) = mail.client.ip.map(|ip| ip.to_canonical()) else { return Vec::new() };
    let own = config.trusted_submitters.iter().filter(|(client, _)| client.to_canonical() == ip);
    own.flat_map(|(_, own)| own).map(String::as_str).collect()
}

/// Whether this client may send for us without a login.
pub(super) fn is_submitter(config: &Config, client: &Client) -> bool {
    client.ip.is_some_and(|ip| config.trusted_submitters.keys().any(|known| known.to_canonical() == ip.to_canonical()))
}

/// Whether one of our own servers examined the message before us (`trusted_hops`): it removed the key, and wrote the one
/// status field. Where a key is left, or no field or several, it did not do its work, and we do ours.
pub(super) fn was_examined(config: &Config, mail: &Mail) -> bool {
    is_in(&config.trusted_hops, &mail.client)
        && mail.keys.is_empty()
        && !mail.malformed
        && mail.named(STATUS_FIELD).count() == 1
}

/// Whether the client is one of our own servers that stand before us (`trusted_hops`).
pub(super) fn is_hop(config: &Config, mail: &Mail) -> bool {
    is_in(&config.trusted_hops, &mail.client)
}

/// Whether the client is a relay that would make a bounce of a refusal (`trusted_relays`).
pub(super) fn is_relay(config: &Config, mail: &Mail) -> bool {
    is_in(&config.trusted_relays, &mail.client)
}

/// Whether two addresses are one mailbox of ours: no server here has two that differ in letter case alone.
pub(super) fn same_mailbox(one: &Address, other: &Address) -> bool {
    one.domain() == other.domain() && one.local().eq_ignore_ascii_case(other.local())
}

/// Whether a client's address is in one of these networks; one on a unix socket has none.
fn is_in(networks: &[IpNet], client: &Client) -> bool {
    client.ip.is_some_and(|ip| networks.iter().any(|network| network.contains(&ip.to_canonical())))
}
