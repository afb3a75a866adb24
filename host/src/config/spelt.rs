//! Domains and addresses of the configuration. They are read in any spelling and kept in one; an error names the setting.

use serde::de::Error as _;

use super::*;
use crate::proto::address::Mailbox;

/// `final_domains`
pub(super) fn final_domains<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Domain>, D::Error> {
    domains("final_domains", deserializer)
}

/// `authority.domains`
pub(super) fn authority_domains<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Domain>, D::Error> {
    domains("authority.domains", deserializer)
}

/// `[policy.domain."example.com"]`
pub(super) fn policy_domain<'de, D>(deserializer: D) -> Result<BTreeMap<Domain, Bindings>, D::Error>
where
    D: Deserializer<'de>,
{
    by_domain("policy.domain", deserializer)
}

/// `[verify.domain."example.com"]`
pub(super) fn verify_domain<'de, D>(deserializer: D) -> Result<BTreeMap<Domain, FixedAs>, D::Error>
where
    D: Deserializer<'de>,
{
    by_domain("verify.domain", deserializer)
}

/// `[policy.recipient."bob@example.com"]`
pub(super) fn policy_recipient<'de, D>(deserializer: D) -> Result<BTreeMap<Mailbox, Bindings>, D::Error>
where
    D: Deserializer<'de>,
{
    let mut recipients = BTreeMap::new();
    for (recipient, bindings) in BTreeMap::<String, Bindings>::deserialize(deserializer)? {
        let mailbox = address("policy.recipient", &recipient, "bob@example.com")?.mailbox();
        if recipients.insert(mailbox.clone(), bindings).is_some() {
            return Err(D::Error::custom(format_args!(
                "policy.recipient names the mailbox {mailbox} twice, {recipient:?} among them: letter case and +tag do not \
                 matter, write it once"
            )));
        }
    }
    Ok(recipients)
}

/// `trusted_submitters`
pub(super) fn trusted_submitters<'de, D>(deserializer: D) -> Result<BTreeMap<IpAddr, Vec<Address>>, D::Error>
where
    D: Deserializer<'de>,
{
    let own = |text: String| address("trusted_submitters", &text, "shop@example.com");
    let clients = BTreeMap::<IpAddr, Vec<String>>::deserialize(deserializer)?.into_iter();
    clients.map(|(client, texts)| Ok((client, texts.into_iter().map(own).collect::<Result<_, _>>()?))).collect()
}

fn domains<'de, D: Deserializer<'de>>(setting: &str, deserializer: D) -> Result<Vec<Domain>, D::Error> {
    Vec::<String>::deserialize(deserializer)?.iter().map(|text| domain(setting, text)).collect()
}

fn by_domain<'de, D, T>(setting: &str, deserializer: D) -> Result<BTreeMap<Domain, T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let mut domains = BTreeMap::new();
    for (text, value) in BTreeMap::<String, T>::deserialize(deserializer)? {
        if domains.insert(domain(setting, &text)?, value).is_some() {
            return Err(D::Error::custom(format_args!("{setting} names {text:?} twice, in different spellings")));
        }
    }
    Ok(domains)
}

fn domain<E: serde::de::Error>(setting: &str, text: &str) -> Result<Domain, E> {
    Domain::parse_full(text)
        .map_err(|_| E::custom(format_args!("{setting}: {text:?} is no domain, write a name such as \"example.com\"")))
}

fn address<E: serde::de::Error>(setting: &str, text: &str, such_as: &str) -> Result<Address, E> {
    Address::parse(text.as_bytes(), true)
        .map_err(|_| E::custom(format_args!("{setting}: {text:?} is no address, write one such as {such_as:?}")))
}
