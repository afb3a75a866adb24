//! `addrauth policy promote` and `rollback`: a candidate takes the place of its policy, and back.
//!
//! One rename of the configuration's file is what changes anything. Before it, files are added under names that nothing names yet
//! (the components by their digests, the configuration of before); so whatever ends this in between leaves the old policy in
//! force, or the new one, and each of them whole. The daemon writes nothing of it.

use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use addrauth::case::Disposition;
use addrauth::config::{Config, Limits, Module, Sources};
use addrauth::policy::trust::{self, floor};
use addrauth::policy::{Decider, Origin, Policies, candidate_of};
use addrauth::store::Search;
use serde_json::json;

use super::named::Workshop;
use super::{Error, Told, replay};
use crate::{CONFIG_FILE, Context, journal, named, trial};

pub(super) mod place;
mod record;
mod section;

use super::pin::edit::{keyed, replace};
use place::{Kept, Put, put};
use record::{Gates, Record};

/// What is said last: this program knows of no filter that runs, and who may signal it.
pub(super) const RELOAD: &str = "systemctl reload addrauth-filter";

/// What is promoted, and what it has to show.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// The policy's id.
    id: String,
    /// Decisions that may change, of all that both made, with the sign: 0.1%.
    #[arg(long, value_name = "PERCENT", default_value = "0.1%", value_parser = percent)]
    max_change: f64,
    /// A change that no message may have, such as accept:reject.
    #[arg(long, value_name = "OLD:NEW", value_parser = change)]
    never: Vec<(Disposition, Disposition)>,
    /// Decisions that both must have made.
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    at_least: u64,
    /// Only mail of this time: 7d, 12h, or from a day on: 2026-11-20 (UTC).
    #[arg(long, value_name = "AGE|DAY", value_parser = journal::since, default_value = "7d")]
    since: SystemTime,
    /// Change nothing: say what its record is, and whether it would be promoted (exit code 0) or not (1).
    #[arg(long)]
    dry_run: bool,
}

/// Why nothing is promoted, or taken back.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unmoved {
    #[error("{0} is not there: a policy is promoted in the configuration's own file")]
    NoFile(PathBuf),
    #[error("policies.{0}.shadow names no candidate: set it, reload, and promote once the journal has enough of it")]
    NoShadow(String),
    #[error("the candidate of {0} cannot be loaded: {1}")]
    Candidate(String, String),
    #[error(
        "the files of {0} were changed meanwhile: nothing was put in force. Let the candidate decide beside it again"
    )]
    Another(String),
    #[error("another `addrauth policy promote` or `rollback` is at work on {0}: nothing was done")]
    Busy(PathBuf),
    #[error("{path} cannot be edited ({why}): write it by hand. The [policies.{id}] that is meant:\n{meant}")]
    Edit { path: PathBuf, id: String, why: String, meant: String },
    #[error(
        "[policies.{id}] is not what a promotion wrote, or was changed since: there is no {kept}. Configurations that were kept lie \
         beside it as *.before-{id}-*"
    )]
    NotPromoted { id: String, kept: PathBuf },
    #[error(
        "{0} does not begin with the line that `addrauth policy promote` writes: take its [policies.ID] back by hand"
    )]
    NoLine(PathBuf),
    #[error(
        "with the other policy in force the filter would not load its policies, so the configuration was not changed: {0}"
    )]
    Dry(addrauth::policy::Error),
    #[error("with the other policy in force the filter would not start, so the configuration was not changed: {0}")]
    Floor(floor::Error),
    #[error(
        "the component that was in force (SHA-256 {0}) is neither where it was nor kept beside it: nothing was changed"
    )]
    Gone(String),
}

/// A share, with its sign: `0.1%`.
fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
    let share = number.map(|number| number / 100.0).filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "write a share of decisions with its sign, from 0% to 100%, such as 0.1%".into())
}

/// Two dispositions: `accept:reject`.
fn change(text: &str) -> Result<(Disposition, Disposition), String> {
    let word = |word: &str| serde_json::from_value::<Disposition>(word.into()).ok();
    let both = text.split_once(':').and_then(|(old, new)| word(old).zip(word(new)));
    both.ok_or_else(|| "write OLD:NEW, each of them accept, mark, quarantine, reject or defer".into())
}

/// The configuration's file, all texts, and what they say; locked until this is dropped, unless it is only looked at. Only that file is
/// edited.
pub(super) struct Configured {
    pub(super) path: PathBuf,
    pub(super) sources: Sources,
    pub(super) config: Config,
    _lock: Option<File>,
}

impl Configured {
    /// To be edited: nobody else edits it meanwhile.
    pub(super) fn read(context: &Context) -> Result<Configured, Error> {
        Configured::found(context, true)
    }

    /// To be looked at.
    pub(super) fn look_at(context: &Context) -> Result<Configured, Error> {
        Configured::found(context, false)
    }

    fn found(context: &Context, locks: bool) -> Result<Configured, Error> {
        let named_file = context.config.clone().unwrap_or_else(|| CONFIG_FILE.into());
        let missing = |e: std::io::Error| match e.kind() {
            ErrorKind::NotFound => Error::from(Unmoved::NoFile(named_file.clone())),
            _ => Error::Read { path: named_file.clone(), source: e },
        };
        // A link stays one: what it leads to is replaced.
        let path = named_file.canonicalize().map_err(missing)?;
        let lock = if locks { Some(File::open(&path).map_err(missing)?) } else { None };
        lock.as_ref().map_or(Ok(()), File::try_lock).map_err(|e| match e {
            TryLockError::WouldBlock => Error::from(Unmoved::Busy(path.clone())),
            TryLockError::Error(source) => Error::Read { path: path.clone(), source },
        })?;
        let sources = Sources::read(&named_file)?;
        let config = named(sources.config()?);
        Ok(Configured { path, sources, config, _lock: lock })
    }

    fn text(&self) -> &str {
        self.sources.main().1
    }

    pub(super) fn module(&self, id: &str) -> Module {
        self.config.policies.get(id).cloned().unwrap_or_default()
    }

    /// Where the newest signed version is kept, and by which name, of the policy that this component is of.
    fn floor_of(&self, component: &Decider) -> Option<(&Path, String)> {
        let keeps = floor::place(&self.config).filter(|_| !self.config.policy.trusted_keys.is_empty());
        keeps.zip(component.origin.file().map(trust::policy_of))
    }

    /// The policies as the filter would load them.
    pub(super) fn load(&self, config: &Config) -> Result<Policies, addrauth::policy::Error> {
        Policies::load(&config.policy, &config.policies, &Arc::new(Limits::default()), &trial())
    }

    /// This configuration with another section of the policy, as text and as read.
    pub(super) fn with(&self, id: &str, module: &Module) -> Result<(String, Config), Error> {
        self.meant(id, module, section::replaced(self.text(), id, &self.module(id), module))
    }

    /// This configuration with a candidate of the policy, which may have had no section.
    pub(super) fn with_shadow(&self, id: &str, file: &Path) -> Result<(String, Config), Error> {
        let module = Module { shadow: Some(file.to_owned()), ..self.module(id) };
        self.meant(id, &module, keyed(self.text(), id, "shadow", &file.display().to_string()))
    }

    /// The text of another configuration, where it says no more than that this section is the policy's.
    fn meant(&self, id: &str, module: &Module, text: Result<String, String>) -> Result<(String, Config), Error> {
        let unfit = |why: String| {
            let meant = toml::to_string(module).unwrap_or_default();
            Unmoved::Edit { path: self.path.clone(), id: id.to_owned(), why, meant }
        };
        let text = text.map_err(unfit)?;
        let config = self.sources.with(&text).config().map(named).map_err(|e| unfit(e.to_string()))?;
        let mut meant = self.config.clone();
        meant.policies.insert(id.to_owned(), module.clone());
        if config != meant {
            return Err(unfit("it would say something else".into()).into());
        }
        Ok((text, config))
    }

    /// Loads the policies of another configuration, and then puts it into this one's place, where what is loaded is as it is meant.
    pub(super) fn commit(
        &self,
        (text, config): (String, Config),
        id: &str,
        is_meant: impl Fn(&Policies) -> bool,
    ) -> Result<(), Error> {
        let loaded = self.load(&config).map_err(Unmoved::Dry)?;
        if !is_meant(&loaded) {
            return Err(Unmoved::Another(id.to_owned()).into());
        }
        if let Some(dir) = floor::place(&config) {
            floor::check(dir, &loaded.signed()).map_err(Unmoved::Floor)?;
        }
        replace(&self.path, self.text(), &text)
    }

    /// The configuration of before, comments and all, where nothing was edited since the promotion that kept it.
    fn untouched_since(&self, id: &str, module: &Module, kept: &str) -> Option<(String, Config)> {
        let (_, before) = kept.split_once('\n')?;
        let config = self.sources.with(before).config().map(named).ok()?;
        let old = config.policies.get(id).cloned().unwrap_or_default();
        let promoted = section::replaced(before, id, &old, module).ok()?;
        (promoted == self.text()).then(|| (before.to_owned(), config))
    }

    /// Where the configuration of before is kept that was in force until this section of the policy was.
    fn kept(&self, id: &str, module: &Module) -> PathBuf {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        self.path.with_file_name(format!("{name}.before-{id}-{}", section::digest(module)))
    }
}

/// Puts the candidate of a policy in its place, where its record allows that.
pub(super) fn run(workshop: &Workshop, context: &Context, options: &Options, json: bool) -> Result<Told, Error> {
    let id = &options.id;
    let configured = if options.dry_run { Configured::look_at(context)? } else { Configured::read(context)? };
    let module = configured.module(id);
    let file = module.shadow.clone().ok_or_else(|| Unmoved::NoShadow(id.clone()))?;
    let policies = configured.load(&configured.config)?;
    let (Some(old), Some(candidate)) = (policies.decider(id), policies.candidate(id)) else {
        return Err(Unmoved::NoShadow(id.clone()).into());
    };
    let new = candidate.map_err(|why| Unmoved::Candidate(id.clone(), why))?;
    let record = recorded(workshop, options, (&old, &new))?;
    let gates = Gates { max_change: options.max_change, never: &options.never, at_least: options.at_least };
    let against = record.against(&gates);
    if options.dry_run || !against.is_empty() {
        match json {
            true => println!("{:#}", record.json(&against)),
            false => record.print(id, &against),
        }
        return Ok(Told::is(against.is_empty()));
    }
    let dir = &configured.config.policy.dir;
    let said = |why| Unmoved::Candidate(id.clone(), why);
    let meant = candidate_of(id, dir, &module, &file).map_err(said)?;
    let kept = Kept::of(id, dir);
    let mut puts = kept.component(&old, &[])?;
    let beside = dir.join(&file);
    // Without cases of its own it is held to those of the policy in force.
    let guards: Vec<&Path> =
        [Some(beside.as_path()), new.origin.file(), old.origin.file()].into_iter().flatten().collect();
    puts.extend(kept.component(&new, &guards)?);
    let next = Module {
        module: match &new.origin {
            Origin::File(path) => Some(kept.named(path, &new.digest)),
            _ => meant.module,
        },
        settings: meant.settings,
        size: meant.size,
        sha256: module.sha256.as_ref().or(meant.sha256.as_ref()).map(|_| new.digest.clone()),
        shadow: None,
        shadow_share: Module::default().shadow_share,
        ..module
    };
    let line = section::line(id, &old.digest, &new.digest);
    let octets = format!("{line}\n{}", configured.text()).into_bytes();
    puts.push(Put { path: configured.kept(id, &next), octets, like: Some(configured.path.clone()) });
    let edited = configured.with(id, &next)?;
    if let Some((dir, policy)) = configured.floor_of(&new) {
        // What a rollback allowed ends with the next promotion, although no filter has read its configuration meanwhile.
        floor::allow(dir, &policy, None).map_err(Unmoved::Floor)?;
    }
    puts.iter().try_for_each(put)?;
    configured.commit(edited, id, |loaded| decides(loaded, id, &new))?;
    told(id, "promoted", (&old.digest, &new.digest), &configured, Some(&record), json);
    Ok(Told::Good)
}

/// Takes the last promotion of a policy back.
pub(super) fn rollback(context: &Context, id: &str, json: bool) -> Result<Told, Error> {
    let configured = Configured::read(context)?;
    let module = configured.module(id);
    let kept = configured.kept(id, &module);
    if !addrauth::files::is_there(&kept).unwrap_or(true) {
        return Err(Unmoved::NotPromoted { id: id.to_owned(), kept }.into());
    }
    let before = Config::text(&kept)?;
    let (old, new) = section::of_line(&before, id).ok_or_else(|| Unmoved::NoLine(kept.clone()))?;
    let mut section = configured.sources.with(&before).config()?.policies.remove(id).unwrap_or_default();
    let dir = &configured.config.policy.dir;
    let mut edited = match configured.untouched_since(id, &module, &before) {
        Some(before) => before,
        None => configured.with(id, &section)?,
    };
    let is_old = |config: &Config| match configured.load(config) {
        Ok(loaded) => loaded.decider(id).filter(|version| version.digest == old).ok_or(None),
        Err(why) => Err(Some(why)),
    };
    let now = match is_old(&edited.1) {
        Ok(version) => version,
        Err(_) => {
            // Another component lies where it was.
            let place = section.module.as_ref().map_or_else(|| dir.join(format!("{id}.wasm")), |file| dir.join(file));
            section.module = Some(Kept::of(id, dir).named(&place, &old));
            edited = configured.with(id, &section)?;
            is_old(&edited.1).map_err(|why| why.map_or_else(|| Unmoved::Gone(old.clone()), Unmoved::Dry))?
        }
    };
    let signed = configured.floor_of(&now);
    if let Some((dir, policy)) = &signed {
        // A signed component may go back to an older version by this way alone.
        floor::allow(dir, policy, Some(&now.digest)).map_err(Unmoved::Floor)?;
    }
    let done = configured.commit(edited, id, |loaded| decides(loaded, id, &now));
    if let (Err(_), Some((dir, policy))) = (&done, &signed) {
        // What was not done is not allowed either. The first error is the one to tell.
        let _ = floor::allow(dir, policy, None);
    }
    done?;
    told(id, "rolled back", (&new, &now.digest), &configured, None, json);
    Ok(Told::Good)
}

/// Whether this is what decides as the policy of this id.
pub(super) fn decides(loaded: &Policies, id: &str, meant: &Decider) -> bool {
    loaded.decider(id).is_some_and(|now| now.is(&meant.digest, &meant.settings))
}

/// What the journal has of a candidate beside the policy in force.
fn recorded(workshop: &Workshop, options: &Options, versions: (&Decider, &Decider)) -> Result<Record, Error> {
    let search = Search { policy: Some(options.id.clone()), since: Some(options.since), ..Search::default() };
    let mut record = Record::default();
    replay::scan(workshop, &search, &mut |row| match addrauth::why::story(&row) {
        Ok(story) => record.see(row.id, &story, &options.id, versions),
        Err(_) => record.unreadable += 1,
    })?;
    Ok(record)
}

fn told(id: &str, what: &str, (old, new): (&str, &str), configured: &Configured, record: Option<&Record>, json: bool) {
    let short = |digest: &str| digest.get(..12).unwrap_or(digest).to_owned();
    if json {
        let record = record.map(|record| record.json(&[]));
        println!(
            "{:#}",
            json!({ "policy": id, "done": what, "from": old, "to": new, "file": configured.path,
                "next": RELOAD, "record": record })
        );
        return;
    }
    if let Some(record) = record {
        println!("{}", record.summary());
    }
    let change = match old == new {
        true => format!("other settings of the same component {}", short(new)),
        false => format!("from {} to {}", short(old), short(new)),
    };
    println!("{id}: {what}, {change} in {}", configured.path.display());
    println!("next: {RELOAD}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_has_its_sign() {
        assert_eq!(percent("0.1%"), Ok(0.001));
        assert_eq!((percent("0%"), percent("100%")), (Ok(0.0), Ok(1.0)));
        for wrong in ["1", "0.1", "101%", "-1%", "%", "NaN%", "inf%", ""] {
            assert!(percent(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_would_decide_otherwise_than_its_record_says_is_not_put_in_force() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("addrauth.toml");
        let text = "[policies.ours]\nmodule = \"mark\" # ours\nshadow = \"/nowhere/next.wasm\"\n".to_owned();
        std::fs::write(&path, &text).unwrap();
        let sources = Sources::read(&path).unwrap();
        let (config, lock) = (named(sources.config().unwrap()), File::open(&path).unwrap());
        let configured = Configured { path: path.clone(), sources, config, _lock: Some(lock) };
        let version = configured.load(&configured.config).unwrap().decider("ours").unwrap();
        let next = Module { shadow: None, ..configured.module("ours") };
        for meant in [
            Decider { digest: "0".repeat(64), ..version.clone() },
            Decider { settings: json!({ "then": "reject" }), ..version.clone() },
        ] {
            let edited = configured.with("ours", &next).unwrap();
            let refused =
                configured.commit(edited, "ours", |loaded| decides(loaded, "ours", &meant)).unwrap_err().to_string();
            assert!(refused.contains("were changed meanwhile"), "{refused}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        let edited = configured.with("ours", &next).unwrap();
        configured.commit(edited, "ours", |loaded| decides(loaded, "ours", &version)).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "[policies.ours]\nmodule = \"mark\" # ours\n");
    }
}
