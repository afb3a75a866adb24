//! The decision of a line: what happens, who is told, and why.

use addrauth_policy::{Disposition, Notify};

use crate::fault::Wrong;
use crate::line::{Failed, Line, Token};

/// What the filter keeps of a reason.
const REASON: usize = 400;

const DECISIONS: &[&str] = &["accept", "mark", "quarantine", "reject", "defer"];

/// A decision as it is written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Said<'a> {
    pub(crate) disposition: Disposition,
    pub(crate) notify: Notify,
    pub(crate) reason: Option<&'a str>,
}

/// `reject, tell the sender "why"`, up to the end of the line.
pub(crate) fn decision<'a>(line: &mut Line<'a>) -> Result<Said<'a>, Failed> {
    let start = line.start();
    let disposition = match line.token()? {
        Token::Word("accept") => Disposition::Accept,
        Token::Word("mark") => Disposition::Mark,
        Token::Word("quarantine") => Disposition::Quarantine,
        Token::Word("reject") => Disposition::Reject,
        Token::Word("defer") => Disposition::Defer,
        other => return line.unknown(start, other, "decision", DECISIONS),
    };
    let mut comma = line.takes_mark(b',');
    let at = line.start();
    let told = if line.takes("tell") { Some(told(line)?) } else { None };
    match (disposition, told) {
        (Disposition::Reject, None) => {
            let text =
                "say who hears of it: `reject, tell the sender`, `tell the recipient`, `tell both` or `tell nobody`";
            return line.fail(start, Wrong::Text(text));
        }
        (Disposition::Quarantine, Some(who)) if who.contains(Notify::SENDER) => {
            let text = "the sender cannot be told of mail that is kept back: `tell the recipient`, or nobody";
            return line.fail(at, Wrong::Text(text));
        }
        (Disposition::Accept | Disposition::Mark | Disposition::Defer, Some(_)) => {
            let text = "nobody is told of mail that is delivered or comes again: leave `tell` out";
            return line.fail(at, Wrong::Text(text));
        }
        _ => {}
    }
    if told.is_some() {
        comma = line.takes_mark(b',');
    }
    let at = line.start();
    let reason = match line.token()? {
        Token::End if !comma => None,
        Token::End => return line.fail(at, Wrong::Text("nothing after the comma")),
        Token::Quoted(reason) => {
            let good = |octet: u8| matches!(octet, b' '..=b'~') && octet != b'%';
            if reason.is_empty() || reason.len() > REASON || !reason.bytes().all(good) {
                let text = "a reason has 1 to 400 characters of ASCII, none of them %";
                return line.fail(at, Wrong::Text(text));
            }
            Some(reason)
        }
        other => {
            let possible: &[&str] = match (told, disposition) {
                (None, Disposition::Quarantine) => &["tell the recipient", "a reason in quotes", "the end of the line"],
                _ => &["a reason in quotes", "the end of the line"],
            };
            return line.unknown(at, other, "part of a decision", possible);
        }
    };
    if reason.is_some() {
        let at = line.start();
        // A quote may be closed by its own apostrophe, and what follows need not be a token.
        if !matches!(line.token(), Ok(Token::End)) {
            let text = "nothing follows a reason; one with ' in it stands in \"double quotes\"";
            return line.fail(at, Wrong::Text(text));
        }
    }
    Ok(Said { disposition, notify: told.unwrap_or(Notify::empty()), reason })
}

/// `the sender`, `the recipient`, `both`, `nobody`.
fn told<'a>(line: &mut Line<'a>) -> Result<Notify, Failed> {
    line.takes("the");
    let at = line.start();
    match line.token()? {
        Token::Word("sender") => Ok(Notify::SENDER),
        Token::Word("recipient") => Ok(Notify::RECIPIENT),
        Token::Word("both") => Ok(Notify::SENDER | Notify::RECIPIENT),
        Token::Word("nobody") => Ok(Notify::empty()),
        other => {
            let possible = &["the sender", "the recipient", "both", "nobody"];
            line.unknown(at, other, "one who can be told", possible)
        }
    }
}
