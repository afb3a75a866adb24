//! Delivers every message.

use addrauth_policy::{Decision, Description, Facts, Policy, Settings, accept};

/// The policy.
#[derive(Debug)]
pub struct Accept;

impl Policy for Accept {
    fn describe() -> Description {
        Description::new("accept", env!("CARGO_PKG_VERSION"), "Delivers every message.")
    }

    fn decide(_: &Facts, _: &Settings) -> Decision {
        accept()
    }
}

addrauth_policy::export!(Accept);

#[cfg(test)]
mod tests {
    use addrauth_policy::{Disposition, KeyStatus, Notify};

    use super::*;

    #[test]
    fn everything_is_delivered() {
        let decision = Accept::decide(&Facts::of(KeyStatus::Invalid), &Settings::default());
        assert_eq!((decision.disposition, decision.notify), (Disposition::Accept, Notify::empty()));
    }
}
