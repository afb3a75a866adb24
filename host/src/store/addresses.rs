//! The addresses that get keys in time: their settings, and whose turn it is.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;

use super::Error;

/// An address that gets keys in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsRow {
    /// The address, folded.
    pub address: String,
    /// Its own AGI; absent: the configuration's.
    pub agi: Option<Duration>,
    /// Its own AVT; absent: the configuration's.
    pub avt: Option<Duration>,
    /// When it was put in.
    pub created: SystemTime,
    /// When it gets its next key.
    pub due: SystemTime,
}

/// The verbs of the AS about the addresses that get keys in time.
#[async_trait]
pub trait Addresses {
    /// Puts these addresses (folded, of a domain) in, all of them or, on an error, none; returns how many are new.
    ///
    /// One that is in already keeps what it has but for an AGI or AVT that its row names. `progress` hears how many rows
    /// are written. Durable when it returns.
    async fn enlist(&self, rows: &[SettingsRow], progress: &mut (dyn FnMut(usize) + Send)) -> Result<u64, Error>;

    /// Writes AGI, AVT and turn of an address that is in; whether it is.
    async fn set(&self, row: &SettingsRow) -> Result<bool, Error>;

    /// Takes these addresses (folded) out and ends all their keys at this time, all of them or none; returns how many
    /// living keys that ended. Refused where one of them is not in.
    async fn strike(&self, addresses: &[String], at: SystemTime) -> Result<u64, Error>;

    /// The settings of an address (folded), if it is in.
    async fn settings(&self, address: &str) -> Result<Option<SettingsRow>, Error>;

    /// All addresses that are in, or those of a domain, in alphabetical order.
    async fn enlisted(&self, domain: Option<&str>) -> Result<Vec<SettingsRow>, Error>;

    /// Those of these domains whose turn has come, the longest overdue first, at most this many.
    async fn due(&self, domains: &[String], now: SystemTime, most: u32) -> Result<Vec<SettingsRow>, Error>;

    /// How many turns come in a second, on average; `agi` stands in for those that have none of their own.
    async fn turns_per_second(&self, agi: Duration) -> Result<f64, Error>;
}
