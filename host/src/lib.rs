//! Address Authentication for e-mail.
//!
//! SPF, DKIM and DMARC vouch for domains; this crate vouches for a single address. A domain's Authentication Server
//! (AS) gives each address a secret key; the sender's server puts it into the header as `X-Auth-Key`; the recipient's
//! server asks the AS whether key and address belong together, removes the key, and treats the message by a policy
//! that runs as a sandboxed WebAssembly component.
//!
//! ```
//! use std::sync::Arc;
//!
//! use addrauth::case::{Envelope, Field, Found, Head, KeyStatus, Mail, Recipient, Verdict};
//! use addrauth::config::{Config, Limits};
//! use addrauth::filter::{decide, rules};
//! use addrauth::policy::{Policies, Trial};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = Config::parse("observe = false\npolicy.invalid = \"reject-notify-sender\"", "example".as_ref())?;
//! let policies = Policies::load(&config.policy, &config.policies, &Arc::new(Limits::default()), &Trial::waived())?;
//!
//! let from = Field { name: "From".into(), value: b" Alice <alice@example.com>".to_vec() };
//! let envelope = Envelope { recipients: vec![Recipient::new("<bob@example.net>")], ..Envelope::default() };
//! let mail = Mail::new(envelope, Head { fields: vec![from], keys: vec![None], ..Head::default() });
//!
//! let found = Found::bare(KeyStatus::Invalid, None, mail.sender().ok().cloned());
//! let case = decide(&policies, &rules(&config), mail, found).await;
//! assert!(matches!(case.reply.verdict, Verdict::Reject(_)));
//! # Ok(())
//! # }
//! ```
//!
//! What a program does besides, such as finding the AS and asking it, keeping a journal, or serving a mail server, is a feature
//! of its own; all are on by default. The directory `examples` has a program for each: decide a message, serve a milter on a
//! port, verify a key, run an AS with its table in memory, be a mail server of its own.
//!
//! | feature | what it adds |
//! | --- | --- |
//! | `verify` | `verify`, `tls`: the AS of a domain found in DNS, and asked |
//! | `sqlite`, `postgres` | `store`: keys, journal, quarantine and outbox in SQLite files; keys in PostgreSQL as well |
//! | `outbox` | `outbox`: notices, reports and mails with keys, composed and sent |
//! | `filter` | `filter::Filter`, `custody`, `keyring`: mail examined, what is owed kept, keys learned and stamped |
//! | `mta` | `mta`: what all doors have in common |
//! | `milter` | the door that Postfix and Sendmail know |
//! | `hooks` | the door that Stalwart knows, and other mail servers that speak MTA Hooks over HTTP |
//! | `lmtp` | the door between a mail server's queue and its mailboxes |
//! | `metrics` | figures and state of a daemon over HTTP, as Prometheus reads them |
//! | `authority` | `authority`: keys issued, posted, answered and expired |
//! | `shipped` | the policies that ship, as components inside the library |
//!
//! # What stays
//!
//! It needs Rust 1.95 or newer; raising that is a minor version. Until 1.0 a minor version may change any public item, and the
//! changelog names what changed. From the first release on these are kept across minor versions: the formats of the
//! specification, the policy contract (components of the version before keep loading), the configuration file, the JSON of a
//! case ([`case::CASE_VERSION`]) and the database schemas (brought up to date when they are opened).
//!
//! # The flow
//!
//! ```text
//! MTA → mta → Mail → verify → Finding → policy → Decision → settle → Reply → mta → MTA
//!             custody keeps what we owe, outbox sends it;  authority is the AS role
//! ```
//!
//! # The map
//!
//! | room | what happens there | may name |
//! | --- | --- | --- |
//! | [`proto`] | addresses, keys, header blocks, `AS=` records, VERIFY lines: bytes in, values out, no I/O | nothing |
//! | [`case`] | `Mail`, `Finding`, `Decision`, `Reply` and the `Case` that holds all four | proto |
//! | [`files`] | files that others wrote: opened by their type, read within a bound | nothing |
//! | [`pulse`] | whether a loop still turns, for the watchdog | nothing |
//! | [`config`] | the configuration as plain data, and every bound in one `Limits` | proto, case, files |
//! | [`settle`] | many decisions into one reply, pure | proto, case |
//! | [`store`] | verbs over SQLite, PostgreSQL or memory | proto, case, files, config |
//! | [`tls`] | sockets with certificates | files, config |
//! | [`verify`] | locate the AS in DNS, ask it, remember the answer | proto, case, config, tls |
//! | [`keyring`] | learn new keys of our own addresses, stamp their mail | proto, case, files, config, store, tls |
//! | [`policy`] | load components, bind them to results, decide in the sandbox | proto, case, files, config |
//! | [`outbox`] | compose notices and reports, and send them | proto, case, files, config, store |
//! | [`custody`] | what we took responsibility for, durable before the MTA hears of it | proto, case, config, settle, store, outbox |
//! | [`why`] | why a message was treated as it was, in words, its decisions made again | proto, case, config, store, policy |
//! | [`authority`] | the AS role: issue keys, post them, answer VERIFY | proto, pulse, config, store, outbox, tls |
//! | [`filter`] | examine a message, keep what is owed | proto, case, config, settle, verify, keyring, policy, custody |
//! | [`mta`] | the doors, milter, hooks and lmtp: bytes into `Mail`, `Reply` into bytes; they never decide | proto, case, files, pulse, config, tls, filter |
//! | [`daemon`] | a role opened, served, reloaded, stopped; signals are the program's | anything |
//!
//! The program `addrauth` is a crate of its own (`host/cli`): one file per verb over what is public here. Its web console is another
//! (`host/console`). What the demonstration
//! and the tests play the outside world with is another (`host/lab`). The table is held against the sources by a test
//! (`tests/tests/house`).

#![forbid(unsafe_code)]

#[cfg(feature = "authority")]
pub mod authority;
pub mod case;
pub mod config;
#[cfg(feature = "filter")]
pub mod custody;
#[cfg(any(feature = "authority", all(feature = "filter", feature = "milter")))]
pub mod daemon;
pub mod files;
pub mod filter;
#[cfg(feature = "filter")]
pub mod keyring;
#[cfg(feature = "mta")]
pub mod mta;
#[cfg(feature = "outbox")]
pub mod outbox;
pub mod policy;
pub mod proto;
pub mod pulse;
pub mod settle;
#[cfg(feature = "sqlite")]
pub mod store;
#[cfg(any(feature = "hooks", feature = "verify"))]
pub mod tls;
#[cfg(feature = "verify")]
pub mod verify;
#[cfg(feature = "filter")]
pub mod why;
