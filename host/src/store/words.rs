//! The words that the tables keep, as the enums that the rows show: one table of words for each.

use std::fmt;

use crate::case::{KeyStatus, Learned, Verdict};

/// A word in a table that this version does not know: a newer version wrote it, or a hand.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{word:?} is no {what} that this version knows")]
pub struct UnknownWord {
    /// What it should be.
    pub what: &'static str,
    /// The word.
    pub word: String,
}

/// What a mail of ours is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// Tells a recipient of one message.
    Notice,
    /// Tells a user that its own rules cannot be read.
    RulesUnread,
    /// Tells a recipient of several.
    Digest,
    /// Tells a sender that his message was not delivered (RFC 3464).
    Report,
    /// A message that was kept back, let go.
    Release,
    /// A marked copy of a message that others got without the mark.
    Copy,
}

impl Kind {
    pub(super) const ALL: [Kind; 6] =
        [Kind::Notice, Kind::RulesUnread, Kind::Digest, Kind::Report, Kind::Release, Kind::Copy];

    /// The word of the table, the log and the journal's note.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Notice => "notice",
            Kind::RulesUnread => "rules-unread",
            Kind::Digest => "digest",
            Kind::Report => "report",
            Kind::Release => "release",
            Kind::Copy => "copy",
        }
    }

    pub(super) fn of_word(word: &str) -> Result<Kind, UnknownWord> {
        let known = Kind::ALL.into_iter().find(|kind| kind.word() == word);
        known.ok_or_else(|| UnknownWord { what: "kind of mail", word: word.to_owned() })
    }
}

/// How a mail of ours ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sending {
    /// The mail server took it.
    Sent,
    /// It was taken back before it was sent.
    Deleted,
    /// It was given up, and why.
    GivenUp(String),
}

impl Sending {
    /// The words of the table: `sent`, `deleted`, or why it was given up.
    pub fn words(&self) -> &str {
        match self {
            Sending::Sent => "sent",
            Sending::Deleted => "deleted",
            Sending::GivenUp(why) => why,
        }
    }

    pub(super) fn of_words(words: String) -> Sending {
        let told = [Sending::Sent, Sending::Deleted].into_iter().find(|told| told.words() == words);
        told.unwrap_or(Sending::GivenUp(words))
    }
}

/// What became of a kept message for one recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ending {
    /// It was let go.
    Released,
    /// It went out at once, as a copy of the recipient's own.
    Copied,
    /// It was deleted.
    Deleted,
    /// Its time ran out.
    Expired,
}

impl Ending {
    const ALL: [Ending; 4] = [Ending::Released, Ending::Copied, Ending::Deleted, Ending::Expired];

    /// The word of the table, of lists and of JSON.
    pub fn word(self) -> &'static str {
        match self {
            Ending::Released => "released",
            Ending::Copied => "copied",
            Ending::Deleted => "deleted",
            Ending::Expired => "expired",
        }
    }

    pub(super) fn of_word(word: &str) -> Result<Ending, UnknownWord> {
        let known = Ending::ALL.into_iter().find(|ending| ending.word() == word);
        known.ok_or_else(|| UnknownWord { what: "end of a kept message", word: word.to_owned() })
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// What a journal row says was found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RowResult {
    /// One of the six results.
    Judged(KeyStatus),
    /// It was not ours to judge.
    Passing,
    /// A login or trusted submitter of ours sent it.
    Submitted,
    /// It could not be judged when it came.
    Postponed,
    /// Its recipients could not be told apart.
    Unclear,
    /// The row stands in for that of a message which was in quarantine for longer than the journal is kept.
    Quarantined,
    /// A word that this version does not know.
    Unknown(String),
}

impl RowResult {
    const OTHERS: [RowResult; 5] =
        [RowResult::Passing, RowResult::Submitted, RowResult::Postponed, RowResult::Unclear, RowResult::Quarantined];

    /// The word of the table, of lists and of JSON.
    pub fn word(&self) -> &str {
        match self {
            RowResult::Judged(status) => status.word(),
            RowResult::Passing => "passing",
            RowResult::Submitted => "submitted",
            RowResult::Postponed => "postponed",
            RowResult::Unclear => "unclear",
            RowResult::Quarantined => "quarantined",
            RowResult::Unknown(word) => word,
        }
    }

    /// What a word means; one that this version does not know stays as it is.
    pub fn of_word(word: &str) -> RowResult {
        let known = RowResult::known().find(|known| known.word() == word);
        known.unwrap_or_else(|| RowResult::Unknown(word.to_owned()))
    }

    /// Every result that this version knows.
    pub fn known() -> impl Iterator<Item = RowResult> {
        KeyStatus::ALL.into_iter().map(RowResult::Judged).chain(RowResult::OTHERS)
    }
}

/// What a journal row says the mail server was told.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RowVerdict {
    /// It delivers the message.
    Accept,
    /// It keeps the message in its own quarantine.
    Hold,
    /// It takes the message and delivers it to nobody.
    Discard,
    /// It refuses the message for good.
    Reject,
    /// It refuses the message for now.
    Defer,
    /// A word that this version does not know.
    Unknown(String),
}

impl RowVerdict {
    const ALL: [RowVerdict; 5] =
        [RowVerdict::Accept, RowVerdict::Hold, RowVerdict::Discard, RowVerdict::Reject, RowVerdict::Defer];

    /// The word of the table, of lists and of JSON.
    pub fn word(&self) -> &str {
        match self {
            RowVerdict::Accept => "accept",
            RowVerdict::Hold => "hold",
            RowVerdict::Discard => "discard",
            RowVerdict::Reject => "reject",
            RowVerdict::Defer => "defer",
            RowVerdict::Unknown(word) => word,
        }
    }

    /// What a word means; one that this version does not know stays as it is.
    pub fn of_word(word: &str) -> RowVerdict {
        let known = RowVerdict::ALL.into_iter().find(|known| known.word() == word);
        known.unwrap_or_else(|| RowVerdict::Unknown(word.to_owned()))
    }
}

impl From<&Verdict> for RowVerdict {
    fn from(verdict: &Verdict) -> RowVerdict {
        match verdict {
            Verdict::Accept => RowVerdict::Accept,
            Verdict::Hold(_) => RowVerdict::Hold,
            Verdict::Discard => RowVerdict::Discard,
            Verdict::Reject(_) => RowVerdict::Reject,
            Verdict::Defer(_) => RowVerdict::Defer,
        }
    }
}

/// How the way of a new key to its address ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PostEnd {
    /// The mail server took the mail with it.
    Sent,
    /// It is in the keyring.
    Stored,
    /// It was revoked before.
    Revoked,
    /// It ended before.
    Expired,
    /// The keyring does not take it, and why.
    NotStored(Learned),
    /// It was given up, and why.
    GivenUp(String),
    /// Words that this version does not know.
    Unknown(String),
}

impl PostEnd {
    const PLAIN: [PostEnd; 4] = [PostEnd::Sent, PostEnd::Stored, PostEnd::Revoked, PostEnd::Expired];
    const NOT_STORED: &str = "not stored: ";
    const GIVEN_UP: &str = "given up: ";

    /// What the words of the table mean; those that this version does not know stay as they are.
    pub(super) fn of_words(words: &str) -> PostEnd {
        if let Some(plain) = PostEnd::PLAIN.into_iter().find(|plain| plain.to_string() == words) {
            return plain;
        }
        if let Some(why) = words.strip_prefix(PostEnd::GIVEN_UP) {
            return PostEnd::GivenUp(why.to_owned());
        }
        let learned = words.strip_prefix(PostEnd::NOT_STORED);
        let learned = learned.and_then(|word| Learned::ALL.into_iter().find(|learned| learned.word() == word));
        learned.map_or_else(|| PostEnd::Unknown(words.to_owned()), PostEnd::NotStored)
    }
}

/// The words of the table, of lists and of JSON.
impl fmt::Display for PostEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PostEnd::Sent => f.write_str("sent"),
            PostEnd::Stored => f.write_str("stored"),
            PostEnd::Revoked => f.write_str("revoked"),
            PostEnd::Expired => f.write_str("expired"),
            PostEnd::NotStored(learned) => write!(f, "{}{}", PostEnd::NOT_STORED, learned.word()),
            PostEnd::GivenUp(why) => write!(f, "{}{why}", PostEnd::GIVEN_UP),
            PostEnd::Unknown(words) => f.write_str(words),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_a_row_are_read_as_what_wrote_them_and_an_unknown_one_stays_as_it_is() {
        for result in KeyStatus::ALL.map(RowResult::Judged).into_iter().chain(RowResult::OTHERS) {
            assert_eq!(RowResult::of_word(result.word()), result);
        }
        for verdict in RowVerdict::ALL {
            assert_eq!(RowVerdict::of_word(verdict.word()), verdict);
        }
        let told = Learned::ALL.into_iter().map(PostEnd::NotStored).chain([PostEnd::GivenUp("550 no: x".into())]);
        for end in PostEnd::PLAIN.into_iter().chain(told) {
            assert_eq!(PostEnd::of_words(&end.to_string()), end);
        }
        for unknown in ["", "Valid", "doubtful", "not stored: whatever"] {
            assert_eq!(RowResult::of_word(unknown), RowResult::Unknown(unknown.into()));
            assert_eq!(RowVerdict::of_word(unknown), RowVerdict::Unknown(unknown.into()));
            assert_eq!(PostEnd::of_words(unknown), PostEnd::Unknown(unknown.into()));
        }
        assert_eq!((RowResult::of_word("doubtful").word(), RowVerdict::of_word("x").word()), ("doubtful", "x"));
        assert_eq!(PostEnd::of_words("lost").to_string(), "lost");
    }

    #[test]
    fn each_word_is_read_as_what_wrote_it_and_an_unknown_one_says_so() {
        for kind in Kind::ALL {
            assert_eq!(Kind::of_word(kind.word()), Ok(kind));
        }
        for ending in Ending::ALL {
            assert_eq!(Ending::of_word(ending.word()), Ok(ending));
        }
        for sending in [Sending::Sent, Sending::Deleted, Sending::GivenUp("550 no".into())] {
            assert_eq!(Sending::of_words(sending.words().to_owned()), sending);
        }
        let told = Kind::of_word("telegram").unwrap_err();
        assert_eq!(told.to_string(), "\"telegram\" is no kind of mail that this version knows");
        assert!(Ending::of_word("Released").is_err());
    }
}
