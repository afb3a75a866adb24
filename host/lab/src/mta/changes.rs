//! What a milter is shown of a message, and what it changes there, as Postfix does both.

use addrauth::mta::milter::frame::{Frame, answer, strings};
use addrauth::proto::header::{self, Bounds, Edit};

/// This MTA delivers whatever its milter lets through.
pub(super) const UNBOUND: Bounds = Bounds { fields: usize::MAX, octets: usize::MAX };

/// What a milter changes at the end of a message.
pub(super) enum Change {
    /// A field.
    Header(Edit),
    /// A recipient less, with angle brackets.
    Less(String),
    /// A recipient more, with angle brackets.
    More(String),
}

/// What a field's value looks like to a milter: cut at its first NUL; folds as LF; without that agreement, no leading space.
pub(super) fn told(value: &[u8], keep_spaces: bool) -> Vec<u8> {
    let value = value.split(|o| *o == 0).next().unwrap_or_default();
    let value = if keep_spaces { value } else { value.strip_prefix(b" ").unwrap_or(value) };
    let lines: Vec<&[u8]> = value.split(|o| *o == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line)).collect();
    lines.join(&b'\n')
}

pub(super) fn reply_text(answer: &Frame) -> String {
    let text = answer.payload.strip_suffix(b"\0").unwrap_or(&answer.payload);
    String::from_utf8_lossy(text).into_owned()
}

pub(super) fn read_change(answer: &Frame, keeps_spaces: bool) -> Option<Change> {
    let path = || match strings(&answer.payload)?.as_slice() {
        [path] => String::from_utf8(path.to_vec()).ok(),
        _ => None,
    };
    match answer.command {
        answer::DELETE_RECIPIENT => path().map(Change::Less),
        answer::ADD_RECIPIENT => path().map(Change::More),
        _ => read_edit(answer, keeps_spaces).map(Change::Header),
    }
}

fn read_edit(answer: &Frame, keeps_spaces: bool) -> Option<Edit> {
    let (index, rest) = answer.payload.split_first_chunk::<4>()?;
    let index = u32::from_be_bytes(*index);
    let text = |octets: &[u8]| String::from_utf8(octets.to_vec()).ok();
    match (answer.command, strings(rest)?.as_slice()) {
        (answer::CHANGE, [name, b""]) => Some(Edit::Delete { name: text(name)?, index }),
        (answer::INSERT, [name, value]) => {
            let value = if keeps_spaces { text(value)? } else { format!(" {}", text(value)?) };
            Some(Edit::Insert { index, name: text(name)?, value })
        }
        _ => None,
    }
}

/// The message after these edits, made one after the other as Postfix does: a deletion counts among the fields that are left.
/// What it cannot do, it leaves, as Postfix does too.
pub fn apply(message: &[u8], edits: &[Edit]) -> Vec<u8> {
    let mut message = message.to_vec();
    for edit in edits {
        match edit {
            Edit::Delete { name, index } => {
                let block = header::scan(&message, UNBOUND);
                let named = |field: &&header::Span| {
                    message.get(field.name.clone()).is_some_and(|found| found.eq_ignore_ascii_case(name.as_bytes()))
                };
                let nth = usize::try_from(*index).unwrap_or(usize::MAX).wrapping_sub(1);
                if let Some(field) = block.fields.iter().filter(named).nth(nth) {
                    message.drain(field.whole.clone());
                }
            }
            Edit::Insert { index, name, value } => {
                let index = usize::try_from(*index).unwrap_or(usize::MAX);
                if let Ok(longer) = header::inject(&message, index, name, value.as_bytes()) {
                    message = longer;
                }
            }
            Edit::InsertKey { key } => {
                if let Ok(longer) =
                    header::inject(&message, 0, header::KEY_FIELD, format!(" {}", key.expose()).as_bytes())
                {
                    message = longer;
                }
            }
        }
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deletion_counts_among_the_fields_that_are_left() {
        let message = b"K: 1\r\nA: x\r\nk : 2\r\n 2\r\nK: 3\r\n\r\nbody";
        let delete = |index| Edit::Delete { name: "K".into(), index };
        assert_eq!(apply(message, &[delete(1), delete(2)]), b"A: x\r\nk : 2\r\n 2\r\n\r\nbody");
        assert_eq!(apply(message, &[delete(3), delete(2), delete(1)]), b"A: x\r\n\r\nbody");
        assert_eq!(apply(message, &[delete(4), delete(0)]), message);
        let insert = Edit::Insert { index: 0, name: "S".into(), value: " v".into() };
        assert_eq!(apply(b"A: x\n\nbody", &[insert]), b"S: v\nA: x\n\nbody");
    }
}
