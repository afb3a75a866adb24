//! A connection as octets to be read and written, over TCP or a unix socket.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// A connection from an MTA.
#[derive(Debug)]
pub enum Socket {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a unix socket.
    Unix(UnixStream),
}

/// A connection on its way from one runtime to another.
#[derive(Debug)]
pub(crate) enum Moving {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

impl Socket {
    /// Takes it out of the runtime that it belongs to.
    pub(crate) fn into_std(self) -> io::Result<Moving> {
        match self {
            Socket::Tcp(stream) => stream.into_std().map(Moving::Tcp),
            Socket::Unix(stream) => stream.into_std().map(Moving::Unix),
        }
    }

    /// Gives it to the runtime that this is called on.
    pub(crate) fn from_std(moving: Moving) -> io::Result<Socket> {
        match moving {
            Moving::Tcp(stream) => TcpStream::from_std(stream).map(Socket::Tcp),
            Moving::Unix(stream) => UnixStream::from_std(stream).map(Socket::Unix),
        }
    }
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
