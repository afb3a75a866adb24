//! One connection: reads frames, has messages examined and kept, and writes each answer at once.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::io::AsyncWriteExt;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tokio_util::bytes::BytesMut;
use zeroize::Zeroize;

use super::Error;
use super::answer::refuse_for;
use super::frame::{Cutter, Frame, Reader, command};
use super::session::{Act, Session};
use crate::case::{Case, Mail, Recipient};
use crate::config::{Limits, Unfit};
use crate::mta::hourly::HourlyWarning;
use crate::mta::listen::Socket;
use crate::mta::reception::{Admitted, Reception, Seat};
use crate::mta::{Judge, Refused};

/// How long ago a Stalwart may have asked at RCPT about a message for which it asks at DATA.
const LAST_ASKED: Duration = Duration::from_secs(900);
/// How long an MTA may take to read why its connection ends.
const FAREWELL: Duration = Duration::from_secs(5);

/// What all connections share.
pub(super) struct Door<J> {
    pub(super) reception: Arc<Reception<J>>,
    /// Room for the octets of frames, until they are dropped.
    pub(super) frames: Arc<Semaphore>,
    /// Warns that every message of an MTA is refused.
    pub(super) unfit: HourlyWarning,
    /// Whether a Stalwart asks at RCPT.
    pub(super) rcpt_stage: RcptStage,
    /// Warns that an MTA does not say that it is a Postfix.
    pub(super) unknown: HourlyWarning,
}

impl<J: Judge> Door<J> {
    fn limits(&self) -> &Arc<Limits> {
        self.reception.limits()
    }
}

/// When a Stalwart asked at RCPT the last time. Where it does, it has asked so for each message before it asks at DATA.
#[derive(Debug, Default)]
pub(super) struct RcptStage(Mutex<Option<Instant>>);

impl RcptStage {
    fn seen(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether that is so recent that it may be of the same message: an SMTP client may be silent for some minutes.
    fn is_recent(&self) -> bool {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.is_some_and(|at| at.elapsed() < LAST_ASKED)
    }
}

/// Serves a connection to its end; from a standing place every MAIL gets 451.
pub(super) async fn run<J: Judge>(socket: Socket, door: Arc<Door<J>>, seat: Seat) {
    let limits = Arc::clone(door.limits());
    let splits = door.reception.splits();
    let mut connection = Connection {
        frames: Reader::new(socket, Cutter::within(limits.mta.frame, Arc::clone(&door.frames))),
        session: Session::new(limits, splits),
        out: BytesMut::new(),
        current: None,
        pending: None,
        door,
        seat,
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
    seat: Seat,
}

/// The message in flight.
struct Current<J> {
    admitted: Admitted<J>,
    queue_id: Option<String>,
    /// What examining gave. Present once the body has begun.
    case: Option<Case>,
}

impl<J: Judge> Connection<J> {
    /// Talks until the MTA is done.
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
                Act::Examine(mail) => self.begin_body(*mail, self.body_in(&frame)).await?,
                Act::Collect => self.collect(self.body_in(&frame)).map(|()| true)?,
                Act::Answer(mail) => self.answer(mail, self.body_in(&frame)).await?,
                Act::Abandon => {
                    self.current = None;
                    true
                }
                Act::Quit => {
                    if self.session.peer().is_some() && self.session.ends_at_rcpt() {
                        self.door.rcpt_stage.seen();
                    }
                    false
                }
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
        // An MTA sends the fields of a header in one piece: nobody is waited for then.
        if !self.door.reception.closing().is_cancelled()
            && let Some(frame) = self.frames.read_already()?
        {
            return Ok(Some(frame));
        }
        let limits = self.door.limits();
        let patience = if self.session.negotiated() { limits.mta.idle } else { limits.mta.greeting };
        let in_flight = self.current.is_some() || self.session.in_flight();
        self.door.reception.hear(self.frames.next(), in_flight, patience).await?.unwrap_or(Ok(None))
    }

    /// What of the message's own body the frame brings.
    fn body_in<'a>(&self, frame: &'a Frame) -> &'a [u8] {
        frame.payload.get(self.session.body_at()..).unwrap_or_default()
    }

    /// Warns once an hour of an MTA that does not say at MAIL who it is.
    fn tell_who(&self, command: u8) {
        let known = self.session.is_postfix() || self.session.peer().is_some();
        if command == command::MAIL && !known && self.door.unknown.is_due() {
            let mta = self.session.mta();
            tracing::warn!(mta, "a mail server does not say that it is a Postfix: see BUGS in addrauth(1)");
        }
    }

    fn admit(&mut self) -> Result<(), Error> {
        match self.door.reception.admit(&self.seat) {
            Ok(admitted) => {
                if let Some(unfit) = self.session.peer().and_then(|peer| admitted.unfit(peer)) {
                    self.refuse_unfit(unfit);
                    return Ok(());
                }
                self.current = Some(Current { admitted, queue_id: None, case: None });
                self.session.admit(SystemTime::now(), &mut self.out)?;
            }
            Err(refused) => self.session.refuse(refused.into(), &mut self.out),
        }
        Ok(())
    }

    /// Refuses the message of an MTA that the settings do not fit.
    fn refuse_unfit(&mut self, unfit: Unfit) {
        self.warn_of(unfit);
        self.fail(unfit.into());
    }

    /// Warns once an hour of settings that do not fit an MTA.
    fn warn_of(&self, unfit: Unfit) {
        if self.door.unfit.is_due() {
            tracing::warn!("every message of a mail server gets 451: {unfit}");
        }
    }

    /// Whether recipients are to be told apart, and the MTA is one that asks at DATA alone. To it a 452 for one recipient refuses
    /// the whole message, each time that it comes again.
    fn cannot_split(&self) -> bool {
        let splits = self.current.as_ref().is_some_and(|current| current.admitted.splits());
        splits && self.session.peer().is_some() && !self.door.rcpt_stage.is_recent()
    }

    /// Whether a recipient stays beside the first.
    async fn compare(&mut self, both: &[Recipient; 2]) -> Result<(), Error> {
        if self.cannot_split() {
            self.refuse_unfit(Unfit::RcptStage);
            return Ok(());
        }
        let alike = match &mut self.current {
            Some(current) => current.admitted.alike(self.session.client(), both, self.session.queue_id()).await,
            None => true,
        };
        self.session.join(alike, &mut self.out)
    }

    /// Examines the message and takes the first piece of its body, where it is wanted. False when the MTA closed.
    async fn begin_body(&mut self, mail: Mail, piece: &[u8]) -> Result<bool, Error> {
        let due = self.door.reception.due();
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
        Ok(current.admitted.collect(piece)?)
    }

    /// Refuses the message, and drops what was begun for it.
    fn fail(&mut self, fault: Error) {
        self.session.refuse(fault, &mut self.out);
        self.current = None;
    }

    /// Leaves the judge's answer, or a refusal, in the output. False when the MTA closed and wants none.
    async fn answer(&mut self, mail: Option<Box<Mail>>, rest: &[u8]) -> Result<bool, Error> {
        let due = self.door.reception.due();
        let examined = match mail {
            Some(mail) => match self.examine(*mail, due).await? {
                Some(case) => case,
                None => return Ok(self.pending.is_some()),
            },
            None => self.current.as_mut().and_then(|current| current.case.take()).ok_or(Error::Order(command::END)),
        };
        let kept = match examined {
            Ok(case) => self.keep(case, rest, due).await,
            Err(fault) => Err(fault),
        };
        let said = match kept {
            Ok(case) => self.session.answer(&case.reply, &case.mail, &mut self.out),
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

    /// Has the message examined while the MTA waits. None when the MTA does not wait any more: it closed, or said something
    /// else, which is pending then. The outer error ends the connection, the inner one is the message's.
    async fn examine(&mut self, mail: Mail, due: Instant) -> Result<Option<Result<Case, Error>>, Error> {
        if self.cannot_split() {
            self.warn_of(Unfit::RcptStage);
            return Ok(Some(Err(Unfit::RcptStage.into())));
        }
        let Some(current) = &mut self.current else { return Err(Error::Order(command::END)) };
        current.queue_id.clone_from(&mail.queue_id);
        tokio::select! {
            biased;
            examined = current.admitted.examine(mail, due) => match examined {
                Err(Refused::Stopping) => Err(Refused::Stopping.into()),
                examined => Ok(Some(examined.map_err(Error::from))),
            },
            next = self.frames.next() => match next? {
                // The MTA does not wait any more, and nothing is owed for a message that was not taken.
                None => Ok(None),
                Some(frame) if matches!(frame.command, command::ABORT | command::QUIT) => {
                    self.pending = Some(frame);
                    Ok(None)
                }
                Some(frame) => Err(Error::Order(frame.command)),
            },
        }
    }

    /// Has what is owed kept, with the body where it is wanted; `rest` is the body's last piece.
    async fn keep(&mut self, case: Case, rest: &[u8], due: Instant) -> Result<Case, Error> {
        let Some(current) = &mut self.current else { return Err(Error::Order(command::END)) };
        let session = &self.session;
        let can_say = |case: &Case| session.can_say(&case.reply, &case.mail);
        current.admitted.keep(case, rest, due, can_say).await
    }

    /// Writes all of the output at once: two writes would cost a round trip, or a delayed ACK.
    async fn write(&mut self) -> Result<(), Error> {
        if self.out.is_empty() {
            return Ok(());
        }
        let limit = self.door.limits().mta.write;
        let written = timeout(limit, self.frames.socket().write_all(&self.out)).await;
        self.wipe();
        Ok(written.map_err(|_| Refused::Silent { what: "not reading", limit })??)
    }

    /// Wipes what was written, which may hold a key.
    fn wipe(&mut self) {
        self.out.as_mut().zeroize();
        self.out.clear();
    }

    /// Ends the connection by a fault. The message in flight is refused if the MTA still listens, else by the MTA's default
    /// action.
    async fn part(&mut self, fault: &Error) {
        tracing::warn!(queue_id = self.session.queue_id(), "a milter connection ends: {fault}");
        if self.session.in_flight() || self.current.is_some() {
            refuse_for(fault, &mut self.out);
        }
        let closed = self.door.reception.closed().clone();
        let stops = matches!(fault, Error::Refused(Refused::Stopping));
        let farewell = async {
            self.write().await?;
            self.frames.socket().shutdown().await?;
            if stops { Ok(()) } else { self.frames.drain().await }
        };
        tokio::select! {
            biased;
            // The fault is logged already; a farewell that fails adds nothing.
            _ = timeout(FAREWELL, farewell) => {}
            () = closed.cancelled(), if !stops => {}
        }
    }
}

impl<J> Drop for Connection<J> {
    fn drop(&mut self) {
        self.out.as_mut().zeroize();
    }
}
