//! Whose word it is which policy treats a recipient's mail.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::Error;
use super::shelf::Shelved;
use crate::case::Wish;
use crate::case::{By, KeyStatus, MarkAs, Recipient, Why};
use crate::config::{self, Bindings};
use crate::proto::address::{Domain, Mailbox};
use crate::proto::record::Claim;

/// The policy that lets a wanted sender's mail pass.
pub(super) const ALLOWED: &str = "accept";

/// What treats one recipient's mail of one result.
#[derive(Clone)]
pub struct Choice {
    pub(super) policy: Arc<Shelved>,
    /// The recipient's own rules, where they go before it.
    pub(super) own: Option<Arc<str>>,
    /// Whose word the policy is.
    pub by: By,
    /// How a mark is shown.
    pub mark: MarkAs,
    /// Whose word that is.
    pub mark_by: By,
}

impl Choice {
    /// The policy's id.
    pub fn policy(&self) -> &str {
        &self.policy.id
    }

    /// Whether the recipient's own rules go before the policy.
    pub fn has_own_rules(&self) -> bool {
        self.own.is_some()
    }

    /// Whether both treat mail alike.
    pub fn is_like(&self, other: &Choice) -> bool {
        (self.policy(), self.mark, &self.own) == (other.policy(), other.mark, &other.own)
    }
}

/// Rows of a level: the six results in the order of [`KeyStatus::ALL`], and bounces that name nobody (`no_address`).
const ROWS: usize = 7;

/// One level's word.
#[derive(Default)]
struct Level {
    results: [Option<Arc<Shelved>>; ROWS],
    mark: Option<MarkAs>,
}

/// All levels, with the components that they name.
pub(super) struct Bound {
    site: [Arc<Shelved>; ROWS],
    mark: MarkAs,
    /// Whether a spam folder has an address.
    folders: bool,
    domains: HashMap<Domain, Level>,
    recipients: HashMap<Mailbox, Level>,
    /// What users may choose.
    open: BTreeMap<String, Arc<Shelved>>,
    accept: Arc<Shelved>,
}

impl Bound {
    /// Shelves every policy that a level names.
    pub(super) fn load(
        config: &config::Policy,
        mut shelve: impl FnMut(&str) -> Result<Arc<Shelved>, Error>,
    ) -> Result<Bound, Error> {
        let mut at = |place: &str, name: &str, id: &str| {
            let wrong = |e| Error::At { place: format!("{place}.{name} = {id:?}"), source: Box::new(e) };
            shelve(id).map_err(wrong)
        };
        let mut of_all = |name, id: &str| at("policy", name, id);
        let site = [
            of_all("valid", &config.valid)?,
            of_all("invalid", &config.invalid)?,
            of_all("missing", &config.missing)?,
            of_all("none", &config.none)?,
            of_all("unverified", &config.unverified)?,
            of_all("unusable", &config.unusable)?,
            of_all("no_address", &config.no_address)?,
        ];
        refuse_silence("policy", &site[2])?;
        let mut level = |place: String, bindings: &Bindings| -> Result<Level, Error> {
            let ids = [
                ("valid", &bindings.valid),
                ("invalid", &bindings.invalid),
                ("missing", &bindings.missing),
                ("none", &bindings.none),
                ("unverified", &bindings.unverified),
                ("unusable", &bindings.unusable),
                ("no_address", &bindings.no_address),
            ];
            let mut level = Level { mark: bindings.mark, ..Level::default() };
            for (slot, (name, id)) in level.results.iter_mut().zip(ids) {
                *slot = id.as_deref().map(|id| at(&place, name, id)).transpose()?;
            }
            if let Some(policy) = &level.results[2] {
                refuse_silence(&place, policy)?;
            }
            Ok(level)
        };
        let (mut domains, mut recipients) = (HashMap::new(), HashMap::new());
        for (domain, bindings) in &config.domain {
            domains.insert(domain.clone(), level(format!("policy.domain.{domain:?}"), bindings)?);
        }
        for (recipient, bindings) in &config.recipient {
            let level = level(format!("policy.recipient.{:?}", recipient.as_str()), bindings)?;
            recipients.insert(recipient.clone(), level);
        }
        let mut open = BTreeMap::new();
        for id in &config.user_may {
            let wrong = |e| Error::At { place: format!("policy.user_may names {id:?}"), source: Box::new(e) };
            open.insert(id.clone(), shelve(id).map_err(wrong)?);
        }
        let accept = shelve(ALLOWED)?;
        let folders = !config.spam_folder.is_empty();
        Ok(Bound { site, mark: config.mark, folders, domains, recipients, open, accept })
    }

    /// The policy that treats this recipient's mail of this result, and whose word that is: the first of those in
    /// [`Bound::claims`], and for the mark of those in [`Bound::marks`].
    pub(super) fn choose(&self, recipient: &Recipient, status: KeyStatus, why: Option<Why>, wish: &Wish) -> Choice {
        // Where no line is for a domain or a mailbox, it does not matter which one it is.
        let has_lines = !self.domains.is_empty() || !self.recipients.is_empty();
        let mailbox = if has_lines { recipient.mailbox() } else { None };
        let mailbox = mailbox.as_ref();
        let (by, policy) =
            self.claims(mailbox, status, why, wish).next().unwrap_or((By::Site, self.of_site(status, why)));
        let (mark_by, mark) = self.marks(mailbox, wish).next().unwrap_or((By::Site, self.mark));
        Choice { policy: Arc::clone(policy), own: None, by, mark, mark_by }
    }

    /// Every level that has a word on this mailbox's mail of this result, the one that counts first.
    ///
    /// The administrator's line for the recipient goes before the recipient's own choice, that before the domain's line, and
    /// the site's comes last; each of the six results and the mark fall by themselves. A user's list of wanted senders goes
    /// before all, except where the sender's own domain denied the message: then no list helps. A user has no say over
    /// `valid`, over bounces that name nobody, nor over what is not open to users any more.
    pub(super) fn claims<'a>(
        &'a self,
        mailbox: Option<&Mailbox>,
        status: KeyStatus,
        why: Option<Why>,
        wish: &Wish,
    ) -> impl Iterator<Item = (By, &'a Arc<Shelved>)> + use<'a> {
        let result = |level: Option<&'a Level>| level.and_then(|level| level.results.get(row(status, why))?.as_ref());
        let [own, domain] = self.levels(mailbox);
        let wanted = wish.allows && may_be_allowed(status, why);
        let wished = wish.policies.get(&status).filter(|_| why != Some(Why::NoAddress));
        let wished = wished.and_then(|id| self.open.get(id));
        let claims = [
            (By::AllowList, wanted.then_some(&self.accept)),
            (By::Recipient, result(own)),
            (By::User, wished.filter(|policy| may_choose(status, policy))),
            (By::Domain, result(domain)),
            (By::Site, Some(self.of_site(status, why))),
        ];
        claims.into_iter().filter_map(|(by, policy)| Some((by, policy?)))
    }

    /// The same for how a mark is shown. A user's wish for a folder counts as long as folders have an address.
    pub(super) fn marks(&self, mailbox: Option<&Mailbox>, wish: &Wish) -> impl Iterator<Item = (By, MarkAs)> + use<> {
        let [own, domain] = self.levels(mailbox);
        let claims = [
            (By::Recipient, own.and_then(|level| level.mark)),
            (By::User, wish.mark.filter(|mark| *mark == MarkAs::Header || self.folders)),
            (By::Domain, domain.and_then(|level| level.mark)),
            (By::Site, Some(self.mark)),
        ];
        claims.into_iter().filter_map(|(by, mark)| Some((by, mark?)))
    }

    /// The recipient's and the domain's level.
    fn levels(&self, mailbox: Option<&Mailbox>) -> [Option<&Level>; 2] {
        let own = mailbox.and_then(|mailbox| self.recipients.get(mailbox));
        [own, mailbox.and_then(|mailbox| self.domains.get(mailbox.domain()))]
    }

    /// The site's policy for this result.
    pub(super) fn of_site(&self, status: KeyStatus, why: Option<Why>) -> &Arc<Shelved> {
        let [valid, invalid, missing, none, unverified, unusable, no_address] = &self.site;
        match status {
            KeyStatus::Unusable if why == Some(Why::NoAddress) => no_address,
            KeyStatus::Valid => valid,
            KeyStatus::Invalid => invalid,
            KeyStatus::Missing => missing,
            KeyStatus::None => none,
            KeyStatus::Unverified => unverified,
            KeyStatus::Unusable => unusable,
        }
    }

    /// Whether any level binds this policy to this result, or a user may.
    pub(super) fn treats(&self, id: &str, status: KeyStatus) -> bool {
        let whys = [None, (status == KeyStatus::Unusable).then_some(Why::NoAddress)];
        let levels = || self.domains.values().chain(self.recipients.values());
        let line = |why| levels().filter_map(move |level| level.results.get(row(status, why))?.as_ref());
        whys.into_iter().any(|why| self.of_site(status, why).id == id || line(why).any(|policy| policy.id == id))
            || self.open(status).any(|policy| policy.id == id)
    }

    /// What users may choose for this result.
    pub(super) fn open(&self, status: KeyStatus) -> impl Iterator<Item = &Arc<Shelved>> {
        self.open.values().filter(move |policy| may_choose(status, policy))
    }
}

/// The row of a level that holds this result.
fn row(status: KeyStatus, why: Option<Why>) -> usize {
    match (status, why) {
        (KeyStatus::Unusable, Some(Why::NoAddress)) => KeyStatus::ALL.len(),
        _ => KeyStatus::ALL.iter().position(|known| *known == status).unwrap_or_default(),
    }
}

/// Whether a wanted sender's mail passes with this result: not where his own domain says that he did not write it, and a
/// message without a usable sender is nobody's.
pub fn may_be_allowed(status: KeyStatus, why: Option<Why>) -> bool {
    match status {
        KeyStatus::Missing | KeyStatus::None | KeyStatus::Unverified => true,
        KeyStatus::Invalid => why == Some(Why::Expired),
        KeyStatus::Valid | KeyStatus::Unusable => false,
    }
}

/// Whether the sender's own domain says that he did not write this message: a wrong key, or none where all its mail has one. A claim
/// that nobody knows counts as that one.
pub(super) fn is_denied(status: KeyStatus, why: Option<Why>, claim: Option<Claim>) -> bool {
    match status {
        KeyStatus::Invalid => !may_be_allowed(status, why),
        KeyStatus::Missing => !matches!(claim, Some(Claim::Testing | Claim::Some)),
        _ => false,
    }
}

/// Whether a user may choose this policy, open to users, for this result.
fn may_choose(status: KeyStatus, policy: &Shelved) -> bool {
    match status {
        KeyStatus::Valid => false,
        KeyStatus::Missing => !drops_missing(policy),
        _ => true,
    }
}

/// Whether it drops mail without a key and tells nobody.
fn drops_missing(policy: &Shelved) -> bool {
    policy.tabled(KeyStatus::Missing).is_some_and(|tabled| super::drops_silently(&tabled.decision))
}

/// `missing` must not be dropped silently, whoever says so.
fn refuse_silence(place: &str, policy: &Shelved) -> Result<(), Error> {
    if drops_missing(policy) {
        Err(Error::SilentDrop { place: place.to_owned(), id: policy.id.clone() })
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
