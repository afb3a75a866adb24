//! The keyring in memory.

use std::collections::BTreeMap;
use std::time::SystemTime;

use async_trait::async_trait;

use super::Kept;
use crate::proto::address::Mailbox;
use crate::proto::seal::Sealed;
use crate::store::{Error, KeyAges, Keyring, KeyringRow, Learned, NewestKey, seconds, time};

/// The keys that our own addresses' mail is stamped with, in memory: lost with it.
#[derive(Debug, Default)]
pub struct MemoryKeyring(Kept<BTreeMap<(String, String), Row>>);

/// A key by address and fingerprint.
#[derive(Debug)]
struct Row {
    /// Absent where another one took its place.
    sealed: Option<Sealed>,
    learned: i64,
    expires: i64,
}

impl MemoryKeyring {
    /// An empty keyring.
    pub fn new() -> MemoryKeyring {
        MemoryKeyring::default()
    }
}

#[async_trait]
impl Keyring for MemoryKeyring {
    async fn learn(&self, key: &NewestKey) -> Result<Learned, Error> {
        let place = (key.address.clone(), key.fingerprint.clone());
        self.0.with(|rows| {
            match rows.get(&place) {
                Some(Row { sealed: Some(_), .. }) => return Ok(Learned::Known),
                Some(Row { sealed: None, .. }) => return Ok(Learned::Superseded),
                None => {}
            }
            let present = rows.iter_mut().find(|((address, _), row)| *address == key.address && row.sealed.is_some());
            if let Some((_, row)) = present {
                if row.expires >= seconds(key.expires) {
                    return Ok(Learned::Shorter);
                }
                row.sealed = None;
            }
            let (learned, expires) = (seconds(key.learned), seconds(key.expires));
            rows.insert(place, Row { sealed: Some(key.sealed.clone()), learned, expires });
            Ok(Learned::Newest)
        })
    }

    async fn newest(&self, address: &Mailbox) -> Result<Option<NewestKey>, Error> {
        self.0.with(|rows| {
            let found = rows.iter().find_map(|((of, fingerprint), row)| {
                let sealed = row.sealed.clone().filter(|_| *of == **address)?;
                Some(NewestKey {
                    address: of.clone(),
                    fingerprint: fingerprint.clone(),
                    sealed,
                    learned: time(row.learned),
                    expires: time(row.expires),
                })
            });
            Ok(found)
        })
    }

    async fn rows(&self, domain: Option<&str>) -> Result<Vec<KeyringRow>, Error> {
        let of = |row: &KeyringRow| {
            let own = row.address.rsplit_once('@').map(|(_, domain)| domain);
            domain.is_none_or(|domain| own == Some(domain))
        };
        self.0.with(|rows| Ok(present(rows).filter(of).collect()))
    }

    async fn ending(&self, before: SystemTime, most: u32) -> Result<Vec<KeyringRow>, Error> {
        self.0.with(|rows| {
            let mut ending: Vec<KeyringRow> = present(rows).filter(|row| row.expires < before).collect();
            ending.sort_by(|one, other| (one.expires, &one.address).cmp(&(other.expires, &other.address)));
            ending.truncate(usize::try_from(most).unwrap_or(usize::MAX));
            Ok(ending)
        })
    }

    async fn ages(&self, now: SystemTime) -> Result<Vec<KeyAges>, Error> {
        self.0.with(|rows| {
            let mut domains: BTreeMap<String, KeyAges> = BTreeMap::new();
            for row in present(rows) {
                let domain = row.address.rsplit_once('@').map_or(row.address.as_str(), |(_, domain)| domain).to_owned();
                let ages =
                    domains.entry(domain.clone()).or_insert(KeyAges { domain, addresses: 0, ended: 0, oldest: None });
                ages.addresses += 1;
                if row.expires <= time(seconds(now)) {
                    ages.ended += 1;
                } else {
                    ages.oldest = Some(ages.oldest.map_or(row.learned, |oldest| oldest.min(row.learned)));
                }
            }
            Ok(domains.into_values().collect())
        })
    }

    async fn supersede(&self, address: &Mailbox, fingerprints: &[String]) -> Result<bool, Error> {
        self.0.with(|rows| {
            let mut all = rows.iter_mut();
            let present = all.find(|((of, _), row)| *of == **address && row.sealed.is_some());
            Ok(present
                .filter(|((_, own), _)| fingerprints.contains(own))
                .and_then(|(_, row)| row.sealed.take())
                .is_some())
        })
    }

    async fn forget(&self, address: &Mailbox) -> Result<bool, Error> {
        self.0.with(|rows| {
            let count = rows.len();
            rows.retain(|(of, _), _| *of != **address);
            Ok(rows.len() < count)
        })
    }

    async fn sweep(&self, before: SystemTime) -> Result<u64, Error> {
        self.0.with(|rows| {
            let count = rows.len();
            rows.retain(|_, row| row.expires >= seconds(before));
            Ok(u64::try_from(count - rows.len()).unwrap_or_default())
        })
    }

    async fn close(&self) {
        self.0.close();
    }
}

/// What may be listed, in alphabetical order.
fn present(rows: &BTreeMap<(String, String), Row>) -> impl Iterator<Item = KeyringRow> {
    rows.iter().filter(|(_, row)| row.sealed.is_some()).map(|((address, fingerprint), row)| KeyringRow {
        address: address.clone(),
        fingerprint: fingerprint.clone(),
        learned: time(row.learned),
        expires: time(row.expires),
    })
}
