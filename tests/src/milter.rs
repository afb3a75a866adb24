//! The milter door with a judge that does what the Subject says, and a peer that says whatever a test wants.

use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use addrauth::case::{
    Body, Case, Client, Direction, Finding, Mail, Owed, Recipient, Redirect, Refusal, Reply, Verdict,
};
use addrauth::config::{Limits, Listen, Milter};
use addrauth::mta::milter::{self, serve};
use addrauth::mta::reception::Reception;
use addrauth::mta::{Judge, Lanes};
use addrauth::proto::address::Address;
use addrauth::proto::header::Edit;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// How long a test waits for what has to come.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the judge takes when the Subject is `slow`.
pub const SLOW: Duration = Duration::from_millis(300);

/// A judge that deletes every key, writes its own name on top, and does what the Subject says.
#[derive(Default)]
pub struct Fake {
    name: &'static str,
    /// Whether recipients are told apart: by their domains, or not at all in time where the next one begins with `slow`.
    pub splits: bool,
    /// Every message that was kept, in order.
    pub kept: Mutex<Vec<Mail>>,
    /// The body that came with each of them.
    pub bodies: Mutex<Vec<Option<Body>>>,
    /// Comparisons of recipients that were begun.
    pub compared: AtomicUsize,
    /// Examinations that were begun.
    pub begun: AtomicUsize,
    /// Examinations that are over, by their end or by being dropped.
    pub over: AtomicUsize,
}

impl Fake {
    /// One that writes this name.
    pub fn named(name: &'static str) -> Arc<Fake> {
        Arc::new(Fake { name, ..Fake::default() })
    }

    /// One that tells recipients apart.
    pub fn splitting() -> Arc<Fake> {
        Arc::new(Fake { name: "splitting", splits: true, ..Fake::default() })
    }
}

/// Counts an examination when it is dropped.
struct Over<'a>(&'a AtomicUsize);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn domain(recipient: &Recipient) -> &str {
    recipient.address().map_or("", |address| address.domain().as_str())
}

fn subject(mail: &Mail) -> String {
    mail.named("Subject").next().map(|f| String::from_utf8_lossy(&f.value).trim().to_owned()).unwrap_or_default()
}

impl Judge for Fake {
    async fn examine(&self, mail: Mail) -> Case {
        self.begun.fetch_add(1, Ordering::SeqCst);
        let _over = Over(&self.over);
        let refusal = Refusal { code: 550, status: "5.7.1", text: "no\r\n250 yes".into() };
        let verdict = match subject(&mail).as_str() {
            "panic" => panic!("as told"),
            "never" => pending().await,
            "slow" => {
                sleep(SLOW).await;
                Verdict::Accept
            }
            "reject" => Verdict::Reject(refusal),
            "hold" => Verdict::Hold("looks odd".into()),
            "discard" => Verdict::Discard,
            _ => Verdict::Accept,
        };
        let delete = |index| Edit::Delete { name: "X-Auth-Key".into(), index };
        let mut edits: Vec<Edit> = (1..=u32::try_from(mail.head().keys.len()).unwrap()).rev().map(delete).collect();
        edits.push(Edit::Insert { index: 0, name: "X-Judge".into(), value: format!(" {}", self.name) });
        let mut reply = Reply { edits, ..Reply::bare(verdict) };
        let said = subject(&mail);
        match said.split_once(' ').unwrap_or((&said, "")) {
            ("body", _) => reply.owed = vec![Owed::Quarantine(vec![0])],
            ("remove", indices) => reply.removed = indices.split(' ').map(|index| index.parse().unwrap()).collect(),
            ("redirect", to) => {
                let to = Address::parse(to.as_bytes(), false).unwrap();
                reply.redirected = vec![Redirect { recipient: 0, to }];
            }
            _ => {}
        }
        if said.ends_with("slowly") {
            sleep(SLOW).await;
        }
        Case { mail, finding: Finding::Passing(Direction::Relay), decisions: vec![], reply }
    }

    async fn keep(&self, case: Case, body: Option<Body>) -> Case {
        match subject(&case.mail).as_str() {
            "panic in keep" => panic!("as told"),
            "never kept" => pending().await,
            "body kept late" => sleep(SLOW).await,
            _ => {}
        }
        self.kept.lock().unwrap().push(case.mail.clone());
        self.bodies.lock().unwrap().push(body);
        case
    }

    fn splits(&self) -> bool {
        self.splits
    }

    async fn alike(&self, _: &Client, first: &Recipient, next: &Recipient) -> bool {
        self.compared.fetch_add(1, Ordering::SeqCst);
        if next.path.starts_with(b"<slow") {
            pending::<()>().await;
        }
        assert!(!next.path.starts_with(b"<panic"), "as told");
        domain(first) == domain(next)
    }
}

/// The door, open.
pub struct Daemon {
    /// Where it listens.
    pub place: Listen,
    /// Who judges; another one may be sent.
    pub judge: watch::Sender<Arc<Fake>>,
    /// Stops it.
    pub shutdown: CancellationToken,
    /// Ends when it has stopped.
    pub task: tokio::task::JoinHandle<()>,
}

/// Opens the door at this place, in the configuration's spelling, with a judge named `one`.
pub fn open(place: &str, limits: Limits) -> Daemon {
    open_with(Fake::named("one"), place, limits)
}

/// Opens the door with this judge behind it.
pub fn open_with(judge: Arc<Fake>, place: &str, limits: Limits) -> Daemon {
    let milter = Milter { listen: vec![place.parse().unwrap()], group: String::new() };
    let listeners = milter::bind(&milter).unwrap();
    let place = listeners[0].local();
    let (judge, receiver) = watch::channel(judge);
    let shutdown = CancellationToken::new();
    let task =
        tokio::spawn(serve(listeners, Reception::open(receiver, Arc::new(limits), shutdown.clone()), Lanes::here()));
    Daemon { place, judge, shutdown, task }
}

impl Daemon {
    /// The judge that stands behind the door now.
    pub fn fake(&self) -> Arc<Fake> {
        self.judge.borrow().clone()
    }

    /// Waits until so many examinations were begun.
    pub async fn begun(&self, count: usize) {
        let judge = self.fake();
        let waiting = async {
            while judge.begun.load(Ordering::SeqCst) < count {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, waiting).await.expect("the examination begins");
    }
}

/// What Postfix 3.7 offers: version, actions, protocol.
pub const POSTFIX: [u32; 3] = [6, 0x1ff, 0x1f_ffff];

/// One frame in octets.
pub fn frame(command: u8, payload: &[u8]) -> Vec<u8> {
    [&u32::try_from(payload.len() + 1).unwrap().to_be_bytes(), &[command][..], payload].concat()
}

/// A peer that says what it likes, in whatever order.
pub struct Peer(TcpStream);

impl Peer {
    /// Connects, and says nothing.
    pub async fn connect(place: &Listen) -> Peer {
        let Listen::Inet(address) = place else { panic!("not inet") };
        Peer(TcpStream::connect(address).await.unwrap())
    }

    /// Connects and negotiates.
    pub async fn negotiate(place: &Listen, offer: [u32; 3]) -> Peer {
        let mut peer = Peer::connect(place).await;
        peer.say(&[(b'O', &offer.map(u32::to_be_bytes).concat())]).await;
        assert_eq!(peer.hear().await.unwrap().0, b'O');
        peer
    }

    /// Frames in one write.
    pub async fn say(&mut self, frames: &[(u8, &[u8])]) {
        let octets: Vec<u8> = frames.iter().flat_map(|(command, payload)| frame(*command, payload)).collect();
        self.0.write_all(&octets).await.unwrap();
    }

    /// The beginning of a frame with a payload of so many octets.
    pub async fn begin(&mut self, command: u8, length: u32, octets: &[u8]) {
        let octets = [&(length + 1).to_be_bytes()[..], &[command], octets].concat();
        self.0.write_all(&octets).await.unwrap();
    }

    /// The next frame; none when the door closed.
    pub async fn hear(&mut self) -> Option<(u8, Vec<u8>)> {
        let read = async {
            let length = usize::try_from(self.0.read_u32().await.ok()?).unwrap();
            let mut frame = vec![0; length];
            self.0.read_exact(&mut frame).await.ok()?;
            Some((frame[0], frame[1..].to_vec()))
        };
        timeout(PATIENCE, read).await.expect("an answer, or the end")
    }

    /// Whether nothing comes for a while.
    pub async fn hears_nothing(&mut self) -> bool {
        timeout(Duration::from_millis(100), self.0.read_u8()).await.is_err()
    }

    /// Whether the next frame is a 451 of this kind.
    pub async fn hears_451(&mut self, kind: &str) -> bool {
        self.hears_reply(&format!("451 {kind} ")).await
    }

    /// Whether the next frame is a reply that begins so.
    pub async fn hears_reply(&mut self, begin: &str) -> bool {
        self.hear().await.is_some_and(|(command, text)| command == b'y' && text.starts_with(begin.as_bytes()))
    }

    /// Octets until the door closes or the write would wait; false when it still takes them after `PATIENCE`.
    pub async fn flood(&mut self, octets: &[u8]) -> bool {
        let writing = async { while self.0.write_all(octets).await.is_ok() {} };
        timeout(PATIENCE, writing).await.is_ok()
    }
}
