//! The VERIFY client (SPECIFICATION §3): a question over UDP by its schedule, and over TLS where an AS wants that or UDP came to
//! nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::bringer::Joiners;
use super::exchange::{Exchange, Step};
use super::gate::{Gate, Turned};
use super::inquiry::{Inquiry, Said, Verdict, question};
use super::locate::Endpoint;
use super::peers::{Over, Passage, Peer, Peers};
use super::schedule::{END, FAIR};
use super::stream::Streams;
use crate::case::Why;
use crate::config::Limits;
use crate::proto::wire::STREAM_MAX;
use crate::tls::Connector;

/// How long a question may have waited for its turn without that being the reason why it ran out of time.
const AT_ONCE: Duration = Duration::from_millis(100);

/// Asks Authentication Servers, within the budgets.
pub(super) struct Asker {
    peers: Peers,
    common: Arc<Gate>,
    /// Those that wait for an answer to another message's question.
    pub(super) joiners: Arc<Joiners>,
    streams: Streams,
    from: String,
    limits: Arc<Limits>,
}

/// The endpoints of a question, each with what is remembered of it.
type Asked = Vec<(Endpoint, Arc<Peer>)>;

impl Asker {
    /// `from`: our own name, a claim for the AS's log.
    pub(super) fn new(from: &str, connector: Connector, limits: &Arc<Limits>) -> Asker {
        let peers = Peers::new(limits);
        Asker {
            common: peers.common_gate(),
            joiners: peers.joiners(),
            peers,
            streams: Streams::new(connector, limits),
            from: from.to_owned(),
            limits: limits.clone(),
        }
    }

    /// Asks, once it is its turn. Ends by the deadline; over UDP 3 s after the first send.
    pub(super) async fn ask(&self, inquiry: Inquiry) -> Verdict {
        let passage = Arc::new(Passage::new(inquiry.sponsors.clone()));
        let start = Instant::now();
        let (udp, tls) = match self.turn(&inquiry, &passage, start).await {
            Ok(asked) => asked,
            Err(verdict) => {
                passage.refund();
                return verdict;
            }
        };
        let begun = Instant::now();
        let asked: Asked = udp.iter().chain(&tls).cloned().collect();
        let exchange = Exchange::new(&inquiry, udp, &self.from, &passage);
        let verdict = self.ask_both(&inquiry, exchange, tls, &passage).await;
        if matches!(verdict.said, Said::Valid { .. }) {
            passage.answered_by(verdict.endpoint.as_ref().map(|endpoint| endpoint.address));
        }
        // It was asked late, and had no time to be answered: that is no silence of the server's, unless others met that too.
        let late = begun.saturating_duration_since(start) > AT_ONCE && begun + END > inquiry.deadline;
        let now = Instant::now();
        let dead = asked.iter().all(|(_, peer)| peer.is_open(Over::Udp, now) || peer.is_open(Over::Tls, now));
        if late && !dead && verdict.said == Said::Unverified(Why::Timeout) { Verdict::limited() } else { verdict }
    }

    /// Asks the first endpoint alone, past its budget and its breaker: those bound what other people's mail causes.
    pub(super) async fn ask_alone(&self, inquiry: Inquiry) -> Verdict {
        let passage = Arc::new(Passage::new(inquiry.sponsors.clone()));
        if passage.passes(None, &self.common, inquiry.deadline, |_| false).await.is_err() {
            return Verdict::limited();
        }
        let peer = self.peers.stranger();
        let own = |over: Over| -> Asked {
            let first = inquiry.endpoints.first().filter(|endpoint| over.is_offered_by(endpoint));
            first.map(|endpoint| (endpoint.clone(), peer.clone())).into_iter().collect()
        };
        let udp = Exchange::new(&inquiry, own(Over::Udp), &self.from, &passage);
        self.ask_both(&inquiry, udp, own(Over::Tls), &passage).await
    }

    /// Waits for its turn with the first endpoint that is not given up, then in general: in this order, so that the many who
    /// wait for one slow endpoint take nobody else's place. The other endpoints are skipped where they are busy. Whom to ask
    /// over UDP and over TLS; the verdict where nobody is to be asked.
    async fn turn(&self, inquiry: &Inquiry, passage: &Passage, now: Instant) -> Result<(Asked, Asked), Verdict> {
        let admitted = |over: Over| -> Asked {
            let offered = inquiry.endpoints.iter().filter(move |endpoint| over.is_offered_by(endpoint));
            let peers = offered.map(|endpoint| (endpoint.clone(), self.peers.endpoint(endpoint.address)));
            peers.filter(|(_, peer)| peer.admits(over, now)).collect()
        };
        let (mut udp, mut tls) = (admitted(Over::Udp), admitted(Over::Tls));
        // The question itself needs some of the time.
        let until = inquiry.deadline - FAIR.min(inquiry.deadline.saturating_duration_since(now) / 2);
        // Those who went before may find out meanwhile that nobody is there.
        let retain = |udp: &mut Asked, tls: &mut Asked| {
            let now = Instant::now();
            udp.retain(|(_, peer)| !peer.is_open(Over::Udp, now));
            tls.retain(|(_, peer)| !peer.is_open(Over::Tls, now));
        };
        loop {
            let over = if udp.is_empty() { Over::Tls } else { Over::Udp };
            let Some((first, peer)) = udp.first().or(tls.first()).cloned() else {
                return Err(Verdict::unverified(Why::Timeout));
            };
            let is_shut = |now| peer.is_open(over, now);
            match passage.passes(Some(first.address), &peer.gate, until, is_shut).await {
                Ok(()) => break,
                Err(Turned::Shut) => retain(&mut udp, &mut tls),
                Err(Turned::Away | Turned::Late) => return Err(Verdict::limited()),
            }
        }
        if passage.passes(None, &self.common, until, |_| false).await.is_err() {
            return Err(Verdict::limited());
        }
        retain(&mut udp, &mut tls);
        if udp.is_empty() && tls.is_empty() { Err(Verdict::unverified(Why::Timeout)) } else { Ok((udp, tls)) }
    }

    /// UDP by its schedule, and one try over TLS: when an AS asks for it, else when UDP has come to nothing.
    async fn ask_both(&self, inquiry: &Inquiry, mut udp: Exchange, mut tls: Asked, passage: &Passage) -> Verdict {
        let mut before = None;
        if inquiry.stream_first && !tls.is_empty() {
            let (endpoint, peer) = tls.remove(0);
            let verdict = self.ask_stream(inquiry, endpoint, &peer, passage).await;
            if verdict.decides() {
                return verdict;
            }
            before = Some(verdict);
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
                        verdict = self.ask_stream(inquiry, endpoint, &peer, passage) => verdict,
                    };
                    if verdict.decides() {
                        return verdict;
                    }
                    udp.no_stream();
                }
            }
        };
        if verdict.decides() {
            return verdict;
        }
        let last = match tls.into_iter().next() {
            Some((endpoint, peer)) => Some(self.ask_stream(inquiry, endpoint, &peer, passage).await),
            None => before.filter(|before| matches!(before.said, Said::Limited(_))),
        };
        match last {
            Some(last) if last.decides() => last,
            Some(last) => verdict.or(last),
            None => verdict,
        }
    }

    /// One try over TLS. The key itself goes out where the AS takes no proof, and only after its certificate has passed.
    async fn ask_stream(&self, inquiry: &Inquiry, endpoint: Endpoint, peer: &Peer, passage: &Passage) -> Verdict {
        let deadline = inquiry.deadline.min(Instant::now() + self.limits.verify.stream_try);
        let question = question(inquiry, &self.from, STREAM_MAX);
        let line = match endpoint.offers.h1 {
            true => question.line(STREAM_MAX).map(zeroize::Zeroizing::new),
            false => question.line_with_key(&inquiry.key, STREAM_MAX),
        };
        let Some(line) = line else { return Verdict::unverified(Why::NoProof) };
        if passage.passes(Some(endpoint.address), &peer.gate, deadline, |_| false).await.is_err() {
            return Verdict::limited();
        }
        let start = Instant::now();
        let answer = timeout_at(deadline, self.streams.ask(&endpoint, question, line)).await;
        let said = match &answer {
            Ok(Some(answer)) => Said::by(answer),
            Ok(None) | Err(_) => Said::Unverified(Why::Timeout),
        };
        let now = Instant::now();
        match said {
            Said::Unverified(Why::Dns) | Said::Limited(_) => {}
            // Cut short by the message's own time, its silence says nothing.
            Said::Unverified(_) if answer.is_err() && now.saturating_duration_since(start) < FAIR => {}
            Said::Unverified(_) => peer.timed_out(Over::Tls, now),
            Said::Valid { .. } | Said::Invalid(_) => peer.decided(Over::Tls),
        }
        let answered = matches!(answer, Ok(Some(_)));
        Verdict { said, endpoint: answered.then_some(endpoint), over: Over::Tls }
    }
}
