//! The command line: one file per verb.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::config;

pub mod ask;
pub mod authority;
pub mod demo;
pub mod key;
pub mod policy;

/// What every verb is given besides its own arguments.
#[derive(Clone, Debug)]
pub struct Context {
    /// `--config FILE`; absent: /etc/addrauth/addrauth.toml where it exists, else the defaults.
    pub config: Option<PathBuf>,
    /// `--json`: results as JSON on standard output.
    pub json: bool,
}

/// Where the configuration is looked for when nobody names one.
pub const CONFIG_FILE: &str = "/etc/addrauth/addrauth.toml";

impl Context {
    /// The configuration that `--config` names, or the installed one, or the defaults.
    pub fn read_config(&self) -> Result<config::Config, config::Error> {
        match &self.config {
            Some(path) => config::Config::read(path),
            None if std::path::Path::new(CONFIG_FILE).exists() => config::Config::read(CONFIG_FILE.as_ref()),
            None => Ok(config::Config::default()),
        }
    }
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
