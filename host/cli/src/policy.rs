//! `addrauth policy`: the workshop of policy authors.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use addrauth::case::{KeyStatus, Why};
use addrauth::config::Limits;
use addrauth::policy::rehearse::{BadCases, Change, Lost, Malformed, TooWide, Uncountable, Unfit, reasons_of};
use addrauth::proto::record::Claim;
use addrauth::store;
use clap::Subcommand;

use super::{Context, exit, trial};

mod bench;
mod build;
mod cases;
mod check;
mod diff;
mod export;
mod join;
mod lock;
mod mail;
mod named;
mod new;
mod pin;
mod promote;
mod prove;
mod replay;
mod run;
mod shadow;
mod sign;
mod table;
mod test;
mod toolchain;

/// Begin, build, check, try and compare delivery policies.
///
/// A POLICY is a directory that holds NAME.wasm, or rules as text in NAME.toml; a component file, the id of a policy that ships or that the configuration names,
/// or how the SHA-256 of one of these begins (6 digits at least).
///
/// Exit codes: 0 good, 1 a finding (a case fails, a property does not hold, something changes), 2 could not tell.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Begin a policy of your own: a folder with the policy, its cases and a page that explains it.
    ///
    /// It needs nothing of addrauth's sources. What it writes passes its cases at once; the next three commands are printed. A folder that
    /// is there already is left alone.
    New(new::Options),
    /// Build policies into components.
    ///
    /// Writes DIR/NAME.wasm and components.lock: for each component the hash of its sources, its SHA-256 and the compiler. The lock file
    /// lies in the directory, or beside it where a workspace holds several. Needs a compiler for WebAssembly. Rust: `rustup target add
    /// wasm32-unknown-unknown`, or Debian's rustc-web, cargo-web, rust-web-src, rust-web-llvm and lld-22. C: zig, also PyPI's ziglang, or clang
    /// with wasm-ld. JavaScript: npm's
    /// componentize-qjs; Python: PyPI's componentize-py. Both link a component from many modules, of which this makes one.
    ///
    /// It runs what stands in the folder (cargo and its build scripts, .venv, node_modules) with your rights: build only what you would
    /// run. `policy check` and `policy test` run nothing of a policy but its component, in the sandbox.
    Build {
        /// The policies' directories, each a crate or a folder of `policy new`; none: every crate in ./policies.
        dirs: Vec<PathBuf>,
        /// Leave component and lock file alone: say whether the components belong to their sources.
        ///
        /// With the compiler that components.lock names, the octets are compared; with another one, the cases are run
        /// against both; without any, the hashes of the sources are compared.
        #[arg(long)]
        check: bool,
    },
    /// Say what a component is: its facts, its settings, what is odd about it.
    ///
    /// What is odd has an id, such as P012: `addrauth policy explain P012` says more. Exit code 1: something is to be put right.
    Check {
        /// Policies.
        #[arg(required = true, value_name = "POLICY")]
        policies: Vec<String>,
        #[command(flatten)]
        set: Set,
    },
    /// Explain a finding of `policy check`: its cause, an example, the way out.
    Explain {
        /// The id, such as P012; none: all, each in a line.
        id: Option<String>,
    },
    /// Decide a message in a file, and say what the mail server would be told. Nothing is sent and nothing is kept.
    ///
    /// From, trail, header fields and what trusted servers found stand in the message; the rest is said by options.
    Run(run::Options),
    /// Run a policy's cases (cases.toml beside it) in the sandbox.
    ///
    /// A failure shows expected and actual side by side with file and line. A case that gives a fact which the policy does not see
    /// fails, since it tests nothing.
    Test(test::Options),
    /// Print all that a policy decides, as few rows as it takes.
    Table {
        /// The policy.
        #[arg(required_unless_present = "bindings")]
        policy: Option<String>,
        /// All that the configuration binds, instead of one policy; for mail to this recipient where one is named.
        #[arg(long, value_name = "RECIPIENT", num_args = 0..=1, default_missing_value = "", value_parser = recipient,
              conflicts_with_all = ["policy", "set"])]
        bindings: Option<String>,
        /// As Markdown.
        #[arg(long, conflicts_with = "csv")]
        markdown: bool,
        /// As comma-separated values.
        #[arg(long)]
        csv: bool,
        #[command(flatten)]
        set: Set,
    },
    /// Write a policy for a host that takes no components: a core module with a C header, or JavaScript.
    ///
    /// `core`: NAME.core.wasm, which imports nothing, and addrauth_policy.h, which says what it exports. `js`: policy.js and its core module,
    /// made by npm's jco (of ./node_modules or PATH, else by npx), and decide.mjs, which decides one message.
    Export {
        /// The policy.
        policy: String,
        /// The form.
        #[arg(long = "as", value_name = "FORM")]
        form: export::Form,
        /// The folder that is made; else NAME-core or NAME-js.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Prove properties of a policy over all facts, or print a counterexample as a case.
    ///
    /// Properties: never-errors; never "DECISION [when FACT=VALUE and …]"; only "DECISION when …"; always "DECISION [when …]";
    /// monotone (a worse result is never treated less strictly); and `prove equivalent A B`, `prove implies A B` (B lets through all
    /// that A lets through). DECISION: accept, mark, quarantine, reject, defer or error, joined by `or`, with `, tell nobody`,
    /// `, tell the sender`, `, tell the recipient` or `, tell both`. FACT: result, why, claim, trail, spf, dkim, dmarc, last-valid,
    /// sender, recipient, envelope-sender, client, client-name, helo, tls, size, or a field such as Subject: with its colon. Without
    /// properties: those that are asked of every policy.
    #[command(
        after_help = "Examples:\n  addrauth policy prove missing-direct never \"reject when result=valid\"\n  addrauth policy \
                            prove ./mine only \"defer when result=unverified\" monotone\n  addrauth policy prove --bindings -- \
                            never \"reject, tell nobody when why!=wrong\""
    )]
    Prove {
        /// The policy and its properties.
        #[arg(value_name = "POLICY PROPERTY")]
        words: Vec<String>,
        /// All that the configuration binds, instead of one policy; for mail to this recipient where one is named.
        #[arg(long, value_name = "RECIPIENT", num_args = 0..=1, default_missing_value = "", value_parser = recipient,
              conflicts_with = "set")]
        bindings: Option<String>,
        /// Ask about every combination where a probe would take values for one: up to 5,000,000, in two minutes at most.
        #[arg(long)]
        exhaustive: bool,
        #[command(flatten)]
        set: Set,
    },
    /// Say what changes where one policy takes the place of another: stricter, looser or sideways.
    ///
    /// accept < mark < quarantine < reject. A deferral is beside all of them, and so is telling others. Exit code 1: there is a
    /// change, or with --fail-on one of that kind.
    Diff(diff::Options),
    /// Check a candidate, hold it to its cases, and put it beside its policy (policies.ID.shadow), where it decides and is only recorded.
    ///
    /// It goes where policies.ID.shadow names a file of its kind, else to ID.next.wasm or ID.next.toml in policy.dir, and then the
    /// configuration is edited. Nothing is put, exit code 1, where the filter would refuse it, where `policy check` finds something to be put
    /// right, or where a case fails: its own, else one of the policy in force. What is in force stays in force: `policy promote` changes
    /// that. The command for the filter's next reload is printed. Run it as one who may write there.
    Shadow(shadow::Options),
    /// Put the candidate of a policy (policies.ID.shadow) in its place.
    ///
    /// It reads in the journal what the candidate decided beside the policy, each of them exactly as it is now, and refuses, exit code 1,
    /// with counts and examples where that is too little, where too much changes or something that may not, or where the candidate
    /// failed. Else it keeps both components by their digests, and the configuration as ADDRAUTH.TOML.before-ID-…, and edits [policies.ID]
    /// in the configuration: module, settings of a text, sha256 where it is set; shadow goes. That is one rename, and the filter obeys
    /// with its next reload, whose command is printed. Run it as one who may write both.
    Promote(promote::Options),
    /// Take the last promotion of a policy back.
    ///
    /// [policies.ID] is again what it was before, its candidate included; the rest of the configuration stays as it is.
    Rollback {
        /// The policy's id.
        id: String,
    },
    /// Decide recorded mail of the journal again by a candidate: what would have become of it.
    ///
    /// The worst changes come first. A decision whose row lacks a fact that the candidate wants could not be told; the rows keep
    /// what the policy of then asked for. Exit code 1: something changes, 2: more than --may-lack could not be told.
    Replay(replay::Options),
    /// Time a policy's decisions, each on a fresh instance, beside its limits.
    Bench {
        /// The policy.
        policy: String,
        /// How many decisions, 1000000 at most.
        #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = decisions)]
        decisions: usize,
        #[command(flatten)]
        set: Set,
    },
    /// Write into the configuration which component each policy has: `policies.ID.sha256`.
    ///
    /// A filter refuses another component then. Every other line of the file stays as it is; nothing is written where the filter would
    /// not load with it. Reload the filter afterwards.
    Pin(pin::Options),
    /// Make a pair of keys for `policy sign`, as minisign does.
    Keygen(sign::Keygen),
    /// Sign a component for those who trust the key (`policy.trusted_keys`): FILE.wasm.minisig is written beside it.
    ///
    /// The signature is minisign's, and names the policy (the file's name up to its first dot) and the version that the component calls
    /// itself. A filter takes neither a renamed file by it nor an older version than it had. Text of `rules` is
    /// configuration, and cannot be signed.
    #[command(disable_version_flag = true)]
    Sign(sign::Signing),
    /// Say who signed a component, and as what.
    ///
    /// Exit code 1: nobody who is trusted, or as something else; for an id of the configuration also where a newer version was
    /// in force here.
    Verify(sign::Verifying),
}

/// Settings above those of the configuration.
#[derive(Debug, clap::Args)]
struct Set {
    /// A setting: a TOML value, or a text as it stands.
    #[arg(long = "set", value_name = "NAME=VALUE")]
    set: Vec<Setting>,
}

/// A setting on the command line.
#[derive(Clone, Debug)]
struct Setting(String, toml::Value);

impl FromStr for Setting {
    type Err = String;

    fn from_str(text: &str) -> Result<Setting, String> {
        let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
        let read = toml::from_str::<toml::Table>(&format!("value = {value}")).ok();
        let value = read.and_then(|mut table| table.remove("value"));
        let text = || toml::Value::String(text.split_once('=').map(|(_, value)| value).unwrap_or_default().to_owned());
        Ok(Setting(name.trim().to_owned(), value.unwrap_or_else(text)))
    }
}

/// A word of a kind of change.
fn change(word: &str) -> Result<Change, String> {
    let known = Change::ALL.into_iter().find(|change| change.word() == word);
    known.ok_or_else(|| format!("write {}", Change::ALL.map(Change::word).join(", ")))
}

/// An address: `local@domain`.
fn address(text: &str) -> Result<String, String> {
    let bare = text.strip_prefix('<').and_then(|text| text.strip_suffix('>')).unwrap_or(text);
    match bare.rsplit_once('@') {
        Some((local, domain)) if !local.is_empty() && !domain.is_empty() => Ok(bare.to_owned()),
        _ => Err("it is no address: write LOCAL@DOMAIN".into()),
    }
}

/// The recipient of `--bindings`; nothing stands for everybody.
fn recipient(text: &str) -> Result<String, String> {
    let way = "it is no address. Write --bindings=LOCAL@DOMAIN for a recipient, or --bindings -- PROPERTY where a property follows";
    if text.is_empty() { Ok(String::new()) } else { address(text).map_err(|_| way.to_owned()) }
}

/// How many decisions are timed.
fn decisions(text: &str) -> Result<usize, String> {
    let most = Limits::default().policy.timed;
    let number = text.parse().ok().filter(|number| (1..=most).contains(number));
    number.ok_or_else(|| format!("write a number from 1 to {most}"))
}

/// A result with its reason: `invalid:expired`.
fn result(text: &str) -> Result<(KeyStatus, Option<Why>), String> {
    let (status, why) = text.split_once(':').map_or((text, None), |(status, why)| (status, Some(why)));
    let known = KeyStatus::ALL.into_iter().find(|known| known.word() == status);
    let known = known.ok_or_else(|| format!("write {}", KeyStatus::ALL.map(KeyStatus::word).join(", ")))?;
    let Some(why) = why else { return Ok((known, None)) };
    let reasons = reasons_of(known);
    let word = known.word();
    match reasons.iter().flatten().find(|reason| reason.word() == why) {
        Some(reason) => Ok((known, Some(*reason))),
        None if reasons.iter().all(Option::is_none) => Err(format!("{word} has no reason: write {word} alone")),
        None => {
            let reasons = reasons.iter().flatten().map(|reason| format!("{word}:{}", reason.word()));
            Err(format!(
                "the filter never gives this reason with {word}: write {}",
                reasons.collect::<Vec<_>>().join(", ")
            ))
        }
    }
}

/// A claim by its word.
fn claim(text: &str) -> Result<Claim, String> {
    serde_json::from_value(text.into()).map_err(|e| e.to_string())
}

/// An address of a client.
fn client(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| "write an IP address".to_owned())
}

/// Does what the arguments say. Exit code 0: all is well, 1: it is not, 2: that could not be found out.
pub(crate) async fn run(args: Args, context: &Context) -> ExitCode {
    let context = context.clone();
    // Compiling and running components blocks for seconds: not on the runtime's own threads.
    let done = tokio::task::spawn_blocking(move || {
        let (json, workshop) = (context.json, named::Workshop::new(&context));
        match args.verb {
            Verb::New(options) => new::run(&options, json).map(Told::is),
            Verb::Build { dirs, check } => build::run(&dirs, check, json, &trial()).map(Told::is),
            Verb::Check { policies, set } => check::run(&workshop, &policies, &set.set, json).map(Told::is),
            Verb::Explain { id } => check::explain(id.as_deref(), json).map(Told::is),
            Verb::Run(options) => run::run(&workshop, &options, json).map(Told::is),
            Verb::Test(options) => test::run(&workshop, &options, json),
            Verb::Table { policy, bindings, markdown, csv, set } => {
                let form = table::Form::of(json, markdown, csv)?;
                table::run(&workshop, policy.as_deref(), bindings.as_deref(), form, &set.set)
            }
            Verb::Export { policy, form, out } => export::run(&workshop, &policy, form, out, json).map(Told::is),
            Verb::Prove { words, bindings, exhaustive, set } => {
                let workshop = if exhaustive { workshop.exhaustive() } else { workshop };
                prove::run(&workshop, &words, bindings.as_deref(), &set.set, json)
            }
            Verb::Replay(options) => replay::run(&workshop, &options, json),
            Verb::Bench { policy, decisions, set } => bench::run(&workshop, &policy, decisions, &set.set, json),
            Verb::Pin(options) => pin::run(&workshop, &options, json),
            Verb::Keygen(options) => sign::keygen(&options, json).map(Told::is),
            Verb::Sign(options) => sign::run(&workshop, &options, json).map(Told::is),
            Verb::Verify(options) => sign::verify(&workshop, &options, json),
            Verb::Diff(options) => diff::run(&workshop, &options, json),
            Verb::Shadow(options) => shadow::run(&workshop, &context, &options, json),
            Verb::Promote(options) => promote::run(&workshop, &context, &options, json),
            Verb::Rollback { id } => promote::rollback(&context, &id, json),
        }
    });
    match done.await {
        Ok(Ok(Told::Good)) => exit::YES,
        Ok(Ok(Told::Finding)) => exit::no(),
        Ok(Ok(Told::Unknown)) => exit::unknown(),
        Ok(Err(e)) => exit::fail(e),
        Err(e) => exit::fail(e),
    }
}

/// How a verb came out. Of several outcomes the last of these counts; `replay` alone lets what could not be told go before a
/// finding, since a matrix that lacks rows is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Told {
    Good,
    Unknown,
    Finding,
}

impl Told {
    fn is(good: bool) -> Told {
        if good { Told::Good } else { Told::Finding }
    }
}

/// Why a verb of the workshop could not tell.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("cannot write {path}: {source}")]
    Write { path: PathBuf, source: std::io::Error },
    #[error("{path}: {text}")]
    Syntax { path: PathBuf, text: String },
    #[error("there is no policy in ./policies: name a directory")]
    Nothing,
    #[error("{0} is no crate of a policy: there is no Cargo.toml in it that cargo can read")]
    NoCrate(PathBuf),
    #[error(
        "{dir} takes keys from a workspace, and there is no workspace around it. Write them out in its Cargo.toml (version = \"0.1.0\", \
         edition = \"2024\", addrauth-policy = {{ path = \"…/guest\" }}, and an empty [workspace]). cargo says: {text}"
    )]
    NoWorkspace { dir: PathBuf, text: String },
    #[error("cannot run {program}: {source}")]
    Run { program: String, source: std::io::Error },
    #[error("{program} failed: {text}")]
    Failed { program: String, text: String },
    #[error("{name} cannot become a component: {text}")]
    Encode { name: String, text: String },
    #[error(
        "no compiler for WebAssembly is installed. Either `rustup target add wasm32-unknown-unknown`, or on Debian \
         `apt-get install --no-install-recommends rustc-web cargo-web rust-web-src rust-web-llvm lld-22`"
    )]
    NoToolchain,
    #[error("{0}")]
    New(#[from] new::Error),
    #[error("{0}")]
    Policy(#[from] addrauth::policy::Error),
    #[error("{0}")]
    Lost(#[from] Lost),
    #[error("{0}")]
    Config(#[from] addrauth::config::Error),
    #[error("{0}")]
    Cases(#[from] BadCases),
    #[error("{0}")]
    Property(#[from] Malformed),
    #[error("{0}")]
    Wide(#[from] TooWide),
    #[error("{0}")]
    Uncountable(#[from] Uncountable),
    #[error("what users chose cannot be read: {0}")]
    Choices(store::Error),
    #[error("--json is one form and {0} is another: write one of them")]
    TwoForms(&'static str),
    /// Lines are counted as the texts of the setting.
    #[error("{} is refused, settings.rules: {text}", file.display())]
    Text { file: PathBuf, text: String },
    #[error("{name} does not take its settings: {text}. Set them with --set NAME=VALUE")]
    Settings { name: String, text: String },
    #[error(
        "there are no cases beside {0}: write cases.toml; `addrauth policy test --coverage` prints some to begin with"
    )]
    NoCases(String),
    #[error("no finding has the id {0}: `addrauth policy explain` lists them")]
    NoFinding(String),
    #[error("{0}")]
    Unmoved(Box<promote::Unmoved>),
    #[error("{0}")]
    Unput(Box<shadow::Unput>),
    #[error("policies.{0}.shadow names no candidate that can be loaded: `addrauth config check` says which and why")]
    NoCandidate(String),
    #[error("{0}")]
    Journal(#[from] crate::journal::Unread),
    #[error("{0}")]
    Mail(String),
    #[error("{path} {why}")]
    Unfit { path: PathBuf, why: Box<Unfit> },
    #[error("{0}")]
    Setup(addrauth::policy::Refused),
    #[error(
        "`{0}` is decided by a component that ships with this program: there is no file to pin or to sign (a text of rules is configuration)"
    )]
    Ships(String),
    #[error("{name} cannot be exported: {text}")]
    Export { name: String, text: String },
    #[error("{0} is there already: remove it, or name another folder by --out")]
    ExportThere(PathBuf),
    #[error("there is no npx: install Node.js with npm, which runs {jco}")]
    NoNpm { jco: &'static str },
    #[error("{0} was changed meanwhile: nothing is written")]
    Changed(PathBuf),
    #[error("{0} is there already, and a key is not written over")]
    KeyThere(PathBuf),
    #[error("{path}: {text}")]
    Key { path: PathBuf, text: String },
    #[error("{path} cannot be signed: {text}")]
    Unsigned { path: PathBuf, text: String },
    #[error("no key is trusted: set policy.trusted_keys, or name one by --key")]
    NoTrustedKeys,
    #[error("the password: {0}")]
    Password(&'static str),
    #[error("the terminal cannot be asked for the password: {0}. Name a file by --password-file")]
    NoTerminal(std::io::Error),
    #[error("{0}")]
    Secret(#[from] store::Error),
}

impl From<promote::Unmoved> for Error {
    fn from(why: promote::Unmoved) -> Error {
        Error::Unmoved(Box::new(why))
    }
}
