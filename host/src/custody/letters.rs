//! Which users were told lately that their own rules cannot be read: their other messages need wait for no letter.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::case::{Case, Owed, Recipient};
use crate::proto::address::Mailbox;

/// Users who are remembered; those beyond are looked up in the outbox each time.
const MOST: usize = 10_000;

/// Users who were told, and when.
#[derive(Debug, Default)]
pub(super) struct Letters(Mutex<HashMap<Mailbox, Instant>>);

impl Letters {
    /// Takes out of what is owed the letters to users who were told in this time.
    pub(super) fn take_out(&self, case: &mut Case, pair: Duration) {
        if !case.reply.owed.iter().any(|owed| matches!(owed, Owed::RulesUnread(_))) {
            return;
        }
        let told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let was_told = |index: &usize| {
            let user = user(case.mail.recipients.get(*index));
            user.is_none_or(|user| told.get(&user).is_some_and(|at| at.elapsed() < pair))
        };
        let kept = case.reply.owed.iter().filter(|owed| !matches!(owed, Owed::RulesUnread(index) if was_told(index)));
        case.reply.owed = kept.cloned().collect();
    }

    /// Remembers the users to whom this case owed a letter.
    pub(super) fn remember(&self, case: &Case, pair: Duration) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for owed in &case.reply.owed {
            let Owed::RulesUnread(index) = owed else { continue };
            let Some(user) = user(case.mail.recipients.get(*index)) else { continue };
            if told.len() >= MOST {
                told.retain(|_, at| at.elapsed() < pair);
            }
            if told.len() < MOST {
                told.insert(user, Instant::now());
            }
        }
    }
}

fn user(recipient: Option<&Recipient>) -> Option<Mailbox> {
    Some(recipient?.address()?.mailbox())
}

/// Whether it owes letters and nothing else.
pub(super) fn are_all(case: &Case) -> bool {
    let owed = &case.reply.owed;
    !owed.is_empty() && owed.iter().all(|owed| matches!(owed, Owed::RulesUnread(_)))
}

/// The case without its letters.
pub(super) fn without(mut case: Case) -> Case {
    case.reply.owed.retain(|owed| !matches!(owed, Owed::RulesUnread(_)));
    case
}
