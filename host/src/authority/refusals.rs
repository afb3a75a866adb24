//! How often in a row a key's mail was refused for good, as the note of its post keeps it.

use std::fmt;
use std::str::FromStr;

/// Refusals for good in a row after which a key is given up, an hour and a half: a slip in the MTA's settings ("Relay access
/// denied") refuses every key alike, and is mended by then.
const MOST: u32 = 10;

/// The refusals for good of one key, in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusals {
    /// How many there were.
    count: u32,
    /// What the MTA said the last time.
    text: String,
}

/// A note that tells of no refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoRefusal;

impl Refusals {
    /// One more than the note tells of.
    pub(super) fn after(note: Option<&str>, text: &str) -> Refusals {
        let before = note.and_then(|note| note.parse::<Refusals>().ok()).map_or(0, |before| before.count);
        Refusals { count: before.saturating_add(1), text: text.to_owned() }
    }

    /// Whether the key is given up.
    pub(super) fn are_enough(&self) -> bool {
        self.count >= MOST
    }
}

impl fmt::Display for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "refused, {} of {MOST} times: {}", self.count, self.text)
    }
}

impl FromStr for Refusals {
    type Err = NoRefusal;

    fn from_str(note: &str) -> Result<Refusals, NoRefusal> {
        let (count, rest) = note.strip_prefix("refused, ").and_then(|rest| rest.split_once(" of ")).ok_or(NoRefusal)?;
        let text = rest.split_once(" times: ").map_or("", |(_, text)| text);
        Ok(Refusals { count: count.parse().map_err(|_| NoRefusal)?, text: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_count_on_from_their_note_and_begin_anew_after_any_other() {
        let mut note = None;
        for count in 1..=MOST {
            let refusals = Refusals::after(note.as_deref(), "554 5.7.1 no: 3 of 4 times: never");
            assert_eq!((refusals.count, refusals.are_enough()), (count, count == MOST));
            assert_eq!(refusals.to_string().parse(), Ok(refusals.clone()));
            note = Some(refusals.to_string());
        }
        assert_eq!(note.as_deref(), Some("refused, 10 of 10 times: 554 5.7.1 no: 3 of 4 times: never"));
        for other in
            ["", "the server is silent", "refused, x of 10 times: no", "refused, 3", "Refused, 3 of 10 times: x"]
        {
            assert_eq!(other.parse::<Refusals>(), Err(NoRefusal), "{other}");
            assert_eq!(Refusals::after(Some(other), "no").count, 1);
        }
    }

    #[test]
    fn a_note_that_was_cut_short_still_counts() {
        assert_eq!(Refusals::after(Some("refused, 3 of 1"), "no").count, 4);
    }
}
