//! One connection: reads frames, has messages examined and kept, and writes each answer at once.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use tokio::io::AsyncWriteExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::bytes::BytesMut;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroize;

use super::Error;
use super::answer::refuse_for;
use super::body::Pieces;
use super::frame::{Cutter, Frame, Reader, command};
use super::listen::Socket;
use super::session::{Act, Session};
use crate::case::{Case, Mail, Recipient};
use crate::config::Limits;
use crate::mta::Judge;

const HOUR: Duration = Duration::from_secs(3_600);
/// How long an MTA may take to read why its connection ends.
const FAREWELL: Duration = Duration::from_secs(5);

/// What all connections share.
pub(super) struct Door<J> {
    pub(super) judge: watch::Receiver<Arc<J>>,
    pub(super) limits: Arc<Limits>,
    /// Room for messages between MAIL and our answer.
    pub(super) messages: Arc<Semaphore>,
    /// Room for the octets of bodies that are to be kept.
    pub(super) bodies: Arc<Semaphore>,
    /// Room for the octets of frames, until they are dropped.
    pub(super) frames: Arc<Semaphore>,
    /// Every message of an MTA is refused, and why.
    pub(super) foreign: Hourly,
    /// An MTA does not say that it is a Postfix.
    pub(super) unknown: Hourly,
    /// No new messages.
    pub(super) stopping: CancellationToken,
    /// No messages at all any more.
    pub(super) stopped: CancellationToken,
}

/// What is told in the log once an hour: a line for each message would drown the others.
#[derive(Debug, Default)]
pub(super) struct Hourly(Mutex<Option<Instant>>);

impl Hourly {
    /// Whether it is time to tell it; if so, it is told for an hour.
    fn is_due(&self) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = told.is_none_or(|at| at.elapsed() >= HOUR);
        if due {
            *told = Some(Instant::now());
        }
        due
    }
}

/// Serves a connection to its end; `seated` is false where there are too many, and then every MAIL gets 451.
pub(super) async fn run<J: Judge>(socket: Socket, door: Arc<Door<J>>, seated: bool) {
    let limits = door.limits.clone();
    let splits = door.judge.borrow().splits();
    let mut connection = Connection {
        frames: Reader::new(socket, Cutter::within(limits.milter_frame, Arc::clone(&door.frames))),
        session: Session::new(limits, splits),
        out: BytesMut::new(),
        current: None,
        pending: None,
        door,
        seated,
    };
    if let Err(fault) = connection.converse().await {
        connection.part(&fault).await;
    }
}

struct Connection<J> {
    frames: Reader<Socket>,
    session: Session,
    out: BytesMut,
    current: Option<Current<J>>,
    /// What the MTA said while an answer was due.
    pending: Option<Frame>,
    door: Arc<Door<J>>,
    seated: bool,
}

/// The message in flight, and the judge that it keeps to its end.
struct Current<J> {
    judge: Arc<J>,
    /// Whether its recipients are told apart; no more once that took too long.
    splits: bool,
    queue_id: Option<String>,
    /// What examining it gave, where its body has begun.
    case: Option<Case>,
    body: Pieces,
    _room: OwnedSemaphorePermit,
}

impl<J: Judge> Connection<J> {
    /// Until the MTA is done.
    async fn converse(&mut self) -> Result<(), Error> {
        while let Some(frame) = self.next().await? {
            let act = self.session.take(&frame, &mut self.out)?;
            self.tell_who(frame.command);
            let waits = match act {
                Act::Read => {
                    // Macros of another client's connection end a message as well as an abort does.
                    if !self.session.in_flight() {
                        self.current = None;
                    }
                    true
                }
                Act::Admit => self.admit().map(|()| true)?,
                Act::Compare(both) => self.compare(&both).await.map(|()| true)?,
                Act::Examine(mail) => self.begin_body(*mail, &frame.payload).await?,
                Act::Collect => self.collect(&frame.payload).map(|()| true)?,
                Act::Answer(mail) => self.answer(mail, &frame.payload).await?,
                Act::Abandon => {
                    self.current = None;
                    true
                }
                Act::Quit => false,
            };
            if !waits {
                return Ok(());
            }
            self.write().await?;
        }
        Ok(())
    }

    /// The next frame; none when the MTA closed, or the program stops and no message is in flight.
    async fn next(&mut self) -> Result<Option<Frame>, Error> {
        if let Some(frame) = self.pending.take() {
            return Ok(Some(frame));
        }
        let limits = &self.door.limits;
        let patience = if self.session.negotiated() { limits.milter_idle } else { limits.milter_greeting };
        tokio::select! {
            biased;
            () = self.door.stopped.cancelled() => Err(Error::Stopping),
            () = self.door.stopping.cancelled(), if self.current.is_none() && !self.session.in_flight() => Ok(None),
            next = timeout(patience, self.frames.next()) => match next {
                Ok(frame) => frame,
                Err(_) => Err(Error::Silent { what: "silent", limit: patience }),
            },
        }
    }

    /// Tells the log, not too often, of an MTA whose messages are refused, or that says at MAIL to be none that is known here.
    fn tell_who(&self, command: u8) {
        if let Some(why) = self.session.foreign() {
            if self.door.foreign.is_due() {
                tracing::warn!("every message of a mail server gets 451, since its milter is not supported yet: {why}");
            }
        } else if command == command::MAIL && !self.session.is_postfix() && self.door.unknown.is_due() {
            let mta = self.session.mta();
            tracing::warn!(mta, "a mail server does not say that it is a Postfix: see BUGS in addrauth(1)");
        }
    }

    fn admit(&mut self) -> Result<(), Error> {
        let room = self.door.messages.clone().try_acquire_owned();
        match room {
            Ok(room) if self.seated => {
                let judge = self.door.judge.borrow().clone();
                let splits = judge.splits();
                let body = Pieces::default();
                self.current = Some(Current { judge, splits, queue_id: None, case: None, body, _room: room });
                self.session.admit(SystemTime::now(), &mut self.out)?;
            }
            Ok(_) => self.session.refuse(Error::Full("milter connections"), &mut self.out),
            Err(_) => self.session.refuse(Error::Full("messages in flight"), &mut self.out),
        }
        Ok(())
    }

    /// Whether a recipient stays beside the first. Where that is not known in time he does, and so do all after him: the end of
    /// the message settles it.
    async fn compare(&mut self, [first, next]: &[Recipient; 2]) -> Result<(), Error> {
        let limit = self.door.limits.milter_compare;
        let mut alike = true;
        if let Some(current) = self.current.as_mut().filter(|current| current.splits) {
            let comparing = AssertUnwindSafe(current.judge.alike(self.session.client(), first, next)).catch_unwind();
            match outcome(timeout(limit, Box::pin(comparing)).await, "comparing recipients of", limit) {
                Ok(same) => alike = same,
                Err(fault) => {
                    current.splits = false;
                    tracing::warn!(queue_id = self.session.queue_id(), "its recipients stay together: {fault}");
                }
            }
        }
        self.session.join(alike, &mut self.out)
    }

    /// Examines the message and takes the first piece of its body, where it is wanted. False when the MTA closed.
    async fn begin_body(&mut self, mail: Mail, piece: &[u8]) -> Result<bool, Error> {
        let due = Instant::now() + self.door.limits.milter_answer;
        let case = match self.examine(mail, due).await? {
            Some(Ok(case)) => case,
            Some(Err(fault)) => {
                self.fail(fault);
                return Ok(true);
            }
            None => return Ok(self.pending.is_some()),
        };
        let wanted = case.reply.wants_body();
        if let Some(current) = &mut self.current {
            current.case = Some(case);
        }
        match wanted {
            true => self.collect(piece)?,
            false => self.session.read_body(false, &mut self.out)?,
        }
        Ok(true)
    }

    /// Takes a piece of the body that is wanted, or refuses the message.
    fn collect(&mut self, piece: &[u8]) -> Result<(), Error> {
        match self.add(piece) {
            Ok(()) => self.session.read_body(true, &mut self.out)?,
            Err(fault) => self.fail(fault),
        }
        Ok(())
    }

    fn add(&mut self, piece: &[u8]) -> Result<(), Error> {
        let Some(current) = &mut self.current else { return Err(Error::Order(command::BODY)) };
        current.body.add(piece, self.door.limits.body_octets, &self.door.bodies)
    }

    /// Refuses the message, and drops what was begun for it.
    fn fail(&mut self, fault: Error) {
        self.session.refuse(fault, &mut self.out);
        self.current = None;
    }

    /// Leaves the answer in the output: the judge's, or a refusal. False when the MTA closed and wants none.
    async fn answer(&mut self, mail: Option<Box<Mail>>, rest: &[u8]) -> Result<bool, Error> {
        let due = Instant::now() + self.door.limits.milter_answer;
        let examined = match mail {
            Some(mail) => match self.examine(*mail, due).await? {
                Some(case) => case,
                None => return Ok(self.pending.is_some()),
            },
            None => self.current.as_mut().and_then(|current| current.case.take()).ok_or(Error::Order(command::END)),
        };
        let kept = match examined {
            // What is owed must not be made durable for an answer that cannot be given.
            Ok(case) if case.reply.owed.is_empty() => self.keep(case, rest, due).await,
            Ok(case) => match self.session.can_say(&case.reply, &case.mail.recipients) {
                Ok(()) => self.keep(case, rest, due).await,
                Err(fault) => Err(fault),
            },
            Err(fault) => Err(fault),
        };
        let said = match kept {
            Ok(case) => self.session.answer(&case.reply, &case.mail.recipients, &mut self.out),
            Err(fault) => {
                refuse_for(&fault, &mut self.out);
                Err(fault)
            }
        };
        let id = self.current.take().and_then(|current| current.queue_id);
        if let Err(fault) = said {
            tracing::warn!(queue_id = id.as_deref().unwrap_or("-"), "the message is refused: {fault}");
        }
        Ok(true)
    }

    /// Has the message examined while the MTA waits. None when it does not any more: it closed, or what it says instead is
    /// pending. The outer error ends the connection, the inner one is the message's.
    async fn examine(&mut self, mail: Mail, due: Instant) -> Result<Option<Result<Case, Error>>, Error> {
        let limit = self.door.limits.examine;
        let Some(current) = &mut self.current else { return Err(Error::Order(command::END)) };
        current.queue_id.clone_from(&mail.queue_id);
        let deadline = due.min(Instant::now() + limit);
        let examining = AssertUnwindSafe(current.judge.examine(mail)).catch_unwind();
        tokio::select! {
            biased;
            () = self.door.stopped.cancelled() => Err(Error::Stopping),
            case = timeout_at(deadline, Box::pin(examining)) => Ok(Some(outcome(case, "examining", limit))),
            next = self.frames.next() => match next? {
                // Nobody waits any more: nothing is owed for a message that was not taken.
                None => Ok(None),
                Some(frame) if matches!(frame.command, command::ABORT | command::QUIT) => {
                    self.pending = Some(frame);
                    Ok(None)
                }
                Some(frame) => Err(Error::Order(frame.command)),
            },
        }
    }

    /// Has kept what is owed, with the body where it is wanted; `rest` is its last piece.
    async fn keep(&mut self, case: Case, rest: &[u8], due: Instant) -> Result<Case, Error> {
        let wanted = case.reply.wants_body();
        if wanted {
            self.add(rest)?;
        }
        let Some(current) = &mut self.current else { return Err(Error::Order(command::END)) };
        let body = wanted.then(|| current.body.take());
        let keeping = AssertUnwindSafe(current.judge.keep(case, body)).catch_unwind();
        let kept = timeout_at(due, Box::pin(keeping)).await;
        outcome(kept, "keeping what is owed for", self.door.limits.milter_answer)
    }

    /// Everything at once: two writes would cost a round trip, or a delayed ACK.
    async fn write(&mut self) -> Result<(), Error> {
        if self.out.is_empty() {
            return Ok(());
        }
        let limit = self.door.limits.milter_write;
        let written = timeout(limit, self.frames.socket().write_all(&self.out)).await;
        self.wipe();
        Ok(written.map_err(|_| Error::Silent { what: "not reading", limit })??)
    }

    /// What was written may hold a key.
    fn wipe(&mut self) {
        self.out.as_mut().zeroize();
        self.out.clear();
    }

    /// The end by a fault: the message in flight is refused if the MTA still listens, else by the MTA's default action.
    async fn part(&mut self, fault: &Error) {
        tracing::warn!(queue_id = self.session.queue_id(), "a milter connection ends: {fault}");
        if self.session.in_flight() || self.current.is_some() {
            refuse_for(fault, &mut self.out);
        }
        let stopped = self.door.stopped.clone();
        let farewell = async {
            self.write().await?;
            self.frames.socket().shutdown().await?;
            if matches!(fault, Error::Stopping) { Ok(()) } else { self.frames.drain().await }
        };
        tokio::select! {
            biased;
            // The fault is told; that its farewell fails too adds nothing.
            _ = timeout(FAREWELL, farewell) => {}
            () = stopped.cancelled(), if !matches!(fault, Error::Stopping) => {}
        }
    }
}

impl<J> Drop for Connection<J> {
    fn drop(&mut self) {
        self.out.as_mut().zeroize();
    }
}

/// What became of something that had to end in time.
fn outcome<T, P, E>(ended: Result<Result<T, P>, E>, what: &'static str, limit: Duration) -> Result<T, Error> {
    match ended {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(_)) => Err(Error::Panicked(what)),
        Err(_) => Err(Error::Late { what, limit }),
    }
}
