//! `addrauth policy`: the workshop of policy authors.

use std::path::PathBuf;
use std::process::ExitCode;

use addrauth::policy::rehearse::Unfit;
use clap::Subcommand;

use super::{Context, exit, trial};

mod build;
mod cases;
mod check;
mod lock;
mod toolchain;

/// Build, check and test delivery policies.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Build policies written in Rust into components.
    ///
    /// Writes DIR/NAME.wasm, and beside the directories components.lock: for each component the hash of its sources,
    /// its SHA-256 and the compiler. Needs a compiler for WebAssembly: `rustup target add wasm32-unknown-unknown`, or
    /// Debian's rustc-web, cargo-web, rust-web-src, rust-web-llvm and lld-22.
    Build {
        /// The policies' directories, each a crate; none: every crate in ./policies.
        dirs: Vec<PathBuf>,
        /// Change nothing: say whether the components belong to their sources.
        ///
        /// With the compiler that components.lock names, the octets are compared; with another one, the cases are run
        /// against both; without any, the hashes of the sources are compared.
        #[arg(long)]
        check: bool,
    },
    /// Say what a component is: its facts, its settings, and what is odd about it.
    Check {
        /// Component files, or directories that hold NAME.wasm.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Run a policy's cases (cases.toml beside it) in the sandbox.
    Test {
        /// Directories that hold NAME.wasm and cases.toml, or such component files; none: every one in ./policies.
        paths: Vec<PathBuf>,
    },
}

/// Does what the arguments say. Exit code 0: all is well, 1: it is not, 2: that could not be found out.
pub(crate) async fn run(args: Args, context: &Context) -> ExitCode {
    let json = context.json;
    // Compiling and running components blocks for seconds: not on the runtime's own threads.
    let done = tokio::task::spawn_blocking(move || match args.verb {
        Verb::Build { dirs, check } => build::run(&dirs, check, json, &trial()),
        Verb::Check { files } => check::run(&files, json, &trial()),
        Verb::Test { paths } => cases::run(&paths, json, &trial()),
    });
    match done.await {
        Ok(Ok(true)) => exit::YES,
        Ok(Ok(false)) => exit::no(),
        Ok(Err(e)) => {
            eprintln!("addrauth: {e}");
            exit::unknown()
        }
        Err(e) => {
            eprintln!("addrauth: {e}");
            exit::unknown()
        }
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
    #[error("there is no component {path}: `addrauth policy build` makes it")]
    NotBuilt { path: PathBuf },
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
    Policy(#[from] addrauth::policy::Error),
    #[error("{path} {why}")]
    Unfit { path: PathBuf, why: Unfit },
    #[error("{0}")]
    Setup(addrauth::policy::Refused),
}
