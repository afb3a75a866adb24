//! From a decision to the frames that the MTA reads: whatever a policy, an address or a verdict says, each reply is one line
//! of printable ASCII without `%`, each field stays one field, and deletions come before insertions.

use std::sync::Arc;

use addrauth::case::{
    Decision, Disposition, Envelope, Finding, Found, Head, KeyStatus, Mail, Notify, Recipient, Redirect, Refusal,
    Reply, Verdict, Why,
};
use addrauth::config::Limits;
use addrauth::mta::milter::frame::{Cutter, Frame, strings};
use addrauth::mta::milter::session::Session;
use addrauth::proto::address::Address;
use addrauth::proto::header::Edit;
use addrauth::settle::{Permits, Rules, settle};
use tokio_util::bytes::BytesMut;

use crate::world;

/// Enhanced status codes, good ones and others.
const STATUSES: [&str; 8] = ["5.7.1", "4.7.1", "2.0.0", "", "5.7", "5.7.1\r\n250 2.0.0", "5.%.1", "4.3.0"];

/// The first octets choose what is answered, the others are its text.
pub fn answer(octets: &[u8]) {
    let Some((&[choice, more, low, high], text)) = octets.split_first_chunk::<4>() else { return };
    let words = String::from_utf8_lossy(text).into_owned();
    let settled = choice & 1 == 0;
    let recipients: Vec<Recipient> = text.split(|octet| *octet == b' ').take(4).map(recipient).collect();
    let reply = if settled { settled_reply(more, low, text, words) } else { raw_reply(more, low, high, text) };
    let protocol = if choice & 2 == 0 { 0x1f_ffff } else { 0 };
    let actions = if choice & 4 == 0 { 0x1ff } else { u32::from(high) };
    let limits = Arc::new(Limits::default());
    let mut session = Session::new(limits.clone(), false);
    let mut out = BytesMut::new();
    let offer = Frame::new(b'O', &[&[6, actions, protocol].map(u32::to_be_bytes).concat()]);
    session.take(&offer, &mut out).expect("the offer is a good one");
    out.clear();
    let envelope = Envelope { recipients: recipients.clone(), ..Envelope::default() };
    let said = session.answer(&reply, &Mail::new(envelope, Head::default()), &mut out);
    assert!(said.is_ok() || !settled || actions != 0x1ff, "{reply:?} {said:?}");
    let (mut frames, mut rest) = (Vec::new(), out.as_ref());
    while let Some(frame) = Cutter::new(limits.mta.frame).next(&mut rest).expect("our own frames are whole") {
        frames.push(frame);
    }
    assert!(rest.is_empty());
    check(&frames, &reply.verdict, said.is_ok());
    struck_out(&frames, &recipients);
}

/// A recipient as RCPT would say him: whatever it is, no NUL.
fn recipient(path: &[u8]) -> Recipient {
    let path: Vec<u8> = path.iter().copied().filter(|octet| *octet != 0).collect();
    Recipient::new(path)
}

/// Recipients are deleted by octets that RCPT said, before any are added, and somebody is left.
fn struck_out(frames: &[Frame], recipients: &[Recipient]) {
    let of = |command| frames.iter().filter(move |frame: &&Frame| frame.command == command);
    let path = |frame: &Frame| frame.payload.strip_suffix(b"\0").expect("a NUL at the end").to_vec();
    let deleted: Vec<Vec<u8>> = of(b'-').map(path).collect();
    let added: Vec<Vec<u8>> = of(b'+').map(path).collect();
    assert!(deleted.iter().all(|path| recipients.iter().any(|recipient| recipient.path == *path)));
    assert!(added.is_empty() || !deleted.is_empty(), "nobody is added but in the place of another");
    assert!(added.iter().all(|path| path.starts_with(b"<") && path.ends_with(b">") && !path.contains(&0)));
    let left = recipients.iter().any(|recipient| !deleted.contains(&recipient.path));
    assert!(deleted.is_empty() || left || !added.is_empty(), "nobody is left");
}

/// What `settle` makes of a decision that says this.
fn settled_reply(more: u8, low: u8, text: &[u8], reason: String) -> Reply {
    use Disposition::{Accept, Defer, Mark, Quarantine, Reject};
    let sender = Address::parse(text, true).or_else(|_| Address::from_field(text, true)).ok();
    let status = KeyStatus::ALL[usize::from(low) % KeyStatus::ALL.len()];
    let found = Found::bare(status, (low & 0x80 == 0).then_some(Why::Wrong), sender);
    let mail = world::mail(&[world::ALICE], &vec![world::JUNK; usize::from(more >> 4)])
        .altered(|envelope, _| envelope.recipients = vec![Recipient::new(text)]);
    let decision = Decision {
        recipients: vec![0],
        policy: "p".into(),
        digest: String::new(),
        disposition: [Accept, Mark, Quarantine, Reject, Defer][usize::from(more & 7) % 5],
        notify: Notify { sender: low & 0x40 != 0, recipient: low & 0x20 != 0 },
        reason,
        fault: None,
        clamped: None,
        passed_over: None,
        rules_unread: None,
        shadow: None,
        by: addrauth::case::By::Site,
        mark: addrauth::case::MarkAs::Header,
        facts: Default::default(),
        settings: Default::default(),
    };
    let rules = Rules { observe: more & 8 != 0, hostname: "mx.example.net".into(), ..Rules::default() };
    let permits = Permits { report: Ok(()), refuse: more & 0x10 == 0 };
    settle(&mail, &Finding::Found(found), &[decision], &rules, &permits)
}

/// A reply as no judge of ours would make it.
fn raw_reply(more: u8, low: u8, high: u8, octets: &[u8]) -> Reply {
    let words = String::from_utf8_lossy(octets).into_owned();
    let refusal = Refusal {
        code: u16::from_be_bytes([high, low]),
        status: STATUSES[usize::from(more >> 5)],
        text: words.clone(),
    };
    let verdict = match more % 5 {
        0 => Verdict::Accept,
        1 => Verdict::Hold(words.clone()),
        2 => Verdict::Discard,
        3 => Verdict::Reject(refusal),
        _ => Verdict::Defer(refusal),
    };
    let (name, value) = words.split_once(':').unwrap_or((&words, ""));
    let (name, index) = (name.to_owned(), u32::from(low));
    let insert = Edit::Insert { index: index >> 7, name: name.clone(), value: value.to_owned() };
    let edits = vec![insert, Edit::Delete { name, index }];
    let edits = if high & 1 == 0 { edits } else { Vec::new() };
    let removed = (0..5).filter(|bit| high >> (bit + 1) & 1 == 1).collect();
    let to = octets.split(|octet| *octet == b' ').rev().find_map(|word| Address::parse(word, true).ok());
    let redirected = to.map(|to| Redirect { recipient: usize::from(low & 7), to }).into_iter().collect();
    Reply { edits, removed, redirected, ..Reply::bare(verdict) }
}

/// Whether the frames are what an MTA may be told, the last of them, and no other, the verdict.
fn check(frames: &[Frame], verdict: &Verdict, said: bool) {
    let (last, before) = frames.split_last().expect("there is always an answer");
    let verdict = if said { verdict.word() } else { "defer" };
    match (last.command, verdict) {
        (b'a', "accept" | "hold") | (b'd', "discard") => {}
        (b'y', "reject") => reply_line(last, b'5'),
        (b'y', "defer") => reply_line(last, b'4'),
        _ => panic!("{verdict} became {last:?}"),
    }
    assert!(before.is_empty() || last.command == b'a');
    assert_eq!(before.iter().filter(|frame| frame.command == b'q').count(), usize::from(verdict == "hold"));
    let order: Vec<usize> =
        before.iter().filter_map(|frame| b"mi-+q".iter().position(|c| *c == frame.command)).collect();
    assert!(order.len() == before.len() && order.is_sorted(), "{frames:?}");
    for frame in before {
        match frame.command {
            b'q' => line(&frame.payload),
            b'-' | b'+' => {}
            _ => edit(frame),
        }
    }
}

/// One line of printable ASCII without `%`, ended by the only NUL, that an SMTP reply line has room for.
fn line(payload: &[u8]) {
    let (end, line) = payload.split_last().expect("a NUL at least");
    assert_eq!(*end, 0);
    assert!(line.iter().all(|octet| matches!(octet, b' '..=b'~') && *octet != b'%'), "{}", line.escape_ascii());
    assert!(line.len() <= 510);
}

fn reply_line(frame: &Frame, class: u8) {
    line(&frame.payload);
    let [a, b, c, b' ', d, b'.', ..] = frame.payload[..] else { panic!("no reply: {}", frame.payload.escape_ascii()) };
    assert!(a == class && d == class && b.is_ascii_digit() && c.is_ascii_digit());
    assert!(!frame.payload.starts_with(b"421"), "421 ends the session of the MTA's client");
}

/// A deletion of a counted field, or a field that stays one.
fn edit(frame: &Frame) {
    let (index, rest) = frame.payload.split_first_chunk::<4>().expect("an index");
    let index = u32::from_be_bytes(*index);
    let words = strings(rest).expect("each string ends with a NUL");
    let [name, value] = words[..] else { panic!("no name and value: {}", rest.escape_ascii()) };
    assert!(!name.is_empty() && name.iter().all(|octet| octet.is_ascii_graphic() && *octet != b':'));
    match frame.command {
        b'm' => assert!(index > 0 && value.is_empty()),
        _ => {
            assert!(index <= 1 && !value.contains(&b'\r'));
            assert!(value.split(|octet| *octet == b'\n').skip(1).all(|l| matches!(l.first(), Some(b' ' | b'\t'))));
        }
    }
}
