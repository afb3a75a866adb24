//! The milter door, driven over real sockets by the MTA that the demonstration plays.

use std::time::Duration;

use addrauth::config::{Limits, Listen};
use addrauth_lab::mta::{Envelope, Fate, Mta};
use addrauth_tests::milter::{Fake, frame, open};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn inbound() -> Envelope {
    Envelope::inbound("a@one.example", "b@two.example")
}

const PLACE: &str = "inet:127.0.0.1:0";

#[tokio::test]
async fn a1_a2_a3_no_key_reaches_a_recipient_and_no_other_octet_changes() {
    let daemon = open(PLACE, Limits::default());
    let mut mta = Mta::connect(&daemon.place).await.unwrap();
    for _ in 0..3 {
        let message = b"X-Auth-Key: 1\r\nSubject: x\r\nx-auth-KEY : 2\r\nX-Auth-Key\t:\r\n 3\r\nA:b\r\n\r\nbody\r\n";
        let outcome = mta.send(&inbound(), message).await.unwrap();
        assert_eq!(outcome.fate, Fate::Delivered);
        assert_eq!(outcome.message, b"X-Judge: one\r\nSubject: x\r\nA:b\r\n\r\nbody\r\n");
    }
    mta.quit().await.unwrap();
}

#[tokio::test]
async fn k6_each_verdict_arrives_and_a_reply_stays_one_line() {
    let daemon = open(PLACE, Limits::default());
    let mut mta = Mta::connect(&daemon.place).await.unwrap();
    for (subject, fate) in [
        ("reject", Fate::Refused("550 5.7.1 no??250 yes".into())),
        ("hold", Fate::Held("looks odd".into())),
        ("discard", Fate::Discarded),
        ("accept", Fate::Delivered),
    ] {
        let outcome = mta.send(&inbound(), format!("Subject: {subject}\r\n\r\nx").as_bytes()).await.unwrap();
        assert_eq!(outcome.fate, fate);
    }
}

#[tokio::test]
async fn a_judge_that_panics_or_never_ends_is_451_and_the_connection_goes_on() {
    let limits = Limits::default().with(|limits| limits.mta.examine = Duration::from_millis(100));
    let daemon = open(PLACE, limits);
    let mut mta = Mta::connect(&daemon.place).await.unwrap();
    for subject in ["panic", "never", "panic"] {
        let outcome = mta.send(&inbound(), format!("Subject: {subject}\r\n\r\nx").as_bytes()).await.unwrap();
        assert!(matches!(&outcome.fate, Fate::Refused(text) if text.starts_with("451 4.3.0 ")), "{outcome:?}");
    }
    assert_eq!(mta.send(&inbound(), b"A: b\r\n\r\n").await.unwrap().fate, Fate::Delivered);
}

#[tokio::test]
async fn a_new_judge_is_asked_from_the_next_message_on() {
    let daemon = open(PLACE, Limits::default());
    let mut mta = Mta::connect(&daemon.place).await.unwrap();
    assert!(mta.send(&inbound(), b"A: b\n\n").await.unwrap().message.starts_with(b"X-Judge: one\n"));
    daemon.judge.send(Fake::named("two")).unwrap();
    assert!(mta.send(&inbound(), b"A: b\n\n").await.unwrap().message.starts_with(b"X-Judge: two\n"));
}

#[tokio::test]
async fn n_a_full_house_says_451_at_mail() {
    let daemon = open(PLACE, Limits::default().with(|limits| limits.mta.messages_in_flight = 0));
    let mut mta = Mta::connect(&daemon.place).await.unwrap();
    let outcome = mta.send(&inbound(), b"A: b\r\n\r\n").await.unwrap();
    assert_eq!(outcome.at, 'M');
    assert!(matches!(outcome.fate, Fate::Refused(text) if text.starts_with("451 4.3.2 ")));
}

#[tokio::test]
async fn n_100_000_header_fields_are_survived_and_the_keys_among_them_deleted() {
    let daemon = open(PLACE, Limits::default());
    let mut mta = Mta::connect(&daemon.place).await.unwrap();
    let message = ["X-Auth-Key: 1\n", &"A: b\n".repeat(100_000), "X-Auth-Key: 2\n\nbody"].concat();
    let outcome = mta.send(&inbound(), message.as_bytes()).await.unwrap();
    assert_eq!(outcome.fate, Fate::Delivered);
    assert!(!outcome.message.windows(10).any(|w| w == b"X-Auth-Key"));
}

#[tokio::test]
async fn n_lengths_that_are_none_and_f6_half_open_connections_are_closed() {
    let daemon = open(PLACE, Limits::default().with(|limits| limits.mta.greeting = Duration::from_millis(200)));
    let Listen::Inet(address) = daemon.place else { panic!() };
    for octets in [&[0, 0, 0, 0][..], &[0x80, 0, 0, 0, b'O'], &[0xff; 5], &[0, 0, 0, 13, b'O'], &[]] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(octets).await.unwrap();
        let mut answer = Vec::new();
        let closed = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut answer)).await;
        assert!(closed.is_ok() && answer.is_empty(), "{octets:?}");
    }
}

#[tokio::test]
async fn a_unix_socket_goes_when_the_program_stops() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("milter");
    let daemon = open(&format!("unix:{}", path.display()), Limits::default());
    let mut mta = Mta::connect(&daemon.place).await.unwrap();
    assert_eq!(mta.send(&inbound(), b"A: b\r\n\r\n").await.unwrap().fate, Fate::Delivered);
    daemon.shutdown.cancel();
    daemon.task.await.unwrap();
    assert!(!path.exists());
}

#[tokio::test]
async fn the_whole_answer_comes_in_one_read_even_to_a_slow_peer() {
    let daemon = open(PLACE, Limits::default());
    let Listen::Inet(address) = daemon.place else { panic!() };
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut answer = [0; 4096];
    stream.write_all(&frame(b'O', &[6u32, 0x1ff, 0x1f_ffff].map(u32::to_be_bytes).concat())).await.unwrap();
    assert!(stream.read(&mut answer).await.unwrap() > 17);
    // One octet at a time, as slow as a peer may be.
    for octet in frame(b'M', b"<a@one.example>\0") {
        stream.write_all(&[octet]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(stream.read(&mut answer).await.unwrap(), 5);
    let header = [frame(b'L', b"X-Auth-Key\0 1\0"), frame(b'L', b"X-Auth-Key\0 2\0"), frame(b'N', b"")].concat();
    stream.write_all(&[header, frame(b'E', b"")].concat()).await.unwrap();
    let length = stream.read(&mut answer).await.unwrap();
    let expected = [
        frame(b'm', b"\0\0\0\x02X-Auth-Key\0\0"),
        frame(b'm', b"\0\0\0\x01X-Auth-Key\0\0"),
        frame(b'i', b"\0\0\0\0X-Judge\0 one\0"),
        frame(b'a', b""),
    ];
    assert_eq!(answer[..length], expected.concat());
}
