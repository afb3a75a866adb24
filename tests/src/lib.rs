//! What the tests play against the daemon: servers that misbehave as told, and a mailbox.

pub mod authority;
pub mod mailbox;
pub mod world;
