//! From a message and its finding to the facts that a policy declared, and no others.

use std::collections::BTreeMap;

use super::sandbox::contract::{
    Address, AuthResult, Claim, Client, Facts, KeyStatus, MailAuth, Trail, Wanted, Wants, Why,
};
use crate::case::{self, Field, Found, Mail};
use crate::proto::redact::Redactor;
use crate::proto::{address, record};

/// Facts and the recipients (indices) that they are the same for.
pub(super) type Group = (Facts, Vec<usize>);

/// One set of facts for each group of these recipients that the policy cannot tell apart, in the order of their first one.
/// They are made one by one: a header that a policy wants is copied for each of a thousand recipients, and not all at once.
pub(super) fn gather(
    mail: &Mail,
    found: &Found,
    wanted: &Wanted,
    members: Vec<usize>,
) -> impl Iterator<Item = Group> + use<> {
    let facts = common(mail, found, wanted);
    let apart = wanted.has(Wants::RECIPIENT);
    let groups = if apart { groups(mail, members) } else { vec![(None, members)] };
    groups.into_iter().map(move |(recipient, indices)| (Facts { recipient, ..facts.clone() }, indices))
}

/// The recipients whom a policy that sees them cannot tell apart.
fn groups(mail: &Mail, members: Vec<usize>) -> Vec<(Option<Address>, Vec<usize>)> {
    let mut places = BTreeMap::new();
    let mut groups: Vec<(Option<Address>, Vec<usize>)> = Vec::new();
    for index in members {
        let Some(recipient) = mail.recipients.get(index) else { continue };
        let place = *places.entry(recipient.address()).or_insert(groups.len());
        match groups.get_mut(place) {
            Some((_, indices)) => indices.push(index),
            None => groups.push((recipient.address().map(contract_address), vec![index])),
        }
    }
    groups
}

/// What is the same for all recipients.
fn common(mail: &Mail, found: &Found, wanted: &Wanted) -> Facts {
    let redactor = mail.redactor();
    let if_wanted = |fact| wanted.has(fact).then_some(());
    Facts {
        why: if_wanted(Wants::WHY).and(found.why).map(contract_why),
        sender: if_wanted(Wants::SENDER).and(found.sender.as_ref()).map(|from| without_key(from, &redactor)),
        recipient: None,
        envelope_sender: if_wanted(Wants::ENVELOPE_SENDER)
            .and(mail.reverse_path.address())
            .map(|path| without_key(path, &redactor)),
        client: if_wanted(Wants::CLIENT).and_then(|()| client(&mail.client, &redactor)),
        size: if_wanted(Wants::SIZE).and(mail.size),
        trail: if_wanted(Wants::TRAIL).map(|()| trail(case::trail::Trail::of(mail, found.own_fields))),
        mail_auth: if_wanted(Wants::MAIL_AUTH).and(found.mail_auth).map(contract_auth),
        last_valid: if_wanted(Wants::LAST_VALID).and(found.last_valid),
        claim: if_wanted(Wants::CLAIM).and(found.claim).map(contract_claim),
        headers: wanted
            .headers
            .iter()
            .map(|name| mail.named(name).map(|field| unfolded(field, &redactor)).collect())
            .collect(),
        ..Facts::of(contract_status(found.status))
    }
}

/// Absent on a unix socket, where the client has no address.
fn client(client: &case::Client, redactor: &Redactor) -> Option<Client> {
    let ip = client.ip?.to_canonical().to_string();
    let clean = |text: &String| redactor.cut_text(text).into_owned();
    Some(Client { ip, name: client.name.as_ref().map(clean), helo: clean(&client.helo), tls: client.tls })
}

/// The contract's marks.
fn trail(trail: case::trail::Trail) -> Trail {
    let marks = [
        (trail.mailing_list, Trail::MAILING_LIST),
        (trail.forwarded, Trail::FORWARDED),
        (trail.resent, Trail::RESENT),
        (trail.automatic, Trail::AUTOMATIC),
        (trail.bounce, Trail::BOUNCE),
    ];
    marks.into_iter().filter(|(set, _)| *set).fold(Trail::empty(), |trail, (_, mark)| trail | mark)
}

/// A field's value without keys, its folds (RFC 5322 §2.2.3) and the white space around it; octets that are no UTF-8 become
/// U+FFFD.
fn unfolded(field: &Field, redactor: &Redactor) -> String {
    let value = redactor.cut_value(&field.name, &field.value);
    let octets: Vec<u8> = value.iter().copied().filter(|octet| !matches!(octet, b'\r' | b'\n')).collect();
    String::from_utf8_lossy(&octets).trim_matches([' ', '\t']).to_owned()
}

fn contract_address(address: &address::Address) -> Address {
    Address { local: address.local().to_owned(), domain: address.domain().to_string() }
}

/// What a stranger wrote as an address, without a key.
fn without_key(address: &address::Address, redactor: &Redactor) -> Address {
    let Address { local, domain } = contract_address(address);
    Address { local: redactor.cut_text(&local).into_owned(), domain: redactor.cut_text(&domain).into_owned() }
}

fn contract_auth(auth: case::MailAuth) -> MailAuth {
    MailAuth {
        spf: contract_result(auth.spf),
        spf_aligned: auth.spf_aligned,
        dkim: contract_result(auth.dkim),
        dkim_aligned: auth.dkim_aligned,
        dmarc: contract_result(auth.dmarc),
    }
}

fn contract_result(result: case::AuthResult) -> AuthResult {
    match result {
        case::AuthResult::None => AuthResult::None,
        case::AuthResult::Pass => AuthResult::Pass,
        case::AuthResult::Fail => AuthResult::Fail,
        case::AuthResult::Softfail => AuthResult::Softfail,
        case::AuthResult::Neutral => AuthResult::Neutral,
        case::AuthResult::Policy => AuthResult::Policy,
        case::AuthResult::Temperror => AuthResult::Temperror,
        case::AuthResult::Permerror => AuthResult::Permerror,
    }
}

fn contract_claim(claim: record::Claim) -> Claim {
    match claim {
        record::Claim::Testing => Claim::Testing,
        record::Claim::Some => Claim::Some,
        record::Claim::All => Claim::All,
    }
}

/// The contract's word for a result.
pub(super) fn contract_status(status: case::KeyStatus) -> KeyStatus {
    match status {
        case::KeyStatus::Valid => KeyStatus::Valid,
        case::KeyStatus::Invalid => KeyStatus::Invalid,
        case::KeyStatus::Missing => KeyStatus::Missing,
        case::KeyStatus::None => KeyStatus::None,
        case::KeyStatus::Unverified => KeyStatus::Unverified,
        case::KeyStatus::Unusable => KeyStatus::Unusable,
    }
}

fn contract_why(why: case::Why) -> Why {
    match why {
        case::Why::Wrong => Why::Wrong,
        case::Why::Expired => Why::Expired,
        case::Why::NoFrom => Why::NoFrom,
        case::Why::SeveralFrom => Why::SeveralFrom,
        case::Why::BadAddress => Why::BadAddress,
        // The contract has no word for it.
        case::Why::NoAddress => Why::Other,
        case::Why::SeveralKeys => Why::SeveralKeys,
        case::Why::BadKey => Why::BadKey,
        case::Why::MalformedHeader => Why::MalformedHeader,
        case::Why::Dns => Why::Dns,
        case::Why::Timeout => Why::Timeout,
        case::Why::Limit => Why::Limit,
        case::Why::NoProof => Why::NoProof,
    }
}
