//! What a policy is told of a message: the result, and what it wants under its settings.

use std::ops::{Deref, DerefMut};

use crate::KeyStatus;
use crate::wit::exports::addrauth::policy::policy as contract;

/// What a policy is told of a message: the fields of the contract's `facts`, and [`Facts::header`].
///
/// A fact that the policy did not ask for is `None`, as is one that does not exist (no usable From, the null
/// reverse-path, no AS, no trusted results).
#[derive(Clone, Debug)]
pub struct Facts {
    told: contract::Facts,
    names: Vec<String>,
}

impl Facts {
    /// The facts of a message of which only the result is known: where unit tests begin.
    pub fn of(status: KeyStatus) -> Facts {
        let told = contract::Facts {
            status,
            why: None,
            sender: None,
            recipient: None,
            envelope_sender: None,
            client: None,
            size: None,
            trail: None,
            mail_auth: None,
            claim: None,
            last_valid: None,
            headers: Vec::new(),
        };
        Facts { told, names: Vec::new() }
    }

    /// The same with the values of the header fields of one name, top first.
    pub fn with_header(mut self, name: &str, values: &[&str]) -> Facts {
        self.names.push(name.to_owned());
        self.told.headers.push(values.iter().map(|value| value.to_string()).collect());
        self
    }

    /// The values of all header fields of this name, top first, unfolded. Empty where the policy does not want
    /// them.
    pub fn header(&self, name: &str) -> &[String] {
        let index = self.names.iter().position(|known| known.eq_ignore_ascii_case(name));
        index.and_then(|index| self.told.headers.get(index)).map_or(&[], Vec::as_slice)
    }

    /// `names` are those of the fields that the policy wants, in its order.
    pub(crate) fn from_contract(told: contract::Facts, names: Vec<String>) -> Facts {
        Facts { told, names }
    }
}

impl Deref for Facts {
    type Target = contract::Facts;

    fn deref(&self) -> &contract::Facts {
        &self.told
    }
}

impl DerefMut for Facts {
    fn deref_mut(&mut self) -> &mut contract::Facts {
        &mut self.told
    }
}
