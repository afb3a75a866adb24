//! `addrauth demo`: the whole exchange on loopback, in one process.

pub mod mta;
pub mod zone;
