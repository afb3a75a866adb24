//! `addrauth hooks try`: plays a mail server against a scanner, prints what was said, and tells what does not conform.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use addrauth::config::Limits;
use addrauth::files;
use addrauth::mta::opened;
use addrauth::store;
use clap::ValueEnum;
use serde_json::{Value, json};

use super::brought::{Brought, Trial};
use super::client::Client;
use super::{draft01, stalwart};
use crate::{Context, exit, fail};

/// How long a scanner may take: what Stalwart and the bridge before Postfix wait, 30 s and 20 s.
const PATIENCE: Duration = Duration::from_secs(30);
/// Letters of a request or answer that are printed.
const SHOWN: usize = 4_000;

/// Play a mail server against a scanner of MTA Hooks: show it a message, print the exchange, and tell what does not conform.
///
/// Of the dialect stalwart one request is made, at DATA. Of draft-01 the scanner is looked up at /.well-known/mta-hooks where the URL
/// has no path, else the URL is where registrations are made; it is registered at, asked, asked again with the same request id, and
/// the registration is taken back.
///
/// Exit codes: 0 all conforms, 1 something does not, 2 the scanner could not be asked.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The scanner: http://HOST:PORT/PATH or https://…
    url: String,
    /// The message, or - for standard input
    mail: PathBuf,
    /// The reverse-path [default: what the message's Return-Path says, else the null one]
    #[arg(long, value_name = "ADDRESS")]
    from: Option<String>,
    /// A recipient; may be given several times [default: postmaster@localhost.localdomain]
    #[arg(long, value_name = "ADDRESS")]
    to: Vec<String>,
    /// What is spoken [default: stalwart where the URL's path ends with /stalwart, else draft-01]
    #[arg(long)]
    dialect: Option<Spoken>,
    /// The name that the client logged in with
    #[arg(long, value_name = "NAME")]
    login: Option<String>,
    /// A file with the token that is shown as Authorization: Bearer
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// A dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Spoken {
    /// Stalwart's hooks, version 1
    Stalwart,
    /// draft-degennaro-mta-hooks-01
    #[value(name = "draft-01")]
    Draft01,
}

/// Runs the verb.
pub(crate) async fn run(args: Args, context: &Context) -> ExitCode {
    match tried(args).await {
        Ok(trial) => {
            print!("{}", if context.json { format!("{:#}\n", as_json(&trial)) } else { text(&trial) });
            if trial.findings.is_empty() { exit::YES } else { exit::no() }
        }
        Err(error) => fail(error),
    }
}

async fn tried(args: Args) -> Result<Trial, String> {
    let whole = |e: &dyn std::fmt::Display| format!("{}: {e}", args.mail.display());
    let octets = files::read_given(&args.mail, Limits::default().files.demo).map_err(|e| whole(&e))?;
    let (top, octets) = opened(&octets);
    let bare = |path: &str| path.trim_start_matches('<').trim_end_matches('>').to_owned();
    let to = if args.to.is_empty() { vec!["postmaster@localhost.localdomain".to_owned()] } else { args.to };
    let brought = Brought {
        from: bare(&args.from.or(top.return_path).unwrap_or_default()),
        to: to.iter().map(|to| bare(to)).collect(),
        login: args.login,
        octets: on_the_wire(octets),
    };
    let token = args.token_file.map(|path| store::read_secret_line(&path)).transpose().map_err(|e| e.to_string())?;
    let shown = token.map(|token| format!("Bearer {}", token.as_str()));
    let client = Client::of(&args.url, shown, PATIENCE)?;
    let by_path = if client.path().ends_with("/stalwart") { Spoken::Stalwart } else { Spoken::Draft01 };
    match args.dialect.unwrap_or(by_path) {
        Spoken::Stalwart => stalwart::played(&client, &brought).await,
        Spoken::Draft01 => draft01::played(&client, &brought).await,
    }
}

/// A message with CRLF for each line's end.
fn on_the_wire(octets: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(octets.len());
    for line in octets.split_inclusive(|octet| *octet == b'\n') {
        let bare = line.strip_suffix(b"\n").map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        out.extend_from_slice(bare.unwrap_or(line));
        out.extend_from_slice(if bare.is_some() { b"\r\n" } else { b"" });
    }
    out
}

fn text(trial: &Trial) -> String {
    let mut text = String::new();
    for exchange in &trial.exchanges {
        text += &format!(
            "> {}\n{}< {} {} after {:.1} ms\n{}\n",
            exchange.line,
            shown(&exchange.asked, "> "),
            exchange.status,
            exchange.kind,
            exchange.took.as_secs_f64() * 1_000.0,
            shown(&exchange.said, "< ")
        );
    }
    for finding in &trial.findings {
        text += &format!("does not conform: {finding}\n");
    }
    if trial.findings.is_empty() {
        text += "all conforms\n";
    }
    text
}

/// Octets as lines, JSON by its parts, long ones cut.
fn shown(octets: &[u8], before: &str) -> String {
    let json: Option<Value> = serde_json::from_slice(octets).ok();
    let text = json.map_or_else(|| String::from_utf8_lossy(octets).into_owned(), |json| format!("{json:#}"));
    let cut: String = text.chars().take(SHOWN).collect();
    let more =
        if cut.len() < text.len() { format!("{before}… {} octets in all\n", octets.len()) } else { String::new() };
    cut.lines().map(|line| format!("{before}{line}\n")).collect::<String>() + &more
}

fn as_json(trial: &Trial) -> Value {
    let read = |octets: &[u8]| -> Value {
        serde_json::from_slice(octets).unwrap_or_else(|_| json!(String::from_utf8_lossy(octets)))
    };
    let exchanges: Vec<Value> = trial
        .exchanges
        .iter()
        .map(|one| {
            json!({ "request": one.line, "asked": read(&one.asked), "status": one.status, "type": one.kind, "said": read(&one.said),
                    "milliseconds": one.took.as_millis() as u64 })
        })
        .collect();
    json!({ "conforms": trial.findings.is_empty(), "findings": trial.findings, "exchanges": exchanges })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_becomes_what_goes_over_the_wire() {
        assert_eq!(on_the_wire(b"a\nb\r\n\nc"), b"a\r\nb\r\n\r\nc");
        assert_eq!(shown(b"{\"a\":1}", "> "), "> {\n>   \"a\": 1\n> }\n");
        assert!(shown("x".repeat(10_000).as_bytes(), "").ends_with("10000 octets in all\n"));
    }
}
