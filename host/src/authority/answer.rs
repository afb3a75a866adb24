//! Answering VERIFY (SPECIFICATION §2), and listening for it on UDP.

use std::cmp::Reverse;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error, info, warn};

use super::hold::Hold;
use super::issue::{KeyState, state};
use super::{Authority, Error};
use crate::proto::key::VerifyKey;
use crate::proto::wire::{self, Credential, DATAGRAM_MAX, Reason, Request, STREAM_MAX, Status};
use crate::pulse::Pulse;
use crate::store::{self, KeyRow};

/// What a question came over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    Udp,
    Tls,
}

/// What a question came to, before it is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Outcome {
    status: Status,
    valid_for: Option<u32>,
    reason: Option<Reason>,
}

impl Outcome {
    fn unverified(reason: Reason) -> Outcome {
        Outcome { status: Status::Unverified, valid_for: None, reason: Some(reason) }
    }
}

impl Authority {
    /// Opens one UDP socket for each address of `authority.listen`.
    ///
    /// An answer leaves from the address of its socket. A wildcard address leaves that choice to the kernel, which on
    /// a host with several addresses may take another one than was asked, and the verifier ignores such an answer: list
    /// the addresses one by one there. A warning says so.
    pub async fn bind(&self) -> Result<Vec<UdpSocket>, Error> {
        if self.listen.is_empty() {
            return Err(Error::NoListen);
        }
        let mut sockets = Vec::with_capacity(self.listen.len());
        for address in &self.listen {
            if address.ip().is_unspecified() {
                warn!(%address, "a wildcard address: on a host with several addresses list them one by one in authority.listen");
            }
            let socket = UdpSocket::bind(address).await;
            sockets.push(socket.map_err(|source| Error::Listen { address: *address, source })?);
        }
        Ok(sockets)
    }

    /// Answers on these sockets, sweeps ended keys and writes down who was forged now and then, until `shutdown`; questions
    /// at hand are finished.
    pub async fn serve(self: Arc<Self>, sockets: Vec<UdpSocket>, shutdown: CancellationToken) {
        let tasks = TaskTracker::new();
        for (number, socket) in sockets.into_iter().enumerate() {
            let (socket, pulse) = (Arc::new(socket), self.pulses.get(number).cloned().unwrap_or_default());
            for _ in 0..self.limits.authority.answers_at_once.max(1) {
                tasks.spawn(self.clone().answer_on(socket.clone(), pulse.clone(), shutdown.clone()));
            }
        }
        tasks.spawn(self.clone().write_counts_often(shutdown.clone()));
        tasks.spawn(self.clone().sweep_often(shutdown));
        tasks.close();
        tasks.wait().await;
        self.write_counts_or_warn().await;
    }

    async fn answer_on(self: Arc<Self>, socket: Arc<UdpSocket>, pulse: Arc<Pulse>, shutdown: CancellationToken) {
        // One octet more than a datagram may have, so that one that is too long shows.
        let mut rooms = vec![[0; DATAGRAM_MAX + 1]; self.limits.authority.answers_together.max(1)];
        let hold = Hold::new(self.limits.authority.answer_after);
        loop {
            let Some((first, others)) = rooms.split_first_mut() else { return };
            let received = tokio::select! {
                () = shutdown.cancelled() => return,
                never = pulse.answer() => match never {},
                received = socket.recv_from(first) => received,
            };
            let mut received = match received {
                Ok(received) => vec![received],
                Err(e) => {
                    // ICMP errors of earlier answers surface here; anything that lasts must not spin.
                    report(&e);
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                }
            };
            let begin = tokio::time::Instant::now();
            // What came meanwhile is looked up together with it: under load that is most of the work.
            received.extend(others.iter_mut().map_while(|room| socket.try_recv_from(room).ok()));
            let line = |(room, (length, peer)): (&'_ [u8; DATAGRAM_MAX + 1], &(usize, SocketAddr))| {
                (room.get(..*length).unwrap_or_default().to_vec(), *peer)
            };
            let lines: Vec<_> = rooms.iter().zip(&received).map(line).collect();
            let replies = self.answers(Over::Udp, &lines).await;
            hold.until_even(begin, lines.len()).await;
            for (reply, (_, peer)) in replies.into_iter().zip(&lines) {
                if let Some(reply) = reply
                    && let Err(e) = socket.send_to(&reply, peer).await
                {
                    debug!(%peer, "the answer cannot be sent: {e}");
                }
            }
        }
    }

    /// The answer to one datagram, if it gets one: never longer than the datagram.
    pub async fn answer(&self, datagram: &[u8], peer: SocketAddr) -> Option<Vec<u8>> {
        self.answers(Over::Udp, &[(datagram.to_vec(), peer)]).await.pop().flatten()
    }

    /// The answer to one line on TLS; absent where the connection is to be closed.
    pub async fn answer_line(&self, line: &[u8], peer: SocketAddr) -> Option<Vec<u8>> {
        self.answers(Over::Tls, &[(line.to_vec(), peer)]).await.pop().flatten()
    }

    /// The answers to these lines, in their order; the keys of all their addresses are looked up by one question.
    async fn answers(&self, over: Over, lines: &[(Vec<u8>, SocketAddr)]) -> Vec<Option<Vec<u8>>> {
        let longest = if over == Over::Udp { DATAGRAM_MAX } else { STREAM_MAX };
        let asked: Vec<_> = lines.iter().map(|(line, _)| self.read(line, longest)).collect();
        let wanted: Vec<String> = asked.iter().filter_map(|(_, own)| own.clone()).collect();
        let rows = if wanted.is_empty() { Ok(Vec::new()) } else { self.keys.of_all(&wanted).await };
        if !wanted.is_empty() {
            self.tell_trouble(rows.as_ref().err());
        }
        let rows = rows.ok();
        let of = |address: &str| {
            let mut each = rows.as_ref()?.chunk_by(|one, other| one.address == other.address);
            Some(each.find(|rows| rows.first().is_some_and(|row| row.address == address)).unwrap_or_default())
        };
        let mut answers = Vec::with_capacity(lines.len());
        for ((request, own), (line, peer)) in asked.iter().zip(lines) {
            let known = own.as_deref().map(|address| (address, of(address)));
            answers.push(self.answer_one(over, request, known, line.len(), *peer));
        }
        answers
    }

    /// A line, and the address that it asks about where that is one of ours.
    fn read<'a>(&self, line: &'a [u8], longest: usize) -> (Request<'a>, Option<String>) {
        let request = Request::read(line, longest);
        let own = match &request {
            Request::Asked { decoded, .. } => self.own(decoded),
            _ => None,
        };
        (request, own)
    }

    /// `known`: the address where it is one of ours, and its keys where the table can be read.
    fn answer_one(
        &self,
        over: Over,
        request: &Request<'_>,
        known: Option<(&str, Option<&[KeyRow]>)>,
        length: usize,
        peer: SocketAddr,
    ) -> Option<Vec<u8>> {
        let room = if over == Over::Udp { length.min(DATAGRAM_MAX) } else { STREAM_MAX };
        let (seq, address, outcome) = match request {
            Request::Silence => {
                debug!(%peer, octets = length, "not a question: no answer");
                return None;
            }
            Request::Refused { seq, address, reason } => (seq, address, Outcome::unverified(*reason)),
            Request::Asked { seq, address, credential, tags, .. } => {
                let question = Question { seq, address, credential, tags };
                let outcome = match known {
                    None => Outcome::unverified(Reason::Domain),
                    Some((_, None)) => Outcome::unverified(Reason::Temp),
                    Some((address, Some(rows))) => self.judge(over, address, rows, &question, peer.ip()),
                };
                (seq, address, outcome)
            }
        };
        let Outcome { status, valid_for, reason } = outcome;
        debug!(%peer, ?over, address = %address.escape_ascii(), ?status, ?reason, "answered");
        wire::reply(seq, address, status, valid_for, reason, room)
    }

    fn judge(&self, over: Over, address: &str, rows: &[KeyRow], question: &Question<'_>, peer: IpAddr) -> Outcome {
        let outcome = self.compare(rows, question, self.clock.now());
        let counted = outcome.status == Status::Invalid && outcome.reason.is_none();
        if counted && !self.may_deny(over, peer) {
            let stream = over == Over::Udp && self.offers_tls;
            return Outcome::unverified(if stream { Reason::Stream } else { Reason::Limit });
        }
        if counted {
            self.count_invalid(address, !rows.is_empty(), question.tags, peer);
        }
        outcome
    }

    /// Counts an INVALIDKEY answer; whether it may be given. A right proof never comes here.
    fn may_deny(&self, over: Over, peer: IpAddr) -> bool {
        let counts = match over {
            Over::Udp => &self.invalid,
            Over::Tls => &self.invalid_streams,
        };
        counts.lock().unwrap_or_else(PoisonError::into_inner).allow(peer, Instant::now())
    }

    /// Says when trouble with the table begins and ends, not once for each question: anybody can ask as often as he likes.
    pub(super) fn tell_trouble(&self, trouble: Option<&store::Error>) {
        match (trouble, self.troubled.swap(trouble.is_some(), Ordering::Relaxed)) {
            (Some(e), false) => error!("the table of keys cannot be read, so questions are answered e=temp: {e}"),
            (None, true) => info!("the table of keys can be read again"),
            _ => {}
        }
    }

    fn compare(&self, rows: &[KeyRow], question: &Question<'_>, now: SystemTime) -> Outcome {
        let asked = match question.credential {
            Credential::Key(key) => Some(key.verify_key()),
            Credential::Proof(_) => None,
        };
        let matches = |k: &VerifyKey| match (&asked, question.credential) {
            (Some(asked), _) => asked == k,
            (None, Credential::Proof(proof)) => k.checks(proof, question.seq, question.address, question.tags),
            (None, Credential::Key(_)) => false,
        };
        weigh(
            rows,
            &self.dummy,
            now,
            self.limits.authority.expired_kept,
            self.limits.authority.keys_per_address,
            matches,
        )
    }

    async fn sweep_often(self: Arc<Self>, shutdown: CancellationToken) {
        loop {
            // Never at the start: a host may come up with a clock that is ahead, and what is deleted is gone for good.
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(self.limits.authority.key_sweep) => {}
            }
            match self.sweep().await {
                Ok(0) => {}
                Ok(keys) => info!(keys, "ended keys deleted"),
                Err(e) => warn!("ended keys are not deleted: {e}"),
            }
            if let Err(e) = self.sweep_forged().await {
                warn!("old counts of wrong keys are not deleted: {e}");
            }
        }
    }
}

/// The part of a question that a credential vouches for.
struct Question<'a> {
    seq: &'a [u8],
    address: &'a [u8],
    credential: &'a Credential<'a>,
    tags: &'a [u8],
}

/// Compares `comparisons` times, whatever there is to compare with, and never stops at a match: the work tells neither whether
/// the address has keys, nor how many, nor which one it was. The living keys come first, then those that ended last; where
/// both are fewer, the dummy fills up. No address has more living keys than `comparisons`, unless its table was made under a
/// larger limit: then all of them are compared all the same.
fn weigh(
    rows: &[KeyRow],
    dummy: &VerifyKey,
    now: SystemTime,
    expired_kept: Duration,
    comparisons: usize,
    mut matches: impl FnMut(&VerifyKey) -> bool,
) -> Outcome {
    let mut candidates: Vec<(KeyState, &KeyRow)> = rows.iter().map(|row| (state(row, now), row)).collect();
    candidates.sort_by_key(|(state, row)| (*state != KeyState::Living, Reverse(row.expires)));
    let alive = candidates.iter().filter(|(state, _)| *state == KeyState::Living).count();
    candidates.truncate(comparisons.max(alive));
    let (mut living, mut expired) = (None, false);
    for (state, row) in &candidates {
        let hit = matches(&row.k);
        match state {
            KeyState::Living if hit => living = Some(row.expires),
            KeyState::Expired if hit => {
                expired |= now.duration_since(row.expires).is_ok_and(|age| age <= expired_kept);
            }
            _ => {}
        }
    }
    for _ in candidates.len()..comparisons {
        std::hint::black_box(matches(std::hint::black_box(dummy)));
    }
    match living {
        Some(expires) => {
            let left = expires.duration_since(now).unwrap_or_default().as_secs().min(9_999_999);
            Outcome { status: Status::Valid, valid_for: u32::try_from(left).ok(), reason: None }
        }
        // A revoked key is simply wrong: it was taken back because somebody else may have it.
        None => Outcome { status: Status::Invalid, valid_for: None, reason: expired.then_some(Reason::Expired) },
    }
}

fn report(e: &io::Error) {
    match e.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => debug!("an answer was not taken: {e}"),
        _ => warn!("cannot receive questions: {e}"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn rows(count: u64) -> Vec<KeyRow> {
        let row = |generation: u64| KeyRow {
            address: "alice@example.com".into(),
            generation: i64::try_from(generation).unwrap(),
            k: VerifyKey::from_octets([u8::try_from(generation).unwrap(); 32]),
            created: UNIX_EPOCH,
            // Every other one has ended.
            expires: UNIX_EPOCH + Duration::from_secs(if generation.is_multiple_of(2) { 2_000 } else { 500 }),
            revoked: None,
        };
        (1..=count).map(row).collect()
    }

    #[test]
    fn h_the_number_of_comparisons_tells_neither_whether_an_address_has_keys_nor_which_one_was_right() {
        let (dummy, now) = (VerifyKey::from_octets([0xff; 32]), UNIX_EPOCH + Duration::from_secs(1_000));
        for count in 0..=64_u8 {
            for right in [0, 1, 2, 7, 8, 9, count.saturating_sub(1), count] {
                let mut made = 0;
                let outcome = weigh(&rows(count.into()), &dummy, now, Duration::from_secs(10_000), 64, |k| {
                    made += 1;
                    *k.octets() == [right; 32]
                });
                assert_eq!(made, 64, "{count} keys, number {right} right");
                let there = right > 0 && right <= count;
                let status = if there && right % 2 == 0 { Status::Valid } else { Status::Invalid };
                let reason = (there && right % 2 == 1).then_some(Reason::Expired);
                assert_eq!((outcome.status, outcome.reason), (status, reason), "{count} {right}");
            }
        }
    }

    #[test]
    fn h_ended_keys_beyond_the_comparisons_are_left_out_and_living_ones_never() {
        let (dummy, now) = (VerifyKey::from_octets([0xff; 32]), UNIX_EPOCH + Duration::from_secs(1_000));
        let judge = |rows: &[KeyRow], comparisons: usize, right: u8| {
            let mut made = 0;
            let outcome = weigh(rows, &dummy, now, Duration::from_secs(10_000), comparisons, |k| {
                made += 1;
                *k.octets() == [right; 32]
            });
            (made, outcome.status, outcome.reason)
        };
        // 100 keys that all ended, one after another, and before them one that lives the longest.
        let mut ended = rows(101);
        for (row, end) in ended.iter_mut().zip(500_u64..) {
            row.expires = UNIX_EPOCH + Duration::from_secs(end);
        }
        ended[0].expires = UNIX_EPOCH + Duration::from_secs(9_000);
        assert_eq!(judge(&ended, 16, 1), (16, Status::Valid, None));
        assert_eq!(judge(&ended, 16, 101), (16, Status::Invalid, Some(Reason::Expired)), "the one that ended last");
        assert_eq!(judge(&ended, 16, 2), (16, Status::Invalid, None), "the one that ended first");
        // More living keys than comparisons, of a table that was made under a larger limit.
        let living: Vec<KeyRow> = rows(60).into_iter().filter(|row| row.generation % 2 == 0).collect();
        for right in (2..=60).step_by(2) {
            assert_eq!(judge(&living, 16, right), (30, Status::Valid, None), "{right}");
        }
    }

    #[test]
    fn h_the_dummy_that_fills_up_never_vouches() {
        let (dummy, now) = (VerifyKey::from_octets([0xff; 32]), UNIX_EPOCH);
        let outcome = weigh(&[], &dummy, now, Duration::ZERO, 8, |k| *k == dummy);
        assert_eq!((outcome.status, outcome.reason), (Status::Invalid, None));
    }
}
