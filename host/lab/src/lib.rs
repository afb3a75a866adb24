//! What the demonstration and the tests play the outside world with: a DNS zone, a mail server before its milter, a mailbox.
//!
//! Everything listens on loopback. Nothing of it is part of the library: a program that takes mail from the network has no
//! use for it.

#![forbid(unsafe_code)]

pub mod mailbox;
pub mod mta;
pub mod zone;
