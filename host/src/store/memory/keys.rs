//! The AS's keys in memory.

use std::collections::BTreeSet;
use std::time::SystemTime;

use async_trait::async_trait;

use super::{Key, MemoryKeys, Owed, Table};
use crate::proto::address::Mailbox;
use crate::store::{Added, Error, KeyRow, Keys, NewKey, RunningOut, seconds, time};

#[async_trait]
impl Keys for MemoryKeys {
    async fn add_all(&self, keys: &[NewKey], most: usize) -> Result<Vec<Added>, Error> {
        self.0.with(|table| Ok(keys.iter().map(|key| table.add(key, most)).collect()))
    }

    async fn take_back(&self, keys: &[(String, i64)], at: SystemTime) -> Result<(), Error> {
        self.0.with(|table| {
            for place in keys {
                if let Some(key) = table.keys.get_mut(place) {
                    key.revoked.get_or_insert(seconds(at));
                    table.note(&place.0);
                }
                if let Some(settings) = table.settings.get_mut(&place.0) {
                    settings.due = settings.due.min(seconds(at));
                }
            }
            Ok(())
        })
    }

    async fn of_all(&self, addresses: &[String]) -> Result<Vec<KeyRow>, Error> {
        let row = |address: &str, generation: i64, key: &Key| KeyRow {
            address: address.to_owned(),
            generation,
            k: key.k.clone(),
            created: time(key.created),
            expires: time(key.expires),
            revoked: key.revoked.map(time),
        };
        let each: BTreeSet<&String> = addresses.iter().collect();
        self.0.with(|table| {
            let mut rows = Vec::new();
            for address in each {
                rows.extend(table.of(address).rev().map(|(generation, key)| row(address, generation, key)));
            }
            Ok(rows)
        })
    }

    async fn revoke(&self, address: &Mailbox, generations: &[i64], at: SystemTime) -> Result<u64, Error> {
        let address = address.as_str();
        self.0.with(|table| {
            let mut marked = 0;
            for (generation, key) in table.of(address) {
                if key.revoked.is_none() && generations.contains(&generation) {
                    key.revoked = Some(seconds(at));
                    marked += 1;
                }
            }
            if marked > 0 {
                table.note(address);
            }
            let alive = table.of(address).any(|(_, key)| key.lives(seconds(at)));
            if let Some(settings) = table.settings.get_mut(address).filter(|_| marked > 0 && !alive) {
                settings.due = settings.due.min(seconds(at));
            }
            Ok(marked)
        })
    }

    async fn running_out(&self, now: SystemTime, soon: SystemTime) -> Result<RunningOut, Error> {
        let (now, soon) = (seconds(now), seconds(soon));
        self.0.with(|table| {
            let addresses: Vec<String> = table.generations.keys().cloned().collect();
            let mut found = RunningOut { addresses: 0, without: 0, soon: 0 };
            for address in addresses {
                let unrevoked = table.of(&address).filter(|(_, key)| key.revoked.is_none());
                let ends = unrevoked.map(|(_, key)| key.expires).max().unwrap_or_default();
                if ends <= now && !table.settings.contains_key(&address) {
                    continue;
                }
                found.addresses += 1;
                found.without += u64::from(ends <= now);
                found.soon += u64::from(ends > now && ends <= soon);
            }
            Ok(found)
        })
    }

    async fn sweep(&self, before: SystemTime) -> Result<u64, Error> {
        self.0.with(|table| {
            let ended = |key: &Key| key.expires.min(key.revoked.unwrap_or(key.expires)) < seconds(before);
            let gone: Vec<String> =
                table.keys.extract_if(.., |_, key| ended(key)).map(|((address, _), _)| address).collect();
            table.posts.retain(|place, _| table.keys.contains_key(place));
            gone.iter().for_each(|address| table.note(address));
            Ok(u64::try_from(gone.len()).unwrap_or_default())
        })
    }

    async fn close(&self) {
        self.0.close();
    }
}

impl Table {
    fn add(&mut self, key: &NewKey, most: usize) -> Added {
        let created = seconds(key.created);
        if let Some(turn) = key.turn {
            let mine = self.settings.get_mut(&key.address).filter(|mine| mine.due <= created || !key.only_due);
            match mine {
                Some(mine) => mine.due = seconds(turn),
                None if key.only_due => return Added::NotDue,
                None => {}
            }
        }
        let living = self.of(&key.address).filter(|(_, older)| older.lives(created)).count();
        if living >= most {
            return Added::Full(living);
        }
        if let Some(end) = key.others_end.map(seconds) {
            let most = seconds(key.outlived());
            let outlived = self.of(&key.address).filter(|(_, older)| older.revoked.is_none() && older.expires <= most);
            outlived.for_each(|(_, older)| older.expires = older.expires.min(end));
        }
        let generation = self.generations.entry(key.address.clone()).or_default();
        *generation = generation.saturating_add(1);
        let place = (key.address.clone(), *generation);
        if let Some(sealed) = key.post.clone() {
            let owed = Owed { sealed: Some(sealed), created, tries: 0, next_try: created, outcome: None, note: None };
            self.posts.insert(place.clone(), owed);
        }
        let generation = place.1;
        self.note(&key.address);
        self.keys.insert(place, Key { k: key.k.clone(), created, expires: seconds(key.expires), revoked: None });
        Added::Generation(generation)
    }
}
