//! What lies on this machine: policies, the state directory, the databases, the keys.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::super::{ledger, trial};
use super::Report;
use crate::warnings::warnings;
use addrauth::config::{Config, Limits};
use addrauth::files;
use addrauth::outbox;
use addrauth::policy::Policies;
use addrauth::policy::trust::floor;
use addrauth::store::{self, Opening, RunningOut, open_keys};

/// Octets that must be free where the databases grow: below it, what is to be kept will soon be deferred.
const ROOM: u64 = 256 * 1024 * 1024;
/// The mark's key, in octets.
const MARK_KEY: u64 = 32;
/// A key that ends within this time is an alarm (24 h before its end).
const SOON: Duration = Duration::from_secs(86_400);

/// Whether policies and texts load as the filter would load them, and what the settings probably do not mean.
pub(super) fn policies(config: &Config, report: &mut Report) {
    let about = "configuration";
    let limits = Arc::new(Limits::default());
    let loaded = Policies::load(&config.policy, &config.policies, &limits, &trial());
    match &loaded {
        Ok(policies) => report.good(about, format!("it reads, and its {} policies load", policies.list().len())),
        Err(e) => report.wrong(about, e.to_string()),
    }
    let signed = loaded.as_ref().map(Policies::signed).unwrap_or_default();
    if let (false, Err(e)) = (config.final_domains.is_empty(), floor::check(&config.state_dir.0, &signed)) {
        match &e {
            floor::Error::Read { source, .. } if source.kind() == ErrorKind::PermissionDenied => {
                report.unknown(about, e.to_string());
            }
            _ => report.wrong(about, e.to_string()),
        }
    }
    if let (false, Err(e)) = (config.final_domains.is_empty(), outbox::check(config, &limits)) {
        report.wrong(about, e.to_string());
    }
    for warning in warnings(config, loaded.as_ref().ok()) {
        report.warn(about, warning);
    }
}

/// The state directory, `filter.db` and `mark.key`.
pub(super) async fn state(config: &Config, report: &mut Report) {
    let dir = &config.state_dir.0;
    let about = format!("state_dir {}", dir.display());
    match std::fs::metadata(dir) {
        Ok(found) if !found.is_dir() => return report.wrong(&about, "it is no directory: move that file away"),
        Ok(found) => {
            let (mode, owner) = (found.mode() & 0o777, found.uid());
            match own_uid() {
                _ if mode != 0o700 => report.wrong(&about, format!("its mode is {mode:o}: `chmod 700` it")),
                Some(us) if us != 0 && us != owner => report.unknown(
                    &about,
                    format!("it belongs to user {owner}, and this is user {us}: run this as the user of the daemon, or as root"),
                ),
                Some(_) => report.good(&about, format!("mode 700, owned by user {owner}")),
                None => report.unknown(&about, "it cannot be told whose process this is"),
            }
            room(dir, &about, report);
            files(dir, found.uid(), report);
        }
        Err(e) if e.kind() == ErrorKind::NotFound => {
            return report.warn(&about, "it is not there yet: the daemon makes it at its first start, where it may");
        }
        Err(e) => return report.unknown(&about, format!("it cannot be looked at: {e}")),
    }
    match ledger(config).await {
        Ok(Some(ledger)) => {
            report.good("filter.db", "it opens, and its schema is known");
            ledger.close().await;
        }
        Ok(None) => report.warn("filter.db", "it is not there yet: `addrauth filter` makes it when it starts"),
        Err(e) => report.wrong("filter.db", e.to_string()),
    }
}

/// The user of this process: who owns its own entry in /proc.
fn own_uid() -> Option<u32> {
    std::fs::metadata("/proc/self").ok().map(|found| found.uid())
}

fn room(dir: &Path, about: &str, report: &mut Report) {
    match rustix::fs::statvfs(dir) {
        Ok(found) => {
            let free = found.f_bavail.saturating_mul(found.f_frsize);
            let mib = free / (1024 * 1024);
            match free {
                free if free < ROOM / 16 => report.wrong(about, format!("{mib} MiB are free: make room at once")),
                free if free < ROOM => report.warn(about, format!("{mib} MiB are free: make room")),
                _ => report.good(about, format!("{mib} MiB are free")),
            }
        }
        Err(e) => report.unknown(about, format!("how much room is left: {e}")),
    }
}

/// The files in the state directory: for the owner of the directory alone.
fn files(dir: &Path, owner: u32, report: &mut Report) {
    for name in ["mark.key", "post.key", "keyring.key", "filter.db", "authority.db", "keyring.db"] {
        let found = match std::fs::symlink_metadata(dir.join(name)) {
            Ok(found) => found,
            Err(e) if e.kind() == ErrorKind::NotFound => continue,
            Err(e) => {
                report.unknown(name, format!("it cannot be looked at: {e}"));
                continue;
            }
        };
        let mode = found.mode() & 0o777;
        if !found.is_file() {
            report.wrong(name, "it is no file: move it away");
        } else if mode & 0o077 != 0 {
            report.wrong(name, format!("its mode is {mode:o}, so others may read it: `chmod 600` it"));
        } else if found.uid() != owner {
            let other = found.uid();
            report.wrong(name, format!("it belongs to user {other}, state_dir to user {owner}: `chown` it"));
        } else if name == "mark.key" && found.len() != MARK_KEY {
            report.wrong(name, "it does not hold 32 octets: remove it, and a new one is made at the next start");
        } else {
            report.good(name, format!("mode {mode:o}"));
        }
    }
}

/// The keys of our own Authentication Server, and the database that keeps them where several hosts share one. How long an old
/// key stays good (AVT) is among the warnings of the configuration.
pub(super) async fn keys(config: &Config, report: &mut Report) {
    let opening = Opening { busy: Limits::default().store.busy_command, readers: 1 };
    let (about, ours) = match config.store.url.as_str() {
        "" => ("authority.db", is_made(config, report)),
        _ => ("store.url", is_shared(config, opening, report).await),
    };
    if config.authority.domains.is_empty() || !ours {
        return;
    }
    let table = match open_keys(config, opening).await {
        Ok(table) => table,
        Err(e) => return report.wrong(about, e.to_string()),
    };
    let now = SystemTime::now();
    match table.running_out(now, now.checked_add(SOON).unwrap_or(now)).await {
        Ok(found) => tell(about, found, report),
        Err(e) => report.unknown(about, e.to_string()),
    }
    super::posts::posts(config, table.as_ref(), report).await;
    table.close().await;
}

/// Whether there is a file of keys; where there is none, none is made.
fn is_made(config: &Config, report: &mut Report) -> bool {
    let about = "authority.db";
    match files::is_there(&config.state_dir.0.join(about)) {
        Ok(true) => return true,
        Ok(false) if config.authority.domains.is_empty() => {}
        Ok(false) => report.warn(about, "no address has a key yet: `addrauth key issue ADDRESS` makes one"),
        Err(e) => report.unknown(about, format!("it cannot be looked at: {e}")),
    }
    false
}

/// Whether the database in PostgreSQL can be used, and by the parts that are played here; whether the AS's table may be read.
async fn is_shared(config: &Config, opening: Opening, report: &mut Report) -> bool {
    let about = "store.url";
    let status = match store::status(config, opening).await {
        Ok(status) => status,
        Err(e) => {
            report.wrong(about, e.to_string());
            return false;
        }
    };
    if !status.is_usable() {
        report.wrong(
            about,
            format!("{}: its tables are not those of this version: `addrauth store migrate`", status.place),
        );
        return false;
    }
    let rights = status.rights.unwrap_or_default();
    report.good(about, format!("{}: it answers; rights of this login: {}", status.place, rights.join(", ")));
    let parts = [("learn", config.keyring.learn.is_anywhere()), ("stamp", config.keyring.stamp.is_anywhere())];
    for (part, _) in parts.iter().filter(|(part, played)| *played && !rights.contains(part)) {
        report.wrong(about, format!("keyring.{part} is on, and this login may not: GRANT addrauth_{part} TO it"));
    }
    rights.contains(&"authority")
}

fn tell(about: &str, found: RunningOut, report: &mut Report) {
    let RunningOut { addresses, without, soon } = found;
    if soon > 0 {
        report.warn(
            about,
            format!(
                "the last key of {soon} addresses ends within 24 h: does `addrauth authority` run, and are they in \
                 `addrauth address list`? `addrauth key rotate ADDRESS` makes a new one at once"
            ),
        );
    }
    if without > 0 {
        report.warn(
            about,
            format!("{without} of {addresses} addresses have no living key: their mail cannot be vouched for"),
        );
    }
    if soon == 0 && without == 0 {
        report.good(about, format!("all of its {addresses} addresses have a key that lives for a day and more"));
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::State;
    use super::*;

    fn at(dir: &Path) -> Config {
        let text = format!("state_dir = {dir:?}\nfinal_domains = [\"example.com\"]\nhostname = \"mx.example.com\"\n");
        Config::parse(&text, Path::new("x.toml")).unwrap()
    }

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    async fn looked_at(dir: &Path) -> Report {
        let mut report = Report::default();
        state(&at(dir), &mut report).await;
        report
    }

    #[tokio::test]
    async fn a_state_directory_that_is_whole_is_good_and_nothing_is_made_by_looking() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        assert!(!looked_at(&state).await.has(State::Wrong));
        assert!(!state.exists());
        fs::create_dir(&state).unwrap();
        mode(&state, 0o700);
        assert!(looked_at(&state).await.has(State::Warning));
        assert_eq!(fs::read_dir(&state).unwrap().count(), 0);
        let opening = Opening { busy: Duration::from_secs(2), readers: 1 };
        store::Ledger::open(&state, opening).await.unwrap().close().await;
        fs::write(state.join("mark.key"), [1; 32]).unwrap();
        mode(&state.join("mark.key"), 0o600);
        let report = looked_at(&state).await;
        assert!(report.0.iter().all(|check| check.state == State::Good), "{}", report.text());
    }

    #[tokio::test]
    async fn modes_that_let_others_in_a_cut_key_and_a_broken_database_are_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path();
        fs::write(state.join("mark.key"), [1; 32]).unwrap();
        let wrongs = |report: &Report, words: &str| {
            let found = report.0.iter().any(|check| check.state == State::Wrong && check.text.contains(words));
            assert!(found, "{words}: {}", report.text());
        };
        mode(state, 0o750);
        wrongs(&looked_at(state).await, "chmod 700");
        mode(state, 0o700);
        mode(&state.join("mark.key"), 0o640);
        wrongs(&looked_at(state).await, "chmod 600");
        fs::write(state.join("mark.key"), [1; 31]).unwrap();
        mode(&state.join("mark.key"), 0o600);
        wrongs(&looked_at(state).await, "32 octets");
        for name in ["post.key", "keyring.key", "keyring.db"] {
            fs::write(state.join(name), "x").unwrap();
            mode(&state.join(name), 0o604);
            wrongs(&looked_at(state).await, "its mode is 604");
            fs::remove_file(state.join(name)).unwrap();
        }
        fs::write(state.join("filter.db"), "no database at all, and longer than a header of one".repeat(9)).unwrap();
        mode(&state.join("filter.db"), 0o600);
        wrongs(&looked_at(state).await, "filter.db");
        wrongs(&looked_at(&state.join("mark.key")).await, "no directory");
    }

    #[test]
    fn a_policy_that_does_not_load_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = at(dir.path());
        let mut report = Report::default();
        policies(&config, &mut report);
        assert!(!report.has(State::Wrong), "{}", report.text());
        config.policy.invalid = "no-such-policy".into();
        policies(&config, &mut report);
        assert!(report.has(State::Wrong), "{}", report.text());
    }

    #[test]
    fn keys_that_run_out_are_told_of() {
        let state = |addresses, without, soon| {
            let mut report = Report::default();
            tell("authority.db", RunningOut { addresses, without, soon }, &mut report);
            report.0.iter().map(|check| check.state).collect::<Vec<_>>()
        };
        assert_eq!(state(3, 0, 0), [State::Good]);
        assert_eq!(state(3, 1, 0), [State::Warning]);
        assert_eq!(state(3, 1, 1), [State::Warning, State::Warning]);
    }
}
