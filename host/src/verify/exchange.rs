//! One question over UDP: its sockets, its sends and what is heard (SPECIFICATION §3.1). The raw key never leaves here.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::inquiry::{Inquiry, Said, Verdict, question};
use super::locate::Endpoint;
use super::peers::{Over, Passage, Peer};
use super::schedule::{END, FAIR, Schedule};
use crate::case::{Limited, Why};
use crate::proto::wire::{Answer, DATAGRAM_MAX, Question, Reason};

/// Errors that one socket may report before it is no longer read: a socket that only fails must not spin.
const SOCKET_ERRORS: usize = 32;
/// Answers read ahead, from all endpoints of a question: each has its own sender of at most a few.
const EVENTS: usize = 16;

/// Where a question stands.
pub(super) enum Step {
    /// This endpoint asks for TLS; nothing is sent until [`Exchange::no_stream`].
    Stream(Endpoint),
    /// It is over.
    Over(Verdict),
}

/// An endpoint in one question.
struct Target {
    endpoint: Endpoint,
    peer: Arc<Peer>,
    question: Arc<Question>,
    line: Option<Vec<u8>>,
    /// It was to be sent to, and its budget was spent.
    refused: bool,
    socket: Option<Arc<UdpSocket>>,
    /// When it was sent to first.
    sent: Option<Instant>,
    /// It has answered, or its ICMP error was counted: the breaker knows already.
    settled: bool,
}

/// What a socket has to tell.
enum Event {
    Answer(usize, Answer),
    Unreachable(usize),
}

/// One question under way.
pub(super) struct Exchange {
    targets: Vec<Target>,
    schedule: Schedule,
    start: Instant,
    events: (mpsc::Sender<Event>, mpsc::Receiver<Event>),
    /// One reader for each socket; they end with the question.
    readers: JoinSet<()>,
    /// The gravest of the answers that decided nothing.
    undecided: Option<(Said, Endpoint)>,
    /// Who asked for TLS, until it is known what came of that.
    wants_stream: Option<usize>,
    passage: Arc<Passage>,
}

impl Exchange {
    /// A question to these endpoints, in this order, that goes to each within its budget; there may be none.
    pub(super) fn new(
        inquiry: &Inquiry,
        targets: Vec<(Endpoint, Arc<Peer>)>,
        from: &str,
        passage: &Arc<Passage>,
    ) -> Exchange {
        let target = |(endpoint, peer)| {
            let question = question(inquiry, from, DATAGRAM_MAX);
            let line = question.line(DATAGRAM_MAX);
            Target { endpoint, peer, question, line, refused: false, socket: None, sent: None, settled: false }
        };
        let targets: Vec<Target> = targets.into_iter().map(target).collect();
        Exchange {
            schedule: Schedule::new(targets.len(), |most| rand::random_range(0..=most)),
            targets,
            start: Instant::now(),
            events: mpsc::channel(EVENTS),
            readers: JoinSet::new(),
            undecided: None,
            wants_stream: None,
            passage: passage.clone(),
        }
    }

    /// Asks until an answer decides, the end comes, or somebody wants TLS; goes on where it was when called again.
    pub(super) async fn run(&mut self, deadline: Instant) -> Step {
        if self.targets.iter().all(|target| target.line.is_none()) {
            // Longer than a datagram: only a stream could carry it (SPECIFICATION §1.2).
            return Step::Over(Verdict::unverified(Why::NoProof));
        }
        let end = deadline.min(self.start + END);
        while !self.schedule.is_over() {
            let next = self.schedule.next();
            let wake = next.map_or(end, |(at, _)| end.min(self.start + at));
            tokio::select! {
                biased;
                Some(event) = self.events.1.recv() => {
                    if let Some(verdict) = self.hear(event) {
                        return Step::Over(verdict);
                    }
                    if let Some(target) = self.wants_stream.and_then(|index| self.targets.get(index)) {
                        return Step::Stream(target.endpoint.clone());
                    }
                }
                () = sleep_until(wake) => match next {
                    Some((_, index)) if wake < end => {
                        self.schedule.sent();
                        self.send(index).await;
                    }
                    _ => break,
                },
            }
        }
        Step::Over(self.give_up())
    }

    /// Hears what comes while TLS is tried; ends with an answer that decides.
    pub(super) async fn listen(&mut self) -> Verdict {
        loop {
            if let Some(event) = self.events.1.recv().await
                && let Some(verdict) = self.hear(event)
            {
                return verdict;
            }
        }
    }

    /// Nothing came of TLS: `e=stream` counts as `e=limit`, and the question goes on.
    pub(super) fn no_stream(&mut self) {
        if let Some(index) = self.wants_stream.take() {
            self.note(index, Some(Reason::Limit));
            self.schedule.answered(index, self.start.elapsed());
        }
    }

    /// Takes an answer or an error in; a verdict where it decides.
    fn hear(&mut self, event: Event) -> Option<Verdict> {
        let now = self.start.elapsed();
        match event {
            Event::Unreachable(index) => self.unreachable(index),
            Event::Answer(index, answer) => {
                let target = self.targets.get_mut(index)?;
                let said = Said::by(&answer);
                if matches!(said, Said::Valid { .. } | Said::Invalid(_)) {
                    target.peer.decided(Over::Udp);
                    return Some(Verdict { said, endpoint: Some(target.endpoint.clone()), over: Over::Udp });
                }
                if answer.reason == Some(Reason::Stream) && target.endpoint.offers.tls && self.wants_stream.is_none() {
                    self.wants_stream = Some(index);
                } else {
                    self.note(index, answer.reason);
                    self.schedule.answered(index, now);
                }
            }
        }
        None
    }

    /// An answer that decides nothing. Trouble of the server's own counts as a timeout; its limit does not, nor does a refusal
    /// to speak of this domain or in this way.
    fn note(&mut self, index: usize, reason: Option<Reason>) {
        let Some(target) = self.targets.get_mut(index) else { return };
        let said = match reason {
            Some(Reason::Limit | Reason::Stream) => Said::Limited(Limited::There),
            // DNS led to a server that does not speak for this domain, or not this protocol.
            Some(Reason::Domain | Reason::Version | Reason::Syntax) => Said::Unverified(Why::Dns),
            _ => Said::Unverified(Why::Timeout),
        };
        if said == Said::Unverified(Why::Timeout) && !target.settled {
            target.peer.timed_out(Over::Udp, Instant::now());
        }
        target.settled = true;
        if self.undecided.as_ref().is_none_or(|(known, _)| !matches!(known, Said::Limited(_))) {
            self.undecided = Some((said, target.endpoint.clone()));
        }
    }

    fn unreachable(&mut self, index: usize) {
        let Some(target) = self.targets.get_mut(index) else { return };
        if !target.settled {
            target.settled = true;
            target.peer.timed_out(Over::Udp, Instant::now());
        }
        self.schedule.unreachable(index, self.start.elapsed());
    }

    async fn send(&mut self, index: usize) {
        let sent = self.try_send(index).await;
        if sent.is_err() {
            self.unreachable(index);
        }
    }

    async fn try_send(&mut self, index: usize) -> std::io::Result<()> {
        let Some(target) = self.targets.get_mut(index) else { return Ok(()) };
        let Some(line) = &target.line else { return Ok(()) };
        if !self.passage.passes_now(target.endpoint.address, &target.peer.gate) {
            target.refused = true;
            return Ok(());
        }
        target.sent.get_or_insert_with(Instant::now);
        let socket = match &target.socket {
            Some(socket) => socket.clone(),
            None => {
                let socket = Arc::new(connect(target.endpoint.address).await?);
                target.socket = Some(socket.clone());
                let (question, events) = (target.question.clone(), self.events.0.clone());
                self.readers.spawn(read(index, socket.clone(), question, events));
                socket
            }
        };
        // An error of an earlier datagram may surface here instead of at the reader; this one has not left then.
        match socket.send(line).await {
            Ok(_) => Ok(()),
            Err(_) if target.settled => socket.send(line).await.map(drop),
            Err(error) => Err(error),
        }
    }

    /// The end without a decision: whoever was sent to and kept silent has timed out, unless the message's own time was up
    /// so early that silence says nothing. Otherwise a domain with slow DNS could close somebody else's AS to us.
    fn give_up(&mut self) -> Verdict {
        let now = Instant::now();
        let had_time = |target: &&Target| target.sent.is_some_and(|at| now.saturating_duration_since(at) >= FAIR);
        for target in self.targets.iter().filter(had_time).filter(|target| !target.settled) {
            target.peer.timed_out(Over::Udp, now);
        }
        // Whoever could not be asked might have decided.
        let missed = self.targets.iter().any(|target| target.refused && target.sent.is_none());
        match self.undecided.take() {
            Some((Said::Unverified(_), _)) | None if missed => Verdict::limited(),
            Some((said, endpoint)) => Verdict { said, endpoint: Some(endpoint), over: Over::Udp },
            None => Verdict::unverified(Why::Timeout),
        }
    }
}

/// A socket of its own for each question and endpoint: its port, chosen by the kernel, is one more thing to guess.
async fn connect(address: SocketAddr) -> std::io::Result<UdpSocket> {
    let any = match address {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(address).await?;
    Ok(socket)
}

/// Reads a socket until the question ends. Whatever is no answer to it is ignored: only the kernel's check of the source,
/// seq and address together make one.
async fn read(index: usize, socket: Arc<UdpSocket>, question: Arc<Question>, events: mpsc::Sender<Event>) {
    let mut buffer = [0; DATAGRAM_MAX + 1];
    let mut errors = 0;
    while errors < SOCKET_ERRORS {
        let event = match socket.recv(&mut buffer).await {
            // One octet more than allowed was read: the rest of the datagram is unknown.
            Ok(length) => match buffer.get(..length.min(DATAGRAM_MAX + 1)).filter(|line| line.len() <= DATAGRAM_MAX) {
                Some(line) => match Answer::parse(line).filter(|answer| question.is_answered_by(answer)) {
                    Some(answer) => Event::Answer(index, answer),
                    None => continue,
                },
                None => continue,
            },
            Err(_) => {
                errors += 1;
                Event::Unreachable(index)
            }
        };
        let last = matches!(event, Event::Answer(..));
        // The first answer counts; a second is not read.
        if events.send(event).await.is_err() || last {
            return;
        }
    }
}
