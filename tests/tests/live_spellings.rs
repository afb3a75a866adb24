//! Every way to write a recipient, at every kind of domain and door of a real Postfix: what arrived is what journal and `why`
//! say, and nothing in a final domain goes unexamined.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::{Command, Stdio};

use addrauth_tests::crossroads::{ALL, Crossroads, ELSEWHERE, IDN, IDN_LETTERS, LOCAL, Log, RELAY, VIRTUAL, Who};
use addrauth_tests::daemon::{Daemon, binary};
use addrauth_tests::ports::claim_place;
use addrauth_tests::smtp::{Session, stuffed};
use addrauth_tests::{dns, spellings};
use serde_json::Value;

/// A key inside the grammar that no AS has issued.
const WRONG: &str = "WRONGkeyWRONGkeyWRONGkeyWRONGkeyWRONGkeyWRONGkeyWRONGkeyWRONGkey";
/// Whoever reads `by=` of the forged status may take it for ours.
const FORGED: &str = "X-Auth-Key-Status: VALIDKEY; address=sender@send.test; by=mx.recv.test";
/// NUL, `alice@send.test`, NUL, `secret` as base64.
const ALICE: &str = addrauth_tests::postfix::ALICE;

/// One way for one spelling to come in.
#[derive(Clone, Debug)]
struct Trial {
    /// The argument of RCPT, or of sendmail(1).
    path: String,
    /// Whose mailbox the spelling was made from.
    user: &'static str,
    who: Who,
    strict: bool,
    /// Who else gets the message: nobody, or one before or after.
    beside: Beside,
    /// By sendmail(1), and not by SMTP.
    queued: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beside {
    Nobody,
    Before,
    After,
}

/// What was said to a trial.
#[derive(Clone, Debug, Default)]
struct Said {
    /// The replies to RCPT, the spelling's own first.
    rcpt: Vec<u16>,
    /// The reply to the final dot.
    end: Option<u16>,
    text: String,
}

/// The filter and the AS behind the crossroads.
struct Stage {
    site: Crossroads,
    _filter: Daemon,
    _authority: Daemon,
    dir: tempfile::TempDir,
}

impl Stage {
    fn start() -> Option<Stage> {
        let site = Crossroads::start()?;
        let dir = tempfile::Builder::new().prefix("aa-sp-").tempdir_in("/tmp").unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir(path("filter")).unwrap();
        fs::create_dir(path("authority")).unwrap();
        let endpoint = claim_place();
        let authority = format!(
            "state_dir = {:?}\n[notices]\nnotify_via = \"127.0.0.1:9\"\n[authority]\ndomains = [\"send.test\"]\nlisten = [\"{endpoint}\"]\n",
            path("authority")
        );
        fs::write(path("authority.toml"), authority).unwrap();
        let mut bound = String::new();
        for domain in [VIRTUAL, LOCAL, RELAY, IDN] {
            for user in ["boss", "boss-alias"] {
                bound += &format!("[policy.recipient.\"{user}@{domain}\"]\ninvalid = \"quarantine\"\n");
            }
        }
        let filter = format!(
            "hostname = \"mx.recv.test\"\nfinal_domains = [\"{VIRTUAL}\", \"{LOCAL}\", \"{RELAY}\", \"{IDN}\", \"mx.recv.test\"]\n\
             observe = false\nstate_dir = {:?}\n[milter]\nlisten = [\"{}\"]\ngroup = \"postfix\"\n\
             [notices]\nnotify_via = \"127.0.0.1:{}\"\nfrom = \"postmaster@recv.test\"\n\
             [verify]\ndns = [\"{}\"]\ntimeout = \"10s\"\n[verify.domain.\"send.test\"]\nas = \"{endpoint}\"\n\
             [policy]\ninvalid = \"accept\"\nquarantine = \"store\"\n{bound}",
            path("filter"),
            site.milter(),
            site.own_port(),
            dns::empty(),
        );
        fs::write(path("filter.toml"), filter).unwrap();
        let mut running = Daemon::start("authority", &path("authority.toml"));
        running.until_it_answers(endpoint, "send.test");
        let mut filter = Daemon::start_with("filter", &path("filter.toml"), &[("ADDRAUTH_LOG", "info".into())]);
        filter.until_it_takes_mail(&site.milter());
        Some(Stage { site, _filter: filter, _authority: running, dir })
    }

    fn says(&self, verb: &[&str]) -> String {
        let mut command = Command::new(binary());
        command.arg("--config").arg(self.dir.path().join("filter.toml")).args(verb).stdin(Stdio::null());
        let out = command.output().unwrap();
        let words = String::from_utf8_lossy(&out.stderr);
        assert!(matches!(out.status.code(), Some(0 | 1)), "{verb:?}: {}\n{words}", out.status);
        String::from_utf8(out.stdout).unwrap()
    }

    /// Sends every trial, a message each; several at once, each door on connections of its own.
    fn play(&self, trials: &[Trial]) -> Vec<Said> {
        let mut said = vec![Said::default(); trials.len()];
        let mut doors: BTreeMap<(Who, bool, bool), Vec<usize>> = BTreeMap::new();
        for (number, trial) in trials.iter().enumerate() {
            doors.entry((trial.who, trial.strict, trial.queued)).or_default().push(number);
        }
        let done: Vec<(usize, Said)> = std::thread::scope(|scope| {
            let work = |numbers: Vec<usize>| {
                scope.spawn(move || {
                    let mut session = None;
                    let one = |number: usize| (number, self.one(number, &trials[number], &mut session));
                    numbers.into_iter().map(one).collect::<Vec<_>>()
                })
            };
            let threads: Vec<_> = doors.into_values().map(work).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        for (number, one) in done {
            said[number] = one;
        }
        self.site.until_it_is_empty();
        said
    }

    fn one(&self, number: usize, trial: &Trial, session: &mut Option<Session>) -> Said {
        let message = message(number);
        if trial.queued {
            let taken = self.site.sendmail(&trial.path, &message);
            return Said { end: taken.then_some(250), ..Said::default() };
        }
        let session = session.get_or_insert_with(|| {
            let mut session = Session::open(self.site.port(trial.who, trial.strict));
            if trial.who == Who::Login {
                session.log_in(ALICE);
            }
            session
        });
        let from = if trial.who == Who::Login { "alice@send.test" } else { "sender@send.test" };
        let utf8 = if trial.path.is_ascii() { "" } else { " SMTPUTF8" };
        assert_eq!(session.say(&format!("MAIL FROM:<{from}>{utf8}")).code, 250, "{trial:?}");
        let other = if trial.who == Who::Login { format!("<x@{ELSEWHERE}>") } else { format!("<bob@{VIRTUAL}>") };
        let mut said = Said::default();
        let rcpt = |session: &mut Session, path: &str| session.say(&format!("RCPT TO:{path}")).code;
        let before = (trial.beside == Beside::Before).then(|| rcpt(session, &other));
        said.rcpt.push(rcpt(session, &trial.path));
        said.rcpt.extend(before);
        if trial.beside == Beside::After {
            said.rcpt.push(rcpt(session, &other));
        }
        if said.rcpt.iter().all(|code| *code >= 400) {
            session.say("RSET");
            return said;
        }
        let reply = session.say("DATA");
        if reply.code == 354 {
            session.write(&stuffed(&message));
            session.write(b".\r\n");
            let reply = session.reply();
            said.end = Some(reply.code);
            said.text = reply.text;
        } else {
            said.end = Some(reply.code);
            session.say("RSET");
        }
        said
    }
}

fn message(number: usize) -> Vec<u8> {
    format!(
        "X-Auth-Key: {WRONG}\r\n{FORGED}\r\nFrom: sender@send.test\r\nMessage-ID: <t{number}@send.test>\r\nSubject: t{number}\r\n\r\n\
         text\r\n"
    )
    .into_bytes()
}

/// What lies where, by the number of the trial.
fn arrived(site: &Crossroads) -> BTreeMap<usize, Vec<(String, String)>> {
    let mut all: BTreeMap<usize, Vec<(String, String)>> = BTreeMap::new();
    for (whose, file) in site.delivered() {
        let text = String::from_utf8_lossy(&file).into_owned();
        let number = text.lines().find_map(|line| line.strip_prefix("Subject: t")?.parse().ok());
        if let Some(number) = number.filter(|_| !whose.ends_with("@send.test")) {
            all.entry(number).or_default().push((whose, text));
        }
    }
    all
}

/// What is wrong with a delivered file: the key, a status that is not ours, none, or two.
fn fault(text: &str) -> Option<&'static str> {
    let head: Vec<&str> = text.lines().take_while(|line| !line.is_empty()).collect();
    let named = |line: &&&str, name: &str| line.to_ascii_lowercase().starts_with(name);
    if text.contains(WRONG) || head.iter().any(|line| named(&line, "x-auth-key:")) {
        return Some("a key");
    }
    let status: Vec<&&str> = head.iter().filter(|line| named(line, "x-auth-key-status")).collect();
    match status.as_slice() {
        [one] if one.starts_with("X-Auth-Key-Status: INVALIDKEY;") => None,
        [] => Some("unexamined"),
        [one] if one.contains("VALIDKEY") => Some("a forged status"),
        _ => Some("more than one status"),
    }
}

/// Who is meant by a mailbox or an alias of it: the mailbox where the mail lies.
fn resolved(address: &str) -> String {
    let address = address.to_ascii_lowercase();
    let (local, domain) = address.rsplit_once('@').unwrap_or((&address, ""));
    let base = local.split('+').next().unwrap_or(local);
    let domain = if domain == IDN_LETTERS { IDN } else { domain };
    format!("{}@{domain}", base.strip_suffix("-alias").unwrap_or(base))
}

/// The journal's rows by queue id, once no more come: they are written in batches, behind the answers.
fn journal(stage: &Stage) -> BTreeMap<String, Value> {
    let read = || stage.says(&["journal", "list", "--last", "0", "--json"]);
    let mut list = read();
    loop {
        std::thread::sleep(std::time::Duration::from_secs(3));
        let later = read();
        if later.len() == list.len() {
            break;
        }
        list = later;
    }
    let rows = list.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    rows.filter_map(|row| Some((row["case"]["queue_id"].as_str()?.to_owned(), row))).collect()
}

/// Whom a row's decisions are for, with their dispositions; by the mailbox that is meant.
fn decided(row: &Value) -> Vec<(String, String)> {
    let case = &row["case"];
    let names = case["mailboxes"].as_array().or(case["recipients"].as_array()).unwrap();
    let decisions = case["decisions"].as_array().unwrap().iter();
    let each = |decision: &Value| {
        let word = decision["disposition"].as_str().unwrap().to_owned();
        let of = decision["recipients"].as_array().unwrap().iter();
        of.map(|index| {
            let name = names[usize::try_from(index.as_u64().unwrap()).unwrap()].as_str().unwrap_or("");
            (resolved(name.trim_matches(['<', '>'])), word.clone())
        })
        .collect::<Vec<_>>()
    };
    decisions.flat_map(each).collect()
}

/// Everything that must hold of one trial; what does not, in words.
fn faults(
    trial: &Trial,
    said: &Said,
    files: &[(String, String)],
    ids: &[String],
    rows: &BTreeMap<String, Value>,
    log: &Log,
) -> Vec<String> {
    let mut faults = Vec::new();
    for (whose, text) in files {
        if let Some(fault) = fault(text) {
            faults.push(format!("{fault} in the mailbox of {whose}"));
        }
        if whose.starts_with("boss@") {
            faults.push(format!("past the binding of {whose}"));
        }
    }
    let whose: Vec<&String> = files.iter().map(|(whose, _)| whose).collect();
    let once: BTreeSet<&&String> = whose.iter().collect();
    if once.len() < whose.len() && trial.user == "boss" {
        faults.push(format!("delivered twice: {whose:?}"));
    }
    let refused = said.end.is_none_or(|code| code >= 400);
    if refused && !files.is_empty() {
        faults.push(format!("refused with {:?} and delivered to {whose:?}", said.end));
    }
    let judged: Vec<(String, String)> = ids.iter().filter_map(|id| rows.get(id)).flat_map(decided).collect();
    for whose in &once {
        let accepted = judged.iter().any(|(name, word)| name == **whose && word == "accept");
        if !accepted {
            faults.push(format!("delivered to {whose}, of whom the journal says {judged:?}"));
        }
    }
    if !refused && !trial.queued {
        let ends = ids.iter().filter_map(|id| log.ends.get(id)).map(Vec::len).sum::<usize>();
        // What is quarantined lies with us, or in the hold queue.
        if ends == 0 && !judged.iter().any(|(_, word)| word == "quarantine") {
            faults.push("taken, and nobody knows where it is".to_owned());
        }
    }
    faults
}

/// The trials: every kind of domain and its aliases with each spelling; `every` in so many combinations of the rest.
fn trials(every: usize) -> Vec<Trial> {
    let mut trials = Vec::new();
    let mut turn = 0_usize;
    for (user, alias) in [("boss", false), ("bob", false), ("boss", true), ("bob", true)] {
        for domain in [VIRTUAL, LOCAL, RELAY, IDN, IDN_LETTERS] {
            let name = if alias { format!("{user}-alias") } else { user.to_owned() };
            for path in spellings::of(&name, domain) {
                for who in ALL {
                    for strict in [false, true] {
                        for beside in [Beside::Nobody, Beside::Before, Beside::After] {
                            turn = turn.wrapping_mul(1_103_515_245).wrapping_add(12_345) % (1 << 31);
                            if (turn >> 8).is_multiple_of(every) {
                                let path = path.clone();
                                trials.push(Trial { path, user, who, strict, beside, queued: false });
                            }
                        }
                    }
                }
            }
        }
    }
    trials
}

fn assert_all_hold(stage: &Stage, trials: &[Trial]) {
    let said = stage.play(trials);
    let (arrived, rows, log) = (arrived(&stage.site), journal(stage), stage.site.log());
    let mut wrong = Vec::new();
    let (mut taken, mut refused_at_rcpt, mut refused_at_end) = (0, 0, 0);
    for (number, (trial, said)) in trials.iter().zip(&said).enumerate() {
        let ids = log.ids.get(&format!("<t{number}@send.test>")).cloned().unwrap_or_default();
        let files = arrived.get(&number).cloned().unwrap_or_default();
        match said.end {
            None => refused_at_rcpt += 1,
            Some(code) if code >= 400 => refused_at_end += 1,
            Some(_) => taken += 1,
        }
        let faults = faults(trial, said, &files, &ids, &rows, &log);
        if !faults.is_empty() {
            wrong.push(format!("{trial:?}\n  {said:?}\n  {}", faults.join("\n  ")));
        }
    }
    let paths: BTreeSet<&String> = trials.iter().map(|trial| &trial.path).collect();
    println!(
        "{} trials of {} spellings: {taken} taken, {refused_at_rcpt} refused at RCPT, {refused_at_end} at the end; {} files; {} wrong",
        trials.len(),
        paths.len(),
        arrived.values().map(Vec::len).sum::<usize>(),
        wrong.len()
    );
    assert!(taken > trials.len() / 20, "the test bed refuses nearly everything");
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), trials.len(), wrong.join("\n"));
}

#[test]
fn whoever_gets_a_message_however_he_is_written_is_who_was_judged() {
    let Some(stage) = Stage::start() else { return };
    let every = std::env::var("ADDRAUTH_SPELLINGS").ok().and_then(|every| every.parse().ok());
    let every = every.unwrap_or(if std::env::var_os("ADDRAUTH_LONG").is_some() { 20 } else { 300 });
    assert_all_hold(&stage, &trials(every));
}

#[test]
fn what_sendmail_brings_by_the_queue_is_judged_for_who_gets_it() {
    let Some(stage) = Stage::start() else { return };
    let mut trials = Vec::new();
    for (user, domain) in [("boss", VIRTUAL), ("bob", LOCAL), ("boss", LOCAL), ("boss", RELAY), ("bob", VIRTUAL)] {
        let all = spellings::of(user, domain);
        let every = if std::env::var_os("ADDRAUTH_LONG").is_some() { 3 } else { 45 };
        for path in
            all.into_iter().take(120).step_by(3).chain(spellings::of(user, domain).into_iter().skip(120).step_by(every))
        {
            trials.push(Trial { path, user, who: Who::Network, strict: false, beside: Beside::Nobody, queued: true });
        }
    }
    assert_all_hold(&stage, &trials);
}
