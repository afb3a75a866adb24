//! A client of HTTP/1.1, one connection for each request, as Stalwart 0.15 has it.

use std::time::{Duration, Instant};

use addrauth::tls::Connector;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

/// Octets of an answer: Stalwart reads 50 MiB.
const MOST: usize = 50 * 1024 * 1024;

/// Where to ask, and how to show who one is.
pub(super) struct Client {
    url: Uri,
    authorization: Option<String>,
    tls: Connector,
    patience: Duration,
}

/// A request and its answer.
#[derive(Clone, Debug)]
pub(super) struct Exchange {
    /// The request's line.
    pub(super) line: String,
    /// What the request said.
    pub(super) asked: Vec<u8>,
    /// The answer's status.
    pub(super) status: u16,
    /// The answer's media type.
    pub(super) kind: String,
    /// What the answer said.
    pub(super) said: Vec<u8>,
    /// How long it took.
    pub(super) took: Duration,
}

impl Client {
    /// A client of this URL, http or https.
    pub(super) fn of(url: &str, authorization: Option<String>, patience: Duration) -> Result<Client, String> {
        let url: Uri = url.parse().map_err(|e| format!("{url:?} is no URL: {e}"))?;
        if !matches!(url.scheme_str(), Some("http" | "https")) || url.host().is_none() {
            return Err(format!("{url} must begin with http:// or https:// and name a host"));
        }
        let tls = Connector::http(std::path::Path::new("")).map_err(|e| e.to_string())?;
        Ok(Client { url, authorization, tls, patience })
    }

    /// The path of the URL.
    pub(super) fn path(&self) -> &str {
        self.url.path()
    }

    /// The path of an endpoint that a scanner names, a path or a whole URL; none where it is of another origin.
    pub(super) fn within(&self, endpoint: &str) -> Option<String> {
        let named: Uri = endpoint.parse().ok()?;
        let same =
            named.host().is_none() || (named.scheme(), named.authority()) == (self.url.scheme(), self.url.authority());
        match (same, endpoint.starts_with('/') || named.host().is_some()) {
            (false, _) => None,
            (true, true) => Some(named.path().to_owned()),
            (true, false) => {
                let folder = self.path().rsplit_once('/').map_or("", |(folder, _)| folder);
                Some(format!("{folder}/{endpoint}"))
            }
        }
    }

    /// Asks this path, with these fields beside the usual ones.
    pub(super) async fn ask(
        &self,
        method: &str,
        path: &str,
        fields: &[(&str, &str)],
        content: Vec<u8>,
    ) -> Result<Exchange, String> {
        let begun = Instant::now();
        let asking = self.exchange(method, path, fields, content);
        let mut exchange = timeout(self.patience, asking)
            .await
            .map_err(|_| format!("{method} {path}: no answer within {:?}", self.patience))?
            .map_err(|e| format!("{method} {path}: {e}"))?;
        exchange.took = begun.elapsed();
        Ok(exchange)
    }

    async fn exchange(
        &self,
        method: &str,
        path: &str,
        fields: &[(&str, &str)],
        content: Vec<u8>,
    ) -> Result<Exchange, Box<dyn std::error::Error + Send + Sync>> {
        let host = self.url.host().unwrap_or_default();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let secure = self.url.scheme_str() == Some("https");
        let port = self.url.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let address = lookup_host((bare, port)).await?.next().ok_or("the name has no address")?;
        let mut request = Request::builder().method(method).uri(path);
        request = request.header("host", self.url.authority().map(ToString::to_string).unwrap_or_default());
        request = request.header("accept", "*/*");
        if let Some(shown) = &self.authorization {
            request = request.header("authorization", shown);
        }
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(content.clone())))?;
        let line = format!("{method} {path}");
        if secure {
            let stream = self.tls.connect(bare, address).await?;
            sent(stream, request, line, content).await
        } else {
            sent(TcpStream::connect(address).await?, request, line, content).await
        }
    }
}

async fn sent(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
    line: String,
    asked: Vec<u8>,
) -> Result<Exchange, Box<dyn std::error::Error + Send + Sync>> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driving = tokio::spawn(connection);
    let answer = sender.send_request(request).await?;
    let status = answer.status().as_u16();
    let kind = answer.headers().get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default().to_owned();
    let said = Limited::new(answer.into_body(), MOST).collect().await?.to_bytes().to_vec();
    drop(sender);
    driving.abort();
    Ok(Exchange { line, asked, status, kind, said, took: Duration::ZERO })
}
