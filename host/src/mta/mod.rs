//! The doors: an MTA's bytes into `Mail`, `Reply` into the MTA's bytes. A door never decides.

use crate::case::{Case, Mail};
use crate::filter::Filter;

pub mod milter;

/// What stands behind a door. [`crate::filter::Filter`] is the one that ships; tests of a door put their own there.
pub trait Judge: Send + Sync + 'static {
    /// At the end of the header: find, decide, settle. Total: a failure is a finding or a decision.
    fn examine(&self, mail: Mail) -> impl Future<Output = Case> + Send;

    /// At the end of the message: makes what is owed durable, or turns the reply into a 451.
    fn keep(&self, case: Case) -> impl Future<Output = Case> + Send;
}

impl Judge for Filter {
    async fn examine(&self, mail: Mail) -> Case {
        Filter::examine(self, mail).await
    }

    async fn keep(&self, case: Case) -> Case {
        Filter::keep(self, case).await
    }
}
