//! The exit codes of every verb.

use std::process::ExitCode;

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

/// Says on standard error why a verb could not be carried out; exit code 2.
pub(crate) fn fail(error: impl std::fmt::Display) -> ExitCode {
    eprintln!("addrauth: {error}");
    unknown()
}
