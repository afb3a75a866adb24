//! The stage of the demonstration: a zone, an Authentication Server, the filter, an MTA and a mailbox, all on loopback.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use addrauth::authority::{self, Authority};
use addrauth::case::{Body, Case, Mail};
use addrauth::config::{self, Config, Limits, Listen, Observe, StateDir};
use addrauth::filter::{self, Filter};
use addrauth::mta::listen::{self, Listener};
use addrauth::mta::milter;
use addrauth::mta::reception::Reception;
use addrauth::mta::{Judge, Lanes};
use addrauth::proto::address::{self, Address, Domain};
use addrauth::proto::header;
use addrauth::proto::key::AuthKey;
use addrauth_lab::mailbox::Mailbox;
use addrauth_lab::mta::{self, Fate, Mta};
use addrauth_lab::zone::{Records, Zone};

use super::super::{journal, trial};
use super::act::{Act, Ending};
use addrauth::why::{self, Account};

/// How long a notice may take to arrive: at most one a second is sent.
const NOTICE_WAIT: Duration = Duration::from_secs(10);

/// Why the stage could not be set.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("cannot set up on loopback: {0}")]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Authority(#[from] authority::Error),
    #[error(transparent)]
    Filter(#[from] filter::Error),
    #[error(transparent)]
    Door(#[from] listen::Error),
    #[error("the milter: {0}")]
    Mta(#[from] mta::Error),
    #[error("the message: {0}")]
    OverBounds(#[from] header::OverBounds),
    #[error("the message: {0}")]
    Field(#[from] header::BadField),
    #[error(transparent)]
    Journal(#[from] journal::Unread),
    #[error("the filter answered without telling its case")]
    NoCase,
    #[error("the address of the demonstration is wrong")]
    Address,
}

/// Everything that takes part.
pub(super) struct Scene {
    limits: Arc<Limits>,
    pub(super) alice: Address,
    /// Alice's living key.
    pub(super) key: AuthKey,
    /// A key of the right form that the server never issued to her.
    pub(super) stranger: AuthKey,
    pub(super) dns: SocketAddr,
    pub(super) server: SocketAddr,
    pub(super) milter: Listen,
    pub(super) mailbox: Mailbox,
    config: Config,
    filter: watch::Sender<Arc<Witness>>,
    cases: Arc<Mutex<Vec<Case>>>,
    mta: Mta,
    noticed: usize,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
    _zone: Zone,
    _down: UdpSocket,
    _home: tempfile::TempDir,
}

/// The filter, and a note of each case that it kept.
struct Witness {
    filter: Filter,
    cases: Arc<Mutex<Vec<Case>>>,
}

impl Judge for Witness {
    async fn examine(&self, mail: Mail) -> Case {
        self.filter.examine(mail).await
    }

    async fn keep(&self, case: Case, body: Option<Body>) -> Case {
        let case = self.filter.keep(case, body).await;
        self.cases.lock().unwrap_or_else(PoisonError::into_inner).push(case.clone());
        case
    }
}

impl Scene {
    /// Sets the stage.
    pub(super) async fn set() -> Result<Scene, Error> {
        let home = tempfile::tempdir()?;
        let limits = Arc::new(Limits::default());
        let mailbox = Mailbox::start()?;
        let socket = UdpSocket::bind(("127.0.0.1", 0)).await?;
        let server = socket.local_addr()?;
        // Held, and taking datagrams from itself alone: the system answers "refused" to any other.
        let down = UdpSocket::bind(("127.0.0.1", 0)).await?;
        down.connect(down.local_addr()?).await?;
        let zone = zone(server.port(), down.local_addr()?.port()).await?;
        let config = config(home.path(), &zone, &mailbox)?;
        let stop = CancellationToken::new();

        let authority = Arc::new(Authority::open(&config, &limits).await?);
        let alice = Address::parse(b"alice@sender.example", false).map_err(|_| Error::Address)?;
        let other = Address::parse(b"mallory@sender.example", false).map_err(|_| Error::Address)?;
        let key = authority.issue(&alice).await?.key;
        let stranger = authority.issue(&other).await?.key;
        let answering = Arc::clone(&authority).serve(vec![socket.into_std()?], stop.clone());

        let cases = Arc::default();
        let filter = Filter::builder(config.clone(), trial()).limits(Arc::clone(&limits)).open().await?;
        let custody = filter.custody().cloned();
        let (filter, judge) = watch::channel(Arc::new(Witness { filter, cases: Arc::clone(&cases) }));
        let listeners = milter::bind(&config.milter)?;
        let milter = listeners.first().map(Listener::local).ok_or(Error::NoCase)?;
        let reception = Reception::open(judge, Arc::clone(&limits), stop.clone());
        let mut tasks = vec![tokio::spawn(answering), tokio::spawn(milter::serve(listeners, reception, Lanes::here()))];
        if let Some(custody) = custody {
            let stop = stop.clone();
            tasks.push(tokio::spawn(async move { custody.run(stop).await }));
        }
        let mta = Mta::connect(&milter).await?;
        let dns = zone.addr;
        Ok(Scene {
            limits,
            alice,
            key,
            stranger,
            dns,
            server,
            milter,
            mailbox,
            config,
            filter,
            cases,
            mta,
            noticed: 0,
            stop,
            tasks,
            _zone: zone,
            _down: down,
            _home: home,
        })
    }

    /// The next notice that arrives, in time.
    async fn notice(&mut self) -> Option<String> {
        let end = tokio::time::Instant::now() + NOTICE_WAIT;
        while tokio::time::Instant::now() < end {
            if let Some(taken) = self.mailbox.taken().into_iter().nth(self.noticed) {
                self.noticed += 1;
                return Some(taken.text);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        None
    }

    /// Binds the act's policy, sends its message over the connection that stays open, and sees how it ends.
    pub(super) async fn play(&mut self, act: &Act) -> Result<Ending, Error> {
        self.bind(act.invalid).await?;
        let outcome = self.mta.send(&act.envelope, &act.message).await?;
        let case = self.cases.lock().unwrap_or_else(PoisonError::into_inner).pop().ok_or(Error::NoCase)?;
        let waits = case.reply.owed.iter().any(|owed| matches!(owed, addrauth::case::Owed::Notice(_)));
        let notice = if waits { self.notice().await } else { None };
        let kept = case.reply.owed.iter().any(|owed| matches!(owed, addrauth::case::Owed::Quarantine(_)));
        let (told, delivered) = match outcome.fate {
            Fate::Delivered if case.reply.removed.is_empty() => ("250 accepted".into(), Some(outcome.message)),
            Fate::Delivered => {
                let (all, left) = (case.mail.recipients.len(), outcome.recipients.len());
                (format!("250 accepted, for {left} of {all} recipients"), Some(outcome.message))
            }
            Fate::Held(_) => ("250 and held for the postmaster".into(), Some(outcome.message)),
            Fate::Discarded if kept => ("250 and kept in quarantine".into(), None),
            Fate::Discarded => ("250 and dropped".into(), None),
            Fate::Refused(reply) => (reply, None),
        };
        Ok(Ending { case, told, delivered, notice })
    }

    /// What `addrauth why` tells of the message that was played last.
    pub(super) async fn why(&self) -> Result<String, Error> {
        let custody = self.filter.borrow().filter.custody().cloned();
        if let Some(custody) = custody {
            custody.flush().await;
        }
        let ledger = journal::open(&self.config).await?;
        let newest = ledger.journal(1).await.map_err(journal::Unread::from)?;
        let accounts = why::tell(&self.config, &ledger, newest, &trial()).await;
        ledger.close().await;
        Ok(accounts.map_err(journal::Unread::from)?.iter().map(Account::text).collect())
    }

    /// Swaps in the policy for `invalid`, as a reload would, while the MTA's connection stays open.
    async fn bind(&mut self, invalid: &str) -> Result<(), Error> {
        if self.config.policy.invalid == invalid {
            return Ok(());
        }
        self.config.policy.invalid = invalid.into();
        let old = Arc::clone(&self.filter.borrow());
        let filter = old.filter.reload(self.config.clone()).await?;
        self.filter.send_replace(Arc::new(Witness { filter, cases: Arc::clone(&self.cases) }));
        Ok(())
    }

    /// How much of a header block is read here, as in the filter.
    pub(super) fn bounds(&self) -> header::Bounds {
        header::Bounds { fields: self.limits.mta.header_fields, octets: self.limits.mta.header_octets }
    }

    /// Ends everything that was started.
    pub(super) async fn strike(self) {
        drop(self.mta);
        self.stop.cancel();
        for task in self.tasks {
            // A task that panicked has said so; the stage goes either way.
            let _ = task.await;
        }
    }
}

/// The zone: a domain that takes part, one whose server is down, one that knows nothing of it all.
async fn zone(port: u16, down: u16) -> Result<Zone, std::io::Error> {
    let takes_part = format!("AS=as.sender.example:{port}; v=1; m=some");
    let is_down = format!("AS=as.down.example:{down}; v=1");
    let home = IpAddr::from([127, 0, 0, 1]);
    let records = Records::default()
        .txt("sender.example", &takes_part)
        .txt("sender.example", "v=spf1 -all")
        .address("as.sender.example", home)
        .txt("down.example", &is_down)
        .address("as.down.example", home)
        .txt("plain.example", "v=spf1 -all");
    Zone::start(records).await
}

/// What the administrator decided for single recipients about forged mail.
fn wishes(home: &Domain) -> Result<BTreeMap<address::Mailbox, config::Bindings>, Error> {
    let forged = |id: &str| config::Bindings { invalid: Some(id.into()), ..Default::default() };
    let lines =
        [("ann", "accept"), ("ben", "reject-silently"), ("cleo", "quarantine"), ("dora", "reject-notify-recipient")];
    let line = |(name, id)| Ok((Address::at(name, home).map_err(|_| Error::Address)?.mailbox(), forged(id)));
    lines.into_iter().map(line).collect()
}

fn config(home: &std::path::Path, zone: &Zone, mailbox: &Mailbox) -> Result<Config, Error> {
    let domain = |name: &str| Domain::parse(name).map_err(|_| Error::Address);
    let here = domain("home.example")?;
    Ok(Config {
        hostname: "mx.home.example".into(),
        observe: Observe(false),
        state_dir: StateDir(home.to_owned()),
        milter: config::Milter { listen: vec![Listen::Inet(([127, 0, 0, 1], 0).into())], ..Default::default() },
        verify: config::Verify {
            dns: vec![zone.addr],
            allow_targets: vec![IpNet::from(IpAddr::from([127, 0, 0, 1]))],
            ..Default::default()
        },
        policy: config::Policy { recipient: wishes(&here)?, ..Default::default() },
        notices: config::Notices { notify_via: mailbox.address().to_string(), ..Default::default() },
        authority: config::Authority { domains: vec![domain("sender.example")?], ..Default::default() },
        final_domains: vec![here],
        ..Config::default()
    })
}
