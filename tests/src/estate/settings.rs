//! What the hosts of the estate are configured to do: a file for each role.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use super::{Ports, Role};

/// What AS, MX and submission server of one.test share.
#[derive(Debug, Default)]
pub enum Shared {
    /// They are one host, with SQLite files: one filter plays both roles, told by the names of Postfix's daemons.
    #[default]
    StateDir,
}

/// Settings that a test chooses; each text is TOML.
#[derive(Debug, Default)]
pub struct Settings {
    /// What is shared.
    pub shared: Shared,
    /// Lines of the AS's `[authority]`.
    pub authority: &'static str,
    /// Lines of `[keyring]` where keys are learned.
    pub learn: &'static str,
    /// Lines of `[policy]` at two.test, and what follows it.
    pub far: &'static str,
}

impl Settings {
    /// Whether the hosts of one.test are several.
    pub(super) fn is_apart(&self) -> bool {
        match self.shared {
            Shared::StateDir => false,
        }
    }

    /// Where the database keeps its files, beside those of the hosts.
    pub(super) fn database_dir(&self) -> Option<&Path> {
        match &self.shared {
            Shared::StateDir => None,
        }
    }

    /// Writes all files.
    pub(super) fn write(&self, dir: &Path, ports: &Ports, dns: SocketAddr, submission: &Path) {
        let verify = format!("[verify]\ndns = [\"{dns}\"]\nallow_targets = [\"127.0.0.0/8\"]\ntimeout = \"4s\"\n");
        let write = |role: Role, text: String| fs::write(dir.join(format!("{}.toml", role.name())), text).unwrap();
        let home = dir.join("home");
        for part in ["home", "far"] {
            fs::create_dir(dir.join(part)).unwrap();
        }
        // The AS's mail takes the way that mail from outside takes.
        let notices =
            format!("[notices]\nnotify_via = \"127.0.0.1:{}\"\nfrom = \"postmaster@one.test\"\n", ports.mx[0]);
        let authority = format!(
            "hostname = \"as.one.test\"\nstate_dir = {home:?}\n{notices}{verify}\
             [authority]\ndomains = [\"one.test\"]\nlisten = [\"{}\"]\n{}\n",
            ports.authority, self.authority
        );
        let owners =
            format!("owners = [\"texthash:{}/etc/logins\"]\nlogin_domain = \"one.test\"\n", submission.display());
        let filter = |hostname: &str, state: &Path, milters: &[u16], trusted: &str| {
            let milters: Vec<String> = milters.iter().map(|port| format!("inet:127.0.0.1:{port}")).collect();
            let domain = hostname.split_once('.').unwrap().1;
            format!(
                "hostname = {hostname:?}\nfinal_domains = [{domain:?}]\nobserve = false\nstate_dir = {state:?}\n{trusted}\
                 [milter]\nlisten = {milters:?}\n{notices}{verify}"
            )
        };
        let both = format!("[keyring]\nlearn = [\"smtpd\"]\nstamp = [\"ORIGINATING\"]\n{owners}{}\n", self.learn);
        write(Role::Authority, authority);
        write(Role::Mx, filter("mx.one.test", &home, &[ports.mx[1], ports.submission[1]], "") + &both);
        let far = format!("[policy]\n{}\n", self.far);
        write(Role::Far, filter("mx.two.test", &dir.join("far"), &[ports.far[1]], "") + &far);
    }
}
