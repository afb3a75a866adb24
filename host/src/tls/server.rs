//! The side that answers: a certificate and its key from files, read again when they change.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::{self, ServerConfig};
use tokio_rustls::server::TlsStream;
use tracing::{error, info};

use super::{ALPN, Error, certificates, provider, unreadable};
use crate::config::{self, Limits};
use crate::files;

/// How often the files are looked at, at most: whoever renews a certificate does so weeks before it ends.
const LOOK: Duration = Duration::from_secs(30);

/// Why a connection is not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// The handshake failed.
    #[error("the TLS handshake failed: {0}")]
    Handshake(io::Error),
    /// The other side does not say what it wants to speak, or something else.
    #[error("it did not ask for ALPN addrauth/1")]
    OtherProtocol,
}

/// Takes connections, with the certificate that its files hold now.
pub struct Acceptor {
    certificate: PathBuf,
    key: PathBuf,
    speaks: Speaks,
    current: Mutex<Current>,
}

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speaks {
    /// VERIFY: the other side has to name it.
    Addrauth,
    /// HTTP/1.1: the other side may name it.
    Http,
}

impl Speaks {
    fn alpn(self) -> &'static [u8] {
        match self {
            Speaks::Addrauth => ALPN,
            Speaks::Http => b"http/1.1",
        }
    }
}

struct Current {
    acceptor: TlsAcceptor,
    /// The files that were read last, whether they were good or not: a bad pair is complained about once.
    seen: [Option<Stamp>; 2],
    looked: Instant,
}

/// What changes when a file is replaced: device, inode, length, and when it was modified, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp(u64, u64, u64, i64, i64);

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Acceptor").field("certificate", &self.certificate).field("key", &self.key).finish()
    }
}

impl Acceptor {
    /// Reads the files.
    ///
    /// # Errors
    /// One cannot be read, holds something else, or the two are not of one pair.
    pub fn open(config: &config::Tls) -> Result<Acceptor, Error> {
        Acceptor::speaking(Speaks::Addrauth, config)
    }

    /// Reads the files, for a server of HTTP/1.1.
    ///
    /// # Errors
    /// As [`Acceptor::open`].
    pub fn http(config: &config::Tls) -> Result<Acceptor, Error> {
        Acceptor::speaking(Speaks::Http, config)
    }

    fn speaking(speaks: Speaks, config: &config::Tls) -> Result<Acceptor, Error> {
        let seen = [stamp(&config.certificate), stamp(&config.key)];
        let acceptor = read(&config.certificate, &config.key, speaks)?;
        let current = Mutex::new(Current { acceptor, seen, looked: Instant::now() });
        Ok(Acceptor { certificate: config.certificate.clone(), key: config.key.clone(), speaks, current })
    }

    /// Greets the other side. It waits for as long as that likes: the caller sets the bound.
    pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(&self, plain: S) -> Result<TlsStream<S>, Refused> {
        let stream = self.current().accept(plain).await.map_err(Refused::Handshake)?;
        match (self.speaks, stream.get_ref().1.alpn_protocol()) {
            (Speaks::Addrauth, Some(ALPN)) | (Speaks::Http, _) => Ok(stream),
            (Speaks::Addrauth, _) => Err(Refused::OtherProtocol),
        }
    }

    /// Reads the files again if they changed. A bad pair, such as one that is half written, leaves the old one in use.
    pub fn renew(&self) {
        self.look(&mut self.current.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn current(&self) -> TlsAcceptor {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.looked.elapsed() >= LOOK {
            self.look(&mut current);
        }
        current.acceptor.clone()
    }

    fn look(&self, current: &mut Current) {
        current.looked = Instant::now();
        let seen = [stamp(&self.certificate), stamp(&self.key)];
        if seen == current.seen {
            return;
        }
        current.seen = seen;
        match read(&self.certificate, &self.key, self.speaks) {
            Ok(acceptor) => {
                current.acceptor = acceptor;
                info!("the certificate of {} is in use from now on", self.certificate.display());
            }
            Err(e) => error!("the certificate that was read before stays in use: {e}"),
        }
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let about = fs::metadata(path).ok()?;
    Some(Stamp(about.dev(), about.ino(), about.len(), about.mtime(), about.mtime_nsec()))
}

fn read(certificate: &Path, key: &Path, speaks: Speaks) -> Result<TlsAcceptor, Error> {
    let chain = certificates(certificate)?;
    let wrong = |what: String| Error::File { path: key.to_owned(), what };
    let most = Limits::default().files.pem;
    let file = files::open(key).map_err(|e| wrong(unreadable(e)))?;
    // Room for all of it, so that no half-read copy stays behind where the buffer grew.
    let length = file.metadata().map_or(0, |found| found.len()).min(most);
    let mut octets = zeroize::Zeroizing::new(Vec::with_capacity(usize::try_from(length).unwrap_or_default() + 1));
    files::contents(file, most, &mut octets).map_err(|e| wrong(unreadable(e)))?;
    // The library's words could repeat a line of the file.
    let secret = PrivateKeyDer::from_pem_slice(files::without_mark(&octets))
        .map_err(|_| wrong("it holds no private key in PEM, BEGIN PRIVATE KEY".into()))?;
    let pair = |e: rustls::Error| Error::Pair {
        certificate: certificate.to_owned(),
        key: key.to_owned(),
        what: e.to_string(),
    };
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|e| Error::Settings(e.to_string()))?;
    let mut config = builder.with_no_client_auth().with_single_cert(chain, secret).map_err(pair)?;
    config.alpn_protocols = vec![speaks.alpn().to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
