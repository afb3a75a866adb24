//! The configuration of a running daemon, and which other one may take its place.
//!
//! At the start an absent file means the defaults. A reload is another thing: the daemon serves, and what looks like a file
//! that was lost, emptied or cut must not turn it into one that examines nothing. What can be told of a cut file: it does not
//! parse; it is the beginning of the one in force; its last line has no end, where that of the one in force has; no
//! `final_domains` are left. A new file that is cut between two of its lines, and keeps `final_domains`, cannot be told from
//! one that was meant so: replace the file by rename(2), as editors and configuration management do.

use std::path::{Path, PathBuf};

use crate::cli::{CONFIG_FILE, Context, named, there};
use crate::config::{Config, Error};

/// A configuration, and the text that it was read from.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Settings {
    /// The configuration.
    pub(in crate::cli) config: Config,
    /// Its file and text; absent where there was none, and the defaults count.
    source: Option<(PathBuf, String)>,
}

/// Why another configuration may not take the place of the one in force.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum Refused {
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
}

impl Settings {
    /// What counts at the start.
    ///
    /// # Errors
    /// There is a configuration, or one is named, and it cannot be read or is wrong.
    pub(in crate::cli) fn read(context: &Context) -> Result<Settings, Error> {
        let path = match &context.config {
            Some(path) => path.clone(),
            None if there(Path::new(CONFIG_FILE))? => CONFIG_FILE.into(),
            None => return Ok(Settings { config: named(Config::default()), source: None }),
        };
        let text = Config::text(&path)?;
        let config = named(Config::parse(&text, &path)?);
        Ok(Settings { config, source: Some((path, text)) })
    }

    /// What counts after a reload.
    ///
    /// # Errors
    /// See [`Refused`]: then these settings stay.
    pub(in crate::cli) fn next(&self, context: &Context) -> Result<Settings, Refused> {
        let next = match Settings::read(context) {
            Err(Error::Read { path, source }) if source.kind() == std::io::ErrorKind::NotFound => {
                return Err(Refused::Gone(path));
            }
            read => read?,
        };
        self.may_become(next)
    }

    fn may_become(&self, next: Settings) -> Result<Settings, Refused> {
        let Some((path, before)) = &self.source else { return Ok(next) };
        let Some((_, now)) = &next.source else { return Err(Refused::Gone(path.clone())) };
        let path = path.clone();
        let ends = |text: &str| text.ends_with('\n');
        match () {
            () if is_empty(now) && !is_empty(before) => Err(Refused::Empty(path)),
            () if now.len() < before.len()
                && before.starts_with(now.trim_end())
                && now.trim_end() != before.trim_end() =>
            {
                Err(Refused::Beginning { path, now: now.len(), before: before.len() })
            }
            () if ends(before) && !ends(now) && now.trim_end() != before.trim_end() => Err(Refused::Torn(path)),
            () if next.config.final_domains.is_empty() && !self.config.final_domains.is_empty() => {
                Err(Refused::NoDomains(path))
            }
            () => Ok(next),
        }
    }
}

/// Whether a file sets nothing at all; one that is no TOML is refused before this is asked.
fn is_empty(text: &str) -> bool {
    text.parse::<toml::Table>().is_ok_and(|table| table.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &str = "final_domains = [\"example.com\"]\nobserve = false\n\n[custody]\njournal_rows = 1000\n\n\
         [policy]\ninvalid = \"mark\"\n";

    fn settings(text: &str) -> Option<Settings> {
        let path = PathBuf::from("x.toml");
        let config = Config::parse(text, &path).ok()?;
        Some(Settings { config, source: Some((path, text.to_owned())) })
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
    fn what_is_meant_goes_through() {
        for text in [
            FULL.to_owned(),
            FULL.trim_end().to_owned(),
            format!("{FULL}# the end\n"),
            FULL.replace("[policy]\ninvalid = \"mark\"\n", "# no [policy]\n"),
            FULL.replace("observe = false\n", ""),
            FULL.replace("1000", "10"),
            "final_domains = [\"example.net\"]\n".to_owned(),
        ] {
            assert!(becomes(FULL, &text).is_ok(), "{text:?}: {:?}", becomes(FULL, &text));
        }
        assert!(becomes("observe = false", "observe = true").is_ok(), "who ends no line need not begin");
        assert!(becomes("observe = false\n", "final_domains = [\"example.com\"]\n").is_ok());
    }
}
