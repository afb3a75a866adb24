//! When a certificate ends: the one value of X.509 that the TLS library checks and does not tell.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Tags of DER (X.690 §8).
const INTEGER: u8 = 0x02;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// `notAfter` of a certificate in DER (RFC 5280 §4.1); absent where it cannot be read.
pub(super) fn ends(certificate: &[u8]) -> Option<SystemTime> {
    let (outer, _) = expect(SEQUENCE, certificate)?;
    let (mut rest, _) = expect(SEQUENCE, outer)?;
    if let Some((_, after)) = expect(VERSION, rest) {
        rest = after;
    }
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        rest = expect(tag, rest)?.1; // serial number, signature algorithm, issuer
    }
    let (validity, _) = expect(SEQUENCE, rest)?;
    let (_, _, rest) = element(validity)?; // notBefore
    let (tag, text, _) = element(rest)?;
    time(tag, text)
}

/// The contents of the element that begins here, where it has this tag, and what follows it.
fn expect(tag: u8, octets: &[u8]) -> Option<(&[u8], &[u8])> {
    element(octets).filter(|found| found.0 == tag).map(|(_, contents, rest)| (contents, rest))
}

/// Tag, contents, and what follows.
fn element(octets: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = octets.split_first_chunk()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        // Certificates are short: lengths of up to four octets.
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().try_fold(0_usize, |sum, &o| sum.checked_mul(256)?.checked_add(o.into()))?, rest)
        }
        _ => return None,
    };
    let (contents, rest) = rest.split_at_checked(length)?;
    Some((tag, contents, rest))
}

/// `YYMMDDHHMMSSZ` (years 1950 to 2049) or `YYYYMMDDHHMMSSZ` (RFC 5280 §4.1.2.5).
fn time(tag: u8, text: &[u8]) -> Option<SystemTime> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let (year, rest) = text.split_at_checked(match tag {
        UTC_TIME => 2,
        GENERALIZED_TIME => 4,
        _ => return None,
    })?;
    if rest.len() != 10 || !text.bytes().all(|o| o.is_ascii_digit()) {
        return None;
    }
    let number = |at: usize| rest.get(at..at + 2).and_then(|digits| digits.parse::<u64>().ok());
    let year: u64 = year.parse().ok()?;
    let year = match tag {
        UTC_TIME if year >= 50 => 1_900 + year,
        UTC_TIME => 2_000 + year,
        _ => year,
    };
    let days = days(year, number(0)?, number(2)?)?;
    let seconds = days * 86_400 + number(4)? * 3_600 + number(6)? * 60 + number(8)?;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// Days from 1970-01-01 to this one; absent for a date before it, or none.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    if year < 1_970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Years that begin in March, so that the leap day is the last one.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    days.checked_sub(719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(tag: u8, text: &str) -> Option<u64> {
        time(tag, text.as_bytes()).map(|at| at.duration_since(UNIX_EPOCH).unwrap().as_secs())
    }

    #[test]
    fn times_are_read_as_rfc_5280_writes_them() {
        assert_eq!(seconds(UTC_TIME, "700101000000Z"), Some(0));
        assert_eq!(seconds(UTC_TIME, "491231235959Z"), Some(2_524_607_999));
        assert_eq!(seconds(GENERALIZED_TIME, "20500101000000Z"), Some(2_524_608_000));
        assert_eq!(seconds(UTC_TIME, "240229120000Z"), Some(1_709_208_000));
        assert_eq!(seconds(GENERALIZED_TIME, "99991231235959Z"), Some(253_402_300_799));
        for bad in ["", "Z", "2402291200Z", "240229120000", "24022912000xZ", "241329120000Z", "240200120000Z"] {
            assert_eq!(seconds(UTC_TIME, bad), None, "{bad}");
        }
        assert_eq!(seconds(UTC_TIME, "600101000000Z"), None, "before 1970");
        assert_eq!(seconds(INTEGER, "700101000000Z"), None);
    }

    #[test]
    fn no_octets_upset_the_reader() {
        let lengths: [&[u8]; 7] = [
            &[],
            &[0x30],
            &[0x30, 0x80],
            &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff],
            &[0x30, 0x85],
            &[0x30, 0x82, 1],
            &[0x30, 2, 0x30, 0],
        ];
        for octets in lengths {
            assert_eq!(ends(octets), None);
        }
    }
}
