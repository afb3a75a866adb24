//! The LMTP door of a filter that is killed: what the delivery agent took and nobody was told of comes again, whole.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use addrauth_tests::agent::{Agent, Client, Habits};
use addrauth_tests::daemon::{Daemon, binary};

use super::bed::{Bed, PATIENCE, ended};

const MESSAGE: &[u8] = b"X-Auth-Key: k\r\nSubject: once\r\n\r\nFrom nobody, to somebody.\r\n";

/// A filter that delivers to this agent; where its door is.
fn filter(bed: &Bed, agent: &Agent, name: &str) -> (Daemon, std::net::SocketAddr) {
    let file = bed.path(&format!("{name}.toml"));
    let text = bed.text().replace("unusable = \"quarantine\"", "unusable = \"mark\"");
    let door = format!("{text}[lmtp]\nlisten = [\"inet:127.0.0.1:0\"]\nnext = \"inet:{}\"\n", agent.address);
    fs::write(&file, door).unwrap();
    let mut daemon = Daemon::start("filter", &file);
    daemon.until_it_takes_mail(&format!("unix:{}", bed.path("milter").display()));
    let place =
        daemon.log().lines().find_map(|line| line.split_once("listening on inet:").map(|(_, at)| at.trim().parse()));
    (daemon, place.unwrap().unwrap())
}

fn rows(bed: &Bed, file: &str) -> usize {
    let mut command = Command::new(binary());
    command.arg("--config").arg(bed.path(file)).args(["journal", "list", "--json"]);
    let (code, listed, said) = ended(command);
    assert!(code.is_some_and(|code| code <= 1), "{said}");
    listed.lines().filter(|line| line.contains("\"queue_id\"")).count()
}

async fn until(what: &str, there: impl Fn() -> bool) {
    let begin = Instant::now();
    while !there() {
        assert!(begin.elapsed() < PATIENCE, "never {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What an agent got, which is the same each time.
fn is_whole(message: &[u8]) -> bool {
    let text = String::from_utf8_lossy(message);
    text.starts_with("X-Auth-Key-Status: UNUSABLE; ")
        && text.ends_with("X-Spam-Flag: YES\r\nSubject: once\r\n\r\nFrom nobody, to somebody.\r\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_a_killed_filter_had_handed_over_is_never_lost_and_comes_twice_at_most() {
    let (bed, to) = (Bed::new(), ["bob@home.example".to_owned()]);
    // It takes the message and says nothing more: the filter is killed between that and its own answer.
    let mute = Agent::start(Habits { stands_at_end: true, ..Habits::default() }).await;
    let (daemon, place) = filter(&bed, &mute, "first");
    let bringing = tokio::spawn(async move { Client::open(place).await.0.bring("a@one.example", &to, MESSAGE).await });
    until("handed over", || mute.delivered() == 1).await;
    daemon.kill();
    let replies = bringing.await.unwrap_or_default();
    assert!(!replies.iter().any(|reply| reply.starts_with('2')), "nobody was told that it is done: {replies:?}");
    let before = rows(&bed, "first.toml");
    assert!(before <= 1, "{before}");
    // The mail server has it still, and brings it to the filter that is started again.
    let agent = Agent::start(Habits::default()).await;
    let (daemon, place) = filter(&bed, &agent, "second");
    let replies = Client::open(place).await.0.bring("a@one.example", &["bob@home.example".to_owned()], MESSAGE).await;
    assert!(replies.len() == 1 && replies[0].starts_with("250"), "{replies:?}");
    let (first, second) = (mute.take(), agent.take());
    assert_eq!((first.len(), second.len()), (1, 1), "one copy for each time that the filter handed it over");
    assert!(first.iter().chain(&second).all(|delivery| is_whole(&delivery.message)), "{first:?} {second:?}");
    // Ended as it should, it has written its row.
    daemon.signal("TERM");
    until("ended", || !bed.path("milter").exists()).await;
    until("journalled", || rows(&bed, "second.toml") > before).await;
}
