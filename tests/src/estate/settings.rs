//! What the hosts of the estate are configured to do: a file for each role.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use addrauth::config::Config;
use addrauth::store;

use super::{Ports, Role};
use crate::daemon::binary;
use crate::postgres::Postgres;

/// The database's roles, one for each host of one.test, and whose rights each has.
const DATABASE_ROLES: [(Role, &str, &str); 3] = [
    (Role::Authority, "as_one", "addrauth_authority"),
    (Role::Mx, "mx_one", "addrauth_learn"),
    (Role::Submission, "smtp_one", "addrauth_stamp"),
];
/// With what the submission server logs in at the database, over TCP; the others come over its socket, and need nothing.
const DATABASE_PASSWORD: &str = "correct horse battery staple";

/// What AS, MX and submission server of one.test share.
#[derive(Clone, Debug, Default)]
pub enum Shared {
    /// They are one host, with SQLite files: one filter plays both roles, told by the names of Postfix's daemons.
    #[default]
    StateDir,
    /// They are three hosts, with a database of this cluster, each as a role of its own.
    Database(Arc<Postgres>),
    /// They are three hosts that share nothing: the submission server fetches keys from the AS over TLS, and the MX learns none.
    Stream(Certified),
}

/// What TLS needs, as files of PEM.
#[derive(Clone, Debug)]
pub struct Certified {
    /// The AS's certificate, for `localhost`.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The root that vouches for it.
    pub roots: PathBuf,
}

/// Settings that a test chooses; each text is TOML.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// What is shared.
    pub shared: Shared,
    /// Lines of the AS's `[authority]`.
    pub authority: &'static str,
    /// Lines of `[keyring]` where keys are learned.
    pub learn: &'static str,
    /// The port at which dave's mail is taken over LMTP, the stamp being struck out on the way (`lmtp_header_checks`).
    pub lmtp: Option<u16>,
    /// Lines of `[policy]` at two.test, and what follows it.
    pub far: &'static str,
}

impl Settings {
    /// Whether the hosts of one.test are several.
    pub(super) fn is_apart(&self) -> bool {
        !matches!(self.shared, Shared::StateDir)
    }

    /// The database's cluster, where there is one.
    pub(super) fn cluster(&self) -> Option<&Postgres> {
        match &self.shared {
            Shared::StateDir | Shared::Stream(_) => None,
            Shared::Database(cluster) => Some(cluster),
        }
    }

    /// Whose configuration tells where the keyring is.
    pub(super) fn keyring(&self) -> Role {
        match self.shared {
            Shared::StateDir => Role::Mx,
            Shared::Database(_) => Role::Submission,
            Shared::Stream(_) => Role::Authority,
        }
    }

    /// Writes all files, and makes the database.
    pub(super) fn write(&self, dir: &Path, ports: &Ports, dns: SocketAddr, submission: &Path) {
        for part in ["home", "authority", "mx", "submission", "far"] {
            fs::create_dir(dir.join(part)).unwrap();
            fs::set_permissions(dir.join(part), fs::Permissions::from_mode(0o700)).unwrap();
        }
        let files = Files { settings: self, dir, ports, dns, logins: submission.join("etc/logins") };
        let stores = self.cluster().map_or_else(Vec::new, |cluster| stores(cluster, dir));
        let ([_, mx], [_, submission], [_, far]) = (ports.mx, ports.submission, ports.far);
        let at_mx = if self.is_apart() { vec![mx] } else { vec![mx, submission] };
        let texts = [
            (Role::Authority, files.authority()),
            (Role::Far, files.filter(Role::Far, &[far]) + &format!("[policy]\n{}\n", self.far)),
            (Role::Submission, files.filter(Role::Submission, &[submission])),
            (Role::Mx, files.filter(Role::Mx, &at_mx)),
        ];
        for (role, text) in texts {
            let store = stores.iter().find(|(to, _)| *to == role).map_or("", |(_, lines)| lines);
            fs::write(dir.join(format!("{}.toml", role.name())), text + &files.keyring(role) + store).unwrap();
        }
    }
}

/// All that the files are written from.
struct Files<'a> {
    settings: &'a Settings,
    dir: &'a Path,
    ports: &'a Ports,
    dns: SocketAddr,
    /// The table of who owns which address.
    logins: PathBuf,
}

impl Files<'_> {
    /// Hosts that are one have one directory.
    fn state(&self, role: Role) -> PathBuf {
        self.dir.join(if self.settings.is_apart() || role == Role::Far { role.name() } else { "home" })
    }

    /// What all hosts say: who they are, where their own mail goes, whom they ask.
    fn host(&self, role: Role, top: &str) -> String {
        let name = match role {
            Role::Authority => "as.one.test",
            Role::Mx => "mx.one.test",
            Role::Submission => "smtp.one.test",
            Role::Far => "mx.two.test",
        };
        // The AS's mail takes the way that mail from outside takes.
        let notify = match role {
            Role::Authority | Role::Mx => self.ports.mx[0],
            Role::Submission => self.ports.own,
            Role::Far => self.ports.far[0],
        };
        let (domain, state) = (name.split_once('.').unwrap().1, self.state(role));
        let roots = match &self.settings.shared {
            Shared::Stream(certified) => format!("tls_roots = {:?}\n", certified.roots),
            _ => String::new(),
        };
        format!(
            "hostname = {name:?}\nstate_dir = {state:?}\n{}\
             [notices]\nnotify_via = \"127.0.0.1:{notify}\"\nfrom = \"postmaster@{domain}\"\n\
             [verify]\ndns = [\"{}\"]\nallow_targets = [\"127.0.0.0/8\"]\ntimeout = \"4s\"\n{roots}",
            top.replace("DOMAIN", domain),
            self.dns
        )
    }

    fn authority(&self) -> String {
        let stream = match &self.settings.shared {
            Shared::Stream(Certified { certificate, key, .. }) => format!(
                "deliver = \"keyring\"\nfetch_token_file = {:?}\n[authority.tls]\ncertificate = {certificate:?}\nkey = {key:?}\n",
                token_file(&self.state(Role::Authority))
            ),
            _ => String::new(),
        };
        format!(
            "{}[authority]\ndomains = [\"one.test\"]\nlisten = [\"{}\"]\n{}\n{stream}",
            self.host(Role::Authority, ""),
            self.ports.authority,
            self.settings.authority
        )
    }

    fn filter(&self, role: Role, milters: &[u16]) -> String {
        let milters: Vec<String> = milters.iter().map(|port| format!("inet:127.0.0.1:{port}")).collect();
        // What the submission server examined passes the MX as it is.
        let trusted = if role == Role::Mx && self.settings.is_apart() { "[\"127.0.0.3/32\"]" } else { "[]" };
        let top = format!("final_domains = [\"DOMAIN\"]\nobserve = false\ntrusted_hops = {trusted}\n");
        format!("{}[milter]\nlisten = {milters:?}\n", self.host(role, &top))
    }

    /// The part that a host plays for the keys of one.test.
    fn keyring(&self, role: Role) -> String {
        let learn = format!("learn = [\"smtpd\"]\n{}\n", self.settings.learn);
        let owners = format!("owners = [\"texthash:{}\"]\nlogin_domain = \"one.test\"\n", self.logins.display());
        let stamp = format!("stamp = [\"ORIGINATING\"]\n{owners}");
        let seal_to = || {
            let pair = store::read_or_make_opener(&self.state(Role::Submission).join("keyring.key")).unwrap();
            format!("seal_to = \"{}\"\n", pair.seal_to())
        };
        let lines = match (&self.settings.shared, role) {
            (_, Role::Far) | (Shared::StateDir, Role::Authority) | (Shared::Stream(_), Role::Mx) => String::new(),
            (_, Role::Authority) => seal_to(),
            (Shared::StateDir, Role::Mx) => learn + &stamp,
            (Shared::Database(_), Role::Mx) => learn + &seal_to(),
            (Shared::StateDir | Shared::Database(_), Role::Submission) => stamp,
            (Shared::Stream(_), Role::Submission) => format!(
                "{stamp}fetch_from = \"localhost:{}\"\nfetch_token_file = {:?}\n",
                self.ports.authority.port(),
                token_file(&self.state(Role::Submission))
            ),
        };
        format!("[keyring]\n{lines}")
    }
}

/// The token that the AS and the submission server know.
fn token_file(state: &Path) -> PathBuf {
    let file = state.join("token");
    fs::write(&file, "a-token-that-only-these-two-hosts-know\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    file
}

/// The database's role for a host, and the database that its configuration names.
pub(super) fn database(role: Role, dir: &Path) -> (&'static str, String) {
    let (_, name, _) = DATABASE_ROLES.iter().find(|(host, ..)| *host == role).expect("the host has a role");
    let config = Config::read(&dir.join(format!("{}.toml", role.name()))).unwrap();
    let (path, _) = config.store.url.split_once('?').unwrap_or((&config.store.url, ""));
    (name, path.rsplit('/').next().unwrap().to_owned())
}

/// Makes a database as its administrator does, and roles for the hosts; the lines of `[store]` for each.
fn stores(cluster: &Postgres, dir: &Path) -> Vec<(Role, String)> {
    /// Roles are the whole cluster's, which tests share.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let database = cluster.database();
    let mut migrate = Command::new(binary());
    let empty: PathBuf = dir.join("migrate.toml");
    fs::write(&empty, "").unwrap();
    migrate.arg("--config").arg(empty).args(["store", "migrate", "--url", &cluster.url("postgres", &database)]);
    let out = migrate.stdin(Stdio::null()).output().unwrap();
    assert!(out.status.success(), "store migrate: {}", String::from_utf8_lossy(&out.stderr));
    let password_file = dir.join("database.password");
    fs::write(&password_file, DATABASE_PASSWORD).unwrap();
    fs::set_permissions(&password_file, fs::Permissions::from_mode(0o600)).unwrap();
    let mut stores = Vec::new();
    for (role, name, rights) in DATABASE_ROLES {
        let known = format!("SELECT count(*) FROM pg_roles WHERE rolname = '{name}'");
        if cluster.sql("postgres", &database, &known).unwrap() == "0" {
            let make = format!("CREATE ROLE {name} LOGIN PASSWORD '{DATABASE_PASSWORD}' IN ROLE {rights}");
            cluster.sql("postgres", &database, &make).unwrap();
        }
        let lines = match role {
            Role::Submission => {
                format!("[store]\nurl = \"{}\"\npassword_file = {password_file:?}\n", cluster.tcp_url(name, &database))
            }
            _ => format!("[store]\nurl = \"{}\"\n", cluster.url(name, &database)),
        };
        stores.push((role, lines));
    }
    stores
}
