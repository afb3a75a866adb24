//! `addrauth console`: the web console in the foreground, and the accounts of those who may use it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;

use addrauth::config::{self, Config, Limits};
use addrauth::daemon::apart;
use addrauth::files;
use addrauth::proto::address::{Address, Domain};
use addrauth::store::{self, AccountRow, Opening, Register, Role};
use addrauth_console::password::{self, BadPassword};
use addrauth_console::{Running, Start, Verbs};
use serde_json::json;
use zeroize::Zeroizing;

use super::daemon::notify::Supervisor;
use super::daemon::signals::{Signals, Wish};
use super::settings::Settings;
use super::{Context, database, exit, fail, trial};

/// Octets of a password's file.
const FILE: u64 = 4_096;
/// Characters of an account's name.
const NAME: usize = 64;

/// Run the web console for administrators and users
///
/// It listens where `[console]` says, on 127.0.0.1:8894 by default, beside a running `addrauth filter` and as the same user: its
/// databases are in the same `state_dir`. Users sign in by a link that is mailed to them, others by accounts of `addrauth console
/// user`. SIGHUP reads the configuration again, but for where it listens and how it mails. SIGTERM ends it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Say who may use the console by a password, and as what
    ///
    /// Works on console.db in `state_dir`, whether or not the console is running; what is done here counts at once. Run it as the
    /// user that the filter runs as, or as root.
    User {
        #[command(subcommand)]
        verb: User,
    },
}

#[derive(Debug, clap::Subcommand)]
enum User {
    /// Add an account; its password is asked for, or read from a file
    ///
    /// Exit code: 0 added, 1 there is one of this name or the password is not taken, 2 it could not be done.
    Add {
        /// The name to sign in by
        name: String,
        /// What it may do: admin everything, domain the mail of some domains, reader to look and change nothing, user his own mail
        #[arg(long, value_parser = role)]
        role: Role,
        /// For a domain's keeper a domain, which may be repeated; for a user his address
        #[arg(long = "for", value_name = "DOMAIN|ADDRESS")]
        scope: Vec<String>,
        /// The file that the password stands in, on its first line; - is the standard input
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
    },
    /// List the accounts; exit code 1: there are none
    List,
    /// Set another password, and end the sessions of before
    ///
    /// Exit code: 0 done, 1 there is no such account or the password is not taken, 2 it could not be done.
    Passwd {
        /// The account's name
        name: String,
        /// The file that the password stands in, on its first line; - is the standard input
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
    },
    /// Remove an account, and end its sessions
    ///
    /// Exit code: 0 done, 1 there is no such account, 2 it could not be done.
    Remove {
        /// The account's name
        name: String,
    },
}

fn role(word: &str) -> Result<Role, String> {
    Role::of_word(word).map_err(|_| "write admin, domain, reader or user".into())
}

/// Why a verb is not carried out.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Config(#[from] config::Error),
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error("there is no {}: the filter makes it when it first starts; is state_dir right?", .0.display())]
    NoFilter(PathBuf),
    #[error("{0:?} is no name of an account: write up to {NAME} letters, digits and . - _ @")]
    Name(String),
    #[error("an account {0:?} is there already: `addrauth console user passwd` sets its password")]
    Taken(String),
    #[error("there is no account {0:?}: `addrauth console user list` shows which there are")]
    NoAccount(String),
    #[error("there are {0} accounts: no more than that are kept")]
    Full(usize),
    #[error("{0}")]
    Scope(String),
    #[error(transparent)]
    Password(#[from] BadPassword),
    #[error("the two are not the same")]
    Differ,
    #[error("the password cannot be read: {0}. --password-file names a file that it stands in")]
    Unread(String),
}

impl Error {
    fn is_no(&self) -> bool {
        let refused =
            matches!(self, Error::Taken(_) | Error::NoAccount(_) | Error::Full(_) | Error::Scope(_) | Error::Name(_));
        refused || matches!(self, Error::Password(_) | Error::Differ)
    }
}

impl Args {
    /// Whether it serves until it is told to stop.
    pub(crate) fn serves(&self) -> bool {
        self.verb.is_none()
    }
}

/// Runs the verb; to serve it needs `signals`.
pub(crate) async fn run(args: Args, context: &Context, signals: Option<Signals>) -> ExitCode {
    match (args.verb, signals) {
        (None, Some(signals)) => match serve(context, signals).await {
            Ok(()) => exit::YES,
            Err(error) => fail(error),
        },
        (None, None) => exit::unknown(),
        (Some(Verb::User { verb }), _) => match accounts(verb, context).await {
            Ok(code) => code,
            Err(error) => {
                exit::complain(&error);
                if error.is_no() { exit::no() } else { exit::unknown() }
            }
        },
    }
}

async fn serve(context: &Context, mut signals: Signals) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let supervisor = Supervisor::from_environment();
    let own = context.clone();
    let mut settings = apart(async move { Settings::read(&own) }).await??;
    let verbs = verbs(context);
    let start = Start {
        config: settings.config.clone(),
        limits: Arc::new(Limits::default()),
        trial: trial(),
        verbs: Some(verbs),
    };
    let running = tokio::select! {
        biased;
        name = signals.stop() => {
            tracing::info!("{name} came before the start was over");
            return Ok(());
        }
        started = Running::start(start) => started?,
    };
    for place in running.listening() {
        tracing::info!("the console listens on {place}");
    }
    supervisor.ready().await;
    loop {
        let is_watched = supervisor.watchdog().map(|time| time / 2);
        let fed = async {
            match is_watched {
                Some(time) => tokio::time::sleep(time).await,
                None => std::future::pending().await,
            }
        };
        let wish = tokio::select! {
            biased;
            wish = signals.next() => wish,
            () = running.edited() => Wish::Reload,
            () = fed => {
                supervisor.alive().await;
                continue;
            }
        };
        match wish {
            Wish::Stop(_) => break,
            Wish::Reload => {
                supervisor.reloading().await;
                let (own, old) = (context.clone(), settings.clone());
                match apart(async move { old.next(&own) }).await? {
                    Ok(next) => {
                        running.reload(next.config.clone()).await;
                        settings = next;
                        tracing::info!("reloaded: the next page is by the new configuration");
                    }
                    Err(error) => tracing::error!("not reloaded, the old configuration stays in force: {error}"),
                }
                supervisor.ready().await;
            }
        }
    }
    tracing::info!("stopping: pages under way come to their end");
    supervisor.stopping().await;
    running.stop().await;
    Ok(())
}

/// How this program is run for a page: by itself, also where its file was replaced since it started.
fn verbs(context: &Context) -> Verbs {
    let config = context.config.as_ref().map(|path| path.display().to_string());
    let arguments = config.into_iter().flat_map(|path| ["--config".to_owned(), path]).collect();
    Verbs { program: "/proc/self/exe".into(), arguments }
}

async fn accounts(verb: User, context: &Context) -> Result<ExitCode, Error> {
    let config = context.read_config()?;
    let place = database(&config);
    if !store::is_there(&place)? {
        return Err(Error::NoFilter(place));
    }
    let opening = Opening { busy: Limits::default().store.busy_command, readers: 1 };
    let register = Register::open(&config.state_dir.0, opening).await?;
    let done = carry_out(verb, &register, &config, context.json).await;
    register.close().await;
    done
}

async fn carry_out(verb: User, register: &Register, config: &Config, json: bool) -> Result<ExitCode, Error> {
    let now = SystemTime::now();
    match verb {
        User::Add { name, role, scope, password_file } => {
            let name = checked(name)?;
            let scope = scoped(role, &scope, config)?;
            let most = Limits::default().console.accounts;
            if register.accounts().await?.len() >= most {
                return Err(Error::Full(most));
            }
            if register.account(&name).await?.is_some() {
                return Err(Error::Taken(name));
            }
            let password = password::hash(&secret(password_file.as_deref())?)?;
            let account = AccountRow { name: name.clone(), role, scope, password };
            if !register.add_account(&account, now).await? {
                return Err(Error::Taken(name));
            }
            told(json, &account, "added");
        }
        User::List => {
            let all = register.accounts().await?;
            for account in &all {
                told(json, account, "");
            }
            if all.is_empty() {
                eprintln!("there is no account: `addrauth console user add NAME --role admin` makes one");
                return Ok(exit::no());
            }
        }
        User::Passwd { name, password_file } => {
            let account = register.account(&name).await?.ok_or(Error::NoAccount(name))?;
            let password = password::hash(&secret(password_file.as_deref())?)?;
            register.set_password(&account.name, &password, now).await?;
            told(json, &account, "has another password");
        }
        User::Remove { name } => {
            let account = register.account(&name).await?.ok_or(Error::NoAccount(name))?;
            register.remove_account(&account.name).await?;
            told(json, &account, "removed");
        }
    }
    Ok(exit::YES)
}

fn told(json: bool, account: &AccountRow, done: &str) {
    let AccountRow { name, role, scope, .. } = account;
    if json {
        println!("{}", json!({ "name": name, "role": role.word(), "for": scope }));
        return;
    }
    let of = if scope.is_empty() { String::new() } else { format!(" for {}", scope.join(", ")) };
    let done = if done.is_empty() { String::new() } else { format!(": {done}") };
    println!("{name} ({}{of}){done}", role.word());
}

fn checked(name: String) -> Result<String, Error> {
    let good = |c: char| c.is_ascii_alphanumeric() || ".-_@".contains(c);
    let fits = !name.is_empty() && name.len() <= NAME && name.chars().all(good);
    if fits { Ok(name) } else { Err(Error::Name(name)) }
}

/// What an account is for, in the form in which it is kept.
fn scoped(role: Role, scope: &[String], config: &Config) -> Result<Vec<String>, Error> {
    let wrong = |text: &str| Error::Scope(text.to_owned());
    match (role, scope) {
        (Role::Admin | Role::Reader, []) => Ok(Vec::new()),
        (Role::Admin | Role::Reader, _) => Err(wrong("an admin and a reader are for the whole site: leave --for out")),
        (Role::Domain, []) => Err(wrong("say for which domains: --for example.com")),
        (Role::Domain, domains) => domains
            .iter()
            .map(|text| {
                let domain = Domain::parse_full(text).map_err(|_| Error::Scope(format!("{text:?} is no domain")))?;
                let is_ours = config.final_domains.contains(&domain);
                if is_ours {
                    Ok(domain.to_string())
                } else {
                    Err(Error::Scope(format!("{domain} is in none of final_domains")))
                }
            })
            .collect(),
        (_, [one]) => {
            let address = Address::parse(one.as_bytes(), true);
            let address = address.map_err(|_| Error::Scope(format!("{one:?} is no address: write bob@example.com")))?;
            if !config.final_domains.contains(address.domain()) {
                return Err(Error::Scope(format!("{address} is in none of final_domains")));
            }
            Ok(vec![address.mailbox().into()])
        }
        (_, _) => Err(wrong("say whose mail: --for bob@example.com")),
    }
}

/// The password, by a terminal that shows nothing of it, or from a file.
fn secret(file: Option<&std::path::Path>) -> Result<Zeroizing<String>, Error> {
    let unread = |fault: String| Error::Unread(fault);
    if let Some(file) = file {
        let octets = files::read_given(file, FILE).map_err(|fault| unread(fault.to_string()))?;
        let text = Zeroizing::new(files::text(octets).map_err(|fault| unread(fault.to_string()))?);
        return Ok(Zeroizing::new(text.lines().next().unwrap_or_default().to_owned()));
    }
    let ask = |prompt: &str| rpassword::prompt_password(prompt).map(Zeroizing::new);
    let first = ask("Password: ").map_err(|fault| unread(fault.to_string()))?;
    let again = ask("Once more: ").map_err(|fault| unread(fault.to_string()))?;
    if *first == *again { Ok(first) } else { Err(Error::Differ) }
}
