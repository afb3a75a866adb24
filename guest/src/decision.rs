//! What a policy answers: a disposition, who is told, and why.

use crate::wit::exports::addrauth::policy::policy as contract;
use crate::{Disposition, Notify};

/// What happens to a message. Made by [`accept`], [`mark`], [`quarantine`], [`reject`] or [`defer`].
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// What happens.
    pub disposition: Disposition,
    /// Who is told.
    pub notify: Notify,
    /// Why, in words that a recipient understands: one line of printable ASCII, at most 400 octets.
    pub reason: String,
}

/// Deliver it.
pub fn accept() -> Decision {
    Decision::new(Disposition::Accept, "")
}

/// Deliver it, marked as suspicious.
pub fn mark(reason: impl Into<String>) -> Decision {
    Decision::new(Disposition::Mark, reason)
}

/// Keep it back for somebody to look at. The recipient may be told.
pub fn quarantine(reason: impl Into<String>) -> Decision {
    Decision::new(Disposition::Quarantine, reason)
}

/// Do not deliver it. As it stands nobody is told, which the host allows for wrong keys alone; see
/// [`Decision::tell_sender`] and [`Decision::tell_recipient`].
pub fn reject(reason: impl Into<String>) -> Decision {
    Decision::new(Disposition::Reject, reason)
}

/// Ask the sending server to come again later.
pub fn defer(reason: impl Into<String>) -> Decision {
    Decision::new(Disposition::Defer, reason)
}

impl Decision {
    fn new(disposition: Disposition, reason: impl Into<String>) -> Decision {
        Decision { disposition, notify: Notify::empty(), reason: reason.into() }
    }

    /// The sender is told: his own server tells him.
    pub fn tell_sender(mut self) -> Decision {
        self.notify |= Notify::SENDER;
        self
    }

    /// The recipient is told by a notice.
    pub fn tell_recipient(mut self) -> Decision {
        self.notify |= Notify::RECIPIENT;
        self
    }

    pub(crate) fn into_contract(self) -> contract::Decision {
        contract::Decision { disposition: self.disposition, notify: self.notify, reason: self.reason }
    }
}
