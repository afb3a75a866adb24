//! Parse the arguments, run the verb, tell by the exit code: 0 yes, 1 no, 2 could not tell.

#![forbid(unsafe_code)]

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use addrauth::config::Limits;
use addrauth::policy::trial::answer;
use clap::{CommandFactory as _, Parser, Subcommand};
use tokio::runtime::Runtime;

// Those of the standard library panic where a stream cannot be written, and `eprintln!` waits for its reader. These are for every
// verb; they stand before the modules, and so count in them. In unit tests the usual ones leave capturing to the harness.
#[cfg(not(test))]
macro_rules! println {
    () => { $crate::output::print(format_args!("\n")) };
    ($($words:tt)*) => { $crate::output::line(format_args!($($words)*)) };
}
#[cfg(not(test))]
macro_rules! print {
    ($($words:tt)*) => { $crate::output::print(format_args!($($words)*)) };
}
#[cfg(not(test))]
macro_rules! eprintln {
    ($($words:tt)*) => { $crate::output::say(format_args!("{}\n", format_args!($($words)*))) };
}

mod address;
mod ask;
mod authority;
mod config;
mod console;
mod context;
mod daemon;
mod demo;
mod doctor;
mod exit;
mod filter;
mod hooks;
mod journal;
mod key;
mod keyring;
mod manual;
mod output;
mod policy;
mod quarantine;
mod record;
mod report;
mod settings;
mod store;
mod user;
mod warnings;
mod why;

use context::{CONFIG_FILE, Context, TRIAL_VERB, database, ledger, named, there, trial};
use daemon::log;
use daemon::signals::Signals;
use exit::fail;

/// A message makes hundreds of small allocations; tests/bench/README.md compares allocators.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Address Authentication for e-mail: vouches for a single address, and lets a policy decide about mail that fails.
///
/// Try it first: `addrauth demo` shows every case on loopback, with nothing to set up.
///
/// Exit codes: 0 yes or done, 1 no, 2 could not tell, or could not print it. The log goes to standard error; ADDRAUTH_LOG sets its
/// level, such as `info` (the default), `debug` or `addrauth::verify=debug`.
#[derive(Debug, Parser)]
#[command(name = "addrauth", version, propagate_version = true, max_term_width = 100)]
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
    Hooks(hooks::Args),
    Journal(journal::Args),
    Why(why::Args),
    Policy(policy::Args),
    Quarantine(quarantine::Args),
    User(user::Args),
    Console(console::Args),
    Config(config::Args),
    Demo(demo::Args),
    Man(manual::Pages),
    Completions(manual::Completions),
    /// Compile the component on standard input under limits of this process's own, and say how it went.
    #[command(name = TRIAL_VERB, hide = true)]
    TryComponent,
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(usage) => {
            sigpipe::reset();
            output::remember(usage.print());
            return output::finish(ExitCode::from(u8::try_from(usage.exit_code()).unwrap_or(2)));
        }
    };
    if let Verb::TryComponent = arguments.verb {
        // Before there are threads or descriptors: its limits are for the whole process.
        return answer(&Limits::default());
    }
    let daemon = match &arguments.verb {
        Verb::Filter(_) | Verb::Authority(_) => true,
        Verb::Console(args) => args.serves(),
        _ => false,
    };
    if !daemon && !matches!(arguments.verb, Verb::Key(_)) {
        // `addrauth … | head` ends quietly; a daemon outlives whoever reads its log, and a key that could
        // not be written has to be taken back.
        sigpipe::reset();
    }
    let runtime = match Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return cannot_start(&error),
    };
    let signals = match daemon.then(|| runtime.block_on(async { Signals::install() })).transpose() {
        Ok(signals) => signals,
        Err(error) => return cannot_start(&error),
    };
    if let Err(error) = log::install(daemon, std::io::stderr().is_terminal()) {
        return cannot_start(&error);
    }
    if arguments.json {
        exit::speak_json();
    }
    let context = Context { config: arguments.config, json: arguments.json };
    let code = runtime.block_on(perform(arguments.verb, &context, signals));
    if daemon {
        // What was begun on a thread of its own, such as a component that compiles, is not waited for.
        runtime.shutdown_background();
    }
    output::finish(code)
}

fn cannot_start(error: &std::io::Error) -> ExitCode {
    log::say(&format!("addrauth: cannot start: {error}\n"));
    output::finish(exit::unknown())
}

/// Runs a verb; a daemon has `signals`.
async fn perform(verb: Verb, context: &Context, signals: Option<Signals>) -> ExitCode {
    match (verb, signals) {
        (Verb::Filter(args), Some(signals)) => filter::run(args, context, signals).await,
        (Verb::Authority(args), Some(signals)) => authority::run(args, context, signals).await,
        (Verb::Filter(_) | Verb::Authority(_), None) | (Verb::TryComponent, _) => exit::unknown(),
        (Verb::Console(args), signals) => console::run(args, context, signals).await,
        (Verb::Address(args), _) => address::run(args, context).await,
        (Verb::Report(args), _) => report::run(args, context).await,
        (Verb::Ask(args), _) => ask::run(args, context).await,
        (Verb::Journal(args), _) => journal::run(args, context).await,
        (Verb::Why(args), _) => why::run(args, context).await,
        (Verb::Doctor(args), _) => doctor::run(args, context).await,
        (Verb::Store(args), _) => store::run(args, context).await,
        (Verb::Record(args), _) => record::run(args, context).await,
        (Verb::Keyring(args), _) => keyring::run(args, context).await,
        (Verb::Key(args), _) => key::run(args, context).await,
        (Verb::Policy(args), _) => policy::run(args, context).await,
        (Verb::Quarantine(args), _) => quarantine::run(args, context).await,
        (Verb::User(args), _) => user::run(args, context).await,
        (Verb::Hooks(args), _) => hooks::run(args, context).await,
        (Verb::Config(args), _) => config::run(args, context).await,
        (Verb::Demo(args), _) => demo::run(args, context).await,
        (Verb::Man(args), _) => manual::write_pages(&args, Arguments::command()),
        (Verb::Completions(args), _) => manual::print_completions(&args, Arguments::command()),
    }
}
