//! The formats: bytes in, values out, no I/O.

pub mod address;
#[cfg(feature = "sqlite")]
pub mod fetch;
pub mod header;
pub mod key;
pub mod mark;
pub mod network;
pub mod preview;
pub mod record;
pub mod redact;
pub mod reply;
pub mod results;
#[cfg(feature = "sqlite")]
pub mod seal;
pub mod text;
pub mod whom;
pub mod wire;
