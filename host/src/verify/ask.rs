//! The VERIFY client (VERIFY §3): a question over UDP by its schedule, and over TLS where an AS wants that or UDP came to nothing.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::exchange::{Exchange, Step};
use super::locate::Endpoint;
use super::peers::{Over, Peer, Peers};
use super::schedule::FAIR;
use super::stream::Streams;
use crate::case::Why;
use crate::config::Limits;
use crate::proto::address::Address;
use crate::proto::key::AuthKey;
use crate::proto::wire::{Answer, Question, Reason, STREAM_MAX, Status};
use crate::tls::Connector;

/// What came out of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// VALIDKEY, and for how many seconds more.
    Valid {
        /// `t=`
        valid_for: Option<u32>,
    },
    /// INVALIDKEY: wrong or expired.
    Invalid(Why),
    /// Nobody could say.
    Unverified(Why),
}

impl Said {
    /// What an answer says.
    pub(super) fn by(answer: &Answer) -> Said {
        match (answer.status, answer.reason) {
            (Status::Valid, _) => Said::Valid { valid_for: answer.valid_for },
            (Status::Invalid, Some(Reason::Expired)) => Said::Invalid(Why::Expired),
            (Status::Invalid, _) => Said::Invalid(Why::Wrong),
            (Status::Unverified, Some(Reason::Limit | Reason::Stream)) => Said::Unverified(Why::Limit),
            // DNS led to a server that does not speak for this domain, or not this protocol.
            (Status::Unverified, Some(Reason::Domain | Reason::Version | Reason::Syntax)) => Said::Unverified(Why::Dns),
            (Status::Unverified, _) => Said::Unverified(Why::Timeout),
        }
    }
}

/// What came out of a question, and who said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) said: Said,
    /// Absent where nobody answered.
    pub(super) endpoint: Option<Endpoint>,
    /// Over what it answered.
    pub(super) over: Over,
}

impl Verdict {
    pub(super) fn unverified(why: Why) -> Verdict {
        Verdict { said: Said::Unverified(why), endpoint: None, over: Over::Udp }
    }

    /// Who said so, as it is told: `as.example.com:4410`, and ` over TLS` where that is so.
    pub(super) fn authority(&self) -> Option<String> {
        let authority = &self.endpoint.as_ref()?.authority;
        Some(match self.over {
            Over::Udp => authority.clone(),
            Over::Tls => format!("{authority} over TLS"),
        })
    }

    fn decides(&self) -> bool {
        !matches!(self.said, Said::Unverified(_))
    }
}

/// Asks Authentication Servers, within the budgets.
pub(super) struct Asker {
    peers: Peers,
    in_flight: Semaphore,
    streams: Streams,
    from: String,
    limits: Arc<Limits>,
}

/// One question: who is asked, about what, and until when.
pub(super) struct Inquiry {
    pub(super) address: Address,
    pub(super) key: AuthKey,
    /// In order of priority; at most [`Limits::endpoints`].
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) deadline: Instant,
    /// TLS goes before UDP, where an endpoint offers it.
    pub(super) stream_first: bool,
}

impl Asker {
    /// `from`: our own name, a claim for the AS's log.
    pub(super) fn new(from: &str, connector: Connector, limits: &Arc<Limits>) -> Asker {
        Asker {
            peers: Peers::new(limits),
            in_flight: Semaphore::new(limits.questions),
            streams: Streams::new(connector, limits),
            from: from.to_owned(),
            limits: limits.clone(),
        }
    }

    /// Asks. Ends by the deadline; over UDP 3 s after the first send.
    pub(super) async fn ask(&self, inquiry: Inquiry) -> Verdict {
        let domain = inquiry.address.domain().to_owned();
        if !self.peers.spend(&domain, Instant::now()) {
            return Verdict::unverified(Why::Limit);
        }
        let outcome = self.ask_with_token(inquiry).await;
        if matches!(outcome, Err(_) | Ok(Verdict { said: Said::Valid { .. }, .. })) {
            self.peers.refund(&domain);
        }
        outcome.unwrap_or_else(Verdict::unverified)
    }

    /// Asks the first endpoint alone, past the domain's budget and the breaker: those bound what other people's mail causes.
    pub(super) async fn ask_alone(&self, inquiry: Inquiry) -> Verdict {
        let Ok(Ok(_one_of_all)) = timeout_at(inquiry.deadline, self.in_flight.acquire()).await else {
            return Verdict::unverified(Why::Limit);
        };
        let own = |over: Over| {
            let first = inquiry.endpoints.first().filter(|endpoint| over.is_offered_by(endpoint));
            first.map(|endpoint| (endpoint.clone(), self.peers.stranger())).into_iter().collect()
        };
        let udp = Exchange::new(&inquiry, own(Over::Udp), &self.from);
        self.ask_both(&inquiry, udp, own(Over::Tls)).await
    }

    /// The verdict; the reason where nobody was asked.
    async fn ask_with_token(&self, inquiry: Inquiry) -> Result<Verdict, Why> {
        let now = Instant::now();
        let admitted = |over: Over| {
            let offered = inquiry.endpoints.iter().filter(move |endpoint| over.is_offered_by(endpoint));
            let peers = offered.map(|endpoint| (endpoint.clone(), self.peers.endpoint(endpoint.address, over)));
            peers.filter(|(_, peer)| peer.admits(now)).collect::<Vec<_>>()
        };
        let (mut udp, mut tls) = (admitted(Over::Udp), admitted(Over::Tls));
        let Some((first, peer)) = udp.first().or(tls.first()).cloned() else { return Err(Why::Timeout) };
        // Waits its turn with the first endpoint, then in general: in this order, so that the many who wait for one slow
        // endpoint take nobody else's place. The other endpoints are skipped where they are busy.
        let turn = async { (peer.room.clone().acquire_owned().await, self.in_flight.acquire().await) };
        let Ok((Ok(room), Ok(_one_of_all))) = timeout_at(inquiry.deadline, turn).await else {
            return Err(Why::Limit);
        };
        // Those who went before may have found out meanwhile that nobody is there.
        udp.retain(|(_, peer)| !peer.is_open(Instant::now()));
        tls.retain(|(_, peer)| !peer.is_open(Instant::now()));
        if udp.is_empty() && tls.is_empty() {
            return Err(Why::Timeout);
        }
        let mut exchange = Exchange::new(&inquiry, udp, &self.from);
        exchange.give_room(&first, room);
        Ok(self.ask_both(&inquiry, exchange, tls).await)
    }

    /// UDP by its schedule, and one try over TLS: when an AS asks for it, else when UDP has come to nothing.
    async fn ask_both(&self, inquiry: &Inquiry, mut udp: Exchange, mut tls: Vec<(Endpoint, Arc<Peer>)>) -> Verdict {
        if inquiry.stream_first && !tls.is_empty() {
            let (endpoint, peer) = tls.remove(0);
            let verdict = self.ask_stream(inquiry, endpoint, &peer).await;
            if verdict.decides() {
                return verdict;
            }
            tls.clear();
        }
        let verdict = loop {
            match udp.run(inquiry.deadline).await {
                Step::Over(verdict) => break verdict,
                Step::Stream(wanted) => {
                    let Some(at) = tls.iter().position(|(endpoint, _)| *endpoint == wanted) else {
                        udp.no_stream();
                        continue;
                    };
                    let (endpoint, peer) = tls.remove(at);
                    tls.clear();
                    // No more is sent; what was sent before may still be answered.
                    let verdict = tokio::select! {
                        verdict = udp.listen() => verdict,
                        verdict = self.ask_stream(inquiry, endpoint, &peer) => verdict,
                    };
                    if verdict.decides() {
                        return verdict;
                    }
                    udp.no_stream();
                }
            }
        };
        match tls.into_iter().next() {
            Some((endpoint, peer)) if !verdict.decides() => {
                let last = self.ask_stream(inquiry, endpoint, &peer).await;
                // Whoever answered tells more than whoever did not.
                if last.decides() || last.endpoint.is_some() || verdict.endpoint.is_none() { last } else { verdict }
            }
            _ => verdict,
        }
    }

    /// One try over TLS. The key itself goes out where the AS takes no proof, and only after its certificate has passed.
    async fn ask_stream(&self, inquiry: &Inquiry, endpoint: Endpoint, peer: &Peer) -> Verdict {
        let deadline = inquiry.deadline.min(Instant::now() + self.limits.stream_try);
        let question = question(inquiry, &self.from, STREAM_MAX);
        let line = match endpoint.offers.h1 {
            true => question.line(STREAM_MAX).map(zeroize::Zeroizing::new),
            false => question.line_with_key(&inquiry.key, STREAM_MAX),
        };
        let Some(line) = line else { return Verdict::unverified(Why::NoProof) };
        let Ok(Ok(_room)) = timeout_at(deadline, peer.room.clone().acquire_owned()).await else {
            return Verdict::unverified(Why::Limit);
        };
        let start = Instant::now();
        let answer = timeout_at(deadline, self.streams.ask(&endpoint, question, line)).await;
        let said = match &answer {
            Ok(Some(answer)) => Said::by(answer),
            Ok(None) | Err(_) => Said::Unverified(Why::Timeout),
        };
        let now = Instant::now();
        match said {
            Said::Unverified(Why::Dns) => {}
            // Cut short by the message's own time, its silence says nothing.
            Said::Unverified(_) if answer.is_err() && now.saturating_duration_since(start) < FAIR => {}
            Said::Unverified(_) => peer.timed_out(now),
            Said::Valid { .. } | Said::Invalid(_) => peer.decided(),
        }
        let answered = matches!(answer, Ok(Some(_)));
        Verdict { said, endpoint: answered.then_some(endpoint), over: Over::Tls }
    }
}

/// The question with a new sequence number; without the claim of who asks where the line would be too long: that is worth
/// less than an answer.
pub(super) fn question(inquiry: &Inquiry, from: &str, room: usize) -> Arc<Question> {
    let seq = format!("{:032x}", rand::random::<u128>());
    let question = Question::new(seq.clone(), &inquiry.address, &inquiry.key, from);
    let fits = question.line(room).is_some();
    Arc::new(if fits { question } else { Question::new(seq, &inquiry.address, &inquiry.key, "") })
}
