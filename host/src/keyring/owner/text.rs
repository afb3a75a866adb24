//! A table in a text file (Postfix's table(5)): read here, and again whenever the file is another one.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::Mutex;

use crate::files;
use crate::keyring::Error;

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    modified: SystemTime,
    size: u64,
    place: (u64, u64),
}

type Rows = Arc<HashMap<String, String>>;

/// A table in a text file.
#[derive(Debug)]
pub(super) struct Text {
    path: PathBuf,
    most: u64,
    /// What was read last, and of which state of the file.
    known: Mutex<Option<(State, Rows)>>,
}

impl Text {
    /// The table in this file, of at most so many octets.
    pub(super) fn new(path: &str, most: u64) -> Text {
        Text { path: path.into(), most, known: Mutex::default() }
    }

    /// The values of these keys, in their order.
    pub(super) async fn find(&self, keys: &[String]) -> Result<Vec<Option<String>>, Error> {
        let rows = self.rows().await?;
        Ok(keys.iter().map(|key| rows.get(key).cloned()).collect())
    }

    async fn rows(&self) -> Result<Rows, Error> {
        let mut known = self.known.lock().await;
        let (path, most, last) = (self.path.clone(), self.most, known.as_ref().map(|(state, _)| *state));
        let reading = tokio::task::spawn_blocking(move || load(&path, most, last));
        let failed = |text: String| Error::Table { table: self.path.display().to_string(), text };
        let loaded = reading.await.map_err(|e| failed(e.to_string()))?.map_err(|e| failed(e.to_string()))?;
        if let Some((state, rows)) = loaded {
            *known = Some((state, Arc::new(rows)));
        }
        Ok(known.as_ref().map(|(_, rows)| Arc::clone(rows)).unwrap_or_default())
    }
}

/// Whether the table can be read: its type, its length.
pub(super) fn check(path: &Path, most: u64) -> Result<(), files::Error> {
    let length = files::open(path)?.metadata().map_err(files::Error::System)?.len();
    if length <= most { Ok(()) } else { Err(files::Error::Long(most)) }
}

/// The file's state and rows; absent where it is still in the state `last`.
fn load(path: &Path, most: u64, last: Option<State>) -> std::io::Result<Option<(State, HashMap<String, String>)>> {
    let file = files::open(path)?;
    let found = file.metadata()?;
    let state = State { modified: found.modified()?, size: found.len(), place: (found.dev(), found.ino()) };
    if last == Some(state) {
        return Ok(None);
    }
    let mut octets = Vec::new();
    files::contents(file, most, &mut octets)?;
    Ok(Some((state, rows(&String::from_utf8_lossy(files::without_mark(&octets))))))
}

/// The rows of a text: `key`, white space, value; `#` begins a comment, a line that begins with white space goes on with the row
/// before it. Keys in lower case, as postmap writes them; the first row of a key counts.
fn rows(text: &str) -> HashMap<String, String> {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        let words = line.trim();
        if words.is_empty() || words.starts_with('#') {
            continue;
        }
        match lines.last_mut() {
            Some(last) if line.starts_with([' ', '\t']) => {
                last.push(' ');
                last.push_str(words);
            }
            _ => lines.push(words.to_owned()),
        }
    }
    let mut rows = HashMap::new();
    for (key, value) in lines.iter().filter_map(|line| split(line)) {
        rows.entry(key.to_ascii_lowercase()).or_insert_with(|| value.to_owned());
    }
    rows
}

/// Key and value of a row; white space inside of quotes is the key's own.
fn split(line: &str) -> Option<(&str, &str)> {
    let (mut quoted, mut escaped) = (false, false);
    let end = line.find(|c: char| {
        let ends = c.is_whitespace() && !quoted;
        (quoted, escaped) = match c {
            _ if escaped => (quoted, false),
            '\\' => (quoted, quoted),
            '"' => (!quoted, false),
            _ => (quoted, false),
        };
        ends
    })?;
    let (key, value) = line.split_at_checked(end)?;
    Some((key, value.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_as_postfix_reads_them() {
        let text = "# a comment\nAlice@Example.com alice\n\n  # a comment inside\n\t, helpdesk\n\
            bob@example.com\tbob@example.com,  alice\nalice@example.com second\n\"two words\"@example.com carol\n\
            alone@example.com\n@example.net dave";
        let rows = rows(text);
        let row = |key: &str| rows.get(key).map(String::as_str);
        assert_eq!(row("alice@example.com"), Some("alice , helpdesk"));
        assert_eq!(row("bob@example.com"), Some("bob@example.com,  alice"));
        assert_eq!(row("\"two words\"@example.com"), Some("carol"));
        assert_eq!(row("@example.net"), Some("dave"));
        assert_eq!(rows.len(), 4);
    }

    #[tokio::test]
    async fn the_file_is_read_again_when_it_is_another_one_and_never_from_memory_when_it_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("owners");
        let table = Text::new(path.to_str().unwrap(), 1_000);
        let keys = ["a@example.com".to_owned()];
        assert!(matches!(table.find(&keys).await, Err(Error::Table { .. })));
        std::fs::write(&path, "a@example.com one\n").unwrap();
        assert_eq!(table.find(&keys).await.unwrap(), [Some("one".into())]);
        std::fs::write(dir.path().join("new"), "a@example.com two\n").unwrap();
        std::fs::rename(dir.path().join("new"), &path).unwrap();
        assert_eq!(table.find(&keys).await.unwrap(), [Some("two".into())]);
        std::fs::write(&path, "b@example.com three\n").unwrap();
        assert_eq!(table.find(&keys).await.unwrap(), [None]);
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(table.find(&keys).await, Err(Error::Table { .. })));
        std::fs::write(&path, vec![b'#'; 1_001]).unwrap();
        assert!(table.find(&keys).await.unwrap_err().to_string().contains("1000 octets"));
    }
}
