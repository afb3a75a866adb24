//! Treats mail without a key as forged where nothing explains the missing key.
//!
//! A forger need only leave the key out. But a domain that publishes `m=all` says that all of its direct mail carries
//! one, and mailing lists and forwarders, which lose it, leave a trail. So: the domain claims `all`, there is no trail,
//! and neither SPF nor DKIM passed for the domain of the sender address: then the setting `then` says what happens.

use addrauth_policy::{
    Claim, Decision, Description, Facts, KeyStatus, Policy, Settings, Trail, Wanted, Wants, accept, mark, quarantine,
    reject,
};

/// The policy.
#[derive(Debug)]
pub struct MissingDirect;

impl Policy for MissingDirect {
    fn describe() -> Description {
        Description::new(
            "missing-direct",
            env!("CARGO_PKG_VERSION"),
            "Treats direct mail without a key as forged if its domain says that all its mail has one.",
        )
        .text("then", "what happens to such mail: mark, quarantine or reject (the sender is told)", "mark")
        .text("reason", "the words for it", "this domain sends no mail without a key")
    }

    fn check_settings(settings: &Settings) -> Result<Wanted, String> {
        match settings.text("then") {
            "mark" | "quarantine" | "reject" => Ok(Wanted::facts(Wants::CLAIM | Wants::TRAIL | Wants::MAIL_AUTH)),
            other => Err(format!("then = \"{other}\": write \"mark\", \"quarantine\" or \"reject\"")),
        }
    }

    fn decide(facts: &Facts, settings: &Settings) -> Decision {
        if !is_suspicious(facts) {
            return accept();
        }
        let reason = settings.text("reason");
        match settings.text("then") {
            "reject" => reject(reason).tell_sender(),
            "quarantine" => quarantine(reason),
            _ => mark(reason),
        }
    }
}

fn is_suspicious(facts: &Facts) -> bool {
    let aligned = facts.mail_auth.as_ref().is_some_and(|auth| auth.spf_aligned || auth.dkim_aligned);
    facts.status == KeyStatus::Missing
        && facts.claim == Some(Claim::All)
        && facts.trail == Some(Trail::empty())
        && !aligned
}

addrauth_policy::export!(MissingDirect);

#[cfg(test)]
mod tests {
    use addrauth_policy::{AuthResult, Disposition, MailAuth, Notify, Value};

    use super::*;

    fn direct() -> Facts {
        let mut facts = Facts::of(KeyStatus::Missing);
        (facts.claim, facts.trail) = (Some(Claim::All), Some(Trail::empty()));
        facts
    }

    fn decide(facts: &Facts) -> Disposition {
        MissingDirect::decide(facts, &Settings::defaults(&MissingDirect::describe())).disposition
    }

    #[test]
    fn direct_mail_without_a_key_is_marked() {
        assert_eq!(decide(&direct()), Disposition::Mark);
    }

    #[test]
    fn a_trail_explains_a_missing_key_and_an_unknown_trail_proves_nothing() {
        for trail in [Some(Trail::MAILING_LIST), Some(Trail::FORWARDED), Some(Trail::BOUNCE), None] {
            let mut facts = direct();
            facts.trail = trail;
            assert_eq!(decide(&facts), Disposition::Accept);
        }
    }

    #[test]
    fn a_domain_that_does_not_claim_all_is_believed() {
        for claim in [Some(Claim::Some), Some(Claim::Testing), None] {
            let mut facts = direct();
            facts.claim = claim;
            assert_eq!(decide(&facts), Disposition::Accept);
        }
    }

    #[test]
    fn a_pass_counts_only_if_it_is_aligned() {
        let auth = |spf_aligned, dkim_aligned| MailAuth {
            spf: AuthResult::Pass,
            spf_aligned,
            dkim: AuthResult::Pass,
            dkim_aligned,
            dmarc: AuthResult::None,
        };
        let with = |auth| {
            let mut facts = direct();
            facts.mail_auth = Some(auth);
            decide(&facts)
        };
        assert_eq!(with(auth(false, false)), Disposition::Mark);
        assert_eq!(with(auth(true, false)), Disposition::Accept);
        assert_eq!(with(auth(false, true)), Disposition::Accept);
    }

    #[test]
    fn the_setting_then_says_what_happens_and_no_other_word_passes() {
        let settings =
            |then: &str| Settings::defaults(&MissingDirect::describe()).with("then", Value::Text(then.into()));
        let rejected = MissingDirect::decide(&direct(), &settings("reject"));
        assert_eq!((rejected.disposition, rejected.notify), (Disposition::Reject, Notify::SENDER));
        assert_eq!(MissingDirect::decide(&direct(), &settings("quarantine")).disposition, Disposition::Quarantine);
        assert!(MissingDirect::check_settings(&settings("reject")).is_ok());
        assert!(MissingDirect::check_settings(&settings("drop")).is_err());
    }
}
