//! `addrauth authority`: run the Authentication Server.

use std::process::ExitCode;
use std::sync::Arc;

use addrauth::config::Limits;
use addrauth::daemon::apart;
use addrauth::daemon::authority::Running;
use tracing::info;

use super::daemon::notify::{Supervisor, feed};
use super::daemon::signals::{Signals, Wish};
use super::{Context, exit};

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
pub(crate) struct Args {}

/// Runs the verb, until a signal ends it.
pub(crate) async fn run(_args: Args, context: &Context, signals: Signals) -> ExitCode {
    match serve(context, signals).await {
        Ok(()) => exit::YES,
        Err(e) => {
            eprintln!("addrauth authority: {e}");
            exit::unknown()
        }
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn start(context: Context) -> Result<Running, Failure> {
    let config = apart(async move { context.read_config() }).await??;
    Ok(Running::start(config, Arc::new(Limits::default())).await?)
}

async fn serve(context: &Context, mut signals: Signals) -> Result<(), Failure> {
    let supervisor = Supervisor::from_environment();
    let mut running = tokio::select! {
        biased;
        name = signals.stop() => {
            info!("{name} came before the start was over");
            return Ok(());
        }
        started = start(context.clone()) => started?,
    };
    let feeding = tokio::spawn(feed(supervisor.clone(), running.health()));
    supervisor.ready().await;
    let name = until_stopped(&mut signals, &mut running, &supervisor).await;
    supervisor.stopping().await;
    running.stop().await?;
    feeding.abort();
    info!("authority stopped by {name}");
    Ok(())
}

/// Until a signal asks for the end, or the server ends by itself. Whoever renews certificates sends SIGHUP to servers; one that
/// has none goes on as well.
async fn until_stopped(signals: &mut Signals, running: &mut Running, supervisor: &Supervisor) -> &'static str {
    loop {
        tokio::select! {
            () = running.ended() => return "itself",
            wish = signals.next() => if let Wish::Stop(name) = wish {
                return name;
            },
        }
        supervisor.reloading().await;
        tokio::select! {
            biased;
            name = signals.stop() => return name,
            () = running.renew() => {}
        }
        supervisor.ready().await;
    }
}
