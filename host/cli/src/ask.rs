//! `addrauth ask`: what a domain publishes, and what its AS says of an address and a key.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{Context, exit};
use addrauth::case::{Found, KeyStatus, Limited, Why};
use addrauth::config::Limits;
use addrauth::files;
use addrauth::proto::address::Address;
use addrauth::proto::key::AuthKey;
use addrauth::proto::record::{BadRecord, Record};
use addrauth::proto::text;
use addrauth::verify::{Endpoint, Endpoints, Published, Verifier};

mod adapter;

/// Look an address's Authentication Server up and ask it about a key
///
/// The key is read from a file or from standard input, never from the command line, where other users could see it. Without a
/// key, only what the domain publishes is shown.
///
/// Exit code: 0 the key is valid (without a key: the domain publishes a usable AS), 1 the key is invalid (the domain publishes
/// no AS), 2 could not tell.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The address, as it stands in From: alice@example.com
    #[arg(required_unless_present = "adapter")]
    pub address: Option<String>,
    /// A file that holds the key; otherwise it is read from standard input, unless that is a terminal
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// Only show what the domain publishes
    #[arg(long, conflicts_with = "key_file")]
    pub no_key: bool,
    /// Answer the questions of the specification's test vectors, one JSON object a line, from standard input to standard output
    #[arg(long, exclusive = true)]
    pub adapter: bool,
    /// What stands where a key would, were one taken from there; so that no complaint repeats it
    #[arg(hide = true, value_name = "KEY")]
    pub unwanted: Vec<String>,
}

/// All that was found out.
struct Report {
    address: Address,
    published: Published,
    endpoints: Endpoints,
    found: Option<Found>,
    took: Duration,
}

/// Runs the verb.
pub(crate) async fn run(args: Args, context: &Context) -> ExitCode {
    if args.adapter {
        return adapter::run().await;
    }
    match investigate(&args, context).await {
        Ok(report) => {
            let text = if context.json { format!("{:#}\n", report.json()) } else { report.text() };
            print!("{text}");
            report.exit()
        }
        Err(text) => {
            exit::complain(text);
            exit::unknown()
        }
    }
}

async fn investigate(args: &Args, context: &Context) -> Result<Report, String> {
    if !args.unwanted.is_empty() {
        return Err(
            "one address and nothing else: a key on the command line can be seen by other users. Write it into a file \
                    for --key-file, or pipe it in; if it stood here, revoke it"
                .into(),
        );
    }
    let address = args.address.as_deref().unwrap_or_default();
    let address = Address::parse(address.as_bytes(), true).map_err(|e| format!("`{address}`: {e}"))?;
    let key = read_key(args)?;
    let config = context.read_config().map_err(|e| e.to_string())?;
    let verifier = Verifier::new(&config.verify, &config.hostname, &Arc::new(Limits::default()));
    let verifier = verifier.map_err(|e| e.to_string())?;
    let (published, endpoints) = verifier.locate(address.domain()).await;
    let start = Instant::now();
    let found = match key {
        Some(key) => Some(verifier.question(&address, &key).await.unwrap_or_else(|later| later.found)),
        None => None,
    };
    Ok(Report { address, published, endpoints, found, took: start.elapsed() })
}

fn read_key(args: &Args) -> Result<Option<AuthKey>, String> {
    let (source, name) = match &args.key_file {
        _ if args.no_key => return Ok(None),
        Some(path) => (path.as_path(), path.display().to_string()),
        None if io::stdin().is_terminal() => return Ok(None),
        None => (Path::new("-"), "standard input".to_owned()),
    };
    let octets = files::read_given(source, Limits::default().files.secret);
    let octets = Zeroizing::new(octets.map_err(|e| format!("cannot read {name}: {e}"))?);
    let key = AuthKey::parse(files::without_mark(&octets).trim_ascii());
    key.map(Some).map_err(|e| format!("{name} holds no key: {e} (--no-key shows what the domain publishes)"))
}

impl Report {
    fn exit(&self) -> ExitCode {
        match self.found.as_ref().map(|found| found.status) {
            Some(KeyStatus::Valid) => exit::YES,
            Some(KeyStatus::Invalid) => exit::no(),
            Some(_) => exit::unknown(),
            None => match self.published {
                Published::Nothing => exit::no(),
                _ if self.endpoints.usable.is_empty() => exit::unknown(),
                _ => exit::YES,
            },
        }
    }

    fn text(&self) -> String {
        let mut lines = Vec::new();
        let domain = self.address.domain();
        match &self.published {
            Published::Nothing => lines.push(format!("{domain} publishes no AS: it does not take part")),
            Published::Failed(failure) => lines.push(failure.to_string()),
            Published::Fixed(_) => lines.push(format!("the configuration fixes the AS of {domain}")),
            Published::Records(records) => {
                lines.push(format!("AS records at {}, claim {}:", records.name, records.claim.word()));
                lines.extend(records.used.iter().map(|record| format!("  {}", record_text(record))));
                lines.extend(records.bad.iter().map(|bad| format!("  not usable: {bad}")));
            }
        }
        lines.extend(
            self.endpoints.usable.iter().map(|e| format!("endpoint {} ({}){}", e.address, e.authority, only(e))),
        );
        lines.extend(self.endpoints.refused.iter().map(|(host, why)| format!("endpoint of {host} refused: {why}")));
        lines.extend(self.endpoints.failed.iter().map(|failure| format!("no endpoint: {failure}")));
        if let Some(found) = &self.found {
            lines.push(answer_text(&self.address, found, self.took));
        }
        // What DNS said may hold control characters that a terminal would obey.
        let tame = |line: &String| text::shown(line) + "\n";
        lines.iter().map(tame).collect()
    }

    fn json(&self) -> Value {
        let (name, records, bad, failure) = match &self.published {
            Published::Records(r) => (Some(&r.name), &r.used[..], &r.bad[..], None),
            Published::Failed(failure) => (None, &[][..], &[][..], Some(failure.to_string())),
            Published::Nothing | Published::Fixed(_) => (None, &[][..], &[][..], None),
        };
        let texts = |all: &[BadRecord]| all.iter().map(ToString::to_string).collect::<Vec<_>>();
        let usable =
            self.endpoints.usable.iter().map(
                |e| json!({"authority": e.authority, "address": e.address, "udp": e.offers.udp, "tls": e.offers.tls}),
            );
        let refused =
            self.endpoints.refused.iter().map(|(host, why)| json!({"authority": host, "why": why.to_string()}));
        json!({
            "address": self.address.to_string(),
            "name": name,
            "fixed": matches!(self.published, Published::Fixed(_)),
            "records": records.iter().map(record_json).collect::<Vec<_>>(),
            "not_usable": texts(bad),
            "failure": failure,
            "endpoints": usable.collect::<Vec<_>>(),
            "refused": refused.collect::<Vec<_>>(),
            "no_address": self.endpoints.failed.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "found": self.found,
            "limit": self.found.as_ref().and_then(|found| found.limited).map(Limited::word),
            "milliseconds": self.found.as_ref().map(|_| self.took.as_secs_f64() * 1_000.0),
        })
    }
}

fn answer_text(address: &Address, found: &Found, took: Duration) -> String {
    let mut text = match found.status {
        KeyStatus::Valid => format!("VALIDKEY: the key belongs to {address}"),
        KeyStatus::Invalid => format!("INVALIDKEY: the key does not belong to {address}"),
        KeyStatus::None => "NOSERVER: there is nobody to ask".to_owned(),
        status => {
            let limited = found.limited.map(|limited| limited.text(address.domain().as_str()));
            format!("{}: {}", status.status_word(), limited.as_deref().unwrap_or_else(|| obstacle(found.why)))
        }
    };
    // Writing to a string does not fail.
    if let Some(why) = found.why {
        let _ = write!(text, " ({})", why.word());
    }
    if let Some(authority) = &found.authority {
        let _ = write!(text, ", says {authority}");
    }
    let _ = write!(text, ", after {:.1} ms", took.as_secs_f64() * 1_000.0);
    text
}

/// What is unusual in how an endpoint is asked.
fn only(endpoint: &Endpoint) -> &'static str {
    match (endpoint.offers.udp, endpoint.offers.h1) {
        (true, _) => "",
        (false, true) => ", over TLS alone",
        (false, false) => ", over TLS alone and with the key itself",
    }
}

/// What stood in the way of an answer.
fn obstacle(why: Option<Why>) -> &'static str {
    match why {
        Some(Why::Timeout) => "no server answered, or it had trouble of its own",
        Some(Why::Dns) => "DNS failed, or led to no server that may be asked and speaks for this domain",
        Some(Why::NoProof) => "the question is too long for a datagram, and no server offers TLS",
        _ => "could not tell",
    }
}

fn transports(record: &Record) -> Vec<&'static str> {
    [(record.udp, "udp"), (record.tls, "tls")].into_iter().filter_map(|(on, word)| on.then_some(word)).collect()
}

fn record_text(record: &Record) -> String {
    let proof = if record.h1 { "h1" } else { "none" };
    let transports = transports(record).join(",");
    let claim = record.claim.word();
    format!("{}:{} p={} t={transports} h={proof} m={claim}", record.host, record.port, record.priority)
}

fn record_json(record: &Record) -> Value {
    json!({
        "host": record.host,
        "port": record.port,
        "priority": record.priority,
        "transports": transports(record),
        "proof": record.h1.then_some("h1"),
        "claim": record.claim,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use addrauth::verify::Failure;

    #[test]
    fn what_dns_said_cannot_steer_a_terminal() {
        let bad = vec![BadRecord::Syntax("\u{1b}[2J\r\nVALIDKEY".into())];
        let report = Report {
            address: Address::parse(b"alice@example.com", false).unwrap(),
            published: Published::Failed(Failure::NoneUsable { name: "example.com".into(), bad }),
            endpoints: Endpoints::default(),
            found: None,
            took: Duration::ZERO,
        };
        let text = report.text();
        assert!(text.ends_with("VALIDKEY\n") && text.lines().count() == 1, "{text:?}");
        assert!(!text.trim_end().contains(char::is_control), "{text:?}");
    }
}
