//! INVALIDKEY answers, counted in memory.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::SystemTime;

use async_trait::async_trait;

use super::{Counted, MemoryKeys};
use crate::store::{Error, ForgedRow, Forgeries, seconds, time};

/// A day of the table, in seconds.
const DAY: i64 = 86_400;
/// Rows for which it is looked at once whether there is room.
const ROWS_AT_ONCE: usize = 1_000;

#[async_trait]
impl Forgeries for MemoryKeys {
    async fn count_forged(&self, rows: &[ForgedRow], most: u64) -> Result<(), Error> {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        self.0.with(|table| {
            for part in rows.chunks(ROWS_AT_ONCE) {
                let full = part.len() > most.saturating_sub(table.forged.len());
                let place = |row: &ForgedRow| {
                    let (domain, day) = (row.domain.clone(), seconds(row.last) / DAY);
                    (domain, day, row.address.clone(), row.verifier.clone(), row.network.clone())
                };
                let known = |row: &ForgedRow| table.forged.contains_key(&place(row));
                let told: Vec<bool> = part.iter().map(|row| !full || known(row)).collect();
                for (row, told) in part.iter().zip(told) {
                    let mut place = place(row);
                    if !told {
                        place = (place.0, place.1, String::new(), String::new(), String::new());
                    }
                    add(table.forged.entry(place).or_insert(Counted { answers: 0, first: i64::MAX, last: 0 }), row);
                }
            }
            Ok(())
        })
    }

    async fn forged(&self, domain: Option<&str>, since: SystemTime) -> Result<Vec<ForgedRow>, Error> {
        let since = seconds(since);
        self.0.with(|table| {
            let mut sums: BTreeMap<_, Counted> = BTreeMap::new();
            for ((of, day, address, verifier, network), counted) in &table.forged {
                if *day >= since / DAY && counted.last >= since && domain.is_none_or(|domain| domain == of) {
                    let sum = sums.entry((of, address, verifier, network));
                    let sum = sum.or_insert(Counted { answers: 0, first: i64::MAX, last: 0 });
                    sum.answers = sum.answers.saturating_add(counted.answers);
                    sum.first = sum.first.min(counted.first);
                    sum.last = sum.last.max(counted.last);
                }
            }
            let row = |((domain, address, verifier, network), sum): ((&String, &String, &String, &String), Counted)| {
                ForgedRow {
                    domain: domain.clone(),
                    address: address.clone(),
                    verifier: verifier.clone(),
                    network: network.clone(),
                    answers: sum.answers,
                    first: time(sum.first),
                    last: time(sum.last),
                }
            };
            let mut rows: Vec<ForgedRow> = sums.into_iter().map(row).collect();
            rows.sort_by_key(|row| Reverse(row.answers)); // those that are equal stay in the order of the map
            Ok(rows)
        })
    }

    async fn sweep_forged(&self, before: SystemTime) -> Result<u64, Error> {
        self.0.with(|table| {
            let count = table.forged.len();
            table.forged.retain(|(_, day, ..), _| *day >= seconds(before) / DAY);
            Ok(u64::try_from(count - table.forged.len()).unwrap_or_default())
        })
    }
}

fn add(sum: &mut Counted, row: &ForgedRow) {
    sum.answers = sum.answers.saturating_add(row.answers);
    sum.first = sum.first.min(seconds(row.first));
    sum.last = sum.last.max(seconds(row.last));
}
