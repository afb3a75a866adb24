//! What is found out about a message.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

use super::{Answerer, Direction, KeyStatus, Learned, Limited, NewKey, Postponed, Stamp, Why};
use crate::proto::address::Address;
use crate::proto::record::Claim;

/// What was found out about a message that a login of ours sends to somebody elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submitted {
    /// The address of the From field, where there is one.
    pub sender: Option<Address>,
    /// What becomes of its key fields.
    pub stamp: Stamp,
    /// What was found for the recipients whose mail ends here, as if the message went to them alone. Absent where there are
    /// none.
    pub inside: Option<Found>,
}

/// What is known of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Not ours to judge: it passes untouched.
    Passing(Direction),
    /// Inbound, and examined.
    Found(Found),
    /// A login of ours sends it to recipients elsewhere. For recipients here it is examined like mail that comes in.
    Submitted(Submitted),
    /// It cannot be judged now.
    Postponed(Postponed),
    /// The path of one recipient can be read in more than one way, so it is not known which policy to ask.
    Unclear,
}

impl Finding {
    /// The word of figures and of the journal's fields: a result, or why there is none.
    pub fn word(&self) -> &'static str {
        match self {
            Finding::Found(found) => found.status.word(),
            Finding::Submitted(_) => "submitted",
            Finding::Passing(_) => "passing",
            Finding::Postponed(_) => "postponed",
            Finding::Unclear => "unclear",
        }
    }

    /// The sender address, where the message was looked at and has one.
    pub fn sender(&self) -> Option<&Address> {
        match self {
            Finding::Found(found) => found.sender.as_ref(),
            Finding::Submitted(submitted) => submitted.sender.as_ref(),
            Finding::Passing(_) | Finding::Postponed(_) | Finding::Unclear => None,
        }
    }

    /// What was found for the recipients whose mail ends here. Absent where there are none.
    pub fn found(&self) -> Option<&Found> {
        match self {
            Finding::Found(found) => Some(found),
            Finding::Submitted(submitted) => submitted.inside.as_ref(),
            Finding::Passing(_) | Finding::Postponed(_) | Finding::Unclear => None,
        }
    }

    /// The same, for changing it.
    pub fn found_mut(&mut self) -> Option<&mut Found> {
        match self {
            Finding::Found(found) => Some(found),
            Finding::Submitted(submitted) => submitted.inside.as_mut(),
            Finding::Passing(_) | Finding::Postponed(_) | Finding::Unclear => None,
        }
    }

    /// What the journal's row says in words beside the decisions.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        match self {
            Finding::Passing(_) | Finding::Found(_) => {}
            Finding::Postponed(postponed) => notes.push(postponed.text()),
            Finding::Unclear => notes.push("a recipient's path can be read in more than one way".into()),
            Finding::Submitted(Submitted { stamp: Stamp::Bare(why), .. }) => {
                notes.push(format!("no key was put on top, since {}", why.text()));
            }
            Finding::Submitted(_) => {}
        }
        notes.extend(self.found().map(Found::notes).unwrap_or_default());
        notes
    }
}

/// What was found out about an inbound message's key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Found {
    /// The result.
    pub status: KeyStatus,
    /// The reason, where the result has one.
    pub why: Option<Why>,
    /// The sender address: that of the one From field.
    #[serde(serialize_with = "as_text")]
    pub sender: Option<Address>,
    /// What the sender's domain claims; absent where it publishes no AS.
    pub claim: Option<Claim>,
    /// The AS that answered.
    #[serde(serialize_with = "as_text")]
    pub authority: Option<Answerer>,
    /// Whether the answer came from our cache.
    pub cached: bool,
    /// What servers that we trust found out by SPF, DKIM and DMARC; absent where none of them said anything.
    pub mail_auth: Option<MailAuth>,
    /// What was found out about the new key that it brings; absent where it brings none.
    #[serde(skip)]
    pub new_key: Option<NewKey>,
    /// How many of the message's fields, counted from the top, our own servers wrote. Those below came in with the message.
    #[serde(skip)]
    pub own_fields: usize,
    /// The message carries a living key of an address of ours, and was brought by a stranger: neither by a login that owns
    /// the address nor by a server of ours.
    #[serde(skip)]
    pub own_key: bool,
    /// Recipients (indices, ascending) whose mail does not end here. No policy decides about it.
    #[serde(skip)]
    pub elsewhere: Vec<usize>,
    /// The login or submitter that brought the message owns the reverse-path, so a report may go there. Looked up only where
    /// a report is wanted.
    #[serde(skip)]
    pub owns_path: bool,
    /// Days since the sender address was last found valid here; absent where it never was, or nobody remembers. Looked up only
    /// where a policy wants it.
    #[serde(skip)]
    pub last_valid: Option<u32>,
    /// The budget for questions that was spent. The message is judged all the same, since `observe = true`.
    #[serde(skip)]
    pub limited: Option<Limited>,
}

impl Found {
    /// A result that no AS gave.
    pub fn bare(status: KeyStatus, why: Option<Why>, sender: Option<Address>) -> Found {
        Found {
            status,
            why,
            sender,
            claim: None,
            authority: None,
            cached: false,
            mail_auth: None,
            new_key: None,
            own_fields: 0,
            own_key: false,
            elsewhere: Vec::new(),
            owns_path: false,
            last_valid: None,
            limited: None,
        }
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        match &self.new_key {
            Some(NewKey::Proven(proven)) => {
                let word = proven.learned.map_or("not recorded yet", Learned::word);
                notes.push(format!("a new key of {}: {word}", proven.address));
            }
            Some(NewKey::Refused(why)) => {
                notes.push(format!("the new key that it brings is not learned, since {}", why.text()));
            }
            None => {}
        }
        if let (Some(limited), Some(sender)) = (self.limited, &self.sender) {
            let why = limited.text(sender.domain().as_str());
            notes.push(format!("without `observe` the message would have been put off, since {why}"));
        }
        if let (true, Some(sender)) = (self.own_key, &self.sender) {
            notes.push(format!(
                "a living key of {sender} came in from outside: `addrauth key rotate {sender}`, and once the new one is \
                 learned, `addrauth key revoke {sender} --only FINGERPRINT` for this one"
            ));
        }
        notes
    }

    /// Whether the mail of the recipient with this index ends here, so that a policy decides about it.
    pub fn concerns(&self, recipient: usize) -> bool {
        self.elsewhere.binary_search(&recipient).is_err()
    }
}

/// A word of an Authentication-Results field (RFC 8601 §2.7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthResult {
    /// Nothing was said, or there was nothing to check.
    #[default]
    None,
    /// It passed.
    Pass,
    /// It failed.
    Fail,
    /// SPF: probably not authorised.
    Softfail,
    /// Neither.
    Neutral,
    /// It passed, and a policy of that server does not accept it.
    Policy,
    /// A failure that may pass.
    Temperror,
    /// A failure that will not.
    Permerror,
}

impl AuthResult {
    /// The word of the log and of RFC 8601.
    pub fn word(self) -> &'static str {
        match self {
            AuthResult::None => "none",
            AuthResult::Pass => "pass",
            AuthResult::Fail => "fail",
            AuthResult::Softfail => "softfail",
            AuthResult::Neutral => "neutral",
            AuthResult::Policy => "policy",
            AuthResult::Temperror => "temperror",
            AuthResult::Permerror => "permerror",
        }
    }
}

/// What servers that we trust found out by other methods (RFC 8601).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct MailAuth {
    /// SPF of the reverse-path (RFC 7208); a result for the HELO name alone is none.
    pub spf: AuthResult,
    /// SPF passed for the domain of the sender address or a relative of it. Of two relatives one is below the other, which
    /// has two labels or more: a simple rule, since there is no public suffix list here.
    pub spf_aligned: bool,
    /// SPF passed for the domain of the reverse-path itself, so a report to it reaches no innocent third party.
    pub spf_of_path: bool,
    /// The best of the DKIM signatures (RFC 6376): pass, policy, neutral, fail, permerror, temperror, in this order.
    pub dkim: AuthResult,
    /// A signature passed for the domain (`header.d` or `header.i`) of the sender address, or a relative of it as above.
    pub dkim_aligned: bool,
    /// DMARC (RFC 7489).
    pub dmarc: AuthResult,
}

fn as_text<T: fmt::Display, S: Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_none(),
    }
}
