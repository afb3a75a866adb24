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
    counted: Mutex<HashMap<[u8; 32], (Instant, u32)>>,
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
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let lasts = |begun: Instant| now.saturating_duration_since(begun) < self.within;
        let is_over =
            |key: &[u8; 32]| counted.get(key).is_some_and(|(begun, count)| lasts(*begun) && *count >= self.most);
        if keys.iter().any(is_over) {
            return false;
        }
        if counted.len().saturating_add(keys.len()) > self.room {
            counted.retain(|_, (begun, _)| lasts(*begun));
            // Whoever fills it shuts nobody out: who failed longest ago is forgotten, those that failed most come last.
            while counted.len().saturating_add(keys.len()) > self.room {
                let least = counted.iter().min_by_key(|(_, (begun, count))| (*count, *begun)).map(|(key, _)| *key);
                match least {
                    Some(key) => _ = counted.remove(&key),
                    None => break,
                }
            }
        }
        for key in keys {
            let entry = counted.entry(key).or_insert((now, 0));
            if !lasts(entry.0) {
                *entry = (now, 0);
            }
            entry.1 = entry.1.saturating_add(1);
        }
        true
    }

    /// Takes back what was counted under these keys: it was no failure.
    pub(crate) fn succeeded(&self, keys: &[String]) {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        for key in keys {
            if let Some((_, count)) = counted.get_mut(&sum(key)) {
                *count = count.saturating_sub(1);
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
