//! `addrauth keyring`: the pair that keys are sealed to, and the keys of our own addresses that were learned.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::json;

use super::{Context, exit, fail, key, output};
use addrauth::config::{Config, Limits};
use addrauth::proto::address::{Address, Domain};
use addrauth::store::{self, Keyring, KeyringRow, Opening};

/// The keys of our own addresses: the pair that they are sealed to, and what was learned
///
/// Who learns keys (the MX, keyring.learn) or makes them (authority.deliver = "keyring") needs the public half of a pair, in
/// keyring.seal_to, and can open no key. Who stamps mail (the submission server, keyring.stamp) needs the secret half, in
/// keyring.key in `state_dir`, among systemd's credentials, or in keyring.secret_file. Where one host does both, the pair in
/// `state_dir` serves, and nothing need be set. Run this as the user that the filter runs as, or as root.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Make the pair where there is none, and print its public half
    ///
    /// Run it on the host that stamps. What is printed belongs into keyring.seal_to wherever keys are learned or made. The
    /// secret half stays in its file, mode 0600, and is never printed: whoever has it and the keyring can write as any of your
    /// addresses. A pair that is there stays as it is.
    ///
    /// Exit code: 0 output, 2 it could not be done.
    Key {
        /// The file of the secret half [default: keyring.secret_file, else keyring.key in systemd's credentials or `state_dir`]
        file: Option<PathBuf>,
    },
    /// List the addresses that have a key: fingerprint, when it was learned, when it ends; never the key
    ///
    /// Exit code: 0 there are some, 1 there are none, 2 it could not be told.
    List {
        /// Only those of this domain
        #[arg(long)]
        domain: Option<String>,
    },
    /// Forget the key of an address, and every one before it
    ///
    /// Its mail goes out without a key until the next one arrives, which is learned whatever it is: a superseded or
    /// shorter-lived one too.
    ///
    /// Exit code: 0 forgotten, 1 there was nothing, 2 it could not be done.
    Forget {
        /// The address; a +tag and letter case do not matter
        address: String,
    },
}

/// Why a verb could not be carried out.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("{0:?}: not an address of the form local@domain.example")]
    Address(String),
    #[error("{0:?}: not a domain")]
    Domain(String),
    #[error("cannot write to standard output: {0}")]
    Write(std::io::Error),
    #[error(transparent)]
    Config(#[from] addrauth::config::Error),
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// Runs the verb.
pub(crate) async fn run(args: Args, context: &Context) -> ExitCode {
    let done = async {
        let config = context.read_config()?;
        match args.verb {
            Verb::Key { file } => pair(&config, file, context.json),
            Verb::List { domain } => list(&config, domain, context.json).await,
            Verb::Forget { address } => forget(&config, &address, context.json).await,
        }
    };
    done.await.unwrap_or_else(|error: Error| fail(error))
}

fn pair(config: &Config, file: Option<PathBuf>, json: bool) -> Result<ExitCode, Error> {
    let path = file.unwrap_or_else(|| store::keyring_key(config));
    if path.parent() == Some(config.state_dir.0.as_path()) {
        store::prepare_dir(&config.state_dir.0)?;
    }
    let seal_to = store::read_or_make_opener(&path)?.seal_to();
    match json {
        true => print(json!({ "seal_to": seal_to.to_string(), "secret_file": path }))?,
        false => {
            print(&seal_to)?;
            key::note(format_args!(
                "the secret half is in {}; keep it where mail is stamped, and nowhere else",
                path.display()
            ));
        }
    }
    Ok(exit::YES)
}

async fn list(config: &Config, domain: Option<String>, json: bool) -> Result<ExitCode, Error> {
    let read = |text: String| Domain::parse_full(&text).map_err(|_| Error::Domain(text));
    let domain = domain.map(read).transpose()?;
    let rows = match keyring(config).await? {
        Some(keyring) => {
            let rows = keyring.rows(domain.as_ref().map(Domain::as_str)).await;
            keyring.close().await;
            rows?
        }
        None => Vec::new(),
    };
    let now = SystemTime::now();
    if json {
        print(serde_json::Value::Array(rows.iter().map(|row| object(row, now)).collect()))?;
    } else if rows.is_empty() {
        key::note(format_args!(
            "the keyring has no such address; `addrauth journal list` shows the key mails that came"
        ));
    } else {
        let mut text = String::from("FINGERPRINT  LEARNED               ENDS                  STATE   ADDRESS");
        for row in &rows {
            let (learned, ends) = (key::text(row.learned), key::text(row.expires));
            text += &format!("\n{:<11}  {learned}  {ends}  {:<6}  {}", row.fingerprint, state(row, now), row.address);
        }
        print(text)?;
    }
    Ok(if rows.is_empty() { exit::no() } else { exit::YES })
}

async fn forget(config: &Config, text: &str, json: bool) -> Result<ExitCode, Error> {
    let address = Address::parse(text.as_bytes(), true).map_err(|_| Error::Address(text.to_owned()))?;
    let forgotten = match keyring(config).await? {
        Some(keyring) => {
            let forgotten = keyring.forget(&address.mailbox()).await;
            keyring.close().await;
            forgotten?
        }
        None => false,
    };
    match (json, forgotten) {
        (true, _) => print(json!({ "address": address.to_string(), "forgotten": forgotten }))?,
        (false, true) => {
            key::note(format_args!("{address} is forgotten: the next key that its server vouches for is learned"))
        }
        (false, false) => key::note(format_args!("the keyring has no key of {address}")),
    }
    Ok(if forgotten { exit::YES } else { exit::no() })
}

/// The keyring where there is one: whoever only looks makes none, or it would be his.
async fn keyring(config: &Config) -> Result<Option<Arc<dyn Keyring>>, store::Error> {
    let file: &Path = &config.state_dir.0.join("keyring.db");
    if config.store.url.is_empty() && !store::is_there(file)? {
        return Ok(None);
    }
    let opening = Opening { busy: Limits::default().store.busy_command, readers: 1 };
    store::open_keyring(config, opening).await.map(Some)
}

/// What can be said of a key by the time it has left.
fn state(row: &KeyringRow, now: SystemTime) -> &'static str {
    match row.expires.duration_since(now) {
        Err(_) => "ended",
        Ok(left) if left.is_zero() => "ended",
        Ok(left) if left < Limits::default().keyring.alarm => "ending",
        Ok(_) => "living",
    }
}

fn object(row: &KeyringRow, now: SystemTime) -> serde_json::Value {
    json!({ "address": row.address, "fingerprint": row.fingerprint, "learned": key::text(row.learned),
        "expires": key::text(row.expires), "state": state(row, now) })
}

fn print(text: impl std::fmt::Display) -> Result<(), Error> {
    let mut out = output::out();
    writeln!(out, "{text}").and_then(|()| out.flush()).map_err(Error::Write)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::{Args as _, Command, FromArgMatches as _};

    use super::*;
    use addrauth::proto::key::AuthKey;
    use addrauth::store::{Learned, NewestKey};

    fn parse(words: &str) -> Args {
        let command = Args::augment_args(Command::new("keyring").no_binary_name(true));
        Args::from_arg_matches(&command.try_get_matches_from(words.split(' ')).unwrap()).unwrap()
    }

    async fn learn(keyring: &dyn Keyring, config: &Config, address: &str, lives: u64) -> Learned {
        let key = AuthKey::parse(&[b'k'; 64]).unwrap();
        let now = SystemTime::now();
        let sealed = store::keyring_seal_to(config).unwrap().seal(address, &key).unwrap();
        let (fingerprint, expires) = (key.verify_key().fingerprint(), now + Duration::from_secs(lives));
        keyring.learn(&NewestKey { address: address.into(), fingerprint, sealed, learned: now, expires }).await.unwrap()
    }

    #[tokio::test]
    async fn exit_codes_say_whether_there_was_anything_and_a_look_makes_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let (path, state) = (dir.path().join("addrauth.toml"), dir.path().join("state"));
        std::fs::write(&path, format!("state_dir = {state:?}\n")).unwrap();
        let context = Context { config: Some(path), json: false };
        let [yes, no, unknown] = [exit::YES, exit::no(), exit::unknown()].map(|code| format!("{code:?}"));
        let code = async |words: &str| format!("{:?}", run(parse(words), &context).await);
        assert_eq!((code("list").await, code("forget a@example.com").await), (no.clone(), no.clone()));
        assert!(!state.exists());
        assert_eq!((code("key").await, code("key").await), (yes.clone(), yes.clone()));
        assert!(state.join("keyring.key").exists() && !state.join("keyring.db").exists());

        let config = context.read_config().unwrap();
        let keyring = store::open_keyring(&config, Opening { busy: Duration::from_secs(1), readers: 1 }).await.unwrap();
        assert_eq!(learn(keyring.as_ref(), &config, "a@example.com", 90_000).await, Learned::Newest);
        for (words, want) in [
            ("list", &yes),
            ("list --domain Example.com", &yes),
            ("list --domain example.org", &no),
            ("list --domain ..", &unknown),
            ("forget nonsense", &unknown),
            ("forget A+x@example.com", &yes),
            ("forget a@example.com", &no),
            ("list", &no),
        ] {
            assert_eq!(&code(words).await, want, "{words}");
        }
        keyring.close().await;
        std::fs::write(state.join("keyring.db"), "no database at all, but long enough to be looked at").unwrap();
        assert_eq!(code("list").await, unknown);
    }

    #[test]
    fn a_key_is_living_ending_or_ended() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let row =
            |expires| KeyringRow { address: "a@b.example".into(), fingerprint: "0".into(), learned: now, expires };
        let hours = |hours: u64| now + Duration::from_secs(hours * 3_600);
        assert_eq!([0, 1, 25].map(|left| state(&row(hours(left)), now)), ["ended", "ending", "living"]);
        assert_eq!(state(&row(now - Duration::from_secs(1)), now), "ended");
    }
}
