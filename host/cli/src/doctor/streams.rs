//! TLS at each address of a domain's server: connection, certificate, protocol, and a question; and the AS that keys are fetched from.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::Report;
use addrauth::config::{Config, Limits};
use addrauth::keyring::Source as _;
use addrauth::keyring::fetch::Fetched;
use addrauth::proto::address::{Address, Domain};
use addrauth::proto::key::AuthKey;
use addrauth::proto::seal::Opener;
use addrauth::proto::wire::{Answer, Question, STREAM_MAX, Status};
use addrauth::tls::{self, Connector, Failed};
use addrauth::verify::Endpoint;

/// How long each step may take: a person waits.
const PATIENCE: Duration = Duration::from_secs(5);
/// Whoever renews a certificate by machine does it a month before its end; later, that machine has failed.
const DAYS_LEFT: u64 = 21;

/// Looks at those of these endpoints that offer TLS.
pub(super) async fn examine(domain: &Domain, endpoints: &[Endpoint], config: &Config, report: &mut Report) {
    let offering: Vec<&Endpoint> = endpoints.iter().filter(|endpoint| endpoint.offers.tls).collect();
    if offering.is_empty() {
        return;
    }
    let connector = match Connector::new(&config.verify.tls_roots) {
        Ok(connector) => connector,
        Err(e) => return report.wrong("verify.tls_roots", e.to_string()),
    };
    let looks = offering.iter().map(|endpoint| look(domain, endpoint, &connector));
    for (endpoint, look) in offering.iter().zip(futures_util::future::join_all(looks).await) {
        let about = format!("{domain} at {} ({}) over TLS", endpoint.address, endpoint.authority);
        match look {
            Ok(Look { answer, days, took }) => judge(&about, answer.as_ref(), days, took, report),
            Err(Failed::Setup(e)) => report.unknown(&about, e.to_string()),
            Err(e) => report.wrong(&about, format!("{e}. {}", way_out(&e, endpoint))),
        }
    }
}

/// What was seen at one endpoint.
struct Look {
    answer: Option<Answer>,
    /// Days until its certificate ends.
    days: Option<u64>,
    took: Duration,
}

async fn look(domain: &Domain, endpoint: &Endpoint, connector: &Connector) -> Result<Look, Failed> {
    let late = || Failed::Connect(std::io::ErrorKind::TimedOut.into());
    let connecting = connector.connect(endpoint.host(), endpoint.address);
    let mut stream = timeout(PATIENCE, connecting).await.map_err(|_| late())??;
    let left = tls::ends(&stream).and_then(|ends| ends.duration_since(SystemTime::now()).ok());
    let start = Instant::now();
    let answer = timeout(PATIENCE, ask(domain, endpoint, &mut stream)).await.ok().flatten();
    Ok(Look { answer, days: left.map(|left| left.as_secs() / 86_400), took: start.elapsed() })
}

/// Asks about an address that nobody has, with a key that nobody has; absent where no answer comes.
async fn ask(domain: &Domain, endpoint: &Endpoint, stream: &mut TlsStream<TcpStream>) -> Option<Answer> {
    let address = Address::at(&format!("addrauth-doctor-{:016x}", rand::random::<u64>()), domain).ok()?;
    let key = format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>());
    let key = AuthKey::parse(key.as_bytes()).ok()?;
    let question = Question::new(format!("{:032x}", rand::random::<u128>()), &address, &key, "");
    match endpoint.offers.h1 {
        true => stream.write_all(&question.line(STREAM_MAX)?).await.ok()?,
        false => stream.write_all(&question.line_with_key(&key, STREAM_MAX)?).await.ok()?,
    }
    stream.flush().await.ok()?;
    let mut read = Vec::with_capacity(STREAM_MAX);
    while !read.ends_with(b"\n") && read.len() < STREAM_MAX {
        if stream.read_buf(&mut read).await.ok()? == 0 {
            return None;
        }
    }
    Answer::parse(&read).filter(|answer| question.is_answered_by(answer))
}

fn judge(about: &str, answer: Option<&Answer>, days: Option<u64>, took: Duration, report: &mut Report) {
    let took = format!("after {:.1} ms", took.as_secs_f64() * 1_000.0);
    match answer.map(|answer| answer.status) {
        Some(Status::Invalid) => report.good(about, format!("INVALIDKEY for a key of nobody, {took}")),
        Some(Status::Valid) => {
            report.wrong(about, format!("VALIDKEY for a key of nobody, {took}: it would vouch for everybody"));
        }
        Some(Status::Unverified) => {
            let reason = answer.and_then(|answer| answer.reason).and_then(|reason| reason.word()).unwrap_or("none");
            report.wrong(about, format!("it does not say whether a key is right: UNVERIFIED, reason {reason}, {took}"));
        }
        None => report.wrong(about, "it shakes hands, and answers no question"),
    }
    match days {
        Some(days) if days < DAYS_LEFT => {
            report.warn(about, format!("its certificate ends in {days} days: see whether what renews it still works"));
        }
        Some(days) => report.good(about, format!("its certificate passes, and ends in {days} days")),
        None => report.unknown(about, "when its certificate ends cannot be told"),
    }
}

/// What to do about a server that is not spoken to.
fn way_out(failed: &Failed, endpoint: &Endpoint) -> String {
    match failed {
        Failed::Connect(_) => {
            "Its record names t=tls: does it run with [authority.tls], and does TCP pass the firewalls?".into()
        }
        Failed::Certificate(_) => format!(
            "Others leave it aside: it needs a certificate for {}, valid today, the whole chain in its file, by an authority that \
             everybody trusts (verify.tls_roots names a private one for this host alone)",
            endpoint.host()
        ),
        Failed::OtherProtocol => {
            "Is another server there, or a proxy that ends TLS? Pass the TCP connection through".into()
        }
        Failed::Handshake(_) => "Is there a TLS server at all?".into(),
        _ => String::new(),
    }
}

/// Whether the AS that keys are fetched from takes our token.
pub(super) async fn fetching(config: &Config, report: &mut Report) {
    let from = &config.keyring.fetch_from;
    if from.is_empty() {
        return;
    }
    let about = format!("keyring.fetch_from {from}");
    // It is to say that there is no key: none is opened.
    let fetcher = Opener::new().map(|opener| Fetched::new(config, opener, &Arc::new(Limits::default())));
    let domain = config.final_domains.first().or(config.authority.domains.first());
    let domain = domain.map_or("example.com", Domain::as_str);
    let nobody = format!("addrauth-doctor-{:016x}@{domain}", rand::random::<u64>());
    match fetcher.zip(Address::parse(nobody.as_bytes(), false).ok()) {
        None => report.unknown(&about, "the operating system gives no random octets"),
        Some((Err(e), _)) => report.wrong(&about, e.to_string()),
        Some((Ok(fetcher), address)) => match fetcher.newest(&address).await {
            Ok(_) => report.good(&about, "it takes the token over TLS, and has no key of nobody"),
            Err(e) => report.wrong(&about, e.to_string()),
        },
    }
}
