//! A reply in Stalwart's words.

use std::collections::HashMap;

use serde::Serialize;
use zeroize::Zeroizing;

use crate::case::{Case, Refusal, Verdict};
use crate::mta::hooks::Fault;
use crate::mta::hooks::fault::parts;
use crate::mta::hooks::loose::Secret;
use crate::mta::hooks::octets::json;
use crate::mta::{Changes, Refused};
use crate::proto::reply::{Class, line};

/// An answer. A member that is null would make it unreadable, so none is.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    response: Option<Response<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    modifications: Vec<Modification<'a>>,
}

/// An SMTP reply. Stalwart reads `enhanced_status`, and documents `enhancedStatus`.
#[derive(Debug, Serialize)]
struct Response<'a> {
    status: u16,
    enhanced_status: &'a str,
    #[serde(rename = "enhancedStatus")]
    documented_status: &'a str,
    message: &'a str,
    disconnect: bool,
}

/// A change, made in the order of the list; each counts what the ones before it left.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "camelCase")]
enum Modification<'a> {
    DeleteHeader { index: u32, name: &'a str },
    InsertHeader { index: u32, name: &'a str, value: Secret },
    DeleteRecipient { value: String },
    AddRecipient { value: String },
}

impl std::fmt::Debug for Modification<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let word = match self {
            Modification::DeleteHeader { .. } => "DeleteHeader",
            Modification::InsertHeader { .. } => "InsertHeader",
            Modification::DeleteRecipient { .. } => "DeleteRecipient",
            Modification::AddRecipient { .. } => "AddRecipient",
        };
        f.write_str(word)
    }
}

/// Go on.
pub(super) fn accept() -> Zeroizing<Vec<u8>> {
    Zeroizing::new(br#"{"action":"accept"}"#.to_vec())
}

/// A refusal in these words: code, enhanced status code and text.
pub(in crate::mta::hooks) fn refusal(reply: &str) -> Zeroizing<Vec<u8>> {
    let (status, enhanced, message) = parts(reply);
    let response =
        Response { status, enhanced_status: enhanced, documented_status: enhanced, message, disconnect: false };
    let answer = Answer { action: "reject", response: Some(response), modifications: Vec::new() };
    // Such a value is always JSON.
    json(&answer).unwrap_or_default()
}

/// The reply of a case to a message whose fields have these names, untrimmed, top first.
///
/// # Errors
/// The reply cannot be said.
pub(super) fn answer(case: &Case, names: &[&str]) -> Result<Zeroizing<Vec<u8>>, Fault> {
    let of = |class, refusal: &Refusal| Ok(self::refusal(&line(class, refusal.code, refusal.status, &refusal.text)));
    match &case.reply.verdict {
        Verdict::Accept => {
            let modifications = modifications(Changes::of(&case.reply, &case.mail.recipients)?, names)?;
            let answer = Answer { action: "accept", response: None, modifications };
            json(&answer).ok_or(Fault::Refused(Refused::Edit))
        }
        Verdict::Discard => Ok(Zeroizing::new(br#"{"action":"discard"}"#.to_vec())),
        Verdict::Reject(refusal) => of(Class::Permanent, refusal),
        Verdict::Defer(refusal) => of(Class::Transient, refusal),
        // Its `quarantine` is a 250 that loses the message. Settling knows that this door holds nothing.
        Verdict::Hold(_) => Err(Refused::Edit.into()),
    }
}

/// Deletions first, each of a spelling from its last field up; then what is inserted on top; then recipients, in the lower case in
/// which Stalwart knows them.
fn modifications<'a>(changes: Changes<'a>, names: &[&'a str]) -> Result<Vec<Modification<'a>>, Refused> {
    let Changes { deleted, inserted, struck_out, put_in } = changes;
    let mut list = deletions(&deleted, names)?;
    // An index beyond 0 counts fields of the same name, so a field below the first one cannot be said: it goes above that.
    list.extend(inserted.into_iter().map(|insertion| {
        let value = insertion.value.strip_prefix(' ').unwrap_or(&insertion.value);
        Modification::InsertHeader { index: 0, name: insertion.name, value: Secret(folded(value)) }
    }));
    let bare = |path: &[u8]| {
        let path = std::str::from_utf8(path).map_err(|_| Refused::Recipient)?;
        Ok(path.strip_prefix('<').and_then(|path| path.strip_suffix('>')).unwrap_or(path).to_owned())
    };
    for path in struck_out {
        list.push(Modification::DeleteRecipient { value: bare(path)?.to_lowercase() });
    }
    for path in put_in {
        list.push(Modification::AddRecipient { value: bare(&path)? });
    }
    Ok(list)
}

/// The deletions by the exact spelling of each name: `X-Auth-Key ` and `X-Auth-Key` are two names to Stalwart, and one to all
/// who read the message.
fn deletions<'a>(deleted: &[(&str, u32)], names: &[&'a str]) -> Result<Vec<Modification<'a>>, Refused> {
    if deleted.is_empty() {
        return Ok(Vec::new());
    }
    let (mut read, mut spelt): (HashMap<String, u32>, HashMap<String, u32>) = Default::default();
    let mut places: HashMap<(String, u32), (usize, u32)> = HashMap::with_capacity(names.len());
    for (position, name) in names.iter().enumerate() {
        let one = |counts: &mut HashMap<String, u32>, name: String| {
            let count = counts.entry(name).or_default();
            *count = count.saturating_add(1);
            *count
        };
        let trimmed = trimmed(name);
        let of_name = one(&mut read, trimmed.clone());
        let of_spelling = one(&mut spelt, name.to_ascii_lowercase());
        places.insert((trimmed, of_name), (position, of_spelling));
    }
    let mut found = Vec::with_capacity(deleted.len());
    for (name, index) in deleted {
        found.push(*places.get(&(name.to_ascii_lowercase(), *index)).ok_or(Refused::Edit)?);
    }
    found.sort_unstable_by(|one, other| other.cmp(one));
    let name = |position: usize| names.get(position).copied().ok_or(Refused::Edit);
    found.into_iter().map(|(at, index)| Ok(Modification::DeleteHeader { index, name: name(at)? })).collect()
}

/// A name as the intake reads it.
fn trimmed(name: &str) -> String {
    String::from_utf8_lossy(name.as_bytes().trim_ascii_end()).to_ascii_lowercase()
}

/// A value whose folds are those of a message on the wire.
fn folded(value: &str) -> Zeroizing<String> {
    let folds = value.bytes().filter(|octet| *octet == b'\n').count();
    let mut out = Zeroizing::new(String::with_capacity(value.len() + folds));
    for piece in value.split_inclusive('\n') {
        match piece.strip_suffix('\n') {
            Some(line) => {
                out.push_str(line);
                out.push_str("\r\n");
            }
            None => out.push_str(piece),
        }
    }
    out
}
