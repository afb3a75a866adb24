//! Authentication-Results fields: which of them are removed, and the one of our own.

use std::iter::repeat_n;

use super::Rules;
use crate::case::{Field, Found, KeyStatus, Mail};
use crate::proto::header::{Edit, RESULTS_FIELD, deletions};
use crate::proto::results::{LeftOut, METHOD, Outcome, Property, Results, is_forged};

/// Deletes every field that tells of our method, whatever server it names; and with `first_in_chain` every field in our name.
/// What other servers found out by other methods stays.
pub(super) fn removals(mail: &Mail, rules: &Rules) -> Vec<Edit> {
    let own_id = rules.first_in_chain.then_some(rules.hostname.as_str());
    // Beyond the limits of a header no value is kept, so what is there is not known.
    let is_doomed = |field: &Field| mail.head().truncated && field.value.is_empty() || is_forged(&field.value, own_id);
    let doomed: Vec<bool> = mail.named(RESULTS_FIELD).map(is_doomed).collect();
    deletions(repeat_n(RESULTS_FIELD, doomed.len()), |position, _| doomed.get(position).copied().unwrap_or(false))
}

/// Our own field's value (RFC 8601 §2.2): `HOST; x-auth-key=WORD header.from=ADDRESS`.
pub(super) fn value(found: &Found, hostname: &str) -> String {
    let from = |value| Property { ptype: "header".into(), name: "from".into(), value };
    let outcome = Outcome {
        method: METHOD.into(),
        version: 1,
        result: word(found.status).into(),
        reason: None,
        properties: found.sender.iter().map(|sender| from(sender.to_string())).collect(),
    };
    Results { authserv_id: hostname.into(), version: 1, outcomes: vec![outcome], left_out: LeftOut::Nothing }
        .to_string()
}

/// The result in the words of RFC 8601 §2.7.
fn word(status: KeyStatus) -> &'static str {
    match status {
        KeyStatus::Valid => "pass",
        KeyStatus::Invalid => "fail",
        KeyStatus::Missing | KeyStatus::None => "none",
        KeyStatus::Unverified => "temperror",
        KeyStatus::Unusable => "policy",
    }
}

#[cfg(test)]
mod tests;
