//! Keys that the Authentication Server has in memory count no longer than they hold in its table, whoever changes that; and an
//! answer comes from the address that was asked.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use addrauth::authority::Authority;
use addrauth::config::{Config, Limits, StateDir};
use addrauth::proto::key::AuthKey;
use addrauth::store::{self, Opening};
use addrauth_tests::keys::address;
use addrauth_tests::postgres::Postgres;
use addrauth_tests::server::{SEQ, question};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const ALICE: &str = "alice@example.com";

struct Server {
    authority: Arc<Authority>,
    place: SocketAddr,
    client: UdpSocket,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

fn config(dir: &Path, url: &str) -> Config {
    let mut config = Config { state_dir: StateDir(dir.to_owned()), ..Config::default() };
    config.authority.domains = vec!["example.com".parse().unwrap()];
    config.authority.listen = vec![([127, 0, 0, 1], 0).into()];
    config.store.url = url.to_owned();
    config
}

async fn opened(config: &Config) -> Arc<Authority> {
    // Whoever waits for a change asks more often than one may be denied.
    let limits = Limits::default().with(|limits| limits.authority.invalid_answers = u32::MAX);
    Arc::new(Authority::open(config, &Arc::new(limits)).await.unwrap())
}

/// A database of its own, with its tables.
async fn database(cluster: &Postgres) -> (String, String) {
    let name = cluster.database();
    let url = cluster.url("postgres", &name);
    let opening = Opening { busy: Duration::from_secs(10), readers: 1 };
    store::migrate(&config(Path::new("/nowhere"), &url).store, opening).await.unwrap();
    (name, url)
}

impl Server {
    async fn start(config: &Config) -> Server {
        Server::serving(opened(config).await).await
    }

    async fn serving(authority: Arc<Authority>) -> Server {
        Server::serving_what_waits(authority, &[]).await
    }

    /// These questions are in the socket's buffer before the server begins.
    async fn serving_what_waits(authority: Arc<Authority>, questions: &[String]) -> Server {
        let sockets = authority.bind().unwrap();
        let place = sockets[0].local_addr().unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        for question in questions {
            client.send_to(question.as_bytes(), place).await.unwrap();
        }
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(authority.clone().serve(sockets, shutdown.clone()));
        Server { authority, place, client, shutdown, task }
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap();
        self.authority.close().await;
    }

    /// The word and the tags of the answer.
    async fn ask(&self, address: &str, key: &AuthKey) -> String {
        let proof = key.verify_key().prove(SEQ.as_bytes(), address.as_bytes(), b"v=1 from=example.net");
        self.client.send_to(question(address, &proof).as_bytes(), self.place).await.unwrap();
        let mut room = [0; 600];
        let received = tokio::time::timeout(Duration::from_secs(60), self.client.recv(&mut room)).await;
        let reply = String::from_utf8_lossy(&room[..received.unwrap().unwrap()]).into_owned();
        reply.trim_end().rsplit_once(&format!("{address} ")).unwrap().1.to_owned()
    }

    /// What follows the address in the next so many answers, by the address.
    async fn hears(&self, count: usize) -> BTreeMap<String, String> {
        let (mut heard, mut room) = (BTreeMap::new(), [0; 600]);
        for _ in 0..count {
            let received = tokio::time::timeout(Duration::from_secs(60), self.client.recv(&mut room)).await;
            let reply = String::from_utf8_lossy(&room[..received.unwrap().unwrap()]).into_owned();
            let (_, rest) = reply.trim_end().split_once(&format!("{SEQ} ")).unwrap();
            let (address, said) = rest.split_once(' ').unwrap();
            assert_eq!(heard.insert(address.to_owned(), said.to_owned()), None);
        }
        heard
    }

    async fn says_valid(&self, address: &str, key: &AuthKey) -> bool {
        self.ask(address, key).await.starts_with("VALIDKEY")
    }
}

/// Makes keys for other addresses all the time, as rotation does.
fn rotating(authority: Arc<Authority>) -> (CancellationToken, JoinHandle<usize>) {
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let rotating = async move {
        for number in 0.. {
            if stopped.is_cancelled() {
                return number;
            }
            authority.issue(&address(&format!("user{}@example.com", number % 40))).await.unwrap();
            authority.revoke(&address(&format!("user{}@example.com", number % 40)), None).await.unwrap();
        }
        0
    };
    (stop, tokio::spawn(rotating))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_sqlite_what_another_process_changes_counts_with_the_next_question() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&config(dir.path(), "")).await;
    let other = opened(&config(dir.path(), "")).await;
    let (stop, rotating) = rotating(opened(&config(dir.path(), "")).await);
    let stranger = AuthKey::parse(&[b'x'; 64]).unwrap();
    for _ in 0..20 {
        assert_eq!(server.ask(ALICE, &stranger).await, "INVALIDKEY");
        let key = other.issue(&address(ALICE)).await.unwrap().key;
        for _ in 0..3 {
            assert!(server.says_valid(ALICE, &key).await);
        }
        other.revoke(&address(ALICE), None).await.unwrap();
        assert_eq!(server.ask(ALICE, &key).await, "INVALIDKEY");
    }
    stop.cancel();
    assert!(rotating.await.unwrap() > 0, "keys were made meanwhile");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_sqlite_a_file_that_was_replaced_is_noticed_before_an_answer_rests_on_memory() {
    let home = tempfile::tempdir().unwrap();
    let (state, backup) = (home.path().join("state"), home.path().join("backup"));
    // The backup has another address alone, and as many changes.
    let saved = opened(&config(&backup, "")).await;
    let bob = saved.issue(&address("bob@example.com")).await.unwrap().key;
    saved.close().await;
    let server = Server::start(&config(&state, "")).await;
    let key = server.authority.issue(&address(ALICE)).await.unwrap().key;
    assert!(server.says_valid(ALICE, &key).await && server.says_valid(ALICE, &key).await);
    for end in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(state.join(format!("authority.db{end}")));
    }
    std::fs::rename(backup.join("authority.db"), state.join("authority.db")).unwrap();
    assert_eq!(server.ask(ALICE, &key).await, "UNVERIFIED e=temp");
    let begin = Instant::now();
    while !server.says_valid("bob@example.com", &bob).await {
        assert!(begin.elapsed() < Duration::from_secs(60), "the file that is there is not taken up");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(server.ask(ALICE, &key).await, "INVALIDKEY");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_postgresql_what_another_process_changes_counts_with_the_next_question() {
    let Some(cluster) = Postgres::shared() else { return };
    let (name, url) = database(cluster).await;
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&config(dir.path(), &url)).await;
    let other = opened(&config(dir.path(), &url)).await;
    let (stop, rotating) = rotating(opened(&config(dir.path(), &url)).await);
    let stranger = AuthKey::parse(&[b'x'; 64]).unwrap();
    for by in [&server.authority, &other].into_iter().cycle().take(12) {
        assert_eq!(server.ask(ALICE, &stranger).await, "INVALIDKEY");
        let key = by.issue(&address(ALICE)).await.unwrap().key;
        for _ in 0..3 {
            assert!(server.says_valid(ALICE, &key).await);
        }
        by.revoke(&address(ALICE), None).await.unwrap();
        assert_eq!(server.ask(ALICE, &key).await, "INVALIDKEY");
    }
    stop.cancel();
    assert!(rotating.await.unwrap() > 0, "keys were made meanwhile");
    // Its connections are killed, again and again: it asks with new ones, or says that it cannot tell.
    let key = other.issue(&address(ALICE)).await.unwrap().key;
    assert!(server.says_valid(ALICE, &key).await);
    other.revoke(&address(ALICE), None).await.unwrap();
    let all = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}' AND pid <> pg_backend_pid()"
    );
    for _ in 0..20 {
        cluster.sql("postgres", &name, &all).unwrap();
        let said = server.ask(ALICE, &key).await;
        assert!(!said.starts_with("VALIDKEY"), "{said}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_postgresql_nothing_that_was_read_before_counts_while_it_cannot_be_read() {
    let Some(cluster) = Postgres::start() else { return };
    let (_, url) = database(&cluster).await;
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&config(dir.path(), &url)).await;
    let key = server.authority.issue(&address(ALICE)).await.unwrap().key;
    for _ in 0..5 {
        assert!(server.says_valid(ALICE, &key).await);
    }
    for frozen in [true, false] {
        match frozen {
            true => cluster.freeze(true),
            false => cluster.kill(),
        }
        assert_eq!(server.ask(ALICE, &key).await, "UNVERIFIED e=temp", "frozen: {frozen}");
        match frozen {
            true => cluster.freeze(false),
            false => cluster.restart(),
        }
        let back = Instant::now();
        while !server.says_valid(ALICE, &key).await {
            assert!(back.elapsed() < Duration::from_secs(60), "it does not come back");
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_comes_from_the_address_that_was_asked_on_a_wildcard_too() {
    for (listen, asked) in [
        ("0.0.0.0:0", &["127.0.0.1", "127.0.0.2", "127.1.2.3"][..]),
        ("[::]:0", &["127.0.0.1", "127.0.0.2", "[::1]"]),
        ("[::1]:0", &["[::1]"]),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(dir.path(), "");
        config.authority.listen = vec![listen.parse().unwrap()];
        let server = Server::start(&config).await;
        let key = server.authority.issue(&address(ALICE)).await.unwrap().key;
        for (round, asked) in asked.iter().cycle().take(20).enumerate() {
            let place: SocketAddr = format!("{asked}:{}", server.place.port()).parse().unwrap();
            let client = UdpSocket::bind(if place.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" }).await.unwrap();
            // What a verifier does: nobody else's answer reaches it.
            client.connect(place).await.unwrap();
            client.send(question(ALICE, key.expose()).as_bytes()).await.unwrap();
            let mut room = [0; 600];
            let received = tokio::time::timeout(Duration::from_secs(60), client.recv(&mut room)).await;
            let reply = String::from_utf8_lossy(&room[..received.unwrap().unwrap()]).into_owned();
            assert!(reply.contains(" VALIDKEY "), "{listen} asked at {asked}, round {round}: {reply}");
        }
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_questions_than_may_wait_stay_in_the_sockets_buffer_and_are_answered_in_their_order_no_sooner_than_due() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits::default().with(|limits| {
        limits.authority.invalid_answers = u32::MAX;
        (limits.authority.answers_together, limits.authority.answers_at_once) = (2, 1);
        limits.authority.answers_waiting = 3;
    });
    let authority = Authority::open(&config(dir.path(), ""), &Arc::new(limits)).await.unwrap();
    let server = Server::serving(Arc::new(authority)).await;
    let stranger = AuthKey::parse(&[b'x'; 64]).unwrap();
    let proof = |seq: &str, address: &str| stranger.verify_key().prove(seq.as_bytes(), address.as_bytes(), b"v=1");
    for round in 1..=3_u128 {
        let (begin, mut room) = (Instant::now(), [0; 600]);
        for number in 0..60 {
            let (seq, address) = (format!("{:032x}", round << 64 | number), format!("nobody{number}@example.com"));
            let line = format!("VERIFY {seq} {address} {} v=1\r\n", proof(&seq, &address));
            server.client.send_to(line.as_bytes(), server.place).await.unwrap();
        }
        for number in 0..60 {
            let received = tokio::time::timeout(Duration::from_secs(60), server.client.recv(&mut room)).await;
            let reply = String::from_utf8_lossy(&room[..received.unwrap().unwrap()]).into_owned();
            let (seq, address) = (format!("{:032x}", round << 64 | number), format!("nobody{number}@example.com"));
            assert_eq!(reply, format!("VERIFY_REPLY {seq} {address} INVALIDKEY\r\n"));
            // Three at most leave when a step of 2 ms begins; none before it had three eighths of one for its work.
            let least = Duration::from_micros(750) + Duration::from_millis(2) * (u32::try_from(number).unwrap() / 3);
            assert!(begin.elapsed() >= least, "{number} after {:?}", begin.elapsed());
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn questions_that_are_looked_up_in_several_parts_get_each_the_answer_of_its_own_address() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits::default().with(|limits| {
        (limits.authority.answers_together, limits.authority.answers_at_once) = (2, 8);
    });
    let authority = Arc::new(Authority::open(&config(dir.path(), ""), &Arc::new(limits)).await.unwrap());
    let (mut names, mut questions) = (Vec::new(), Vec::new());
    for number in 0..16 {
        let name = format!("user{number}@example.com");
        let key = authority.issue(&address(&name)).await.unwrap().key;
        let proof = key.verify_key().prove(SEQ.as_bytes(), name.as_bytes(), b"v=1 from=example.net");
        questions.push(question(&name, &proof));
        names.push(name);
    }
    // Nothing of them is in memory, and all are received by one look.
    let server = Server::serving_what_waits(authority, &questions).await;
    let heard = server.hears(16).await;
    assert!(names.iter().all(|name| heard[name].starts_with("VALIDKEY ")), "{heard:?}");
    server.authority.revoke(&address(&names[5]), None).await.unwrap();
    for question in &questions {
        server.client.send_to(question.as_bytes(), server.place).await.unwrap();
    }
    let heard = server.hears(16).await;
    for name in &names {
        assert_eq!(heard[name].starts_with("VALIDKEY "), name != &names[5], "{name}: {heard:?}");
    }
    assert_eq!(heard[&names[5]], "INVALIDKEY");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn questions_that_came_before_the_server_is_to_stop_are_answered() {
    let dir = tempfile::tempdir().unwrap();
    let key = AuthKey::parse(&[b'x'; 64]).unwrap();
    for _ in 0..10 {
        let Server { authority, place, client, shutdown, task } = Server::start(&config(dir.path(), "")).await;
        for number in 0..20 {
            let line = question(&format!("nobody{number}@example.com"), key.expose());
            client.send_to(line.as_bytes(), place).await.unwrap();
        }
        shutdown.cancel();
        task.await.unwrap();
        authority.close().await;
        let mut room = [0; 600];
        let came = (0..30).take_while(|_| client.try_recv(&mut room).is_ok()).count();
        assert_eq!(came, 20);
    }
}
