//! A table that Postfix alone can read: its postmap is asked, in bounded time, and its answers are believed for a while.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use quick_cache::sync::Cache;
use tokio::sync::Semaphore;

use crate::config::Limits;
use crate::files;
use crate::keyring::Error;

/// Where Debian and most others have it.
const POSTMAP: &str = "/usr/sbin/postmap";
/// Between two looks whether it is done: a look-up takes some milliseconds.
const PAUSE: Duration = Duration::from_millis(5);
/// Octets of its answer: a few values, and what fits into a pipe at once.
const ANSWER: u64 = 64 * 1024;

/// A table that postmap is asked about.
pub(super) struct Asked {
    name: String,
    /// Asked about whole addresses alone.
    patterns: bool,
    program: PathBuf,
    known: Cache<String, (Instant, Option<String>)>,
    room: Semaphore,
    limits: Arc<Limits>,
}

/// Where postmap is: in its own place, unless there is nothing there.
fn program() -> PathBuf {
    let there = files::is_there(Path::new(POSTMAP)).unwrap_or(true);
    PathBuf::from(if there { POSTMAP } else { "postmap" })
}

impl std::fmt::Debug for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Asked({})", self.name)
    }
}

impl Asked {
    /// The table that Postfix spells so.
    pub(super) fn new(name: &str, patterns: bool, limits: &Arc<Limits>) -> Asked {
        Asked {
            name: name.to_owned(),
            patterns,
            program: program(),
            known: Cache::new(limits.keyring.owner_known),
            room: Semaphore::new(limits.keyring.owner_at_once),
            limits: Arc::clone(limits),
        }
    }

    /// The values of these keys, in their order.
    pub(super) async fn find(&self, keys: &[String]) -> Result<Vec<Option<String>>, Error> {
        let sought = if self.patterns { keys.get(..1).unwrap_or(keys) } else { keys };
        let known: Option<Vec<Option<String>>> = sought.iter().map(|key| self.recall(key)).collect();
        let mut values = match known {
            Some(values) => values,
            // What was just said counts, however soon it is forgotten.
            None => self.ask(sought).await?,
        };
        values.resize(keys.len(), None);
        Ok(values)
    }

    fn recall(&self, key: &str) -> Option<Option<String>> {
        let (at, value) = self.known.get(key)?;
        (at.elapsed() < self.limits.keyring.owner_kept).then_some(value)
    }

    async fn ask(&self, keys: &[String]) -> Result<Vec<Option<String>>, Error> {
        let failed = |text: String| Error::Table { table: self.name.clone(), text };
        let turn = tokio::time::timeout(self.limits.keyring.owner_time, self.room.acquire()).await;
        let Ok(Ok(_room)) = turn else { return Err(failed("too many look-ups are under way".into())) };
        let (program, name, limit) = (self.program.clone(), self.name.clone(), self.limits.keyring.owner_time);
        // A line each: an address has no line's end in it, and what had one would be two keys.
        let lines: String =
            keys.iter().filter(|key| !key.contains(['\r', '\n'])).map(|key| format!("{key}\n")).collect();
        let asking = tokio::task::spawn_blocking(move || postmap(&program, &name, &lines, limit));
        let answer = asking.await.map_err(|e| failed(e.to_string()))?.map_err(failed)?;
        let now = Instant::now();
        let value = |key: &String| {
            let found = answer.lines().filter_map(|line| line.split_once('\t')).find(|(found, _)| found == key);
            let value = found.map(|(_, value)| value.to_owned());
            self.known.insert(key.clone(), (now, value.clone()));
            value
        };
        Ok(keys.iter().map(value).collect())
    }
}

/// What postmap answers to these keys, a line each; a key that is not there has no line. The reason where it fails.
///
/// Its exit code is 1 both where nothing is found and where it fails; then it says why.
fn postmap(program: &Path, table: &str, keys: &str, limit: Duration) -> Result<String, String> {
    let begin = Instant::now();
    let mut command = Command::new(program);
    command.args(["-q", "-", table]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|e| format!("cannot run {}: {e}", program.display()))?;
    if let Some(mut input) = child.stdin.take() {
        // Whoever ends without reading says why.
        let _ = input.write_all(keys.as_bytes());
    }
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if begin.elapsed() < limit => std::thread::sleep(PAUSE),
            ended => {
                let _ = child.kill();
                let _ = child.wait();
                let why = ended.err().map_or_else(|| format!("no answer within {limit:?}"), |e| e.to_string());
                return Err(format!("{}: {why}", program.display()));
            }
        }
    };
    let read = |from: Option<&mut dyn std::io::Read>| {
        let mut octets = Vec::new();
        let _ = from.map(|from| from.take(ANSWER).read_to_end(&mut octets));
        String::from_utf8_lossy(&octets).into_owned()
    };
    let answer = read(child.stdout.as_mut().map(|out| out as &mut dyn std::io::Read));
    let words = read(child.stderr.as_mut().map(|err| err as &mut dyn std::io::Read));
    let complaint = words.lines().find(|line| ["fatal:", "error:", "panic:"].iter().any(|word| line.contains(word)));
    match (status.code(), complaint) {
        (Some(0 | 1), None) => Ok(answer),
        (_, Some(complaint)) => Err(complaint.chars().take(300).collect()),
        (_, None) => Err(format!("{} ended with {status}", program.display())),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A table for whose postmap this shell script stands.
    fn scripted(dir: &Path, name: &str, script: &str, limits: Limits) -> Asked {
        let program = dir.join("postmap");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        Asked { program, ..Asked::new(name, false, &Arc::new(limits)) }
    }

    fn keys() -> Vec<String> {
        vec!["a+b@example.com".into(), "a@example.com".into(), "@example.com".into()]
    }

    #[tokio::test]
    async fn answers_are_believed_for_a_while_and_failures_never() {
        let dir = tempfile::tempdir().unwrap();
        let count = dir.path().join("count");
        let script = format!(
            "echo x >>{}; while read -r key; do case $key in a@*) printf '%s\\tann\\n' \"$key\";; esac; done",
            count.display()
        );
        let limits = Limits::default().with(|limits| limits.keyring.owner_kept = Duration::from_millis(300));
        let table = scripted(dir.path(), "mysql:/x", &script, limits);
        for _ in 0..3 {
            assert_eq!(table.find(&keys()).await.unwrap(), [None, Some("ann".into()), None]);
        }
        assert_eq!(std::fs::read_to_string(&count).unwrap(), "x\n");
        tokio::time::sleep(Duration::from_millis(320)).await;
        table.find(&keys()).await.unwrap();
        assert_eq!(std::fs::read_to_string(&count).unwrap(), "x\nx\n");

        let forgetful = Limits::default().with(|limits| limits.keyring.owner_kept = Duration::ZERO);
        let table = scripted(dir.path(), "mysql:/x", &script, forgetful);
        assert_eq!(table.find(&keys()).await.unwrap(), [None, Some("ann".into()), None]);

        for (script, words) in [
            ("cat >/dev/null; echo 'postmap: fatal: no server' >&2; exit 1", "fatal: no server"),
            ("cat >/dev/null; exit 75", "75"),
            ("exec sleep 20", "no answer within"),
        ] {
            let limits = Limits::default().with(|limits| limits.keyring.owner_time = Duration::from_millis(400));
            let error = scripted(dir.path(), "mysql:/x", script, limits).find(&keys()).await.unwrap_err().to_string();
            assert!(error.contains(words) && error.contains("mysql:/x"), "{error}");
        }
        let none = Asked { program: dir.path().join("none"), ..Asked::new("mysql:/x", false, &Arc::default()) };
        assert!(none.find(&keys()).await.unwrap_err().to_string().contains("cannot run"));
    }

    #[tokio::test]
    async fn postfixs_own_postmap_is_understood() {
        if !Path::new(POSTMAP).exists() {
            println!("skipped: {POSTMAP} is not there");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("main.cf"), "compatibility_level = 3.6\n").unwrap();
        std::fs::write(dir.path().join("patterns"), "/^a@/ ann\n").unwrap();
        let script = format!("exec {POSTMAP} -c {} \"$@\"", dir.path().display());
        let found = async |name: &str, patterns: bool| {
            let table = Asked { patterns, ..scripted(dir.path(), name, &script, Limits::default()) };
            table.find(&keys()).await
        };
        let [whole, base] =
            ["a+b@example.com", "a@example.com"].map(|key| format!("inline:{{ {{ {key} = ann, bea }} }}"));
        assert_eq!(found(&whole, false).await.unwrap(), [Some("ann, bea".into()), None, None]);
        assert_eq!(found(&base, false).await.unwrap(), [None, Some("ann, bea".into()), None]);
        assert_eq!(
            found("static:ann", false).await.unwrap(),
            [Some("ann".into()), Some("ann".into()), Some("ann".into())]
        );
        let patterns = format!("regexp:{}", dir.path().join("patterns").display());
        assert_eq!(found(&patterns, true).await.unwrap(), [None, None, None], "whole addresses alone");
        for broken in ["regexp:/no/such/file", "nosuchtype:/x", "hash:/no/such/file"] {
            assert!(found(broken, false).await.is_err(), "{broken}");
        }
    }
}
