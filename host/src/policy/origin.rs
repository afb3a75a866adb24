//! Where a component came from.

use std::fmt;
use std::path::PathBuf;

/// Where a component came from.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// It is part of this program.
    Shipped,
    /// A file.
    File(PathBuf),
}

impl Origin {
    /// The file, where it is one.
    pub fn file(&self) -> Option<&std::path::Path> {
        match self {
            Origin::Shipped => None,
            Origin::File(path) => Some(path),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Shipped => f.write_str("shipped"),
            Origin::File(path) => write!(f, "{}", path.display()),
        }
    }
}
