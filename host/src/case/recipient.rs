//! A recipient: the octets of the path, and the one reading of them that everything else goes by.

use crate::proto::address::{Address, Domain, Mailbox, Name, Reading};

/// A recipient that the MTA accepted.
///
/// [`Recipient::reading`] alone says which mailbox it is, to bindings, choices, notices, copies, journal and policies.
/// [`Recipient::path`] serves nothing but striking the recipient out again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// The exact octets of RCPT, angle brackets included.
    pub path: Vec<u8>,
    /// The mailbox that they name: as the MTA reads them where it says so, else as we do.
    pub reading: Reading,
    /// Whether RCPT said `NOTIFY=NEVER`, or named no FAILURE among the occasions (RFC 3461 §4.1): no report, please.
    pub never_notify: bool,
}

/// Where a recipient's mail goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It ends here.
    Here,
    /// It goes on to another domain.
    Elsewhere,
    /// The MTA may read the path in another way than we: it counts as ours, and is refused.
    Unclear,
}

impl Recipient {
    /// A recipient whose path only we have read.
    pub fn new(path: impl Into<Vec<u8>>) -> Recipient {
        let path = path.into();
        Recipient { reading: Reading::of(&path), path, never_notify: false }
    }

    /// A recipient whose path the MTA has read: see [`Reading::by_mta`].
    pub fn by_mta(path: impl Into<Vec<u8>>, said: &[u8]) -> Recipient {
        let path = path.into();
        Recipient { reading: Reading::by_mta(&path, said), path, never_notify: false }
    }

    /// The address by which the recipient is treated, written to and told of. Absent where the path holds none by the strict
    /// grammar, or it is not known.
    pub fn address(&self) -> Option<&Address> {
        self.reading.address()
    }

    /// The mailbox under which bindings and choices are looked up. Absent where its domain is not known.
    pub fn mailbox(&self) -> Option<Mailbox> {
        match &self.reading {
            Reading::Mailbox(address) | Reading::Own(Some(address)) => Some(address.mailbox()),
            Reading::Domain { local, domain } => Mailbox::parse(&format!("{local}@{domain}")),
            Reading::Routed { .. } | Reading::Own(None) | Reading::Unclear => None,
        }
    }

    /// Where the recipient's mail goes, given the domains whose mail ends here (`final_domains`). Without any, all of it goes
    /// on.
    ///
    /// A name of one label is the MTA's own, like no domain at all; where an MTA could complete it to a domain of ours, it is
    /// unclear. So is a local part that may lead from elsewhere to a domain of ours.
    pub fn place(&self, finals: &[Domain]) -> Place {
        let ours = |name: &Name| name.domain().is_some_and(|domain| finals.contains(domain));
        let completes = |name: &Name| {
            name.single_label().is_some_and(|label| finals.iter().any(|known| known.first_label() == label))
        };
        match &self.reading {
            _ if finals.is_empty() => Place::Elsewhere,
            Reading::Unclear => Place::Unclear,
            Reading::Own(_) => Place::Here,
            Reading::Mailbox(address) if finals.contains(address.domain()) => Place::Here,
            Reading::Domain { domain, .. } if ours(domain) => Place::Here,
            Reading::Routed { domain, .. } if ours(domain) || domain.single_label().is_some() => Place::Unclear,
            Reading::Routed { hops, .. } if hops.iter().any(|hop| ours(hop) || completes(hop)) => Place::Unclear,
            Reading::Domain { domain, .. } if completes(domain) => Place::Unclear,
            Reading::Domain { domain, .. } if domain.single_label().is_some() => Place::Here,
            Reading::Mailbox(_) | Reading::Domain { .. } | Reading::Routed { .. } => Place::Elsewhere,
        }
    }

    /// The octets by which an MTA strikes the recipient out for certain. Absent where it may deliver all the same, silently.
    ///
    /// Postfix 3.7.11 (measured) reads these octets as RFC 822 and looks for the very letters that it noted at RCPT, before
    /// any rewriting. The path's own octets find the recipient; another letter case does not, nor does what a path was
    /// rewritten to. Not even they do where Postfix took a source route, a group or further brackets off, or where it hands a
    /// milter its own rewriting of the path, without brackets (`non_smtpd_milters`).
    pub fn struck_out_by(&self) -> Option<&[u8]> {
        Reading::is_echoed(&self.path).then_some(self.path.as_slice())
    }

    /// The recipient's address, or what else is known of the path, as printable text.
    pub fn shown(&self) -> String {
        match &self.reading {
            Reading::Mailbox(address) | Reading::Own(Some(address)) => address.to_string(),
            Reading::Domain { local, domain } => format!("{}@{domain}", local.escape_default()),
            Reading::Routed { .. } | Reading::Own(None) | Reading::Unclear => {
                let path = self.path.strip_prefix(b"<").unwrap_or(&self.path);
                path.strip_suffix(b">").unwrap_or(path).escape_ascii().to_string()
            }
        }
    }
}
