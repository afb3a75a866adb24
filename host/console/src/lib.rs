//! The web console of addrauth: what became of mail, the quarantine, and what each user chose; for administrators and users.
//!
//! It is a process of its own beside `addrauth filter`, over the same state directory. Every page has a URL, works without
//! JavaScript, and is in one table ([`table::TABLE`]) with the roles that may ask for it. What a role sees of a page is bounded by
//! recipients: whose mail somebody may see is asked of each row ([`who::Scope`]).

#![forbid(unsafe_code)]

mod answer;
mod attempts;
mod desk;
mod door;
mod entry;
mod fault;
mod form;
mod mail;
mod pages;
pub mod password;
mod post;
mod running;
pub mod secret;
pub mod table;
mod verbs;
mod visit;
pub mod who;

pub use desk::Verbs;
pub use running::{Error, Running, Start};
