//! Networks of IP addresses, as a prefix and its length.

use core::net::IpAddr;

/// A network; one address is a network too.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Network {
    address: IpAddr,
    length: u8,
}

impl Network {
    /// Reads `192.0.2.0/24`, `2001:db8::/32` or an address alone.
    pub(crate) fn parse(text: &str) -> Result<Network, &'static str> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr =
            address.parse().map_err(|_| "is no network: write an address such as 192.0.2.1, or 2001:db8::/32")?;
        let whole = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            None => whole,
            Some(digits) => digits
                .parse::<u8>()
                .ok()
                .filter(|length| *length <= whole && !digits.starts_with('+'))
                .ok_or("is no network: after the slash stands a number up to 32, or up to 128 for IPv6")?,
        };
        let network = Network { address, length };
        if bits(address) & !network.mask() != 0 {
            return Err("is no network: its address has more bits than the number after the slash says");
        }
        if address.to_canonical() != address && length >= 96 {
            return Err("never occurs: write its last four numbers as an IPv4 address");
        }
        Ok(network)
    }

    pub(crate) fn holds(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.address.is_ipv4() && bits(address) & self.mask() == bits(self.address)
    }

    /// The bits that count, leftmost in a number of 128.
    fn mask(&self) -> u128 {
        u128::MAX.checked_shl(128 - u32::from(self.length)).unwrap_or(0)
    }
}

/// The bits of the address, leftmost.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)) << 96,
        IpAddr::V6(address) => u128::from(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_what_their_prefix_says() {
        let holds = |network: &str, address: &str| Network::parse(network).unwrap().holds(address.parse().unwrap());
        for (network, address, expected) in [
            ("192.0.2.0/24", "192.0.2.255", true),
            ("192.0.2.0/24", "192.0.3.0", false),
            ("0.0.0.0/0", "255.1.2.3", true),
            ("0.0.0.0/0", "::1", false),
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1/32", "192.0.2.0", false),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("::/0", "1.2.3.4", false),
            ("::1", "::1", true),
            ("fe80::/10", "febf::1", true),
        ] {
            assert_eq!(holds(network, address), expected, "{network} {address}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in [
            "",
            "/",
            "192.0.2",
            "192.0.2.0/33",
            "192.0.2.1/24",
            "192.0.2.0/",
            "192.0.2.0/+8",
            "2001:db8::/129",
            "2001:db8::1/64",
            "::ffff:192.0.2.1",
            "mail.example",
            "192.0.2.0/24/8",
        ] {
            assert!(Network::parse(text).is_err(), "{text}");
        }
    }
}
