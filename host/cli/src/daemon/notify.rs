//! What systemd is told: the protocol of sd_notify(3), without ever waiting for it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use addrauth::daemon::Health;
use sd_notify::NotifyState;

/// How long systemd may take to have room for a message.
const PATIENCE: Duration = Duration::from_secs(2);

/// Feeds the watchdog of the service manager, if it has one, at half of its time, for as long as there is no trouble. Runs until
/// it is dropped.
pub(crate) async fn feed(supervisor: Supervisor, health: Arc<Health>) {
    let Some(time) = supervisor.watchdog() else { return };
    loop {
        tokio::time::sleep(time / 2).await;
        match health.trouble(time / 4).await {
            None => supervisor.alive().await,
            Some(what) => tracing::error!("the watchdog is not fed: {what}"),
        }
    }
}

/// The service manager that started us, if one did.
#[derive(Clone, Debug, Default)]
pub(crate) struct Supervisor {
    /// Where it listens.
    socket: Option<SocketAddr>,
    /// Within which time it wants to hear from us again and again.
    watchdog: Option<Duration>,
}

impl Supervisor {
    /// By `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`.
    pub(crate) fn from_environment() -> Supervisor {
        let watchdog = sd_notify::watchdog_enabled().filter(|time| !time.is_zero());
        match std::env::var_os("NOTIFY_SOCKET").as_deref().map(place) {
            None => Supervisor::default(),
            Some(Ok(socket)) => Supervisor { socket: Some(socket), watchdog },
            Some(Err(e)) => {
                tracing::warn!("NOTIFY_SOCKET cannot be used, so the service manager is told nothing: {e}");
                Supervisor::default()
            }
        }
    }

    /// Within which time it wants to hear [`Supervisor::alive`].
    pub(crate) fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// All is open: what comes now is served.
    pub(crate) async fn ready(&self) {
        self.tell(&[NotifyState::Ready]).await;
    }

    /// A reload begins. `Type=notify-reload` wants to know when, by its own clock; [`Supervisor::ready`] ends it.
    pub(crate) async fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.tell(&[NotifyState::Reloading, now]).await,
            Err(e) => tracing::warn!("the service manager is not told of the reload, since the clock fails: {e}"),
        }
    }

    /// The end begins.
    pub(crate) async fn stopping(&self) {
        self.tell(&[NotifyState::Stopping]).await;
    }

    /// The loops that serve turn.
    pub(crate) async fn alive(&self) {
        self.tell(&[NotifyState::Watchdog]).await;
    }

    async fn tell(&self, states: &[NotifyState<'_>]) {
        let Some(socket) = &self.socket else { return };
        let message: String = states.iter().map(|state| format!("{state}\n")).collect();
        let told = tokio::time::timeout(PATIENCE, send(socket, message.as_bytes())).await;
        if let Err(e) = told.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut))) {
            tracing::warn!("the service manager could not be told {}: {e}", message.trim_end().replace('\n', " "));
        }
    }
}

/// A socket for each message, as libsystemd has it: the manager may have made its own anew meanwhile.
async fn send(to: &SocketAddr, message: &[u8]) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect_addr(to)?;
    tokio::net::UnixDatagram::from_std(socket)?.send(message).await.map(|_| ())
}

/// A path, or with an `@` in front a name of Linux's abstract namespace.
fn place(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(OsString::from(name)),
        _ => Err(io::Error::other(format!("{name:?} is neither a path nor an abstract name"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn heard(socket: &UnixDatagram) -> String {
        let socket = socket.try_clone().unwrap();
        let receiving = tokio::task::spawn_blocking(move || {
            let mut octets = [0; 512];
            let length = socket.recv(&mut octets).unwrap();
            String::from_utf8(octets[..length].to_vec()).unwrap()
        });
        receiving.await.unwrap()
    }

    #[tokio::test]
    async fn it_is_told_by_a_path_and_by_an_abstract_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let name = format!("@addrauth-test-{}", std::process::id());
        for text in [path.as_os_str(), OsStr::new(&name)] {
            let address = place(text).unwrap();
            let socket = UnixDatagram::bind_addr(&address).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
            let supervisor = Supervisor { socket: Some(address), watchdog: None };
            supervisor.ready().await;
            assert_eq!(heard(&socket).await, "READY=1\n");
            supervisor.reloading().await;
            let said = heard(&socket).await;
            let clock = said.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().trim_end().parse::<u64>().unwrap();
            let up = std::fs::read_to_string("/proc/uptime").unwrap();
            let up: f64 = up.split(' ').next().unwrap().parse().unwrap();
            assert!(clock > 0 && clock as f64 <= (up + 1.0) * 1e6, "{clock} after {up} s");
            supervisor.alive().await;
            assert_eq!(heard(&socket).await, "WATCHDOG=1\n");
            supervisor.stopping().await;
            assert_eq!(heard(&socket).await, "STOPPING=1\n");
        }
        assert!(place(OsStr::new("vsock:2:1")).is_err());
    }

    #[tokio::test]
    async fn a_manager_that_is_gone_or_does_not_listen_keeps_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        Supervisor { socket: Some(place(path.as_os_str()).unwrap()), watchdog: None }.ready().await;
        let _deaf = UnixDatagram::bind(&path).unwrap();
        let supervisor = Supervisor { socket: Some(place(path.as_os_str()).unwrap()), watchdog: None };
        // More than fit into its queue: each waits for its patience at most, and this thread does other things meanwhile.
        let telling = async {
            for _ in 0..1_000 {
                let Ok(()) = tokio::time::timeout(Duration::from_millis(300), supervisor.alive()).await else { return };
            }
        };
        telling.await;
    }
}
