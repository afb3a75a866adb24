//! The library's examples do what they say, as programs of their own.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use addrauth_lab::mta::{Envelope, Fate, Mta};
use addrauth_lab::zone::{Records, Zone};

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
