//! Two filters, one directory: what they owe would be sent twice.

use std::process::Command;
use std::time::{Duration, Instant};

use addrauth_tests::daemon::{Daemon, binary};

#[test]
fn a_second_filter_on_the_same_state_dir_is_refused_until_the_first_one_ends() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let config = dir.path().join("filter.toml");
    let text = format!(
        "hostname = \"mx.home.example\"\nfinal_domains = [\"home.example\"]\nstate_dir = {state:?}\n\
         [milter]\nlisten = [\"inet:127.0.0.1:0\"]\n"
    );
    std::fs::write(&config, text).unwrap();
    let first = Daemon::start("filter", &config);
    let begin = Instant::now();
    while !first.log().contains("listening on") {
        assert!(begin.elapsed() < Duration::from_secs(60), "{}", first.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    let second = Command::new(binary()).args(["filter", "--config"]).arg(&config).output().unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(2), "{said}");
    assert!(said.contains("another filter runs with state_dir") && said.contains("stop it first"), "{said}");
    first.kill();
    let third = Daemon::start("filter", &config);
    let begin = Instant::now();
    while third.log().matches("listening on").count() < 2 {
        assert!(begin.elapsed() < Duration::from_secs(60), "{}", third.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}
