//! `addrauth authority`: run the Authentication Server.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::{Context, exit};
use crate::authority::Authority;
use crate::config::Limits;

/// Run the Authentication Server in the foreground: answer VERIFY over UDP
///
/// Answers for the domains of `authority.domains` on the addresses of `authority.listen`, from the table of keys in
/// `state_dir`, which `addrauth key` fills, and counts who is asked about with wrong keys (`addrauth report`). It stops on
/// SIGTERM or SIGINT.
///
/// For others to find it, the domain's DNS needs a TXT record such as `AS=as.example.com:4410; v=1; t=udp; m=some`,
/// at the domain itself or at `_addrauth.` below it.
///
/// Exit code: 0 stopped by a signal, 2 it could not start.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the verb, until a signal ends it.
pub async fn run(_args: Args, context: &Context) -> ExitCode {
    match start(context).await {
        Ok(()) => exit::YES,
        Err(e) => {
            let _ = writeln!(std::io::stderr(), "addrauth authority: {e}");
            exit::unknown()
        }
    }
}

async fn start(context: &Context) -> Result<(), Box<dyn std::error::Error>> {
    let config = context.read_config()?;
    let authority = Arc::new(Authority::open(&config, &Arc::new(Limits::default())).await?);
    let sockets = authority.bind().await?;
    let mut places = Vec::new();
    for socket in &sockets {
        places.push(socket.local_addr()?.to_string());
    }
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    info!("authority started: answers VERIFY for {} on UDP {}", authority.domains().join(", "), places.join(", "));
    let shutdown = CancellationToken::new();
    let serving = authority.clone().serve(sockets, shutdown.clone());
    tokio::pin!(serving);
    let name = tokio::select! {
        () = &mut serving => "itself",
        _ = term.recv() => "SIGTERM",
        _ = int.recv() => "SIGINT",
    };
    shutdown.cancel();
    if name != "itself" {
        serving.await;
    }
    authority.close().await;
    info!("authority stopped by {name}");
    Ok(())
}
