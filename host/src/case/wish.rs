//! What a recipient chose for their own mail.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{KeyStatus, MarkAs};

/// One recipient's own wishes about one sender's mail.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// The policy chosen for a result, by id.
    pub policies: BTreeMap<KeyStatus, String>,
    /// The recipient's own rules, a line each; they treat the results for which nothing is chosen.
    pub rules: Option<Arc<str>>,
    /// How marked mail is to be shown.
    pub mark: Option<MarkAs>,
    /// Whether the sender is on the recipient's list of wanted senders.
    pub allows: bool,
}
