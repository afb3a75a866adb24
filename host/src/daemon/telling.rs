//! What each daemon tells of itself over HTTP, where `[metrics]` says so.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::pages::{self, Told};
use super::watchdog::Health;
use crate::config::{Config, Limits, Listen, Metrics};
use crate::mta::listen::{Error, Listener};

/// How long a database may take before its figures are left out.
const SHORT: Duration = Duration::from_secs(1);

/// The places where a daemon tells of itself.
pub(super) struct Telling {
    section: Metrics,
    listeners: Vec<Listener>,
    places: Vec<Listen>,
}

impl Telling {
    /// Binds the places of the section; to be called inside the runtime that serves.
    ///
    /// # Errors
    /// One cannot be bound: then none is.
    pub(super) fn bind(metrics: &Metrics) -> Result<Telling, Error> {
        let listeners = pages::bind(metrics)?;
        let places = pages::places(&listeners);
        for place in &places {
            tracing::info!("figures are told on {place}");
        }
        Ok(Telling { section: metrics.clone(), listeners, places })
    }

    /// Whether there is a place.
    pub(super) fn is_open(&self) -> bool {
        !self.places.is_empty()
    }

    /// The places, with the ports that the system chose.
    pub(super) fn places(&self) -> &[Listen] {
        &self.places
    }

    /// Serves the pages until `stop`.
    pub(super) fn serve(mut self, told: impl Told, limits: &Arc<Limits>, stop: &CancellationToken) -> Telling {
        let listeners = std::mem::take(&mut self.listeners);
        tokio::spawn(pages::serve(listeners, Arc::new(told), Arc::clone(limits), stop.clone()));
        self
    }

    /// Says so where a reload brings another section.
    pub(super) fn warn_of(&self, config: &Config) {
        if config.metrics != self.section {
            tracing::warn!("the [metrics] section changed: restart to tell figures elsewhere");
        }
    }
}

/// What is found out by reading a whole table, and believed for a while; also that it cannot be told, since the table may be so
/// long that reading it takes too long each time.
pub(super) struct Believed<T> {
    known: Mutex<Option<(Instant, Option<T>)>>,
    span: Duration,
}

impl<T: Clone> Believed<T> {
    fn new(span: Duration) -> Believed<T> {
        Believed { known: Mutex::default(), span }
    }

    /// What is believed, or else what this finds out; nothing where that is not told in time.
    async fn or_of(&self, found: impl Future<Output = Option<T>>) -> Option<T> {
        let mut known = timeout(SHORT, self.known.lock()).await.ok()?;
        match &*known {
            Some((at, told)) if at.elapsed() < self.span => told.clone(),
            _ => {
                let told = timeout(SHORT, found).await.ok().flatten();
                *known = Some((Instant::now(), told.clone()));
                told
            }
        }
    }
}

#[cfg(all(feature = "filter", feature = "milter"))]
mod of_filter {
    use std::sync::Arc;
    use std::time::SystemTime;

    use tokio::sync::watch;
    use tokio::time::timeout;

    use super::super::figures::{Cache, DomainKeys, Figures, Standing, StepTimes, by_domain};
    use super::super::watched::{Hears, Watched};
    use super::{Believed, Health, SHORT, Telling, Told};
    use crate::config::Limits;
    use crate::filter::Filter;

    impl Telling {
        /// The figures of a filter, and what hears of each message, where there is a place to tell them.
        pub(in crate::daemon) fn figures(&self) -> (Option<Arc<Figures>>, Option<Hears>) {
            if !self.is_open() {
                return (None, None);
            }
            let figures = Arc::new(Figures::new());
            let heard = Arc::clone(&figures);
            (Some(figures), Some(Arc::new(move |step| heard.note(step))))
        }
    }

    /// A filter that tells of itself.
    pub(in crate::daemon) struct OfFilter {
        figures: Arc<Figures>,
        judge: watch::Receiver<Arc<Watched<Filter>>>,
        health: Arc<Health>,
        /// The domains of ours that have figures of their own.
        domains: usize,
        keys: Believed<Vec<DomainKeys>>,
    }

    impl OfFilter {
        pub(in crate::daemon) fn new(
            figures: Arc<Figures>,
            judge: watch::Receiver<Arc<Watched<Filter>>>,
            health: &Arc<Health>,
            limits: &Limits,
        ) -> OfFilter {
            let keys = Believed::new(limits.metrics.believed);
            OfFilter { figures, judge, health: Arc::clone(health), domains: limits.metrics.domains, keys }
        }

        fn filter(&self) -> Arc<Watched<Filter>> {
            Arc::clone(&self.judge.borrow())
        }

        /// How the keys of our own addresses stand; nothing where there are none.
        async fn keys(&self, filter: &Filter) -> Vec<DomainKeys> {
            let ages = async {
                let now = SystemTime::now();
                let ages = filter.own_keys().ages(now).await.ok()?;
                Some(by_domain(&ages.unwrap_or_default(), now, self.domains))
            };
            self.keys.or_of(ages).await.unwrap_or_default()
        }
    }

    /// How long the steps of the messages took.
    fn steps(filter: &Filter) -> Vec<StepTimes> {
        let steps = filter.steps();
        let all = [("verify", &steps.verify), ("decide", &steps.decide), ("keep", &steps.keep)];
        all.map(|(step, times)| StepTimes::of(step, times)).into()
    }

    /// What is remembered. How often an answer of an Authentication Server was, its own figure tells.
    fn caches(filter: &Filter) -> Vec<Cache> {
        let answers = filter.verifier().map(|verifier| (verifier.counted().remembered, None));
        let with_asked = |(entries, asked)| (entries, Some(asked));
        let choices = filter.custody().map(|custody| with_asked(custody.choices_remembered()));
        let rules = filter.policies().own_rules_remembered().map(with_asked);
        let all = [("answers", answers), ("choices", choices), ("rules", rules)];
        all.into_iter().filter_map(|(of, told)| told.map(|(entries, asked)| Cache { of, entries, asked })).collect()
    }

    impl Told for OfFilter {
        async fn figures(&self) -> String {
            let filter = self.filter();
            let policies = filter.policies().list().into_iter();
            let short = |digest: String| digest.get(..12).map(str::to_owned).unwrap_or(digest);
            let mut policies: Vec<_> =
                policies.map(|policy| (policy.id, short(policy.digest), policy.origin.to_string())).collect();
            let reader = filter.policies().reader_of_rules();
            policies.extend(reader.map(|(id, origin, digest)| (id.into(), short(digest.into()), origin.to_string())));
            let kept = match filter.custody() {
                // A disk that hangs takes these figures away, and no others.
                Some(custody) => timeout(SHORT, custody.standing()).await.ok().and_then(Result::ok),
                None => None,
            };
            let dns = filter.verifier().map(|verifier| verifier.counted()).map(|told| (told.lookups, told.questions));
            let keys = self.keys(&filter).await;
            let (steps, caches) = (steps(&filter), caches(&filter));
            self.figures.text(&Standing { policies, steps, caches, dns, keys, kept })
        }

        async fn trouble(&self) -> Option<String> {
            self.filter().trouble().await
        }

        fn health(&self) -> &Health {
            &self.health
        }
    }
}

#[cfg(all(feature = "filter", feature = "milter"))]
pub(super) use of_filter::OfFilter;

#[cfg(feature = "authority")]
mod of_authority {
    use std::sync::Arc;

    use prometheus_client::encoding::text::encode;
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::family::Family;
    use prometheus_client::metrics::gauge::Gauge;
    use prometheus_client::registry::Registry;

    use super::{Believed, Health, Told};
    use crate::authority::{Authority, Standing};
    use crate::config::Limits;

    /// An Authentication Server that tells of itself.
    pub(in crate::daemon) struct OfAuthority {
        authority: Arc<Authority>,
        health: Arc<Health>,
        standing: Believed<Standing>,
    }

    impl OfAuthority {
        pub(in crate::daemon) fn new(authority: &Arc<Authority>, health: &Arc<Health>, limits: &Limits) -> OfAuthority {
            let standing = Believed::new(limits.metrics.believed);
            OfAuthority { authority: Arc::clone(authority), health: Arc::clone(health), standing }
        }
    }

    impl Told for OfAuthority {
        async fn figures(&self) -> String {
            let mut registry = Registry::with_prefix("addrauth");
            let version: Family<[(&'static str, &'static str); 1], Gauge> = Family::default();
            version.get_or_create(&[("version", env!("CARGO_PKG_VERSION"))]).set(1);
            registry.register("build_info", "The version of the program", version);
            let answers: Family<[(&'static str, &'static str); 1], Counter> = Family::default();
            for (answer, count) in self.authority.answered() {
                answers.get_or_create(&[("answer", answer)]).inc_by(count);
            }
            registry.register("authority_answers", "Questions by their answer", answers);
            let standing = async { self.authority.standing().await.ok() };
            if let Some(standing) = self.standing.or_of(standing).await {
                for (name, help, value) in [
                    ("authority_keys_owed", "Keys that are still to be sent to their addresses", standing.owed),
                    ("authority_oldest_owed_seconds", "How long the oldest of them has waited", standing.waits),
                    ("authority_addresses", "Addresses that are to have a key", standing.addresses),
                    ("authority_addresses_without_key", "Of these, those without a living one", standing.without),
                ] {
                    let gauge: Gauge = Gauge::default();
                    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
                    registry.register(name, help, gauge);
                }
            }
            let mut text = String::new();
            // Writing into a string does not fail.
            let _ = encode(&mut text, &registry);
            text
        }

        async fn trouble(&self) -> Option<String> {
            self.authority.is_readable().await.err().map(|fault| format!("the table of keys cannot be read: {fault}"))
        }

        fn health(&self) -> &Health {
            &self.health
        }
    }
}

#[cfg(feature = "authority")]
pub(super) use of_authority::OfAuthority;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_found_is_believed_for_its_span_and_what_comes_too_late_is_not_tried_each_time() {
        let believed = Believed::new(Duration::from_secs(60));
        assert_eq!(believed.or_of(async { Some(1) }).await, Some(1));
        assert_eq!(believed.or_of(async { Some(2) }).await, Some(1));
        let believed = Believed::new(Duration::from_secs(60));
        assert_eq!(believed.or_of(std::future::pending()).await, None);
        assert_eq!(believed.or_of(async { Some(9) }).await, None, "it is not tried again so soon");
        let believed = Believed::new(Duration::ZERO);
        assert_eq!(believed.or_of(async { None }).await, None);
        assert_eq!(believed.or_of(async { Some(3) }).await, Some(3));
    }
}
