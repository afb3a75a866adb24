//! Networks of IP addresses, as a prefix and its length.
//!
//! Addresses are read here and not by the standard library, whose reader alone is a twentieth of this component.

/// An address: of IPv4 the first two groups count, and the others are zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Address {
    v4: bool,
    groups: [u16; 8],
}

/// A network; one address is a network too.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Network {
    address: Address,
    length: u32,
}

impl Network {
    /// Reads `192.0.2.0/24`, `2001:db8::/32` or an address alone.
    pub(crate) fn parse(text: &str) -> Result<Network, &'static str> {
        let octets = text.as_bytes();
        let slash = octets.iter().position(|octet| *octet == b'/');
        let address = Address::parse(octets.get(..slash.unwrap_or(octets.len())).unwrap_or_default())
            .ok_or("is no network: write 192.0.2.1 or 2001:db8::/32")?;
        let whole = if address.v4 { 32 } else { 128 };
        let length = match slash {
            None => whole,
            Some(slash) => number(octets.get(slash + 1..).unwrap_or_default(), 10)
                .filter(|length| *length <= whole)
                .ok_or("is no network: its length is at most 32, or 128 for IPv6")?,
        };
        let network = Network { address, length };
        if !network.is_bare() {
            return Err("is no network: its address has more bits than its length says");
        }
        if !address.v4 && length >= 96 && address.groups[..6] == [0, 0, 0, 0, 0, 0xffff] {
            return Err("never occurs: write its last four numbers as an IPv4 address");
        }
        Ok(network)
    }

    pub(crate) fn holds(&self, address: Address) -> bool {
        let prefix = self.address.groups.iter().zip(address.groups).enumerate();
        address.v4 == self.address.v4 && { prefix }.all(|(at, (own, other))| (own ^ other) & self.mask(at) == 0)
    }

    /// Whether no bit is set beyond the prefix.
    fn is_bare(&self) -> bool {
        self.address.groups.iter().enumerate().all(|(at, group)| group & !self.mask(at) == 0)
    }

    /// The bits of a group that belong to the prefix.
    fn mask(&self, at: usize) -> u16 {
        match self.length.saturating_sub(at as u32 * 16) {
            bits @ 0..16 => !(0xffff >> bits),
            _ => 0xffff,
        }
    }
}

impl Address {
    /// Reads an address of either kind, as the standard library does.
    pub(crate) fn parse(text: &[u8]) -> Option<Address> {
        if text.contains(&b':') {
            return Some(Address { v4: false, groups: v6(text)? });
        }
        let [first, second] = v4(text)?;
        Some(Address { v4: true, groups: [first, second, 0, 0, 0, 0, 0, 0] })
    }
}

/// Four numbers, two to a group.
fn v4(text: &[u8]) -> Option<[u16; 2]> {
    let mut bits = 0_u32;
    let mut count = 0;
    for part in text.split(|octet| *octet == b'.') {
        let octet = number(part, 10).filter(|octet| *octet < 256 && (part.len() == 1 || part[0] != b'0'))?;
        bits = bits << 8 | octet;
        count += 1;
        if count > 4 {
            return None;
        }
    }
    (count == 4).then_some([(bits >> 16) as u16, bits as u16])
}

/// Eight groups, of which `::` stands for those that are missing.
fn v6(text: &[u8]) -> Option<[u16; 8]> {
    let mut groups = [0; 8];
    let (mut filled, mut gap, mut rest) = (0, None, text);
    if let Some(after) = rest.strip_prefix(b"::") {
        (gap, rest) = (Some(0), after);
    }
    while !rest.is_empty() {
        let end = rest.iter().position(|octet| *octet == b':');
        let part = &rest[..end.unwrap_or(rest.len())];
        if part.contains(&b'.') {
            // The last two groups may be written as an IPv4 address.
            groups.get_mut(filled..filled + 2).filter(|_| end.is_none())?.copy_from_slice(&v4(part)?);
            filled += 2;
        } else {
            *groups.get_mut(filled)? = number(part, 16)? as u16;
            filled += 1;
        }
        let Some(end) = end else { break };
        rest = &rest[end + 1..];
        match rest.first() {
            Some(b':') if gap.is_none() => {
                gap = Some(filled);
                rest = &rest[1..];
            }
            None | Some(b':') => return None,
            Some(_) => {}
        }
    }
    match gap {
        None => (filled == 8).then_some(groups),
        Some(gap) => {
            let missing = 8_usize.checked_sub(filled).filter(|missing| *missing > 0)?;
            groups.copy_within(gap..filled, gap + missing);
            groups[gap..gap + missing].fill(0);
            Some(groups)
        }
    }
}

/// At most four digits.
fn number(digits: &[u8], base: u32) -> Option<u32> {
    if !(1..=4).contains(&digits.len()) {
        return None;
    }
    digits.iter().try_fold(0, |sum, octet| Some(sum * base + char::from(*octet).to_digit(base)?))
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn networks_hold_what_their_prefix_says() {
        let holds = |network: &str, address: &str| {
            Network::parse(network).unwrap().holds(Address::parse(address.as_bytes()).unwrap())
        };
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

    /// The standard library's reader, as a second opinion.
    fn agree(text: &str) {
        let expected = text.parse::<IpAddr>().ok().map(|address| match address {
            IpAddr::V4(address) => {
                let [a, b, c, d] = address.octets().map(u16::from);
                Address { v4: true, groups: [a << 8 | b, c << 8 | d, 0, 0, 0, 0, 0, 0] }
            }
            IpAddr::V6(address) => Address { v4: false, groups: address.segments() },
        });
        assert_eq!(Address::parse(text.as_bytes()), expected, "{text}");
    }

    #[test]
    fn addresses_are_read_as_the_standard_library_reads_them() {
        for text in [
            "::",
            ":",
            ":::",
            "1::",
            "::1",
            "1:2:3:4:5:6:7:8",
            "1:2:3:4:5:6:7::",
            "::2:3:4:5:6:7:8",
            "1:2:3:4:5:6:7:8::",
            "1:2:3::4:5:6:7:8",
            "1::2::3",
            "1:",
            ":1",
            "12345::",
            "g::",
            "::1.2.3.4",
            "1:2:3:4:5:6:1.2.3.4",
            "1:2:3:4:5:6:7:1.2.3.4",
            "::1.2.3.4:5",
            "1.2.3.4",
            "01.2.3.4",
            "1.2.3",
            "1.2.3.4.5",
            "256.1.1.1",
            "0.0.0.0",
            "1..2.3",
            "",
            ".",
            "::ffff:1.2.3.4",
            "1:2",
            "::00001",
            "1.2.3.0004",
            "::1 ",
        ] {
            agree(text);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn any_address_is_read_as_the_standard_library_reads_it(
            text in "[0-9a-f:.]{0,24}", groups in any::<[u16; 8]>(), zeros in any::<u8>(), octets in any::<[u8; 4]>()
        ) {
            agree(&text);
            let mut groups = groups;
            for (at, group) in groups.iter_mut().enumerate().filter(|(at, _)| zeros >> at & 1 == 1) {
                *group = u16::from(at > 8);
            }
            agree(&IpAddr::from(groups).to_string());
            agree(&IpAddr::from(octets).to_string());
        }
    }
}
