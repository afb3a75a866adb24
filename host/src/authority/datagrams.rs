//! Datagrams of one socket, many by one call, each with the address of ours that it was sent to (ip(7), ipv6(7)).

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc::{in_addr, in_pktinfo, in6_pktinfo};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, RecvMsg, SockaddrIn, SockaddrIn6, SockaddrLike,
    getsockopt, recvmmsg, sendmsg, setsockopt, sockopt,
};
use nix::sys::time::TimeSpec;

use crate::proto::wire::DATAGRAM_MAX;

/// Who asked, and at which of our addresses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asker {
    pub(super) peer: SocketAddr,
    asked: AskedAt,
}

#[cfg(test)]
impl Asker {
    pub(super) fn at_bound(peer: SocketAddr) -> Asker {
        Asker { peer, asked: AskedAt::Bound }
    }
}

/// The address that was asked.
#[derive(Clone, Copy, Debug)]
enum AskedAt {
    /// The one that the socket is bound to.
    Bound,
    V4(in_pktinfo),
    V6(in6_pktinfo),
}

/// One octet more than a datagram may have, so that one that is too long shows.
type Room = [u8; DATAGRAM_MAX + 1];

/// A socket, and room for what comes.
pub(super) struct Datagrams {
    socket: UdpSocket,
    /// Whether it is bound to a wildcard address.
    is_wildcard: bool,
    heads: Heads,
    rooms: Vec<Room>,
    came: Vec<(usize, Asker)>,
}

/// What the system writes beside the datagrams.
enum Heads {
    V4(MultiHeaders<SockaddrIn>),
    V6(MultiHeaders<SockaddrIn6>),
}

/// Wakes who waits in [`Datagrams::wait`].
pub(super) struct Doorbell(EventFd);

impl Doorbell {
    pub(super) fn new() -> io::Result<Doorbell> {
        Ok(Doorbell(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?))
    }

    /// It does not fail: a count that is full wakes as well.
    pub(super) fn ring(&self) {
        let _ = self.0.write(1);
    }

    fn quiet(&self) {
        let _ = self.0.read();
    }
}

/// Has the thread that calls this woken at the time that it asked for, and not up to 50 us later.
pub(super) fn wake_on_time() {
    let _ = nix::sys::prctl::set_timerslack(1);
}

/// The socket's buffer: room for what gathers in it between two looks (see `ticks`), of which each small datagram takes 0.8 to
/// 2.3 kB. A system that allows less (`net.core.rmem_max`) gives what it allows.
const BUFFER: usize = 2 << 20;

/// Has the system keep what comes until it is received, and tell to which address a datagram was sent, where the socket is bound
/// to all.
pub(super) fn prepare(socket: &UdpSocket) -> io::Result<()> {
    raise_buffer(socket, BUFFER)?;
    match socket.local_addr()? {
        SocketAddr::V4(address) if address.ip().is_unspecified() => setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?,
        SocketAddr::V6(address) if address.ip().is_unspecified() => {
            setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?
        }
        _ => {}
    }
    Ok(())
}

/// Raises the socket's buffer to so many octets, and never lowers it: what was lowered cannot be raised again beyond
/// `net.core.rmem_max`. So another socket is asked first what the system gives.
fn raise_buffer(socket: &UdpSocket, octets: usize) -> io::Result<()> {
    let trial = UnixDatagram::unbound()?;
    setsockopt(&trial, sockopt::RcvBuf, &octets)?;
    if getsockopt(&trial, sockopt::RcvBuf)? > getsockopt(socket, sockopt::RcvBuf)? {
        setsockopt(socket, sockopt::RcvBuf, &octets)?;
    }
    Ok(())
}

impl Datagrams {
    /// `most`: how many are received by one call.
    pub(super) fn new(socket: UdpSocket, most: usize) -> io::Result<Datagrams> {
        prepare(&socket)?;
        socket.set_nonblocking(false)?;
        let (address, most) = (socket.local_addr()?, most.max(1));
        let is_wildcard = address.ip().is_unspecified();
        let heads = Heads::new(&address, most);
        Ok(Datagrams { socket, is_wildcard, heads, rooms: vec![[0; DATAGRAM_MAX + 1]; most], came: Vec::new() })
    }

    /// How many are received by one call at most.
    pub(super) fn most(&self) -> usize {
        self.rooms.len()
    }

    /// Waits for a datagram where one is wanted, for the bell, and for so long at most; whether a datagram is there.
    pub(super) fn wait(&self, bell: &Doorbell, wanted: bool, most: Option<Duration>) -> io::Result<bool> {
        let events = if wanted { PollFlags::POLLIN } else { PollFlags::empty() };
        let mut both = [PollFd::new(bell.0.as_fd(), PollFlags::POLLIN), PollFd::new(self.socket.as_fd(), events)];
        let waited = &mut both[..if wanted { 2 } else { 1 }];
        match ppoll(waited, most.map(TimeSpec::from_duration), None) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Ok(false),
            Err(e) => return Err(e.into()),
        }
        let [rung, came] = both.map(|one| one.any().unwrap_or_default());
        if rung {
            bell.quiet();
        }
        Ok(wanted && came)
    }

    /// Receives what is there, so many at most, and as many as there is room for; how many.
    pub(super) fn receive(&mut self, most: usize) -> io::Result<usize> {
        self.came.clear();
        let (fd, all) = (self.socket.as_raw_fd(), self.rooms.len());
        let rooms = self.rooms.get_mut(..most.min(all)).unwrap_or_default();
        let told = match &mut self.heads {
            Heads::V4(heads) => {
                received(fd, heads, rooms, &mut self.came, |peer| SocketAddr::V4(SocketAddrV4::from(peer)))
            }
            Heads::V6(heads) => {
                received(fd, heads, rooms, &mut self.came, |peer| SocketAddr::V6(SocketAddrV6::from(peer)))
            }
        };
        match told {
            // One that came before the socket was prepared: the system has noted how little it told, as if there were no more
            // room.
            Ok(all_told) if !all_told && self.is_wildcard => self.heads = Heads::new(&self.socket.local_addr()?, all),
            Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
        Ok(self.came.len())
    }

    /// What was received last.
    pub(super) fn came(&self) -> impl ExactSizeIterator<Item = (&[u8], Asker)> {
        self.rooms
            .iter()
            .zip(&self.came)
            .map(|(room, (octets, asker))| (room.get(..*octets).unwrap_or_default(), *asker))
    }

    /// Answers from the address that was asked.
    pub(super) fn send(&self, octets: &[u8], to: &Asker) -> io::Result<()> {
        let told = match &to.asked {
            AskedAt::Bound => return self.socket.send_to(octets, to.peer).map(drop),
            AskedAt::V4(from) => ControlMessage::Ipv4PacketInfo(from),
            AskedAt::V6(from) => ControlMessage::Ipv6PacketInfo(from),
        };
        let (fd, parts) = (self.socket.as_raw_fd(), [IoSlice::new(octets)]);
        match to.peer {
            SocketAddr::V4(peer) => sendmsg(fd, &parts, &[told], MsgFlags::empty(), Some(&SockaddrIn::from(peer)))?,
            SocketAddr::V6(peer) => sendmsg(fd, &parts, &[told], MsgFlags::empty(), Some(&SockaddrIn6::from(peer)))?,
        };
        Ok(())
    }
}

impl Heads {
    fn new(address: &SocketAddr, most: usize) -> Heads {
        let wildcard = address.ip().is_unspecified();
        match address {
            SocketAddr::V4(_) => {
                Heads::V4(MultiHeaders::preallocate(most, wildcard.then(|| nix::cmsg_space!(in_pktinfo))))
            }
            SocketAddr::V6(_) => {
                Heads::V6(MultiHeaders::preallocate(most, wildcard.then(|| nix::cmsg_space!(in6_pktinfo))))
            }
        }
    }
}

/// Receives into these rooms, and tells who asked; whether of all of them the address that was asked is known.
fn received<S: SockaddrLike + Copy>(
    fd: i32,
    heads: &mut MultiHeaders<S>,
    rooms: &mut [Room],
    came: &mut Vec<(usize, Asker)>,
    peer: impl Fn(S) -> SocketAddr,
) -> nix::Result<bool> {
    let mut parts: Vec<[IoSliceMut<'_>; 1]> = rooms.iter_mut().map(|room| [IoSliceMut::new(room)]).collect();
    let messages = recvmmsg(fd, heads, parts.iter_mut(), MsgFlags::MSG_DONTWAIT, None)?;
    let mut all_told = true;
    for message in messages {
        let asked = asked_at(&message);
        all_told &= !matches!(asked, AskedAt::Bound);
        // A datagram always has a sender.
        if let Some(address) = message.address {
            came.push((message.bytes, Asker { peer: peer(address), asked }));
        }
    }
    Ok(all_told)
}

/// At which address; the interface only where the address means nothing without it.
fn asked_at<S>(message: &RecvMsg<'_, '_, S>) -> AskedAt {
    let told = message.cmsgs().into_iter().flatten().find_map(|told| match told {
        ControlMessageOwned::Ipv4PacketInfo(to) => Some(AskedAt::V4(in_pktinfo {
            ipi_ifindex: 0,
            ipi_spec_dst: to.ipi_spec_dst,
            ipi_addr: in_addr { s_addr: 0 },
        })),
        ControlMessageOwned::Ipv6PacketInfo(to) => {
            let is_local = to.ipi6_addr.s6_addr.starts_with(&[0xfe]) && to.ipi6_addr.s6_addr[1] & 0xc0 == 0x80;
            Some(AskedAt::V6(in6_pktinfo { ipi6_ifindex: if is_local { to.ipi6_ifindex } else { 0 }, ..to }))
        }
        _ => None,
    });
    told.unwrap_or(AskedAt::Bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits for one datagram, and sends it back.
    fn echo(datagrams: &mut Datagrams) {
        let bell = Doorbell::new().unwrap();
        while !datagrams.wait(&bell, true, None).unwrap() || datagrams.receive(9).unwrap() == 0 {}
        for (octets, asker) in datagrams.came() {
            datagrams.send(octets, &asker).unwrap();
        }
    }

    #[test]
    fn an_answer_leaves_from_the_address_that_was_asked() {
        let v4 = ["127.0.0.1", "127.0.0.2", "127.255.0.9"];
        for (bound, asked) in
            [("0.0.0.0:0", &v4[..]), ("[::]:0", &["127.0.0.1", "127.0.0.2", "[::1]"]), ("127.0.0.3:0", &["127.0.0.3"])]
        {
            let socket = UdpSocket::bind(bound).unwrap();
            let port = socket.local_addr().unwrap().port();
            let mut datagrams = Datagrams::new(socket, 4).unwrap();
            for round in 0..3 {
                for asked in asked {
                    let place: SocketAddr = format!("{asked}:{port}").parse().unwrap();
                    let client = UdpSocket::bind(if place.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" }).unwrap();
                    client.send_to(b"who?", place).unwrap();
                    echo(&mut datagrams);
                    let mut room = [0; 9];
                    let (length, from) = client.recv_from(&mut room).unwrap();
                    assert_eq!((&room[..length], from), (&b"who?"[..], place), "{bound}, round {round}");
                }
            }
        }
    }

    #[test]
    fn a_buffer_is_raised_and_never_lowered() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let buffer = || getsockopt(&socket, sockopt::RcvBuf).unwrap();
        // Below what any system allows; it tells the double.
        setsockopt(&socket, sockopt::RcvBuf, &40_000).unwrap();
        for (wanted, had) in [(30_000, 80_000), (50_000, 100_000), (49_999, 100_000), (60_000, 120_000)] {
            raise_buffer(&socket, wanted).unwrap();
            assert_eq!(buffer(), had, "{wanted}");
        }
    }

    #[test]
    fn what_came_before_the_system_was_asked_to_tell_spoils_nothing() {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        for asked in ["127.0.0.1", "127.0.0.1", "127.0.0.1"] {
            client.send_to(b"early", (asked, port)).unwrap();
        }
        let mut datagrams = Datagrams::new(socket, 4).unwrap();
        assert_eq!(datagrams.receive(9).unwrap(), 3);
        for round in 0..4 {
            client.send_to(b"late", ("127.0.0.7", port)).unwrap();
            echo(&mut datagrams);
            let (_, from) = client.recv_from(&mut [0; 9]).unwrap();
            assert_eq!(from.ip().to_string(), "127.0.0.7", "{round}");
        }
    }

    #[test]
    fn one_that_is_too_long_shows_and_the_bell_wakes() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let place = socket.local_addr().unwrap();
        let mut datagrams = Datagrams::new(socket, 2).unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        for octets in [1_500, 0, 512] {
            client.send_to(&vec![b'x'; octets], place).unwrap();
        }
        let lengths = |datagrams: &Datagrams| datagrams.came().map(|(octets, _)| octets.len()).collect::<Vec<_>>();
        assert_eq!(datagrams.receive(1).unwrap(), 1);
        assert_eq!(lengths(&datagrams), [513]);
        assert_eq!(datagrams.receive(9).unwrap(), 2);
        assert_eq!(lengths(&datagrams), [0, 512]);
        assert_eq!(datagrams.receive(9).unwrap(), 0);
        assert_eq!(datagrams.receive(0).unwrap(), 0);
        let bell = Doorbell::new().unwrap();
        bell.ring();
        assert!(!datagrams.wait(&bell, true, None).unwrap());
        assert!(!datagrams.wait(&bell, true, Some(Duration::from_micros(1))).unwrap(), "it rings once");
    }
}
