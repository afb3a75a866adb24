//! One host's Postfix: smtpd ports with or without milter and login, mailboxes, forwarded addresses, and routes to the others.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command};
use std::time::{Duration, Instant};

use crate::postfix::{NOBODY, SERVICES, maildir, number_of, run, watch};

/// How long Postfix may take to start, to deliver or to empty its queue on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// The password of every login.
pub const PASSWORD: &str = "secret";

/// An smtpd.
#[derive(Clone, Debug)]
pub struct Port {
    /// Where it listens, on 127.0.0.1.
    pub number: u16,
    /// The TCP port of the milter before it.
    pub milter: Option<u16>,
    /// What it tells the milter as `{daemon_name}`.
    pub daemon: &'static str,
    /// Whether clients must log in.
    pub login: bool,
}

/// What a host is to be.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Its name, such as mx.one.test.
    pub name: &'static str,
    /// Its smtpds.
    pub ports: Vec<Port>,
    /// The address from which it brings mail to others: the last octet of 127.0.0.N.
    pub from: u8,
    /// The mailboxes it holds.
    pub mailboxes: Vec<&'static str>,
    /// Addresses of domains without mailboxes, and where their mail goes on to.
    pub forwards: Vec<(&'static str, &'static str)>,
    /// Domains whose mail others take, and their ports.
    pub routes: Vec<(&'static str, u16)>,
    /// An address whose mail is delivered over LMTP, and the port.
    pub lmtp: Option<(&'static str, u16)>,
    /// Names that may log in, each with [`PASSWORD`].
    pub logins: Vec<&'static str>,
}

/// A running Postfix. It stops and its directory goes when this is dropped, or when the process that holds it ends.
#[derive(Debug)]
pub struct Site {
    /// Its directory.
    pub root: PathBuf,
    plan: Plan,
    _watch: ChildStdin,
}

impl Site {
    /// Lays it out; [`Site::start`] starts it.
    pub fn new(plan: Plan) -> Site {
        // Postfix's sockets need a short path.
        let root = tempfile::Builder::new().prefix("aa-").tempdir_in("/tmp").unwrap().keep();
        lay_out(&root, &plan);
        let watch = watch(&root);
        Site { root, plan, _watch: watch }
    }

    /// Starts it, without waiting for its ports: several start at once.
    pub fn start(&self) {
        run(Command::new("postfix").arg("-c").arg(self.root.join("etc")).arg("start"), &self.root);
    }

    /// Waits until it takes mail.
    pub fn until_it_listens(&self) {
        for port in &self.plan.ports {
            self.wait_for("it listens", || TcpStream::connect((Ipv4Addr::LOCALHOST, port.number)).ok());
        }
    }

    /// Stops it; what waits in its queue stays there.
    pub fn stop(&self) {
        run(Command::new("postfix").arg("-c").arg(self.root.join("etc")).arg("stop"), &self.root);
    }

    /// Has it try at once whatever waits in its queue.
    pub fn flush(&self) {
        run(Command::new("postqueue").arg("-c").arg(self.root.join("etc")).arg("-f"), &self.root);
    }

    /// What waits in its queue, a line of JSON each.
    pub fn queue(&self) -> Vec<String> {
        let out = Command::new("postqueue").arg("-c").arg(self.root.join("etc")).arg("-j").output().unwrap();
        String::from_utf8_lossy(&out.stdout).lines().map(String::from).collect()
    }

    /// Waits until nothing is in its queue.
    pub fn until_it_is_empty(&self) {
        self.wait_for("its queue is empty", || self.queue().is_empty().then_some(()));
    }

    /// The messages in a mailbox, oldest first.
    pub fn mailbox(&self, address: &str) -> Vec<String> {
        let (user, domain) = address.split_once('@').unwrap();
        let files = maildir(&self.root.join("mail").join(domain).join(user));
        files.iter().map(|file| String::from_utf8_lossy(file).into_owned()).collect()
    }

    /// The message in a mailbox that has this Subject, as soon as it is there.
    pub fn delivered(&self, address: &str, subject: &str) -> String {
        let line = format!("\nSubject: {subject}\n");
        self.wait_for(&format!("{address} has `{subject}`"), || {
            self.mailbox(address).into_iter().find(|text| text.contains(&line))
        })
    }

    /// Takes all mail out of a mailbox.
    pub fn empty(&self, address: &str) {
        let (user, domain) = address.split_once('@').unwrap();
        let _ = fs::remove_dir_all(self.root.join("mail").join(domain).join(user));
    }

    /// Its mail log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.root.join("log/maillog")).unwrap_or_default()
    }

    /// The first line of its mail log with `text`, as soon as there is one.
    pub fn logged(&self, text: &str) -> String {
        self.wait_for(&format!("its log has `{text}`"), || {
            self.log().lines().find(|line| line.contains(text)).map(String::from)
        })
    }

    fn wait_for<T>(&self, what: &str, look: impl Fn() -> Option<T>) -> T {
        let begin = Instant::now();
        loop {
            if let Some(found) = look() {
                return found;
            }
            let name = self.plan.name;
            assert!(begin.elapsed() < PATIENCE, "{name}: not in time that {what}\n{:#?}\n{}", self.queue(), self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Writes the instance's files with the owners and modes that `postfix check` asks for.
fn lay_out(root: &Path, plan: &Plan) {
    let mode = |path: &Path, mode: u32| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    for part in ["etc/sasl", "queue", "data", "mail", "log"] {
        fs::create_dir_all(root.join(part)).unwrap();
    }
    mode(root, 0o755);
    chown(root.join("data"), Some(number_of("-u")), None).unwrap();
    chown(root.join("mail"), Some(NOBODY), Some(NOBODY)).unwrap();
    mode(&root.join("mail"), 0o700);
    let write = |name: &str, text: String| fs::write(root.join("etc").join(name), text).unwrap();
    let rows = |rows: Vec<String>| rows.iter().fold(String::new(), |all, row| all + row + "\n");
    let folder = |address: &&str| {
        let (user, domain) = address.split_once('@').unwrap();
        format!("{address} {domain}/{user}/")
    };
    write("mailboxes", rows(plan.mailboxes.iter().map(folder).collect()));
    write("forwards", rows(plan.forwards.iter().map(|(from, to)| format!("{from} {to}")).collect()));
    let lmtp = plan.lmtp.iter().map(|(to, port)| format!("{to} lmtp:inet:127.0.0.1:{port}"));
    let routes = plan.routes.iter().map(|(to, port)| format!("{to} relay:[127.0.0.1]:{port}"));
    write("transport", rows(lmtp.chain(routes).collect()));
    write("no-keys", "/^X-Auth-Key:/ IGNORE\n".into());
    write("logins", rows(plan.logins.iter().map(|login| format!("{login} {login}")).collect()));
    write("main.cf", main_cf(root, plan));
    let services = plan.ports.iter().map(service).collect::<String>() + SERVICES;
    write("master.cf", services + "lmtp unix - - n - - lmtp\n");
    let sasl = root.join("etc/sasl");
    let file = sasl.join("sasldb2");
    let text =
        format!("pwcheck_method: auxprop\nauxprop_plugin: sasldb\nsasldb_path: {}\nmech_list: PLAIN\n", file.display());
    fs::write(sasl.join("smtpd.conf"), text).unwrap();
    for login in &plan.logins {
        let (user, realm) = login.split_once('@').unwrap();
        let script = r#"printf %s "$1" | saslpasswd2 -p -c -f "$0" -u "$2" "$3""#;
        run(Command::new("sh").args(["-c", script]).arg(&file).args([PASSWORD, realm, user]), root);
        chown(&file, None, Some(number_of("-g"))).unwrap();
        mode(&file, 0o640);
    }
}

fn service(port: &Port) -> String {
    let Port { number, milter, daemon, login } = port;
    let milter = milter.map_or(String::new(), |port| {
        format!("{{ inet:127.0.0.1:{port}, default_action=tempfail, command_timeout=30s }}")
    });
    // Not reject_sender_login_mismatch: who forges a colleague's From is to reach the filter.
    let login = match login {
        true => {
            "  -o smtpd_sasl_auth_enable=yes\n  -o smtpd_sasl_security_options=noanonymous\n  \
             -o smtpd_relay_restrictions=permit_sasl_authenticated,reject\n"
        }
        false => "",
    };
    format!(
        "127.0.0.1:{number} inet n - n - - smtpd\n  -o {{ smtpd_milters = {milter} }}\n  \
         -o milter_macro_daemon_name={daemon}\n{login}"
    )
}

/// The domains of these addresses, each once.
fn domains<'a>(addresses: impl Iterator<Item = &'a str>) -> String {
    let mut domains: Vec<&str> = addresses.filter_map(|address| Some(address.split_once('@')?.1)).collect();
    domains.sort_unstable();
    domains.dedup();
    domains.join(", ")
}

fn main_cf(root: &Path, plan: &Plan) -> String {
    let Plan { name, from, mailboxes, forwards, .. } = plan;
    let (ours, passing) = (domains(mailboxes.iter().copied()), domains(forwards.iter().map(|(from, _)| *from)));
    let root = root.display();
    format!(
        "compatibility_level = 3.6
queue_directory = {root}/queue
data_directory = {root}/data
maillog_file = {root}/log/maillog
maillog_file_prefixes = {root}/log
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
smtp_bind_address = 127.0.0.{from}
myhostname = {name}
mydestination =
mynetworks = 127.0.0.0/8
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_peername_lookup = no
local_header_rewrite_clients =
smtp_dns_support_level = disabled
smtp_host_lookup = native
virtual_mailbox_domains = {ours}
virtual_mailbox_base = {root}/mail
virtual_mailbox_maps = texthash:{root}/etc/mailboxes
virtual_uid_maps = static:{NOBODY}
virtual_gid_maps = static:{NOBODY}
virtual_minimum_uid = 1000
virtual_alias_domains = {passing}
virtual_alias_maps = texthash:{root}/etc/forwards
smtpd_sasl_type = cyrus
smtpd_sasl_path = smtpd
cyrus_sasl_config_path = {root}/etc/sasl
smtpd_sender_login_maps = texthash:{root}/etc/logins
transport_maps = texthash:{root}/etc/transport
lmtp_header_checks = regexp:{root}/etc/no-keys
default_transport = error:5.4.4 nothing leaves the estate
alias_maps =
alias_database =
local_recipient_maps =
biff = no
append_dot_mydomain = no
notify_classes =
minimal_backoff_time = 2s
maximal_backoff_time = 5s
queue_run_delay = 2s
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
