//! `addrauth config`: check the configuration, show what is in force, explain what it means for a recipient.

use std::process::ExitCode;

use super::{Context, exit, fail};
use addrauth::config::{Config, Error};

mod check;
mod explain;

/// Check, show or explain the configuration.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Read the configuration and do what the start of a daemon does with it, without making or taking anything
    ///
    /// Every policy component, text, certificate, key and table it names is read, the places to listen are tried, the state
    /// directory is looked at. Databases are not opened, and those of other hosts not connected to.
    ///
    /// Exit code: 0 a daemon starts with it, 1 none does, 2 this user may not look at everything that the daemon's may.
    Check,
    /// Print the configuration in force, defaults included, as TOML (or JSON with --json).
    Show {
        /// Print only the settings that differ from their defaults.
        #[arg(long)]
        changed: bool,
    },
    /// Tell what becomes of a recipient's mail: for each result the policy, whose word that is, and whose word loses
    ///
    /// A recipient's mail is treated by the first of: his own list of wanted senders, the administrator's line for him, his
    /// own choice, the line for his domain, and [policy].
    Explain {
        /// The recipient's address
        recipient: String,
        /// The address in the From field: whether it is on the recipient's list of wanted senders
        #[arg(long, value_name = "ADDRESS")]
        sender: Option<String>,
    },
}

/// Exit code 0: good; 1: refused, with the reason on standard error; 2: this user may not look.
pub(crate) async fn run(args: Args, context: &Context) -> ExitCode {
    let config = match context.read_config() {
        Ok(config) => config,
        Err(error) => return unread(&error),
    };
    match args.verb {
        Verb::Check => check::run(context, &config).await,
        Verb::Show { changed } => show(context, &config, changed),
        Verb::Explain { recipient, sender } => explain::run(context, &config, &recipient, sender.as_deref()).await,
    }
}

/// A configuration that this user may not read need not be wrong.
fn unread(error: &Error) -> ExitCode {
    let no = refused(&error.to_string());
    match error {
        Error::Read { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => exit::unknown(),
        _ => no,
    }
}

fn refused(error: &str) -> ExitCode {
    exit::complain(error);
    exit::no()
}

fn show(context: &Context, config: &Config, changed: bool) -> ExitCode {
    let default = Config { hostname: addrauth::config::system_hostname(), ..Config::default() };
    let (mut shown, default) = match (toml::Table::try_from(config), toml::Table::try_from(default)) {
        (Ok(shown), Ok(default)) => (shown, default),
        (Err(error), _) | (_, Err(error)) => return fail(error),
    };
    if changed {
        subtract(&mut shown, &default);
    }
    if context.json {
        println!("{}", serde_json::json!(shown));
    } else {
        print!("{shown}");
    }
    exit::YES
}

/// Removes from `shown` what is the same in `default`.
fn subtract(shown: &mut toml::Table, default: &toml::Table) {
    for (key, value) in default {
        let Some(ours) = shown.get_mut(key) else { continue };
        if let (Some(ours), Some(value)) = (ours.as_table_mut(), value.as_table()) {
            subtract(ours, value);
        }
        if ours == value || ours.as_table().is_some_and(toml::Table::is_empty) {
            shown.remove(key);
        }
    }
}
