//! The `AS=` TXT record (SPECIFICATION §4).

use std::fmt;

/// The domain's published claim: does all direct mail of this domain carry a key? The weakest counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Claim {
    /// Being tried out: conclude nothing.
    Testing,
    /// Some mail does (the default, and what an unknown word means).
    Some,
    /// All direct mail does.
    All,
}

/// Parameters of one record: the specification names five, and a text of one TXT record could hold thousands.
const PARAMS_MAX: usize = 64;

/// A usable `AS=` record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The AS's host name, lower case, without final dot.
    pub host: String,
    /// Its port, for UDP and TLS alike.
    pub port: u16,
    /// Whether it answers on UDP.
    pub udp: bool,
    /// Whether it answers on TLS.
    pub tls: bool,
    /// `p=`: lower first.
    pub priority: u16,
    /// Whether it takes proofs of form h1; otherwise the raw key only, over TLS.
    pub h1: bool,
    /// `m=`.
    pub claim: Claim,
}

/// Why a text that begins `AS=` is no usable record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadRecord {
    /// Another version: skipped. At most 40 characters of it.
    #[error("v={0} is a version that this program does not speak")]
    Version(String),
    /// Outside the grammar; the text names the part.
    #[error("{0}")]
    Syntax(String),
}

impl Record {
    /// Whether a TXT text counts as an AS record at all: it begins `AS=`.
    pub fn begins(text: &[u8]) -> bool {
        text.starts_with(b"AS=")
    }

    /// Reads the joined strings of one TXT record.
    ///
    /// # Errors
    /// [`BadRecord::Version`] where it fits the grammar and is of another version, otherwise [`BadRecord::Syntax`].
    pub fn parse(text: &[u8]) -> Result<Record, BadRecord> {
        let bad = |part: &str| BadRecord::Syntax(part.to_owned());
        let text = std::str::from_utf8(text).map_err(|_| bad("the record is no ASCII text"))?;
        let text = text.strip_prefix("AS=").ok_or_else(|| bad("the record does not begin with AS="))?;
        let mut pieces = text.split(';');
        let endpoint = pieces.next().unwrap_or_default().trim_end_matches(' ');
        let params = Params::parse(pieces)?;
        let (host, port) = endpoint.rsplit_once(':').ok_or_else(|| bad("AS= needs host:port"))?;
        let host = host.strip_suffix('.').unwrap_or(host);
        if !is_host(host) {
            return Err(bad("AS= names no host: letters, digits and hyphens, the last label beginning with a letter"));
        }
        let port = read_port(port).ok_or_else(|| bad("the port after AS=host: must be 1 to 65535, no leading zero"))?;
        match params.of("v") {
            None | Some("1") => {}
            Some(other) => return Err(BadRecord::Version(other.chars().take(40).collect())),
        }
        let lists = |name, item, default| params.of(name).map_or(default, |list| list.split(',').any(|i| i == item));
        let record = Record {
            host: host.to_ascii_lowercase(),
            port,
            udp: lists("t", "udp", true),
            tls: lists("t", "tls", false),
            priority: match params.of("p") {
                None => 10,
                Some(p) => digits(p).ok_or_else(|| bad("p= must be 0 to 65535"))?,
            },
            h1: lists("h", "h1", true),
            claim: match params.of("m") {
                Some("all") => Claim::All,
                Some("testing") => Claim::Testing,
                _ => Claim::Some,
            },
        };
        match record {
            Record { udp: false, tls: false, .. } => Err(bad("t= names neither udp nor tls")),
            Record { h1: false, tls: false, .. } => Err(bad("h= without h1 asks for the raw key, which needs t=tls")),
            record => Ok(record),
        }
    }
}

/// The record as a domain would publish it, every parameter spelled out.
impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let transports = match (self.udp, self.tls) {
            (true, true) => "udp,tls",
            (false, true) => "tls",
            _ => "udp",
        };
        let proofs = if self.h1 { "h1" } else { "none" };
        let claim = self.claim.word();
        write!(f, "AS={}:{}; v=1; t={transports}; p={}; h={proofs}; m={claim}", self.host, self.port, self.priority)
    }
}

impl Claim {
    /// The word of `m=`.
    pub fn word(self) -> &'static str {
        match self {
            Claim::Testing => "testing",
            Claim::Some => "some",
            Claim::All => "all",
        }
    }
}

/// The parameters of a record, names unique.
struct Params<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Params<'a> {
    fn parse(pieces: impl Iterator<Item = &'a str>) -> Result<Params<'a>, BadRecord> {
        let mut params: Vec<(&str, &str)> = Vec::new();
        let mut pieces = pieces.map(|piece| piece.trim_matches(' ')).peekable();
        while let Some(piece) = pieces.next() {
            // The final semicolon is optional.
            if piece.is_empty() && pieces.peek().is_none() {
                break;
            }
            let (name, value) = piece.split_once('=').ok_or_else(|| wrong("is not of the form name=value", piece))?;
            let good = (1..=16).contains(&name.len()) && name.bytes().all(|o| o.is_ascii_alphanumeric());
            if !good || !value.bytes().all(|o| o.is_ascii_graphic()) {
                return Err(wrong("is not of the form name=value", piece));
            }
            if params.iter().any(|param| param.0 == name) {
                return Err(wrong("repeats its name", piece));
            }
            // A TXT record holds up to 64 KiB: enough for a quadratic search to hurt.
            if params.len() == PARAMS_MAX {
                return Err(wrong("is one parameter too many", piece));
            }
            params.push((name, value));
        }
        Ok(Params(params))
    }

    fn of(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|param| param.0 == name).map(|param| param.1)
    }
}

/// The complaint about one parameter; it goes into logs, so whatever does not print is escaped, and it is cut short.
fn wrong(what: &str, piece: &str) -> BadRecord {
    let shown: String = piece.chars().take(40).flat_map(char::escape_default).collect();
    BadRecord::Syntax(format!("the parameter `{shown}` {what}"))
}

/// A host name of LDH labels whose last begins with a letter, so that it is no IP address.
fn is_host(host: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|o| o.is_ascii_alphanumeric() || o == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = host.rsplit('.').next().unwrap_or_default();
    host.len() <= 253 && host.split('.').all(is_label) && last.starts_with(|c: char| c.is_ascii_alphabetic())
}

fn read_port(text: &str) -> Option<u16> {
    digits(text).filter(|&port| port > 0 && !text.starts_with('0'))
}

fn digits(text: &str) -> Option<u16> {
    // Rust alone would take a sign too.
    if text.bytes().all(|o| o.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<String, BadRecord> {
        Record::parse(text.as_bytes()).map(|record| record.to_string())
    }

    #[test]
    fn the_published_record_is_read() {
        assert_eq!(
            Record::parse(b"AS=as1.example.com:4410; v=1; t=udp,tls; p=10; m=some"),
            Ok(Record {
                host: "as1.example.com".into(),
                port: 4410,
                udp: true,
                tls: true,
                priority: 10,
                h1: true,
                claim: Claim::Some,
            })
        );
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let plain = "AS=as1.example.com:4410; v=1; t=udp; p=10; h=h1; m=some";
        for text in [
            "AS=as1.example.com:4410",
            "AS=AS1.Example.COM.:4410",
            "AS=as1.example.com:4410  ",
            "AS=as1.example.com:4410;",
            "AS=as1.example.com:4410 ; ",
            "AS=as1.example.com:4410;v=1;m=every;x=;Y1=:=~; ",
            "AS=as1.example.com:4410;t=udp,quic,,udp;h=h2,h1;V=2",
        ] {
            assert_eq!(read(text).as_deref(), Ok(plain), "{text:?}");
        }
        let raw = "AS=a.test:1; v=1; t=tls; p=0; h=none; m=all";
        assert_eq!(read("AS=a.test:1;h=h9;t=tls;p=00;m=all").as_deref(), Ok(raw));
    }

    #[test]
    fn another_version_is_skipped_not_bad() {
        for text in ["AS=a.test:1;v=2", "AS=a.test:1;v=", "AS=a.test:1;v=2;p=x;t=none"] {
            assert!(matches!(read(text), Err(BadRecord::Version(_))), "{text:?}");
        }
    }

    #[test]
    fn what_the_grammar_does_not_know_is_bad() {
        let long = format!("AS={}a.test:1", "a.".repeat(124));
        let label = format!("AS={}.test:1", "a".repeat(64));
        let many: String = std::iter::once("AS=a.test:1".into()).chain((0..99).map(|n| format!(";a{n}="))).collect();
        for rest in [
            "AS=",
            "AS=:1",
            "AS=a.test",
            "AS=a.test:",
            "AS=a.test:0",
            "AS=a.test:065",
            "AS=a.test:65536",
            "AS=a.test:+1",
            "AS=a.test:123456",
            "AS= a.test:1",
            "AS=a.test :1",
            "AS=a.test: 1",
            "AS=a..test:1",
            "AS=.test:1",
            "AS=a.test..:1",
            "AS=-a.test:1",
            "AS=a-.test:1",
            "AS=a_b.test:1",
            "AS=10.0.0.1:1",
            "AS=[::1]:1",
            "AS=::1:1",
            "AS=a.1test:1",
            "AS=\u{e9}.test:1",
            "AS=a.test:1 v=1",
            "AS=a.test:1;;v=1",
            "AS=a.test:1;v",
            "AS=a.test:1;v =1",
            "AS=a.test:1;v=1 p=1",
            "AS=a.test:1;v=1;v=1",
            "AS=a.test:1;x=1;x=2",
            "AS=a.test:1;=1",
            "AS=a.test:1;a_b=1",
            "AS=a.test:1;abcdefghijklmnopq=1",
            "AS=a.test:1;x=\t",
            "AS=a.test:1;x=\u{e9}",
            "AS=a.test:1\t",
            "AS=a.test:1;;",
            "AS=a.test:1;p=65536",
            "AS=a.test:1;p=",
            "AS=a.test:1;p=-1",
            "AS=a.test:1;p=1,2",
            "AS=a.test:1;t=quic",
            "AS=a.test:1;t=",
            "AS=a.test:1;h=none",
            "AS=a.test:1;t=udp;h=",
            "as=a.test:1",
            " AS=a.test:1",
            "",
            &long,
            &label,
            &many,
        ] {
            assert!(matches!(read(rest), Err(BadRecord::Syntax(_))), "{rest:?} {:?}", read(rest));
        }
        assert!(Record::parse(b"AS=a.test:1;x=\xff").is_err());
    }

    #[test]
    fn k9_an_error_shows_no_octet_that_a_log_would_obey() {
        let Err(error) = Record::parse("AS=a.test:1;x\n\u{1b}[2J=1".as_bytes()) else { panic!("read") };
        assert!(error.to_string().bytes().all(|o| (b' '..=b'~').contains(&o)), "{error}");
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_the_same(
            host in "[a-z0-9]{1,8}(\\.[a-z][a-z0-9]{0,8}){0,3}", port in 1..=u16::MAX, transport in 1..4, priority: u16, h1: bool, m in 0..3,
        ) {
            let claim = [Claim::Testing, Claim::Some, Claim::All][m as usize];
            let record = Record { host, port, udp: transport & 1 > 0, tls: transport & 2 > 0, priority, h1, claim };
            let usable = is_host(&record.host) && (record.h1 || record.tls);
            prop_assert_eq!(Record::parse(record.to_string().as_bytes()).ok(), usable.then_some(record));
        }

        #[test]
        fn no_octets_upset_the_reader(octets in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Record::parse(&[b"AS=a.test:1;".as_slice(), &octets].concat());
            let _ = Record::parse(&octets);
        }
    }
}
