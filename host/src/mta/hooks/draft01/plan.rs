//! What is kept of an answer, so that another try of the same request gets the same: what was decided, and no key.

use serde::{Deserialize, Serialize};

use super::render::Said;
use crate::case::{Redirect, Reply, Verdict};
use crate::proto::header::Edit;

/// A reply as it is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Plan {
    pub(super) said: Said,
    edits: Vec<Planned>,
    removed: Vec<usize>,
    redirected: Vec<Redirect>,
}

/// An edit as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Planned {
    Delete(String, u32),
    Insert(u32, String, String),
    /// A key on top: which one is not kept.
    Stamp,
}

impl Plan {
    pub(super) fn of(reply: &Reply) -> Plan {
        let planned = |edit: &Edit| match edit {
            Edit::Delete { name, index } => Planned::Delete(name.clone(), *index),
            Edit::Insert { index, name, value } => Planned::Insert(*index, name.clone(), value.clone()),
            Edit::InsertKey { .. } => Planned::Stamp,
        };
        Plan {
            said: Said::of(&reply.verdict),
            edits: reply.edits.iter().map(planned).collect(),
            removed: reply.removed.clone(),
            redirected: reply.redirected.clone(),
        }
    }

    /// Whether the answer holds a key.
    pub(super) fn stamps(&self) -> bool {
        self.edits.contains(&Planned::Stamp)
    }

    /// The changes of the reply; its verdict is [`Plan::said`].
    pub(super) fn reply(&self) -> Reply {
        let edit = |planned: &Planned| match planned {
            Planned::Delete(name, index) => Some(Edit::Delete { name: name.clone(), index: *index }),
            Planned::Insert(index, name, value) => {
                Some(Edit::Insert { index: *index, name: name.clone(), value: value.clone() })
            }
            Planned::Stamp => None,
        };
        Reply {
            edits: self.edits.iter().filter_map(edit).collect(),
            removed: self.removed.clone(),
            redirected: self.redirected.clone(),
            ..Reply::bare(Verdict::Accept)
        }
    }
}
