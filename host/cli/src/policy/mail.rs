//! A message in a file, with what is said of it on the command line or in a case: the facts that a policy sees of it.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use addrauth::case::{Client, Found, KeyStatus, Mail, Why};
use addrauth::config::{Config, Limits};
use addrauth::filter::read_in;
use addrauth::mta::{letter, opened};
use addrauth::policy::rehearse::{self, WrittenFacts};
use addrauth::proto::address::Address;
use addrauth::proto::record::Claim;
use addrauth::verify::unasked;

/// What is said of a message that does not stand in it.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// The result and its reason; without it the message has to be unusable.
    pub(super) result: Option<(KeyStatus, Option<Why>)>,
    pub(super) claim: Option<Claim>,
    pub(super) from: Option<String>,
    pub(super) to: Vec<String>,
    pub(super) client: Option<IpAddr>,
    pub(super) client_name: Option<String>,
    pub(super) helo: String,
    pub(super) tls: bool,
}

/// Reads a message; its size is that of the file without what a delivery agent wrote on top.
pub(super) fn read(path: &Path, said: &Said, config: &Config, limits: &Arc<Limits>) -> Result<Mail, String> {
    let whole = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let octets = addrauth::files::read_given(path, limits.files.demo).map_err(|e| whole(&e))?;
    let (top, octets) = opened(&octets);
    let client = Client {
        ip: said.client,
        name: said.client_name.clone(),
        helo: said.helo.clone(),
        tls: said.tls,
        server: None,
    };
    let to = |to: &String| if to.starts_with('<') { to.clone() } else { format!("<{to}>") };
    let mut recipients: Vec<String> = said.to.iter().map(to).collect();
    let is_said = !recipients.is_empty() || top.delivered_to.is_some();
    if recipients.is_empty() {
        recipients.push(top.delivered_to.unwrap_or_else(|| nobody(config)));
    }
    let mail = letter(octets, client.clone(), "<>", &recipients, limits).map_err(|e| whole(&e))?;
    if mail.head().fields.is_empty() && mail.head().keys.is_empty() {
        return Err(whole(&"there is no header field in it: is it a message (.eml)?"));
    }
    if let (false, Some(to)) = (is_said, addressee(&mail)) {
        recipients = vec![format!("<{to}>")];
    }
    // What the server that delivered it wrote down of its reverse-path.
    let author = || mail.sender().ok().map(|from| format!("<{from}>"));
    let from = said.from.clone().or(top.return_path).or_else(author).unwrap_or_else(|| "<>".into());
    letter(octets, client, &from, &recipients, limits).map_err(|e| whole(&e))
}

/// Who the message is for by its To, where that is one address.
fn addressee(mail: &Mail) -> Option<Address> {
    let mut fields = mail.named("To");
    let (Some(field), None) = (fields.next(), fields.next()) else { return None };
    Address::from_field(&field.value, mail.smtputf8).ok()
}

/// Somebody here, where nobody says who the message is for.
fn nobody(config: &Config) -> String {
    let domain = config.final_domains.first().map_or("localhost.localdomain".into(), ToString::to_string);
    format!("<someone@{domain}>")
}

/// What was found of the message: as the filter would, but for the question that nobody asks here.
pub(super) fn found(mail: &Mail, said: &Said, config: &Config) -> Result<Found, String> {
    let by_itself = unasked(mail);
    stays_unusable(&by_itself, said.result)?;
    let found = match said.result {
        Some(_) if by_itself.status == KeyStatus::Unusable => Found { claim: said.claim, ..by_itself },
        Some((KeyStatus::Unusable, None)) => {
            let reasons: Vec<&str> =
                rehearse::reasons_of(KeyStatus::Unusable).into_iter().flatten().map(Why::word).collect();
            return Err(format!(
                "the message is usable: say why it is not, --result unusable:REASON, of {}",
                reasons.join(", ")
            ));
        }
        Some((status, why)) => {
            Found { status, why: why.or_else(|| only_reason(status)), claim: said.claim, ..by_itself }
        }
        None if by_itself.status == KeyStatus::Unusable => by_itself,
        None => {
            return Err("the result does not stand in the message: say --result valid, invalid, missing, none, unverified or unusable, \
                        with a reason behind a colon where there is one, such as invalid:expired"
                .into());
        }
    };
    Ok(read_in(mail, found, config))
}

/// A message that is unusable by itself has no other result, whoever says so.
fn stays_unusable(by_itself: &Found, said: Option<(KeyStatus, Option<Why>)>) -> Result<(), String> {
    let Some((status, why)) = said.filter(|_| by_itself.status == KeyStatus::Unusable) else { return Ok(()) };
    if status == KeyStatus::Unusable && (why.is_none() || why == by_itself.why) {
        return Ok(());
    }
    let why = by_itself.why.map(|why| format!(" ({})", why.word())).unwrap_or_default();
    Err(format!("the message is unusable by itself{why}, and no other result is found of it: leave the result out"))
}

/// The reason that a result most often has, where nobody names one.
fn only_reason(status: KeyStatus) -> Option<Why> {
    match status {
        KeyStatus::Invalid => Some(Why::Wrong),
        KeyStatus::Unverified => Some(Why::Timeout),
        _ => None,
    }
}

/// The facts of a case that names a message: those that the case gives, and the message's for the rest.
pub(super) fn facts(
    path: &Path,
    given: &WrittenFacts,
    config: &Config,
    limits: &Arc<Limits>,
) -> Result<WrittenFacts, String> {
    let (status, why) = given.result();
    let said = Said {
        result: Some((status, why)),
        from: given.envelope_sender().map(|path| format!("<{path}>")),
        to: given.recipient().map(str::to_owned).into_iter().collect(),
        ..Said::default()
    };
    let mail = read(path, &said, config, limits)?;
    let by_itself = unasked(&mail);
    stays_unusable(&by_itself, said.result).map_err(|text| format!("{}: {text}", path.display()))?;
    let found = read_in(&mail, Found { why, ..Found::bare(status, why, mail.sender().ok().cloned()) }, config);
    let names: Vec<String> = names(&mail);
    let told = rehearse::facts_of(&mail, &found, &names).into_iter().next();
    let (told, _) = told.ok_or_else(|| format!("{}: it has no recipient", path.display()))?;
    Ok(given.clone().over(told))
}

/// The names of the header fields, each once.
pub(super) fn names(mail: &Mail) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for field in &mail.head().fields {
        if !names.iter().any(|known| known.eq_ignore_ascii_case(&field.name)) {
            names.push(field.name.clone());
        }
    }
    names
}
