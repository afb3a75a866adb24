//! `addrauth key`: issue, show and revoke the keys of an address.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;

use humantime_serde::re::humantime::format_rfc3339_seconds;
use serde_json::json;

use super::{Context, exit};
use crate::authority::{self, Authority, KeyState, Listed};
use crate::config::Limits;
use crate::proto::address::Address;

/// Issue, show and revoke the keys of an address
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
    let (Verb::Issue { address: text } | Verb::Show { address: text } | Verb::Revoke { address: text, .. }) =
        &args.verb;
    let address = match Address::parse(text.as_bytes(), true) {
        Ok(address) => address,
        Err(e) => return complain(format_args!("{text:?}: {e}")),
    };
    let config = match context.read_config() {
        Ok(config) => config,
        Err(e) => return complain(e),
    };
    let authority = match Authority::open(&config, &Arc::new(Limits::default())).await {
        Ok(authority) => authority,
        Err(e) => return complain(e),
    };
    let done = match &args.verb {
        Verb::Issue { .. } => issue(&authority, &address, context.json).await,
        Verb::Show { .. } => show(&authority, &address, context.json).await,
        Verb::Revoke { only, .. } => revoke(&authority, &address, only.as_deref(), context.json).await,
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

async fn issue(authority: &Authority, address: &Address, json: bool) -> Result<ExitCode, authority::Error> {
    let issued = authority.issue(address).await?;
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
        authority.revoke(address, Some(&issued.fingerprint)).await?;
        return Ok(complain("the key cannot be written to standard output; it is revoked again"));
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
fn text(at: SystemTime) -> String {
    let most = std::time::UNIX_EPOCH + std::time::Duration::from_secs(253_402_300_799);
    format_rfc3339_seconds(at.clamp(std::time::UNIX_EPOCH, most)).to_string()
}

/// Writes a line to standard output; whether that worked.
fn print(line: impl std::fmt::Display) -> bool {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).is_ok()
}

/// Writes a line to standard error; a reader who has gone is no reason to fail.
fn note(line: impl std::fmt::Display) {
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
            ("revoke alice@example.com", &yes),
            ("show alice@example.com", &no),
        ] {
            assert_eq!(&code(words, dir.path()).await, want, "{words}");
        }
        assert!(parse("issue").is_err() && parse("burn alice@example.com").is_err());
    }
}
