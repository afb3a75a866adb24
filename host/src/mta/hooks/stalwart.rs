//! MTA Hooks as Stalwart ships them: version 1 of its own protocol, JSON over POST.
//!
//! Measured with Stalwart 0.15.5 and 0.16.19: it shows names of header fields untrimmed and deletes by that spelling; what it
//! shows of octets that are no UTF-8 is U+FFFD; its own Authentication-Results is not among the fields; `quarantine` at DATA
//! answers 250 and loses the message; a request that is not answered well is a refusal for now, or with
//! `options.tempfail-on-error = false` a message that goes on with its key.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::Instant;
use zeroize::Zeroizing;

use super::octets::Received;
use super::told::{Told, judged};
use super::{Door, Fault};
use crate::case::{Case, Means};
use crate::mta::reception::Seat;
use crate::mta::{Judge, Refused};

mod render;
mod request;

pub(super) use render::refusal;
use request::{Message, Parts, Request, Stage};

/// The answer to a request.
///
/// # Errors
/// Why the message is refused instead: [`refusal`] says it.
pub(super) async fn answer<J: Judge>(
    door: &Door<J>,
    seat: &Seat,
    received: Received,
    due: Instant,
) -> Result<Zeroizing<Vec<u8>>, Fault> {
    let request = Request::read(&received.octets)?;
    // A message has one copy from here on.
    let _room = received.into_room();
    let stage = request.stage();
    let Parts { told, message } = request.into_parts();
    match (stage, message) {
        // Whatever a stage is called, a message that is shown is examined.
        (_, Some(message)) => data(door, seat, told, message, due).await,
        (Stage::Data, None) => Err(Fault::Malformed("it shows no message".into())),
        (Stage::Rcpt, None) => {
            door.asked_at_rcpt.store(true, Ordering::Relaxed);
            let next = told.next(&door.reception, seat).await;
            Ok(next.map_or_else(refusal, |()| render::accept()))
        }
        (Stage::Other, None) => Ok(render::accept()),
    }
}

async fn data<J: Judge>(
    door: &Door<J>,
    seat: &Seat,
    told: Told,
    message: Message,
    due: Instant,
) -> Result<Zeroizing<Vec<u8>>, Fault> {
    let reception = &door.reception;
    let admitted = reception.admit(seat)?;
    if reception.splits() && told.to.len() > 1 && !door.asked_at_rcpt.load(Ordering::Relaxed) && door.unasked.is_due() {
        tracing::warn!(
            "policy.mixed = \"split\" is not carried out: Stalwart does not ask at RCPT; set its stages = [\"rcpt\", \"data\"]"
        );
    }
    let limits = Arc::clone(reception.limits());
    if message.fields.more > 0 {
        return Err(Refused::KeyFields(limits.mta.key_fields).into());
    }
    let means = Means { exact: !message.is_lossy(), holds: false, folders: false, results: false };
    let size = format!("SIZE={}", message.size.text());
    let parameters: &[&[u8]] = if message.is_utf8() { &[size.as_bytes(), b"SMTPUTF8"] } else { &[size.as_bytes()] };
    let mut intake = told.intake(means, parameters, &limits)?;
    for (name, value) in &message.fields.list {
        intake.field(name.as_bytes(), &request::unfolded(&value.0), true)?;
    }
    let body = message.body();
    let mail = intake.finish(body.as_bytes())?;
    let names: Vec<&str> = message.fields.list.iter().map(|(name, _)| name.as_str()).collect();
    let can_say = |case: &Case| render::answer(case, &names).map(drop);
    let (_admitted, case) = judged(admitted, mail, body.as_bytes(), due, can_say).await?;
    render::answer(&case, &names)
}
