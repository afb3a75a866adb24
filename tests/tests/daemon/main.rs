//! The daemons as processes on a host that is no laboratory: files that are gone, cut or never end, signals at any moment, a log
//! that nobody reads, a service manager.

mod backup;
mod bed;
mod delivery;
mod files;
mod log;
mod notify;
mod output;
mod reload;
mod shadow;
mod signals;
mod watch;
