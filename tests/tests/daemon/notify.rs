//! What systemd hears, in its order.

use std::ffi::OsStr;
use std::fs;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::bed::{Bed, PATIENCE, Running};

/// Plays systemd.
struct Manager {
    socket: UnixDatagram,
    /// Times that the watchdog was fed.
    fed: usize,
}

impl Manager {
    fn at(address: &SocketAddr) -> Manager {
        let socket = UnixDatagram::bind_addr(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Manager { socket, fed: 0 }
    }

    fn hear(&mut self) -> String {
        let mut octets = [0; 4_096];
        let length = self.socket.recv(&mut octets).expect("a message");
        String::from_utf8(octets[..length].to_vec()).unwrap()
    }

    /// The next message that does not feed the watchdog.
    fn word(&mut self) -> String {
        loop {
            match self.hear().as_str() {
                "WATCHDOG=1\n" => self.fed += 1,
                word => return word.to_owned(),
            }
        }
    }

    fn hears(&mut self, expected: &str) {
        let word = self.word();
        assert!(word == expected || expected.ends_with('=') && word.starts_with(expected), "{word:?}");
    }

    /// A reload from its beginning to its end.
    fn hears_a_reload(&mut self) {
        let word = self.word();
        let clock = word.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap_or_else(|| panic!("{word:?}"));
        assert!(clock.trim_end().parse::<u64>().unwrap() > 0, "{word:?}");
        self.hears("READY=1\n");
    }

    /// Waits until the watchdog was fed so often.
    fn until_fed(&mut self, times: usize) {
        while self.fed < times {
            assert_eq!(self.hear(), "WATCHDOG=1\n");
            self.fed += 1;
        }
    }
}

/// The whole life of a daemon, as its manager hears it.
fn life(bed: &Bed, verb: &str, name: &OsStr, manager: &mut Manager, refused: Option<&str>) {
    let log = fs::File::create(bed.path("log")).unwrap();
    let mut command = bed.command(&[verb]);
    command.env("NOTIFY_SOCKET", name).env("WATCHDOG_USEC", "400000").stderr(log);
    let mut daemon = Running::spawn(command);
    manager.hears("READY=1\n");
    manager.until_fed(3);
    daemon.signal("HUP");
    manager.hears_a_reload();
    if let Some(text) = refused {
        let good = fs::read_to_string(bed.file()).unwrap();
        bed.write(text);
        daemon.signal("HUP");
        manager.hears_a_reload();
        bed.until_said("not reloaded", 1);
        bed.write(&good);
    }
    let fed = manager.fed;
    manager.until_fed(fed + 2);
    daemon.signal("TERM");
    manager.hears("STOPPING=1\n");
    assert_eq!(daemon.end().code(), Some(0), "{}", bed.log());
    manager.socket.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
    while let Ok(length) = manager.socket.recv(&mut [0; 64]) {
        assert_eq!(length, "WATCHDOG=1\n".len(), "nothing else comes after STOPPING");
    }
}

#[test]
fn the_filter_tells_systemd_of_its_life() {
    let bed = Bed::new();
    let path = bed.path("notify");
    let mut manager = Manager::at(&SocketAddr::from_pathname(&path).unwrap());
    life(&bed, "filter", path.as_os_str(), &mut manager, Some(""));
}

#[test]
fn the_authority_tells_systemd_of_its_life_over_an_abstract_socket() {
    let bed = Bed::new();
    let state = bed.path("state");
    bed.write(&format!(
        "hostname = \"as.home.example\"\nstate_dir = {state:?}\n[authority]\ndomains = [\"home.example\"]\nlisten = [\"127.0.0.1:0\"]\n\
         deliver = \"nobody\"\n"
    ));
    let name = format!("addrauth-daemon-{}", std::process::id());
    let mut manager = Manager::at(&SocketAddr::from_abstract_name(&name).unwrap());
    life(&bed, "authority", OsStr::new(&format!("@{name}")), &mut manager, None);
}

#[test]
fn a_manager_that_is_gone_keeps_nobody() {
    let bed = Bed::new();
    let log = fs::File::create(bed.path("log")).unwrap();
    let mut command = bed.command(&["filter"]);
    command.env("NOTIFY_SOCKET", bed.path("nobody")).env("WATCHDOG_USEC", "400000").stderr(log);
    let mut filter = Running::spawn(command);
    bed.until_it_listens();
    filter.signal("HUP");
    bed.until_said("reloaded: the next message", 1);
    filter.signal("TERM");
    assert_eq!(filter.end().code(), Some(0));
}

/// The units say what the daemons do.
#[test]
fn the_units_wait_for_ready_and_watch() {
    let etc = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../host/cli/etc");
    for name in ["addrauth-filter.service", "addrauth-authority.service"] {
        let unit = fs::read_to_string(etc.join(name)).unwrap();
        for line in ["Type=notify", "WatchdogSec=60", "ExecReload=/bin/kill -HUP $MAINPID"] {
            assert!(unit.lines().any(|known| known == line), "{name} has no {line}");
        }
        // systemd 252 of Debian 12 does not know the type that later ones have.
        assert!(!unit.contains("notify-reload\n"));
        let newer = fs::read_to_string(etc.join(format!("{name}.d/notify-reload.conf"))).unwrap();
        assert!(newer.contains("[Service]\nType=notify-reload\nExecReload=\n"), "{newer}");
    }
}
