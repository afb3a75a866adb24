//! The header block: where its fields are, and how to take some out or put one in without touching another byte.

/// One change to a header block, in the milter's terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Delete the `index`th field (from 1) of those with this name, letter case ignored.
    Delete {
        /// The field name.
        name: String,
        /// Which of the fields of this name, counted from 1 at the top.
        index: u32,
    },
    /// Insert a field so that it becomes the one at `index` (0: the top).
    Insert {
        /// The position; 0 and 1 only, never below possible junk.
        index: u32,
        /// The field name.
        name: String,
        /// The value, its leading space included, without a line ending.
        value: String,
    },
}
