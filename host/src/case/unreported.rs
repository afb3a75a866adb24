//! Why a sender who is to be told of a message gets no report.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why no report goes to the reverse-path. [`Display`](fmt::Display) says it in the journal's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Unreported {
    /// The message has the null reverse-path.
    NullPath,
    /// The reverse-path is no address.
    BadPath,
    /// The reverse-path belongs to a list, a program or ourselves.
    AutomaticPath,
    /// The message is list, bulk or automatic mail.
    Bulk,
    /// Nothing vouches for the reverse-path's domain (guard B).
    Unvouched,
    /// Another message of this sender has the one report that may go out in `limits.outbox.report_pair`.
    Taken,
    /// A report went to this sender within `limits.outbox.report_pair`.
    Recent,
    /// As many mails wait to be sent as may.
    Full,
    /// The outbox cannot be read.
    Unreadable,
    /// The sender asked for no report about this recipient (RFC 3461 `NOTIFY=NEVER`).
    Never,
    /// A relay of ours brought the message, and nothing that a relay brings is refused.
    Relay,
    /// The server that brought the message tells the sender.
    OwnServer,
    /// Nothing is decided about the message.
    Undecided,
    /// There is no custody that a report could be kept in.
    NobodyKeeps,
    /// The whole message is held, since no copy can be made of it: nobody is told what becomes of it yet.
    HeldWhole,
}

impl Unreported {
    /// All of them.
    pub const ALL: [Unreported; 15] = [
        Unreported::NullPath,
        Unreported::BadPath,
        Unreported::AutomaticPath,
        Unreported::Bulk,
        Unreported::Unvouched,
        Unreported::Taken,
        Unreported::Recent,
        Unreported::Full,
        Unreported::Unreadable,
        Unreported::Never,
        Unreported::Relay,
        Unreported::OwnServer,
        Unreported::Undecided,
        Unreported::NobodyKeeps,
        Unreported::HeldWhole,
    ];

    /// The note of a journal row about it.
    pub fn note(self) -> String {
        format!("{NOTE}{self}")
    }
}

/// The beginning of [`Unreported::note`].
const NOTE: &str = "no report to the sender: ";

/// The reason in a journal row's note; a row older than [`Reply::unreported`](super::Reply::unreported) says it nowhere else.
pub fn unreported_in(note: &str) -> Option<&str> {
    note.split("; ").find_map(|note| note.strip_prefix(NOTE))
}

impl fmt::Display for Unreported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unreported::NullPath => "the message has the null reverse-path",
            Unreported::BadPath => "the reverse-path is no address",
            Unreported::AutomaticPath => "the reverse-path belongs to a list, a programme or ourselves",
            Unreported::Bulk => "the message is list, bulk or automatic mail",
            Unreported::Unvouched => "neither SPF nor an aligned DKIM signature vouches for the reverse-path's domain",
            Unreported::Taken => "the sender may have one report in an hour, and it is taken",
            Unreported::Recent => "the sender had a report within the hour",
            Unreported::Full => "as many mails wait to be sent as may",
            Unreported::Unreadable => "the outbox cannot be read",
            Unreported::Never => "the sender asked for none",
            Unreported::Relay => "a relay of ours brought the message, and the sender may be innocent of it",
            Unreported::OwnServer => "the server that brought the message tells the sender",
            Unreported::Undecided => "nothing is decided",
            Unreported::NobodyKeeps => "nobody keeps what a report needs",
            Unreported::HeldWhole => "the whole message is held, since no copy can be made of it",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_reason_has_words_of_its_own_that_a_note_gives_back() {
        let mut told = BTreeSet::new();
        for why in Unreported::ALL {
            let words = why.to_string();
            assert!(!words.contains("; "), "{words}: it would end the note");
            let note = format!("kept in quarantine as 4; {}; and more", why.note());
            assert_eq!(unreported_in(&note), Some(words.as_str()));
            let json = serde_json::to_string(&why).unwrap();
            assert_eq!(serde_json::from_str::<Unreported>(&json).unwrap(), why);
            assert!(told.insert(words) && told.insert(json), "{why:?}");
        }
        assert_eq!(unreported_in("kept in quarantine as 4"), None);
    }
}
