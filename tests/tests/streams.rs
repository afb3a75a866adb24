//! The Authentication Server over TLS: real sockets, a private root, and peers that keep to no rule.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use addrauth::authority::Authority;
use addrauth::config::{Config, Limits};
use addrauth::tls::{self, Connector, Failed};
use addrauth_tests::certificates::Root;
use addrauth_tests::daemon::Daemon;
use addrauth_tests::ports::{Closed, claim};
use addrauth_tests::quiet::undisturbed;
use addrauth_tests::server::{GUESS, HOST, SEQ, Server, config, question, say};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

/// What is read until the other side closes, and after how long it does.
async fn until_closed(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> (Vec<u8>, Duration) {
    let (start, mut read) = (Instant::now(), Vec::new());
    let end = async {
        // A reset is an end too.
        while matches!(stream.read_buf(&mut read).await, Ok(count) if count > 0) {}
    };
    tokio::time::timeout(Duration::from_secs(60), end).await.expect("the server closes it");
    (read, start.elapsed())
}

#[tokio::test]
async fn a_question_over_tls_gets_the_answer_that_udp_gives_and_many_may_come_at_once() {
    let server = Server::start(Limits::default()).await;
    let mut stream = server.connect().await;
    let proof = server.key.verify_key().prove(SEQ.as_bytes(), b"alice@example.com", b"v=1 from=example.net");
    for credential in [proof.as_str(), server.key.expose(), GUESS] {
        for address in ["alice@example.com", "nobody@example.com", "a@other.example"] {
            let line = question(address, credential);
            let udp = server.by_udp(&line).await;
            assert_eq!(say(&mut stream, &line, 1).await, [udp], "{address}");
        }
    }
    // One octet after another, many lines in one write, and a line that begins in one write and ends in the next.
    let line = question("alice@example.com", &proof);
    for octet in line.as_bytes() {
        stream.write_all(&[*octet]).await.unwrap();
        stream.flush().await.unwrap();
    }
    assert!(say(&mut stream, "", 1).await[0].contains(" VALIDKEY t="));
    let numbered = |n: usize| format!("VERIFY {n:032x} alice@example.com {}\r\n", server.key.expose());
    let all: String = (0..500).map(numbered).collect();
    let (first, rest) = all.split_at(all.len() / 3);
    stream.write_all(first.as_bytes()).await.unwrap();
    let mut replies = say(&mut stream, rest, 500).await;
    replies.sort();
    for (n, reply) in replies.iter().enumerate() {
        assert!(reply.starts_with(&format!("VERIFY_REPLY {n:032x} alice@example.com VALIDKEY t=")), "{reply}");
    }
    // What is longer than a datagram passes here.
    let long = format!("{}@example.com", "%61".repeat(200));
    assert!(say(&mut stream, &question(&long, GUESS), 1).await[0].contains("INVALIDKEY"));
    server.stop().await;
}

#[tokio::test]
async fn without_alpn_addrauth_1_nothing_is_said() {
    let server = Server::start(Limits::default()).await;
    let mut stream = server.connect_for(&[]).await.unwrap();
    let _ = stream.write_all(question("alice@example.com", GUESS).as_bytes()).await;
    assert_eq!(until_closed(&mut stream).await.0, b"");
    assert!(server.connect_for(&[b"http/1.1"]).await.is_err());
    let mut stream = server.connect_for(&[b"http/1.1", b"addrauth/1"]).await.unwrap();
    assert_eq!(say(&mut stream, &question("alice@example.com", GUESS), 1).await.len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn d9_what_does_not_parse_up_to_the_address_closes_the_connection_after_what_was_asked_before() {
    let server = Server::start(Limits::default()).await;
    for line in [
        "HELLO world\r\n".to_owned(),
        "\r\n".to_owned(),
        format!("VERIFY_REPLY {SEQ} alice@example.com VALIDKEY t=1\r\n"),
        format!("VERIFY {SEQ}00 alice@example.com {GUESS}\r\n"),
        format!("VERIFY {SEQ} {} {GUESS}\r\n", "a".repeat(300)),
        format!("VERIFY {SEQ} alice@example.com {GUESS} {}\r\n", "x".repeat(1_000)),
        format!("FETCH {SEQ} alice@example.com {GUESS}\r\n"),
        "GET / HTTP/1.1\r\n".to_owned(),
    ] {
        let mut stream = server.connect().await;
        let text = format!(
            "{}{line}{}",
            question("alice@example.com", server.key.expose()),
            question("bob@example.com", GUESS)
        );
        stream.write_all(text.as_bytes()).await.unwrap();
        let (said, _) = until_closed(&mut stream).await;
        let said = String::from_utf8(said).unwrap();
        assert_eq!((said.lines().count(), said.contains("VALIDKEY t=")), (1, true), "{line:?} {said:?}");
    }
    // What parses so far is told what is wrong with it, and the connection goes on.
    let mut stream = server.connect().await;
    for (line, want) in [
        (format!("VERIFY {SEQ} alice@example.com {GUESS}\n"), "UNVERIFIED e=syntax"),
        (format!("VERIFY {SEQ} alice@example.com {GUESS} v=2\r\n"), "UNVERIFIED e=version"),
        (question("alice@example.com", server.key.expose()), "VALIDKEY t="),
    ] {
        assert!(say(&mut stream, &line, 1).await[0].contains(want), "{line:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn d6_a_line_without_end_is_not_read_to_its_end() {
    let server = Server::start(Limits::default()).await;
    let stream = server.connect().await;
    let (mut reader, mut writer) = tokio::io::split(stream);
    let writing = tokio::spawn(async move {
        let (mut written, piece) = (0, [b'a'; 4_096]);
        while written < 10_000_000 && writer.write_all(&piece).await.is_ok() {
            written += piece.len();
        }
        written
    });
    let (said, after) = until_closed(&mut reader).await;
    assert!(said.is_empty() && after < Duration::from_secs(2), "{after:?}");
    let written = tokio::time::timeout(Duration::from_secs(60), writing).await.unwrap().unwrap();
    assert!(written < 10_000_000, "{written}");
    server.stop().await;
}

#[tokio::test]
async fn d4_d5_who_is_slow_or_never_closes_is_closed() {
    undisturbed(run_d4_d5_who_is_slow_or_never_closes_is_closed).await;
}

async fn run_d4_d5_who_is_slow_or_never_closes_is_closed() {
    let (idle, line) = (Duration::from_millis(600), Duration::from_millis(200));
    let server = Server::start(Limits::default().with(|limits| {
        limits.authority.stream_idle = idle;
        limits.authority.stream_line = line;
    }))
    .await;
    let mut silent = server.connect().await;
    assert!(until_closed(&mut silent).await.1 >= idle - Duration::from_millis(100));
    // Idle time begins anew with each answer.
    let mut stream = server.connect().await;
    for _ in 0..3 {
        tokio::time::sleep(idle * 2 / 3).await;
        say(&mut stream, &question("alice@example.com", server.key.expose()), 1).await;
    }
    // A line that begins late and comes in two pieces is a line.
    let text = question("alice@example.com", server.key.expose());
    tokio::time::sleep(line * 2).await;
    for piece in [&text[..40], &text[40..]] {
        stream.write_all(piece.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(say(&mut stream, "", 1).await[0].contains("VALIDKEY"));
    // A line that is begun has to end, however steadily it drips.
    let mut dripping = server.connect().await;
    let start = Instant::now();
    while dripping.write_all(b"V").await.is_ok() && dripping.flush().await.is_ok() {
        assert!(start.elapsed() < Duration::from_secs(3), "it is still read");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn who_reads_no_replies_is_closed() {
    let write = Duration::from_millis(300);
    let server = Server::start(Limits::default().with(|limits| limits.authority.stream_write = write)).await;
    let mut stream = server.connect().await;
    // Each is answered with more octets than this side ever reads; in the end it cannot write any more either.
    let line = format!("VERIFY {SEQ} {}@example.com {GUESS}\r\n", "%61".repeat(200));
    let all = line.repeat(16);
    let start = Instant::now();
    while stream.write_all(all.as_bytes()).await.is_ok() {
        assert!(start.elapsed() < Duration::from_secs(60), "nobody stops it");
    }
    server.stop().await;
}

#[tokio::test]
async fn f6_half_open_connections_end_by_themselves_and_take_nobody_elses_place() {
    let handshake = Duration::from_millis(500);
    let limits = Limits::default().with(|limits| {
        limits.authority.stream_handshake = handshake;
        limits.authority.streams_per_network = 4;
    });
    let server = Server::start(limits).await;
    let mut open = Vec::new();
    for _ in 0..4 {
        open.push(TcpStream::connect(server.address).await.unwrap());
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    // The fifth of the network is closed at once, UDP goes on.
    let mut fifth = TcpStream::connect(server.address).await.unwrap();
    assert!(until_closed(&mut fifth).await.1 < Duration::from_millis(200));
    assert!(server.by_udp(&question("alice@example.com", server.key.expose())).await.contains("VALIDKEY"));
    for mut stream in open {
        assert_eq!(until_closed(&mut stream).await.0, b"");
    }
    let mut stream = server.connect().await;
    assert!(say(&mut stream, &question("alice@example.com", server.key.expose()), 1).await[0].contains("VALIDKEY"));
    // A thousand that come and go leave nothing behind.
    for _ in 0..1_000 {
        drop(TcpStream::connect(server.address).await.unwrap());
    }
    drop(stream);
    tokio::time::sleep(handshake + Duration::from_millis(200)).await;
    for _ in 0..4 {
        open_and_ask(&server).await;
    }
    server.stop().await;
}

async fn open_and_ask(server: &Server) {
    let mut stream = server.connect().await;
    let replies = say(&mut stream, &question("alice@example.com", server.key.expose()), 1).await;
    assert!(replies[0].contains("VALIDKEY"));
}

#[tokio::test]
async fn d7_a_reset_harms_nobody_else() {
    let server = Server::start(Limits::default()).await;
    let mut other = server.connect().await;
    for _ in 0..50 {
        let mut stream = server.connect().await;
        stream.write_all(question("alice@example.com", server.key.expose()).as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        // Closed with the reply unread, the kernel sends a reset.
        drop(stream.into_inner().0);
    }
    assert!(say(&mut other, &question("alice@example.com", server.key.expose()), 1).await[0].contains("VALIDKEY"));
    server.stop().await;
}

#[tokio::test]
async fn a_renewed_certificate_is_used_without_a_restart_and_a_bad_one_is_not() {
    let server = Server::start(Limits::default()).await;
    let day = Duration::from_secs(86_400);
    let left = async || {
        let stream = server.connect().await;
        let ends = tls::ends(&stream).expect("an end");
        ends.duration_since(std::time::SystemTime::now()).unwrap().as_secs() / 86_400
    };
    assert_eq!(left().await, 89);
    let old = server.connect().await;
    server.root.issue_until(HOST, std::time::SystemTime::now() + 30 * day);
    server.streams.renew();
    assert_eq!(left().await, 29);
    let tls = server.root.issue_until(HOST, std::time::SystemTime::now() + 60 * day);
    std::fs::write(&tls.key, std::fs::read(server.root.issue("other.example").key).unwrap()).unwrap();
    server.streams.renew();
    assert_eq!(left().await, 29, "certificate and key do not fit: the old pair stays");
    std::fs::write(&tls.certificate, "no PEM").unwrap();
    server.streams.renew();
    assert_eq!(left().await, 29);
    server.root.issue(HOST);
    server.streams.renew();
    assert_eq!(left().await, 89);
    let mut old = old;
    assert!(say(&mut old, &question("alice@example.com", server.key.expose()), 1).await[0].contains("VALIDKEY"));
    server.stop().await;
}

#[tokio::test]
async fn a_certificate_that_does_not_pass_is_named() {
    let server = Server::start(Limits::default()).await;
    let connect = async |root: &Path, host: &str| Connector::new(root).unwrap().connect(host, server.address).await;
    let failed = connect(&server.root.file(), "other.example.com").await.unwrap_err();
    assert!(matches!(&failed, Failed::Certificate(text) if text.contains("other.example.com")), "{failed}");
    let stranger = Root::new();
    assert!(matches!(connect(&stranger.file(), HOST).await, Err(Failed::Certificate(_))));
    assert!(matches!(connect(Path::new(""), HOST).await, Err(Failed::Certificate(_) | Failed::Setup(_))));
    server.root.issue_until(HOST, std::time::SystemTime::now() - Duration::from_secs(86_400));
    server.streams.renew();
    let failed = connect(&server.root.file(), HOST).await.unwrap_err();
    assert!(matches!(&failed, Failed::Certificate(text) if text.contains("expired")), "{failed}");
    assert!(matches!(connect(&server.root.file(), "no host name").await, Err(Failed::Name(_))));
    let closed = Closed::take();
    let failed = Connector::new(&server.root.file()).unwrap().connect(HOST, closed.place).await.unwrap_err();
    assert!(matches!(failed, Failed::Connect(_)));
    assert!(
        Connector::new(Path::new("/nonexistent/roots.pem")).unwrap_err().to_string().contains("/nonexistent/roots.pem")
    );
    server.stop().await;
}

#[tokio::test]
async fn files_that_make_no_server_are_refused_with_the_way_out() {
    let (dir, root) = (tempfile::tempdir().unwrap(), Root::new());
    let good = config(dir.path(), &root);
    let authority = Authority::open(&good, &Arc::new(Limits::default())).await.unwrap();
    let sockets = authority.bind().unwrap();
    let junk = dir.path().join("junk.pem");
    std::fs::write(&junk, "-----BEGIN SECRET-----\nnever shown\n").unwrap();
    let other = root.issue("other.example");
    for (certificate, key, words) in [
        (junk.clone(), good.authority.tls.key.clone(), "junk.pem"),
        (good.authority.tls.certificate.clone(), junk.clone(), "no private key"),
        (dir.path().join("nowhere.pem"), junk.clone(), "nowhere.pem"),
        (good.authority.tls.certificate.clone(), other.key, "of one pair"),
    ] {
        let mut bad = good.clone();
        bad.authority.tls.certificate = certificate;
        bad.authority.tls.key = key;
        let error = authority.bind_streams(&bad, &sockets).await.unwrap_err().to_string();
        assert!(
            error.contains("[authority.tls]") && error.contains(words) && !error.contains("never shown"),
            "{error}"
        );
    }
    let taken = tokio::net::TcpListener::bind(sockets[0].local_addr().unwrap()).await;
    if taken.is_ok() {
        let error = authority.bind_streams(&good, &sockets).await.unwrap_err().to_string();
        assert!(error.contains("cannot listen on TCP"), "{error}");
    }
    let mut off = good.clone();
    off.authority.tls = Default::default();
    assert!(authority.bind_streams(&off, &sockets).await.unwrap().is_none());
    for half in ["certificate = \"/x\"", "key = \"/x\""] {
        let error = Config::parse(&format!("[authority.tls]\n{half}"), Path::new("x")).unwrap_err().to_string();
        assert!(error.contains("both certificate and key"), "{error}");
    }
    authority.close().await;
}

#[tokio::test]
async fn each_socket_and_each_door_of_tls_tells_for_itself_whether_its_loop_turns() {
    const SHORT: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_secs(60);
    let (dir, root) = (tempfile::tempdir().unwrap(), Root::new());
    let mut config = config(dir.path(), &root);
    config.authority.listen = vec!["127.0.0.1:0".parse().unwrap(); 2];
    let authority = Arc::new(Authority::open(&config, &Arc::new(Limits::default())).await.unwrap());
    let (mut sockets, streams) = loop {
        // The port that UDP was given may be taken on TCP.
        let sockets = authority.bind().unwrap();
        if let Ok(Some(streams)) = authority.bind_streams(&config, &sockets).await {
            break (sockets, streams);
        }
    };
    let (udp, tls) = (authority.pulses(), streams.pulses());
    assert_eq!((udp.len(), tls.len()), (2, 2));
    let stop = CancellationToken::new();
    // The loops of the other socket, and those of TLS, do not turn.
    let _unserved = sockets.pop().unwrap();
    let serving = tokio::spawn(Arc::clone(&authority).serve(sockets, stop.clone()));
    for _ in 0..3 {
        assert!(udp[0].beats(LONG).await);
        for pulse in [&udp[1], &tls[0], &tls[1]] {
            assert!(!pulse.beats(SHORT).await, "others do not answer for it");
        }
    }
    let streaming = tokio::spawn(Arc::clone(&authority).serve_streams(streams, stop.clone()));
    assert!(tls[0].beats(LONG).await && tls[1].beats(LONG).await && !udp[1].beats(SHORT).await);
    stop.cancel();
    serving.await.unwrap();
    streaming.await.unwrap();
    authority.close().await;
}

#[tokio::test]
async fn the_daemon_speaks_tls_and_a_hangup_renews_its_certificate() {
    let (dir, root) = (tempfile::tempdir().unwrap(), Root::new());
    let tls = root.issue(HOST);
    let port = claim();
    let file = dir.path().join("authority.toml");
    let text = format!(
        "state_dir = {:?}\n[authority]\ndomains = [\"example.com\"]\nlisten = [\"127.0.0.1:{port}\"]\ndeliver = \"nobody\"\n\
         tls = {{ certificate = {:?}, key = {:?} }}\n",
        dir.path().join("state"),
        tls.certificate,
        tls.key
    );
    std::fs::write(&file, text).unwrap();
    let daemon = Daemon::start("authority", &file);
    let until = async |words: &str| {
        let start = Instant::now();
        while !daemon.log().contains(words) {
            assert!(start.elapsed() < Duration::from_secs(60), "{words}: {}", daemon.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    until("on UDP and TLS").await;
    let connector = Connector::new(&root.file()).unwrap();
    let place = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let days = async || {
        let mut stream = connector.connect(HOST, place).await.unwrap();
        let said = say(&mut stream, &question("nobody@example.com", GUESS), 1).await;
        assert!(said[0].ends_with(" INVALIDKEY\r\n"), "{said:?}");
        tls::ends(&stream).unwrap().duration_since(std::time::SystemTime::now()).unwrap().as_secs() / 86_400
    };
    assert_eq!(days().await, 89);
    root.issue_until(HOST, std::time::SystemTime::now() + Duration::from_secs(30 * 86_400 + 60));
    daemon.signal("HUP");
    until("is in use from now on").await;
    assert_eq!(days().await, 30);
    let open = connector.connect(HOST, place).await.unwrap();
    daemon.signal("TERM");
    until("authority stopped by SIGTERM").await;
    drop(open);
    assert!(!daemon.log().contains("ERROR"), "{}", daemon.log());
}
