//! The header of a message cut out of its octets, and written again as a reply asks for. What is not changed keeps its octets.

use std::collections::HashSet;
use std::ops::Range;

use zeroize::Zeroizing;

use crate::case::{Reply, Verdict};
use crate::mta::intake::Intake;
use crate::mta::letter::tell_fields;
use crate::mta::{Changes, Insertion, Refused};
use crate::proto::header::{Block, Bounds, Edit, Ending, Span, scan};

/// A header, with what parts it from the body. It prints without its octets, which may hold keys.
pub struct Cut {
    octets: Zeroizing<Vec<u8>>,
    block: Block,
}

impl std::fmt::Debug for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cut({} fields)", self.block.fields.len())
    }
}

impl Cut {
    /// Cuts the header off the beginning of a message.
    ///
    /// # Errors
    /// [`Refused::Header`]: it has more than `limit` octets.
    pub fn of(start: &[u8], limit: usize) -> Result<Cut, Refused> {
        let block = scan(start, Bounds { fields: usize::MAX, octets: limit });
        if block.ending == Ending::Bound {
            return Err(Refused::Header(limit));
        }
        let rest = start.get(block.end..).unwrap_or_default();
        let parts = match block.ending {
            Ending::Blank if rest.starts_with(b"\r\n") => 2,
            Ending::Blank => 1,
            _ => 0,
        };
        let octets = start.get(..block.end.saturating_add(parts)).unwrap_or(start);
        Ok(Cut { octets: Zeroizing::new(octets.to_vec()), block })
    }

    /// Where the body begins: behind an empty line, or with a line that is no field.
    pub fn end(&self) -> usize {
        self.octets.len()
    }

    /// Whether its end has come, as far as the octets show.
    pub fn is_whole(&self) -> bool {
        matches!(self.block.ending, Ending::Blank | Ending::Junk)
    }

    /// Tells the intake of every field.
    ///
    /// # Errors
    /// As [`Intake::field`].
    pub fn tell(&self, intake: &mut Intake) -> Result<(), Refused> {
        tell_fields(intake, &self.octets, &self.block)
    }

    /// The header with these changes made, and what parts it from the body.
    ///
    /// # Errors
    /// [`Refused::Edit`]: a change would not leave whole header fields.
    pub fn with(&self, edits: &[Edit]) -> Result<Zeroizing<Vec<u8>>, Refused> {
        let edits = Reply { edits: edits.to_vec(), ..Reply::bare(Verdict::Accept) };
        let Changes { deleted, inserted, .. } = Changes::of(&edits, &[])?;
        let room: usize = inserted.iter().map(|field| field.name.len() + field.value.len() * 2 + 8).sum();
        let mut octets = Zeroizing::new(Vec::with_capacity(self.octets.len() + room + 2));
        let (mut above, below_first) = (&inserted[..], kept(&self.octets, &self.block.fields, &deleted));
        let mut rows: Vec<Row<'_>> = below_first.into_iter().map(Row::Own).collect();
        while let Some((field, rest)) = above.split_first() {
            let at = usize::try_from(field.index).unwrap_or(usize::MAX).min(rows.len());
            rows.insert(at, Row::New(field));
            above = rest;
        }
        for row in &rows {
            match row {
                Row::Own(whole) => octets.extend_from_slice(self.part(whole)),
                Row::New(field) => write(field, &mut octets),
            }
        }
        let parts = self.octets.get(self.block.end..).unwrap_or_default();
        // A line that is no field, and may begin with a blank, is no part of a field of ours.
        let none = parts.is_empty() && self.block.ending == Ending::Junk && !edits.edits.is_empty();
        octets.extend_from_slice(if none { b"\r\n" } else { parts });
        Ok(octets)
    }

    fn part(&self, range: &Range<usize>) -> &[u8] {
        self.octets.get(range.clone()).unwrap_or_default()
    }
}

/// A field of the header as it goes on.
enum Row<'a> {
    Own(Range<usize>),
    New(&'a Insertion<'a>),
}

/// The fields that stay: all but those that are deleted by their place among those of their name, counted from 1 at the top.
fn kept(octets: &[u8], fields: &[Span], deleted: &[(&str, u32)]) -> Vec<Range<usize>> {
    let doomed: HashSet<(Vec<u8>, u32)> =
        deleted.iter().map(|(name, index)| (name.to_ascii_lowercase().into_bytes(), *index)).collect();
    let mut seen = std::collections::HashMap::<Vec<u8>, u32>::new();
    let mut kept = Vec::with_capacity(fields.len());
    for field in fields {
        let name = octets.get(field.name.clone()).unwrap_or_default().to_ascii_lowercase();
        let index = seen.entry(name.clone()).or_default();
        *index = index.saturating_add(1);
        if !doomed.contains(&(name, *index)) {
            kept.push(field.whole.clone());
        }
    }
    kept
}

/// Writes a field of ours: its folds, and its end, are CRLF.
fn write(field: &Insertion<'_>, octets: &mut Vec<u8>) {
    octets.extend_from_slice(field.name.as_bytes());
    octets.push(b':');
    for (number, line) in field.value.split('\n').enumerate() {
        octets.extend_from_slice(if number > 0 { b"\r\n" } else { b"" });
        octets.extend_from_slice(line.as_bytes());
    }
    octets.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proto::header::deletions;

    const MESSAGE: &[u8] = b"Received: a\r\n\tb\r\nx-auth-key : one\r\nFrom: c\r\nX-Auth-Key:two\r\n\r\nbody";

    fn delete(index: u32) -> Edit {
        Edit::Delete { name: "X-Auth-Key".into(), index }
    }

    fn insert(index: u32, name: &str, value: &str) -> Edit {
        Edit::Insert { index, name: name.into(), value: value.into() }
    }

    #[test]
    fn what_is_not_changed_keeps_its_octets() {
        let cut = Cut::of(MESSAGE, 1_000).unwrap();
        assert_eq!((cut.end(), cut.with(&[]).unwrap().as_slice()), (MESSAGE.len() - 4, &MESSAGE[..MESSAGE.len() - 4]));
        let edits = [delete(2), delete(1), insert(0, "S", " YES"), insert(0, "T", " a\n\tb"), insert(1, "U", " c")];
        let expected = b"T: a\r\n\tb\r\nU: c\r\nS: YES\r\nReceived: a\r\n\tb\r\nFrom: c\r\n\r\n";
        assert_eq!(cut.with(&edits).unwrap().escape_ascii().to_string(), expected.escape_ascii().to_string());
        assert!(matches!(cut.with(&[insert(0, "T", " a\nb")]), Err(Refused::Edit)));
    }

    #[test]
    fn a_line_that_is_no_field_does_not_become_a_part_of_ours() {
        let cut = Cut::of(b" folded\r\nX-Auth-Key: k\r\n", 1_000).unwrap();
        assert_eq!(cut.with(&[insert(0, "S", " x")]).unwrap().as_slice(), b"S: x\r\n\r\n");
        assert_eq!((cut.end(), cut.with(&[]).unwrap().as_slice()), (0, &b""[..]));
    }

    #[test]
    fn a_header_over_its_bound_is_none() {
        assert!(matches!(Cut::of(MESSAGE, 20), Err(Refused::Header(20))));
        assert!(Cut::of(b"From: a\r\n", 100).is_ok_and(|cut| !cut.is_whole() && cut.end() == 9));
    }

    /// The header as a list of whole fields, changed one command after the other as an MTA would.
    fn by_hand(fields: &[(String, String)], edits: &[Edit]) -> Vec<(String, String)> {
        let mut rows = fields.to_vec();
        for edit in edits {
            match edit {
                Edit::Delete { name, index } => {
                    let mut named = rows.iter().enumerate().filter(|(_, (known, _))| known.eq_ignore_ascii_case(name));
                    if let Some(at) = named.nth(*index as usize - 1).map(|(at, _)| at) {
                        rows.remove(at);
                    }
                }
                Edit::Insert { index, name, value } => {
                    rows.insert((*index as usize).min(rows.len()), (name.clone(), value.replace('\n', "\r\n")));
                }
                Edit::InsertKey { .. } => {}
            }
        }
        rows
    }

    fn octets(fields: &[(String, String)]) -> Vec<u8> {
        fields.iter().map(|(name, value)| format!("{name}:{value}\r\n")).collect::<String>().into_bytes()
    }

    proptest! {
        #[test]
        fn the_changes_of_a_reply_make_the_header_that_an_mta_would_make(
            names in prop::collection::vec(prop_oneof![Just("X-Auth-Key"), Just("x-auth-key"), Just("From"), Just("Received")], 0..12),
            values in prop::collection::vec(" ?[a-z\u{e9}:]{0,9}(\r\n[ \t][a-z]{1,4}){0,2}", 12),
            doomed in prop::collection::vec(any::<bool>(), 12),
            inserted in prop::collection::vec((0u32..2, "[A-Z][a-z-]{0,5}", " [a-z]{0,8}(\n\t[a-z]{1,4}){0,2}"), 0..4),
            body in prop_oneof![Just(""), Just("\r\n"), Just("\r\nbody"), Just("\nbody"), Just("junk\r\n")],
        ) {
            let fields: Vec<(String, String)> =
                names.iter().zip(&values).map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
            let mut edits = deletions(names.iter().copied(), |at, _| doomed[at]);
            edits.extend(inserted.into_iter().map(|(index, name, value)| Edit::Insert { index, name, value }));
            let message = [octets(&fields), body.as_bytes().to_vec()].concat();
            let cut = Cut::of(&message, 1 << 20).unwrap();
            let mut expected = octets(&by_hand(&fields, &edits));
            match body {
                "junk\r\n" if !edits.is_empty() => expected.extend(b"\r\n"),
                "\nbody" => expected.extend(b"\n"),
                "" | "junk\r\n" => {}
                _ => expected.extend(b"\r\n"),
            }
            prop_assert_eq!(cut.with(&edits).unwrap().escape_ascii().to_string(), expected.escape_ascii().to_string());
            prop_assert_eq!(&message[cut.end()..], body.trim_start_matches(['\r', '\n']).as_bytes());
        }
    }
}
