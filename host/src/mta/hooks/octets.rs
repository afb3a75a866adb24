//! The octets of a request and of an answer: within bounds, and wiped when they are dropped, since they may hold a key.

use std::sync::Arc;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse as _, Response};
use http_body_util::BodyExt as _;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};
use zeroize::Zeroizing;

use super::Fault;
use crate::mta::Refused;

/// A share of the room that all requests have together; none where it is not counted.
pub(super) type Room = Option<OwnedSemaphorePermit>;

/// A whole request, and its share of the room that all requests have together.
#[derive(Debug, Default)]
pub(super) struct Received {
    pub(super) octets: Zeroizing<Vec<u8>>,
    room: Room,
}

/// What bounds a request.
pub(super) struct Bounds<'a> {
    pub(super) room: &'a Arc<Semaphore>,
    pub(super) octets: usize,
    pub(super) due: Instant,
}

impl Received {
    /// Reads a request to its end. One that is too large, or that no room is left for, is read to its end as well and kept by
    /// nobody, since many a mail server reads no answer before it has said everything.
    pub(super) async fn of(body: Body, bounds: &Bounds<'_>) -> Result<Received, Fault> {
        let late = || Refused::Silent { what: "saying its request", limit: bounds.due.duration_since(Instant::now()) };
        timeout_at(bounds.due, Received::read(body, bounds)).await.map_err(|_| late())?
    }

    async fn read(mut body: Body, bounds: &Bounds<'_>) -> Result<Received, Fault> {
        let mut received = Received::default();
        let told = usize::try_from(body.size_hint().exact().unwrap_or_default()).unwrap_or(usize::MAX);
        let mut outcome = received.reserve(told, bounds);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|fault| Fault::BrokeOff(fault.to_string()))?;
            let Ok(piece) = frame.into_data() else { continue };
            outcome = outcome.and_then(|()| received.add(&piece, bounds));
            if outcome.is_err() {
                received = Received::default();
            }
        }
        outcome.map(|()| received)
    }

    /// Wipes the octets once they are read, and keeps their share of the room: what was read of them takes as much until the request is
    /// answered.
    pub(super) fn into_room(self) -> Room {
        self.room
    }

    fn add(&mut self, piece: &[u8], bounds: &Bounds<'_>) -> Result<(), Fault> {
        let needed = self.octets.len().saturating_add(piece.len());
        if needed > self.octets.capacity() {
            self.reserve(needed.saturating_mul(2).min(bounds.octets.max(needed)), bounds)?;
        }
        self.octets.extend_from_slice(piece);
        Ok(())
    }

    /// Makes room for so many octets in all. A buffer that grew by itself would leave its octets behind.
    fn reserve(&mut self, octets: usize, bounds: &Bounds<'_>) -> Result<(), Fault> {
        if octets > bounds.octets {
            return Err(Fault::TooLarge(bounds.octets));
        }
        let more = octets.saturating_sub(self.room.as_ref().map_or(0, OwnedSemaphorePermit::num_permits));
        let full = || Refused::Full("octets of requests");
        let share = u32::try_from(more).map_err(|_| full())?;
        let share = Arc::clone(bounds.room).try_acquire_many_owned(share).map_err(|_| full())?;
        match &mut self.room {
            Some(room) => room.merge(share),
            None => self.room = Some(share),
        }
        let mut larger = Zeroizing::new(Vec::with_capacity(octets));
        larger.extend_from_slice(&self.octets);
        self.octets = larger;
        Ok(())
    }
}

/// Counts octets, and keeps none.
pub(super) struct Counter(pub(super) usize);

impl std::io::Write for Counter {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        self.0 = self.0.saturating_add(octets.len());
        Ok(octets.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A value as JSON in a buffer that never grew.
pub(super) fn json(value: &impl Serialize) -> Option<Zeroizing<Vec<u8>>> {
    let mut counter = Counter(0);
    serde_json::to_writer(&mut counter, value).ok()?;
    let mut octets = Zeroizing::new(Vec::with_capacity(counter.0));
    serde_json::to_writer(&mut *octets, value).ok()?;
    Some(octets)
}

/// An answer of this type; no cache keeps it.
pub(super) fn answer(status: StatusCode, kind: &'static str, octets: Zeroizing<Vec<u8>>) -> Response {
    holding(status, kind, octets, None)
}

/// The same, which holds this room until it is written or given up.
pub(super) fn holding(status: StatusCode, kind: &'static str, octets: Zeroizing<Vec<u8>>, room: Room) -> Response {
    let body = Body::from(Bytes::from_owner(Held { octets, _room: room }));
    (status, [(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-store")], body).into_response()
}

/// Octets of an answer, with their room.
struct Held {
    octets: Zeroizing<Vec<u8>>,
    _room: Room,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.octets
    }
}

/// An answer in words, for a person who looks.
pub(super) fn words(status: StatusCode, words: &str) -> Response {
    answer(status, "text/plain; charset=utf-8", Zeroizing::new(format!("{words}\n").into_bytes()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn read(body: Body, room: &Arc<Semaphore>) -> Result<Received, Fault> {
        Received::of(body, &Bounds { room, octets: 10, due: Instant::now() + Duration::from_secs(60) }).await
    }

    #[tokio::test]
    async fn a_request_is_whole_or_refused_and_gives_its_room_back() {
        let room = Arc::new(Semaphore::new(15));
        let pieces = |pieces: &[&'static str]| {
            let pieces: Vec<_> = pieces.iter().map(|piece| Ok::<_, std::io::Error>(Bytes::from(*piece))).collect();
            Body::from_stream(futures_util::stream::iter(pieces))
        };
        for (body, octets) in [
            (Body::from("0123456789"), Some("0123456789")),
            (Body::from("0123456789a"), None),
            (Body::empty(), Some("")),
            (pieces(&["012", "", "3456", "789"]), Some("0123456789")),
            (pieces(&["012345", "6789a", "b"]), None),
        ] {
            match (read(body, &room).await, octets) {
                (Ok(received), Some(octets)) => assert_eq!(received.octets.as_slice(), octets.as_bytes()),
                (Err(Fault::TooLarge(10)), None) => {}
                (other, _) => panic!("{other:?} and not {octets:?}"),
            }
            assert_eq!(room.available_permits(), 15);
        }
        let first = read(Body::from("0123456789"), &room).await.unwrap();
        assert!(matches!(read(Body::from("012345"), &room).await, Err(Fault::Refused(Refused::Full(_)))));
        drop(first);
        assert!(read(Body::from("012345"), &room).await.is_ok());
        let broken = Body::from_stream(futures_util::stream::iter([Err::<Bytes, _>(std::io::Error::other("gone"))]));
        assert!(matches!(read(broken, &room).await, Err(Fault::BrokeOff(_))));
    }

    #[tokio::test]
    async fn a_request_that_does_not_end_is_given_up_in_time() {
        let room = Arc::new(Semaphore::new(15));
        let endless = Body::from_stream(futures_util::stream::pending::<std::io::Result<Bytes>>());
        let bounds = Bounds { room: &room, octets: 10, due: Instant::now() + Duration::from_millis(50) };
        assert!(matches!(Received::of(endless, &bounds).await, Err(Fault::Refused(Refused::Silent { .. }))));
    }
}
