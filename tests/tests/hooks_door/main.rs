//! The door of MTA Hooks: what mail servers ask, and what they are answered, whatever goes wrong.

mod captured;
mod draft01;
mod plan;
mod trouble;
