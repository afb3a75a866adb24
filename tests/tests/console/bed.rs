//! A site with two domains, mail for several of its users, and browsers.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use addrauth::proto::address::Mailbox as Address;
use addrauth::store::{Ledger, Opening, Register};
use addrauth_lab::mailbox::{Mailbox, Taken};
use addrauth_lab::mta::{Envelope, Fate, Mta};
use addrauth_tests::daemon::{Daemon, binary};
use addrauth_tests::http::{Answer, request};
use addrauth_tests::{dns, ports};

/// How long anything may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// The password of every account.
pub const PASSWORD: &str = "correct horse battery staple";
/// What no page shows: it came as a key.
pub const KEY: &str = "Vb3kQ9w2Zr7tYp0sXn4mLc8dHf1gJa6eUi5oRk2yTq9wEz3xBv7nMs4pDl8hGj0K";
/// What no page may hold as it stands here: it came in mail, or from a policy.
pub const HOSTILE: [&str; 4] = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(2)>",
    "\"><svg onload=alert(3)>",
    "javascript:alert(4)//<b>",
];

pub struct Bed {
    pub console: Daemon,
    pub place: SocketAddr,
    pub proxy: PathBuf,
    pub inbox: Mailbox,
    pub state: PathBuf,
    /// `policy.dir`.
    pub policies: PathBuf,
    door: PathBuf,
    file: PathBuf,
    filter: Daemon,
    _dir: tempfile::TempDir,
}

/// Somebody with a browser, signed in or not.
pub struct Browser {
    place: SocketAddr,
    pub cookie: String,
}

impl Bed {
    /// A site whose policy keeps back mail of domains that give no keys, in words of its own.
    pub async fn start(more: &str) -> Bed {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let (file, door, state, proxy) = (at("site.toml"), at("door"), at("state"), at("proxy"));
        let policies = at("policies");
        std::fs::create_dir(&policies).unwrap();
        let inbox = Mailbox::start().unwrap();
        let place = ports::claim_place();
        let text = format!(
            "hostname = \"mx.home.example\"\nfinal_domains = [\"home.example\", \"other.example\"]\nobserve = false\n\
             state_dir = {state:?}\n[milter]\nlisten = [\"unix:{}\"]\n[notices]\nnotify_via = \"{}\"\n\
             [verify]\ndns = [\"{}\"]\n[policy]\ndir = {policies:?}\nnone = \"ours\"\nunusable = \"quarantine\"\n\
             user_may = [\"accept\", \"mark\", \"quarantine\", \"reject-notify-sender\"]\nuser_rules = true\n\
             [policies.ours]\nmodule = \"rules\"\nsettings.rules = [\"otherwise quarantine '{}'\"]\n\
             [console]\nlisten = [\"inet:{place}\"]\ntrusted_proxy = [\"unix:{}\"]\nurl = \"http://{place}\"\n{more}\n",
            door.display(),
            inbox.address(),
            dns::empty(),
            HOSTILE[1],
            proxy.display(),
        );
        std::fs::write(&file, text).unwrap();
        let mut filter = Daemon::start("filter", &file);
        filter.until_it_takes_mail(&format!("unix:{}", door.display()));
        for (name, role, scope) in [
            ("ann", "admin", None),
            ("rea", "reader", None),
            ("kay", "domain", Some("other.example")),
            ("bob", "user", Some("bob@home.example")),
        ] {
            let mut words = vec!["console", "user", "add", name, "--role", role, "--password-file", "-"];
            words.extend(scope.into_iter().flat_map(|scope| ["--for", scope]));
            assert!(verb(&file, &words, &format!("{PASSWORD}\n")), "{name}");
        }
        // Its log is a file of its own.
        let own = at("console.toml");
        std::fs::copy(&file, &own).unwrap();
        let mut console = Daemon::start("console", &own);
        console.until_it_takes_mail(&format!("inet:{place}"));
        Bed { console, place, proxy, inbox, state, door, file, policies, filter, _dir: dir }
    }

    /// Mail through the filter's door: what the mail server was told, and the number of its row.
    pub async fn mail(&self, id: &str, from: &str, to: &[&str], subject: &str) -> (Fate, i64) {
        let place = format!("unix:{}", self.door.display()).parse().unwrap();
        let mut mta = Mta::connect(&place).await.unwrap();
        let inbound = Envelope::inbound("alice@sender.example", to[0]);
        let recipients = to.iter().map(ToString::to_string).collect();
        let envelope = Envelope { queue_id: id.into(), recipients, ..inbound };
        let message = format!(
            "X-Auth-Key: {KEY}\r\nFrom: {from}\r\nTo: {}\r\nSubject: {subject}\r\nContent-Type: text/html\r\n\r\n\
             <p>Hello {}</p>{}\r\n",
            to.join(", "),
            to[0],
            HOSTILE[0]
        );
        let fate = mta.send(&envelope, message.as_bytes()).await.unwrap().fate;
        let ledger = self.ledger().await;
        let begin = Instant::now();
        loop {
            let rows = ledger.journal_of(id).await.unwrap();
            if let Some(row) = rows.first() {
                return (fate, row.id);
            }
            assert!(begin.elapsed() < PATIENCE, "no row of {id}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The same, kept back: its numbers in the journal and in quarantine.
    pub async fn kept(&self, id: &str, from: &str, to: &[&str], subject: &str) -> (i64, i64) {
        let (fate, row) = self.mail(id, from, to, subject).await;
        assert_eq!(fate, Fate::Discarded, "{id}");
        let held = self.ledger().await.held_as(id).await.unwrap();
        (row, held[0])
    }

    pub async fn ledger(&self) -> Ledger {
        Ledger::open(&self.state, Opening { busy: Duration::from_secs(20), readers: 1 }).await.unwrap()
    }

    pub async fn register(&self) -> Register {
        Register::open(&self.state, Opening { busy: Duration::from_secs(20), readers: 1 }).await.unwrap()
    }

    pub async fn wanted(&self, address: &str) -> Vec<String> {
        self.ledger().await.allowed(&Address::parse(address).unwrap()).await.unwrap()
    }

    /// For whom a message still waits.
    pub async fn waits(&self, held: i64) -> Vec<String> {
        let found = self.ledger().await.held_message(held).await.unwrap();
        let recipients = found.map(|(held, _)| held.recipients).unwrap_or_default();
        recipients.into_iter().filter(|r| r.outcome.is_none()).map(|r| r.recipient).collect()
    }

    /// The console's configuration.
    pub fn own_file(&self) -> PathBuf {
        self.file.with_file_name("console.toml")
    }

    /// The filter takes what the console's configuration says now.
    pub async fn obey(&self) {
        let begun = self.filter.log_length();
        std::fs::copy(self.own_file(), &self.file).unwrap();
        self.filter.signal("HUP");
        let begin = Instant::now();
        while !self.filter.log_beyond(begun).contains("reloaded: the next message") {
            assert!(begin.elapsed() < PATIENCE, "{}", self.filter.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The names of the files in `policy.dir`.
    pub fn put_there(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.policies).unwrap();
        let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// A verb of the program on this site; whether its exit code is 0.
    pub fn verb(&self, words: &[&str], input: &str) -> bool {
        verb(&self.file, words, input)
    }

    /// Somebody who is not signed in.
    pub fn nobody(&self) -> Browser {
        Browser { place: self.place, cookie: String::new() }
    }

    /// Somebody who is, by a password.
    pub async fn signed_in(&self, name: &str) -> Browser {
        let mut browser = self.nobody();
        let answer = browser.post("/login", "/login", &[("name", name), ("password", PASSWORD)]).await;
        assert_eq!((answer.status, answer.field("location")), (303, "/"), "{}", answer.text());
        browser
    }

    /// The first mail to this address that holds this text.
    pub async fn arrived(&self, to: &str, text: &str) -> Taken {
        let begin = Instant::now();
        let wanted = |taken: &Taken| taken.to == [format!("<{to}>")] && taken.text.contains(text);
        loop {
            if let Some(taken) = self.inbox.taken().into_iter().find(wanted) {
                return taken;
            }
            assert!(begin.elapsed() < PATIENCE, "no mail to {to} with {text}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn verb(file: &Path, words: &[&str], input: &str) -> bool {
    let mut command = Command::new(binary());
    command.arg("--config").arg(file).args(words);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes()).unwrap();
    child.wait().unwrap().success()
}

impl Browser {
    pub async fn get(&mut self, path: &str) -> Answer {
        let cookie = self.cookie.clone();
        let answer = request(self.place, &format!("GET {path}"), &[("cookie", &cookie)], b"").await;
        self.keep(answer)
    }

    /// Fills in the form of a page, and sends it.
    pub async fn post(&mut self, page: &str, path: &str, pairs: &[(&str, &str)]) -> Answer {
        let page = self.get(page).await;
        let token = token(&page.text());
        self.send(path, &[pairs, &[("token", &token)]].concat(), &[]).await
    }

    /// Sends a form as it is.
    pub async fn send(&mut self, path: &str, pairs: &[(&str, &str)], fields: &[(&str, &str)]) -> Answer {
        let body: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        let cookie = self.cookie.clone();
        let own = [("cookie", cookie.as_str()), ("content-type", "application/x-www-form-urlencoded")];
        let fields = [&own, fields].concat();
        let answer = request(self.place, &format!("POST {path}"), &fields, body.join("&").as_bytes()).await;
        self.keep(answer)
    }

    /// Fills in the form of a page that takes files, and sends it: each part with its name, the name of a file where it is one, and what
    /// it holds.
    pub async fn upload(&mut self, page: &str, path: &str, parts: &[(&str, Option<&str>, &[u8])]) -> Answer {
        let token = token(&self.get(page).await.text());
        self.send_parts(path, &[&[("token", None, token.as_bytes())], parts].concat()).await
    }

    /// Sends such a form as it is.
    pub async fn send_parts(&mut self, path: &str, parts: &[(&str, Option<&str>, &[u8])]) -> Answer {
        let mut body = Vec::new();
        for (name, file, octets) in parts {
            let file = file.map(|file| format!("; filename=\"{file}\"")).unwrap_or_default();
            body.extend(
                format!("--BoUnDaRy\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n").into_bytes(),
            );
            body.extend(*octets);
            body.extend(b"\r\n");
        }
        body.extend(b"--BoUnDaRy--\r\n");
        let cookie = self.cookie.clone();
        let fields = [("cookie", cookie.as_str()), ("content-type", "multipart/form-data; boundary=BoUnDaRy")];
        let answer = request(self.place, &format!("POST {path}"), &fields, &body).await;
        self.keep(answer)
    }

    /// The token of this browser's forms.
    pub async fn token(&mut self) -> String {
        // Whoever is signed in may sign out, on every page.
        token(&self.get("/acts").await.text())
    }

    fn keep(&mut self, answer: Answer) -> Answer {
        for (name, value) in &answer.fields {
            if name == "set-cookie" {
                self.cookie = value.split(';').next().unwrap().to_owned();
            }
        }
        answer
    }
}

/// The token in a page's form; empty where there is none.
pub fn token(page: &str) -> String {
    let value = page.split("name=\"token\" value=\"").nth(1).and_then(|rest| rest.split('"').next());
    value.unwrap_or_default().to_owned()
}

pub fn encoded(text: &str) -> String {
    text.bytes()
        .map(|o| if o.is_ascii_alphanumeric() { char::from(o).to_string() } else { format!("%{o:02X}") })
        .collect()
}

/// Nothing of a stranger's stands in a page as a browser would read it, and no key in any form.
pub fn assert_harmless(path: &str, answer: &Answer) {
    let text = answer.text();
    for hostile in HOSTILE {
        assert!(!text.contains(hostile), "{path}: {hostile}");
    }
    assert!(!text.contains(&KEY[..22]), "{path} shows a key");
    assert!(!text.contains(" style=") && !text.contains(" onload=\"") && !text.contains("<script>"), "{path}: inline");
    if answer.field("content-type").starts_with("text/html") {
        assert_eq!(answer.field("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.field("cache-control"), "no-store", "{path}");
        assert!(answer.field("content-security-policy").starts_with("default-src 'self';"), "{path}");
    }
}
