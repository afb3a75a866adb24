//! The words that the tables keep, as the enums that the rows show: one table of words for each.

use std::fmt;

/// A word in a table that this version does not know: a newer version wrote it, or a hand.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{word:?} is no {what} that this version knows")]
pub struct UnknownWord {
    /// What it should be.
    pub what: &'static str,
    /// The word.
    pub word: String,
}

impl From<UnknownWord> for sqlx::Error {
    fn from(unknown: UnknownWord) -> sqlx::Error {
        sqlx::Error::Decode(Box::new(unknown))
    }
}

/// What a mail of ours is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// Tells a recipient of one message.
    Notice,
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
    pub(super) const ALL: [Kind; 5] = [Kind::Notice, Kind::Digest, Kind::Report, Kind::Release, Kind::Copy];

    /// The word of the table, the log and the journal's note.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Notice => "notice",
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

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(matches!(sqlx::Error::from(told), sqlx::Error::Decode(_)));
    }
}
