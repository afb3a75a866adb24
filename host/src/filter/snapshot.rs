//! The filter: one snapshot of everything that judging a message needs.

use std::borrow::Cow;
use std::sync::Arc;

use super::steps::{Steps, Watch};
use super::{read_in, rules, trust};
use crate::case::Wish;
use crate::case::{
    Body, Case, Client, Decision, Direction, Disposition, Door, Finding, Found, KeyStatus, Mail, NewKey, Place,
    Postponed, Recipient, Unreported, Why,
};
use crate::config::{Config, Limits, Mixed};
use crate::custody::Custody;
use crate::keyring::{OwnKeys, RecentWarnings};
use crate::policy::trust::floor::{self, Raise};
use crate::policy::{Policies, Trial};
use crate::proto::address::{Address, is_host_name};
use crate::proto::header::MARK_FIELD;
use crate::proto::mark::bound_id;
use crate::settle::{Permits, Rules, deferred, settle};
use crate::verify::Verifier;
use crate::{custody, keyring, policy, verify};

/// One snapshot of everything that judging a message needs. A reload makes a new one; a message keeps the one that it
/// began with.
pub struct Filter {
    pub(super) config: Config,
    pub(super) limits: Arc<Limits>,
    /// Absent where no AS is asked.
    pub(super) verifier: Option<Arc<Verifier>>,
    pub(super) policies: Policies,
    pub(super) trial: Trial,
    pub(super) custody: Option<Arc<Custody>>,
    /// Whether a custody is opened where a configuration needs one.
    pub(super) keeps: bool,
    pub(super) own_keys: Arc<OwnKeys>,
    /// Warnings of living keys of ours that came in from outside, and of owners that cannot be looked up.
    pub(super) warned: Arc<RecentWarnings>,
    pub(super) rules: Rules,
    pub(super) steps: Arc<Steps>,
}

/// Why a filter cannot be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A component or a binding.
    #[error(transparent)]
    Policy(#[from] policy::Error),
    /// DNS or the verifier's settings.
    #[error(transparent)]
    Verify(#[from] verify::Error),
    /// The journal.
    #[error(transparent)]
    Custody(#[from] custody::Error),
    /// The keyring.
    #[error(transparent)]
    Keyring(#[from] keyring::Error),
}

/// Prepares that the signed components among these policies are the floor below which none is taken here. A filter that keeps nothing
/// has none.
pub(super) async fn raise(config: &Config, keeps: bool, policies: &Policies) -> Result<Raise, policy::Error> {
    let (dir, mut signed) = (config.state_dir.0.clone(), policies.signed());
    if !keeps || config.final_domains.is_empty() {
        signed.clear();
    }
    let raised = tokio::task::spawn_blocking(move || floor::raise(&dir, &signed)).await;
    Ok(raised.map_err(|e| policy::Error::Setup(e.to_string()))??)
}

impl Filter {
    /// The same filter with another configuration: all of it or, on an error, nothing. Where their settings are the same, the
    /// verifier's memory and the open journal live on. A component that has not changed needs no other trial; one whose file
    /// is gone is not replaced by the shipped one ([`Policies::reload_apart`]). It may be dropped like
    /// [`super::Builder::open`].
    pub async fn reload(&self, config: Config) -> Result<Filter, Error> {
        let rules = rules(&config);
        let trial = self.trial.clone();
        let policies = self.policies.reload_apart(&config.policy, &config.policies, &trial).await?;
        let verifier = match &self.verifier {
            None => None,
            Some(verifier) if config.verify == self.config.verify && rules.hostname == self.rules.hostname => {
                Some(Arc::clone(verifier))
            }
            Some(_) => Some(Arc::new(Verifier::new(&config.verify, &rules.hostname, &self.limits)?)),
        };
        let own_keys = match self.own_keys.serves(&config, &self.config) {
            true => Arc::clone(&self.own_keys),
            false => Arc::new(OwnKeys::open(&config, &self.limits).await?),
        };
        let raised = raise(&config, self.keeps, &policies).await?;
        // Late, since this changes the snapshot in force as well: after it only the versions that are in force are noted.
        let same = Custody::opens_alike(&config, &self.config);
        let custody = match (config.final_domains.is_empty(), &self.custody) {
            _ if !self.keeps => None,
            (true, _) => None,
            (false, Some(custody)) if same => {
                custody.reload(&config)?;
                Some(Arc::clone(custody))
            }
            (false, _) => Some(Arc::new(Custody::open(&config, &self.limits).await?)),
        };
        raised.commit().map_err(policy::Error::from)?;
        let warned = Arc::clone(&self.warned);
        let limits = Arc::clone(&self.limits);
        let (keeps, steps) = (self.keeps, Arc::clone(&self.steps));
        Ok(Filter { config, limits, verifier, policies, trial, custody, keeps, own_keys, warned, rules, steps })
    }

    /// The configuration of this snapshot.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The policies of this snapshot.
    pub fn policies(&self) -> &Policies {
        &self.policies
    }

    /// What is kept and still to be sent; absent while only observing.
    pub fn custody(&self) -> Option<&Arc<Custody>> {
        self.custody.as_ref()
    }

    /// How long the steps of messages took so far.
    pub fn steps(&self) -> &Steps {
        &self.steps
    }

    /// Who finds Authentication Servers and asks them, if anybody does.
    pub fn verifier(&self) -> Option<&Verifier> {
        self.verifier.as_deref()
    }

    /// The keys of our own addresses.
    pub fn own_keys(&self) -> &OwnKeys {
        &self.own_keys
    }

    /// Why messages could not be judged or kept now, where that is so: the database, or DNS.
    pub async fn trouble(&self) -> Option<String> {
        if let Some(custody) = &self.custody
            && let Err(fault) = custody.standing().await
        {
            return Some(format!("the database cannot be read: {fault}"));
        }
        let (verifier, domain) = (self.verifier.as_ref()?, self.config.final_domains.first()?);
        let reached = verifier.reaches_dns(domain).await;
        (!reached).then(|| format!("DNS does not answer about {domain}"))
    }

    /// At the end of the header: find, decide, settle. Total.
    pub async fn examine(&self, mail: Mail) -> Case {
        let (mail, rules) = self.by_name(mail);
        let mut watch = Watch::start();
        let mut finding = self.find(&mail).await;
        let mut verified = watch.lap();
        let mut decisions = self.decide(&mail, &mut finding).await;
        let mut decided = watch.lap();
        let vanishes = self.would_vanish(&mail, &decisions);
        if let (Some(found), Some(verifier), true) = (finding.found_mut(), &self.verifier, vanishes) {
            let confirmed = verifier.confirm(&mail, found).await;
            verified += watch.lap();
            match confirmed {
                Ok(again) if (again.status, again.why) == (found.status, found.why) => {}
                Ok(again) => {
                    let Found { mail_auth, new_key, own_fields, elsewhere, .. } = found.clone();
                    *found = Found { mail_auth, new_key, own_fields, elsewhere, ..again };
                    decisions = self.decide(&mail, &mut finding).await;
                    decided += watch.lap();
                }
                Err(later) => (finding, decisions) = (Finding::Postponed(later.postponed()), Vec::new()),
            }
        }
        self.steps.verify.took(verified);
        if !decisions.is_empty() {
            self.steps.decide.took(decided);
        }
        let permits = self.permits(&mail, &mut finding, &decisions).await;
        let reply = settle(&mail, &finding, &decisions, &rules, &permits);
        if let (Some(custody), Ok(()), false) = (&self.custody, permits.report, reply.owes_report()) {
            // A permit that is not used would be missing when the message comes again, or for the next one.
            custody.give_back(&mail);
        }
        Case { mail, finding, decisions, reply }
    }

    /// At the end of the message: makes what is owed durable, a new key in the keyring first, or turns the reply into a 451;
    /// then tells the log. The body is there where the reply wants it.
    pub async fn keep(&self, case: Case, body: Option<Body>) -> Case {
        let mut watch = Watch::start();
        let case = self.learn(case).await;
        self.policies.hear_shadows(&case.decisions).await;
        let case = match &self.custody {
            Some(custody) => custody.keep(case, body).await,
            None if case.reply.owed.is_empty() => case,
            None => Case { reply: deferred(), ..case },
        };
        self.steps.keep.took(watch.lap());
        tracing::info!(
            case.queue_id = %case.queue_id_word(),
            case.result = case.finding.word(),
            case.decision = case.decided(),
            case.verdict = case.reply.verdict.word(),
            "{}",
            case.line()
        );
        case
    }

    /// Whether recipients are to be told apart at RCPT (`policy.mixed = "split"`).
    pub fn splits(&self) -> bool {
        self.config.policy.mixed == Mixed::Split && !self.rules.observe && !self.config.final_domains.is_empty()
    }

    /// Whether two recipients of one message that this client brings are treated alike whatever is found, by their own
    /// choices too. Recipients whose choices cannot be read count as alike, and the end of the message settles it. So do
    /// those that are not ours to judge: recipients elsewhere, and those of a submitter, which would not bring the message
    /// again. A recipient whose path is unclear is alike to no clear one, since a message to it is refused.
    pub async fn alike(&self, client: &Client, first: &Recipient, next: &Recipient) -> bool {
        if self.is_unclear(first) != self.is_unclear(next) {
            return false;
        }
        let judged = [first, next].into_iter().all(|recipient| self.ends_here(recipient));
        if !judged || trust::is_submitter(&self.config, client) {
            return true;
        }
        let wishes = self.wishes(&[first, next], None).await.unwrap_or_default();
        let nothing = Wish::default();
        let [one, other] = [wishes.first(), wishes.get(1)].map(|wish| wish.unwrap_or(&nothing));
        let bounce = (KeyStatus::Unusable, Some(Why::NoAddress));
        KeyStatus::ALL.map(|status| (status, None)).into_iter().chain([bounce]).all(|(status, why)| {
            let one = self.policies.choose(first, status, why, one);
            let other = self.policies.choose(next, status, why, other);
            one.is_like(&other)
        })
    }

    /// The message, and the rules with the host name that counts for it. The mail server's name for its host counts where the
    /// configuration sets no `hostname` and the name is a full one.
    pub(super) fn by_name(&self, mail: Mail) -> (Mail, Cow<'_, Rules>) {
        let counts = |name: &&String| self.config.hostname_assumed && is_host_name(name);
        let server = mail.client.server.as_ref().filter(counts).cloned();
        let rules = match &server {
            Some(name) => Cow::Owned(Rules { hostname: name.clone(), ..self.rules.clone() }),
            None => Cow::Borrowed(&self.rules),
        };
        (mail.on_server(server), rules)
    }

    /// What is found out about a message. A direction belongs to a recipient: a login's mail goes out for recipients
    /// elsewhere. For recipients here it is examined as if it went to them alone, since nobody inside may learn a colleague's
    /// key or forge a status. A submitter that is trusted counts as a login with its own addresses alone.
    async fn find(&self, mail: &Mail) -> Finding {
        let count = mail.recipients.len();
        // Between queue and mailbox every recipient is a mailbox of ours, by whatever name.
        let final_for_all = mail.door == Door::Delivery && !self.config.final_domains.is_empty();
        let ends_here = |index: usize| mail.recipients.get(index).is_some_and(|to| self.ends_here(to));
        let elsewhere: Vec<usize> = (0..count).filter(|&index| !(final_for_all || ends_here(index))).collect();
        let (leaves, stays) = (!elsewhere.is_empty(), elsewhere.len() < count);
        let unclear = mail.recipients.iter().filter(|recipient| !final_for_all && self.is_unclear(recipient)).count();
        if unclear > 0 && self.rules.observe {
            let queue_id = mail.queue_id.as_deref().unwrap_or_default().escape_default().to_string();
            tracing::warn!(
                queue_id,
                unclear,
                "paths of recipients can be read in more than one way; without `observe` the message would be refused"
            );
        } else if unclear > 0 {
            return Finding::Unclear;
        }
        if mail.head().new_keys.is_empty() && self.is_own(mail) {
            Finding::Passing(Direction::Own)
        } else if leaves && (mail.login.is_some() || trust::submitter(&self.config, mail).is_some()) {
            self.outbound(mail, elsewhere).await.unwrap_or_else(Finding::Postponed)
        } else if stays && trust::was_examined(&self.config, mail) && !self.learns_from(mail) {
            Finding::Passing(Direction::Examined)
        } else if stays {
            self.inbound(mail, elsewhere).await.map_or_else(Finding::Postponed, Finding::Found)
        } else {
            Finding::Passing(Direction::Relay)
        }
    }

    /// What is found for the recipients whose mail ends here; `elsewhere` are the indices of the others.
    pub(super) async fn inbound(&self, mail: &Mail, elsewhere: Vec<usize>) -> Result<Found, Postponed> {
        let own = self.own_sender(mail).await?;
        let by_owner = own.is_some();
        let finding = async {
            match (own, &self.verifier) {
                (Some(sender), _) => Ok(Found::bare(KeyStatus::Valid, None, Some(sender))),
                (None, Some(verifier)) => verifier.verify(mail).await,
                (None, None) => Ok(verify::unasked(mail)),
            }
        };
        // Both may take as long as a message may.
        let (found, new_key) = tokio::join!(finding, self.new_key(mail));
        let mut found = match found {
            Ok(found) => found,
            // With `observe = true` no mail waits.
            Err(later) if self.rules.observe => later.found,
            Err(later) => return Err(later.postponed()),
        };
        found.new_key = new_key?;
        found.own_key = self.is_own_key(mail, &found, by_owner);
        found.elsewhere = elsewhere;
        Ok(read_in(mail, found, &self.config))
    }

    async fn decide(&self, mail: &Mail, finding: &mut Finding) -> Vec<Decision> {
        match finding.found_mut() {
            None | Some(Found { new_key: Some(NewKey::Proven(_)), .. }) => Vec::new(),
            Some(found) => {
                let recipients: Vec<&Recipient> = mail.recipients.iter().collect();
                // Without the users' wishes, or a fact that a policy wants, there is no decision, and no decision is a deferral.
                let Ok(mut wishes) = self.wishes(&recipients, found.sender.as_ref()).await else { return Vec::new() };
                if self.policies.want_last_valid(mail, found, &wishes) {
                    let Ok(last_valid) = self.last_valid(mail, found).await else { return Vec::new() };
                    found.last_valid = last_valid;
                } else if self.policies.others_want_last_valid(mail, found, &wishes) {
                    // What only a candidate or a user's own rules want to see defers no mail.
                    match self.last_valid(mail, found).await {
                        Ok(last_valid) => found.last_valid = last_valid,
                        Err(()) => {
                            wishes.iter_mut().for_each(|wish| wish.rules = None);
                            return self.policies.decide_alone(mail, found, &wishes).await;
                        }
                    }
                }
                self.policies.decide(mail, found, &wishes).await
            }
        }
    }

    /// Days since the sender was last found valid here. One whose domain has no AS is not looked for. An error is logged here.
    async fn last_valid(&self, mail: &Mail, found: &Found) -> Result<Option<u32>, ()> {
        let (Some(custody), Some(sender)) = (&self.custody, &found.sender) else { return Ok(None) };
        if found.status == KeyStatus::None {
            return Ok(None);
        }
        let last_valid = custody.last_valid(sender, mail.received).await;
        last_valid.map_err(|error| tracing::warn!("when a sender was last valid is not to be had: {error}"))
    }

    /// What the recipients chose for themselves. An error is logged here.
    async fn wishes(&self, recipients: &[&Recipient], sender: Option<&Address>) -> Result<Vec<Wish>, ()> {
        let Some(custody) = &self.custody else { return Ok(Vec::new()) };
        custody
            .wishes(recipients, sender)
            .await
            .map_err(|error| tracing::warn!("the users' choices are not to be had: {error}"))
    }

    /// What may be said and to whom. It is looked up only where the sender is to be told and the server that brought the message
    /// does not do that: others get the message, or it came by way of our own queue.
    async fn permits(&self, mail: &Mail, finding: &mut Finding, decisions: &[Decision]) -> Permits {
        let refuse = !trust::is_relay(&self.config, mail);
        let Some(custody) = &self.custody else { return Permits { report: Err(Unreported::NobodyKeeps), refuse } };
        let Some(found) = finding.found_mut() else { return Permits { report: Err(Unreported::Undecided), refuse } };
        let tells = |d: &Decision| d.disposition == Disposition::Reject && d.notify.sender;
        let refused_whole = mail.door == Door::Reception && decisions.iter().all(tells) && found.elsewhere.is_empty();
        let report = if decisions.iter().any(tells) && !refused_whole {
            found.owns_path = self.owns_path(mail).await;
            custody.permit(mail, found).await
        } else {
            Err(Unreported::OwnServer)
        };
        Permits { report, refuse }
    }

    /// Whether a message would be dropped without a word to its sender: then the AS is asked once more.
    fn would_vanish(&self, mail: &Mail, decisions: &[Decision]) -> bool {
        !self.rules.observe && decisions.iter().any(|decision| decision.hides_from_sender(&mail.reverse_path))
    }

    /// Whether a recipient's mail ends here. One whose path is unclear counts as ours.
    fn ends_here(&self, recipient: &Recipient) -> bool {
        recipient.place(&self.config.final_domains) != Place::Elsewhere
    }

    /// Whether the MTA may read a recipient's path in another way than we.
    fn is_unclear(&self, recipient: &Recipient) -> bool {
        recipient.place(&self.config.final_domains) == Place::Unclear
    }

    /// Whether we sent the message: it carries our mark, made for its one recipient and its Message-ID. A mark that binds no
    /// Message-ID is good for any, since an MTA gives one to mail of its own network that came without.
    fn is_own(&self, mail: &Mail) -> bool {
        let (Some(custody), [recipient]) = (&self.custody, mail.recipients.as_slice()) else { return false };
        let mut marks = mail.named(MARK_FIELD);
        let (Some(mark), None) = (marks.next(), marks.next()) else { return false };
        let Ok(mark) = std::str::from_utf8(&mark.value) else { return false };
        let message_id = bound_id(mail.named("Message-ID").map(|field| field.value.as_slice()));
        let path = mail.reverse_path.address().map(ToString::to_string).unwrap_or_default();
        let recipient = recipient.address().map(ToString::to_string).unwrap_or_default();
        let checks = |id| custody.mark().checks(mark.trim(), mail.received, &path, &recipient, id);
        checks(&message_id) || checks("")
    }
}
