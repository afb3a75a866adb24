//! Every combination of wishes for one to three recipients, held against what must be true whatever was decided.

use std::collections::BTreeSet;

mod both;
mod delivery;

use super::*;
use Disposition::{Accept, Defer, Mark, Quarantine, Reject};

/// What one recipient's decision says.
type Wish = (Disposition, Notify, MarkAs);

/// What else an answer hangs on.
#[derive(Clone, Copy, Debug)]
struct Around {
    null: bool,
    permit: bool,
    /// The first recipient wants no report.
    never: bool,
    refuse: bool,
    hold: bool,
    folder: bool,
    truncated: bool,
}

/// What became of one recipient's copy, as the reply shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    Plain,
    Marked,
    Folder,
    Copied,
    Apart,
    InFolder,
    Dropped,
    Reported,
    Kept,
    Held,
    Refused,
    Deferred,
}

/// All wishes: five dispositions, four ways to tell, two ways to mark.
fn wishes() -> Vec<Wish> {
    let mut all = Vec::new();
    for disposition in [Accept, Mark, Quarantine, Reject, Defer] {
        for (sender, recipient) in [(false, false), (false, true), (true, false), (true, true)] {
            all.extend([MarkAs::Header, MarkAs::Folder].map(|mark| (disposition, Notify { sender, recipient }, mark)));
        }
    }
    all
}

fn surroundings() -> Vec<Around> {
    let bit = |bits: u32, at: u32| bits >> at & 1 == 1;
    let around = |bits| Around {
        null: bit(bits, 0),
        permit: bit(bits, 1),
        never: bit(bits, 2),
        refuse: bit(bits, 3),
        hold: bit(bits, 4),
        folder: bit(bits, 5),
        truncated: bit(bits, 6),
    };
    (0..128).map(around).collect()
}

fn message(recipients: usize, around: Around) -> Mail {
    let recipient = |index: usize| Recipient {
        never_notify: around.never && index == 0,
        ..Recipient::new(format!("<r{index}@home.example>"))
    };
    let path = Address::parse(b"alice@example.com", false).ok();
    mail(1, &["From"]).altered(|envelope, head| {
        envelope.reverse_path = if around.null { ReversePath::Null } else { ReversePath::Path(path) };
        envelope.recipients = (0..recipients).map(recipient).collect();
        head.truncated = around.truncated;
    })
}

fn rules_of(around: Around) -> Rules {
    let spam_folder = if around.folder { "+Junk".to_owned() } else { String::new() };
    Rules { hold: around.hold, spam_folder, ..rules(false) }
}

fn permits_of(around: Around) -> Permits {
    Permits { report: if around.permit { Ok(()) } else { Err(Unreported::Unvouched) }, refuse: around.refuse }
}

/// One decision for each recipient.
fn decisions(wishes: &[Wish]) -> Vec<Decision> {
    let each = |(index, (disposition, notify, mark)): (usize, &Wish)| Decision {
        recipients: vec![index],
        mark: *mark,
        ..decision(*disposition, notify.sender, notify.recipient)
    };
    wishes.iter().enumerate().map(each).collect()
}

fn is_marked(reply: &Reply) -> bool {
    reply.edits.iter().any(|edit| matches!(edit, Edit::Insert { name, .. } if name == SPAM_FIELD))
}

/// The lists of what is owed in which this recipient stands; a notice is beside his fate, not a fate.
fn lists(reply: &Reply, index: usize) -> Vec<Fate> {
    let list = |owed: &Owed| match owed {
        Owed::Quarantine(who) => who.iter().filter(|i| **i == index).map(|_| Fate::Kept).collect(),
        Owed::Copy(who) => who.iter().filter(|i| **i == index).map(|_| Fate::Copied).collect(),
        Owed::Apart(who) => who.iter().filter(|i| **i == index).map(|_| Fate::Apart).collect(),
        Owed::Folder(who) => who.iter().filter(|to| to.recipient == index).map(|_| Fate::InFolder).collect(),
        Owed::Report(who) => who.iter().filter(|i| **i == index).map(|_| Fate::Reported).collect(),
        Owed::Record | Owed::Notice(_) | Owed::RulesUnread(_) => Vec::new(),
    };
    reply.owed.iter().flat_map(list).collect()
}

/// Reads the fate off the reply; more than one is a failure.
fn fate_of(reply: &Reply, index: usize) -> Result<Fate, String> {
    let owed = lists(reply, index);
    let redirected = reply.redirected.iter().filter(|redirect| redirect.recipient == index).count();
    let removed = reply.removed.iter().filter(|i| **i == index).count();
    let gone = match reply.verdict {
        Verdict::Accept => removed == 1,
        Verdict::Discard => true,
        _ => false,
    };
    if owed.len() > usize::from(gone) || removed + redirected > 1 || (removed == 1 && !gone) {
        return Err(format!("{owed:?}, struck out {removed} times, sent elsewhere {redirected} times"));
    }
    Ok(match &reply.verdict {
        Verdict::Accept | Verdict::Discard if gone => owed.first().copied().unwrap_or(Fate::Dropped),
        Verdict::Accept if redirected == 1 => Fate::Folder,
        Verdict::Accept if is_marked(reply) => Fate::Marked,
        Verdict::Accept => Fate::Plain,
        Verdict::Hold(_) => Fate::Held,
        Verdict::Reject(_) => Fate::Refused,
        _ => Fate::Deferred,
    })
}

/// What is to become of one recipient's copy, by his own wish and by what the others' wishes rule out.
fn due(wishes: &[Wish], index: usize, around: Around) -> Fate {
    let gets_told = |(disposition, notify, _): &Wish| *disposition == Reject && notify.sender && around.refuse;
    if wishes.iter().any(|(disposition, ..)| *disposition == Defer) {
        return Fate::Deferred;
    }
    if wishes.iter().all(gets_told) {
        return Fate::Refused;
    }
    let others_plain = wishes.iter().any(|(disposition, ..)| *disposition == Accept);
    let alone = |index: usize| {
        let (disposition, notify, mark) = wishes[index];
        let reports = around.permit && !(around.never && index == 0);
        match disposition {
            Accept => Fate::Plain,
            Mark if around.folder && (others_plain || mark == MarkAs::Folder) => Fate::Folder,
            Mark if others_plain => Fate::Copied,
            Mark => Fate::Marked,
            Reject if around.refuse && (!notify.sender || around.null) => Fate::Dropped,
            Reject if around.refuse && reports => Fate::Reported,
            _ => Fate::Kept,
        }
    };
    let all: Vec<Fate> = (0..wishes.len()).map(alone).collect();
    // What cannot be copied whole, and what the MTA is to keep, stays with the MTA.
    let unwhole = around.truncated && all.iter().any(|fate| matches!(fate, Fate::Kept | Fate::Copied));
    if unwhole || around.hold && all.iter().all(|fate| *fate == Fate::Kept) {
        return Fate::Held;
    }
    all[index]
}

/// What is true of every reply.
fn hold_true(wishes: &[Wish], around: Around, reply: &Reply) -> Result<(), String> {
    let want = |truth: bool, what: &str| if truth { Ok(()) } else { Err(what.to_owned()) };
    let mut fates = Vec::new();
    for index in 0..wishes.len() {
        let fate = fate_of(reply, index).map_err(|e| format!("recipient {index}: {e}"))?;
        let right = due(wishes, index, around);
        want(fate == right, &format!("recipient {index} is {fate:?} and not {right:?}"))?;
        fates.push(fate);
    }
    let has = |fate| fates.contains(&fate);
    let accepts = reply.verdict == Verdict::Accept;
    let struck: BTreeSet<usize> = reply.removed.iter().copied().collect();
    want(struck.len() == reply.removed.len(), "somebody is struck out twice")?;
    want(struck.iter().all(|index| *index < wishes.len()), "somebody is struck out who is not there")?;
    want(struck.is_empty() || accepts, "recipients are struck out of a message that nobody gets")?;
    want(struck.len() < wishes.len(), "an empty envelope")?;
    want(reply.redirected.is_empty() || accepts, "a folder for a message that nobody gets")?;
    let lost = |fate: &&Fate| {
        matches!(fate, Fate::Dropped | Fate::Reported | Fate::Kept | Fate::Copied | Fate::Apart | Fate::InFolder)
    };
    let gone = fates.iter().filter(lost).count();
    let recorded = reply.owed.iter().filter(|owed| **owed == Owed::Record).count();
    want(
        recorded == usize::from(gone > 0 || has(Fate::Held)),
        "whoever does not get it from the MTA stands in one row",
    )?;
    let refuses = matches!(reply.verdict, Verdict::Reject(_));
    let agreed = wishes.iter().all(|(disposition, notify, _)| *disposition == Reject && notify.sender);
    want(refuses == (agreed && around.refuse), "a refusal is for a message that all want refused")?;
    want(!has(Fate::Reported) || around.permit && !around.null, "a report without a permit")?;
    let edited = !reply.edits.is_empty();
    want(edited == (accepts || has(Fate::Held)), "a message is edited that is not kept, or is kept as it came")?;
    want(!is_marked(reply) || !has(Fate::Plain), "a mark on a copy that is to have none")?;
    want(!(reply.wants_body() && around.truncated), "a copy of what is not whole")?;
    // INVARIANTS §3.5: the row of such a message may wait.
    let whole = accepts && struck.is_empty() || matches!(reply.verdict, Verdict::Reject(_) | Verdict::Defer(_));
    want(whole || !reply.owed.is_empty(), "a message is not for all what it is for one, and nothing is owed")?;
    told(wishes, reply)
}

/// Notices go to exactly those whose copy was held back or refused and who are to be told, once.
fn told(wishes: &[Wish], reply: &Reply) -> Result<(), String> {
    let notice = |owed: &Owed| if let Owed::Notice(index) = owed { Some(*index) } else { None };
    let notices: Vec<usize> = reply.owed.iter().filter_map(notice).collect();
    let deferred = matches!(reply.verdict, Verdict::Defer(_));
    let due = |(_, (disposition, notify, _)): &(usize, &Wish)| {
        !deferred && notify.recipient && matches!(disposition, Reject | Quarantine)
    };
    let due: Vec<usize> = wishes.iter().enumerate().filter(due).map(|(index, _)| index).collect();
    if notices != due {
        return Err(format!("notices to {notices:?} and not to {due:?}"));
    }
    if deferred && !reply.owed.is_empty() { Err("a deferral that owes".into()) } else { Ok(()) }
}

fn check(wishes: &[Wish], surroundings: &[Around]) {
    let finding = found(KeyStatus::Invalid, Some(Why::Wrong));
    let decisions = decisions(wishes);
    for around in surroundings {
        let mail = message(wishes.len(), *around);
        let reply = settle(&mail, &finding, &decisions, &rules_of(*around), &permits_of(*around));
        if let Err(wrong) = hold_true(wishes, *around, &reply) {
            panic!("{wishes:?}\n{around:?}\n{reply:?}\n{wrong}");
        }
    }
}

#[test]
fn every_wish_of_one_and_two_recipients_has_exactly_one_fate_each() {
    let (wishes, surroundings) = (wishes(), surroundings());
    for one in &wishes {
        check(&[*one], &surroundings);
        for other in &wishes {
            check(&[*one, *other], &surroundings);
        }
    }
}

/// All 64,000 triples: in all 128 surroundings with `ADDRAUTH_LONG=1`, else each of them in another four.
#[test]
fn every_wish_of_three_recipients_has_exactly_one_fate_each() {
    let (wishes, surroundings) = (wishes(), surroundings());
    let long = std::env::var_os("ADDRAUTH_LONG").is_some();
    let mut count = 0;
    for (a, one) in wishes.iter().enumerate() {
        for (b, other) in wishes.iter().enumerate() {
            for (c, third) in wishes.iter().enumerate() {
                let triple = [*one, *other, *third];
                // 41 is prime to 128, so neighbours meet other surroundings; 32 apart, folder and truncation take all turns.
                let at = (a * 1_600 + b * 40 + c) * 41;
                let four: Vec<Around> = (0..4).map(|turn| surroundings[(at + 32 * turn) % 128]).collect();
                let some = if long { &surroundings } else { &four };
                check(&triple, some);
                count += some.len();
            }
        }
    }
    assert_eq!(count, 64_000 * if long { 128 } else { 4 });
}

#[test]
fn it_makes_no_difference_whether_recipients_share_a_decision() {
    let finding = found(KeyStatus::Invalid, Some(Why::Wrong));
    for (number, one) in wishes().into_iter().enumerate() {
        for (other_number, other) in wishes().into_iter().enumerate() {
            let around = surroundings()[(number * 40 + other_number) * 41 % 128];
            let mail = message(3, around);
            let apart = decisions(&[one, other, one]);
            let mut shared = apart[..2].to_vec();
            shared[0].recipients = vec![2, 0];
            let [apart, shared] = [apart, shared]
                .map(|decisions| settle(&mail, &finding, &decisions, &rules_of(around), &permits_of(around)));
            assert_eq!(apart, shared, "{one:?} {other:?} {around:?}");
        }
    }
}

#[test]
fn whoever_is_decided_about_twice_or_never_has_the_message_deferred() {
    let around = Around { refuse: true, permit: true, ..surroundings()[0] };
    let finding = found(KeyStatus::Invalid, Some(Why::Wrong));
    let settled = |mut decisions: Vec<Decision>, recipients: &[&[usize]]| {
        for (decision, recipients) in decisions.iter_mut().zip(recipients) {
            decision.recipients = recipients.to_vec();
        }
        settle(&message(2, around), &finding, &decisions, &rules_of(around), &permits_of(around))
    };
    for one in wishes() {
        for other in wishes() {
            for recipients in [[&[0][..], &[0]], [&[0, 1], &[1]], [&[0, 0], &[1]], [&[0], &[]], [&[1], &[7]]] {
                let reply = settled(decisions(&[one, other]), &recipients);
                assert!(matches!(reply.verdict, Verdict::Defer(_)), "{one:?} {other:?} {recipients:?}: {reply:?}");
                assert!(reply.owed.is_empty() && reply.removed.is_empty() && reply.redirected.is_empty());
            }
        }
    }
}

#[test]
fn observing_changes_nothing_for_anybody() {
    let finding = found(KeyStatus::Invalid, Some(Why::Wrong));
    for one in wishes() {
        for other in wishes() {
            for around in surroundings() {
                let rules = Rules { observe: true, ..rules_of(around) };
                let reply =
                    settle(&message(2, around), &finding, &decisions(&[one, other]), &rules, &permits_of(around));
                let edits = reply.edits.len();
                assert_eq!(Reply { edits: vec![], ..reply.clone() }, Reply::bare(Verdict::Accept));
                assert!(edits == 2 && !is_marked(&reply), "one key away, one status: {:?}", reply.edits);
            }
        }
    }
}

#[test]
fn mail_to_the_spam_folder_already_is_left_where_it_goes() {
    let around = Around { folder: true, ..surroundings()[0] };
    let mail =
        message(2, around).altered(|envelope, _| envelope.recipients[0] = Recipient::new("<r0+Junk@home.example>"));
    let wishes = [(Mark, Notify::default(), MarkAs::Folder), (Mark, Notify::default(), MarkAs::Folder)];
    let finding = found(KeyStatus::Invalid, Some(Why::Wrong));
    let reply = settle(&mail, &finding, &decisions(&wishes), &rules_of(around), &permits_of(around));
    let redirected: Vec<(usize, String)> = reply.redirected.iter().map(|r| (r.recipient, r.to.to_string())).collect();
    assert_eq!(redirected, [(1, "r1+Junk@home.example".to_owned())], "taken out and put in again, an MTA may lose him");
    assert!(reply.removed.is_empty() && reply.verdict == Verdict::Accept);
}

#[test]
fn the_table_of_the_six_scenarios_is_as_published() {
    let wish = |disposition, sender, recipient| (disposition, Notify { sender, recipient }, MarkAs::Header);
    let accept = wish(Accept, false, false);
    let row = |name, one, agreed, mixed, null, null_mixed| (name, one, [agreed, mixed, null, null_mixed]);
    use Fate::{Copied, Dropped, Kept, Marked, Plain, Refused, Reported};
    // All agree, mixed with one who accepts; then both for a null reverse-path.
    let table = [
        row("1 accept", accept, Plain, Plain, Plain, Plain),
        row("2 mark", wish(Mark, false, false), Marked, Copied, Marked, Copied),
        row("3 tell nobody", wish(Reject, false, false), Dropped, Dropped, Dropped, Dropped),
        row("4 tell the sender", wish(Reject, true, false), Refused, Reported, Refused, Dropped),
        row("5 tell the recipient", wish(Reject, false, true), Dropped, Dropped, Dropped, Dropped),
        row("6 tell both", wish(Reject, true, true), Refused, Reported, Refused, Dropped),
        row("quarantine", wish(Quarantine, false, false), Kept, Kept, Kept, Kept),
    ];
    let finding = found(KeyStatus::Invalid, Some(Why::Wrong));
    for (name, one, fates) in table {
        for (fate, (null, mixed)) in fates.into_iter().zip([(false, false), (false, true), (true, false), (true, true)])
        {
            let around = Around { null, permit: true, refuse: true, ..surroundings()[0] };
            let wishes = if mixed { vec![one, accept] } else { vec![one, one] };
            let mail = message(2, around);
            let reply = settle(&mail, &finding, &decisions(&wishes), &rules_of(around), &permits_of(around));
            assert_eq!(fate_of(&reply, 0), Ok(fate), "{name}, null {null}, mixed {mixed}: {reply:?}");
            let other = if mixed { Plain } else { fate };
            assert_eq!(fate_of(&reply, 1), Ok(other), "{name}, null {null}, mixed {mixed}: {reply:?}");
            let notices = usize::from(one.1.recipient) * if mixed { 1 } else { 2 };
            assert_eq!(reply.owed.iter().filter(|owed| matches!(owed, Owed::Notice(_))).count(), notices, "{name}");
        }
    }
}
