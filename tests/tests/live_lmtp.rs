//! A real Postfix hands mail to the filter by LMTP, and the filter hands it to a real Dovecot: behind an alias, each mailbox gets what
//! its own policy says, and the sender never a bounce.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use addrauth_tests::daemon::Daemon;
use addrauth_tests::ports::claim;
use addrauth_tests::smtp::Session;

const PATIENCE: Duration = Duration::from_secs(60);
const NOBODY: u32 = 65_534;
const KEY: &str = "Vb3kQ9w2Zr7tYp0sXn4mLc8dHf1gJa6eUi5oRk2yTq9wEz3xBv7nMs4pDl8hGj0K";
/// The policy of each mailbox behind the alias, for a key that nobody can check.
const MAILBOXES: [(&str, &str); 6] = [
    ("bob", "mark"),
    ("carol", "accept"),
    ("dave", "reject-silently"),
    ("erin", "quarantine"),
    ("frank", "reject-notify-sender"),
    ("grace", "reject-notify-recipient"),
];

/// Postfix, the filter and Dovecot, each on ports of its own.
struct Row {
    home: tempfile::TempDir,
    filter: Option<Daemon>,
    dovecot: Option<Child>,
    smtp: u16,
}

impl Row {
    /// Starts them; `None`, and a line that says so, where `ADDRAUTH_LIVE` is not set or there is no Dovecot.
    fn start() -> Option<Row> {
        if std::env::var_os("ADDRAUTH_LIVE").is_none() || !Path::new("/usr/lib/dovecot/lmtp").exists() {
            println!(
                "skipped: ADDRAUTH_LIVE=1 is not set, or there is no dovecot-lmtpd (tests/run sets and installs it)"
            );
            return None;
        }
        let home = tempfile::tempdir().unwrap();
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for folder in ["queue", "postfix", "data", "run", "mail", "state"] {
            fs::create_dir(home.path().join(folder)).unwrap();
        }
        chown(home.path().join("mail"), Some(NOBODY), Some(NOBODY)).unwrap();
        let [smtp, lmtp, agent] = [claim(), claim(), claim()];
        let mut row = Row { home, filter: None, dovecot: None, smtp };
        row.write("dovecot.conf", &dovecot(row.home.path(), agent));
        row.write("postfix/main.cf", &main_cf(row.home.path(), lmtp));
        row.write("postfix/master.cf", &master_cf(smtp));
        row.write("addrauth.toml", &filter(row.home.path(), lmtp, agent));
        row.start_dovecot();
        row.filter = Some(Daemon::start("filter", &row.path("addrauth.toml")));
        let owner = |words: &str| Command::new("id").args(words.split(' ')).output().unwrap().stdout;
        let postfix = String::from_utf8(owner("-u postfix")).unwrap().trim().parse().unwrap();
        chown(row.path("data"), Some(postfix), None).unwrap();
        row.postfix("start");
        Some(row)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn start_dovecot(&mut self) {
        let config = self.path("dovecot.conf");
        let mut command = Command::new("/usr/sbin/dovecot");
        let child = command.arg("-F").arg("-c").arg(config).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.dovecot = Some(child.unwrap());
    }

    fn stop_dovecot(&mut self) {
        if let Some(mut dovecot) = self.dovecot.take() {
            Command::new("kill").arg(dovecot.id().to_string()).status().unwrap();
            dovecot.wait().unwrap();
        }
    }

    fn postfix(&self, verb: &str) {
        let mut command = Command::new("/usr/sbin/postfix");
        let status = command.arg("-c").arg(self.path("postfix")).arg(verb);
        status.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    }

    fn queue(&self) -> String {
        let queue = Command::new("/usr/sbin/postqueue").arg("-c").arg(self.path("postfix")).arg("-p").output().unwrap();
        String::from_utf8_lossy(&queue.stdout).into_owned()
    }

    fn send(&self, subject: &str, body: &str) {
        let mut client = Session::open(self.smtp);
        for line in ["MAIL FROM:<alice@example.com>", "RCPT TO:<all@home.example>"] {
            assert_eq!(client.say(line).code, 250);
        }
        assert_eq!(client.say("DATA").code, 354);
        let message = format!(
            "From: Alice <alice@example.com>\r\nX-Auth-Key : {KEY}\r\nX-Auth-Key-Status: VALIDKEY; by=forged\r\n\
             Subject: {subject}\r\n\r\n{}",
            body.replace("\r\n.", "\r\n..")
        );
        client.write(message.as_bytes());
        assert_eq!(client.say(".").code, 250);
    }

    /// The copies of the message with this subject in a mailbox.
    fn copies(&self, mailbox: &str, subject: &str) -> Vec<String> {
        let folder = self.path(&format!("mail/{mailbox}/new"));
        let files = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
        let texts = files.map(|file| String::from_utf8_lossy(&fs::read(file.path()).unwrap_or_default()).into_owned());
        texts.filter(|text| text.contains(&format!("\nSubject: {subject}\n"))).collect()
    }

    fn until(&self, what: &str, mut is_so: impl FnMut(&Row) -> bool) {
        let begin = Instant::now();
        while !is_so(self) {
            if begin.elapsed() > PATIENCE {
                let log = fs::read_to_string(self.path("postfix.log")).unwrap_or_default();
                let filter = self.filter.as_ref().map(Daemon::log).unwrap_or_default();
                let agent = fs::read_to_string(self.path("dovecot.log")).unwrap_or_default();
                panic!("not within {PATIENCE:?}: {what}\n{log}\n{filter}\n{agent}\n{}", self.queue());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Row {
    fn drop(&mut self) {
        self.postfix("stop");
        self.stop_dovecot();
    }
}

fn dovecot(home: &Path, port: u16) -> String {
    let home = home.display();
    format!(
        "base_dir = {home}/run\nstate_dir = {home}/run\nprotocols = lmtp\nssl = no\nlog_path = {home}/dovecot.log\n\
         mail_location = maildir:{home}/mail/%n\nmail_uid = {NOBODY}\nmail_gid = {NOBODY}\nrecipient_delimiter = +\n\
         lmtp_save_to_detail_mailbox = yes\nlda_mailbox_autocreate = yes\ndefault_login_user = nobody\n\
         default_internal_user = nobody\ndefault_internal_group = nogroup\n\
         service lmtp {{\n  inet_listener lmtp {{\n    address = 127.0.0.1\n    port = {port}\n  }}\n}}\n\
         service anvil {{\n  chroot =\n}}\npassdb {{\n  driver = static\n  args = nopassword=y\n}}\n\
         userdb {{\n  driver = static\n  args = uid={NOBODY} gid={NOBODY} home={home}/mail/%n allow_all_users=yes\n}}\n"
    )
}

fn main_cf(home: &Path, lmtp: u16) -> String {
    let (home, all) = (home.display(), MAILBOXES.map(|(name, _)| format!("{name}@home.example")));
    let known: String = all.iter().map(|address| format!("{{ {address} = x }}, ")).collect();
    format!(
        "compatibility_level = 3.6\nqueue_directory = {home}/queue\ndata_directory = {home}/data\n\
         command_directory = /usr/sbin\ndaemon_directory = /usr/lib/postfix/sbin\nmail_owner = postfix\n\
         setgid_group = postdrop\nmyhostname = mx.home.example\nmydestination =\nalias_maps =\nalias_database =\n\
         mynetworks = 127.0.0.0/8\nlocal_header_rewrite_clients =\ninet_interfaces = 127.0.0.1\ninet_protocols = ipv4\n\
         virtual_mailbox_domains = home.example\nvirtual_mailbox_maps = inline:{{ {} }}\n\
         virtual_alias_maps = inline:{{ {{ all@home.example = {} }} }}\n\
         virtual_transport = lmtp:inet:127.0.0.1:{lmtp}\nlmtp_send_xforward_command = yes\nminimal_backoff_time = 1s\n\
         maillog_file = {home}/postfix.log\nmaillog_file_prefixes = {home}\ndefault_transport = error:nothing leaves\n",
        known.trim_end_matches(", "),
        all.join(", "),
    )
}

fn master_cf(smtp: u16) -> String {
    let services = [
        format!("127.0.0.1:{smtp} inet n - n - - smtpd"),
        "postlog unix-dgram n - n - 1 postlogd".into(),
        "pickup unix n - n 60 1 pickup".into(),
        "cleanup unix n - n - 0 cleanup".into(),
        "qmgr unix n - n 300 1 qmgr".into(),
        "rewrite unix - - n - - trivial-rewrite".into(),
        "bounce unix - - n - 0 bounce".into(),
        "defer unix - - n - 0 bounce".into(),
        "trace unix - - n - 0 bounce".into(),
        "verify unix - - n - 1 verify".into(),
        "flush unix n - n 1000? 0 flush".into(),
        "proxymap unix - - n - - proxymap".into(),
        "lmtp unix - - n - - lmtp".into(),
        "smtp unix - - n - - smtp".into(),
        "showq unix n - n - - showq".into(),
        "error unix - - n - - error".into(),
        "retry unix - - n - - error".into(),
        "discard unix - - n - - discard".into(),
        "anvil unix - - n - 1 anvil".into(),
        "scache unix - - n - 1 scache".into(),
    ];
    services.join("\n") + "\n"
}

fn filter(home: &Path, lmtp: u16, agent: u16) -> String {
    let mut text = format!(
        "hostname = \"mx.home.example\"\nfinal_domains = [\"home.example\"]\nobserve = false\nstate_dir = {:?}\n\
         [milter]\nlisten = []\n[lmtp]\nlisten = [\"inet:127.0.0.1:{lmtp}\"]\nnext = \"inet:127.0.0.1:{agent}\"\n\
         [notices]\nnotify_via = \"127.0.0.1:9\"\n[verify]\ndns = [\"127.0.0.1:9\"]\ntimeout = \"200ms\"\n",
        home.join("state")
    );
    for (name, policy) in MAILBOXES {
        text += &format!("[policy.recipient.\"{name}@home.example\"]\nunverified = \"{policy}\"\n");
    }
    text
}

#[test]
fn behind_an_alias_each_mailbox_gets_what_its_own_policy_says() {
    let Some(mut row) = Row::start() else { return };
    let body = format!("one\r\n.\r\n..two\r\n{}", "0123456789\r\n".repeat(100_000));
    row.send("first", &body);
    row.until("bob and carol have it", |row| ["bob", "carol"].iter().all(|name| !row.copies(name, "first").is_empty()));
    row.until("the queue is empty", |row| row.queue().contains("queue is empty"));
    for (name, marked) in [("bob", true), ("carol", false)] {
        let copies = row.copies(name, "first");
        assert_eq!(copies.len(), 1, "{name}");
        let (head, delivered) = copies[0].split_once("\n\n").unwrap();
        assert_eq!(head.matches("X-Auth-Key-Status: ").count(), 1, "{head}");
        assert!(
            head.contains("\nX-Auth-Key-Status: UNVERIFIED; address=alice@example.com; by=mx.home.example"),
            "{head}"
        );
        assert!(!head.contains("X-Auth-Key :") && !head.contains(KEY) && !head.contains("forged"), "{head}");
        assert_eq!(head.contains("\nX-Spam-Flag: YES\n"), marked, "{head}");
        assert!(delivered == body.replace("\r\n", "\n"), "{name}: the body's octets");
    }
    for name in ["dave", "erin", "frank", "grace"] {
        assert_eq!(row.copies(name, "first"), Vec::<String>::new(), "{name}");
    }
    let log = fs::read_to_string(row.path("postfix.log")).unwrap();
    assert_eq!(log.matches("status=sent (250 2").count(), MAILBOXES.len(), "{log}");
    assert!(!log.contains("status=bounced") && !log.contains("sender non-delivery"), "no bounce is written: {log}");
    assert!(row.filter.as_ref().unwrap().log().contains("verdict=accept"));

    // While Dovecot is away mail waits in the queue, and comes in once.
    row.stop_dovecot();
    row.send("second", "waits\r\n");
    row.until("it waits", |row| {
        row.queue().contains("The delivery agent cannot be reached") || row.queue().contains("451 4.4")
    });
    row.start_dovecot();
    row.postfix("flush");
    row.until("both have it", |row| ["bob", "carol"].iter().all(|name| !row.copies(name, "second").is_empty()));
    row.until("the queue is empty again", |row| row.queue().contains("queue is empty"));
    for name in ["bob", "carol"] {
        assert_eq!(row.copies(name, "second").len(), 1, "{name}");
    }
}
