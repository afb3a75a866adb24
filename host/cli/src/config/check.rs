//! `addrauth config check`: what the start does, without making a file or taking a place to listen.

use std::error::Error;
use std::io::{ErrorKind, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::Access;

use crate::doctor::hooks::is_asked_by_hooks;
use crate::doctor::network::{is_milter, within_reach};
use crate::warnings::warnings;
use crate::{Context, exit, trial};
use addrauth::config::{Config, Deliver, Limits, Listen};
use addrauth::daemon::doors;
use addrauth::mta::listen::Places;
use addrauth::mta::{hooks, lmtp, milter};
use addrauth::policy::Policies;
use addrauth::policy::trust::floor;
use addrauth::proto::wire::DATAGRAM_MAX;
use addrauth::verify::{NameServers, Verifier};
use addrauth::{authority, custody, files, keyring, outbox, store, tls};

/// What came of it beside a refusal.
#[derive(Debug, Default)]
struct Checked {
    /// What this user may not look at: the daemon's may.
    untold: Vec<String>,
    /// What is as it should be, and yet to be known.
    notes: Vec<String>,
}

/// How long a server that listens already may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How each database of SQLite begins.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

type Refused = Box<dyn Error + Send + Sync>;

/// Exit code 0: a daemon starts with it; 1: none does; 2: this user could not look at everything.
pub(super) async fn run(context: &Context, config: &Config) -> ExitCode {
    let limits = Arc::new(Limits::default());
    let mut checked = Checked::default();
    let looked = async {
        let loaded = Policies::load_apart(&config.policy, &config.policies, &limits, &trial()).await;
        let policies = checked.look(loaded.map_err(Refused::from))?;
        if let Some(policies) = policies.as_ref().filter(|_| !config.final_domains.is_empty()) {
            checked.look(floor::check(&config.state_dir.0, &policies.signed()).map_err(Refused::from))?;
        }
        checked.files(config, &limits)?;
        checked.places(config).await?;
        Ok::<_, Refused>(policies)
    };
    let policies = match looked.await {
        Ok(policies) => policies,
        Err(error) => return super::refused(&error.to_string()),
    };
    let Checked { untold, notes } = checked;
    let mut warnings = warnings(config, policies.as_ref());
    let NameServers { servers, from, unusable } = NameServers::of(&config.verify);
    warnings.extend(unusable.into_iter().map(|text| format!("{from}: {text}")));
    let dns: Vec<String> = servers.iter().map(ToString::to_string).collect();
    let code = if untold.is_empty() { exit::YES } else { exit::unknown() };
    if context.json {
        let ok = untold.is_empty();
        println!(
            "{}",
            serde_json::json!({ "ok": ok, "warnings": warnings, "notes": notes, "not_checked": untold, "dns": dns })
        );
        return code;
    }
    policies.iter().flat_map(Policies::list).for_each(|policy| println!("{policy}"));
    println!("DNS servers that are asked: {} ({from})", dns.join(", "));
    warnings.iter().for_each(|warning| println!("warning: {warning}"));
    notes.iter().for_each(|note| println!("note: {note}"));
    for what in &untold {
        println!("not checked, since this user may not: {what}");
    }
    if untold.is_empty() {
        println!("the configuration is good");
    } else {
        println!(
            "nothing is known to be wrong, but not all could be checked: run this as root or as the daemon's user"
        );
    }
    code
}

impl Checked {
    /// Every file that is named, each by itself: one that this user may not look at hides no fault of another.
    fn files(&mut self, config: &Config, limits: &Arc<Limits>) -> Result<(), Refused> {
        // Where no domain ends here, nobody is told of anything, and the host name need not be one to write from.
        let mails_keys = !config.authority.domains.is_empty() && config.authority.deliver == Deliver::Mail;
        if mails_keys || !config.final_domains.is_empty() || !config.notices.templates.as_os_str().is_empty() {
            self.look(outbox::check(config, limits).map_err(Refused::from))?;
        }
        self.look(milter::check(&config.milter).map_err(Refused::from))?;
        if config.hooks.is_open() {
            self.look(hooks::check(&config.hooks).map_err(Refused::from))?;
            self.look(doors::setting(&config.hooks, None).map_err(Refused::from))?;
        }
        self.look(lmtp::check(&config.lmtp).map_err(Refused::from))?;
        let figures = Places { section: "metrics", listen: &config.metrics.listen, group: &config.metrics.group };
        self.look(figures.check().map_err(Refused::from))?;
        self.look(Verifier::new(&config.verify, &config.hostname, limits).map_err(Refused::from))?;
        self.look(store::check(config).map_err(Refused::from))?;
        self.look(keyring::check(config, limits).map_err(Refused::from))?;
        if config.authority.tls.is_on() {
            self.look(tls::Acceptor::open(&config.authority.tls).map_err(Refused::from))?;
        }
        if !config.authority.domains.is_empty() {
            self.look(authority::check(config, limits).map_err(Refused::from))?;
            self.look(authority::check_files(config, limits).map_err(Refused::from))?;
        }
        if !config.final_domains.is_empty() || !config.authority.domains.is_empty() {
            self.look(state(config))?;
            if !config.final_domains.is_empty() {
                self.look(custody::check(&config.state_dir.0).map_err(Refused::from))?;
            }
            for name in ["filter.db", "authority.db", "keyring.db"] {
                self.look(database(&config.state_dir.0.join(name)))?;
            }
        }
        Ok(())
    }

    /// Every place to listen. A machine that is an Authentication Server alone has no milter.
    async fn places(&mut self, config: &Config) -> Result<(), Refused> {
        if !config.final_domains.is_empty() || config.authority.domains.is_empty() {
            for place in &config.milter.listen {
                let note = self.look(door(place, Answers::Milter).await)?;
                self.notes.extend(note.flatten());
            }
            for place in &config.hooks.listen {
                let note = self.look(door(place, Answers::Hooks).await)?;
                self.notes.extend(note.flatten());
            }
        }
        if !config.authority.domains.is_empty() {
            for address in &config.authority.listen {
                let note = self.look(questions(*address, config.authority.tls.is_on()).await)?;
                self.notes.extend(note.flatten());
            }
        }
        Ok(())
    }

    /// What was found, unless this user was not allowed to look: then the rest is looked at all the same.
    fn look<T>(&mut self, found: Result<T, Refused>) -> Result<Option<T>, Refused> {
        match found {
            Ok(found) => Ok(Some(found)),
            Err(error) if is_about_rights(error.as_ref()) => {
                self.untold.push(error.to_string());
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// Whether an error says that this user may not, and not that something is wrong.
fn is_about_rights(error: &(dyn Error + 'static)) -> bool {
    let denied = |e: &std::io::Error| e.kind() == ErrorKind::PermissionDenied;
    let mut next = Some(error);
    while let Some(error) = next {
        if error.downcast_ref::<std::io::Error>().is_some_and(denied)
            || matches!(error.downcast_ref(), Some(store::Error::Denied { .. }))
        {
            return true;
        }
        next = error.source();
    }
    // Some keep the system's words alone.
    error.to_string().contains("Permission denied (os error 13)")
}

/// The state directory: it is there, or can be made, and this user may use it.
fn state(config: &Config) -> Result<(), Refused> {
    let dir = &config.state_dir.0;
    let failed = |e: std::io::Error| format!("state_dir {}: {e}", dir.display());
    let said = |e: rustix::io::Errno| std::io::Error::from(e);
    match std::fs::metadata(dir) {
        Ok(found) if !found.is_dir() => return Err(failed(std::io::Error::other("it is no directory")).into()),
        Ok(_) => {}
        Err(e) if e.kind() == ErrorKind::NotFound && !files::is_there(dir)? => {
            // The daemon makes it, where it may make something in the first directory above that is there.
            let there = |above: &&Path| files::is_there(above).unwrap_or(true);
            let above = dir.ancestors().skip(1).find(there).unwrap_or(Path::new("/"));
            let may = rustix::fs::access(above, Access::WRITE_OK | Access::EXEC_OK).map_err(said);
            return may
                .map_err(|e| format!("state_dir {} cannot be made in {}: {e}", dir.display(), above.display()).into());
        }
        Err(e) => return Err(failed(e).into()),
    }
    let may = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
    rustix::fs::access(dir, may).map_err(|e| failed(said(e)))?;
    Ok(())
}

/// Whether a database's file can be one, of a version that is known. SQLite does not open it: that would bring it up to date
/// under a daemon that runs.
fn database(path: &Path) -> Result<(), Refused> {
    let wrong = |e: String| Refused::from(format!("{}: {e}", path.display()));
    let mut begin = Vec::new();
    match files::open(path) {
        Err(e) if e.is_absent() => return Ok(()),
        Err(e) => return Err(wrong(e.to_string())),
        Ok(file) => file.take(store::HEADER).read_to_end(&mut begin).map_err(|e| wrong(e.to_string()))?,
    };
    if begin.is_empty() {
        return Ok(());
    }
    if !begin.starts_with(MAGIC) {
        return Err(wrong("it is no database: move it away".into()));
    }
    Ok(store::check_version(path, &begin)?)
}

/// What a filter that runs would answer to on a place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answers {
    Milter,
    Hooks,
}

/// Whether this door can listen there, or does already. It is asked in its own protocol: the log of one that runs tells of any other.
async fn door(place: &Listen, door: Answers) -> Result<Option<String>, Refused> {
    let wrong = |e: std::io::Error| Refused::from(format!("cannot listen on {place}: {e}"));
    let bound = match place {
        Listen::Inet(address) => TcpListener::bind(address).map(drop),
        Listen::Unix(path) => match files::is_there(path)? {
            // A socket that nobody answers on is replaced.
            true => match std::os::unix::net::UnixStream::connect(path) {
                Ok(_) => Err(ErrorKind::AddrInUse.into()),
                Err(e) if e.kind() == ErrorKind::ConnectionRefused => Ok(()),
                Err(e) => Err(e),
            },
            false => {
                std::os::unix::net::SocketAddr::from_pathname(path).map_err(wrong)?;
                let dir = path.parent().unwrap_or(Path::new("/"));
                rustix::fs::access(dir, Access::WRITE_OK | Access::EXEC_OK).map_err(Into::into)
            }
        },
    };
    match bound {
        Ok(()) => Ok(None),
        Err(e) if e.kind() == ErrorKind::AddrInUse && door == Answers::Hooks && is_asked_by_hooks(place).await => {
            Ok(Some(format!("MTA Hooks are answered on {place} already: by the filter that runs")))
        }
        Err(e) if e.kind() == ErrorKind::AddrInUse && door == Answers::Milter && is_milter(place).await => {
            Ok(Some(format!("a milter listens on {place} already: the filter that runs, or another program")))
        }
        Err(e) => Err(wrong(e)),
    }
}

/// Whether questions can be answered there, or are already.
async fn questions(address: SocketAddr, tls: bool) -> Result<Option<String>, Refused> {
    let bound = UdpSocket::bind(address).and_then(|_| if tls { TcpListener::bind(address).map(drop) } else { Ok(()) });
    match bound {
        Ok(()) => Ok(None),
        Err(e) if e.kind() == ErrorKind::AddrInUse && is_authority(address).await => {
            Ok(Some(format!("an Authentication Server listens on {address} already: the one that runs, or another")))
        }
        Err(e) => Err(format!("cannot listen on {address}: {e}").into()),
    }
}

/// Whether an Authentication Server answers there, to a question that no server has an answer to.
async fn is_authority(address: SocketAddr) -> bool {
    let address = within_reach(address);
    let any: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let asked = async {
        let socket = tokio::net::UdpSocket::bind((any, 0)).await?;
        socket.connect(address).await?;
        socket.send(format!("VERIFY 0a nobody@example.invalid {}\r\n", "x".repeat(64)).as_bytes()).await?;
        let mut answer = [0; DATAGRAM_MAX];
        let length = socket.recv(&mut answer).await?;
        Ok::<_, std::io::Error>(answer.get(..length).is_some_and(|answer| answer.starts_with(b"VERIFY_REPLY ")))
    };
    matches!(tokio::time::timeout(PATIENCE, asked).await, Ok(Ok(true)))
}
