//! The bounds of figures over HTTP.

use std::time::Duration;

/// What those who ask for figures may take.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Metrics {
    /// Connections at once: a collector or two, and somebody who looks.
    pub connections: usize,
    /// How long a connection may last in all. A collector asks every some seconds, and comes again.
    pub connection: Duration,
    /// How long a request may take to come: whoever says nothing must not keep others out.
    pub head: Duration,
    /// How long store and DNS may take before a daemon counts as not ready.
    pub ready: Duration,
    /// Domains of ours whose keys have figures of their own; the others are told of as one, so that a provider with ten
    /// thousand domains does not fill its collector.
    pub domains: usize,
    /// How long the figures of all keys are believed: finding them out reads the whole table.
    pub believed: Duration,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics {
            connections: 16,
            connection: Duration::from_secs(60),
            head: Duration::from_secs(5),
            ready: Duration::from_secs(3),
            domains: 20,
            believed: Duration::from_secs(60),
        }
    }
}
