//! SIGHUP, SIGTERM and SIGINT.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// SIGHUP: read the configuration, or what a certificate was renewed to, again.
    Reload,
    /// SIGTERM or SIGINT.
    Stop(&'static str),
}

/// The signals of a daemon. From [`Signals::install`] on none of them ends the process by itself; those that come while nobody
/// waits are kept, each kind once.
#[derive(Debug)]
pub(crate) struct Signals {
    hup: Signal,
    term: Signal,
    int: Signal,
}

impl Signals {
    /// To be called before anything else that takes time, within a runtime.
    ///
    /// # Errors
    /// The system's, where it lets no handler be installed.
    pub(crate) fn install() -> std::io::Result<Signals> {
        Ok(Signals {
            hup: signal(SignalKind::hangup())?,
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
        })
    }

    /// The next signal; one that asks for the end first.
    pub(crate) async fn next(&mut self) -> Wish {
        tokio::select! {
            biased;
            _ = self.term.recv() => Wish::Stop("SIGTERM"),
            _ = self.int.recv() => Wish::Stop("SIGINT"),
            _ = self.hup.recv() => Wish::Reload,
        }
    }

    /// The next signal that asks for the end, by its name; SIGHUP waits.
    pub(crate) async fn stop(&mut self) -> &'static str {
        tokio::select! {
            biased;
            _ = self.term.recv() => "SIGTERM",
            _ = self.int.recv() => "SIGINT",
        }
    }
}
