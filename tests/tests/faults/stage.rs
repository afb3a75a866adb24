//! What a fault is tried in: a filter's configuration, a domain with a server of its own for each cell, and the fault itself.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use addrauth::proto::wire::Status;
use addrauth_lab::zone::{self, Records, Zone};
use addrauth_tests::agent::{Agent, Client, Delivery, Habits};
use addrauth_tests::authority::{Act, Authority};
use addrauth_tests::bridge::Bridge;
use addrauth_tests::courier::{Answer, Courier, Parcel, Told};
use addrauth_tests::stalwart::{Brought, Outcome, Stalwart};
use addrauth_tests::world::{LOOPBACK, junk};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// The scenarios, and the shipped policies that are them.
pub const SCENARIOS: [(&str, &str); 6] = [
    ("accept", "accept"),
    ("mark", "mark"),
    ("silent", "reject-silently"),
    ("sender", "reject-notify-sender"),
    ("recipient", "reject-notify-recipient"),
    ("both", "reject-notify-both"),
];

/// A scenario, and `one` or `mixed`.
pub type Part = (&'static str, &'static str);

/// The door that the messages come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The milter's.
    Milter,
    /// Between the MTA's queue and a delivery agent.
    Lmtp,
    /// The hooks of a Stalwart.
    Stalwart,
    /// The hooks of draft-01.
    Draft01,
}

/// What the MTA hears about one message.
#[derive(Debug)]
pub enum Heard {
    /// One answer, and changes; by hooks too.
    Milter(Told),
    /// Each recipient's reply; empty where there was none.
    Lmtp(Vec<(String, String)>),
}

/// A connection of the MTA's to the door.
pub enum Carrier {
    /// To the milter's.
    Milter(Courier),
    /// To that of LMTP.
    Lmtp(Client),
    /// None: a mail server that connects for each request.
    Hooks(Asks),
}

impl Carrier {
    /// Brings a message, and hears what is to become of it.
    pub async fn bring(&mut self, parcel: &Parcel) -> Heard {
        let client = match self {
            Carrier::Milter(courier) => return Heard::Milter(courier.bring(parcel).await),
            Carrier::Lmtp(client) => client,
            Carrier::Hooks(asks) => return Heard::Milter(asks.told(parcel).await),
        };
        let facts = format!("XFORWARD ADDR=192.0.2.7 NAME=client.example IDENT={}", parcel.queue_id);
        assert_eq!(client.say(&facts).await, ["250 2.0.0 Ok"]);
        let replies = client.bring(&parcel.from, &parcel.to, &octets(parcel)).await;
        assert!(replies.len() == parcel.to.len() || replies.len() == 1, "{replies:?}");
        // A refusal before the message is one of all recipients.
        let all = replies.iter().cycle().take(parcel.to.len());
        Heard::Lmtp(parcel.to.iter().cloned().zip(all.cloned()).collect())
    }
}

/// The message of a parcel.
fn octets(parcel: &Parcel) -> Vec<u8> {
    let fields = parcel.fields.iter().flat_map(|(name, value)| format!("{name}: {value}\r\n").into_bytes());
    fields.chain([b"\r\n", parcel.body.as_slice()].concat()).collect()
}

/// A mail server that asks by hooks, and connects for each request.
#[derive(Clone)]
pub enum Asks {
    /// A Stalwart.
    Stalwart(Stalwart),
    /// A bridge of draft-01.
    Draft01(Arc<Bridge>),
}

impl Asks {
    /// What it makes of a message, as if it had been told by a milter. One that gets no answer says 451 by itself.
    async fn told(&self, parcel: &Parcel) -> Told {
        let (asks, parcel, to) = (self.clone(), parcel.clone(), parcel.to.clone());
        let asking = tokio::spawn(async move {
            let (octets, to) = (octets(&parcel), parcel.to.clone());
            let brought = Brought { from: &parcel.from, to, login: None, id: &parcel.queue_id, octets: &octets };
            match asks {
                Asks::Stalwart(stalwart) => stalwart.takes(&brought, false).await,
                Asks::Draft01(bridge) => bridge.takes(&brought, false).await,
            }
        });
        let told = Told {
            answer: Answer::Gone,
            removed: Vec::new(),
            added: Vec::new(),
            inserted: Vec::new(),
            deleted: Vec::new(),
        };
        // Its client gives up where no answer is one.
        let Ok(Outcome { reply, gets, message }) = asking.await else { return told };
        let message = String::from_utf8(message).unwrap();
        let head = message.split("\r\n\r\n").next().unwrap_or_default();
        let fields = head.split("\r\n").filter_map(|line| line.split_once(':'));
        let inserted = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect::<Vec<_>>();
        let has_key = inserted.iter().any(|(name, _)| name.eq_ignore_ascii_case("X-Auth-Key"));
        Told {
            answer: match () {
                () if !reply.starts_with("250 ") => Answer::Reply(reply),
                () if gets.is_empty() => Answer::Drop,
                () => Answer::Deliver,
            },
            removed: to.iter().filter(|to| !gets.contains(to)).map(|to| format!("<{to}>")).collect(),
            added: gets.into_iter().filter(|get| !to.contains(get)).collect(),
            inserted,
            deleted: if has_key { Vec::new() } else { vec!["X-Auth-Key".into()] },
        }
    }
}

/// The stage; no scenario is twice on it.
pub struct Stage {
    class: String,
    way: Way,
    /// Behind the door of LMTP.
    agent: Option<Agent>,
    /// A bridge that has registered, and where.
    bridge: Mutex<Option<(SocketAddr, Arc<Bridge>)>>,
    home: tempfile::TempDir,
    servers: Vec<Authority>,
    _zone: Zone,
}

impl Stage {
    /// Starts DNS and the servers, and writes the configuration.
    pub async fn set(class: &str, parts: &[Part], way: Way) -> Stage {
        let (mut servers, mut records) = (Vec::new(), Records::default());
        for (scenario, shape) in parts {
            let server = Authority::start([act(class, shape)]).await.unwrap();
            records = lead(records, class, shape, &domain(scenario), server.addr.port());
            // A server that is gone leaves a port where nobody is.
            if class != "as-refuse" {
                servers.push(server);
            }
        }
        let zone = Zone::start(records).await.unwrap();
        let home = tempfile::Builder::new().prefix("aa-fault-").tempdir().unwrap();
        let state = home.path().join("state");
        let agent = if way == Way::Lmtp { Some(Agent::start(Habits::default()).await) } else { None };
        let listen = "listen = [\"inet:127.0.0.1:0\"]";
        let doors = match (&agent, way) {
            (Some(agent), _) => format!("[milter]\nlisten = []\n[lmtp]\n{listen}\nnext = \"inet:{}\"", agent.address),
            (None, Way::Stalwart | Way::Draft01) => format!("[milter]\nlisten = []\n[hooks]\n{listen}"),
            (None, _) => format!("[milter]\n{listen}"),
        };
        // Stalwart shows no Authentication-Results that can be believed.
        let trusted = if way == Way::Stalwart { "" } else { "\"mx.home.example\"" };
        let mut config = format!(
            "hostname = \"mx.home.example\"\nfinal_domains = [\"home.example\"]\nobserve = false\nstate_dir = {state:?}\n\
             trusted_authserv_ids = [{trusted}]\n{doors}\n[notices]\nnotify_via = \"127.0.0.1:9\"\n\
             [verify]\ndns = [\"{}\"]\nallow_targets = [\"127.0.0.0/8\"]\n\
             [policy]\ninvalid = \"accept\"\nquarantine = \"store\"\n\
             [policy.recipient.\"warm@home.example\"]\nnone = \"reject-notify-recipient\"\n",
            zone.addr
        );
        for (scenario, policy) in SCENARIOS {
            config += &format!(
                "[policy.recipient.\"{scenario}@home.example\"]\ninvalid = \"{policy}\"\nunverified = \"{policy}\"\n\
                 none = \"{policy}\"\n"
            );
        }
        std::fs::write(home.path().join("filter.toml"), config).unwrap();
        Stage { class: class.to_owned(), way, agent, bridge: Mutex::default(), home, servers, _zone: zone }
    }

    /// A connection to the door, which is there.
    pub async fn connect(&self, door: SocketAddr) -> Carrier {
        match self.way {
            Way::Milter => Carrier::Milter(Courier::connect(door).await.unwrap()),
            Way::Lmtp => Carrier::Lmtp(Client::open(door).await.0),
            Way::Stalwart => Carrier::Hooks(Asks::Stalwart(Stalwart::asking(door))),
            Way::Draft01 => Carrier::Hooks(Asks::Draft01(self.bridge(door).await)),
        }
    }

    /// The bridge that has registered at this door.
    async fn bridge(&self, door: SocketAddr) -> Arc<Bridge> {
        let mut known = self.bridge.lock().await;
        match &*known {
            Some((place, bridge)) if *place == door => Arc::clone(bridge),
            _ => {
                let bridge = Arc::new(Bridge::registered(door, None, &["data"]).await);
                *known = Some((door, Arc::clone(&bridge)));
                bridge
            }
        }
    }

    /// What the delivery agent got since this was asked last.
    pub fn delivered(&self) -> Vec<Delivery> {
        self.agent.as_ref().map(Agent::take).unwrap_or_default()
    }

    /// Where the filter's files are.
    pub fn dir(&self) -> &std::path::Path {
        self.home.path()
    }

    /// The message of a part; a retry has a queue id of its own.
    pub fn parcel(&self, (scenario, shape): Part, retry: bool) -> Parcel {
        let mut to = vec![format!("{scenario}@home.example")];
        if shape == "mixed" {
            to.push("friend@home.example".into());
        }
        let field = |name: &str, value: String| (name.to_owned(), value);
        let from = format!("alice@{}", domain(scenario));
        // Who wants the sender told, and nobody else: his reverse-path is proved, so that a report may go there.
        let spf = if scenario == "sender" { "pass" } else { "none" };
        Parcel {
            queue_id: queue_id(scenario, retry),
            to,
            fields: vec![
                field("From", format!("Alice <{from}>")),
                field("Authentication-Results", format!("mx.home.example; spf={spf} smtp.mailfrom={from}")),
                field("X-Auth-Key", key(scenario)),
                field("Message-ID", format!("<{scenario}@example.net>")),
                field("Subject", format!("{} {scenario}", self.class)),
            ],
            from,
            body: b"one line\r\n.\r\nanother\r\n".to_vec(),
        }
    }

    /// Brings these messages at the same time, each on a connection of its own.
    pub async fn bring(&self, door: SocketAddr, parts: &[Part], retry: bool) -> BTreeMap<Part, Heard> {
        let mut all = JoinSet::new();
        for part in parts.iter().copied() {
            let (parcel, mut carrier) = (self.parcel(part, retry), self.connect(door).await);
            all.spawn(async move { (part, carrier.bring(&parcel).await) });
        }
        all.join_all().await.into_iter().collect()
    }

    /// Waits until every server was asked.
    pub async fn asked(&self) {
        let asked = async {
            while self.servers.iter().any(|server| server.count() == 0) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(60), asked).await.expect("every message leads to a question");
    }

    /// From now on every server says that the key is wrong.
    pub fn heal(&self) {
        self.servers.iter().for_each(|server| server.now_does(Act::invalid()));
    }

    /// Brings a message that has everything opened which is opened once, to write and to read.
    pub async fn warm_up(&self, carrier: &mut Carrier) {
        let parcel = Parcel {
            queue_id: "WARM".into(),
            from: "eve@nowhere.example".into(),
            to: vec!["warm@home.example".into()],
            fields: vec![("From".into(), "eve@nowhere.example".into())],
            body: Vec::new(),
        };
        let heard = carrier.bring(&parcel).await;
        let is_dropped = match &heard {
            Heard::Milter(told) => told.answer == Answer::Drop,
            Heard::Lmtp(replies) => replies[0].1.starts_with("250 ") && self.delivered().is_empty(),
        };
        assert!(is_dropped, "{}: {heard:?}", self.class);
    }
}

/// The key of a scenario's message, which nobody knows.
pub fn key(scenario: &str) -> String {
    junk(SCENARIOS.iter().position(|(name, _)| *name == scenario).unwrap())
}

/// The MTA's name for a scenario's message.
pub fn queue_id(scenario: &str, retry: bool) -> String {
    format!("{}{}", scenario.to_uppercase(), if retry { "AGAIN" } else { "FIRST" })
}

fn domain(scenario: &str) -> String {
    format!("{scenario}.example")
}

/// What the AS does.
fn act(class: &str, shape: &str) -> Act {
    match (class, shape) {
        ("as-blackhole", _) => Act::Silence,
        ("as-slow", _) => Act::Late(Duration::from_secs(4), Box::new(Act::valid())),
        ("as-wrong-seq", "one") => Act::OtherSeq(Status::Valid),
        ("as-wrong-seq", _) => Act::OtherAddress(Status::Valid),
        ("as-garbage", "one") => Act::Raw(b"\xff\x00VALIDKEY \x80\r\n\r\n".to_vec()),
        ("as-garbage", _) => Act::Extra(Status::Valid),
        ("as-huge", "one") => Act::Huge(Status::Valid),
        ("as-huge", _) => Act::Raw([b"VALIDKEY ".to_vec(), vec![b'x'; 60_000]].concat()),
        // Until the filter is killed nobody answers.
        ("kill-9", _) => Act::Silence,
        // The clock jumps while the question is under way.
        ("clock-jump", _) => Act::Late(Duration::from_millis(500), Box::new(Act::invalid())),
        _ => Act::invalid(),
    }
}

/// What DNS says about a domain whose AS is on this port.
fn lead(records: Records, class: &str, shape: &str, domain: &str, port: u16) -> Records {
    let (host, text) = (format!("as.{domain}"), format!("AS=as.{domain}:{port}"));
    let whole = |records: Records| records.txt(domain, &text).address(&host, LOOPBACK);
    match (class, shape) {
        ("dns-nxdomain", "one") => records,
        ("dns-nxdomain", _) => records.txt(domain, &text),
        ("dns-servfail", "one") => whole(records).fault(domain, zone::Fault::ServFail),
        ("dns-servfail", _) => whole(records).fault(&host, zone::Fault::ServFail),
        ("dns-loop", "one") => records.alias(domain, domain),
        ("dns-loop", _) => {
            let name = |step: usize| if step == 0 { domain.to_owned() } else { format!("n{step}.{domain}") };
            let chain = |records: Records, step: usize| records.alias(&name(step), &name(step + 1));
            (0..12).fold(records, chain).txt(&name(12), &text).address(&host, LOOPBACK)
        }
        ("dns-huge", "one") => {
            let more = |records: Records, number| records.txt(domain, &format!("AS=as{number}.{domain}:{port}"));
            (0..17).fold(whole(records), more)
        }
        ("dns-huge", _) => {
            let more = |records: Records, number| records.txt(domain, &format!("{number:0>250}"));
            (0..200).fold(whole(records), more)
        }
        _ => whole(records),
    }
}
