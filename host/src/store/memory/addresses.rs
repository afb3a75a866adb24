//! The addresses that get keys in time, in memory.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;

use super::{MemoryKeys, Settings};
use crate::store::{Addresses, Error, SettingsRow, seconds, time};

#[async_trait]
impl Addresses for MemoryKeys {
    async fn enlist(&self, rows: &[SettingsRow], progress: &mut (dyn FnMut(usize) + Send)) -> Result<u64, Error> {
        let new = self.0.with(|table| {
            let before = table.settings.len();
            for row in rows {
                let (agi, avt, due) = (row.agi.map(whole), row.avt.map(whole), seconds(row.due));
                let fresh = || Settings { agi, avt, created: seconds(row.created), due };
                let mine = table.settings.entry(row.address.clone()).or_insert_with(fresh);
                if agi.is_some() && agi != mine.agi {
                    mine.due = due;
                }
                mine.agi = agi.or(mine.agi);
                mine.avt = avt.or(mine.avt);
            }
            Ok(table.settings.len() - before)
        })?;
        progress(rows.len());
        Ok(u64::try_from(new).unwrap_or_default())
    }

    async fn set(&self, row: &SettingsRow) -> Result<bool, Error> {
        self.0.with(|table| {
            let Some(mine) = table.settings.get_mut(&row.address) else { return Ok(false) };
            (mine.agi, mine.avt, mine.due) = (row.agi.map(whole), row.avt.map(whole), seconds(row.due));
            Ok(true)
        })
    }

    async fn strike(&self, addresses: &[String], at: SystemTime) -> Result<u64, Error> {
        let at = seconds(at);
        self.0.with(|table| {
            let mut struck = BTreeSet::new();
            for address in addresses {
                if !table.settings.contains_key(address) || !struck.insert(address) {
                    return Err(Error::NotEnlisted { address: address.clone() });
                }
            }
            let mut ended = 0;
            for address in addresses {
                table.settings.remove(address);
                for (_, key) in table.of(address).filter(|(_, key)| key.lives(at)) {
                    key.revoked = Some(at);
                    ended += 1;
                }
                table.note(address);
            }
            Ok(ended)
        })
    }

    async fn settings(&self, address: &str) -> Result<Option<SettingsRow>, Error> {
        self.0.with(|table| Ok(table.settings.get(address).map(|mine| row(address, mine))))
    }

    async fn enlisted(&self, domain: Option<&str>) -> Result<Vec<SettingsRow>, Error> {
        self.0.with(|table| {
            let of = |address: &str| address.rsplit_once('@').map_or("", |(_, domain)| domain).to_owned();
            let all = table.settings.iter().map(|(address, mine)| (of(address), row(address, mine)));
            let mut rows: Vec<_> = all.filter(|(own, _)| domain.is_none_or(|domain| own == domain)).collect();
            rows.sort_by(|(one, a), (other, b)| (one, &a.address).cmp(&(other, &b.address)));
            Ok(rows.into_iter().map(|(_, row)| row).collect())
        })
    }

    async fn due(&self, domains: &[String], now: SystemTime, most: u32) -> Result<Vec<SettingsRow>, Error> {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        self.0.with(|table| {
            let now = seconds(now);
            let wanted =
                |address: &str| domains.iter().any(|own| address.rsplit_once('@').is_some_and(|(_, of)| of == own));
            let due = table.settings.iter().filter(|(address, mine)| mine.due <= now && wanted(address));
            let mut places: Vec<(i64, &String)> = due.map(|(address, mine)| (mine.due, address)).collect();
            if places.len() > most {
                places.select_nth_unstable(most); // of many, the first few are found without sorting the others
                places.truncate(most);
            }
            places.sort_unstable();
            let row = |(_, address): (i64, &String)| table.settings.get(address).map(|mine| row(address, mine));
            Ok(places.into_iter().filter_map(row).collect())
        })
    }

    async fn turns_per_second(&self, agi: Duration) -> Result<f64, Error> {
        let agi = whole(agi);
        self.0.with(|table| Ok(table.settings.values().map(|mine| 1.0 / mine.agi.unwrap_or(agi).max(1) as f64).sum()))
    }
}

/// A duration in whole seconds.
fn whole(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

fn row(address: &str, settings: &Settings) -> SettingsRow {
    let duration = |seconds| Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
    SettingsRow {
        address: address.to_owned(),
        agi: settings.agi.map(duration),
        avt: settings.avt.map(duration),
        created: time(settings.created),
        due: time(settings.due),
    }
}
