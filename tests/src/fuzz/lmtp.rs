//! Conversations at the LMTP door: the first octet says in which pieces they come, the others are what the MTA says.

use std::time::SystemTime;

use addrauth::config::Limits;
use addrauth::mta::lmtp::dots::Stuffed;
use addrauth::mta::lmtp::offers::Offers;
use addrauth::mta::lmtp::session::{Act, Session};

/// Any octets are a conversation that comes to an end. Each message that is over is answered once for each of its recipients; what
/// was examined has its header and its body in the order in which they came; no message is refused for good.
pub fn lmtp(octets: &[u8]) {
    let (size, said) = octets.split_first().map_or((1, octets), |(size, said)| (1 + usize::from(*size), said));
    let limits = Limits::default();
    let mut session = Session::new(&limits);
    let (mut out, mut window, mut at) = (Vec::new(), b"LHLO fuzz\r\n".to_vec(), 0);
    let offers = ["x", "8BITMIME", "SMTPUTF8", "CHUNKING", "BINARYMIME", "DSN", "SIZE"].map(str::as_bytes);
    let (mut admitted, mut examined, mut answered) = (false, false, 0);
    for _ in 0..said.len() * 4 + 1_000 {
        let (used, act) = session.take(&window, &mut out);
        assert!(used <= window.len());
        window.drain(..used);
        match act {
            Act::Wait => {
                if at == said.len() {
                    check(&out, answered);
                    return;
                }
                let end = said.len().min(at + size);
                window.extend_from_slice(&said[at..end]);
                at = end;
            }
            Act::Said => {}
            Act::Greet => {
                session.greet("here", &Offers::read(offers), &mut out);
                (admitted, examined) = (false, false);
            }
            Act::Admit => {
                assert!(!admitted);
                admitted = true;
                session.admit(SystemTime::UNIX_EPOCH, &mut out);
            }
            Act::Examine(mail) => {
                assert!(admitted && !examined && mail.recipients.len() == session.recipients());
                examined = true;
                let cut = session.header().expect("a header");
                let header = cut.with(&[]).expect("nothing is changed");
                assert_eq!(header.len(), cut.end());
                session.piece();
            }
            Act::Fail(_) => examined = true,
            Act::Piece => {
                assert!(examined);
                // What goes out behind DATA is text without another end in it, or nothing.
                let mut wire = Vec::new();
                if Stuffed::default().write(&session.piece(), &mut wire).is_ok() {
                    assert!(!wire.windows(5).any(|end| end == b"\r\n.\r\n") && !wire.starts_with(b".\r\n"));
                }
            }
            Act::End => {
                assert!(examined);
                let recipients = session.recipients();
                answered += recipients;
                session.answer(std::iter::repeat_n(&b"250 2.0.0 Ended"[..], recipients), &mut out);
                (admitted, examined) = (false, false);
            }
            Act::Abandon => (admitted, examined) = (false, false),
            Act::Quit => {
                check(&out, answered);
                return;
            }
        }
    }
    panic!("it comes to no end");
}

/// What was said are reply lines.
fn check(out: &[u8], answered: usize) {
    let text = std::str::from_utf8(out).expect("replies are text");
    assert!(text.is_empty() || text.ends_with("\r\n"));
    for line in text.split_terminator("\r\n") {
        let code = line.get(..3).is_some_and(|code| code.bytes().all(|octet| octet.is_ascii_digit()));
        assert!(code && !line.contains(['\r', '\n']) && line.len() < 510, "{line:?}");
    }
    assert_eq!(text.matches("250 2.0.0 Ended\r\n").count(), answered);
}
