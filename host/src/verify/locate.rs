//! From a domain to its AS: TXT records, then addresses, each checked by the guard (SPECIFICATION §4). The one user of a resolver.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use quick_cache::sync::Cache;
use resolver::Servers;
use system::{Followed, PORT, RESOLV_CONF};
use tokio::time::{Instant, timeout, timeout_at};

use super::guard::{Guard, Refused};
use crate::config::{self, Limits};
use crate::proto::address::{DOMAIN_MAX, Domain};
use crate::proto::record::{BadRecord, Claim, Record};

mod resolver;
mod system;

/// One address of a domain's AS.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// The AS as its record names it, as host:port; for fixed endpoints the address itself.
    pub authority: String,
    /// Where it is asked.
    pub address: SocketAddr,
    /// How it may be asked.
    pub offers: Offers,
}

/// How an endpoint may be asked: over one of the two at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Offers {
    /// Over UDP, with a proof.
    pub udp: bool,
    /// Over TLS.
    pub tls: bool,
    /// It takes proofs; otherwise the key itself, over TLS.
    pub h1: bool,
}

impl Endpoint {
    /// An endpoint that the configuration names: asked over UDP, since no certificate could name it.
    pub fn fixed(address: SocketAddr) -> Endpoint {
        Endpoint { authority: address.to_string(), address, offers: Offers { udp: true, tls: false, h1: true } }
    }

    /// The AS's host name, which its certificate must have.
    pub fn host(&self) -> &str {
        self.authority.rsplit_once(':').map_or(self.authority.as_str(), |(host, _)| host)
    }
}

/// What a domain publishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Published {
    /// No record that begins `AS=`: the domain does not take part.
    Nothing,
    /// The configuration names its AS; DNS is not asked.
    Fixed(SocketAddr),
    /// Records, of which at least one is usable.
    Records(Records),
    /// DNS failed, or what it said is unusable.
    Failed(Failure),
}

/// The `AS=` records of a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Records {
    /// The name that holds them: the domain, or `_addrauth.` and the domain.
    pub name: String,
    /// Those that are used, in order of priority, host name and port.
    pub used: Vec<Record>,
    /// Those that cannot be used, and why.
    pub bad: Vec<BadRecord>,
    /// The weakest claim of those that are used.
    pub claim: Claim,
}

/// Why a domain's AS is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The resolver's words.
    #[error("DNS failed for {name}: {text}")]
    Dns {
        /// What was looked up.
        name: String,
        /// Why that failed.
        text: String,
    },
    /// DNS took too long.
    #[error("DNS did not answer for {0} in time")]
    Timeout(String),
    /// More `AS=` records than anybody needs.
    #[error("{name} holds {count} records that begin AS=, and at most {most} are read")]
    TooMany {
        /// The name.
        name: String,
        /// How many.
        count: usize,
        /// How many would be read.
        most: usize,
    },
    /// Not one usable record.
    #[error("{name} holds no usable AS= record: {}", .bad.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    NoneUsable {
        /// The name.
        name: String,
        /// What is wrong with each.
        bad: Vec<BadRecord>,
    },
    /// The domain cannot be a name in DNS.
    #[error("{0} is no domain name")]
    BadName(String),
}

/// The addresses of a domain's AS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// Those that may be asked, in the order in which they are.
    pub usable: Vec<Endpoint>,
    /// Targets that the guard refused, as host:port, and why.
    pub refused: Vec<(String, Refused)>,
    /// Host names whose look-up failed or found nothing.
    pub failed: Vec<Failure>,
}

/// The texts at one name that begin `AS=`, or why they are not known.
pub type Texts = Result<Vec<Vec<u8>>, Failure>;

/// Finds Authentication Servers.
pub(super) struct Locator {
    servers: Arc<RwLock<Arc<Servers>>>,
    /// The system's file, where the configuration names no server, and when to look at it again.
    followed: Option<Arc<Mutex<Followed>>>,
    next_look: Mutex<Instant>,
    guard: Guard,
    fixed: BTreeMap<Domain, SocketAddr>,
    failures: Cache<Domain, (Instant, Failure)>,
    lookups: AtomicU64,
    /// Questions that were sent to name servers, whichever these were.
    questions: Arc<AtomicU64>,
    limits: Arc<Limits>,
}

impl Locator {
    pub(super) fn new(config: &config::Verify, limits: &Arc<Limits>) -> Result<Locator, NetError> {
        Locator::following(Path::new(RESOLV_CONF), PORT, config, limits)
    }

    /// With another file for the system's.
    fn following(path: &Path, port: u16, config: &config::Verify, limits: &Arc<Limits>) -> Result<Locator, NetError> {
        let fixed = config.domain.iter().map(|(domain, fixed)| (domain.clone(), fixed.endpoint)).collect();
        let followed = config.dns.is_empty().then(|| Followed::new(path, port));
        let questions = Arc::default();
        let known = followed.as_ref().map_or(config.dns.as_slice(), |followed| followed.servers());
        let servers = Servers::new(known, limits, &questions)?;
        Ok(Locator {
            servers: Arc::new(RwLock::new(Arc::new(servers))),
            followed: followed.map(|followed| Arc::new(Mutex::new(followed))),
            next_look: Mutex::new(Instant::now() + limits.verify.resolv_conf_look),
            guard: Guard::new(config),
            fixed,
            failures: Cache::new(usize::try_from(limits.verify.dns_kept).unwrap_or(usize::MAX)),
            lookups: AtomicU64::new(0),
            questions,
            limits: limits.clone(),
        })
    }

    /// Names that were looked up so far, and questions that were sent to name servers for them.
    pub(super) fn counted(&self) -> (u64, u64) {
        (self.lookups.load(Ordering::Relaxed), self.questions.load(Ordering::Relaxed))
    }

    /// What a domain publishes: this exact domain, no tree walk. Within `limits.verify.locate` and before `deadline`.
    pub(super) async fn published(&self, domain: &Domain, deadline: Instant) -> Published {
        if let Some(address) = self.fixed.get(domain) {
            return Published::Fixed(*address);
        }
        if let Some((until, failure)) = self.failures.get(domain)
            && Instant::now() < until
        {
            return Published::Failed(failure);
        }
        let deadline = deadline.min(Instant::now() + self.limits.verify.locate);
        let published = self.both_names(domain, deadline).await;
        if let Published::Failed(failure) = &published {
            // The resolver remembers absence, but no failure: without this each message would wait for a dead server anew.
            let until = Instant::now() + self.limits.verify.cache_unverified_for;
            self.failures.insert(domain.clone(), (until, failure.clone()));
        }
        published
    }

    /// Both names are asked at once, the second wins; a failure of either is never taken for an absence.
    async fn both_names(&self, domain: &Domain, deadline: Instant) -> Published {
        let special = format!("_addrauth.{domain}");
        let special_texts = async {
            // A name that cannot be holds no record; that is no failure of DNS.
            if special.len() > DOMAIN_MAX { Ok(Vec::new()) } else { self.texts(&special, deadline).await }
        };
        let (plain_texts, special_texts) = tokio::join!(self.texts(domain.as_str(), deadline), special_texts);
        match (plain_texts, special_texts) {
            (Err(failure), _) | (_, Err(failure)) => Published::Failed(failure),
            (Ok(plain), Ok(texts)) if texts.is_empty() => self.read(domain.as_str(), &plain),
            (Ok(_), Ok(texts)) => self.read(&special, &texts),
        }
    }

    /// What stands at each of the two names, whichever wins, as it stands there: the special name first.
    pub(super) async fn texts_of_both(&self, domain: &Domain, deadline: Instant) -> [(String, Texts); 2] {
        let special = format!("_addrauth.{domain}");
        let (special_texts, plain_texts) =
            tokio::join!(self.texts(&special, deadline), self.texts(domain.as_str(), deadline));
        [(special, special_texts), (domain.to_string(), plain_texts)]
    }

    fn read(&self, name: &str, texts: &[Vec<u8>]) -> Published {
        let name = name.to_owned();
        if texts.is_empty() {
            return Published::Nothing;
        }
        if texts.len() > self.limits.verify.as_records {
            let most = self.limits.verify.as_records;
            return Published::Failed(Failure::TooMany { name, count: texts.len(), most });
        }
        let (mut used, mut bad) = (Vec::new(), Vec::new());
        for text in texts {
            match Record::parse(text) {
                Ok(record) => used.push(record),
                Err(why) => bad.push(why),
            }
        }
        used.sort_by(|a, b| (a.priority, &a.host, a.port).cmp(&(b.priority, &b.host, b.port)));
        used.truncate(self.limits.verify.as_used);
        match used.iter().map(|record| record.claim).min() {
            Some(claim) => Published::Records(Records { name, used, bad, claim }),
            None => Published::Failed(Failure::NoneUsable { name, bad }),
        }
    }

    /// The TXT records of a name that begin `AS=`, the strings of each joined.
    async fn texts(&self, name: &str, deadline: Instant) -> Result<Vec<Vec<u8>>, Failure> {
        let answers = self.lookup(name, RecordType::TXT, deadline).await?;
        let joined = answers.into_iter().filter_map(|answer| match answer {
            RData::TXT(txt) => Some(txt.txt_data.concat()),
            _ => None,
        });
        Ok(joined.filter(|text| Record::begins(text)).collect())
    }

    /// The addresses of these records that may be asked, in their order: the first `limits.verify.endpoints` count.
    pub(super) async fn endpoints(&self, records: &[Record], deadline: Instant) -> Endpoints {
        self.endpoints_up_to(self.limits.verify.endpoints.max(1), records, deadline).await
    }

    /// The same, and `most` of them count.
    pub(super) async fn endpoints_up_to(&self, most: usize, records: &[Record], deadline: Instant) -> Endpoints {
        let deadline = deadline.min(Instant::now() + self.limits.verify.locate);
        let mut found = Endpoints::default();
        // One host has mostly one address or more, so the later ones are looked up only where the first do not suffice.
        for some in records.chunks(most) {
            let lookups = some.iter().map(|record| self.addresses(&record.host, most, deadline));
            for (record, addresses) in some.iter().zip(futures_util::future::join_all(lookups).await) {
                self.admit(record, addresses, &mut found);
            }
            if found.usable.len() >= most {
                break;
            }
        }
        found.usable.truncate(most);
        found
    }

    fn admit(&self, record: &Record, addresses: Result<Vec<IpAddr>, Failure>, found: &mut Endpoints) {
        let authority = format!("{}:{}", record.host, record.port);
        // On UDP the key itself would be seen by all on the way.
        let offers = Offers { udp: record.udp && record.h1, tls: record.tls, h1: record.h1 };
        let addresses = match addresses {
            Ok(addresses) => addresses,
            Err(failure) => return found.failed.push(failure),
        };
        for address in addresses {
            match self.guard.check(address, record.port) {
                Ok(address) if found.usable.iter().all(|known| known.address != address) => {
                    found.usable.push(Endpoint { authority: authority.clone(), address, offers });
                }
                Ok(_) => {}
                Err(refused) => found.refused.push((authority.clone(), refused)),
            }
        }
    }

    /// The addresses of a host, at most so many of a family: IPv4 and IPv6 in turn, IPv4 first. One family's failure leaves
    /// the other's.
    async fn addresses(&self, host: &str, most: usize, deadline: Instant) -> Result<Vec<IpAddr>, Failure> {
        let (a, aaaa) =
            tokio::join!(self.lookup(host, RecordType::A, deadline), self.lookup(host, RecordType::AAAA, deadline));
        let (a, aaaa) = match (a, aaaa) {
            (Err(failure), Err(_)) => return Err(failure),
            (Err(failure), Ok(some)) | (Ok(some), Err(failure)) if some.is_empty() => return Err(failure),
            (a, aaaa) => (a.unwrap_or_default(), aaaa.unwrap_or_default()),
        };
        if a.is_empty() && aaaa.is_empty() {
            return Err(Failure::Dns { name: host.to_owned(), text: "it has no address".into() });
        }
        let (mut a, mut aaaa) = (a.iter().filter_map(RData::ip_addr), aaaa.iter().filter_map(RData::ip_addr));
        let in_turn = (0..most).flat_map(|_| [a.next(), aaaa.next()]).flatten();
        Ok(in_turn.collect())
    }

    /// The records of this type at the end of the name's CNAMEs; none where the name or the type does not exist.
    async fn lookup(&self, name: &str, kind: RecordType, deadline: Instant) -> Result<Vec<RData>, Failure> {
        let mut full = Name::from_ascii(name).map_err(|_| Failure::BadName(name.to_owned()))?;
        full.set_fqdn(true);
        let failed = |text: String| Failure::Dns { name: name.to_owned(), text };
        let slow = |_| Failure::Timeout(name.to_owned());
        match timeout_at(deadline, self.ask(full.clone(), kind)).await.map_err(slow)? {
            Ok(found) => {
                let right = found.answers().iter().filter(|record| record.record_type() == kind);
                Ok(right.map(|record| record.data.clone()).collect())
            }
            Err(NetError::Dns(DnsError::NoRecordsFound(absence))) => {
                let certain = absence.soa.is_some() || absence.response_code == ResponseCode::NXDomain;
                if certain || !self.is_alias(full, deadline).await {
                    return Ok(Vec::new());
                }
                Err(failed("its chain of CNAME records has no end".into()))
            }
            Err(NetError::Timeout) => Err(Failure::Timeout(name.to_owned())),
            Err(error) => Err(failed(error.to_string())),
        }
    }

    /// Whether a name is an alias. The resolver gives a chain of more than 8 aliases up as if nothing were there, but without
    /// the SOA record that a true absence brings along (RFC 2308 §3); so this is asked only when that is missing.
    async fn is_alias(&self, name: Name, deadline: Instant) -> bool {
        match timeout_at(deadline, self.ask(name, RecordType::CNAME)).await {
            Ok(Ok(found)) => found.answers().iter().any(|record| record.record_type() == RecordType::CNAME),
            Ok(Err(error)) => !error.is_no_records_found(),
            Err(_) => true,
        }
    }

    async fn ask(&self, name: Name, kind: RecordType) -> Result<Lookup, NetError> {
        self.lookups.fetch_add(1, Ordering::Relaxed);
        self.follow().await;
        let servers = Arc::clone(&self.servers.read().unwrap_or_else(PoisonError::into_inner));
        servers.lookup(name, kind).await
    }

    /// Looks now and then whether the system has other name servers. Off this thread, since a file may be anything, and without
    /// waiting for long: the ones that are known serve meanwhile.
    async fn follow(&self) {
        let Some(followed) = &self.followed else { return };
        {
            let mut next = self.next_look.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            if now < *next {
                return;
            }
            *next = now + self.limits.verify.resolv_conf_look;
        }
        let (followed, used, limits) = (Arc::clone(followed), Arc::clone(&self.servers), Arc::clone(&self.limits));
        let questions = Arc::clone(&self.questions);
        // It ends by itself what it began: a caller that waits no longer takes no change away.
        let look = tokio::task::spawn_blocking(move || {
            let mut followed = followed.lock().unwrap_or_else(PoisonError::into_inner);
            followed.look();
            if used.read().unwrap_or_else(PoisonError::into_inner).are(followed.servers()) {
                return;
            }
            match Servers::new(followed.servers(), &limits, &questions) {
                Ok(servers) => *used.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(servers),
                Err(error) => tracing::warn!("{RESOLV_CONF}: {error}; the name servers of before are asked"),
            }
        });
        let _ = timeout(self.limits.verify.locate / 4, look).await;
    }
}

/// The name servers that are asked, where that stands, and what there cannot be used: for those who tell of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameServers {
    /// In the order in which they are asked.
    pub servers: Vec<SocketAddr>,
    /// `verify.dns`, or the system's file.
    pub from: &'static str,
    /// Lines that name a server and cannot be used, in words.
    pub unusable: Vec<String>,
}

impl NameServers {
    /// Those of the configuration, or the system's as its file names them now.
    pub fn of(config: &config::Verify) -> NameServers {
        if config.dns.is_empty() {
            let (servers, unusable) = system::now(Path::new(RESOLV_CONF));
            return NameServers { servers, from: RESOLV_CONF, unusable };
        }
        NameServers { servers: config.dns.clone(), from: "verify.dns", unusable: Vec::new() }
    }
}

#[cfg(test)]
mod tests;
