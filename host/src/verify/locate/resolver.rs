//! Asks name servers: each by itself, in order, the next one where one fails or is slow; without EDNS where a server knows none.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use hickory_resolver::Resolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::{DnsUdpSocket, RuntimeProvider, TokioHandle, TokioRuntimeProvider, TokioTime};
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RecordType};
use tokio::time::{Instant, sleep};

use crate::config::Limits;

/// How long a server that failed or was slow is asked last.
const DEMOTED: Duration = Duration::from_secs(30);
/// How long a server that knows no EDNS is asked without: it may be replaced some day.
const WITHOUT_EDNS: Duration = Duration::from_secs(600);
/// How long a server that has too many of our questions is left alone.
const BREATH: Duration = Duration::from_millis(20);
/// Octets of the header of a DNS message (RFC 1035 §4.1.1).
const HEADER: usize = 12;

/// Name servers, in the order in which they are asked.
pub(super) struct Servers {
    addresses: Vec<SocketAddr>,
    all: Vec<Server>,
    /// When the next one is asked as well.
    pause: Duration,
}

/// One of them, with what it said before.
struct Server {
    edns: Resolver<Sockets>,
    plain: Resolver<Sockets>,
    without_edns: Moment,
    demoted: Moment,
}

/// A moment until which something holds.
#[derive(Default)]
struct Moment(Mutex<Option<Instant>>);

impl Moment {
    fn holds(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|until| Instant::now() < until)
    }

    fn set(&self, span: Duration) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + span);
    }
}

impl Servers {
    /// `questions` counts what is sent to them.
    pub(super) fn new(
        addresses: &[SocketAddr],
        limits: &Limits,
        questions: &Arc<AtomicU64>,
    ) -> Result<Servers, NetError> {
        let all = addresses.iter().map(|address| {
            let sockets =
                Sockets { tokio: TokioRuntimeProvider::default(), server: *address, questions: Arc::clone(questions) };
            let resolver = |edns| resolver(sockets.clone(), edns, addresses.len(), limits);
            let (edns, plain) = (resolver(true)?, resolver(false)?);
            Ok(Server { edns, plain, without_edns: Moment::default(), demoted: Moment::default() })
        });
        let all = all.collect::<Result<_, NetError>>()?;
        Ok(Servers { addresses: addresses.to_vec(), all, pause: limits.verify.locate / 5 })
    }

    /// Whether they are these, in this order.
    pub(super) fn are(&self, addresses: &[SocketAddr]) -> bool {
        self.addresses == addresses
    }

    /// The records at the end of the name's CNAMEs. What one server says is not there is not asked for elsewhere; where all
    /// fail, the first failure is told. The caller sets the bound.
    pub(super) async fn lookup(&self, name: Name, kind: RecordType) -> Result<Lookup, NetError> {
        let (last, first): (Vec<&Server>, Vec<&Server>) = self.all.iter().partition(|server| server.demoted.holds());
        let mut next = first.into_iter().chain(last);
        let mut asking = FuturesUnordered::new();
        let (mut silent, mut failure, mut is_due): (Vec<&Server>, _, _) = (Vec::new(), None, true);
        loop {
            if is_due && let Some(server) = next.next() {
                let name = name.clone();
                silent.push(server);
                asking.push(async move { (server, server.lookup(name, kind).await) });
            }
            if asking.is_empty() {
                return Err(failure.unwrap_or(NetError::NoConnections));
            }
            is_due = true;
            tokio::select! {
                Some((server, result)) = asking.next() => {
                    let is_late = matches!(result, Err(NetError::Timeout | NetError::Io(_)));
                    let before = silent.iter().position(|other| std::ptr::eq(*other, server)).unwrap_or_default();
                    match result {
                        Err(error) if !error.is_no_records_found() => {
                            if is_late {
                                server.demoted.set(DEMOTED);
                            }
                            failure.get_or_insert(error);
                            silent.remove(before);
                        }
                        decided => {
                            // The ones before it were overtaken.
                            silent.iter().take(before).for_each(|server| server.demoted.set(DEMOTED));
                            return decided;
                        }
                    }
                }
                () = sleep(self.pause) => {}
            }
        }
    }
}

impl Server {
    async fn lookup(&self, name: Name, kind: RecordType) -> Result<Lookup, NetError> {
        if !self.without_edns.holds() {
            match patient(&self.edns, &name, kind).await {
                Err(error) if is_about_edns(&error) => {}
                decided => return decided,
            }
        }
        let decided = patient(&self.plain, &name, kind).await;
        if decided.as_ref().err().is_none_or(NetError::is_no_records_found) {
            self.without_edns.set(WITHOUT_EDNS);
        }
        decided
    }
}

/// A budget of the resolver's own is no failure of DNS: it is waited for.
async fn patient(resolver: &Resolver<Sockets>, name: &Name, kind: RecordType) -> Result<Lookup, NetError> {
    loop {
        match resolver.lookup(name.clone(), kind).await {
            Err(NetError::Busy) => sleep(BREATH).await,
            decided => return decided,
        }
    }
}

/// What servers say that know no EDNS, or not this version (RFC 6891 §7, §6.1.3).
fn is_about_edns(error: &NetError) -> bool {
    use ResponseCode::{BADVERS, FormErr, NotImp};
    matches!(error, NetError::Dns(DnsError::ResponseCode(FormErr | NotImp | BADVERS)))
}

/// A resolver that asks one server, twice within `limits.verify.locate`; answers are kept within bounds, a part for each server;
/// /etc/hosts is not what a domain publishes.
fn resolver(sockets: Sockets, edns: bool, of: usize, limits: &Limits) -> Result<Resolver<Sockets>, NetError> {
    let server = sockets.server;
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = server.port();
        connection
    });
    let config = NameServerConfig::new(server.ip(), true, connections.into());
    let config = ResolverConfig::from_name_servers(vec![config]);
    let mut builder = Resolver::builder_with_config(config, sockets);
    let options: &mut ResolverOpts = builder.options_mut();
    options.timeout = limits.verify.locate.mul_f64(0.45).max(Duration::from_millis(1));
    options.attempts = 1;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.use_hosts_file = ResolveHosts::Never;
    options.cache_size = limits.verify.dns_kept / u64::try_from(of.max(1)).unwrap_or(1);
    options.positive_max_ttl = Some(limits.verify.dns_kept_for);
    options.negative_max_ttl = Some(limits.verify.dns_absence_kept_for);
    options.preserve_intermediates = false;
    options.edns0 = edns;
    // Some questions for each message; it bounds TCP alone.
    options.max_active_requests = 4 * limits.mta.messages_in_flight.max(1);
    builder.build()
}

/// Sockets to one server, whose address may have a scope: the resolver itself knows addresses without one.
#[derive(Clone)]
struct Sockets {
    tokio: TokioRuntimeProvider,
    server: SocketAddr,
    questions: Arc<AtomicU64>,
}

impl RuntimeProvider for Sockets {
    type Handle = TokioHandle;
    type Timer = TokioTime;
    type Udp = Datagrams;
    type Tcp = <TokioRuntimeProvider as RuntimeProvider>::Tcp;

    fn create_handle(&self) -> TokioHandle {
        self.tokio.create_handle()
    }

    fn connect_tcp(
        &self,
        _server: SocketAddr,
        local: Option<SocketAddr>,
        wait_for: Option<Duration>,
    ) -> Pin<Box<dyn Send + Future<Output = io::Result<Self::Tcp>>>> {
        self.questions.fetch_add(1, Ordering::Relaxed);
        self.tokio.connect_tcp(self.server, local, wait_for)
    }

    fn bind_udp(
        &self,
        local: SocketAddr,
        _server: SocketAddr,
    ) -> Pin<Box<dyn Send + Future<Output = io::Result<Datagrams>>>> {
        self.questions.fetch_add(1, Ordering::Relaxed);
        let (bound, server) = (self.tokio.bind_udp(local, self.server), self.server);
        Box::pin(async move { Ok(Datagrams { socket: bound.await?, server, question: Arc::default() }) })
    }
}

/// A socket for one question.
struct Datagrams {
    socket: tokio::net::UdpSocket,
    server: SocketAddr,
    /// What was asked, as it was sent.
    question: Arc<Mutex<Vec<u8>>>,
}

impl DnsUdpSocket for Datagrams {
    type Time = TokioTime;

    fn poll_recv_from(&self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<(usize, SocketAddr)>> {
        let received = DnsUdpSocket::poll_recv_from(&self.socket, context, buffer);
        let Poll::Ready(Ok((length, peer))) = received else { return received };
        let question = self.question.lock().unwrap_or_else(PoisonError::into_inner);
        Poll::Ready(Ok((with_question(buffer, length, &question), peer)))
    }

    fn poll_send_to(&self, context: &mut Context<'_>, octets: &[u8], _: SocketAddr) -> Poll<io::Result<usize>> {
        octets.clone_into(&mut self.question.lock().unwrap_or_else(PoisonError::into_inner));
        DnsUdpSocket::poll_send_to(&self.socket, context, octets, self.server)
    }
}

/// A server that knows no EDNS may answer FORMERR or NOTIMP with a bare header; the resolver takes only answers that repeat the
/// question. So the question of the same number is put behind the header; the length of what stands in the buffer then.
fn with_question(buffer: &mut [u8], length: usize, question: &[u8]) -> usize {
    let Some(&[a, b, flags, code, 0, 0, ..]) = buffer.get(..length).filter(|answer| answer.len() == HEADER) else {
        return length;
    };
    let is_refusal = flags & 0x80 != 0 && matches!(code & 0x0f, 1 | 4);
    if !is_refusal || question.get(..2) != Some(&[a, b]) || question.get(4..6) != Some(&[0, 1]) {
        return length;
    }
    // The name's labels to the empty one, type and class.
    let mut end = HEADER;
    while let Some(&label) = question.get(end).filter(|label| **label != 0) {
        end += 1 + usize::from(label);
    }
    let end = end + 5;
    let (Some(from), Some(to)) = (question.get(HEADER..end), buffer.get_mut(HEADER..end)) else { return length };
    to.copy_from_slice(from);
    if let Some(count) = buffer.get_mut(4..6) {
        count.copy_from_slice(&[0, 1]);
    }
    end
}
