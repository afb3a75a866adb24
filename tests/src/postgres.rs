//! A private PostgreSQL under a temporary directory: a unix socket, one port on loopback, killed and restarted at will.
//!
//! Over the socket whoever comes is whom he says (`trust`); over TCP a password is asked for (scram-sha-256), and no role
//! has one until a test gives it one.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use crate::ports::claim;

/// How long it may take to listen or to end on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// The user and group that run it where there is no user `postgres`: nobody's.
const NOBODY: (u32, u32) = (65_534, 65_534);

/// The running cluster. It stops, and its directory goes, with this value or with the process that holds it.
#[derive(Debug)]
pub struct Postgres {
    root: PathBuf,
    programs: PathBuf,
    port: u16,
    child: Mutex<Option<Child>>,
    databases: AtomicUsize,
    _watch: ChildStdin,
}

static SHARED: OnceLock<Option<Postgres>> = OnceLock::new();

impl Postgres {
    /// The cluster that all tests of a process share, each in a database of its own. `None` as [`Postgres::start`] says.
    pub fn shared() -> Option<&'static Postgres> {
        SHARED.get_or_init(Postgres::start).as_ref()
    }

    /// Starts a cluster. `None`, and a line that says why, where the machine has no PostgreSQL; with `ADDRAUTH_LIVE` set that
    /// is a failure.
    pub fn start() -> Option<Postgres> {
        let Some(programs) = programs() else {
            let why =
                "neither PATH nor /usr/lib/postgresql has initdb and postgres (Debian: apt-get install postgresql)";
            assert!(std::env::var_os("ADDRAUTH_LIVE").is_none(), "no PostgreSQL: {why}");
            println!("skipped: no PostgreSQL: {why}");
            return None;
        };
        // A socket needs a short path, and the user that runs it a way to it.
        let root = tempfile::Builder::new().prefix("aapg-").tempdir_in("/tmp").unwrap().keep();
        fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).unwrap();
        if let Some((user, group)) = other_user() {
            chown(&root, Some(user), Some(group)).unwrap();
        }
        let watch = watch(&root);
        let mut made = Postgres {
            root,
            programs,
            port: 0,
            child: Mutex::default(),
            databases: AtomicUsize::new(0),
            _watch: watch,
        };
        made.initialise();
        made.port = claim();
        made.restart();
        Some(made)
    }

    /// The URL of a database for a role, over the unix socket.
    pub fn url(&self, role: &str, database: &str) -> String {
        format!("postgres:///{database}?user={role}&host={}&port={}", self.socket_dir().display(), self.port)
    }

    /// The URL of a database for a role over TCP, where a password is asked for; the URL has none.
    pub fn tcp_url(&self, role: &str, database: &str) -> String {
        format!("postgres://{role}@127.0.0.1:{}/{database}", self.port)
    }

    /// The directory of the unix socket.
    pub fn socket_dir(&self) -> &Path {
        &self.root
    }

    /// The port on 127.0.0.1, and in the socket's name.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Makes an empty database; its name.
    pub fn database(&self) -> String {
        let name = format!("d{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", "postgres", &format!("CREATE DATABASE {name}")).unwrap();
        name
    }

    /// What psql prints for these statements, the columns parted by `|`; or its complaint. They are one transaction.
    pub fn sql(&self, role: &str, database: &str, statements: &str) -> Result<String, String> {
        let out = Command::new(self.programs.join("psql"))
            .args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", statements])
            .arg(format!("postgresql:///{database}?user={role}&host={}&port={}", self.root.display(), self.port))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        match out.status.success() {
            true => Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned()),
            false => Err(String::from_utf8_lossy(&out.stderr).trim().to_owned()),
        }
    }

    /// Kills the postmaster (SIGKILL), and returns when its children have followed it, as they do by themselves.
    pub fn kill(&self) {
        let Some(mut child) = self.child.lock().unwrap().take() else { return };
        let children = children(child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        let begin = Instant::now();
        while children.iter().any(|id| Path::new("/proc").join(id).exists()) && begin.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends it in good order: open transactions are taken back, what is committed is on disk.
    pub fn stop(&self) {
        if let Some(mut child) = self.child.lock().unwrap().take() {
            end(&mut child, "INT");
        }
    }

    /// Holds it still or lets it go on: connections stay open, and nobody answers.
    pub fn freeze(&self, still: bool) {
        let child = self.child.lock().unwrap();
        let Some(id) = child.as_ref().map(Child::id) else { return };
        let send = |ids: Vec<String>| {
            let signal = if still { "-STOP" } else { "-CONT" };
            Command::new("kill").arg(signal).args(ids).stderr(Stdio::null()).status().unwrap();
        };
        // The postmaster first: it makes no more children then.
        send(vec![id.to_string()]);
        send(children(id));
    }

    /// Starts it where it does not run, after [`Postgres::kill`] too, and returns when it answers.
    pub fn restart(&self) {
        let begin = Instant::now();
        let mut child = self.child.lock().unwrap();
        loop {
            // Children of a killed postmaster hold its memory for a moment; until they are gone it does not start.
            if child.as_mut().is_none_or(|child| child.try_wait().unwrap().is_some()) {
                *child = Some(self.spawn());
            }
            std::thread::sleep(Duration::from_millis(50));
            if self.sql("postgres", "postgres", "SELECT 1").is_ok() {
                return;
            }
            assert!(begin.elapsed() < PATIENCE, "PostgreSQL does not answer; its log:\n{}", self.log());
        }
    }

    /// What it wrote into its log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.root.join("log")).unwrap_or_default()
    }

    /// Octets of its data directory on disk, its log of changes included.
    pub fn disk(&self) -> u64 {
        octets(&self.root.join("data"))
    }

    /// The process id of the postmaster, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.lock().unwrap().as_ref().map(Child::id)
    }

    fn initialise(&self) {
        let mut initdb = self.command("initdb");
        initdb.args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "-D"]);
        let out = initdb.arg(self.root.join("data")).output().unwrap();
        assert!(out.status.success(), "initdb: {}", String::from_utf8_lossy(&out.stderr));
        let hba = "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n";
        fs::write(self.root.join("data/pg_hba.conf"), hba).unwrap();
    }

    fn spawn(&self) -> Child {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.root.join("log")).unwrap();
        let mut postgres = self.command("postgres");
        postgres.arg("-D").arg(self.root.join("data")).arg("-k").arg(&self.root).args(["-p", &self.port.to_string()]);
        for setting in
            ["listen_addresses=127.0.0.1", "max_connections=200", "shared_buffers=64MB", "log_checkpoints=off"]
        {
            postgres.args(["-c", setting]);
        }
        postgres.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
    }

    /// One of its programs, as a user that it agrees to run as.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.stdin(Stdio::null()).current_dir(&self.root).env("LC_ALL", "C");
        if let Some((user, group)) = other_user() {
            command.uid(user).gid(group);
        }
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.lock().unwrap().take() {
            end(&mut child, "QUIT");
        }
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// The children of a process, by their ids.
fn children(id: u32) -> Vec<String> {
    let ids = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
    ids.split_whitespace().map(String::from).collect()
}

/// Sends a signal to a child of ours and waits until it ends.
fn end(child: &mut Child, signal: &str) {
    let _ = Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status();
    let begin = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begin.elapsed() > PATIENCE {
            child.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Where its programs are: a directory that has both initdb and postgres; the newest of Debian's before links in PATH.
fn programs() -> Option<PathBuf> {
    let number = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path());
    let mut versions: Vec<PathBuf> = versions.filter(|path| number(path).is_some()).collect();
    versions.sort_by_key(number);
    let debian = versions.into_iter().rev().map(|path| path.join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let whole = |dir: &PathBuf| ["initdb", "postgres", "psql"].iter().all(|name| dir.join(name).is_file());
    debian.chain(std::env::split_paths(&path)).find(whole)
}

/// The user and group that root runs it as: it refuses to run as root.
fn other_user() -> Option<(u32, u32)> {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let numbers = users.lines().find_map(|line| {
        let mut fields = line.strip_prefix("postgres:")?.split(':').skip(1);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    });
    Some(numbers.unwrap_or(NOBODY))
}

/// Stops it and removes its directory once our end of the pipe is closed: at the end of this process, a killed one too.
fn watch(root: &Path) -> ChildStdin {
    let script = r#"trap '' INT TERM HUP; read -r _
        pid=$(head -n 1 "$0/data/postmaster.pid") && [ "$(cat "/proc/$pid/comm")" = postgres ] && kill -QUIT "$pid" && sleep 1
        rm -rf "$0""#;
    let mut command = Command::new("sh");
    command.args(["-c", script]).arg(root).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap().stdin.unwrap()
}

fn octets(path: &Path) -> u64 {
    let Ok(found) = fs::symlink_metadata(path) else { return 0 };
    let inside = || fs::read_dir(path).into_iter().flatten().flatten().map(|entry| octets(&entry.path())).sum();
    if found.is_dir() { inside() } else { found.blocks() * 512 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_that_was_killed_starts_again_with_what_it_had() {
        let Some(postgres) = Postgres::start() else { return };
        let name = postgres.database();
        postgres.sql("postgres", &name, "CREATE TABLE t (x int); INSERT INTO t VALUES (7)").unwrap();
        postgres.kill();
        assert!(postgres.sql("postgres", &name, "SELECT x FROM t").is_err());
        postgres.restart();
        assert_eq!(postgres.sql("postgres", &name, "SELECT x FROM t").unwrap(), "7");
        postgres.stop();
        postgres.restart();
        assert_eq!(postgres.sql("postgres", &name, "SELECT x FROM t").unwrap(), "7");
        let (root, pid) = (postgres.root.clone(), postgres.pid().unwrap());
        drop(postgres);
        assert!(!root.exists() && !Path::new(&format!("/proc/{pid}")).exists());
    }
}
