//! What the door through which a message comes can do with it.

/// What a door and its MTA can do with a message. Every one is true for Postfix's milter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Means {
    /// The door has the message's own octets. Without them no copy is made of it.
    pub exact: bool,
    /// The MTA keeps a message in a hold queue where it is asked to. Without one, a message that could only be kept there is
    /// delivered with the mark.
    pub holds: bool,
    /// An address with the suffix `policy.spam_folder` leads to the recipient's spam folder also where a door puts it in.
    /// Otherwise a mark is a field.
    pub folders: bool,
    /// The header holds what servers before us found out. Otherwise each Authentication-Results field is a stranger's, and
    /// none is believed.
    pub results: bool,
}

impl Default for Means {
    fn default() -> Means {
        Means { exact: true, holds: true, folders: true, results: true }
    }
}
