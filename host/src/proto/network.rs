//! The network that an address counts as: what budgets are shared out by.

use std::net::{IpAddr, Ipv6Addr};

/// The /24 or /56 of an address; a mapped IPv4 address counts as IPv4.
pub fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4((u32::from(v4) & 0xffff_ff00).into()),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from(u128::from(v6) & (u128::MAX << 72))),
    }
}

/// The length of the prefix that [`network`] keeps.
pub fn prefix(peer: IpAddr) -> u8 {
    if peer.to_canonical().is_ipv4() { 24 } else { 56 }
}
