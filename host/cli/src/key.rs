//! `addrauth key`: issue, rotate, show and revoke the keys of an address.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use humantime_serde::re::humantime::format_rfc3339_seconds;
use serde_json::json;

use super::{Context, exit, output};
use addrauth::authority::{self, Authority, KeyState, Listed};
use addrauth::config::Limits;
use addrauth::proto::address::Address;
use addrauth::store::PostRow;

/// Issue, rotate, show and revoke the keys of an address
///
/// Works on the table of keys in `state_dir`, whether or not `addrauth authority` is running: what is done here counts
/// from the next answer on. Run it as the user that the Authentication Server runs as.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Make a new key for an address and print it, this once
    ///
    /// The key goes to standard output, all else to standard error. Keep it out of shell histories and logs: whoever
    /// has it can write as this address. It is valid at once, and the older keys of the address stay valid until they
    /// end. It is stored nowhere, and posted to nobody: a lost key is replaced by issuing another one.
    ///
    /// Exit code: 0 issued, 1 the address is in no domain of `authority.domains`, 2 it could not be done.
    Issue {
        /// The address, such as alice@example.com; a +tag and letter case do not matter
        address: String,
    },
    /// Make a new key, have it brought to its address, and let the older ones end after AVT
    ///
    /// For an address whose key somebody else may have, or that is to have one at once. The key is not printed: the running
    /// `addrauth authority` posts it in the way of `authority.deliver`, as it does with those that it makes itself every AGI.
    /// `key show` tells how that stands. Where `authority.deliver` is "nobody", there is no new key.
    ///
    /// Exit code: 0 done, 1 the address is in no domain of `authority.domains`, 2 it could not be done.
    Rotate {
        /// The address, such as alice@example.com; a +tag and letter case do not matter
        address: String,
    },
    /// List the keys of an address: generation, times, state, fingerprint, and how its posting stands; never the key
    ///
    /// POST: `owed` while the key is still to be brought to the address, with the reason why it was not yet; then `sent`,
    /// `stored`, or why it never was; `-` for a key that `key issue` printed.
    ///
    /// Exit code: 0 it has a living key, 1 it has none, 2 it could not be told.
    Show {
        /// The address
        address: String,
    },
    /// Take back all living keys of an address, or one of them, at once
    ///
    /// Mail that carries a revoked key and is still under way counts as invalid from now on. An address of `addrauth address`
    /// that has no living key left gets a new one within minutes, where `authority.deliver` is not "nobody".
    ///
    /// With authority.deliver = "keyring", or a database of several hosts (`store.url`), a revoked key leaves the keyring at
    /// once. Otherwise the submission host stamps mail with it until the next one arrives, and such mail fails:
    /// `addrauth keyring forget ADDRESS` there ends that.
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
pub(crate) async fn run(args: Args, context: &Context) -> ExitCode {
    let text = args.verb.address();
    let address = match Address::parse(text.as_bytes(), true) {
        Ok(address) => address,
        Err(e) => return complain(format_args!("{text:?}: {e}")),
    };
    let config = match context.read_config() {
        Ok(config) => config,
        Err(e) => return complain(e),
    };
    let authority = match Authority::open(&config, &Arc::new(patient())).await {
        Ok(authority) => authority,
        Err(e) => return complain(e),
    };
    let done = match &args.verb {
        Verb::Issue { .. } => issue(&authority, &address, context.json).await,
        Verb::Rotate { .. } => rotate(&authority, &address, context.json).await,
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

impl Verb {
    fn address(&self) -> &str {
        let (Verb::Issue { address }
        | Verb::Rotate { address }
        | Verb::Show { address }
        | Verb::Revoke { address, .. }) = self;
        address
    }
}

/// The limits of a command: it waits longer for a lock than a daemon does.
pub(super) fn patient() -> Limits {
    Limits::default().with(|limits| limits.store.busy = limits.store.busy_command)
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
        authority.take_back(&issued).await?;
        return Ok(complain("the key cannot be written to standard output; it is taken back"));
    }
    note(format_args!(
        "key {} of {} ({}), valid until {expires}; it is shown this once and stored nowhere",
        issued.generation, issued.address, issued.fingerprint
    ));
    Ok(exit::YES)
}

async fn rotate(authority: &Authority, address: &Address, json: bool) -> Result<ExitCode, authority::Error> {
    let owed = authority.rotate(address).await?;
    let [created, expires] = [owed.created, owed.expires].map(text);
    if json {
        print(json!({
            "address": owed.address, "generation": owed.generation, "created": created, "expires": expires,
            "fingerprint": owed.fingerprint, "owed": true,
        }));
    } else {
        note(format_args!(
            "key {} of {} ({}), valid until {expires}; the running `addrauth authority` posts it",
            owed.generation, owed.address, owed.fingerprint
        ));
    }
    if authority.turn(address).await?.is_none() {
        note(format_args!(
            "{address} is not in the table of addresses, so this is its only key: `addrauth address add {address}` gives it \
             one in time"
        ));
    }
    Ok(exit::YES)
}

async fn show(authority: &Authority, address: &Address, json: bool) -> Result<ExitCode, authority::Error> {
    let keys = authority.list(address).await?;
    if json {
        let rows: Vec<_> = keys.iter().map(row).collect();
        print(json!({ "address": address.to_string(), "keys": rows }));
    } else if keys.is_empty() {
        match authority.turn(address).await? {
            Some(due) => note(format_args!(
                "{address} has no keys yet: its first one is made at {}, or at once by `addrauth key rotate {address}`",
                text(due)
            )),
            None => note(format_args!(
                "{address} has no keys, and is not in the table of addresses: `addrauth address add {address}` puts it in"
            )),
        }
    } else {
        print("GENERATION  STATE    FINGERPRINT  CREATED               EXPIRES               POST");
        for key in &keys {
            print(format_args!(
                "{:>10}  {:<7}  {:<11}  {}  {}  {}",
                key.generation,
                key.state.word(),
                key.fingerprint,
                text(key.created),
                text(key.expires),
                key.post.as_ref().map_or("-".to_owned(), way)
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
    let left = authority.reaches_keyring();
    if json {
        print(json!({ "address": address.to_string(), "revoked": revoked, "left_keyring": left }));
    } else {
        note(format_args!("{address}: {revoked} revoked"));
    }
    if revoked > 0 && !left {
        note(format_args!("{}", still_stamped(address)));
    }
    Ok(if revoked > 0 { exit::YES } else { exit::no() })
}

/// What is left to do where the keyring is not in reach.
pub(super) fn still_stamped(address: impl std::fmt::Display) -> String {
    format!(
        "where mail is stamped, a revoked key is used until the next one arrives, and that mail fails: \
         `addrauth keyring forget {address}` on that host ends it at once"
    )
}

/// How a key's way to its address stands, for a list.
fn way(post: &PostRow) -> String {
    match (&post.outcome, &post.note) {
        (Some(outcome), _) => outcome.to_string(),
        (None, None) => "owed".to_owned(),
        (None, Some(why)) => format!("owed, after {} tries, next at {}: {why}", post.tries, text(post.next_try)),
    }
}

fn row(key: &Listed) -> serde_json::Value {
    let post = key.post.as_ref().map(|post| {
        let next_try = post.outcome.is_none().then(|| text(post.next_try));
        json!({ "outcome": post.outcome.as_ref().map(ToString::to_string), "note": post.note, "tries": post.tries, "next_try": next_try })
    });
    json!({
        "generation": key.generation, "state": key.state.word(), "fingerprint": key.fingerprint,
        "created": text(key.created), "expires": text(key.expires), "revoked": key.revoked.map(text),
        "post": post,
    })
}

/// A time as RFC 3339; what no calendar reaches, as the last moment of it.
pub(super) fn text(at: SystemTime) -> String {
    let most = std::time::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    format_rfc3339_seconds(at.clamp(std::time::UNIX_EPOCH, most)).to_string()
}

/// Writes a line to standard output; whether that worked.
fn print(line: impl std::fmt::Display) -> bool {
    let mut out = output::out();
    writeln!(out, "{line}").and_then(|()| out.flush()).is_ok()
}

/// Writes a line to standard error; a reader who has gone is no reason to fail.
pub(super) fn note(line: impl std::fmt::Display) {
    let _ = writeln!(output::err(), "{line}");
}

fn complain(line: impl std::fmt::Display) -> ExitCode {
    exit::fail(line)
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
            ("revoke alice@example.com", &yes),
            ("show alice@example.com", &no),
        ] {
            assert_eq!(&code(words, dir.path()).await, want, "{words}");
        }
        assert!(parse("issue").is_err() && parse("rotate").is_err() && parse("rotate --due").is_err());
        assert!(parse("burn alice@example.com").is_err());
    }
}
