//! Refuses wrong keys, and only marks expired ones.
//!
//! An Authentication Server says of a key that it was right until some days ago: then the sender's mail program, or a second server of
//! its domain, has not got the new one yet. A wrong key was never right, and has no such excuse.

use addrauth_policy::{
    Decision, Description, Facts, KeyStatus, Policy, Settings, Wanted, Wants, Why, accept, mark, reject,
};

/// The policy.
#[derive(Debug)]
pub struct ExpiredMarked;

impl Policy for ExpiredMarked {
    fn describe() -> Description {
        Description::new(
            "expired-marked",
            env!("CARGO_PKG_VERSION"),
            "Refuses mail with a wrong key and tells the sender; marks mail whose key has expired.",
        )
    }

    fn check_settings(_: &Settings) -> Result<Wanted, String> {
        Ok(Wanted::facts(Wants::WHY))
    }

    fn decide(facts: &Facts, _: &Settings) -> Decision {
        match (facts.status, facts.why) {
            (KeyStatus::Invalid, Some(Why::Expired)) => mark("the key of this sender has expired"),
            // A reason that is not known is no excuse.
            (KeyStatus::Invalid, _) => reject("the key does not belong to the sender of this message").tell_sender(),
            _ => accept(),
        }
    }
}

addrauth_policy::export!(ExpiredMarked);

#[cfg(test)]
mod tests {
    use addrauth_policy::Disposition;

    use super::*;

    #[test]
    fn only_an_expired_key_is_marked() {
        for (why, disposition) in [
            (Some(Why::Expired), Disposition::Mark),
            (Some(Why::Wrong), Disposition::Reject),
            (Some(Why::Other), Disposition::Reject),
            (None, Disposition::Reject),
        ] {
            let mut facts = Facts::of(KeyStatus::Invalid);
            facts.why = why;
            assert_eq!(ExpiredMarked::decide(&facts, &Settings::default()).disposition, disposition, "{why:?}");
        }
    }
}
