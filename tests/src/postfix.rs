//! A private Postfix under a temporary directory: loopback only, one smtpd port per test, Maildirs read back.
//!
//! What Postfix 3.7.11 does between an SMTP client and a milter; `tests/tests/postfix_facts.rs` holds each line:
//!
//! | the client sends | the milter sees | deleting it by its bare name |
//! | --- | --- | --- |
//! | `Name : v`, `Name<TAB>: v`, `name:v` | name `Name` as spelt, without the blank; value ` v`, `v` | removes it |
//! | `Name:` CRLF ` v`, blank folds | one value, folds as LF and the blank that began the line | removes all lines |
//! | `Name:` and nothing | an empty value | removes it |
//! | 8-bit octets | the same octets | removes it |
//! | NUL in the value | the value up to the NUL | removes all of it |
//! | a bare CR | a space | removes it |
//! | a bare LF | a line end: what follows may be a field of its own | as two fields |
//! | a field over 60,000 octets, name and colon included | the value cut there, in the middle of a line; a folded one at the end of its last line that fits | removes all of it: what was cut off is gone for every reader |
//! | ` Name: v` (indented) | a fold of the field above | is no field |
//! | a junk line, then `Name: v` | no field; the body's first chunk begins with the junk line | is no field: the file has an empty line before the junk |
//!
//! The cut at 60,000 comes with any milter, whatever `header_size_limit` says (102,400 by default; cleanup_message.c); it stays with
//! a cleanup(8) process for the messages that it takes afterwards without one.
//!
//! Indexes count the fields of a name that are left, letter case ignored: deleting upwards leaves every second one.
//! Index 0 inserts above Postfix's own Received field, 1 below it. From a client in `local_header_rewrite_clients`
//! (by default all of loopback) Postfix completes addresses and adds Message-Id and Date; the bed switches that off.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::ports::claim;

/// How long a delivery or a log line may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// The user and group that own the Maildirs: nobody's.
pub(crate) const NOBODY: u32 = 65_534;
/// How many doors of each kind a bed has.
const DOORS: [(Kind, usize); 6] = [
    (Kind::Inet, 56),
    (Kind::Chroot, 4),
    (Kind::Submission, 3),
    (Kind::Signing, 6),
    (Kind::Bare, 2),
    (Kind::Owning, 1),
];
/// Who has a mailbox in each door's domain; mail to `NAME+Junk` goes into his folder `.Junk`.
const USERS: [&str; 6] = ["bob", "carol", "dave", "erin", "frank", "grace"];
/// The domain of senders: whatever comes back to its addresses lies in one mailbox.
const SENDERS: &str = "send.test";
/// NUL, `alice@send.test`, NUL, `secret` as base64: what AUTH PLAIN wants.
pub const ALICE: &str = "AGFsaWNlQHNlbmQudGVzdABzZWNyZXQ=";

/// What an smtpd port of the bed has before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A milter on a TCP port.
    Inet,
    /// A milter on a unix socket inside Postfix's queue directory; the smtpd runs with chroot=y.
    Chroot,
    /// A milter on a TCP port; clients must log in.
    Submission,
    /// The same, and before it another milter, which signs: on [`Door::signer`].
    Signing,
    /// No milter.
    Bare,
    /// No milter; a client may call itself by any login (XCLIENT), and has to own its sender by `owners/rows` of the vectors.
    Owning,
}

/// One smtpd port with a domain of its own, `rN.test`: bob, carol, dave, erin, frank and grace have mailboxes there.
#[derive(Clone, Debug)]
pub struct Door {
    /// Where the smtpd listens.
    pub port: u16,
    /// Where its milter is to listen, as the daemon's `milter.listen` spells it; empty for [`Kind::Bare`].
    pub milter: String,
    /// Where the milter before it listens, a port of loopback; only for [`Kind::Signing`].
    pub signer: u16,
    /// The domain whose mailboxes are this door's alone.
    pub domain: String,
    kind: Kind,
    root: PathBuf,
}

/// The running instance. Postfix stops and its directory goes when the process that holds the bed ends, however it ends.
#[derive(Debug)]
pub struct Bed {
    root: PathBuf,
    doors: Vec<Door>,
    taken: [AtomicUsize; 6],
    _watch: ChildStdin,
}

static BED: OnceLock<Bed> = OnceLock::new();

impl Bed {
    /// The bed that all tests of a process share; `None`, and a line that says so, where `ADDRAUTH_LIVE` is not set.
    pub fn shared() -> Option<&'static Bed> {
        if std::env::var_os("ADDRAUTH_LIVE").is_none() {
            println!("skipped: ADDRAUTH_LIVE=1 is not set (tests/run sets it where root and Postfix are at hand)");
            return None;
        }
        Some(BED.get_or_init(Bed::start))
    }

    /// Starts an instance. Needs root and Debian's `postfix` and `sasl2-bin`.
    pub fn start() -> Bed {
        // Postfix's sockets need a short path.
        let root = tempfile::Builder::new().prefix("aa-").tempdir_in("/tmp").unwrap().keep();
        let kinds = DOORS.iter().flat_map(|&(kind, count)| std::iter::repeat_n(kind, count));
        let doors: Vec<Door> = kinds
            .enumerate()
            .map(|(number, kind)| Door::new(&root, number, kind, [claim(), claim(), claim()]))
            .collect();
        lay_out(&root, &doors);
        let watch = watch(&root);
        run(Command::new("postfix").arg("-c").arg(root.join("etc")).arg("start"), &root);
        let begin = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, doors[0].port)).is_err() {
            let log = fs::read_to_string(root.join("log/maillog")).unwrap_or_default();
            assert!(begin.elapsed() < PATIENCE, "Postfix does not listen; its log:\n{log}");
            std::thread::sleep(Duration::from_millis(50));
        }
        Bed { root, doors, taken: Default::default(), _watch: watch }
    }

    /// A port that no other test has.
    pub fn door(&self, kind: Kind) -> Door {
        let row = DOORS.iter().position(|&(k, _)| k == kind).unwrap();
        let number = self.taken[row].fetch_add(1, Ordering::Relaxed);
        let door = self.doors.iter().filter(|door| door.kind == kind).nth(number);
        door.unwrap_or_else(|| panic!("no {kind:?} door is left: raise its count in DOORS")).clone()
    }

    /// A port that takes mail for all doors' domains and asks no milter.
    pub fn door_without_milter(&self) -> u16 {
        self.doors.iter().find(|door| door.kind == Kind::Bare).expect("DOORS has bare ones").port
    }

    /// What came back to addresses of `send.test`: the address, and the message.
    pub fn returned(&self) -> Vec<(String, Vec<u8>)> {
        let to = |file: &Vec<u8>| {
            let text = String::from_utf8_lossy(file).into_owned();
            text.lines().find_map(|line| line.strip_prefix("X-Original-To: ").map(String::from)).unwrap_or_default()
        };
        maildir(&self.root.join("mail").join(SENDERS)).into_iter().map(|file| (to(&file), file)).collect()
    }

    /// Whether no message waits to be delivered.
    pub fn is_idle(&self) -> bool {
        let empty = |queue: &str| fs::read_dir(self.root.join("queue").join(queue)).unwrap().next().is_none();
        empty("incoming") && empty("active")
    }

    /// What `postqueue -j` says of the messages in the queue, a line each.
    pub fn queue(&self) -> Vec<String> {
        let out = Command::new("postqueue").arg("-c").arg(self.root.join("etc")).arg("-j").output().unwrap();
        String::from_utf8_lossy(&out.stdout).lines().map(String::from).collect()
    }

    /// Has a message of the hold queue delivered.
    pub fn release(&self, queue_id: &str) {
        let etc = self.root.join("etc");
        run(Command::new("postsuper").arg("-c").arg(&etc).args(["-H", queue_id]), &self.root);
        run(Command::new("postqueue").arg("-c").arg(&etc).args(["-i", queue_id]), &self.root);
    }
}

impl Door {
    fn new(root: &Path, number: usize, kind: Kind, [port, milter_port, signer]: [u16; 3]) -> Door {
        let milter = match kind {
            Kind::Inet | Kind::Submission | Kind::Signing => format!("inet:127.0.0.1:{milter_port}"),
            Kind::Chroot => format!("unix:{}/queue/addrauth/m{number}", root.display()),
            Kind::Bare | Kind::Owning => String::new(),
        };
        Door { port, milter, signer, domain: format!("r{number}.test"), kind, root: root.to_owned() }
    }

    /// The configuration directory of its Postfix.
    pub fn etc(&self) -> PathBuf {
        self.root.join("etc")
    }

    /// The address of a user of this door's domain.
    pub fn address(&self, user: &str) -> String {
        format!("{user}@{}", self.domain)
    }

    /// The port that the milter is to listen on.
    pub fn milter_port(&self) -> u16 {
        self.milter.rsplit(':').next().and_then(|port| port.parse().ok()).expect("the door's milter is on TCP")
    }

    /// The socket that the milter is to listen on.
    pub fn milter_socket(&self) -> PathBuf {
        self.milter.strip_prefix("unix:").expect("the door's milter is on a unix socket").into()
    }

    /// The messages in the user's Maildir, oldest first.
    pub fn mailbox(&self, user: &str) -> Vec<Vec<u8>> {
        maildir(&self.root.join("mail").join(&self.domain).join(user))
    }

    /// The messages in the user's spam folder, oldest first.
    pub fn spam_folder(&self, user: &str) -> Vec<Vec<u8>> {
        maildir(&self.root.join("mail").join(&self.domain).join(user).join(".Junk"))
    }

    /// The user's messages as soon as there are `count` of them.
    pub fn delivered(&self, user: &str, count: usize) -> Vec<Vec<u8>> {
        self.awaited(&self.address(user), count, || self.mailbox(user))
    }

    /// The messages in the user's spam folder as soon as there are `count` of them.
    pub fn delivered_as_spam(&self, user: &str, count: usize) -> Vec<Vec<u8>> {
        self.awaited(&format!("{}, as spam", self.address(user)), count, || self.spam_folder(user))
    }

    fn awaited(&self, whom: &str, count: usize, look: impl Fn() -> Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        let begin = Instant::now();
        loop {
            let messages = look();
            if messages.len() >= count {
                return messages;
            }
            let late = begin.elapsed() > PATIENCE;
            assert!(!late, "{} of {count} messages for {whom}\n{}", messages.len(), self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The lines of the mail log that name this door's domain or service.
    pub fn log(&self) -> String {
        let log = fs::read_to_string(self.root.join("log/maillog")).unwrap_or_default();
        let service = format!("postfix/{}/", self.domain);
        let ours = log.lines().filter(|line| line.contains(&self.domain) || line.contains(&service));
        ours.fold(String::new(), |all, line| all + line + "\n")
    }

    /// The first line of [`Door::log`] with `text`, as soon as there is one.
    pub fn logged(&self, text: &str) -> String {
        let begin = Instant::now();
        loop {
            let log = self.log();
            if let Some(line) = log.lines().find(|line| line.contains(text)) {
                return line.to_owned();
            }
            assert!(begin.elapsed() < PATIENCE, "no log line with `{text}` in\n{log}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn service(&self) -> String {
        let Door { port, domain, kind, .. } = self;
        let chroot = if *kind == Kind::Chroot { 'y' } else { 'n' };
        let milter = match kind {
            // Relative to the queue directory: right with chroot and without.
            Kind::Chroot => format!("unix:{}", relative(&self.milter_socket(), &self.root.join("queue"))),
            Kind::Signing => format!("inet:127.0.0.1:{}, {}", self.signer, self.milter),
            _ => self.milter.clone(),
        };
        let login = match kind {
            Kind::Submission | Kind::Signing => {
                "  -o milter_macro_daemon_name=ORIGINATING\n  -o smtpd_sasl_auth_enable=yes\n  \
                 -o smtpd_sasl_security_options=noanonymous\n  \
                 -o smtpd_relay_restrictions=permit_sasl_authenticated,reject\n"
            }
            Kind::Owning => {
                "  -o smtpd_authorized_xclient_hosts=127.0.0.0/8\n  -o smtpd_sasl_auth_enable=yes\n  \
                 -o smtpd_sender_login_maps=texthash:$config_directory/owners\n  \
                 -o smtpd_sender_restrictions=reject_authenticated_sender_login_mismatch\n  \
                 -o myorigin=origin.test\n  -o { mydestination = local.test, other.test }\n  -o recipient_delimiter=+\n  \
                 -o smtpd_junk_command_limit=100000\n  -o smtpd_error_sleep_time=0\n  \
                 -o smtpd_soft_error_limit=100000\n  -o smtpd_hard_error_limit=100000\n"
            }
            _ => "",
        };
        format!(
            "127.0.0.1:{port} inet n - {chroot} - - smtpd\n  -o syslog_name=postfix/{domain}\n  \
             -o {{ smtpd_milters = {milter} }}\n{login}"
        )
    }
}

/// The messages of a Maildir, oldest first.
pub fn maildir(path: &Path) -> Vec<Vec<u8>> {
    let Ok(entries) = fs::read_dir(path.join("new")) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort_by_key(|file| fs::metadata(file).unwrap().modified().unwrap());
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// A delivered file without the fields that Postfix put on top of it: Return-Path, X-Original-To, Delivered-To, Received.
pub fn as_sent(file: &[u8]) -> Vec<u8> {
    let added = |line: &[u8]| {
        [&b"Return-Path:"[..], b"X-Original-To:", b"Delivered-To:", b"Received: from"]
            .iter()
            .any(|name| line.starts_with(name))
    };
    without(file, added)
}

/// The octets without the header fields whose first line `gone` names; folds go with their field.
pub fn without(file: &[u8], gone: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut left = Vec::new();
    let mut skipping = false;
    for line in file.split_inclusive(|&b| b == b'\n') {
        let fold = matches!(line.first(), Some(b' ' | b'\t'));
        skipping = if fold { skipping } else { gone(line) && left_is_header(&left) };
        if !skipping {
            left.extend_from_slice(line);
        }
    }
    left
}

/// Whether the lines so far hold no empty line: we are still in the header.
fn left_is_header(left: &[u8]) -> bool {
    !left.starts_with(b"\n") && !left.windows(2).any(|w| w == b"\n\n")
}

/// Stops Postfix and removes its directory once our end of the pipe is closed: at the end of this process, a killed one too.
pub(crate) fn watch(root: &Path) -> ChildStdin {
    let script = r#"trap '' INT TERM HUP; read -r _; postfix -c "$0/etc" stop; rm -rf "$0""#;
    let mut command = Command::new("sh");
    command.args(["-c", script]).arg(root).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap().stdin.unwrap()
}

/// Runs a command of Postfix; its words go to a file, since the daemon it starts would keep a pipe open.
pub(crate) fn run(command: &mut Command, root: &Path) {
    let words = root.join("log/words");
    let file = fs::OpenOptions::new().create(true).append(true).open(&words).unwrap();
    let status = command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file).status().unwrap();
    assert!(status.success(), "{command:?}: {status}\n{}", fs::read_to_string(words).unwrap());
}

fn relative(path: &Path, to: &Path) -> String {
    path.strip_prefix(to).unwrap().display().to_string()
}

/// Writes the instance's files with the owners and modes that `postfix check` asks for.
fn lay_out(root: &Path, doors: &[Door]) {
    let mode = |path: &Path, mode: u32| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    for part in ["etc/sasl", "queue/addrauth", "queue/etc", "data", "mail", "log"] {
        fs::create_dir_all(root.join(part)).unwrap();
    }
    mode(root, 0o755);
    let postfix = Some(number_of("-u"));
    let group = Some(number_of("-g"));
    chown(root.join("data"), postfix, None).unwrap();
    chown(root.join("queue/addrauth"), None, group).unwrap();
    mode(&root.join("queue/addrauth"), 0o750);
    chown(root.join("mail"), Some(NOBODY), Some(NOBODY)).unwrap();
    mode(&root.join("mail"), 0o700);
    let write = |name: &str, text: String| fs::write(root.join("etc").join(name), text).unwrap();
    let domains: Vec<&str> = doors.iter().map(|door| door.domain.as_str()).collect();
    write("main.cf", main_cf(root, &domains.join(", ")));
    let services: String = doors.iter().map(Door::service).collect();
    write("master.cf", services + SERVICES);
    // Postfix looks up in lower case, and takes the rows of a texthash as they are.
    let rows = |d: &&str, u: &str| format!("{u}@{d} {d}/{u}/\n{u}+junk@{d} {d}/{u}/.Junk/\n");
    let boxes = domains.iter().flat_map(|d| USERS.map(|u| rows(d, u)));
    write("mailboxes", boxes.chain([format!("@{SENDERS} {SENDERS}/\n")]).collect());
    // Postfix looks up in lower case, as above.
    write("owners", include_str!("../vectors/owners/rows").to_lowercase());
    write("transport", "bench.test discard:\nelse.test discard:\n".into());
    log_in_as_alice(root, group);
}

/// One login for the submission doors, in a password file of its own.
fn log_in_as_alice(root: &Path, group: Option<u32>) {
    let sasl = root.join("etc/sasl");
    let file = sasl.join("sasldb2");
    let text =
        format!("pwcheck_method: auxprop\nauxprop_plugin: sasldb\nsasldb_path: {}\nmech_list: PLAIN\n", file.display());
    fs::write(sasl.join("smtpd.conf"), text).unwrap();
    let script = r#"printf secret | saslpasswd2 -p -c -f "$0" -u send.test alice"#;
    run(Command::new("sh").args(["-c", script]).arg(&file), root);
    chown(&file, None, group).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
}

/// The number of Postfix's user (`-u`) or group (`-g`).
pub fn number_of(option: &str) -> u32 {
    let out = Command::new("id").args([option, "postfix"]).output().unwrap();
    String::from_utf8_lossy(&out.stdout).trim().parse().expect("Postfix is installed: it has a user")
}

fn main_cf(root: &Path, domains: &str) -> String {
    let root = root.display();
    format!(
        "compatibility_level = 3.6
queue_directory = {root}/queue
data_directory = {root}/data
maillog_file = {root}/log/maillog
maillog_file_prefixes = {root}/log
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = mx.recv.test
mydestination =
mynetworks = 127.0.0.0/8
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_peername_lookup = no
local_header_rewrite_clients =
smtp_dns_support_level = disabled
smtp_host_lookup = native
virtual_mailbox_domains = {domains}, {SENDERS}
virtual_mailbox_base = {root}/mail
virtual_mailbox_maps = texthash:{root}/etc/mailboxes
virtual_uid_maps = static:{NOBODY}
virtual_gid_maps = static:{NOBODY}
virtual_minimum_uid = 1000
smtpd_sasl_type = cyrus
smtpd_sasl_path = smtpd
cyrus_sasl_config_path = {root}/etc/sasl
transport_maps = texthash:{root}/etc/transport
relay_domains = bench.test, else.test
relay_recipient_maps =
default_transport = error:5.4.4 nothing leaves the test bed
alias_maps =
alias_database =
local_recipient_maps =
biff = no
append_dot_mydomain = no
notify_classes =
bounce_queue_lifetime = 1h
maximal_queue_lifetime = 1h
smtpd_client_connection_rate_limit = 0
smtpd_client_connection_count_limit = 0
milter_protocol = 6
milter_default_action = tempfail
milter_connect_timeout = 5s
milter_command_timeout = 30s
milter_content_timeout = 60s
"
    )
}

/// The services behind the smtpd ports; proxymap cannot be left out, smtpd hangs without it.
pub(crate) const SERVICES: &str = "pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
";
