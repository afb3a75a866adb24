//! `addrauth:policy@0.1.0`: its types, made from `wit/0.1/policy.wit`, and what they are in the newest version.
//!
//! Every match names all cases, and every record all fields, so that a new one does not compile before somebody decides what
//! becomes of it here. No conversion may make a decision more lenient: accept < mark < quarantine < reject, and a deferral stays one.

use super::since_v0_2 as newest;

/// The interface that a component exports.
pub(super) const INTERFACE: &str = "addrauth:policy/policy@0.1.0";

mod made {
    #![allow(dead_code, missing_docs, unreachable_pub, unused_qualifications, clippy::all, reason = "made by bindgen!")]

    wasmtime::component::bindgen!({ path: "wit/0.1/policy.wit", additional_derives: [PartialEq] });
}

pub(super) use made::exports::addrauth::policy::policy::{Decision, Description, Facts, Value};

use made::exports::addrauth::policy::policy as old;

/// What a policy wants, under the names of both versions.
const WANTS: [(old::Wants, newest::Wants); 9] = [
    (old::Wants::WHY, newest::Wants::WHY),
    (old::Wants::SENDER, newest::Wants::SENDER),
    (old::Wants::RECIPIENT, newest::Wants::RECIPIENT),
    (old::Wants::ENVELOPE_SENDER, newest::Wants::ENVELOPE_SENDER),
    (old::Wants::CLIENT, newest::Wants::CLIENT),
    (old::Wants::SIZE, newest::Wants::SIZE),
    (old::Wants::TRAIL, newest::Wants::TRAIL),
    (old::Wants::MAIL_AUTH, newest::Wants::MAIL_AUTH),
    (old::Wants::CLAIM, newest::Wants::CLAIM),
];

/// The marks of a trail, under the names of both versions.
const TRAIL: [(newest::Trail, old::Trail); 5] = [
    (newest::Trail::MAILING_LIST, old::Trail::MAILING_LIST),
    (newest::Trail::FORWARDED, old::Trail::FORWARDED),
    (newest::Trail::RESENT, old::Trail::RESENT),
    (newest::Trail::AUTOMATIC, old::Trail::AUTOMATIC),
    (newest::Trail::BOUNCE, old::Trail::BOUNCE),
];

/// Who is told, under the names of both versions.
const NOTIFY: [(old::Notify, newest::Notify); 2] =
    [(old::Notify::SENDER, newest::Notify::SENDER), (old::Notify::RECIPIENT, newest::Notify::RECIPIENT)];

/// What a policy of this version wants under all settings: it says so in its description.
pub(super) fn wanted(description: Description) -> newest::Wanted {
    let Description { name: _, version: _, summary: _, wants, headers, settings: _ } = description;
    let named = WANTS.iter().filter(|(word, _)| wants.contains(*word));
    newest::Wanted { facts: named.fold(newest::Wants::empty(), |all, (_, word)| all | *word), headers }
}

impl From<Description> for newest::Description {
    fn from(description: Description) -> newest::Description {
        let Description { name, version, summary, wants: _, headers: _, settings } = description;
        newest::Description { name, version, summary, settings: settings.into_iter().map(Into::into).collect() }
    }
}

impl From<old::Setting> for newest::Setting {
    fn from(setting: old::Setting) -> newest::Setting {
        let old::Setting { name, summary, kind } = setting;
        let kind = match kind {
            old::Kind::Text(text) => newest::Kind::Text(text),
            old::Kind::Number(number) => newest::Kind::Number(number),
            old::Kind::Flag(flag) => newest::Kind::Flag(flag),
            old::Kind::Texts(texts) => newest::Kind::Texts(texts),
        };
        newest::Setting { name, summary, kind }
    }
}

impl From<Decision> for newest::Decision {
    fn from(decision: Decision) -> newest::Decision {
        let Decision { disposition, notify, reason } = decision;
        let disposition = match disposition {
            old::Disposition::Accept => newest::Disposition::Accept,
            old::Disposition::Mark => newest::Disposition::Mark,
            old::Disposition::Quarantine => newest::Disposition::Quarantine,
            old::Disposition::Reject => newest::Disposition::Reject,
            old::Disposition::Defer => newest::Disposition::Defer,
        };
        let told = NOTIFY.iter().filter(|(word, _)| notify.contains(*word));
        let notify = told.fold(newest::Notify::empty(), |all, (_, word)| all | *word);
        newest::Decision { disposition, notify, reason }
    }
}

impl From<&newest::Value> for Value {
    fn from(value: &newest::Value) -> Value {
        match value.clone() {
            newest::Value::Text(text) => Value::Text(text),
            newest::Value::Number(number) => Value::Number(number),
            newest::Value::Flag(flag) => Value::Flag(flag),
            newest::Value::Texts(texts) => Value::Texts(texts),
        }
    }
}

impl From<&newest::Facts> for Facts {
    /// `last-valid` is left out: a policy of this version never asks for it.
    fn from(facts: &newest::Facts) -> Facts {
        let newest::Facts {
            status,
            why,
            sender,
            recipient,
            envelope_sender,
            client,
            size,
            trail,
            mail_auth,
            claim,
            last_valid: _,
            headers,
        } = facts;
        Facts {
            status: (*status).into(),
            why: why.map(Into::into),
            sender: sender.as_ref().map(Into::into),
            recipient: recipient.as_ref().map(Into::into),
            envelope_sender: envelope_sender.as_ref().map(Into::into),
            client: client.as_ref().map(Into::into),
            size: *size,
            trail: trail.map(Into::into),
            mail_auth: mail_auth.map(Into::into),
            claim: claim.map(Into::into),
            headers: headers.clone(),
        }
    }
}

impl From<newest::KeyStatus> for old::KeyStatus {
    fn from(status: newest::KeyStatus) -> old::KeyStatus {
        match status {
            newest::KeyStatus::Valid => old::KeyStatus::Valid,
            newest::KeyStatus::Invalid => old::KeyStatus::Invalid,
            newest::KeyStatus::Missing => old::KeyStatus::Missing,
            newest::KeyStatus::None => old::KeyStatus::None,
            newest::KeyStatus::Unverified => old::KeyStatus::Unverified,
            newest::KeyStatus::Unusable => old::KeyStatus::Unusable,
        }
    }
}

impl From<newest::Why> for old::Why {
    /// A reason that this version has no word for is `other`.
    fn from(why: newest::Why) -> old::Why {
        match why {
            newest::Why::Wrong => old::Why::Wrong,
            newest::Why::Expired => old::Why::Expired,
            newest::Why::NoFrom => old::Why::NoFrom,
            newest::Why::SeveralFrom => old::Why::SeveralFrom,
            newest::Why::BadAddress => old::Why::BadAddress,
            newest::Why::SeveralKeys => old::Why::SeveralKeys,
            newest::Why::BadKey => old::Why::BadKey,
            newest::Why::MalformedHeader => old::Why::MalformedHeader,
            newest::Why::Dns => old::Why::Dns,
            newest::Why::Timeout => old::Why::Timeout,
            newest::Why::Limit => old::Why::Limit,
            newest::Why::NoProof => old::Why::NoProof,
            newest::Why::Other => old::Why::Other,
        }
    }
}

impl From<&newest::Address> for old::Address {
    fn from(address: &newest::Address) -> old::Address {
        let newest::Address { local, domain } = address.clone();
        old::Address { local, domain }
    }
}

impl From<&newest::Client> for old::Client {
    fn from(client: &newest::Client) -> old::Client {
        let newest::Client { ip, name, helo, tls } = client.clone();
        old::Client { ip, name, helo, tls }
    }
}

impl From<newest::Trail> for old::Trail {
    fn from(trail: newest::Trail) -> old::Trail {
        let set = TRAIL.iter().filter(|(word, _)| trail.contains(*word));
        set.fold(old::Trail::empty(), |all, (_, word)| all | *word)
    }
}

impl From<newest::MailAuth> for old::MailAuth {
    fn from(auth: newest::MailAuth) -> old::MailAuth {
        let newest::MailAuth { spf, spf_aligned, dkim, dkim_aligned, dmarc } = auth;
        old::MailAuth { spf: spf.into(), spf_aligned, dkim: dkim.into(), dkim_aligned, dmarc: dmarc.into() }
    }
}

impl From<newest::AuthResult> for old::AuthResult {
    fn from(result: newest::AuthResult) -> old::AuthResult {
        match result {
            newest::AuthResult::None => old::AuthResult::None,
            newest::AuthResult::Pass => old::AuthResult::Pass,
            newest::AuthResult::Fail => old::AuthResult::Fail,
            newest::AuthResult::Softfail => old::AuthResult::Softfail,
            newest::AuthResult::Neutral => old::AuthResult::Neutral,
            newest::AuthResult::Policy => old::AuthResult::Policy,
            newest::AuthResult::Temperror => old::AuthResult::Temperror,
            newest::AuthResult::Permerror => old::AuthResult::Permerror,
        }
    }
}

impl From<newest::Claim> for old::Claim {
    fn from(claim: newest::Claim) -> old::Claim {
        match claim {
            newest::Claim::Testing => old::Claim::Testing,
            newest::Claim::Some => old::Claim::Some,
            newest::Claim::All => old::Claim::All,
        }
    }
}

#[cfg(test)]
mod tests;
