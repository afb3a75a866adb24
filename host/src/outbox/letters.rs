//! Mails of a few words that somebody asked for: composed when they are sent, and kept nowhere.

use std::sync::Arc;
use std::time::SystemTime;

use super::compose::{Sender, seconds};
use super::send::{Failure, Server};
use super::{Error, bound_of, on_the_wire, server};
use crate::config::{Config, Limits};
use crate::proto::address::Address;
use crate::proto::header::MARK_FIELD;
use crate::proto::mark::MarkKey;

/// Who writes such mails, and through which server. They go out under our mark, so that they are not examined.
#[derive(Clone)]
pub struct Letters {
    sender: Sender,
    server: Server,
    mark: MarkKey,
    limits: Arc<Limits>,
}

impl std::fmt::Debug for Letters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Letters").field("sender", &self.sender).finish_non_exhaustive()
    }
}

impl Letters {
    /// From `notices.from`, through `notices.notify_via`. It connects to nothing yet.
    ///
    /// # Errors
    /// A setting that cannot be used.
    pub fn open(config: &Config, limits: &Arc<Limits>, mark: MarkKey) -> Result<Letters, Error> {
        let sender = Sender::from_config(config, limits)?;
        let server = server(config, &sender, limits)?;
        Ok(Letters { sender, server, mark, limits: Arc::clone(limits) })
    }

    /// The address of the mail's author: whom a reader may ask.
    pub fn postmaster(&self) -> &str {
        &self.sender.from
    }

    /// Sends one mail, with the null reverse-path: a bounce of it is of no use to anybody.
    ///
    /// # Errors
    /// Why it was not taken.
    pub async fn send(&self, to: &Address, subject: &str, body: &str, now: SystemTime) -> Result<(), Failure> {
        let to = to.to_string();
        let unwritten = || Failure { lasting: true, text: "the mail cannot be written".into() };
        let (_, letter) = self.sender.letter(&to, seconds(now), subject.to_owned()).map_err(|_| unwritten())?;
        let letter = letter.text_body(body.to_owned()).write_to_vec().map_err(|_| unwritten())?;
        let mark = self.mark.write(now, "", &to, &bound_of(&letter, &self.limits));
        self.server.take("", &to, &on_the_wire(&format!("{MARK_FIELD}: {mark}\r\n"), &letter)).await
    }
}
