//! The doors: an MTA's bytes into `Mail`, `Reply` into the MTA's bytes. A door never decides.
//!
//! All that doors have in common is here: [`listen`] accepts connections, [`intake`] makes a `Mail` of what a door hears,
//! [`reception`] gives a message room, a judge and deadlines, [`Changes`] are what a reply asks of the MTA, and [`Refused`]
//! says why a message is not taken. A door adds its bytes: [`milter`], [`hooks`] and [`lmtp`].

use crate::case::{Body, Case, Client, Mail, Recipient};
use crate::config::{Peer, Unfit};
#[cfg(feature = "filter")]
use crate::filter::Filter;

mod changes;
#[cfg(feature = "hooks")]
pub mod hooks;
#[cfg(any(feature = "hooks", feature = "milter"))]
mod hourly;
pub mod intake;
mod letter;
pub mod listen;
#[cfg(feature = "lmtp")]
pub mod lmtp;
#[cfg(feature = "milter")]
pub mod milter;
pub mod reception;
mod refused;

pub use changes::{Changes, Counting, Insertion};
pub use letter::{OnTop, letter, opened};
pub use listen::Lanes;
pub use refused::{
    AGENT_AWAY, AGENT_SILENT, FOR_NOW, NO_ROOM, NOT_SUPPORTED, NOT_UNDERSTOOD, ONE_AT_A_TIME, Refused, SMUGGLED,
    TOO_LARGE, UNFIT, UNREAD_RECIPIENT, UNREAD_SENDER, passed_on,
};

/// Judges the messages that come to a door. [`crate::filter::Filter`] is the judge that ships; tests of a door have their
/// own.
pub trait Judge: Send + Sync + 'static {
    /// At the end of the header: find, decide, settle. Total: a failure is a finding or a decision.
    fn examine(&self, mail: Mail) -> impl Future<Output = Case> + Send;

    /// At the end of the message: makes what is owed durable, or turns the reply into a 451. The body is there where the
    /// reply wants it.
    fn keep(&self, case: Case, body: Option<Body>) -> impl Future<Output = Case> + Send;

    /// Whether recipients are to be told apart at RCPT.
    fn splits(&self) -> bool {
        false
    }

    /// Why this mail server's messages cannot be treated as the settings say.
    fn unfit(&self, peer: Peer) -> Option<Unfit> {
        let _ = peer;
        None
    }

    /// Whether two recipients of one message that this client brings are treated alike, so that they may stay in it together.
    fn alike(&self, client: &Client, first: &Recipient, next: &Recipient) -> impl Future<Output = bool> + Send {
        let _ = (client, first, next);
        std::future::ready(true)
    }
}

#[cfg(feature = "filter")]
impl Judge for Filter {
    async fn examine(&self, mail: Mail) -> Case {
        Filter::examine(self, mail).await
    }

    async fn keep(&self, case: Case, body: Option<Body>) -> Case {
        Filter::keep(self, case, body).await
    }

    fn splits(&self) -> bool {
        Filter::splits(self)
    }

    fn unfit(&self, peer: Peer) -> Option<Unfit> {
        self.config().unfit(peer)
    }

    async fn alike(&self, client: &Client, first: &Recipient, next: &Recipient) -> bool {
        Filter::alike(self, client, first, next).await
    }
}
