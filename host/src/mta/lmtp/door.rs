//! What all connections of the door share: the reception, the next hop, and room for bodies that wait.

use std::path::PathBuf;
use std::sync::Arc;

use super::hop::{self, Fault, Hop};
use super::spool::Room;
use crate::config::{Config, NextHop};
use crate::mta::Judge;
use crate::mta::reception::Reception;

/// What the door needs besides its places.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where messages go on.
    pub next: NextHop,
    /// What the door calls itself.
    pub name: String,
    /// The directory where bodies wait that do not stay in memory.
    pub spool: PathBuf,
}

impl Settings {
    /// What this configuration says; none where it opens no such door.
    pub fn of(config: &Config) -> Option<Settings> {
        let next = config.lmtp.next.clone().filter(|_| !config.lmtp.listen.is_empty())?;
        let name = if config.hostname.is_empty() { hop::LHLO_NAME } else { &config.hostname };
        Some(Settings { next, name: name.to_owned(), spool: config.state_dir.0.clone() })
    }
}

/// The door.
pub(super) struct Door<J> {
    pub(super) reception: Arc<Reception<J>>,
    pub(super) settings: Settings,
    pub(super) room: Room,
}

impl<J: Judge> Door<J> {
    /// A connection to the next hop: in one time for all that belongs to it, and not once the program stops.
    pub(super) async fn connect(&self) -> Result<Hop, Fault> {
        let patience = self.reception.limits().mta.next_hop;
        let connecting = Hop::connect(&self.settings.next, &self.settings.name, patience);
        tokio::select! {
            biased;
            () = self.reception.closed().cancelled() => Err(Fault::Stopping),
            connected = tokio::time::timeout(patience, connecting) => connected.unwrap_or(Err(Fault::Silent)),
        }
    }
}
