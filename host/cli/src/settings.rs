//! The configuration of a running daemon, and which other one may take its place.
//!
//! At the start an absent file means the defaults. A reload is another thing: the daemon serves, and what looks like a file
//! that was lost, emptied or cut must not turn it into one that examines nothing. What can be told of a cut file: it does not
//! parse; it is the beginning of the one in force; its last line has no end, where that of the one in force has; no
//! `final_domains` are left; `observe = false` is gone. A new file that is cut between two of its lines, and keeps these, cannot
//! be told from one that was meant so: it is obeyed, and what became weaker is told ([`Settings::weaker`]). Replace the file by
//! rename(2), as editors and configuration management do.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::{Path, PathBuf};

use crate::{CONFIG_FILE, Context, named, there};
use addrauth::config::{Config, Error, Sources, Where};

/// Settings that a reload took away and that are named; a line of the log has no room for a thousand domains.
const NAMED: usize = 20;

/// A configuration, and the text that it was read from.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The configuration.
    pub(crate) config: Config,
    /// Its files and texts; absent where there were none, and the defaults count.
    source: Option<Sources>,
}

/// Why another configuration may not take the place of the one in force.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// It cannot be read, or is wrong.
    #[error(transparent)]
    Wrong(#[from] Error),
    /// There is none any more.
    #[error("{0} is gone")]
    Gone(PathBuf),
    /// It sets nothing.
    #[error("{0} is empty: was it cut? To go back to the defaults, restart")]
    Empty(PathBuf),
    /// It is the beginning of the one in force.
    #[error(
        "{path} is the beginning of the configuration in force, {now} octets of {before}: was it cut? If it is meant so, restart, \
         or write a comment at its end"
    )]
    Beginning {
        /// The file.
        path: PathBuf,
        /// Its octets.
        now: usize,
        /// Those of the one in force.
        before: usize,
    },
    /// Its last line has no end.
    #[error("the last line of {0} has no end, and that of the configuration in force has: was it cut?")]
    Torn(PathBuf),
    /// It takes all domains away.
    #[error(
        "{0} sets no final_domains, and there are some in force: nothing would be examined. If it is meant so, restart"
    )]
    NoDomains(PathBuf),
    /// It goes back to observing, and does not say so.
    #[error(
        "{0} does not set observe, and observe = false is in force: was it cut? Without the line nothing would be done but \
         observing; if that is meant, write observe = true"
    )]
    Observe(PathBuf),
}

impl Context {
    /// The configuration that `--config` names, or the installed one; the defaults where neither is there.
    ///
    /// An empty `hostname` becomes the system's.
    pub(crate) fn read_config(&self) -> Result<Config, Error> {
        Ok(Settings::read(self)?.config)
    }
}

impl Settings {
    /// What counts at the start.
    ///
    /// # Errors
    /// There is a configuration, or one is named, and it cannot be read or is wrong.
    pub(crate) fn read(context: &Context) -> Result<Settings, Error> {
        let path = match &context.config {
            Some(path) => path.clone(),
            None if there(Path::new(CONFIG_FILE))? => CONFIG_FILE.into(),
            None => return Ok(Settings { config: named(Config::default()), source: None }),
        };
        let source = Sources::read(&path)?;
        let config = named(source.config()?);
        Ok(Settings { config, source: Some(source) })
    }

    /// What counts after a reload.
    ///
    /// # Errors
    /// See [`Refused`]: then these settings stay.
    pub(crate) fn next(&self, context: &Context) -> Result<Settings, Refused> {
        let next = match Settings::read(context) {
            Err(Error::Read { path, source }) if source.kind() == std::io::ErrorKind::NotFound => {
                return Err(Refused::Gone(path));
            }
            read => read?,
        };
        self.may_become(next)
    }

    fn may_become(&self, next: Settings) -> Result<Settings, Refused> {
        let Some(before) = &self.source else { return Ok(next) };
        let path = before.main().0;
        let Some(now) = &next.source else { return Err(Refused::Gone(path.to_owned())) };
        check_whole(path, before.main().1, now.main().1)?;
        for (path, text) in before.files().skip(1) {
            // A file of conf.d may be taken away: what became weaker is told.
            let same = now.files().find(|(known, _)| *known == path);
            same.map_or(Ok(()), |(_, now)| check_whole(path, text, now))?;
        }
        match () {
            () if next.config.final_domains.is_empty() && !self.config.final_domains.is_empty() => {
                Err(Refused::NoDomains(path.to_owned()))
            }
            () if !self.config.observe.0 && next.config.observe.0 && !set(now).contains_key("observe") => {
                Err(Refused::Observe(path.to_owned()))
            }
            () => Ok(next),
        }
    }

    /// What the next settings do no longer, in words for the log; bindings and choices that are gone, roles that are switched
    /// off, domains that are not examined any more.
    pub(crate) fn weaker(&self, next: &Settings) -> Vec<String> {
        let (old, new) = (&self.config, &next.config);
        let mut lost = Vec::new();
        if !old.observe.0 && new.observe.0 {
            lost.push("observe is true".into());
        }
        lost.extend(
            gone(&old.final_domains, &new.final_domains).iter().map(|name| format!("final_domains lost {name}")),
        );
        lost.extend(
            gone(&old.policy.user_may, &new.policy.user_may).iter().map(|id| format!("policy.user_may lost {id}")),
        );
        if old.policy.user_rules && !new.policy.user_rules {
            lost.push("policy.user_rules is false".into());
        }
        if old.policy.require_signature && !new.policy.require_signature {
            lost.push("policy.require_signature is false".into());
        }
        let keys = |settings: &Settings| {
            settings.config.policy.trusted_keys.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        lost.extend(gone(&keys(self), &keys(next)).iter().map(|key| format!("policy.trusted_keys lost {key}")));
        for (role, before, now) in
            [("learn", &old.keyring.learn, &new.keyring.learn), ("stamp", &old.keyring.stamp, &new.keyring.stamp)]
        {
            lost.extend(narrower(before, now).map(|what| format!("keyring.{role} {what}")));
        }
        let names = |settings: &Settings| settings.source.as_ref().map(|source| bindings(&set(source)));
        let (before, now) = (names(self).unwrap_or_default(), names(next).unwrap_or_default());
        lost.extend(before.into_iter().filter(|name| !now.contains(name)).map(|name| format!("{name} is not set")));
        let more = lost.len().saturating_sub(NAMED);
        lost.truncate(NAMED);
        lost.extend((more > 0).then(|| format!("{more} more")));
        lost
    }
}

/// Whether a file's text looks whole, after what it was before.
fn check_whole(path: &Path, before: &str, now: &str) -> Result<(), Refused> {
    let ends = |text: &str| text.ends_with('\n');
    let path = path.to_owned();
    match () {
        () if is_empty(now) && !is_empty(before) => Err(Refused::Empty(path)),
        () if now.len() < before.len() && before.starts_with(now.trim_end()) && now.trim_end() != before.trim_end() => {
            Err(Refused::Beginning { path, now: now.len(), before: before.len() })
        }
        () if ends(before) && !ends(now) && now.trim_end() != before.trim_end() => Err(Refused::Torn(path)),
        () => Ok(()),
    }
}

/// What is not there any more.
fn gone<T: PartialEq + Debug>(before: &[T], now: &[T]) -> Vec<String> {
    before.iter().filter(|name| !now.contains(name)).map(|name| format!("{name:?}")).collect()
}

/// What a role is no longer played for.
fn narrower(before: &Where, now: &Where) -> Option<String> {
    match (before, now) {
        (before, now) if before.is_anywhere() && !now.is_anywhere() => Some("is off".into()),
        (Where::All(true), Where::Daemons(names)) => Some(format!("is for {names:?} alone")),
        (Where::Daemons(before), Where::Daemons(_)) => {
            let lost: Vec<&String> = before.iter().filter(|name| !now.covers(name)).collect();
            (!lost.is_empty()).then(|| format!("lost {lost:?}"))
        }
        _ => None,
    }
}

/// Settings of which is told what they lost.
const TOLD_APART: [&str; 4] =
    ["policy.user_may", "policy.user_rules", "policy.require_signature", "policy.trusted_keys"];

/// The settings of `[policy…]` and `[policies…]` that a file makes, by their names.
fn bindings(table: &toml::Table) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut open: Vec<(String, &toml::Value)> =
        ["policy", "policies"].into_iter().filter_map(|name| Some((name.to_owned(), table.get(name)?))).collect();
    // The parser bounds how deep tables nest.
    while let Some((name, value)) = open.pop() {
        match value {
            toml::Value::Table(inner) => open.extend(inner.iter().map(|(key, value)| {
                let bare = !key.is_empty() && key.bytes().all(|o| o.is_ascii_alphanumeric() || b"-_".contains(&o));
                let key = if bare { key.clone() } else { format!("{key:?}") };
                (format!("{name}.{key}"), value)
            })),
            // Told by what they lost.
            _ if TOLD_APART.contains(&name.as_str()) => {}
            // A candidate decides nothing. Ids have no dots, so it is the section's own.
            _ if name.matches('.').count() == 2 && (name.ends_with(".shadow") || name.ends_with(".shadow_share")) => {}
            _ => {
                names.insert(name);
            }
        }
    }
    names
}

/// Whether a file sets nothing at all.
fn is_empty(text: &str) -> bool {
    text.parse::<toml::Table>().unwrap_or_default().is_empty()
}

/// What files set; those that are no TOML are refused before this is asked.
fn set(source: &Sources) -> toml::Table {
    source.table().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &str = "final_domains = [\"example.com\"]\nobserve = false\n\n[custody]\njournal_rows = 1000\n\n\
         [policy]\ninvalid = \"mark\"\n";

    fn settings(text: &str) -> Option<Settings> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.toml");
        std::fs::write(&path, text).unwrap();
        read(&path)
    }

    fn read(path: &Path) -> Option<Settings> {
        let source = Sources::read(path).unwrap();
        Some(Settings { config: source.config().ok()?, source: Some(source) })
    }

    fn becomes(before: &str, now: &str) -> Result<Settings, Refused> {
        settings(before).unwrap().may_become(settings(now).unwrap())
    }

    #[test]
    fn wherever_a_file_is_cut_the_old_one_stays() {
        let mut parsed = 0;
        for end in 0..FULL.trim_end().len() {
            // What does not parse is refused by itself.
            let Some(next) = settings(&FULL[..end]) else { continue };
            parsed += 1;
            let kept = settings(FULL).unwrap().may_become(next);
            assert!(kept.is_err(), "{:?}", &FULL[..end]);
        }
        assert!(parsed > 10, "cut files that parse are what this is about");
    }

    #[test]
    fn a_new_file_that_is_cut_within_a_line_is_refused() {
        let new = FULL.replace("1000", "2000").replace("[policy]", "# new\n[policy]");
        let mut parsed = 0;
        for end in (0..new.len()).filter(|end| !new[..*end].ends_with('\n')) {
            let Some(next) = settings(&new[..end]) else { continue };
            parsed += 1;
            assert!(settings(FULL).unwrap().may_become(next).is_err(), "{:?}", &new[..end]);
        }
        assert!(parsed > 5);
    }

    #[test]
    fn what_is_gone_empty_or_without_domains_is_refused() {
        for text in ["", "\n", "# nothing\n", "[policy]\n"] {
            assert!(becomes(FULL, text).is_err(), "{text:?}");
        }
        assert!(matches!(becomes(FULL, ""), Err(Refused::Empty(_))));
        assert!(matches!(becomes(FULL, "observe = false\n"), Err(Refused::NoDomains(_))));
        let none = Settings { config: Config::default(), source: None };
        assert!(matches!(settings(FULL).unwrap().may_become(none.clone()), Err(Refused::Gone(_))));
        assert!(none.may_become(settings("").unwrap()).is_ok(), "who began with the defaults loses nothing");
    }

    #[test]
    fn files_beside_it_are_held_to_the_same_and_may_go() {
        let dir = tempfile::tempdir().unwrap();
        let (main, part) = (dir.path().join("addrauth.toml"), dir.path().join("conf.d/policy.toml"));
        std::fs::create_dir(dir.path().join("conf.d")).unwrap();
        let rest = "[policy]\ninvalid = \"quarantine\"\nmissing = \"mark\"\n";
        let with = |main_text: &str, part_text: Option<&str>| {
            std::fs::write(&main, main_text).unwrap();
            let _ = std::fs::remove_file(&part);
            if let Some(text) = part_text {
                std::fs::write(&part, text).unwrap();
            }
            read(&main).unwrap()
        };
        let head = "final_domains = [\"example.com\"]\nobserve = false\n";
        let before = with(head, Some(rest));
        assert_eq!(before.config.policy.invalid, "quarantine");
        for cut in ["", "[policy]\n", "[policy]\ninvalid = \"quarantine\"\n"] {
            let refused = before.may_become(with(head, Some(cut))).unwrap_err();
            assert!(refused.to_string().contains("conf.d/policy.toml"), "{refused}");
        }
        assert!(matches!(before.may_become(with("observe = false\n", Some(rest))), Err(Refused::NoDomains(_))));
        let moved = with("observe = false\n", Some(&format!("final_domains = [\"example.com\"]\n{rest}")));
        assert!(before.may_become(moved).is_ok(), "a setting may move from one file to the other");
        let gone = with(head, None);
        assert_eq!(before.weaker(&gone), ["policy.invalid is not set", "policy.missing is not set"]);
        assert!(before.may_become(gone).is_ok());
    }

    #[test]
    fn what_is_meant_goes_through() {
        for text in [
            FULL.to_owned(),
            FULL.trim_end().to_owned(),
            format!("{FULL}# the end\n"),
            FULL.replace("[policy]\ninvalid = \"mark\"\n", "# no [policy]\n"),
            FULL.replace("observe = false\n", "observe = true\n"),
            FULL.replace("1000", "10"),
            "final_domains = [\"example.net\"]\nobserve = false\n".to_owned(),
        ] {
            assert!(becomes(FULL, &text).is_ok(), "{text:?}: {:?}", becomes(FULL, &text));
        }
        assert!(becomes("observe = false", "observe = true").is_ok(), "who ends no line need not begin");
        let observes = "final_domains = [\"example.com\"]\n";
        assert!(becomes(observes, &format!("{observes}# as before\n")).is_ok(), "it was not set before either");
    }

    #[test]
    fn a_file_that_loses_observe_is_refused_and_one_that_sets_it_is_obeyed() {
        for text in [
            FULL.replace("observe = false\n", ""),
            FULL.replace("observe", "# observe"),
            // A new file, cut between two lines.
            "final_domains = [\"example.com\", \"example.net\"]\n".to_owned(),
        ] {
            assert!(matches!(becomes(FULL, &text), Err(Refused::Observe(_))), "{text:?}");
        }
        assert!(becomes(FULL, &FULL.replace("observe = false", "observe = true")).is_ok());
    }

    #[test]
    fn what_a_reload_takes_away_is_named_and_what_it_adds_is_not() {
        const BEFORE: &str = "final_domains = [\"a.example\", \"b.example\"]\nobserve = false\n[policy]\n\
             invalid = \"quarantine\"\nuser_may = [\"mark\", \"accept\"]\nuser_rules = true\nrequire_signature = true\n\
             trusted_keys = [\"RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3\", \"RWSr86swreUCKvUNVWwNgOVA4neQ5i/sH5H7kDIr/6M5dBoUQILecbyp\"]\n[policy.domain.\"a.example\"]\n\
             missing = \"mark\"\n[policy.recipient.\"x@b.example\"]\nmissing = \"quarantine\"\n\
             [policies.mark]\non_fault = \"reject\"\nshadow = \"x.wasm\"\nsettings.shadow = 1\n[keyring]\nlearn = true\nstamp = [\"one\", \"two\"]\n";
        let weaker = |now: &str| settings(BEFORE).unwrap().weaker(&settings(now).unwrap());
        for (line, with, told) in [
            ("observe = false", "observe = true", "observe is true"),
            (", \"b.example\"", "", "final_domains lost \"b.example\""),
            (", \"accept\"", "", "policy.user_may lost \"accept\""),
            ("user_rules = true", "user_rules = false", "policy.user_rules is false"),
            ("user_rules = true\n", "", "policy.user_rules is false"),
            ("require_signature = true", "require_signature = false", "policy.require_signature is false"),
            (
                ", \"RWSr86swreUCKvUNVWwNgOVA4neQ5i/sH5H7kDIr/6M5dBoUQILecbyp\"",
                "",
                "policy.trusted_keys lost \"RWSr86swreUCKvUNVWwNgOVA4neQ5i/sH5H7kDIr/6M5dBoUQILecbyp\"",
            ),
            ("settings.shadow = 1\n", "", "policies.mark.settings.shadow is not set"),
            ("invalid = \"quarantine\"\n", "", "policy.invalid is not set"),
            ("[policy.domain.\"a.example\"]\nmissing = \"mark\"", "", "policy.domain.\"a.example\".missing is not set"),
            ("x@b.example", "y@b.example", "policy.recipient.\"x@b.example\".missing is not set"),
            ("on_fault = \"reject\"", "", "policies.mark.on_fault is not set"),
            ("learn = true", "", "keyring.learn is off"),
            ("learn = true", "learn = false", "keyring.learn is off"),
            ("learn = true", "learn = [\"one\"]", "keyring.learn is for [\"one\"] alone"),
            (", \"two\"]", "]", "keyring.stamp lost [\"two\"]"),
            ("stamp = [\"one\", \"two\"]", "stamp = []", "keyring.stamp is off"),
        ] {
            let now = BEFORE.replace(line, with);
            assert_ne!(now, BEFORE, "{line}");
            assert_eq!(weaker(&now), [told], "{line}");
            assert!(
                settings(&now).unwrap().weaker(&settings(BEFORE).unwrap()).iter().all(|other| other != told),
                "{line}"
            );
        }
        assert_eq!(weaker(BEFORE), [""; 0]);
        assert_eq!(weaker(&BEFORE.replace("\nshadow = \"x.wasm\"", "")), [""; 0], "a candidate decides nothing");
        let many: Vec<String> = (0..100).map(|n| format!("\"{n}.example\"")).collect();
        let many = format!("final_domains = [{}]\n", many.join(", "));
        let lost = settings(&many).unwrap().weaker(&settings("final_domains = [\"0.example\"]\n").unwrap());
        assert_eq!((lost.len(), lost.last().unwrap().as_str()), (21, "79 more"));
    }
}
