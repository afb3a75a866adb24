//! Defers doubtful mail to some recipients.
//!
//! Where DNS or the sender's Authentication Server cannot be reached, a key can be checked an hour later. For most people that mail is
//! delivered; for those on the list the sending server is asked to come again. A key that cannot be asked about without being shown
//! does not get better with time: such mail is marked. A deferral holds the message up for all its recipients.

use addrauth_policy::{
    Address, Decision, Description, Facts, KeyStatus, Policy, Settings, Wanted, Wants, Why, accept, defer, mark,
};

/// The policy.
#[derive(Debug)]
pub struct VipDeferred;

impl Policy for VipDeferred {
    fn describe() -> Description {
        Description::new(
            "vip-deferred",
            env!("CARGO_PKG_VERSION"),
            "Defers mail to some recipients while its key cannot be checked.",
        )
        .texts("recipients", "whose mail is deferred: boss@ours.example, @board.ours.example", None)
    }

    fn check_settings(settings: &Settings) -> Result<Wanted, String> {
        let recipients = settings.texts("recipients");
        if recipients.is_empty() {
            return Err("recipients is empty: name one, such as \"boss@ours.example\"".into());
        }
        match recipients.iter().find(|text| !is_name(text)) {
            None => Ok(Wanted::facts(Wants::RECIPIENT | Wants::WHY)),
            Some(text) => Err(format!(
                "recipients: \"{text}\" names nobody: write a@b.example without a +tag, or @b.example for a domain"
            )),
        }
    }

    fn decide(facts: &Facts, settings: &Settings) -> Decision {
        // A recipient that is not known may be on the list.
        let named = facts.recipient.as_ref().is_none_or(|one| is_named(one, settings.texts("recipients")));
        match (facts.status, facts.why) {
            (KeyStatus::Unverified, Some(Why::NoProof)) if named => mark("the key of this sender cannot be checked"),
            (KeyStatus::Unverified, _) if named => defer("the key of this sender cannot be checked yet"),
            _ => accept(),
        }
    }
}

/// Letter case does not matter, and the recipient's +tag does not either.
fn is_named(recipient: &Address, names: &[String]) -> bool {
    let own = untagged(&recipient.local);
    names.iter().filter_map(|text| text.rsplit_once('@')).any(|(local, domain)| {
        domain.eq_ignore_ascii_case(&recipient.domain) && (local.is_empty() || local.eq_ignore_ascii_case(own))
    })
}

fn is_name(text: &str) -> bool {
    let label = |label: &str| !label.is_empty() && label.bytes().all(|o| o.is_ascii_alphanumeric() || o == b'-');
    text.rsplit_once('@')
        .is_some_and(|(local, domain)| untagged(local) == local && domain.contains('.') && domain.split('.').all(label))
}

/// `boss` of `boss+travel`. A plus at the beginning, or within quotes, makes no tag.
fn untagged(local: &str) -> &str {
    let plus = local.bytes().skip(1).position(|octet| octet == b'+').filter(|_| !local.starts_with('"'));
    plus.and_then(|before| local.get(..before + 1)).unwrap_or(local)
}

addrauth_policy::export!(VipDeferred);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_no_part_of_the_mailbox() {
        for (local, own) in
            [("boss", "boss"), ("boss+a+b", "boss"), ("+a", "+a"), ("+a+b", "+a"), ("\"a+b\"", "\"a+b\""), ("", "")]
        {
            assert_eq!(untagged(local), own);
        }
    }

    #[test]
    fn what_names_nobody_is_no_name() {
        for text in ["boss@ours.example", "@ours.example", "\"a+b\"@ours.example"] {
            assert!(is_name(text), "{text}");
        }
        for text in ["", "boss", "boss@", "boss@ours", "boss+a@ours.example", "*.ours.example", "@a..b"] {
            assert!(!is_name(text), "{text}");
        }
    }
}
