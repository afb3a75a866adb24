//! Where the door listens: TCP and unix sockets, and the connections that come in there.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::FutureExt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::Error;
use crate::config::{Listen, Milter};
use crate::pulse::Pulse;

/// Who may connect to a unix socket: owner and group.
const MODE: u32 = 0o660;

/// A place where the door listens.
#[derive(Debug)]
pub struct Listener {
    local: Listen,
    source: Source,
    pulse: Arc<Pulse>,
}

#[derive(Debug)]
enum Source {
    Tcp(TcpListener),
    /// With device and inode of the socket file, so that nobody else's is ever removed.
    Unix(UnixListener, (u64, u64)),
}

impl Listener {
    /// Binds every place of the configuration. Port 0 takes a free one; a unix socket that nobody answers on any more is
    /// replaced. To be called inside a tokio runtime.
    pub fn bind(milter: &Milter) -> Result<Vec<Listener>, Error> {
        milter.listen.iter().map(|place| Listener::bind_one(place, &milter.group)).collect()
    }

    /// The real place: with the port that the system chose.
    pub fn local(&self) -> Listen {
        self.local.clone()
    }

    /// What tells whether somebody waits for connections here.
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
                // Without it, Nagle's algorithm and the MTA's delayed ACK cost 40 ms for each answer of two writes.
                stream.set_nodelay(true)?;
                Ok(Socket::Tcp(stream))
            }
            Source::Unix(listener, _) => Ok(Socket::Unix(listener.accept().await?.0)),
        }
    }

    fn bind_one(place: &Listen, group: &str) -> Result<Listener, Error> {
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
                let group = group_id(group)?;
                clear(path)?;
                let listener = UnixListener::bind(path).map_err(wrong)?;
                let file = fs::symlink_metadata(path).map_err(wrong)?;
                let source = Source::Unix(listener, (file.dev(), file.ino()));
                let bound = Listener { local: place.clone(), source, pulse: Arc::default() };
                if group.is_some() {
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
            // At the end there is nobody left to tell; a stale file is replaced at the next start.
            let _ = fs::remove_file(path);
        }
    }
}

/// Removes a socket that nobody answers on.
fn clear(path: &Path) -> Result<(), Error> {
    let wrong = |source| Error::Bind { place: Listen::Unix(PathBuf::from(path)).to_string(), source };
    match fs::symlink_metadata(path) {
        Err(absent) if absent.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(wrong(source)),
        Ok(file) if !file.file_type().is_socket() => return Err(Error::NoSocket(path.to_owned())),
        Ok(_) => {}
    }
    // One poll: refused at once means that nobody listens; a connection, or a full queue, that somebody does.
    match UnixStream::connect(path).now_or_never() {
        Some(Err(refused)) if refused.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(wrong)
        }
        Some(Err(source)) if source.kind() != io::ErrorKind::WouldBlock => Err(wrong(source)),
        _ => Err(Error::Taken(path.to_owned())),
    }
}

/// Whether the places to listen can be bound, as far as that is known without binding them: a filter may be running.
pub fn check(milter: &Milter) -> Result<(), Error> {
    group_id(&milter.group)?;
    for place in &milter.listen {
        if let Listen::Unix(path) = place {
            let dir = path.parent().unwrap_or(path);
            let missing = |source| Error::Bind { place: dir.display().to_string(), source };
            fs::metadata(dir).map_err(missing)?;
        }
    }
    Ok(())
}

/// The number of a group: itself a number, or a name in /etc/group, where the MTA's package put it. None for no name.
fn group_id(name: &str) -> Result<Option<u32>, Error> {
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
    number.map(Some).ok_or_else(|| Error::Group(name.to_owned()))
}

/// A connection from an MTA.
#[derive(Debug)]
pub enum Socket {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a unix socket.
    Unix(UnixStream),
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(stream) => {
                let read = ready!(Pin::new(&mut *stream).poll_read(cx, buf));
                // Postfix writes macros and command in two pieces. When no answer is due, the kernel delays its ACK of the
                // first, and Nagle's algorithm on the other side holds back the second: 40 ms for each message. The kernel
                // forgets this setting, so it is made again after every read; where it fails, only time is lost.
                #[cfg(target_os = "linux")]
                let _ = stream.set_quickack(true);
                Poll::Ready(read)
            }
            Socket::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_write(cx, octets),
            Socket::Unix(stream) => Pin::new(stream).poll_write(cx, octets),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Socket::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Socket::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(path: &Path, group: &str) -> Milter {
        Milter { listen: vec![Listen::Unix(path.to_owned())], group: group.into() }
    }

    #[tokio::test]
    async fn port_0_becomes_a_real_port() {
        let milter = Milter { listen: vec!["inet:127.0.0.1:0".parse().unwrap()], group: String::new() };
        let bound = Listener::bind(&milter).unwrap();
        let Listen::Inet(address) = bound[0].local() else { panic!("not inet") };
        assert_ne!(address.port(), 0);
        assert!(matches!(
            Listener::bind(&Milter { listen: vec![bound[0].local()], ..milter }),
            Err(Error::Bind { .. })
        ));
    }

    #[tokio::test]
    async fn a_unix_socket_is_for_owner_and_group_and_goes_with_its_listener() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("milter");
        let gid = fs::metadata(dir.path()).unwrap().gid();
        let bound = Listener::bind(&at(&path, &gid.to_string())).unwrap();
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
        let bound = Listener::bind(&at(&path, "")).unwrap();
        assert!(matches!(Listener::bind(&at(&path, "")), Err(Error::Taken(_))));
        assert!(path.exists());
        drop(bound);
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("milter");
        fs::write(&path, "mine").unwrap();
        assert!(matches!(Listener::bind(&at(&path, "")), Err(Error::NoSocket(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    }

    #[tokio::test]
    async fn another_ones_socket_outlives_ours() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("milter");
        let ours = Listener::bind(&at(&path, "")).unwrap();
        fs::rename(&path, dir.path().join("moved")).unwrap();
        let theirs = Listener::bind(&at(&path, "")).unwrap();
        drop(ours);
        assert!(path.exists());
        drop(theirs);
    }

    #[tokio::test]
    async fn a_place_where_nobody_accepts_has_no_pulse() {
        let milter = Milter { listen: vec!["inet:127.0.0.1:0".parse().unwrap()], group: String::new() };
        let listener = Listener::bind(&milter).unwrap().remove(0);
        let pulse = listener.pulse();
        assert!(!pulse.beats(std::time::Duration::from_millis(50)).await);
        let accepting = tokio::spawn(async move { while listener.accept().await.is_ok() {} });
        assert!(pulse.beats(std::time::Duration::from_secs(60)).await);
        accepting.abort();
        let _ = accepting.await;
        assert!(!pulse.beats(std::time::Duration::from_millis(50)).await);
    }

    #[test]
    fn a_group_is_a_number_or_a_name_of_the_system() {
        assert_eq!(group_id("").unwrap(), None);
        assert_eq!(group_id("4711").unwrap(), Some(4711));
        assert_eq!(group_id("root").unwrap(), Some(0));
        assert!(matches!(group_id("no such group"), Err(Error::Group(_))));
    }
}
