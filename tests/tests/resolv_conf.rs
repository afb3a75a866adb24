//! /etc/resolv.conf as the real program meets it: in a mount namespace of its own, where another file stands in its place.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use addrauth::config::Listen;
use addrauth_lab::mta::{Envelope, Fate, Mta};
use addrauth_tests::daemon::binary;
use addrauth_tests::dns;

/// How long a busy machine may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The program, seeing this file as /etc/resolv.conf; none where it is missing. Absent where no namespace may be made.
fn seeing(file: Option<&Path>) -> Option<Command> {
    let namespace = || {
        let mut command = Command::new("unshare");
        command.arg("--mount");
        if !fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0) {
            command.arg("--map-root-user");
        }
        command
    };
    if !namespace().arg("true").stderr(Stdio::null()).status().is_ok_and(|status| status.success()) {
        eprintln!("no mount namespace may be made here: the unit tests alone show how resolv.conf is read");
        return None;
    }
    let mut command = namespace();
    match file {
        Some(file) => {
            let script = "mount --bind \"$1\" /etc/resolv.conf && shift && exec \"$@\"";
            command.args(["sh", "-c", script, "sh"]).arg(file).arg(binary());
        }
        // A folder in place of /etc that holds nothing.
        None => {
            command.args(["sh", "-c", "mount -t tmpfs none /etc && exec \"$@\"", "sh"]).arg(binary());
        }
    }
    Some(command)
}

fn configured(dir: &Path) -> std::path::PathBuf {
    let file = dir.join("filter.toml");
    let (state, socket) = (dir.join("state"), dir.join("milter"));
    let text = format!(
        "hostname = \"mx.example.com\"\nfinal_domains = [\"example.com\"]\nobserve = false\nstate_dir = {state:?}\n\
         [milter]\nlisten = [\"unix:{}\"]\n",
        socket.display()
    );
    fs::write(&file, text).unwrap();
    file
}

#[test]
fn whatever_stands_in_it_the_configuration_is_good_and_says_who_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let (config, file) = (configured(dir.path()), dir.path().join("resolv.conf"));
    for (text, servers) in [
        (Some("search -- ..\nnameserver 192.0.2.53\noptions no-such ndots:x\n"), "192.0.2.53:53"),
        (
            Some("nameserver 192.0.2.1\nnameserver fe80::1%lo\nnameserver ::1\nnameserver 192.0.2.4"),
            "192.0.2.1:53, [fe80::1%1]:53, [::1]:53",
        ),
        (Some(""), "127.0.0.1:53"),
        (Some("search example.com\n"), "127.0.0.1:53"),
        (None, "127.0.0.1:53"),
    ] {
        fs::write(&file, text.unwrap_or_default()).unwrap();
        let Some(mut command) = seeing(text.map(|_| file.as_path())) else { return };
        let out = command.arg("--config").arg(&config).args(["config", "check"]).output().unwrap();
        let words = String::from_utf8_lossy(&out.stdout);
        assert!(out.status.success(), "{text:?}: {out:?}");
        let expected = format!("DNS servers that are asked: {servers} (/etc/resolv.conf)\n");
        assert!(words.contains(&expected) && words.ends_with("the configuration is good\n"), "{text:?}: {words}");
    }
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A DNS server at the port of DNS, on an address of the loopback network; absent where that may not be had.
fn server() -> Option<(SocketAddr, Arc<AtomicUsize>)> {
    let socket = (0..200).find_map(|_| {
        let [a, b] = rand_octets();
        UdpSocket::bind((Ipv4Addr::new(127, 53, a, b), 53)).ok()
    });
    socket.map(dns::empty_on)
}

fn rand_octets() -> [u8; 2] {
    use std::hash::{BuildHasher as _, Hasher as _};
    let number = std::collections::hash_map::RandomState::new().build_hasher().finish();
    [(number >> 8) as u8, (number as u8).clamp(1, 254)]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_running_filter_follows_it() {
    let dir = tempfile::tempdir().unwrap();
    let (config, file) = (configured(dir.path()), dir.path().join("resolv.conf"));
    let (Some((one, first)), Some((other, second))) = (server(), server()) else {
        eprintln!("port 53 may not be had here: the unit tests alone show that the file is followed");
        return;
    };
    let name = |server: SocketAddr| format!("search -- ..\noptions no-such\nnameserver {}\n", server.ip());
    fs::write(&file, name(one)).unwrap();
    let Some(mut command) = seeing(Some(&file)) else { return };
    let log = fs::File::create(dir.path().join("log")).unwrap();
    command.args(["filter", "--config"]).arg(&config).stdin(Stdio::null());
    let _running = Running(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
    let place = Listen::Unix(dir.path().join("milter"));
    let begin = Instant::now();
    let mut mta = loop {
        if let Ok(mta) = Mta::connect(&place).await {
            break mta;
        }
        let log = fs::read_to_string(dir.path().join("log")).unwrap_or_default();
        assert!(begin.elapsed() < PATIENCE, "{log}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let mut bring = async |number: usize| {
        let from = format!("alice@d{number}.example");
        let message = format!("From: {from}\r\n\r\ntext\r\n");
        let outcome = mta.send(&Envelope::inbound(&from, "bob@example.com"), message.as_bytes()).await.unwrap();
        assert_eq!(outcome.fate, Fate::Delivered);
        String::from_utf8(outcome.message).unwrap()
    };
    let text = bring(0).await;
    assert!(text.contains("X-Auth-Key-Status: NOSERVER"), "{text}");
    assert!(first.load(Ordering::SeqCst) > 0 && second.load(Ordering::SeqCst) == 0);
    fs::write(&file, name(other)).unwrap();
    let begin = Instant::now();
    for number in 1.. {
        let text = bring(number).await;
        assert!(text.contains("X-Auth-Key-Status: NOSERVER"), "{text}");
        if second.load(Ordering::SeqCst) > 0 {
            break;
        }
        assert!(begin.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
