//! Where cases lie, and their run against a component that was just built.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Error, named};
use addrauth::config::Limits;
use addrauth::policy::Trial;
use addrauth::policy::rehearse::{Ran, Stage, WrittenFacts};

/// The file of cases beside a policy.
pub(super) const CASES_FILE: &str = "cases.toml";

/// Whether there is such a file; not to be allowed to look is an error.
fn there(path: &Path) -> Result<bool, Error> {
    addrauth::files::is_there(path).map_err(|e| Error::Read { path: path.to_owned(), source: e.into() })
}

/// Runs the cases of one file against one component. Cases that name a message need a configuration, and are left out.
pub(super) fn run_one(component: &Path, octets: &[u8], cases: &Path, trial: &Trial) -> Result<Vec<Ran>, Error> {
    let limits = Arc::new(Limits::default());
    let suite = named::suite(cases, &limits)?;
    let stage = Stage::new(&limits).map_err(Error::Setup)?;
    let loaded = stage
        .load_as(octets, limits.size_for(octets.len()), trial)
        .map_err(|why| Error::Unfit { path: component.to_owned(), why: Box::new(why) })?;
    let none = |path: &Path, _: &WrittenFacts| Err(format!("{}: messages are read by `policy test`", path.display()));
    Ok(suite.run(&Arc::new(loaded), &Default::default(), &none))
}

/// The directories in ./policies that hold such a file, in the order of their names.
pub(super) fn directories_with(file: &str) -> Result<Vec<PathBuf>, Error> {
    let root = Path::new("policies");
    let failed = |source| Error::Read { path: root.to_owned(), source };
    let entries = match std::fs::read_dir(root) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() && there(&path.join(file))? {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
