//! What the MTA said, what was found, what was decided, what is answered: the four nouns, and the case that holds them.

use std::net::IpAddr;
use std::time::SystemTime;

use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};

use crate::proto::address::Address;
use crate::proto::header::Edit;
use crate::proto::key::AuthKey;
use crate::proto::record::Claim;

/// A message as the MTA told it, up to the end of its header. Nothing changes it.
///
/// It holds no key outside of [`Mail::keys`]: the door moved the key fields there.
#[derive(Clone, Debug)]
pub struct Mail {
    /// When its MAIL command came, by the wall clock.
    pub received: SystemTime,
    /// The MTA's name for it; Postfix tells it at DATA.
    pub queue_id: Option<String>,
    /// Who brought it.
    pub client: Client,
    /// The name of the MTA's daemon that took it (`{daemon_name}`).
    pub daemon: String,
    /// The name the client logged in with (`{auth_authen}`).
    pub login: Option<String>,
    /// The reverse-path of MAIL.
    pub reverse_path: ReversePath,
    /// Whether MAIL said SMTPUTF8.
    pub smtputf8: bool,
    /// What MAIL said of the size, in octets.
    pub size: Option<u64>,
    /// The recipients that the MTA accepted, in order.
    pub recipients: Vec<Recipient>,
    /// The header fields, top first, without `X-Auth-Key` and `X-New-Auth-Key`.
    pub fields: Vec<Field>,
    /// One for each `X-Auth-Key` field, top first; `None` where its value is outside the grammar.
    pub keys: Vec<Option<AuthKey>>,
    /// A key field that no MTA command can remove, or a header block over its limits.
    pub malformed: bool,
}

/// The SMTP client, as the MTA told it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Client {
    /// Its address; absent on a unix socket.
    pub ip: Option<IpAddr>,
    /// Its name, where forward and reverse look-up agree.
    pub name: Option<String>,
    /// What it said in HELO or EHLO.
    pub helo: String,
    /// Whether the session is encrypted.
    pub tls: bool,
}

/// The reverse-path of MAIL (RFC 5321 §4.1.1.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReversePath {
    /// `<>`: a bounce or another automatic message.
    Null,
    /// A path; the address is absent where it is no addr-spec.
    Path(Option<Address>),
}

impl ReversePath {
    /// The address, where there is one.
    pub fn address(&self) -> Option<&Address> {
        match self {
            ReversePath::Path(Some(address)) => Some(address),
            _ => None,
        }
    }
}

/// A recipient that the MTA accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// The exact octets of RCPT, angle brackets included: what a deletion must echo.
    pub path: Vec<u8>,
    /// The same as an address; absent where it is no addr-spec.
    pub address: Option<Address>,
}

/// A header field as the MTA told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// The name, octets 33 to 126 without colon.
    pub name: String,
    /// The value as it stands: leading space and folds included, without the last line ending.
    pub value: Vec<u8>,
}

impl Mail {
    /// The fields of this name, top first, letter case ignored.
    pub fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Field> + 'a {
        self.fields.iter().filter(move |f| f.name.eq_ignore_ascii_case(name))
    }
}

/// Which way a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// To a domain of ours: it is examined.
    Inbound,
    /// From a login or trusted submitter of ours, to somebody elsewhere.
    Outbound,
    /// Neither: we forward or relay it, and the key stays.
    Relay,
    /// Written by ourselves: it carries our mark.
    Own,
}

/// The six results (invariants §1); one word in the configuration, the contract, the journal and the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyStatus {
    /// An AS said so, now or within the cache's bound; or the sender is our own login.
    Valid,
    /// An AS said so.
    Invalid,
    /// The domain takes part, and there is no key.
    Missing,
    /// The domain publishes no AS.
    None,
    /// DNS or the AS failed, or there was no budget to ask.
    Unverified,
    /// No single address, or no single usable key.
    Unusable,
}

impl KeyStatus {
    /// All six, in the contract's order.
    pub const ALL: [KeyStatus; 6] = [
        KeyStatus::Valid,
        KeyStatus::Invalid,
        KeyStatus::Missing,
        KeyStatus::None,
        KeyStatus::Unverified,
        KeyStatus::Unusable,
    ];

    /// The word of the configuration, the contract and the journal.
    pub fn word(self) -> &'static str {
        match self {
            KeyStatus::Valid => "valid",
            KeyStatus::Invalid => "invalid",
            KeyStatus::Missing => "missing",
            KeyStatus::None => "none",
            KeyStatus::Unverified => "unverified",
            KeyStatus::Unusable => "unusable",
        }
    }

    /// The word of the `X-Auth-Key-Status` field.
    pub fn status_word(self) -> &'static str {
        match self {
            KeyStatus::Valid => "VALIDKEY",
            KeyStatus::Invalid => "INVALIDKEY",
            KeyStatus::Missing => "NOKEY",
            KeyStatus::None => "NOSERVER",
            KeyStatus::Unverified => "UNVERIFIED",
            KeyStatus::Unusable => "UNUSABLE",
        }
    }
}

/// The reason behind a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// The AS does not know this key for this address.
    Wrong,
    /// The key was right until at most 14 days ago.
    Expired,
    /// No From field.
    NoFrom,
    /// Several From fields, or several mailboxes in one.
    SeveralFrom,
    /// A From field without a usable address.
    BadAddress,
    /// Keys that differ.
    SeveralKeys,
    /// A key outside the grammar.
    BadKey,
    /// A key field that no MTA command can remove, or a header over its limits.
    MalformedHeader,
    /// DNS failed, or what it said is unusable.
    Dns,
    /// No answer from the AS in time.
    Timeout,
    /// Over a budget of ours or the AS's.
    Limit,
    /// Asking would expose the key.
    NoProof,
}

impl Why {
    /// The word of the contract, the journal and the `reason=` of the status field.
    pub fn word(self) -> &'static str {
        match self {
            Why::Wrong => "wrong",
            Why::Expired => "expired",
            Why::NoFrom => "no-from",
            Why::SeveralFrom => "several-from",
            Why::BadAddress => "bad-address",
            Why::SeveralKeys => "several-keys",
            Why::BadKey => "bad-key",
            Why::MalformedHeader => "malformed-header",
            Why::Dns => "dns",
            Why::Timeout => "timeout",
            Why::Limit => "limit",
            Why::NoProof => "no-proof",
        }
    }
}

/// What is known of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Finding {
    /// Not ours to judge: it passes untouched.
    Passing(Direction),
    /// Inbound, and examined.
    Found(Found),
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
    /// The AS that said so, as host:port.
    pub authority: Option<String>,
    /// Whether the answer came from our cache.
    pub cached: bool,
}

impl Found {
    /// A result without an AS behind it.
    pub fn bare(status: KeyStatus, why: Option<Why>, sender: Option<Address>) -> Found {
        Found { status, why, sender, claim: None, authority: None, cached: false }
    }
}

/// What a policy wants to happen (the contract's word).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Notify {
    /// The sender.
    pub sender: bool,
    /// The recipient.
    pub recipient: bool,
}

/// One decision, for the recipients it was made for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// Indices into [`Mail::recipients`].
    pub recipients: Vec<usize>,
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
    /// What the policy asked for, where the host held it back.
    pub clamped: Option<String>,
}

/// What the MTA is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reply {
    /// The fate of the message.
    pub verdict: Verdict,
    /// Changes to its header, in the order in which they are to be made.
    #[serde(skip)]
    pub edits: Vec<Edit>,
    /// What must be durable before the MTA hears of the verdict.
    pub owed: Vec<Owed>,
}

/// The fate of a message: exactly one of these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// The reply code, such as 550.
    pub code: u16,
    /// The enhanced status code, such as 5.7.1.
    pub status: &'static str,
    /// The text: one line of printable ASCII without `%`.
    pub text: String,
}

/// Something that we owe once the MTA has our answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Owed {
    /// A journal row: the message goes nowhere else.
    Record,
    /// A notice to the recipient with this index.
    Notice(usize),
}

/// A message from its envelope to our answer: log line, journal row, test output and golden file in one.
///
/// It can hold no key: `Mail.keys` is not serialised.
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

/// The version of a case's JSON; a change that an old reader would misread raises it.
pub const CASE_VERSION: u32 = 1;

impl Serialize for Case {
    /// The case without the header and without any key: what the journal keeps and `--json` prints.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mail = &self.mail;
        let path = |path: &[u8]| String::from_utf8_lossy(path).into_owned();
        let received = mail.received.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut object = serializer.serialize_struct("Case", 12)?;
        object.serialize_field("version", &CASE_VERSION)?;
        object.serialize_field("queue_id", &mail.queue_id)?;
        object.serialize_field("received", &received.as_secs())?;
        object.serialize_field("client", &mail.client)?;
        object.serialize_field("daemon", &mail.daemon)?;
        object.serialize_field("login", &mail.login)?;
        object.serialize_field("reverse_path", &mail.reverse_path.address().map(ToString::to_string))?;
        let recipients: Vec<String> = mail.recipients.iter().map(|r| path(&r.path)).collect();
        object.serialize_field("recipients", &recipients)?;
        object.serialize_field("keys", &mail.keys.len())?;
        object.serialize_field("finding", &self.finding)?;
        object.serialize_field("decisions", &self.decisions)?;
        object.serialize_field("reply", &self.reply)?;
        object.end()
    }
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

impl Case {
    /// The case as one line for the log, queue id first; what came from outside is escaped.
    pub fn line(&self) -> String {
        let mut line = format!("{}:", plain(self.mail.queue_id.as_deref().unwrap_or("-")));
        let mut word = |name: &str, value: &str| {
            line.push_str(&format!(" {name}={}", plain(value)));
        };
        match &self.finding {
            Finding::Passing(direction) => word("direction", direction.word()),
            Finding::Found(found) => {
                word("result", found.status.word());
                if let Some(why) = found.why {
                    word("why", why.word());
                }
                if let Some(sender) = &found.sender {
                    word("from", &sender.to_string());
                }
                if let Some(authority) = &found.authority {
                    word("as", authority);
                    word("cached", if found.cached { "yes" } else { "no" });
                }
            }
        }
        for decision in &self.decisions {
            word("policy", &decision.policy);
            word("decision", &decision.word());
            for (name, text) in [("fault", &decision.fault), ("clamped", &decision.clamped)] {
                if let Some(text) = text {
                    word(name, text);
                }
            }
        }
        word("recipients", &self.mail.recipients.len().to_string());
        word("verdict", self.reply.verdict.word());
        line
    }
}

impl Direction {
    /// The word of the log.
    pub fn word(self) -> &'static str {
        match self {
            Direction::Inbound => "inbound",
            Direction::Outbound => "outbound",
            Direction::Relay => "relay",
            Direction::Own => "own",
        }
    }
}

/// Text as one word of a log line: as it is where it is plain, else quoted and escaped, and cut at 300 characters.
fn plain(text: &str) -> String {
    let short: String = text.chars().take(300).collect();
    let good = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\\' | '=');
    if !short.is_empty() && short.chars().all(good) { short } else { format!("\"{}\"", short.escape_default()) }
}

fn as_text<S: Serializer>(address: &Option<Address>, serializer: S) -> Result<S::Ok, S::Error> {
    match address {
        Some(address) => serializer.collect_str(address),
        None => serializer.serialize_none(),
    }
}
