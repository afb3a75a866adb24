//! Standard output and standard error of the verbs: the words of strangers in it steer no terminal, and a JSON text stays one of
//! the same value ([`text`]); what cannot be written is remembered, and ends the verb with exit code 2.
//!
//! The macros of the standard library print what a stranger wrote as it is, and panic where a stream cannot be written. In this
//! room `println!`, `print!`, `eprintln!` and `eprint!` are those that `cli/mod.rs` defines, which come here.

use std::fmt::Arguments;
use std::io::{self, StdoutLock, Write};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use super::daemon::log;
use super::exit;
use addrauth::proto::text;

/// Why standard output could not be written, the first time.
static FAILED: Mutex<Option<String>> = Mutex::new(None);

/// A writer that is given UTF-8 text, and passes on what may be printed of it.
pub(crate) struct Printed<W>(pub(crate) W);

impl<W: Write> Write for Printed<W> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.0.write_all(text::shown_lines(&String::from_utf8_lossy(octets)).as_bytes())?;
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Standard output.
pub(crate) fn out() -> Printed<StdoutLock<'static>> {
    Printed(io::stdout().lock())
}

/// Standard error.
pub(crate) fn err() -> Printed<io::Stderr> {
    Printed(io::stderr())
}

/// Standard output for octets that are to come as they are: a message that is asked for so.
pub(crate) fn raw() -> StdoutLock<'static> {
    io::stdout().lock()
}

/// Writes to standard output.
pub(crate) fn print(words: Arguments<'_>) {
    remember(out().write_fmt(words));
}

/// Writes a line to standard output.
#[cfg_attr(test, expect(dead_code, reason = "in unit tests the macros are the harness's"))]
pub(crate) fn line(words: Arguments<'_>) {
    print(format_args!("{words}\n"));
}

/// Says something on standard error; a daemon's goes the way of its log.
#[cfg_attr(test, expect(dead_code, reason = "in unit tests the macros are the harness's"))]
pub(crate) fn say(words: Arguments<'_>) {
    log::say(&text::shown_lines(&words.to_string()));
}

/// The exit code of a verb that came to this one: 2 where not all could be printed, which standard error is told.
pub(crate) fn finish(code: ExitCode) -> ExitCode {
    remember(io::stdout().flush());
    log::finish();
    match FAILED.lock().unwrap_or_else(PoisonError::into_inner).take() {
        Some(why) => {
            log::say(&format!("addrauth: standard output cannot be written, so the answer is not complete: {why}\n"));
            exit::unknown()
        }
        None => code,
    }
}

/// Remembers that something could not be written to standard output.
pub(crate) fn remember(written: io::Result<()>) {
    if let Err(e) = written {
        FAILED.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| e.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_in_pieces_is_printed_without_what_is_hidden() {
        let mut printed = Printed(Vec::new());
        let subject = "a\u{9b}2J\u{202e}b\u{61c}\u{fc}";
        writeln!(printed, "subject: {subject}{}", 7).unwrap();
        writeln!(printed, "{}", serde_json::json!({ "subject": subject, "\u{e0041}": "\u{7f}\n" })).unwrap();
        let lines = String::from_utf8(printed.0).unwrap();
        let (text, json) = lines.split_once('\n').unwrap();
        assert_eq!(text, "subject: a\\u009b2J\\u202eb\\u061c\u{fc}7");
        assert!(!json.trim_end().contains(text::is_hidden), "{json:?}");
        let read: serde_json::Value = serde_json::from_str(json).unwrap();
        assert_eq!((read["subject"].as_str(), read["\u{e0041}"].as_str()), (Some(subject), Some("\u{7f}\n")));
    }
}
