//! Versions of signed components, and their order.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Numbers of a version, at most.
const NUMBERS: usize = 4;
/// Digits of a number, at most.
const DIGITS: usize = 9;

/// A version: one to four numbers with dots between, such as `1.2.0`. Versions compare by these numbers, and one that is not written is
/// 0: 1.2 < 1.2.1 < 1.10, and 1.2 is 1.2.0. There are no other signs, so that any two compare.
#[derive(Clone, Debug)]
pub struct Version {
    text: String,
    numbers: [u32; NUMBERS],
}

/// It is no version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no version that can be compared: write one to four numbers with dots between, such as 1.2.0")]
pub struct NoVersion;

impl Version {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for Version {
    type Err = NoVersion;

    fn from_str(text: &str) -> Result<Version, NoVersion> {
        let mut numbers = [0; NUMBERS];
        let mut places = numbers.iter_mut();
        for word in text.split('.') {
            let plain = (1..=DIGITS).contains(&word.len()) && word.bytes().all(|octet| octet.is_ascii_digit());
            let padded = word.len() > 1 && word.starts_with('0');
            let place = places.next().filter(|_| plain && !padded).ok_or(NoVersion)?;
            *place = word.parse().map_err(|_| NoVersion)?;
        }
        Ok(Version { text: text.to_owned(), numbers })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Version) -> bool {
        self.numbers == other.numbers
    }
}

impl Eq for Version {}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Version) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Version) -> Ordering {
        self.numbers.cmp(&other.numbers)
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Version, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    #[test]
    fn versions_compare_by_their_numbers_and_not_by_their_letters() {
        let rising = ["0", "0.0.1", "0.1", "0.2", "0.10", "1", "1.2", "1.2.0.1", "1.2.1", "1.10", "2", "999999999"];
        for (at, one) in rising.iter().enumerate() {
            for (other_at, other) in rising.iter().enumerate() {
                assert_eq!(version(one).cmp(&version(other)), at.cmp(&other_at), "{one} {other}");
            }
        }
        assert_eq!(version("1.2"), version("1.2.0.0"));
    }

    #[test]
    fn what_has_no_order_is_no_version() {
        for wrong in [
            "",
            ".",
            "1.",
            ".1",
            "1..2",
            "1.2.3.4.5",
            "01",
            "1.02",
            "1.2-rc1",
            "v1",
            "1 ",
            "+1",
            "1234567890",
            "1.x",
            "١",
        ] {
            assert_eq!(wrong.parse::<Version>().map(|version| version.text), Err(NoVersion), "{wrong}");
        }
    }
}
