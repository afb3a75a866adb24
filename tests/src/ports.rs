//! Ports for programs that must be told theirs, and places where nobody listens: nobody else gets either meanwhile.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as Name, UnixListener};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::net::TcpSocket;

/// The first port that is claimed, and how many there are: below those that the system gives to whoever asks for any.
const FROM: u16 = 10_000;
const COUNT: u32 = 20_000;

/// The names that stand for the claimed ports; they end with this process, a killed one too.
static CLAIMED: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());

/// A port of 127.0.0.1, free on UDP and TCP, that no other test of any process on this machine gets as long as this one runs:
/// for a program that cannot bind port 0 and say what it got, or that is to listen at the same place after a restart.
///
/// It is claimed by an abstract unix socket of its name, and never bound here: a process that is being started at that moment
/// has copies of all sockets until it runs its program, and the one that the port is for could not bind it.
pub fn claim() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    for _ in 0..COUNT {
        // Processes that run at once begin far from each other.
        let number = std::process::id().wrapping_mul(7_919).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = FROM + u16::try_from(number % COUNT).unwrap();
        let name = Name::from_abstract_name(format!("addrauth-test-port-{port}")).unwrap();
        let Ok(claimed) = UnixListener::bind_addr(&name) else { continue };
        if !is_used(port) {
            CLAIMED.lock().unwrap().push(claimed);
            return port;
        }
    }
    panic!("no port from {FROM} on is free")
}

/// Whether a socket of any kind has this local port, as the system lists them: the second word of a line ends with it.
fn is_used(port: u16) -> bool {
    let end = format!(":{port:04X}");
    ["tcp", "tcp6", "udp", "udp6"].iter().any(|kind| {
        // Without IPv6 two of them are not there.
        let list = std::fs::read_to_string(format!("/proc/net/{kind}")).unwrap_or_default();
        list.lines().any(|line| line.split_whitespace().nth(1).is_some_and(|place| place.ends_with(&end)))
    })
}

/// The same as an address.
pub fn claim_place() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, claim()).into()
}

/// A place on loopback that refuses, as long as this value lives: its TCP port is bound and not listened on, its UDP port takes
/// datagrams from itself alone.
#[derive(Debug)]
pub struct Closed {
    /// Where.
    pub place: SocketAddr,
    _tcp: TcpSocket,
    _udp: UdpSocket,
}

impl Closed {
    /// Takes a place.
    pub fn take() -> Closed {
        loop {
            let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let place = udp.local_addr().unwrap();
            let tcp = TcpSocket::new_v4().unwrap();
            // What is free on UDP may be taken on TCP.
            if tcp.bind(place).is_ok() {
                udp.connect(place).unwrap();
                return Closed { place, _tcp: tcp, _udp: udp };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::io::ErrorKind;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn nobody_gets_a_claimed_port_and_who_claimed_it_can_bind_it() {
        let ports: BTreeSet<u16> = (0..50).map(|_| claim()).collect();
        assert_eq!(ports.len(), 50);
        for port in &ports {
            let name = Name::from_abstract_name(format!("addrauth-test-port-{port}")).unwrap();
            assert_eq!(UnixListener::bind_addr(&name).unwrap_err().kind(), ErrorKind::AddrInUse);
            let place = (Ipv4Addr::LOCALHOST, *port);
            let held = (TcpListener::bind(place).unwrap(), UdpSocket::bind(place).unwrap());
            assert!(is_used(*port), "{held:?}");
        }
        let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
        let first: u32 = range.split_whitespace().next().unwrap().parse().unwrap();
        assert!(first >= u32::from(FROM) + COUNT, "the system gives some of them to whoever asks for any: {range}");
    }

    #[test]
    fn a_closed_place_refuses_on_both_and_nobody_can_take_it() {
        let closed = Closed::take();
        assert_eq!(TcpStream::connect(closed.place).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        assert!(TcpListener::bind(closed.place).is_err() && UdpSocket::bind(closed.place).is_err());
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        client.connect(closed.place).unwrap();
        client.send(b"x").unwrap();
        assert_eq!(client.recv(&mut [0; 8]).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    }
}
