//! A DNS server on loopback with a few TXT and address records, and faults on demand: for the demonstration and the tests.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use hickory_server::Server;
use hickory_server::net::runtime::Time;
use hickory_server::proto::op::{Header, HeaderCounts, Metadata, ResponseCode};
use hickory_server::proto::rr::rdata::{A, AAAA, CNAME, SOA, TXT};
use hickory_server::proto::rr::{Name, RData, Record, RecordType};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use tokio::net::{TcpListener, UdpSocket};

/// The TTL of every record, in seconds.
const TTL: u32 = 60;
/// How long a TCP connection may stay silent.
const TCP_IDLE: Duration = Duration::from_secs(5);
/// Octets of answers waiting to be read, for each TCP connection.
const TCP_BUFFER: usize = 64;
/// A character-string of a TXT record holds at most 255 octets (RFC 1035 §3.3).
const STRING_MAX: usize = 255;
/// Tries to find a port that is free for UDP and TCP alike.
const PORT_TRIES: usize = 20;

/// What goes wrong with the questions about a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The answer is SERVFAIL.
    ServFail,
    /// There is no answer.
    Silence,
}

/// What the server knows. A name without a record does not exist.
#[derive(Clone, Debug, Default)]
pub struct Records {
    records: BTreeMap<String, Vec<RData>>,
    faults: BTreeMap<String, Fault>,
}

impl Records {
    /// Adds a TXT record; a long text is cut into strings of 255 octets.
    pub fn txt(mut self, name: &str, text: &str) -> Records {
        let strings = text.as_bytes().chunks(STRING_MAX).collect();
        self.add(name, RData::TXT(TXT::from_bytes(strings)));
        self
    }

    /// Adds an A or AAAA record.
    pub fn address(mut self, name: &str, address: IpAddr) -> Records {
        let record = match address {
            IpAddr::V4(v4) => RData::A(A(v4)),
            IpAddr::V6(v6) => RData::AAAA(AAAA(v6)),
        };
        self.add(name, record);
        self
    }

    /// Makes a name an alias of another; of itself, where a loop is wanted. A target that is no name makes no alias.
    pub fn alias(mut self, name: &str, target: &str) -> Records {
        if let Ok(mut target) = Name::from_ascii(target) {
            target.set_fqdn(true);
            self.add(name, RData::CNAME(CNAME(target)));
        }
        self
    }

    /// Makes questions about a name fail.
    pub fn fault(mut self, name: &str, fault: Fault) -> Records {
        self.faults.insert(plain(name), fault);
        self
    }

    fn add(&mut self, name: &str, record: RData) {
        self.records.entry(plain(name)).or_default().push(record);
    }

    /// The records of a name and type, or its alias; none at all where the name does not exist.
    fn find(&self, name: &str, kind: RecordType) -> Option<Vec<RData>> {
        let all = self.records.get(name)?;
        let right = |record: &&RData| matches!(record, RData::CNAME(_)) || record.record_type() == kind;
        Some(all.iter().filter(right).cloned().collect())
    }
}

fn plain(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

/// A running server; it ends when dropped.
pub struct Zone {
    /// Where it answers, on UDP and TCP.
    pub addr: SocketAddr,
    records: Arc<RwLock<Records>>,
    _server: Server<Answers>,
}

impl Zone {
    /// Starts a server on a free port of 127.0.0.1.
    pub async fn start(records: Records) -> io::Result<Zone> {
        let (udp, tcp) = sockets().await?;
        let addr = udp.local_addr()?;
        let records = Arc::new(RwLock::new(records));
        let mut server = Server::new(Answers { records: records.clone() });
        server.register_socket(udp);
        server.register_listener(tcp, TCP_IDLE, TCP_BUFFER);
        Ok(Zone { addr, records, _server: server })
    }

    /// Replaces what the server knows.
    pub fn replace(&self, records: Records) {
        *self.records.write().unwrap_or_else(PoisonError::into_inner) = records;
    }
}

/// The kernel picks the port for UDP; it may be taken for TCP.
async fn sockets() -> io::Result<(UdpSocket, TcpListener)> {
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..PORT_TRIES {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        match TcpListener::bind(udp.local_addr()?).await {
            Ok(tcp) => return Ok((udp, tcp)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

struct Answers {
    records: Arc<RwLock<Records>>,
}

impl Answers {
    /// The response code, the answers, and the SOA record that every absence carries (RFC 2308 §3).
    fn answer(&self, request: &Request) -> Option<(ResponseCode, Vec<Record>, Vec<Record>)> {
        let Ok(info) = request.request_info() else { return Some((ResponseCode::FormErr, Vec::new(), Vec::new())) };
        let name = Name::from(info.query.name());
        let text = plain(&name.to_ascii());
        let records = self.records.read().unwrap_or_else(PoisonError::into_inner);
        match records.faults.get(&text) {
            Some(Fault::Silence) => return None,
            Some(Fault::ServFail) => return Some((ResponseCode::ServFail, Vec::new(), Vec::new())),
            None => {}
        }
        let found = records.find(&text, info.query.query_type());
        let code = if found.is_some() { ResponseCode::NoError } else { ResponseCode::NXDomain };
        let answers: Vec<Record> =
            found.into_iter().flatten().map(|data| Record::from_rdata(name.clone(), TTL, data)).collect();
        let soa = SOA::new(Name::root(), Name::root(), 1, 3_600, 600, 86_400, TTL);
        let absence = answers.is_empty().then(|| Record::from_rdata(Name::root(), TTL, RData::SOA(soa)));
        Some((code, answers, absence.into_iter().collect()))
    }
}

// Written out as the trait's macro would: that macro is not worth a dependency of its own.
impl RequestHandler for Answers {
    fn handle_request<'this, 'request, 'answer, R, T>(
        &'this self,
        request: &'request Request,
        mut response: R,
    ) -> Pin<Box<dyn Future<Output = ResponseInfo> + Send + 'answer>>
    where
        R: ResponseHandler + 'answer,
        T: Time + 'answer,
        'this: 'answer,
        'request: 'answer,
        Self: 'answer,
    {
        Box::pin(async move {
            let mut metadata = Metadata::response_from_request(&request.metadata);
            let nothing = Header { metadata, counts: HeaderCounts::default() };
            let Some((code, answers, absence)) = self.answer(request) else { return nothing.into() };
            metadata.response_code = code;
            metadata.authoritative = true;
            metadata.recursion_available = true;
            let builder = MessageResponseBuilder::from_message_request(request);
            let message = builder.build(metadata, &answers, [], &absence, []);
            response.send_response(message).await.unwrap_or_else(|_| nothing.into())
        })
    }
}
