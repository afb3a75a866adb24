//! Strict for the senders that a site names (its bank, its boss), and told to the recipient.
//!
//! A forger picks the names that recipients trust. So mail of a sender on the list is taken only with a right key: without one it is
//! refused, and the recipient gets a notice. Where the key cannot be checked yet, the sending server comes again. Mail of
//! everybody else is marked where its key is wrong. Name senders whose domain gives all their mail keys.

use addrauth_policy::{
    Address, Decision, Description, Facts, KeyStatus, Policy, Settings, Wanted, Wants, accept, defer, mark, quarantine,
    reject,
};

/// The policy.
#[derive(Debug)]
pub struct NamedSenders;

impl Policy for NamedSenders {
    fn describe() -> Description {
        Description::new(
            "named-senders",
            env!("CARGO_PKG_VERSION"),
            "Refuses mail of named senders that has no right key, and tells the recipient.",
        )
        .texts("senders", "who is named: boss@ours.example, @bank.example, *.bank.example", None)
        .text("then", "what happens to such mail: reject or quarantine (the recipient is told)", "reject")
    }

    fn check_settings(settings: &Settings) -> Result<Wanted, String> {
        if settings.texts("senders").is_empty() {
            return Err("senders is empty: name one, such as \"@bank.example\"".into());
        }
        if let Some(text) = settings.texts("senders").iter().find(|text| Name::read(text).is_none()) {
            return Err(format!(
                "senders: \"{text}\" names nobody: write a@b.example, @b.example for a domain, *.b.example for its subdomains"
            ));
        }
        match settings.text("then") {
            "reject" | "quarantine" => Ok(Wanted::facts(Wants::SENDER)),
            other => Err(format!("then = \"{other}\": write \"reject\" or \"quarantine\"")),
        }
    }

    fn decide(facts: &Facts, settings: &Settings) -> Decision {
        let named = facts.sender.as_ref().is_some_and(|sender| is_named(sender, settings.texts("senders")));
        match facts.status {
            KeyStatus::Valid => accept(),
            KeyStatus::Unverified if named => defer("the key of this sender cannot be checked yet"),
            _ if named => {
                let reason = "mail of this sender is taken only with a right key";
                if settings.text("then") == "quarantine" { quarantine(reason) } else { reject(reason) }.tell_recipient()
            }
            KeyStatus::Invalid | KeyStatus::Unusable => mark("nobody vouches for the sender of this message"),
            _ => accept(),
        }
    }
}

fn is_named(sender: &Address, names: &[String]) -> bool {
    names.iter().filter_map(|text| Name::read(text)).any(|name| name.is_of(sender))
}

/// Whom a text of the list names.
enum Name<'a> {
    /// `a@b.example`
    Address(&'a str, &'a str),
    /// `@b.example`: everybody of this domain, and nobody of its subdomains.
    Domain(&'a str),
    /// `*.b.example`: everybody of its subdomains.
    Below(&'a str),
}

impl Name<'_> {
    fn read(text: &str) -> Option<Name<'_>> {
        let (name, domain) = match (text.rsplit_once('@'), text.strip_prefix("*.")) {
            (Some(("", domain)), _) => (Name::Domain(domain), domain),
            (Some((local, domain)), _) => (Name::Address(local, domain), domain),
            (None, Some(domain)) => (Name::Below(domain), domain),
            (None, None) => return None,
        };
        let label = |label: &str| !label.is_empty() && label.bytes().all(|o| o.is_ascii_alphanumeric() || o == b'-');
        (domain.contains('.') && domain.split('.').all(label)).then_some(name)
    }

    /// Letter case does not matter.
    fn is_of(&self, sender: &Address) -> bool {
        match self {
            Name::Address(local, domain) => {
                local.eq_ignore_ascii_case(&sender.local) && domain.eq_ignore_ascii_case(&sender.domain)
            }
            Name::Domain(domain) => domain.eq_ignore_ascii_case(&sender.domain),
            Name::Below(domain) => {
                sender.domain.to_ascii_lowercase().ends_with(&format!(".{}", domain.to_ascii_lowercase()))
            }
        }
    }
}

addrauth_policy::export!(NamedSenders);

#[cfg(test)]
mod tests {
    use super::*;

    fn is_of(text: &str, sender: &str) -> bool {
        let (local, domain) = sender.rsplit_once('@').unwrap();
        Name::read(text).unwrap().is_of(&Address { local: local.into(), domain: domain.into() })
    }

    #[test]
    fn a_name_means_an_address_a_domain_or_what_is_below_one() {
        for (text, sender) in [
            ("boss@ours.example", "Boss@OURS.example"),
            ("@bank.example", "anyone@bank.example"),
            ("*.bank.example", "anyone@cards.bank.example"),
            ("*.Bank.example", "anyone@a.b.bank.example"),
        ] {
            assert!(is_of(text, sender), "{text} {sender}");
        }
    }

    #[test]
    fn what_looks_like_a_name_is_another() {
        for (text, sender) in [
            ("boss@ours.example", "boss@ours.example.evil"),
            ("boss@ours.example", "boss@ours.example@evil.example"),
            ("@bank.example", "anyone@cards.bank.example"),
            ("@bank.example", "anyone@evilbank.example"),
            ("*.bank.example", "anyone@bank.example"),
            ("*.bank.example", "anyone@evil-bank.example"),
            ("*.bank.example", "anyone@bank.example.evil"),
            ("*.bank.example", "anyone@example"),
        ] {
            assert!(!is_of(text, sender), "{text} {sender}");
        }
    }

    #[test]
    fn what_names_nobody_is_no_name() {
        for text in [
            "",
            "@",
            "boss",
            "bank.example",
            "boss@",
            "boss@example",
            "*.",
            "*.example",
            "@b..example",
            "@\u{fc}.example",
        ] {
            assert!(Name::read(text).is_none(), "{text}");
        }
    }
}
