//! Drops the message and tells the recipient by a notice.

use addrauth_policy::{Decision, Description, Facts, Policy, Settings, reject};

/// The policy.
#[derive(Debug)]
pub struct RejectNotifyRecipient;

impl Policy for RejectNotifyRecipient {
    fn describe() -> Description {
        Description::new(
            "reject-notify-recipient",
            env!("CARGO_PKG_VERSION"),
            "Drops the message and tells the recipient by a notice.",
        )
    }

    fn decide(_: &Facts, _: &Settings) -> Decision {
        reject("the sender's domain does not vouch for this message").tell_recipient()
    }
}

addrauth_policy::export!(RejectNotifyRecipient);

#[cfg(test)]
mod tests {
    use addrauth_policy::{Disposition, KeyStatus, Notify};

    use super::*;

    #[test]
    fn the_recipient_is_told() {
        let decision = RejectNotifyRecipient::decide(&Facts::of(KeyStatus::Invalid), &Settings::default());
        assert_eq!((decision.disposition, decision.notify), (Disposition::Reject, Notify::RECIPIENT));
    }
}
