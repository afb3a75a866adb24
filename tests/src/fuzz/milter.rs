//! Any octets as a milter conversation: no panic, no frame over the limit, no key field among the fields, one answer at most
//! for a command, and a message that is accepted only by the judge's own answer.

use std::sync::Arc;
use std::time::SystemTime;

use addrauth::case::{Mail, Reply, Verdict};
use addrauth::config::Limits;
use addrauth::mta::milter::frame::{FrameCodec, command};
use addrauth::mta::milter::session::{Act, Session};
use tokio_util::bytes::BytesMut;
use tokio_util::codec::Decoder;

/// Takes the octets frame by frame, as a connection does.
pub fn milter(octets: &[u8]) {
    let limits = Arc::new(Limits::default());
    let mut codec = FrameCodec { limit: limits.milter_frame };
    let mut session = Session::new(limits.clone());
    let mut octets = BytesMut::from(octets);
    // What the connection knows: whether a message was admitted, and whether its examination was begun.
    let (mut admitted, mut examined) = (false, false);
    while let Ok(Some(frame)) = codec.decode(&mut octets) {
        assert!(frame.payload.len() < limits.milter_frame);
        let negotiated = session.negotiated();
        let mut out = BytesMut::new();
        let Ok(act) = session.take(&frame, &mut out) else { break };
        match act {
            Act::Quit => break,
            Act::Read => {}
            Act::Admit => {
                assert!(out.is_empty() && frame.command == command::MAIL);
                (admitted, examined) = (true, false);
                session.admit(SystemTime::UNIX_EPOCH, &mut out).expect("an answer of one octet fits");
            }
            Act::Examine(mail) => {
                assert!(admitted && !examined);
                check(&mail, &limits);
                examined = true;
            }
            Act::Answer(mail) => {
                assert!(admitted && out.is_empty() && frame.command == command::END);
                // Examined exactly once: now, or before.
                assert_eq!(mail.is_some(), !examined);
                mail.iter().for_each(|mail| check(mail, &limits));
                let reply = Reply {
                    verdict: Verdict::Discard,
                    edits: vec![],
                    removed: vec![],
                    redirected: vec![],
                    owed: vec![],
                };
                session.answer(&reply, &mut out).expect("a discard is always offered");
                admitted = false;
            }
            Act::Abandon => admitted = false,
        }
        heard(&mut codec, out, negotiated, matches!(frame.command, command::END));
    }
}

/// What was written: at most one frame, and before our own discard nothing that ends a message but a refusal.
fn heard(codec: &mut FrameCodec, mut out: BytesMut, negotiated: bool, end: bool) {
    let Some(answer) = codec.decode(&mut out).expect("our own frames are whole") else {
        assert!(out.is_empty() && !end, "the end of a message is always answered");
        return;
    };
    assert!(out.is_empty(), "two answers to one command");
    match answer.command {
        b'O' => assert!(!negotiated),
        b'd' => assert!(end),
        b'y' => assert!(answer.payload.starts_with(b"451 4.3.")),
        b'c' | b's' => assert!(!end),
        other => panic!("answered with {}", other.escape_ascii()),
    }
}

fn check(mail: &Mail, limits: &Limits) {
    let count = |name| mail.named(name).count();
    assert_eq!(count("X-Auth-Key") + count("X-New-Auth-Key"), 0);
    assert!(mail.keys.len() + count("X-Auth-Key-Status") <= limits.key_fields);
    assert!(
        mail.fields.len() <= limits.header_fields + limits.key_fields && mail.recipients.len() <= limits.recipients
    );
    assert!(mail.fields.iter().all(|field| !field.value.contains(&0)));
}
