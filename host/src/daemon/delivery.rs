//! The filter's door between queue and mailboxes, where the configuration opens it and the program has it.

use std::sync::Arc;

use crate::config::Config;
use crate::mta::listen::{self, Listener};
use crate::mta::reception::Reception;
use crate::mta::{Judge, Lanes};

/// The door before it serves.
pub(super) struct Delivery {
    listeners: Vec<Listener>,
    #[cfg(feature = "lmtp")]
    settings: Option<crate::mta::lmtp::Settings>,
}

#[cfg(feature = "lmtp")]
impl Delivery {
    /// Binds its places.
    pub(super) fn bind(config: &Config, lanes: &Lanes) -> Result<Delivery, listen::Error> {
        let settings = crate::mta::lmtp::Settings::of(config);
        let bind = || crate::mta::lmtp::bind(&config.lmtp);
        let listeners = if settings.is_some() { lanes.within(bind)? } else { Vec::new() };
        Ok(Delivery { listeners, settings })
    }

    /// Serves until the reception closes; where it is closed from the beginning, there is nothing to serve.
    pub(super) async fn serve<J: Judge>(self, reception: Arc<Reception<J>>, lanes: Lanes) {
        if let Some(settings) = self.settings {
            crate::mta::lmtp::serve(self.listeners, reception, lanes, settings).await;
        }
    }
}

#[cfg(not(feature = "lmtp"))]
impl Delivery {
    /// There is no such door in this program.
    pub(super) fn bind(config: &Config, _: &Lanes) -> Result<Delivery, listen::Error> {
        if !config.lmtp.listen.is_empty() {
            tracing::warn!("lmtp.listen is set, and this program is built without the feature `lmtp`");
        }
        Ok(Delivery { listeners: Vec::new() })
    }

    /// There is nothing to serve.
    pub(super) async fn serve<J: Judge>(self, _: Arc<Reception<J>>, _: Lanes) {}
}

impl Delivery {
    /// Its places.
    pub(super) fn listeners(&self) -> &[Listener] {
        &self.listeners
    }
}
