//! `addrauth address`: the addresses that get a new key every AGI.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use humantime_serde::re::humantime::{format_duration, parse_duration};
use serde_json::json;

use super::{Context, exit, key, output};
use addrauth::authority::{self, Authority, Enlisted, Intervals};
use addrauth::config::{self, Limits};
use addrauth::proto::address::Address;

mod import;

/// The addresses that get a new key every AGI
///
/// An address in this table has its turn once in every AGI, at a moment of its own, so that the keys of all addresses are
/// spread evenly over the interval, from the first one on. The running `addrauth authority` makes each key in its time and posts
/// it (`authority.deliver`). Works on the table in `state_dir`, whether or not `addrauth authority` is running; run it as the user that the
/// Authentication Server runs as. A +tag and letter case do not matter.
///
/// Exit code: 0 done, 1 an address is in no domain of `authority.domains`, or is not in the table, 2 it could not be done.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Put addresses in
    ///
    /// Their first keys are made within the next AGI; `addrauth key rotate ADDRESS` makes and posts one at once. An address that is in
    /// already keeps what it has, but for what is named here.
    Add {
        /// The addresses, such as alice@example.com
        #[arg(required = true)]
        addresses: Vec<String>,
        #[command(flatten)]
        intervals: Own,
    },
    /// Put in the addresses of a file, one a line: `ADDRESS` or `ADDRESS,AGI,AVT`
    ///
    /// Empty lines and those that begin with # count for nothing; AGI or AVT may be left empty. All of the file is put in or,
    /// where a line is wrong, nothing. The same file may be imported again and again.
    Import {
        /// The file; - is standard input
        file: std::path::PathBuf,
    },
    /// List the addresses: AGI, AVT (a * where it is the configuration's) and the next turn
    List {
        /// Only those of this domain
        #[arg(long)]
        domain: Option<String>,
    },
    /// Take addresses out; their keys end at once
    ///
    /// Mail with such a key that is still under way counts as invalid from now on. Where the keyring is not in reach (see
    /// `addrauth key revoke`), `addrauth keyring forget ADDRESS` on the submission host ends its use. An address whose domain
    /// has left `authority.domains` gets no keys any more, and can be taken out.
    Remove {
        /// The addresses: all of them are taken out, or none
        #[arg(required = true)]
        addresses: Vec<String>,
    },
    /// Change an address's AGI or AVT, from its next key on
    Set {
        /// The address
        address: String,
        /// The interval between two keys, such as 5d; `default`: as in the configuration
        #[arg(long, value_parser = or_default, required_unless_present = "avt")]
        agi: Option<Wish>,
        /// How long an old key stays good beside the new one, such as 7d; `default`: as in the configuration
        #[arg(long, value_parser = or_default)]
        avt: Option<Wish>,
    },
}

#[derive(Clone, Copy, Debug, clap::Args)]
struct Own {
    /// The interval between two keys, such as 5d [default: authority.agi]
    #[arg(long, value_parser = parse_duration)]
    agi: Option<Duration>,
    /// How long an old key stays good beside the new one, such as 7d [default: authority.avt]
    #[arg(long, value_parser = parse_duration)]
    avt: Option<Duration>,
}

/// A duration, or back to the configuration's.
#[derive(Clone, Copy, Debug)]
struct Wish(Option<Duration>);

fn or_default(text: &str) -> Result<Wish, String> {
    match text {
        "default" => Ok(Wish(None)),
        _ => {
            parse_duration(text).map(|duration| Wish(Some(duration))).map_err(|e| format!("{e}: write 5d, or default"))
        }
    }
}

/// Why a verb could not be carried out.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("{0:?}: not an address of the form local@domain.example")]
    Address(String),
    #[error("cannot read {file}: {source}")]
    Read { file: String, source: std::io::Error },
    #[error("{file} is longer than {most} octets: import it in parts")]
    Long { file: String, most: u64 },
    #[error("nothing is imported:\n{0}")]
    Lines(String),
    #[error("cannot write to standard output: {0}")]
    Write(std::io::Error),
    #[error(transparent)]
    Config(#[from] config::Error),
    #[error(transparent)]
    Authority(#[from] authority::Error),
}

/// Runs the verb.
pub(crate) async fn run(args: Args, context: &Context) -> ExitCode {
    let done = match open(context).await {
        Ok(authority) => {
            let done = carry_out(args.verb, &authority, context.json).await;
            authority.close().await;
            done
        }
        Err(e) => Err(e),
    };
    use authority::Error::{NoDomain, NotEnlisted, OtherDomain};
    match done {
        Ok(()) => exit::YES,
        Err(e) => {
            exit::complain(&e);
            let no = matches!(e, Error::Authority(OtherDomain { .. } | NotEnlisted { .. } | NoDomain { .. }));
            if no { exit::no() } else { exit::unknown() }
        }
    }
}

async fn open(context: &Context) -> Result<Authority, Error> {
    Ok(Authority::open(&context.read_config()?, &Arc::new(key::patient())).await?)
}

async fn carry_out(verb: Verb, authority: &Authority, json: bool) -> Result<(), Error> {
    match verb {
        Verb::Add { addresses, intervals: Own { agi, avt } } => {
            let intervals = Intervals { agi, avt };
            let wanted: Vec<_> = parsed(&addresses)?.into_iter().map(|address| (address, intervals)).collect();
            let added = authority.enlist(&wanted, &mut |_| {}).await?;
            warn_if_short(authority, avt);
            tell_added(wanted.len(), added, json)
        }
        Verb::Import { file } => {
            let wanted = import::read(&file, authority, &Limits::default())?;
            let terminal = std::io::stderr().is_terminal();
            let added = authority.enlist(&wanted, &mut |written| progress(terminal, written, wanted.len())).await?;
            let short = wanted.iter().filter_map(|(_, own)| own.avt).min();
            warn_if_short(authority, short);
            tell_added(wanted.len(), added, json)
        }
        Verb::List { domain } => list(&authority.enlisted(domain.as_deref()).await?, json),
        Verb::Remove { addresses } => {
            let ended = authority.strike(&parsed(&addresses)?).await?;
            if json {
                return print(json!({ "removed": addresses.len(), "keys_ended": ended }));
            }
            key::note(format_args!("{} removed, {ended} keys ended", addresses.len()));
            if ended > 0 && !authority.reaches_keyring() {
                key::note(key::still_stamped("ADDRESS"));
            }
            Ok(())
        }
        Verb::Set { address, agi, avt } => {
            let [address] = <[Address; 1]>::try_from(parsed(std::slice::from_ref(&address))?)
                .map_err(|_| Error::Address(address))?;
            let set = authority.set(&address, agi.map(|wish| wish.0), avt.map(|wish| wish.0)).await?;
            warn_if_short(authority, set.own.avt);
            list(&[set], json)
        }
    }
}

fn parsed(addresses: &[String]) -> Result<Vec<Address>, Error> {
    let parse = |text: &String| Address::parse(text.as_bytes(), true).map_err(|_| Error::Address(text.clone()));
    addresses.iter().map(parse).collect()
}

fn warn_if_short(authority: &Authority, avt: Option<Duration>) {
    if let Some(avt) = avt.filter(|avt| authority.is_short(*avt)) {
        key::note(format_args!(
            "warning: mail waits in queues for up to 5 days, and with an AVT of {} it may arrive with a key that has ended",
            format_duration(avt)
        ));
    }
}

/// Long work tells where it is, to somebody who looks on.
fn progress(terminal: bool, written: usize, all: usize) {
    if terminal && all > 10_000 && (written.is_multiple_of(10_000) || written == all) {
        let _ = write!(std::io::stderr(), "\r{written} of {all}{}", if written == all { "\n" } else { "" });
    }
}

fn tell_added(named: usize, added: u64, json: bool) -> Result<(), Error> {
    let known = u64::try_from(named).unwrap_or(u64::MAX).saturating_sub(added);
    if json {
        return print(json!({ "added": added, "known": known }));
    }
    key::note(format_args!("{added} added, {known} were in already"));
    Ok(())
}

fn list(rows: &[Enlisted], json: bool) -> Result<(), Error> {
    if json {
        return rows.iter().try_for_each(|known| print(row(known)));
    }
    let mut text = String::from("AGI      AVT      NEXT KEY              ADDRESS");
    for row in rows {
        let word = |interval: Duration, own: Option<Duration>| {
            format!("{}{}", format_duration(interval), if own.is_some() { "" } else { "*" })
                .replace("days", "d")
                .replace("day", "d")
        };
        let (agi, avt) = (word(row.agi, row.own.agi), word(row.avt, row.own.avt));
        text.push_str(&format!("\n{agi:<7}  {avt:<7}  {}  {}", key::text(row.due), row.address));
    }
    print(text)
}

fn row(row: &Enlisted) -> serde_json::Value {
    json!({
        "address": row.address, "agi": row.agi.as_secs(), "avt": row.avt.as_secs(), "own_agi": row.own.agi.is_some(),
        "own_avt": row.own.avt.is_some(), "created": key::text(row.created), "next_key": key::text(row.due),
    })
}

fn print(text: impl std::fmt::Display) -> Result<(), Error> {
    let mut out = output::out();
    writeln!(out, "{text}").and_then(|()| out.flush()).map_err(Error::Write)
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, Command, FromArgMatches as _};

    use super::*;

    fn parse(words: &str) -> Result<Args, clap::Error> {
        let command = Args::augment_args(Command::new("address").no_binary_name(true));
        Args::from_arg_matches(&command.try_get_matches_from(words.split(' '))?)
    }

    #[tokio::test]
    async fn exit_codes_say_whether_it_was_done_and_a_wrong_line_imports_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("addrauth.toml");
        let text = format!("state_dir = {:?}\n[authority]\ndomains = [\"example.com\"]\n", dir.path().join("state"));
        std::fs::write(&path, text).unwrap();
        let list = |name: &str, text: &str| {
            let file = dir.path().join(name);
            std::fs::write(&file, text).unwrap();
            file.display().to_string()
        };
        let good = list("good", "carol@example.com\ndave@example.com,2d,6d\n");
        let bad = list("bad", "erin@example.com\nfrank@other.example\n");
        let context = Context { config: Some(path), json: true };
        let [yes, no, unknown] = [exit::YES, exit::no(), exit::unknown()].map(|code| format!("{code:?}"));
        for (words, want) in [
            ("add alice@example.com bob@example.com --agi 2d --avt 4d", &yes),
            ("add eve@other.example", &no),
            ("add nonsense", &unknown),
            ("add alice@example.com --agi 1s", &unknown),
            (&format!("import {good}"), &yes),
            (&format!("import {bad}"), &unknown),
            ("import /nowhere/at/all", &unknown),
            ("set erin@example.com --avt 8d", &no),
            ("set dave@example.com --avt 8d --agi default", &yes),
            ("remove alice@example.com erin@example.com", &no),
            ("remove alice@example.com carol@example.com", &yes),
            ("list --domain other.example", &no),
            ("list", &yes),
        ] {
            let code = format!("{:?}", run(parse(words).unwrap(), &context).await);
            assert_eq!(&code, want, "{words}");
        }
        let authority = open(&context).await.unwrap();
        let left: Vec<_> = authority.enlisted(None).await.unwrap();
        let told: Vec<_> =
            left.iter().map(|row| (row.address.as_str(), row.own.agi, row.avt.as_secs() / 86_400)).collect();
        let two_days = Some(Duration::from_secs(2 * 86_400));
        assert_eq!(told, [("bob@example.com", two_days, 4), ("dave@example.com", None, 8)]);
        assert!(parse("set alice@example.com").is_err() && parse("add").is_err());
    }
}
