//! The door of MTA Hooks: what mail servers ask, and what they are answered, whatever goes wrong.

mod captured;
mod doors;
mod draft01;
mod fuzzed;
mod trouble;
mod verbs;
