//! What verbs write to standard output and standard error: the words of strangers among it steer no terminal, and a JSON text
//! stays one of the same value ([`text`]). In this room `println!`, `print!` and `eprintln!` are those that `cli/mod.rs` defines,
//! which come here.

use std::fmt::Arguments;
use std::io::{self, StdoutLock, Write};

use crate::proto::text;

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

/// Writes to standard output. Where that cannot be done the program ends with exit code 2: what it tells is not complete.
pub(crate) fn print(words: Arguments<'_>) {
    if let Err(e) = out().write_fmt(words) {
        say(format_args!("addrauth: standard output cannot be written: {e}\n"));
        std::process::exit(2);
    }
}

/// Writes to standard error; a reader who has gone is no reason to fail.
pub(crate) fn say(words: Arguments<'_>) {
    let _ = err().write_fmt(words);
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
