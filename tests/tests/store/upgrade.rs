//! What commit f2be706 wrote, files and PostgreSQL, is there and of use after an upgrade; see tests/fixtures/f2be706.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use addrauth_lab::mailbox::Mailbox;
use addrauth_tests::daemon::{Daemon, binary};
use addrauth_tests::ports::claim_place;

use crate::*;

/// When it was written, in seconds since 1970.
const WRITTEN: i64 = 1_795_966_860;
const WITHIN: Duration = Duration::from_secs(120);

fn fixture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/f2be706").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn put_key(dir: &Path, from: &str, name: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, fixture(from)).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// Moves what was written to today, before the program of today sees it: it would be over otherwise. `prefix` is the schema's
/// name and a full stop in PostgreSQL.
fn to_today(tables: &[(&str, &[&str])], prefix: &str) -> String {
    // An hour ago, so that all of it was written before the test began.
    let age = store::seconds(SystemTime::now()) - WRITTEN - 3_600;
    let mut statements = String::new();
    for (table, columns) in tables {
        let set: Vec<String> = columns.iter().map(|column| format!("{column} = {column} + {age}")).collect();
        statements += &format!("UPDATE {prefix}{table} SET {};", set.join(", "));
    }
    statements.replace(&format!("day = day + {age}"), &format!("day = day + {}", age / 86_400))
}

const OF_FILTER: [(&str, &[&str]); 5] = [
    ("journal", &["at"]),
    ("outbox", &["created", "next_try"]),
    ("choice", &["at"]),
    ("allowed", &["at"]),
    ("quarantine", &["at", "expires"]),
];
const OF_AUTHORITY: [(&str, &[&str]); 4] = [
    ("keys", &["created", "expires"]),
    ("settings", &["created", "due"]),
    ("forged", &["day", "first", "last"]),
    ("posts", &["created", "next_try", "ended"]),
];
const OF_KEYRING: [(&str, &[&str]); 1] = [("keyring", &["learned", "expires"])];

fn file_of(dir: &Path, name: &str, tables: &[(&str, &[&str])]) {
    let file = rusqlite::Connection::open(dir.join(format!("{name}.db"))).unwrap();
    let text = fixture(&format!("{name}.sql")) + &to_today(tables, "");
    file.execute_batch(&text).unwrap();
    file.close().unwrap();
}

/// A configuration like the one it was written under, and the state directory.
struct Site {
    file: PathBuf,
    state: PathBuf,
    listen: SocketAddr,
    dir: tempfile::TempDir,
}

impl Site {
    fn new(url: &str, notify_via: SocketAddr) -> Site {
        let dir = tempfile::tempdir().unwrap();
        let (file, state, listen) = (dir.path().join("addrauth.toml"), dir.path().join("state"), claim_place());
        std::fs::create_dir(&state).unwrap();
        put_key(&state, "keyring.key", "keyring.key");
        let text = format!(
            "hostname = \"mx.example.com\"\nfinal_domains = [\"example.com\"]\nobserve = false\nstate_dir = {state:?}\n\
             [milter]\nlisten = [\"unix:{}\"]\n[notices]\nnotify_via = \"{notify_via}\"\nfrom = \"postmaster@example.com\"\n\
             [authority]\ndomains = [\"example.com\", \"away.example\"]\nlisten = [\"{listen}\"]\ndeliver = \"keyring\"\n\
             [verify]\ndns = [\"127.0.0.1:9\"]\ntimeout = \"1s\"\n[verify.domain.\"example.com\"]\nas = \"{listen}\"\n\
             [verify.domain.\"away.example\"]\nas = \"127.0.0.1:9\"\n[keyring]\nlearn = true\n#\n[store]\nurl = \"{url}\"\n\
             [policy]\nunusable = \"quarantine\"\nuser_may = [\"mark\", \"quarantine\", \"accept\"]\n",
            dir.path().join("door").display()
        );
        std::fs::write(&file, &text).unwrap();
        let site = Site { file, state, listen, dir };
        let seal_to = site.says(&["keyring", "key"]);
        std::fs::write(&site.file, text.replace('#', &format!("seal_to = \"{}\"", seal_to.trim()))).unwrap();
        site
    }

    fn says(&self, words: &[&str]) -> String {
        let mut command = Command::new(binary());
        let out = command.arg("--config").arg(&self.file).args(words).stdin(Stdio::null()).output().unwrap();
        let text = |octets: Vec<u8>| String::from_utf8(octets).unwrap();
        let (told, complaint) = (text(out.stdout), text(out.stderr));
        assert!(out.status.success(), "{words:?}: {}\n{told}{complaint}", out.status);
        told
    }

    /// What an AS had: told of, answered for, and a next key made.
    fn tells_of_its_keys(&self, bob: &Path) {
        let alice = self.says(&["key", "show", "alice@example.com"]);
        assert!(alice.contains("living") && alice.contains("stored"), "{alice}");
        let erin = self.says(&["key", "show", "erin@away.example"]);
        assert!(erin.contains("living") && erin.contains("owed, after 2 tries"), "{erin}");
        let list = self.says(&["keyring", "list"]);
        assert!(list.contains("living") && list.contains("alice@example.com"), "{list}");
        let report = self.says(&["report"]);
        assert!(report.contains("bob@example.com") && report.contains("127.0.0.0/24"), "{report}");
        let status = self.says(&["store", "status"]);
        for line in ["2  addresses that get", "3  keys\n", "1  keys still to be sent", "1  keys in the keyring"] {
            assert!(status.contains(line), "{line}: {status}");
        }
        let mut daemon = Daemon::start("authority", &self.file);
        daemon.until_it_answers(self.listen, "example.com");
        let said = self.says(&["ask", "bob@example.com", "--key-file", bob.to_str().unwrap()]);
        assert!(said.contains("VALIDKEY"), "{said}");
        self.says(&["key", "rotate", "alice@example.com"]);
        self.until("the keyring has the second key", || {
            self.says(&["key", "show", "alice@example.com"]).matches("stored").count() == 2
        });
        assert!(!daemon.log().contains("ERROR"), "{}", daemon.log());
    }

    fn until(&self, what: &str, mut done: impl FnMut() -> bool) {
        let begin = Instant::now();
        while !done() {
            assert!(begin.elapsed() < WITHIN, "{what}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_files_of_f2be706_are_brought_up_to_date_with_all_that_is_in_them() {
    let mailbox = Mailbox::start().unwrap();
    let site = Site::new("", mailbox.address());
    file_of(&site.state, "filter", &OF_FILTER);
    file_of(&site.state, "authority", &OF_AUTHORITY);
    file_of(&site.state, "keyring", &OF_KEYRING);
    put_key(&site.state, "post.key", "post.key");
    let bob = put_key(site.dir.path(), "bob.key", "bob.key");

    let journal = site.says(&["journal", "list"]);
    for (id, word) in [("A", "unusable"), ("B", "reject-notify-recipient"), ("C", "quarantine"), ("D", "accept=accept")]
    {
        let line = journal.lines().find(|line| line.contains(&format!("F2BE706{id}")));
        assert!(line.is_some_and(|line| line.contains(word)), "{id}: {journal}");
    }
    let kept = site.says(&["quarantine", "list"]);
    assert!(kept.contains("2 messages") && kept.contains("one that is kept") && kept.contains("one for two"), "{kept}");
    assert!(site.says(&["quarantine", "show", "1", "--raw"]).ends_with("Kept back.\r\n"));
    let dave = site.says(&["user", "show", "dave@example.com"]);
    assert!(dave.contains("mark") && dave.contains("alice@sender.example"), "{dave}");
    site.says(&["user", "set", "dave@example.com", "invalid=quarantine"]);
    site.tells_of_its_keys(&bob);

    let mut filter = Daemon::start("filter", &site.file);
    filter.until_it_takes_mail(&format!("unix:{}", site.dir.path().join("door").display()));
    site.says(&["quarantine", "release", "2", "--for", "carol@example.com"]);
    site.says(&["quarantine", "release", "1"]);
    let to = |name: &str, text: &str| {
        let to = format!("<{name}@example.com>");
        mailbox.taken().iter().filter(|mail| mail.to.contains(&to) && mail.text.contains(text)).count()
    };
    site.until("the notice that was owed, and what was kept", || {
        to("carol", "For two.") == 1 && to("carol", "") == 2 && to("bob", "Kept back.") == 1
    });
    assert!(site.says(&["quarantine", "list"]).contains("1 message"));
    drop(filter);
    let status = site.says(&["store", "status"]);
    assert!(!status.contains("brought to") && !status.contains("not there"), "{status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_database_of_f2be706_is_brought_up_to_date_with_all_that_is_in_it() {
    let Some(cluster) = Postgres::shared() else { return };
    // It makes the roles, which belong to the cluster and are in no dump.
    let _roles = Bed::in_cluster(cluster).await;
    let database = cluster.database();
    let mut text = fixture("postgres.sql");
    text += &to_today(&OF_AUTHORITY, "addrauth.");
    text += &to_today(&OF_KEYRING, "addrauth.");
    cluster.sql("postgres", &database, &text).unwrap();
    let site = Site::new(&cluster.url("postgres", &database), claim_place());
    put_key(&site.state, "postgres-post.key", "post.key");
    let bob = put_key(site.dir.path(), "postgres-bob.key", "bob.key");
    // Several at once: each step is taken once.
    let migrating: Vec<_> = (0..3)
        .map(|_| {
            let config = Config::read(&site.file).unwrap();
            tokio::spawn(async move { store::migrate(&config.store, OPENING).await })
        })
        .collect();
    for migrated in migrating {
        assert_eq!(migrated.await.unwrap().unwrap().left, None);
    }
    site.tells_of_its_keys(&bob);
}
