//! What servers that we trust found out by SPF, DKIM and DMARC, from their Authentication-Results fields (RFC 8601).
//!
//! Only fields with one of `trusted_authserv_ids` are read, and for each method only the top field that tells of it: a server
//! writes above what it got, so a lower field may be forged. For the same reason nothing is read below a trusted field that
//! cannot be understood, or that tells of a method in a way that cannot. A detail that cannot be read is a fact that is
//! missing, and no more. A server named in `trusted_authserv_ids` must remove what others wrote in its name.

use crate::case::{AuthResult, Mail, MailAuth};
use crate::config::Config;
use crate::proto::address::{Address, Domain};
use crate::proto::header::RESULTS_FIELD;
use crate::proto::results::{LeftOut, Outcome, Results, authserv_id, same_id};

/// The best result of several signatures is the first of these.
const DKIM_ORDER: [AuthResult; 6] = [
    AuthResult::Pass,
    AuthResult::Policy,
    AuthResult::Neutral,
    AuthResult::Fail,
    AuthResult::Permerror,
    AuthResult::Temperror,
];

/// What is believed of these fields; absent where no trusted one speaks of SPF, DKIM or DMARC.
///
/// `sender` is the sender address, where there is one: without it nothing is aligned.
pub(super) fn mail_auth(mail: &Mail, sender: Option<&Address>, config: &Config) -> Option<MailAuth> {
    let fields = believed(mail, config);
    let (spf, dkim, dmarc) = (top(&fields, "spf"), top(&fields, "dkim"), top(&fields, "dmarc"));
    if spf.is_empty() && dkim.is_empty() && dmarc.is_empty() {
        return None;
    }
    let aligned = |domain: &Domain| sender.is_some_and(|sender| is_relative(domain, sender.domain()));
    let passed = |outcome: &&&Outcome| word(outcome) == AuthResult::Pass;

    // A result for the HELO name alone (smtp.helo) says nothing of the reverse-path.
    let spf = spf.iter().find(|outcome| outcome.values("smtp", "mailfrom").next().is_some());
    let spf_domain = spf.filter(passed).and_then(|outcome| domain(outcome.values("smtp", "mailfrom").next()?));
    let of_path = |domain: &Domain| mail.reverse_path.address().is_some_and(|path| path.domain() == domain);

    let words: Vec<AuthResult> = dkim.iter().map(|outcome| word(outcome)).collect();
    let dkim_aligned = dkim.iter().filter(passed).any(|outcome| {
        let mut domains = outcome.values("header", "d").chain(outcome.values("header", "i")).filter_map(domain);
        domains.any(|domain| aligned(&domain))
    });
    Some(MailAuth {
        spf: spf.map(|outcome| word(outcome)).unwrap_or_default(),
        spf_aligned: spf_domain.as_ref().is_some_and(aligned),
        spf_of_path: spf_domain.as_ref().is_some_and(of_path),
        dkim: DKIM_ORDER.into_iter().find(|result| words.contains(result)).unwrap_or_default(),
        dkim_aligned,
        dmarc: dmarc.first().map(|outcome| word(outcome)).unwrap_or_default(),
    })
}

/// The fields that are believed, top first.
fn believed(mail: &Mail, config: &Config) -> Vec<Results> {
    let own = mail.client.server.as_ref().unwrap_or(&config.hostname);
    let is_trusted = |id: &String| {
        // With `first_in_chain` a field in our name is forged.
        let forged = config.first_in_chain && same_id(id, own);
        !forged && config.trusted_authserv_ids.iter().any(|trusted| same_id(trusted, id))
    };
    let mut fields = Vec::new();
    if !mail.means.results {
        return fields;
    }
    for field in mail.named(RESULTS_FIELD).filter(|field| authserv_id(&field.value).as_ref().is_some_and(is_trusted)) {
        let Some(results) = Results::parse(&field.value).ok().filter(|results| results.version == 1) else { break };
        let ends = results.left_out == LeftOut::Method;
        fields.push(results);
        if ends {
            break;
        }
    }
    fields
}

/// What the top field that speaks of a method says of it.
fn top<'a>(fields: &'a [Results], method: &str) -> Vec<&'a Outcome> {
    let of_method = |results: &'a Results| results.outcomes.iter().filter(|o| o.method == method).collect::<Vec<_>>();
    fields.iter().map(of_method).find(|outcomes| !outcomes.is_empty()).unwrap_or_default()
}

/// A result by its word. A word that is not known, or of another version of its method, is no result.
fn word(outcome: &Outcome) -> AuthResult {
    match outcome.result.as_str() {
        _ if outcome.version != 1 => AuthResult::None,
        "pass" => AuthResult::Pass,
        "fail" | "hardfail" => AuthResult::Fail,
        "softfail" => AuthResult::Softfail,
        "neutral" => AuthResult::Neutral,
        "policy" => AuthResult::Policy,
        "temperror" => AuthResult::Temperror,
        "permerror" => AuthResult::Permerror,
        _ => AuthResult::None,
    }
}

/// The domain of a property's value, which is an address, `@` and a domain, or a domain.
fn domain(value: &str) -> Option<Domain> {
    Domain::parse_full(value.rsplit('@').next()?).ok()
}

/// Whether two domains are the same, or one is below the other.
///
/// This stands for the organisational domain of DMARC without a public suffix list. Brothers (a.example.com, b.example.com)
/// are no relatives here; example.co.uk and co.uk are, and so is each domain with the one above it that hands it out.
fn is_relative(one: &Domain, other: &Domain) -> bool {
    one == other || one.is_below(other) || other.is_below(one)
}

#[cfg(test)]
mod tests;
