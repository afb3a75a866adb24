//! What a written case counts as where messages are counted: each decision with what came of it, and the sender's domain.

use std::collections::BTreeSet;

use super::{Compared, Decision, Differs, Disposition, Owed, WrittenCase, WrittenFinding, WrittenVerdict};
use crate::proto::header::SPAM_FIELD;

/// What a decision came to for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Carried {
    /// It was carried out.
    InForce,
    /// `observe = true`: it was decided, and the message was delivered all the same.
    Observed,
    /// The message was put off, on account of another recipient or of trouble here.
    PutOff,
}

impl WrittenCase {
    /// The domain in From, in small letters.
    pub fn sender_domain(&self) -> String {
        let domain = self.author().and_then(|sender| sender.rsplit_once('@')).map(|(_, domain)| domain.to_lowercase());
        let none = if self.is_judged() { "(no single usable address)" } else { "(not judged)" };
        domain.unwrap_or_else(|| none.into())
    }

    /// Whether its From field was weighed and is kept: not of mail that was put off or was not ours to judge.
    pub fn is_judged(&self) -> bool {
        matches!(self.finding, WrittenFinding::Found(_) | WrittenFinding::Submitted(_))
    }

    /// The address in From.
    pub fn author(&self) -> Option<&str> {
        match &self.finding {
            WrittenFinding::Found(found) => found.sender.as_deref(),
            WrittenFinding::Submitted(submitted) => submitted.sender.as_deref(),
            WrittenFinding::Passing(_) | WrittenFinding::Postponed(_) | WrittenFinding::Unclear => None,
        }
    }

    /// What was decided, by the decision's word, each once for each thing that came of it.
    pub fn carried(&self) -> BTreeSet<(&'static str, Carried)> {
        let treated_apart = self.treated_apart();
        let each = |decision: &Decision| {
            let came_to = |index: &usize| self.came_to(decision.disposition, *index, treated_apart.contains(index));
            decision.recipients.iter().map(|index| (decision.disposition.word(), came_to(index))).collect::<Vec<_>>()
        };
        match self.decisions.as_slice() {
            [] if matches!(self.reply.verdict, WrittenVerdict::Defer(_)) => [("nothing", Carried::PutOff)].into(),
            [] => [("nothing", Carried::InForce)].into(),
            decisions => decisions.iter().flat_map(each).collect(),
        }
    }

    /// What candidates decided beside the policies: the policy, the candidate in few digits, and how it differs.
    pub fn shadows(&self) -> Vec<(&str, String, Differs)> {
        let mut shadows = Vec::new();
        for decision in &self.decisions {
            let Some(shadow) = &decision.shadow else { continue };
            let candidate = shadow.candidate();
            let told = |compared: Compared<'_>| (decision.policy.as_str(), candidate.clone(), compared.differs);
            shadows.extend(decision.compared().into_iter().map(told));
        }
        shadows
    }

    /// The recipients who do not get an accepted message as it is.
    fn treated_apart(&self) -> BTreeSet<usize> {
        let reply = &self.reply;
        // A copy apart is the message as it is: whoever is to get another one is observed alone.
        let as_it_is = reply.owed.iter().filter_map(|owed| if let Owed::Apart(who) = owed { Some(who) } else { None });
        let as_it_is: BTreeSet<usize> = as_it_is.flatten().copied().collect();
        let struck_out = reply.removed.iter().copied().filter(|index| !as_it_is.contains(index));
        let put_off = reply.put_off.iter().map(|put_off| put_off.recipient);
        struck_out.chain(reply.redirected.iter().map(|redirect| redirect.recipient)).chain(put_off).collect()
    }

    fn came_to(&self, decided: Disposition, index: usize, is_apart: bool) -> Carried {
        let reply = &self.reply;
        let untouched = reply.verdict == WrittenVerdict::Accept && !is_apart;
        let marked = reply.added_for(index).iter().any(|name| name == SPAM_FIELD);
        match (decided, &reply.verdict) {
            (Disposition::Accept, WrittenVerdict::Accept) => Carried::InForce,
            (Disposition::Mark, _) if untouched && marked => Carried::InForce,
            _ if untouched => Carried::Observed,
            (Disposition::Defer, _) => Carried::InForce,
            (_, WrittenVerdict::Defer(_)) => Carried::PutOff,
            _ => Carried::InForce,
        }
    }
}
