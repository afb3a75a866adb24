//! `[policy]` and `[policies]`: which policy treats which result, for which recipients.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Error, Size, TrustedKey, Warning, spelt, trusted, wrong};
use crate::case::MarkAs;
use crate::proto::address::{Domain, Mailbox};

/// `[policy]`: the id of the policy that treats each result, for all recipients that no narrower line names.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// Where component files lie; a file `ID.wasm` there wins over the shipped component of that id. Empty: none.
    pub dir: PathBuf,
    /// Whether the running filter takes changed component files by itself, as a reload would.
    pub watch: bool,
    /// Whether components run in an interpreter instead of as machine code. It needs no memory that is both written and executed,
    /// and takes longer; a start of the filter reads it, a reload does not.
    pub interpreter: bool,
    /// For `valid`.
    pub valid: String,
    /// For `invalid`.
    pub invalid: String,
    /// For `missing`.
    pub missing: String,
    /// For `none`.
    pub none: String,
    /// For `unverified`.
    pub unverified: String,
    /// For `unusable`.
    pub unusable: String,
    /// For `unusable` with the reason `no-address`: a bounce that names nobody.
    pub no_address: String,
    /// How a marked message is shown.
    pub mark: MarkAs,
    /// What is put behind a recipient's local part to name the recipient's spam folder, such as `+Junk`; empty: spam folders
    /// have no addresses.
    pub spam_folder: String,
    /// The policies that users may choose for their own mail.
    pub user_may: Vec<String>,
    /// Whether users may have rules of their own, which decide what the policies of `user_may` could.
    pub user_rules: bool,
    /// What happens to a message whose recipients want different things.
    pub mixed: Mixed,
    /// Where quarantined mail is kept.
    pub quarantine: QuarantineIn,
    /// Minisign public keys. A signature beside a component file has to be by one of them; without any, nobody looks at signatures.
    #[serde(deserialize_with = "trusted::keys")]
    pub trusted_keys: Vec<TrustedKey>,
    /// Whether each component file needs a signature; shipped components are part of the program.
    pub require_signature: bool,
    /// The same by domain, for its recipients.
    #[serde(deserialize_with = "spelt::policy_domain")]
    pub domain: BTreeMap<Domain, Bindings>,
    /// The same for one recipient.
    #[serde(deserialize_with = "spelt::policy_recipient")]
    pub recipient: BTreeMap<Mailbox, Bindings>,
}

/// `[policy.domain."example.com"]`, `[policy.recipient."bob@example.com"]`: what is absent is looked up one level wider.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bindings {
    /// For `valid`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub valid: Option<String>,
    /// For `invalid`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invalid: Option<String>,
    /// For `missing`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
    /// For `none`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub none: Option<String>,
    /// For `unverified`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unverified: Option<String>,
    /// For `unusable`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unusable: Option<String>,
    /// For `unusable` with the reason `no-address`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_address: Option<String>,
    /// How a marked message is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mark: Option<MarkAs>,
}

/// What happens to a message whose recipients want different things.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Mixed {
    /// It is delivered to the recipients who want it, and each other wish is carried out beside that.
    #[default]
    Settle,
    /// A recipient whose bindings differ from the first one's gets 452 at RCPT, and the sender brings the message again for
    /// that recipient alone.
    Split,
}

/// Where quarantined mail is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum QuarantineIn {
    /// In our own store: `addrauth quarantine`.
    #[default]
    Store,
    /// In the MTA's hold queue, where all recipients of the message agree.
    Mta,
}

impl Default for Policy {
    fn default() -> Policy {
        let [accept, mark] = ["accept", "mark"].map(String::from);
        Policy {
            dir: PathBuf::new(),
            watch: false,
            interpreter: false,
            valid: accept.clone(),
            invalid: mark.clone(),
            missing: accept.clone(),
            none: accept.clone(),
            unverified: accept.clone(),
            unusable: mark,
            no_address: accept,
            mark: MarkAs::default(),
            spam_folder: String::new(),
            user_may: Vec::new(),
            user_rules: false,
            mixed: Mixed::default(),
            quarantine: QuarantineIn::default(),
            trusted_keys: Vec::new(),
            require_signature: false,
            domain: BTreeMap::new(),
            recipient: BTreeMap::new(),
        }
    }
}

/// `[policies.ID]`: a policy of one's own, or a shipped one with other settings.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Module {
    /// The component file, relative to `policy.dir`; absent: the shipped component of this id.
    #[serde(default)]
    pub module: Option<PathBuf>,
    /// Its settings.
    #[serde(default)]
    pub settings: BTreeMap<String, toml::Value>,
    /// What happens when it faults.
    #[serde(default)]
    pub on_fault: OnFault,
    /// What it may take.
    #[serde(default)]
    pub size: Size,
    /// The file's SHA-256 in hexadecimal; another file is refused.
    #[serde(default)]
    pub sha256: Option<String>,
    /// A candidate that decides beside it and is only recorded: a component file, or a text with its own `[policies.ID]`;
    /// relative to `policy.dir`.
    #[serde(default)]
    pub shadow: Option<PathBuf>,
    /// The share of messages that the candidate decides as well, from 0 to 1.
    #[serde(default = "whole")]
    pub shadow_share: f64,
}

fn whole() -> f64 {
    1.0
}

impl Default for Module {
    fn default() -> Module {
        Module {
            module: None,
            settings: BTreeMap::new(),
            on_fault: OnFault::default(),
            size: Size::default(),
            sha256: None,
            shadow: None,
            shadow_share: whole(),
        }
    }
}

impl Module {
    /// Whether the settings of the policy of this id can be.
    pub(super) fn check(&self, id: &str) -> Result<(), Error> {
        if (0.0..=1.0).contains(&self.shadow_share) {
            Ok(())
        } else {
            wrong(format!(
                "policies.{id}.shadow_share = {} is no share of mail: write a number from 0 to 1, such as 0.1",
                self.shadow_share
            ))
        }
    }
}

/// What happens to a message whose policy faults. It is never accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum OnFault {
    /// 451: the sending server comes again.
    #[default]
    Defer,
    /// Keep it back.
    Quarantine,
    /// Refuse it and tell the sender.
    Reject,
}

impl Policy {
    /// Whether the settings fit together, and with those of the policies.
    pub(super) fn check(&self, policies: &BTreeMap<String, Module>) -> Result<(), Error> {
        let is_large = |id: &&String| policies.get(*id).is_some_and(|module| module.size == Size::Large);
        if self.user_rules && policies.get("rules").is_some_and(|module| module.size == Size::Large) {
            return wrong(
                "policy.user_rules = true needs policies.rules.size = \"small\": users' texts are read while mail waits",
            );
        }
        if let Some(id) = self.user_may.iter().find(is_large) {
            return wrong(format!(
                "policy.user_may has \"{id}\", and policies.{id}.size is \"large\": such a policy takes much memory and time, so the \
                 administrator binds it, and users cannot choose it. Take it out of policy.user_may"
            ));
        }
        let folder = &self.spam_folder;
        let tag = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '+' | '=' | '.');
        // Another delimiter may stand in a mailbox's own name: mary-jane's folder would be one of mary's.
        let follows = folder.len() <= 64 && folder.starts_with('+') && folder.chars().all(tag);
        if !folder.is_empty() && !follows {
            return wrong(format!(
                "policy.spam_folder = {folder:?} cannot follow a local part: write \"+\" and a name, such as \"+Junk\" (the MTA \
                 needs recipient_delimiter = +)"
            ));
        }
        if self.require_signature && self.trusted_keys.is_empty() {
            return wrong(
                "policy.require_signature = true needs policy.trusted_keys, the public keys of those who sign: `addrauth policy keygen` \
                 makes a pair",
            );
        }
        let levels = self.domain.values().chain(self.recipient.values()).map(|bindings| bindings.mark);
        if folder.is_empty() && levels.chain([Some(self.mark)]).any(|mark| mark == Some(MarkAs::Folder)) {
            return wrong(
                "mark = \"folder\" needs policy.spam_folder, such as \"+Junk\": how a spam folder is addressed",
            );
        }
        Ok(())
    }

    /// Warnings of lines for domains and recipients whose mail does not end here.
    pub(super) fn warnings(&self, final_domains: &[Domain]) -> Vec<Warning> {
        let domains = self.domain.keys().filter(|domain| !final_domains.contains(domain));
        let elsewhere = |recipient: &&Mailbox| !final_domains.iter().any(|domain| recipient.is_of(domain));
        let recipients = self.recipient.keys().filter(elsewhere);
        let foreign = domains.cloned().map(Warning::ForeignDomain);
        foreign.chain(recipients.cloned().map(Warning::ForeignRecipient)).collect()
    }
}
