//! Equal questions at the same time are asked once.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared, WeakShared};

/// Work in flight, by what it is about. It goes on while anybody waits for it, and is forgotten with the last of them.
pub(super) struct Flights<K, V: Clone> {
    running: Arc<Mutex<HashMap<K, WeakShared<BoxFuture<'static, V>>>>>,
}

impl<K: Clone + Eq + Hash + Send + 'static, V: Clone + Send + Sync + 'static> Flights<K, V> {
    pub(super) fn new() -> Flights<K, V> {
        Flights { running: Arc::default() }
    }

    /// The outcome of the work about `key`: of that in flight, or else of `work`.
    pub(super) async fn join<W>(&self, key: K, work: impl FnOnce() -> W) -> V
    where
        W: Future<Output = V> + Send + 'static,
    {
        let shared = self.running_or(key, work);
        shared.await
    }

    fn running_or<W>(&self, key: K, work: impl FnOnce() -> W) -> Shared<BoxFuture<'static, V>>
    where
        W: Future<Output = V> + Send + 'static,
    {
        let mut running = lock(&self.running);
        if let Some(shared) = running.get(&key).and_then(WeakShared::upgrade) {
            return shared;
        }
        let (work, done, about) = (work(), self.running.clone(), key.clone());
        let shared = async move {
            let outcome = work.await;
            lock(&done).remove(&about);
            outcome
        }
        .boxed()
        .shared();
        // Work that everybody gave up leaves its entry behind: swept here, so that the map stays as small as what is in flight.
        if running.len() >= running.capacity() {
            running.retain(|_, weak| weak.upgrade().is_some());
        }
        if let Some(weak) = shared.downgrade() {
            running.insert(key, weak);
        }
        shared
    }
}

type Running<K, V> = HashMap<K, WeakShared<BoxFuture<'static, V>>>;

fn lock<K, V: Clone>(running: &Mutex<Running<K, V>>) -> MutexGuard<'_, Running<K, V>> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn equal_questions_at_the_same_time_are_asked_once() {
        let (flights, asked) = (Flights::new(), Arc::new(AtomicUsize::new(0)));
        let ask = |key: u8| {
            let asked = asked.clone();
            flights.join(key, move || async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                asked.fetch_add(1, Ordering::SeqCst)
            })
        };
        let (a, b, other) = tokio::join!(ask(1), ask(1), ask(2));
        assert_eq!((a, a != other, asked.load(Ordering::SeqCst)), (b, true, 2));
        ask(1).await;
        assert_eq!(asked.load(Ordering::SeqCst), 3);
        assert!(lock(&flights.running).is_empty());
    }

    #[tokio::test]
    async fn work_that_everybody_gave_up_is_done_anew() {
        let flights = Flights::new();
        let never = flights.join(1, std::future::pending::<u8>);
        assert!(tokio::time::timeout(Duration::from_millis(5), never).await.is_err());
        assert_eq!(flights.join(1, || async { 7 }).await, 7);
    }
}
