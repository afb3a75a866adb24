//! A case written down: the one form of it that the journal keeps and `--json` prints, and how it is read again.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use humantime_serde::re::humantime::format_rfc3339_millis;
use serde::{Deserialize, Serialize, Serializer};

use super::{Case, Client, Decision, Direction, Finding, Found, KeyStatus, Learned, MailAuth, NewKey, NotLearned};
use super::{
    NotStamped, Owed, Postponed, PutOff, Redirect, Reply, ReversePath, Stamp, Unreported, Variant, Verdict, Why,
};
use crate::proto::address::{Address, BadAddress};
use crate::proto::header::{Edit, KEY_FIELD};
use crate::proto::record::Claim;
use crate::proto::redact::Redactor;

/// The version of a case's JSON; a change that an old reader would misread raises it.
pub const CASE_VERSION: u32 = 2;

/// A case written down: envelope, finding, decisions and reply. Of the header it has the From address and nothing else, and
/// never a key: where a stranger's words repeat one, it is cut out. The recipients stand as they are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WrittenCase {
    /// [`CASE_VERSION`].
    pub version: u32,
    /// When MAIL came, as RFC 3339.
    pub received: String,
    /// The MTA's name for the message.
    pub queue_id: Option<String>,
    /// Who brought it.
    pub client: Client,
    /// The MTA's daemon that took it.
    pub daemon: String,
    /// The name the client logged in with.
    pub login: Option<String>,
    /// The reverse-path in angle brackets, `<>` being the null one; absent where it is no address.
    pub reverse_path: Option<String>,
    /// The recipients' addresses in angle brackets; the path of RCPT, escaped, for one who has no address.
    pub recipients: Vec<String>,
    /// What MAIL said of the size, in octets.
    pub size: Option<u64>,
    /// How many key fields it had.
    pub keys: usize,
    /// What was found.
    pub finding: WrittenFinding,
    /// What was decided.
    pub decisions: Vec<Decision>,
    /// What the MTA was told.
    pub reply: WrittenReply,
    /// An address was erased from it afterwards, so making the decisions again may come out differently.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub erased: bool,
    /// The facts were too large to keep: the decisions cannot be made again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shortened: bool,
}

/// A [`Finding`] written down.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WrittenFinding {
    /// Not ours to judge.
    Passing(Direction),
    /// Examined, for the recipients whose mail ends here.
    Found(WrittenFound),
    /// Sent by a login of ours.
    Submitted(WrittenSubmitted),
    /// Not to be judged now.
    Postponed(Postponed),
    /// The path of one recipient can be read in more than one way.
    Unclear,
}

impl WrittenFinding {
    /// What was found for the recipients whose mail ends here. Absent where there are none.
    pub fn found(&self) -> Option<&WrittenFound> {
        match self {
            WrittenFinding::Found(found) => Some(found),
            WrittenFinding::Submitted(submitted) => submitted.inside.as_ref(),
            WrittenFinding::Passing(_) | WrittenFinding::Postponed(_) | WrittenFinding::Unclear => None,
        }
    }
}

/// A [`super::Submitted`] written down.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WrittenSubmitted {
    /// The address of the From field.
    pub sender: Option<String>,
    /// What became of its key fields.
    pub stamp: WrittenStamp,
    /// What was found for the recipients whose mail ends here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inside: Option<WrittenFound>,
}

/// A [`Stamp`] written down.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WrittenStamp {
    /// The key with this fingerprint was put on top.
    Newest(String),
    /// Its client's own key stayed.
    Client,
    /// None was put there.
    Bare(NotStamped),
}

/// A [`NewKey`] written down.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WrittenNewKey {
    /// The AS vouched for it.
    Proven {
        /// The address that it belongs to.
        address: String,
        /// The fingerprint, which tells it apart from others and reveals nothing.
        fingerprint: String,
        /// When it ends, as RFC 3339.
        ends: String,
        /// The AS that vouched for it, as host:port.
        authority: Option<String>,
        /// What became of it; absent where it could not be recorded.
        learned: Option<Learned>,
    },
    /// Nothing was learned.
    Refused(NotLearned),
}

/// A [`super::Found`] written down.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WrittenFound {
    /// The result.
    pub status: KeyStatus,
    /// Its reason.
    pub why: Option<Why>,
    /// The address of the From field.
    pub sender: Option<String>,
    /// What its domain claims.
    pub claim: Option<Claim>,
    /// The AS that answered, as host:port; ` over TLS` follows where that is so.
    pub authority: Option<String>,
    /// Whether the answer came from the cache.
    pub cached: bool,
    /// What other methods found.
    pub mail_auth: Option<MailAuth>,
    /// What became of the new key that it brought.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_key: Option<WrittenNewKey>,
    /// It carried a living key of an address of ours from outside.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub own_key: bool,
    /// Recipients (indices) whose mail does not end here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub elsewhere: Vec<usize>,
}

/// A [`Reply`] written down.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WrittenReply {
    /// The fate of the message.
    pub verdict: WrittenVerdict,
    /// The fields that the MTA was to write, by name.
    pub added: Vec<String>,
    /// Recipients (indices) struck out of an accepted message.
    pub removed: Vec<usize>,
    /// Recipients who got it in their spam folder.
    pub redirected: Vec<WrittenRedirect>,
    /// Recipients whose copies got other fields than `added`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub variants: Vec<WrittenVariant>,
    /// Recipients who were refused for now while the others were not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub put_off: Vec<WrittenPutOff>,
    /// What had to be durable first.
    pub owed: Vec<Owed>,
    /// Why the sender got no report, although a decision wanted the sender told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreported: Option<Unreported>,
}

/// A [`super::Variant`] written down.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WrittenVariant {
    /// Indices of the recipients.
    pub recipients: Vec<usize>,
    /// The fields that were written into their copies, by name.
    pub added: Vec<String>,
}

/// A [`super::PutOff`] written down.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WrittenPutOff {
    /// Index of the recipient.
    pub recipient: usize,
    /// The refusal.
    pub refusal: WrittenRefusal,
}

impl WrittenReply {
    /// The fields that were written into this recipient's copy, by name.
    pub fn added_for(&self, recipient: usize) -> &[String] {
        let own = self.variants.iter().find(|variant| variant.recipients.contains(&recipient));
        own.map_or(&self.added, |variant| &variant.added)
    }
}

/// A [`super::Redirect`] written down.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WrittenRedirect {
    /// Index of the recipient.
    pub recipient: usize,
    /// Where it went.
    pub to: String,
}

impl From<Redirect> for WrittenRedirect {
    fn from(redirect: Redirect) -> WrittenRedirect {
        WrittenRedirect { recipient: redirect.recipient, to: redirect.to.to_string() }
    }
}

impl TryFrom<WrittenRedirect> for Redirect {
    type Error = BadAddress;

    fn try_from(told: WrittenRedirect) -> Result<Redirect, BadAddress> {
        Ok(Redirect { recipient: told.recipient, to: Address::parse(told.to.as_bytes(), true)? })
    }
}

/// A [`Verdict`] written down.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WrittenVerdict {
    /// Delivered.
    Accept,
    /// In the MTA's hold queue, with this reason.
    Hold(String),
    /// 250, and dropped.
    Discard,
    /// Refused for good.
    Reject(WrittenRefusal),
    /// Refused for now.
    Defer(WrittenRefusal),
}

/// A [`super::Refusal`] written down.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WrittenRefusal {
    /// The reply code.
    pub code: u16,
    /// The enhanced status code.
    pub status: String,
    /// The text.
    pub text: String,
}

impl WrittenCase {
    /// Reads what was written down, by this version or an older one.
    ///
    /// # Errors
    /// In words why it cannot be read.
    pub fn read(json: &str) -> Result<WrittenCase, String> {
        let case: WrittenCase = serde_json::from_str(json).map_err(|e| e.to_string())?;
        match case.version {
            // Each version so far says what the one before it said, and more.
            1..=CASE_VERSION => Ok(case),
            other => Err(format!("it has version {other}, and 1 to {CASE_VERSION} are known")),
        }
    }

    /// Writes a case down.
    pub fn of(case: &Case) -> WrittenCase {
        let mail = &case.mail;
        let redactor = mail.redactor();
        let clean = |text: &str| redactor.cut_text(text).into_owned();
        let Client { name, helo, .. } = &mail.client;
        let client = Client { name: name.as_deref().map(clean), helo: clean(helo), ..mail.client.clone() };
        let decided = |decision: &Decision| Decision {
            reason: clean(&decision.reason),
            fault: decision.fault.as_deref().map(clean),
            passed_over: decision.passed_over.as_deref().map(clean),
            rules_unread: decision.rules_unread.as_deref().map(clean),
            shadow: decision.shadow.as_deref().map(|shadow| Box::new(shadow.told(clean))),
            ..decision.clone()
        };
        WrittenCase {
            version: CASE_VERSION,
            received: stamp(mail.received),
            queue_id: mail.queue_id.clone(),
            client,
            daemon: mail.daemon.clone(),
            login: mail.login.as_deref().map(clean),
            reverse_path: match &mail.reverse_path {
                ReversePath::Null => Some("<>".to_owned()),
                ReversePath::Path(address) => address.as_ref().map(|address| clean(&format!("<{address}>"))),
            },
            recipients: mail.recipients.iter().map(|recipient| format!("<{}>", recipient.shown())).collect(),
            size: mail.size,
            keys: mail.head().keys.len(),
            finding: finding(&case.finding, &redactor),
            decisions: case.decisions.iter().map(decided).collect(),
            reply: reply(&case.reply, &redactor),
            erased: false,
            shortened: false,
        }
    }
}

impl Serialize for Case {
    /// As its [`WrittenCase`]: without the header and without any key.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        WrittenCase::of(self).serialize(serializer)
    }
}

impl MailAuth {
    /// The results in one line: `spf=pass dkim=fail dmarc=none`.
    pub fn words(&self) -> String {
        format!("spf={} dkim={} dmarc={}", self.spf.word(), self.dkim.word(), self.dmarc.word())
    }
}

fn finding(finding: &Finding, redactor: &Redactor) -> WrittenFinding {
    let clean = |text: &str| redactor.cut_text(text).into_owned();
    let address = |address: &Address| clean(&address.to_string());
    match finding {
        Finding::Passing(direction) => WrittenFinding::Passing(*direction),
        Finding::Found(found) => WrittenFinding::Found(told(found, found.sender.as_ref().map(address))),
        Finding::Submitted(submitted) => WrittenFinding::Submitted(WrittenSubmitted {
            sender: submitted.sender.as_ref().map(address),
            stamp: match &submitted.stamp {
                Stamp::Newest(key) => WrittenStamp::Newest(key.verify_key().fingerprint()),
                Stamp::Client => WrittenStamp::Client,
                Stamp::Bare(why) => WrittenStamp::Bare(*why),
            },
            inside: submitted.inside.as_ref().map(|found| told(found, found.sender.as_ref().map(address))),
        }),
        Finding::Postponed(postponed) => WrittenFinding::Postponed(match postponed {
            Postponed::Owners(error) => Postponed::Owners(clean(error)),
            Postponed::Keyring(error) => Postponed::Keyring(clean(error)),
            Postponed::NewKey(why) => Postponed::NewKey(*why),
            Postponed::Limited { domain, by } => Postponed::Limited { domain: clean(domain), by: *by },
        }),
        Finding::Unclear => WrittenFinding::Unclear,
    }
}

fn told(found: &Found, sender: Option<String>) -> WrittenFound {
    WrittenFound {
        status: found.status,
        why: found.why,
        sender,
        claim: found.claim,
        authority: found.authority.as_ref().map(ToString::to_string),
        cached: found.cached,
        mail_auth: found.mail_auth,
        new_key: found.new_key.as_ref().map(|new_key| match new_key {
            NewKey::Proven(proven) => WrittenNewKey::Proven {
                address: proven.address.to_string(),
                fingerprint: proven.key.verify_key().fingerprint(),
                ends: stamp(proven.ends),
                authority: proven.authority.as_ref().map(ToString::to_string),
                learned: proven.learned,
            },
            NewKey::Refused(why) => WrittenNewKey::Refused(*why),
        }),
        own_key: found.own_key,
        elsewhere: found.elsewhere.clone(),
    }
}

fn reply(reply: &Reply, redactor: &Redactor) -> WrittenReply {
    let refusal = |refusal: &super::Refusal| WrittenRefusal {
        code: refusal.code,
        status: refusal.status.to_owned(),
        text: redactor.cut_text(&refusal.text).into_owned(),
    };
    let put_off = |put_off: &PutOff| WrittenPutOff { recipient: put_off.recipient, refusal: refusal(&put_off.refusal) };
    let variant =
        |variant: &Variant| WrittenVariant { recipients: variant.recipients.clone(), added: added(&variant.edits) };
    WrittenReply {
        verdict: match &reply.verdict {
            Verdict::Accept => WrittenVerdict::Accept,
            Verdict::Hold(reason) => WrittenVerdict::Hold(redactor.cut_text(reason).into_owned()),
            Verdict::Discard => WrittenVerdict::Discard,
            Verdict::Reject(why) => WrittenVerdict::Reject(refusal(why)),
            Verdict::Defer(why) => WrittenVerdict::Defer(refusal(why)),
        },
        added: added(&reply.edits),
        removed: reply.removed.clone(),
        redirected: reply.redirected.iter().cloned().map(WrittenRedirect::from).collect(),
        variants: reply.variants.iter().map(variant).collect(),
        put_off: reply.put_off.iter().map(put_off).collect(),
        owed: reply.owed.clone(),
        unreported: reply.unreported,
    }
}

/// The fields that these changes write, by name.
fn added(edits: &[Edit]) -> Vec<String> {
    let added = edits.iter().filter_map(|edit| match edit {
        Edit::Insert { name, .. } => Some(name.clone()),
        Edit::InsertKey { .. } => Some(KEY_FIELD.to_owned()),
        Edit::Delete { .. } => None,
    });
    added.collect()
}

/// A time as RFC 3339 with milliseconds; a time beyond the year 9999 as the last second of that year.
pub fn stamp(at: SystemTime) -> String {
    let most = UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    format_rfc3339_millis(at.clamp(UNIX_EPOCH, most)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Limited;
    use crate::proto::key::AuthKey;

    #[test]
    fn a13_what_is_postponed_is_told_without_keys() {
        const KEY: &str = "vb3kq9w2zr7typ0sxn4mlc8dhf1gja6e";
        let key = AuthKey::parse(KEY.as_bytes()).unwrap();
        let text = format!("{KEY}.example");
        for postponed in [
            Postponed::Owners(text.clone()),
            Postponed::Keyring(text.clone()),
            Postponed::Limited { domain: text.clone(), by: Limited::Here },
        ] {
            let told = finding(&Finding::Postponed(postponed), &Redactor::new([&key]));
            let json = serde_json::to_string(&told).unwrap();
            assert!(!json.contains(KEY) && json.contains(".example"), "{json}");
        }
    }
}
