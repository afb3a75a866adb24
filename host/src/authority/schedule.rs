//! When is whose turn: issue times spread evenly over AGI, and no burst after an import or a standstill. No I/O.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};

/// How many times the usual number of keys a look may make: what a standstill left behind is made up for at twice the
/// usual rate, beside the turns that come meanwhile.
const CATCHING_UP: f64 = 3.0;
/// The longest interval that is reckoned with, in seconds: beyond any, and its sums stay far from an overflow.
const LONGEST: u64 = 1 << 40;
/// One key in one look is no burst, however few addresses there are.
const FEW: usize = 1;

/// An address's moment in every interval: seconds from its beginning, below `agi`. It depends on the (folded) address
/// alone, so that it stays over restarts, and spreads addresses evenly, in whatever order they come.
pub fn phase(address: &str, agi: Duration) -> u64 {
    let hash = Sha256::new().chain_update(b"addrauth-phase-v1\0").chain_update(address).finalize();
    let hash = hash.iter().take(8).fold(0_u64, |sum, octet| sum << 8 | u64::from(*octet));
    let scaled = (u128::from(hash) * u128::from(agi.as_secs().clamp(1, LONGEST))) >> 64;
    u64::try_from(scaled).unwrap_or_default()
}

/// The first turn of an address after this time: at most `agi` later. What an address missed is one turn and not many.
pub fn next_turn(address: &str, agi: Duration, after: SystemTime) -> SystemTime {
    let agi = agi.as_secs().clamp(1, LONGEST);
    let now = after.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let phase = phase(address, Duration::from_secs(agi));
    let into = (now % agi + agi - phase) % agi;
    let turn = now.checked_add(agi - into).and_then(|turn| UNIX_EPOCH.checked_add(Duration::from_secs(turn)));
    turn.unwrap_or(after)
}

/// How many keys one look may make where a look comes `every` so often and this many turns come in a second: enough for
/// those and for catching up, and never all that a standstill left behind.
pub fn at_once(turns_per_second: f64, every: Duration) -> usize {
    let usual = turns_per_second.max(0.0) * every.as_secs_f64();
    // A float turns into the nearest integer that there is; nothing here can overflow.
    ((usual * CATCHING_UP).ceil() as usize).max(FEW)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600;
    const DAY: u64 = 24 * HOUR;
    const AGI: Duration = Duration::from_secs(5 * DAY);
    const START: u64 = 1_800_000_000;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    /// A table of addresses and their next turns, looked at every hour.
    struct Table(Vec<(String, SystemTime)>);

    impl Table {
        fn imported(count: usize, now: u64) -> Table {
            let name = |n: usize| format!("user{n}@example.com");
            Table((0..count).map(|n| (name(n), next_turn(&name(n), AGI, at(now)))).collect())
        }

        fn run(&mut self, now: u64) -> usize {
            let rate = self.0.len() as f64 / AGI.as_secs_f64();
            let most = at_once(rate, Duration::from_secs(HOUR));
            self.0.sort_by_key(|(_, due)| *due);
            let turns = self.0.iter_mut().take(most).filter(|(_, due)| *due <= at(now));
            let mut made = 0;
            for (address, due) in turns {
                *due = next_turn(address, AGI, at(now));
                made += 1;
            }
            made
        }

        /// Keys made in each hour of this many days.
        fn runs(&mut self, from: u64, days: u64) -> Vec<usize> {
            (1..=days * 24).map(|hour| self.run(from + hour * HOUR)).collect()
        }
    }

    fn even(hours: &[usize], factor: f64) {
        let mean = hours.iter().sum::<usize>() as f64 / hours.len() as f64;
        let most = hours.iter().max().copied().unwrap_or_default() as f64;
        assert!(most <= mean * factor, "{most} in an hour, {mean} on average");
    }

    #[test]
    fn ten_thousand_addresses_get_their_keys_evenly_over_a_week_from_the_import_on() {
        let mut table = Table::imported(10_000, START);
        let hours = table.runs(START, 7);
        assert_eq!(hours.iter().take(120).sum::<usize>(), 10_000, "each of them once within the first AGI");
        even(&hours, 1.5);
        let least = hours.iter().min().copied().unwrap_or_default();
        assert!(least >= 83 / 2, "{least} in an hour");
    }

    #[test]
    fn after_a_standstill_no_run_makes_more_than_three_times_the_usual_and_all_is_made_up_for() {
        for standstill in [3, 30] {
            let mut table = Table::imported(10_000, START);
            table.runs(START, 5);
            let back = START + 5 * DAY + standstill * DAY;
            let hours = table.runs(back, 8);
            let most = hours.iter().max().copied().unwrap_or_default();
            assert!(most <= 250, "{most} keys in an hour after {standstill} days");
            // Two and a half days make up for any standstill; then every hour is as before.
            assert!(table.0.iter().all(|(_, due)| *due > at(back + 8 * DAY)), "none is left behind");
            even(hours.get(72..).unwrap_or_default(), 1.7);
        }
    }

    #[test]
    fn the_phase_stays_and_lies_within_the_interval() {
        for agi in [1, 7, HOUR, 5 * DAY, 366 * DAY] {
            let interval = Duration::from_secs(agi);
            for n in 0..200 {
                let address = format!("user{n}@example.com");
                assert!(phase(&address, interval) < agi);
                let first = next_turn(&address, interval, at(START + n));
                assert!(first > at(START + n) && first <= at(START + n + agi));
                assert_eq!(next_turn(&address, interval, first), first + interval);
                assert_eq!(next_turn(&address, interval, first - Duration::from_secs(1)), first);
            }
        }
    }

    #[test]
    fn no_interval_and_no_clock_is_too_strange() {
        let far = UNIX_EPOCH + Duration::from_secs(i64::MAX as u64 - 1);
        for agi in [Duration::ZERO, Duration::from_secs(u64::MAX)] {
            for now in [UNIX_EPOCH, far] {
                assert!(next_turn("a@example.com", agi, now) >= now);
            }
        }
        assert_eq!(at_once(f64::NAN, Duration::from_secs(HOUR)), FEW);
        assert_eq!(at_once(f64::INFINITY, Duration::from_secs(HOUR)), usize::MAX);
        assert_eq!(at_once(1.0, Duration::from_secs(HOUR)), 10_800);
    }
}
