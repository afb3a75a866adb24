//! The limits on which the machine's room or the administrator depends, in one place.

use super::size::Size;

mod authority;
mod console;
mod custody;
mod files;
mod hooks;
mod keyring;
mod log;
mod metrics;
mod mta;
mod outbox;
mod outline;
mod policy;
mod store;
mod verify;

pub use authority::Authority;
pub use console::Console;
pub use custody::Custody;
pub use files::Files;
pub use hooks::Hooks;
pub use keyring::Keyring;
pub use log::Log;
pub use metrics::Metrics;
pub use mta::Mta;
pub use outbox::Outbox;
pub use outline::PolicyOutline;
pub use policy::{Policy, PolicyClass};
pub use store::Store;
pub use verify::Verify;

/// The limits on which the machine's room or the administrator depends, each with its reason, grouped by the room that they
/// bind. Bounds of a grammar or of one step stand beside their code. No limit is configurable unless a setting has the same
/// name.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Limits {
    /// What a message may be made of, and how long the MTA waits.
    pub mta: Mta,
    /// What requests of mail servers over HTTP may be made of.
    pub hooks: Hooks,
    /// What finding and asking Authentication Servers may take.
    pub verify: Verify,
    /// What a component may be, and what its decisions may take.
    pub policy: Policy,
    /// What learning and stamping may take.
    pub keyring: Keyring,
    /// How databases are opened, and how long locks are waited for.
    pub store: Store,
    /// What journal and quarantine may hold, and how long keeping may take.
    pub custody: Custody,
    /// How many notices and reports go out, and how they are submitted.
    pub outbox: Outbox,
    /// What the Authentication Server keeps, answers and posts.
    pub authority: Authority,
    /// What browsers may ask of the console.
    pub console: Console,
    /// Octets of the files that are read whole.
    pub files: Files,
    /// What those who ask for figures may take.
    pub metrics: Metrics,
    /// What log lines that wait to be written may take.
    pub log: Log,
}

impl Limits {
    /// These limits as they are for policies of this class.
    #[must_use]
    pub fn of(&self, size: Size) -> Limits {
        Limits { policy: self.policy.of(size), ..self.clone() }
    }

    /// The class that a component of so many octets needs at least.
    #[must_use]
    pub fn size_for(&self, octets: usize) -> Size {
        if octets > self.policy.file { Size::Large } else { Size::Small }
    }

    /// These limits with a few of them changed.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use addrauth::config::Limits;
    /// let limits = Limits::default().with(|limits| limits.policy.time = Duration::from_millis(5));
    /// assert_eq!(limits.policy.time, Duration::from_millis(5));
    /// ```
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Limits)) -> Limits {
        change(&mut self);
        self
    }
}
