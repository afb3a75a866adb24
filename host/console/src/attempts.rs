//! Failed logins, counted by address and by name within a time, so that nobody tries thousands of passwords.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

/// Failures of late.
#[derive(Debug)]
pub(crate) struct Attempts {
    most: u32,
    within: Duration,
    room: usize,
    /// When each of them was, as many as count, the oldest first.
    counted: Mutex<HashMap<[u8; 32], Vec<Instant>>>,
}

impl Attempts {
    /// So many failures under one key within this time; so many keys at once.
    pub(crate) fn new(most: u32, within: Duration, room: usize) -> Attempts {
        Attempts { most, within, room, counted: Mutex::default() }
    }

    /// Counts one more under each of these keys, before it is known how it ends: whether it may be made. It is given back by
    /// [`Attempts::succeeded`].
    pub(crate) fn begin(&self, keys: &[String], now: Instant) -> bool {
        let keys: Vec<[u8; 32]> = keys.iter().map(|key| sum(key)).collect();
        let most = usize::try_from(self.most).unwrap_or(usize::MAX);
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let lasts = |at: &Instant| now.saturating_duration_since(*at) < self.within;
        let is_over =
            |key: &[u8; 32]| counted.get(key).is_some_and(|all| all.iter().filter(|at| lasts(at)).count() >= most);
        if keys.iter().any(is_over) {
            return false;
        }
        if counted.len().saturating_add(keys.len()) > self.room {
            counted.retain(|_, all| all.iter().any(lasts));
            // Whoever fills it shuts nobody out: who failed longest ago is forgotten, those that failed most come last.
            while counted.len().saturating_add(keys.len()) > self.room {
                let least = counted.iter().min_by_key(|(_, all)| (all.len(), all.last().copied())).map(|(key, _)| *key);
                match least {
                    Some(key) => _ = counted.remove(&key),
                    None => break,
                }
            }
        }
        for key in keys {
            let all = counted.entry(key).or_default();
            all.retain(lasts);
            all.push(now);
        }
        true
    }

    /// Takes back what was counted under these keys: it was no failure.
    pub(crate) fn succeeded(&self, keys: &[String]) {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        for key in keys {
            if let Some(all) = counted.get_mut(&sum(key)) {
                all.pop();
            }
        }
    }
}

/// A key of any length in little room.
fn sum(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(source: &str, name: &str) -> Vec<String> {
        vec![format!("from {source}"), format!("to {name}")]
    }

    #[test]
    fn five_failures_shut_out_an_address_and_a_name_for_a_minute_and_nobody_else() {
        let minute = Duration::from_secs(60);
        let (attempts, begin) = (Attempts::new(5, minute, 1_000), Instant::now());
        for n in 0..5 {
            assert!(attempts.begin(&keys("192.0.2.1", &format!("u{n}")), begin), "{n}");
        }
        assert!(!attempts.begin(&keys("192.0.2.1", "ann"), begin), "the address");
        for n in 0..5 {
            assert!(attempts.begin(&keys(&format!("192.0.2.{}", 10 + n), "ann"), begin), "{n}");
        }
        assert!(!attempts.begin(&keys("192.0.2.99", "ann"), begin), "the name");
        assert!(attempts.begin(&keys("192.0.2.99", "bob"), begin));
        assert!(attempts.begin(&keys("192.0.2.1", "ann"), begin + minute));
    }

    /// Of so many tries, this many milliseconds apart, those that were let through, as times since the first one.
    fn let_through(attempts: &Attempts, count: u64, apart: u64, key: impl Fn(u64) -> Vec<String>) -> Vec<Duration> {
        let begin = Instant::now();
        let at = |n: u64| Duration::from_millis(n * apart);
        (0..count).filter(|n| attempts.begin(&key(*n), begin + at(*n))).map(at).collect()
    }

    #[test]
    fn of_ten_thousand_tries_five_a_minute_are_looked_at_whatever_they_vary() {
        let minute = Duration::from_secs(60);
        let key = |what: usize, n: u64| match what {
            0 => keys("192.0.2.1", "ann"),
            1 => keys("192.0.2.1", &format!("u{n}")),
            2 => keys(&format!("s{n}"), "ann"),
            _ => keys(&format!("s{}", n % 3), &format!("u{}", n % 2)),
        };
        for apart in [1, 7, 90, 11_999] {
            for what in 0..4 {
                let attempts = Attempts::new(5, minute, 1_000);
                let through = let_through(&attempts, 10_000, apart, |n| key(what, n));
                // Two names, of whom each has five.
                let few = if what == 3 { 10 } else { 5 };
                // Within any minute, wherever it begins.
                for (n, first) in through.iter().enumerate() {
                    let within = through.iter().skip(n).take_while(|at| **at < *first + minute).count();
                    assert!(within <= few, "{what}, {apart} ms apart: {within} in a minute from {first:?}");
                }
                assert!(through.len() >= few, "{what}: {}", through.len());
                let held = attempts.counted.lock().unwrap();
                assert!(held.len() <= 1_000 && held.values().all(|all| all.len() <= 5), "{what}: {}", held.len());
            }
        }
    }

    #[test]
    fn many_sources_and_names_take_no_more_memory_than_there_is_room_for() {
        let attempts = Attempts::new(5, Duration::from_secs(60), 100);
        assert_eq!(let_through(&attempts, 10_000, 1, |n| keys(&format!("s{n}"), &format!("u{n}"))).len(), 10_000);
        assert!(attempts.counted.lock().unwrap().len() <= 100);
    }

    #[test]
    fn a_success_does_not_count_and_a_full_memory_shuts_nobody_out() {
        let (attempts, begin) = (Attempts::new(5, Duration::from_secs(60), 20), Instant::now());
        for _ in 0..100 {
            assert!(attempts.begin(&keys("192.0.2.1", "ann"), begin));
            attempts.succeeded(&keys("192.0.2.1", "ann"));
        }
        for _ in 0..5 {
            assert!(attempts.begin(&keys("192.0.2.7", "eve"), begin));
        }
        assert!((0..10_000).all(|n| attempts.begin(&keys(&format!("a{n}"), &format!("b{n}")), begin)));
        assert!(attempts.counted.lock().unwrap().len() <= 20);
        assert!(!attempts.begin(&keys("192.0.2.7", "ann"), begin), "those that failed most are remembered longest");
        assert!(attempts.begin(&keys("x", "y"), begin + Duration::from_secs(60)));
    }
}
