//! A message, as far as the MTA told it.

use std::net::IpAddr;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::Recipient;
use crate::proto::address::Address;
use crate::proto::key::AuthKey;
use crate::proto::redact::Redactor;

/// A message as the MTA told it, up to the end of its header. Nothing changes it.
///
/// Its key fields are in [`Mail::keys`] and [`Mail::new_keys`] alone: the door moved the key fields there.
#[derive(Clone, Debug)]
pub struct Mail {
    /// When its MAIL command came, by the wall clock.
    pub received: SystemTime,
    /// The MTA's name for it; Postfix tells it at DATA.
    pub queue_id: Option<String>,
    /// Who brought it.
    pub client: Client,
    /// The name of the MTA's daemon that took it (`{daemon_name}`).
    pub daemon: String,
    /// What the MTA calls itself (`v`), such as `Postfix 3.7.11`; empty where it does not say.
    pub mta: String,
    /// The name the client logged in with (`{auth_authen}`).
    pub login: Option<String>,
    /// The reverse-path of MAIL.
    pub reverse_path: ReversePath,
    /// Whether MAIL said SMTPUTF8.
    pub smtputf8: bool,
    /// What MAIL said of the size, in octets.
    pub size: Option<u64>,
    /// The recipients that the MTA accepted, in order.
    pub recipients: Vec<Recipient>,
    /// The header fields, top first, without `X-Auth-Key` and `X-New-Auth-Key`.
    pub fields: Vec<Field>,
    /// One for each `X-Auth-Key` field, top first; `None` where its value is outside the grammar.
    pub keys: Vec<Option<AuthKey>>,
    /// The same for `X-New-Auth-Key`.
    pub new_keys: Vec<Option<AuthKey>>,
    /// Keys, bounded in number, that stand where the MTA sees no field: behind a bare CR, on the first lines of a body that a
    /// line of junk cut off the header, beyond the limits. They judge nothing; they are cut out of what is kept or told.
    pub hidden: Vec<AuthKey>,
    /// A key field that no MTA command can remove, or a header block over its limits.
    pub malformed: bool,
    /// Over the limits: not all of the header is in `fields`, so no copy of the message could be whole.
    pub truncated: bool,
}

/// The SMTP client, as the MTA told it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// Its address; absent on a unix socket.
    pub ip: Option<IpAddr>,
    /// Its name, where forward and reverse look-up agree.
    pub name: Option<String>,
    /// What it said in HELO or EHLO.
    pub helo: String,
    /// Whether the session is encrypted.
    pub tls: bool,
    /// What the mail server that took the connection calls its host (macro `j`). Once a message is being examined it is there
    /// only where it stands in for a `hostname` that is not set.
    #[serde(skip)]
    pub server: Option<String>,
}

/// The reverse-path of MAIL (RFC 5321 §4.1.1.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReversePath {
    /// `<>`: a bounce or another automatic message.
    Null,
    /// A path; the address is absent where it is no addr-spec.
    Path(Option<Address>),
}

impl ReversePath {
    /// The address, where there is one.
    pub fn address(&self) -> Option<&Address> {
        match self {
            ReversePath::Path(Some(address)) => Some(address),
            _ => None,
        }
    }
}

/// The body of a message as the MTA told it: what follows the empty line after the header, CRLF line endings.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Body(pub Vec<u8>);

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Body({} octets)", self.0.len())
    }
}

/// A header field as the MTA told it. It prints without its value, which may hold a copy of a key.
#[derive(Clone, PartialEq, Eq)]
pub struct Field {
    /// The name, octets 33 to 126 without colon.
    pub name: String,
    /// The value as it stands: leading space and folds included, without the last line ending.
    pub value: Vec<u8>,
}

impl std::fmt::Debug for Field {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Field({}, {} octets)", self.name.escape_default(), self.value.len())
    }
}

impl Mail {
    /// What cuts the message's keys out of all that is kept, journalled or told of it.
    pub fn redactor(&self) -> Redactor {
        self.redactor_with(&[])
    }

    /// The same, with keys that only the body told of.
    pub fn redactor_with(&self, more: &[AuthKey]) -> Redactor {
        Redactor::new(self.keys.iter().chain(&self.new_keys).flatten().chain(&self.hidden).chain(more))
    }

    /// The fields of this name, top first, letter case ignored.
    pub fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Field> + 'a {
        self.fields.iter().filter(move |f| f.name.eq_ignore_ascii_case(name))
    }
}
