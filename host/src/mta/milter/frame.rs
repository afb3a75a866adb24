//! Milter frames: four octets of length, one of command, and what belongs to it.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::bytes::{BufMut, BytesMut};
use zeroize::{Zeroize, Zeroizing};

use super::Error;
use crate::mta::Refused;

/// What an MTA says.
pub mod command {
    /// The message is dropped.
    pub const ABORT: u8 = b'A';
    /// A piece of the body.
    pub const BODY: u8 = b'B';
    /// A client connected.
    pub const CONNECT: u8 = b'C';
    /// Macros for the command that follows.
    pub const MACROS: u8 = b'D';
    /// The end of the message; our answer is due.
    pub const END: u8 = b'E';
    /// HELO or EHLO.
    pub const HELO: u8 = b'H';
    /// The client left; another may follow on the same connection.
    pub const NEXT: u8 = b'K';
    /// A header field.
    pub const HEADER: u8 = b'L';
    /// MAIL.
    pub const MAIL: u8 = b'M';
    /// The end of the header.
    pub const END_OF_HEADER: u8 = b'N';
    /// Negotiation.
    pub const OPTIONS: u8 = b'O';
    /// The connection ends.
    pub const QUIT: u8 = b'Q';
    /// RCPT.
    pub const RCPT: u8 = b'R';
    /// DATA.
    pub const DATA: u8 = b'T';
    /// An SMTP command that the MTA does not know.
    pub const UNKNOWN: u8 = b'U';
}

/// What a milter answers.
pub mod answer {
    /// Deliver the message.
    pub const ACCEPT: u8 = b'a';
    /// Deliver it to another recipient too.
    pub const ADD_RECIPIENT: u8 = b'+';
    /// Go on.
    pub const CONTINUE: u8 = b'c';
    /// Say 250 and drop the message.
    pub const DISCARD: u8 = b'd';
    /// Insert a header field.
    pub const INSERT: u8 = b'i';
    /// Do not deliver it to this recipient.
    pub const DELETE_RECIPIENT: u8 = b'-';
    /// Change a header field; with an empty value: delete it.
    pub const CHANGE: u8 = b'm';
    /// Negotiation.
    pub const OPTIONS: u8 = b'O';
    /// Hold the message.
    pub const QUARANTINE: u8 = b'q';
    /// No more of the body.
    pub const SKIP: u8 = b's';
    /// A reply with our own words.
    pub const REPLY: u8 = b'y';
}

/// The octets of length in front of each frame.
const LENGTH: u8 = 4;
/// Octets of a frame that are not counted against the room for all: most frames have no more, and each connection may have so
/// many.
const FREE: usize = 8 * 1024;
/// Octets that are read at a time.
const READ: usize = 8 * 1024;

/// One frame; its octets are wiped when it is dropped, since a header field may be a key.
pub struct Frame {
    /// The command or answer.
    pub command: u8,
    /// What belongs to it.
    pub payload: Zeroizing<Vec<u8>>,
    /// Its share of the room that all frames have together.
    _room: Option<OwnedSemaphorePermit>,
}

impl Frame {
    /// A frame of these parts, one after the other.
    pub fn new(command: u8, parts: &[&[u8]]) -> Frame {
        Frame { command, payload: Zeroizing::new(parts.concat()), _room: None }
    }
}

impl PartialEq for Frame {
    fn eq(&self, other: &Frame) -> bool {
        (self.command, &self.payload) == (other.command, &other.payload)
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({}, {} octets)", self.command.escape_ascii(), self.payload.len())
    }
}

/// Cuts octets into frames, whatever pieces they come in. It keeps no octet of a frame that is complete, and wipes what it
/// keeps of one that is not.
pub struct Cutter {
    limit: usize,
    room: Option<Arc<Semaphore>>,
    /// The length as far as it came, and of how many octets.
    announced: (u32, u8),
    begun: Option<Begun>,
}

/// A frame whose length is known.
struct Begun {
    /// Octets of its payload.
    length: usize,
    command: Option<u8>,
    payload: Zeroizing<Vec<u8>>,
    room: Option<OwnedSemaphorePermit>,
}

impl Cutter {
    /// Frames of at most `limit` octets, command included.
    pub fn new(limit: usize) -> Cutter {
        Cutter { limit, room: None, announced: (0, 0), begun: None }
    }

    /// The same with room that frames share: a frame takes its octets beyond the first 8 KiB from there until it is dropped.
    pub fn within(limit: usize, room: Arc<Semaphore>) -> Cutter {
        Cutter { room: Some(room), ..Cutter::new(limit) }
    }

    /// Takes octets from the beginning of `octets` up to the end of one frame. None where the frame is not complete yet: then
    /// it has taken all octets.
    ///
    /// # Errors
    /// A length of 0 or over the limit, and a frame for which there is no room. Then the stream cannot be read on.
    pub fn next(&mut self, octets: &mut &[u8]) -> Result<Option<Frame>, Error> {
        while self.begun.is_none() {
            let Some((first, rest)) = octets.split_first() else { return Ok(None) };
            *octets = rest;
            let (announced, count) = (self.announced.0 << 8 | u32::from(*first), self.announced.1 + 1);
            self.announced = (announced, count);
            if count == LENGTH {
                self.announced = (0, 0);
                self.begun = Some(Begun::of(announced, self.limit)?);
            }
        }
        let Some(begun) = &mut self.begun else { return Ok(None) };
        if begun.command.is_none() {
            let Some((first, rest)) = octets.split_first() else { return Ok(None) };
            (begun.command, *octets) = (Some(*first), rest);
        }
        let missing = begun.length.saturating_sub(begun.payload.len()).min(octets.len());
        let (taken, rest) = octets.split_at_checked(missing).unwrap_or((octets, &[]));
        begun.add(taken, self.room.as_ref())?;
        *octets = rest;
        let whole = self.begun.take_if(|begun| begun.payload.len() == begun.length);
        Ok(whole
            .and_then(|Begun { command, payload, room, .. }| Some(Frame { command: command?, payload, _room: room })))
    }

    /// Whether no frame is begun.
    pub fn is_between(&self) -> bool {
        self.announced.1 == 0 && self.begun.is_none()
    }
}

impl Begun {
    fn of(announced: u32, limit: usize) -> Result<Begun, Error> {
        let length = match usize::try_from(announced) {
            Ok(0) => return Err(Error::EmptyFrame),
            Ok(length) if length <= limit => length - 1,
            _ => return Err(Error::LongFrame { length: announced.into(), limit }),
        };
        Ok(Begun { length, command: None, payload: Zeroizing::default(), room: None })
    }

    /// Adds octets of the payload. A length is only a claim until the octets are there, so room is made for twice as many as
    /// came.
    fn add(&mut self, octets: &[u8], room: Option<&Arc<Semaphore>>) -> Result<(), Error> {
        let needed = self.payload.len() + octets.len();
        let has = self.payload.capacity();
        if needed > has {
            let wider = needed.max(has.saturating_mul(2)).min(self.length);
            if let Some(room) = room {
                self.claim(wider.saturating_sub(FREE).saturating_sub(has.saturating_sub(FREE)), room)?;
            }
            // The octets so far are wiped where they stood: growing in place would leave them behind.
            let mut payload = Zeroizing::new(Vec::with_capacity(wider));
            payload.extend_from_slice(&self.payload);
            self.payload = payload;
        }
        self.payload.extend_from_slice(octets);
        Ok(())
    }

    fn claim(&mut self, octets: usize, room: &Arc<Semaphore>) -> Result<(), Error> {
        let full = || Refused::Full("octets of milter frames");
        let share = u32::try_from(octets).map_err(|_| full())?;
        let share = room.clone().try_acquire_many_owned(share).map_err(|_| full())?;
        match &mut self.room {
            Some(room) => room.merge(share),
            None => self.room = Some(share),
        }
        Ok(())
    }
}

/// A connection whose octets are cut into frames; they are wiped where they were read.
pub struct Reader<S> {
    socket: S,
    cutter: Cutter,
    read: Zeroizing<Vec<u8>>,
    /// Which of the octets in `read` are still to be cut.
    left: Range<usize>,
}

impl<S: AsyncRead + Unpin> Reader<S> {
    /// Nothing is read yet.
    pub fn new(socket: S, cutter: Cutter) -> Reader<S> {
        Reader { socket, cutter, read: Zeroizing::new(vec![0; READ]), left: 0..0 }
    }

    /// The next frame; none at the end of the stream. Where this is dropped before its end, nothing is lost.
    ///
    /// # Errors
    /// Those of [`Cutter::next`], of the connection, and an end inside a frame.
    pub async fn next(&mut self) -> Result<Option<Frame>, Error> {
        loop {
            if let Some(frame) = self.read_already()? {
                return Ok(Some(frame));
            }
            self.wipe();
            match self.socket.read(&mut self.read).await? {
                0 if self.cutter.is_between() => return Ok(None),
                0 => return Err(Error::CutFrame),
                count => self.left = 0..count,
            }
        }
    }

    /// The next frame, where all of it was read with the one before.
    ///
    /// # Errors
    /// Those of [`Cutter::next`].
    pub fn read_already(&mut self) -> Result<Option<Frame>, Error> {
        let mut rest = self.read.get(self.left.clone()).unwrap_or_default();
        let frame = self.cutter.next(&mut rest);
        self.left.start = self.left.end.saturating_sub(rest.len());
        frame
    }

    /// The connection, to write to.
    pub fn socket(&mut self) -> &mut S {
        &mut self.socket
    }

    /// Reads and forgets until the other side closes. If the connection closed over octets unread, the other side would lose
    /// what it has not read yet.
    pub async fn drain(&mut self) -> Result<(), Error> {
        while self.socket.read(&mut self.read).await? > 0 {}
        Ok(())
    }

    fn wipe(&mut self) {
        if let Some(used) = self.read.get_mut(..self.left.end) {
            used.zeroize();
        }
        self.left = 0..0;
    }
}

/// Appends one frame of at most `limit` octets. What stood in `out` is wiped where it moves: it may hold a key.
pub fn put(out: &mut BytesMut, command: u8, parts: &[&[u8]], limit: usize) -> Result<(), Error> {
    let length = 1 + parts.iter().map(|part| part.len()).sum::<usize>();
    let long = || Error::LongFrame { length: length as u64, limit };
    if length > limit {
        return Err(long());
    }
    make_room(out, usize::from(LENGTH) + length);
    out.put_u32(u32::try_from(length).map_err(|_| long())?);
    out.put_u8(command);
    for part in parts {
        out.put_slice(part);
    }
    Ok(())
}

/// Appends octets, as [`put`] does.
pub(super) fn append(out: &mut BytesMut, octets: &[u8]) {
    make_room(out, octets.len());
    out.put_slice(octets);
}

fn make_room(out: &mut BytesMut, more: usize) {
    if out.capacity() - out.len() < more {
        let mut wider = BytesMut::with_capacity((out.len() + more).max(2 * out.len()));
        wider.put_slice(out);
        out.as_mut().zeroize();
        *out = wider;
    }
}

/// The strings of a payload, each ended by a NUL. Absent where the last one has no NUL.
pub fn strings(payload: &[u8]) -> Option<Vec<&[u8]>> {
    match payload.split_last() {
        None => Some(Vec::new()),
        Some((0, strings)) => Some(strings.split(|octet| *octet == 0).collect()),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests;
