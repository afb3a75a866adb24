//! Milter frames: four octets of length, one of command, and what belongs to it.

use std::fmt;

use tokio_util::bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio_util::codec::{Decoder, Encoder};
use zeroize::Zeroize;

use super::Error;

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
const LENGTH: usize = 4;
/// How much room is made at a time: a length is only a claim until the octets are there.
const STEP: usize = 64 * 1024;

/// One frame.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    /// The command or answer.
    pub command: u8,
    /// What belongs to it. It may hold a key.
    pub payload: Bytes,
}

impl Frame {
    /// A frame of these parts, one after the other.
    pub fn new(command: u8, parts: &[&[u8]]) -> Frame {
        Frame { command, payload: Bytes::from(parts.concat()) }
    }
}

impl Drop for Frame {
    /// A header field may be a key: its octets are wiped, where nobody else holds them.
    fn drop(&mut self) {
        if self.command != command::HEADER {
            return;
        }
        if let Ok(mut octets) = std::mem::take(&mut self.payload).try_into_mut() {
            octets.zeroize();
        }
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({}, {} octets)", self.command.escape_ascii(), self.payload.len())
    }
}

/// Cuts a stream of octets into frames of at most `limit` octets, command included.
#[derive(Clone, Copy, Debug)]
pub struct FrameCodec {
    /// The longest frame.
    pub limit: usize,
}

impl Decoder for FrameCodec {
    type Item = Frame;
    type Error = Error;

    fn decode(&mut self, octets: &mut BytesMut) -> Result<Option<Frame>, Error> {
        let Some(length) = octets.first_chunk::<LENGTH>() else { return Ok(None) };
        let announced = u32::from_be_bytes(*length);
        let length = match usize::try_from(announced) {
            Ok(0) => return Err(Error::EmptyFrame),
            Ok(length) if length <= self.limit => length,
            _ => return Err(Error::LongFrame { length: announced.into(), limit: self.limit }),
        };
        let missing = (LENGTH + length).saturating_sub(octets.len());
        if missing > 0 {
            octets.reserve(missing.min(STEP));
            return Ok(None);
        }
        octets.advance(LENGTH);
        let mut frame = octets.split_to(length);
        let command = frame.get_u8();
        let payload = if command == command::HEADER { taken_out(&mut frame) } else { frame.freeze() };
        Ok(Some(Frame { command, payload }))
    }

    fn decode_eof(&mut self, octets: &mut BytesMut) -> Result<Option<Frame>, Error> {
        match self.decode(octets)? {
            None if !octets.is_empty() => Err(Error::CutFrame),
            frame => Ok(frame),
        }
    }
}

/// A copy of its own, which the frame wipes in the end; the connection's buffer, which lives on, is wiped at once.
fn taken_out(octets: &mut [u8]) -> Bytes {
    let copy = Bytes::copy_from_slice(octets);
    octets.zeroize();
    copy
}

impl Encoder<Frame> for FrameCodec {
    type Error = Error;

    fn encode(&mut self, frame: Frame, out: &mut BytesMut) -> Result<(), Error> {
        put(out, frame.command, &[&frame.payload], self.limit)
    }
}

/// Appends one frame of at most `limit` octets.
pub fn put(out: &mut BytesMut, command: u8, parts: &[&[u8]], limit: usize) -> Result<(), Error> {
    let length = 1 + parts.iter().map(|part| part.len()).sum::<usize>();
    let long = || Error::LongFrame { length: length as u64, limit };
    if length > limit {
        return Err(long());
    }
    out.put_u32(u32::try_from(length).map_err(|_| long())?);
    out.put_u8(command);
    for part in parts {
        out.put_slice(part);
    }
    Ok(())
}

/// The strings of a payload, each ended by a NUL; absent where the last one is not.
pub fn strings(payload: &[u8]) -> Option<Vec<&[u8]>> {
    match payload.split_last() {
        None => Some(Vec::new()),
        Some((0, strings)) => Some(strings.split(|octet| *octet == 0).collect()),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODEC: FrameCodec = FrameCodec { limit: 1024 };

    fn decode(octets: &[u8]) -> Result<Option<Frame>, Error> {
        CODEC.clone().decode(&mut BytesMut::from(octets))
    }

    #[test]
    fn a_frame_is_read_only_when_it_is_whole() {
        let octets = b"\0\0\0\x04Habc\0\0\0\x01E";
        for cut in 0..8 {
            assert_eq!(decode(&octets[..cut]).unwrap(), None, "{cut}");
        }
        let mut octets = BytesMut::from(octets.as_slice());
        assert_eq!(CODEC.clone().decode(&mut octets).unwrap(), Some(Frame::new(b'H', &[b"abc"])));
        assert_eq!(CODEC.clone().decode(&mut octets).unwrap(), Some(Frame::new(b'E', &[])));
        assert_eq!(CODEC.clone().decode_eof(&mut octets).unwrap(), None);
    }

    #[test]
    fn lengths_0_2_31_and_2_32_minus_1_are_refused_before_anything_is_allocated() {
        assert!(matches!(decode(b"\0\0\0\0"), Err(Error::EmptyFrame)));
        assert_eq!(decode(b"\0\0\0\x01").unwrap(), None);
        for length in [1025, 1 << 31, u32::MAX] {
            let mut octets = BytesMut::from(length.to_be_bytes().as_slice());
            let before = octets.capacity();
            assert!(matches!(CODEC.clone().decode(&mut octets), Err(Error::LongFrame { .. })), "{length}");
            assert_eq!(octets.capacity(), before);
        }
    }

    #[test]
    fn a_claimed_length_makes_room_in_steps_alone() {
        let mut octets = BytesMut::from((1u32 << 30).to_be_bytes().as_slice());
        assert_eq!(FrameCodec { limit: 1 << 31 }.decode(&mut octets).unwrap(), None);
        assert!(octets.capacity() < 4 * STEP);
    }

    #[test]
    fn an_end_inside_a_frame_is_an_error() {
        for cut in 1..8 {
            let mut octets = BytesMut::from(&b"\0\0\0\x04Habc"[..cut]);
            assert!(matches!(CODEC.clone().decode_eof(&mut octets), Err(Error::CutFrame)), "{cut}");
        }
    }

    #[test]
    fn what_is_written_reads_back_and_no_more_than_the_limit_is_written() {
        let mut out = BytesMut::new();
        put(&mut out, b'h', &[b"Name\0", b" value\0"], 1024).unwrap();
        assert_eq!(out.as_ref(), b"\0\0\0\x0dhName\0 value\0");
        assert!(put(&mut out, b'h', &[&[0; 1024]], 1024).is_err());
        assert_eq!(out.len(), 17);
    }

    #[test]
    fn strings_end_with_a_nul_each() {
        assert_eq!(strings(b"a\0\0b\0"), Some(vec![b"a".as_slice(), b"", b"b"]));
        assert_eq!(strings(b""), Some(vec![]));
        assert_eq!(strings(b"\0"), Some(vec![b"".as_slice()]));
        assert_eq!(strings(b"a\0b"), None);
    }

    #[test]
    fn what_is_taken_out_of_the_connections_buffer_is_gone_there() {
        let mut buffer = *b"X-Auth-Key\0 key\0";
        assert_eq!(taken_out(&mut buffer).as_ref(), b"X-Auth-Key\0 key\0");
        assert_eq!(buffer, [0; 16]);
    }

    #[test]
    fn a_frame_prints_without_its_contents() {
        assert_eq!(format!("{:?}", Frame::new(b'L', &[b"X-Auth-Key\0 secret\0"])), "Frame(L, 19 octets)");
    }
}
