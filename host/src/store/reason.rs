//! Why a message is kept: who decided so, upon what, and in which words; one text in the table.

use std::fmt;

use crate::case::{KeyStatus, Why};

/// What goes before the reason of a copy, so that one that could not be delivered is not taken for something that was kept back.
const COPY: &str = "owed copy: ";
/// What stands between the parts.
const BETWEEN: &str = ": ";

/// Why a message is kept, as lists show it: `POLICY: RESULT (WHY): its own words`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reason(String);

/// What a policy decided upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upon {
    /// A result, and why.
    Found(KeyStatus, Option<Why>),
    /// The way the message went, or nothing: a word for people.
    Other(&'static str),
}

impl Reason {
    /// The reason of a message that a policy keeps, by its name and its own words (which may be empty), or that is kept
    /// without a policy.
    pub fn new(policy: Option<(&str, &str)>, upon: Upon) -> Reason {
        Reason(match policy {
            Some((name, "")) => format!("{name}{BETWEEN}{upon}"),
            Some((name, words)) => format!("{name}{BETWEEN}{upon}{BETWEEN}{words}"),
            None => upon.to_string(),
        })
    }

    /// The same for a copy that goes out at once.
    pub fn of_copy(self) -> Reason {
        Reason(COPY.to_owned() + &self.0)
    }

    /// A reason as the table has it.
    pub fn written(text: String) -> Reason {
        Reason(text)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the sender's own domain denied the message: its Authentication Server does not know the key.
    pub fn is_wrong(&self) -> bool {
        let wrong = Upon::Found(KeyStatus::Invalid, Some(Why::Wrong)).to_string();
        let reason = self.0.strip_prefix(COPY).unwrap_or(&self.0);
        // A policy's name has no blank, so it is none of these words; what it says itself comes behind the second part.
        reason.split(BETWEEN).take(2).any(|part| part == wrong)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Upon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Upon::Found(status, Some(why)) => write!(f, "{} ({})", status.word(), why.word()),
            Upon::Found(status, None) => f.write_str(status.word()),
            Upon::Other(word) => f.write_str(word),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_tells_whether_the_senders_domain_denied_the_message_and_a_policys_own_words_do_not() {
        let (wrong, late) = (Upon::Found(KeyStatus::Invalid, Some(Why::Wrong)), Some(Why::Expired));
        let late = Upon::Found(KeyStatus::Invalid, late);
        let cases = [
            (Reason::new(Some(("quarantine", "")), wrong), "quarantine: invalid (wrong)", true),
            (Reason::new(Some(("own", "no: never")), wrong), "own: invalid (wrong): no: never", true),
            (Reason::new(Some(("own", "x")), wrong).of_copy(), "owed copy: own: invalid (wrong): x", true),
            (Reason::new(None, wrong), "invalid (wrong)", true),
            (Reason::new(Some(("own", "invalid (wrong)")), late), "own: invalid (expired): invalid (wrong)", false),
            (Reason::new(Some(("own", "")), Upon::Found(KeyStatus::Missing, None)), "own: missing", false),
            (
                Reason::new(Some(("own", "invalid (wrong)")), Upon::Other("outbound")),
                "own: outbound: invalid (wrong)",
                false,
            ),
            (Reason::new(None, Upon::Other("")), "", false),
        ];
        for (reason, text, is_wrong) in cases {
            assert_eq!((reason.as_str(), reason.is_wrong()), (text, is_wrong));
            assert_eq!(Reason::written(text.into()), reason);
        }
    }
}
