//! Drops the message and tells nobody; the host allows it for wrong keys alone.

use addrauth_policy::{Decision, Description, Facts, Policy, Settings, reject};

/// The policy.
#[derive(Debug)]
pub struct RejectSilently;

impl Policy for RejectSilently {
    fn describe() -> Description {
        Description::new(
            "reject-silently",
            env!("CARGO_PKG_VERSION"),
            "Drops the message and tells nobody; only for wrong keys.",
        )
    }

    fn decide(_: &Facts, _: &Settings) -> Decision {
        reject("the sender's domain does not vouch for this message")
    }
}

addrauth_policy::export!(RejectSilently);

#[cfg(test)]
mod tests {
    use addrauth_policy::{Disposition, KeyStatus, Notify};

    use super::*;

    #[test]
    fn nobody_is_told() {
        let decision = RejectSilently::decide(&Facts::of(KeyStatus::Invalid), &Settings::default());
        assert_eq!((decision.disposition, decision.notify), (Disposition::Reject, Notify::empty()));
    }
}
