//! Answering VERIFY (SPECIFICATION §2).

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::Authority;
use super::asked::Keys;
use super::weigh::{Outcome, weigh};
use crate::proto::key::{Claim, Proven};
use crate::proto::wire::{self, Credential, DATAGRAM_MAX, Reason, Request, STREAM_MAX, Status};
use crate::store::{self, KeyRow};

/// What a question came over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    Udp,
    Tls,
}

/// A line that was read.
#[derive(Debug)]
pub(super) struct Line<'a> {
    over: Over,
    request: Request<'a>,
    /// The address that it asks about, folded, where that is one of ours.
    pub(super) own: Option<String>,
    octets: usize,
    peer: SocketAddr,
}

impl Line<'_> {
    /// Whether it is no question at all: nothing is looked up for it, and nothing is said.
    pub(super) fn is_junk(&self) -> bool {
        matches!(self.request, Request::Silence)
    }
}

/// The keys of several addresses, in their order.
pub(super) struct Found {
    /// Absent where the table cannot be read.
    pub(super) keys: Vec<Option<Arc<Keys>>>,
    /// Whether nothing had to be read.
    pub(super) from_memory: bool,
}

impl Found {
    pub(super) fn nothing(count: usize) -> Found {
        Found { keys: vec![None; count], from_memory: false }
    }
}

impl Authority {
    /// The answer to one datagram, if it gets one: never longer than the datagram.
    pub async fn answer(&self, datagram: &[u8], peer: SocketAddr) -> Option<Vec<u8>> {
        self.answers(&[self.read(Over::Udp, datagram, peer)]).await.pop().flatten()
    }

    /// The answer to one line on TLS; absent where the connection is to be closed.
    pub async fn answer_line(&self, line: &[u8], peer: SocketAddr) -> Option<Vec<u8>> {
        self.answers(&[self.read(Over::Tls, line, peer)]).await.pop().flatten()
    }

    /// The answers to these lines, in their order; what is not in memory of their addresses is looked up by one question.
    pub(super) async fn answers(&self, lines: &[Line<'_>]) -> Vec<Option<Vec<u8>>> {
        let wanted: Vec<&str> = lines.iter().filter_map(|line| line.own.as_deref()).collect();
        let mut found = match wanted.is_empty() {
            true => Vec::new(),
            false => self.look_up(&wanted).await.keys,
        }
        .into_iter();
        let answer = |line: &Line<'_>| {
            let keys = line.own.as_ref().and_then(|_| found.next());
            self.answer_one(line, keys.flatten().as_deref())
        };
        lines.iter().map(answer).collect()
    }

    /// Reads a line, whatever it is.
    pub(super) fn read<'a>(&self, over: Over, line: &'a [u8], peer: SocketAddr) -> Line<'a> {
        let longest = if over == Over::Udp { DATAGRAM_MAX } else { STREAM_MAX };
        let request = Request::read(line, longest);
        let own = match &request {
            Request::Asked { decoded, .. } => self.own(decoded),
            _ => None,
        };
        Line { over, request, own, octets: line.len(), peer }
    }

    /// The keys of these addresses (folded), in their order; absent where the table cannot be read. Where it has a log of
    /// changes, this is done when it is first polled.
    pub(super) async fn look_up(&self, wanted: &[&str]) -> Found {
        let found = self.look_up_or_fail(wanted).await;
        self.tell_trouble(found.as_ref().err());
        found.unwrap_or_else(|_| Found::nothing(wanted.len()))
    }

    async fn look_up_or_fail(&self, wanted: &[&str]) -> Result<Found, store::Error> {
        self.follow_log().await?;
        let (mut keys, ticket) = self.asked.recall(wanted);
        let missing = wanted.iter().zip(&keys).filter(|(_, keys)| keys.is_none());
        let mut missing: Vec<String> = missing.map(|(address, _)| (*address).to_owned()).collect();
        missing.sort_unstable();
        missing.dedup();
        if missing.is_empty() {
            return Ok(Found { keys, from_memory: true });
        }
        let mut rows = Vec::new();
        for some in missing.chunks(self.limits.authority.answers_together.max(1)) {
            rows.append(&mut self.keys.of_all(some).await?);
        }
        let by_address: HashMap<&str, &[KeyRow]> = (rows.chunk_by(|one, other| one.address == other.address))
            .filter_map(|rows| Some((rows.first()?.address.as_str(), rows)))
            .collect();
        for (address, keys) in wanted.iter().zip(&mut keys).filter(|(_, keys)| keys.is_none()) {
            *keys = Some(self.asked.hold(ticket, address, by_address.get(address).copied().unwrap_or_default()));
        }
        Ok(Found { keys, from_memory: false })
    }

    /// Takes out of memory what the log of changes tells of.
    async fn follow_log(&self) -> Result<(), store::Error> {
        if let Some(log) = self.keys.log() {
            self.asked.follow(log.changes(self.asked.place().as_ref()).await?);
        }
        Ok(())
    }

    /// `keys`: those of the line's address, where the table can be read.
    pub(super) fn answer_one(&self, line: &Line<'_>, keys: Option<&Keys>) -> Option<Vec<u8>> {
        let Line { over, request, own, octets, peer } = line;
        let room = if *over == Over::Udp { (*octets).min(DATAGRAM_MAX) } else { STREAM_MAX };
        let (seq, address, outcome) = match request {
            Request::Silence => {
                debug!(%peer, octets, "not a question: no answer");
                return None;
            }
            Request::Refused { seq, address, reason } => (seq, address, Outcome::unverified(*reason)),
            Request::Asked { seq, address, credential, tags, .. } => {
                let question = Question { credential, proven: Proven::new(seq, address, tags), tags };
                let outcome = match (own, keys) {
                    (None, _) => Outcome::unverified(Reason::Domain),
                    (Some(_), None) => Outcome::unverified(Reason::Temp),
                    (Some(address), Some(keys)) => self.judge(*over, address, keys, &question, peer.ip()),
                };
                (seq, address, outcome)
            }
        };
        let Outcome { status, valid_for, reason } = outcome;
        let place = match status {
            Status::Valid => 0,
            Status::Invalid => 1,
            Status::Unverified => 2,
        };
        if let Some(count) = self.answered.get(place) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        debug!(%peer, ?over, address = %address.escape_ascii(), ?status, ?reason, "answered");
        wire::reply(seq, address, status, valid_for, reason, room)
    }

    fn judge(&self, over: Over, address: &str, keys: &Keys, question: &Question<'_>, peer: IpAddr) -> Outcome {
        let outcome = self.compare(keys, question);
        let counted = outcome.status == Status::Invalid && outcome.reason.is_none();
        if counted && !self.may_deny(over, peer) {
            let stream = over == Over::Udp && self.offers_tls;
            return Outcome::unverified(if stream { Reason::Stream } else { Reason::Limit });
        }
        if counted {
            self.count_invalid(address, keys.has_any, question.tags, peer);
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

    /// A revoked key is simply wrong, and no candidate: it was taken back because somebody else may have it.
    fn compare(&self, keys: &Keys, question: &Question<'_>) -> Outcome {
        let claim = match question.credential {
            Credential::Key(key) => Claim::of_key(key, &question.proven),
            Credential::Proof(proof) => Claim::of_proof(proof),
        };
        let (kept, comparisons) = (self.limits.authority.expired_kept, self.asked.comparisons());
        weigh(&keys.candidates, &self.dummy, self.clock.now(), kept, comparisons, |key| {
            key.agrees(&claim, &question.proven)
        })
    }

    pub(super) async fn sweep_often(self: Arc<Self>, shutdown: CancellationToken) {
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
            if let Some(log) = self.keys.log()
                && let Err(e) = log.trim_changes(self.limits.authority.log_rows).await
            {
                warn!("old rows of the log of changes are not deleted: {e}");
            }
            if let Err(e) = self.sweep_forged().await {
                warn!("old counts of wrong keys are not deleted: {e}");
            }
        }
    }
}

/// The part of a question that a credential vouches for.
struct Question<'a> {
    credential: &'a Credential<'a>,
    proven: Proven,
    tags: &'a [u8],
}
