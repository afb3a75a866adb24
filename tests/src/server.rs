//! A whole Authentication Server of example.com on UDP and TLS, in this process, and a client that asks it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use addrauth::authority::{Authority, Streams};
use addrauth::config::{Config, Limits, StateDir};
use addrauth::proto::address::Address;
use addrauth::proto::key::AuthKey;
use addrauth::tls::Connector;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::JoinHandle;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_util::sync::CancellationToken;

use crate::certificates::Root;

/// The sequence number of all questions.
pub const SEQ: &str = "00112233445566778899aabbccddeeff";
/// The name in its certificate.
pub const HOST: &str = "as.example.com";
/// A key of nobody.
pub const GUESS: &str = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";

/// The server.
pub struct Server {
    /// The AS.
    pub authority: Arc<Authority>,
    /// Its doors on TLS.
    pub streams: Arc<Streams>,
    /// Who signs its certificate.
    pub root: Root,
    /// Where it is, on both.
    pub address: SocketAddr,
    /// The key of alice@example.com.
    pub key: AuthKey,
    shutdown: CancellationToken,
    tasks: [JoinHandle<()>; 2],
    _dir: tempfile::TempDir,
}

/// Its configuration, on a port that is free.
pub fn config(dir: &Path, root: &Root) -> Config {
    let mut config = Config { state_dir: StateDir(dir.to_owned()), ..Config::default() };
    config.authority.domains = vec!["example.com".parse().unwrap()];
    config.authority.listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
    config.authority.tls = root.issue(HOST);
    config
}

impl Server {
    /// Starts it.
    pub async fn start(limits: Limits) -> Server {
        Server::start_on("", limits).await
    }

    /// The same with its table in this database (`store.url`).
    pub async fn start_on(url: &str, limits: Limits) -> Server {
        let (dir, root) = (tempfile::tempdir().unwrap(), Root::new());
        let mut config = config(dir.path(), &root);
        config.store.url = url.to_owned();
        let authority = Arc::new(Authority::open(&config, &Arc::new(limits)).await.unwrap());
        // The port that UDP was given may be taken on TCP.
        let (sockets, streams) = loop {
            let sockets = authority.bind().unwrap();
            if let Ok(Some(streams)) = authority.bind_streams(&config, &sockets).await {
                break (sockets, streams);
            }
        };
        let address = sockets[0].local_addr().unwrap();
        let key = authority.issue(&Address::parse(b"alice@example.com", true).unwrap()).await.unwrap().key;
        let shutdown = CancellationToken::new();
        let tasks = [
            tokio::spawn(authority.clone().serve(sockets, shutdown.clone())),
            tokio::spawn(authority.clone().serve_streams(streams.clone(), shutdown.clone())),
        ];
        Server { authority, streams, root, address, key, shutdown, tasks, _dir: dir }
    }

    /// Stops it, which takes no time.
    pub async fn stop(self) {
        self.shutdown.cancel();
        for task in self.tasks {
            tokio::time::timeout(Duration::from_secs(60), task).await.expect("it stops at once").unwrap();
        }
        self.authority.close().await;
    }

    /// A connection of somebody who trusts its root.
    pub async fn connect(&self) -> TlsStream<TcpStream> {
        Connector::new(&self.root.file()).unwrap().connect(HOST, self.address).await.unwrap()
    }

    /// The same by a client that offers these protocols.
    pub async fn connect_for(&self, alpn: &[&[u8]]) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        let pem = std::fs::read(self.root.file()).unwrap();
        roots.add(CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
        let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let tcp = TcpStream::connect(self.address).await?;
        tokio_rustls::TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(HOST).unwrap(), tcp).await
    }

    /// The answer to one datagram.
    pub async fn by_udp(&self, line: &str) -> String {
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        client.send_to(line.as_bytes(), self.address).await.unwrap();
        let mut room = [0; 2048];
        let length = tokio::time::timeout(Duration::from_secs(60), client.recv(&mut room)).await.unwrap().unwrap();
        String::from_utf8(room[..length].to_vec()).unwrap()
    }
}

/// A question about an address, with a key or a proof.
pub fn question(address: &str, credential: &str) -> String {
    format!("VERIFY {SEQ} {address} {credential} v=1 from=example.net\r\n")
}

/// Says this, and reads so many lines.
pub async fn say(stream: &mut TlsStream<TcpStream>, text: &str, lines: usize) -> Vec<String> {
    stream.write_all(text.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let mut read = Vec::new();
    while read.iter().filter(|&&o| o == b'\n').count() < lines {
        let more = tokio::time::timeout(Duration::from_secs(60), stream.read_buf(&mut read)).await.expect("a line");
        assert!(more.unwrap() > 0, "closed after {read:?}");
    }
    String::from_utf8(read).unwrap().split_inclusive('\n').map(String::from).collect()
}
