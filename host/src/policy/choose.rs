//! Whose word it is which policy treats a recipient's mail.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::Error;
use super::shelf::Shelved;
use crate::case::{By, KeyStatus, MarkAs, Recipient, Why};
use crate::config::{self, Bindings};
use crate::store::{Wish, folded};

/// The policy that lets a wanted sender's mail pass.
pub(super) const ALLOWED: &str = "accept";

/// What treats one recipient's mail of one result.
#[derive(Clone)]
pub struct Choice {
    pub(super) policy: Arc<Shelved>,
    /// Whose word that is.
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
}

/// One level's word.
#[derive(Default)]
struct Level {
    /// In the order of [`KeyStatus::ALL`].
    results: [Option<Arc<Shelved>>; 6],
    mark: Option<MarkAs>,
}

/// All levels, with the components that they name.
pub(super) struct Bound {
    site: [Arc<Shelved>; 6],
    mark: MarkAs,
    domains: HashMap<String, Level>,
    recipients: HashMap<String, Level>,
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
        let site = [
            shelve(&config.valid)?,
            shelve(&config.invalid)?,
            shelve(&config.missing)?,
            shelve(&config.none)?,
            shelve(&config.unverified)?,
            shelve(&config.unusable)?,
        ];
        refuse_silence("policy", &site[2])?;
        let mut level = |place: String, bindings: &Bindings| -> Result<Level, Error> {
            let ids = [
                &bindings.valid,
                &bindings.invalid,
                &bindings.missing,
                &bindings.none,
                &bindings.unverified,
                &bindings.unusable,
            ];
            let mut level = Level { mark: bindings.mark, ..Level::default() };
            for (place, id) in level.results.iter_mut().zip(ids) {
                *place = id.as_deref().map(&mut shelve).transpose()?;
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
            let key = folded(recipient).unwrap_or_else(|| recipient.clone());
            recipients.insert(key, level(format!("policy.recipient.{recipient:?}"), bindings)?);
        }
        let mut open = BTreeMap::new();
        for id in &config.user_may {
            open.insert(id.clone(), shelve(id)?);
        }
        let accept = shelve(ALLOWED)?;
        Ok(Bound { site, mark: config.mark, domains, recipients, open, accept })
    }

    /// The policy that treats this recipient's mail of this result, and whose word that is.
    ///
    /// The administrator's line for the recipient goes before the recipient's own choice, that before the domain's line, and
    /// the site's comes last; each of the six results and the mark fall by themselves. A user's list of wanted senders goes
    /// before all, except where the sender's own domain denied the message: then no list helps. A user has no say over
    /// `valid`.
    pub(super) fn choose(&self, recipient: &Recipient, status: KeyStatus, why: Option<Why>, wish: &Wish) -> Choice {
        let address = recipient.address.as_ref();
        let row = KeyStatus::ALL.iter().position(|known| *known == status).unwrap_or_default();
        let own = address.and_then(|address| self.recipients.get(&folded(&address.to_string())?));
        let domain = address.and_then(|address| self.domains.get(address.domain()));
        let wished = wish.policies.get(&status).and_then(|id| self.open.get(id)).filter(|_| status != KeyStatus::Valid);
        let result = |level: Option<&Level>| level.and_then(|level| level.results.get(row)?.clone());
        let (policy, by) = None
            .or_else(|| {
                Some((Arc::clone(&self.accept), By::AllowList)).filter(|_| wish.allows && may_be_allowed(status, why))
            })
            .or_else(|| Some((result(own)?, By::Recipient)))
            .or_else(|| Some((Arc::clone(wished?), By::User)))
            .or_else(|| Some((result(domain)?, By::Domain)))
            .unwrap_or_else(|| (self.of_site(status), By::Site));
        let (mark, mark_by) = None
            .or_else(|| Some((own?.mark?, By::Recipient)))
            .or_else(|| Some((wish.mark?, By::User)))
            .or_else(|| Some((domain?.mark?, By::Domain)))
            .unwrap_or((self.mark, By::Site));
        Choice { policy, by, mark, mark_by }
    }

    /// The site's policy for this result.
    pub(super) fn of_site(&self, status: KeyStatus) -> Arc<Shelved> {
        let [valid, invalid, missing, none, unverified, unusable] = &self.site;
        Arc::clone(match status {
            KeyStatus::Valid => valid,
            KeyStatus::Invalid => invalid,
            KeyStatus::Missing => missing,
            KeyStatus::None => none,
            KeyStatus::Unverified => unverified,
            KeyStatus::Unusable => unusable,
        })
    }

    /// What users may choose.
    pub(super) fn open(&self) -> impl Iterator<Item = &Arc<Shelved>> {
        self.open.values()
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

/// `missing` must not be dropped silently, whoever says so.
fn refuse_silence(place: &str, policy: &Shelved) -> Result<(), Error> {
    let drops = policy.tabled(KeyStatus::Missing).is_some_and(super::drops_silently);
    if drops { Err(Error::SilentDrop { place: place.to_owned(), id: policy.id.clone() }) } else { Ok(()) }
}
