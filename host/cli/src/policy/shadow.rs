//! `addrauth policy shadow`: a candidate is checked, held to its cases, and put beside its policy; or taken away.
//!
//! It is looked at in a directory of its own, and loaded there as the filter would load it. Only what passes is put in its place,
//! file by file, each of them whole; what is refused leaves nothing behind.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use addrauth::config::{Limits, Module, Size};
use addrauth::files;
use addrauth::policy::rehearse::{self, Ran, Suite, WrittenFacts, cases_of};
use addrauth::policy::{Decider, Policies};
use serde_json::{Value, json};

use super::named::{Named, Workshop};
use super::new::text::READER;
use super::promote::place::{Put, put};
use super::promote::{Configured, RELOAD, decides};
use super::{Error, Setting, Told, check};
use crate::Context;

mod given;
mod spot;

use given::Given;
use spot::{Place, tell};

/// Cases that fail of which JSON tells more than their number.
const SHOWN: usize = 20;

/// What becomes the candidate of which policy.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// The policy's id.
    id: String,
    /// The candidate: a component, which keeps the settings of the policy, or a text with its own [policies.ID]; - is the standard input.
    #[arg(value_name = "FILE", required_unless_present_any = ["off", "place"])]
    file: Option<PathBuf>,
    /// FILE holds nothing but rules, one a line, for the policy `rules`.
    #[arg(long)]
    rules: bool,
    /// The cases that it has to pass [default: those of the policy in force].
    #[arg(long, value_name = "FILE")]
    cases: Option<PathBuf>,
    /// The signature of the component.
    #[arg(long, value_name = "FILE")]
    signature: Option<PathBuf>,
    /// Take the candidate away: its files stay.
    #[arg(long, conflicts_with_all = ["file", "rules", "cases", "signature", "place"])]
    off: bool,
    /// Change nothing: say where a candidate would be put, whether whoever runs this may, and which commands do it.
    #[arg(long = "where", conflicts_with_all = ["file", "rules", "cases", "signature"])]
    place: bool,
}

/// Why no candidate is put.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unput {
    #[error("no policy of the id {0} is in force: `addrauth config check` lists those that are")]
    NoPolicy(String),
    #[error(
        "policy.dir is not set, and a candidate needs a place: set it, or name a file of the right kind by policies.{0}.shadow"
    )]
    NoDir(String),
    #[error("{path} belongs to something that is in force: name another file by policies.{id}.shadow")]
    InUse { id: String, path: PathBuf },
    #[error("{why}. It is done by: {command}")]
    MayNot { why: String, command: String },
    #[error("policies.{0}.shadow names no candidate: there is nothing to take away")]
    NoShadow(String),
}

impl From<Unput> for Error {
    fn from(why: Unput) -> Error {
        Error::Unput(Box::new(why))
    }
}

/// A candidate that is looked at, in a directory that goes with this.
struct Staged {
    _dir: tempfile::TempDir,
    /// How each file of it is called, and how it is to be told.
    names: Vec<(PathBuf, PathBuf)>,
    file: PathBuf,
}

/// What was found of a candidate.
#[derive(Default)]
struct Looked {
    /// What it is, as `policy check` tells it.
    check: Option<Value>,
    ran: Vec<Ran>,
    /// Cases that name a message: `policy test` runs them.
    left_out: usize,
    refused: Option<String>,
}

/// Puts a candidate beside its policy, takes it away, or says what would be done.
pub(super) fn run(workshop: &Workshop, context: &Context, options: &Options, json: bool) -> Result<Told, Error> {
    let id = &options.id;
    rehearse::check_id(id)?;
    if options.place {
        tell(&Configured::look_at(context)?, id, json);
        return Ok(Told::Good);
    }
    let configured = Configured::read(context)?;
    if options.off {
        return off(&configured, id, json);
    }
    let Some(file) = &options.file else { return Err(Error::Nothing) };
    let module = configured.module(id);
    let given = match Given::read(
        (file, options.rules),
        (options.cases.as_deref(), options.signature.as_deref()),
        id,
        &module,
    )? {
        Ok(given) => given,
        Err(refused) => return Ok(told(id, &Looked::of(refused), json)),
    };
    let place = Place::of(&configured, id, given.kind)?;
    place.check_rights(&configured, id)?;
    let staged = Staged::of(&given, &place)?;
    let (looked, versions) = look(workshop, &configured, id, (&given, &staged, &place))?;
    let Some((old, new)) = versions.filter(|_| looked.refused.is_none()) else {
        return Ok(told(id, &looked, json));
    };
    settle(&configured, id, (&given, &place), (&old, &new))?;
    done(&configured, id, &looked, (&place, &new), json);
    Ok(Told::Good)
}

impl Looked {
    fn failed(&self) -> impl Iterator<Item = &Ran> {
        self.ran.iter().filter(|ran| !ran.passed)
    }

    /// The same as JSON, with these members beside.
    fn json(&self, mut told: Value) -> Value {
        let shown: Vec<&Ran> = self.failed().take(SHOWN).collect();
        let failed = self.failed().count();
        told["check"] = json!(self.check);
        told["cases"] = json!(shown);
        told["passed"] = json!(self.ran.len() - failed);
        told["failed"] = json!(failed);
        told["left_out"] = json!(self.left_out);
        told
    }

    fn of(refused: String) -> Looked {
        Looked { refused: Some(refused), ..Looked::default() }
    }
}

impl Staged {
    fn of(given: &Given, place: &Place) -> Result<Staged, Error> {
        let failed = |source| Error::Write { path: std::env::temp_dir(), source };
        let dir = tempfile::tempdir().map_err(failed)?;
        let file = dir.path().join(place.path.file_name().unwrap_or_default());
        let mut names = Vec::new();
        for ((name, octets), (to, _)) in given.files(&file).into_iter().zip(given.files(&place.path)) {
            fs::write(&name, octets).map_err(|source| Error::Write { path: name.clone(), source })?;
            names.push((name, to));
        }
        Ok(Staged { _dir: dir, names, file })
    }

    /// A text about it, with the names that its files will have.
    fn named(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (from, to) in &self.names {
            text = text.replace(&from.display().to_string(), &to.display().to_string());
        }
        text
    }
}

/// Looks at the candidate in its own directory: first as the filter would, its signature before all else, then as `policy check` and
/// `policy test`. Beside that what decides now, and what would beside it.
fn look(
    workshop: &Workshop,
    configured: &Configured,
    id: &str,
    (given, staged, place): (&Given, &Staged, &Place),
) -> Result<(Looked, Option<(Decider, Decider)>), Error> {
    let module = Module { shadow: Some(staged.file.clone()), ..configured.module(id) };
    let mut config = configured.config.clone();
    config.policies.insert(id.to_owned(), module.clone());
    // Its cases last: then each of them is told.
    let cases = given.cases.as_ref().map(|_| cases_of(&staged.file)).unwrap_or_default();
    cases
        .first()
        .map(fs::remove_file)
        .transpose()
        .map_err(|source| Error::Write { path: staged.file.clone(), source })?;
    let loaded = configured.load(&config)?;
    place.check_free(&loaded, configured, id)?;
    let Some(old) = loaded.decider(id) else { return Err(Unput::NoPolicy(id.to_owned()).into()) };
    let new = match loaded.candidate(id) {
        Some(Ok(new)) => new,
        Some(Err(why)) => return Ok((Looked::of(staged.named(&why)), None)),
        None => return Err(Unput::NoPolicy(id.to_owned()).into()),
    };
    if new.is(&old.digest, &old.settings) {
        return Ok((Looked::of(format!("it is what decides as {id} already")), None));
    }
    let looked = rehearsed(workshop, (configured, &old), id, (given, staged), &module);
    Ok((looked?, Some((old, new))))
}

/// What it is, what is odd about it, and its cases, or else those of the policy in force.
fn rehearsed(
    workshop: &Workshop,
    (configured, old): (&Configured, &Decider),
    id: &str,
    (given, staged): (&Given, &Staged),
    module: &Module,
) -> Result<Looked, Error> {
    let word = staged.file.display().to_string();
    let set: Vec<Setting> = match given.kind.is_text() {
        true => Vec::new(),
        false => module.settings.iter().map(|(name, value)| Setting(name.clone(), value.clone())).collect(),
    };
    let named = match workshop.load(&word, &set) {
        Ok(named) => named,
        Err(e @ (Error::Config(_) | Error::Setup(_))) => return Err(e),
        Err(e) => return Ok(Looked::of(staged.named(&e.to_string()))),
    };
    let mut report = check::look(workshop, &named);
    report["file"] = staged.named(&word).into();
    let wrong = report["odd"].as_array().into_iter().flatten().find(|odd| odd["wrong"] == true);
    let wrong = wrong
        .map(|odd| format!("{}: {}", odd["id"].as_str().unwrap_or_default(), odd["text"].as_str().unwrap_or_default()));
    let (text, path) = match &given.cases {
        Some(text) => (
            Some(text.clone()),
            staged.named(&cases_of(&staged.file).first().unwrap_or(&staged.file).display().to_string()).into(),
        ),
        None => in_force(configured, id, old)?,
    };
    let mut looked = Looked { check: Some(report), refused: wrong, ..Looked::default() };
    if let Some(text) = text {
        hold(&named, &text, &path, given.cases.is_some(), &mut looked);
    }
    Ok(looked)
}

/// Runs cases, and notes in `looked` how they went.
fn hold(named: &Named, text: &str, path: &Path, are_given: bool, looked: &mut Looked) {
    let mut suite = match Suite::read(text, path) {
        Ok(suite) => suite,
        Err(bad) => return looked.refused = Some(bad.to_string()),
    };
    let count = suite.cases.len();
    suite.cases.retain(|case| !matches!(case.given, rehearse::Given::Message { .. }));
    looked.left_out = count - suite.cases.len();
    if are_given && looked.left_out > 0 {
        // Files of others would be read for them.
        looked.refused =
            Some(format!("{} of its cases name a message: those are for `addrauth policy test`", looked.left_out));
        return;
    }
    let none = |_: &Path, _: &WrittenFacts| Err("messages are read by `addrauth policy test`".to_owned());
    looked.ran = suite.run(&named.component, &named.given, &none);
    let failed = looked.ran.iter().filter(|ran| !ran.passed).count();
    if failed > 0 {
        looked.refused = Some(format!("{failed} of {} cases fail", looked.ran.len()));
    }
}

/// The cases of the policy in force, and where they stand.
fn in_force(configured: &Configured, id: &str, old: &Decider) -> Result<(Option<String>, PathBuf), Error> {
    let dir = &configured.config.policy.dir;
    let beside = old.origin.file().map_or_else(|| dir.join(format!("{id}.wasm")), Path::to_owned);
    for path in cases_of(&beside) {
        let unread = |e: files::Error| Error::Read { path: path.clone(), source: e.into() };
        if files::is_there(&path).map_err(unread)? {
            let text = files::read_text(&path, Limits::default().policy.cases_octets).map_err(unread)?;
            return Ok((Some(text), path));
        }
    }
    Ok((None, beside))
}

/// Puts the files in their places and names them in the configuration, or leaves all as it was.
fn settle(
    configured: &Configured,
    id: &str,
    (given, place): (&Given, &Place),
    (old, new): (&Decider, &Decider),
) -> Result<(), Error> {
    let is_meant = |loaded: &Policies| {
        let is_new = loaded.candidate(id).is_some_and(|now| now.is_ok_and(|now| now.is(&new.digest, &new.settings)));
        is_new && decides(loaded, id, old)
    };
    let edited = if place.is_named { None } else { Some(configured.with_shadow(id, &place.named)?) };
    let puts = given.files(&place.path);
    let stale = given.others(&place.path);
    let before = kept(puts.iter().map(|(path, _)| path).chain(&stale))?;
    let tried = (|| {
        puts.iter()
            .try_for_each(|(path, octets)| put(&Put { path: path.clone(), octets: octets.clone(), like: None }))?;
        stale.iter().try_for_each(|path| gone(path))?;
        match edited {
            Some(edited) => configured.commit(edited, id, is_meant),
            None if is_meant(&configured.load(&configured.config)?) => Ok(()),
            None => Err(super::promote::Unmoved::Another(id.to_owned()).into()),
        }
    })();
    if tried.is_err() {
        // What stands in the way of that stands in the way of all else; the first error is the one to tell.
        for Before { path, octets } in before {
            let _ = match octets {
                Some(octets) => put(&Put { path, octets, like: None }),
                None => gone(&path),
            };
        }
    }
    tried
}

/// A file as it was; absent inside: there was none.
struct Before {
    path: PathBuf,
    octets: Option<Vec<u8>>,
}

/// What lies at these places now.
fn kept<'a>(paths: impl Iterator<Item = &'a PathBuf>) -> Result<Vec<Before>, Error> {
    let most = u64::try_from(Limits::default().of(Size::Large).policy.file).unwrap_or(u64::MAX);
    let read = |path: &PathBuf| {
        let unread = |e: files::Error| Error::Read { path: path.clone(), source: e.into() };
        let is_there = files::is_there(path).map_err(unread)?;
        let octets = if is_there { Some(files::read(path, most).map_err(unread)?) } else { None };
        Ok(Before { path: path.clone(), octets })
    };
    paths.map(read).collect()
}

/// Removes a file, where it is there.
fn gone(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::Write { path: path.to_owned(), source: e }),
        _ => Ok(()),
    }
}

/// Takes the candidate out of the configuration.
fn off(configured: &Configured, id: &str, json: bool) -> Result<Told, Error> {
    let module = configured.module(id);
    let Some(file) = module.shadow.clone() else { return Err(Unput::NoShadow(id.to_owned()).into()) };
    spot::check_config(configured)
        .map_err(|why| Unput::MayNot { why, command: spot::command(configured, id, "--off") })?;
    let usual = Module::default();
    let next = Module { shadow: None, shadow_share: usual.shadow_share, ..module };
    let old = configured.load(&configured.config)?.decider(id);
    let edited = configured.with(id, &next)?;
    configured.commit(edited, id, |loaded| loaded.decider(id) == old && loaded.candidate(id).is_none())?;
    match json {
        true => println!("{:#}", json!({ "policy": id, "done": "candidate taken away", "file": file, "next": RELOAD })),
        false => println!("{id}: {} is no candidate any more\nnext: {RELOAD}", file.display()),
    }
    Ok(Told::Good)
}

/// Says why nothing is put.
fn told(id: &str, looked: &Looked, json: bool) -> Told {
    let why = looked.refused.clone().unwrap_or_default();
    if json {
        println!("{:#}", looked.json(json!({ "policy": id, "refused": why })));
        return Told::Finding;
    }
    print(looked);
    println!("REFUSED: {why}\n{id}: nothing was changed");
    Told::Finding
}

fn print(looked: &Looked) {
    if let Some(report) = &looked.check {
        check::print(report, false);
    }
    for ran in looked.failed() {
        println!("FAIL {} ({}:{})", ran.case, ran.file.display(), ran.expect_line);
        match &ran.wrong {
            Some(wrong) => println!("  {wrong}"),
            None => println!("  expected: {}\n  actual:   {}", ran.expected, ran.actual),
        }
    }
    let passed = looked.ran.iter().filter(|ran| ran.passed).count();
    if !looked.ran.is_empty() {
        println!("{passed} of {} cases pass", looked.ran.len());
    }
    if looked.left_out > 0 {
        println!("note: {} cases name a message, and are left to `addrauth policy test`", looked.left_out);
    }
}

/// Says what was done, and what comes next.
fn done(configured: &Configured, id: &str, looked: &Looked, (place, new): (&Place, &Decider), json: bool) {
    let is_watched = place.is_named && configured.config.policy.watch;
    let next = (!is_watched).then_some(RELOAD);
    if json {
        let told = json!({ "policy": id, "done": "candidate", "file": place.path, "digest": new.digest, "next": next });
        println!("{:#}", looked.json(told));
        return;
    }
    print(looked);
    println!("{id}: its candidate is {}, and decides beside it", place.path.display());
    match next {
        Some(next) => println!("next: {next}"),
        None => println!("the filter takes it up by itself (policy.watch)"),
    }
}

/// A text of rules as the section that the candidate of a policy has; other settings of the policy stay, where it is such a text.
fn section(id: &str, lines: &str, module: &Module) -> String {
    let is_rules = module.module.as_deref() == Some(Path::new(READER)) || (module.module.is_none() && id == READER);
    let mut settings: BTreeMap<String, toml::Value> = if is_rules { module.settings.clone() } else { BTreeMap::new() };
    // Blank lines count: what is told of a line names its number.
    let lines: Vec<toml::Value> = lines.trim_end().lines().map(toml::Value::from).collect();
    settings.insert("rules".into(), lines.into());
    let module = toml::Table::from_iter([
        ("module".to_owned(), toml::Value::from(READER)),
        ("settings".to_owned(), settings.into_iter().collect::<toml::Table>().into()),
    ]);
    let policies = toml::Table::from_iter([(id.to_owned(), toml::Value::from(module))]);
    // Plain data always serialises.
    toml::to_string_pretty(&toml::Table::from_iter([("policies".to_owned(), toml::Value::from(policies))]))
        .unwrap_or_default()
}
