//! `addrauth record`: the DNS records that lead others to a domain's Authentication Server.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::IpAddr;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::{Context, exit, output};
use addrauth::config::Config;
use addrauth::proto::address::{DOMAIN_MAX, Domain};
use addrauth::proto::record::{Claim, Record};
use addrauth::verify::is_internal;

/// A character-string of a TXT record holds at most 255 octets (RFC 1035 §3.3).
const STRING_MAX: usize = 255;
/// `p=` where nobody says otherwise (SPECIFICATION §4.2).
const PRIORITY: u16 = 10;

/// Print the DNS records to publish for a domain's Authentication Server
///
/// They come as lines of a zone file on standard output, with comments that say what each part promises; warnings go to standard
/// error. Host and port are those of the configuration (`hostname`, `authority.listen`), unless the options name others;
/// TLS is offered where `[authority.tls]` is set.
///
/// Exit code: 0 output, 1 no record can be made of this, 2 the configuration cannot be read.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The domain of the addresses: example.com
    pub domain: String,
    /// The name of the server that answers VERIFY [default: `hostname`]
    #[arg(long, value_name = "NAME")]
    pub host: Option<String>,
    /// Its port, for UDP and TLS alike [default: that of the first `authority.listen`]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// What the domain claims of its direct mail (m=)
    #[arg(long, value_enum, default_value = "some")]
    pub claim: Promise,
}

/// The words of `m=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Promise {
    /// Being tried out: conclude nothing
    Testing,
    /// Some of it carries a key
    Some,
    /// All of it carries a key; what does not is forged
    All,
}

/// All that is printed.
#[derive(Debug)]
struct Sheet {
    domain: Domain,
    record: Record,
    /// Names that the TXT record may stand at.
    names: Vec<String>,
    /// Addresses that others can reach.
    addresses: Vec<IpAddr>,
    warnings: Vec<String>,
}

/// Runs the verb.
pub(crate) async fn run(args: Args, context: &Context) -> ExitCode {
    let config = match context.read_config() {
        Ok(config) => config,
        Err(e) => return complain(&e.to_string(), exit::unknown()),
    };
    let sheet = match Sheet::new(&args, &config) {
        Ok(sheet) => sheet,
        Err(text) => return complain(&text, exit::no()),
    };
    let text = if context.json { format!("{:#}\n", sheet.json()) } else { sheet.zone() };
    // A reader that went away wants no records.
    print!("{text}");
    if !context.json {
        for warning in &sheet.warnings {
            let _ = writeln!(output::err(), "warning: {warning}");
        }
    }
    exit::YES
}

fn complain(text: &str, code: ExitCode) -> ExitCode {
    exit::complain(text);
    code
}

impl Sheet {
    /// What is to be published; every record was read back by the reader that verifiers use.
    fn new(args: &Args, config: &Config) -> Result<Sheet, String> {
        let domain = Domain::parse_full(&args.domain)
            .map_err(|_| format!("{:?} is no domain, write a name such as example.com", args.domain))?;
        let host = args.host.as_deref().unwrap_or(&config.hostname);
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        if !host.contains('.') {
            return Err(format!(
                "`{host}` is no name that others can look up: name the server with --host as.{domain}, or set hostname"
            ));
        }
        let port = args.port.or_else(|| config.authority.listen.first().map(|place| place.port()));
        let port = port.ok_or("authority.listen is empty: name the port with --port")?;
        let claim = match args.claim {
            Promise::Testing => Claim::Testing,
            Promise::Some => Claim::Some,
            Promise::All => Claim::All,
        };
        let record =
            Record { host, port, udp: true, tls: config.authority.tls.is_on(), priority: PRIORITY, h1: true, claim };
        match Record::parse(record.to_string().as_bytes()) {
            Ok(read) if read == record => {}
            Ok(_) => return Err(format!("{record} would be read as another record")),
            Err(e) => return Err(format!("no record can be made of --host {} --port {port}: {e}", record.host)),
        }
        let special = format!("_addrauth.{domain}");
        let names = [special, domain.to_string()].into_iter().filter(|name| name.len() <= DOMAIN_MAX).collect();
        let reachable = |address: &IpAddr| !address.is_unspecified() && !is_internal(*address);
        let mut addresses: Vec<IpAddr> = config.authority.listen.iter().map(|place| place.ip()).collect();
        addresses.retain(reachable);
        addresses.dedup();
        let warnings = warnings(&domain, &record, config);
        Ok(Sheet { domain, record, names, addresses, warnings })
    }

    fn zone(&self) -> String {
        let Record { host, port, claim, tls, .. } = &self.record;
        let mut text = format!(
            "; The Authentication Server of {}. One of the two names suffices; where both hold a record, the first counts.\n",
            self.domain
        );
        // Writing to a string does not fail.
        for name in &self.names {
            let _ = writeln!(text, "{name}. IN TXT {}", strings(&self.record.to_string()));
        }
        let _ = writeln!(text, "; Where {host} is: the addresses at which the server answers from outside.");
        for address in &self.addresses {
            let kind = if address.is_ipv4() { "A" } else { "AAAA" };
            let _ = writeln!(text, "{host}. IN {kind} {address}");
        }
        if self.addresses.is_empty() {
            let _ = writeln!(text, "; {host}. IN A (the server's public IPv4 address)");
            let _ = writeln!(text, "; {host}. IN AAAA (its public IPv6 address, where it has one)");
        }
        for (part, meaning) in meanings(host, *port, *tls, *claim) {
            let _ = writeln!(text, "; {part}: {meaning}");
        }
        text
    }

    fn json(&self) -> Value {
        let host = &self.record.host;
        let text = self.record.to_string();
        let txt = self.names.iter().map(|name| json!({"name": name, "type": "TXT", "strings": pieces(&text)}));
        let kind = |address: &IpAddr| if address.is_ipv4() { "A" } else { "AAAA" };
        let places = self.addresses.iter().map(|a| json!({"name": host, "type": kind(a), "address": a.to_string()}));
        json!({
            "domain": self.domain,
            "text": text,
            "records": txt.chain(places).collect::<Vec<_>>(),
            "warnings": self.warnings,
        })
    }
}

/// The strings of one TXT record.
fn pieces(text: &str) -> Vec<String> {
    text.as_bytes().chunks(STRING_MAX).map(|piece| String::from_utf8_lossy(piece).into_owned()).collect()
}

/// The same as a zone file has them; the grammar of the record knows neither quotes nor backslashes.
fn strings(text: &str) -> String {
    pieces(text).iter().map(|piece| format!("\"{piece}\"")).collect::<Vec<_>>().join(" ")
}

/// What each part promises to those who read the record.
fn meanings(host: &str, port: u16, tls: bool, claim: Claim) -> [(String, String); 5] {
    let promise = match claim {
        Claim::Testing => "this is being tried out: conclude nothing from a missing key",
        Claim::Some => "some direct mail carries a key: a missing one means little, a wrong one is forged",
        Claim::All => {
            "all direct mail carries a key: one that is missing counts as forged where a recipient wants that"
        }
    };
    let transports = match tls {
        true => (
            "v=1, t=udp,tls".into(),
            format!(
                "version 1 of the protocol, over UDP, and over TLS on the same TCP port with a certificate for {host}"
            ),
        ),
        false => ("v=1, t=udp".into(), "version 1 of the protocol, over UDP alone".into()),
    };
    [
        (format!("AS={host}:{port}"), "the server answers VERIFY there, for every address of the domain".into()),
        transports,
        (format!("p={PRIORITY}"), "the order among several such records: the lowest number is asked first".into()),
        ("h=h1".into(), "it takes proofs, so no key crosses the network".into()),
        (format!("m={}", claim.word()), promise.into()),
    ]
}

/// What is allowed and yet probably not meant.
fn warnings(domain: &Domain, record: &Record, config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    let Record { host, port, .. } = record;
    if !config.authority.domains.contains(domain) {
        warnings.push(format!(
            "{domain} is not in authority.domains: the server would answer e=domain, and no key of it could be verified"
        ));
    }
    for place in config.authority.listen.iter().filter(|place| is_internal(place.ip()) && !place.ip().is_unspecified())
    {
        warnings.push(format!(
            "authority.listen = {place} is internal: others refuse to ask such an address. Listen on a public one, or have \
             {} port {port} of a public one forwarded to it",
            if record.tls { "UDP and TCP" } else { "UDP" }
        ));
    }
    if !config.authority.listen.iter().any(|place| place.port() == *port) {
        warnings.push(format!("no authority.listen has port {port}: the record would lead to a closed port"));
    }
    if *port < 1024 {
        warnings.push(format!("port {port} is below 1024: others ask there only where their administrator permits it"));
    }
    if host == domain.as_str() || host.ends_with(".local") || host.ends_with(".localdomain") {
        warnings.push(format!(
            "{host}: make sure that this name leads to the Authentication Server, for everybody outside"
        ));
    }
    if record.claim == Claim::All {
        warnings.push(
            "m=all comes last: run the Authentication Server, have every server that sends for the domain learn its keys and \
             stamp its mail, publish m=some, and m=all only when no direct mail leaves without a key any more"
                .into(),
        );
    }
    warnings
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const PUBLIC: &str = "hostname = \"mx.example.net\"\n[authority]\ndomains = [\"example.com\"]\n\
                          listen = [\"8.8.4.4:4410\", \"[2600::1]:4410\"]\n";

    fn sheet(config: &str, domain: &str, change: impl Fn(&mut Args)) -> Result<Sheet, String> {
        let mut args = Args { domain: domain.into(), host: None, port: None, claim: Promise::Some };
        change(&mut args);
        Sheet::new(&args, &Config::parse(config, Path::new("x.toml")).unwrap())
    }

    /// The records of a zone text, comments left out, the strings of each TXT record joined.
    fn records(zone: &str) -> Vec<(String, String)> {
        let lines = zone.lines().filter(|line| !line.starts_with(';'));
        let record = |line: &str| {
            let (name, rest) = line.split_once(" IN ").unwrap();
            (
                name.to_owned(),
                rest.strip_prefix("TXT ").map_or(rest.into(), |t| t.replace("\" \"", "").replace('"', "")),
            )
        };
        lines.map(record).collect()
    }

    #[test]
    fn a_good_configuration_gives_records_and_no_warning() {
        let sheet = sheet(PUBLIC, "Example.COM.", |_| {}).unwrap();
        assert_eq!(sheet.warnings, Vec::<String>::new());
        let text = "AS=mx.example.net:4410; v=1; t=udp; p=10; h=h1; m=some";
        let expected = [
            ("_addrauth.example.com.", text),
            ("example.com.", text),
            ("mx.example.net.", "A 8.8.4.4"),
            ("mx.example.net.", "AAAA 2600::1"),
        ];
        assert_eq!(records(&sheet.zone()), expected.map(|(name, text)| (name.to_owned(), text.to_owned())));
        let json = sheet.json();
        assert_eq!(json["records"].as_array().unwrap().len(), 4);
        assert_eq!(json["records"][0]["strings"][0], text);
    }

    #[test]
    fn tls_is_offered_where_a_certificate_is_set() {
        let config = format!("{PUBLIC}[authority.tls]\ncertificate = \"/x.pem\"\nkey = \"/x.key\"\n");
        let sheet = sheet(&config, "example.com", |_| {}).unwrap();
        assert_eq!(records(&sheet.zone())[0].1, "AS=mx.example.net:4410; v=1; t=udp,tls; p=10; h=h1; m=some");
        assert!(sheet.zone().contains("with a certificate for mx.example.net"), "{}", sheet.zone());
    }

    #[test]
    fn a_text_over_255_octets_is_split_and_reads_the_same_when_joined() {
        let host = format!("{}.example.com", vec!["a".repeat(60); 4].join("."));
        let sheet = sheet(PUBLIC, "example.com", |args| args.host = Some(host.clone())).unwrap_err();
        assert!(sheet.contains("names no host"), "{sheet}");
        let host = format!("{}.example.com", vec!["a".repeat(58); 4].join("."));
        let sheet = self::sheet(PUBLIC, "example.com", |args| args.host = Some(host.clone())).unwrap();
        let strings = pieces(&sheet.record.to_string());
        assert!(strings.len() == 2 && strings.iter().all(|s| s.len() <= 255), "{strings:?}");
        let joined = &records(&sheet.zone())[0].1;
        assert_eq!(Record::parse(joined.as_bytes()).unwrap().host, host);
    }

    #[test]
    fn what_is_probably_not_meant_is_told() {
        for (config, change, words) in [
            (PUBLIC, (|args| args.domain = "other.example".into()) as fn(&mut Args), "authority.domains"),
            (PUBLIC, |args| args.claim = Promise::All, "m=all comes last"),
            (PUBLIC, |args| args.port = Some(4411), "no authority.listen has port 4411"),
            (PUBLIC, |args| args.port = Some(53), "below 1024"),
            (
                "[authority]\ndomains = [\"example.com\"]",
                |args| args.host = Some("as.example.com".into()),
                "is internal",
            ),
        ] {
            let sheet = sheet(config, "example.com", change).unwrap();
            assert!(sheet.warnings.iter().any(|w| w.contains(words)), "{words}: {:?}", sheet.warnings);
        }
    }

    #[test]
    fn an_address_that_nobody_outside_can_reach_is_not_published() {
        let inside = sheet("hostname = \"mx.example.net\"\n", "example.com", |_| {}).unwrap();
        assert_eq!(records(&inside.zone()).len(), 2);
        let any =
            "hostname = \"mx.example.net\"\n[authority]\ndomains = [\"example.com\"]\nlisten = [\"0.0.0.0:4410\"]\n";
        let any = sheet(any, "example.com", |_| {}).unwrap();
        assert_eq!((records(&any.zone()).len(), any.warnings.len()), (2, 0));
    }

    #[test]
    fn what_cannot_be_published_is_refused_with_the_way_out() {
        for (domain, host, words) in [
            ("exa mple.com", "as.example.com", "is no domain"),
            ("example.com", "localhost", "--host as.example.com"),
            ("example.com", "192.0.2.1", "names no host"),
            ("example.com", "a_b.example.com", "names no host"),
        ] {
            let error = sheet(PUBLIC, domain, |args| args.host = Some(host.into())).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
