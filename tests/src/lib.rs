//! What the tests play against the daemon: servers that misbehave as told.

pub mod authority;
