//! Examine a message, keep what is owed.

use crate::case::{Case, Decision, Finding, Found, Mail, Unreported};
use crate::config::{Config, QuarantineIn};
use crate::policy::Policies;
use crate::settle::{Permits, Rules, settle};

#[cfg(feature = "filter")]
mod auth;
#[cfg(feature = "filter")]
mod build;
#[cfg(feature = "filter")]
mod keys;
#[cfg(feature = "filter")]
mod snapshot;
#[cfg(feature = "filter")]
mod steps;
#[cfg(feature = "filter")]
mod trust;

#[cfg(feature = "filter")]
pub use build::Builder;
#[cfg(feature = "filter")]
pub use snapshot::{Error, Filter};
#[cfg(feature = "filter")]
pub use steps::{SLOW, Steps, Times};

/// Decides a message on what the caller found out about it, and settles the policies' decisions into one reply. Total.
///
/// Nothing is looked up and nothing is kept: no choice of a recipient counts, and no report to the sender is permitted. The
/// caller makes durable what [`crate::case::Reply::owed`] asks for before the reply leaves.
pub async fn decide(policies: &Policies, rules: &Rules, mail: Mail, found: Found) -> Case {
    let decisions = policies.decide(&mail, &found, &[]).await;
    let permits = Permits { report: Err(Unreported::NobodyKeeps), refuse: true };
    let finding = Finding::Found(found);
    let reply = settle(&mail, &finding, &decisions, rules, &permits);
    Case { mail, finding, decisions, reply }
}

/// Settles decisions that somebody made on a message into the reply that a mail server would get, as far as that can be told
/// beforehand: the rules are in force even under `observe`, and reports are permitted.
pub fn answered(mail: Mail, found: Found, decisions: Vec<Decision>, rules: &Rules) -> Case {
    let rules = Rules { observe: false, ..rules.clone() };
    let permits = Permits { report: Ok(()), refuse: true };
    let finding = Finding::Found(found);
    let reply = settle(&mail, &finding, &decisions, &rules, &permits);
    Case { mail, finding, decisions, reply }
}

/// What was found, with what stands in the message itself: which of its fields our own servers wrote, and what trusted servers
/// found out by other methods.
#[cfg(feature = "filter")]
pub fn read_in(mail: &Mail, found: Found, config: &Config) -> Found {
    let mail_auth = auth::mail_auth(mail, found.sender.as_ref(), config);
    Found { own_fields: trust::own_fields(config, mail), mail_auth, ..found }
}

/// The rules by which decisions become a reply under this configuration.
pub fn rules(config: &Config) -> Rules {
    Rules {
        observe: config.observe.0,
        hostname: config.hostname.clone(),
        first_in_chain: config.first_in_chain,
        authentication_results: config.authentication_results,
        spam_folder: config.policy.spam_folder.clone(),
        hold: config.policy.quarantine == QuarantineIn::Mta,
        deliver_key_mail: config.keyring.deliver_key_mail,
    }
}
