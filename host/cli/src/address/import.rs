//! A list of addresses, one a line: `ADDRESS` or `ADDRESS,AGI,AVT`.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use humantime_serde::re::humantime::parse_duration;

use super::Error;
use addrauth::authority::{Authority, Intervals};
use addrauth::config::Limits;
use addrauth::files;
use addrauth::proto::address::Address;

/// Reads a list, `-` from standard input. Every line is looked at before anything is said: all that is wrong is told at
/// once, by its line, up to `limits.authority.import_errors` of them.
pub(super) fn read(file: &Path, authority: &Authority, limits: &Limits) -> Result<Vec<(Address, Intervals)>, Error> {
    let name = file.display().to_string();
    let text = files::read_given(file, limits.authority.import_octets).map_err(|e| match e {
        files::Error::Long(most) => Error::Long { file: name.clone(), most },
        other => Error::Read { file: name.clone(), source: other.into() },
    })?;
    parse(files::without_mark(&text), |address, intervals| {
        authority.check(intervals).map_err(|e| e.to_string())?;
        authority.own_address(address).map(String::from).map_err(|e| e.to_string())
    })
    .map_err(|wrong| Error::Lines(told(&wrong, limits.authority.import_errors)))
}

/// A line that cannot be taken, by its number, and why.
#[derive(Debug)]
struct Wrong(usize, String);

/// The addresses of a list, each once. `check` tells under which form an address is known, or why it cannot be taken.
fn parse(
    text: &[u8],
    check: impl Fn(&Address, Intervals) -> Result<String, String>,
) -> Result<Vec<(Address, Intervals)>, Vec<Wrong>> {
    let mut seen: HashMap<String, (usize, Intervals)> = HashMap::new();
    let (mut rows, mut wrong) = (Vec::new(), Vec::new());
    for (number, line) in text.split(|&octet| octet == b'\n').enumerate().map(|(n, line)| (n + 1, line)) {
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let checked = entry(line).and_then(|(address, own)| Ok((check(&address, own)?, address, own)));
        match checked {
            Ok((known_as, address, own)) => match seen.get(&known_as) {
                None => {
                    seen.insert(known_as, (number, own));
                    rows.push((address, own));
                }
                Some((_, first)) if *first == own => {}
                Some((first, _)) => {
                    wrong.push(Wrong(number, format!("{address} stands on line {first} with another AGI or AVT")));
                }
            },
            Err(e) => wrong.push(Wrong(number, e)),
        }
    }
    if wrong.is_empty() { Ok(rows) } else { Err(wrong) }
}

/// One line. A comma may stand in a quoted local part, so the line is read from its end: what follows the last "@" and its
/// domain is AGI and AVT.
fn entry(line: &[u8]) -> Result<(Address, Intervals), String> {
    let text = str::from_utf8(line).map_err(|_| "not UTF-8".to_owned())?;
    let at = text.rfind('@').unwrap_or_default();
    let end = text.get(at..).and_then(|rest| rest.find(',')).map_or(text.len(), |comma| at + comma);
    let (address, rest) = text.split_at_checked(end).unwrap_or((text, ""));
    let address = Address::parse(address.trim().as_bytes(), true).map_err(|e| format!("{address:?}: {e}"))?;
    let mut words = rest.split(',').skip(1).map(str::trim);
    let mut interval = |name: &str| -> Result<Option<Duration>, String> {
        let word = words.next().filter(|word| !word.is_empty());
        word.map(|word| parse_duration(word).map_err(|e| format!("{name} {word:?}: {e}"))).transpose()
    };
    let own = Intervals { agi: interval("AGI")?, avt: interval("AVT")? };
    match words.next() {
        Some(_) => Err("more than ADDRESS,AGI,AVT".to_owned()),
        None => Ok((address, own)),
    }
}

fn told(wrong: &[Wrong], most: usize) -> String {
    let mut lines: Vec<String> =
        wrong.iter().take(most).map(|Wrong(number, why)| format!("line {number}: {why}")).collect();
    if wrong.len() > most {
        lines.push(format!("and {} more lines", wrong.len() - most));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(address: &Address, _: Intervals) -> Result<String, String> {
        match address.domain().as_str() {
            "example.com" => Ok(address.mailbox().into()),
            other => Err(format!("{other} is not ours")),
        }
    }

    fn days(days: u64) -> Option<Duration> {
        Some(Duration::from_secs(days * 86_400))
    }

    #[test]
    fn a_list_names_addresses_and_what_they_want() {
        let text = b"# staff\r\nalice@example.com\r\n\r\n bob@example.com , 2d, 6 days\n\
            \"a,b@c\"@example.com,,8d\nAlice+news@Example.com\ncarol@example.com,3d";
        let rows = parse(text, ours).unwrap();
        let told: Vec<_> = rows.iter().map(|(address, own)| (address.to_string(), own.agi, own.avt)).collect();
        assert_eq!(
            told,
            [
                ("alice@example.com".to_owned(), None, None),
                ("bob@example.com".to_owned(), days(2), days(6)),
                ("\"a,b@c\"@example.com".to_owned(), None, days(8)),
                ("carol@example.com".to_owned(), days(3), None),
            ]
        );
    }

    #[test]
    fn every_wrong_line_is_named() {
        let text = b"alice@example.com\nalice\neve@other.example\nbob@example.com,soon\nbob@example.com,1d,2d,3d\n\
            ALICE@example.com,1d\n\xff@example.com\n,\n";
        let wrong = parse(text, ours).unwrap_err();
        assert_eq!(wrong.iter().map(|wrong| wrong.0).collect::<Vec<_>>(), [2, 3, 4, 5, 6, 7, 8]);
        let text = told(&wrong, 3);
        assert!(text.starts_with("line 2: \"alice\"") && text.ends_with("and 4 more lines"), "{text}");
        assert!(wrong[4].1.contains("line 1"), "{wrong:?}");
    }
}
