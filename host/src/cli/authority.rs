//! `addrauth authority`: run the Authentication Server.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::daemon::apart;
use super::daemon::notify::Supervisor;
use super::daemon::signals::{Signals, Wish};
use super::daemon::watchdog::{self, UnderWay};
use super::{Context, exit};
use crate::authority::{self, AskEverywhere, Authority, Poster, Streams};
use crate::config::{Config, Limits};
use crate::proto::address::Address;
use crate::proto::key::AuthKey;
use crate::verify::{Endpoint, Said, Verifier};

/// Endpoints that do not know a key which a note names: one is enough to begin with.
const NAMED: usize = 3;

/// Run the Authentication Server in the foreground: answer VERIFY, make keys in time and post them
///
/// Answers for the domains of `authority.domains` on the addresses of `authority.listen`, from the table of keys in
/// `state_dir`, and counts who is asked about with wrong keys (`addrauth report`). It stops on SIGTERM or SIGINT.
///
/// Each address of `addrauth address` gets a new key every AGI, evenly spread, never in a burst. A new key is posted in the
/// way of `authority.deliver`, once every endpoint of its domain answers VALIDKEY to it: the domain's DNS record, or
/// `verify.domain` in the configuration, says which these are, and `[verify]` whether internal ones may be asked. Until then
/// it is owed, kept sealed to `post.key` in `state_dir`, and tried again; `addrauth key show` tells why.
///
/// With `[authority.tls]` it speaks TLS too, on TCP at the same addresses and ports; a renewed certificate is noticed by itself
/// within half a minute of the next connection, and at once on SIGHUP.
///
/// For others to find it, the domain's DNS needs a TXT record such as `AS=as.example.com:4410; v=1; t=udp; m=some`,
/// at the domain itself or at `_addrauth.` below it: `addrauth record` prints it.
///
/// Exit code: 0 stopped by a signal, 2 it could not start.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// The VERIFY client, for whoever posts keys.
pub struct Client(Result<Verifier, String>);

impl Client {
    /// With the settings of `[verify]`. Without a resolver keys are held back, and questions are answered all the same.
    pub fn new(config: &Config, limits: &Arc<Limits>) -> Client {
        let verifier = Verifier::new(&config.verify, &config.hostname, limits).map_err(|e| e.to_string());
        if let Err(e) = &verifier {
            warn!("no new key can be posted: {e}");
        }
        Client(verifier)
    }
}

#[async_trait]
impl AskEverywhere for Client {
    async fn everywhere(&self, address: &Address, key: &AuthKey) -> Result<(), String> {
        let verifier = self.0.as_ref().map_err(Clone::clone)?;
        let said = verifier.everywhere(address, key).await.map_err(|e| e.to_string())?;
        let against: Vec<_> = said.iter().filter(|(_, said)| !matches!(said, Said::Valid { .. })).collect();
        match against.is_empty() {
            true if said.is_empty() => Err(format!("{} has no endpoint that may be asked", address.domain())),
            true => Ok(()),
            false => Err(against.into_iter().take(NAMED).map(named).collect::<Vec<_>>().join("; ")),
        }
    }
}

fn named((Endpoint { authority, address, .. }, said): &(Endpoint, Said)) -> String {
    match *authority == address.to_string() {
        true => format!("{address}: {said}"),
        false => format!("{authority} at {address}: {said}"),
    }
}

/// Runs the verb, until a signal ends it.
pub async fn run(_args: Args, context: &Context, signals: Signals) -> ExitCode {
    match start(context, signals).await {
        Ok(()) => exit::YES,
        Err(e) => {
            eprintln!("addrauth authority: {e}");
            exit::unknown()
        }
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What is open once the server has started.
struct Started {
    authority: Arc<Authority>,
    poster: Option<Poster>,
    sockets: Vec<UdpSocket>,
    streams: Option<Arc<Streams>>,
}

async fn open(context: Context) -> Result<Started, Failure> {
    let config = context.read_config()?;
    let limits = Arc::new(Limits::default());
    for warning in super::config::host_name(&config).into_iter().chain(authority::warnings(&config)) {
        warn!("{warning}");
    }
    let authority = Arc::new(Authority::open(&config, &limits).await?);
    let poster = Poster::open(&config, authority.clone(), Arc::new(Client::new(&config, &limits))).await?;
    let sockets = authority.bind().await?;
    let streams = authority.bind_streams(&config, &sockets).await?;
    Ok(Started { authority, poster, sockets, streams })
}

async fn start(context: &Context, mut signals: Signals) -> Result<(), Failure> {
    let supervisor = Supervisor::from_environment();
    let Started { authority, poster, sockets, streams } = tokio::select! {
        biased;
        name = signals.stop() => {
            info!("{name} came before the start was over");
            return Ok(());
        }
        started = apart(open(context.clone())) => started??,
    };
    let mut places = Vec::new();
    for socket in &sockets {
        places.push(socket.local_addr()?.to_string());
    }
    let over = if streams.is_some() { "UDP and TLS" } else { "UDP" };
    info!("authority started: answers VERIFY for {} on {over} {}", authority.domains().join(", "), places.join(", "));
    let shutdown = CancellationToken::new();
    let posting = async {
        match &poster {
            Some(poster) => poster.run(shutdown.clone()).await,
            None => info!("authority.deliver = \"nobody\": no keys are made in time, and none are posted"),
        }
    };
    let serving = async { tokio::join!(authority.clone().serve(sockets, shutdown.clone()), posting) };
    let doors = streams.iter().flat_map(|streams| streams.pulses());
    let pulses = authority.pulses().into_iter().chain(doors).collect();
    let certificates = streams.clone();
    let streaming = streams.map(|streams| tokio::spawn(authority.clone().serve_streams(streams, shutdown.clone())));
    tokio::pin!(serving);
    // Nothing of a message is under way here.
    let under_way = Arc::new(UnderWay::new(Duration::MAX));
    let feeding = tokio::spawn(watchdog::feed(supervisor.clone(), pulses, Arc::clone(&under_way)));
    supervisor.ready().await;
    let name = tokio::select! {
        _ = &mut serving => "itself",
        name = until_stopped(&mut signals, certificates, &supervisor) => name,
    };
    supervisor.stopping().await;
    feeding.abort();
    let feeding = tokio::spawn(watchdog::feed(supervisor, Vec::new(), under_way));
    shutdown.cancel();
    if name != "itself" {
        serving.await;
    }
    if let Some(streaming) = streaming {
        streaming.await?;
    }
    authority.close().await;
    feeding.abort();
    info!("authority stopped by {name}");
    Ok(())
}

/// Until a signal asks for the end. Whoever renews certificates sends SIGHUP to servers; one that has none goes on as well.
async fn until_stopped(signals: &mut Signals, streams: Option<Arc<Streams>>, supervisor: &Supervisor) -> &'static str {
    loop {
        if let Wish::Stop(name) = signals.next().await {
            return name;
        }
        supervisor.reloading().await;
        if let Some(streams) = streams.clone() {
            let renewing = apart(async move { streams.renew() });
            tokio::select! {
                biased;
                name = signals.stop() => return name,
                // A panic in there leaves the old certificate in use.
                _ = renewing => {}
            }
        }
        supervisor.ready().await;
    }
}
