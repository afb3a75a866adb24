//! Any octets as a milter conversation: no panic, no frame over the limit, no key field among the fields, one answer at most
//! for a command, and a message that is accepted only by the judge's own answer.

use std::sync::Arc;
use std::time::SystemTime;

use addrauth::case::{Envelope, Head, Mail, Reply, Verdict};
use addrauth::config::Limits;
use addrauth::mta::Refused;
use addrauth::mta::milter::frame::{Cutter, command};
use addrauth::mta::milter::session::{Act, Session};
use tokio_util::bytes::BytesMut;

/// Takes the octets frame by frame, as a connection does.
pub fn milter(octets: &[u8]) {
    let limits = Arc::new(Limits::default());
    let mut cutter = Cutter::new(limits.mta.frame);
    // Recipients are told apart for half of all conversations; what a driver finds out later hangs on each frame's length.
    let splits = octets.len() & 1 == 1;
    let mut session = Session::new(limits.clone(), splits);
    let mut octets = octets;
    // What the connection knows: whether a message was admitted, whether its examination was begun, and the body wanted.
    let (mut admitted, mut examined, mut wanted) = (false, false, false);
    while let Ok(Some(frame)) = cutter.next(&mut octets) {
        assert!(frame.payload.len() < limits.mta.frame);
        let negotiated = session.negotiated();
        let mut out = BytesMut::new();
        let Ok(act) = session.take(&frame, &mut out) else { break };
        match act {
            Act::Quit => break,
            Act::Read => {}
            Act::Admit => {
                assert!(out.is_empty() && frame.command == command::MAIL);
                (admitted, examined, wanted) = (true, false, false);
                session.admit(SystemTime::UNIX_EPOCH, &mut out).expect("an answer of one octet fits");
            }
            Act::Compare(both) => {
                assert!(admitted && !examined && out.is_empty() && frame.command == command::RCPT);
                session.join(both[1].path.len() & 1 == 0, &mut out).expect("one waits to join");
            }
            Act::Examine(mail) => {
                assert!(admitted && !examined && out.is_empty());
                check(&mail, &limits);
                examined = true;
                wanted = frame.payload.len() & 1 == 1;
                admitted = frame.payload.len() & 6 != 6;
                match admitted {
                    true => session.read_body(wanted, &mut out).expect("an answer of one octet fits"),
                    false => session.refuse(Refused::Body(0).into(), &mut out),
                }
            }
            Act::Collect => {
                assert!(admitted && examined && wanted && out.is_empty() && frame.command == command::BODY);
                session.read_body(true, &mut out).expect("an answer of one octet fits");
            }
            Act::Answer(mail) => {
                assert!(admitted && out.is_empty() && frame.command == command::END);
                // Examined exactly once: now, or before.
                assert_eq!(mail.is_some(), !examined);
                mail.iter().for_each(|mail| check(mail, &limits));
                let mail = Mail::new(Envelope::default(), Head::default());
                session.answer(&Reply::bare(Verdict::Discard), &mail, &mut out).expect("a discard is always offered");
                admitted = false;
            }
            Act::Abandon => admitted = false,
        }
        heard(&out, negotiated, matches!(frame.command, command::END));
    }
}

/// What was written: at most one frame, and before our own discard nothing that ends a message but a refusal.
fn heard(mut out: &[u8], negotiated: bool, end: bool) {
    let Some(answer) = Cutter::new(1 << 20).next(&mut out).expect("our own frames are whole") else {
        assert!(out.is_empty() && !end, "the end of a message is always answered");
        return;
    };
    assert!(out.is_empty(), "two answers to one command");
    match answer.command {
        b'O' => assert!(!negotiated),
        b'd' => assert!(end),
        b'y' => {
            let text = String::from_utf8_lossy(&answer.payload).into_owned();
            let fault = ["451 4.3.", "554 5.", "552 5.3.4 "].iter().any(|begin| text.starts_with(begin));
            assert!(fault || !end && text.starts_with("452 4.5.3 "), "{text}");
        }
        b'c' | b's' => assert!(!end),
        other => panic!("answered with {}", other.escape_ascii()),
    }
}

fn check(mail: &Mail, limits: &Limits) {
    let count = |name| mail.named(name).count();
    assert_eq!(count("X-Auth-Key") + count("X-New-Auth-Key"), 0);
    assert!(mail.head().keys.len() + count("X-Auth-Key-Status") <= limits.mta.key_fields);
    assert!(
        mail.head().fields.len() <= limits.mta.header_fields + limits.mta.key_fields
            && mail.recipients.len() <= limits.mta.recipients
    );
    // A value ends at its first NUL, but with a Stalwart, which delivers it whole.
    assert!(mail.daemon == "Stalwart" || mail.head().fields.iter().all(|field| !field.value.contains(&0)));
}
