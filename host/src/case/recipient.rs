//! A recipient: the octets of his path, and the one reading of them that everything else goes by.

use crate::proto::address::{Address, Domain, Mailbox, Name, Reading};

/// A recipient that the MTA accepted.
///
/// Who he is follows from [`Recipient::reading`] alone: bindings, choices, notices, copies, journal and policies all ask it.
/// [`Recipient::path`] serves nothing but striking him out again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// The exact octets of RCPT, angle brackets included.
    pub path: Vec<u8>,
    /// Whom they name: by the MTA's own word where it gave one, else by ours.
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

    /// A recipient of whom the MTA says who he is: see [`Reading::by_mta`].
    pub fn by_mta(path: impl Into<Vec<u8>>, said: &[u8]) -> Recipient {
        let path = path.into();
        Recipient { reading: Reading::by_mta(&path, said), path, never_notify: false }
    }

    /// His address: the one of his bindings, his mail, and everything that is told of him. Absent where he has none by the
    /// strict grammar, or nobody knows it.
    pub fn address(&self) -> Option<&Address> {
        self.reading.address()
    }

    /// The mailbox under which bindings and choices are looked up. Absent where nobody knows its domain.
    pub fn mailbox(&self) -> Option<Mailbox> {
        match &self.reading {
            Reading::Mailbox(address) | Reading::Own(Some(address)) => Some(address.mailbox()),
            Reading::Domain { local, domain } => Mailbox::parse(&format!("{local}@{domain}")),
            Reading::Routed { .. } | Reading::Own(None) | Reading::Unclear => None,
        }
    }

    /// Where his mail goes, given the domains whose mail ends here (`final_domains`). Without any, all of it goes on.
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

    /// The octets by which an MTA strikes him out for certain; absent where it may keep him and say nothing.
    ///
    /// Postfix 3.7.11 (measured) reads these octets as RFC 822 and looks for the very letters that it noted at RCPT, before any
    /// rewriting: the path's own octets find him, another letter case or what a path was rewritten to does not. They do not
    /// where it took a source route, a group or further brackets off, nor where it hands a milter no path but its rewriting of
    /// it, without brackets (`non_smtpd_milters`).
    pub fn struck_out_by(&self) -> Option<&[u8]> {
        Reading::is_echoed(&self.path).then_some(self.path.as_slice())
    }

    /// His address, or what else is known of him as printable text.
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
