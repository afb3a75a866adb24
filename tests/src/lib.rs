//! Fakes and test beds: what the tests put around the daemon.

pub mod agent;
pub mod authority;
pub mod bench;
pub mod bombs;
pub mod certificates;
pub mod courier;
pub mod crossroads;
pub mod daemon;
pub mod dns;
pub mod estate;
pub mod fault;
pub mod fuzz;
pub mod keys;
pub mod load;
pub mod milter;
pub mod ports;
pub mod postfix;
pub mod postgres;
pub mod probe;
pub mod quiet;
pub mod server;
pub mod smtp;
pub mod spellings;
pub mod streams;
pub mod toy;
pub mod world;
