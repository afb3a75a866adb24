//! A mail server of one's own: a small SMTP receiver that verifies each message, lets components decide, and obeys them.
//! It needs the library without default features, and `mta`, `shipped` and `verify`.
//!
//! Each recipient has a folder below `DIR/inbox`; what is quarantined is in `DIR/quarantine`, and `DIR/journal` has a line for
//! each message. All of it is on the disk before the client is answered. It serves until its standard input ends.
//! usage: embed CONFIG-FILE DIR

use std::borrow::Cow;
use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use addrauth::case::{Case, Client, Found, KeyStatus, Mail, Owed, Place, Recipient, Refusal, Verdict, Why};
use addrauth::config::{Config, Limits};
use addrauth::filter::{decide, rules};
use addrauth::mta::{Changes, FOR_NOW, Insertion, letter};
use addrauth::policy::{Policies, Trial};
use addrauth::proto::header::{self, Bounds, KEY_FIELD, NEW_KEY_FIELD, SPAM_FIELD, STATUS_FIELD};
use addrauth::settle::{Rules, status};
use addrauth::verify::Verifier;
use smtp_proto::{EXT_8BIT_MIME, EXT_ENHANCED_STATUS_CODES, EXT_PIPELINING, EXT_SIZE, EXT_SMTP_UTF8};
use smtp_proto::{EhloResponse, Request};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, BufWriter};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Octets of one message.
const MOST: usize = 10 * 1024 * 1024;
/// Octets of one command line (RFC 5321 §4.5.3.1.4 has 512, and extensions make it longer).
const LINE: u64 = 2_048;
/// Recipients of one message.
const RECIPIENTS: usize = 100;
/// Connections at once.
const CONNECTIONS: usize = 100;
/// How long a client may be silent (RFC 5321 §4.5.3.2).
const PATIENCE: Duration = Duration::from_secs(300);
const UNBOUND: Bounds = Bounds { fields: usize::MAX, octets: usize::MAX };

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [config, dir] = arguments.as_slice() else { return Err("usage: embed CONFIG-FILE DIR".into()) };
    let (config, limits) = (Config::read(Path::new(config))?, Arc::new(Limits::default()));

    // The administrator's own components, which `addrauth policy check` has tried. Others are tried by a process of their own.
    let policies = Policies::load(&config.policy, &config.policies, &limits, &Trial::waived())?;
    let verifier = Verifier::new(&config.verify, &config.hostname, &limits)?;
    let rules = rules(&config);
    let server = Arc::new(Server { config, limits, policies, verifier, rules, store: Store::open(Path::new(dir))? });

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let ends = tokio::task::spawn_blocking(|| io::copy(&mut io::stdin(), &mut io::sink()));
    tokio::select! {
        served = server.serve(listener) => Ok(served?),
        ended = ends => Ok(ended?.map(drop)?),
    }
}

struct Server {
    config: Config,
    limits: Arc<Limits>,
    policies: Policies,
    verifier: Verifier,
    rules: Rules,
    store: Store,
}

/// What MAIL and RCPT said.
#[derive(Default)]
struct Envelope {
    from: Option<String>,
    to: Vec<String>,
}

impl Server {
    async fn serve(self: &Arc<Self>, listener: TcpListener) -> io::Result<()> {
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let (socket, peer) = listener.accept().await?;
            let Ok(seat) = Arc::clone(&room).try_acquire_owned() else { continue };
            let server = Arc::clone(self);
            tokio::spawn(async move {
                let client = Client { ip: Some(peer.ip().to_canonical()), ..Client::default() };
                if let Err(fault) = server.talk(BufReader::new(BufWriter::new(socket)), client).await {
                    eprintln!("a connection ends: {fault}");
                }
                drop(seat);
            });
        }
    }

    async fn talk(
        &self,
        mut stream: BufReader<BufWriter<TcpStream>>,
        mut client: Client,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        let host = &self.config.hostname;
        stream.write_all(format!("220 {host} ESMTP\r\n").as_bytes()).await?;
        let mut envelope = Envelope::default();
        loop {
            if stream.buffer().is_empty() {
                stream.flush().await?;
            }
            let mut line = Vec::new();
            timeout(PATIENCE, (&mut stream).take(LINE).read_until(b'\n', &mut line)).await??;
            if !line.ends_with(b"\n") {
                return Ok(());
            }
            let said: Cow<'_, str> = match Request::parse(&mut line.iter()) {
                Ok(Request::Ehlo { host: name }) => {
                    (client.helo, envelope) = (name.into_owned(), Envelope::default());
                    greeting(host)?.into()
                }
                Ok(Request::Helo { host: name }) => {
                    (client.helo, envelope) = (name.into_owned(), Envelope::default());
                    format!("250 {host}").into()
                }
                Ok(Request::Mail { from }) if from.size > MOST => "552 5.3.4 That is too large".into(),
                Ok(Request::Mail { from }) => {
                    envelope = Envelope { from: Some(format!("<{}>", from.address)), to: Vec::new() };
                    "250 2.1.0 OK".into()
                }
                Ok(Request::Rcpt { to }) => self.recipient(&mut envelope, format!("<{}>", to.address)).into(),
                Ok(Request::Data) if envelope.to.is_empty() => "503 5.5.1 To whom?".into(),
                Ok(Request::Data) => {
                    stream.write_all(b"354 Go on\r\n").await?;
                    stream.flush().await?;
                    let envelope = std::mem::take(&mut envelope);
                    match timeout(PATIENCE, message(&mut stream)).await?? {
                        Some(octets) => self.receive(&envelope, client.clone(), octets).await.into(),
                        None => "552 5.3.4 That is too large".into(),
                    }
                }
                Ok(Request::Rset) => {
                    envelope = Envelope::default();
                    "250 2.0.0 OK".into()
                }
                Ok(Request::Noop { .. }) => "250 2.0.0 OK".into(),
                Ok(Request::Quit) => {
                    stream.write_all(b"221 2.0.0 Bye\r\n").await?;
                    return Ok(stream.flush().await?);
                }
                Ok(_) => "502 5.5.1 Not here".into(),
                Err(_) => "500 5.5.2 What is that?".into(),
            };
            stream.write_all(said.as_bytes()).await?;
            stream.write_all(b"\r\n").await?;
        }
    }

    fn recipient(&self, envelope: &mut Envelope, path: String) -> &'static str {
        if envelope.from.is_none() {
            return "503 5.5.1 From whom?";
        }
        if Recipient::new(path.as_bytes()).place(&self.config.final_domains) != Place::Here {
            return "550 5.7.1 Not here";
        }
        if envelope.to.len() >= RECIPIENTS {
            return "452 4.5.3 Too many recipients";
        }
        envelope.to.push(path);
        "250 2.1.5 OK"
    }

    /// What becomes of a message, and what its client is told.
    async fn receive(&self, envelope: &Envelope, client: Client, octets: Vec<u8>) -> String {
        let from = envelope.from.as_deref().unwrap_or("<>");
        let mail = match letter(&octets, client, from, &envelope.to, &self.limits) {
            Ok(mail) => mail,
            Err(refused) => return refused.reply().into(),
        };
        let Some(case) = self.examine(mail).await else { return FOR_NOW.into() };
        self.store.obey(case, octets, &self.rules.hostname).await.unwrap_or_else(|fault| {
            eprintln!("a message is deferred: {fault}");
            FOR_NOW.into()
        })
    }

    /// The message found out about and decided. Absent where that has to wait.
    async fn examine(&self, mail: Mail) -> Option<Case> {
        let found = self.verifier.verify(&mail).await.ok()?;
        let case = decide(&self.policies, &self.rules, mail.clone(), found).await;
        let Some(found) = case.finding.found().filter(|found| vanishes(&case, found)) else { return Some(case) };
        // Nothing vanishes on the word of one answer.
        let again = self.verifier.confirm(&mail, found).await.ok()?;
        Some(decide(&self.policies, &self.rules, mail, again).await)
    }
}

/// Whether the message would go without anybody hearing of it.
fn vanishes(case: &Case, found: &Found) -> bool {
    let wrong = found.status == KeyStatus::Invalid && found.why == Some(Why::Wrong);
    wrong && (case.reply.verdict == Verdict::Discard || !case.reply.removed.is_empty())
}

fn said(Refusal { code, status, text }: &Refusal) -> String {
    format!("{code} {status} {}", addrauth::proto::reply::text(text))
}

fn greeting(host: &str) -> io::Result<String> {
    let mut greeting = EhloResponse::new(host);
    greeting.capabilities = EXT_8BIT_MIME | EXT_ENHANCED_STATUS_CODES | EXT_PIPELINING | EXT_SIZE | EXT_SMTP_UTF8;
    greeting.size = MOST;
    let mut text = Vec::new();
    greeting.write(&mut text)?;
    Ok(String::from_utf8_lossy(&text).trim_end().to_owned())
}

/// The message up to the line of one dot; none where it is too large. Only CR LF ends a line, so that nobody can smuggle a
/// second message in.
async fn message(stream: &mut BufReader<BufWriter<TcpStream>>) -> io::Result<Option<Vec<u8>>> {
    let (mut octets, mut begins, mut fits, mut cr) = (Vec::new(), true, true, false);
    loop {
        let mut line = Vec::new();
        (&mut *stream).take(64 * 1024).read_until(b'\n', &mut line).await?;
        if line.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if begins && line == b".\r\n" {
            return Ok(fits.then_some(octets));
        }
        let stuffed = begins && line.first() == Some(&b'.');
        fits &= octets.len() + line.len() <= MOST;
        if fits {
            octets.extend_from_slice(line.get(usize::from(stuffed)..).unwrap_or_default());
        }
        begins = line.ends_with(b"\r\n") || cr && line == b"\n";
        cr = line.ends_with(b"\r");
    }
}

/// Where mail is kept.
struct Store {
    dir: PathBuf,
    next: AtomicU64,
}

impl Store {
    fn open(dir: &Path) -> io::Result<Store> {
        fs::create_dir_all(dir.join("inbox"))?;
        fs::create_dir_all(dir.join("quarantine"))?;
        Ok(Store { dir: dir.to_owned(), next: AtomicU64::new(1) })
    }

    /// Carries out a reply and all that it owes, and what the client is told then.
    async fn obey(&self, case: Case, octets: Vec<u8>, hostname: &str) -> Result<String, Box<dyn Error + Send + Sync>> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (dir, hostname) = (self.dir.clone(), hostname.to_owned());
        // Whatever fails here leaves the message with its client, which brings it again.
        tokio::task::spawn_blocking(move || Delivery { dir, number, case: &case, octets: &octets, hostname }.make())
            .await?
    }
}

/// One message on its way to the disk.
struct Delivery<'a> {
    dir: PathBuf,
    number: u64,
    case: &'a Case,
    octets: &'a [u8],
    hostname: String,
}

type Done<T> = Result<T, Box<dyn Error + Send + Sync>>;

impl Delivery<'_> {
    fn make(&self) -> Done<String> {
        let (mail, reply) = (&self.case.mail, &self.case.reply);
        for owed in &reply.owed {
            match owed {
                Owed::Record => {}
                Owed::Notice(index) => self.deliver(*index, "notice", &self.notice(*index))?,
                Owed::Quarantine(indices) => {
                    let to: Vec<String> =
                        indices.iter().filter_map(|at| Some(mail.recipients.get(*at)?.shown())).collect();
                    let kept =
                        header::inject(&self.clean(false)?, 0, "X-Kept-For", format!(" {}", to.join(", ")).as_bytes())?;
                    self.write(&self.dir.join("quarantine"), "eml", &kept)?;
                }
                Owed::Copy(indices) => self.deliver_all(indices, &self.clean(true)?)?,
                Owed::Apart(indices) => self.deliver_all(indices, &self.clean(false)?)?,
                // Users of this server have no rules of their own.
                Owed::RulesUnread(_) => {}
                // Neither is asked for: `decide` permits no report, and `policy.spam_folder` is empty.
                Owed::Report(_) | Owed::Folder(_) => {
                    return Err("a report and a spam folder are nothing for this server".into());
                }
            }
        }
        let answer = match &reply.verdict {
            Verdict::Accept => {
                let changed = changed(self.octets, &Changes::of(reply, &mail.recipients)?)?;
                let stay: Vec<usize> = (0..mail.recipients.len()).filter(|at| !reply.removed.contains(at)).collect();
                self.deliver_all(&stay, &changed)?;
                "250 2.0.0 Delivered".to_owned()
            }
            Verdict::Discard => "250 2.0.0 OK".to_owned(),
            // There is no hold queue.
            Verdict::Hold(_) => return Err("there is no hold queue".into()),
            Verdict::Reject(refusal) | Verdict::Defer(refusal) => said(refusal),
        };
        let mut journal = OpenOptions::new().create(true).append(true).open(self.dir.join("journal"))?;
        journal.write_all(format!("{}\n", self.case.line()).as_bytes())?;
        journal.sync_all()?;
        Ok(answer)
    }

    /// The message as it is kept or goes to some recipients alone: without keys, with our status, and the mark.
    fn clean(&self, marked: bool) -> Done<Vec<u8>> {
        let mut octets = header::strip(self.octets, &[KEY_FIELD, NEW_KEY_FIELD, STATUS_FIELD], UNBOUND)?;
        if marked {
            octets = header::inject(&octets, 0, SPAM_FIELD, b" YES")?;
        }
        if let Some(found) = self.case.finding.found() {
            octets =
                header::inject(&octets, 0, STATUS_FIELD, format!(" {}", status(found, &self.hostname)).as_bytes())?;
        }
        Ok(self.case.mail.redactor().cut(&octets).into_owned())
    }

    fn notice(&self, index: usize) -> Vec<u8> {
        let to = self.case.mail.recipients.get(index).map(Recipient::shown).unwrap_or_default();
        let from = self.case.mail.sender().map(ToString::to_string).unwrap_or_default();
        let text = format!(
            "From: postmaster@{}\r\nTo: {to}\r\nSubject: A message to you was not delivered\r\nAuto-Submitted: auto-replied\r\n\r\n\
             Its sender could not be confirmed. It came in the name of {from}.\r\n",
            self.hostname
        );
        text.into_bytes()
    }

    fn deliver_all(&self, indices: &[usize], octets: &[u8]) -> Done<()> {
        indices.iter().try_for_each(|index| self.deliver(*index, "eml", octets))
    }

    fn deliver(&self, index: usize, kind: &str, octets: &[u8]) -> Done<()> {
        let recipient = self.case.mail.recipients.get(index).and_then(Recipient::mailbox).ok_or("no mailbox")?;
        let name: String = (recipient.as_str().chars())
            .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '@' | '.' | '-' | '+') { c } else { '_' })
            .collect();
        // Two mailboxes may have one such name in this example; no name leads out of the folder, since it has an @.
        self.write(&self.dir.join("inbox").join(name), kind, octets)
    }

    /// A file that is whole or not there, and stays.
    fn write(&self, folder: &Path, kind: &str, octets: &[u8]) -> Done<()> {
        fs::create_dir_all(folder)?;
        let new = folder.join(format!(".{}.{kind}", self.number));
        let mut file = File::create(&new)?;
        file.write_all(octets)?;
        file.sync_all()?;
        fs::rename(&new, folder.join(format!("{}.{kind}", self.number)))?;
        Ok(File::open(folder)?.sync_all()?)
    }
}

/// The message with these changes made, in their order.
fn changed(octets: &[u8], changes: &Changes<'_>) -> Done<Vec<u8>> {
    let mut octets = octets.to_vec();
    for (name, index) in &changes.deleted {
        let block = header::scan(&octets, UNBOUND);
        let is = |field: &&header::Span| {
            octets.get(field.name.clone()).is_some_and(|known| known.eq_ignore_ascii_case(name.as_bytes()))
        };
        let nth = usize::try_from(*index)?.checked_sub(1).ok_or("no field")?;
        let whole = block.fields.iter().filter(is).nth(nth).ok_or("no field")?.whole.clone();
        octets.drain(whole);
    }
    for Insertion { index, name, value } in &changes.inserted {
        octets = header::inject(&octets, usize::try_from(*index)?, name, value.as_bytes())?;
    }
    Ok(octets)
}
