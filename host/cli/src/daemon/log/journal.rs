//! The log as records of systemd's journal, with fields that `journalctl` finds them by.
//!
//! The protocol is the journal's own (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>): a datagram for each record. Only the log's
//! writer sends one, so that a journal that stands still stops no message.

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::field::{MakeVisitor, VisitFmt, VisitOutput};
use tracing_subscriber::fmt::FormatFields as _;
use tracing_subscriber::fmt::format::{DefaultVisitor, Writer};
use tracing_subscriber::layer::Context;

/// Where the journal takes records.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";

/// How much of a message's words a record holds: what the journal makes one line of, where it reads lines.
const WORDS: usize = 48 * 1024;

/// The fields of an event that a record has as fields of its own, and their names there. The log's line of a message has the words of
/// `case.` in itself.
const FIELDS: [(&str, &str); 5] = [
    ("case.queue_id", "ADDRAUTH_QUEUE_ID"),
    ("queue_id", "ADDRAUTH_QUEUE_ID"),
    ("case.result", "ADDRAUTH_RESULT"),
    ("case.decision", "ADDRAUTH_DECISION"),
    ("case.verdict", "ADDRAUTH_VERDICT"),
];

/// The journal's socket. Each write is one record.
#[derive(Debug)]
pub(super) struct Journal {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Journal {
    /// The journal that takes records at `path`, where standard error is a stream to the journal, as `stream` says
    /// (`JOURNAL_STREAM`: device and inode). It was set for a parent where it names another file.
    pub(super) fn of(stream: Option<&OsStr>, stderr: &File, path: &Path) -> Option<Journal> {
        let (device, inode) = stream?.to_str()?.split_once(':')?;
        let known = stderr.metadata().ok()?;
        if (device.parse(), inode.parse()) != (Ok(known.dev()), Ok(known.ino())) {
            return None;
        }
        let socket = UnixDatagram::unbound().ok()?;
        // A service may see no such socket, or not be allowed to use it.
        UnixDatagram::unbound().ok()?.connect(path).ok()?;
        Some(Journal { socket, path: path.to_owned() })
    }
}

impl Write for Journal {
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        // To the path each time: the journal may have been started anew.
        self.socket.send_to(record, &self.path)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Makes a record of each event, and hands it to the log.
pub(super) struct Records<P>(pub(super) P);

impl<S: Subscriber, P: Fn(&[u8]) + 'static> Layer<S> for Records<P> {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut words = String::new();
        // Writing into a string does not fail.
        let _ = LineFields.format_fields(Writer::new(&mut words), event);
        let mut found = Found::default();
        event.record(&mut found);
        (self.0)(&record(event.metadata().level(), &words, &found.0));
    }
}

/// A record with these words, and fields by their names in the journal.
pub(super) fn record(level: &Level, words: &str, fields: &[(&str, String)]) -> Vec<u8> {
    // Of syslog.
    let priority = match *level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        _ => "7",
    };
    let words = words.trim_end_matches('\n');
    let words = words.get(..words.floor_char_boundary(WORDS)).unwrap_or(words);
    let mut octets = Vec::with_capacity(words.len().saturating_add(256));
    for (name, value) in [("PRIORITY", priority), ("SYSLOG_IDENTIFIER", "addrauth"), ("MESSAGE", words)] {
        put(&mut octets, name, value);
    }
    for (name, value) in fields {
        put(&mut octets, name, value);
    }
    octets
}

/// A field: on a line of its own or, where the value has several lines, with the value's length before it.
fn put(octets: &mut Vec<u8>, name: &str, value: &str) {
    octets.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        octets.push(b'\n');
        octets.extend_from_slice(&u64::try_from(value.len()).unwrap_or_default().to_le_bytes());
    } else {
        octets.push(b'=');
    }
    octets.extend_from_slice(value.as_bytes());
    octets.push(b'\n');
}

/// The fields of [`FIELDS`] that an event has.
#[derive(Default)]
struct Found(Vec<(&'static str, String)>);

impl Found {
    fn take(&mut self, field: &Field, value: impl FnOnce() -> String) {
        let Some((_, name)) = FIELDS.iter().find(|(known, _)| *known == field.name()) else { return };
        let value = value();
        // No queue id is no field, and `-` is how a line writes that.
        if !matches!(value.as_str(), "" | "-") {
            self.0.push((name, value));
        }
    }
}

impl Visit for Found {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, || value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.take(field, || format!("{value:?}"));
    }
}

/// The fields of an event as a line of text tells them: those of `case.` stand in its words already.
#[derive(Clone, Copy, Debug)]
pub(super) struct LineFields;

/// Writes fields but for those of `case.`.
pub(super) struct LineVisitor<'a>(DefaultVisitor<'a>);

fn is_told(field: &Field) -> bool {
    !field.name().starts_with("case.")
}

impl<'a> MakeVisitor<Writer<'a>> for LineFields {
    type Visitor = LineVisitor<'a>;

    fn make_visitor(&self, target: Writer<'a>) -> LineVisitor<'a> {
        LineVisitor(DefaultVisitor::new(target, true))
    }
}

impl Visit for LineVisitor<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if is_told(field) {
            self.0.record_str(field, value);
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        if is_told(field) {
            self.0.record_error(field, value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if is_told(field) {
            self.0.record_debug(field, value);
        }
    }
}

impl VisitOutput<fmt::Result> for LineVisitor<'_> {
    fn finish(self) -> fmt::Result {
        self.0.finish()
    }
}

impl VisitFmt for LineVisitor<'_> {
    fn writer(&mut self) -> &mut dyn fmt::Write {
        self.0.writer()
    }
}

#[cfg(test)]
mod tests;
