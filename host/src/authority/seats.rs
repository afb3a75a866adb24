//! Places for TLS connections: how many there are, and who leaves when they are all taken.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::proto::network::network;

/// Connections that there may be however few descriptors are allowed.
const STREAMS_LEAST: usize = 64;

/// Connections at once, in all and by network.
#[derive(Debug)]
pub(super) struct Seats {
    taken: Arc<Mutex<HashMap<u64, Taken>>>,
    next: AtomicU64,
    most: usize,
    most_of_one: usize,
}

/// Who sits on one.
#[derive(Debug)]
struct Taken {
    network: IpAddr,
    /// When a line came last, or else when it was taken.
    spoke: Instant,
    /// Cancelled when the place is needed.
    leave: CancellationToken,
}

/// The right to be connected; it ends when dropped.
pub(super) struct Seat {
    taken: Arc<Mutex<HashMap<u64, Taken>>>,
    number: u64,
    /// Cancelled when the place is needed.
    pub(super) leave: CancellationToken,
}

impl Seats {
    pub(super) fn new(most: usize, most_of_one: usize) -> Seats {
        Seats { taken: Arc::default(), next: AtomicU64::new(0), most, most_of_one }
    }

    /// Where all are taken, whoever has been silent longest leaves: idle connections must not keep those with a question out.
    pub(super) fn take(&self, peer: IpAddr) -> Option<Seat> {
        let (network, leave) = (network(peer), CancellationToken::new());
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.values().filter(|other| other.network == network).count() >= self.most_of_one {
            return None;
        }
        if taken.len() >= self.most {
            let silent = taken.iter().min_by_key(|(_, other)| other.spoke).map(|(number, _)| *number)?;
            if let Some(other) = taken.remove(&silent) {
                other.leave.cancel();
            }
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        taken.insert(number, Taken { network, spoke: Instant::now(), leave: leave.clone() });
        Some(Seat { taken: self.taken.clone(), number, leave })
    }
}

impl Seat {
    /// A line came.
    pub(super) fn speaks(&self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mine) = taken.get_mut(&self.number) {
            mine.spoke = Instant::now();
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.number);
    }
}

/// How many connections there may be, each with its timer, so that other files and sockets keep three quarters of the descriptors.
pub(super) fn room_for(most: usize) -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let open = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = open.and_then(|rest| rest.split_whitespace().next()?.parse::<usize>().ok());
    soft.map_or(most, |soft| most.min((soft / 8).max(STREAMS_LEAST)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f6_no_network_takes_all_seats_and_each_is_free_again() {
        let seats = Seats::new(5, 2);
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let first = seats.take(ip("192.0.2.1")).unwrap();
        let _second = seats.take(ip("::ffff:192.0.2.200")).unwrap();
        assert!(seats.take(ip("192.0.2.3")).is_none());
        drop(first);
        let _third = seats.take(ip("192.0.2.3")).unwrap();
        let others: Vec<_> = (0..3).map_while(|n| seats.take(ip(&format!("198.51.{n}.1")))).collect();
        assert_eq!(others.len(), 3);
        assert_eq!(seats.taken.lock().unwrap().len(), 5);
        drop(others);
        assert_eq!(seats.taken.lock().unwrap().len(), 2);
    }

    #[test]
    fn idle_connections_do_not_keep_a_new_one_with_a_question_out() {
        let seats = Seats::new(1_024, 64);
        let ip = |n: usize| IpAddr::from([192, (n / 256) as u8, (n % 256) as u8, 1]);
        let idle: Vec<_> = (0..1_024).map(|n| seats.take(ip(n)).unwrap()).collect();
        idle[0].speaks();
        let new = seats.take(ip(2_000)).unwrap();
        let left: Vec<_> = (0..1_024).filter(|n| idle[*n].leave.is_cancelled()).collect();
        assert_eq!(left, [1], "the first has spoken since");
        assert!(!new.leave.is_cancelled());
        drop(idle);
        assert_eq!(seats.taken.lock().unwrap().len(), 1);
    }

    #[test]
    fn connections_leave_room_for_other_descriptors() {
        assert_eq!(room_for(1), 1);
        assert!(room_for(usize::MAX) >= STREAMS_LEAST && room_for(100) >= STREAMS_LEAST);
    }
}
