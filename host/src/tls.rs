//! Sockets with certificates: rustls with the system's roots, and the ALPN name of VERIFY.
//!
//! Both sides speak TLS 1.2 or 1.3 and nothing but `addrauth/1` (RFC 7301; SPECIFICATION §3.5): a connection on which the other
//! side does not name it is closed. A certificate is checked against the AS's host name by PKIX; there is no TLSA (RFC 6698), since
//! DNS answers are not validated here.

mod client;
mod lifetime;
mod server;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;

use crate::config::Limits;
use crate::files;

pub use client::{Connector, Failed, ends};
pub use server::{Acceptor, Refused};

/// The protocol's name in the handshake.
pub const ALPN: &[u8] = b"addrauth/1";

/// Why TLS cannot be set up.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file that cannot be read, or holds something else.
    #[error("cannot use {path}: {what}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong, and the way out; never what the file holds.
        what: String,
    },
    /// Certificate and key do not make a server.
    #[error(
        "{certificate} and {key} make no server: {what}. Are they of one pair, the certificate of the chain first?"
    )]
    Pair {
        /// The certificate chain's file.
        certificate: PathBuf,
        /// The key's.
        key: PathBuf,
        /// The library's words.
        what: String,
    },
    /// Nothing to check a certificate against.
    #[error("no root certificates are known: install ca-certificates, or name a file of your own in verify.tls_roots")]
    NoRoots,
    /// The library refuses its own settings.
    #[error("TLS cannot be set up: {0}")]
    Settings(String),
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// The certificates of a PEM file, at least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let wrong = |what: String| Error::File { path: path.to_owned(), what };
    let octets = files::read(path, Limits::default().files.pem).map_err(|e| wrong(unreadable(e)))?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(files::without_mark(&octets)).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) => Err(wrong("it holds no certificate; a file in PEM is needed, BEGIN CERTIFICATE".into())),
        Err(e) => Err(wrong(format!("it is no PEM: {e:?}"))),
    }
}

fn unreadable(e: files::Error) -> String {
    let e = std::io::Error::from(e);
    let way = match e.kind() {
        std::io::ErrorKind::PermissionDenied => {
            ". The user that runs addrauth must be able to read it: have whatever renews it make a copy that belongs to this user, \
             with mode 0600"
        }
        _ => "",
    };
    format!("{e}{way}")
}
