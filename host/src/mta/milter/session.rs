//! A milter conversation without I/O: frames in; `Mail`, and answers to be written, out.

use std::mem::{replace, take};
use std::sync::Arc;
use std::time::SystemTime;

use tokio_util::bytes::BytesMut;

use super::Error;
use super::answer::{frames, one_at_a_time, refuse_for, refuse_recipient};
use super::frame::{Frame, answer, append, command, put, strings};
use super::message::{Message, Stage};
use super::terms::Terms;
use crate::case::{Client, Mail, Recipient, Reply};
use crate::config::{Limits, Peer};
use crate::mta::Refused;
use crate::mta::intake::{login, text};

mod facts;

use facts::{Rcpt, RcptMacros, connected, is_postfix};

/// How Stalwart's `{daemon_name}` begins; its version follows. It says no `v`.
const STALWART: &str = "Stalwart";

/// What is to be done after a frame. What the frame left in the output is to be written in any case.
#[derive(Debug)]
pub enum Act {
    /// Read the next frame.
    Read,
    /// A message begins: [`Session::admit`] or [`Session::refuse`] it, then write.
    Admit,
    /// Another recipient comes, the second of these: [`Session::join`] it to the message or not, then write. This comes only
    /// where the MTA waits for it.
    Compare(Box<[Recipient; 2]>),
    /// Its header is complete, and this frame begins its body: examine it, say by [`Session::read_body`] whether the body is
    /// wanted, or [`Session::refuse`] it, then write.
    Examine(Box<Mail>),
    /// This frame is a piece of the body that is wanted: keep it, and [`Session::read_body`] on, or [`Session::refuse`] the
    /// message, then write.
    Collect,
    /// The message is complete, and this frame may hold the last piece of its body: examine it if that has not begun, then
    /// [`Session::answer`].
    Answer(Option<Box<Mail>>),
    /// The message is gone, or answered already: drop what was begun for it.
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
    server: Option<String>,
    /// The login of the message to come. The error: the name is too long.
    login: Result<Option<String>, Refused>,
    queue_id: String,
    /// What the MTA says of the recipient whose RCPT comes next.
    rcpt_macros: RcptMacros,
    message: Option<Message>,
    /// Where the message's own body begins in the last frame.
    body_at: usize,
}

impl Session {
    /// A connection on which nothing was said yet. `splits`: the MTA is to wait for an answer to each recipient, so that they
    /// can be told apart.
    pub fn new(limits: Arc<Limits>, splits: bool) -> Session {
        Session {
            limits,
            splits,
            terms: None,
            client: Client::default(),
            daemon: String::new(),
            mta: String::new(),
            server: None,
            login: Ok(None),
            queue_id: String::new(),
            rcpt_macros: RcptMacros::default(),
            message: None,
            body_at: 0,
        }
    }

    /// The client whose mail comes now.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Whether the MTA has negotiated.
    pub fn negotiated(&self) -> bool {
        self.terms.is_some()
    }

    /// Takes one frame; what is to be answered at once is appended to `out`.
    ///
    /// An error ends the connection. A fault of one message does not: the message is refused where an answer is due. A detail
    /// that cannot be read does neither: it is a fact that is missing.
    pub fn take(&mut self, frame: &Frame, out: &mut BytesMut) -> Result<Act, Error> {
        self.body_at = 0;
        let Some(terms) = self.terms else {
            self.terms = Some(Terms::agree(frame, self.splits, out)?);
            return Ok(Act::Read);
        };
        // What is told of one recipient is never another's.
        let told = take(&mut self.rcpt_macros);
        let alone = terms.answers(command::RCPT) && told.may_be_refused(&self.mta);
        let whom = told.by(&self.mta);
        match frame.command {
            command::MACROS => self.macros(&frame.payload)?,
            command::CONNECT => self.client = connected(&frame.payload, self.limits.mta.text),
            command::HELO => self.client.helo = self.helo(&frame.payload),
            command::UNKNOWN => {}
            command::MAIL => return self.mail(&frame.payload, out),
            command::ABORT => {
                self.forget_message();
                return Ok(Act::Abandon);
            }
            command::NEXT => {
                self.forget_client();
                return Ok(Act::Abandon);
            }
            command::QUIT => return Ok(Act::Quit),
            command::OPTIONS => return Err(Error::Order(frame.command)),
            command::RCPT | command::DATA | command::HEADER | command::END_OF_HEADER | command::BODY | command::END => {
                return self.in_message(frame, Rcpt { whom: whom.as_deref(), alone }, terms, out);
            }
            other => return Err(Error::Unknown(other)),
        }
        if frame.command != command::MACROS && terms.answers(frame.command) {
            put(out, answer::CONTINUE, &[], self.limits.mta.frame)?;
        }
        Ok(Act::Read)
    }

    /// There is room for the message that [`Act::Admit`] announced.
    pub fn admit(&mut self, now: SystemTime, out: &mut BytesMut) -> Result<(), Error> {
        if let Some(message) = &mut self.message {
            message.intake.received(now);
        }
        put(out, answer::CONTINUE, &[], self.limits.mta.frame)
    }

    /// The recipient that [`Act::Compare`] announced stays in the message, or is to come again in another one.
    pub fn join(&mut self, stays: bool, out: &mut BytesMut) -> Result<(), Error> {
        let Some(message) = &mut self.message else { return Err(Error::Order(command::RCPT)) };
        let Some(recipient) = message.asked.take() else { return Err(Error::Order(command::RCPT)) };
        if !stays {
            one_at_a_time(out);
            return Ok(());
        }
        message.intake.join(recipient);
        put(out, answer::CONTINUE, &[], self.limits.mta.frame)
    }

    /// The message that [`Act::Examine`] announced is examined, or a piece of its body is kept; `wanted` says whether the
    /// rest of the body is.
    pub fn read_body(&mut self, wanted: bool, out: &mut BytesMut) -> Result<(), Error> {
        if let Some(message) = &mut self.message {
            message.stage = if wanted { Stage::Wanted } else { Stage::Skipped };
        }
        self.go_on(command::BODY, out)
    }

    /// Refuses the message, now and at its end: there is no room for it, or it cannot be examined or kept.
    pub fn refuse(&mut self, fault: Error, out: &mut BytesMut) {
        refuse_for(&fault, out);
        self.fail(fault);
    }

    /// Whether the MTA offered what this answer needs.
    pub fn can_say(&self, reply: &Reply, mail: &Mail) -> Result<(), Error> {
        frames(reply, mail, &self.agreed(), self.limits.mta.frame).map(|_| ())
    }

    /// Appends the whole answer to this message, whose [`Act::Answer`] came. On an error, which is the reason, it appends a
    /// refusal instead.
    pub fn answer(&mut self, reply: &Reply, mail: &Mail, out: &mut BytesMut) -> Result<(), Error> {
        let frames = frames(reply, mail, &self.agreed(), self.limits.mta.frame);
        let frames = frames.inspect_err(|fault| refuse_for(fault, out))?;
        append(out, &frames);
        Ok(())
    }

    /// What was agreed, as it is meant by this MTA.
    fn agreed(&self) -> Terms {
        let terms = self.terms.unwrap_or_default();
        if self.peer().is_some() { terms.with_stalwart() } else { terms }
    }

    /// The MTA, where it does some things in its own way. Its own words decide that, never the look of a message.
    pub fn peer(&self) -> Option<Peer> {
        let is_stalwart = self.daemon.starts_with(STALWART) && !is_postfix(&self.mta);
        is_stalwart.then_some(Peer::Stalwart)
    }

    /// Where in the frame that was taken last the message's own body begins, or goes on.
    pub fn body_at(&self) -> usize {
        self.body_at
    }

    /// Whether recipients came, and no more: a Stalwart that asks at RCPT ends the connection then.
    pub fn ends_at_rcpt(&self) -> bool {
        let accepted = |message: &Message| message.stage == Stage::Envelope && message.intake.first().is_some();
        self.message.as_ref().is_some_and(|message| accepted(message) && message.fault.is_none())
    }

    /// Whether the MTA says that it is a Postfix.
    pub fn is_postfix(&self) -> bool {
        is_postfix(&self.mta)
    }

    /// What the MTA calls itself (`v`); empty where it does not say.
    pub fn mta(&self) -> &str {
        &self.mta
    }

    /// Whether a message is in flight whose MTA would understand a refusal.
    pub fn in_flight(&self) -> bool {
        self.message.is_some()
    }

    /// The queue id of the message in flight, for the log.
    pub fn queue_id(&self) -> &str {
        self.message.as_ref().map_or("-", |message| message.intake.queue_id())
    }

    fn mail(&mut self, payload: &[u8], out: &mut BytesMut) -> Result<Act, Error> {
        let unfinished = self.message.take().is_some_and(|message| message.fault.is_none());
        let (login, unnamed) = match replace(&mut self.login, Ok(None)) {
            Ok(login) => (login, None),
            Err(fault) => (None, Some(fault.into())),
        };
        let client = Client { server: self.server.clone(), ..self.client.clone() };
        // A version in a daemon's name would change with each update, and `learn` and `stamp` name daemons.
        let (daemon, mta) = match self.peer() {
            Some(Peer::Stalwart) => (STALWART, &self.daemon),
            _ => (self.daemon.as_str(), &self.mta),
        };
        let mut message = Message::new(client, daemon.to_owned(), login, Arc::clone(&self.limits));
        message.intake.queued_as(&self.queue_id);
        message.intake.taken_by(mta);
        if self.peer().is_some() {
            message.shown_again();
        }
        let begun = message.begin(payload);
        self.message = Some(message);
        let order = || unfinished.then_some(Error::Order(command::MAIL));
        match begun.err().or_else(order).or(unnamed) {
            None => return Ok(Act::Admit),
            Some(fault) => self.refuse(fault, out),
        }
        Ok(Act::Abandon)
    }

    fn in_message(&mut self, frame: &Frame, rcpt: Rcpt<'_>, terms: Terms, out: &mut BytesMut) -> Result<Act, Error> {
        let Some(message) = &mut self.message else { return Err(Error::Order(frame.command)) };
        let act = match &message.fault {
            Some(_) => Ok(Act::Read),
            None => step(message, frame, rcpt, terms, &self.limits).map(|(act, body_at)| {
                self.body_at = body_at;
                act
            }),
        };
        if let Err(fault @ Error::Refused(Refused::Recipients(_) | Refused::Path(_))) = &act
            && rcpt.alone
        {
            refuse_recipient(fault, out);
            return Ok(Act::Read);
        }
        let act = act.unwrap_or_else(|fault| {
            self.fail(fault);
            Act::Abandon
        });
        let fault = self.message.as_ref().and_then(|message| message.fault.as_ref());
        match (frame.command, fault) {
            (command::END, Some(fault)) => {
                refuse_for(fault, out);
                self.forget_message();
                return Ok(Act::Abandon);
            }
            (command::END, None) => self.forget_message(),
            // The end of the message says it.
            (command::RCPT, Some(_)) if terms.answers(command::RCPT) && !rcpt.alone => {
                self.go_on(command::RCPT, out)?
            }
            (command, Some(fault)) if terms.answers(command) => refuse_for(fault, out),
            (_, Some(_)) => {}
            // What is answered is not known yet.
            (_, None) if matches!(act, Act::Compare(_) | Act::Examine(_) | Act::Collect) => {}
            (command, None) if terms.answers(command) => self.go_on(command, out)?,
            (_, None) => {}
        }
        Ok(act)
    }

    /// Tells the MTA to go on, or to spare itself the rest of a body that is not wanted.
    fn go_on(&self, command: u8, out: &mut BytesMut) -> Result<(), Error> {
        let unwanted = self.message.as_ref().is_some_and(|message| message.stage == Stage::Skipped);
        let skips = command == command::BODY && unwanted && self.terms.is_some_and(|terms| terms.may_skip());
        put(out, if skips { answer::SKIP } else { answer::CONTINUE }, &[], self.limits.mta.frame)
    }

    /// Marks the message in flight as refused.
    fn fail(&mut self, fault: Error) {
        let Some(message) = &mut self.message else { return };
        match fault {
            // The connection tells of it, and not each time.
            Error::Unfit(_) => {}
            _ => tracing::warn!(queue_id = message.intake.queue_id(), "the message is refused: {fault}"),
        }
        message.fault.get_or_insert(fault);
    }

    fn forget_client(&mut self) {
        self.forget_message();
        (self.client, self.daemon) = (Client::default(), String::new());
    }

    fn forget_message(&mut self) {
        self.message = None;
        self.login = Ok(None);
        self.queue_id.clear();
    }

    /// The first octet names the command that the macros come before.
    fn macros(&mut self, payload: &[u8]) -> Result<(), Error> {
        let bad = || Error::Malformed("macro");
        let (before, pairs) = payload.split_first().ok_or_else(bad)?;
        match *before {
            command::CONNECT => self.forget_client(),
            command::MAIL => {
                self.login = Ok(None);
                self.queue_id.clear();
            }
            _ => {}
        }
        for pair in strings(pairs).ok_or_else(bad)?.chunks(2) {
            let &[name, value] = pair else { return Err(bad()) };
            self.learn(*before, name, value);
        }
        Ok(())
    }

    /// A macro's name has braces when it is longer than one letter. A value that is too long counts as not told. A login's
    /// name that is too long refuses the message, which would be a stranger's without it.
    fn learn(&mut self, before: u8, name: &[u8], value: &[u8]) {
        let bare = name.strip_prefix(b"{").and_then(|name| name.strip_suffix(b"}")).unwrap_or(name);
        let limit = self.limits.mta.text;
        match bare {
            b"daemon_name" => self.daemon = text(value, limit).unwrap_or_default(),
            b"v" => self.mta = text(value, limit).unwrap_or_default(),
            b"j" => self.server = text(value, limit).filter(|name| !name.is_empty()),
            b"rcpt_addr" if before == command::RCPT && value.len() <= limit => {
                self.rcpt_macros.address = Some(value.to_vec())
            }
            b"rcpt_mailer" if before == command::RCPT && value.len() <= limit => {
                self.rcpt_macros.mailer = Some(value.to_vec())
            }
            b"tls_version" => self.client.tls = !value.is_empty(),
            b"auth_authen" => self.login = login(value, limit),
            b"i" => {
                self.queue_id = text(value, limit).unwrap_or_default();
                if let Some(message) = &mut self.message {
                    message.intake.queued_as(&self.queue_id);
                }
            }
            _ => {}
        }
    }

    fn helo(&self, payload: &[u8]) -> String {
        let word = strings(payload).and_then(|words| words.first().copied());
        word.and_then(|word| text(word, self.limits.mta.text)).unwrap_or_default()
    }
}

/// What a frame inside a healthy message does to it, and where the message's body begins in the frame.
fn step(
    message: &mut Message,
    frame: &Frame,
    rcpt: Rcpt<'_>,
    terms: Terms,
    limits: &Limits,
) -> Result<(Act, usize), Error> {
    match (frame.command, message.stage) {
        (command::RCPT, Stage::Envelope) => {
            let recipient = message.recipient(&frame.payload, rcpt.whom)?;
            // A user's mail client would show a 452 to its user, and would not bring the message again.
            let told_apart = rcpt.alone && !message.intake.has_login();
            let Some(first) = message.intake.first().filter(|_| told_apart) else {
                message.intake.join(recipient);
                return Ok((Act::Read, 0));
            };
            let both = Box::new([first.clone(), recipient.clone()]);
            message.asked = Some(recipient);
            return Ok((Act::Compare(both), 0));
        }
        (command::DATA, Stage::Envelope) => message.stage = Stage::Header,
        (command::HEADER, Stage::Envelope | Stage::Header) => {
            message.stage = Stage::Header;
            message.field(&frame.payload, terms.keep_leading_space(), limits)?;
        }
        (command::END_OF_HEADER, Stage::Envelope | Stage::Header) => message.stage = Stage::HeaderEnd,
        // A stranger may write a message so, too: it says nothing of an MTA whose milter is known, nor of another message.
        (command::BODY | command::END, Stage::HeaderEnd)
            if !message.is_shown_again()
                && !is_postfix(message.intake.mta())
                && message.comes_again(&frame.payload) =>
        {
            return Err(Error::HeaderAgain);
        }
        (command::BODY, Stage::HeaderEnd) => {
            if let Some((mail, body_at)) = message.finish(&frame.payload, false, limits)? {
                return Ok((Act::Examine(Box::new(mail)), body_at));
            }
        }
        (command::BODY, Stage::Skipped) => {}
        (command::BODY, Stage::Wanted) => return Ok((Act::Collect, 0)),
        (command::END, Stage::Skipped | Stage::Wanted) => return Ok((Act::Answer(None), 0)),
        // The last frame may bring the last of the body along.
        (command::END, Stage::HeaderEnd) => {
            let (mail, body_at) = message.finish(&frame.payload, true, limits)?.ok_or(Error::Order(command::END))?;
            return Ok((Act::Answer(Some(Box::new(mail))), body_at));
        }
        _ => return Err(Error::Order(frame.command)),
    }
    Ok((Act::Read, 0))
}

#[cfg(test)]
mod tests;
