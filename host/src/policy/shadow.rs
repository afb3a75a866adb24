//! A candidate beside a policy (`policies.ID.shadow`): it decides on the same mail, and what it decides is only recorded.
//!
//! It never changes an answer: it is asked on a thread of its own, with an instance of its own, behind a queue that gives up what
//! does not fit. The end of a message waits for it for `limits.policy.shadow` at most.

use std::collections::BTreeMap;
use std::iter::once;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::facts::{self, Group};
use super::pace::Pace;
use super::sandbox::contract::{self, Wants};
use super::sandbox::{Fault, Sandbox};
use super::shelf::Shelved;
use super::written_facts::WrittenFacts;
use super::{Error, Proposal};
use crate::case::{Decision, Found, KeyStatus, Mail, Opinion, Opinions, Shadow, Why, restrained};
use crate::config::{Config, Module};

/// Between two looks whether a candidate has decided.
const LOOK: Duration = Duration::from_millis(1);

/// The candidates by the ids of the policies that they decide beside.
pub(super) type Shadows = BTreeMap<String, Shadowing>;

/// A candidate as it is configured.
pub(super) struct Shadowing {
    /// The file that names it.
    pub(super) file: PathBuf,
    /// The share of messages that it decides.
    pub(super) share: f64,
    /// The candidate, or why there is none: the policy decides without it.
    pub(super) candidate: Result<Arc<Shelved>, String>,
    /// Whether it is waited for.
    pub(super) pace: Pace,
}

impl Shadowing {
    /// Loads the candidate of a policy, in the same way as the policy itself; none where the configuration names none.
    pub(super) fn load(
        id: &str,
        dir: &Path,
        module: Option<&Module>,
        load: impl Fn(&Module, &Path) -> Result<Shelved, Error>,
    ) -> Option<Shadowing> {
        let module = module?;
        let file = module.shadow.as_ref()?;
        let path = dir.join(file);
        let candidate = configured(id, dir, module, file);
        let candidate = candidate.and_then(|module| load(&module, &path).map_err(|e| e.to_string()));
        if let Err(why) = &candidate {
            tracing::warn!(policy = id, "its candidate (policies.{id}.shadow) is not asked: {why}");
        }
        let candidate = candidate.map(Arc::new);
        Some(Shadowing { file: file.clone(), share: module.shadow_share, candidate, pace: Pace::default() })
    }

    /// The candidate for this message, where it is in its share.
    pub(super) fn of(&self, mail: &Mail) -> Option<&Arc<Shelved>> {
        let candidate = self.candidate.as_ref().ok()?;
        is_in(self.share, mail).then_some(candidate)
    }
}

/// The section of the configuration that the candidate of a policy would have. A component keeps the settings of the policy in
/// force, a text brings its own.
///
/// # Errors
/// In words why there is none.
pub fn configured(id: &str, dir: &Path, module: &Module, file: &Path) -> Result<Module, String> {
    if file.is_relative() && dir.as_os_str().is_empty() {
        return Err(format!(
            "policies.{id}.shadow = {file:?} is relative to policy.dir, which is not set: set it, or write the whole path"
        ));
    }
    let path = dir.join(file);
    if path.extension().is_none_or(|end| end != "toml") {
        let Module { settings, on_fault, size, .. } = module.clone();
        return Ok(Module { module: Some(file.to_owned()), settings, on_fault, size, ..Module::default() });
    }
    let read = Config::text(&path).and_then(|text| Config::parse(&text, &path));
    let candidate = read.map_err(|e| e.to_string())?.policies.remove(id);
    let candidate = candidate.ok_or_else(|| format!("{} has no [policies.{id}]", path.display()))?;
    Ok(Module { shadow: None, on_fault: module.on_fault, ..candidate })
}

/// Whether a message is in this share of all. The same message always is, or never.
fn is_in(share: f64, mail: &Mail) -> bool {
    if share >= 1.0 {
        return true;
    }
    let mut hash = Sha256::new();
    match &mail.queue_id {
        Some(id) => hash.update(id),
        None => hash.update(format!("{:?}", mail.received)),
    }
    let number = hash.finalize().iter().take(4).fold(0_u32, |number, octet| number << 8 | u32::from(*octet));
    f64::from(number) < share * 2_f64.powi(32)
}

/// A candidate to be asked about one message.
struct Job {
    candidate: Arc<Shelved>,
    groups: Box<dyn Iterator<Item = Group> + Send>,
    /// Whether all recipients are one group.
    alone: bool,
    result: (KeyStatus, Option<Why>),
    opinions: Opinions,
}

/// The thread that asks candidates. It ends when this is dropped and the queue is empty.
pub(super) struct Asker(SyncSender<Job>);

impl Asker {
    pub(super) fn start(sandbox: &Arc<Sandbox>, queue: usize) -> std::io::Result<Asker> {
        let (jobs, receiver) = sync_channel(queue);
        let sandbox = Arc::clone(sandbox);
        thread::Builder::new().name("policy-shadow".into()).spawn(move || work(&sandbox, &receiver))?;
        Ok(Asker(jobs))
    }
}

fn work(sandbox: &Sandbox, receiver: &Receiver<Job>) {
    while let Ok(job) = receiver.recv() {
        let Job { candidate, groups, alone, result, opinions } = job;
        let mut all = Vec::new();
        for (facts, recipients) in groups {
            if !opinions.are_wanted() {
                break;
            }
            let decided = sandbox.decide(&candidate.guest, &facts, &candidate.settings);
            let recipients = if alone { Vec::new() } else { recipients };
            all.push(Opinion { recipients, ..opinion(decided, result, sandbox) });
        }
        opinions.make(all);
    }
}

fn opinion(
    decided: Result<contract::Decision, Fault>,
    (status, why): (KeyStatus, Option<Why>),
    sandbox: &Sandbox,
) -> Opinion {
    match decided {
        Ok(decided) => {
            let Proposal { disposition, notify, reason } = Proposal::of(&decided, sandbox.limits());
            let notify = restrained(status, why, disposition, notify);
            Opinion { disposition: Some(disposition), notify, reason, ..Opinion::default() }
        }
        Err(fault) => Opinion { fault: Some(fault.to_string()), ..Opinion::default() },
    }
}

/// What the candidates of a message were shown.
#[derive(Default)]
pub(super) struct Shown {
    /// Octets of its header.
    octets: usize,
    /// Decisions that were to be made apart.
    jobs: usize,
}

/// Decisions that a message's candidates make apart; beside others none decides, so that one message with a thousand recipients is
/// not most of a record.
pub(super) const JOBS: usize = 8;

/// Has the candidate of a policy, where there is one for this message, decide beside this decision.
pub(super) fn beside(
    shadows: &Shadows,
    (asker, sandbox): (Option<&Asker>, &Sandbox),
    (mail, found): (&Mail, &Found),
    decision: &mut Decision,
    shown: &mut Shown,
) {
    let Some(candidate) = shadows.get(&decision.policy).and_then(|shadowing| shadowing.of(mail)) else { return };
    let mut shadow = Shadow {
        digest: candidate.digest.clone(),
        settings: candidate.settings_json.clone(),
        facts: Value::Null,
        decisions: Opinions::default(),
    };
    let result = (found.status, found.why);
    if let Some(tabled) = candidate.tabled(found.status) {
        shadow.decisions.make(vec![opinion(Ok(tabled.decision.clone()), result, sandbox)]);
    } else {
        shown.jobs += 1;
        if shown.jobs > JOBS {
            return;
        }
        let mut groups = facts::gather(mail, found, &candidate.wanted, decision.recipients.clone());
        if let Some((facts, recipients)) = groups.next() {
            shown.octets = shown.octets.saturating_add(facts.headers.iter().flatten().map(String::len).sum());
            let fits = shown.octets <= sandbox.limits().custody.journal_row && !decision.facts.is_null();
            if fits {
                shadow.facts = more(WrittenFacts::of(&facts, &candidate.wanted).json(), &decision.facts);
            }
            let alone = !candidate.wanted.has(Wants::RECIPIENT) || decision.recipients.len() == 1;
            let groups = Box::new(once((facts, recipients)).chain(groups));
            let (candidate, opinions) = (Arc::clone(candidate), shadow.decisions.clone());
            // A thousand copies of a long header are no memory's, and a full queue holds up nobody.
            if !fits
                || asker
                    .is_none_or(|asker| asker.0.try_send(Job { candidate, groups, alone, result, opinions }).is_err())
            {
                shadow.decisions.close();
            }
        }
    }
    decision.shadow = Some(Box::new(shadow));
}

/// The facts that are not among these. The recipient stands in the row anyway.
fn more(facts: Value, known: &Value) -> Value {
    let Value::Object(mut facts) = facts else { return Value::Null };
    let fields = known.get("headers").and_then(Value::as_object);
    if let (Some(Value::Object(headers)), Some(fields)) = (facts.get_mut("headers"), fields) {
        headers.retain(|name, _| !fields.keys().any(|known| known.eq_ignore_ascii_case(name)));
    }
    let is_empty = |value: &Value| value.as_object().is_some_and(serde_json::Map::is_empty);
    let headers = |name: &str| name == "headers";
    facts.retain(|name, value| {
        let known = known.get(name).is_some() && !headers(name);
        name != "recipient" && !known && !(headers(name) && is_empty(value))
    });
    if facts.is_empty() { Value::Null } else { facts.into() }
}

/// Waits for the candidates of a message that still decide, and then closes what they were to tell.
pub(super) async fn hear(shadows: &Shadows, decisions: &[Decision], most: Duration) {
    let deadline = Instant::now() + most;
    let mut struck: Vec<&str> = Vec::new();
    for decision in decisions {
        let Some(shadow) = &decision.shadow else { continue };
        let Some(Shadowing { pace, .. }) = shadows.get(&decision.policy) else { continue };
        let had_to_wait = shadow.decisions.are_open();
        while shadow.decisions.are_open() && !pace.takes_time() && Instant::now() < deadline {
            tokio::task::yield_now().await;
            if shadow.decisions.are_open() {
                tokio::time::sleep(LOOK).await;
            }
        }
        shadow.decisions.close();
        let opinions = shadow.decisions.all();
        let failed = opinions.is_empty() || opinions.iter().any(|opinion| opinion.fault.is_some());
        if had_to_wait && !failed {
            pace.was_quick();
        } else if had_to_wait && !struck.contains(&decision.policy.as_str()) {
            // Once for a message.
            struck.push(&decision.policy);
            if !pace.took_time() {
                continue;
            }
            tracing::info!(policy = decision.policy, "its candidate is not waited for any more: it fails or is late");
        }
    }
}

/// The files that the candidates are made of, as far as they are known without reading them.
pub(super) fn files(shadows: &Shadows, dir: &Path) -> Vec<PathBuf> {
    let of = |shadowing: &Shadowing| {
        let component = shadowing.candidate.as_ref().ok().and_then(|candidate| candidate.origin.file());
        [Some(dir.join(&shadowing.file)), component.map(Path::to_owned)].into_iter().flatten()
    };
    shadows.values().flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::case::{Envelope, Head};

    fn mail(id: &str) -> Mail {
        Mail::new(Envelope { queue_id: Some(id.into()), ..Envelope::default() }, Head::default())
    }

    #[test]
    fn a_share_of_messages_is_chosen_by_their_queue_ids_and_always_the_same() {
        let ids: Vec<String> = (0..4_000).map(|n| format!("4Zb{n:06X}")).collect();
        for (share, least, most) in [(0.0, 0, 0), (0.1, 300, 500), (0.5, 1_850, 2_150), (1.0, 4_000, 4_000)] {
            let chosen = |id: &&String| is_in(share, &mail(id));
            let count = ids.iter().filter(chosen).count();
            assert!((least..=most).contains(&count), "{share}: {count}");
            assert_eq!(ids.iter().filter(chosen).count(), count);
        }
        let smaller: Vec<_> = ids.iter().filter(|id| is_in(0.1, &mail(id))).collect();
        assert!(smaller.iter().all(|id| is_in(0.2, &mail(id))), "a larger share holds the smaller one");
    }

    #[test]
    fn the_facts_of_a_candidate_are_those_that_the_row_lacks() {
        let known = json!({ "status": "missing", "headers": { "List-Id": ["a"] } });
        let told = json!({ "status": "missing", "trail": [], "recipient": "bob@example.com",
            "headers": { "list-id": ["a"], "Subject": ["b"] } });
        assert_eq!(more(told, &known), json!({ "trail": [], "headers": { "Subject": ["b"] } }));
        let same = json!({ "status": "missing", "headers": { "list-id": ["a"] }, "recipient": "bob@example.com" });
        assert_eq!(more(same, &known), Value::Null);
    }
}
