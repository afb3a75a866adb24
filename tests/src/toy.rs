//! A toy door: a message as lines of text, in memory or over a connection, and what becomes of it as text. It shows what a door
//! is made of: it cuts octets into words, hands them to `mta::intake` and `mta::reception`, and says the reply in its own way.
//!
//! A conversation is one message: lines that end in LF, each a verb and its words, then an empty line and the body as it is.
//! The verbs are `client IP NAME`, `login NAME`, `id QUEUE-ID`, `mail PATH PARAMETER…`, `rcpt PATH PARAMETER…` and
//! `field NAME:VALUE`, where a line that begins with a blank goes on with the value. The answer is a line for each recipient
//! that is refused alone, an SMTP reply, and for a message that goes on who gets it and, after an empty line, what.

use std::sync::Arc;
use std::time::SystemTime;

use addrauth::case::{Case, Client, Recipient, Refusal, Verdict};
use addrauth::config::Limits;
use addrauth::mta::intake::{Intake, client_ip, client_name, login};
use addrauth::mta::listen::{self, Listener, Socket};
use addrauth::mta::reception::{Admitted, Reception, Seat, Seats};
use addrauth::mta::{Changes, Insertion, Judge, Lanes, ONE_AT_A_TIME, Refused};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The door.
pub struct Toy<J> {
    reception: Arc<Reception<J>>,
    seats: Seats,
}

/// Why a conversation ends early.
enum Fault {
    Refused(Refused),
    /// A line that does not belong there.
    Nonsense,
}

impl From<Refused> for Fault {
    fn from(refused: Refused) -> Fault {
        Fault::Refused(refused)
    }
}

/// A field as it came, name and value.
type Line = (Vec<u8>, Vec<u8>);

/// What is heard of one message before its body.
struct Conversation<'a, J> {
    toy: &'a Toy<J>,
    client: Client,
    login: Option<String>,
    id: String,
    message: Option<(Admitted<J>, Intake)>,
    /// The header as it is to be delivered.
    header: Vec<Line>,
    /// The lines of recipients that were refused alone.
    said: Vec<u8>,
}

impl<J: Judge> Toy<J> {
    /// Opens it until `shutdown`, with as many seats as a milter has connections.
    pub fn open(judge: watch::Receiver<Arc<J>>, limits: Arc<Limits>, shutdown: CancellationToken) -> Toy<J> {
        let reception = Reception::open(judge, limits, shutdown);
        let seats = reception.seats(reception.limits().mta.connections, "toys");
        Toy { reception, seats }
    }

    /// Waits until all conversations have ended, as a door does that closes.
    pub async fn drain(&self) {
        self.reception.drain().await;
    }

    /// Has a conversation with each connection that comes in at these listeners, until the program stops: the octets up to
    /// their end are one message.
    pub async fn serve(self: Arc<Toy<J>>, listeners: Vec<Listener>) {
        let connection = {
            let toy = Arc::clone(&self);
            move |mut socket: Socket, seat: Seat| {
                let toy = Arc::clone(&toy);
                async move {
                    let said = toy.answer(&mut socket, &seat).await;
                    let _ = socket.write_all(&said).await;
                }
            }
        };
        listen::serve(listeners, &self.reception, &self.seats, Lanes::here(), connection).await;
    }

    /// The answer to what a connection says; nothing where it says nothing more.
    async fn answer(&self, socket: &mut Socket, seat: &Seat) -> Vec<u8> {
        let mut octets = Vec::new();
        let patience = self.reception.limits().mta.idle;
        match self.reception.hear(socket.read_to_end(&mut octets), false, patience).await {
            Ok(Some(Ok(_))) => self.talk(&octets, seat).await,
            Ok(_) => Vec::new(),
            Err(refused) => format!("{}\n", refused.reply()).into_bytes(),
        }
    }

    /// Has a conversation: the octets of one message, and the answer. `None`: there was not even a standing place.
    pub async fn converse(&self, octets: &[u8]) -> Option<Vec<u8>> {
        let seat = self.seats.take()?;
        Some(self.talk(octets, &seat).await)
    }

    async fn talk(&self, octets: &[u8], seat: &Seat) -> Vec<u8> {
        let mut conversation = Conversation {
            toy: self,
            client: Client::default(),
            login: None,
            id: String::new(),
            message: None,
            header: Vec::new(),
            said: Vec::new(),
        };
        let (lines, body) = cut(octets);
        let said = async {
            for line in lines {
                match (verb(&line), &conversation.message) {
                    ((b"mail", words), None) => conversation.mail(self.reception.admit(seat)?, words),
                    _ => conversation.hear(&line).await?,
                }
            }
            conversation.end(body).await
        };
        let said = said.await;
        let mut out = conversation.said;
        match said {
            Ok(said) => out.extend(said),
            Err(Fault::Refused(refused)) => out.extend(format!("{}\n", refused.reply()).bytes()),
            Err(Fault::Nonsense) => out.extend(b"500 5.5.2 What is that?\n"),
        }
        out
    }
}

impl<J: Judge> Conversation<'_, J> {
    fn mail(&mut self, admitted: Admitted<J>, words: &[u8]) {
        let limits = Arc::clone(self.toy.reception.limits());
        let mut intake = Intake::new(self.client.clone(), "toy".into(), self.login.take(), limits);
        intake.received(SystemTime::now());
        intake.queued_as(&self.id);
        let words: Vec<&[u8]> = words.split(|octet| *octet == b' ').collect();
        intake.begin(words[0], &words[1..]);
        self.message = Some((admitted, intake));
    }

    async fn hear(&mut self, line: &[u8]) -> Result<(), Fault> {
        let limit = self.toy.reception.limits().mta.text;
        match (verb(line), &mut self.message) {
            ((b"client", words), None) => {
                let (ip, name) = verb(words);
                self.client = Client { ip: client_ip(ip), name: client_name(name, limit), ..Client::default() };
            }
            ((b"login", name), None) => self.login = login(name, limit)?,
            ((b"id", id), None) => self.id = String::from_utf8_lossy(id).into_owned(),
            ((b"rcpt", words), Some((admitted, intake))) => {
                let words: Vec<&[u8]> = words.split(|octet| *octet == b' ').collect();
                let refusal = match intake.recipient(words[0], &words[1..], None) {
                    Ok(next) => join(admitted, intake, &self.client, next).await,
                    Err(refused) => Some(refused.reply_to_recipient()),
                };
                if let Some(refusal) = refusal {
                    self.said.extend([b"rcpt ", words[0], b" ", refusal.as_bytes(), b"\n"].concat());
                }
            }
            ((b"field", field), Some((_, intake))) => {
                let colon = field.iter().position(|octet| *octet == b':').ok_or(Fault::Nonsense)?;
                let (name, value) = (&field[..colon], &field[colon + 1..]);
                intake.field(name, value, true)?;
                self.header.push((name.to_vec(), value.to_vec()));
            }
            _ => return Err(Fault::Nonsense),
        }
        Ok(())
    }

    async fn end(&mut self, body: &[u8]) -> Result<Vec<u8>, Fault> {
        let (mut admitted, mut intake) = self.message.take().ok_or(Fault::Nonsense)?;
        let due = self.toy.reception.due();
        let case = admitted.examine(intake.finish(body)?, due).await?;
        let can_say = |case: &Case| Changes::of(&case.reply, &case.mail.recipients).map(drop).map_err(Fault::Refused);
        let case = admitted.keep(case, body, due, can_say).await?;
        self.say(&case, body)
    }

    /// The reply in this door's words.
    fn say(&mut self, Case { mail, reply, .. }: &Case, body: &[u8]) -> Result<Vec<u8>, Fault> {
        let line = match &reply.verdict {
            Verdict::Accept => "250 2.0.0 delivered".to_owned(),
            Verdict::Hold(_) => "250 2.0.0 held".to_owned(),
            Verdict::Discard => "250 2.0.0 dropped".to_owned(),
            Verdict::Reject(Refusal { code, status, text }) | Verdict::Defer(Refusal { code, status, text }) => {
                format!("{code} {status} {text}")
            }
        };
        let mut out = format!("{line}\n").into_bytes();
        if matches!(reply.verdict, Verdict::Accept | Verdict::Hold(_)) {
            let changes = Changes::of(reply, &mail.recipients)?;
            for path in paths(&changes, &mail.recipients) {
                out.extend([b"to ", path.as_slice(), b"\n"].concat());
            }
            make(&mut self.header, &changes);
            out.push(b'\n');
            for (name, value) in &self.header {
                out.extend([name, b":".as_slice(), value, b"\n"].concat());
            }
            out.push(b'\n');
            out.extend(body);
        }
        Ok(out)
    }
}

/// Puts a recipient beside those before it; what its sender is told where it may not stay there.
async fn join<J: Judge>(
    admitted: &mut Admitted<J>,
    intake: &mut Intake,
    client: &Client,
    next: Recipient,
) -> Option<&'static str> {
    if let Some(first) = intake.first() {
        let both = [first.clone(), next.clone()];
        if !admitted.alike(client, &both, intake.queue_id()).await {
            return Some(ONE_AT_A_TIME);
        }
    }
    intake.join(next);
    None
}

/// Who gets a message that goes on.
fn paths(changes: &Changes<'_>, to: &[Recipient]) -> Vec<Vec<u8>> {
    let stays = |recipient: &&Recipient| !changes.struck_out.contains(recipient.path.as_slice());
    let stay = to.iter().filter(stays).map(|recipient| recipient.path.clone());
    stay.chain(changes.put_in.iter().cloned()).collect()
}

/// Makes the changes to a header: a field is deleted by its place among those of its name, from 1 on.
fn make(header: &mut Vec<Line>, changes: &Changes<'_>) {
    for (name, index) in &changes.deleted {
        let is = |(_, (known, _)): &(usize, &Line)| known.trim_ascii_end().eq_ignore_ascii_case(name.as_bytes());
        let at = header.iter().enumerate().filter(is).nth(*index as usize - 1).map(|(at, _)| at);
        at.map(|at| header.remove(at));
    }
    for Insertion { index, name, value } in &changes.inserted {
        header.insert(*index as usize, (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
    }
}

/// The lines before the empty one, continued ones joined with their LF, and what follows.
fn cut(octets: &[u8]) -> (Vec<Vec<u8>>, &[u8]) {
    let end = octets.windows(2).position(|pair| pair == b"\n\n").unwrap_or(octets.len());
    let mut lines: Vec<Vec<u8>> = Vec::new();
    for line in octets[..end].split(|octet| *octet == b'\n') {
        match lines.last_mut() {
            Some(last) if matches!(line.first(), Some(b' ' | b'\t')) => last.extend([b"\n", line].concat()),
            _ => lines.push(line.to_vec()),
        }
    }
    (lines, octets.get(end + 2..).unwrap_or_default())
}

/// The first word of a line, and the rest.
fn verb(line: &[u8]) -> (&[u8], &[u8]) {
    match line.iter().position(|octet| *octet == b' ') {
        Some(at) => (&line[..at], &line[at + 1..]),
        None => (line, &[]),
    }
}
