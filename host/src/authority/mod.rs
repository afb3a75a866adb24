//! The AS role: issue keys to addresses of its domains, post them, and answer VERIFY for them.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//! use addrauth::{authority::Authority, config::{Config, Limits}};
//!
//! let config = Config::read("/etc/addrauth/addrauth.toml".as_ref())?;
//! let authority = Arc::new(Authority::open(&config, &Arc::new(Limits::default())).await?);
//! let sockets = authority.bind()?;
//! authority.serve(sockets, tokio_util::sync::CancellationToken::new()).await;
//! # Ok(()) }
//! ```

mod addresses;
mod answer;
mod asked;
mod datagrams;
mod fetch;
mod forged;
mod hold;
mod in_time;
mod issue;
mod post;
mod rate;
mod refusals;
pub mod schedule;
mod seats;
mod stream;
mod ticks;
mod udp;
mod waiting;
mod weigh;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

pub use addresses::{Enlisted, Intervals};
pub use forged::{Forged, SeenBy};
use humantime_serde::re::humantime::format_duration;
pub use in_time::{FullAddress, IssuedInTime};
pub use issue::{Issued, KeyState, Listed, OwedKey};
pub use post::{AskEverywhere, PostTurn, Poster};
pub use stream::Streams;

use crate::config::{Config, Deliver, Limits};
use crate::outbox;
use crate::proto::address::{Domain, Mailbox};
use crate::proto::key::{Checker, VerifyKey};
use crate::pulse::Pulse;
use crate::store::{self, KeyTable, Opening};
use crate::tls;
use asked::Asked;
use forged::Counts;
use hold::Lately;
use rate::InvalidAnswers;

/// The wall clock, as a seam: keys end by it.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> SystemTime + Send + Sync>);

impl Clock {
    /// The system's clock.
    pub fn system() -> Clock {
        Clock(Arc::new(SystemTime::now))
    }

    /// Another clock.
    pub fn new(now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Clock {
        Clock(Arc::new(now))
    }

    /// The time.
    pub fn now(&self) -> SystemTime {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

/// What can go wrong in the AS role.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No domain to answer for.
    #[error(
        "authority.domains is empty: name the domains whose addresses this server gives keys to, such as domains = [\"example.com\"]"
    )]
    NoDomains,
    /// Nowhere to answer.
    #[error("authority.listen is empty: name where to answer VERIFY, such as listen = [\"192.0.2.1:4410\"]")]
    NoListen,
    /// An address of another domain.
    #[error(
        "{address} is in no domain of this Authentication Server ({domains}): add its domain to authority.domains first"
    )]
    OtherDomain {
        /// The address.
        address: String,
        /// Those of the configuration.
        domains: String,
    },
    /// A listening address that cannot be had.
    #[error(
        "cannot listen on UDP {address}: {source}. Is another server running there, or is the address not this machine's? See authority.listen"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A TCP port that cannot be had.
    #[error(
        "cannot listen on TCP {address} for TLS: {source}. Is another server running there? TLS has the addresses and ports of authority.listen"
    )]
    ListenTls {
        /// The address.
        address: SocketAddr,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Certificate or key.
    #[error("[authority.tls]: {0}")]
    Tls(#[from] tls::Error),
    /// A token that anybody could guess, or that does not fit a line.
    #[error(
        "{path} holds no token: 32 to 128 printable characters without spaces are needed, such as those of `openssl rand -hex 32`"
    )]
    Token {
        /// Its file.
        path: PathBuf,
    },
    /// Keys cannot be handed out.
    #[error(
        "authority.fetch_token_file is set, but this login may not read the keys that are to be handed out ({source}). Make it a member of addrauth_stamp too, such as with `GRANT addrauth_stamp TO ...`: they stay sealed to who stamps"
    )]
    FetchRight {
        /// What the database said.
        source: store::Error,
    },
    /// No random octets.
    #[error("the operating system gives no random octets: {0}")]
    Random(getrandom::Error),
    /// A lifetime beyond what a clock can say.
    #[error("authority.agi and authority.avt together are longer than a clock can count")]
    Lifetime,
    /// No key of the address has this fingerprint.
    #[error("{address} has no living key {fingerprint}: `addrauth key show {address}` lists them")]
    NoSuchKey {
        /// The address.
        address: String,
        /// What was asked for.
        fingerprint: String,
    },
    /// A domain of others.
    #[error("{domain} is no domain of this Authentication Server ({domains}): authority.domains names them")]
    NoDomain {
        /// What was asked for.
        domain: String,
        /// Those of the configuration.
        domains: String,
    },
    /// The address gets no keys in time.
    #[error("{address} is not in the table of addresses: `addrauth address add {address}` puts it in")]
    NotEnlisted {
        /// The address.
        address: String,
    },
    /// An AGI or AVT that cannot be kept.
    #[error(
        "{name} of {} is not between one hour and 115 days: write one such as 5d (d is days, h hours, m minutes, M months)",
        format_duration(*.wanted)
    )]
    Interval {
        /// Which of the two.
        name: &'static str,
        /// What was wished for.
        wanted: Duration,
    },
    /// Keys that would be stamped for a shorter time than they live, and before the next one is there.
    #[error(
        "AGI and AVT are {} together: a server tells at most 9999999 seconds (115 days) of a key's time, and mail would be without one before the next is made. Choose a shorter AGI or AVT",
        format_duration(*.lifetime)
    )]
    LongLived {
        /// Their sum.
        lifetime: Duration,
    },
    /// An AGI so short, beside AVT, that too many keys would live at once.
    #[error(
        "AVT is {living} times AGI: an address may have {most} older keys at once, choose a longer AGI or a shorter AVT"
    )]
    ManyKeys {
        /// How many older keys there would be.
        living: u64,
        /// How many there may be.
        most: u64,
    },
    /// A key that nobody would bring to its address.
    #[error(
        "authority.deliver = \"nobody\", so nobody would post a new key to {address}, and its older ones would end: `addrauth key issue {address}` prints one, or set authority.deliver = \"mail\""
    )]
    NobodyPosts {
        /// The address.
        address: String,
    },
    /// The keyring still has a key that does not count any more.
    #[error(
        "the keys are revoked, but the keyring may still have one, and mail be stamped with it: {source}. Try again, or `addrauth keyring forget ADDRESS`"
    )]
    StillStamped {
        /// Why it could not be taken out.
        source: store::Error,
    },
    /// The mails that bring keys cannot be written or sent.
    #[error(transparent)]
    Outbox(#[from] outbox::Error),
    /// The database.
    #[error(transparent)]
    Store(store::Error),
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Error {
        match error {
            store::Error::NotEnlisted { address } => Error::NotEnlisted { address },
            other => Error::Store(other),
        }
    }
}

/// How the keys of all addresses stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Keys that are still to be sent to their addresses.
    pub owed: u64,
    /// Seconds for which the oldest of them has waited.
    pub waits: u64,
    /// Addresses that are to have a key.
    pub addresses: u64,
    /// Of these, those without a living one.
    pub without: u64,
}

/// An Authentication Server: its table of keys, and what it needs to answer.
#[derive(Debug)]
pub struct Authority {
    keys: Arc<dyn KeyTable>,
    domains: Vec<Domain>,
    listen: Vec<SocketAddr>,
    agi: Duration,
    avt: Duration,
    deliver: Deliver,
    state_dir: PathBuf,
    /// Whether other hosts have the same table.
    shared: bool,
    /// Where the keyring is, if this server is known to reach it.
    keyring_at: Option<Box<Config>>,
    limits: Arc<Limits>,
    clock: Clock,
    invalid: Mutex<InvalidAnswers>,
    /// The same over TLS: whoever forges the source of datagrams spends none of these.
    invalid_streams: Mutex<InvalidAnswers>,
    /// Whether questions may be asked over TLS instead.
    offers_tls: bool,
    /// Answers since the start: valid, invalid, unverified.
    answered: [AtomicU64; 3],
    /// INVALIDKEY answers that are not written down yet.
    forged: Mutex<Counts>,
    /// Whether the table could not be read last time.
    troubled: AtomicBool,
    /// Stands in where an address has too few keys, so that each question costs the same work.
    dummy: Checker,
    /// The keys of addresses that were asked about lately.
    asked: Asked,
    /// How long readings of keys took of questions that a socket's thread received as a step began, and of others.
    readings: Arc<[Lately; 2]>,
    /// One for each of `listen`, answered by the thread that waits for questions on its UDP socket.
    pulses: Vec<Arc<Pulse>>,
}

impl Authority {
    /// Opens the table of keys where `[store]` says; makes it where there is none.
    pub async fn open(config: &Config, limits: &Arc<Limits>) -> Result<Authority, Error> {
        Authority::with_clock(config, limits, Clock::system()).await
    }

    /// The same, with a clock of the caller's.
    pub async fn with_clock(config: &Config, limits: &Arc<Limits>, clock: Clock) -> Result<Authority, Error> {
        if config.authority.domains.is_empty() {
            return Err(Error::NoDomains); // before anything is made on the disk
        }
        let opening = Opening { busy: limits.store.busy, readers: limits.store.readers };
        Authority::over(store::open_keys(config, opening).await?, config, limits, clock)
    }

    /// An AS over a table that the caller opened.
    pub fn over(
        keys: Arc<dyn KeyTable>,
        config: &Config,
        limits: &Arc<Limits>,
        clock: Clock,
    ) -> Result<Authority, Error> {
        let domains = config.authority.domains.clone();
        if domains.is_empty() {
            return Err(Error::NoDomains);
        }
        check(config, limits)?;
        let mut dummy = [0; 32];
        getrandom::fill(&mut dummy).map_err(Error::Random)?;
        let asked = Asked::new(&limits.authority, keys.log().is_some());
        let authority = Authority {
            keys,
            domains,
            listen: config.authority.listen.clone(),
            agi: config.authority.agi,
            avt: config.authority.avt,
            deliver: config.authority.deliver,
            state_dir: config.state_dir.0.clone(),
            shared: !config.store.url.is_empty(),
            keyring_at: reaches_keyring(config).then(|| Box::new(config.clone())),
            limits: limits.clone(),
            clock,
            invalid: Mutex::new(InvalidAnswers::new(
                limits.authority.invalid_answers,
                limits.authority.invalid_networks,
            )),
            invalid_streams: Mutex::new(InvalidAnswers::new(
                limits.authority.invalid_answers,
                limits.authority.invalid_networks,
            )),
            offers_tls: config.authority.tls.is_on(),
            answered: Default::default(),
            forged: Mutex::new(Counts::new(limits.authority.forged_waiting)),
            troubled: AtomicBool::new(false),
            dummy: VerifyKey::from_octets(dummy).checker(),
            asked,
            readings: Arc::new([Lately::new(), Lately::new()]),
            pulses: config.authority.listen.iter().map(|_| Arc::default()).collect(),
        };
        authority.warn_of_short_avt();
        Ok(authority)
    }

    /// The domains it answers for.
    pub fn domains(&self) -> &[Domain] {
        &self.domains
    }

    /// Answers since the start, by what was found.
    pub fn answered(&self) -> [(&'static str, u64); 3] {
        let [valid, invalid, unverified] = &self.answered;
        [("valid", valid), ("invalid", invalid), ("unverified", unverified)]
            .map(|(word, count)| (word, count.load(Ordering::Relaxed)))
    }

    /// Whether the table can be read.
    ///
    /// # Errors
    /// It cannot.
    pub async fn is_readable(&self) -> Result<(), Error> {
        self.keys.owing().await?;
        Ok(())
    }

    /// How the keys of all addresses stand now: this reads the whole table.
    ///
    /// # Errors
    /// The table cannot be read.
    pub async fn standing(&self) -> Result<Standing, Error> {
        let now = self.clock.now();
        let (owing, running_out) = (self.keys.owing().await?, self.keys.running_out(now, now).await?);
        let waits = owing.oldest.and_then(|oldest| now.duration_since(oldest).ok()).unwrap_or_default();
        let (addresses, without) = (running_out.addresses, running_out.without);
        Ok(Standing { owed: owing.waiting, waits: waits.as_secs(), addresses, without })
    }

    /// What tells of each UDP socket, in the order of [`Authority::bind`], whether its thread waits for questions.
    pub fn pulses(&self) -> Vec<Arc<Pulse>> {
        self.pulses.clone()
    }

    /// Closes the table; from then on every answer is `e=temp`.
    pub async fn close(&self) {
        self.asked.close();
        self.keys.close().await;
    }

    /// The form under which an address of a question is looked up, where its domain is one of ours.
    fn own(&self, address: &str) -> Option<String> {
        let (local, domain) = address.rsplit_once('@')?;
        let domain = domain.to_ascii_lowercase();
        // An empty local part is an address that nobody has, and no reason to send the verifier elsewhere (SPECIFICATION §2.1).
        let folded = if local.is_empty() { format!("@{domain}") } else { Mailbox::parse(address)?.into() };
        self.domains.iter().any(|own| own.as_str() == domain).then_some(folded)
    }
}

/// Whether `authority.agi` and `authority.avt` can be kept, as [`Authority::check`] asks of those of an address.
pub fn check(config: &Config, limits: &Limits) -> Result<(), Error> {
    addresses::keepable("authority.agi", config.authority.agi, limits)?;
    addresses::keepable("authority.avt", config.authority.avt, limits)?;
    addresses::keepable_together(config.authority.agi, config.authority.avt, limits)
}

/// Whether the server would start with the files that are named, and the places to listen; makes and opens nothing.
pub fn check_files(config: &Config, limits: &Limits) -> Result<(), Error> {
    if config.authority.listen.is_empty() {
        return Err(Error::NoListen);
    }
    fetch::check(config)?;
    match config.authority.deliver {
        Deliver::Nobody => return Ok(()),
        Deliver::Mail => drop(outbox::KeyMails::from_config(config, limits)?),
        Deliver::Keyring => store::check_keyring_seal_to(config)?,
    }
    Ok(store::check_post_key(&config.state_dir.0)?)
}

/// Whether the keyring of who stamps is known to be the one that is opened here: keys are put straight into it, or it is in the
/// database that several hosts share.
fn reaches_keyring(config: &Config) -> bool {
    config.authority.deliver == Deliver::Keyring || !config.store.url.is_empty()
}
