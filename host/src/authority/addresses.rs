//! The addresses that get keys in time, and their AGI and AVT.

use std::time::{Duration, SystemTime};

use tracing::warn;

use super::schedule::next_turn;
use super::{Authority, Error};
use crate::config::Limits;
use crate::proto::address::{Address, Domain, Mailbox};
use crate::store::SettingsRow;

/// The comparisons that an address's living keys may cost, less one for the key that is being made: AVT ÷ AGI stays below.
const KEPT_FREE: u64 = 2;

/// AGI and AVT as somebody wishes them; absent: the configuration's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Intervals {
    /// The interval between two keys.
    pub agi: Option<Duration>,
    /// How long an old key stays good beside the new one.
    pub avt: Option<Duration>,
}

/// An address that gets keys in time, as it is listed.
#[derive(Clone, Debug)]
pub struct Enlisted {
    /// The address, folded.
    pub address: String,
    /// What was set for it.
    pub own: Intervals,
    /// The AGI in force.
    pub agi: Duration,
    /// The AVT in force.
    pub avt: Duration,
    /// When it was put in.
    pub created: SystemTime,
    /// When it gets its next key.
    pub due: SystemTime,
}

/// Whether one of the two can be kept.
pub(super) fn keepable(name: &'static str, wanted: Duration, limits: &Limits) -> Result<(), Error> {
    match (limits.authority.interval_least..=limits.authority.interval_most).contains(&wanted) {
        true => Ok(()),
        false => Err(Error::Interval { name, wanted }),
    }
}

/// Whether AGI and AVT go together.
pub(super) fn keepable_together(agi: Duration, avt: Duration, limits: &Limits) -> Result<(), Error> {
    let lifetime = agi.saturating_add(avt);
    if lifetime > limits.authority.lifetime_most {
        return Err(Error::LongLived { lifetime });
    }
    let most = u64::try_from(limits.authority.keys_per_address).unwrap_or(u64::MAX).saturating_sub(KEPT_FREE);
    let living = avt.as_secs() / agi.as_secs().max(1);
    if living > most { Err(Error::ManyKeys { living, most }) } else { Ok(()) }
}

impl Authority {
    /// The form under which an address of ours is looked up; refused where its domain is none of ours.
    pub fn own_address(&self, address: &Address) -> Result<Mailbox, Error> {
        self.own_or_refuse(address)
    }

    /// Whether AGI and AVT can be kept; an AVT below `limits.authority.avt_advised` can, and is for the caller to warn of.
    pub fn check(&self, intervals: Intervals) -> Result<(), Error> {
        for (name, own) in [("AGI", intervals.agi), ("AVT", intervals.avt)] {
            own.map_or(Ok(()), |own| keepable(name, own, &self.limits))?;
        }
        keepable_together(intervals.agi.unwrap_or(self.agi), intervals.avt.unwrap_or(self.avt), &self.limits)
    }

    /// Puts addresses of ours in, all of them or, on an error, none; returns how many are new. One that is in already keeps
    /// what it has but for what is named now. The first turns are spread over AGI: an import makes no burst.
    ///
    /// `progress` hears how many are written.
    pub async fn enlist(
        &self,
        wanted: &[(Address, Intervals)],
        progress: &mut (dyn FnMut(usize) + Send),
    ) -> Result<u64, Error> {
        let now = self.clock.now();
        let mut rows = Vec::with_capacity(wanted.len());
        for (address, intervals) in wanted {
            let address = self.own_or_refuse(address)?;
            self.check(*intervals)?;
            let due = next_turn(&address, intervals.agi.unwrap_or(self.agi), now);
            rows.push(SettingsRow {
                address: address.into(),
                agi: intervals.agi,
                avt: intervals.avt,
                created: now,
                due,
            });
        }
        Ok(self.keys.enlist(&rows, progress).await?)
    }

    /// Sets AGI, AVT or both of an address that is in; `Some(None)` goes back to the configuration's. It counts from the
    /// next key on, whose turn is at most the new AGI away.
    pub async fn set(
        &self,
        address: &Address,
        agi: Option<Option<Duration>>,
        avt: Option<Option<Duration>>,
    ) -> Result<Enlisted, Error> {
        let address = self.own_or_refuse(address)?;
        let Some(mut row) = self.keys.settings(&address).await? else {
            return Err(Error::NotEnlisted { address: address.into() });
        };
        row.avt = avt.unwrap_or(row.avt);
        if let Some(agi) = agi
            && agi != row.agi
        {
            row.agi = agi;
            row.due = next_turn(&address, agi.unwrap_or(self.agi), self.clock.now());
        }
        self.check(Intervals { agi: row.agi, avt: row.avt })?;
        match self.keys.set(&row).await? {
            true => Ok(self.enlisted_row(row)),
            false => Err(Error::NotEnlisted { address: address.into() }),
        }
    }

    /// Takes addresses out, all of them or none; their keys end at once, and leave the keyring where this server reaches it.
    /// Returns how many living keys that ended. One whose domain is not ours any more can still be taken out.
    pub async fn strike(&self, addresses: &[Address]) -> Result<u64, Error> {
        let mut struck = Vec::with_capacity(addresses.len());
        for address in addresses {
            struck.push(match self.own_or_refuse(address) {
                Ok(own) => own,
                Err(refused) => self.once_own(address).await?.ok_or(refused)?,
            });
        }
        let names: Vec<String> = struck.iter().cloned().map(String::from).collect();
        let rows = self.keys.of_all(&names).await?;
        let ended = {
            let _forgets = self.asked.forgets(&names);
            self.keys.strike(&names, self.clock.now()).await?
        };
        let keys = |address: &Mailbox| {
            rows.iter().filter(|row| row.address == address.as_str()).map(|row| row.k.fingerprint()).collect()
        };
        self.unstamp(struck.iter().map(|address| (address.clone(), keys(address))).collect()).await?;
        Ok(ended)
    }

    /// The form under which an address stands in the table, whosever its domain is now.
    async fn once_own(&self, address: &Address) -> Result<Option<Mailbox>, Error> {
        let mailbox = address.mailbox();
        Ok(self.keys.settings(&mailbox).await?.map(|_| mailbox))
    }

    /// The addresses that are in, or those of a domain of ours, in alphabetical order.
    pub async fn enlisted(&self, domain: Option<&str>) -> Result<Vec<Enlisted>, Error> {
        let domain = domain.map(|domain| self.own_domain(domain)).transpose()?;
        let rows = self.keys.enlisted(domain.map(Domain::as_str)).await?;
        Ok(rows.into_iter().map(|row| self.enlisted_row(row)).collect())
    }

    /// When an address of ours gets its next key by itself; absent where it is not in the table of addresses.
    pub async fn turn(&self, address: &Address) -> Result<Option<SystemTime>, Error> {
        let row = self.keys.settings(&self.own_or_refuse(address)?).await?;
        Ok(row.map(|row| row.due))
    }

    /// AGI and AVT in force for an address (folded).
    pub(super) async fn intervals(&self, address: &str) -> Result<(Duration, Duration), Error> {
        let row = self.keys.settings(address).await?;
        let (agi, avt) = row.map_or((None, None), |row| (row.agi, row.avt));
        Ok((agi.unwrap_or(self.agi), avt.unwrap_or(self.avt)))
    }

    /// The domain of ours that this text names.
    pub(super) fn own_domain(&self, text: &str) -> Result<&Domain, Error> {
        let named = Domain::parse_full(text).ok();
        let own = self.domains.iter().find(|own| Some(*own) == named.as_ref());
        own.ok_or_else(|| Error::NoDomain { domain: text.to_owned(), domains: self.domains.join(", ") })
    }

    fn enlisted_row(&self, row: SettingsRow) -> Enlisted {
        let own = Intervals { agi: row.agi, avt: row.avt };
        let (agi, avt) = (own.agi.unwrap_or(self.agi), own.avt.unwrap_or(self.avt));
        Enlisted { address: row.address, own, agi, avt, created: row.created, due: row.due }
    }

    /// Whether an AVT is shorter than mail may wait in a queue.
    pub fn is_short(&self, avt: Duration) -> bool {
        avt < self.limits.authority.avt_advised
    }

    pub(super) fn warn_of_short_avt(&self) {
        if self.is_short(self.avt) {
            let days = self.limits.authority.avt_advised.as_secs() / 86_400;
            warn!(
                "authority.avt is below {days} days: mail that waits in a queue for longer arrives with a key that has ended"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::Clock;
    use super::*;
    use crate::config::Config;
    use crate::store::MemoryKeys;

    fn over(agi: &str, avt: &str) -> Result<Authority, Error> {
        let text = format!("[authority]\ndomains = [\"example.com\"]\nagi = \"{agi}\"\navt = \"{avt}\"\n");
        let config = Config::parse(&text, "x".as_ref()).unwrap();
        Authority::over(Arc::new(MemoryKeys::new()), &config, &Arc::new(Limits::default()), Clock::system())
    }

    fn address(text: &str) -> Address {
        Address::parse(text.as_bytes(), true).unwrap()
    }

    #[tokio::test]
    async fn intervals_that_cannot_be_kept_and_addresses_of_others_are_refused() {
        let authority = over("5d", "7d").unwrap();
        let alice = address("alice@example.com");
        let days = |days: u64| Some(Duration::from_secs(days * 86_400));
        let seconds = |count| Some(Duration::from_secs(count));
        for (agi, avt, words) in [
            (seconds(60), None, "AGI of 1m is not between"),
            (None, days(400), "115 days"),
            (seconds(3_600), days(30), "720 times"),
            (days(60), days(56), "9999999 seconds"),
            (days(115), None, "9999999 seconds"),
        ] {
            let wanted = [(alice.clone(), Intervals { agi, avt })];
            let error = authority.enlist(&wanted, &mut |_| {}).await.unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        let both = [(alice.clone(), Intervals::default()), (address("eve@other.example"), Intervals::default())];
        let error = authority.enlist(&both, &mut |_| {}).await.unwrap_err();
        assert!(error.to_string().contains("eve@other.example"), "{error}");
        assert!(authority.enlisted(None).await.unwrap().is_empty(), "all or nothing");
        assert!(authority.enlisted(Some("other.example")).await.is_err());
        let most = [(alice, Intervals { agi: days(60), avt: days(55) })];
        assert_eq!(authority.enlist(&most, &mut |_| {}).await.unwrap(), 1);
    }

    #[test]
    fn the_configuration_is_held_to_the_same_bounds() {
        for (agi, avt, words) in [
            ("1m", "7d", "authority.agi of 1m is not between one hour and 115 days"),
            ("5d", "200d", "authority.avt of "),
            ("1h", "7d", "168 times"),
            ("80d", "40d", "9999999 seconds"),
        ] {
            let error = over(agi, avt).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        over("1h", "1h").unwrap();
    }
}
