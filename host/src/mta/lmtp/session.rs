//! One session with an MTA, without I/O: octets in, replies out, and what the door has to do.

use std::sync::Arc;
use std::time::SystemTime;

use zeroize::Zeroizing;

use super::command::{Command, NoCommand};
use super::dots::Unstuffed;
use super::facts::Facts;
use super::header::Cut;
use super::incoming::{Incoming, Stage};
use super::offers::Offers;
use crate::case::{Door, Mail};
use crate::config::Limits;
use crate::mta::intake::Intake;
use crate::mta::{Refused, UNREAD_RECIPIENT, UNREAD_SENDER};

/// Octets of one command line. A path has at most `limits.mta.text`, and as much again is for its parameters.
const LINE: usize = 4_096;
/// Commands in a row that bring no message further. An MTA needs a few.
const IDLE: usize = 100;

/// What the door has to do.
#[derive(Debug)]
pub enum Act {
    /// Bring more octets.
    Wait,
    /// Nothing: a command was answered.
    Said,
    /// Find out what the next hop offers, then [`Session::greet`] or [`Session::is_away`].
    Greet,
    /// Make room for a message, then [`Session::admit`] or [`Session::refuse`].
    Admit,
    /// Have this message examined. Its header, and as much of its body as is there, is what [`Session::header`] and
    /// [`Session::piece`] give.
    Examine(Box<Mail>),
    /// The message cannot be taken, and is told so at its end.
    Fail(Refused),
    /// Take [`Session::piece`] of the body.
    Piece,
    /// The message is over: [`Session::answer`] for each of its recipients.
    End,
    /// Forget the message: it does not come to its end.
    Abandon,
    /// The connection ends.
    Quit,
}

/// Where octets belong that come in now.
#[derive(Clone, Copy, Debug)]
enum Hearing {
    Commands,
    /// A command line that is too long, to its end.
    Overlong,
    /// Behind DATA.
    Dots(Unstuffed),
    /// Behind BDAT: octets that are still to come of so many, and whether they are the last.
    Chunk {
        left: u64,
        size: u64,
        last: bool,
        counts: bool,
    },
    /// The message is over and not answered yet.
    Over,
}

/// The session.
#[derive(Debug)]
pub struct Session {
    limits: Arc<Limits>,
    hearing: Hearing,
    /// What the MTA called itself in LHLO.
    lhlo: Option<String>,
    /// Why LHLO was refused.
    away: Option<&'static str>,
    offers: Offers,
    facts: Facts,
    message: Option<Incoming>,
    /// Why the message whose MAIL came last is not taken: said again to what was sent along with it.
    refused: Option<&'static str>,
    piece: Vec<u8>,
    idle: usize,
}

impl Session {
    /// A session that has begun.
    pub fn new(limits: &Limits) -> Session {
        // This door cuts fields out itself, as many as there are: a bound that some MTA needs would be a refusal for good.
        let limits = limits.clone().with(|limits| limits.mta.key_fields = usize::MAX);
        Session {
            limits: Arc::new(limits),
            hearing: Hearing::Commands,
            lhlo: None,
            away: None,
            offers: Offers::default(),
            facts: Facts::default(),
            message: None,
            refused: None,
            piece: Vec::new(),
            idle: 0,
        }
    }

    /// Reads from what came in. Returns how many octets were read, and what is to be done. Total.
    pub fn take(&mut self, input: &[u8], out: &mut Vec<u8>) -> (usize, Act) {
        match self.hearing {
            Hearing::Over => (0, Act::End),
            Hearing::Commands => self.line(input, out),
            Hearing::Overlong => self.overlong(input),
            _ if input.is_empty() => (0, Act::Wait),
            Hearing::Dots(mut dots) => {
                self.make_room(input.len());
                let before = self.sink().map_or(0, |sink| sink.len());
                let used = match self.sink() {
                    Some(sink) => dots.read(input, sink),
                    None => dots.read(input, &mut Vec::new()),
                };
                self.hearing = if dots.is_over() { Hearing::Over } else { Hearing::Dots(dots) };
                let came = self.sink().is_some_and(|sink| sink.len() > before);
                (used, self.came(came))
            }
            Hearing::Chunk { left, size, last, counts } => {
                let most = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                let octets = input.get(..most).unwrap_or_default();
                self.make_room(octets.len());
                if let (true, Some(sink)) = (counts, self.sink()) {
                    sink.extend_from_slice(octets);
                }
                let left = left.saturating_sub(most as u64);
                self.hearing = Hearing::Chunk { left, size, last, counts };
                if left == 0 {
                    return (most, self.chunk_ends(size, last, counts, out));
                }
                (most, if counts { self.came(true) } else { Act::Said })
            }
        }
    }

    /// The next hop offers this: the reply to LHLO.
    pub fn greet(&mut self, name: &str, offers: &Offers, out: &mut Vec<u8>) {
        self.offers = offers.clone();
        out.extend_from_slice(&offers.greeting(name));
    }

    /// The next hop cannot be reached: LHLO gets this reply, and so does what is said without another LHLO.
    pub fn is_away(&mut self, reply: &'static str, out: &mut Vec<u8>) {
        self.lhlo = None;
        (self.away, self.refused) = (Some(reply), Some(reply));
        say(out, reply);
    }

    /// There is room for the message that [`Act::Admit`] announced.
    pub fn admit(&mut self, now: SystemTime, out: &mut Vec<u8>) {
        if let Some(message) = &mut self.message {
            message.stage = Stage::Envelope;
            message.intake.received(now);
        }
        say(out, "250 2.1.0 Ok");
    }

    /// There is none.
    pub fn refuse(&mut self, reply: &'static str, out: &mut Vec<u8>) {
        self.message = None;
        self.refused = Some(reply);
        say(out, reply);
    }

    /// The header of the message that is examined.
    pub fn header(&mut self) -> Option<Cut> {
        self.message.as_mut().and_then(|message| message.header.take())
    }

    /// What has come of the body since it was asked last.
    pub fn piece(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.piece)
    }

    /// The path and parameters of MAIL.
    pub fn mail(&self) -> (&[u8], &[Vec<u8>]) {
        self.message.as_ref().map_or((&b"<>"[..], &[]), |message| (&message.path, &message.parameters))
    }

    /// The parameters of each RCPT, a blank before each parameter.
    pub fn wishes(&self) -> &[Vec<u8>] {
        self.message.as_ref().map_or(&[], |message| &message.wishes)
    }

    /// How many recipients the message has: each gets an answer at its end.
    pub fn recipients(&self) -> usize {
        self.wishes().len()
    }

    /// Whether the message came by BDAT.
    pub fn by_chunks(&self) -> bool {
        self.message.as_ref().is_some_and(|message| message.by_chunks)
    }

    /// The MTA's name for the message in flight, for the log.
    pub fn queue_id(&self) -> &str {
        self.message.as_ref().map_or("-", |message| message.intake.queue_id())
    }

    /// Whether a message is in flight.
    pub fn in_flight(&self) -> bool {
        self.message.is_some()
    }

    /// Whether the message is over and waits for its answers.
    pub fn is_over(&self) -> bool {
        matches!(self.hearing, Hearing::Over)
    }

    /// Whether the MTA has said LHLO.
    pub fn greeted(&self) -> bool {
        self.lhlo.is_some()
    }

    /// The answers to a message that is over, one for each recipient in the order of RCPT (RFC 2033 §4.2). Each is whole lines
    /// without the last line's ending.
    pub fn answer<'a>(&mut self, replies: impl IntoIterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
        for reply in replies {
            out.extend_from_slice(reply);
            out.extend_from_slice(b"\r\n");
        }
        self.forget();
    }

    /// Where octets of the message go.
    fn sink(&mut self) -> Option<&mut Vec<u8>> {
        let message = self.message.as_mut()?;
        match message.stage {
            Stage::Start => Some(&mut message.start),
            _ => Some(&mut self.piece),
        }
    }

    /// Makes room for octets of the header. A text that grew by itself would leave copies of keys behind.
    fn make_room(&mut self, octets: usize) {
        let Some(Incoming { stage: Stage::Start, start, .. }) = &mut self.message else { return };
        let needed = start.len().saturating_add(octets);
        if needed > start.capacity() {
            let mut larger = Zeroizing::new(Vec::with_capacity(needed.saturating_mul(2)));
            larger.extend_from_slice(start);
            *start = larger;
        }
    }

    /// Octets of the message came in, or its end.
    fn came(&mut self, octets: bool) -> Act {
        let over = matches!(self.hearing, Hearing::Over);
        let Some(message) = &mut self.message else { return if over { Act::End } else { Act::Said } };
        if message.stage == Stage::Start {
            return match message.look_at(over, &self.limits) {
                Some(Ok((mail, body))) => {
                    self.piece = body;
                    Act::Examine(mail)
                }
                Some(Err(refused)) => Act::Fail(refused),
                None => Act::Said,
            };
        }
        if octets { Act::Piece } else { Act::Said }
    }

    fn chunk_ends(&mut self, size: u64, last: bool, counts: bool, out: &mut Vec<u8>) -> Act {
        self.hearing = if last && counts { Hearing::Over } else { Hearing::Commands };
        if !counts {
            say(out, self.refused.unwrap_or("503 5.5.1 No message is begun"));
            return Act::Said;
        }
        if !last {
            say(out, &format!("250 2.0.0 {size} octets received"));
        }
        self.came(true)
    }

    fn overlong(&mut self, input: &[u8]) -> (usize, Act) {
        match input.windows(2).position(|pair| pair == b"\r\n") {
            Some(end) => {
                self.hearing = Hearing::Commands;
                (end + 2, Act::Said)
            }
            None => (input.len() - usize::from(input.ends_with(b"\r")), Act::Wait),
        }
    }

    /// Reads a command line. It ends with CRLF, and with nothing else.
    fn line(&mut self, input: &[u8], out: &mut Vec<u8>) -> (usize, Act) {
        let room = input.get(..LINE).unwrap_or(input);
        let Some(end) = room.windows(2).position(|pair| pair == b"\r\n") else {
            if input.len() < LINE {
                return (0, Act::Wait);
            }
            self.hearing = Hearing::Overlong;
            return (0, self.cannot(NoCommand::of(room), "500 5.5.2 The line is too long", out));
        };
        let act = match Command::read(room.get(..end).unwrap_or_default()) {
            Ok(command) => self.command(command, out),
            Err(NoCommand::Unknown) => {
                self.cannot(NoCommand::Unknown, "500 5.5.1 This is LMTP, and that is no command of it", out)
            }
            Err(bad) => self.cannot(bad, "501 5.5.2 Syntax", out),
        };
        (end + 2, act)
    }

    /// A line that is no command gets this reply; an address that cannot be read, one that keeps the message in the queue.
    fn cannot(&mut self, bad: NoCommand, reply: &'static str, out: &mut Vec<u8>) -> Act {
        let reply = match bad {
            NoCommand::Sender => UNREAD_SENDER,
            NoCommand::Recipient => UNREAD_RECIPIENT,
            NoCommand::Unknown | NoCommand::Syntax => reply,
        };
        if bad == NoCommand::Sender && self.message.is_none() {
            self.refused = Some(reply);
        }
        say(out, reply);
        self.idles(out)
    }

    /// A command that brings no message further: there are so many in a row.
    fn idles(&mut self, out: &mut Vec<u8>) -> Act {
        self.idle += 1;
        if self.idle <= IDLE {
            return Act::Said;
        }
        say(out, "421 4.7.0 Too many commands that bring no message");
        Act::Quit
    }

    fn command(&mut self, command: Command<'_>, out: &mut Vec<u8>) -> Act {
        if self.lhlo.is_none() && matches!(command, Command::Mail(..)) {
            say(out, self.away.unwrap_or("503 5.5.1 LHLO first"));
            return self.idles(out);
        }
        match command {
            Command::Lhlo(name) => {
                self.forget();
                self.away = None;
                self.lhlo = Some(String::from_utf8_lossy(name).into_owned());
                match self.idles(out) {
                    Act::Said => Act::Greet,
                    act => act,
                }
            }
            Command::Mail(path, parameters) => self.begin(path, &parameters, out),
            Command::Rcpt(path, parameters) => self.recipient(path, &parameters, out),
            Command::Data => self.data(out),
            Command::Bdat(size, last) => self.chunk(size, last, out),
            Command::Xforward(told) => {
                self.facts.learn(&told, self.limits.mta.text);
                say(out, "250 2.0.0 Ok");
                self.idles(out)
            }
            Command::Rset => {
                let begun = self.message.is_some();
                self.forget();
                say(out, "250 2.0.0 Ok");
                match self.idles(out) {
                    Act::Said if begun => Act::Abandon,
                    act => act,
                }
            }
            Command::Noop => {
                say(out, "250 2.0.0 Ok");
                self.idles(out)
            }
            Command::Vrfy => {
                say(out, "252 2.0.0 Send a message, and see");
                self.idles(out)
            }
            Command::Quit => {
                say(out, "221 2.0.0 Bye");
                Act::Quit
            }
        }
    }

    fn begin(&mut self, path: &[u8], parameters: &[&[u8]], out: &mut Vec<u8>) -> Act {
        if self.message.is_some() {
            say(out, "503 5.5.1 A message is begun already");
            return self.idles(out);
        }
        if let Some(reply) = self.offers.refuses_mail(parameters) {
            self.refused = Some(reply);
            say(out, reply);
            return self.idles(out);
        }
        let facts = std::mem::take(&mut self.facts);
        let mut intake = Intake::new(facts.client(self.lhlo.clone()), "lmtp".into(), None, Arc::clone(&self.limits));
        intake.comes_to(Door::Delivery);
        intake.begin(path, parameters);
        intake.queued_as(&facts.queue_id);
        self.refused = None;
        self.message = Some(Incoming::new(intake, path, parameters));
        Act::Admit
    }

    fn recipient(&mut self, path: &[u8], parameters: &[&[u8]], out: &mut Vec<u8>) -> Act {
        let Some(message) = self.message.as_mut().filter(|message| message.stage == Stage::Envelope) else {
            return self.out_of_order("503 5.5.1 MAIL first", out);
        };
        if let Some(reply) = self.offers.refuses_rcpt(parameters) {
            say(out, reply);
            return self.idles(out);
        }
        match message.intake.recipient(path, parameters, None) {
            Ok(recipient) => {
                message.intake.join(recipient);
                message.wishes.push(parameters.iter().flat_map(|word| [b" ", *word].concat()).collect());
                say(out, "250 2.1.5 Ok");
                Act::Said
            }
            Err(refused) => {
                say(out, refused.reply_behind_queue());
                Act::Said
            }
        }
    }

    fn data(&mut self, out: &mut Vec<u8>) -> Act {
        match &mut self.message {
            Some(message) if message.stage == Stage::Envelope && !message.wishes.is_empty() => {
                message.stage = Stage::Start;
                self.hearing = Hearing::Dots(Unstuffed::default());
                self.idle = 0;
                say(out, "354 End with CRLF.CRLF");
                Act::Said
            }
            _ => self.out_of_order("503 5.5.1 RCPT first", out),
        }
    }

    /// A command whose message is not begun. What was sent along with a MAIL that is refused is refused for the same reason.
    fn out_of_order(&mut self, reply: &str, out: &mut Vec<u8>) -> Act {
        match self.refused {
            Some(reply) => {
                say(out, reply);
                Act::Said
            }
            None => {
                say(out, reply);
                self.idles(out)
            }
        }
    }

    fn chunk(&mut self, size: u64, last: bool, out: &mut Vec<u8>) -> Act {
        let offered = self.offers.chunking;
        let counts = match &mut self.message {
            Some(message) if offered && !message.wishes.is_empty() => {
                if message.stage == Stage::Envelope {
                    message.stage = Stage::Start;
                    message.by_chunks = true;
                }
                message.by_chunks
            }
            _ => false,
        };
        if !counts && matches!(self.idles(out), Act::Quit) {
            return Act::Quit;
        }
        if counts {
            self.idle = 0;
        }
        // What was announced comes, whatever is answered.
        self.hearing = Hearing::Chunk { left: size, size, last, counts };
        if size == 0 { self.chunk_ends(size, last, counts, out) } else { Act::Said }
    }

    fn forget(&mut self) {
        self.message = None;
        self.refused = None;
        self.facts = Facts::default();
        self.hearing = Hearing::Commands;
        self.piece.clear();
    }
}

fn say(out: &mut Vec<u8>, reply: &str) {
    out.extend_from_slice(reply.as_bytes());
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests;
