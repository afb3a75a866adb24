//! The four nouns (what the MTA said, what was found, what was decided, what is answered), and the case that holds them.

use serde::{Deserialize, Serialize};

use crate::proto::address::Address;
use crate::proto::header::Edit;

mod answerer;
mod finding;
mod keys;
mod line;
mod mail;
mod means;
mod recipient;
mod result;
mod shadow;
mod silence;
mod tally;
pub mod trail;
mod unreported;
mod wish;
mod written;

pub use answerer::Answerer;
pub use finding::{AuthResult, Finding, Found, MailAuth, Submitted};
pub use keys::{Learned, Limited, NewKey, NotLearned, NotStamped, Postponed, Proven, Stamp};
pub use mail::{Body, Client, Door, Envelope, Field, Head, Mail, ReversePath};
pub use means::Means;
pub use recipient::{Place, Recipient};
pub use result::{Direction, KeyStatus, Why};
pub use shadow::{Compared, Differs, Opinion, Opinions, Shadow, candidate};
pub use silence::{is_silent_drop, restrained};
pub use tally::Carried;
pub use unreported::{Unreported, unreported_in};
pub use wish::Wish;
pub use written::{
    CASE_VERSION, WrittenCase, WrittenFinding, WrittenFound, WrittenNewKey, WrittenPutOff, WrittenRedirect,
    WrittenRefusal, WrittenReply, WrittenStamp, WrittenSubmitted, WrittenVariant, WrittenVerdict, stamp,
};

/// What a policy wants to happen (the contract's word).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Disposition {
    /// Deliver.
    Accept,
    /// Deliver, marked as suspicious.
    Mark,
    /// Keep it back for somebody to look at.
    Quarantine,
    /// Do not deliver.
    Reject,
    /// Ask the sending server to come again later.
    Defer,
}

/// Who is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Notify {
    /// The sender.
    pub sender: bool,
    /// The recipient.
    pub recipient: bool,
}

/// The level that chooses the policy for a message (INVARIANTS §1.5). The first of these that sets it wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    /// The recipient's own list of wanted senders.
    AllowList,
    /// The administrator, for this recipient.
    Recipient,
    /// The recipient.
    User,
    /// The administrator, for the recipient's domain.
    Domain,
    /// The administrator, for all.
    Site,
}

/// How a marked message is shown to its recipient (scenario 2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MarkAs {
    /// A field that filters know.
    #[default]
    Header,
    /// It goes to the recipient's spam folder.
    Folder,
}

/// A decision, and the recipients for whom it was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Indices into [`Envelope::recipients`].
    pub recipients: Vec<usize>,
    /// The level that chose the policy.
    pub by: By,
    /// How a mark is shown to these recipients.
    pub mark: MarkAs,
    /// The policy's id in the configuration.
    pub policy: String,
    /// SHA-256 of the component that decided, as hexadecimal digits.
    pub digest: String,
    /// What happens.
    pub disposition: Disposition,
    /// Who is told.
    pub notify: Notify,
    /// The policy's own words: at most 400 octets of printable ASCII.
    pub reason: String,
    /// The fault, where this is the configured failure decision and not the policy's.
    pub fault: Option<String>,
    /// What the policy asked for and does not get, since the host does not allow it.
    pub clamped: Option<String>,
    /// Why the recipient's own rules did not decide, where there are some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passed_over: Option<String>,
    /// Why the recipient's own rules cannot be read, where that is why they did not decide.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules_unread: Option<String>,
    /// The facts that the policy saw, as the contract's JSON: what recomputing the decision needs.
    pub facts: serde_json::Value,
    /// The policy's settings, by name; where they are long, their SHA-256 as hexadecimal digits.
    pub settings: serde_json::Value,
    /// What a candidate decided beside it, where there is one for this message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<Box<Shadow>>,
}

/// What the MTA is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The fate of the message.
    pub verdict: Verdict,
    /// Changes to its header, in the order in which they are to be made.
    pub edits: Vec<Edit>,
    /// Recipients (indices) that the MTA is to strike out, although the message is accepted for others.
    pub removed: Vec<usize>,
    /// Recipients that get the message in a spam folder: the MTA strikes them out and puts these paths in their place.
    pub redirected: Vec<Redirect>,
    /// Recipients whose copies are changed in another way than `edits` says: only at [`Door::Delivery`].
    pub variants: Vec<Variant>,
    /// Recipients that are refused for now while the others are not: only at [`Door::Delivery`].
    pub put_off: Vec<PutOff>,
    /// What must be durable before the MTA hears of the verdict.
    pub owed: Vec<Owed>,
    /// Why the sender gets no report. Present where a decision wants the sender told and the message is not refused.
    pub unreported: Option<Unreported>,
}

impl Reply {
    /// A verdict that changes nothing and owes nothing.
    pub fn bare(verdict: Verdict) -> Reply {
        Reply {
            verdict,
            edits: Vec::new(),
            removed: Vec::new(),
            redirected: Vec::new(),
            variants: Vec::new(),
            put_off: Vec::new(),
            owed: Vec::new(),
            unreported: None,
        }
    }

    /// Whether a report to the reverse-path is owed.
    pub fn owes_report(&self) -> bool {
        self.owed.iter().any(|owed| matches!(owed, Owed::Report(_)))
    }

    /// Whether what is owed cannot be kept without the message's body.
    pub fn wants_body(&self) -> bool {
        let whole =
            |owed: &Owed| matches!(owed, Owed::Quarantine(_) | Owed::Copy(_) | Owed::Apart(_) | Owed::Folder(_));
        self.owed.iter().any(whole)
    }
}

/// A recipient whose copy goes to another address, that of the recipient's spam folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "WrittenRedirect", try_from = "WrittenRedirect")]
pub struct Redirect {
    /// Index into [`Envelope::recipients`].
    pub recipient: usize,
    /// Where it goes.
    pub to: Address,
}

/// Changes to the header of some recipients' copies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variant {
    /// Indices into [`Envelope::recipients`].
    pub recipients: Vec<usize>,
    /// All changes to these copies, in the order in which they are to be made.
    pub edits: Vec<Edit>,
}

/// A recipient that is refused for now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutOff {
    /// Index into [`Envelope::recipients`].
    pub recipient: usize,
    /// The refusal.
    pub refusal: Refusal,
}

/// The fate of a message: exactly one of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Deliver it.
    Accept,
    /// Deliver nothing yet: the MTA's hold queue, with our reason.
    Hold(String),
    /// Say 250 and drop it.
    Discard,
    /// Refuse it for good.
    Reject(Refusal),
    /// Refuse it for now.
    Defer(Refusal),
}

/// An SMTP refusal (RFC 5321 §4.2, RFC 3463); code and class are always ours, never a policy's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reply code, such as 550.
    pub code: u16,
    /// The enhanced status code, such as 5.7.1.
    pub status: &'static str,
    /// The text: one line of printable ASCII without `%`.
    pub text: String,
}

/// Something that we owe once the MTA has our answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Owed {
    /// A journal row, since some recipient gets no message from the MTA.
    Record,
    /// A notice to the recipient with this index.
    Notice(usize),
    /// A letter to the recipient with this index, whose own rules cannot be read.
    RulesUnread(usize),
    /// A delivery status notification to the reverse-path about these recipients (RFC 3464).
    Report(Vec<usize>),
    /// A copy in our quarantine for these recipients.
    Quarantine(Vec<usize>),
    /// A marked copy, delivered anew to these recipients.
    Copy(Vec<usize>),
    /// A copy without the mark for these recipients, whose mail ends here while the message itself leaves in another form.
    Apart(Vec<usize>),
    /// A copy without the mark, to the spam folders of these recipients.
    Folder(Vec<Redirect>),
}

/// A message from its envelope to our answer: log line, journal row, test output and golden file in one.
///
/// It prints and serialises without any key.
#[derive(Clone, Debug)]
pub struct Case {
    /// What the MTA said.
    pub mail: Mail,
    /// What was found.
    pub finding: Finding,
    /// What was decided.
    pub decisions: Vec<Decision>,
    /// What the MTA is told.
    pub reply: Reply,
}

impl Verdict {
    /// One word for logs and tables.
    pub fn word(&self) -> &'static str {
        match self {
            Verdict::Accept => "accept",
            Verdict::Hold(_) => "hold",
            Verdict::Discard => "discard",
            Verdict::Reject(_) => "reject",
            Verdict::Defer(_) => "defer",
        }
    }
}

impl Disposition {
    /// The contract's word.
    pub fn word(self) -> &'static str {
        match self {
            Disposition::Accept => "accept",
            Disposition::Mark => "mark",
            Disposition::Quarantine => "quarantine",
            Disposition::Reject => "reject",
            Disposition::Defer => "defer",
        }
    }
}

impl By {
    /// The word of the log and of `config explain`.
    pub fn word(self) -> &'static str {
        match self {
            By::AllowList => "allow-list",
            By::Recipient => "recipient",
            By::User => "user",
            By::Domain => "domain",
            By::Site => "site",
        }
    }
}

impl Decision {
    /// The disposition and who is told, as one word: `reject+sender+recipient`.
    pub fn word(&self) -> String {
        let mut word = String::from(self.disposition.word());
        for (told, who) in [(self.notify.sender, "+sender"), (self.notify.recipient, "+recipient")] {
            word += if told { who } else { "" };
        }
        word
    }
}
