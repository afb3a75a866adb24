//! The changes that a reply asks the MTA to make to a message that goes on. They are checked here: each edit stays one header
//! field, and no recipient is lost by the way others are struck out. A door only has to say them.

use std::collections::{BTreeSet, HashMap};
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

/// Which fields an MTA counts as those of one name, where it is asked to delete one of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Counting {
    /// Letter case and blanks before the colon make no difference: Postfix, Sendmail.
    #[default]
    ByName,
    /// Letter case makes no difference, and blanks before the colon do: to Stalwart `X-Auth-Key` and `X-Auth-Key ` are two
    /// names, in its milter client and in its hooks (0.15.5 and 0.16.19, measured).
    BySpelling,
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

    /// The same changes for an MTA that counts fields so; `spelled` are the names as the message spells them
    /// ([`crate::case::Head::spelled`]). The order within each spelling stays: from the highest index down.
    ///
    /// # Errors
    /// [`Refused::Edit`]: a field that is to be deleted is not among them.
    pub fn counted(self, counting: Counting, spelled: &'a [String]) -> Result<Changes<'a>, Refused> {
        if counting == Counting::ByName {
            return Ok(self);
        }
        let spellings = Spellings::of(spelled);
        let deleted = self.deleted.iter().map(|(name, index)| spellings.find(name, *index).ok_or(Refused::Edit));
        Ok(Changes { deleted: deleted.collect::<Result<_, _>>()?, ..self })
    }
}

/// The fields of each name in their order: how each is spelled, and which of its spelling it is.
struct Spellings<'a>(HashMap<String, Vec<(&'a str, u32)>>);

impl<'a> Spellings<'a> {
    fn of(spelled: &'a [String]) -> Spellings<'a> {
        let mut seen: HashMap<String, u32> = HashMap::new();
        let mut of_name: HashMap<String, Vec<(&str, u32)>> = HashMap::new();
        for spelling in spelled {
            let index = seen.entry(spelling.to_ascii_lowercase()).or_default();
            *index = index.saturating_add(1);
            of_name.entry(spelling.trim_ascii_end().to_ascii_lowercase()).or_default().push((spelling, *index));
        }
        Spellings(of_name)
    }

    /// The `index`th field of a name, counted from 1, by its spelling.
    fn find(&self, name: &str, index: u32) -> Option<(&'a str, u32)> {
        let at = usize::try_from(index).ok()?.checked_sub(1)?;
        self.0.get(&name.to_ascii_lowercase())?.get(at).copied()
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::case::Verdict;
    use crate::proto::header::deletions;

    fn reply(edits: Vec<Edit>) -> Reply {
        Reply { edits, ..Reply::bare(Verdict::Accept) }
    }

    fn owned(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn where_spellings_count_each_is_deleted_from_its_highest_index_down() {
        let spelled =
            owned(&["X-Auth-Key", "x-auth-key ", "X-AUTH-KEY", "X-Auth-Key-Status\t", "X-Auth-Key ", "X-Auth-Key"]);
        let mut edits = deletions(["X-Auth-Key"; 5], |_, _| true);
        edits.extend(deletions(["X-Auth-Key-Status"], |_, _| true));
        let reply = reply(edits);
        let plain = Changes::of(&reply, &[]).unwrap().counted(Counting::ByName, &spelled).unwrap().deleted;
        assert_eq!(plain[..2], [("X-Auth-Key", 5), ("X-Auth-Key", 4)]);
        let exact = Changes::of(&reply, &[]).unwrap().counted(Counting::BySpelling, &spelled).unwrap().deleted;
        let wanted = [
            ("X-Auth-Key", 3),
            ("X-Auth-Key ", 2),
            ("X-AUTH-KEY", 2),
            ("x-auth-key ", 1),
            ("X-Auth-Key", 1),
            ("X-Auth-Key-Status\t", 1),
        ];
        assert_eq!(exact, wanted);
    }

    #[test]
    fn a_deletion_of_a_field_whose_spelling_is_not_known_is_no_answer() {
        for (spelled, index) in [(&["X-Auth-Key"][..], 2), (&["X-Auth-Key-Status"], 1), (&[], 1)] {
            let (reply, spelled) = (reply(vec![Edit::Delete { name: "X-Auth-Key".into(), index }]), owned(spelled));
            let counted = |counting| Changes::of(&reply, &[]).unwrap().counted(counting, &spelled).map(drop);
            assert!(matches!(counted(Counting::BySpelling), Err(Refused::Edit)));
            assert!(counted(Counting::ByName).is_ok());
        }
    }

    proptest! {
        /// An MTA that counts live, and one that counts what the message had, both delete the doomed fields and no others.
        #[test]
        fn whatever_is_doomed_is_deleted_by_either_way_of_counting(
            fields in prop::collection::vec((0..2usize, 0..6usize, any::<bool>()), 0..30),
        ) {
            let names = ["X-Auth-Key", "Authentication-Results"];
            let spelling = |(name, form, _): &(usize, usize, bool)| match form {
                0 | 1 => names[*name].to_owned(),
                2 => names[*name].to_ascii_lowercase(),
                3 => format!("{} ", names[*name]),
                4 => format!("{} ", names[*name].to_ascii_uppercase()),
                _ => format!("{}\t ", names[*name]),
            };
            let spelled: Vec<String> = fields.iter().map(spelling).collect();
            let mut edits = Vec::new();
            for (place, name) in names.into_iter().enumerate().take(2) {
                let of_name: Vec<_> = fields.iter().filter(|field| field.0 == place).collect();
                edits.extend(deletions(vec![name; of_name.len()], |at, _| of_name[at].2));
            }
            let reply = reply(edits);
            let changes = Changes::of(&reply, &[]).unwrap().counted(Counting::BySpelling, &spelled).unwrap();
            let had: Vec<(usize, &String)> = spelled.iter().enumerate().collect();
            let nth = |of: &[(usize, &String)], name: &str, index: u32| {
                let mut same = of.iter().enumerate().filter(|(_, (_, known))| known.eq_ignore_ascii_case(name));
                same.nth(index as usize - 1).map(|(at, _)| at)
            };
            let mut live = had.clone();
            let mut gone = BTreeSet::new();
            for (name, index) in &changes.deleted {
                let at = nth(&live, name, *index).expect("a field");
                live.remove(at);
                gone.insert(nth(&had, name, *index).expect("a field"));
            }
            let kept: BTreeSet<usize> = (0..fields.len()).filter(|at| !fields[*at].2).collect();
            prop_assert_eq!(live.iter().map(|(at, _)| *at).collect::<BTreeSet<_>>(), kept.clone());
            prop_assert!(gone.iter().all(|at| !kept.contains(at)) && gone.len() + kept.len() == fields.len());
        }
    }
}
