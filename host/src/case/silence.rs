//! Dropping mail and telling nobody: what it is, and when a policy may.

use super::{Decision, Disposition, KeyStatus, Notify, ReversePath, Why};

/// Whether this drops a message and tells nobody.
pub fn is_silent_drop(disposition: Disposition, notify: Notify) -> bool {
    disposition == Disposition::Reject && notify == Notify::default()
}

/// Restrains a policy's wish for a message with this result: it may drop silently only a message with a key that the sender's
/// own AS calls wrong. For any other the sender is told.
pub fn restrained(status: KeyStatus, why: Option<Why>, disposition: Disposition, notify: Notify) -> Notify {
    let proven = status == KeyStatus::Invalid && why == Some(Why::Wrong);
    Notify { sender: notify.sender || is_silent_drop(disposition, notify) && !proven, ..notify }
}

impl Decision {
    /// Whether the message is dropped without a word to its sender. That includes one whose sender was to be told and has the
    /// null reverse-path.
    pub fn hides_from_sender(&self, reverse_path: &ReversePath) -> bool {
        self.disposition == Disposition::Reject && (!self.notify.sender || *reverse_path == ReversePath::Null)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_drops_silently_what_is_not_proven_wrong() {
        let all =
            [Disposition::Accept, Disposition::Mark, Disposition::Quarantine, Disposition::Reject, Disposition::Defer];
        let whys = [None, Some(Why::Wrong), Some(Why::Expired), Some(Why::Timeout), Some(Why::NoAddress)];
        for status in KeyStatus::ALL {
            for (why, disposition) in whys.into_iter().flat_map(|why| all.map(|disposition| (why, disposition))) {
                for (sender, recipient) in [(false, false), (false, true), (true, false), (true, true)] {
                    let wished = Notify { sender, recipient };
                    let told = restrained(status, why, disposition, wished);
                    let proven = status == KeyStatus::Invalid && why == Some(Why::Wrong);
                    let held_back = disposition == Disposition::Reject && !sender && !recipient && !proven;
                    assert_eq!(told, Notify { sender: sender || held_back, recipient }, "{status:?} {why:?}");
                    assert!(proven || !is_silent_drop(disposition, told));
                }
            }
        }
    }
}
