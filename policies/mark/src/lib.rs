//! Delivers the message, marked as suspicious.

use addrauth_policy::{Decision, Description, Facts, Policy, Settings, mark};

/// The policy.
#[derive(Debug)]
pub struct Mark;

impl Policy for Mark {
    fn describe() -> Description {
        Description::new("mark", env!("CARGO_PKG_VERSION"), "Delivers the message, marked as suspicious.")
    }

    fn decide(_: &Facts, _: &Settings) -> Decision {
        mark("the sender's domain does not vouch for this message")
    }
}

addrauth_policy::export!(Mark);

#[cfg(test)]
mod tests {
    use addrauth_policy::{Disposition, KeyStatus, Notify};

    use super::*;

    #[test]
    fn everything_is_marked() {
        let decision = Mark::decide(&Facts::of(KeyStatus::Invalid), &Settings::default());
        assert_eq!((decision.disposition, decision.notify), (Disposition::Mark, Notify::empty()));
    }
}
