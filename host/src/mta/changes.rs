//! The changes that a reply asks the MTA to make to a message that goes on. They are checked here: each edit stays one header
//! field, and no recipient is lost by the way others are struck out. A door only has to say them.

use std::collections::BTreeSet;
use std::fmt;

use zeroize::Zeroizing;

use super::Refused;
use crate::case::{Recipient, Reply};
use crate::proto::header::{Edit, KEY_FIELD};

/// The changes to a message, which an MTA is to make in the order of these fields.
#[derive(Debug)]
pub struct Changes<'a> {
    /// Header fields to delete, in this order: the name, and which of the fields of that name it is, counted from 1 at the
    /// top.
    pub deleted: Vec<(&'a str, u32)>,
    /// Header fields to insert, in this order. They come last, since an insertion moves what deletions count.
    pub inserted: Vec<Insertion<'a>>,
    /// Recipients to strike out, by the octets by which an MTA finds them ([`Recipient::struck_out_by`]).
    pub struck_out: BTreeSet<&'a [u8]>,
    /// Recipients to put in, each a path in angle brackets.
    pub put_in: BTreeSet<Vec<u8>>,
}

/// A header field to insert. It prints without its value, which may be a key.
pub struct Insertion<'a> {
    /// 0: at the top; 1: below the first field.
    pub index: u32,
    /// The name.
    pub name: &'a str,
    /// The value with its leading space; behind a line ending, an LF, is a space or tab.
    pub value: Zeroizing<String>,
}

impl fmt::Debug for Insertion<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Insertion({}, {})", self.index, self.name)
    }
}

impl<'a> Changes<'a> {
    /// The changes that this reply asks for to a message with these recipients.
    ///
    /// # Errors
    /// [`Refused::Edit`] and [`Refused::Recipient`].
    pub fn of(reply: &'a Reply, to: &'a [Recipient]) -> Result<Changes<'a>, Refused> {
        let (mut deleted, mut inserted) = (Vec::new(), Vec::new());
        for edit in &reply.edits {
            match edit {
                Edit::Delete { name, index } if *index > 0 && is_name(name) => deleted.push((name.as_str(), *index)),
                Edit::Insert { index, name, value } if *index <= 1 && is_name(name) && is_value(value.as_bytes()) => {
                    inserted.push(Insertion { index: *index, name, value: Zeroizing::new(value.clone()) });
                }
                // A text that grows would leave its beginning behind.
                Edit::InsertKey { key } => {
                    let value = Zeroizing::new([" ", key.expose()].concat());
                    inserted.push(Insertion { index: 0, name: KEY_FIELD, value });
                }
                Edit::Delete { .. } | Edit::Insert { .. } => return Err(Refused::Edit),
            }
        }
        let Others { struck_out, put_in } = others(reply, to)?;
        Ok(Changes { deleted, inserted, struck_out, put_in })
    }
}

/// What a reply makes of the recipients: the octets that strike some out, and the paths of those that take their place.
#[derive(Default)]
struct Others<'a> {
    struck_out: BTreeSet<&'a [u8]>,
    put_in: BTreeSet<Vec<u8>>,
}

/// What this reply makes of these recipients.
///
/// Postfix 3.7.11 deletes nobody, silently, for other octets, and delivers to nobody, silently, where all are deleted
/// (measured): an answer that leaves nobody is none. Nor is one that keeps or adds, and deletes, the same path.
fn others<'a>(reply: &Reply, to: &'a [Recipient]) -> Result<Others<'a>, Refused> {
    let (mut gone, mut added) = (BTreeSet::new(), BTreeSet::new());
    gone.extend(reply.removed.iter().copied());
    for redirect in &reply.redirected {
        let path = format!("<{}>", redirect.to).into_bytes();
        if path.iter().any(u8::is_ascii_control) || gone.contains(&redirect.recipient) {
            return Err(Refused::Recipient);
        }
        added.insert((redirect.recipient, path));
    }
    // A recipient whose new path is the old one stays.
    added.retain(|(index, path)| to.get(*index).is_none_or(|recipient| recipient.path != *path));
    gone.extend(added.iter().map(|(index, _)| *index));
    if gone.is_empty() {
        return Ok(Others::default());
    }
    let found = |index: &usize| to.get(*index).and_then(Recipient::struck_out_by).ok_or(Refused::Recipient);
    let struck_out = gone.iter().map(found).collect::<Result<BTreeSet<&[u8]>, Refused>>()?;
    let mut stay = to.iter().enumerate().filter(|(index, _)| !gone.contains(index)).peekable();
    let nobody_left = stay.peek().is_none() && added.is_empty();
    if nobody_left || struck_out.iter().any(|path| path.contains(&0)) {
        return Err(Refused::Recipient);
    }
    let comes_back = added.iter().any(|(_, path)| struck_out.contains(path.as_slice()));
    if comes_back || stay.any(|(_, recipient)| struck_out.contains(recipient.path.as_slice())) {
        return Err(Refused::Recipient);
    }
    Ok(Others { struck_out, put_in: added.into_iter().map(|(_, path)| path).collect() })
}

/// Whether this is a field name: octets 33 to 126 without colon (RFC 5322 §2.2).
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|octet| octet.is_ascii_graphic() && octet != b':')
}

/// Whether a value stays inside its field: a line ending is LF, and a space or tab follows it.
fn is_value(value: &[u8]) -> bool {
    let folded = value.split(|octet| *octet == b'\n').skip(1).all(|line| matches!(line.first(), Some(b' ' | b'\t')));
    folded && !value.iter().any(|octet| matches!(octet, 0 | b'\r'))
}
