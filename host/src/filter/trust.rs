//! Clients that are trusted: submitters without a login, servers that examined the mail already, relays that must not bounce.

use std::net::IpAddr;

use crate::case::{Client, Door, Mail};
use crate::config::Config;
use crate::proto::address::Address;
use crate::proto::header::STATUS_FIELD;
use ipnet::IpNet;

/// The sender address, where the client may send for us without a login and this address is among its own
/// (`trusted_submitters`). With another From its mail is a stranger's. Mail with a login is judged by the login alone.
pub(super) fn submitter(config: &Config, mail: &Mail) -> Option<Address> {
    if mail.login.is_some() {
        return None;
    }
    let ip = mail.client.ip?.to_canonical();
    let mut own =
        config.trusted_submitters.iter().filter(|(client, _)| client.to_canonical() == ip).flat_map(|(_, own)| own);
    let sender = mail.sender().ok()?;
    // No server here has two mailboxes that differ in letter case alone; a tag may be somebody else's.
    own.any(|own| own.is_but_for_case(sender)).then(|| sender.clone())
}

/// The addresses for which this client may send without a login.
pub(super) fn own_addresses<'a>(config: &'a Config, mail: &Mail) -> Vec<&'a Address> {
    let Some(ip) = mail.client.ip.map(|ip| ip.to_canonical()) else { return Vec::new() };
    let own = config.trusted_submitters.iter().filter(|(client, _)| client.to_canonical() == ip);
    own.flat_map(|(_, own)| own).collect()
}

/// Whether this client may send for us without a login.
pub(super) fn is_submitter(config: &Config, client: &Client) -> bool {
    client.ip.is_some_and(|ip| config.trusted_submitters.keys().any(|known| known.to_canonical() == ip.to_canonical()))
}

/// Whether one of our own servers examined the message before us (`trusted_hops`), removed the key, and wrote the one status
/// field. Where a key is left, or there is no status field or several, it did not, and we examine the message.
pub(super) fn was_examined(config: &Config, mail: &Mail) -> bool {
    is_in(&config.trusted_hops, &mail.client)
        && mail.head().keys.is_empty()
        && !mail.head().malformed
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

/// How many of the message's fields, from the top, our own servers wrote.
///
/// Where the client is a relay or hop of ours, those are all fields down to the first Received that names a client which is
/// none of ours: there the message came in. So it is for all that our own MTA has queued before us. Of other messages none is
/// ours, since an MTA shows a milter no field that it writes itself.
pub(super) fn own_fields(config: &Config, mail: &Mail) -> usize {
    if mail.door == Door::Reception && !is_hop(config, mail) && !is_relay(config, mail) {
        return 0;
    }
    let networks = || config.trusted_hops.iter().chain(&config.trusted_relays);
    let ours = |ip: IpAddr| ip.is_loopback() || networks().any(|network| network.contains(&ip));
    let mut own = 0;
    let received =
        mail.head().fields.iter().enumerate().filter(|(_, field)| field.name.eq_ignore_ascii_case("Received"));
    for (position, field) in received {
        own = position + 1;
        if client_of(&field.value).is_some_and(|ip| !ours(ip)) {
            break;
        }
    }
    own
}

/// The address of the client that a Received field names (RFC 5321 §4.4): the last one before `by`, but none that the client
/// said in HELO.
fn client_of(received: &[u8]) -> Option<IpAddr> {
    let text = String::from_utf8_lossy(received);
    let separates = |c: char| c.is_ascii_whitespace() || "()[]<>;,=".contains(c);
    let mut client = None;
    let mut before = "";
    for word in text.split(separates).filter(|word| !word.is_empty()) {
        if word.eq_ignore_ascii_case("by") {
            break;
        }
        let said = before.eq_ignore_ascii_case("helo") || before.eq_ignore_ascii_case("ehlo");
        let (tag, rest) = word.split_at_checked(5).unwrap_or((word, ""));
        let bare = if tag.eq_ignore_ascii_case("IPv6:") { rest } else { word };
        if let (Ok(ip), false) = (bare.parse::<IpAddr>(), said) {
            client = Some(ip.to_canonical());
        }
        before = word;
    }
    client
}

/// Whether a client's address is in one of these networks; one on a unix socket has none.
fn is_in(networks: &[IpNet], client: &Client) -> bool {
    client.ip.is_some_and(|ip| networks.iter().any(|network| network.contains(&ip.to_canonical())))
}

#[cfg(test)]
mod tests;
