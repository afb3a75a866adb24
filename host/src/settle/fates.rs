//! What becomes of each recipient's copy, by the decisions and by what an MTA can do.

use super::{Permits, Rules, Sharing};
use crate::case::{Decision, Disposition, Found, Mail, MarkAs, Owed, Recipient, Redirect, ReversePath, Unreported};
use crate::proto::address::Address;

/// What becomes of each recipient's copy; indices into the message's recipients, in their order.
#[derive(Debug, Default)]
pub(super) struct Fates {
    /// Delivered as it is.
    pub(super) plain: Vec<usize>,
    /// Delivered with the mark's field.
    pub(super) marked: Vec<usize>,
    /// Delivered to the spam folder.
    pub(super) folder: Vec<Redirect>,
    /// Dropped; the sender is not told.
    pub(super) silent: Vec<usize>,
    /// Not delivered; the sender is to be told.
    pub(super) told: Vec<usize>,
    /// Why the sender is not told of a recipient, although a decision wants it.
    pub(super) unreported: Option<Unreported>,
    /// Kept back.
    pub(super) kept: Vec<usize>,
    /// Refused for now, each by itself.
    pub(super) put_off: Vec<usize>,
    /// Gets a notice.
    pub(super) noticed: Vec<usize>,
}

impl Fates {
    /// Sorts the recipients whose mail ends here by what their decisions say. Recipients elsewhere that share the message get
    /// it as it is.
    pub(super) fn sorted(
        mail: &Mail,
        found: &Found,
        decisions: &[Decision],
        rules: &Rules,
        permits: &Permits,
        sharing: Sharing,
    ) -> Fates {
        let mut fates = Fates::default();
        for decision in decisions {
            for &index in &decision.recipients {
                let Some(recipient) = mail.recipients.get(index) else { continue };
                let tag = spam_folder(mail, rules);
                let folder = recipient.address().and_then(|address| folder(address, tag));
                // A mark on some copies and not on others cannot be one field of the one message.
                match decision.disposition {
                    Disposition::Accept => fates.plain.push(index),
                    Disposition::Mark => match folder {
                        Some(to) if decision.mark == MarkAs::Folder => {
                            fates.folder.push(Redirect { recipient: index, to });
                        }
                        _ => fates.marked.push(index),
                    },
                    Disposition::Defer if sharing == Sharing::Each => fates.put_off.push(index),
                    Disposition::Quarantine | Disposition::Defer => fates.kept.push(index),
                    Disposition::Reject if !permits.refuse => {
                        fates.kept.push(index);
                        if decision.notify.sender {
                            fates.unreported = Some(Unreported::Relay);
                        }
                    }
                    Disposition::Reject if decision.notify.sender => fates.told.push(index),
                    Disposition::Reject => fates.silent.push(index),
                }
                let kept_back = matches!(decision.disposition, Disposition::Reject | Disposition::Quarantine);
                if decision.notify.recipient && kept_back {
                    fates.noticed.push(index);
                }
            }
        }
        if sharing == Sharing::One {
            fates.plain.extend(&found.elsewhere);
            if !fates.plain.is_empty() {
                fates.file_in_folders(mail, rules);
            }
        }
        for list in [&mut fates.plain, &mut fates.marked, &mut fates.silent, &mut fates.told, &mut fates.kept] {
            list.sort_unstable();
        }
        fates.noticed.sort_unstable();
        fates.folder.sort_unstable_by_key(|redirect| redirect.recipient);
        fates
    }

    /// Whether some recipient gets the message.
    pub(super) fn is_delivered(&self) -> bool {
        !(self.plain.is_empty() && self.marked.is_empty() && self.folder.is_empty())
    }

    /// The notices that are owed.
    pub(super) fn notices(&self) -> Vec<Owed> {
        self.noticed.iter().map(|&index| Owed::Notice(index)).collect()
    }

    /// Moves recipients from the mark's field, which others do not want in the message, to their spam folders where these
    /// have addresses.
    fn file_in_folders(&mut self, mail: &Mail, rules: &Rules) {
        for index in std::mem::take(&mut self.marked) {
            let address = mail.recipients.get(index).and_then(Recipient::address);
            match address.and_then(|address| folder(address, spam_folder(mail, rules))) {
                Some(to) => self.folder.push(Redirect { recipient: index, to }),
                None => self.marked.push(index),
            }
        }
    }

    /// Takes out the spam folders that are also struck out as recipients of their own. An MTA may take a path that is struck
    /// out and put in again for a duplicate, and deliver to nobody. `others` are struck out besides those of the fates. A
    /// recipient that is a spam folder's address already stays.
    pub(super) fn struck_out_too(&mut self, mail: &Mail, others: &[&Vec<usize>]) -> Vec<Redirect> {
        let known = |index: usize| mail.recipients.get(index);
        self.folder.retain(|redirect| known(redirect.recipient).is_some_and(|to| to.address() != Some(&redirect.to)));
        let redirected: Vec<usize> = self.folder.iter().map(|redirect| redirect.recipient).collect();
        let lists = [&self.silent, &self.kept, &redirected].into_iter().chain(others.iter().copied());
        let gone: Vec<&Recipient> = lists.flatten().filter_map(|index| known(*index)).collect();
        let clashes = |redirect: &Redirect| gone.iter().any(|recipient| is_path_of(recipient, &redirect.to));
        let (clashing, alone) = std::mem::take(&mut self.folder).into_iter().partition(clashes);
        self.folder = alone;
        clashing
    }

    /// Settles how the sender is told, where others get the message or are dropped. A report may go out about the recipients
    /// that are returned. The copies of the others are kept for somebody to look at, and `Fates::unreported` says why.
    pub(super) fn tell(&mut self, mail: &Mail, permits: &Permits) -> Vec<usize> {
        let mut reported = Vec::new();
        for index in std::mem::take(&mut self.told) {
            let never = mail.recipients.get(index).is_some_and(|recipient| recipient.never_notify);
            let may = if never { permits.report.and(Err(Unreported::Never)) } else { permits.report };
            let unreported = match may {
                _ if mail.reverse_path == ReversePath::Null => {
                    self.silent.push(index);
                    Unreported::NullPath
                }
                Ok(()) => {
                    reported.push(index);
                    continue;
                }
                Err(why) => {
                    self.kept.push(index);
                    why
                }
            };
            self.unreported.get_or_insert(unreported);
        }
        self.kept.sort_unstable();
        reported
    }
}

/// Whether an MTA may take this address for the recipient's path, by its octets or by what they mean, in any letter case.
fn is_path_of(recipient: &Recipient, address: &Address) -> bool {
    let read = recipient.address().is_some_and(|known| known.is_but_for_case(address));
    read || recipient.path.eq_ignore_ascii_case(format!("<{address}>").as_bytes())
}

/// `policy.spam_folder` where the door can put such an address in; empty otherwise.
fn spam_folder<'a>(mail: &Mail, rules: &'a Rules) -> &'a str {
    if mail.means.folders { &rules.spam_folder } else { "" }
}

/// The address of a spam folder: `bob+Junk@…` for `bob@…` and for `bob+news@…`. Absent where `policy.spam_folder` is empty,
/// or the local part is a quoted one.
fn folder(address: &Address, tag: &str) -> Option<Address> {
    let delimiter = tag.chars().next()?;
    let local = address.local();
    if local.starts_with('"') {
        return None;
    }
    let base = match local.find(delimiter) {
        Some(at) if at > 0 => local.get(..at)?,
        _ => local,
    };
    Address::at(&format!("{base}{tag}"), address.domain()).ok()
}
