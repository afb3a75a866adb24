//! Locate the AS in DNS, ask it, remember the answer.
//!
//! Questions go over UDP, with a proof and never with the key; over TLS when the AS asks for that (`e=stream`), when it takes
//! nothing else, when UDP came to nothing, and before a silent drop where there is no second endpoint. The key itself goes out
//! to an AS that takes no proof (`h=none`), over TLS alone and after its certificate has passed. A certificate passes by PKIX
//! for the AS's host name: there is no TLSA, since DNS answers are not validated here.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::case::{Answerer, Found, KeyStatus, Limited, Mail, Postponed, Why};
use crate::config::{self, Limits};
use crate::proto::address::{Address, Domain};
use crate::proto::key::AuthKey;
use crate::proto::record::Claim;
use crate::proto::wire::Answer;
use crate::tls::{self, Connector};

use ask::Asker;
pub use bringer::Bringer;
use bringer::{Proven, Sponsor, Sponsors};
use cache::{Mark, Memory};
use flight::Flights;
pub use inquiry::Said;
use inquiry::{Inquiry, Verdict};
use locate::Locator;
pub use locate::{Endpoint, Endpoints, Failure, NameServers, Offers, Published, Records, Texts};
use peers::Over;

pub use everywhere::Unasked;
pub use guard::{Refused, is_internal};

mod ask;
mod bringer;
mod cache;
mod everywhere;
mod exchange;
mod flight;
mod gate;
mod guard;
mod inquiry;
mod locate;
mod peers;
mod schedule;
mod stream;

/// How long after a question's own deadline its outcome is still awaited: it ends by itself, a little late at worst.
const GRACE: Duration = Duration::from_millis(50);

/// Why verification cannot begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No resolver can be made of the configuration.
    #[error("cannot set the DNS resolver up ({0}): name servers in `verify.dns`, or see /etc/resolv.conf")]
    Resolver(String),
    /// The file of root certificates cannot be used.
    #[error("verify.tls_roots: {0}")]
    Roots(#[from] tls::Error),
}

/// Finds out whether key and sender address of a message belong together.
pub struct Verifier {
    shared: Arc<Shared>,
    timeout: Duration,
    locations: Flights<Domain, Published>,
    questions: Flights<Mark, Verdict, Sponsors>,
    confirmations: Flights<Mark, Verdict, Sponsors>,
}

/// How much a verifier remembers, and how much it asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counted {
    /// Verdicts of Authentication Servers that are remembered, some of them too old to be used.
    pub remembered: usize,
    /// Names looked up in DNS since the start, most of them in memory.
    pub lookups: u64,
    /// Questions that were sent to name servers.
    pub questions: u64,
}

/// A budget for questions was spent before anybody decided: the message is to come again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetSpent {
    /// What is known of it nevertheless: `unverified`, without a reason. To be used only where nothing hangs on it.
    pub found: Found,
    /// Whose budget it was.
    pub limited: Limited,
}

impl BudgetSpent {
    /// Why the message is put off.
    pub fn postponed(&self) -> Postponed {
        let domain = self.found.sender.as_ref().map(|sender| sender.domain().to_string());
        Postponed::Limited { domain: domain.unwrap_or_default(), by: self.limited }
    }
}

/// What the verifier shares with its questions in flight.
struct Shared {
    locator: Locator,
    asker: Asker,
    memory: Memory,
    proven: Proven,
    limits: Arc<Limits>,
}

impl Verifier {
    /// `hostname` is our own name, told to the AS for its log. Fails where no name server is known.
    pub fn new(config: &config::Verify, hostname: &str, limits: &Arc<Limits>) -> Result<Verifier, Error> {
        let shared = Shared {
            locator: Locator::new(config, limits).map_err(|error| Error::Resolver(error.to_string()))?,
            asker: Asker::new(hostname, Connector::new(&config.tls_roots)?, limits),
            memory: Memory::new(limits),
            proven: Proven::new(limits),
            limits: limits.clone(),
        };
        Ok(Verifier {
            shared: Arc::new(shared),
            timeout: config.timeout,
            locations: Flights::new(),
            questions: Flights::new(),
            confirmations: Flights::new(),
        })
    }

    /// What is to be found out about an inbound message: one of the six results, within `verify.timeout`.
    ///
    /// They are decided in the order of the list in the manual: `unusable` first, so that a bad key is one whether the domain
    /// takes part or not. DNS is asked for every message with a usable From, since policies want the domain's claim.
    ///
    /// # Errors
    /// A budget for questions was spent, ours or the AS's, and nobody decided: a flood of forged mail must not be let through
    /// by that.
    pub async fn verify(&self, mail: &Mail) -> Result<Found, Box<BudgetSpent>> {
        let deadline = Instant::now() + self.timeout;
        let sender = match mail.sender() {
            Ok(sender) => sender.clone(),
            Err(why) => return Ok(Found::bare(KeyStatus::Unusable, Some(why), None)),
        };
        let published = self.published(sender.domain(), deadline).await;
        match mail.key() {
            Ok(_) if mail.head().malformed => {
                Ok(unknown(KeyStatus::Unusable, Some(Why::MalformedHeader), sender, &published))
            }
            Err(why) => Ok(unknown(KeyStatus::Unusable, Some(why), sender, &published)),
            Ok(key) => self.judge(sender, key, &Bringer::of(mail), published, deadline).await,
        }
    }

    /// Asks about an address and a key without a message; the cache is not looked into.
    ///
    /// # Errors
    /// As [`Verifier::verify`].
    pub async fn question(&self, address: &Address, key: &AuthKey) -> Result<Found, Box<BudgetSpent>> {
        Ok(self.prove(address, key, &Bringer::Local).await?.0)
    }

    /// The same about what this bringer brings, and for how long the key is still good, where it is and the AS says so.
    ///
    /// # Errors
    /// As [`Verifier::verify`].
    pub async fn prove(
        &self,
        address: &Address,
        key: &AuthKey,
        bringer: &Bringer,
    ) -> Result<(Found, Option<Duration>), Box<BudgetSpent>> {
        let deadline = Instant::now() + self.timeout;
        let published = self.published(address.domain(), deadline).await;
        if let Some((status, why)) = hindrance(&published) {
            return Ok((unknown(status, why, address.clone(), &published), None));
        }
        let sponsor = self.shared.proven.sponsor(bringer, address, Instant::now());
        let verdict = self.ask(address, key, sponsor, &published, deadline).await;
        let valid_for = match verdict.said {
            Said::Valid { valid_for } => valid_for.map(|seconds| Duration::from_secs(seconds.into())),
            _ => None,
        };
        Ok((told(address.clone(), &published, verdict)?, valid_for))
    }

    /// Remembers what an AS said so long ago, as if this verifier had asked: for those who try the cache against the test
    /// vectors of the specification.
    pub fn remember(&self, address: &Address, key: &AuthKey, answer: &Answer, ago: Duration) {
        let verdict = Verdict { said: Said::by(answer), endpoint: None, over: Over::Udp };
        // What is older than this machine's clock is older than the cache keeps anything.
        if let Some(then) = Instant::now().checked_sub(ago) {
            self.shared.memory.remember(address, &key.verify_key(), &verdict, then);
        }
    }

    /// Whether DNS answers questions about this domain, whatever the answer.
    pub async fn reaches_dns(&self, domain: &Domain) -> bool {
        let published = self.published(domain, Instant::now() + self.timeout).await;
        !matches!(published, Published::Failed(Failure::Dns { .. } | Failure::Timeout(_)))
    }

    /// What it remembers, and what it asked DNS.
    pub fn counted(&self) -> Counted {
        let (lookups, questions) = self.shared.locator.counted();
        Counted { remembered: self.shared.memory.len(), lookups, questions }
    }

    /// What a domain publishes about its AS, and the addresses that would be asked.
    pub async fn locate(&self, domain: &Domain) -> (Published, Endpoints) {
        let deadline = Instant::now() + self.timeout;
        let published = self.published(domain, deadline).await;
        let endpoints = self.shared.endpoints(&published, deadline).await.unwrap_or_default();
        (published, endpoints)
    }

    /// The texts that begin `AS=` at `_addrauth.` and the domain, and at the domain itself, with those names: what
    /// [`Verifier::locate`] chose from, read by nobody yet. A fixed endpoint changes nothing here.
    pub async fn texts(&self, domain: &Domain) -> [(String, Texts); 2] {
        self.shared.locator.texts_of_both(domain, Instant::now() + self.shared.limits.verify.locate).await
    }

    /// Asks once more, before a message is dropped in silence: with a new sequence number, past the cache, and at another
    /// endpoint where there is one. Whatever is not INVALIDKEY again becomes `unverified`; other results stay as they are.
    ///
    /// # Errors
    /// As [`Verifier::verify`].
    pub async fn confirm(&self, mail: &Mail, found: &Found) -> Result<Found, Box<BudgetSpent>> {
        let (KeyStatus::Invalid, Some(sender), Ok(Some(key))) = (found.status, &found.sender, mail.key()) else {
            return Ok(found.clone());
        };
        // A question's own time and no more: with the first one it must stay below the MTA's patience.
        let deadline = Instant::now() + self.timeout.min(schedule::END + self.shared.limits.verify.locate);
        let published = self.published(sender.domain(), deadline).await;
        if hindrance(&published).is_some() {
            return Ok(unknown(KeyStatus::Unverified, Some(Why::Dns), sender.clone(), &published));
        }
        let sponsor = self.shared.proven.sponsor(&Bringer::of(mail), sender, Instant::now());
        let job = Job { address: sender.clone(), key: key.clone(), published: published.clone(), deadline };
        let ask = |job, sponsors| self.shared.clone().ask_another(job, found.authority.clone(), sponsors);
        let verdict = self.join(&self.confirmations, job, sponsor, ask).await;
        let second = told(sender.clone(), &published, verdict)?;
        Ok(match second.status {
            // A key that either answer calls expired was a right one once.
            KeyStatus::Invalid if found.why == Some(Why::Expired) => Found { why: found.why, ..second },
            KeyStatus::Invalid | KeyStatus::Unverified => second,
            _ => Found { status: KeyStatus::Unverified, why: None, ..second },
        })
    }

    async fn judge(
        &self,
        sender: Address,
        key: Option<&AuthKey>,
        bringer: &Bringer,
        published: Published,
        deadline: Instant,
    ) -> Result<Found, Box<BudgetSpent>> {
        if let Some((status, why)) = hindrance(&published) {
            return Ok(unknown(status, why, sender, &published));
        }
        let Some(key) = key else { return Ok(unknown(KeyStatus::Missing, None, sender, &published)) };
        let now = Instant::now();
        let sponsor = self.shared.proven.sponsor(bringer, &sender, now);
        if let Some((said, answerer)) = self.shared.memory.recall(&sender, &key.verify_key(), now) {
            if matches!(said, Said::Valid { .. }) {
                self.shared.proven.remember(&[sponsor], now);
            }
            let cached = |found: Found| Found { authority: answerer, cached: true, ..found };
            return told(sender, &published, Verdict { said, endpoint: None, over: Over::Udp }).map(cached);
        }
        let verdict = self.ask(&sender, key, sponsor, &published, deadline).await;
        told(sender, &published, verdict)
    }

    /// What a domain publishes, looked up once for all who want to know at the same time.
    async fn published(&self, domain: &Domain, deadline: Instant) -> Published {
        let (shared, name) = (self.shared.clone(), domain.clone());
        let work = |_| async move { shared.locator.published(&name, deadline).await };
        let published =
            timeout_at(deadline + GRACE, self.locations.join(domain.clone(), |()| {}, || Some(()), work)).await;
        let slow = || Published::Failed(Failure::Timeout(domain.to_string()));
        published.ok().flatten().map_or_else(slow, |joined| joined.outcome)
    }

    /// Asks, once for all who want to know the same at the same time.
    async fn ask(
        &self,
        address: &Address,
        key: &AuthKey,
        sponsor: Sponsor,
        published: &Published,
        deadline: Instant,
    ) -> Verdict {
        let job = Job { address: address.clone(), key: key.clone(), published: published.clone(), deadline };
        let ask = |job, sponsors| self.shared.clone().ask_and_remember(job, sponsors);
        self.join(&self.questions, job, sponsor, ask).await
    }

    /// The outcome of the question in flight about the same, or of a new one. Whoever joined another's question and saw it put
    /// off has time of its own left, and asks anew; whoever may not join is put off.
    async fn join<W>(
        &self,
        flights: &Flights<Mark, Verdict, Sponsors>,
        job: Job,
        sponsor: Sponsor,
        ask: impl Fn(Job, Arc<Sponsors>) -> W,
    ) -> Verdict
    where
        W: Future<Output = Verdict> + Send + 'static,
    {
        let (mark, deadline) = (self.shared.memory.mark(&job.address, &job.key.verify_key()), job.deadline);
        loop {
            let work = |sponsors| ask(job.clone(), sponsors);
            let admit = || self.shared.asker.joiners.admit(sponsor);
            let joining = flights.join(mark, |sponsors| sponsors.add(sponsor), admit, work);
            let joined = match timeout_at(deadline + GRACE, joining).await {
                Ok(Some(joined)) => joined,
                Ok(None) => return Verdict::limited(),
                Err(_) => return Verdict::unverified(Why::Timeout),
            };
            let put_off = matches!(joined.outcome.said, Said::Limited(Limited::Here));
            if !put_off || joined.is_own || Instant::now() >= deadline {
                return joined.outcome;
            }
        }
    }
}

/// All that a question needs once it is on its own.
#[derive(Clone)]
struct Job {
    address: Address,
    key: AuthKey,
    published: Published,
    deadline: Instant,
}

impl Shared {
    async fn ask_and_remember(self: Arc<Shared>, job: Job, sponsors: Arc<Sponsors>) -> Verdict {
        let Job { address, key, published, deadline } = job;
        let endpoints = match self.endpoints(&published, deadline).await {
            Ok(endpoints) if endpoints.usable.is_empty() => return Verdict::unverified(Why::Dns),
            Ok(endpoints) => endpoints.usable,
            Err(why) => return Verdict::unverified(why),
        };
        let (verify_key, wanted) = (key.verify_key(), sponsors.clone());
        let inquiry = Inquiry { address: address.clone(), key, endpoints, deadline, stream_first: false, sponsors };
        let verdict = self.asker.ask(inquiry).await;
        self.memory.remember(&address, &verify_key, &verdict, Instant::now());
        if matches!(verdict.said, Said::Valid { .. }) {
            self.proven.remember(&wanted.all(), Instant::now());
        }
        verdict
    }

    /// The same question to somebody other than who denied it first, where there is one; else over TLS, where it is offered.
    async fn ask_another(self: Arc<Shared>, job: Job, denier: Option<Answerer>, sponsors: Arc<Sponsors>) -> Verdict {
        let Job { address, key, published, deadline } = job;
        let mut endpoints = match self.endpoints(&published, deadline).await {
            Ok(endpoints) if endpoints.usable.is_empty() => return Verdict::unverified(Why::Dns),
            Ok(endpoints) => endpoints.usable,
            Err(why) => return Verdict::unverified(why),
        };
        let remembered = self.memory.who_denied(&address, &key.verify_key());
        let denied = |endpoint: &Endpoint| match remembered {
            Some(address) => endpoint.address == address,
            None => denier.as_ref().is_some_and(|denier| denier.authority == endpoint.authority),
        };
        let another = endpoints.iter().any(|endpoint| !denied(endpoint));
        if another {
            endpoints.retain(|endpoint| !denied(endpoint));
        }
        let (verify_key, stream_first) = (key.verify_key(), !another);
        let inquiry = Inquiry { address: address.clone(), key, endpoints, deadline, stream_first, sponsors };
        let verdict = self.asker.ask(inquiry).await;
        // The first answer stands where nobody was asked a second time.
        if !matches!(verdict.said, Said::Invalid(_) | Said::Limited(Limited::Here)) {
            self.memory.forget(&address, &verify_key);
        }
        verdict
    }

    /// Who may be asked; the reason where it is not known.
    async fn endpoints(&self, published: &Published, deadline: Instant) -> Result<Endpoints, Why> {
        match published {
            Published::Fixed(address) => {
                Ok(Endpoints { usable: vec![Endpoint::fixed(*address)], ..Endpoints::default() })
            }
            Published::Records(records) => Ok(self.locator.endpoints(&records.used, deadline).await),
            Published::Nothing | Published::Failed(_) => Err(Why::Dns),
        }
    }
}

/// What is found out about a message where nobody is asked: whether it has one usable sender address and at most one key; the
/// key itself nobody vouches for.
pub fn unasked(mail: &Mail) -> Found {
    let why = match (mail.sender(), mail.key()) {
        (Err(why), _) => Some(why),
        (Ok(_), _) if mail.head().malformed => Some(Why::MalformedHeader),
        (Ok(_), key) => key.err(),
    };
    let status = if why.is_some() { KeyStatus::Unusable } else { KeyStatus::Unverified };
    Found::bare(status, why, mail.sender().ok().cloned())
}

/// The result where what is published rules every question out.
fn hindrance(published: &Published) -> Option<(KeyStatus, Option<Why>)> {
    match published {
        Published::Nothing => Some((KeyStatus::None, None)),
        Published::Failed(_) => Some((KeyStatus::Unverified, Some(Why::Dns))),
        Published::Fixed(_) | Published::Records(_) => None,
    }
}

fn unknown(status: KeyStatus, why: Option<Why>, sender: Address, published: &Published) -> Found {
    let claim = match published {
        Published::Records(records) => Some(records.claim),
        Published::Fixed(_) => Some(Claim::Some),
        Published::Nothing | Published::Failed(_) => None,
    };
    Found { claim, ..Found::bare(status, why, Some(sender)) }
}

fn told(sender: Address, published: &Published, verdict: Verdict) -> Result<Found, Box<BudgetSpent>> {
    let (status, why, limited) = match verdict.said {
        Said::Valid { .. } => (KeyStatus::Valid, None, None),
        Said::Invalid(why) => (KeyStatus::Invalid, Some(why), None),
        Said::Unverified(why) => (KeyStatus::Unverified, Some(why), None),
        Said::Limited(by) => (KeyStatus::Unverified, None, Some(by)),
    };
    let found = Found { authority: verdict.answerer(), ..unknown(status, why, sender, published) };
    match limited {
        Some(limited) => Err(Box::new(BudgetSpent { found: Found { limited: Some(limited), ..found }, limited })),
        None => Ok(found),
    }
}
