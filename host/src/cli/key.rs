//! `addrauth key`: issue, rotate, show and revoke the keys of an address.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use humantime_serde::re::humantime::{format_rfc3339_seconds, parse_duration};
use serde_json::json;

use super::{Context, exit};
use crate::authority::{self, Authority, Issued, KeyState, Listed};
use crate::config::Limits;
use crate::proto::address::Address;

/// Issue, rotate, show and revoke the keys of an address
///
/// Works on the table of keys in `state_dir`, whether or not `addrauth authority` is running: what is done here counts
/// from the next answer on. Run it as the user that the Authentication Server runs as.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Make a new key for an address and print it, this once
    ///
    /// The key goes to standard output, all else to standard error. Keep it out of shell histories and logs: whoever
    /// has it can write as this address. It is valid at once, and the older keys of the address stay valid until they
    /// end. It is stored nowhere: a lost key is replaced by issuing another one.
    ///
    /// Exit code: 0 issued, 1 the address is in no domain of `authority.domains`, 2 it could not be done.
    Issue {
        /// The address, such as alice@example.com; a +tag and letter case do not matter
        address: String,
    },
    /// Make a new key, and let the older ones end; for one address, or for all whose turn has come
    ///
    /// With an address: as `key issue`, and the older keys end after AVT at the latest.
    ///
    /// With --due: new keys for the addresses of `addrauth address` whose turn has come, printed one a line as
    /// `ADDRESS KEY`, for a script that brings them to where mail is sent: the server itself mails none. They are valid
    /// before they are printed, and stored nowhere. Run it every hour, or as often as --every says: a run makes at most
    /// three times the usual number of keys, the longest overdue first, so that nobody meets a burst after a standstill.
    /// Where standard output is closed, the keys that were not written are taken back.
    ///
    /// Exit code: 0 done, 1 the address is in no domain of `authority.domains`, 2 it could not be done.
    Rotate {
        /// The address
        #[arg(required_unless_present = "due", conflicts_with = "due")]
        address: Option<String>,
        /// All whose turn has come
        #[arg(long)]
        due: bool,
        /// How often this command is run
        #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_duration)]
        every: Duration,
    },
    /// List the keys of an address: generation, times, state and fingerprint, never the key
    ///
    /// Exit code: 0 it has a living key, 1 it has none, 2 it could not be told.
    Show {
        /// The address
        address: String,
    },
    /// Take back all living keys of an address, or one of them, at once
    ///
    /// Mail that carries a revoked key and is still under way counts as invalid from now on.
    ///
    /// Exit code: 0 revoked, 1 there was nothing to revoke, 2 it could not be done.
    Revoke {
        /// The address
        address: String,
        /// Only the key with this fingerprint, as `addrauth key show` lists it
        #[arg(long, value_name = "FINGERPRINT")]
        only: Option<String>,
    },
}

/// Runs the verb.
pub async fn run(args: Args, context: &Context) -> ExitCode {
    let address = match args.verb.address().map(|text| (text, Address::parse(text.as_bytes(), true))) {
        Some((_, Ok(address))) => Some(address),
        Some((text, Err(e))) => return complain(format_args!("{text:?}: {e}")),
        None => None,
    };
    let config = match context.read_config() {
        Ok(config) => config,
        Err(e) => return complain(e),
    };
    let authority = match Authority::open(&config, &Arc::new(patient())).await {
        Ok(authority) => authority,
        Err(e) => return complain(e),
    };
    let done = match (&args.verb, &address) {
        (Verb::Issue { .. }, Some(address)) => issue(&authority, address, false, context.json).await,
        (Verb::Rotate { .. }, Some(address)) => issue(&authority, address, true, context.json).await,
        (Verb::Show { .. }, Some(address)) => show(&authority, address, context.json).await,
        (Verb::Revoke { only, .. }, Some(address)) => revoke(&authority, address, only.as_deref(), context.json).await,
        (Verb::Rotate { every, .. }, None) => rotate_due(&authority, *every, context.json).await,
        (_, None) => Ok(exit::unknown()),
    };
    authority.close().await;
    match done {
        Ok(code) => code,
        Err(e @ (authority::Error::OtherDomain { .. } | authority::Error::NoSuchKey { .. })) => {
            complain(e);
            exit::no()
        }
        Err(e) => complain(e),
    }
}

impl Verb {
    fn address(&self) -> Option<&str> {
        match self {
            Verb::Issue { address } | Verb::Show { address } | Verb::Revoke { address, .. } => Some(address),
            Verb::Rotate { address, .. } => address.as_deref(),
        }
    }
}

/// The limits of a command: it waits longer for a lock than a daemon does.
pub(super) fn patient() -> Limits {
    let limits = Limits::default();
    Limits { store_busy: limits.store_busy_command, ..limits }
}

async fn rotate_due(authority: &Authority, every: Duration, json: bool) -> Result<ExitCode, authority::Error> {
    let mut left = authority.due_at_once(every).await?;
    let (mut made, mut without) = (0, 0);
    while left > 0 {
        let (keys, refused) = authority.rotate_due(left).await?;
        if keys.is_empty() && refused.is_empty() {
            break;
        }
        for refused in &refused {
            if let Some(living) = refused.living {
                without += 1;
                note(format_args!(
                    "{} gets no key: it has {living} living ones; `addrauth key revoke` ends them",
                    refused.address
                ));
            }
        }
        if let Some(unwritten) = first_unwritten(&keys, json) {
            authority.take_back(keys.get(unwritten..).unwrap_or_default()).await?;
            return Ok(complain("the keys cannot be written to standard output; those not written are taken back"));
        }
        made += keys.len();
        left = left.saturating_sub(keys.len() + refused.len());
    }
    note(format_args!("{made} new keys, {without} addresses without; they are shown this once and stored nowhere"));
    Ok(exit::YES)
}

/// Writes keys, one a line; where that fails, the number of the first one that may not have been written.
fn first_unwritten(keys: &[Issued], json: bool) -> Option<usize> {
    keys.iter().position(|key| {
        !if json {
            print(json!({
                "address": key.address, "key": key.key.expose(), "generation": key.generation,
                "created": text(key.created), "expires": text(key.expires), "fingerprint": key.fingerprint,
            }))
        } else {
            print(format_args!("{} {}", key.address, key.key.expose()))
        }
    })
}

async fn issue(
    authority: &Authority,
    address: &Address,
    rotate: bool,
    json: bool,
) -> Result<ExitCode, authority::Error> {
    let issued = if rotate { authority.rotate(address).await? } else { authority.issue(address).await? };
    let [created, expires] = [issued.created, issued.expires].map(text);
    let printed = if json {
        print(json!({
            "address": issued.address, "key": issued.key.expose(), "generation": issued.generation,
            "created": created, "expires": expires, "fingerprint": issued.fingerprint,
        }))
    } else {
        print(issued.key.expose())
    };
    if !printed {
        // Nobody has read the key, so nobody can use it; it must not stay behind as a living one.
        authority.take_back(std::slice::from_ref(&issued)).await?;
        return Ok(complain("the key cannot be written to standard output; it is taken back"));
    }
    note(format_args!(
        "key {} of {} ({}), valid until {expires}; it is shown this once and stored nowhere",
        issued.generation, issued.address, issued.fingerprint
    ));
    Ok(exit::YES)
}

async fn show(authority: &Authority, address: &Address, json: bool) -> Result<ExitCode, authority::Error> {
    let keys = authority.list(address).await?;
    if json {
        let rows: Vec<_> = keys.iter().map(row).collect();
        print(json!({ "address": address.to_string(), "keys": rows }));
    } else if keys.is_empty() {
        note(format_args!("{address} has no keys: `addrauth key issue {address}` makes one"));
    } else {
        print("GENERATION  STATE    FINGERPRINT  CREATED               EXPIRES");
        for key in &keys {
            print(format_args!(
                "{:>10}  {:<7}  {:<11}  {}  {}",
                key.generation,
                key.state.word(),
                key.fingerprint,
                text(key.created),
                text(key.expires)
            ));
        }
    }
    let living = keys.iter().any(|key| key.state == KeyState::Living);
    Ok(if living { exit::YES } else { exit::no() })
}

async fn revoke(
    authority: &Authority,
    address: &Address,
    only: Option<&str>,
    json: bool,
) -> Result<ExitCode, authority::Error> {
    let revoked = authority.revoke(address, only).await?;
    if json {
        print(json!({ "address": address.to_string(), "revoked": revoked }));
    } else {
        note(format_args!("{address}: {revoked} revoked"));
    }
    Ok(if revoked > 0 { exit::YES } else { exit::no() })
}

fn row(key: &Listed) -> serde_json::Value {
    json!({
        "generation": key.generation, "state": key.state.word(), "fingerprint": key.fingerprint,
        "created": text(key.created), "expires": text(key.expires), "revoked": key.revoked.map(text),
    })
}

/// A time as RFC 3339; what no calendar reaches, as the last moment of it.
pub(super) fn text(at: SystemTime) -> String {
    let most = std::time::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    format_rfc3339_seconds(at.clamp(std::time::UNIX_EPOCH, most)).to_string()
}

/// Writes a line to standard output; whether that worked.
fn print(line: impl std::fmt::Display) -> bool {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).is_ok()
}

/// Writes a line to standard error; a reader who has gone is no reason to fail.
pub(super) fn note(line: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn complain(line: impl std::fmt::Display) -> ExitCode {
    note(format_args!("addrauth key: {line}"));
    exit::unknown()
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, Command, FromArgMatches as _};

    use super::*;

    fn parse(words: &str) -> Result<Args, clap::Error> {
        let command = Args::augment_args(Command::new("key").no_binary_name(true));
        Args::from_arg_matches(&command.try_get_matches_from(words.split(' '))?)
    }

    async fn code(words: &str, dir: &std::path::Path) -> String {
        let path = dir.join("addrauth.toml");
        let text = format!("state_dir = {:?}\n[authority]\ndomains = [\"example.com\"]\n", dir.join("state"));
        std::fs::write(&path, text).unwrap();
        let context = Context { config: Some(path), json: true };
        format!("{:?}", run(parse(words).unwrap(), &context).await)
    }

    #[tokio::test]
    async fn exit_codes_say_whether_a_key_lives() {
        let dir = tempfile::tempdir().unwrap();
        let [yes, no, unknown] = [exit::YES, exit::no(), exit::unknown()].map(|code| format!("{code:?}"));
        for (words, want) in [
            ("show alice@example.com", &no),
            ("revoke alice@example.com", &no),
            ("issue alice@other.example", &no),
            ("issue nonsense", &unknown),
            ("issue alice@example.com", &yes),
            ("show alice@example.com", &yes),
            ("revoke alice@example.com --only 00000000", &no),
            ("rotate alice@example.com", &yes),
            ("rotate eve@other.example", &no),
            ("rotate --due --every 2h", &yes),
            ("revoke alice@example.com", &yes),
            ("show alice@example.com", &no),
        ] {
            assert_eq!(&code(words, dir.path()).await, want, "{words}");
        }
        assert!(parse("issue").is_err() && parse("rotate").is_err() && parse("rotate a@example.com --due").is_err());
        assert!(parse("burn alice@example.com").is_err());
    }
}
