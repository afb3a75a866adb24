//! A reply as operations on what a request showed: set, add, delete, applied in this order.

use axum::http::StatusCode;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize, Serializer};
use zeroize::Zeroizing;

use super::request::position;
use crate::case::{Recipient, Refusal, Reply, Verdict};
use crate::mta::hooks::fault::parts;
use crate::mta::hooks::octets;
use crate::mta::{Changes, Refused};
use crate::proto::header::{Bounds, Ending, scan};
use crate::proto::reply::{Class, line};

/// The fate of a message in words that can be kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Said {
    Accept,
    /// The MTA's hold queue.
    Hold,
    Discard,
    /// A whole SMTP reply.
    Refuse(String),
}

impl Said {
    pub(super) fn of(verdict: &Verdict) -> Said {
        let of = |class, Refusal { code, status, text }: &Refusal| Said::Refuse(line(class, *code, status, text));
        match verdict {
            Verdict::Accept => Said::Accept,
            Verdict::Hold(_) => Said::Hold,
            Verdict::Discard => Said::Discard,
            Verdict::Reject(refusal) => of(Class::Permanent, refusal),
            Verdict::Defer(refusal) => of(Class::Transient, refusal),
        }
    }
}

/// The operations of an answer.
#[derive(Debug, Default, Serialize)]
pub(super) struct Operations {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    set: Vec<Operation>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    add: Vec<Operation>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    delete: Vec<Operation>,
}

/// An operation at a JSON Pointer (RFC 6901).
#[derive(Debug, Serialize)]
struct Operation {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Operand>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Operand {
    Word(&'static str),
    Octets(Octets),
    Reply(SmtpReply),
    Address(Address),
}

/// An SMTP reply.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct SmtpReply {
    code: u16,
    enhanced_code: String,
    message: String,
}

/// A recipient.
#[derive(Debug, Serialize)]
struct Address {
    address: String,
    parameters: Parameters,
}

/// No parameters, as an object.
#[derive(Debug, Serialize)]
struct Parameters {}

/// A message: base64 in JSON, octets in CBOR. It does not print, and is wiped.
struct Octets(Zeroizing<Vec<u8>>);

impl std::fmt::Debug for Octets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Octets({})", self.0.len())
    }
}

impl Serialize for Octets {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&Zeroizing::new(STANDARD.encode(&*self.0)))
        } else {
            serializer.serialize_bytes(&self.0)
        }
    }
}

fn set(path: &str, value: Operand) -> Operation {
    Operation { path: path.into(), value: Some(value) }
}

/// Go on.
pub(super) fn nothing() -> Response {
    octets::answer(StatusCode::NO_CONTENT, "application/json", Zeroizing::default())
}

/// A refusal in these words: code, enhanced status code and text.
pub(super) fn refusal(reply: &str) -> Operations {
    let (code, enhanced, message) = parts(reply);
    let reply = SmtpReply { code, enhanced_code: enhanced.into(), message: message.into() };
    let set = vec![set("/action", Operand::Word("reject")), set("/response", Operand::Reply(reply))];
    Operations { set, ..Operations::default() }
}

/// The operations that say a reply to this message with these recipients; none where nothing is to be changed.
///
/// # Errors
/// The reply cannot be said.
pub(super) fn changes(said: &Said, reply: &Reply, to: &[Recipient], raw: &[u8]) -> Result<Option<Operations>, Refused> {
    let mut operations = match said {
        Said::Refuse(reply) => return Ok(Some(refusal(reply))),
        Said::Discard => {
            let set = vec![set("/action", Operand::Word("discard"))];
            return Ok(Some(Operations { set, ..Operations::default() }));
        }
        Said::Hold => Operations { set: vec![set("/action", Operand::Word("quarantine"))], ..Operations::default() },
        Said::Accept => Operations::default(),
    };
    let changes = Changes::of(reply, to)?;
    if !changes.deleted.is_empty() || !changes.inserted.is_empty() {
        let edited = Octets(edited(raw, &changes)?);
        operations.set.push(set("/rawMessage", Operand::Octets(edited)));
    }
    for path in &changes.put_in {
        let path = std::str::from_utf8(path).map_err(|_| Refused::Recipient)?;
        let address = path.strip_prefix('<').and_then(|path| path.strip_suffix('>')).unwrap_or(path).to_owned();
        let value = Operand::Address(Address { address, parameters: Parameters {} });
        operations.add.push(set("/envelope/to", value));
    }
    // From the last one up, since those behind a deleted one move. Added ones are behind all of them.
    for (index, recipient) in to.iter().enumerate().rev() {
        if changes.struck_out.contains(recipient.path.as_slice()) {
            operations.delete.push(Operation { path: format!("/envelope/to/{index}"), value: None });
        }
    }
    let is_empty = operations.set.is_empty() && operations.add.is_empty() && operations.delete.is_empty();
    Ok((!is_empty).then_some(operations))
}

/// The message with these changes to its header; every other octet stays. An MTA takes a field whose folds or 8-bit octets are
/// written otherwise for a changed one, and refuses it.
fn edited(raw: &[u8], changes: &Changes<'_>) -> Result<Zeroizing<Vec<u8>>, Refused> {
    let block = scan(raw, Bounds { fields: usize::MAX, octets: usize::MAX });
    let part = |range: &std::ops::Range<usize>| raw.get(range.clone()).unwrap_or_default();
    let mut gone = vec![false; block.fields.len()];
    for (name, index) in &changes.deleted {
        let names = block.fields.iter().map(|field| part(&field.name));
        let at = position(names, name, *index).ok_or(Refused::Edit)?;
        *gone.get_mut(at).ok_or(Refused::Edit)? = true;
    }
    let inserted: usize = changes.inserted.iter().map(|one| one.name.len() + one.value.len() + 4).sum();
    let mut out = Zeroizing::new(Vec::with_capacity(raw.len().saturating_add(inserted).saturating_add(2)));
    let field = |insertion: &crate::mta::Insertion<'_>| {
        let mut line = Zeroizing::new(Vec::with_capacity(insertion.name.len() + insertion.value.len() + 3));
        line.extend_from_slice(insertion.name.as_bytes());
        line.push(b':');
        // Unfolded: an MTA may show folds as LF and take CRLF for a stray CR, or the other way round.
        line.extend(insertion.value.bytes().filter(|octet| *octet != b'\n'));
        line.extend_from_slice(b"\r\n");
        line
    };
    // Each is put at its index among those that are there when it is its turn: the last of those for the top comes first.
    let mut lines: Vec<Zeroizing<Vec<u8>>> = Vec::new();
    let mut below: Vec<Zeroizing<Vec<u8>>> = Vec::new();
    for insertion in &changes.inserted {
        match insertion.index as usize {
            at if at <= lines.len() => lines.insert(at, field(insertion)),
            _ => below.insert(0, field(insertion)),
        }
    }
    let rest = raw.get(block.end..).unwrap_or_default();
    let is_kept = gone.iter().any(|gone| !gone);
    if !is_kept && !changes.inserted.is_empty() && matches!(rest.first(), Some(b' ' | b'\t')) {
        // What begins with a fold would go on with our own field.
        return Err(Refused::Edit);
    }
    lines.iter().for_each(|line| out.extend_from_slice(line));
    for (field, gone) in block.fields.iter().zip(&gone) {
        if !gone {
            out.extend_from_slice(part(&field.whole));
            // Those for the place below the first field, which a header without an end may leave open.
            if !below.is_empty() && !out.ends_with(b"\n") {
                out.extend_from_slice(b"\r\n");
            }
            std::mem::take(&mut below).iter().for_each(|line| out.extend_from_slice(line));
        }
    }
    below.iter().for_each(|line| out.extend_from_slice(line));
    out.extend_from_slice(rest);
    if block.ending == Ending::Message {
        // A message that ends with its header; without an empty line the MTA would not know where.
        let ended = out.is_empty() || out.ends_with(b"\n");
        out.extend_from_slice(if ended { b"\r\n" } else { b"\r\n\r\n" });
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::header::Edit;

    fn said(raw: &str, edits: Vec<Edit>) -> Result<String, Refused> {
        let reply = Reply { edits, ..Reply::bare(Verdict::Accept) };
        let changes = Changes::of(&reply, &[])?;
        edited(raw.as_bytes(), &changes).map(|octets| String::from_utf8(octets.to_vec()).unwrap())
    }

    fn status(index: u32) -> Edit {
        Edit::Insert { index, name: "X-Auth-Key-Status".into(), value: " UNUSABLE".into() }
    }

    #[test]
    fn nothing_of_the_message_goes_on_with_a_field_of_ours() {
        let fold = " ; VALIDKEY; address=ceo@bank.example\r\nFrom: a@b.example\r\n\r\nbody";
        assert!(matches!(said(fold, vec![status(0)]), Err(Refused::Edit)));
        assert!(matches!(said(&fold.replacen(' ', "\t", 1), vec![status(0)]), Err(Refused::Edit)));
        assert_eq!(said(fold, Vec::new()).unwrap(), fold);
        let gone = Edit::Delete { name: "X-Auth-Key".into(), index: 1 };
        let kept = said("X-Auth-Key: k\r\nA: b\r\n\r\n body", vec![gone, status(0)]).unwrap();
        assert_eq!(kept, "X-Auth-Key-Status: UNUSABLE\r\nA: b\r\n\r\n body");
    }

    #[test]
    fn a_field_without_an_end_gets_one_before_another_stands_below_it() {
        let said = said("A: b", vec![status(1)]).unwrap();
        assert!(said.starts_with("A: b\r\nX-Auth-Key-Status: UNUSABLE\r\n"), "{said:?}");
    }
}
