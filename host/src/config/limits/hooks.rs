//! The bounds of MTA Hooks over HTTP.

use std::time::Duration;

/// What requests of mail servers may be made of, and how long they are kept.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Hooks {
    /// Octets of one request. A message of 25 MB, beyond which the bridge before Postfix does not ask, has 34 MB in base64; 8-bit
    /// octets that Stalwart escapes have more.
    pub request: usize,
    /// Octets of all requests at once. Beyond it a request is answered with 451.
    pub requests_octets: usize,
    /// Connections at once: Stalwart 0.15 makes one for each request, the bridge one for each hook in flight.
    pub connections: usize,
    /// How long our answer may take from the head of the request on: the bridge waits 20 s, Stalwart 30 s.
    pub answer: Duration,
    /// How long a connection may say nothing. Nobody has shown a credential before, so it is short; and longer than the 90 s after which
    /// clients close a connection themselves, since a request that crosses our closing is lost.
    pub idle: Duration,
    /// Mail servers that are registered at once; the one that was not used for longest makes room, and registers again.
    pub registrations: usize,
}

impl Default for Hooks {
    fn default() -> Hooks {
        Hooks {
            request: 64 * 1024 * 1024,
            requests_octets: 256 * 1024 * 1024,
            connections: 500,
            answer: Duration::from_secs(17),
            idle: Duration::from_secs(120),
            registrations: 100,
        }
    }
}
