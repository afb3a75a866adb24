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
/// What the submission server of one.test examined passes its MX as it is.
const TRUSTED: &str = "trusted_hops = [\"127.0.0.3/32\"]\n";
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
        let stores = self.cluster().map(|cluster| stores(cluster, dir));
        let write = |role: Role, text: String| {
            let store = stores.as_ref().and_then(|stores| stores.iter().find(|(to, _)| *to == role));
            let text = text + store.map_or("", |(_, lines)| lines);
            fs::write(dir.join(format!("{}.toml", role.name())), text).unwrap();
        };
        // Hosts that are one have one directory.
        let state = |role: Role| match self.is_apart() || role == Role::Far {
            true => dir.join(role.name()),
            false => dir.join("home"),
        };
        let verify = format!("[verify]\ndns = [\"{dns}\"]\nallow_targets = [\"127.0.0.0/8\"]\ntimeout = \"4s\"\n");
        // The AS's mail takes the way that mail from outside takes.
        let notices = |domain: &str, port: u16| {
            format!("[notices]\nnotify_via = \"127.0.0.1:{port}\"\nfrom = \"postmaster@{domain}\"\n")
        };
        let authority = format!(
            "hostname = \"as.one.test\"\nstate_dir = {:?}\n{}{verify}\
             [authority]\ndomains = [\"one.test\"]\nlisten = [\"{}\"]\n{}\n",
            state(Role::Authority),
            notices("one.test", ports.mx[0]),
            ports.authority,
            self.authority
        );
        let filter = |role: Role, hostname: &str, milters: &[u16], trusted: &str| {
            let milters: Vec<String> = milters.iter().map(|port| format!("inet:127.0.0.1:{port}")).collect();
            let (state, domain) = (state(role), hostname.split_once('.').unwrap().1);
            let notices = notices(domain, if role == Role::Far { ports.far[0] } else { ports.mx[0] });
            format!(
                "hostname = {hostname:?}\nfinal_domains = [{domain:?}]\nobserve = false\nstate_dir = {state:?}\n{trusted}\
                 [milter]\nlisten = {milters:?}\n{notices}{verify}"
            )
        };
        let logins = submission.join("etc/logins");
        let stamp = format!(
            "stamp = [\"ORIGINATING\"]\nowners = [\"texthash:{}\"]\nlogin_domain = \"one.test\"\n",
            logins.display()
        );
        let learn = format!("[keyring]\nlearn = [\"smtpd\"]\n{}\n", self.learn);
        let ([_, mx_milter], [_, submission_milter]) = (ports.mx, ports.submission);
        let seal_to = match self.is_apart() {
            true => format!("seal_to = \"{}\"\n", seal_to(&state(Role::Submission))),
            false => String::new(),
        };
        if let Shared::Stream(certified) = &self.shared {
            let [of_as, of_submission] = stream(certified, ports.authority.port(), dir);
            let verify = format!("[verify]\ntls_roots = {:?}\n", certified.roots);
            write(Role::Mx, filter(Role::Mx, "mx.one.test", &[mx_milter], TRUSTED));
            let submission = filter(Role::Submission, "smtp.one.test", &[submission_milter], "");
            write(
                Role::Submission,
                submission.replace("[verify]\n", &verify) + &format!("[keyring]\n{stamp}{of_submission}"),
            );
            write(Role::Authority, format!("{authority}{of_as}[keyring]\n{seal_to}"));
        } else if self.is_apart() {
            write(Role::Mx, filter(Role::Mx, "mx.one.test", &[mx_milter], TRUSTED) + &learn + &seal_to);
            let stamp = format!("[keyring]\n{stamp}");
            write(Role::Submission, filter(Role::Submission, "smtp.one.test", &[submission_milter], "") + &stamp);
        } else {
            write(Role::Mx, filter(Role::Mx, "mx.one.test", &[mx_milter, submission_milter], "") + &learn + &stamp);
        }
        if !matches!(self.shared, Shared::Stream(_)) {
            write(Role::Authority, authority + "[keyring]\n" + &seal_to);
        }
        let far = format!("[policy]\n{}\n", self.far);
        write(Role::Far, filter(Role::Far, "mx.two.test", &[ports.far[1]], "") + &far);
    }
}

/// The database's role for a host, and the database that its configuration names.
pub(super) fn database(role: Role, dir: &Path) -> (&'static str, String) {
    let (_, name, _) = DATABASE_ROLES.iter().find(|(host, ..)| *host == role).expect("the host has a role");
    let config = Config::read(&dir.join(format!("{}.toml", role.name()))).unwrap();
    let (path, _) = config.store.url.split_once('?').unwrap_or((&config.store.url, ""));
    (name, path.rsplit('/').next().unwrap().to_owned())
}

/// What the AS needs to hand keys out, and the submission server to fetch them.
fn stream(certified: &Certified, port: u16, dir: &Path) -> [String; 2] {
    let token_file = |role: Role| {
        let file = dir.join(format!("{}.token", role.name()));
        fs::write(&file, "a token that only these two hosts know\n".replace(' ', "-")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        file
    };
    let Certified { certificate, key, .. } = certified;
    let of_as = format!(
        "deliver = \"keyring\"\nfetch_token_file = {:?}\n[authority.tls]\ncertificate = {certificate:?}\nkey = {key:?}\n",
        token_file(Role::Authority)
    );
    let of_submission =
        format!("fetch_from = \"localhost:{port}\"\nfetch_token_file = {:?}\n", token_file(Role::Submission));
    [of_as, of_submission]
}

/// The public half of the pair in this directory, which is made where there is none.
fn seal_to(state: &Path) -> String {
    store::read_or_make_opener(&state.join("keyring.key")).unwrap().seal_to().to_string()
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
