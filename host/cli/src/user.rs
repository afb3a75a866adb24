//! `addrauth user`: what a user chose for his own mail, and whose mail he wants.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::json;

use super::{Context, exit, ledger};
use addrauth::case::Wish;
use addrauth::case::{By, KeyStatus, Recipient, Why};
use addrauth::config::{Config, Limits};
use addrauth::policy::{NotChosen, Policies};
use addrauth::proto::address::{Address, Reading};
use addrauth::store::{self, Ledger, OWN_RULES, Opening, UserRow};

mod refusal;
mod rules;

use refusal::{Error, of_ours, read, read_senders, read_wanted, result};

/// Choose policies for one user's own mail, and say whose mail he wants
///
/// Works on filter.db in `state_dir`, whether or not `addrauth filter` is running: what is done here counts from the next
/// message on. Run it as the user that the filter runs as. `addrauth config explain ADDRESS` shows what counts in the end.
///
/// Exit codes: 0 done; 1 refused, or there was nothing of that kind; 2 it could not be done, or something is no address.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Choose policies for an address, and how its marked mail is shown: all of it or, where one is refused, nothing
    ///
    /// RESULT is invalid, missing, none, unverified or unusable; POLICY is one of `policy.user_may`. Letter case and +tag of
    /// the address do not matter.
    Set {
        /// The address, of a domain in `final_domains`
        address: String,
        /// RESULT=POLICY, mark=header or mark=folder
        #[arg(required = true, value_name = "RESULT=POLICY")]
        choices: Vec<String>,
    },
    /// Give an address rules of its own, in words: they treat the results for which it chose nothing
    ///
    /// One rule a line, the first that matches decides, such as `when result is missing and sender is @bank.example: quarantine`
    /// and at the end `otherwise accept` (policies/rules/README.md is the grammar). It needs `policy.user_rules = true`. The rules
    /// decide nothing that no policy of `policy.user_may` does, and nothing milder than without them where the sender's own
    /// domain denies the message. They take the place of the rules of before.
    Rules {
        /// The address, of a domain in `final_domains`
        address: String,
        /// The file that they stand in; - is the standard input
        file: PathBuf,
    },
    /// Show what an address chose, and whose mail it wants; exit code 1: nothing
    Show {
        /// The address
        address: String,
    },
    /// Take choices back: those named (a RESULT, `mark` or `rules`); without a name all of them, and the list of wanted senders too
    Clear {
        /// The address
        address: String,
        /// What to take back
        #[arg(value_name = "RESULT")]
        names: Vec<String>,
    },
    /// Let a sender's mail pass to this address, except where the sender's own domain says that it is forged
    Allow {
        /// The address, of a domain in `final_domains`
        address: String,
        /// An address, or @domain for all of a domain (its subdomains are others)
        #[arg(required = true, value_name = "SENDER")]
        senders: Vec<String>,
    },
    /// Take senders off the list
    Disallow {
        /// The address
        address: String,
        /// The senders, as `addrauth user show` lists them
        #[arg(required = true, value_name = "SENDER")]
        senders: Vec<String>,
    },
    /// List the users who chose something; exit code 1: there are none
    List,
}

/// Runs the verb.
pub(crate) async fn run(args: Args, context: &Context) -> ExitCode {
    let done = match context.read_config() {
        Ok(config) => carry_out(args.verb, &config, context.json).await,
        Err(error) => Err(error.into()),
    };
    match done {
        Ok(true) => exit::YES,
        Ok(false) => exit::no(),
        Err(error) => {
            exit::complain(&error);
            error.code()
        }
    }
}

async fn carry_out(verb: Verb, config: &Config, json: bool) -> Result<bool, Error> {
    match verb {
        Verb::Set { address, choices } => set(config, &of_ours(config, &address)?, &choices, json).await,
        Verb::Rules { address, file } => rules::set(config, &of_ours(config, &address)?, &file, json).await,
        Verb::Show { address } => show(config, &read(&address)?, json).await,
        Verb::Clear { address, names } => clear(config, &read(&address)?, &names, json).await,
        Verb::Allow { address, senders } => allow(config, &of_ours(config, &address)?, &senders, json).await,
        Verb::Disallow { address, senders } => disallow(config, &read(&address)?, &senders, json).await,
        Verb::List => list(config, json).await,
    }
}

async fn set(config: &Config, address: &Address, choices: &[String], json: bool) -> Result<bool, Error> {
    let policies = load(config)?;
    let (mut pairs, mut wish) = (Vec::new(), Wish::default());
    for text in choices {
        let (name, value) = text.split_once('=').ok_or_else(|| NotChosen::Form(text.clone()))?;
        policies.check_choice(config, &address.mailbox(), (name, value), &mut wish)?;
        if pairs.iter().any(|(known, _)| *known == name) {
            return Err(Error::Twice(name.into()));
        }
        pairs.push((name, value));
    }
    let mailbox = address.mailbox();
    let ledger = open(config).await?;
    let written = ledger.choose_all(&mailbox, &pairs).await;
    ledger.close().await;
    written?;
    let lost = lost(&policies, address, &wish);
    if json {
        let chosen: serde_json::Map<_, _> = pairs.iter().map(|(name, value)| ((*name).into(), json!(value))).collect();
        println!("{}", json!({ "address": mailbox.as_str(), "chosen": chosen, "without_effect": lost }));
        return Ok(true);
    }
    for (name, value) in pairs {
        println!("{mailbox}: {name}={value}");
    }
    for name in lost {
        let line = format!("[policy.recipient.{:?}].{name}", mailbox.as_str());
        println!("note: the administrator's line {line} goes before this choice");
    }
    Ok(true)
}

/// The names of those choices that an administrator's line for the recipient goes before.
fn lost(policies: &Policies, address: &Address, wish: &Wish) -> Vec<&'static str> {
    let recipient = recipient(address);
    let chosen = wish.policies.keys().filter(|&&status| {
        let why = (status == KeyStatus::Invalid).then_some(Why::Wrong);
        policies.choose(&recipient, status, why, wish).by != By::User
    });
    let mut names: Vec<&str> = chosen.map(|status| status.word()).collect();
    if wish.mark.is_some() && policies.explain_mark(&recipient, wish).mark.0 != By::User {
        names.push("mark");
    }
    names
}

async fn show(config: &Config, address: &Address, json: bool) -> Result<bool, Error> {
    let mailbox = address.mailbox();
    let (mut choices, mut allowed): (BTreeMap<String, String>, Vec<String>) = Default::default();
    if let Some(ledger) = ledger(config).await? {
        (choices, allowed) = (ledger.choices(&mailbox).await?, ledger.allowed(&mailbox).await?);
        ledger.close().await;
    }
    let (mut idle, mut why_idle) = (Vec::new(), None);
    if !choices.is_empty() {
        let policies = load(config)?;
        idle = not_open(config, &policies, address, &choices);
        why_idle = choices.get(OWN_RULES).and_then(|own| rules::idle(&policies, own));
    }
    let any = !(choices.is_empty() && allowed.is_empty());
    if json {
        println!("{}", json!({ "address": mailbox.as_str(), "chosen": choices, "not_open": idle, "allowed": allowed }));
    } else if any {
        let mut text = String::new();
        for (name, value) in choices.iter().filter(|(name, _)| *name != OWN_RULES) {
            let mark = if idle.contains(&name.as_str()) { " (does not count: not open to users any more)" } else { "" };
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name}={value}{mark}");
        }
        for sender in &allowed {
            let _ = writeln!(text, "allow {sender}");
        }
        if let Some(own) = choices.get(OWN_RULES) {
            text.push_str(&rules::shown(own, why_idle.as_deref()));
        }
        print!("{text}");
    } else {
        eprintln!(
            "{mailbox} chose nothing: the administrator's policies count, see `addrauth config explain {mailbox}`"
        );
    }
    Ok(any)
}

fn load(config: &Config) -> Result<Policies, Error> {
    Ok(Policies::load(&config.policy, &config.policies, &Arc::new(Limits::default()), &super::trial())?)
}

/// The names of those choices that could not be made any more: their policies are not open to users, or folders have no
/// address.
fn not_open<'a>(
    config: &Config,
    policies: &Policies,
    address: &Address,
    choices: &'a BTreeMap<String, String>,
) -> Vec<&'a str> {
    let mut unused = Wish::default();
    let mut is_closed = |name: &str, value: &str| match name {
        OWN_RULES => policies.read_own_rules(value).is_none_or(|read| read.is_err()),
        name => policies.check_choice(config, &address.mailbox(), (name, value), &mut unused).is_err(),
    };
    let closed = choices.iter().filter(|(name, value)| is_closed(name, value));
    closed.map(|(name, _)| name.as_str()).collect()
}

async fn clear(config: &Config, address: &Address, names: &[String], json: bool) -> Result<bool, Error> {
    if let Some(name) =
        names.iter().find(|name| !["mark", OWN_RULES].contains(&name.as_str()) && result(name).is_none())
    {
        return Err(Error::Name(name.clone()));
    }
    let mailbox = address.mailbox();
    let (mut cleared, mut senders) = (0, 0);
    if let Some(ledger) = ledger(config).await? {
        if names.is_empty() {
            cleared = ledger.unchoose(&mailbox, None).await?;
            senders = ledger.disallow_all(&mailbox).await?;
        }
        for name in names {
            cleared += ledger.unchoose(&mailbox, Some(name)).await?;
        }
        ledger.close().await;
    }
    match (json, names) {
        (true, _) => println!("{}", json!({ "address": mailbox.as_str(), "cleared": cleared, "disallowed": senders })),
        (false, []) => {
            println!("{mailbox}: choices taken back: {cleared}; wanted senders taken off the list: {senders}");
        }
        (false, _) => println!("{mailbox}: choices taken back: {cleared}"),
    }
    Ok(cleared + senders > 0)
}

async fn allow(config: &Config, address: &Address, senders: &[String], json: bool) -> Result<bool, Error> {
    let (mailbox, senders) = (address.mailbox(), read_wanted(senders)?);
    let ledger = open(config).await?;
    let most = Limits::default().custody.allowed_per_user;
    let mut added = Vec::new();
    for sender in &senders {
        if ledger.allow(&mailbox, sender, most).await? {
            added.push(sender);
        }
    }
    ledger.close().await;
    match json {
        true => println!("{}", json!({ "address": mailbox.as_str(), "allowed": senders, "new": added })),
        false => senders.iter().for_each(|sender| println!("{mailbox}: allow {sender}")),
    }
    Ok(true)
}

async fn disallow(config: &Config, address: &Address, senders: &[String], json: bool) -> Result<bool, Error> {
    let (mailbox, senders) = (address.mailbox(), read_senders(senders)?);
    let mut gone = Vec::new();
    if let Some(ledger) = ledger(config).await? {
        for sender in &senders {
            if ledger.disallow(&mailbox, sender).await? {
                gone.push(sender);
            }
        }
        ledger.close().await;
    }
    match json {
        true => println!("{}", json!({ "address": mailbox.as_str(), "disallowed": gone })),
        false => println!("{mailbox}: {} of {} taken off the list", gone.len(), senders.len()),
    }
    Ok(!gone.is_empty())
}

/// Users printed at a time: what is held in memory stays small, however many there are.
const PAGE: u32 = 1_000;

async fn list(config: &Config, json: bool) -> Result<bool, Error> {
    let (mut last, mut policies) = (String::new(), None);
    if let Some(ledger) = ledger(config).await? {
        loop {
            let users = ledger.users(&last, PAGE).await?;
            let Some(end) = users.last() else { break };
            last.clone_from(&end.address);
            let policies = match &mut policies {
                Some(policies) => policies,
                none => none.insert(load(config)?),
            };
            for user in users {
                // What is no address was written by no version of ours, and is listed all the same.
                let idle = match read(&user.address) {
                    Ok(address) => {
                        let choices = ledger.choices(&address.mailbox()).await?;
                        not_open(config, policies, &address, &choices).len()
                    }
                    Err(_) => 0,
                };
                print_user(&user, idle, json);
            }
        }
        ledger.close().await;
    }
    if last.is_empty() {
        eprintln!("no user chose anything: the administrator's policies count");
    }
    Ok(!last.is_empty())
}

fn print_user(user: &UserRow, idle: usize, json: bool) {
    let UserRow { address, choices, allowed } = user;
    if json {
        println!("{}", json!({ "address": address, "choices": choices, "not_open": idle, "allowed": allowed }));
        return;
    }
    let mark = if idle > 0 { format!(" ({idle} not open to users any more)") } else { String::new() };
    println!("{address}: {choices} chosen{mark}, {allowed} allowed");
}

/// The address as RCPT would name it.
pub(super) fn recipient(address: &Address) -> Recipient {
    Recipient {
        path: format!("<{address}>").into_bytes(),
        reading: Reading::Mailbox(address.clone()),
        never_notify: false,
    }
}

/// The filter's database, which is made where only the directory is there: whoever made that is its owner.
async fn open(config: &Config) -> Result<Ledger, Error> {
    let (dir, limits) = (&config.state_dir.0, Limits::default());
    if !store::is_there(dir)? {
        return Err(Error::NoDirectory(dir.clone()));
    }
    Ok(Ledger::open(dir, Opening { busy: limits.store.busy_command, readers: 1 }).await?)
}

#[cfg(test)]
mod tests;
