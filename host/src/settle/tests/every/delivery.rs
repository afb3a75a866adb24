//! Every wish between queue and mailbox: each recipient has one fate, by its own wish alone, and nobody is refused for good.

use super::*;
use crate::case::Door;

/// What is to become of a recipient's copy; the others' wishes do not matter.
fn due((disposition, notify, mark): Wish, first: bool, around: Around) -> Fate {
    let kept = if around.truncated { Fate::Deferred } else { Fate::Kept };
    match disposition {
        Accept => Fate::Plain,
        Mark if around.folder && mark == MarkAs::Folder => Fate::Folder,
        Mark => Fate::Marked,
        Defer => Fate::Deferred,
        Reject if around.refuse && (!notify.sender || around.null) => Fate::Dropped,
        Reject if around.refuse && around.permit && !(around.never && first) => Fate::Reported,
        Reject | Quarantine => kept,
    }
}

/// Reads the fate off the reply.
fn fate_of(reply: &Reply, index: usize) -> Fate {
    let own = reply.variants.iter().find(|variant| variant.recipients.contains(&index));
    let edits = own.map_or(&reply.edits, |variant| &variant.edits);
    let marked = edits.iter().any(|edit| matches!(edit, Edit::Insert { name, .. } if name == SPAM_FIELD));
    let owed = lists(reply, index);
    assert!(owed.len() < 2, "two fates: {owed:?}");
    match &reply.verdict {
        Verdict::Defer(_) => Fate::Deferred,
        _ if reply.put_off.iter().any(|put_off| put_off.recipient == index) => Fate::Deferred,
        Verdict::Discard => owed.first().copied().unwrap_or(Fate::Dropped),
        Verdict::Accept if reply.removed.contains(&index) => owed.first().copied().unwrap_or(Fate::Dropped),
        Verdict::Accept if !owed.is_empty() => panic!("it is delivered, and owed {owed:?}"),
        Verdict::Accept if reply.redirected.iter().any(|redirect| redirect.recipient == index) => {
            assert!(marked, "a copy for the spam folder has the mark");
            Fate::Folder
        }
        Verdict::Accept if marked => Fate::Marked,
        Verdict::Accept => Fate::Plain,
        Verdict::Reject(_) | Verdict::Hold(_) => panic!("neither exists between queue and mailbox"),
    }
}

fn check(wishes: &[Wish], around: Around) {
    let finding = found(KeyStatus::Invalid, Some(Why::Wrong));
    let mail = message(wishes.len(), around).altered(|envelope, _| envelope.door = Door::Delivery);
    let reply = settle(&mail, &finding, &decisions(wishes), &rules_of(around), &permits_of(around));
    let fates: Vec<Fate> = (0..wishes.len()).map(|index| fate_of(&reply, index)).collect();
    let right: Vec<Fate> = wishes.iter().enumerate().map(|(index, wish)| due(*wish, index == 0, around)).collect();
    assert_eq!(fates, right, "{wishes:?}\n{around:?}\n{reply:?}");
    let gets = fates.iter().filter(|fate| matches!(fate, Fate::Plain | Fate::Marked | Fate::Folder)).count();
    assert_eq!((reply.verdict == Verdict::Accept, !reply.edits.is_empty()), (gets > 0, gets > 0), "{reply:?}");
    let notice = |(index, (disposition, notify, _)): (usize, &Wish)| {
        let held_back = matches!(disposition, Reject | Quarantine) && fates[index] != Fate::Deferred;
        (notify.recipient && held_back).then_some(Owed::Notice(index))
    };
    let notices: Vec<Owed> = wishes.iter().enumerate().filter_map(notice).collect();
    let owed = |owed: &&Owed| matches!(owed, Owed::Notice(_));
    assert_eq!(reply.owed.iter().filter(owed).cloned().collect::<Vec<_>>(), notices);
    let lost = fates.iter().any(|fate| matches!(fate, Fate::Dropped | Fate::Reported | Fate::Kept));
    assert_eq!(reply.owed.contains(&Owed::Record), lost, "a copy that is lost stands in a row: {reply:?}");
}

#[test]
fn every_wish_has_its_own_fate_whatever_the_others_wish() {
    let (wishes, surroundings) = (wishes(), surroundings());
    for one in &wishes {
        for around in &surroundings {
            check(&[*one], *around);
        }
        for (number, other) in wishes.iter().enumerate() {
            for (at, around) in surroundings.iter().enumerate() {
                check(&[*one, *other], *around);
                // A third recipient, each time another one.
                check(&[*one, *other, wishes[(number * 7 + at) % wishes.len()]], *around);
            }
        }
    }
}

#[test]
fn whatever_was_found_nothing_is_refused_for_good() {
    let around = Around { refuse: true, permit: true, ..surroundings()[0] };
    let mail = message(2, around).altered(|envelope, _| envelope.door = Door::Delivery);
    let Finding::Found(found) = found(KeyStatus::Invalid, Some(Why::Wrong)) else { panic!("examined") };
    let submitted = Submitted { sender: None, stamp: Stamp::Client, inside: Some(found.clone()) };
    for finding in [
        Finding::Found(found),
        Finding::Submitted(submitted),
        Finding::Unclear,
        Finding::Passing(Direction::Own),
        Finding::Postponed(Postponed::NewKey(Why::Timeout)),
    ] {
        for one in wishes() {
            for number in 0..3 {
                let decisions: Vec<Decision> = decisions(&[one, one]).into_iter().take(number).collect();
                let reply = settle(&mail, &finding, &decisions, &rules_of(around), &permits_of(around));
                assert!(!matches!(reply.verdict, Verdict::Reject(_) | Verdict::Hold(_)), "{finding:?} {reply:?}");
            }
        }
    }
}
