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
mod tests {
    use super::*;
    use crate::case::Redirect;
    use crate::mta::milter::frame::{Cutter, Frame};
    use crate::proto::address::Address;

    fn terms(actions: u32, protocol: u32) -> Terms {
        let words = [6, actions, protocol].map(u32::to_be_bytes).concat();
        Terms::agree(&Frame::new(b'O', &[&words]), false, &mut BytesMut::new()).unwrap()
    }

    fn reply(verdict: Verdict, edits: &[Edit]) -> Reply {
        Reply { edits: edits.to_vec(), ..Reply::bare(verdict) }
    }

    fn delete(index: u32) -> Edit {
        Edit::Delete { name: "X-Auth-Key".into(), index }
    }

    fn insert(index: u32, name: &str, value: &str) -> Edit {
        Edit::Insert { index, name: name.into(), value: value.into() }
    }

    fn refusal(code: u16, status: &'static str, text: &str) -> Refusal {
        Refusal { code, status, text: text.into() }
    }

    fn said(verdict: Verdict) -> String {
        let frames = frames(&reply(verdict, &[]), &[], &terms(0x1ff, 0x1f_ffff), 1 << 20).unwrap();
        String::from_utf8(frames[4..].to_vec()).unwrap()
    }

    #[test]
    fn deletions_come_first_in_their_order_then_insertions_then_the_verdict() {
        let edits = [insert(0, "X-Auth-Key-Status", " NOKEY"), delete(2), insert(1, "B", " c"), delete(1)];
        let frames =
            frames(&reply(Verdict::Hold("why".into()), &edits), &[], &terms(0x1ff, 0x1f_ffff), 1 << 20).unwrap();
        let expected = b"\0\0\0\x11m\0\0\0\x02X-Auth-Key\0\0\0\0\0\x11m\0\0\0\x01X-Auth-Key\0\0\
            \0\0\0\x1ei\0\0\0\0X-Auth-Key-Status\0 NOKEY\0\0\0\0\x0ai\0\0\0\x01B\0 c\0\0\0\0\x05qwhy\0\0\0\0\x01a";
        assert_eq!(frames.as_ref(), expected);
    }

    #[test]
    fn a_key_is_inserted_on_top_and_stands_in_no_debug_text() {
        let key = crate::proto::key::AuthKey::parse(&[b'k'; 22]).unwrap();
        let edits = [insert(0, "X-Auth-Agent", " a"), Edit::InsertKey { key }];
        let reply = reply(Verdict::Accept, &edits);
        assert!(!format!("{reply:?}").contains("kkkk"));
        let frames = frames(&reply, &[], &terms(0x1ff, 0x1f_ffff), 1 << 20).unwrap();
        assert_eq!(&frames[25..57], b"\0\0\0\x28i\0\0\0\0X-Auth-Key\0 kkkkkkkkkkk");
        assert!(matches!(super::frames(&reply, &[], &terms(0x1ff & !0x01, 0), 1 << 20), Err(Error::NotOffered(_))));
    }

    #[test]
    fn without_leading_spaces_agreed_the_mta_writes_them() {
        let frames = frames(&reply(Verdict::Accept, &[insert(0, "A", " b")]), &[], &terms(0x1ff, 0), 1 << 20).unwrap();
        assert_eq!(frames.as_ref(), b"\0\0\0\x09i\0\0\0\0A\0b\0\0\0\0\x01a");
    }

    #[test]
    fn no_message_is_answered_without_what_its_answer_needs() {
        let fails = |verdict: Verdict, edits: &[Edit], actions: u32| {
            matches!(frames(&reply(verdict, edits), &[], &terms(actions, 0), 1 << 20), Err(Error::NotOffered(_)))
        };
        assert!(fails(Verdict::Accept, &[delete(1)], 0x1ff & !0x10));
        assert!(fails(Verdict::Accept, &[insert(0, "A", " b")], 0x1ff & !0x01));
        assert!(fails(Verdict::Hold(String::new()), &[], 0x1ff & !0x20));
        assert!(!fails(Verdict::Discard, &[delete(1)], 0));
        assert!(!fails(Verdict::Accept, &[], 0));
    }

    #[test]
    fn k6_a_reply_stays_one_line_of_printable_ascii_without_percent() {
        let text = "a\r\n250 b\0c%d\u{e9}e\u{7f}";
        assert_eq!(said(Verdict::Reject(refusal(550, "5.7.1", text))), "y550 5.7.1 a??250 b?c?d?e?\0");
        assert_eq!(said(Verdict::Hold(text.into())), "qa??250 b?c?d?e?\0\0\0\0\x01a");
        assert!(said(Verdict::Reject(refusal(550, "5.7.1", &"x".repeat(5000)))).len() < 500);
    }

    #[test]
    fn k7_code_and_class_are_of_the_verdicts_kind() {
        for (code, status) in
            [(250, "2.0.0"), (451, "4.3.0"), (550, "2.1.1"), (550, "5.7"), (550, "5.7.1\r\n"), (5500, "5.7.1")]
        {
            assert_eq!(said(Verdict::Reject(refusal(code, status, "no"))), "y550 5.7.1 no\0");
        }
        for (code, status) in [(250, "2.0.0"), (550, "5.7.1"), (421, "4.3.2")] {
            assert_eq!(said(Verdict::Defer(refusal(code, status, "no"))), "y451 4.3.0 no\0");
        }
        assert_eq!(said(Verdict::Reject(refusal(554, "5.6.0", "no"))), "y554 5.6.0 no\0");
        assert_eq!(said(Verdict::Defer(refusal(450, "4.7.1", "no"))), "y450 4.7.1 no\0");
    }

    #[test]
    fn k8_an_edit_that_is_no_field_is_no_answer() {
        let bad = [
            insert(0, "A", " b\nBcc: x"),
            insert(0, "A", " b\r\n c"),
            insert(0, "A", " b\0"),
            insert(0, "A", " b\n"),
            insert(0, "A:", " b"),
            insert(0, "", " b"),
            insert(0, "A b", " b"),
            insert(2, "A", " b"),
            delete(0),
        ];
        for edit in bad {
            let said = frames(&reply(Verdict::Accept, std::slice::from_ref(&edit)), &[], &terms(0x1ff, 0), 1 << 20);
            assert!(matches!(said, Err(Error::Edit)), "{edit:?}");
        }
        assert!(frames(&reply(Verdict::Accept, &[insert(0, "A", " b\n\tc")]), &[], &terms(0x1ff, 0), 1 << 20).is_ok());
    }

    fn to(paths: &[&str]) -> Vec<Recipient> {
        let recipient = |path: &&str| Recipient::new(path.as_bytes());
        paths.iter().map(recipient).collect()
    }

    fn struck(removed: &[usize], redirected: &[(usize, &str)]) -> Reply {
        let redirect = |(recipient, to): &(usize, &str)| Redirect {
            recipient: *recipient,
            to: Address::parse(to.as_bytes(), false).unwrap(),
        };
        let redirected = redirected.iter().map(redirect).collect();
        Reply { removed: removed.to_vec(), redirected, ..reply(Verdict::Accept, &[]) }
    }

    /// Command and payload of each frame, but for the last, which accepts the message.
    fn changes(reply: &Reply, to: &[Recipient], actions: u32) -> Result<Vec<String>, Error> {
        let out = frames(reply, to, &terms(actions, 0x1f_ffff), 1 << 20)?;
        let (mut said, mut rest) = (Vec::new(), out.as_ref());
        while let Some(frame) = Cutter::new(1 << 20).next(&mut rest).unwrap() {
            said.push(format!("{}{}", char::from(frame.command), frame.payload.escape_ascii()));
        }
        assert_eq!(said.pop().as_deref(), Some("a"));
        Ok(said)
    }

    #[test]
    fn recipients_are_struck_out_by_the_octets_of_rcpt_before_others_are_added_and_after_the_header_is_edited() {
        let to = to(&["<A@one.example>", "<Bob@Two.Example>", "<c@three.example>", "<A@one.example>"]);
        let mut reply = struck(&[2], &[(1, "Bob+Junk@two.example")]);
        reply.edits = vec![insert(0, "S", " v")];
        let said = changes(&reply, &to, 0x1ff).unwrap();
        let expected = [
            "i\\x00\\x00\\x00\\x00S\\x00 v\\x00",
            "-<Bob@Two.Example>\\x00",
            "-<c@three.example>\\x00",
            "+<Bob+Junk@two.example>\\x00",
        ];
        assert_eq!(said, expected);
    }

    #[test]
    fn a_path_that_came_twice_is_deleted_and_added_once() {
        let to = to(&["<b@two.example>", "<b@two.example>", "<b+x@two.example>"]);
        let folder = "b+Junk@two.example";
        let said = changes(&struck(&[], &[(0, folder), (1, folder), (2, folder)]), &to, 0x1ff).unwrap();
        let expected = ["-<b+x@two.example>\\x00", "-<b@two.example>\\x00", "+<b+Junk@two.example>\\x00"];
        assert_eq!(said, expected);
    }

    #[test]
    fn a_path_that_would_be_deleted_and_added_is_no_answer() {
        let to = to(&["<b@two.example>", "<b+Junk@two.example>", "<c@three.example>"]);
        for reply in [
            struck(&[1], &[(0, "b+Junk@two.example")]),
            struck(&[], &[(0, "b+Junk@two.example"), (1, "d@two.example")]),
        ] {
            assert!(matches!(changes(&reply, &to, 0x1ff), Err(Error::Recipient)), "{reply:?}");
        }
    }

    #[test]
    fn whoever_is_sent_where_he_is_already_stays_there() {
        let to = to(&["<b+Junk@two.example>"]);
        assert!(changes(&struck(&[], &[(0, "b+Junk@two.example")]), &to, 0).unwrap().is_empty());
    }

    #[test]
    fn an_answer_that_strikes_out_all_or_nobody_or_one_who_stays_is_none() {
        let to = to(&["<a@one.example>", "<b@two.example>", "<a@one.example>"]);
        let wrong = [
            struck(&[0, 1, 2], &[]),
            struck(&[3], &[]),
            struck(&[], &[(3, "c@two.example")]),
            struck(&[0], &[]),
            struck(&[1], &[(1, "c@two.example")]),
        ];
        for reply in wrong {
            assert!(matches!(changes(&reply, &to, 0x1ff), Err(Error::Recipient)), "{reply:?}");
        }
        assert_eq!(changes(&struck(&[0, 2], &[]), &to, 0x1ff).unwrap(), ["-<a@one.example>\\x00"]);
        assert_eq!(changes(&struck(&[0, 2], &[(1, "c@two.example")]), &to, 0x1ff).unwrap().len(), 3);
    }

    #[test]
    fn an_mta_that_lets_a_milter_change_no_recipients_hears_no_half_of_it() {
        let to = to(&["<a@one.example>", "<b@two.example>"]);
        for (lacking, reply, fails) in [
            (0x08, struck(&[0], &[]), true),
            (0x04, struck(&[0], &[]), false),
            (0x04, struck(&[], &[(0, "c@two.example")]), true),
            (0x08, struck(&[], &[(0, "c@two.example")]), true),
            (0x0c, struck(&[], &[]), false),
        ] {
            let said = changes(&reply, &to, 0x1ff & !lacking);
            assert_eq!(matches!(said, Err(Error::NotOffered(_))), fails, "{lacking:#x} {said:?}");
        }
    }
}
