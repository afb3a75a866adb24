//! Treats mail without a key as forged where the sender's mail had one lately.
//!
//! A forger need only leave the key out. `missing-direct` catches that where a domain claims that all its mail has a key; where it
//! claims less, an address may have given its mail keys for months. So: the address was last valid here within `days`, there is
//! no trail of a mailing list or a forwarder, which lose keys, and neither SPF nor DKIM passed for the domain of the sender
//! address: then the setting `then` says what happens. A domain that only tries its keys out (`m=testing`) asks that nothing be
//! concluded from a missing one.

use addrauth_policy::{
    Claim, Decision, Description, Facts, KeyStatus, Policy, Settings, Trail, Wanted, Wants, accept, mark, quarantine,
    reject,
};

/// The policy.
#[derive(Debug)]
pub struct MissingKnown;

impl Policy for MissingKnown {
    fn describe() -> Description {
        Description::new(
            "missing-known",
            env!("CARGO_PKG_VERSION"),
            "Treats direct mail without a key as forged if the sender's mail had a right key lately.",
        )
        .number("days", "how many days ago the sender's mail may have had its last right key", 90)
        .text("then", "what happens to such mail: mark, quarantine or reject (the sender is told)", "mark")
        .text("reason", "the words for it", "this sender's mail has had a key until lately")
    }

    fn check_settings(settings: &Settings) -> Result<Wanted, String> {
        let days = settings.number("days");
        if days < 1 {
            return Err(format!("days = {days}: write 1 or more"));
        }
        match settings.text("then") {
            "mark" | "quarantine" | "reject" => {
                Ok(Wanted::facts(Wants::LAST_VALID | Wants::CLAIM | Wants::TRAIL | Wants::MAIL_AUTH))
            }
            other => Err(format!("then = \"{other}\": write \"mark\", \"quarantine\" or \"reject\"")),
        }
    }

    fn decide(facts: &Facts, settings: &Settings) -> Decision {
        if !is_suspicious(facts, settings.number("days")) {
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

fn is_suspicious(facts: &Facts, days: i64) -> bool {
    let aligned = facts.mail_auth.as_ref().is_some_and(|auth| auth.spf_aligned || auth.dkim_aligned);
    facts.status == KeyStatus::Missing
        && facts.last_valid.is_some_and(|ago| i64::from(ago) <= days)
        && facts.claim != Some(Claim::Testing)
        && facts.trail == Some(Trail::empty())
        && !aligned
}

addrauth_policy::export!(MissingKnown);

#[cfg(test)]
mod tests {
    use addrauth_policy::{AuthResult, Disposition, MailAuth, Notify, Value};

    use super::*;

    fn known() -> Facts {
        let mut facts = Facts::of(KeyStatus::Missing);
        (facts.last_valid, facts.claim, facts.trail) = (Some(3), Some(Claim::Some), Some(Trail::empty()));
        facts
    }

    fn settings() -> Settings {
        Settings::defaults(&MissingKnown::describe())
    }

    fn decide(facts: &Facts) -> Disposition {
        MissingKnown::decide(facts, &settings()).disposition
    }

    #[test]
    fn direct_mail_without_a_key_from_an_address_that_had_one_lately_is_marked() {
        assert_eq!(decide(&known()), Disposition::Mark);
    }

    #[test]
    fn an_address_that_was_never_valid_or_not_for_long_is_believed() {
        for (ago, disposition) in
            [(None, Disposition::Accept), (Some(91), Disposition::Accept), (Some(90), Disposition::Mark)]
        {
            let mut facts = known();
            facts.last_valid = ago;
            assert_eq!(decide(&facts), disposition, "{ago:?}");
        }
    }

    #[test]
    fn the_setting_days_is_how_long_is_lately() {
        let settings = |days| settings().with("days", Value::Number(days));
        let ago = |ago, days| {
            let mut facts = known();
            facts.last_valid = Some(ago);
            MissingKnown::decide(&facts, &settings(days)).disposition
        };
        assert_eq!((ago(7, 7), ago(8, 7)), (Disposition::Mark, Disposition::Accept));
        assert_eq!((ago(0, 1), ago(u32::MAX, i64::MAX)), (Disposition::Mark, Disposition::Mark));
        assert!(MissingKnown::check_settings(&settings(1)).is_ok());
        for days in [0, -1, i64::MIN] {
            assert!(MissingKnown::check_settings(&settings(days)).unwrap_err().contains("1 or more"), "{days}");
        }
    }

    #[test]
    fn a_trail_explains_a_missing_key_and_an_unknown_trail_proves_nothing() {
        for trail in [Some(Trail::MAILING_LIST), Some(Trail::FORWARDED), Some(Trail::BOUNCE), None] {
            let mut facts = known();
            facts.trail = trail;
            assert_eq!(decide(&facts), Disposition::Accept);
        }
    }

    #[test]
    fn a_domain_that_only_tries_its_keys_out_is_not_taken_at_its_word() {
        for (claim, disposition) in [
            (Some(Claim::Testing), Disposition::Accept),
            (Some(Claim::Some), Disposition::Mark),
            (Some(Claim::All), Disposition::Mark),
        ] {
            let mut facts = known();
            facts.claim = claim;
            assert_eq!(decide(&facts), disposition);
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
            let mut facts = known();
            facts.mail_auth = Some(auth);
            decide(&facts)
        };
        assert_eq!(with(auth(false, false)), Disposition::Mark);
        assert_eq!(with(auth(true, false)), Disposition::Accept);
        assert_eq!(with(auth(false, true)), Disposition::Accept);
    }

    #[test]
    fn another_result_is_another_policys_business() {
        for status in [KeyStatus::Valid, KeyStatus::Invalid, KeyStatus::None, KeyStatus::Unverified] {
            let mut facts = known();
            facts.status = status;
            assert_eq!(decide(&facts), Disposition::Accept);
        }
    }

    #[test]
    fn the_setting_then_says_what_happens_and_no_other_word_passes() {
        let settings = |then: &str| settings().with("then", Value::Text(then.into()));
        let rejected = MissingKnown::decide(&known(), &settings("reject"));
        assert_eq!((rejected.disposition, rejected.notify), (Disposition::Reject, Notify::SENDER));
        assert_eq!(MissingKnown::decide(&known(), &settings("quarantine")).disposition, Disposition::Quarantine);
        assert!(MissingKnown::check_settings(&settings("reject")).is_ok());
        assert!(MissingKnown::check_settings(&settings("drop")).is_err());
    }
}
