//! Keeps the message back for the postmaster to look at.

use addrauth_policy::{Decision, Description, Facts, Policy, Settings, quarantine};

/// The policy.
#[derive(Debug)]
pub struct Quarantine;

impl Policy for Quarantine {
    fn describe() -> Description {
        Description::new(
            "quarantine",
            env!("CARGO_PKG_VERSION"),
            "Keeps the message back for the postmaster to look at.",
        )
    }

    fn decide(_: &Facts, _: &Settings) -> Decision {
        quarantine("the sender's domain does not vouch for this message")
    }
}

addrauth_policy::export!(Quarantine);

#[cfg(test)]
mod tests {
    use addrauth_policy::{Disposition, KeyStatus, Notify};

    use super::*;

    #[test]
    fn everything_is_kept_back() {
        let decision = Quarantine::decide(&Facts::of(KeyStatus::Invalid), &Settings::default());
        assert_eq!((decision.disposition, decision.notify), (Disposition::Quarantine, Notify::empty()));
    }
}
