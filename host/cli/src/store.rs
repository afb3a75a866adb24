//! `addrauth store`: where the AS's table and the keyring are, and their tables in PostgreSQL.

use std::process::ExitCode;

use serde_json::json;

use super::{Context, exit, fail};
use addrauth::config::{Config, Limits};
use addrauth::store::{self, CopiedTable, Error, Migrated, Opening, Status};

/// Where the AS's table and the keyring are, and their tables in PostgreSQL
///
/// Without `[store]` in the configuration both are SQLite files in `state_dir`, which are made and brought up to date by
/// themselves. With `store.url` they are tables in PostgreSQL, schema `addrauth`, which several hosts share; no daemon makes
/// or changes those.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Make the tables in PostgreSQL, or bring them up to date, and give the roles their rights
    ///
    /// Run it once before the first daemon starts, and after an upgrade that asks for it; with a login that owns the database
    /// or may create in it. Three roles get separate rights: addrauth_authority (the AS's tables, and to put keys into the
    /// keyring), addrauth_learn (the MX: to put keys into the keyring, never to read them), addrauth_stamp (the submission
    /// server: to read the keyring). Give each host a login of its own, such as
    /// `CREATE ROLE mx1 LOGIN IN ROLE addrauth_learn`. Where this login may not make roles, the SQL for somebody who may is
    /// printed. It may be run again at any time.
    ///
    /// Exit code: 0 done, 1 done but for the roles, 2 it could not be done.
    Migrate {
        /// Another URL than store.url: that of a login which may change tables
        #[arg(long, value_name = "URL")]
        url: Option<String>,
    },
    /// Copy the SQLite files of this host into PostgreSQL: for a site that grows beyond one machine
    ///
    /// Stop `addrauth authority` and `addrauth filter` first: what they write meanwhile is not copied. Then make the tables
    /// (`addrauth store migrate`), copy, set store.url, and start them again. All is copied, or nothing; the files stay as they
    /// are, and tables that hold anything already are refused. Where the Authentication Server moves to another host, take
    /// `post.key` of `state_dir` there too: it opens what is still to be sent; so with `keyring.key` and the host that stamps.
    ///
    /// Exit code: 0 done, 1 the tables are not empty, 2 it could not be done.
    Copy {
        /// Where to, instead of store.url
        #[arg(long, value_name = "URL")]
        to: Option<String>,
    },
    /// Say where the tables are, their schema's version, what this login may do, and what is in them
    ///
    /// Exit code: 0 they can be used, 1 they are not there or of another version, 2 it could not be told.
    Status,
}

/// Runs the verb.
pub(crate) async fn run(args: Args, context: &Context) -> ExitCode {
    let mut config = match context.read_config() {
        Ok(config) => config,
        Err(e) => return fail(e),
    };
    let opening = Opening { busy: Limits::default().store.busy_command, readers: 1 };
    match args.verb {
        Verb::Migrate { url } => {
            if let Some(url) = url {
                config.store.url = url;
            }
            migrate(&config, opening, context.json).await
        }
        Verb::Copy { to } => {
            if let Some(url) = to {
                config.store.url = url;
            }
            copy(&config, opening, context.json).await
        }
        Verb::Status => match store::status(&config, opening).await {
            Ok(status) => {
                let usable = status.is_usable();
                let text =
                    if context.json { json!({"usable": usable, "status": status}).to_string() } else { told(&status) };
                print(&text, if usable { exit::YES } else { exit::no() })
            }
            Err(e) => fail(e),
        },
    }
}

async fn migrate(config: &Config, opening: Opening, as_json: bool) -> ExitCode {
    if config.store.url.is_empty() {
        let place = config.state_dir.0.display();
        let text = format!(
            "store.url is empty: the tables are SQLite files in {place}, which are brought up to date when they are opened; \
             there is nothing to do"
        );
        return print(&if as_json { json!({"migrated": null, "note": text}).to_string() } else { text }, exit::YES);
    }
    match store::migrate(&config.store, opening).await {
        Ok(done) => {
            let code = if done.left.is_none() { exit::YES } else { exit::no() };
            print(&if as_json { json!({"migrated": done}).to_string() } else { carried_out(&done) }, code)
        }
        Err(e @ (Error::Postgres { .. } | Error::NoRight { .. })) => {
            fail(format_args!("{e}; making tables needs a login that owns the database or may create in it (--url)"))
        }
        Err(e) => fail(e),
    }
}

async fn copy(config: &Config, opening: Opening, as_json: bool) -> ExitCode {
    match store::copy(&config.state_dir.0, &config.store, opening).await {
        Ok(copied) if as_json => print(&json!({"copied": copied}).to_string(), exit::YES),
        Ok(copied) => {
            let line = |done: &CopiedTable| format!("{:>9}  {}", done.rows, done.table);
            let lines: Vec<String> = copied.iter().map(line).collect();
            let text = if lines.is_empty() { "there are no files to copy".into() } else { lines.join("\n") };
            print(&text, exit::YES)
        }
        Err(e @ Error::NotEmpty { .. }) => {
            fail(e);
            exit::no()
        }
        Err(e) => fail(e),
    }
}

fn carried_out(done: &Migrated) -> String {
    let Migrated { place, found, version, left } = done;
    let mut text = match *found {
        0 => format!("{place}: made, schema {version}"),
        found if found == *version => format!("{place}: schema {version}, up to date"),
        found => format!("{place}: brought from schema {found} to {version}"),
    };
    match left {
        None => text.push_str(
            "\nroles addrauth_authority, addrauth_learn and addrauth_stamp have their rights; give each host a login of its \
             own, such as\n  CREATE ROLE mx1 LOGIN IN ROLE addrauth_learn;",
        ),
        Some(sql) => {
            text.push_str("\nthis login may not make the roles; somebody who may has to run this in the same database:\n\n");
            text.push_str(sql.trim_end());
        }
    }
    text
}

fn told(status: &Status) -> String {
    let mut lines = vec![status.place.clone()];
    for schema in &status.schemas {
        let (of, version, known) = (&schema.of, schema.version, schema.known);
        lines.push(match version {
            0 if status.rights.is_none() => format!("{of}: not there yet, made when it is needed"),
            0 => format!("{of}: not there: `addrauth store migrate` makes it"),
            version if version == known => format!("{of}: version {version}"),
            version if version > known => {
                format!("{of}: version {version}, and this program knows up to {known}: upgrade it")
            }
            version if status.rights.is_none() => {
                format!("{of}: version {version}, brought to {known} when it is opened")
            }
            version => format!("{of}: version {version}, needed is {known}: run `addrauth store migrate`"),
        });
    }
    if let Some(rights) = &status.rights {
        lines.push(match rights.is_empty() {
            true => "rights of this login: none".into(),
            false => format!("rights of this login: {}", rights.join(", ")),
        });
    }
    let counts = [
        ("addresses that get keys in time", status.addresses),
        ("keys", status.keys),
        ("keys still to be sent to their addresses", status.owed),
        ("keys in the keyring", status.keyring),
    ];
    for (what, count) in counts {
        let count = count.map_or_else(|| "-".into(), |count| count.to_string());
        lines.push(format!("{count:>9}  {what}"));
    }
    lines.join("\n")
}

fn print(text: &str, code: ExitCode) -> ExitCode {
    println!("{text}");
    code
}
