//! What the words of a case mean, for a reader who has never met them.

use super::Account;
use crate::case::{
    By, Decision, Disposition, KeyStatus, NotStamped, Notify, Owed, Why, WrittenCase, WrittenFinding, WrittenFound,
    WrittenStamp, WrittenVerdict, unreported_in,
};
use crate::proto::header::SPAM_FIELD;
use crate::proto::record::Claim;
use crate::store::{Kind, Sending};

/// What was found, in a sentence or two.
pub(super) fn meaning(found: &WrittenFound) -> String {
    let sender = found.sender.as_deref().unwrap_or("the sender");
    let domain = found.sender.as_deref().and_then(|sender| sender.rsplit_once('@')).map_or("?", |(_, domain)| domain);
    let server = match &found.authority {
        Some(authority) => format!("the Authentication Server of {domain} ({authority})"),
        None => format!("the Authentication Server of {domain}"),
    };
    let remembered = if found.cached { " The answer was remembered from a message shortly before." } else { "" };
    match (found.status, found.why) {
        (KeyStatus::Valid, _) if found.authority.is_none() => {
            format!("The message came from {sender}'s own login on this server, so nobody had to be asked.")
        }
        (KeyStatus::Valid, _) => format!(
            "The message carried a key (X-Auth-Key), and {server} says that it belongs to {sender}: it is \
             genuine.{remembered}"
        ),
        (KeyStatus::Invalid, Some(Why::Expired)) => format!(
            "The message carried a key of {sender} that has expired: {server} says that it was right until at most 14 days \
             ago. That is what a message looks like that was under way for too long.{remembered}"
        ),
        (KeyStatus::Invalid, _) => format!(
            "The message carried a key (X-Auth-Key), and {server} says that it is none of {sender}'s: whoever sent the \
             message could not show that he may write as {sender}. It is probably forged.{remembered}"
        ),
        (KeyStatus::Missing, _) => format!(
            "{domain} gives its users keys, and the message carried none (X-Auth-Key). Forwarding and mailing lists take keys away, so \
             that alone does not show a forgery.{}",
            claim(domain, found.claim)
        ),
        (KeyStatus::None, _) => format!(
            "{domain} gives its users no keys (it has no Authentication Server), as is so of most mail today: nothing was \
             found out about the message."
        ),
        (KeyStatus::Unverified, why) => format!("The key could not be checked: {}.", trouble(why, domain)),
        (KeyStatus::Unusable, why) => format!("There is nothing that could be checked: {}.", defect(why)),
    }
}

fn claim(domain: &str, claim: Option<Claim>) -> String {
    match claim {
        Some(Claim::All) => format!(" But {domain} says that all mail it sends itself carries one (m=all)."),
        Some(Claim::Testing) => format!(" {domain} says that it is still trying its keys out (m=testing)."),
        Some(Claim::Some) | None => String::new(),
    }
}

fn trouble(why: Option<Why>, domain: &str) -> String {
    match why {
        Some(Why::Dns) => {
            format!("the look-up in DNS of {domain}'s Authentication Server failed, or gave nothing usable")
        }
        Some(Why::Timeout) => format!("{domain}'s Authentication Server gave no answer in time"),
        Some(Why::Limit) => "too many questions were under way, here or at the Authentication Server".into(),
        Some(Why::NoProof) => "the question was too long to be asked over UDP, and no server offered TLS".into(),
        Some(other) => other.word().into(),
        None => "no reason was kept".into(),
    }
}

fn defect(why: Option<Why>) -> &'static str {
    match why {
        Some(Why::NoFrom) => "the message has no From field, so nobody says who wrote it",
        Some(Why::SeveralFrom) => "the message names several authors in From, and a key speaks for one alone",
        Some(Why::BadAddress) => "what stands in the From field is no usable address",
        Some(Why::NoAddress) => "it is a bounce that names no author in From, so nobody is impersonated",
        Some(Why::SeveralKeys) => "the message carries several keys that differ",
        Some(Why::BadKey) => "what the message carries as a key cannot be one",
        Some(Why::MalformedHeader) => "the header is damaged or too large, and its key field cannot be removed",
        Some(_) | None => "no reason was kept",
    }
}

/// Whose word made it this policy.
pub(super) fn by(decision: &Decision, status: Option<KeyStatus>) -> String {
    let result = status.map_or("the result", KeyStatus::word);
    match decision.by {
        By::AllowList => "because the sender is on the recipient's own list of wanted senders".into(),
        By::Recipient => {
            format!("because the configuration says so for this recipient ([policy.recipient], `{result}`)")
        }
        By::User => format!("because the recipient chose it himself for `{result}`"),
        By::Domain => {
            format!("because the configuration says so for the recipient's domain ([policy.domain], `{result}`)")
        }
        By::Site => format!("because the configuration says so for everybody ([policy], `{result}`)"),
    }
}

/// How long ago a day was.
pub(super) fn ago(days: u64) -> String {
    match days {
        0 => "on the same day".into(),
        1 => "a day before".into(),
        days => format!("{days} days before"),
    }
}

/// A decision as something that is done.
pub(super) fn wish(disposition: Disposition, notify: Notify) -> String {
    let told = match (notify.sender, notify.recipient) {
        (false, false) => "nobody",
        (true, false) => "the sender",
        (false, true) => "the recipient",
        (true, true) => "both sender and recipient",
    };
    match disposition {
        Disposition::Accept => "deliver it".into(),
        Disposition::Mark => "deliver it, marked as suspicious".into(),
        Disposition::Quarantine if notify.recipient => "keep it back, and tell the recipient".into(),
        Disposition::Quarantine => "keep it back until somebody has looked at it".into(),
        Disposition::Reject => format!("do not deliver it, and tell {told}"),
        Disposition::Defer => "have the sending server try again later".into(),
    }
}

/// What became of one recipient's copy.
pub(super) fn fate(account: &Account, decision: &Decision, recipient: usize) -> String {
    let reply = &account.story.reply;
    let owed = |wanted: fn(&Owed) -> Option<&Vec<usize>>| {
        reply.owed.iter().filter_map(wanted).any(|list| list.contains(&recipient))
    };
    let dropped = reply.removed.contains(&recipient) || reply.verdict == WrittenVerdict::Discard;
    let redirected = reply.redirected.iter().map(|redirect| (redirect.recipient, redirect.to.clone()));
    let in_folders = reply.owed.iter().filter_map(|owed| if let Owed::Folder(list) = owed { Some(list) } else { None });
    let in_folders = in_folders.flatten().map(|redirect| (redirect.recipient, redirect.to.to_string()));
    if let Some((_, to)) = redirected.chain(in_folders).find(|(index, _)| *index == recipient) {
        return format!("delivered to the recipient's spam folder, by way of {to}");
    }
    if reply.put_off.iter().any(|put_off| put_off.recipient == recipient) {
        return "put off for this recipient; our mail server is to try again".into();
    }
    match &reply.verdict {
        WrittenVerdict::Hold(_) => {
            let place = "kept back in the mail server's own hold queue, for the postmaster to look at";
            format!("{place}{}", untold(account, decision).unwrap_or_default())
        }
        WrittenVerdict::Reject(_) => "refused; the server that brought it tells the sender".into(),
        WrittenVerdict::Defer(_) => "put off; the server that brought it is to try again".into(),
        _ if dropped && owed(|o| if let Owed::Quarantine(list) = o { Some(list) } else { None }) => {
            format!("kept back in our quarantine{}", instead(account, decision))
        }
        _ if dropped && owed(|o| if let Owed::Copy(list) = o { Some(list) } else { None }) => {
            "delivered as a marked copy of its own".into()
        }
        _ if dropped && owed(|o| if let Owed::Apart(list) = o { Some(list) } else { None }) => {
            let copy = "delivered as a copy of its own, without the key, since the message itself goes elsewhere too";
            let observed = "; all the same, since `observe = true` was in force: policies decide, and no more is done";
            format!("{copy}{}", if decision.disposition == Disposition::Accept { "" } else { observed })
        }
        _ if dropped && owed(|o| if let Owed::Report(list) = o { Some(list) } else { None }) => {
            format!("not delivered; {}", report(account, recipient))
        }
        _ if dropped && reply.verdict == WrittenVerdict::Discard => {
            "dropped: it was delivered to nobody, and the sender hears nothing of it".into()
        }
        _ if dropped => "not delivered to this recipient, and the sender hears nothing of it".into(),
        _ => delivered(reply.added_for(recipient).iter().any(|name| name == SPAM_FIELD), decision.disposition),
    }
}

/// Why a message that was to be refused is kept instead; empty where that was the decision.
fn instead(account: &Account, decision: &Decision) -> String {
    match untold(account, decision) {
        Some(why) => why,
        None if decision.disposition == Disposition::Reject => {
            ", since a relay of ours brought it: what a relay brings is not refused".into()
        }
        None => String::new(),
    }
}

/// Why a sender who was to be told of a refused message is not.
fn untold(account: &Account, decision: &Decision) -> Option<String> {
    let tells = decision.disposition == Disposition::Reject && decision.notify.sender;
    let why = match account.story.reply.unreported {
        Some(why) => Some(why.to_string()),
        None => unreported_in(&account.note).map(str::to_owned),
    };
    tells.then(|| match why {
        Some(why) => format!(", since the sender was to be told and no report may go to him: {why}"),
        None => ", since the sender was to be told and no report may go to him".into(),
    })
}

/// What came of the report about a copy that its sender was to be told of.
fn report(account: &Account, recipient: usize) -> String {
    let sent = &account.traces.sent;
    let path = account.story.recipients.get(recipient).map_or("", String::as_str);
    let address = path.trim_start_matches('<').trim_end_matches('>');
    // A notice that waits is one that will be read.
    let reaches = |outcome: &Option<Sending>| matches!(outcome, None | Some(Sending::Sent));
    let noticed = sent.iter().any(|trace| {
        matches!(trace.kind, Kind::Notice | Kind::Digest)
            && trace.recipient.eq_ignore_ascii_case(address)
            && reaches(&trace.outcome)
    });
    let report = sent.iter().find(|trace| trace.kind == Kind::Report).map(|trace| trace.outcome.as_ref());
    match report {
        None => "a report to the sender was written, and what came of it is not known any more".into(),
        Some(None) => "a report to the sender was written, and waits to be sent".into(),
        Some(Some(Sending::Sent)) => "a report to the sender was written, and sent".into(),
        Some(Some(_)) if noticed => {
            "a report to the sender was written, and given up: the sender was not told of it".into()
        }
        Some(Some(_)) => "a report to the sender was written, and given up: nobody was told of it".into(),
    }
}

/// What became of the copies that do not end here.
pub(super) fn onward(story: &WrittenCase) -> &'static str {
    match (&story.reply.verdict, &story.finding) {
        (WrittenVerdict::Hold(_), _) => "held back with the others', in the mail server's own hold queue",
        (WrittenVerdict::Reject(_), _) => "refused; the server that brought it tells the sender",
        (WrittenVerdict::Defer(_), _) => "put off; the server that brought it is to try again",
        (_, WrittenFinding::Submitted(submitted)) => match submitted.stamp {
            WrittenStamp::Newest(_) | WrittenStamp::Client => "sent on, with the sender's key",
            WrittenStamp::Bare(NotStamped::NotOwner) => "sent on, without a key",
            WrittenStamp::Bare(_) if story.keys > 0 => "sent on, with the key that it brought",
            WrittenStamp::Bare(_) => "sent on, without a key",
        },
        _ => "sent on as recipients here share it: without any key, and with our status field",
    }
}

fn delivered(marked: bool, wished: Disposition) -> String {
    match wished {
        Disposition::Accept if !marked => "delivered".into(),
        Disposition::Mark if marked => format!("delivered, with the field {SPAM_FIELD}: YES that mail filters know"),
        // With `observe = true` nothing is marked.
        _ if marked => format!(
            "delivered, with the field {SPAM_FIELD}: YES that mail filters know, since the mail server does not show the \
             message's own octets and no copy of it could be made"
        ),
        _ => "delivered all the same, since `observe = true` was in force: policies decide, and nothing is done".into(),
    }
}

/// What the mail server was told.
pub(super) fn verdict(story: &WrittenCase) -> String {
    let added = match story.reply.added.as_slice() {
        [] => String::new(),
        names => format!(" Fields written on top of its header: {}.", names.join(", ")),
    };
    let struck = match story.reply.removed.len() {
        0 => String::new(),
        1 => " One recipient was struck off.".into(),
        more => format!(" {more} recipients were struck off."),
    };
    match &story.reply.verdict {
        WrittenVerdict::Accept => format!("To accept the message (250).{struck}{added}"),
        WrittenVerdict::Hold(reason) => format!("To accept the message and hold it: \"{reason}\".{added}"),
        WrittenVerdict::Discard => "To say 250 to the server that brought it, as if all were well, and drop it.".into(),
        WrittenVerdict::Reject(why) => format!("To refuse it for good: \"{} {} {}\".", why.code, why.status, why.text),
        WrittenVerdict::Defer(why) => format!("To refuse it for now: \"{} {} {}\".", why.code, why.status, why.text),
    }
}
