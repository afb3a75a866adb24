//! What an Authentication Server tells of addresses and keys to those who guess: nothing, on either door, and without
//! locking anybody out.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use addrauth::config::{Config, Limits};
use addrauth::proto::address::Address;
use addrauth::proto::key::AuthKey;
use addrauth::store::{self, Opening};
use addrauth_tests::postgres::Postgres;
use addrauth_tests::server::{GUESS, SEQ, Server, question, say};

/// Addresses of which each has another history, with the credential that is wrong for it; the last one is unknown.
async fn histories(server: &Server) -> Vec<(String, String)> {
    let address = |name: &str| Address::parse(format!("{name}@example.com").as_bytes(), true).unwrap();
    let revoked = server.authority.issue(&address("revoked")).await.unwrap().key;
    server.authority.revoke(&address("revoked"), None).await.unwrap();
    for _ in 0..8 {
        server.authority.issue(&address("several")).await.unwrap();
    }
    server.authority.enlist(&[(address("keyless"), Default::default())], &mut |_| {}).await.unwrap();
    let proof = |key: &AuthKey, name: &str| {
        let address = format!("{name}@example.com");
        key.verify_key().prove(SEQ.as_bytes(), address.as_bytes(), b"v=1 from=example.net")
    };
    let guess = AuthKey::parse(GUESS.as_bytes()).unwrap();
    let mut all: Vec<(String, String)> = ["alice", "several", "keyless", "nobody"]
        .iter()
        .flat_map(|name| [(name, GUESS.to_owned()), (name, proof(&guess, name))])
        .map(|(name, credential)| (format!("{name}@example.com"), credential))
        .collect();
    all.push(("revoked@example.com".into(), revoked.expose().to_owned()));
    all.push(("revoked@example.com".into(), proof(&revoked, "revoked")));
    // Right for somebody else.
    all.push(("several@example.com".into(), server.key.expose().to_owned()));
    all.push(("nobody@example.com".into(), proof(&server.key, "alice")));
    all
}

#[tokio::test]
async fn h_unknown_addresses_and_wrong_keys_get_byte_equal_answers_but_for_what_is_echoed() {
    let server = Server::start(Limits::default()).await;
    let mut stream = server.connect().await;
    for (address, credential) in histories(&server).await {
        let line = question(&address, &credential);
        let expected = format!("VERIFY_REPLY {SEQ} {address} INVALIDKEY\r\n");
        assert_eq!(server.by_udp(&line).await, expected);
        assert_eq!(say(&mut stream, &line, 1).await, [expected]);
    }
    server.stop().await;
}

/// How probable it is that a value of the first is greater than one of the second, ties counting half: 0.5 where nothing tells
/// them apart, 1 where everything does (the area under the ROC curve).
fn told_apart(first: &[Duration], second: &[Duration]) -> f64 {
    let wins = first.iter().flat_map(|one| second.iter().map(move |other| one.cmp(other)));
    let sum: f64 = wins.map(|order| [0.0, 0.5, 1.0][usize::try_from(order as i8 + 1).unwrap()]).sum();
    sum / (first.len() * second.len()) as f64
}

/// A question about an address, with a proof by a key of nobody.
fn guess(address: &str) -> String {
    let guess = AuthKey::parse(GUESS.as_bytes()).unwrap();
    question(address, &guess.verify_key().prove(SEQ.as_bytes(), address.as_bytes(), b"v=1 from=example.net"))
}

/// The times of questions about both kinds of addresses by turns, so that whatever else the machine does falls on both alike.
async fn times(server: &Server, kinds: [&dyn Fn(usize) -> String; 2], rounds: usize) -> [Vec<Duration>; 2] {
    let client = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.connect(server.address).await.unwrap();
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..2 * rounds {
        let which = (round + round / 2) % 2;
        let line = guess(&kinds[which](round));
        let begin = Instant::now();
        client.send(line.as_bytes()).await.unwrap();
        let mut room = [0; 600];
        let length = tokio::time::timeout(Duration::from_secs(60), client.recv(&mut room)).await.unwrap().unwrap();
        times[which].push(begin.elapsed());
        assert!(room[..length].ends_with(b" INVALIDKEY\r\n"), "{}", room[..length].escape_ascii());
    }
    times
}

/// Questions of which each kind is asked so many. `TIMING_ROUNDS` asks more, and tells what a hundred at a time give away.
fn rounds() -> usize {
    std::env::var("TIMING_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(400)
}

/// How often an experiment may be repeated.
const TRIES: usize = 4;

/// Nothing to tell apart gives 0.5, with a standard deviation of 0.02 for 400 times each. A machine that others keep busy may
/// add to one side for a while; what the server tells, it tells every time.
async fn are_not_told_apart(server: &Server, what: &str, kinds: [&dyn Fn(usize) -> String; 2]) {
    let mut found = Vec::new();
    while !found.last().is_some_and(|found| (0.4..0.6).contains(found)) {
        assert!(found.len() < TRIES, "{what}, each time: {found:.3?}");
        let [one, other] = times(server, kinds, rounds()).await;
        found.push(told_apart(&one, &other));
        let means = |times: &[Duration]| -> Vec<Duration> {
            let mean = |part: &[Duration]| {
                let mut part = part.to_vec();
                part.sort_unstable();
                part[part.len() / 2]
            };
            times.chunks_exact(100).map(mean).collect()
        };
        println!(
            "{what}: {:.3}; by the medians of 100: {:.3}",
            found[found.len() - 1],
            told_apart(&means(&one), &means(&other))
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h_the_time_of_an_answer_tells_no_address_with_many_keys_from_one_without() {
    // Without the limit on INVALIDKEY answers, which would end the experiment early.
    let server = Server::start(Limits::default().with(|limits| limits.authority.invalid_answers = u32::MAX)).await;
    let crowded = Address::parse(b"crowded@example.com", true).unwrap();
    for _ in 0..60 {
        server.authority.issue(&crowded).await.unwrap();
    }
    let kinds: [&dyn Fn(usize) -> String; 2] = [&|_| "crowded@example.com".into(), &|_| "nobody1@example.com".into()];
    are_not_told_apart(&server, "60 keys from none", kinds).await;
    server.stop().await;
}

/// On a table wherever it is.
async fn tells_neither_who_has_keys_nor_who_was_asked_about(url: &str) {
    let server =
        Server::start_on(url, Limits::default().with(|limits| limits.authority.invalid_answers = u32::MAX)).await;
    // Each is asked about once.
    let addresses: Vec<Address> = (0..TRIES * rounds())
        .map(|n| Address::parse(format!("user{n}@example.com").as_bytes(), true).unwrap())
        .collect();
    for address in &addresses {
        server.authority.issue(address).await.unwrap();
    }
    let asked = |_: usize| "alice@example.com".to_owned();
    let unknown = |_: usize| "nobody@example.com".to_owned();
    let number = std::sync::atomic::AtomicUsize::new(0);
    let next = || number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let first_unknown = |_: usize| format!("nobody{}@example.com", next());
    let first_known = |_: usize| format!("user{}@example.com", next());
    are_not_told_apart(&server, "known from unknown", [&asked, &unknown]).await;
    are_not_told_apart(&server, "unknown ones asked about lately from others", [&unknown, &first_unknown]).await;
    number.store(0, std::sync::atomic::Ordering::Relaxed);
    are_not_told_apart(&server, "known ones asked about lately from others", [&asked, &first_known]).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h_the_time_of_an_answer_tells_neither_known_addresses_nor_those_asked_about_lately_in_sqlite() {
    tells_neither_who_has_keys_nor_who_was_asked_about("").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h_the_time_of_an_answer_tells_neither_known_addresses_nor_those_asked_about_lately_in_postgresql() {
    let Some(cluster) = Postgres::shared() else { return };
    let mut config = Config::default();
    config.store.url = cluster.url("postgres", &cluster.database());
    let opening = Opening { busy: Duration::from_secs(10), readers: 1 };
    store::migrate(&config.store, opening).await.unwrap();
    tells_neither_who_has_keys_nor_who_was_asked_about(&config.store.url).await;
}

#[tokio::test]
async fn h_over_the_limit_all_get_the_same_word_too_and_tls_has_a_limit_of_its_own() {
    let server = Server::start(Limits::default().with(|limits| limits.authority.invalid_answers = 20)).await;
    let histories = histories(&server).await;
    for n in 0..20 {
        let said = server.by_udp(&question(&format!("user{n}@example.com"), GUESS)).await;
        assert!(said.ends_with(" INVALIDKEY\r\n"), "{n} {said}");
    }
    let mut stream = server.connect().await;
    for (n, (address, credential)) in histories.iter().cycle().take(30).enumerate() {
        let line = question(address, credential);
        assert_eq!(server.by_udp(&line).await, format!("VERIFY_REPLY {SEQ} {address} UNVERIFIED e=stream\r\n"));
        let word = if n < 20 { "INVALIDKEY" } else { "UNVERIFIED e=limit" };
        assert_eq!(say(&mut stream, &line, 1).await, [format!("VERIFY_REPLY {SEQ} {address} {word}\r\n")]);
    }
    // A right key and a right proof are answered on both doors, as often as one likes.
    let proof = server.key.verify_key().prove(SEQ.as_bytes(), b"alice@example.com", b"v=1 from=example.net");
    for credential in [server.key.expose(), &proof] {
        let line = question("alice@example.com", credential);
        for _ in 0..60 {
            assert!(server.by_udp(&line).await.contains(" VALIDKEY t="));
            assert!(say(&mut stream, &line, 1).await[0].contains(" VALIDKEY t="));
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn h_nobody_is_locked_out_however_many_guess_and_from_wherever() {
    let limits = Limits::default().with(|limits| {
        limits.authority.invalid_answers = 5;
        limits.authority.invalid_networks = 100;
    });
    let server = Server::start(limits).await;
    let line = question("alice@example.com", GUESS);
    let right = question("alice@example.com", server.key.expose());
    for n in 0..3_000_u32 {
        // As many networks as there is room for, and more.
        let peer = SocketAddr::from(([10, (n >> 8) as u8, n as u8, 1], 4410));
        assert!(server.authority.answer(line.as_bytes(), peer).await.is_some());
        if n % 100 == 0 {
            let said = server.authority.answer(right.as_bytes(), peer).await.unwrap();
            assert!(said.windows(10).any(|word| word == b" VALIDKEY "), "{n}");
        }
    }
    // A network that never guessed gets its denial, and those of the guessers the key's owner's answers.
    let stranger = SocketAddr::from(([192, 0, 2, 1], 4410));
    assert!(server.authority.answer(line.as_bytes(), stranger).await.unwrap().ends_with(b" INVALIDKEY\r\n"));
    assert!(server.by_udp(&right).await.contains(" VALIDKEY t="));
    server.stop().await;
}

#[tokio::test]
async fn h_no_datagram_is_answered_by_a_longer_one_whatever_comes() {
    let server = Server::start(Limits::default().with(|limits| limits.authority.invalid_answers = 10)).await;
    let peer = SocketAddr::from(([192, 0, 2, 1], 4410));
    let proof = server.key.verify_key().prove(SEQ.as_bytes(), b"alice@example.com", b"v=1 from=example.net");
    let whole = [
        question("alice@example.com", server.key.expose()),
        question("alice@example.com", &proof),
        question("nobody@example.com", GUESS),
        question("alice@other.example", GUESS),
        format!("VERIFY 0 a@b c{GUESS} v=2\r\n"),
        format!("VERIFY 0 a@b {}\r\n", "x".repeat(22)),
        format!("VERIFY {SEQ} {}@example.com {GUESS}\r\n", "%61".repeat(120)),
    ];
    // Repeatable without being regular: a linear congruence (Knuth).
    let mut number = 1_u64;
    let mut draw = |below: usize| {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(number >> 33).unwrap() % below
    };
    let (mut answered, mut silent) = (0, 0);
    for round in 0..20_000 {
        let mut datagram = whole[round % whole.len()].clone().into_bytes();
        for _ in 0..draw(4) {
            let at = draw(datagram.len());
            match draw(5) {
                0 => datagram[at] = u8::try_from(draw(256)).unwrap(),
                1 => datagram.truncate(at.max(1)),
                2 => datagram.insert(at, b" \r\n%="[draw(5)]),
                3 => drop(datagram.remove(at)),
                _ => datagram.extend_from_slice(&b"\r\nVERIFY 0 a@b c\r\n"[draw(18)..]),
            }
            if datagram.is_empty() {
                break;
            }
        }
        match server.authority.answer(&datagram, peer).await {
            Some(reply) => {
                answered += 1;
                assert!(reply.len() <= datagram.len(), "{} for {}", reply.escape_ascii(), datagram.escape_ascii());
                assert!(reply.len() <= 512 && reply.ends_with(b"\r\n"));
                assert_eq!(reply.iter().filter(|&&octet| octet == b'\n').count(), 1, "one line");
            }
            None => silent += 1,
        }
    }
    assert!(answered > 5_000 && silent > 500, "{answered} {silent}");
    server.stop().await;
}

#[tokio::test]
async fn h_what_is_no_question_tells_nothing_of_the_address_either() {
    let server = Server::start(Limits::default()).await;
    let mut stream = server.connect().await;
    for rest in [
        format!("{GUESS} v=2\r\n"),
        format!("{GUESS} a=1 a=2\r\n"),
        format!("{GUESS}\n"),
        "short and of some more words\r\n".to_owned(),
    ] {
        let said = |name: &str| format!("VERIFY {SEQ} {name}@example.com {rest}");
        let [known, unknown] = ["alice", "nobod"].map(said);
        let udp = [server.by_udp(&known).await, server.by_udp(&unknown).await];
        assert_eq!(udp[0].replace("alice", "nobod"), udp[1], "{rest:?}");
        assert!(udp[0].contains("UNVERIFIED e="), "{udp:?}");
        assert_eq!(say(&mut stream, &known, 1).await, [udp[0].clone()]);
        assert_eq!(say(&mut stream, &unknown, 1).await, [udp[1].clone()]);
    }
    server.stop().await;
}
