//! Settings that a mail server cannot do, or does in another way than they say.

use std::fmt;

use super::{Config, QuarantineIn};

/// A mail server that does in its own way what some settings ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Peer {
    /// Stalwart, by its milter client or its hooks.
    Stalwart,
}

/// A setting that does not fit a mail server. [`Display`](fmt::Display) says it in an administrator's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unfit {
    /// `policy.quarantine = "mta"`.
    Hold,
    /// `policy.spam_folder`, and so `mark = "folder"`.
    Folder,
    /// `trusted_authserv_ids`.
    Results,
    /// `policy.mixed = "split"` where the mail server does not ask at RCPT.
    RcptStage,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unfit::Hold => {
                "policy.quarantine = \"mta\" does not fit Stalwart, which delivers what is to be held: set it to \"store\""
            }
            Unfit::Folder => {
                "policy.spam_folder does not fit Stalwart, which returns mail to an address like bob+Junk that is put in: leave \
                 it empty, with mark = \"header\""
            }
            Unfit::Results => {
                "trusted_authserv_ids does not fit Stalwart, which shows the Authentication-Results that the sender wrote and \
                 not its own: leave it empty"
            }
            Unfit::RcptStage => {
                "policy.mixed = \"split\" needs to be asked at RCPT: set stages = [\"rcpt\", \"data\"] in Stalwart, or \
                 policy.mixed = \"settle\" here"
            }
        })
    }
}

impl std::error::Error for Unfit {}

impl Config {
    /// The first setting that does not fit this mail server. There is none while nothing is examined, or `observe` is true: then
    /// no message is treated by them.
    pub fn unfit(&self, peer: Peer) -> Option<Unfit> {
        let Peer::Stalwart = peer;
        if self.observe.0 || self.final_domains.is_empty() {
            return None;
        }
        let found = [
            (self.policy.quarantine == QuarantineIn::Mta, Unfit::Hold),
            (!self.policy.spam_folder.is_empty(), Unfit::Folder),
            (!self.trusted_authserv_ids.is_empty(), Unfit::Results),
        ];
        found.into_iter().find_map(|(is_so, unfit)| is_so.then_some(unfit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_setting_that_stalwart_cannot_do_is_named_and_only_where_mail_is_treated() {
        let head = "observe = false\nfinal_domains = [\"recv.example\"]\n";
        let cases = [
            ("[policy]\nquarantine = \"mta\"", Some(Unfit::Hold)),
            ("[policy]\nspam_folder = \"+Junk\"", Some(Unfit::Folder)),
            ("[policy]\nspam_folder = \"+Junk\"\nmark = \"folder\"", Some(Unfit::Folder)),
            ("trusted_authserv_ids = [\"mx.recv.example\"]", Some(Unfit::Results)),
            ("[policy]\nmixed = \"split\"", None),
            ("", None),
        ];
        for (text, wanted) in cases {
            let read = |head: &str| Config::parse(&format!("{head}{text}"), "x".as_ref()).unwrap();
            assert_eq!(read(head).unfit(Peer::Stalwart), wanted, "{text}");
            assert_eq!(read(&head.replace("false", "true")).unfit(Peer::Stalwart), None, "{text}");
            assert_eq!(read("observe = false\n").unfit(Peer::Stalwart), None, "{text}");
        }
    }
}
