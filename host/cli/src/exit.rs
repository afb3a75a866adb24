//! The exit codes of every verb.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

/// Done, or the answer is yes.
pub(crate) const YES: ExitCode = ExitCode::SUCCESS;

/// The answer is no: an invalid key, a case that failed, a configuration that is wrong.
pub(crate) fn no() -> ExitCode {
    ExitCode::from(1)
}

/// Could not tell: what was needed to answer failed.
pub(crate) fn unknown() -> ExitCode {
    ExitCode::from(2)
}

/// Whether results are printed as JSON, and so are errors.
static JSON: AtomicBool = AtomicBool::new(false);

/// Errors are printed as JSON from now on, too.
pub(crate) fn speak_json() {
    JSON.store(true, Ordering::Relaxed);
}

/// Says on standard error why a verb was not carried out; with `--json` standard output has it as `{"ok": false, "error": …}` as well.
pub(crate) fn complain(error: impl std::fmt::Display) {
    if JSON.load(Ordering::Relaxed) {
        println!("{}", serde_json::json!({ "ok": false, "error": error.to_string() }));
    }
    eprintln!("addrauth: {error}");
}

/// The same; exit code 2.
pub(crate) fn fail(error: impl std::fmt::Display) -> ExitCode {
    complain(error);
    unknown()
}
