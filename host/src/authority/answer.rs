//! Answering VERIFY over UDP (VERIFY §2).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error, info, warn};

use super::issue::{KeyState, state};
use super::{Authority, Error};
use crate::proto::key::VerifyKey;
use crate::proto::wire::{self, Credential, DATAGRAM_MAX, Reason, Request, Status};
use crate::store::{self, KeyRow};

/// Comparisons come in blocks of this many, filled up with the dummy: an address with a few keys costs what an unknown
/// one costs. AGI and AVT by default leave six keys in the table, ended ones included.
const BLOCK: usize = 8;

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
        for socket in sockets {
            let socket = Arc::new(socket);
            for _ in 0..self.limits.answers_at_once.max(1) {
                tasks.spawn(self.clone().answer_on(socket.clone(), shutdown.clone()));
            }
        }
        tasks.spawn(self.clone().write_counts_often(shutdown.clone()));
        tasks.spawn(self.clone().sweep_often(shutdown));
        tasks.close();
        tasks.wait().await;
        self.write_counts_or_warn().await;
    }

    async fn answer_on(self: Arc<Self>, socket: Arc<UdpSocket>, shutdown: CancellationToken) {
        // One octet more than a datagram may have, so that one that is too long shows.
        let mut room = [0; DATAGRAM_MAX + 1];
        loop {
            let received = tokio::select! {
                () = shutdown.cancelled() => return,
                received = socket.recv_from(&mut room) => received,
            };
            let (length, peer) = match received {
                Ok(received) => received,
                Err(e) => {
                    // ICMP errors of earlier answers surface here; anything that lasts must not spin.
                    report(&e);
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                }
            };
            if let Some(reply) = self.answer(room.get(..length).unwrap_or_default(), peer).await
                && let Err(e) = socket.send_to(&reply, peer).await
            {
                debug!(%peer, "the answer cannot be sent: {e}");
            }
        }
    }

    /// The answer to one datagram, if it gets one: never longer than the datagram.
    pub async fn answer(&self, datagram: &[u8], peer: SocketAddr) -> Option<Vec<u8>> {
        let (seq, address, outcome) = match Request::read(datagram, DATAGRAM_MAX) {
            Request::Silence => {
                debug!(%peer, octets = datagram.len(), "not a question: no answer");
                return None;
            }
            Request::Refused { seq, address, reason } => (seq, address, Outcome::unverified(reason)),
            Request::Asked { seq, address, decoded, credential, tags } => {
                let question = Question { seq, address, credential, tags };
                (seq, address, self.judge(&decoded, &question, peer.ip()).await)
            }
        };
        let Outcome { status, valid_for, reason } = outcome;
        debug!(%peer, address = %address.escape_ascii(), ?status, ?reason, "answered");
        wire::reply(seq, address, status, valid_for, reason, datagram.len().min(DATAGRAM_MAX))
    }

    async fn judge(&self, decoded: &str, question: &Question<'_>, peer: IpAddr) -> Outcome {
        let Some(address) = self.own(decoded) else { return Outcome::unverified(Reason::Domain) };
        let rows = self.keys.of(&address).await;
        self.tell_trouble(rows.as_ref().err());
        let Ok(rows) = rows else { return Outcome::unverified(Reason::Temp) };
        let outcome = self.compare(&rows, question, self.clock.now());
        let counted = outcome.status == Status::Invalid && outcome.reason.is_none();
        if counted && !self.invalid.lock().unwrap_or_else(PoisonError::into_inner).allow(peer, Instant::now()) {
            return Outcome::unverified(Reason::Limit);
        }
        if counted {
            self.count_invalid(&address, !rows.is_empty(), question.tags, peer);
        }
        outcome
    }

    /// Says when trouble with the table begins and ends, not once for each question: anybody can ask as often as he likes.
    fn tell_trouble(&self, trouble: Option<&store::Error>) {
        match (trouble, self.troubled.swap(trouble.is_some(), Ordering::Relaxed)) {
            (Some(e), false) => error!("the table of keys cannot be read, so questions are answered e=temp: {e}"),
            (None, true) => info!("the table of keys can be read again"),
            _ => {}
        }
    }

    /// Compares with every key of the address and with the dummy, never stopping at a match: the work does not tell
    /// whether the address has keys, or which one it was.
    fn compare(&self, rows: &[KeyRow], question: &Question<'_>, now: SystemTime) -> Outcome {
        let asked = match &question.credential {
            Credential::Key(key) => Some(key.verify_key()),
            Credential::Proof(_) => None,
        };
        let matches = |k: &VerifyKey| match (&asked, &question.credential) {
            (Some(asked), _) => asked == k,
            (None, Credential::Proof(proof)) => k.checks(proof, question.seq, question.address, question.tags),
            (None, Credential::Key(_)) => false,
        };
        let (mut living, mut expired) = (None, false);
        for row in rows {
            let hit = matches(&row.k);
            match state(row, now) {
                KeyState::Living if hit => living = Some(row.expires),
                KeyState::Expired if hit => {
                    expired |= now.duration_since(row.expires).is_ok_and(|age| age <= self.limits.expired_kept);
                }
                _ => {}
            }
        }
        for _ in rows.len()..rows.len().max(1).next_multiple_of(BLOCK) {
            std::hint::black_box(matches(std::hint::black_box(&self.dummy)));
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

    async fn sweep_often(self: Arc<Self>, shutdown: CancellationToken) {
        loop {
            match self.sweep().await {
                Ok(0) => {}
                Ok(keys) => info!(keys, "ended keys deleted"),
                Err(e) => warn!("ended keys are not deleted: {e}"),
            }
            if let Err(e) = self.sweep_forged().await {
                warn!("old counts of wrong keys are not deleted: {e}");
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(self.limits.key_sweep) => {}
            }
        }
    }
}

/// The part of a question that a credential vouches for.
struct Question<'a> {
    seq: &'a [u8],
    address: &'a [u8],
    credential: Credential<'a>,
    tags: &'a [u8],
}

fn report(e: &io::Error) {
    match e.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => debug!("an answer was not taken: {e}"),
        _ => warn!("cannot receive questions: {e}"),
    }
}
