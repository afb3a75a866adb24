//! Parse the arguments, run the verb, tell by the exit code: 0 yes, 1 no, 2 could not tell.

#![forbid(unsafe_code)]

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use addrauth::cli::{
    Context, TRIAL_VERB, address, ask, authority, config, demo, doctor, filter, journal, key, keyring, policy,
    quarantine, record, report, store, user, why,
};
use addrauth::config::Limits;
use addrauth::policy::trial::answer;
use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

/// Address Authentication for e-mail: vouches for a single address, and lets a policy decide about mail that fails.
///
/// Try it first: `addrauth demo` shows every case on loopback, with nothing to set up.
///
/// Exit codes: 0 yes or done, 1 no, 2 could not tell. The log goes to standard error; ADDRAUTH_LOG sets its level, such as
/// `info` (the default), `debug` or `addrauth::verify=debug`.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, max_term_width = 100)]
struct Arguments {
    /// The configuration file [default: /etc/addrauth/addrauth.toml if it exists, else safe defaults]
    #[arg(long, short, global = true, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Print results as JSON
    #[arg(long, global = true)]
    json: bool,

    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Filter(filter::Args),
    Authority(authority::Args),
    Ask(ask::Args),
    Address(address::Args),
    Report(report::Args),
    Key(key::Args),
    Keyring(keyring::Args),
    Record(record::Args),
    Store(store::Args),
    Doctor(doctor::Args),
    Journal(journal::Args),
    Why(why::Args),
    Policy(policy::Args),
    Quarantine(quarantine::Args),
    User(user::Args),
    Config(config::Args),
    Demo(demo::Args),
    /// Compile the component on standard input under limits of this process's own, and say how it went.
    #[command(name = TRIAL_VERB, hide = true)]
    TryComponent,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Verb::TryComponent = arguments.verb {
        // Before there are threads or descriptors: its limits are for the whole process.
        return answer(&Limits::default());
    }
    let quiet = !matches!(arguments.verb, Verb::Filter(_) | Verb::Authority(_));
    if quiet && !matches!(arguments.verb, Verb::Key(_)) {
        // `addrauth … | head` ends quietly; a daemon outlives whoever reads its log, and a key that could
        // not be written has to be taken back.
        sigpipe::reset();
    }
    let level =
        EnvFilter::try_from_env("ADDRAUTH_LOG").unwrap_or_else(|_| EnvFilter::new(if quiet { "warn" } else { "info" }));
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(level)
        .with_writer(std::io::stderr)
        .with_ansi(colours)
        .with_target(false)
        .init();
    let context = Context { config: arguments.config, json: arguments.json };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("addrauth: cannot start: {error}");
            return ExitCode::from(2);
        }
    };
    runtime.block_on(async {
        match arguments.verb {
            Verb::Filter(args) => filter::run(args, &context).await,
            Verb::Authority(args) => authority::run(args, &context).await,
            Verb::Address(args) => address::run(args, &context).await,
            Verb::Report(args) => report::run(args, &context).await,
            Verb::Ask(args) => ask::run(args, &context).await,
            Verb::Journal(args) => journal::run(args, &context).await,
            Verb::Why(args) => why::run(args, &context).await,
            Verb::Doctor(args) => doctor::run(args, &context).await,
            Verb::Store(args) => store::run(args, &context).await,
            Verb::Record(args) => record::run(args, &context).await,
            Verb::Keyring(args) => keyring::run(args, &context).await,
            Verb::Key(args) => key::run(args, &context).await,
            Verb::Policy(args) => policy::run(args, &context).await,
            Verb::Quarantine(args) => quarantine::run(args, &context).await,
            Verb::User(args) => user::run(args, &context).await,
            Verb::Config(args) => config::run(args, &context).await,
            Verb::Demo(args) => demo::run(args, &context).await,
            Verb::TryComponent => ExitCode::from(2),
        }
    })
}
