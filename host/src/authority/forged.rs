//! Who is being forged: INVALIDKEY answers, counted off the answer's path and written now and then.

use std::collections::BTreeMap;
use std::mem;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{Authority, Error};
use crate::proto::address::Domain;
use crate::proto::network::{network, prefix};
use crate::store::{ForgedRow, seconds};

/// What answers are told apart by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    day: i64,
    domain: String,
    address: String,
    verifier: String,
    network: String,
}

#[derive(Clone, Copy, Debug)]
struct Count {
    answers: u64,
    first: SystemTime,
    last: SystemTime,
}

/// The answers since the last writing.
#[derive(Debug)]
pub(super) struct Counts {
    most: usize,
    counts: BTreeMap<Seen, Count>,
}

impl Counts {
    /// Memory for so many that differ; beyond it they are counted for their domain alone.
    pub(super) fn new(most: usize) -> Counts {
        Counts { most, counts: BTreeMap::new() }
    }

    fn add(&mut self, seen: Seen, count: Count) {
        let full = self.counts.len() >= self.most && !self.counts.contains_key(&seen);
        let seen = if full {
            let [address, verifier, network] = [const { String::new() }; 3];
            Seen { address, verifier, network, ..seen }
        } else {
            seen
        };
        let held = self.counts.entry(seen).or_insert(Count { answers: 0, ..count });
        held.answers = held.answers.saturating_add(count.answers);
        held.first = held.first.min(count.first);
        held.last = held.last.max(count.last);
    }
}

/// An address, or all unknown ones of a domain, whose name was used with wrong keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forged {
    /// The domain.
    pub domain: String,
    /// The address; absent: addresses that have no key, and those for which there was no room.
    pub address: Option<String>,
    /// How many INVALIDKEY answers. A verifier may ask more than once about one message, and what the rate limit held back
    /// is not among them.
    pub answers: u64,
    /// When the first was given.
    pub first: SystemTime,
    /// When the last was.
    pub last: SystemTime,
    /// From where it was seen, the most first.
    pub seen_by: Vec<SeenBy>,
}

/// A verifier that saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenBy {
    /// Whom it said it was, which anybody can say; absent: it did not, or there was no room to tell.
    pub verifier: Option<String>,
    /// The network that asked, which UDP does not prove; absent: there was no room to tell.
    pub network: Option<String>,
    /// How many answers.
    pub answers: u64,
}

impl Authority {
    /// Counts an INVALIDKEY answer. Whether the address has keys changes what is counted and not the work: both are a
    /// look-up in the same map.
    pub(super) fn count_invalid(&self, address: &str, known: bool, tags: &[u8], peer: IpAddr) {
        let now = self.clock.now();
        let domain = address.rsplit_once('@').map_or("", |(_, domain)| domain).to_owned();
        let address = address.to_owned();
        let seen = Seen {
            day: seconds(now) / 86_400,
            domain,
            address: if known { address } else { String::new() },
            verifier: verifier(tags),
            network: format!("{}/{}", network(peer), prefix(peer)),
        };
        let mut counts = self.forged.lock().unwrap_or_else(PoisonError::into_inner);
        counts.add(seen, Count { answers: 1, first: now, last: now });
    }

    /// Writes down what was counted; what cannot be written now is kept for the next time, within its bound.
    pub async fn write_counts(&self) -> Result<(), Error> {
        let counts = mem::take(&mut self.forged.lock().unwrap_or_else(PoisonError::into_inner).counts);
        if counts.is_empty() {
            return Ok(());
        }
        let row = |(seen, count): (&Seen, &Count)| ForgedRow {
            domain: seen.domain.clone(),
            address: seen.address.clone(),
            verifier: seen.verifier.clone(),
            network: seen.network.clone(),
            answers: count.answers,
            first: count.first,
            last: count.last,
        };
        let rows: Vec<_> = counts.iter().map(row).collect();
        let written = self.keys.count_forged(&rows, self.limits.authority.forged_rows).await;
        if written.is_err() {
            let mut kept = self.forged.lock().unwrap_or_else(PoisonError::into_inner);
            for (seen, count) in counts {
                kept.add(seen, count);
            }
        }
        Ok(written?)
    }

    /// Writes now and then, and deletes what is old, until `shutdown`.
    pub(super) async fn write_counts_often(self: Arc<Self>, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(self.limits.authority.forged_written) => {}
            }
            self.write_counts_or_warn().await;
        }
    }

    pub(super) async fn write_counts_or_warn(&self) {
        if let Err(e) = self.write_counts().await {
            warn!("the counts of wrong keys are not written: {e}");
        }
    }

    /// Deletes counts that are older than they are kept; returns how many rows.
    pub async fn sweep_forged(&self) -> Result<u64, Error> {
        match self.clock.now().checked_sub(self.limits.authority.forged_kept) {
            Some(before) => Ok(self.keys.sweep_forged(before).await?),
            None => Ok(0),
        }
    }

    /// Who was forged within this time, of all domains of ours or one: the most forged first. Days count as a whole.
    pub async fn forged(&self, domain: Option<&str>, within: Duration) -> Result<Vec<Forged>, Error> {
        let domain = domain.map(|domain| self.own_domain(domain)).transpose()?;
        let since = self.clock.now().checked_sub(within).unwrap_or(SystemTime::UNIX_EPOCH);
        Ok(gathered(self.keys.forged(domain.map(Domain::as_str), since).await?))
    }
}

/// Rows of one address together, the most first.
fn gathered(rows: Vec<ForgedRow>) -> Vec<Forged> {
    let named = |text: String| Some(text).filter(|text| !text.is_empty());
    let mut all: BTreeMap<(String, String), Forged> = BTreeMap::new();
    for row in rows {
        let forged = all.entry((row.domain.clone(), row.address.clone())).or_insert_with(|| Forged {
            domain: row.domain,
            address: named(row.address),
            answers: 0,
            first: row.first,
            last: row.last,
            seen_by: Vec::new(),
        });
        forged.answers = forged.answers.saturating_add(row.answers);
        forged.first = forged.first.min(row.first);
        forged.last = forged.last.max(row.last);
        forged.seen_by.push(SeenBy {
            verifier: named(row.verifier),
            network: named(row.network),
            answers: row.answers,
        });
    }
    let mut all: Vec<Forged> = all.into_values().collect();
    all.sort_by_key(|forged| std::cmp::Reverse(forged.answers));
    all
}

/// The `from=` of a question where it can be a host's name: whatever else stands there is not worth a row, or a terminal.
fn verifier(tags: &[u8]) -> String {
    let claim = tags.split(|&octet| octet == b' ').find_map(|tag| tag.strip_prefix(b"from=")).unwrap_or_default();
    let good = |octet: &u8| octet.is_ascii_alphanumeric() || matches!(octet, b'.' | b'-');
    match str::from_utf8(claim) {
        Ok(name) if claim.iter().all(good) => name.trim_end_matches('.').to_ascii_lowercase(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_and_no_answer_is_lost() {
        let mut counts = Counts::new(50);
        let now = SystemTime::UNIX_EPOCH;
        for n in 0..10_000 {
            let seen = Seen {
                day: 1,
                domain: "example.com".into(),
                address: "a@example.com".into(),
                verifier: format!("v{n}.test"),
                network: "192.0.2.0/24".into(),
            };
            counts.add(seen, Count { answers: 1, first: now, last: now });
        }
        assert_eq!(counts.counts.len(), 51, "and one for the domain");
        assert_eq!(counts.counts.values().map(|count| count.answers).sum::<u64>(), 10_000);
    }

    #[test]
    fn a_verifier_is_a_host_name_or_nobody() {
        assert_eq!(verifier(b"v=1 from=MX.Example.net."), "mx.example.net");
        for tags in [&b"v=1"[..], b"", b"from=", b"from=\x1b[31m", b"from=a/b", b"xfrom=a.test", b"v=1 from=a\"b"] {
            assert_eq!(verifier(tags), "", "{}", tags.escape_ascii());
        }
    }
}
