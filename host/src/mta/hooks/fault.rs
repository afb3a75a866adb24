//! Why a request is not answered as its message deserves.

use crate::mta::{FOR_NOW, NOT_UNDERSTOOD, Refused, TOO_LARGE};

/// Why a request is not answered as its message deserves: see [`Fault::reply`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The message is not taken.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Somebody asks who may not.
    #[error("it shows no credential of hooks.tokens or hooks.basic")]
    Denied,
    /// It is not of the dialect.
    #[error("it is not understood: {0}")]
    Malformed(String),
    /// It has more octets than `limits.hooks.request`.
    #[error("the request has more than {0} octets")]
    TooLarge(usize),
    /// It did not come in to its end.
    #[error("the request broke off: {0}")]
    BrokeOff(String),
    /// Answering panicked.
    #[error("answering panicked")]
    Panicked,
}

impl Fault {
    /// What the SMTP client is told of its message: code, enhanced status code and text. See [`Refused::reply`].
    pub fn reply(&self) -> &'static str {
        match self {
            Fault::Refused(refused) => refused.reply(),
            Fault::Denied | Fault::Malformed(_) => NOT_UNDERSTOOD,
            Fault::TooLarge(_) => TOO_LARGE,
            Fault::BrokeOff(_) | Fault::Panicked => FOR_NOW,
        }
    }
}

/// A reply in its parts: code, enhanced status code, text.
pub(super) fn parts(reply: &str) -> (u16, &str, &str) {
    let mut words = reply.splitn(3, ' ');
    let code = words.next().and_then(|code| code.parse().ok()).unwrap_or(550);
    (code, words.next().unwrap_or("5.7.1"), words.next().unwrap_or_default())
}
