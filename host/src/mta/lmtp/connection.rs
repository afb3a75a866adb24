//! One connection of an MTA: reads what it says, has messages examined and kept, and brings them to the next hop.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::door::Door;
use super::hop::{Envelope, Hop};
use super::message::Message;
use super::session::{Act, Session};
use crate::case::Mail;
use crate::mta::listen::Socket;
use crate::mta::reception::Seat;
use crate::mta::{FOR_NOW, Judge, Refused};

/// Octets that are read at once: more than a command line has.
const WINDOW: usize = 32 * 1024;
/// How long an MTA may take to read why its connection ends.
const FAREWELL: Duration = Duration::from_secs(5);

/// Serves a connection to its end; from a standing place every MAIL gets 451.
pub(super) async fn run<J: Judge>(socket: Socket, door: Arc<Door<J>>, seat: Seat) {
    let mut connection = Connection {
        session: Session::new(door.reception.limits()),
        socket,
        window: Window::default(),
        out: Vec::new(),
        message: None,
        hop: None,
        door,
        seat,
    };
    if let Err(fault) = connection.converse().await {
        connection.part(&fault).await;
    }
    if let Some(mut hop) = connection.hop.take().filter(|_| connection.message.is_none()) {
        hop.quit().await;
    }
}

/// Why a connection ends early.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("the connection broke: {0}")]
    Broke(#[from] std::io::Error),
    /// A reply went out in part. What would be said behind it would be taken for the rest of it.
    #[error("the MTA did not read its replies for {0:?}")]
    Cut(Duration),
}

struct Connection<J> {
    door: Arc<Door<J>>,
    seat: Seat,
    socket: Socket,
    session: Session,
    window: Window,
    out: Vec<u8>,
    message: Option<Message<J>>,
    hop: Option<Hop>,
}

impl<J: Judge> Connection<J> {
    /// Talks until the MTA is done.
    async fn converse(&mut self) -> Result<(), End> {
        self.out.extend_from_slice(format!("220 {} LMTP addrauth\r\n", self.door.settings.name).as_bytes());
        loop {
            let (used, act) = self.session.take(self.window.unread(), &mut self.out);
            self.window.read(used);
            match act {
                Act::Wait => {
                    self.write().await?;
                    if !self.hear().await? {
                        return Ok(());
                    }
                }
                Act::Said => {}
                Act::Greet => self.greet().await,
                Act::Admit => self.admit().await,
                Act::Examine(mail) => self.begin(*mail).await,
                Act::Fail(refused) => {
                    if let Some(message) = &mut self.message {
                        message.refuse(&refused, &mut self.hop);
                    }
                }
                Act::Piece => {
                    let piece = self.session.piece();
                    if let Some(message) = &mut self.message {
                        message.piece(&self.door, &piece, &mut self.hop).await;
                    }
                }
                Act::End => self.end().await,
                Act::Abandon => self.abandon(),
                Act::Quit => {
                    self.abandon();
                    self.write().await?;
                    return Ok(());
                }
            }
        }
    }

    /// Reads more; false when the MTA closed, or the program stops and no message is in flight.
    async fn hear(&mut self) -> Result<bool, End> {
        let limits = self.door.reception.limits();
        let patience = if self.session.greeted() { limits.mta.idle } else { limits.mta.greeting };
        let in_flight = self.session.in_flight();
        let read = self.socket.read(self.window.room());
        let Some(read) = self.door.reception.hear(read, in_flight, patience).await? else {
            self.out.extend_from_slice(b"421 4.3.2 The filter stops\r\n");
            self.write().await?;
            return Ok(false);
        };
        let read = read?;
        self.window.fill(read);
        Ok(read > 0)
    }

    async fn write(&mut self) -> Result<(), End> {
        let limit = self.door.reception.limits().mta.write;
        let out = std::mem::take(&mut self.out);
        Ok(timeout(limit, self.socket.write_all(&out)).await.map_err(|_| End::Cut(limit))??)
    }

    /// Ends the connection, and says why where the MTA still listens.
    async fn part(&mut self, fault: &End) {
        tracing::warn!(queue_id = self.session.queue_id(), "an LMTP connection ends: {fault}");
        self.abandon();
        if let End::Refused(_) = fault {
            let _ = timeout(FAREWELL, self.socket.write_all(b"421 4.3.2 Please try again later\r\n")).await;
        }
    }

    fn abandon(&mut self) {
        // A copy that was begun and has no end is none, once its connection is closed.
        if self.message.take().is_some_and(|message| message.is_open()) {
            self.hop = None;
        }
    }

    /// Finds out what the next hop offers. Where it cannot be reached, LHLO gets 451: an MTA that is offered nothing would
    /// bounce a message that needs an extension, or change its body.
    async fn greet(&mut self) {
        self.abandon();
        let away = self.reach().await;
        match &self.hop {
            Some(hop) => self.session.greet(&self.door.settings.name, &hop.offers, &mut self.out),
            None => self.session.is_away(away.unwrap_or(FOR_NOW), &mut self.out),
        }
    }

    async fn reach(&mut self) -> Option<&'static str> {
        if self.hop.is_some() {
            return None;
        }
        match self.door.connect().await {
            Ok(hop) => {
                self.hop = Some(hop);
                None
            }
            Err(fault) => {
                tracing::warn!("{}: {fault}", self.door.settings.next);
                Some(fault.reply())
            }
        }
    }

    async fn admit(&mut self) {
        let admitted = match self.door.reception.admit(&self.seat) {
            Ok(admitted) => admitted,
            Err(refused) => return self.session.refuse(refused.reply_behind_queue(), &mut self.out),
        };
        if let Some(reply) = self.reach().await {
            return self.session.refuse(reply, &mut self.out);
        }
        self.message = Some(Message::new(admitted));
        self.session.admit(SystemTime::now(), &mut self.out);
    }

    /// Has the message examined, and takes the first piece of its body.
    async fn begin(&mut self, mail: Mail) {
        // The reply to DATA went out before: nothing waits to be written.
        let (header, piece) = (self.session.header(), self.session.piece());
        let (Some(message), Some(header)) = (&mut self.message, header) else { return };
        if self.session.is_over() {
            message.is_over(&self.door);
        }
        let (path, parameters) = self.session.mail();
        let envelope =
            Envelope { path, parameters, wishes: self.session.wishes(), by_chunks: self.session.by_chunks() };
        match message.begin(&self.door, mail, header, envelope, &mut self.hop).await {
            Ok(()) => message.piece(&self.door, &piece, &mut self.hop).await,
            Err(refused) => message.refuse(&refused, &mut self.hop),
        }
    }

    async fn end(&mut self) {
        let recipients = self.session.recipients();
        let said = match self.message.take() {
            Some(message) => {
                let (path, parameters) = self.session.mail();
                let envelope =
                    Envelope { path, parameters, wishes: self.session.wishes(), by_chunks: self.session.by_chunks() };
                message.end(&self.door, envelope, recipients, &mut self.hop).await
            }
            None => vec![FOR_NOW.as_bytes().to_vec(); recipients],
        };
        self.session.answer(said.iter().map(Vec::as_slice), &mut self.out);
    }
}

/// What was read and not understood yet; wiped when dropped, since it may hold keys.
struct Window {
    octets: Zeroizing<Vec<u8>>,
    begin: usize,
    end: usize,
}

impl Default for Window {
    fn default() -> Window {
        Window { octets: Zeroizing::new(vec![0; WINDOW]), begin: 0, end: 0 }
    }
}

impl Window {
    fn unread(&self) -> &[u8] {
        self.octets.get(self.begin..self.end).unwrap_or_default()
    }

    fn read(&mut self, octets: usize) {
        self.begin = self.begin.saturating_add(octets).min(self.end);
    }

    /// Where more may be read to. What is not understood yet moves to the beginning.
    fn room(&mut self) -> &mut [u8] {
        self.octets.copy_within(self.begin..self.end, 0);
        self.end -= self.begin;
        self.begin = 0;
        self.octets.get_mut(self.end..).unwrap_or_default()
    }

    fn fill(&mut self, octets: usize) {
        self.end = self.end.saturating_add(octets).min(self.octets.len());
    }
}
