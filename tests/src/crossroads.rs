//! A Postfix at which every kind of domain meets: virtual mailboxes, local users, a domain that it relays for, aliases, one
//! with letters beyond ASCII; strangers, its own network and logins come in at doors of their own, each with strict envelopes
//! and without, and sendmail(1) comes in by the queue. One filter stands behind all of them.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use crate::ports::claim;
use crate::postfix::{NOBODY, SERVICES, number_of, run, watch};

/// How long Postfix may take to start or to empty its queue on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// The domains whose mail ends here, by kind; the last in both of its spellings.
pub const VIRTUAL: &str = "recv.test";
/// Delivered by local(8); what has no domain is here too.
pub const LOCAL: &str = "here.test";
/// Relayed for.
pub const RELAY: &str = "relay.test";
/// Letters beyond ASCII, as A-labels.
pub const IDN: &str = "xn--bcher-kva.test";
/// The same in its own letters.
pub const IDN_LETTERS: &str = "b\u{fc}cher.test";
/// Whose mail is nobody's here: it is taken and dropped.
pub const ELSEWHERE: &str = "else.test";
/// Who has a mailbox in each domain; `NAME-alias` leads to it.
pub const USERS: [&str; 3] = ["bob", "boss", "postmaster"];

/// Who comes in at a door.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// Anybody, by Postfix's own defaults for relaying.
    Stranger,
    /// A client of `mynetworks`.
    Network,
    /// alice@send.test, who logs in.
    Login,
}

/// All who come in.
pub const ALL: [Who; 3] = [Who::Stranger, Who::Network, Who::Login];

/// The running instance. It stops and its directory goes when this is dropped, or when the process that holds it ends.
#[derive(Debug)]
pub struct Crossroads {
    /// Its directory.
    pub root: PathBuf,
    ports: Vec<u16>,
    _watch: ChildStdin,
}

impl Crossroads {
    /// Starts it; `None`, and a line that says so, where `ADDRAUTH_LIVE` is not set.
    pub fn start() -> Option<Crossroads> {
        if std::env::var_os("ADDRAUTH_LIVE").is_none() {
            println!("skipped: ADDRAUTH_LIVE=1 is not set (tests/run sets it where root and Postfix are at hand)");
            return None;
        }
        // Postfix's sockets need a short path.
        let root = tempfile::Builder::new().prefix("aa-x-").tempdir_in("/tmp").unwrap().keep();
        let ports: Vec<u16> = (0..2 * ALL.len() + 1).map(|_| claim()).collect();
        lay_out(&root, &ports);
        let watch = watch(&root);
        run(Command::new("postfix").arg("-c").arg(root.join("etc")).arg("start"), &root);
        let begin = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, ports[0])).is_err() {
            assert!(begin.elapsed() < PATIENCE, "Postfix does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(Crossroads { root, ports, _watch: watch })
    }

    /// The port at which they come in, with `strict_rfc821_envelopes` or without.
    pub fn port(&self, who: Who, strict: bool) -> u16 {
        self.ports[2 * ALL.iter().position(|one| *one == who).unwrap() + usize::from(strict)]
    }

    /// The port for the filter's own mail: a client of `mynetworks`, before the same filter.
    pub fn own_port(&self) -> u16 {
        self.ports[2 * ALL.len()]
    }

    /// Where the filter listens, as `milter.listen` spells it.
    pub fn milter(&self) -> String {
        format!("unix:{}/queue/addrauth/m", self.root.display())
    }

    /// Hands a message to sendmail(1), with this one argument as its recipient. False where it refuses the argument.
    pub fn sendmail(&self, to: &str, message: &[u8]) -> bool {
        let mut command = Command::new("sendmail");
        command.arg("-C").arg(self.root.join("etc")).args(["-i", "-f", "sender@send.test", "--", to]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let _ = child.stdin.take().unwrap().write_all(message);
        child.wait().unwrap().success()
    }

    /// Waits until nothing is in its queue but what is held.
    pub fn until_it_is_empty(&self) {
        let begin = Instant::now();
        let queued = || {
            let out = Command::new("postqueue").arg("-c").arg(self.root.join("etc")).arg("-j").output().unwrap();
            let text = String::from_utf8_lossy(&out.stdout).into_owned();
            text.lines().filter(|line| !line.contains("\"queue_name\": \"hold\"")).map(String::from).collect::<String>()
        };
        let waiting = || {
            let maildrop = fs::read_dir(self.root.join("queue/maildrop")).is_ok_and(|mut all| all.next().is_some());
            maildrop || !queued().is_empty()
        };
        while waiting() {
            assert!(begin.elapsed() < PATIENCE, "its queue is not empty:\n{}", queued());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Every delivered file below the mailboxes: whose it is, as `user@domain`, and its octets.
    pub fn delivered(&self) -> Vec<(String, Vec<u8>)> {
        let mut all = Vec::new();
        for domain in [VIRTUAL, LOCAL, RELAY, IDN, "send.test"] {
            let Ok(users) = fs::read_dir(self.root.join("mail").join(domain)) else { continue };
            for user in users.flatten() {
                let whose = format!("{}@{domain}", user.file_name().to_string_lossy());
                let files = crate::postfix::maildir(&user.path());
                all.extend(files.into_iter().map(|file| (whose.clone(), file)));
            }
        }
        all
    }

    /// Takes all mail out of all mailboxes.
    pub fn empty(&self) {
        for domain in [VIRTUAL, LOCAL, RELAY, IDN, "send.test"] {
            let Ok(users) = fs::read_dir(self.root.join("mail").join(domain)) else { continue };
            for file in
                users.flatten().filter_map(|user| fs::read_dir(user.path().join("new")).ok()).flatten().flatten()
            {
                fs::remove_file(file.path()).unwrap();
            }
        }
    }

    /// What the mail log says of each message: its queue ids by Message-ID, and the ends of its recipients by queue id.
    pub fn log(&self) -> Log {
        let text = fs::read(self.root.join("log/maillog")).unwrap_or_default();
        Log::read(&String::from_utf8_lossy(&text))
    }
}

/// The mail log, in so far as a test needs it.
#[derive(Debug, Default)]
pub struct Log {
    /// Queue ids by Message-ID, the first one first.
    pub ids: BTreeMap<String, Vec<String>>,
    /// What became of recipients, by queue id: `to=<…>, … status=…`.
    pub ends: BTreeMap<String, Vec<String>>,
}

impl Log {
    fn read(text: &str) -> Log {
        let mut log = Log::default();
        for line in text.lines() {
            let Some((_, rest)) = line.split_once("]: ") else { continue };
            let Some((id, rest)) = rest.split_once(": ") else { continue };
            if let Some(message_id) = rest.strip_prefix("message-id=") {
                log.ids.entry(message_id.to_owned()).or_default().push(id.to_owned());
            } else if rest.starts_with("to=<") && rest.contains(" status=") {
                log.ends.entry(id.to_owned()).or_default().push(rest.to_owned());
            }
        }
        log
    }
}

fn lay_out(root: &Path, ports: &[u16]) {
    let mode = |path: &Path, mode: u32| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    for part in ["etc/sasl", "queue/addrauth", "data", "mail", "log"] {
        fs::create_dir_all(root.join(part)).unwrap();
    }
    mode(root, 0o755);
    let (user, group) = (Some(number_of("-u")), Some(number_of("-g")));
    chown(root.join("data"), user, None).unwrap();
    chown(root.join("queue/addrauth"), None, group).unwrap();
    mode(&root.join("queue/addrauth"), 0o750);
    let write = |name: &str, text: String| fs::write(root.join("etc").join(name), text).unwrap();
    let mut boxes = String::from("@send.test send.test/all/\n");
    let (mut aliases, mut local) = (String::new(), String::new());
    for user in USERS {
        for domain in [VIRTUAL, RELAY, IDN] {
            boxes += &format!("{user}@{domain} {domain}/{user}/\n");
            aliases += &format!("{user}-alias@{domain} {user}@{domain}\n");
        }
        boxes += &format!("{user}@{IDN_LETTERS} {IDN}/{user}/\n");
        aliases += &format!("{user}-alias@{LOCAL} {user}@{LOCAL}\n");
        local += &format!("{user}: {}/mail/{LOCAL}/{user}/\n", root.display());
    }
    write("mailboxes", boxes);
    write("aliases-virtual", aliases);
    write("aliases-local", local);
    write("transport", format!("{ELSEWHERE} discard:\n{RELAY} virtual:\nr.test discard:\n"));
    for domain in [VIRTUAL, LOCAL, RELAY, IDN, "send.test"] {
        fs::create_dir_all(root.join("mail").join(domain)).unwrap();
        chown(root.join("mail").join(domain), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    chown(root.join("mail"), Some(NOBODY), Some(NOBODY)).unwrap();
    write("main.cf", main_cf(root));
    let doors = ALL.iter().flat_map(|who| [(who, false), (who, true)]);
    let mut services: String = doors.zip(ports).map(|((who, strict), port)| service(*who, strict, *port)).collect();
    services += &service(Who::Network, false, ports[2 * ALL.len()]);
    write("master.cf", services + SERVICES + "local unix - n n - - local\n");
    let sasl = root.join("etc/sasl");
    let file = sasl.join("sasldb2");
    let text =
        format!("pwcheck_method: auxprop\nauxprop_plugin: sasldb\nsasldb_path: {}\nmech_list: PLAIN\n", file.display());
    fs::write(sasl.join("smtpd.conf"), text).unwrap();
    let script = r#"printf secret | saslpasswd2 -p -c -f "$0" -u send.test alice"#;
    run(Command::new("sh").args(["-c", script]).arg(&file), root);
    chown(&file, None, group).unwrap();
    mode(&file, 0o640);
}

fn service(who: Who, strict: bool, port: u16) -> String {
    let rules = match who {
        Who::Stranger => "  -o smtpd_relay_restrictions=reject_unauth_destination\n".to_owned(),
        Who::Network => "  -o smtpd_relay_restrictions=permit_mynetworks,reject\n".to_owned(),
        Who::Login => "  -o milter_macro_daemon_name=ORIGINATING\n  -o smtpd_sasl_auth_enable=yes\n  \
             -o smtpd_sasl_security_options=noanonymous\n  \
             -o smtpd_relay_restrictions=permit_sasl_authenticated,reject\n"
            .to_owned(),
    };
    let strict = if strict { "yes" } else { "no" };
    format!("127.0.0.1:{port} inet n - n - - smtpd\n  -o strict_rfc821_envelopes={strict}\n{rules}")
}

fn main_cf(root: &Path) -> String {
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
mydomain = recv.test
myorigin = {LOCAL}
mydestination = {LOCAL}, mx.recv.test, localhost
mynetworks = 127.0.0.0/8
smtpd_peername_lookup = no
local_header_rewrite_clients =
smtp_dns_support_level = disabled
smtp_host_lookup = native
virtual_mailbox_domains = {VIRTUAL}, {IDN}, {IDN_LETTERS}, send.test
virtual_mailbox_base = {root}/mail
virtual_mailbox_maps = texthash:{root}/etc/mailboxes
virtual_alias_maps = texthash:{root}/etc/aliases-virtual
virtual_uid_maps = static:{NOBODY}
virtual_gid_maps = static:{NOBODY}
virtual_minimum_uid = 1000
smtpd_milters = {{ unix:addrauth/m, default_action=tempfail, command_timeout=30s }}
non_smtpd_milters = {{ unix:addrauth/m, default_action=tempfail, command_timeout=30s }}
smtpd_sasl_type = cyrus
smtpd_sasl_path = smtpd
cyrus_sasl_config_path = {root}/etc/sasl
transport_maps = texthash:{root}/etc/transport
relay_domains = {RELAY}
relay_recipient_maps = texthash:{root}/etc/mailboxes
default_transport = error:5.4.4 nothing leaves the test bed
alias_maps = texthash:{root}/etc/aliases-local
alias_database =
local_recipient_maps = $alias_maps
recipient_delimiter = +
biff = no
append_dot_mydomain = no
notify_classes =
bounce_queue_lifetime = 1h
maximal_queue_lifetime = 1h
smtpd_client_connection_rate_limit = 0
smtpd_client_connection_count_limit = 0
smtpd_hard_error_limit = 1000000
smtpd_soft_error_limit = 1000000
smtpd_junk_command_limit = 1000000
default_process_limit = 100
milter_protocol = 6
milter_default_action = tempfail
milter_connect_timeout = 5s
milter_command_timeout = 30s
milter_content_timeout = 60s
"
    )
}
