//! `addrauth doctor DOMAIN --steps`: how far a domain of ours takes part, as far as this host can tell, and what comes next.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use addrauth::config::{Config, Limits};
use addrauth::proto::address::Domain;
use addrauth::proto::record::Claim;
use addrauth::proto::text::shown;
use addrauth::store::{self, Opening};
use addrauth::verify::{Failure, Published, Verifier};
use serde::Serialize;

/// Keys that end within this time without a successor are told.
const SOON: Duration = Duration::from_secs(86_400);
/// Addresses whose keys are read by one question.
const AT_ONCE: usize = 500;

/// How a step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Stand {
    Done,
    Open,
    /// Another host does it, or it could not be told.
    Unknown,
}

/// One step of taking part (host/doc/taking-part.md).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Step {
    step: u8,
    what: &'static str,
    stand: Stand,
    found: String,
    /// What does it, where it is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Addresses of the domain by the state of their keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct Count {
    addresses: u64,
    living: u64,
    /// Of these, those whose last living key ends within a day.
    soon: u64,
    without: u64,
}

/// All that is told of a domain.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Steps {
    domain: String,
    /// What its records claim; absent where there are none.
    claim: Option<&'static str>,
    /// The Authentication Server's table, where this host has one.
    keys: Option<Count>,
    /// The keyring of whoever stamps, where this host has one.
    keyring: Option<Count>,
    steps: Vec<Step>,
}

/// What a step is judged by.
struct Known {
    published: Result<Option<Claim>, String>,
    is_server: bool,
    keys: Result<Option<Count>, String>,
    keyring: Result<Option<Count>, String>,
    learns: bool,
    stamps: bool,
}

/// Looks at the domain.
pub(super) async fn examine(domain: &Domain, config: &Config) -> Steps {
    let known = Known {
        published: published(domain, config).await,
        is_server: config.authority.domains.contains(domain),
        keys: keys(domain, config).await.map_err(|e| e.to_string()),
        keyring: keyring(domain, config).await.map_err(|e| e.to_string()),
        learns: config.keyring.learn.is_anywhere(),
        stamps: config.keyring.stamp.is_anywhere(),
    };
    Steps {
        domain: domain.to_string(),
        claim: known.published.as_ref().ok().copied().flatten().map(|claim| claim.word()),
        keys: known.keys.as_ref().ok().copied().flatten(),
        keyring: known.keyring.as_ref().ok().copied().flatten(),
        steps: steps(domain, &known),
    }
}

/// What the domain's records claim; absent: it has none. In words why that could not be told.
async fn published(domain: &Domain, config: &Config) -> Result<Option<Claim>, String> {
    // A server that the configuration names says nothing of what others find.
    let mut verify = config.verify.clone();
    verify.domain.remove(domain);
    let verifier = Verifier::new(&verify, &config.hostname, &Arc::new(Limits::default())).map_err(|e| e.to_string())?;
    match verifier.locate(domain).await.0 {
        Published::Records(records) => Ok(Some(records.claim)),
        Published::Failed(failure @ (Failure::Dns { .. } | Failure::Timeout(_))) => Err(failure.to_string()),
        _ => Ok(None),
    }
}

fn opening() -> Opening {
    Opening { busy: Limits::default().store.busy_command, readers: 1 }
}

/// Whether there is such a table here; none is made.
fn is_here(config: &Config, file: &str) -> Result<bool, store::Error> {
    if config.store.url.is_empty() { store::is_there(&config.state_dir.0.join(file)) } else { Ok(true) }
}

async fn keys(domain: &Domain, config: &Config) -> Result<Option<Count>, store::Error> {
    if !config.authority.domains.contains(domain) || !is_here(config, "authority.db")? {
        return Ok(None);
    }
    let table = store::open_keys(config, opening()).await?;
    let counted = async {
        let now = SystemTime::now();
        let names: Vec<String> =
            table.enlisted(Some(domain.as_str())).await?.into_iter().map(|row| row.address).collect();
        let mut ends: BTreeMap<String, SystemTime> = BTreeMap::new();
        for names in names.chunks(AT_ONCE) {
            for key in table.of_all(names).await?.into_iter().filter(|key| key.revoked.is_none()) {
                let known = ends.entry(key.address).or_insert(key.expires);
                *known = key.expires.max(*known);
            }
        }
        Ok(count(names.iter().map(|name| ends.get(name).copied()), now))
    };
    let counted = counted.await;
    table.close().await;
    counted.map(Some)
}

async fn keyring(domain: &Domain, config: &Config) -> Result<Option<Count>, store::Error> {
    if !(config.keyring.learn.is_anywhere() || config.keyring.stamp.is_anywhere()) || !is_here(config, "keyring.db")? {
        return Ok(None);
    }
    let ring = store::open_keyring(config, opening()).await?;
    let rows = ring.rows(Some(domain.as_str())).await;
    ring.close().await;
    Ok(Some(count(rows?.into_iter().map(|row| Some(row.expires)), SystemTime::now())))
}

/// Counts addresses by when their last key ends.
fn count(ends: impl Iterator<Item = Option<SystemTime>>, now: SystemTime) -> Count {
    let mut count = Count::default();
    for end in ends {
        count.addresses += 1;
        match end.and_then(|end| end.duration_since(now).ok()).filter(|left| !left.is_zero()) {
            Some(left) => {
                count.living += 1;
                count.soon += u64::from(left < SOON);
            }
            None => count.without += 1,
        }
    }
    count
}

fn steps(domain: &Domain, known: &Known) -> Vec<Step> {
    let step = |step, what, (stand, found): (Stand, String), next: String| {
        let next = (stand == Stand::Open).then_some(next);
        Step { step, what, stand, found: shown(&found), next }
    };
    let record = |claim: &str| format!("publish what `addrauth record {domain} --claim {claim}` prints");
    let claimed = |least: &[Claim]| match &known.published {
        Ok(Some(claim)) if least.contains(claim) => (Stand::Done, format!("m={} is published", claim.word())),
        Ok(Some(claim)) => (Stand::Open, format!("m={} is published", claim.word())),
        Ok(None) => (Stand::Open, "no usable AS= record is published".into()),
        Err(why) => (Stand::Unknown, why.clone()),
    };
    let (server, to_serve) = served(domain, known);
    vec![
        step(1, "the Authentication Server runs, and its record leads to it", server, to_serve),
        step(
            2,
            "the MX learns the keys",
            ringed(known.learns, "keyring.learn", &known.keyring),
            "set keyring.learn on the MX, and reload".into(),
        ),
        step(
            3,
            "submission stamps the mail",
            ringed(known.stamps, "keyring.stamp", &known.keyring),
            "set keyring.stamp where users hand in mail, and reload".into(),
        ),
        step(4, "m=some: a missing key may mean something", claimed(&[Claim::Some, Claim::All]), record("some")),
        step(
            5,
            "m=all: mail without a key is not of this domain, unless it was forwarded",
            claimed(&[Claim::All]),
            format!("once all mail of the domain takes this way, {}", record("all")),
        ),
    ]
}

fn served(domain: &Domain, known: &Known) -> ((Stand, String), String) {
    let record = format!("publish what `addrauth record {domain} --claim testing` prints");
    let claim = match &known.published {
        Ok(Some(claim)) => format!("its record says m={}", claim.word()),
        Ok(None) => return ((Stand::Open, "no usable AS= record is published".into()), record),
        Err(why) => return ((Stand::Unknown, why.clone()), record),
    };
    if !known.is_server {
        return ((Stand::Done, format!("{claim}; this host is not its server")), record);
    }
    match &known.keys {
        Err(why) => ((Stand::Unknown, why.clone()), record),
        Ok(Some(count)) if count.addresses > 0 => {
            let Count { addresses, living, .. } = count;
            ((Stand::Done, format!("{claim}; {living} of {addresses} addresses have a living key")), record)
        }
        Ok(_) => (
            (Stand::Open, format!("{claim}; no address gets keys")),
            "`addrauth address import FILE` puts addresses in".into(),
        ),
    }
}

/// How a step stands that the keyring of this host shows.
fn ringed(is_on: bool, setting: &str, keyring: &Result<Option<Count>, String>) -> (Stand, String) {
    match (is_on, keyring) {
        (false, _) => (Stand::Open, format!("{setting} is not set here: where another host does it, look there")),
        (true, Err(why)) => (Stand::Unknown, why.clone()),
        (true, Ok(Some(count))) if count.living > 0 => {
            (Stand::Done, format!("{setting} is set, and {} addresses of the domain have a key here", count.living))
        }
        (true, Ok(_)) => (Stand::Unknown, format!("{setting} is set, and no address of the domain has a key here yet")),
    }
}

impl Steps {
    /// As lines for a terminal.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for Step { step, what, stand, found, next } in &self.steps {
            let word = match stand {
                Stand::Done => "done",
                Stand::Open => "open",
                Stand::Unknown => "?",
            };
            // Writing to a string does not fail.
            let _ = writeln!(text, "{step}  {word:<5} {what}: {found}");
            if let Some(next) = next {
                let _ = writeln!(text, "         {next}");
            }
        }
        for (name, count) in [("keys of the server", &self.keys), ("keys in the keyring", &self.keyring)] {
            if let Some(Count { addresses, living, soon, without }) = count {
                let _ = writeln!(
                    text,
                    "{name}: {living} of {addresses} addresses, {soon} end within a day, {without} have none"
                );
            }
        }
        text
    }

    /// The same as JSON.
    pub(super) fn json(&self) -> serde_json::Value {
        // Plain data always serialises.
        serde_json::to_value(self).unwrap_or_default()
    }

    /// Whether the last step is done.
    pub(super) fn is_whole(&self) -> bool {
        self.steps.iter().all(|step| step.stand == Stand::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Known {
        let count = Count { addresses: 3, living: 2, soon: 1, without: 1 };
        Known {
            published: Ok(Some(Claim::All)),
            is_server: true,
            keys: Ok(Some(count)),
            keyring: Ok(Some(count)),
            learns: true,
            stamps: true,
        }
    }

    #[test]
    fn each_step_stands_by_what_is_known_of_it_alone() {
        use Stand::{Done, Open, Unknown};
        let nothing = Count::default();
        for (change, stands) in [
            ((|_| {}) as fn(&mut Known), [Done; 5]),
            (|known| known.published = Ok(Some(Claim::Some)), [Done, Done, Done, Done, Open]),
            (|known| known.published = Ok(Some(Claim::Testing)), [Done, Done, Done, Open, Open]),
            (|known| known.published = Ok(None), [Open, Done, Done, Open, Open]),
            (|known| known.published = Err("DNS failed".into()), [Unknown, Done, Done, Unknown, Unknown]),
            (|known| known.learns = false, [Done, Open, Done, Done, Done]),
            (|known| known.stamps = false, [Done, Done, Open, Done, Done]),
            (|known| known.keyring = Ok(None), [Done, Unknown, Unknown, Done, Done]),
            (|known| known.keyring = Err("locked".into()), [Done, Unknown, Unknown, Done, Done]),
            (|known| known.keys = Err("locked".into()), [Unknown, Done, Done, Done, Done]),
        ] {
            let mut known = known();
            change(&mut known);
            let steps = steps(&"example.com".parse().unwrap(), &known);
            let found: Vec<Stand> = steps.iter().map(|step| step.stand).collect();
            assert_eq!(found, stands, "{steps:?}");
            assert!(steps.iter().all(|step| step.next.is_some() == (step.stand == Open)), "{steps:?}");
        }
        for keys in [None, Some(nothing)] {
            let steps = steps(&"example.com".parse().unwrap(), &Known { keys: Ok(keys), ..known() });
            assert_eq!(steps[0].stand, Open);
            assert!(steps[0].next.as_ref().unwrap().contains("address import"));
        }
        let elsewhere = Known { is_server: false, keys: Ok(None), ..known() };
        assert_eq!(steps(&"example.com".parse().unwrap(), &elsewhere)[0].stand, Done);
    }

    #[test]
    fn addresses_are_counted_by_when_their_last_key_ends() {
        let now = SystemTime::now();
        let after = |seconds| Some(now + Duration::from_secs(seconds));
        let ends = [after(60), after(2 * 86_400), None, Some(now), Some(now - Duration::from_secs(1))];
        assert_eq!(count(ends.into_iter(), now), Count { addresses: 5, living: 2, soon: 1, without: 3 });
    }
}
