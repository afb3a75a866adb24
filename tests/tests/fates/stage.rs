//! What the cells are tried on: DNS, the Authentication Server of all domains, two filters, and an MTA that is played.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use addrauth::config::{Config, Listen, StateDir};
use addrauth::store::{NewestKey, Opening, open_keyring, read_or_make_opener};
use addrauth_lab::mta::{Envelope, Mta, Outcome};
use addrauth_lab::zone::{Records, Zone};
use addrauth_tests::authority::{Act, Authority};
use addrauth_tests::fault::{Filter, Place};
use addrauth_tests::world::{GOOD, JUNK, LOOPBACK, key};
use tokio::task::block_in_place;

use crate::table::{Cell, POLICIES};

/// Senders' domains of each kind: what one Authentication Server is asked in a second has a bound.
const DOMAINS: usize = 40;
/// Where the submitter sends from, and everybody else.
const SUBMITTER: &str = "192.0.2.9";
const ANYWHERE: &str = "198.51.100.7";
/// Who is elsewhere.
pub const AWAY: &str = "x@elsewhere.example";
/// Words of our own that every message brings, under another name.
pub const FORGED: &str = "X-Auth-Key-Status: VALIDKEY; address=boss@h0.example; by=forged.example";
/// What no copy may change: odd spacing, folds, 8-bit octets, lines that look like others.
const REST: &str = "Subject:  two  spaces,\r\n\ta fold\r\nMessage-ID: <odd@one.example>\r\nX-Odd:\u{e9}t\u{e9} \r\n\
    DKIM-Signature: v=1; a=rsa-sha256;\r\n  bh=abc=\r\n\r\n.\r\n..two dots\r\nX-Auth-Key: in the body it is text\r\ntrailing \t\r\n";

/// The stage of one filter.
pub struct Stage {
    pub filter: Filter,
    home: tempfile::TempDir,
    _server: Authority,
    _zone: Zone,
}

/// The address of the login and the submitter in this cell: one of its own where a report may go to it, of which each gets
/// one in an hour.
pub fn own(cell: &Cell) -> String {
    let domain = cell.number % DOMAINS;
    let told = matches!(cell.policy, "sender" | "both" | "silent") && !cell.observe && cell.place == "both";
    if told { format!("u{}@h{domain}.example", cell.number) } else { format!("alice@h{domain}.example") }
}

/// The address in From.
pub fn author(cell: &Cell) -> String {
    let domain = cell.number % DOMAINS;
    match cell.from {
        "own" => own(cell),
        "colleague" => format!("dave@h{domain}.example"),
        _ => format!("eve@a{domain}.example"),
    }
}

/// The one here: each cell has another, since nobody gets more than a few notices in an hour.
pub fn here(cell: &Cell) -> String {
    format!("bob{}@{}.here.example", cell.number, cell.policy)
}

/// The key that the message brings.
pub fn brought(cell: &Cell) -> Option<&'static str> {
    match cell.key {
        "valid" => Some(GOOD),
        "wrong" => Some(JUNK),
        _ => None,
    }
}

/// The message as it is submitted, and without key and forged words.
pub fn message(cell: &Cell) -> [Vec<u8>; 2] {
    let from = format!("From: {}\r\n{REST}", author(cell));
    let key = brought(cell).map(|key| format!("x-auth-key:{key}\r\n")).unwrap_or_default();
    [format!("{FORGED}\r\n{key}{from}").into_bytes(), from.into_bytes()]
}

impl Stage {
    /// Starts all of it, and puts a key of everybody who may be stamped into the keyring.
    pub async fn set(cells: &[Cell], observe: bool) -> Stage {
        let server = Authority::start([Act::Check(key(GOOD))]).await.unwrap();
        let lead = |records: Records, domain: String| {
            let (host, text) = (format!("as.{domain}"), format!("AS=as.{domain}:{}", server.addr.port()));
            records.txt(&domain, &text).address(&host, LOOPBACK)
        };
        let domains = || (0..DOMAINS).flat_map(|number| [format!("h{number}.example"), format!("a{number}.example")]);
        let zone = Zone::start(domains().fold(Records::default(), lead)).await.unwrap();
        let home = tempfile::Builder::new().prefix("aa-fates-").tempdir().unwrap();
        let state = home.path().join("state");
        std::fs::create_dir(&state).unwrap();
        let owners: BTreeSet<String> = cells.iter().map(own).collect();
        fill(&state, &owners).await;
        std::fs::write(home.path().join("filter.toml"), settings(&zone, &state, &owners, observe)).unwrap();
        let filter = block_in_place(|| Filter::start(home.path(), Place::Usual));
        Stage { filter, home, _server: server, _zone: zone }
    }

    /// Where the filter's files are.
    pub fn dir(&self) -> &Path {
        self.home.path()
    }

    /// A connection to the filter.
    pub async fn mta(&self) -> Mta {
        Mta::connect(&Listen::Inet(self.filter.door)).await.unwrap()
    }
}

/// Brings the message of a cell.
pub async fn bring(mta: &mut Mta, cell: &Cell) -> Outcome {
    let recipients = match cell.place {
        "inside" => vec![here(cell)],
        "outside" => vec![AWAY.to_owned()],
        // Whoever comes first makes no difference.
        _ if cell.number.is_multiple_of(2) => vec![here(cell), AWAY.to_owned()],
        _ => vec![AWAY.to_owned(), here(cell)],
    };
    let client = if cell.who == "submitter" { SUBMITTER } else { ANYWHERE };
    let envelope = Envelope {
        client: client.parse::<IpAddr>().unwrap(),
        login: (cell.who == "login").then(|| own(cell)),
        daemon: if cell.stamp { "ORIGINATING" } else { "smtpd" }.into(),
        reverse_path: own(cell),
        recipients,
        queue_id: cell.queue_id(),
        ..Envelope::inbound("", "")
    };
    mta.send(&envelope, &message(cell)[0]).await.unwrap_or_else(|e| panic!("{cell}: {e}"))
}

async fn fill(state: &Path, owners: &BTreeSet<String>) {
    let opener = read_or_make_opener(&state.join("keyring.key")).unwrap();
    let config = Config { state_dir: StateDir(state.to_owned()), ..Config::default() };
    let keyring = open_keyring(&config, Opening { busy: Duration::from_secs(30), readers: 1 }).await.unwrap();
    let (newest, learned) = (key(GOOD), SystemTime::now());
    for address in owners {
        let row = NewestKey {
            address: address.clone(),
            fingerprint: newest.verify_key().fingerprint(),
            sealed: opener.seal_to().seal(address, &newest).unwrap(),
            learned,
            expires: learned + Duration::from_secs(2 * 86_400),
        };
        keyring.learn(&row).await.unwrap();
    }
    keyring.close().await;
}

fn settings(zone: &Zone, state: &Path, owners: &BTreeSet<String>, observe: bool) -> String {
    let homes = (0..DOMAINS).map(|number| format!("h{number}.example"));
    let finals: Vec<String> = homes.chain(POLICIES.map(|(name, _)| format!("{name}.here.example"))).collect();
    let owners: Vec<&String> = owners.iter().collect();
    let putting_off = Path::new(env!("CARGO_MANIFEST_DIR")).join("hostile/hostile.wasm");
    let mut text = format!(
        "hostname = \"mx.home.example\"\nfinal_domains = {finals:?}\nobserve = {observe}\nstate_dir = {state:?}\n\
         [trusted_submitters]\n\"{SUBMITTER}\" = {owners:?}\n\
         [milter]\nlisten = [\"inet:127.0.0.1:0\"]\n[notices]\nnotify_via = \"127.0.0.1:9\"\n\
         [verify]\ndns = [\"{}\"]\nallow_targets = [\"127.0.0.0/8\"]\n[keyring]\nstamp = [\"ORIGINATING\"]\n\
         [policies.putting-off]\nmodule = {putting_off:?}\nsettings = {{ does = \"trap\" }}\n\
         [policy]\nspam_folder = \"+Junk\"\nquarantine = \"store\"\n",
        zone.addr
    );
    for (name, policy) in POLICIES {
        text += &format!("[policy.domain.\"{name}.here.example\"]\n");
        for result in ["valid", "invalid", "missing", "none", "unverified", "unusable"] {
            let policy = match policy {
                // Bound to a missing key that would be a fault of the configuration: it would be held back to this anyway.
                Some("reject-silently") if result == "missing" => "reject-notify-sender",
                Some(policy) => policy,
                None => "putting-off",
            };
            text += &format!("{result} = \"{policy}\"\n");
        }
        text += if name == "folder" { "mark = \"folder\"\n" } else { "" };
    }
    text
}
