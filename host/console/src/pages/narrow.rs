//! An account of a message as far as somebody may see it: other recipients, and what became of their copies, left out.

use addrauth::why::Account;

use crate::who::Scope;

/// Who stands for a recipient that may not be seen.
pub(super) const OTHER: &str = "another recipient";

/// What of an account may be seen; absent where it is nothing.
pub(super) fn narrowed(mut account: Account, scope: &Scope) -> Option<Account> {
    if scope.is_all() {
        return Some(account);
    }
    let story = &mut account.story;
    let seen: Vec<bool> = story.recipients.iter().map(|recipient| scope.includes(recipient)).collect();
    if !seen.contains(&true) {
        return None;
    }
    let is_whole = !seen.contains(&false);
    let may = |index: &usize| seen.get(*index).copied().unwrap_or(false);
    for (recipient, seen) in story.recipients.iter_mut().zip(&seen) {
        if !seen {
            *recipient = OTHER.into();
        }
    }
    let proofs = std::mem::take(&mut account.proofs);
    let mut proofs = proofs.into_iter();
    let mut kept = Vec::new();
    for mut decision in std::mem::take(&mut story.decisions) {
        let proof = proofs.next();
        decision.recipients.retain(may);
        if decision.recipients.is_empty() {
            continue;
        }
        if let Some(facts) = decision.facts.as_object_mut().filter(|_| !is_whole) {
            facts.remove("recipient");
        }
        // What an administrator wrote for everybody, such as a list of addresses.
        decision.settings = serde_json::Value::Null;
        decision.shadow = decision.shadow.filter(|_| is_whole);
        story.decisions.push(decision);
        kept.extend(proof);
    }
    account.proofs = kept;
    let reply = &mut story.reply;
    reply.removed.retain(may);
    reply.redirected.retain(|redirect| may(&redirect.recipient));
    reply.variants.iter_mut().for_each(|variant| variant.recipients.retain(may));
    reply.variants.retain(|variant| !variant.recipients.is_empty());
    reply.put_off.retain(|put_off| may(&put_off.recipient));
    account.traces.sent.retain(|sent| scope.includes(&sent.recipient));
    account.traces.held.retain(|held| scope.includes(&held.recipient));
    if !is_whole {
        account.note.clear();
        account.story.login = None;
    }
    Some(account)
}
