//! The bounds of the console.

use std::time::Duration;

/// What browsers may ask of the console, and how long things last there.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Console {
    /// Connections at once. A browser makes up to six; beyond the bound a new one is closed.
    pub connections: usize,
    /// How long a connection may wait for the head of a request: what is slower than that holds a seat in vain.
    pub head: Duration,
    /// How long a connection lasts at most, whatever it does. A browser makes another one.
    pub connection: Duration,
    /// How long the body of a request may take, and how long its answer.
    pub request: Duration,
    /// Octets of a form: a text of rules has up to `policy.own_rules`, and each octet of it may be written as three.
    pub form: usize,
    /// Octets of a message that is tried, or of a component.
    pub upload: usize,
    /// Forms and uploads that are read at once: they are held in memory.
    pub uploads: usize,
    /// Failed logins from one address, and those to one name, that are answered within `failures_in`. What comes beyond that is
    /// refused without a look at the password.
    pub failures: u32,
    /// The time within which failures are counted.
    pub failures_in: Duration,
    /// Addresses and names whose failures are remembered at once. Beyond it those that failed least, and longest ago, are forgotten.
    pub failing: usize,
    /// Passwords that are checked at once: each takes 19 MiB and 20 ms of a processor.
    pub checking: usize,
    /// Logins that wait for that. Beyond it they are refused.
    pub waiting: usize,
    /// How long a session lasts that is not used.
    pub session_idle: Duration,
    /// How long a session lasts at most.
    pub session: Duration,
    /// Sessions of one account or mailbox: a person has some browsers.
    pub sessions: u32,
    /// How long a link that lets a user in works: he asked for it just now.
    pub entrance: Duration,
    /// Links that let in which one mailbox is mailed in an hour, whoever asks for them.
    pub entrances_per_hour: u32,
    /// Mails that wait to be handed over. Beyond it none is made.
    pub mails: usize,
    /// How long a link in a digest works: over a weekend.
    pub link: Duration,
    /// Messages that a digest names. It says how many more there are.
    pub digest_messages: usize,
    /// Rows on a page.
    pub rows: usize,
    /// Rows that are read for one page: where few of many fit, the page is short and has a next one.
    pub looked: usize,
    /// Accounts at once.
    pub accounts: usize,
    /// How long it is kept who did what.
    pub acts_kept: Duration,
    /// Lines of a message in quarantine that are shown.
    pub preview_lines: usize,
    /// How long what the overview counts is remembered: counting reads the summaries of all blocks of the journal.
    pub overview_age: Duration,
}

impl Default for Console {
    fn default() -> Console {
        let (minute, hour, day) = (60, 3_600, 86_400);
        Console {
            connections: 200,
            head: Duration::from_secs(10),
            connection: Duration::from_secs(10 * minute),
            request: Duration::from_secs(20),
            form: 256 * 1024,
            upload: 26 * 1024 * 1024,
            uploads: 4,
            failures: 5,
            failures_in: Duration::from_secs(minute),
            failing: 10_000,
            checking: 2,
            waiting: 20,
            session_idle: Duration::from_secs(8 * hour),
            session: Duration::from_secs(7 * day),
            sessions: 10,
            entrance: Duration::from_secs(15 * minute),
            entrances_per_hour: 4,
            mails: 100,
            link: Duration::from_secs(3 * day),
            digest_messages: 50,
            rows: 50,
            looked: 20_000,
            accounts: 1_000,
            acts_kept: Duration::from_secs(400 * day),
            preview_lines: 60,
            overview_age: Duration::from_secs(10),
        }
    }
}
