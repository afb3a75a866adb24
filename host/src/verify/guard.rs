//! Where an `AS=` record may point: never at an internal address, and at a port below 1024 only by leave (SPECIFICATION §4.5).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::config;

/// IPv4 networks that no record may lead to (SPECIFICATION §4.5).
const REFUSED_V4: [Ipv4Net; 14] = [
    v4(0, 0, 0, 8),
    v4(10, 0, 0, 8),
    v4(100, 64, 0, 10),
    v4(127, 0, 0, 8),
    v4(169, 254, 0, 16),
    v4(172, 16, 0, 12),
    v4(192, 0, 0, 24),
    v4(192, 0, 2, 24),
    v4(192, 168, 0, 16),
    v4(198, 18, 0, 15),
    v4(192, 88, 99, 24),
    v4(198, 51, 100, 24),
    v4(203, 0, 113, 24),
    v4(224, 0, 0, 3),
];

/// The only IPv6 network that a record may lead to, and what is refused inside it.
const GLOBAL_V6: Ipv6Net = v6(0x2000, 0, 3);
const REFUSED_V6: [Ipv6Net; 4] = [v6(0x2001, 0, 23), v6(0x2001, 0xdb8, 32), v6(0x2002, 0, 16), v6(0x3fff, 0, 20)];

const fn v4(a: u8, b: u8, c: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, 0), prefix)
}

const fn v6(a: u16, b: u16, prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, 0), prefix)
}

/// Why a target is not asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// An internal or reserved address.
    #[error("{0} is an internal or reserved address: `verify.allow_targets` or `verify.domain` would permit it")]
    Address(IpAddr),
    /// A low port that nobody allowed.
    #[error("port {0} is below 1024: `verify.low_ports` would permit it")]
    Port(u16),
}

/// The rule for targets that DNS named. Addresses fixed in the configuration do not pass here.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    low_ports: Vec<u16>,
    allowed: Vec<IpNet>,
}

impl Guard {
    pub(super) fn new(config: &config::Verify) -> Guard {
        Guard { low_ports: config.low_ports.clone(), allowed: config.allow_targets.clone() }
    }

    /// The address to connect to: this one and no other, so that a second look-up cannot lead elsewhere.
    pub(super) fn check(&self, address: IpAddr, port: u16) -> Result<SocketAddr, Refused> {
        // Unwraps ::ffff:0:0/96 first, so that it cannot hide an IPv4 address.
        let address = address.to_canonical();
        if port < 1024 && !self.low_ports.contains(&port) {
            return Err(Refused::Port(port));
        }
        if is_internal(address) && !self.allowed.iter().any(|network| network.contains(&address)) {
            return Err(Refused::Address(address));
        }
        Ok(SocketAddr::new(address, port))
    }
}

/// Whether an address is internal or reserved (SPECIFICATION §4.5): nobody asks it because DNS says so.
pub fn is_internal(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => REFUSED_V4.iter().any(|network| network.contains(&v4)),
        IpAddr::V6(v6) => !GLOBAL_V6.contains(&v6) || REFUSED_V6.iter().any(|network| network.contains(&v6)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard() -> Guard {
        Guard::new(&config::Verify::default())
    }

    const INTERNAL: [&str; 52] = [
        "0.0.0.0",
        "0.0.0.1",
        "0.255.255.255",
        "10.0.0.0",
        "10.1.2.3",
        "10.255.255.255",
        "100.64.0.1",
        "100.127.255.255",
        "127.0.0.1",
        "127.0.0.53",
        "127.255.255.254",
        "169.254.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.1",
        "192.0.0.170",
        "192.0.2.1",
        "192.168.0.1",
        "192.168.255.255",
        "198.18.0.1",
        "198.19.255.255",
        "192.88.99.1",
        "198.51.100.7",
        "203.0.113.9",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::10.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:7f00:1",
        "::ffff:0:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "::ffff:192.168.1.1",
        "64:ff9b::7f00:1",
        "64:ff9b::10.0.0.1",
        "64:ff9b:1::1",
        "100::1",
        "fc00::1",
        "fd12:3456:789a::1",
        "fe80::1",
        "fec0::1",
        "ff02::1",
        "2001::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "3fff:fff::1",
    ];

    #[test]
    fn e_no_spelling_of_an_internal_address_passes() {
        for text in INTERNAL {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(guard().check(address, 4410), Err(Refused::Address(address.to_canonical())), "{text}");
        }
    }

    #[test]
    fn the_neighbours_of_the_refused_networks_pass() {
        for text in [
            "1.0.0.0",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.167.255.255",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2001:200::1",
            "2001:db9::1",
            "2003::1",
            "2600::1",
            "3fff:1000::1",
            "::ffff:8.8.8.8",
        ] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(guard().check(address, 4410), Ok(SocketAddr::new(address.to_canonical(), 4410)), "{text}");
        }
    }

    #[test]
    fn a_low_port_needs_leave_and_an_internal_network_too() {
        let far = IpAddr::from([8, 8, 8, 8]);
        assert_eq!(guard().check(far, 25), Err(Refused::Port(25)));
        assert_eq!(guard().check(far, 1023), Err(Refused::Port(1023)));
        assert!(guard().check(far, 1024).is_ok());
        let mut config = config::Verify { low_ports: vec![443], ..Default::default() };
        config.allow_targets = vec!["10.1.0.0/16".parse().unwrap()];
        let guard = Guard::new(&config);
        assert!(guard.check(far, 443).is_ok() && guard.check(far, 25).is_err());
        assert!(guard.check([10, 1, 2, 3].into(), 4410).is_ok());
        assert!(guard.check("::ffff:10.1.2.3".parse().unwrap(), 4410).is_ok());
        assert!(guard.check([10, 2, 0, 1].into(), 4410).is_err());
        assert!(guard.check([10, 1, 2, 3].into(), 25).is_err());
    }
}
