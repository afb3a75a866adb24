//! What hands mails over, and how many may wait for that.

use std::sync::Arc;

use addrauth::outbox::Letters;
use tokio::sync::Semaphore;

/// Hands mails over, some at once.
pub(crate) struct Post {
    pub(crate) letters: Arc<Letters>,
    pub(crate) room: Arc<Semaphore>,
}

impl Post {
    pub(crate) fn new(letters: Letters, most: usize) -> Post {
        Post { letters: Arc::new(letters), room: Arc::new(Semaphore::new(most)) }
    }
}
