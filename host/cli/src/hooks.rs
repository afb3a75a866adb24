//! `addrauth hooks`: the mail servers that are registered, and a mail server played against any scanner.

use std::fmt::Write as _;
use std::process::ExitCode;

use addrauth::mta::hooks::Registry;
use clap::Subcommand;
use serde_json::json;

use super::{Context, exit, fail};

mod brought;
mod client;
mod conform;
mod draft01;
mod stalwart;
mod trying;

/// List the mail servers that are registered for hooks, take a registration back, or try a scanner.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the registrations of the dialect draft-01.
    List,
    /// Take a registration back. Its mail server registers again at its next message, unless its credential is gone as well.
    Revoke {
        /// The id, as `hooks list` prints it
        id: String,
    },
    Try(trying::Args),
}

/// Runs the verb.
pub(crate) async fn run(args: Args, context: &Context) -> ExitCode {
    match args.verb {
        Verb::List => list(context),
        Verb::Revoke { id } => revoke(&id, context),
        Verb::Try(args) => trying::run(args, context).await,
    }
}

fn registry(context: &Context) -> Result<Registry, String> {
    let config = context.read_config().map_err(|e| e.to_string())?;
    Ok(Registry::of(Some(config.state_dir.0)))
}

fn list(context: &Context) -> ExitCode {
    let listed = registry(context).and_then(|registry| registry.list().map_err(|e| e.to_string()));
    let all = match listed {
        Ok(all) => all,
        Err(error) => return fail(error),
    };
    if context.json {
        let all: Vec<_> = all
            .iter()
            .map(|one| {
                let (stages, form) = (&one.stages, &one.serialization);
                json!({ "id": one.id, "name": one.name, "version": one.version, "stages": stages, "serialization": form,
                        "created": one.created, "expires": one.expires })
            })
            .collect();
        println!("{:#}", json!(all));
        return exit::YES;
    }
    let mut text = String::new();
    for one in &all {
        let _ = writeln!(text, "{}  {}  {}  {}", one.id, one.shown(), one.stages.join(","), one.serialization);
    }
    print!("{text}");
    if all.is_empty() {
        println!("no mail server is registered");
    }
    exit::YES
}

fn revoke(id: &str, context: &Context) -> ExitCode {
    match registry(context).and_then(|registry| registry.revoke(id).map_err(|e| e.to_string())) {
        Ok(true) => {
            println!("{id} is taken back");
            exit::YES
        }
        Ok(false) => {
            println!("there is no registration {id}");
            exit::no()
        }
        Err(error) => fail(error),
    }
}
