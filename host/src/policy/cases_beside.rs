//! The cases beside a component, which are run before it decides any mail.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::Error;
use super::rehearse::{Component, Given, Ran, Suite, WrittenFacts, cases_of};
use super::sandbox::Sandbox;
use super::shelf::Shelved;
use crate::config::Module;
use crate::files;

/// Runs the cases beside this file, which is the policy's, under the settings that it has. Those that name a message are left to
/// `addrauth policy test`.
///
/// # Errors
/// A case fails, cannot be read, or there is no time for it.
pub(super) fn run(
    sandbox: &Arc<Sandbox>,
    policy: &Shelved,
    module: Option<&Module>,
    beside: &Path,
) -> Result<(), Error> {
    let refused = |text: String| Error::Cases { id: policy.id.clone(), text };
    let unread = |path: &Path, e: std::io::Error| Error::Read { path: path.to_owned(), source: e };
    let mut file = None;
    for place in cases_of(beside) {
        if file.is_none() && files::is_there(&place).map_err(|e| unread(&place, e.into()))? {
            file = Some(place);
        }
    }
    let Some(file) = file else { return Ok(()) };
    let limits = sandbox.limits();
    let text = files::read_text(&file, limits.policy.cases_octets).map_err(|e| unread(&file, e.into()))?;
    let suite = Suite::read(&text, &file).map_err(|e| refused(e.to_string()))?;
    let component = Arc::new(Component::of(sandbox, policy));
    let settings = module.map(|module| module.settings.clone()).unwrap_or_default();
    let none = |_: &Path, _: &WrittenFacts| Err("messages are read by `addrauth policy test`".to_owned());
    let begin = Instant::now();
    for case in suite.cases {
        if matches!(case.given, Given::Message { .. }) {
            continue;
        }
        if begin.elapsed() > limits.policy.cases_time {
            let most = super::seconds(limits.policy.cases_time);
            return Err(refused(format!("its cases in {} take longer than {most}", file.display())));
        }
        let one = Suite { path: file.clone(), cases: vec![case] };
        let failed = one.run(&component, &settings, &none).into_iter().find(|ran| !ran.passed);
        if let Some(Ran { case, file, expect_line, expected, actual, wrong, .. }) = failed {
            let way = wrong.unwrap_or_else(|| format!("expected {expected}, but got {actual}"));
            return Err(refused(format!("its case {case:?} ({}:{expect_line}) fails: {way}", file.display())));
        }
    }
    Ok(())
}
