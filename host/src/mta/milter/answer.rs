//! Turns a `Reply` into frames, all in one piece, so that one write carries them.

use std::ops::{Deref, DerefMut};

use tokio_util::bytes::BytesMut;
use zeroize::{Zeroize, Zeroizing};

use super::Error;
use super::frame::{answer, put};
use super::terms::Terms;
use crate::case::{Mail, Refusal, Reply, Verdict};
use crate::mta::{Changes, Insertion, ONE_AT_A_TIME};
use crate::proto::reply::{self, Class};

/// The frames of one reply to this message, each of at most `limit` octets. Fails where they need an
/// action that the MTA did not offer.
pub fn frames(reply: &Reply, to: &Mail, terms: &Terms, limit: usize) -> Result<Wiped, Error> {
    let mut out = Wiped(BytesMut::new());
    match &reply.verdict {
        Verdict::Accept => {
            changes(reply, to, terms, &mut out, limit)?;
            put(&mut out, answer::ACCEPT, &[], limit)?;
        }
        Verdict::Hold(reason) => {
            if !terms.may_hold() {
                return Err(Error::NotOffered("hold messages"));
            }
            changes(reply, to, terms, &mut out, limit)?;
            put(&mut out, answer::QUARANTINE, &[reply::text(reason).as_bytes(), b"\0"], limit)?;
            put(&mut out, answer::ACCEPT, &[], limit)?;
        }
        Verdict::Discard => put(&mut out, answer::DISCARD, &[], limit)?,
        Verdict::Reject(refusal) => refuse(refusal, Class::Permanent, &mut out, limit)?,
        Verdict::Defer(refusal) => refuse(refusal, Class::Transient, &mut out, limit)?,
    }
    Ok(out)
}

/// Octets that may hold a key: wiped when dropped.
#[derive(Debug)]
pub struct Wiped(BytesMut);

impl Deref for Wiped {
    type Target = BytesMut;

    fn deref(&self) -> &BytesMut {
        &self.0
    }
}

impl DerefMut for Wiped {
    fn deref_mut(&mut self) -> &mut BytesMut {
        &mut self.0
    }
}

impl Drop for Wiped {
    fn drop(&mut self) {
        self.0.as_mut().zeroize();
    }
}

/// Appends the refusal of a message by a fault: for now or for good, as [`Error::reply`] says.
pub fn refuse_for(fault: &Error, out: &mut BytesMut) {
    // A frame this short always fits.
    let _ = put(out, answer::REPLY, &[fault.reply().as_bytes(), b"\0"], usize::MAX);
}

/// Appends the refusal for now of one recipient: see [`ONE_AT_A_TIME`].
pub fn one_at_a_time(out: &mut BytesMut) {
    // A frame this short always fits.
    let _ = put(out, answer::REPLY, &[ONE_AT_A_TIME.as_bytes(), b"\0"], usize::MAX);
}

/// Appends the refusal of one recipient. The message goes on without it.
pub fn refuse_recipient(fault: &Error, out: &mut BytesMut) {
    match fault {
        // A frame this short always fits.
        Error::Refused(refused) => {
            drop(put(out, answer::REPLY, &[refused.reply_to_recipient().as_bytes(), b"\0"], usize::MAX));
        }
        _ => refuse_for(fault, out),
    }
}

/// Appends deletions of fields first, then insertions, then recipients that go and that come.
fn changes(reply: &Reply, to: &Mail, terms: &Terms, out: &mut BytesMut, limit: usize) -> Result<(), Error> {
    let changes = Changes::of(reply, &to.recipients)?.counted(terms.counting(), &to.head().spelled)?;
    let Changes { deleted, inserted, struck_out, put_in } = changes;
    let needs = [
        (!deleted.is_empty(), terms.may_delete(), "change header fields"),
        (!inserted.is_empty(), terms.may_insert(), "add header fields"),
        (!struck_out.is_empty(), terms.may_delete_recipients(), "delete recipients"),
        (!put_in.is_empty(), terms.may_add_recipients(), "add recipients"),
    ];
    if let Some((.., what)) = needs.into_iter().find(|(needed, may, _)| *needed && !may) {
        return Err(Error::NotOffered(what));
    }
    for (name, index) in deleted {
        put(out, answer::CHANGE, &[&index.to_be_bytes(), name.as_bytes(), b"\0\0"], limit)?;
    }
    for Insertion { index, name, value } in &inserted {
        // Without that agreement the MTA puts the space there itself.
        let value = if terms.keep_leading_space() { value } else { value.strip_prefix(' ').unwrap_or(value) };
        let ending = if terms.folds_crlf() { "\r\n" } else { "\n" };
        let value = Zeroizing::new(value.split('\n').collect::<Vec<_>>().join(ending));
        let parts = [&index.to_be_bytes(), name.as_bytes(), b"\0", value.as_bytes(), b"\0"];
        put(out, answer::INSERT, &parts, limit)?;
    }
    for path in struck_out {
        put(out, answer::DELETE_RECIPIENT, &[path, b"\0"], limit)?;
    }
    for path in put_in {
        put(out, answer::ADD_RECIPIENT, &[&path, b"\0"], limit)?;
    }
    Ok(())
}

fn refuse(refusal: &Refusal, class: Class, out: &mut BytesMut, limit: usize) -> Result<(), Error> {
    let line = reply::line(class, refusal.code, refusal.status, &refusal.text);
    put(out, answer::REPLY, &[line.as_bytes(), b"\0"], limit)
}

#[cfg(test)]
mod tests;
