//! What every verb is given, and where things are.

use std::path::{Path, PathBuf};

use addrauth::config::{Config, Error, Limits, system_hostname};
use addrauth::files;
use addrauth::policy::Trial;
use addrauth::store::{Error as StoreError, Ledger, Opening, is_there};

/// What every verb is given besides its own arguments.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// `--config FILE`; absent: /etc/addrauth/addrauth.toml where it exists, else the defaults.
    pub config: Option<PathBuf>,
    /// `--json`: results as JSON on standard output.
    pub json: bool,
}

/// The verb that tries a component, for this program alone: see [`trial()`].
pub(crate) const TRIAL_VERB: &str = "try-component";

/// How this program tries a component: it runs itself, also where its file was replaced since it started. The allocator reserves no
/// room beforehand there: what the child may have counts by what is reserved.
pub(crate) fn trial() -> Trial {
    Trial::by("/proc/self/exe", [TRIAL_VERB]).with("MIMALLOC_ARENA_RESERVE", "0")
}

/// Where the configuration is looked for when nobody names one.
pub(crate) const CONFIG_FILE: &str = "/etc/addrauth/addrauth.toml";

/// Whether there is such a file; a configuration that cannot be looked at must not become the defaults.
pub(crate) fn there(path: &Path) -> Result<bool, Error> {
    files::is_there(path).map_err(|e| Error::Read { path: path.to_owned(), source: e.into() })
}

/// The same configuration, with the system's host name where it sets none.
pub(crate) fn named(mut config: Config) -> Config {
    if config.hostname.is_empty() {
        (config.hostname, config.hostname_assumed) = (system_hostname(), true);
    }
    config
}

/// The filter's database where there is one: whoever only looks makes none, or it would be his. Not to be allowed to look is
/// an error.
pub(crate) async fn ledger(config: &Config) -> Result<Option<Ledger>, StoreError> {
    let (dir, limits) = (&config.state_dir.0, Limits::default());
    if !is_there(&database(config))? {
        return Ok(None);
    }
    Ledger::open(dir, Opening { busy: limits.store.busy_command, readers: 1 }).await.map(Some)
}

/// Where the filter's database is.
pub(crate) fn database(config: &Config) -> PathBuf {
    config.state_dir.0.join("filter.db")
}
