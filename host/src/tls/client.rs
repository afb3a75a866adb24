//! The side that asks: connects, checks the certificate against a name, and demands VERIFY.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{self, AlertDescription, ClientConfig, RootCertStore};

use super::{ALPN, Error, certificates, lifetime, provider};

/// Why a server is not spoken to over TLS. The words of certificates may hold anything: tame them before they are shown.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failed {
    /// There is no TCP connection.
    #[error("no TCP connection: {0}")]
    Connect(io::Error),
    /// The certificate is expired, for another name, of nobody that is trusted, or otherwise bad.
    #[error("its certificate does not pass: {0}")]
    Certificate(String),
    /// The handshake failed for another reason.
    #[error("the TLS handshake failed: {0}")]
    Handshake(io::Error),
    /// It speaks TLS, and another protocol inside.
    #[error("it speaks TLS, but not VERIFY: it does not agree to ALPN addrauth/1")]
    OtherProtocol,
    /// The name can be in no certificate.
    #[error("{0:?} is no host name")]
    Name(String),
    /// We cannot.
    #[error(transparent)]
    Setup(#[from] Error),
}

/// Connects to servers, and remembers sessions, so that the next handshake with the same one is cheaper.
#[derive(Debug)]
pub struct Connector {
    /// Trusted beside the system's.
    roots: Vec<CertificateDer<'static>>,
    /// What is spoken.
    speaks: &'static [u8],
    /// Made at the first connection: reading the system's roots takes a while, and most verifiers never need them.
    ready: OnceCell<Ready>,
}

#[derive(Clone)]
struct Ready(TlsConnector);

impl std::fmt::Debug for Ready {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ready")
    }
}

impl Connector {
    /// Trusts the system's roots, and those of this PEM file; an empty path is none.
    ///
    /// # Errors
    /// The file cannot be read, or holds no certificate.
    pub fn new(roots: &Path) -> Result<Connector, Error> {
        let roots = if roots.as_os_str().is_empty() { Vec::new() } else { certificates(roots)? };
        Ok(Connector { roots, speaks: ALPN, ready: OnceCell::new() })
    }

    /// The same for servers of HTTP/1.1, which need not name it.
    ///
    /// # Errors
    /// As [`Connector::new`].
    pub fn http(roots: &Path) -> Result<Connector, Error> {
        Ok(Connector { speaks: b"http/1.1", ..Connector::new(roots)? })
    }

    /// Connects to this address, which must have a certificate for this host name, and agrees upon VERIFY.
    ///
    /// It waits as long as the system does: the caller sets the bound.
    pub async fn connect(&self, host: &str, address: SocketAddr) -> Result<TlsStream<TcpStream>, Failed> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| Failed::Name(host.to_owned()))?;
        let Ready(connector) = self.ready.get_or_try_init(|| ready(self.roots.clone(), self.speaks)).await?;
        let tcp = TcpStream::connect(address).await.map_err(Failed::Connect)?;
        // One line is one question: it must not wait for more.
        tcp.set_nodelay(true).map_err(Failed::Connect)?;
        let stream = connector.connect(name, tcp).await.map_err(failed)?;
        match stream.get_ref().1.alpn_protocol() {
            Some(spoken) if spoken == self.speaks => Ok(stream),
            None if self.speaks != ALPN => Ok(stream),
            _ => Err(Failed::OtherProtocol),
        }
    }
}

/// When the certificate of the other side ends; absent where that cannot be told.
pub fn ends(stream: &TlsStream<TcpStream>) -> Option<SystemTime> {
    stream.get_ref().1.peer_certificates()?.first().and_then(|certificate| lifetime::ends(certificate))
}

async fn ready(roots: Vec<CertificateDer<'static>>, speaks: &'static [u8]) -> Result<Ready, Error> {
    let read = tokio::task::spawn_blocking(move || settings(roots, speaks)).await;
    let config = read.map_err(|e| Error::Settings(e.to_string()))??;
    Ok(Ready(TlsConnector::from(Arc::new(config))))
}

fn settings(roots: Vec<CertificateDer<'static>>, speaks: &'static [u8]) -> Result<ClientConfig, Error> {
    let mut store = RootCertStore::empty();
    // What one system calls a root another does not: those that cannot be used are passed over.
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    store.add_parsable_certificates(roots);
    if store.is_empty() {
        return Err(Error::NoRoots);
    }
    let wrong = |e: rustls::Error| Error::Settings(e.to_string());
    let builder =
        ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().map_err(wrong)?;
    let mut config = builder.with_root_certificates(store).with_no_client_auth();
    config.alpn_protocols = vec![speaks.to_vec()];
    Ok(config)
}

fn failed(e: io::Error) -> Failed {
    match e.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(what)) => Failed::Certificate(what.to_string()),
        Some(rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)) => Failed::OtherProtocol,
        _ => Failed::Handshake(e),
    }
}
