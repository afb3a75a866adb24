//! The types of `wit/policy.wit`, as the sandbox hands them to a component and takes them back.

#![allow(missing_docs, unreachable_pub, reason = "wit/policy.wit says what each of them means; flags! writes `pub`")]

use serde::{Deserialize, Serialize};
use wasmtime::component::{ComponentType, Lift, Lower, flags};

/// The interface that a component must export.
pub(crate) const INTERFACE: &str = "addrauth:policy/policy@0.1.0";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ComponentType, Lower, Lift, Serialize, Deserialize)]
#[component(enum)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum KeyStatus {
    #[component(name = "valid")]
    Valid,
    #[component(name = "invalid")]
    Invalid,
    #[component(name = "missing")]
    Missing,
    #[component(name = "none")]
    None,
    #[component(name = "unverified")]
    Unverified,
    #[component(name = "unusable")]
    Unusable,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ComponentType, Lower, Lift, Serialize, Deserialize)]
#[component(enum)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Why {
    #[component(name = "wrong")]
    Wrong,
    #[component(name = "expired")]
    Expired,
    #[component(name = "no-from")]
    NoFrom,
    #[component(name = "several-from")]
    SeveralFrom,
    #[component(name = "bad-address")]
    BadAddress,
    #[component(name = "several-keys")]
    SeveralKeys,
    #[component(name = "bad-key")]
    BadKey,
    #[component(name = "malformed-header")]
    MalformedHeader,
    #[component(name = "dns")]
    Dns,
    #[component(name = "timeout")]
    Timeout,
    #[component(name = "limit")]
    Limit,
    #[component(name = "no-proof")]
    NoProof,
    #[component(name = "other")]
    Other,
}

flags! {
    Wants {
        #[component(name = "why")]
        const WHY;
        #[component(name = "sender")]
        const SENDER;
        #[component(name = "recipient")]
        const RECIPIENT;
        #[component(name = "envelope-sender")]
        const ENVELOPE_SENDER;
        #[component(name = "client")]
        const CLIENT;
        #[component(name = "size")]
        const SIZE;
        #[component(name = "trail")]
        const TRAIL;
        #[component(name = "mail-auth")]
        const MAIL_AUTH;
        #[component(name = "claim")]
        const CLAIM;
    }
}

impl Wants {
    /// Every flag with its word.
    pub const WORDS: [(&'static str, Wants); 9] = [
        ("why", Wants::WHY),
        ("sender", Wants::SENDER),
        ("recipient", Wants::RECIPIENT),
        ("envelope-sender", Wants::ENVELOPE_SENDER),
        ("client", Wants::CLIENT),
        ("size", Wants::SIZE),
        ("trail", Wants::TRAIL),
        ("mail-auth", Wants::MAIL_AUTH),
        ("claim", Wants::CLAIM),
    ];

    /// Whether it asks for this fact.
    pub fn has(self, fact: Wants) -> bool {
        self & fact == fact
    }

    /// The words of the facts it asks for.
    pub fn words(self) -> Vec<&'static str> {
        Wants::WORDS.iter().filter(|(_, fact)| self.has(*fact)).map(|(word, _)| *word).collect()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, ComponentType, Lower, Lift, Serialize, Deserialize)]
#[component(record)]
#[serde(deny_unknown_fields)]
pub struct Address {
    #[component(name = "local")]
    pub local: String,
    #[component(name = "domain")]
    pub domain: String,
}

#[derive(Clone, Debug, PartialEq, Eq, ComponentType, Lower, Lift, Serialize, Deserialize)]
#[component(record)]
#[serde(deny_unknown_fields)]
pub struct Client {
    #[component(name = "ip")]
    pub ip: String,
    #[component(name = "name")]
    #[serde(default)]
    pub name: Option<String>,
    #[component(name = "helo")]
    #[serde(default)]
    pub helo: String,
    #[component(name = "tls")]
    #[serde(default)]
    pub tls: bool,
}

flags! {
    Trail {
        #[component(name = "mailing-list")]
        const MAILING_LIST;
        #[component(name = "forwarded")]
        const FORWARDED;
        #[component(name = "resent")]
        const RESENT;
        #[component(name = "automatic")]
        const AUTOMATIC;
        #[component(name = "bounce")]
        const BOUNCE;
    }
}

impl Trail {
    /// Every flag with its word.
    pub const WORDS: [(&'static str, Trail); 5] = [
        ("mailing-list", Trail::MAILING_LIST),
        ("forwarded", Trail::FORWARDED),
        ("resent", Trail::RESENT),
        ("automatic", Trail::AUTOMATIC),
        ("bounce", Trail::BOUNCE),
    ];
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ComponentType, Lower, Lift, Serialize, Deserialize)]
#[component(enum)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum AuthResult {
    #[default]
    #[component(name = "none")]
    None,
    #[component(name = "pass")]
    Pass,
    #[component(name = "fail")]
    Fail,
    #[component(name = "softfail")]
    Softfail,
    #[component(name = "neutral")]
    Neutral,
    #[component(name = "policy")]
    Policy,
    #[component(name = "temperror")]
    Temperror,
    #[component(name = "permerror")]
    Permerror,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ComponentType, Lower, Lift, Serialize, Deserialize)]
#[component(record)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct MailAuth {
    #[component(name = "spf")]
    #[serde(default)]
    pub spf: AuthResult,
    #[component(name = "spf-aligned")]
    #[serde(default)]
    pub spf_aligned: bool,
    #[component(name = "dkim")]
    #[serde(default)]
    pub dkim: AuthResult,
    #[component(name = "dkim-aligned")]
    #[serde(default)]
    pub dkim_aligned: bool,
    #[component(name = "dmarc")]
    #[serde(default)]
    pub dmarc: AuthResult,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ComponentType, Lower, Lift, Serialize, Deserialize)]
#[component(enum)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Claim {
    #[component(name = "testing")]
    Testing,
    #[component(name = "some")]
    Some,
    #[component(name = "all")]
    All,
}

#[derive(Clone, Debug, PartialEq, ComponentType, Lower, Lift)]
#[component(record)]
pub struct Facts {
    #[component(name = "status")]
    pub status: KeyStatus,
    #[component(name = "why")]
    pub why: Option<Why>,
    #[component(name = "sender")]
    pub sender: Option<Address>,
    #[component(name = "recipient")]
    pub recipient: Option<Address>,
    #[component(name = "envelope-sender")]
    pub envelope_sender: Option<Address>,
    #[component(name = "client")]
    pub client: Option<Client>,
    #[component(name = "size")]
    pub size: Option<u64>,
    #[component(name = "trail")]
    pub trail: Option<Trail>,
    #[component(name = "mail-auth")]
    pub mail_auth: Option<MailAuth>,
    #[component(name = "claim")]
    pub claim: Option<Claim>,
    #[component(name = "headers")]
    pub headers: Vec<Vec<String>>,
}

impl Facts {
    /// The facts of a message of which only the result is told.
    pub fn of(status: KeyStatus) -> Facts {
        Facts {
            status,
            why: None,
            sender: None,
            recipient: None,
            envelope_sender: None,
            client: None,
            size: None,
            trail: None,
            mail_auth: None,
            claim: None,
            headers: Vec::new(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, ComponentType, Lower, Lift, Serialize)]
#[component(variant)]
#[serde(untagged)]
pub enum Value {
    #[component(name = "text")]
    Text(String),
    #[component(name = "number")]
    Number(i64),
    #[component(name = "flag")]
    Flag(bool),
    #[component(name = "texts")]
    Texts(Vec<String>),
}

#[derive(Clone, Debug, PartialEq, ComponentType, Lower, Lift)]
#[component(variant)]
pub enum Kind {
    #[component(name = "text")]
    Text(Option<String>),
    #[component(name = "number")]
    Number(Option<i64>),
    #[component(name = "flag")]
    Flag(Option<bool>),
    #[component(name = "texts")]
    Texts(Option<Vec<String>>),
}

impl Kind {
    /// The type's name.
    pub fn word(&self) -> &'static str {
        match self {
            Kind::Text(_) => "a text",
            Kind::Number(_) => "a whole number",
            Kind::Flag(_) => "true or false",
            Kind::Texts(_) => "a list of texts",
        }
    }

    /// The default, where there is one.
    pub fn default_value(&self) -> Option<Value> {
        match self.clone() {
            Kind::Text(text) => text.map(Value::Text),
            Kind::Number(number) => number.map(Value::Number),
            Kind::Flag(flag) => flag.map(Value::Flag),
            Kind::Texts(texts) => texts.map(Value::Texts),
        }
    }
}

#[derive(Clone, Debug, PartialEq, ComponentType, Lower, Lift)]
#[component(record)]
pub struct Setting {
    #[component(name = "name")]
    pub name: String,
    #[component(name = "summary")]
    pub summary: String,
    #[component(name = "kind")]
    pub kind: Kind,
}

#[derive(Clone, Debug, PartialEq, ComponentType, Lower, Lift)]
#[component(record)]
pub struct Description {
    #[component(name = "name")]
    pub name: String,
    #[component(name = "version")]
    pub version: String,
    #[component(name = "summary")]
    pub summary: String,
    #[component(name = "wants")]
    pub wants: Wants,
    #[component(name = "headers")]
    pub headers: Vec<String>,
    #[component(name = "settings")]
    pub settings: Vec<Setting>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ComponentType, Lower, Lift)]
#[component(enum)]
#[allow(dead_code, reason = "made by the component alone")]
#[repr(u8)]
pub enum Disposition {
    #[component(name = "accept")]
    Accept,
    #[component(name = "mark")]
    Mark,
    #[component(name = "quarantine")]
    Quarantine,
    #[component(name = "reject")]
    Reject,
    #[component(name = "defer")]
    Defer,
}

flags! {
    Notify {
        #[component(name = "sender")]
        const SENDER;
        #[component(name = "recipient")]
        const RECIPIENT;
    }
}

#[derive(Clone, Debug, PartialEq, ComponentType, Lower, Lift)]
#[component(record)]
pub struct Decision {
    #[component(name = "disposition")]
    pub disposition: Disposition,
    #[component(name = "notify")]
    pub notify: Notify,
    #[component(name = "reason")]
    pub reason: String,
}
