//! `addrauth policy pin`: writes into the configuration which component each policy has.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use addrauth::config::Config;
use addrauth::policy::trust::floor;
use addrauth::policy::{self, Origin, Policies};
use serde_json::json;

use super::named::Workshop;
use super::{Error, Told};

pub(super) mod edit;

/// What is pinned.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// Policies, by their ids in the configuration
    #[arg(required_unless_present = "all", conflicts_with = "all", value_name = "ID")]
    ids: Vec<String>,
    /// Every policy whose component comes from a file
    #[arg(long)]
    all: bool,
    /// Change nothing: exit code 1 where a pin is missing or names another component
    #[arg(long)]
    check: bool,
}

/// A policy with its component and its pin.
struct Pin {
    id: String,
    file: PathBuf,
    old: Option<String>,
    new: String,
}

impl Pin {
    /// Whether the configuration names this component already.
    fn holds(&self) -> bool {
        self.old.as_ref().is_some_and(|old| old.eq_ignore_ascii_case(&self.new))
    }
}

/// Pins, or with `--check` says what it would do.
pub(super) fn run(workshop: &Workshop, options: &Options, json: bool) -> Result<Told, Error> {
    let sources = workshop.sources()?;
    let (path, text) = sources.main();
    let config = sources.config()?;
    let pins = pins(workshop, &config, options)?;
    let changed: BTreeMap<&str, &str> =
        pins.iter().filter(|pin| !pin.holds()).map(|pin| (pin.id.as_str(), pin.new.as_str())).collect();
    if !changed.is_empty() && !options.check {
        let next = edit::pinned(text, &changed).map_err(|text| Error::Syntax { path: path.to_owned(), text })?;
        // A section of conf.d is not edited: that would set its key twice.
        let read = sources.with(&next).config()?;
        if read != meant(&config, &changed) {
            return Err(Error::Syntax {
                path: path.to_owned(),
                text: "its sections are written so that no line can be added: pin by hand".into(),
            });
        }
        load(workshop, &read)?;
        edit::replace(path, text, &next)?;
    }
    pins.iter().for_each(|pin| print(pin, options.check, json));
    if pins.is_empty() && !json {
        println!("no policy has its component from a file: there is nothing to pin");
    }
    Ok(Told::is(changed.is_empty() || !options.check))
}

/// What the configuration is to be.
fn meant(config: &Config, changed: &BTreeMap<&str, &str>) -> Config {
    let mut config = config.clone();
    for (id, digest) in changed {
        config.policies.entry((*id).to_owned()).or_default().sha256 = Some((*digest).to_owned());
    }
    config
}

/// The policies in question with the components that would be in force.
fn pins(workshop: &Workshop, config: &Config, options: &Options) -> Result<Vec<Pin>, Error> {
    let named: BTreeSet<&str> = options.ids.iter().map(String::as_str).collect();
    let mut loose = config.clone();
    for id in &named {
        loose.policies.entry((*id).to_owned()).or_default();
    }
    // Another policy's pin stays: where it does not hold, the configuration would not load.
    for (_, module) in loose.policies.iter_mut().filter(|(id, _)| options.all || named.contains(id.as_str())) {
        module.sha256 = None;
    }
    let policies = load(workshop, &loose)?;
    let mut all: Vec<_> = policies.list().into_iter().map(|listed| (listed.id, listed.origin, listed.digest)).collect();
    if let Some((id, origin, digest)) = policies.reader_of_rules()
        && !all.iter().any(|(known, ..)| known == id)
    {
        all.push((id.to_owned(), origin.clone(), digest.to_owned()));
    }
    let mut pins = Vec::new();
    for (id, origin, new) in all {
        let wanted = options.all || named.contains(id.as_str());
        match origin {
            Origin::File(file) if wanted => {
                let old = config.policies.get(&id).and_then(|module| module.sha256.clone());
                pins.push(Pin { id, file, old, new });
            }
            _ if wanted && !options.all => return Err(Error::Ships(id)),
            _ => {}
        }
    }
    Ok(pins)
}

/// Loads all that a filter of this configuration loads.
fn load(workshop: &Workshop, config: &Config) -> Result<Policies, Error> {
    let policies = Policies::load(&config.policy, &config.policies, &workshop.limits, &workshop.trial)?;
    if !config.final_domains.is_empty() {
        floor::check(&config.state_dir.0, &policies.signed()).map_err(policy::Error::from)?;
    }
    Ok(policies)
}

fn print(pin: &Pin, check: bool, json: bool) {
    let Pin { id, file, old, new } = pin;
    let state = match (pin.holds(), check) {
        (true, _) => "holds",
        (false, true) => "differs",
        (false, false) => "written",
    };
    if json {
        println!("{}", json!({"policy": id, "file": file, "old": old, "new": new, "pin": state}));
        return;
    }
    let old = old.as_deref().unwrap_or("none");
    match pin.holds() {
        true => println!("{id} ({}): pinned already, sha256 {new}", file.display()),
        false => println!("{id} ({}): the pin {state}\n  old {old}\n  new {new}", file.display()),
    }
}
