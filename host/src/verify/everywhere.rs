//! Asking every endpoint of a domain by itself: what an AS does with a new key before it sends it out (SPECIFICATION §2.6).

use std::fmt;
use std::sync::Arc;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::bringer::{Bringer, Sponsors};
use super::inquiry::{Inquiry, Said};
use super::schedule::END;
use super::{Endpoint, Endpoints, Failure, Published, Refused, Verifier};
use crate::case::{Limited, Why};
use crate::proto::address::{Address, Domain};
use crate::proto::key::AuthKey;
use crate::proto::record::Record;

/// Why not every endpoint of a domain can be asked, with the way out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unasked {
    /// Nobody could find the AS.
    #[error(
        "{0} publishes no AS= record yet: publish what `addrauth record {0}` prints, or name its AS in [verify.domain.\"{0}\"]"
    )]
    Unpublished(Domain),
    /// DNS did not tell, or said something unusable.
    #[error("{0}")]
    Unlocated(Failure),
    /// A server at an address that may not be asked.
    #[error("{authority}: {refused}; verify.allow_targets permits it")]
    Barred {
        /// The AS as its record names it.
        authority: String,
        /// Why it may not be asked.
        refused: Refused,
    },
}

impl Verifier {
    /// Asks each endpoint of the address's domain by itself: all addresses of all its records, or the one that the configuration
    /// names. Neither the cache nor the breaker is looked into, and no budget is spent. It takes some seconds at most; what each
    /// said, in order of priority.
    ///
    /// # Errors
    /// Where one endpoint that others may ask cannot be asked from here: then nobody is.
    pub async fn everywhere(&self, address: &Address, key: &AuthKey) -> Result<Vec<(Endpoint, Said)>, Unasked> {
        let deadline = Instant::now() + 2 * self.shared.limits.verify.locate + END;
        let endpoints = match self.published(address.domain(), deadline).await {
            Published::Nothing => return Err(Unasked::Unpublished(address.domain().clone())),
            Published::Failed(failure) => return Err(Unasked::Unlocated(failure)),
            Published::Fixed(fixed) => vec![Endpoint::fixed(fixed)],
            Published::Records(records) => self.every_endpoint(&records.used, deadline).await?,
        };
        let ask = |endpoint: Endpoint| async {
            let endpoints = vec![endpoint.clone()];
            let sponsors = Arc::new(Sponsors::default());
            sponsors.add(self.shared.proven.sponsor(&Bringer::Local, address, Instant::now()));
            let (address, key) = (address.clone(), key.clone());
            let inquiry = Inquiry { address, key, endpoints, deadline, stream_first: false, sponsors };
            (endpoint, self.shared.asker.ask_alone(inquiry).await.said)
        };
        Ok(join_all(endpoints.into_iter().map(ask)).await)
    }

    async fn every_endpoint(&self, records: &[Record], deadline: Instant) -> Result<Vec<Endpoint>, Unasked> {
        let most = self.shared.limits.verify.endpoints_everywhere;
        let Endpoints { usable, refused, failed } = self.shared.locator.endpoints_up_to(most, records, deadline).await;
        match (refused.into_iter().next(), failed.into_iter().next()) {
            (Some((authority, refused)), _) => Err(Unasked::Barred { authority, refused }),
            (_, Some(failure)) => Err(Unasked::Unlocated(failure)),
            _ => Ok(usable),
        }
    }
}

/// In the words of the protocol, and in plain ones where there is no answer.
impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Said::Valid { .. } => "VALIDKEY",
            Said::Invalid(Why::Expired) => "INVALIDKEY e=expired",
            Said::Invalid(_) => "INVALIDKEY",
            Said::Unverified(Why::Timeout) => "no answer, or trouble of its own",
            Said::Limited(Limited::There) => "UNVERIFIED, asked too often (e=limit or e=stream)",
            Said::Limited(Limited::Here) => "not asked: too many questions of our own are under way",
            Said::Unverified(_) => "UNVERIFIED, not a server of this domain (e=domain, e=version or e=syntax)",
        })
    }
}
