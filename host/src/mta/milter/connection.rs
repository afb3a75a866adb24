//! One connection: reads frames, examines messages beside that, and writes each answer at once.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use tokio::io::AsyncWriteExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::bytes::BytesMut;
use tokio_util::codec::FramedRead;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::Error;
use super::answer::tempfail;
use super::frame::{Frame, FrameCodec, command};
use super::listen::Socket;
use super::session::{Act, Session};
use crate::case::{Case, Mail};
use crate::config::Limits;
use crate::mta::Judge;

/// What all connections share.
pub(super) struct Door<J> {
    pub(super) judge: watch::Receiver<Arc<J>>,
    pub(super) limits: Arc<Limits>,
    /// Room for messages between MAIL and our answer.
    pub(super) messages: Arc<Semaphore>,
    /// No new messages.
    pub(super) stopping: CancellationToken,
    /// No messages at all any more.
    pub(super) stopped: CancellationToken,
}

/// Serves a connection to its end; `seated` is false where there are too many, and then every MAIL gets 451.
pub(super) async fn run<J: Judge>(socket: Socket, door: Arc<Door<J>>, seated: bool) {
    let limits = door.limits.clone();
    let mut connection = Connection {
        frames: FramedRead::new(socket, FrameCodec { limit: limits.milter_frame }),
        session: Session::new(limits),
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
    frames: FramedRead<Socket, FrameCodec>,
    session: Session,
    out: BytesMut,
    current: Option<Current<J>>,
    /// What the MTA said while our answer was due.
    pending: Option<Frame>,
    door: Arc<Door<J>>,
    seated: bool,
}

/// The message in flight, and the judge that it keeps to its end.
struct Current<J> {
    judge: Arc<J>,
    queue_id: Option<String>,
    examination: Option<(AbortOnDropHandle<Case>, Instant)>,
    _room: OwnedSemaphorePermit,
}

impl<J: Judge> Connection<J> {
    /// Until the MTA is done.
    async fn converse(&mut self) -> Result<(), Error> {
        while let Some(frame) = self.next().await? {
            match self.session.take(&frame, &mut self.out)? {
                Act::Read => {}
                Act::Admit => self.admit()?,
                Act::Examine(mail) => self.examine(*mail),
                Act::Answer(mail) => {
                    if let Some(mail) = mail {
                        self.examine(*mail);
                    }
                    if !self.answer().await? {
                        return Ok(());
                    }
                }
                Act::Abandon => self.current = None,
                Act::Quit => return Ok(()),
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
                Ok(frame) => frame.transpose(),
                Err(_) => Err(Error::Silent { what: "silent", limit: patience }),
            },
        }
    }

    fn admit(&mut self) -> Result<(), Error> {
        let room = self.door.messages.clone().try_acquire_owned();
        match room {
            Ok(room) if self.seated => {
                let judge = self.door.judge.borrow().clone();
                self.current = Some(Current { judge, queue_id: None, examination: None, _room: room });
                self.session.admit(SystemTime::now(), &mut self.out)?;
            }
            Ok(_) => self.session.refuse(Error::Full("milter connections"), &mut self.out),
            Err(_) => self.session.refuse(Error::Full("messages in flight"), &mut self.out),
        }
        Ok(())
    }

    fn examine(&mut self, mail: Mail) {
        let Some(current) = &mut self.current else { return };
        let judge = current.judge.clone();
        current.queue_id.clone_from(&mail.queue_id);
        let task = tokio::spawn(async move { judge.examine(mail).await });
        let deadline = Instant::now() + self.door.limits.examine;
        current.examination = Some((AbortOnDropHandle::new(task), deadline));
    }

    /// Leaves the answer in the output: the judge's, or 451. False when the MTA closed and wants none.
    async fn answer(&mut self) -> Result<bool, Error> {
        let current = self.current.take();
        let id = current.as_ref().and_then(|current| current.queue_id.clone());
        let case = match self.judged(current).await {
            Ok(Some(case)) => case,
            Ok(None) => return Ok(self.pending.is_some()),
            // The connection ends, but the MTA waits, and is to hear why.
            Err(fault) => {
                tempfail(&fault, &mut self.out);
                return Err(fault);
            }
        };
        let said = match case {
            Ok(case) => self.session.answer(&case.reply, &mut self.out),
            Err(fault) => {
                tempfail(&fault, &mut self.out);
                Err(fault)
            }
        };
        if let Err(fault) = said {
            tracing::warn!(queue_id = id.as_deref().unwrap_or("-"), "the message gets 451: {fault}");
        }
        Ok(true)
    }

    /// Waits for the examination, and has kept what is owed. None when the MTA does not wait: it closed, or what it says
    /// instead is pending. The outer error ends the connection, the inner one is the message's.
    async fn judged(&mut self, current: Option<Current<J>>) -> Result<Option<Result<Case, Error>>, Error> {
        let limits = &self.door.limits;
        let due = Instant::now() + limits.milter_answer;
        let Some(Current { judge, examination: Some((mut task, deadline)), _room, .. }) = current else {
            return Err(Error::Order(command::END));
        };
        let examined = tokio::select! {
            biased;
            () = self.door.stopped.cancelled() => Err(Error::Stopping),
            joined = timeout_at(deadline.min(due), &mut task) => outcome(joined, "examining", limits.examine),
            next = self.frames.next() => match next.transpose()? {
                // Nobody waits any more: nothing is owed for a message that was not taken.
                None => return Ok(None),
                Some(frame) if matches!(frame.command, command::ABORT | command::QUIT) => {
                    self.pending = Some(frame);
                    return Ok(None);
                }
                Some(frame) => return Err(Error::Order(frame.command)),
            },
        };
        let case = match examined {
            Ok(case) => {
                let task = AbortOnDropHandle::new(tokio::spawn(async move { judge.keep(case, None).await }));
                outcome(timeout_at(due, task).await, "keeping what is owed for", limits.milter_answer)
            }
            Err(fault) => Err(fault),
        };
        Ok(Some(case))
    }

    /// Everything at once: two writes would cost a round trip, or a delayed ACK.
    async fn write(&mut self) -> Result<(), Error> {
        if self.out.is_empty() {
            return Ok(());
        }
        let limit = self.door.limits.milter_write;
        let written = timeout(limit, self.frames.get_mut().write_all(&self.out)).await;
        self.out.clear();
        Ok(written.map_err(|_| Error::Silent { what: "not reading", limit })??)
    }

    /// The end by a fault: the message in flight gets 451 if the MTA still listens, else by the MTA's default action.
    async fn part(&mut self, fault: &Error) {
        tracing::warn!(queue_id = self.session.queue_id(), "a milter connection ends: {fault}");
        if self.session.in_flight() || self.current.is_some() {
            tempfail(fault, &mut self.out);
        }
        let farewell = async {
            self.write().await?;
            Ok::<_, Error>(self.frames.get_mut().shutdown().await?)
        };
        // The fault is told; that its farewell fails too adds nothing.
        let _ = timeout(Duration::from_secs(1), farewell).await;
    }
}

/// What became of a task that had to end in time.
fn outcome<T, E>(
    joined: Result<Result<T, tokio::task::JoinError>, E>,
    what: &'static str,
    limit: Duration,
) -> Result<T, Error> {
    match joined {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(_)) => Err(Error::Panicked(what)),
        Err(_) => Err(Error::Late { what, limit }),
    }
}
