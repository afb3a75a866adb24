//! What keeps a request from its answer.

use addrauth::{policy, store, why};

/// Why there is no answer as it was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// Nobody is signed in.
    #[error("sign in first")]
    SignIn,
    /// The role is not for this page.
    #[error("this page is not for your role")]
    Denied,
    /// There is no such page or message, or it is not one that may be seen.
    #[error("there is no such page or message, or it is none of yours")]
    NotFound,
    /// The form is not one of ours, or is too old.
    #[error("the form was not made for this browser, or is too old: load the page again, and send it once more")]
    Form,
    /// Too much was sent.
    #[error("that is more than is taken here")]
    TooLarge,
    /// Too many tries.
    #[error("too many tries: wait a minute, and try again")]
    TooMany,
    /// It took too long.
    #[error("that took too long")]
    Late,
    /// What was asked for cannot be done, and why.
    #[error("{0}")]
    Refused(String),
    /// The database.
    #[error("the database cannot be used now")]
    Store(#[source] store::Error),
    /// Something else of ours.
    #[error("something went wrong here; the log of addrauth-console has more")]
    Trouble(String),
}

impl Fault {
    /// The status of the answer.
    pub(crate) fn status(&self) -> u16 {
        match self {
            Fault::SignIn => 401,
            Fault::Denied | Fault::Form => 403,
            Fault::NotFound => 404,
            Fault::Late => 408,
            Fault::TooLarge => 413,
            Fault::Refused(_) => 422,
            Fault::TooMany => 429,
            Fault::Store(_) => 503,
            Fault::Trouble(_) => 500,
        }
    }

    /// What the log is told; what a stranger can bring about at will is not.
    pub(crate) fn log(&self) {
        match self {
            Fault::Store(source) => tracing::error!("a page cannot be shown: {source}"),
            Fault::Trouble(text) => tracing::error!("a page cannot be shown: {text}"),
            _ => {}
        }
    }
}

impl From<store::Error> for Fault {
    /// What is said of a message is an answer.
    fn from(error: store::Error) -> Fault {
        use store::Error::{AlreadyEnded, NoMessage, NoSender, NoSuchRecipient, TooManyAllowed};
        match error {
            NoMessage { .. } | NoSuchRecipient { .. } => Fault::NotFound,
            AlreadyEnded { .. } => Fault::Refused("somebody was quicker: it is released or deleted already".into()),
            NoSender { .. } => Fault::Refused("the message names no sender that could be wanted".into()),
            TooManyAllowed { most, .. } => {
                Fault::Refused(format!("the list of wanted senders is full: it has {most} entries"))
            }
            error => Fault::Store(error),
        }
    }
}

impl From<why::Error> for Fault {
    fn from(error: why::Error) -> Fault {
        match error {
            why::Error::Store(error) => error.into(),
            other => Fault::Trouble(other.to_string()),
        }
    }
}

impl From<policy::NotChosen> for Fault {
    fn from(error: policy::NotChosen) -> Fault {
        Fault::Refused(error.to_string())
    }
}
