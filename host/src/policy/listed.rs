//! What is loaded: the policies and the candidates beside them.

use std::path::PathBuf;
use std::sync::Arc;

use super::own_rules::RULES;
use super::shelf::Shelved;
use super::trust::{InForce, Signed};
use super::{Origin, Policies, printable};
use crate::case::KeyStatus;

/// A policy as `list` shows it.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Listed {
    /// The id.
    pub id: String,
    /// What it calls itself.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its own line about itself.
    pub summary: String,
    /// SHA-256 of the component, as hexadecimal digits.
    pub digest: String,
    /// Where the component came from.
    pub origin: Origin,
    /// Who signed the component; absent where nobody did, and where no key is trusted.
    pub signed: Option<Signed>,
    /// The results that it treats for anybody, or would where a user chooses it.
    pub bound: Vec<KeyStatus>,
    /// The candidate that decides beside it, where there is one.
    pub shadow: Option<ListedShadow>,
}

/// A candidate as `list` shows it.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct ListedShadow {
    /// The file that `policies.ID.shadow` names.
    pub file: PathBuf,
    /// The share of messages that it decides.
    pub share: f64,
    /// SHA-256 of its component; absent where it could not be loaded, and the policy decides without it.
    pub digest: Option<String>,
    /// Why it could not be.
    pub refused: Option<String>,
}

impl std::fmt::Display for Listed {
    /// One line for the log and `config check`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bound: Vec<&str> = self.bound.iter().map(|status| status.word()).collect();
        let treats = if bound.is_empty() { "nothing yet".into() } else { bound.join(", ") };
        let digest = self.digest.get(..12).unwrap_or(&self.digest);
        write!(f, "policy {} ({}, sha256 {digest}…", self.id, self.origin)?;
        if let Some(Signed { version, key, .. }) = &self.signed {
            write!(f, ", version {version} signed by key {:016X}", key.number())?;
        }
        write!(f, ") treats: {treats}")?;
        let Some(shadow) = &self.shadow else { return Ok(()) };
        // A share of 0.07 is 7.000000000000001 of a hundred.
        let (file, share) = (shadow.file.display(), (shadow.share * 1e5).round() / 1e3);
        match (&shadow.digest, &shadow.refused) {
            (Some(digest), _) => {
                let digest = digest.get(..12).unwrap_or(digest);
                write!(f, "; its candidate ({file}, sha256 {digest}…) decides beside it, on {share}% of mail")
            }
            (None, why) => write!(f, "; NO candidate decides beside it: {}", why.as_deref().unwrap_or_default()),
        }
    }
}

/// What decides: a component under its settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Decider {
    /// SHA-256 of the component, as hexadecimal digits.
    pub digest: String,
    /// The settings, as a decision tells them.
    pub settings: serde_json::Value,
    /// Where the component came from.
    pub origin: Origin,
}

impl Decider {
    /// Whether it is this component under these settings.
    pub fn is(&self, digest: &str, settings: &serde_json::Value) -> bool {
        self.digest == digest && self.settings == *settings
    }

    fn of(policy: &Shelved) -> Decider {
        let Shelved { digest, settings_json, origin, .. } = policy;
        Decider { digest: digest.clone(), settings: settings_json.clone(), origin: origin.clone() }
    }
}

impl Policies {
    /// What is loaded, in the order of the ids.
    pub fn list(&self) -> Vec<Listed> {
        let line = |text: &str| printable(text, self.limits.policy.text);
        let listed = |policy: &Arc<Shelved>| Listed {
            id: policy.id.clone(),
            name: line(&policy.description.name),
            version: line(&policy.description.version),
            summary: line(&policy.description.summary),
            digest: policy.digest.clone(),
            origin: policy.origin.clone(),
            signed: policy.signed.clone(),
            bound: KeyStatus::ALL.into_iter().filter(|s| self.bound.treats(&policy.id, *s)).collect(),
            shadow: self.shadows.get(&policy.id).map(|shadowing| ListedShadow {
                file: shadowing.file.clone(),
                share: shadowing.share,
                digest: shadowing.candidate.as_ref().ok().map(|candidate| candidate.digest.clone()),
                refused: shadowing.candidate.as_ref().err().cloned(),
            }),
        };
        self.all.iter().map(listed).collect()
    }

    /// The id of the component that reads users' own rules, where it came from, and its SHA-256 as hexadecimal digits; absent where
    /// users have no rules.
    pub fn reader_of_rules(&self) -> Option<(&'static str, &Origin, &str)> {
        let component = self.own.as_ref()?.component();
        Some((RULES, &component.origin, &component.digest))
    }

    /// Those that are signed, as [`super::trust::floor`] takes them.
    pub fn signed(&self) -> Vec<InForce> {
        let bound = self.all.iter().map(|policy| (&policy.signed, &policy.digest));
        let own = self.own.iter().map(|own| (&own.component().signed, &own.component().digest));
        let signed = |(signed, digest): (&Option<Signed>, &String)| Some(InForce::of(signed.clone()?, digest.clone()));
        bound.chain(own).filter_map(signed).collect()
    }

    /// What decides as the policy of this id; absent where none is loaded.
    pub fn decider(&self, id: &str) -> Option<Decider> {
        self.all.iter().find(|policy| policy.id == id).map(|policy| Decider::of(policy))
    }

    /// The candidate beside the policy of this id, or why there is none; absent where none is configured.
    pub fn candidate(&self, id: &str) -> Option<Result<Decider, String>> {
        let shadowing = self.shadows.get(id)?;
        Some(shadowing.candidate.as_ref().map(|candidate| Decider::of(candidate)).map_err(Clone::clone))
    }
}
