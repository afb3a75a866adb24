//! `addrauth hooks`: our own door conforms, a scanner that does not is told of, and registrations are listed and taken back.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};

use addrauth::config::Limits;
use addrauth::mta::hooks::Access;
use addrauth_tests::bridge::Bridge;
use addrauth_tests::daemon::binary;
use addrauth_tests::hooks::open_in;
use addrauth_tests::http::request;
use addrauth_tests::milter::Fake;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// The exit code of a verb, and what it prints.
async fn addrauth(dir: &Path, words: &[&str]) -> (i32, String) {
    std::fs::write(dir.join("addrauth.toml"), format!("state_dir = {dir:?}\n")).unwrap();
    let mut command = Command::new(binary());
    command.arg("--config").arg(dir.join("addrauth.toml")).arg("hooks").args(words);
    let done = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let Output { status, stdout, stderr } = done;
    (status.code().unwrap(), String::from_utf8([stdout, stderr].concat()).unwrap())
}

/// A scanner that says this to everybody.
async fn scanner(said: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            // All of a small request comes in one or two pieces.
            let _ = stream.read(&mut [0; 65_536]).await;
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{said}",
                said.len()
            );
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
            while stream.read(&mut [0; 65_536]).await.is_ok_and(|read| read > 0) {}
        }
    });
    place
}

fn mail(dir: &Path) -> String {
    let path = dir.join("mail.eml");
    std::fs::write(&path, "From: a@one.example\nX-Auth-Key : k\nx-auth-key: k\nSubject: remove 1\n\nbody\n").unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_own_door_conforms_in_both_dialects() {
    let dir = tempfile::tempdir().unwrap();
    let door = open_in(Fake::named("one"), Limits::default(), Access::default(), None);
    let mail = mail(dir.path());
    for (url, spoken) in [
        (format!("http://{}/stalwart", door.place), "POST /stalwart"),
        (format!("http://{}", door.place), "GET /.well-known/mta-hooks"),
        (format!("http://{}/draft-01/registrations", door.place), "DELETE /draft-01/registrations/"),
    ] {
        let words = ["try", &url, &mail, "--from", "a@one.example", "--to", "B@two.example", "--to", "c@two.example"];
        let (code, out) = addrauth(dir.path(), &words).await;
        assert!(code == 0 && out.contains("all conforms") && out.contains(spoken), "{url}: {code}\n{out}");
    }
    door.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scanner_that_does_not_conform_is_told_of_and_one_that_is_away_is_unknown() {
    let dir = tempfile::tempdir().unwrap();
    let mail = mail(dir.path());
    let loses = scanner(r#"{"action":"quarantine"}"#).await;
    let (code, out) = addrauth(dir.path(), &["try", &format!("http://{loses}/stalwart"), &mail]).await;
    assert!(code == 1 && out.contains("does not conform: quarantine at DATA"), "{code}\n{out}");
    let (code, out) = addrauth(dir.path(), &["--json", "try", &format!("http://{loses}/scan"), &mail]).await;
    let told: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert!(code == 1 && told["conforms"] == false && !told["findings"].as_array().unwrap().is_empty(), "{out}");
    let held = tokio::net::TcpSocket::new_v4().unwrap();
    held.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let nowhere = format!("http://{}/stalwart", held.local_addr().unwrap());
    for words in [["try", &nowhere, &mail], ["try", "ftp://x/", &mail], ["try", &nowhere, "/nowhere.eml"]] {
        assert_eq!(addrauth(dir.path(), &words).await.0, 2, "{words:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registrations_are_listed_and_one_that_is_taken_back_counts_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let door = open_in(Fake::named("one"), Limits::default(), Access::default(), Some(dir.path().to_owned()));
    let (code, out) = addrauth(dir.path(), &["list"]).await;
    assert!(code == 0 && out.contains("no mail server is registered"), "{out}");
    let bridge = Bridge::registered(door.place, None, &["rcpt", "data"]).await;
    let (code, out) = addrauth(dir.path(), &["list"]).await;
    assert!(
        code == 0 && out == format!("{}  postfix-mta-hooks 0.1.0  rcpt,data  json\n", bridge.registration),
        "{out}"
    );
    assert_eq!(addrauth(dir.path(), &["revoke", "nothing"]).await.0, 1);
    assert_eq!(addrauth(dir.path(), &["revoke", &bridge.registration]).await.0, 0);
    let line = format!("GET /draft-01/registrations/{}", bridge.registration);
    // The door looks at the file once a second.
    while request(door.place, &line, &[], b"").await.status != 410 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(addrauth(dir.path(), &["revoke", &bridge.registration]).await.0, 1);
    door.close().await;
}
