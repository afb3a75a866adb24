//! The VERIFY client over UDP (VERIFY §3). There is no TLS: `e=stream` counts as `e=limit`, and the raw key never leaves.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use tokio::net::UdpSocket;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::locate::Endpoint;
use super::peers::{Peer, Peers};
use super::schedule::{END, FAIR, Schedule};
use crate::case::Why;
use crate::config::Limits;
use crate::proto::address::Address;
use crate::proto::key::AuthKey;
use crate::proto::wire::{Answer, DATAGRAM_MAX, Question, Reason, Status};

/// Errors that one socket may report before it is no longer read: a socket that only fails must not spin.
const SOCKET_ERRORS: usize = 32;
/// Answers read ahead, from all endpoints of a question: each has its own sender of at most a few.
const EVENTS: usize = 16;

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

/// What came out of a question, and who said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) said: Said,
    /// Absent where nobody answered.
    pub(super) endpoint: Option<Endpoint>,
}

impl Verdict {
    pub(super) fn unverified(why: Why) -> Verdict {
        Verdict { said: Said::Unverified(why), endpoint: None }
    }
}

/// Asks Authentication Servers, within the budgets.
pub(super) struct Asker {
    peers: Peers,
    in_flight: Semaphore,
    from: String,
}

/// One question: who is asked, about what, and until when.
pub(super) struct Inquiry {
    pub(super) address: Address,
    pub(super) key: AuthKey,
    /// In order of priority; at most [`Limits::endpoints`].
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) deadline: Instant,
}

impl Asker {
    /// `from`: our own name, a claim for the AS's log.
    pub(super) fn new(from: &str, limits: &Arc<Limits>) -> Asker {
        Asker { peers: Peers::new(limits), in_flight: Semaphore::new(limits.questions), from: from.to_owned() }
    }

    /// Asks. Ends by the deadline, and 3 s after the first send.
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
        let target = inquiry.endpoints.first().map(|endpoint| (endpoint.clone(), self.peers.stranger()));
        Exchange::new(&inquiry, target.into_iter().collect(), &self.from).run(inquiry.deadline).await
    }

    /// The verdict; the reason where nobody was asked.
    async fn ask_with_token(&self, inquiry: Inquiry) -> Result<Verdict, Why> {
        let now = Instant::now();
        let peer = |endpoint: &Endpoint| self.peers.endpoint(endpoint.address);
        let open = inquiry.endpoints.iter().map(|endpoint| (endpoint.clone(), peer(endpoint)));
        let mut targets: Vec<_> = open.filter(|(_, peer)| peer.admits(now)).collect();
        let Some((first, peer)) = targets.first().cloned() else { return Err(Why::Timeout) };
        // Waits its turn with the first endpoint, then in general: in this order, so that the many who wait for one slow
        // endpoint take nobody else's place. The other endpoints are skipped where they are busy.
        let turn = async { (peer.room.clone().acquire_owned().await, self.in_flight.acquire().await) };
        let Ok((Ok(room), Ok(_one_of_all))) = timeout_at(inquiry.deadline, turn).await else {
            return Err(Why::Limit);
        };
        // Those who went before may have found out meanwhile that nobody is there.
        targets.retain(|(_, peer)| !peer.is_open(Instant::now()));
        if targets.is_empty() {
            return Err(Why::Timeout);
        }
        let mut exchange = Exchange::new(&inquiry, targets, &self.from);
        if let Some(target) = exchange.targets.first_mut().filter(|target| target.endpoint == first) {
            target.room = Some(room);
        }
        Ok(exchange.run(inquiry.deadline).await)
    }
}

/// An endpoint in one question.
struct Target {
    endpoint: Endpoint,
    peer: Arc<Peer>,
    question: Arc<Question>,
    line: Option<Vec<u8>>,
    room: Option<OwnedSemaphorePermit>,
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
struct Exchange {
    targets: Vec<Target>,
    schedule: Schedule,
    start: Instant,
    events: (mpsc::Sender<Event>, mpsc::Receiver<Event>),
    /// One reader for each socket; they end with the question.
    readers: JoinSet<()>,
    /// The gravest of the answers that decided nothing.
    undecided: Option<(Why, Endpoint)>,
}

impl Exchange {
    fn new(inquiry: &Inquiry, targets: Vec<(Endpoint, Arc<Peer>)>, from: &str) -> Exchange {
        let target = |(endpoint, peer)| {
            let seq = format!("{:032x}", rand::random::<u128>());
            let mut question = Question::new(seq.clone(), &inquiry.address, &inquiry.key, from);
            if question.line(DATAGRAM_MAX).is_none() {
                // The claim of who asks is worth less than an answer.
                question = Question::new(seq, &inquiry.address, &inquiry.key, "");
            }
            let line = question.line(DATAGRAM_MAX);
            let question = Arc::new(question);
            Target { endpoint, peer, question, line, room: None, socket: None, sent: None, settled: false }
        };
        let targets: Vec<Target> = targets.into_iter().map(target).collect();
        Exchange {
            schedule: Schedule::new(targets.len(), |most| rand::random_range(0..=most)),
            targets,
            start: Instant::now(),
            events: mpsc::channel(EVENTS),
            readers: JoinSet::new(),
            undecided: None,
        }
    }

    async fn run(mut self, deadline: Instant) -> Verdict {
        if self.targets.iter().all(|target| target.line.is_none()) {
            // Longer than a datagram: only a stream could carry it (VERIFY §1).
            return Verdict::unverified(Why::NoProof);
        }
        let end = deadline.min(self.start + END);
        while !self.schedule.is_over() {
            let next = self.schedule.next();
            let wake = next.map_or(end, |(at, _)| end.min(self.start + at));
            tokio::select! {
                biased;
                Some(event) = self.events.1.recv() => {
                    if let Some(verdict) = self.hear(event) {
                        return verdict;
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
        self.give_up()
    }

    /// Takes an answer or an error in; a verdict where it decides.
    fn hear(&mut self, event: Event) -> Option<Verdict> {
        let now = self.start.elapsed();
        match event {
            Event::Unreachable(index) => self.unreachable(index),
            Event::Answer(index, answer) => {
                let target = self.targets.get_mut(index)?;
                let endpoint = target.endpoint.clone();
                let said = match (answer.status, answer.reason) {
                    (Status::Valid, _) => Said::Valid { valid_for: answer.valid_for },
                    (Status::Invalid, Some(Reason::Expired)) => Said::Invalid(Why::Expired),
                    (Status::Invalid, _) => Said::Invalid(Why::Wrong),
                    (Status::Unverified, reason) => {
                        self.note(index, reason);
                        self.schedule.answered(index, now);
                        return None;
                    }
                };
                target.peer.decided();
                return Some(Verdict { said, endpoint: Some(endpoint) });
            }
        }
        None
    }

    /// An answer that decides nothing: all but a refusal to speak of this domain or in this way counts as a timeout.
    fn note(&mut self, index: usize, reason: Option<Reason>) {
        let Some(target) = self.targets.get_mut(index) else { return };
        let why = match reason {
            Some(Reason::Limit | Reason::Stream) => Why::Limit,
            // DNS led to a server that does not speak for this domain, or not this protocol.
            Some(Reason::Domain | Reason::Version | Reason::Syntax) => Why::Dns,
            _ => Why::Timeout,
        };
        if why != Why::Dns && !target.settled {
            target.peer.timed_out(Instant::now());
        }
        target.settled = true;
        if self.undecided.as_ref().is_none_or(|(known, _)| *known != Why::Limit) {
            self.undecided = Some((why, target.endpoint.clone()));
        }
    }

    fn unreachable(&mut self, index: usize) {
        let Some(target) = self.targets.get_mut(index) else { return };
        if !target.settled {
            target.settled = true;
            target.peer.timed_out(Instant::now());
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
        if target.room.is_none() {
            match target.peer.room.clone().try_acquire_owned() {
                Ok(room) => target.room = Some(room),
                Err(_) => return Ok(()),
            }
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
            target.peer.timed_out(now);
        }
        match self.undecided.take() {
            Some((why, endpoint)) => Verdict { said: Said::Unverified(why), endpoint: Some(endpoint) },
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
