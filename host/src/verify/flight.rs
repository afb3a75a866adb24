//! Equal questions at the same time are asked once.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared, WeakShared};

/// Work in flight, by what it is about. It goes on while anybody waits for it, and is forgotten with the last of them. `S` is
/// what all who want the outcome share with the work: nothing, or who they are.
pub(super) struct Flights<K, V: Clone, S = ()> {
    running: Arc<Mutex<Running<K, V, S>>>,
}

/// What came of joining.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Joined<V> {
    /// The outcome.
    pub(super) outcome: V,
    /// Whether the work was begun for this call; otherwise it goes by another one's time.
    pub(super) is_own: bool,
}

impl<K, V, S> Flights<K, V, S>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
    S: Default + Send + Sync + 'static,
{
    pub(super) fn new() -> Flights<K, V, S> {
        Flights { running: Arc::new(Mutex::new(HashMap::new())) }
    }

    /// The outcome of the work about `key`: of that in flight, or else of `work`. `bring` adds to what both share. `admit`
    /// gives the place that one more holds while it waits for work in flight; absent where it gives none.
    pub(super) async fn join<W, P>(
        &self,
        key: K,
        bring: impl FnOnce(&S),
        admit: impl FnOnce() -> Option<P>,
        work: impl FnOnce(Arc<S>) -> W,
    ) -> Option<Joined<V>>
    where
        W: Future<Output = V> + Send + 'static,
    {
        let (shared, place) = self.running_or(key, bring, admit, work)?;
        Some(Joined { outcome: shared.await, is_own: place.is_none() })
    }

    fn running_or<W, P>(
        &self,
        key: K,
        bring: impl FnOnce(&S),
        admit: impl FnOnce() -> Option<P>,
        work: impl FnOnce(Arc<S>) -> W,
    ) -> Option<(Shared<BoxFuture<'static, V>>, Option<P>)>
    where
        W: Future<Output = V> + Send + 'static,
    {
        let mut running = lock(&self.running);
        if let Some((weak, share)) = running.get(&key)
            && let Some(shared) = weak.upgrade()
        {
            let place = admit()?;
            bring(share);
            return Some((shared, Some(place)));
        }
        let share = Arc::new(S::default());
        bring(&share);
        let (work, done, about) = (work(share.clone()), self.running.clone(), key.clone());
        let shared = async move {
            let outcome = work.await;
            lock(&done).remove(&about);
            outcome
        }
        .boxed()
        .shared();
        // Work that everybody gave up leaves its entry behind: swept here, so that the map stays as small as what is in flight.
        if running.len() >= running.capacity() {
            running.retain(|_, (weak, _)| weak.upgrade().is_some());
        }
        if let Some(weak) = shared.downgrade() {
            running.insert(key, (weak, share));
        }
        Some((shared, None))
    }
}

type Running<K, V, S> = HashMap<K, (WeakShared<BoxFuture<'static, V>>, Arc<S>)>;

fn lock<K, V: Clone, S>(running: &Mutex<Running<K, V, S>>) -> MutexGuard<'_, Running<K, V, S>> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn equal_questions_at_the_same_time_are_asked_once() {
        let (flights, asked) = (Flights::<u8, usize, Mutex<Vec<u8>>>::new(), Arc::new(AtomicUsize::new(0)));
        let ask = |key: u8, who: u8| {
            let asked = asked.clone();
            let work = move |share: Arc<Mutex<Vec<u8>>>| async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                asked.fetch_add(1, Ordering::SeqCst);
                share.lock().unwrap().len()
            };
            flights.join(key, move |share| share.lock().unwrap().push(who), || Some(()), work)
        };
        let (a, b, other) = tokio::join!(ask(1, 1), ask(1, 2), ask(2, 3));
        let (a, b, other) = (a.unwrap(), b.unwrap(), other.unwrap());
        assert_eq!((a.outcome, b.outcome, other.outcome), (2, 2, 1), "the work knows all who want it");
        assert_eq!((a.is_own, b.is_own, other.is_own), (true, false, true));
        assert_eq!(asked.load(Ordering::SeqCst), 2);
        ask(1, 4).await;
        assert_eq!(asked.load(Ordering::SeqCst), 3);
        assert!(lock(&flights.running).is_empty());
    }

    #[tokio::test]
    async fn work_that_everybody_gave_up_is_done_anew() {
        let flights = Flights::<u8, u8>::new();
        let never = flights.join(1, |()| {}, || Some(()), |_| std::future::pending::<u8>());
        assert!(tokio::time::timeout(Duration::from_millis(5), never).await.is_err());
        let anew = flights.join(1, |()| {}, || Some(()), |_| async { 7 }).await;
        assert_eq!(anew, Some(Joined { outcome: 7, is_own: true }));
    }

    #[tokio::test]
    async fn who_is_not_admitted_does_not_join_but_begins_what_nobody_has_begun() {
        let flights = Flights::<u8, u8>::new();
        let nobody = || None::<()>;
        let first = async {
            let work = |_| async {
                tokio::time::sleep(Duration::from_millis(20)).await;
                7
            };
            flights.join(1, |()| {}, nobody, work).await
        };
        let (first, second) = tokio::join!(first, flights.join(1, |()| {}, nobody, |_| async { 8 }));
        assert_eq!((first, second), (Some(Joined { outcome: 7, is_own: true }), None));
    }
}
