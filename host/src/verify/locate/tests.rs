use std::fs;
use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::net::UdpSocket;

use super::*;
use crate::cli::demo::zone::{Fault, Records as Zoned, Zone};

fn taking_part() -> Zoned {
    Zoned::default().txt("example.com", "AS=as.example.com:4410")
}

fn limits() -> Arc<Limits> {
    Arc::new(Limits { resolv_conf_look: Duration::ZERO, ..Limits::default() })
}

async fn published(locator: &Locator, domain: &str) -> Published {
    locator.published(domain, Instant::now() + Duration::from_secs(20)).await
}

async fn through(servers: &[SocketAddr]) -> Published {
    let config = config::Verify { dns: servers.to_vec(), ..config::Verify::default() };
    published(&Locator::new(&config, &Arc::new(Limits::default())).unwrap(), "example.com").await
}

/// A server that answers with this code, the question repeated or not.
async fn answering(code: u8, repeats: bool) -> SocketAddr {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 1_500];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
            let end = 12 + buffer[12..length].iter().position(|octet| *octet == 0).unwrap() + 5;
            let mut answer = buffer[..if repeats { end } else { 12 }].to_vec();
            (answer[2], answer[3]) = (0x81, 0x80 | code);
            answer[4..12].copy_from_slice(&[0, u8::from(repeats), 0, 0, 0, 0, 0, 0]);
            let _ = socket.send_to(&answer, peer).await;
        }
    });
    address
}

#[tokio::test]
async fn where_one_server_fails_the_next_is_asked_and_an_absence_is_an_answer() {
    let zone = Zone::start(taking_part()).await.unwrap();
    let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    // SERVFAIL, REFUSED, FORMERR, NOTIMP.
    for code in [2, 5, 1, 4] {
        for repeats in [true, false] {
            let bad = answering(code, repeats).await;
            let found = through(&[bad, zone.addr]).await;
            assert!(matches!(found, Published::Records(_)), "{code} {repeats}: {found:?}");
        }
    }
    let found = through(&[silent.local_addr().unwrap(), zone.addr]).await;
    assert!(matches!(found, Published::Records(_)), "{found:?}");
    let empty = Zone::start(Zoned::default()).await.unwrap();
    assert_eq!(through(&[empty.addr, zone.addr]).await, Published::Nothing);
    let broken = Zone::start(Zoned::default().fault("example.com", Fault::ServFail)).await.unwrap();
    assert!(matches!(through(&[broken.addr]).await, Published::Failed(_)));
}

#[tokio::test]
async fn a_server_that_is_overtaken_is_asked_last() {
    let zone = Zone::start(taking_part().txt("example.org", "AS=as.example.org:4410")).await.unwrap();
    let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let config = config::Verify { dns: vec![silent.local_addr().unwrap(), zone.addr], ..config::Verify::default() };
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
    let zone = Zone::start(taking_part()).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("resolv.conf");
    // Nobody is on this address: what 127.0.0.1 means where the file is missing depends on the machine.
    fs::write(&path, "search ..\nnameserver 127.9.9.9\noptions timeout:\n").unwrap();
    let config = config::Verify::default();
    let locator = Locator::following(&path, zone.addr.port(), &config, &limits()).unwrap();
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
async fn a_missing_file_is_no_reason_not_to_start_and_leads_to_this_machine() {
    let zone = Zone::start(taking_part()).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("resolv.conf");
    let config = config::Verify::default();
    let locator = Locator::following(&path, zone.addr.port(), &config, &limits()).unwrap();
    assert!(matches!(published(&locator, "example.com").await, Published::Records(_)));
    let fixed = [zone.addr];
    let config = config::Verify { dns: fixed.to_vec(), ..config::Verify::default() };
    assert_eq!(NameServers::of(&config), NameServers { servers: fixed.to_vec(), from: "verify.dns", unusable: vec![] });
}

#[tokio::test]
async fn a_server_is_asked_in_its_scope() {
    let Ok(socket) = UdpSocket::bind(("::1", 0)).await else { return };
    let port = socket.local_addr().unwrap().port();
    let scoped = std::net::SocketAddrV6::new("::1".parse().unwrap(), port, 0, 1);
    let heard = tokio::spawn(async move {
        let mut buffer = [0; 512];
        let (length, peer) = socket.recv_from(&mut buffer).await.unwrap();
        let end = 12 + buffer[12..length].iter().position(|octet| *octet == 0).unwrap() + 5;
        (buffer[2], buffer[3]) = (0x81, 0x85);
        buffer[4..12].copy_from_slice(&[0, 1, 0, 0, 0, 0, 0, 0]);
        socket.send_to(&buffer[..end], peer).await.unwrap();
    });
    let servers = Servers::new(&[scoped.into()], &Limits::default()).unwrap();
    let mut name = Name::from_ascii("example.com").unwrap();
    name.set_fqdn(true);
    let refused = servers.lookup(name, RecordType::TXT).await.unwrap_err();
    assert!(refused.to_string().to_lowercase().contains("refused"), "{refused}");
    heard.await.unwrap();
}
