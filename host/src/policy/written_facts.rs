//! Facts written down: in the cases beside a policy by its author, in a kept case by the program.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::sandbox::contract::{
    Address, AuthResult, Claim, Client, Description, Facts, KeyStatus, MailAuth, Trail, Value, Wanted, Wants, Why,
};

/// Facts as a person writes them, such as the `facts` of a case beside a policy; a fact that is not written is absent.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct WrittenFacts {
    status: KeyStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<Why>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sender: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recipient: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    envelope_sender: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<WrittenClient>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trail: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mail_auth: Option<WrittenAuth>,
    #[serde(skip_serializing_if = "Option::is_none")]
    claim: Option<Claim>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_valid: Option<u32>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, Vec<String>>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct WrittenClient {
    ip: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    helo: String,
    #[serde(default)]
    tls: bool,
}

/// A result that is not written is `none`.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct WrittenAuth {
    #[serde(default = "no_result")]
    spf: AuthResult,
    #[serde(default)]
    spf_aligned: bool,
    #[serde(default = "no_result")]
    dkim: AuthResult,
    #[serde(default)]
    dkim_aligned: bool,
    #[serde(default = "no_result")]
    dmarc: AuthResult,
}

fn no_result() -> AuthResult {
    AuthResult::None
}

impl WrittenFacts {
    /// The result and its reason, in the contract's words.
    pub(crate) fn status(&self) -> (KeyStatus, Option<Why>) {
        (self.status, self.why)
    }

    /// The recipient, where there is one.
    pub fn recipient(&self) -> Option<&str> {
        self.recipient.as_deref()
    }

    /// The reverse-path, where there is one.
    pub fn envelope_sender(&self) -> Option<&str> {
        self.envelope_sender.as_deref()
    }

    /// The same with so many days since the sender was last valid.
    #[must_use]
    pub fn last_valid(self, days: Option<u32>) -> WrittenFacts {
        WrittenFacts { last_valid: days, ..self }
    }

    /// Whether its addresses and marks can be read.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.facts(&Wanted { facts: Wants::all(), headers: Vec::new() }).map(drop)
    }

    /// A fact that is written here and that a policy which wants these never sees.
    pub(crate) fn beyond(&self, wanted: &Wanted) -> Option<String> {
        let told = [
            (Wants::WHY, self.why.is_some()),
            (Wants::SENDER, self.sender.is_some()),
            (Wants::RECIPIENT, self.recipient.is_some()),
            (Wants::ENVELOPE_SENDER, self.envelope_sender.is_some()),
            (Wants::CLIENT, self.client.is_some()),
            (Wants::SIZE, self.size.is_some()),
            (Wants::TRAIL, self.trail.is_some()),
            (Wants::MAIL_AUTH, self.mail_auth.is_some()),
            (Wants::CLAIM, self.claim.is_some()),
            (Wants::LAST_VALID, self.last_valid.is_some()),
        ];
        let fact = told.iter().find(|(fact, told)| *told && !wanted.has(*fact)).map(|(fact, _)| fact.words().join(" "));
        let known = |name: &String| wanted.headers.iter().any(|known| known.eq_ignore_ascii_case(name));
        fact.or_else(|| self.headers.keys().find(|name| !known(name)).map(|name| format!("headers.{name}")))
    }

    /// These facts, and those of `others` that are not written here. The result and its reason are these.
    #[must_use]
    pub fn over(self, others: WrittenFacts) -> WrittenFacts {
        let mut headers = others.headers;
        headers.extend(self.headers);
        WrittenFacts {
            status: self.status,
            why: self.why,
            sender: self.sender.or(others.sender),
            recipient: self.recipient.or(others.recipient),
            envelope_sender: self.envelope_sender.or(others.envelope_sender),
            client: self.client.or(others.client),
            size: self.size.or(others.size),
            trail: self.trail.or(others.trail),
            mail_auth: self.mail_auth.or(others.mail_auth),
            claim: self.claim.or(others.claim),
            last_valid: self.last_valid.or(others.last_valid),
            headers,
        }
    }

    /// The facts that the policy wants; the error says what is no fact.
    pub(crate) fn facts(&self, wanted: &Wanted) -> Result<Facts, String> {
        let wants = |fact| wanted.has(fact);
        let address = |fact, text: &Option<String>| match text {
            Some(text) if wants(fact) => {
                let (local, domain) = text.rsplit_once('@').ok_or(format!("`{text}` is no address"))?;
                Ok::<_, String>(Some(Address { local: local.into(), domain: domain.into() }))
            }
            _ => Ok(None),
        };
        let values = |name: &String| {
            let known = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
            known.map(|(_, values)| values.clone()).unwrap_or_default()
        };
        Ok(Facts {
            status: self.status,
            why: self.why.filter(|_| wants(Wants::WHY)),
            sender: address(Wants::SENDER, &self.sender)?,
            recipient: address(Wants::RECIPIENT, &self.recipient)?,
            envelope_sender: address(Wants::ENVELOPE_SENDER, &self.envelope_sender)?,
            client: self.client.clone().filter(|_| wants(Wants::CLIENT)).map(Into::into),
            size: self.size.filter(|_| wants(Wants::SIZE)),
            trail: self.trail.as_deref().filter(|_| wants(Wants::TRAIL)).map(trail).transpose()?,
            mail_auth: self.mail_auth.filter(|_| wants(Wants::MAIL_AUTH)).map(Into::into),
            claim: self.claim.filter(|_| wants(Wants::CLAIM)),
            last_valid: self.last_valid.filter(|_| wants(Wants::LAST_VALID)),
            headers: wanted.headers.iter().map(values).collect(),
        })
    }

    /// The text of facts that a policy saw which wants these.
    pub(crate) fn of(facts: &Facts, wanted: &Wanted) -> WrittenFacts {
        let address = |address: &Address| format!("{}@{}", address.local, address.domain);
        let named = wanted.headers.iter().cloned().zip(facts.headers.iter().cloned());
        WrittenFacts {
            status: facts.status,
            why: facts.why,
            sender: facts.sender.as_ref().map(address),
            recipient: facts.recipient.as_ref().map(address),
            envelope_sender: facts.envelope_sender.as_ref().map(address),
            client: facts.client.clone().map(Into::into),
            size: facts.size,
            trail: facts.trail.map(trail_words),
            mail_auth: facts.mail_auth.map(Into::into),
            claim: facts.claim,
            last_valid: facts.last_valid,
            headers: named.filter(|(_, values)| !values.is_empty()).collect(),
        }
    }

    /// The same as JSON.
    pub fn json(&self) -> serde_json::Value {
        // Plain data with string keys always serialises.
        serde_json::to_value(self).unwrap_or_default()
    }
}

impl From<WrittenClient> for Client {
    fn from(told: WrittenClient) -> Client {
        let WrittenClient { ip, name, helo, tls } = told;
        Client { ip, name, helo, tls }
    }
}

impl From<Client> for WrittenClient {
    fn from(client: Client) -> WrittenClient {
        let Client { ip, name, helo, tls } = client;
        WrittenClient { ip, name, helo, tls }
    }
}

impl From<WrittenAuth> for MailAuth {
    fn from(told: WrittenAuth) -> MailAuth {
        let WrittenAuth { spf, spf_aligned, dkim, dkim_aligned, dmarc } = told;
        MailAuth { spf, spf_aligned, dkim, dkim_aligned, dmarc }
    }
}

impl From<MailAuth> for WrittenAuth {
    fn from(auth: MailAuth) -> WrittenAuth {
        let MailAuth { spf, spf_aligned, dkim, dkim_aligned, dmarc } = auth;
        WrittenAuth { spf, spf_aligned, dkim, dkim_aligned, dmarc }
    }
}

fn trail(words: &[String]) -> Result<Trail, String> {
    words.iter().try_fold(Trail::empty(), |trail, word| {
        let mark = Trail::WORDS.iter().find(|(known, _)| known == word);
        mark.map(|(_, mark)| trail | *mark).ok_or_else(|| format!("`{word}` is no mark of a trail"))
    })
}

fn trail_words(trail: Trail) -> Vec<String> {
    let set = Trail::WORDS.iter().filter(|(_, mark)| trail.contains(*mark));
    set.map(|(word, _)| (*word).to_owned()).collect()
}

/// Settings by name.
pub(crate) fn settings(description: &Description, values: &[Value]) -> serde_json::Value {
    let named = description.settings.iter().map(|setting| setting.name.clone()).zip(values);
    named.map(|(name, value)| (name, value.json())).collect()
}
