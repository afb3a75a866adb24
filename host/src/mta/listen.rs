//! The places where a door listens, TCP and unix sockets, and the connections that come in there.
//!
//! A door names its places and what it does with a connection ([`serve`]). Bounds, refusals and the end are the same for all
//! doors.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Judge;
use super::reception::{Reception, Seat, Seats};
use crate::config::Listen;
use crate::pulse::Pulse;

mod lanes;
mod socket;

pub use lanes::Lanes;
pub use socket::Socket;

/// Who may connect to a unix socket: owner and group.
const MODE: u32 = 0o660;
/// How long to wait when the system has no more descriptors.
const NO_DESCRIPTORS: Duration = Duration::from_millis(200);

/// Why a door cannot listen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The place cannot be bound.
    #[error("cannot listen on {place}: {source}")]
    Bind {
        /// The place, in the configuration's spelling.
        place: String,
        /// The system's reason.
        source: io::Error,
    },
    /// Another process answers on the socket.
    #[error("another process answers on {}: stop it, or set another {section}.listen", path.display())]
    Taken {
        /// The socket's file.
        path: PathBuf,
        /// The section of the configuration that names it.
        section: &'static str,
    },
    /// Something else lies where the socket belongs.
    #[error("{} exists and is no socket: move it away, or set another {section}.listen", path.display())]
    NoSocket {
        /// The file.
        path: PathBuf,
        /// The section of the configuration that names it.
        section: &'static str,
    },
    /// The configured group does not exist.
    #[error("{section}.group `{group}` is not in /etc/group")]
    Group {
        /// The group.
        group: String,
        /// The section of the configuration that names it.
        section: &'static str,
    },
}

/// The places of one door, as a section of the configuration has them.
#[derive(Clone, Copy, Debug)]
pub struct Places<'a> {
    /// The name of the section, for the words of errors.
    pub section: &'static str,
    /// The places.
    pub listen: &'a [Listen],
    /// The group of a unix socket; empty: the process's own. Its mode is always 0660.
    pub group: &'a str,
}

/// A place where a door listens.
#[derive(Debug)]
pub struct Listener {
    local: Listen,
    source: Source,
    pulse: Arc<Pulse>,
}

#[derive(Debug)]
enum Source {
    Tcp(TcpListener),
    /// With device and inode of the socket file, so that no other process's file is ever removed.
    Unix(UnixListener, (u64, u64)),
}

impl Listener {
    /// Binds every place. Port 0 takes a free port; a unix socket on which no process answers any more is replaced. To be
    /// called inside the tokio runtime that accepts ([`Lanes::within`]).
    ///
    /// # Errors
    /// A place cannot be bound: then none is.
    pub fn bind(places: Places<'_>) -> Result<Vec<Listener>, Error> {
        places.listen.iter().map(|place| Listener::bind_one(place, places)).collect()
    }

    /// The place with the port that the system chose.
    pub fn local(&self) -> Listen {
        self.local.clone()
    }

    /// Tells whether connections are waited for here.
    pub fn pulse(&self) -> Arc<Pulse> {
        Arc::clone(&self.pulse)
    }

    /// The next connection.
    pub async fn accept(&self) -> io::Result<Socket> {
        tokio::select! {
            biased;
            never = self.pulse.answer() => match never {},
            accepted = self.accept_one() => accepted,
        }
    }

    async fn accept_one(&self) -> io::Result<Socket> {
        match &self.source {
            Source::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // Otherwise Nagle's algorithm and the MTA's delayed ACK cost 40 ms for each answer of two writes.
                stream.set_nodelay(true)?;
                Ok(Socket::Tcp(stream))
            }
            Source::Unix(listener, _) => Ok(Socket::Unix(listener.accept().await?.0)),
        }
    }

    fn bind_one(place: &Listen, places: Places<'_>) -> Result<Listener, Error> {
        let wrong = |source| Error::Bind { place: place.to_string(), source };
        match place {
            Listen::Inet(address) => {
                let listener = std::net::TcpListener::bind(address).map_err(wrong)?;
                listener.set_nonblocking(true).map_err(wrong)?;
                let local = Listen::Inet(listener.local_addr().map_err(wrong)?);
                let source = Source::Tcp(TcpListener::from_std(listener).map_err(wrong)?);
                Ok(Listener { local, source, pulse: Arc::default() })
            }
            Listen::Unix(path) => {
                let group = places.group_id()?;
                clear(path, places.section)?;
                let listener = UnixListener::bind(path).map_err(wrong)?;
                let file = fs::symlink_metadata(path).map_err(wrong)?;
                let source = Source::Unix(listener, (file.dev(), file.ino()));
                let bound = Listener { local: place.clone(), source, pulse: Arc::default() };
                // A directory with the set-group-ID bit has given it this group already; a hardened unit may not change it.
                if group.is_some_and(|group| group != file.gid()) {
                    chown(path, None, group).map_err(wrong)?;
                }
                fs::set_permissions(path, fs::Permissions::from_mode(MODE)).map_err(wrong)?;
                Ok(bound)
            }
        }
    }
}

impl Drop for Listener {
    /// Removes a unix socket's file, unless another one lies there by now.
    fn drop(&mut self) {
        let (Listen::Unix(path), Source::Unix(_, ours)) = (&self.local, &self.source) else { return };
        if fs::symlink_metadata(path).is_ok_and(|file| (file.dev(), file.ino()) == *ours) {
            // A failure harms nothing: a stale file is replaced at the next start.
            let _ = fs::remove_file(path);
        }
    }
}

/// Removes a socket on which no process answers.
fn clear(path: &Path, section: &'static str) -> Result<(), Error> {
    let wrong = |source| Error::Bind { place: Listen::Unix(PathBuf::from(path)).to_string(), source };
    match fs::symlink_metadata(path) {
        Err(absent) if absent.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(wrong(source)),
        Ok(file) if !file.file_type().is_socket() => {
            return Err(Error::NoSocket { path: path.to_owned(), section });
        }
        Ok(_) => {}
    }
    // One poll: to be refused at once means that no process listens; a connection, or a full queue, means that one does.
    match UnixStream::connect(path).now_or_never() {
        Some(Err(refused)) if refused.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(wrong)
        }
        Some(Err(source)) if source.kind() != io::ErrorKind::WouldBlock => Err(wrong(source)),
        _ => Err(Error::Taken { path: path.to_owned(), section }),
    }
}

impl Places<'_> {
    /// Whether the places can be bound, as far as that is known without binding them: a filter may be running.
    ///
    /// # Errors
    /// The group or the directory of a socket is not there.
    pub fn check(self) -> Result<(), Error> {
        self.group_id()?;
        for place in self.listen {
            if let Listen::Unix(path) = place {
                let dir = path.parent().unwrap_or(path);
                let missing = |source| Error::Bind { place: dir.display().to_string(), source };
                fs::metadata(dir).map_err(missing)?;
            }
        }
        Ok(())
    }

    /// The number of the group: itself a number, or a name in /etc/group, where the MTA's package put it. None for no name.
    fn group_id(self) -> Result<Option<u32>, Error> {
        let name = self.group;
        if name.is_empty() {
            return Ok(None);
        }
        if let Ok(number) = name.parse() {
            return Ok(Some(number));
        }
        let wrong = |source| Error::Bind { place: "/etc/group".into(), source };
        let groups = fs::read_to_string("/etc/group").map_err(wrong)?;
        let number = groups.lines().find_map(|line| {
            let mut parts = line.split(':');
            (parts.next() == Some(name)).then(|| parts.nth(1)?.parse().ok())?
        });
        number.map(Some).ok_or_else(|| Error::Group { group: name.to_owned(), section: self.section })
    }
}

/// Accepts connections at these listeners until the reception closes, and serves each with its seat in a task of its own on one
/// of these lanes. Then it gives the places back, lets connections end within `limits.mta.drain`, and returns.
///
/// A new connection is closed where even the standing places are taken.
pub async fn serve<J: Judge, F>(
    listeners: Vec<Listener>,
    reception: &Reception<J>,
    seats: &Seats,
    lanes: Lanes,
    connection: impl Fn(Socket, Seat) -> F + Clone + Send + Sync + 'static,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let accepting = TaskTracker::new();
    for listener in listeners {
        let (closing, seats) = (reception.closing().clone(), seats.clone());
        let accept = accept(listener, closing, seats, lanes.clone(), connection.clone());
        accepting.spawn_on(accept, &lanes.accepting());
    }
    accepting.close();
    accepting.wait().await;
    // A door without places is no reason to close the others.
    reception.closing().cancelled().await;
    reception.drain().await;
}

async fn accept<F>(
    listener: Listener,
    closing: CancellationToken,
    seats: Seats,
    lanes: Lanes,
    connection: impl Fn(Socket, Seat) -> F + Clone + Send + Sync + 'static,
) where
    F: Future<Output = ()> + Send + 'static,
{
    loop {
        let accepted = tokio::select! {
            biased;
            () = closing.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let socket = match accepted {
            Ok(socket) => socket,
            Err(fault) => {
                tracing::warn!("cannot accept a connection on {}: {fault}", listener.local());
                sleep(NO_DESCRIPTORS).await;
                continue;
            }
        };
        let Some(seat) = seats.take() else {
            tracing::warn!("too many {} on {}: a new one is closed", seats.what(), listener.local());
            continue;
        };
        lanes.place(socket, seat, connection.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(place: Listen, group: &str) -> Result<Vec<Listener>, Error> {
        Listener::bind(Places { section: "milter", listen: &[place], group })
    }

    fn bind_at(path: &Path) -> Result<Vec<Listener>, Error> {
        bind(Listen::Unix(path.to_owned()), "")
    }

    #[tokio::test]
    async fn port_0_becomes_a_real_port() {
        let bound = bind("inet:127.0.0.1:0".parse().unwrap(), "").unwrap();
        let Listen::Inet(address) = bound[0].local() else { panic!("not inet") };
        assert_ne!(address.port(), 0);
        assert!(matches!(bind(bound[0].local(), ""), Err(Error::Bind { .. })));
    }

    #[tokio::test]
    async fn a_unix_socket_is_for_owner_and_group_and_goes_with_its_listener() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("milter");
        let gid = fs::metadata(dir.path()).unwrap().gid();
        let bound = bind(Listen::Unix(path.clone()), &gid.to_string()).unwrap();
        let file = fs::metadata(&path).unwrap();
        assert_eq!((file.mode() & 0o777, file.gid()), (0o660, gid));
        drop(bound);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("milter");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let bound = bind_at(&path).unwrap();
        let taken = bind_at(&path).unwrap_err();
        assert!(matches!(taken, Error::Taken { .. }) && taken.to_string().ends_with("set another milter.listen"));
        assert!(path.exists());
        drop(bound);
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("milter");
        fs::write(&path, "mine").unwrap();
        assert!(matches!(bind_at(&path), Err(Error::NoSocket { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    }

    #[tokio::test]
    async fn another_ones_socket_outlives_ours() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("milter");
        let ours = bind_at(&path).unwrap();
        fs::rename(&path, dir.path().join("moved")).unwrap();
        let theirs = bind_at(&path).unwrap();
        drop(ours);
        assert!(path.exists());
        drop(theirs);
    }

    #[tokio::test]
    async fn a_place_where_nobody_accepts_has_no_pulse() {
        let listener = bind("inet:127.0.0.1:0".parse().unwrap(), "").unwrap().remove(0);
        let pulse = listener.pulse();
        assert!(!pulse.beats(Duration::from_millis(50)).await);
        let accepting = tokio::spawn(async move { while listener.accept().await.is_ok() {} });
        assert!(pulse.beats(Duration::from_secs(60)).await);
        accepting.abort();
        let _ = accepting.await;
        assert!(!pulse.beats(Duration::from_millis(50)).await);
    }

    #[test]
    fn a_group_is_a_number_or_a_name_of_the_system() {
        let group_id = |group| Places { section: "milter", listen: &[], group }.group_id();
        assert_eq!(group_id("").unwrap(), None);
        assert_eq!(group_id("4711").unwrap(), Some(4711));
        assert_eq!(group_id("root").unwrap(), Some(0));
        assert!(matches!(group_id("no such group"), Err(Error::Group { .. })));
    }
}
