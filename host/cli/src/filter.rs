//! `addrauth filter`: the filter in the foreground.

use std::process::ExitCode;
use std::sync::Arc;

use addrauth::config::Limits;
use addrauth::daemon::apart;
use addrauth::daemon::filter::Running;

use super::daemon::notify::{Supervisor, feed};
use super::daemon::signals::{Signals, Wish};
use super::settings::Settings;
use super::{Context, exit, fail, trial};

/// Run the filter that examines incoming mail: milter, MTA Hooks, LMTP.
///
/// Without a configuration it listens on 127.0.0.1:8891 for milters, knows no domain of its own and changes nothing. SIGHUP reads the
/// configuration and the policy components again, all together or, on an error, not at all; a file that is gone, empty or cut,
/// or takes all of final_domains or the line observe = false away, is an error. SIGTERM ends it cleanly: messages in flight get their answer first.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Runs until SIGTERM or SIGINT.
pub(crate) async fn run(_: Args, context: &Context, signals: Signals) -> ExitCode {
    match filter(context, signals).await {
        Ok(()) => exit::YES,
        Err(error) => fail(error),
    }
}

async fn filter(context: &Context, mut signals: Signals) -> Result<(), Failure> {
    let supervisor = Supervisor::from_environment();
    let (mut settings, mut running) = tokio::select! {
        biased;
        name = signals.stop() => {
            tracing::info!("{name} came before the start was over");
            return Ok(());
        }
        started = start(context.clone()) => started?,
    };
    let feeding = tokio::spawn(feed(supervisor.clone(), running.health()));
    supervisor.ready().await;
    loop {
        let is_watched = tokio::select! {
            biased;
            wish = signals.next() => match wish {
                Wish::Reload => false,
                Wish::Stop(_) => break,
            },
            () = running.changed() => true,
        };
        supervisor.reloading().await;
        let reloaded = tokio::select! {
            biased;
            _ = signals.stop() => break,
            reloaded = reload(context.clone(), settings.clone(), is_watched, &mut running) => reloaded,
        };
        match reloaded {
            Ok(next) => settings = next,
            Err(error) => tracing::error!("not reloaded, the old configuration stays in force: {error}"),
        }
        supervisor.ready().await;
    }
    tracing::info!("stopping: messages in flight get their answer");
    supervisor.stopping().await;
    running.stop().await?;
    feeding.abort();
    Ok(())
}

/// Why the filter does not start, or is not reloaded.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What counts at the start.
async fn start(context: Context) -> Result<(Settings, Running), Failure> {
    let settings = apart(async move { Settings::read(&context) }).await??;
    let running = Running::start(settings.config.clone(), Arc::new(Limits::default()), trial()).await?;
    Ok((settings, running))
}

/// What counts after a reload: all of it new or, on an error, nothing. Where a component file was seen to change, the
/// configuration stays as it was read: an editor may have half of it on disk.
async fn reload(
    context: Context,
    settings: Settings,
    is_watched: bool,
    running: &mut Running,
) -> Result<Settings, Failure> {
    let (settings, next) = apart(async move {
        let next = if is_watched { Ok(settings.clone()) } else { settings.next(&context) };
        (settings, next)
    })
    .await?;
    let next = next?;
    running.reload(next.config.clone()).await?;
    let weaker = settings.weaker(&next);
    if !weaker.is_empty() {
        tracing::warn!("the reload takes away what was in force before: {}", weaker.join("; "));
    }
    // Last: whoever waits for this line has read the others.
    tracing::info!("reloaded: the next message is treated by the new configuration");
    Ok(next)
}
