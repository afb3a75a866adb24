//! The door of MTA Hooks: whether it answers, and what the mail servers that ask there need to be told.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::Report;
use super::network::within_reach;
use addrauth::config::{Config, Dialect, Listen, Mixed};

/// How long the door may take to answer: a person waits.
const PATIENCE: Duration = Duration::from_secs(5);
/// Octets of an answer that are read.
const MOST: u64 = 4_096;

/// Whether the door answers where it is to listen, and the traps of its mail servers.
pub(super) async fn door(config: &Config, report: &mut Report) {
    if !config.hooks.is_open() {
        return;
    }
    for place in &config.hooks.listen {
        let about = format!("hooks.listen {place}");
        let hint = "is `addrauth filter` running?";
        if config.hooks.tls.is_on() {
            report.unknown(&about, "it speaks TLS, which is not looked into here: try `addrauth hooks try https://…`");
            continue;
        }
        match timeout(PATIENCE, answers(place)).await {
            Ok(Ok(true)) => report.good(&about, "MTA Hooks are answered"),
            Ok(Ok(false)) => report.wrong(&about, "what listens there is another program: does it have this place?"),
            Ok(Err(e)) => report.wrong(&about, format!("nobody can be reached there: {e}; {hint}")),
            Err(_) => report.wrong(&about, format!("no answer within {PATIENCE:?}; {hint}")),
        }
    }
    if config.hooks.speaks(Dialect::Stalwart) {
        report.good(
            "hooks.dialects \"stalwart\"",
            "leave Stalwart's options.tempfail-on-error = true: without it mail goes on with its key while this filter is away. \
             Up to 0.14.1 its hooks run only beside a milter or a Sieve script",
        );
        if config.policy.mixed == Mixed::Split {
            report.warn(
                "policy.mixed = \"split\"",
                "Stalwart tells recipients apart only where its hook has stages = [\"rcpt\", \"data\"]",
            );
        }
    }
    if config.hooks.speaks(Dialect::Draft01) {
        report.good(
            "hooks.dialects \"draft-01\"",
            "let the mail server fail closed: by the draft's default it goes on without its filter, and the key stays in the mail",
        );
    }
}

/// Whether MTA Hooks are answered at this place.
pub(crate) async fn is_asked_by_hooks(place: &Listen) -> bool {
    matches!(timeout(PATIENCE, answers(place)).await, Ok(Ok(true)))
}

async fn answers(place: &Listen) -> std::io::Result<bool> {
    match place {
        Listen::Inet(address) => greet(TcpStream::connect(within_reach(*address)).await?).await,
        Listen::Unix(path) => greet(UnixStream::connect(path).await?).await,
    }
}

async fn greet(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<bool> {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
    let mut said = Vec::new();
    stream.take(MOST).read_to_end(&mut said).await?;
    let said = String::from_utf8_lossy(&said);
    Ok(said.starts_with("HTTP/1.1 200") && said.contains("This is addrauth"))
}
