//! A milter conversation without I/O: frames in; `Mail`, and answers to be written, out.

use std::mem::take;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use tokio_util::bytes::BytesMut;

use super::Error;
use super::answer::{frames, one_at_a_time, tempfail};
use super::frame::{Frame, answer, command, put, strings};
use super::message::{Message, Stage};
use super::terms::Terms;
use crate::case::{Client, Mail, Recipient, Reply};
use crate::config::Limits;

/// What is to be done after a frame, besides writing what it left in the output.
#[derive(Debug)]
pub enum Act {
    /// Read the next frame.
    Read,
    /// A message begins: [`Session::admit`] or [`Session::refuse`] it, then write.
    Admit,
    /// Another recipient comes, the second of these: [`Session::join`] him to the message or not, then write. Only where the
    /// MTA waits for that.
    Compare(Box<[Recipient; 2]>),
    /// Its header is complete, and this frame begins its body: examine it, say by [`Session::read_body`] whether the body is
    /// wanted, or [`Session::refuse`] it, then write.
    Examine(Box<Mail>),
    /// This frame is a piece of the body that is wanted: keep it, and [`Session::read_body`] on, or [`Session::refuse`] the
    /// message, then write.
    Collect,
    /// It is complete, this frame may hold the last piece of its body: examine it if that has not begun, then [`Session::answer`].
    Answer(Option<Box<Mail>>),
    /// It is gone, or answered already: drop what was begun for it.
    Abandon,
    /// The MTA is done with the connection.
    Quit,
}

/// One connection's state.
#[derive(Debug)]
pub struct Session {
    limits: Arc<Limits>,
    splits: bool,
    terms: Option<Terms>,
    client: Client,
    daemon: String,
    mta: String,
    login: Option<String>,
    queue_id: String,
    /// What the MTA says of the recipient whose RCPT comes next.
    told: Told,
    message: Option<Message>,
}

/// The macros of one RCPT.
#[derive(Debug, Default)]
struct Told {
    address: Option<Vec<u8>>,
    mailer: Option<Vec<u8>>,
}

impl Told {
    /// Whom this MTA takes the path for; absent where it does not say.
    ///
    /// The macros mean that in Postfix alone: Sendmail's `{rcpt_addr}` is what its mailer gets. Postfix says `error` for one whom
    /// it refuses, and tells no mailer of mail that comes by no smtpd, whose address it has not resolved.
    fn by(self, mta: &str) -> Option<Vec<u8>> {
        let is_postfix = mta == "Postfix" || mta.starts_with("Postfix ");
        let resolved = self.mailer.is_some_and(|mailer| !mailer.is_empty() && mailer != b"error");
        self.address.filter(|address| is_postfix && resolved && address.contains(&b'@'))
    }
}

impl Session {
    /// A connection on which nothing was said yet. `splits`: each recipient is to be answered, so that they can be told apart.
    pub fn new(limits: Arc<Limits>, splits: bool) -> Session {
        Session {
            limits,
            splits,
            terms: None,
            client: Client::default(),
            daemon: String::new(),
            mta: String::new(),
            login: None,
            queue_id: String::new(),
            told: Told::default(),
            message: None,
        }
    }

    /// Who brings what comes now.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Whether the MTA has negotiated.
    pub fn negotiated(&self) -> bool {
        self.terms.is_some()
    }

    /// Takes one frame; what is to be answered at once is appended to `out`.
    ///
    /// An error ends the connection. What is wrong with one message alone stays with it: it gets 451 where an answer is due.
    pub fn take(&mut self, frame: &Frame, out: &mut BytesMut) -> Result<Act, Error> {
        let Some(terms) = self.terms else {
            self.terms = Some(Terms::agree(frame, self.splits, out)?);
            return Ok(Act::Read);
        };
        // What is told of one recipient is never another's.
        let told = take(&mut self.told).by(&self.mta);
        match frame.command {
            command::MACROS => self.macros(&frame.payload)?,
            command::CONNECT => self.client = connected(&frame.payload, self.limits.milter_text)?,
            command::HELO => self.client.helo = self.helo(&frame.payload)?,
            command::UNKNOWN => {}
            command::MAIL => return self.mail(&frame.payload, out),
            command::ABORT => {
                self.forget_message();
                return Ok(Act::Abandon);
            }
            command::NEXT => {
                self.forget_message();
                (self.client, self.daemon) = (Client::default(), String::new());
                return Ok(Act::Abandon);
            }
            command::QUIT => return Ok(Act::Quit),
            command::OPTIONS => return Err(Error::Order(frame.command)),
            command::RCPT | command::DATA | command::HEADER | command::END_OF_HEADER | command::BODY | command::END => {
                return self.in_message(frame, told.as_deref(), terms, out);
            }
            other => return Err(Error::Unknown(other)),
        }
        if frame.command != command::MACROS && terms.answers(frame.command) {
            put(out, answer::CONTINUE, &[], self.limits.milter_frame)?;
        }
        Ok(Act::Read)
    }

    /// There is room for the message that [`Act::Admit`] announced.
    pub fn admit(&mut self, now: SystemTime, out: &mut BytesMut) -> Result<(), Error> {
        if let Some(message) = &mut self.message {
            message.received(now);
        }
        put(out, answer::CONTINUE, &[], self.limits.milter_frame)
    }

    /// The recipient that [`Act::Compare`] announced stays in the message, or is to come again in another one.
    pub fn join(&mut self, stays: bool, out: &mut BytesMut) -> Result<(), Error> {
        let Some(message) = &mut self.message else { return Err(Error::Order(command::RCPT)) };
        let Some(recipient) = message.asked.take() else { return Err(Error::Order(command::RCPT)) };
        if !stays {
            one_at_a_time(out);
            return Ok(());
        }
        message.join(recipient);
        put(out, answer::CONTINUE, &[], self.limits.milter_frame)
    }

    /// The message that [`Act::Examine`] announced is examined, or a piece of its body kept: the rest of the body is wanted, or
    /// not.
    pub fn read_body(&mut self, wanted: bool, out: &mut BytesMut) -> Result<(), Error> {
        if let Some(message) = &mut self.message {
            message.stage = if wanted { Stage::Wanted } else { Stage::Skipped };
        }
        self.go_on(command::BODY, out)
    }

    /// There is no room for the message, or it cannot be examined, or kept: 451, now and at its end.
    pub fn refuse(&mut self, fault: Error, out: &mut BytesMut) {
        tempfail(&fault, out);
        self.fail(fault);
    }

    /// Whether the MTA offered what this answer needs.
    pub fn can_say(&self, reply: &Reply, recipients: &[Recipient]) -> Result<(), Error> {
        frames(reply, recipients, &self.terms.unwrap_or_default(), self.limits.milter_frame).map(|_| ())
    }

    /// Appends the answer to the message whose [`Act::Answer`] came: all of it, or 451 and the reason why.
    /// `recipients` are the message's.
    pub fn answer(&mut self, reply: &Reply, recipients: &[Recipient], out: &mut BytesMut) -> Result<(), Error> {
        let terms = self.terms.unwrap_or_default();
        let frames = frames(reply, recipients, &terms, self.limits.milter_frame);
        let frames = frames.inspect_err(|fault| tempfail(fault, out))?;
        out.extend_from_slice(&frames);
        Ok(())
    }

    /// Whether a message is in flight whose MTA would understand a 451.
    pub fn in_flight(&self) -> bool {
        self.message.is_some()
    }

    /// The queue id of the message in flight, for the log.
    pub fn queue_id(&self) -> &str {
        self.message.as_ref().map_or("-", Message::queue_id)
    }

    fn mail(&mut self, payload: &[u8], out: &mut BytesMut) -> Result<Act, Error> {
        let unfinished = self.message.take().is_some_and(|message| message.fault.is_none());
        let login = self.login.take();
        let mut message = Message::new(self.client.clone(), self.daemon.clone(), login);
        message.queued_as(&self.queue_id);
        message.taken_by(&self.mta);
        let begun = message.begin(payload, self.limits.milter_text);
        self.message = Some(message);
        match begun {
            Ok(()) if !unfinished => return Ok(Act::Admit),
            Ok(()) => self.refuse(Error::Order(command::MAIL), out),
            Err(fault) => self.refuse(fault, out),
        }
        Ok(Act::Abandon)
    }

    fn in_message(
        &mut self,
        frame: &Frame,
        told: Option<&[u8]>,
        terms: Terms,
        out: &mut BytesMut,
    ) -> Result<Act, Error> {
        let Some(message) = &mut self.message else { return Err(Error::Order(frame.command)) };
        let act = match &message.fault {
            Some(_) => Ok(Act::Read),
            None => step(message, frame, told, terms, &self.limits),
        };
        let act = act.unwrap_or_else(|fault| {
            self.fail(fault);
            Act::Abandon
        });
        let fault = self.message.as_ref().and_then(|message| message.fault.as_ref());
        match (frame.command, fault) {
            (command::END, Some(fault)) => {
                tempfail(fault, out);
                self.forget_message();
                return Ok(Act::Abandon);
            }
            (command::END, None) => self.forget_message(),
            (command, Some(fault)) if terms.answers(command) => tempfail(fault, out),
            (_, Some(_)) => {}
            // What is answered is not known yet.
            (_, None) if matches!(act, Act::Compare(_) | Act::Examine(_) | Act::Collect) => {}
            (command, None) if terms.answers(command) => self.go_on(command, out)?,
            (_, None) => {}
        }
        Ok(act)
    }

    /// Tells the MTA to go on, or to spare itself the rest of a body that nobody wants.
    fn go_on(&self, command: u8, out: &mut BytesMut) -> Result<(), Error> {
        let unwanted = self.message.as_ref().is_some_and(|message| message.stage == Stage::Skipped);
        let skips = command == command::BODY && unwanted && self.terms.is_some_and(|terms| terms.may_skip());
        put(out, if skips { answer::SKIP } else { answer::CONTINUE }, &[], self.limits.milter_frame)
    }

    /// Marks the message in flight: it gets 451.
    fn fail(&mut self, fault: Error) {
        let Some(message) = &mut self.message else { return };
        tracing::warn!(queue_id = message.queue_id(), "the message gets 451: {fault}");
        message.fault.get_or_insert(fault);
    }

    fn forget_message(&mut self) {
        self.message = None;
        self.login = None;
        self.queue_id.clear();
    }

    /// The first octet names the command that the macros come before.
    fn macros(&mut self, payload: &[u8]) -> Result<(), Error> {
        let bad = || Error::Malformed("macro");
        let (before, pairs) = payload.split_first().ok_or_else(bad)?;
        match *before {
            command::CONNECT => {
                self.forget_message();
                (self.client, self.daemon) = (Client::default(), String::new());
            }
            command::MAIL => {
                self.login = None;
                self.queue_id.clear();
            }
            _ => {}
        }
        for pair in strings(pairs).ok_or_else(bad)?.chunks(2) {
            let &[name, value] = pair else { return Err(bad()) };
            self.learn(*before, name, value).ok_or_else(bad)?;
        }
        Ok(())
    }

    /// A macro's name has braces when it is longer than one letter. Absent: a value that is too long.
    fn learn(&mut self, before: u8, name: &[u8], value: &[u8]) -> Option<()> {
        let bare = name.strip_prefix(b"{").and_then(|name| name.strip_suffix(b"}")).unwrap_or(name);
        let limit = self.limits.milter_text;
        match bare {
            b"daemon_name" => self.daemon = text(value, limit)?,
            b"v" => self.mta = text(value, limit)?,
            b"rcpt_addr" if before == command::RCPT && value.len() <= limit => self.told.address = Some(value.to_vec()),
            b"rcpt_mailer" if before == command::RCPT && value.len() <= limit => {
                self.told.mailer = Some(value.to_vec())
            }
            b"tls_version" => self.client.tls = !value.is_empty(),
            b"auth_authen" => self.login = Some(text(value, limit)?).filter(|login| !login.is_empty()),
            b"i" => {
                self.queue_id = text(value, limit)?;
                if let Some(message) = &mut self.message {
                    message.queued_as(&self.queue_id);
                }
            }
            _ => {}
        }
        Some(())
    }

    fn helo(&self, payload: &[u8]) -> Result<String, Error> {
        let bad = || Error::Malformed("HELO");
        let words = strings(payload).ok_or_else(bad)?;
        words.first().and_then(|word| text(word, self.limits.milter_text)).ok_or_else(bad)
    }
}

/// What a frame inside a healthy message does to it; `told` is whom the MTA takes a RCPT for.
fn step(
    message: &mut Message,
    frame: &Frame,
    told: Option<&[u8]>,
    terms: Terms,
    limits: &Limits,
) -> Result<Act, Error> {
    let order = || Err(Error::Order(frame.command));
    match (frame.command, message.stage) {
        (command::RCPT, Stage::Envelope) => {
            let recipient = message.recipient(&frame.payload, told, limits)?;
            // A user's mail client would show a 452 to its user, and bring nobody in a message of his own.
            let told_apart = terms.answers(command::RCPT) && !message.has_login();
            let Some(first) = message.first().filter(|_| told_apart) else {
                message.join(recipient);
                return Ok(Act::Read);
            };
            let both = Box::new([first.clone(), recipient.clone()]);
            message.asked = Some(recipient);
            return Ok(Act::Compare(both));
        }
        (command::DATA, Stage::Envelope) => message.stage = Stage::Header,
        (command::HEADER, Stage::Envelope | Stage::Header) => {
            message.stage = Stage::Header;
            message.field(&frame.payload, terms.keep_leading_space(), limits)?;
        }
        (command::END_OF_HEADER, Stage::Envelope | Stage::Header) => message.stage = Stage::HeaderEnd,
        (command::BODY, Stage::HeaderEnd) => return Ok(Act::Examine(Box::new(message.finish(&frame.payload)))),
        (command::BODY, Stage::Skipped) => {}
        (command::BODY, Stage::Wanted) => return Ok(Act::Collect),
        (command::END, Stage::Skipped | Stage::Wanted) => return Ok(Act::Answer(None)),
        // The last frame may bring the last of the body along.
        (command::END, Stage::HeaderEnd) => return Ok(Act::Answer(Some(Box::new(message.finish(&frame.payload))))),
        _ => return order(),
    }
    Ok(Act::Read)
}

/// What CONNECT says: the client's name, its family, and for an internet family port and address.
fn connected(payload: &[u8], limit: usize) -> Result<Client, Error> {
    let bad = || Error::Malformed("CONNECT");
    let end = payload.iter().position(|octet| *octet == 0).ok_or_else(bad)?;
    let (name, rest) = payload.split_at(end);
    let name = text(name, limit).ok_or_else(bad)?;
    let (family, rest) = rest.get(1..).and_then(<[u8]>::split_first).ok_or_else(bad)?;
    let ip = match family {
        b'4' | b'6' => {
            let address = rest.get(2..).and_then(strings).ok_or_else(bad)?;
            let address = address.first().and_then(|address| std::str::from_utf8(address).ok()).ok_or_else(bad)?;
            // An SMTP address literal's prefix (RFC 5321 §4.1.3).
            let address = address.strip_prefix("IPv6:").unwrap_or(address);
            Some(address.parse::<IpAddr>().map_err(|_| bad())?.to_canonical())
        }
        b'L' | b'U' => None,
        _ => return Err(bad()),
    };
    // `unknown`, or the address in brackets, stands where forward and reverse look-up disagree.
    let known = !name.is_empty() && name != "unknown" && !name.starts_with('[');
    Ok(Client { ip, name: known.then_some(name), ..Client::default() })
}

/// Octets as text; absent where there are more than `limit`.
fn text(octets: &[u8], limit: usize) -> Option<String> {
    (octets.len() <= limit).then(|| String::from_utf8_lossy(octets).into_owned())
}

#[cfg(test)]
mod tests;
