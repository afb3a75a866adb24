//! What a policy wants to see of a message besides the result.

use crate::Wants;
use crate::wit::exports::addrauth::policy::policy as contract;

/// What a policy wants to see besides the result. It is told nothing else, and the journal of the filter keeps nothing else.
///
/// ```
/// use addrauth_policy::{Wanted, Wants};
///
/// let wanted = Wanted::facts(Wants::TRAIL | Wants::CLAIM).header("List-Id");
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    facts: Wants,
    headers: Vec<String>,
}

impl Wanted {
    /// The result alone: the filter asks once for each result and keeps the answers in a table.
    pub fn nothing() -> Wanted {
        Wanted::facts(Wants::empty())
    }

    /// These facts.
    pub fn facts(facts: Wants) -> Wanted {
        Wanted { facts, headers: Vec::new() }
    }

    /// These facts too.
    pub fn and(mut self, facts: Wants) -> Wanted {
        self.facts |= facts;
        self
    }

    /// The values of the header fields of this name too; [`crate::Facts::header`] has them.
    pub fn header(mut self, name: impl Into<String>) -> Wanted {
        self.headers.push(name.into());
        self
    }

    pub(crate) fn into_contract(self) -> contract::Wanted {
        contract::Wanted { facts: self.facts, headers: self.headers }
    }

    /// The names of the fields, in the order in which their values are told.
    pub(crate) fn into_names(self) -> Vec<String> {
        self.headers
    }
}
