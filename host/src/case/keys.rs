//! What is found out about the keys of our own addresses: new ones that arrive, and what becomes of mail that goes out.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::{Answerer, Why};
use crate::proto::address::Address;
use crate::proto::key::AuthKey;

/// What became of a key that was to be learned (INVARIANTS §4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Learned {
    /// It is the address's key from now on.
    Newest,
    /// It is the address's key already.
    Known,
    /// It was the address's key before another one took its place, and never becomes it again.
    Superseded,
    /// The address has a key that lives at least as long.
    Shorter,
}

impl Learned {
    /// All four.
    pub const ALL: [Learned; 4] = [Learned::Newest, Learned::Known, Learned::Superseded, Learned::Shorter];

    /// The word of the journal's note and the log.
    pub fn word(self) -> &'static str {
        match self {
            Learned::Newest => "learned",
            Learned::Known => "known already",
            Learned::Superseded => "superseded",
            Learned::Shorter => "shorter-lived than the present one",
        }
    }
}

/// What was found out about the `X-New-Auth-Key` fields of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NewKey {
    /// The AS of the address vouches for the key. That makes the message a key mail, from whatever client it came.
    Proven(Proven),
    /// Nothing is learned from it, and it is mail like any other.
    Refused(NotLearned),
}

/// A new key that the AS of its address vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    /// The address.
    pub address: Address,
    /// Its key.
    pub key: AuthKey,
    /// When it ends, as the AS said.
    pub ends: SystemTime,
    /// The AS that vouches for it.
    pub authority: Option<Answerer>,
    /// What became of it; absent until it is in the keyring.
    pub learned: Option<Learned>,
}

/// Why no key is learned from a message that brings one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum NotLearned {
    /// Keys are not learned from mail that this daemon of the MTA takes.
    NotHere,
    /// The header is damaged, or over its limits.
    Malformed,
    /// It brings several.
    SeveralKeys,
    /// What it brings is outside the grammar.
    BadKey,
    /// It goes to several recipients, or to one without an address.
    SeveralRecipients,
    /// Not one To field with one address.
    NoSingleTo,
    /// To names another address than the recipient's.
    OtherTo,
    /// The address is in no domain of `final_domains`.
    ForeignDomain,
    /// The domain of the address has no AS.
    NoServer,
    /// The AS says that the key is none of this address.
    Wrong,
    /// The AS says that the key has ended.
    Expired,
    /// The AS does not say how long the key lives: it could be stamped after its end.
    NoLifetime,
}

impl NotLearned {
    /// The word of the log.
    pub fn word(self) -> &'static str {
        match self {
            NotLearned::NotHere => "not-here",
            NotLearned::Malformed => "malformed",
            NotLearned::SeveralKeys => "several-keys",
            NotLearned::BadKey => "bad-key",
            NotLearned::SeveralRecipients => "several-recipients",
            NotLearned::NoSingleTo => "no-single-to",
            NotLearned::OtherTo => "other-to",
            NotLearned::ForeignDomain => "foreign-domain",
            NotLearned::NoServer => "no-server",
            NotLearned::Wrong => "wrong",
            NotLearned::Expired => "expired",
            NotLearned::NoLifetime => "no-lifetime",
        }
    }

    /// The same in plain words, after "since".
    pub fn text(self) -> &'static str {
        match self {
            NotLearned::NotHere => "keys are not learned from mail that comes this way (keyring.learn)",
            NotLearned::Malformed => "the header is damaged or too large",
            NotLearned::SeveralKeys => "the message brings several",
            NotLearned::BadKey => "what it brings cannot be a key",
            NotLearned::SeveralRecipients => "it does not go to one recipient alone",
            NotLearned::NoSingleTo => "it has no one To field with one address",
            NotLearned::OtherTo => "it is addressed (To) to another one than its recipient",
            NotLearned::ForeignDomain => "the address is in no domain of final_domains",
            NotLearned::NoServer => "the domain of the address has no Authentication Server",
            NotLearned::Wrong => "the Authentication Server says that it is none of this address",
            NotLearned::Expired => "the Authentication Server says that it has ended",
            NotLearned::NoLifetime => "the Authentication Server does not say how long it lives",
        }
    }
}

/// What becomes of the key fields of a message that goes out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stamp {
    /// The sender's newest key is put on top; others that are there go.
    Newest(AuthKey),
    /// Its client put the login's own key there (Phase II): it stays.
    Client,
    /// No key is put there.
    Bare(NotStamped),
}

/// Why a message goes out without a key of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum NotStamped {
    /// Mail that this daemon of the MTA takes is not stamped.
    NotHere,
    /// No From field with one usable address.
    NoSender,
    /// The header is damaged or over its limits: nobody knows what it says.
    Malformed,
    /// The login resends a message that it received (Resent-From is the login's).
    Resent,
    /// A list, or bulk mail.
    List,
    /// It is forwarded automatically.
    Forwarded,
    /// It is a bounce.
    Bounce,
    /// The login does not own the From address: a key that is there goes.
    NotOwner,
    /// The reverse-path is not the login's, and a refusal would send the key there.
    OtherPath,
    /// The address has no key.
    NoKey,
    /// Its newest key has ended.
    Ended,
}

impl NotStamped {
    /// The word of the log.
    pub fn word(self) -> &'static str {
        match self {
            NotStamped::NotHere => "not-here",
            NotStamped::NoSender => "no-sender",
            NotStamped::Malformed => "malformed",
            NotStamped::Resent => "resent",
            NotStamped::List => "list",
            NotStamped::Forwarded => "forwarded",
            NotStamped::Bounce => "bounce",
            NotStamped::NotOwner => "not-owner",
            NotStamped::OtherPath => "other-path",
            NotStamped::NoKey => "no-key",
            NotStamped::Ended => "ended",
        }
    }

    /// The same in plain words, after "since".
    pub fn text(self) -> &'static str {
        match self {
            NotStamped::NotHere => "mail that comes this way is not stamped (keyring.stamp)",
            NotStamped::NoSender => "it has no From field with one usable address",
            NotStamped::Malformed => "its header is damaged or too large",
            NotStamped::Resent => "somebody sends on what he got",
            NotStamped::List => "it is mail of a list, or bulk mail",
            NotStamped::Forwarded => "it is forwarded automatically",
            NotStamped::Bounce => "it is a bounce",
            NotStamped::NotOwner => "the login does not own the address in From",
            NotStamped::OtherPath => "its return address is not the login's, and would get the key back with a refusal",
            NotStamped::NoKey => "the keyring has no key of this address",
            NotStamped::Ended => "the newest key of this address in the keyring has ended",
        }
    }
}

/// Why a message cannot be judged now and is to come again. The texts are for the log and the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Postponed {
    /// Whether the login owns the From address cannot be looked up.
    Owners(String),
    /// The keyring, or the AS that keys are fetched from, cannot be read.
    Keyring(String),
    /// It brings a new key, and no AS said whether the key is good.
    NewKey(Why),
    /// A budget for questions was spent before an AS said whether its key is right.
    Limited {
        /// The domain of the sender address. Its AS was to be asked.
        domain: String,
        /// The owner of the budget.
        by: Limited,
    },
}

/// The owner of a budget for questions that was spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limited {
    /// This filter: too many questions to this AS were under way, most of them about forged mail that other clients brought.
    Here,
    /// The AS (`e=limit`, or `e=stream` where TLS came to nothing). An AS always answers for a right key, so this was a wrong
    /// one.
    There,
}

impl Limited {
    /// The word of the log.
    pub fn word(self) -> &'static str {
        match self {
            Limited::Here => "here",
            Limited::There => "there",
        }
    }

    /// In plain words, about the AS of this domain.
    pub fn text(self, domain: &str) -> String {
        match self {
            Limited::Here => format!(
                "more questions to the Authentication Server of {domain} were to be asked than it is asked at a time, as when much \
                 forged mail comes in"
            ),
            Limited::There => {
                format!("the Authentication Server of {domain} was asked too often for its own limit (e=limit)")
            }
        }
    }
}

impl Postponed {
    /// The word of the log.
    pub fn word(&self) -> &'static str {
        match self {
            Postponed::Owners(_) => "owners",
            Postponed::Keyring(_) => "keyring",
            Postponed::NewKey(_) => "new-key",
            Postponed::Limited { by: Limited::Here, .. } => "limit-here",
            Postponed::Limited { by: Limited::There, .. } => "limit-there",
        }
    }

    /// In plain words.
    pub fn text(&self) -> String {
        match self {
            Postponed::Owners(error) => format!("whether the login owns the From address cannot be looked up: {error}"),
            Postponed::Keyring(error) => format!("the sender's key cannot be had: {error}"),
            Postponed::NewKey(why) => {
                format!("the new key that it brings could not be checked at the Authentication Server ({})", why.word())
            }
            Postponed::Limited { domain, by } => format!("its key could not be checked, since {}", by.text(domain)),
        }
    }
}
