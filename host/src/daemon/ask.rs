//! Whether every endpoint of a domain knows a new key, for the Authentication Server that posts it.

use std::sync::Arc;

use async_trait::async_trait;
use tracing::warn;

use crate::authority::AskEverywhere;
use crate::config::{Config, Limits};
use crate::proto::address::Address;
use crate::proto::key::AuthKey;
use crate::verify::{Endpoint, Said, Verifier};

/// Endpoints that a note names as not knowing a key: one is enough to begin with.
const NAMED: usize = 3;

/// Asks with the settings of `[verify]`. Without a resolver every key is held back for that reason.
pub struct Asking(Result<Verifier, String>);

impl Asking {
    /// Without a resolver it says so in the log.
    pub fn new(config: &Config, limits: &Arc<Limits>) -> Asking {
        let verifier = Verifier::new(&config.verify, &config.hostname, limits).map_err(|e| e.to_string());
        if let Err(e) = &verifier {
            warn!("no new key can be posted: {e}");
        }
        Asking(verifier)
    }
}

#[async_trait]
impl AskEverywhere for Asking {
    async fn everywhere(&self, address: &Address, key: &AuthKey) -> Result<(), String> {
        let verifier = self.0.as_ref().map_err(Clone::clone)?;
        let said = verifier.everywhere(address, key).await.map_err(|e| e.to_string())?;
        let against: Vec<_> = said.iter().filter(|(_, said)| !matches!(said, Said::Valid { .. })).collect();
        if said.is_empty() {
            Err(format!("{} has no endpoint that may be asked", address.domain()))
        } else if against.is_empty() {
            Ok(())
        } else {
            Err(against.into_iter().take(NAMED).map(named).collect::<Vec<_>>().join("; "))
        }
    }
}

fn named((Endpoint { authority, address, .. }, said): &(Endpoint, Said)) -> String {
    if *authority == address.to_string() {
        format!("{address}: {said}")
    } else {
        format!("{authority} at {address}: {said}")
    }
}
