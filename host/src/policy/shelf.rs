//! The shelf: finds a policy's component, loads it, fits its settings, and works out its table if it has one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::facts::contract_status;
use super::pace::Pace;
use super::sandbox::contract::{Decision, Description, Facts, Kind, Value, Wanted};
use super::sandbox::{Fault, Guest, Refused, Sandbox};
use super::shipped::SHIPPED;
use super::trust::{self, Signed, Untrusted};
use super::written_facts::{self, WrittenFacts};
use super::{Error, Origin};
use crate::case::KeyStatus;
use crate::config::{self, Limits, Module, OnFault, Size};
use crate::files;
use crate::proto::header::KEY_FIELDS;

/// Tries of a call while a policy is loaded: a component that never ends costs this often `policy_time`, and no mail waits.
const LOAD_TRIES: usize = 5;

/// Octets of settings, as JSON, that a decision tells whole: every row of the journal would repeat longer ones.
const SETTINGS: usize = 256;

/// A policy that is ready to decide.
pub(crate) struct Shelved {
    pub(crate) id: String,
    pub(crate) digest: String,
    pub(crate) origin: Origin,
    /// Who signed the component, where somebody is trusted.
    pub(super) signed: Option<Signed>,
    pub(crate) guest: Arc<Guest>,
    pub(crate) description: Description,
    /// What it wants to see under these settings.
    pub(crate) wanted: Wanted,
    pub(crate) settings: Vec<Value>,
    pub(crate) on_fault: OnFault,
    /// The same as a decision tells them.
    pub(super) settings_json: serde_json::Value,
    /// One decision per result, for a policy that sees nothing else; absent where that call faulted, so that it is
    /// asked again.
    table: Option<Vec<Option<Tabled>>>,
    /// Whether it is asked where others wait for the thread.
    pub(super) pace: Pace,
}

/// A decision that is known beforehand.
pub(crate) struct Tabled {
    pub(crate) decision: Decision,
    /// The facts that it was made on, as a decision tells them.
    pub(super) facts_json: serde_json::Value,
}

impl Shelved {
    /// The decision that follows from the result alone, where the policy sees nothing else.
    pub(crate) fn tabled(&self, status: KeyStatus) -> Option<&Tabled> {
        let row = KeyStatus::ALL.iter().position(|known| *known == status)?;
        self.table.as_ref()?.get(row)?.as_ref()
    }
}

/// A component that waits for settings.
pub(super) struct Component {
    pub(super) digest: String,
    pub(super) origin: Origin,
    pub(super) signed: Option<Signed>,
    pub(super) guest: Arc<Guest>,
    pub(super) description: Description,
}

/// Loads the policy `id`: the file that its `[policies.ID]` names, else `policy.dir/ID.wasm`, else the shipped component. What comes
/// from a file is first held against its pin and its signature, and then passes `trial`, with its digest. `former` is where the
/// component in force came from, on a reload.
pub(super) fn load<T>(
    sandbox: &Sandbox,
    id: &str,
    bindings: &config::Policy,
    module: Option<&Module>,
    former: Option<&Origin>,
    limits: &Limits,
    trial: T,
) -> Result<Shelved, Error>
where
    T: Fn(&[u8], &str, Size) -> Result<(), Refused>,
{
    let component = component(sandbox, id, bindings, module, former, limits, trial)?;
    let empty = BTreeMap::new();
    let given = module.map_or(&empty, |module| &module.settings);
    let (settings, wanted) = component.fitted(sandbox, id, given, limits)?;
    let table = tabulate(sandbox, &component.guest, &wanted, &settings);
    let on_fault = module.map(|module| module.on_fault).unwrap_or_default();
    Ok(component.shelved(id, settings, wanted, on_fault, table))
}

/// The same without its settings.
pub(super) fn component<T>(
    sandbox: &Sandbox,
    id: &str,
    bindings: &config::Policy,
    module: Option<&Module>,
    former: Option<&Origin>,
    limits: &Limits,
    trial: T,
) -> Result<Component, Error>
where
    T: Fn(&[u8], &str, Size) -> Result<(), Refused>,
{
    check_id(id)?;
    let (octets, origin) = find(id, &bindings.dir, module, former, limits)?;
    let digest = hex(&Sha256::digest(&octets));
    if let Some(pinned) = module.and_then(|module| module.sha256.as_ref()).filter(|p| !p.eq_ignore_ascii_case(&digest))
    {
        let pinned = pinned.clone();
        return Err(Error::Digest { id: id.into(), origin, digest, pinned });
    }
    let signed = signed(id, &octets, &origin, bindings, limits)?;
    let size = module.map(|module| module.size).unwrap_or_default();
    if size == Size::Large {
        tracing::info!(policy = id, "of size large: it is tried and compiled now, which may take a minute");
    }
    let tried = if origin == Origin::Shipped { Ok(()) } else { trial(&octets, &digest, size) };
    let guest = tried.and_then(|()| sandbox.load(&octets, size));
    let guest = guest.map_err(|why| Error::Refused { id: id.into(), origin: origin.clone(), why })?;
    let fault = |fault| Error::Fault { id: id.into(), during: "describe", fault };
    let description = patiently(|| sandbox.describe(&guest)).map_err(fault)?;
    if let Some(signed) = &signed {
        let described = signed.check_version(&description.version);
        described.map_err(|why| Error::Untrusted { id: id.into(), origin: origin.clone(), why })?;
    }
    Ok(Component { digest, origin, signed, guest: Arc::new(guest), description })
}

impl Component {
    /// Its settings, defaults filled in, and what it wants to see under them.
    pub(super) fn fitted(
        &self,
        sandbox: &Sandbox,
        id: &str,
        given: &BTreeMap<String, toml::Value>,
        limits: &Limits,
    ) -> Result<(Vec<Value>, Wanted), Error> {
        let refused = |text| Error::Settings { id: id.into(), text };
        let settings = fit(&self.description, given).map_err(refused)?;
        let wanted = patiently(|| sandbox.check_settings(&self.guest, &settings))
            .map_err(|fault| Error::Fault { id: id.into(), during: "check-settings", fault })?
            .map_err(|text| refused(super::printable(&text, limits.policy.text)))?;
        check_wanted(id, &wanted, limits)?;
        Ok((settings, wanted))
    }

    /// The policy that it is under these settings.
    pub(super) fn shelved(
        &self,
        id: &str,
        settings: Vec<Value>,
        wanted: Wanted,
        on_fault: OnFault,
        table: Option<Vec<Option<Tabled>>>,
    ) -> Shelved {
        Shelved {
            id: id.into(),
            digest: self.digest.clone(),
            origin: self.origin.clone(),
            signed: self.signed.clone(),
            guest: Arc::clone(&self.guest),
            description: self.description.clone(),
            wanted,
            settings_json: told_settings(written_facts::settings(&self.description, &settings)),
            settings,
            on_fault,
            table,
            pace: Pace::default(),
        }
    }
}

/// Who signed a component file, as the configuration wants it. What ships is part of this program.
pub(super) fn signed(
    id: &str,
    octets: &[u8],
    origin: &Origin,
    bindings: &config::Policy,
    limits: &Limits,
) -> Result<Option<Signed>, Error> {
    let untrusted = |why: Untrusted| Error::Untrusted { id: id.into(), origin: origin.clone(), why };
    match origin {
        Origin::File(path) => trust::check(octets, path, bindings, limits).map_err(untrusted),
        Origin::Shipped => Ok(None),
    }
}

/// Octets as hexadecimal digits.
pub(crate) fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// A call while a policy is loaded or looked at, tried again where it faults. Its time is counted by the wall clock, and on a busy
/// machine others may have had all of it: that must not keep the filter from starting, nor fail a case. A true fault comes back
/// every time.
pub(super) fn patiently<T>(mut call: impl FnMut() -> Result<T, Fault>) -> Result<T, Fault> {
    for _ in 1..LOAD_TRIES {
        if let Ok(done) = call() {
            return Ok(done);
        }
    }
    call()
}

/// An id becomes a file name, a log word and a field of the journal.
pub(super) fn check_id(id: &str) -> Result<(), Error> {
    let good = |octet: u8| octet.is_ascii_lowercase() || octet.is_ascii_digit() || octet == b'-';
    if (1..=64).contains(&id.len()) && id.bytes().all(good) { Ok(()) } else { Err(Error::Id(id.into())) }
}

pub(super) fn find(
    id: &str,
    dir: &Path,
    module: Option<&Module>,
    former: Option<&Origin>,
    limits: &Limits,
) -> Result<(Vec<u8>, Origin), Error> {
    let file = module.and_then(|module| module.module.as_ref());
    // `module = "rules"` means the component that `rules` is, under an id and with settings of its own.
    let shipped = file.and_then(|file| SHIPPED.iter().find(|(known, _)| file == Path::new(known)));
    let (id, file) = shipped.map_or((id, file), |(known, _)| (*known, None));
    if let Some(module) = file.filter(|file| file.is_relative() && dir.as_os_str().is_empty()) {
        return Err(Error::Relative { id: id.into(), module: module.clone() });
    }
    let named = file.map(|file| dir.join(file));
    let path = match named {
        None if !dir.as_os_str().is_empty() => beside(id, dir.join(format!("{id}.wasm")), former)?,
        named => named,
    };
    if let Some(path) = path {
        let size = module.map(|module| module.size).unwrap_or_default();
        return Ok((read(&path, &limits.of(size))?, Origin::File(path)));
    }
    match SHIPPED.iter().find(|(known, _)| *known == id) {
        Some((_, octets)) => Ok((octets.to_vec(), Origin::Shipped)),
        None => Err(Error::Unknown { id: id.into(), dir: dir.to_owned() }),
    }
}

/// The file of `policy.dir` where it is there. One that cannot be looked at is an error, and so is one that the component in
/// force came from and that is gone: the shipped component must not take its place.
fn beside(id: &str, path: PathBuf, former: Option<&Origin>) -> Result<Option<PathBuf>, Error> {
    match files::is_there(&path) {
        Ok(true) => Ok(Some(path)),
        Ok(false) if matches!(former, Some(Origin::File(file)) if *file == path) => {
            Err(Error::Gone { id: id.into(), path })
        }
        Ok(false) => Ok(None),
        Err(e) => Err(Error::Read { path, source: e.into() }),
    }
}

/// Reads a component file, and no more of it than a component may have.
pub(crate) fn read(path: &Path, limits: &Limits) -> Result<Vec<u8>, Error> {
    let most = u64::try_from(limits.policy.file).unwrap_or(u64::MAX);
    files::read(path, most).map_err(|e| match e {
        files::Error::Long(_) => {
            Error::TooLarge { path: path.to_owned(), room: limits.policy.file, size: limits.policy.size }
        }
        other => Error::Read { path: path.to_owned(), source: other.into() },
    })
}

/// No policy sees keys, and what is no field name is nobody's.
pub(crate) fn check_wanted(id: &str, wanted: &Wanted, limits: &Limits) -> Result<(), Error> {
    if let Some(name) = wanted.headers.iter().find(|name| KEY_FIELDS.iter().any(|k| name.eq_ignore_ascii_case(k))) {
        return Err(Error::AsksForKeys { id: id.into(), name: super::printable(name, limits.policy.text) });
    }
    let good = |name: &&String| !name.is_empty() && name.bytes().all(|o| (33..127).contains(&o) && o != b':');
    if let Some(name) = wanted.headers.iter().find(|name| !good(name)) {
        return Err(Error::FieldName { id: id.into(), name: super::printable(name, limits.policy.text) });
    }
    Ok(())
}

/// The values in the order in which the policy declares its settings, defaults filled in.
pub(crate) fn fit(description: &Description, given: &BTreeMap<String, toml::Value>) -> Result<Vec<Value>, String> {
    let declared = &description.settings;
    if let Some(name) = given.keys().find(|name| declared.iter().all(|setting| setting.name != **name)) {
        let names: Vec<_> = declared.iter().map(|setting| super::printable(&setting.name, 64)).collect();
        let known = if names.is_empty() { "it has none".into() } else { format!("it has {}", names.join(", ")) };
        return Err(format!("there is no setting `{name}`; {known}"));
    }
    let fitted = declared.iter().map(|setting| {
        let name = super::printable(&setting.name, 64);
        match given.get(&setting.name) {
            Some(value) => {
                typed(&setting.kind, value).ok_or_else(|| format!("`{name}` must be {}", setting.kind.word()))
            }
            None => setting.kind.default_value().ok_or_else(|| {
                let summary = super::printable(&setting.summary, 200);
                format!("`{name}` must be set to {}: {summary}", setting.kind.word())
            }),
        }
    });
    fitted.collect()
}

fn typed(kind: &Kind, value: &toml::Value) -> Option<Value> {
    match (kind, value) {
        (Kind::Text(_), toml::Value::String(text)) => Some(Value::Text(text.clone())),
        (Kind::Number(_), toml::Value::Integer(number)) => Some(Value::Number(*number)),
        (Kind::Flag(_), toml::Value::Boolean(flag)) => Some(Value::Flag(*flag)),
        (Kind::Texts(_), toml::Value::Array(values)) => {
            let texts = values.iter().map(|value| value.as_str().map(String::from));
            texts.collect::<Option<_>>().map(Value::Texts)
        }
        _ => None,
    }
}

/// What a decision tells of settings: themselves, or of long ones their SHA-256.
pub(super) fn told_settings(settings: serde_json::Value) -> serde_json::Value {
    let text = settings.to_string();
    if text.len() > SETTINGS { hex(&Sha256::digest(text)).into() } else { settings }
}

/// The decisions of a policy that sees the result alone.
fn tabulate(sandbox: &Sandbox, guest: &Guest, wanted: &Wanted, settings: &[Value]) -> Option<Vec<Option<Tabled>>> {
    let decide = |status| {
        let facts = Facts::of(contract_status(status));
        let decision = sandbox.decide(guest, &facts, settings).ok()?;
        Some(Tabled { decision, facts_json: WrittenFacts::of(&facts, wanted).json() })
    };
    wanted.is_nothing().then(|| KeyStatus::ALL.into_iter().map(decide).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_had_no_time_is_tried_again_and_one_that_never_ends_is_not_tried_for_ever() {
        let mut calls = 0;
        let mut faults = |most: usize| {
            calls += 1;
            if calls <= most { Err(Fault(format!("ran longer than 10 ms, {calls}"))) } else { Ok(calls) }
        };
        assert_eq!(patiently(|| faults(2)), Ok(3));
        assert_eq!(patiently(|| faults(usize::MAX)), Err(Fault("ran longer than 10 ms, 8".into())));
    }
}
