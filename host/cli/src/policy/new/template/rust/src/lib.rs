//! Protects names that are forged most: what comes in them without a right key is refused or kept back.

use addrauth_policy::{
    Address, Decision, Description, Facts, KeyStatus, Policy, Settings, Trail, Wanted, Wants, accept, mark, quarantine,
    reject,
};

/// The policy.
#[derive(Debug)]
pub struct Protect;

impl Policy for Protect {
    fn describe() -> Description {
        Description::new("{{name}}", env!("CARGO_PKG_VERSION"), "Protects names that are forged most.").texts(
            "protected",
            "whose names: addresses, or @domain",
            ["@bank.example", "boss@ours.example"].as_slice(),
        )
    }

    // What it wants to see besides the result. It is told nothing else.
    fn check_settings(settings: &Settings) -> Result<Wanted, String> {
        match settings.texts("protected").iter().find(|name| !name.contains('@')) {
            Some(name) => Err(format!("protected: \"{name}\" is no address: write a@b.example, or @b.example")),
            None => Ok(Wanted::facts(Wants::SENDER | Wants::TRAIL)),
        }
    }

    fn decide(facts: &Facts, settings: &Settings) -> Decision {
        let protected = facts.sender.as_ref().is_some_and(|sender| is_among(sender, settings.texts("protected")));
        // None: nobody knows. Empty: nothing tells of a list or a forwarder, which may lose a key.
        let direct = facts.trail == Some(Trail::empty());
        match facts.status {
            KeyStatus::Invalid if protected => reject("a wrong key in a protected name").tell_recipient(),
            KeyStatus::Missing if protected && direct => quarantine("no key in a protected name"),
            KeyStatus::Invalid => mark("a wrong key"),
            _ => accept(),
        }
    }
}

/// Whether the address is one of these, or of one of these domains. Letter case does not matter.
fn is_among(sender: &Address, names: &[String]) -> bool {
    names.iter().filter_map(|name| name.rsplit_once('@')).any(|(local, domain)| {
        sender.domain.eq_ignore_ascii_case(domain) && (local.is_empty() || sender.local.eq_ignore_ascii_case(local))
    })
}

addrauth_policy::export!(Protect);

#[cfg(test)]
mod tests {
    use addrauth_policy::{Disposition, Notify, Value};

    use super::*;

    fn settings() -> Settings {
        Settings::defaults(&Protect::describe())
    }

    /// Direct mail of this sender, with this result.
    fn mail(status: KeyStatus, local: &str, domain: &str) -> Facts {
        let mut facts = Facts::of(status);
        facts.sender = Some(Address { local: local.into(), domain: domain.into() });
        facts.trail = Some(Trail::empty());
        facts
    }

    #[test]
    fn a_wrong_key_in_a_protected_name_is_refused_and_the_recipient_is_told() {
        let decision = Protect::decide(&mail(KeyStatus::Invalid, "alice", "bank.example"), &settings());
        assert_eq!((decision.disposition, decision.notify), (Disposition::Reject, Notify::RECIPIENT));
    }

    #[test]
    fn a_list_may_have_lost_the_key() {
        let mut facts = mail(KeyStatus::Missing, "alice", "bank.example");
        assert_eq!(Protect::decide(&facts, &settings()).disposition, Disposition::Quarantine);
        facts.trail = Some(Trail::MAILING_LIST);
        assert_eq!(Protect::decide(&facts, &settings()).disposition, Disposition::Accept);
    }

    #[test]
    fn the_setting_says_whose_names_are_protected() {
        let settings = settings().with("protected", Value::Texts(vec!["dave@shop.example".into()]));
        let decide = |local| Protect::decide(&mail(KeyStatus::Invalid, local, "shop.example"), &settings).disposition;
        assert_eq!((decide("Dave"), decide("erin")), (Disposition::Reject, Disposition::Mark));
    }

    #[test]
    fn a_name_that_is_no_address_is_refused() {
        let settings = settings().with("protected", Value::Texts(vec!["bank.example".into()]));
        assert!(Protect::check_settings(&settings).is_err());
    }
}
