//! Why policies are not loaded.

use std::path::PathBuf;

use super::trust::Untrusted;
use super::{Fault, Origin, Refused, shipped};
use crate::config::Size;

/// Why policies cannot be loaded. The running ones stay as they are.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Threads or memory are missing.
    #[error("policies cannot be run here: {0}")]
    Setup(String),
    /// A reload names another engine than the one that runs.
    #[error("policy.interpreter = {now} is in force, and only a restart changes it")]
    Engine {
        /// What is in force.
        now: bool,
    },
    /// Nobody waits for them any more.
    #[error("loading the policies was given up")]
    GivenUp,
    /// The id is no id.
    #[error("`{0}` is no policy id: write a-z, 0-9 and - alone, at most 64 of them")]
    Id(String),
    /// There is no such component.
    #[error(
        "there is no policy `{id}`: it is not shipped ({}), and there is no file {id}.wasm in policy.dir ({})",
        shipped::ids().collect::<Vec<_>>().join(", "),
        if dir.as_os_str().is_empty() { "not set".into() } else { dir.display().to_string() }
    )]
    Unknown {
        /// The id.
        id: String,
        /// The directory of component files.
        dir: PathBuf,
    },
    /// What stands at this place of the configuration cannot be loaded.
    #[error("{place}: {source}")]
    At {
        /// The setting.
        place: String,
        /// The reason.
        source: Box<Error>,
    },
    /// The directory of component files is not there, or cannot be looked into.
    #[error(
        "policy.dir = {path:?} is no directory that can be read, so the components in it would not count: {source}"
    )]
    Dir {
        /// The directory.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file name that nobody knows where to look for.
    #[error(
        "policies.{id}.module = {module:?} is relative to policy.dir, which is not set: set it, or write the whole path"
    )]
    Relative {
        /// The policy's id.
        id: String,
        /// The file's name.
        module: PathBuf,
    },
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A reload does not find the file that the component in force came from.
    #[error(
        "{path} is gone, which policy `{id}` came from: put it back. If another component is meant, restart, or change policy.dir \
         or policies.{id}.module"
    )]
    Gone {
        /// The policy's id.
        id: String,
        /// The file.
        path: PathBuf,
    },
    /// The file is too large to be a policy.
    #[error("{path} is larger than {} MiB, too large for a policy{}", room >> 20, size.way_out())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// How large it may be, in octets.
        room: usize,
        /// The class that it is in.
        size: Size,
    },
    /// The file is not the one that `sha256` names.
    #[error("policy `{id}` ({origin}) has SHA-256 {digest}, but policies.{id}.sha256 is {pinned}")]
    Digest {
        /// The id.
        id: String,
        /// Where the component came from.
        origin: Origin,
        /// Its digest.
        digest: String,
        /// The digest that the configuration wants.
        pinned: String,
    },
    /// Nobody who is trusted signed it, or not as what it is.
    #[error("policy `{id}` ({origin}) is refused: {why}")]
    Untrusted {
        /// The id.
        id: String,
        /// Where the component came from.
        origin: Origin,
        /// The reason.
        #[source]
        why: Untrusted,
    },
    /// It is older than the one that was in force here.
    #[cfg(feature = "filter")]
    #[error(transparent)]
    Floor(#[from] super::trust::floor::Error),
    /// The component is no policy.
    #[error("policy `{id}` ({origin}) is refused: {why}")]
    Refused {
        /// The id.
        id: String,
        /// Where the component came from.
        origin: Origin,
        /// The reason.
        why: Refused,
    },
    /// It faults before it has decided anything.
    #[error("policy `{id}` is refused: its {during} {fault}")]
    Fault {
        /// The id.
        id: String,
        /// The function that was called.
        during: &'static str,
        /// What happened.
        fault: Fault,
    },
    /// It asks for what no policy may see.
    #[error("policy `{id}` is refused: it asks for the field {name}, and no policy may see keys")]
    AsksForKeys {
        /// The id.
        id: String,
        /// The field.
        name: String,
    },
    /// It asks for a field that cannot exist.
    #[error("policy `{id}` is refused: it asks for `{name}`, which is no field name")]
    FieldName {
        /// The id.
        id: String,
        /// The name.
        name: String,
    },
    /// Its settings do not fit.
    #[error("policies.{id}.settings: {text}")]
    Settings {
        /// The id.
        id: String,
        /// What is wrong with them.
        text: String,
    },
    /// A case beside it fails.
    #[error("policy `{id}` is refused: {text}")]
    Cases {
        /// The policy's id.
        id: String,
        /// The file, the line, the case, and what is wrong.
        text: String,
    },
    /// A binding that must not be.
    #[error(
        "{place}: missing = \"{id}\" would drop mail without a key silently: forwarded and list mail lost its key on the \
         way. Take a policy that tells somebody, such as \"reject-notify-sender\""
    )]
    SilentDrop {
        /// The section of the configuration.
        place: String,
        /// The policy.
        id: String,
    },
}
