//! What becomes of a message for each of its recipients: an answer of ours, or a copy with a header of its own for the next hop.

use zeroize::Zeroizing;

use super::header::Cut;
use crate::case::{Recipient, Refusal, Reply, Verdict};
use crate::mta::Refused;
use crate::proto::header::Edit;
use crate::proto::reply::{self, Class};

/// The answer for a recipient whose copy does not go on, although the MTA may forget it. It tells nothing of what became of the
/// copy, since a report of success may repeat it to the sender.
pub(super) const TAKEN: &str = "250 2.0.0 Ok";

/// What becomes of a message.
#[derive(Debug)]
pub struct Plan {
    /// For each recipient our own answer, where it gets no copy.
    pub said: Vec<Option<String>>,
    /// The copies: recipients with the same header are in one group.
    pub groups: Vec<Group>,
}

/// Recipients whose copies have the same header.
pub struct Group {
    /// The header with what parts it from the body. It may hold a key that is to be delivered.
    pub header: Zeroizing<Vec<u8>>,
    /// By how many octets it is longer than the header that came.
    pub grown: i64,
    /// The recipients.
    pub to: Vec<To>,
}

/// A recipient of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct To {
    /// Its index among the message's recipients.
    pub recipient: usize,
    /// The path for the next hop, in angle brackets.
    pub path: Vec<u8>,
    /// Its own path, where `path` is that of its spam folder.
    pub own: Option<Vec<u8>>,
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Group({} octets, {:?})", self.header.len(), self.to)
    }
}

impl Plan {
    /// What this reply makes of a message with this header for these recipients.
    ///
    /// # Errors
    /// [`Refused::Edit`] and [`Refused::Recipient`]: it asks for what cannot be done here.
    pub fn of(reply: &Reply, recipients: &[Recipient], cut: &Cut) -> Result<Plan, Refused> {
        let all = |words: String| Plan { said: vec![Some(words); recipients.len()], groups: Vec::new() };
        let gone = match &reply.verdict {
            Verdict::Accept => false,
            Verdict::Discard => true,
            Verdict::Defer(refusal) => return Ok(all(put_off(refusal))),
            // Settling says neither at this door.
            Verdict::Reject(_) | Verdict::Hold(_) => return Err(Refused::Recipient),
        };
        let mut plan = Plan { said: Vec::with_capacity(recipients.len()), groups: Vec::new() };
        let mut copies: Vec<(&[Edit], Vec<To>)> = Vec::new();
        for (index, recipient) in recipients.iter().enumerate() {
            let said = match reply.put_off.iter().find(|put_off| put_off.recipient == index) {
                Some(waits) => Some(put_off(&waits.refusal)),
                None => (gone || reply.removed.contains(&index)).then(|| TAKEN.to_owned()),
            };
            if said.is_none() {
                let own = reply.variants.iter().find(|variant| variant.recipients.contains(&index));
                let edits = own.map_or(reply.edits.as_slice(), |variant| variant.edits.as_slice());
                let to = To::of(index, recipient, reply)?;
                match copies.iter_mut().find(|(known, _)| *known == edits) {
                    Some((_, together)) => together.push(to),
                    None => copies.push((edits, vec![to])),
                }
            }
            plan.said.push(said);
        }
        for (edits, to) in copies {
            let header = cut.with(edits)?;
            let length = |octets: usize| i64::try_from(octets).unwrap_or(i64::MAX);
            let grown = length(header.len()) - length(cut.end());
            plan.groups.push(Group { header, grown, to });
        }
        Ok(plan)
    }
}

impl To {
    fn of(index: usize, recipient: &Recipient, reply: &Reply) -> Result<To, Refused> {
        let Some(redirect) = reply.redirected.iter().find(|redirect| redirect.recipient == index) else {
            return Ok(To { recipient: index, path: recipient.path.clone(), own: None });
        };
        let path = format!("<{}>", redirect.to);
        // It becomes a part of a command line.
        if path.chars().any(char::is_control) {
            return Err(Refused::Recipient);
        }
        Ok(To { recipient: index, path: path.into_bytes(), own: Some(recipient.path.clone()) })
    }
}

fn put_off(refusal: &Refusal) -> String {
    reply::line(Class::Transient, refusal.code, refusal.status, &refusal.text)
}
