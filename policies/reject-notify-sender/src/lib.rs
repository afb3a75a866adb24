//! Refuses the message, so that the sending server tells the sender.

use addrauth_policy::{Decision, Description, Facts, Policy, Settings, reject};

/// The policy.
#[derive(Debug)]
pub struct RejectNotifySender;

impl Policy for RejectNotifySender {
    fn describe() -> Description {
        Description::new(
            "reject-notify-sender",
            env!("CARGO_PKG_VERSION"),
            "Refuses the message; the sending server tells the sender.",
        )
    }

    fn decide(_: &Facts, _: &Settings) -> Decision {
        reject("the sender's domain does not vouch for this message").tell_sender()
    }
}

addrauth_policy::export!(RejectNotifySender);

#[cfg(test)]
mod tests {
    use addrauth_policy::{Disposition, KeyStatus, Notify};

    use super::*;

    #[test]
    fn the_sender_is_told() {
        let decision = RejectNotifySender::decide(&Facts::of(KeyStatus::Invalid), &Settings::default());
        assert_eq!((decision.disposition, decision.notify), (Disposition::Reject, Notify::SENDER));
    }
}
