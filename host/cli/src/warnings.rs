//! What is allowed in a configuration and yet probably not meant, for whoever looks before a daemon does.

use addrauth::config::Config;
use addrauth::files;
use addrauth::policy::Policies;

/// All warnings, those of the components too where they are loaded.
pub(crate) fn warnings(config: &Config, policies: Option<&Policies>) -> Vec<String> {
    let mut warnings: Vec<String> = config.warnings().iter().map(ToString::to_string).collect();
    let state = &config.state_dir.0;
    if !config.final_domains.is_empty() && files::is_there(state).is_ok_and(|there| !there) {
        warnings.push(format!("state_dir {} is not there yet: the filter makes it, if it may", state.display()));
    }
    warnings.extend(policies.into_iter().flat_map(Policies::warnings));
    warnings
}
