//! Refuses the message; the sending server tells the sender, and a notice tells the recipient.

use addrauth_policy::{Decision, Description, Facts, Policy, Settings, reject};

/// The policy.
#[derive(Debug)]
pub struct RejectNotifyBoth;

impl Policy for RejectNotifyBoth {
    fn describe() -> Description {
        Description::new(
            "reject-notify-both",
            env!("CARGO_PKG_VERSION"),
            "Refuses the message; sender and recipient are both told.",
        )
    }

    fn decide(_: &Facts, _: &Settings) -> Decision {
        reject("the sender's domain does not vouch for this message").tell_sender().tell_recipient()
    }
}

addrauth_policy::export!(RejectNotifyBoth);

#[cfg(test)]
mod tests {
    use addrauth_policy::{Disposition, KeyStatus, Notify};

    use super::*;

    #[test]
    fn both_are_told() {
        let decision = RejectNotifyBoth::decide(&Facts::of(KeyStatus::Invalid), &Settings::default());
        assert_eq!((decision.disposition, decision.notify), (Disposition::Reject, Notify::SENDER | Notify::RECIPIENT));
    }
}
