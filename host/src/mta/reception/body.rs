//! The body of a message that is to be kept: piece by piece, within bounds.

use std::mem::take;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::case::Body;
use crate::mta::Refused;

/// What came of a body so far, and its share of the room that all bodies have together.
///
/// The room is given back when this is dropped. It is not when the octets are taken out, since keeping them has only begun
/// then.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    octets: Vec<u8>,
    room: Option<OwnedSemaphorePermit>,
}

impl Pieces {
    /// Adds a piece: fails where the body would have more than `limit` octets, or `room` has no more octets to give.
    pub(super) fn add(&mut self, piece: &[u8], limit: usize, room: &Arc<Semaphore>) -> Result<(), Refused> {
        if self.octets.len().saturating_add(piece.len()) > limit {
            return Err(Refused::Body(limit));
        }
        let full = || Refused::Full("octets of bodies that are to be kept");
        let share = u32::try_from(piece.len()).map_err(|_| full())?;
        let share = room.clone().try_acquire_many_owned(share).map_err(|_| full())?;
        match &mut self.room {
            Some(room) => room.merge(share),
            None => self.room = Some(share),
        }
        self.octets.extend_from_slice(piece);
        Ok(())
    }

    /// The body as it came, without a copy; the room stays taken.
    pub(super) fn take(&mut self) -> Body {
        Body(take(&mut self.octets))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_become_the_body_and_their_room_stays_taken_until_it_is_kept() {
        let room = Arc::new(Semaphore::new(10));
        let mut pieces = Pieces::default();
        for piece in [&b"ab"[..], b"", b"\r\ncd"] {
            pieces.add(piece, 10, &room).unwrap();
        }
        assert_eq!((pieces.take(), room.available_permits()), (Body(b"ab\r\ncd".to_vec()), 4));
        drop(pieces);
        assert_eq!(room.available_permits(), 10);
    }

    #[test]
    fn a_body_over_its_limit_and_one_that_no_room_is_left_for_take_nothing_more() {
        let room = Arc::new(Semaphore::new(5));
        let (mut one, mut other) = (Pieces::default(), Pieces::default());
        one.add(b"abc", 4, &room).unwrap();
        assert!(matches!(one.add(b"de", 4, &room), Err(Refused::Body(4))));
        other.add(b"de", 4, &room).unwrap();
        assert!(matches!(other.add(b"f", 4, &room), Err(Refused::Full(_))));
        assert_eq!(room.available_permits(), 0);
        drop(one);
        other.add(b"f", 4, &room).unwrap();
        assert_eq!(other.take(), Body(b"def".to_vec()));
    }
}
