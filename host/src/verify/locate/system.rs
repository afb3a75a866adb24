//! The system's name servers: /etc/resolv.conf, read as glibc reads it and followed when it changes.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use tracing::{info, warn};

/// Where the system keeps them.
pub(super) const RESOLV_CONF: &str = "/etc/resolv.conf";
/// The port of DNS; the file cannot name another.
pub(super) const PORT: u16 = 53;
/// Servers that count (MAXNS in glibc).
const SERVERS: usize = 3;
/// Octets of the file that are read; real ones have some hundred.
const OCTETS: u64 = 64 * 1024;
/// Octets of an interface's number below /sys.
const NUMBER: u64 = 32;

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Named {
    /// The servers, in order; those after the third are left out.
    pub(super) servers: Vec<SocketAddr>,
    /// What names a server and cannot be used.
    pub(super) unusable: Vec<String>,
}

/// The file as it was last read.
#[derive(Debug)]
pub(super) struct Followed {
    path: PathBuf,
    port: u16,
    seen: Option<Stamp>,
    /// It was gone or named nobody at the last look: that counts from the next one on, since it may be half written.
    is_vacant: bool,
    is_unreadable: bool,
    servers: Vec<SocketAddr>,
}

/// What tells that a file is another one, or has changed.
type Stamp = (u64, u64, u64, i64, i64, i64, i64);

impl Followed {
    /// Reads the file for the first time. It is never a reason not to start: missing, empty or unreadable means that a server on
    /// this machine is asked.
    pub(super) fn new(path: &Path, port: u16) -> Followed {
        let (path, servers) = (path.to_owned(), vec![local(port)]);
        let mut new = Followed { path, port, seen: None, is_vacant: true, is_unreadable: false, servers };
        new.look();
        new
    }

    /// The servers that are asked.
    pub(super) fn servers(&self) -> &[SocketAddr] {
        &self.servers
    }

    /// Looks whether the file has changed; whether others are asked now.
    pub(super) fn look(&mut self) -> bool {
        let read = match read(&self.path, self.seen) {
            Ok(Some((stamp, text))) => {
                self.seen = Some(stamp);
                named(&text, self.port, interface)
            }
            Ok(None) if !self.is_vacant => return false,
            // It names nobody still.
            Ok(None) => Named::default(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.seen = None;
                Named::default()
            }
            Err(error) => {
                if !std::mem::replace(&mut self.is_unreadable, true) {
                    warn!("cannot read {}: {error}; {} asked", self.path.display(), told(&self.servers));
                }
                return false;
            }
        };
        self.is_unreadable = false;
        for text in &read.unusable {
            warn!("{}: {text}", self.path.display());
        }
        let was_vacant = std::mem::replace(&mut self.is_vacant, read.servers.is_empty());
        let servers = match read.servers.is_empty() {
            true if was_vacant => vec![local(self.port)],
            true => return false,
            false => read.servers,
        };
        let changed = servers != self.servers;
        if changed {
            info!("{} changed: {} asked", self.path.display(), told(&servers));
            self.servers = servers;
        }
        changed
    }
}

/// The servers that the file names now, and what in it cannot be used; one on this machine where it names none.
pub(super) fn now(path: &Path) -> (Vec<SocketAddr>, Vec<String>) {
    match read(path, None) {
        Ok(Some((_, text))) => {
            let Named { mut servers, unusable } = named(&text, PORT, interface);
            if servers.is_empty() {
                servers.push(local(PORT));
            }
            (servers, unusable)
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            (vec![local(PORT)], vec![format!("it cannot be read: {error}")])
        }
        _ => (vec![local(PORT)], Vec::new()),
    }
}

fn told(servers: &[SocketAddr]) -> String {
    let all: Vec<String> = servers.iter().map(ToString::to_string).collect();
    format!("{} {}", all.join(", "), if all.len() == 1 { "is" } else { "are" })
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Stamp and text of a regular file; nothing where it is still the one that was seen. What is no file never blocks, and never
/// ends anybody's memory.
fn read(path: &Path, seen: Option<Stamp>) -> io::Result<Option<(Stamp, Vec<u8>)>> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let about = file.metadata()?;
    if !about.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    let stamp = stamp(&about);
    if seen == Some(stamp) {
        return Ok(None);
    }
    let mut text = Vec::new();
    file.take(OCTETS).read_to_end(&mut text)?;
    Ok(Some((stamp, text)))
}

fn stamp(about: &Metadata) -> Stamp {
    let (changed, written) = ((about.ctime(), about.ctime_nsec()), (about.mtime(), about.mtime_nsec()));
    (about.dev(), about.ino(), about.size(), changed.0, changed.1, written.0, written.1)
}

/// Reads the text line by line, so that none spoils another. Only `nameserver` counts: names are asked about as they are, so
/// `search` and `domain` change nothing, and the time for an answer is our own, so no option does.
fn named(text: &[u8], port: u16, interface: impl Fn(&str) -> Option<u32>) -> Named {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut named = Named::default();
    for line in text.split(|octet| *octet == b'\n') {
        let line = String::from_utf8_lossy(line);
        let words = line.split([';', '#']).next().unwrap_or_default();
        let mut words = words.split_ascii_whitespace();
        if words.next() != Some("nameserver") {
            continue;
        }
        let Some(word) = words.next() else { continue };
        match server(word, port, &interface) {
            Ok(server) if named.servers.contains(&server) => {}
            Ok(server) => named.servers.push(server),
            Err(why) => named.unusable.push(format!("`nameserver {}` is not used: {why}", word.escape_debug())),
        }
    }
    named.servers.truncate(SERVERS);
    named
}

/// One server. `resolv_conf` knows no interface with a dash or dot in its name, so the scope is cut off before.
fn server(word: &str, port: u16, interface: impl Fn(&str) -> Option<u32>) -> Result<SocketAddr, String> {
    let (address, scope) = word.split_once('%').map_or((word, None), |(address, scope)| (address, Some(scope)));
    let address: resolv_conf::ScopedIp = address.parse().map_err(|_| "it is no address".to_owned())?;
    let address = match (IpAddr::from(&address), scope) {
        (IpAddr::V4(_), Some(_)) => return Err("an IPv4 address has no scope".into()),
        // The kernel takes the unspecified address for this machine, and answers come from another one.
        (IpAddr::V4(v4), None) if v4.is_unspecified() => (Ipv4Addr::LOCALHOST, port).into(),
        (IpAddr::V6(v6), None) if v6.is_unspecified() => (Ipv6Addr::LOCALHOST, port).into(),
        (IpAddr::V4(v4), None) => (v4, port).into(),
        (IpAddr::V6(v6), None) => (v6, port).into(),
        (IpAddr::V6(v6), Some(scope)) => {
            let number = scope.parse().ok().or_else(|| interface(scope));
            let number = number.ok_or_else(|| format!("there is no interface {}", scope.escape_debug()))?;
            SocketAddrV6::new(v6, port, 0, number).into()
        }
    };
    Ok(address)
}

/// The number of a network interface by its name.
fn interface(name: &str) -> Option<u32> {
    if name.is_empty() || name.contains(['/', '\0']) || name.starts_with('.') {
        return None;
    }
    let file = File::open(Path::new("/sys/class/net").join(name).join("ifindex")).ok()?;
    let mut number = String::new();
    file.take(NUMBER).read_to_string(&mut number).ok()?;
    number.trim().parse().ok()
}

#[cfg(test)]
mod tests;
