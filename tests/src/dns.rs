//! DNS servers on loopback: one that knows no name, so that every domain takes part in nothing, and one that knows no EDNS.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Starts the server on a free UDP port; it answers until the process ends.
pub fn empty() -> SocketAddr {
    empty_on(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).0
}

/// The same on this socket, and how many questions it got so far.
pub fn empty_on(socket: UdpSocket) -> (SocketAddr, Arc<AtomicUsize>) {
    let (address, count) = (socket.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counted = count.clone();
    std::thread::spawn(move || {
        let mut question = [0; 1500];
        while let Ok((length, peer)) = socket.recv_from(&mut question) {
            counted.fetch_add(1, Ordering::SeqCst);
            if let Some(answer) = no_such_name(&question[..length]) {
                let _ = socket.send_to(&answer, peer);
            }
        }
    });
    (address, count)
}

/// Starts a server that knows no EDNS: a question with an OPT record gets this response code, with the question repeated or as a
/// bare header; others are passed on to another server. How many of both kinds there were is in the counters.
pub fn without_edns(other: SocketAddr, code: u8, bare: bool) -> (SocketAddr, Arc<[AtomicUsize; 2]>) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (address, counts) = (socket.local_addr().unwrap(), Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]));
    let counted = counts.clone();
    std::thread::spawn(move || {
        let mut question = [0; 1500];
        while let Ok((length, peer)) = socket.recv_from(&mut question) {
            let question = &question[..length];
            // ARCOUNT: the OPT record is the only one that a question brings.
            if question[10..12] == [0, 0] {
                counted[1].fetch_add(1, Ordering::SeqCst);
                let there = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
                there.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                there.send_to(question, other).unwrap();
                let mut answer = [0; 4096];
                if let Ok(length) = there.recv(&mut answer) {
                    let _ = socket.send_to(&answer[..length], peer);
                }
                continue;
            }
            counted[0].fetch_add(1, Ordering::SeqCst);
            let end = 12 + question[12..].iter().position(|octet| *octet == 0).unwrap() + 5;
            let mut answer = question[..if bare { 12 } else { end }].to_vec();
            answer[2..12].copy_from_slice(&[0x81, 0x80 | code, 0, u8::from(!bare), 0, 0, 0, 0, 0, 0]);
            let _ = socket.send_to(&answer, peer);
        }
    });
    (address, counts)
}

/// NXDOMAIN with an SOA of the root (RFC 2308 §2.1): a name error without one may not be believed.
fn no_such_name(question: &[u8]) -> Option<Vec<u8>> {
    let mut end = 12;
    while *question.get(end)? != 0 {
        end += 1 + usize::from(*question.get(end)?);
    }
    let asked = question.get(12..end + 5)?;
    let mut answer = question.get(..2)?.to_vec();
    // QR, AA, RD as asked, RA; RCODE 3; one question, one authority record.
    answer.extend_from_slice(&[0x84 | (question.get(2)? & 1), 0x83, 0, 1, 0, 0, 0, 1, 0, 0]);
    answer.extend_from_slice(asked);
    // The root's SOA, class IN, TTL 60, 22 octets: two names and five numbers.
    answer.extend_from_slice(&[0, 0, 6, 0, 1, 0, 0, 0, 60, 0, 22, 0, 0]);
    for number in [1u32, 3600, 600, 86_400, 60] {
        answer.extend_from_slice(&number.to_be_bytes());
    }
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_answered_by_a_name_error_and_junk_by_nothing() {
        let mut question = vec![7, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        question.extend_from_slice(b"\x04send\x04test\x00\x00\x10\x00\x01");
        let answer = no_such_name(&question).unwrap();
        assert_eq!(&answer[..4], &[7, 9, 0x85, 0x83]);
        assert_eq!(&answer[12..27], &question[12..]);
        assert_eq!(answer.len(), 12 + 15 + 11 + 22);
        assert!(no_such_name(&question[..20]).is_none());
        assert!(no_such_name(b"x").is_none());
    }
}
