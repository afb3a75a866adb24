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
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics {
            connections: 16,
            connection: Duration::from_secs(60),
            head: Duration::from_secs(5),
            ready: Duration::from_secs(3),
        }
    }
}
