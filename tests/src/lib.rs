//! Fakes and test beds: what the tests put around the daemon.
// Nothing here ships; a test bed that cannot be set up must stop the test where it stands.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod authority;
pub mod daemon;
pub mod dns;
pub mod fuzz;
pub mod milter;
pub mod postfix;
pub mod probe;
pub mod smtp;
pub mod world;
