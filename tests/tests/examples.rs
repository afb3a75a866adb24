//! The library's examples do what they say, as programs of their own.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use addrauth_lab::mta::{Envelope, Fate, Mta};
use addrauth_lab::zone::{Records, Zone};
use addrauth_tests::authority::{Act, Authority};
use addrauth_tests::smtp;
use addrauth_tests::world::{GOOD, JUNK, key, leading_to};

/// The examples that `cargo test` and `cargo build --examples` put beside this test.
fn example(name: &str) -> Command {
    let test = std::env::current_exe().unwrap();
    let path = test.ancestors().nth(2).unwrap().join("examples").join(name);
    assert!(path.exists(), "{} is not built: run `cargo build --examples`", path.display());
    Command::new(path)
}

/// An example that serves until its standard input ends, and where it does.
struct Serving {
    child: Child,
    place: String,
}

impl Serving {
    fn start(command: &mut Command) -> Serving {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut place = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut place).unwrap();
        Serving { child, place: place.trim().to_owned() }
    }

    fn end(mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().unwrap().success());
    }
}

fn said(command: &mut Command) -> String {
    let out = command.stdin(Stdio::null()).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// An Authentication Server for alice@example.com, her key's file, and a zone that leads to the server.
async fn authority(dir: &Path) -> (Serving, PathBuf, Zone) {
    let key = dir.join("key");
    let serving = Serving::start(example("authority").arg("alice@example.com").arg(&key));
    let port = serving.place.rsplit_once(':').unwrap().1;
    let records = Records::default()
        .txt("_addrauth.example.com", &format!("AS=as.example.com:{port}; v=1; m=all"))
        .address("as.example.com", "127.0.0.1".parse().unwrap());
    (serving, key, Zone::start(records).await.unwrap())
}

#[test]
fn decide_tells_what_becomes_of_a_message_with_each_result() {
    for (result, verdict) in [("valid", "accept"), ("invalid", "reject"), ("missing", "accept"), ("unusable", "accept")]
    {
        let text = said(example("decide").arg(result));
        assert!(text.contains(&format!("result={result}")) && text.contains(&format!("verdict={verdict}")), "{text}");
    }
}

#[tokio::test]
async fn an_authority_in_memory_answers_the_verifier() {
    let dir = tempfile::tempdir().unwrap();
    let (serving, key, zone) = authority(dir.path()).await;
    let dns = zone.addr.to_string();
    let ask = |key: PathBuf| {
        let dns = dns.clone();
        let asking = move || said(example("verify").arg("alice@example.com").arg(key).args([&dns, "127.0.0.0/8"]));
        tokio::task::spawn_blocking(asking)
    };
    assert!(ask(key).await.unwrap().starts_with("VALIDKEY as.example.com:"));
    let wrong = dir.path().join("wrong");
    std::fs::File::create(&wrong).unwrap().write_all(&[b'x'; 43]).unwrap();
    assert!(ask(wrong).await.unwrap().starts_with("INVALIDKEY as.example.com:"));
    serving.end();
}

#[tokio::test]
async fn a_milter_on_a_port_examines_mail() {
    let dir = tempfile::tempdir().unwrap();
    let (serving, key, zone) = authority(dir.path()).await;
    let key = std::fs::read_to_string(key).unwrap();
    let milter = Serving::start(example("milter").args([&zone.addr.to_string(), "127.0.0.0/8"]));
    let mut mta = Mta::connect(&milter.place.parse().unwrap()).await.unwrap();
    let wrong = "x".repeat(43);
    for (key, status, delivered) in
        [(key.trim(), "VALIDKEY", true), (wrong.as_str(), "INVALIDKEY", false), ("", "NOKEY", true)]
    {
        let field = if key.is_empty() { String::new() } else { format!("X-Auth-Key: {key}\r\n") };
        let message = format!("{field}From: alice@example.com\r\nSubject: x\r\n\r\nx\r\n");
        let envelope = Envelope::inbound("alice@example.com", "bob@example.net");
        let outcome = mta.send(&envelope, message.as_bytes()).await.unwrap();
        let text = String::from_utf8(outcome.message).unwrap();
        if delivered {
            assert_eq!(outcome.fate, Fate::Delivered, "{status}");
            assert!(text.contains(&format!("X-Auth-Key-Status: {status}")) && !text.contains("X-Auth-Key: "), "{text}");
        } else {
            assert!(matches!(outcome.fate, Fate::Refused(_)), "{status}: {:?}", outcome.fate);
        }
    }
    mta.quit().await.unwrap();
    milter.end();
    serving.end();
}

/// The scenarios of the table, and the shipped policies that are them; the last one puts everything off.
const SCENARIOS: [(&str, &str); 8] = [
    ("accept", "accept"),
    ("mark", "mark"),
    ("silent", "reject-silently"),
    ("sender", "reject-notify-sender"),
    ("recipient", "reject-notify-recipient"),
    ("both", "reject-notify-both"),
    ("quarantine", "quarantine"),
    ("defer", "putting-off"),
];

/// A configuration in which each scenario has a domain of its own.
fn scenarios(zone: &Zone) -> String {
    let finals: Vec<String> = SCENARIOS.iter().map(|(name, _)| format!("{name}.here.example")).collect();
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("hostile/hostile.wasm");
    let mut text = format!(
        "hostname = \"mx.home.example\"\nfinal_domains = {finals:?}\nobserve = false\n\
         [verify]\ndns = [\"{}\"]\nallow_targets = [\"127.0.0.0/8\"]\n\
         [policies.putting-off]\nmodule = {module:?}\nsettings = {{ does = \"trap\" }}\n",
        zone.addr
    );
    for (name, policy) in SCENARIOS {
        text += &format!("[policy.domain.\"{name}.here.example\"]\n");
        for result in ["valid", "invalid", "missing", "none", "unverified", "unusable"] {
            // Bound to a missing key that would be a fault of the configuration.
            let silent = policy == "reject-silently" && result == "missing";
            text += &format!("{result} = \"{}\"\n", if silent { "reject-notify-sender" } else { policy });
        }
    }
    text
}

/// Where a recipient's copy is after this answer, and how many notices there are, in the table's words.
fn place(dir: &Path, recipient: &str, answer: &str) -> (String, usize) {
    let files = |dir: PathBuf| {
        let entries = std::fs::read_dir(dir).into_iter().flatten();
        entries.map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap()).collect::<Vec<_>>()
    };
    let (notices, mails): (Vec<String>, Vec<String>) =
        files(dir.join("inbox").join(recipient)).into_iter().partition(|text| text.contains("Auto-Submitted:"));
    let kept = files(dir.join("quarantine"))
        .into_iter()
        .filter(|text| text.starts_with("X-Kept-For: ") && text.lines().next().unwrap().contains(recipient));
    let mut places = Vec::new();
    for text in mails.iter().cloned().chain(kept) {
        let head = text.split("\r\n\r\n").next().unwrap();
        let clean = !head.to_ascii_lowercase().contains("x-auth-key:") && !head.contains("forged.example");
        places.push(match head.lines().next().unwrap() {
            _ if !clean => "spoiled",
            first if first.starts_with("X-Kept-For: ") => "kept",
            first if !first.starts_with("X-Auth-Key-Status: ") => "spoiled",
            _ if head.contains("\nX-Spam-Flag: YES\r") => "marked",
            _ => "inbox",
        });
    }
    let nowhere = match answer {
        "refuse" => "refused",
        "defer" => "deferred",
        _ => "dropped",
    };
    (if places.is_empty() { nowhere.to_owned() } else { places.join("+") }, notices.len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_server_of_ones_own_obeys_each_scenario_of_the_table() {
    let server = Authority::start([Act::Check(key(GOOD))]).await.unwrap();
    let zone = Zone::start(leading_to(&[&server], "")).await.unwrap();
    let home = tempfile::tempdir().unwrap();
    let (config, dir) = (home.path().join("embed.toml"), home.path().join("mail"));
    std::fs::write(&config, scenarios(&zone)).unwrap();
    let serving = Serving::start(example("embed").arg(&config).arg(&dir));
    let port: u16 = serving.place.rsplit_once(':').unwrap().1.parse().unwrap();

    let lines = include_str!("../cases/doors.tsv").lines().filter(|line| !line.starts_with('#')).skip(1);
    let (mut number, mut wrong) = (0, Vec::new());
    for line in lines {
        let words: Vec<&str> = line.split('\t').collect();
        let &[scenario, shape, keys, answer, own, other, row, notice] = words.as_slice() else { panic!("{line}") };
        for (name, credential) in [("valid", Some(GOOD)), ("wrong", Some(JUNK)), ("none", None)] {
            if keys != "*" && !keys.split(',').any(|known| known == name) {
                continue;
            }
            number += 1;
            let recipient = format!("bob{number}@{scenario}.here.example");
            let friend = format!("friend{number}@accept.here.example");
            let field = credential.map(|key| format!("x-auth-key : {key}\r\n")).unwrap_or_default();
            let message = format!(
                "X-Auth-Key-Status: VALIDKEY; by=forged.example\r\n{field}From: Alice <alice@example.com>\r\n\
                 Subject: cell {number}\r\n\r\none line\r\n.\r\n..\r\nend\r\n"
            );
            let to: Vec<&str> =
                [recipient.as_str(), &friend].into_iter().take(1 + usize::from(shape == "mixed")).collect();
            let reply = tokio::task::block_in_place(|| smtp::send(port, "alice@example.com", &to, message.as_bytes()));
            let said = match (reply.code, reply.text.contains("Delivered")) {
                (250, true) => "deliver",
                (250, false) => "drop",
                (550, _) => "refuse",
                (451, _) => "defer",
                _ => "something else",
            };
            // This server delivers a marked copy at once, and sends no report: it keeps the message instead.
            let own = match own {
                "copy" => "marked",
                "reported" => "kept",
                own => own,
            };
            let (place_own, notices) = place(&dir, &recipient, said);
            let place_other = if shape == "mixed" { place(&dir, &friend, said).0 } else { "-".to_owned() };
            let journal = std::fs::read_to_string(dir.join("journal")).unwrap_or_default();
            let rows = journal.lines().count() + 1 - number;
            let seen = [said, &place_own, &place_other, &rows.to_string(), &notices.to_string()].map(str::to_owned);
            if seen != [answer, own, other, row, notice].map(str::to_owned) {
                wrong.push(format!("{line} with {name}: {seen:?}"));
            }
            assert!(!journal.contains(GOOD) && !journal.contains(JUNK));
        }
    }
    assert!(number == 8 * 2 * 3 && wrong.is_empty(), "{number} cells\n{}", wrong.join("\n"));
    let kept = std::fs::read_dir(dir.join("quarantine")).unwrap().next().unwrap().unwrap().path();
    assert!(std::fs::read_to_string(kept).unwrap().ends_with("\r\n\r\none line\r\n.\r\n..\r\nend\r\n"));
    serving.end();
}
