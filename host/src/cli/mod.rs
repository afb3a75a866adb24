//! The command line: one file per verb.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::config::{Config, Error, Limits};
use crate::files;
use crate::policy::Trial;
use crate::store::{Error as StoreError, Ledger, Opening, is_there};

use daemon::settings::Settings;

// Those of the standard library panic where a stream cannot be written, and `eprintln!` waits for its reader. These are for every
// verb; they stand before the modules, and so count in them. In unit tests the usual ones leave capturing to the harness.
#[cfg(not(test))]
macro_rules! println {
    () => { $crate::cli::output::print(format_args!("\n")) };
    ($($words:tt)*) => { $crate::cli::output::line(format_args!($($words)*)) };
}
#[cfg(not(test))]
macro_rules! print {
    ($($words:tt)*) => { $crate::cli::output::print(format_args!($($words)*)) };
}
#[cfg(not(test))]
macro_rules! eprintln {
    ($($words:tt)*) => { $crate::cli::output::say(format_args!("{}\n", format_args!($($words)*))) };
}

pub mod address;
pub mod ask;
pub mod authority;
pub mod config;
pub mod daemon;
pub mod demo;
pub mod doctor;
pub mod filter;
pub mod journal;
pub mod key;
pub mod keyring;
pub mod output;
pub mod policy;
pub mod quarantine;
pub mod record;
pub mod report;
pub mod store;
pub mod user;
pub mod why;

/// What every verb is given besides its own arguments.
#[derive(Clone, Debug)]
pub struct Context {
    /// `--config FILE`; absent: /etc/addrauth/addrauth.toml where it exists, else the defaults.
    pub config: Option<PathBuf>,
    /// `--json`: results as JSON on standard output.
    pub json: bool,
}

/// The verb that tries a component, for this program alone: see [`trial()`].
pub const TRIAL_VERB: &str = "try-component";

/// How this program tries a component: it runs itself, also where its file was replaced since it started.
pub(crate) fn trial() -> Trial {
    Trial::by("/proc/self/exe", [TRIAL_VERB])
}

/// Where the configuration is looked for when nobody names one.
pub const CONFIG_FILE: &str = "/etc/addrauth/addrauth.toml";

impl Context {
    /// The configuration that `--config` names, or the installed one; the defaults where neither is there.
    ///
    /// An empty `hostname` becomes the system's.
    pub fn read_config(&self) -> Result<Config, Error> {
        Ok(Settings::read(self)?.config)
    }
}

/// Whether there is such a file; a configuration that cannot be looked at must not become the defaults.
fn there(path: &Path) -> Result<bool, Error> {
    files::is_there(path).map_err(|e| Error::Read { path: path.to_owned(), source: e.into() })
}

/// The same configuration, with the system's host name where it sets none.
fn named(mut config: Config) -> Config {
    if config.hostname.is_empty() {
        (config.hostname, config.hostname_assumed) = (hostname(), true);
    }
    config
}

/// The system's host name.
pub(crate) fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    if !name.is_empty() && name.chars().all(good) { name.into() } else { "localhost".into() }
}

/// The filter's database where there is one: whoever only looks makes none, or it would be his. Not to be allowed to look is
/// an error.
pub(crate) async fn ledger(config: &Config) -> Result<Option<Ledger>, StoreError> {
    let (dir, limits) = (&config.state_dir.0, Limits::default());
    if !is_there(&database(config))? {
        return Ok(None);
    }
    Ledger::open(dir, Opening { busy: limits.store_busy_command, readers: 1 }).await.map(Some)
}

/// Where the filter's database is.
pub(crate) fn database(config: &Config) -> PathBuf {
    config.state_dir.0.join("filter.db")
}

/// Says on standard error why a verb could not be carried out; exit code 2.
pub(crate) fn fail(error: impl std::fmt::Display) -> ExitCode {
    eprintln!("addrauth: {error}");
    exit::unknown()
}

/// The exit codes of every verb.
pub mod exit {
    use super::ExitCode;

    /// Done, or the answer is yes.
    pub const YES: ExitCode = ExitCode::SUCCESS;

    /// The answer is no: an invalid key, a case that failed, a configuration that is wrong.
    pub fn no() -> ExitCode {
        ExitCode::from(1)
    }

    /// Could not tell: what was needed to answer failed.
    pub fn unknown() -> ExitCode {
        ExitCode::from(2)
    }
}
