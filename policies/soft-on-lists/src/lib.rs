//! Hard for mail that came directly from its sender, soft for what came by a list or a forwarder.
//!
//! A list or a forwarder changes messages and loses keys, so a wrong key of such mail is marked, and a missing one is accepted. Direct
//! mail has no such excuse: a wrong key is refused, and so is a missing one where the domain claims that all its mail has a key and
//! neither SPF nor DKIM passed for it. The trail is what the message tells of itself, and a forger can write it: so a wrong key is
//! never accepted.

use addrauth_policy::{
    Claim, Decision, Description, Facts, KeyStatus, Policy, Settings, Trail, Wanted, Wants, accept, mark, quarantine,
    reject,
};

/// The policy.
#[derive(Debug)]
pub struct SoftOnLists;

impl Policy for SoftOnLists {
    fn describe() -> Description {
        Description::new(
            "soft-on-lists",
            env!("CARGO_PKG_VERSION"),
            "Refuses direct mail without a right key, and marks that of lists and forwarders.",
        )
        .text("then", "what happens to direct mail: reject (the sender is told) or quarantine", "reject")
    }

    fn check_settings(settings: &Settings) -> Result<Wanted, String> {
        match settings.text("then") {
            "reject" | "quarantine" => Ok(Wanted::facts(Wants::TRAIL | Wants::CLAIM | Wants::MAIL_AUTH)),
            other => Err(format!("then = \"{other}\": write \"reject\" or \"quarantine\"")),
        }
    }

    fn decide(facts: &Facts, settings: &Settings) -> Decision {
        // A trail that nobody looked for is none that is empty.
        let direct = facts.trail == Some(Trail::empty());
        let then = |reason| match settings.text("then") {
            "quarantine" => quarantine(reason),
            _ => reject(reason).tell_sender(),
        };
        match facts.status {
            KeyStatus::Invalid if direct => then("the key does not belong to the sender of this message"),
            KeyStatus::Invalid => {
                mark("the key does not belong to the sender, and a list or forwarder had the message")
            }
            KeyStatus::Missing if direct && is_denied(facts) => then("this domain sends no direct mail without a key"),
            _ => accept(),
        }
    }
}

/// Whether the domain claims all its mail, and nothing else vouches for this message.
fn is_denied(facts: &Facts) -> bool {
    let aligned = facts.mail_auth.as_ref().is_some_and(|auth| auth.spf_aligned || auth.dkim_aligned);
    facts.claim == Some(Claim::All) && !aligned
}

addrauth_policy::export!(SoftOnLists);

#[cfg(test)]
mod tests {
    use addrauth_policy::Disposition;

    use super::*;

    #[test]
    fn a_wrong_key_is_refused_of_direct_mail_alone_and_accepted_of_none() {
        let settings = Settings::defaults(&SoftOnLists::describe());
        for (trail, disposition) in [
            (Some(Trail::empty()), Disposition::Reject),
            (Some(Trail::MAILING_LIST), Disposition::Mark),
            (Some(Trail::AUTOMATIC), Disposition::Mark),
            (None, Disposition::Mark),
        ] {
            let mut facts = Facts::of(KeyStatus::Invalid);
            facts.trail = trail;
            assert_eq!(SoftOnLists::decide(&facts, &settings).disposition, disposition, "{trail:?}");
        }
    }
}
