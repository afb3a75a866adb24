//! The classes of policies.

use serde::{Deserialize, Serialize};

/// The class of a policy: what its component may be, and what its decisions may take; the bounds are in [`super::Limits`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Size {
    /// Rust, C, JavaScript, text.
    #[default]
    Small,
    /// For a component that brings a large language along, such as Python. The administrator binds it; users cannot choose it.
    Large,
}

impl Size {
    /// The configuration's word.
    pub fn word(self) -> &'static str {
        match self {
            Size::Small => "small",
            Size::Large => "large",
        }
    }

    /// What an administrator can do about a component that is too much for this class, behind what is wrong with it.
    pub(crate) fn way_out(self) -> &'static str {
        match self {
            Size::Small => "; where its language makes it so large, write size = \"large\" into its [policies.ID]",
            Size::Large => "",
        }
    }
}
