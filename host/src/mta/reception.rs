//! How a message is received at any door: the room that it takes, the judge that it keeps, and how long that judge may take.
//!
//! A door brings the octets. It takes a [`Seat`] for each connection, and has each message [admitted](Reception::admit) at
//! its MAIL, [examined](Admitted::examine) at the end of its header, and what it owes [kept](Admitted::keep) at its end. What
//! goes wrong is a [`Refused`], and [`Refused::reply`] is what the client is told.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::case::{Case, Client, Mail, Recipient};
use crate::config::{Limits, Peer, Unfit};
use crate::mta::{Judge, Refused};

mod body;

use body::Pieces;

/// What all connections of all doors share: the judge, and the room.
#[derive(Debug)]
pub struct Reception<J> {
    judge: watch::Receiver<Arc<J>>,
    limits: Arc<Limits>,
    /// Room for messages between MAIL and our answer.
    messages: Arc<Semaphore>,
    /// Room for the octets of bodies that are to be kept.
    bodies: Arc<Semaphore>,
    connections: TaskTracker,
    closing: CancellationToken,
    closed: CancellationToken,
}

impl<J: Judge> Reception<J> {
    /// Opens the reception until `shutdown`. A new judge takes the messages whose MAIL comes after it was sent.
    pub fn open(judge: watch::Receiver<Arc<J>>, limits: Arc<Limits>, shutdown: CancellationToken) -> Arc<Reception<J>> {
        Arc::new(Reception {
            judge,
            messages: Arc::new(Semaphore::new(limits.mta.messages_in_flight)),
            bodies: Arc::new(Semaphore::new(limits.custody.bodies_octets.min(Semaphore::MAX_PERMITS))),
            connections: TaskTracker::new(),
            closing: shutdown,
            closed: CancellationToken::new(),
            limits,
        })
    }

    /// The bounds that hold here.
    pub fn limits(&self) -> &Arc<Limits> {
        &self.limits
    }

    /// Whether the present judge wants recipients told apart at RCPT.
    pub fn splits(&self) -> bool {
        self.judge.borrow().splits()
    }

    /// Cancelled once no new message is to be begun; those in flight go on.
    pub fn closing(&self) -> &CancellationToken {
        &self.closing
    }

    /// Cancelled once no message may go on: each gets [`Refused::Stopping`].
    pub fn closed(&self) -> &CancellationToken {
        &self.closed
    }

    /// `count` seats for the connections of one door; `what` names the connections in logs and refusals.
    pub fn seats(&self, count: usize, what: &'static str) -> Seats {
        let room = || Arc::new(Semaphore::new(count));
        Seats { what, seats: room(), standing: room(), connections: self.connections.clone() }
    }

    /// The deadline for an answer that the MTA begins to wait for now.
    pub fn due(&self) -> Instant {
        Instant::now() + self.limits.mta.answer
    }

    /// Takes a message in at its MAIL. It has its room and the present judge until it is dropped.
    ///
    /// # Errors
    /// [`Refused::Full`]: too many messages are in flight, or its connection has no seat.
    pub fn admit(self: &Arc<Self>, seat: &Seat) -> Result<Admitted<J>, Refused> {
        let room = self.messages.clone().try_acquire_owned().map_err(|_| Refused::Full("messages in flight"))?;
        if let Some(what) = seat.lacks {
            return Err(Refused::Full(what));
        }
        let judge = self.judge.borrow().clone();
        let splits = judge.splits();
        Ok(Admitted { reception: Arc::clone(self), judge, splits, body: Pieces::default(), _room: room })
    }

    /// The next words of an MTA. There are none once the reception closes, unless a message is in flight: that may go on.
    ///
    /// # Errors
    /// [`Refused::Silent`] after this patience, and [`Refused::Stopping`] once the reception has closed.
    pub async fn hear<T>(
        &self,
        words: impl Future<Output = T>,
        in_flight: bool,
        patience: Duration,
    ) -> Result<Option<T>, Refused> {
        tokio::select! {
            biased;
            () = self.closed.cancelled() => Err(Refused::Stopping),
            () = self.closing.cancelled(), if !in_flight => Ok(None),
            words = timeout(patience, words) => match words {
                Ok(words) => Ok(Some(words)),
                Err(_) => Err(Refused::Silent { what: "silent", limit: patience }),
            },
        }
    }

    /// Waits until all connections have ended; no new ones may come any more. Messages in flight may go on for
    /// `limits.mta.drain`, then [`Reception::closed`] is cancelled.
    pub async fn drain(&self) {
        self.connections.close();
        if timeout(self.limits.mta.drain, self.connections.wait()).await.is_err() {
            self.closed.cancel();
            self.connections.wait().await;
        }
    }
}

/// Room for the connections of one door: seats, and as many standing places, in which every message is refused for now.
#[derive(Clone, Debug)]
pub struct Seats {
    what: &'static str,
    seats: Arc<Semaphore>,
    standing: Arc<Semaphore>,
    connections: TaskTracker,
}

impl Seats {
    /// What the connections are called.
    pub fn what(&self) -> &'static str {
        self.what
    }

    /// A place for a new connection. There is none where even the standing places are taken: then it is to be closed.
    pub fn take(&self) -> Option<Seat> {
        let (place, lacks) = match self.seats.clone().try_acquire_owned() {
            Ok(place) => (place, None),
            Err(_) => (self.standing.clone().try_acquire_owned().ok()?, Some(self.what)),
        };
        Some(Seat { lacks, _place: place, _counted: self.connections.token() })
    }
}

/// A connection's place, until it is dropped; [`Reception::drain`] waits for that.
#[derive(Debug)]
pub struct Seat {
    /// What there are too many of, where this is a standing place.
    lacks: Option<&'static str>,
    _place: OwnedSemaphorePermit,
    _counted: TaskTrackerToken,
}

/// A message in flight: its room, its judge, and as much of its body as is to be kept.
#[derive(Debug)]
pub struct Admitted<J> {
    reception: Arc<Reception<J>>,
    judge: Arc<J>,
    /// Whether its recipients are told apart. They are not any more once that took too long.
    splits: bool,
    body: Pieces,
    _room: OwnedSemaphorePermit,
}

impl<J: Judge> Admitted<J> {
    /// Whether the second of these recipients stays beside the first. Where that is not known in time, it and all later ones
    /// stay, and the end of the message settles it.
    pub async fn alike(&mut self, client: &Client, [first, next]: &[Recipient; 2], queue_id: &str) -> bool {
        if !self.splits {
            return true;
        }
        let limit = self.reception.limits.mta.compare;
        let comparing = AssertUnwindSafe(self.judge.alike(client, first, next)).catch_unwind();
        outcome(timeout(limit, Box::pin(comparing)).await, "comparing recipients of", limit).unwrap_or_else(|fault| {
            self.splits = false;
            tracing::warn!(queue_id, "its recipients stay together: {fault}");
            true
        })
    }

    /// Why this mail server's messages cannot be treated as the judge's settings say.
    pub fn unfit(&self, peer: Peer) -> Option<Unfit> {
        self.judge.unfit(peer)
    }

    /// Whether the judge wants recipients told apart.
    pub fn splits(&self) -> bool {
        self.judge.splits()
    }

    /// Has the message examined, until `due` at most. The future is to be dropped where the MTA does not wait any more: then
    /// nothing is owed.
    ///
    /// # Errors
    /// The judge panicked or was late, or [`Reception::closed`] came first.
    pub async fn examine(&self, mail: Mail, due: Instant) -> Result<Case, Refused> {
        let limit = self.reception.limits.mta.examine;
        let deadline = due.min(Instant::now() + limit);
        let examining = AssertUnwindSafe(self.judge.examine(mail)).catch_unwind();
        tokio::select! {
            biased;
            () = self.reception.closed.cancelled() => Err(Refused::Stopping),
            case = timeout_at(deadline, Box::pin(examining)) => outcome(case, "examining", limit),
        }
    }

    /// Takes a piece of the body, where the reply wants it.
    ///
    /// # Errors
    /// The body is over `limits.custody.body_octets`, or all bodies together over `limits.custody.bodies_octets`.
    pub fn collect(&mut self, piece: &[u8]) -> Result<(), Refused> {
        self.body.add(piece, self.reception.limits.custody.body_octets, &self.reception.bodies)
    }

    /// Has what is owed kept, until `due` at most, with the body where the reply wants it; `rest` is the body's last piece.
    /// The door may say only the reply of the case that this returns. `can_say` tells whether the door can say a reply:
    /// nothing is made durable for an answer that cannot be given.
    ///
    /// # Errors
    /// What `can_say` said, a body over its limits, or a judge that panicked or was late.
    pub async fn keep<E: From<Refused>>(
        &mut self,
        case: Case,
        rest: &[u8],
        due: Instant,
        can_say: impl FnOnce(&Case) -> Result<(), E>,
    ) -> Result<Case, E> {
        if !case.reply.owed.is_empty() {
            can_say(&case)?;
        }
        let mut body = None;
        if case.reply.wants_body() {
            self.collect(rest)?;
            body = Some(self.body.take());
        }
        let keeping = AssertUnwindSafe(self.judge.keep(case, body)).catch_unwind();
        let kept = timeout_at(due, Box::pin(keeping)).await;
        Ok(outcome(kept, "keeping what is owed for", self.reception.limits.mta.answer)?)
    }
}

/// What became of something that had to end in time.
fn outcome<T, P, E>(ended: Result<Result<T, P>, E>, what: &'static str, limit: Duration) -> Result<T, Refused> {
    match ended {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(_)) => Err(Refused::Panicked(what)),
        Err(_) => Err(Refused::Late { what, limit }),
    }
}

#[cfg(test)]
mod tests;
