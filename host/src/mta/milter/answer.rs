//! `Reply` into frames: all of them in one piece, so that one write carries them.

use std::collections::BTreeSet;
use std::ops::{Deref, DerefMut};

use tokio_util::bytes::BytesMut;
use zeroize::{Zeroize, Zeroizing};

use super::Error;
use super::frame::{answer, put};
use super::terms::Terms;
use crate::case::{Recipient, Refusal, Reply, Verdict};
use crate::mta::ONE_AT_A_TIME;
use crate::proto::header::{Edit, KEY_FIELD};
use crate::proto::reply::{self, Class};

/// The frames of one reply to a message with these recipients; each of at most `limit` octets. Fails where they need what the
/// MTA did not offer.
pub fn frames(reply: &Reply, to: &[Recipient], terms: &Terms, limit: usize) -> Result<Wiped, Error> {
    let mut out = Wiped(BytesMut::new());
    match &reply.verdict {
        Verdict::Accept => {
            edits(&reply.edits, terms, &mut out, limit)?;
            recipients(reply, to, terms, &mut out, limit)?;
            put(&mut out, answer::ACCEPT, &[], limit)?;
        }
        Verdict::Hold(reason) => {
            if !terms.may_hold() {
                return Err(Error::NotOffered("hold messages"));
            }
            edits(&reply.edits, terms, &mut out, limit)?;
            recipients(reply, to, terms, &mut out, limit)?;
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

/// Appends the refusal for now of one recipient: his sender brings him in a message of his own.
pub fn one_at_a_time(out: &mut BytesMut) {
    // A frame this short always fits.
    let _ = put(out, answer::REPLY, &[ONE_AT_A_TIME.as_bytes(), b"\0"], usize::MAX);
}

/// Appends the refusal of one recipient, whose message goes on without him.
pub fn refuse_recipient(fault: &Error, out: &mut BytesMut) {
    match fault {
        // A frame this short always fits.
        Error::Refused(refused) => {
            drop(put(out, answer::REPLY, &[refused.reply_to_recipient().as_bytes(), b"\0"], usize::MAX));
        }
        _ => refuse_for(fault, out),
    }
}

/// Deletions first, in the order given, then insertions: an insertion moves what deletions count.
fn edits(edits: &[Edit], terms: &Terms, out: &mut BytesMut, limit: usize) -> Result<(), Error> {
    for edit in edits {
        let Edit::Delete { name, index } = edit else { continue };
        if !terms.may_delete() {
            return Err(Error::NotOffered("change header fields"));
        }
        if *index == 0 || !is_name(name) {
            return Err(Error::Edit);
        }
        put(out, answer::CHANGE, &[&index.to_be_bytes(), name.as_bytes(), b"\0\0"], limit)?;
    }
    for edit in edits {
        let (index, name, value) = match edit {
            Edit::Delete { .. } => continue,
            Edit::Insert { index, name, value } => (*index, name.as_str(), Zeroizing::new(value.clone())),
            // A text that grows would leave its beginning behind.
            Edit::InsertKey { key } => (0, KEY_FIELD, Zeroizing::new([" ", key.expose()].concat())),
        };
        if !terms.may_insert() {
            return Err(Error::NotOffered("add header fields"));
        }
        if index > 1 || !is_name(name) || !is_value(value.as_bytes()) {
            return Err(Error::Edit);
        }
        // Without that agreement the MTA puts the space there itself.
        let value = if terms.keep_leading_space() { &value } else { value.strip_prefix(' ').unwrap_or(&value) };
        let parts = [&index.to_be_bytes(), name.as_bytes(), b"\0", value.as_bytes(), b"\0"];
        put(out, answer::INSERT, &parts, limit)?;
    }
    Ok(())
}

/// Strikes recipients out by [`Recipient::struck_out_by`], then adds those who take their place.
///
/// Postfix 3.7.11 deletes nobody, silently, for other octets, and delivers to nobody, silently, where all are deleted
/// (measured): an answer that leaves nobody is none. Nor is one that keeps or adds, and deletes, the same path.
fn recipients(reply: &Reply, to: &[Recipient], terms: &Terms, out: &mut BytesMut, limit: usize) -> Result<(), Error> {
    let (mut gone, mut added) = (BTreeSet::new(), BTreeSet::new());
    gone.extend(reply.removed.iter().copied());
    for redirect in &reply.redirected {
        let path = format!("<{}>", redirect.to).into_bytes();
        if path.iter().any(u8::is_ascii_control) || gone.contains(&redirect.recipient) {
            return Err(Error::Recipient);
        }
        added.insert((redirect.recipient, path));
    }
    // Whose new path is his old one stays where he is.
    added.retain(|(index, path)| to.get(*index).is_none_or(|recipient| recipient.path != *path));
    gone.extend(added.iter().map(|(index, _)| *index));
    if gone.is_empty() {
        return Ok(());
    }
    let found = |index: &usize| to.get(*index).and_then(Recipient::struck_out_by).ok_or(Error::Recipient);
    let deleted = gone.iter().map(found).collect::<Result<BTreeSet<&[u8]>, Error>>()?;
    let mut stay = to.iter().enumerate().filter(|(index, _)| !gone.contains(index)).peekable();
    let nobody_left = stay.peek().is_none() && added.is_empty();
    if nobody_left || deleted.iter().any(|path| path.contains(&0)) {
        return Err(Error::Recipient);
    }
    let comes_back = added.iter().any(|(_, path)| deleted.contains(path.as_slice()));
    if comes_back || stay.any(|(_, recipient)| deleted.contains(recipient.path.as_slice())) {
        return Err(Error::Recipient);
    }
    if !terms.may_delete_recipients() {
        return Err(Error::NotOffered("delete recipients"));
    }
    if !added.is_empty() && !terms.may_add_recipients() {
        return Err(Error::NotOffered("add recipients"));
    }
    for path in deleted {
        put(out, answer::DELETE_RECIPIENT, &[path, b"\0"], limit)?;
    }
    for path in added.into_iter().map(|(_, path)| path).collect::<BTreeSet<Vec<u8>>>() {
        put(out, answer::ADD_RECIPIENT, &[&path, b"\0"], limit)?;
    }
    Ok(())
}

fn refuse(refusal: &Refusal, class: Class, out: &mut BytesMut, limit: usize) -> Result<(), Error> {
    let line = reply::line(class, refusal.code, refusal.status, &refusal.text);
    put(out, answer::REPLY, &[line.as_bytes(), b"\0"], limit)
}

/// A field name: octets 33 to 126 without colon (RFC 5322 §2.2).
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|octet| octet.is_ascii_graphic() && octet != b':')
}

/// A value that stays inside its field: a line ending is LF, and a space or tab follows it.
fn is_value(value: &[u8]) -> bool {
    let folded = value.split(|octet| *octet == b'\n').skip(1).all(|line| matches!(line.first(), Some(b' ' | b'\t')));
    folded && !value.iter().any(|octet| matches!(octet, 0 | b'\r'))
}

#[cfg(test)]
mod tests;
