use std::fs;
use std::net::Ipv4Addr;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::net::UdpSocket;

use super::*;

/// What a server says.
#[derive(Clone, Copy)]
enum Says {
    /// These names hold a TXT record that names an AS, and no other name exists.
    Names(&'static [&'static str]),
    /// This response code, the question repeated or not.
    Code(u8, bool),
}

const TAKES_PART: Says = Says::Names(&["example.com", "example.org"]);

/// A DNS server on loopback; where.
async fn server(says: Says) -> SocketAddr {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(serve(socket, says));
    address
}

async fn serve(socket: UdpSocket, says: Says) {
    let mut buffer = [0; 1_500];
    while let Ok((_, peer)) = socket.recv_from(&mut buffer).await {
        let (mut end, mut labels) = (12, Vec::new());
        while buffer[end] != 0 {
            let label = &buffer[end + 1..end + 1 + usize::from(buffer[end])];
            labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
            end += 1 + label.len();
        }
        end += 5;
        let (name, is_txt) = (labels.join("."), buffer[end - 4..end - 2] == [0, 16]);
        let (code, repeats, holds) = match says {
            Says::Code(code, repeats) => (code, repeats, false),
            Says::Names(names) => match names.contains(&name.as_str()) {
                true => (0, true, is_txt),
                false => (3, true, false),
            },
        };
        let mut answer = buffer[..if repeats { end } else { 12 }].to_vec();
        answer[2..12].copy_from_slice(&[0x81, 0x80 | code, 0, u8::from(repeats), 0, u8::from(holds), 0, 0, 0, 0]);
        if holds {
            let text = b"AS=as.example.com:4410";
            answer.extend([0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 60, 0, text.len() as u8 + 1, text.len() as u8]);
            answer.extend(text);
        }
        let _ = socket.send_to(&answer, peer).await;
    }
}

fn limits() -> Arc<Limits> {
    Arc::new(Limits::default().with(|limits| limits.verify.resolv_conf_look = Duration::ZERO))
}

async fn published(locator: &Locator, domain: &str) -> Published {
    locator.published(&domain.parse().unwrap(), Instant::now() + Duration::from_secs(20)).await
}

async fn through(servers: &[SocketAddr]) -> Published {
    let config = config::Verify { dns: servers.to_vec(), ..config::Verify::default() };
    published(&Locator::new(&config, &Arc::new(Limits::default())).unwrap(), "example.com").await
}

#[tokio::test]
async fn where_one_server_fails_the_next_is_asked_and_an_absence_is_an_answer() {
    let zone = server(TAKES_PART).await;
    let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    // SERVFAIL, REFUSED, FORMERR, NOTIMP.
    for code in [2, 5, 1, 4] {
        for repeats in [true, false] {
            let bad = server(Says::Code(code, repeats)).await;
            let found = through(&[bad, zone]).await;
            assert!(matches!(found, Published::Records(_)), "{code} {repeats}: {found:?}");
        }
    }
    let found = through(&[silent.local_addr().unwrap(), zone]).await;
    assert!(matches!(found, Published::Records(_)), "{found:?}");
    let empty = server(Says::Names(&[])).await;
    assert_eq!(through(&[empty, zone]).await, Published::Nothing);
    let broken = server(Says::Code(2, true)).await;
    assert!(matches!(through(&[broken]).await, Published::Failed(_)));
}

#[tokio::test]
async fn a_server_that_is_overtaken_is_asked_last() {
    let zone = server(TAKES_PART).await;
    let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let config = config::Verify { dns: vec![silent.local_addr().unwrap(), zone], ..config::Verify::default() };
    let locator = Locator::new(&config, &Arc::new(Limits::default())).unwrap();
    assert!(matches!(published(&locator, "example.com").await, Published::Records(_)));
    let mut name = Name::from_ascii("example.org").unwrap();
    name.set_fqdn(true);
    assert!(locator.ask(name, RecordType::TXT).await.is_ok());
    let mut buffer = [0; 512];
    let heard = std::iter::from_fn(|| {
        let length = silent.try_recv(&mut buffer).ok()?;
        Some(buffer[..length].windows(4).any(|octets| octets == b"\x03org"))
    });
    let heard: Vec<bool> = heard.collect();
    assert!(!heard.is_empty() && !heard.contains(&true), "{heard:?}");
}

#[tokio::test]
async fn the_systems_servers_are_followed() {
    let zone = server(TAKES_PART).await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("resolv.conf");
    // Nobody is on this address: what 127.0.0.1 means where the file is missing depends on the machine.
    fs::write(&path, "search ..\nnameserver 127.9.9.9\noptions timeout:\n").unwrap();
    let config = config::Verify::default();
    let locator = Locator::following(&path, zone.port(), &config, &limits()).unwrap();
    assert!(matches!(published(&locator, "example.com").await, Published::Failed(_)));
    for text in ["nameserver 127.0.0.1\n", "nameserver 127.9.9.9\nnameserver 127.0.0.1\n"] {
        fs::write(&path, text).unwrap();
        locator.failures.clear();
        let found = published(&locator, "example.com").await;
        assert!(matches!(found, Published::Records(_)), "{text}: {found:?}");
    }
    fs::write(&path, "nameserver 127.9.9.9\n").unwrap();
    assert!(matches!(published(&locator, "other.example").await, Published::Failed(_)));
}

#[tokio::test]
async fn a_change_is_not_lost_with_the_caller_that_saw_it() {
    let zone = server(TAKES_PART).await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("resolv.conf");
    fs::write(&path, "nameserver 127.9.9.9\n").unwrap();
    let locator = Locator::following(&path, zone.port(), &config::Verify::default(), &limits()).unwrap();
    fs::write(&path, "nameserver 127.0.0.1\n").unwrap();
    // The look is slow, and its caller gone before it ends.
    let followed = locator.followed.clone().unwrap();
    {
        let _slow = followed.lock().unwrap();
        assert!(locator.follow().now_or_never().is_none());
    }
    // The next look finds the file unchanged; or the first one is late.
    for _ in 0..100 {
        locator.failures.clear();
        if matches!(published(&locator, "example.com").await, Published::Records(_)) {
            return;
        }
    }
    panic!("the servers of before are asked for ever");
}

#[tokio::test]
async fn servers_that_could_not_be_used_at_one_look_are_taken_at_the_next() {
    let zone = server(TAKES_PART).await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("resolv.conf");
    fs::write(&path, "nameserver 127.9.9.9\n").unwrap();
    let locator = Locator::following(&path, zone.port(), &config::Verify::default(), &limits()).unwrap();
    fs::write(&path, "nameserver 127.0.0.1\n").unwrap();
    // As it stands after a look from which no resolver could be made.
    assert!(locator.followed.as_ref().unwrap().lock().unwrap().look());
    assert!(matches!(published(&locator, "example.com").await, Published::Records(_)));
}

#[tokio::test]
async fn a_missing_file_is_no_reason_not_to_start_and_leads_to_this_machine() {
    let zone = server(TAKES_PART).await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("resolv.conf");
    let config = config::Verify::default();
    let locator = Locator::following(&path, zone.port(), &config, &limits()).unwrap();
    assert!(matches!(published(&locator, "example.com").await, Published::Records(_)));
    let fixed = [zone];
    let config = config::Verify { dns: fixed.to_vec(), ..config::Verify::default() };
    assert_eq!(NameServers::of(&config), NameServers { servers: fixed.to_vec(), from: "verify.dns", unusable: vec![] });
}

#[tokio::test]
async fn a_server_is_asked_in_its_scope() {
    let Ok(socket) = UdpSocket::bind(("::1", 0)).await else { return };
    let port = socket.local_addr().unwrap().port();
    let scoped = std::net::SocketAddrV6::new("::1".parse().unwrap(), port, 0, 1);
    tokio::spawn(serve(socket, Says::Code(5, true)));
    let servers = Servers::new(&[scoped.into()], &Limits::default(), &Arc::default()).unwrap();
    let mut name = Name::from_ascii("example.com").unwrap();
    name.set_fqdn(true);
    let refused = servers.lookup(name, RecordType::TXT).await.unwrap_err();
    assert!(refused.to_string().to_lowercase().contains("refused"), "{refused}");
}
