//! A message, as far as the MTA told it.

use std::net::IpAddr;
use std::ops::Deref;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::{Means, Recipient, Why};
use crate::proto::address::{Address, BadFrom};
use crate::proto::key::AuthKey;
use crate::proto::redact::Redactor;

/// What the MTA told of a message before its header.
#[derive(Clone, Debug)]
pub struct Envelope {
    /// The door that it came to.
    pub door: Door,
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
    /// What the door through which it comes can do with it.
    pub means: Means,
}

/// Where on its way a message meets us, and so what can be done with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Door {
    /// While its client waits: the client tells the sender of a refusal. The MTA has one copy, with one header for all
    /// recipients, and may know some of them by other names later.
    #[default]
    Reception,
    /// Between the MTA's queue and the mailboxes. Every recipient is a mailbox here and can have a fate and a header of its
    /// own. A refusal for good would make the MTA write to the reverse-path, which may be forged, so there is none.
    Delivery,
}

impl Default for Envelope {
    /// Nothing is told: the null reverse-path, no recipient, the beginning of 1970.
    fn default() -> Envelope {
        Envelope {
            door: Door::Reception,
            received: SystemTime::UNIX_EPOCH,
            queue_id: None,
            client: Client::default(),
            daemon: String::new(),
            mta: String::new(),
            login: None,
            reverse_path: ReversePath::Null,
            smtputf8: false,
            size: None,
            recipients: Vec::new(),
            means: Means::default(),
        }
    }
}

/// What the MTA told of a message's header.
#[derive(Clone, Debug, Default)]
pub struct Head {
    /// The header fields, top first, without `X-Auth-Key` and `X-New-Auth-Key`.
    pub fields: Vec<Field>,
    /// One for each `X-Auth-Key` field, top first; `None` where its value is outside the grammar.
    pub keys: Vec<Option<AuthKey>>,
    /// The same for `X-New-Auth-Key`.
    pub new_keys: Vec<Option<AuthKey>>,
    /// The names of the fields that the MTA may have to delete, top first, as the message spells them: in its letter case,
    /// with the blanks that stand before the colon where the MTA shows them. Some MTAs delete by these spellings alone.
    pub spelled: Vec<String>,
    /// Keys, bounded in number, that stand where the MTA sees no field: behind a bare CR, beyond the limits, or on the first
    /// lines of a body that a line of junk cut off the header. They count for no result, and are cut out of what is kept or
    /// told.
    pub hidden: Vec<AuthKey>,
    /// A key field that no MTA command can remove, or a header block over its limits.
    pub malformed: bool,
    /// The header is over the limits. `fields` does not hold all of it, so no copy of the message could be whole.
    pub truncated: bool,
}

/// A message as the MTA told it, up to the end of its header. Nothing changes it.
///
/// It is its [`Envelope`] (`mail.recipients`) and has a [`Head`] (`mail.head().fields`). Its key fields are in [`Head::keys`]
/// and [`Head::new_keys`] alone: the door moves them there. [`Mail::new`] reads its sender address and its key once.
#[derive(Clone, Debug)]
pub struct Mail {
    envelope: Envelope,
    head: Head,
    sender: Result<Address, Why>,
    key: Result<Option<AuthKey>, Why>,
}

impl Deref for Mail {
    type Target = Envelope;

    fn deref(&self) -> &Envelope {
        &self.envelope
    }
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
    /// What the mail server that took the connection calls its host (macro `j`). While a message is examined it is present
    /// only where `hostname` is not set, and then stands in for it.
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
    /// A message of this envelope and this header.
    pub fn new(envelope: Envelope, head: Head) -> Mail {
        let (sender, key) = (sender(&envelope, &head), key(&head.keys));
        Mail { envelope, head, sender, key }
    }

    /// The same message with another envelope or header. Cases beside a policy and tests make their messages so.
    pub fn altered(self, change: impl FnOnce(&mut Envelope, &mut Head)) -> Mail {
        let Mail { mut envelope, mut head, .. } = self;
        change(&mut envelope, &mut head);
        Mail::new(envelope, head)
    }

    /// Whether a copy of the message would be whole: its header is within the limits, and the door has its own octets.
    pub fn can_be_copied(&self) -> bool {
        !self.head.truncated && self.envelope.means.exact
    }

    /// The same message with this as [`Client::server`].
    pub fn on_server(mut self, name: Option<String>) -> Mail {
        self.envelope.client.server = name;
        self
    }

    /// Its header.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// The sender address: that of exactly one From field with exactly one mailbox.
    ///
    /// # Errors
    /// Why there is no such address: no From, several, or one without a usable address.
    pub fn sender(&self) -> Result<&Address, Why> {
        self.sender.as_ref().map_err(|why| *why)
    }

    /// The message's one key, where it has one: equal copies are one, a good and a bad one differ.
    ///
    /// # Errors
    /// Why it has no usable key: several, or one outside the grammar.
    pub fn key(&self) -> Result<Option<&AuthKey>, Why> {
        self.key.as_ref().map(Option::as_ref).map_err(|why| *why)
    }

    /// What cuts the message's keys out of all that is kept, journalled or told of it.
    pub fn redactor(&self) -> Redactor {
        self.redactor_with(&[])
    }

    /// The same, with keys that only the body told of.
    pub fn redactor_with(&self, more: &[AuthKey]) -> Redactor {
        let Head { keys, new_keys, hidden, .. } = &self.head;
        Redactor::new(keys.iter().chain(new_keys).flatten().chain(hidden).chain(more))
    }

    /// The fields of this name, top first, letter case ignored.
    pub fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Field> + 'a {
        named(&self.head.fields, name)
    }
}

fn sender(envelope: &Envelope, head: &Head) -> Result<Address, Why> {
    let mut fields = named(&head.fields, "From");
    let field = fields.next().ok_or(Why::NoFrom)?;
    if fields.next().is_some() {
        return Err(Why::SeveralFrom);
    }
    Address::from_field(&field.value, envelope.smtputf8).map_err(|bad| match bad {
        BadFrom::Several => Why::SeveralFrom,
        BadFrom::Nobody if is_bounce(envelope, head) => Why::NoAddress,
        BadFrom::Nobody | BadFrom::Bad => Why::BadAddress,
    })
}

/// Whether a message whose From names nobody is a bounce: it comes from the null reverse-path, names no other author (readers
/// show Sender where From has nothing to show), and neither brings a key nor hides one.
fn is_bounce(envelope: &Envelope, head: &Head) -> bool {
    let keys = !head.keys.is_empty() || !head.new_keys.is_empty();
    let nobody = |field: &Field| Address::from_field(&field.value, envelope.smtputf8) == Err(BadFrom::Nobody);
    let authors = named(&head.fields, "Sender").all(nobody);
    envelope.reverse_path == ReversePath::Null && !head.malformed && !keys && authors
}

fn key(keys: &[Option<AuthKey>]) -> Result<Option<AuthKey>, Why> {
    let Some(first) = keys.first() else { return Ok(None) };
    match first {
        Some(key) if keys.iter().all(|other| other.as_ref() == Some(key)) => Ok(Some(key.clone())),
        None if keys.iter().all(Option::is_none) => Err(Why::BadKey),
        _ => Err(Why::SeveralKeys),
    }
}

/// The fields of this name, top first, letter case ignored.
fn named<'a>(fields: &'a [Field], name: &'a str) -> impl Iterator<Item = &'a Field> + 'a {
    fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name))
}
