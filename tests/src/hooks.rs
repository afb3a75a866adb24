//! The door of MTA Hooks, open on a port of its own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use addrauth::config::{Dialect, Hooks, Limits, Listen};
use addrauth::mta::hooks::{self, Access, Setting};
use addrauth::mta::reception::Reception;
use addrauth::mta::{Judge, Lanes};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The door.
pub struct Door<J> {
    /// Where it is.
    pub place: SocketAddr,
    /// Who judges; another one may be sent.
    pub judge: watch::Sender<Arc<J>>,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

/// Opens the door, with every dialect; what it keeps is in memory.
pub fn open<J: Judge>(judge: Arc<J>, limits: Limits, access: Access) -> Door<J> {
    open_in(judge, limits, access, None)
}

/// Opens the door with a directory where it keeps registrations and answers.
pub fn open_in<J: Judge>(judge: Arc<J>, limits: Limits, access: Access, state: Option<PathBuf>) -> Door<J> {
    let any = Hooks { listen: vec![Listen::Inet(([127, 0, 0, 1], 0).into())], ..Hooks::default() };
    let listeners = hooks::bind(&any).unwrap();
    let Listen::Inet(place) = listeners[0].local() else { panic!("not inet") };
    let (judge, receiver) = watch::channel(judge);
    let stop = CancellationToken::new();
    let reception = Reception::open(receiver, Arc::new(limits), stop.clone());
    let setting = Setting { dialects: vec![Dialect::Stalwart, Dialect::Draft01], access, tls: None, state };
    let serving = tokio::spawn(hooks::serve(listeners, setting, reception, Lanes::here()));
    Door { place, judge, stop, serving }
}

impl<J> Door<J> {
    /// Stops it, without waiting.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Stops it, and waits until its last connection has ended.
    pub async fn close(self) {
        self.stop.cancel();
        self.serving.await.unwrap();
    }
}
