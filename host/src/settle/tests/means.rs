//! What becomes of a message where its door can do less.

use super::*;
use crate::case::Means;

#[test]
fn what_cannot_be_kept_exactly_is_held_by_the_mta_or_delivered_with_the_mark() {
    use Disposition::{Accept, Mark, Quarantine, Reject};
    let of = |disposition, recipients: &[usize]| Decision {
        recipients: recipients.to_vec(),
        ..decision(disposition, false, false)
    };
    let inexact = |holds| Means { exact: false, holds, ..Means::default() };
    let finding = found(KeyStatus::Invalid, Some(Why::Wrong));
    for (decisions, removed, instead) in [
        (vec![of(Quarantine, &[0, 1])], vec![], true),
        (vec![of(Quarantine, &[0]), of(Accept, &[1])], vec![], true),
        (vec![of(Mark, &[0]), of(Accept, &[1])], vec![], true),
        (vec![of(Quarantine, &[0]), of(Reject, &[1])], vec![1], true),
        (vec![of(Mark, &[0]), of(Reject, &[1])], vec![1], false),
        (vec![of(Mark, &[0, 1])], vec![], false),
    ] {
        let settled = |means| {
            let mail = mail(1, &[]).altered(|envelope, _| envelope.means = means);
            let reply = settle(&mail, &finding, &decisions, &rules(false), &PERMITS);
            Case { mail, finding: finding.clone(), decisions: decisions.clone(), reply }
        };
        let case = settled(inexact(false));
        let marked = case.reply.edits.iter().any(|e| matches!(e, Edit::Insert { name, .. } if name == SPAM_FIELD));
        assert_eq!(
            (&case.reply.verdict, &case.reply.removed, marked),
            (&Verdict::Accept, &removed, true),
            "{decisions:?}"
        );
        assert!(!case.reply.wants_body(), "{decisions:?}");
        assert_eq!(is_marked_instead(&case), instead, "{decisions:?}");
        let held = settled(inexact(true));
        assert!(
            matches!(held.reply.verdict, Verdict::Hold(_)) == instead && !is_marked_instead(&held),
            "{decisions:?}"
        );
        assert!(!is_marked_instead(&settled(Means::default())), "{decisions:?}");
    }
}

#[test]
fn a_door_without_a_hold_queue_or_spam_folders_does_what_it_can() {
    let rules = Rules { hold: true, spam_folder: "+Junk".into(), ..rules(false) };
    let finding = found(KeyStatus::Invalid, Some(Why::Wrong));
    let settled = |disposition, means| {
        let mail = mail(1, &[]).altered(|envelope, _| envelope.means = means);
        let decision = Decision { mark: MarkAs::Folder, ..decision(disposition, false, false) };
        settle(&mail, &finding, &[decision], &rules, &PERMITS)
    };
    let stored = settled(Disposition::Quarantine, Means { holds: false, ..Means::default() });
    assert_eq!(shape(&stored), ("discard", vec![Owed::Record, Owed::Quarantine(vec![0, 1])]));
    assert!(matches!(settled(Disposition::Quarantine, Means::default()).verdict, Verdict::Hold(_)));
    let marked = settled(Disposition::Mark, Means { folders: false, ..Means::default() });
    assert!(
        marked.redirected.is_empty()
            && marked.edits.iter().any(|e| matches!(e, Edit::Insert { name, .. } if name == SPAM_FIELD))
    );
    assert_eq!(settled(Disposition::Mark, Means::default()).redirected.len(), 2);
}
