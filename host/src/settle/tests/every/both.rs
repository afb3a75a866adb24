//! The same where some recipients are elsewhere: every wish of those here, whoever brings the message.

use super::*;

/// Who brings the message, and so what its recipients may share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bringer {
    /// A stranger: one message, stripped for all.
    Stranger,
    /// A login of ours, whose mail is stamped on its way out.
    Stamped,
    /// A login of ours whose client put a key there, or did not.
    Client,
    Bare,
}

const BRINGERS: [Bringer; 4] = [Bringer::Stranger, Bringer::Stamped, Bringer::Client, Bringer::Bare];

/// `None` for a recipient elsewhere.
type Wishes<'a> = &'a [Option<Wish>];

fn elsewhere(wishes: Wishes) -> Vec<usize> {
    wishes.iter().enumerate().filter(|(_, wish)| wish.is_none()).map(|(index, _)| index).collect()
}

/// A message with a key where the bringer's has one, our words that it brings, and a mark of ours.
fn brought(count: usize, around: Around, bringer: Bringer) -> Mail {
    let keys = if bringer == Bringer::Bare { 0 } else { 1 };
    let login = (bringer != Bringer::Stranger).then(|| "alice".to_owned());
    let fields = mail(0, &["From", STATUS_FIELD]).head().fields.clone();
    message(count, around).altered(|envelope, head| {
        envelope.login = login;
        head.keys = vec![None; keys];
        head.fields = fields;
    })
}

fn finding(wishes: Wishes, bringer: Bringer) -> Finding {
    let found = Found { elsewhere: elsewhere(wishes), ..Found::bare(KeyStatus::Invalid, Some(Why::Wrong), None) };
    let stamp = match bringer {
        Bringer::Stranger => return Finding::Found(found),
        Bringer::Stamped => Stamp::Newest(AuthKey::parse(&[b'k'; 64]).unwrap()),
        Bringer::Client => Stamp::Client,
        Bringer::Bare => Stamp::Bare(NotStamped::NoKey),
    };
    Finding::Submitted(Submitted { sender: None, stamp, inside: Some(found) })
}

fn decided(wishes: Wishes) -> Vec<Decision> {
    let each = |(index, wish): (usize, &Option<Wish>)| {
        let (disposition, notify, mark) = (*wish)?;
        Some(Decision { recipients: vec![index], mark, ..decision(disposition, notify.sender, notify.recipient) })
    };
    wishes.iter().enumerate().filter_map(each).collect()
}

fn settled(wishes: Wishes, around: Around, bringer: Bringer, observe: bool) -> Reply {
    let mail = brought(wishes.len(), around, bringer);
    let rules = Rules { observe, authentication_results: true, ..rules_of(around) };
    settle(&mail, &finding(wishes, bringer), &decided(wishes), &rules, &permits_of(around))
}

/// What is to become of a login's copies: those here are treated as if the message went to them alone, each by himself, and
/// those elsewhere get it.
fn due_apart(wishes: Wishes, index: usize, around: Around) -> Fate {
    let here = || wishes.iter().flatten();
    if here().any(|(disposition, ..)| *disposition == Defer) {
        return Fate::Deferred;
    }
    let alone = |index: usize| {
        let Some((disposition, notify, mark)) = wishes[index] else { return Fate::Plain };
        let reports = around.permit && !(around.never && index == 0);
        match disposition {
            Accept => Fate::Apart,
            Mark if around.folder && mark == MarkAs::Folder => Fate::InFolder,
            Mark => Fate::Copied,
            Reject if around.refuse && (!notify.sender || around.null) => Fate::Dropped,
            Reject if around.refuse && reports => Fate::Reported,
            _ => Fate::Kept,
        }
    };
    let copied = |fate| matches!(fate, Fate::Apart | Fate::InFolder | Fate::Copied | Fate::Kept);
    if around.truncated && (0..wishes.len()).map(alone).any(copied) {
        return Fate::Refused;
    }
    alone(index)
}

fn inserted(reply: &Reply) -> Vec<&str> {
    let name = |edit: &'_ Edit| match edit {
        Edit::Insert { name, .. } => Some(name.clone()),
        Edit::InsertKey { .. } => Some(KEY_FIELD.to_owned()),
        Edit::Delete { .. } => None,
    };
    let all = [STATUS_FIELD, RESULTS_FIELD, SPAM_FIELD, AGENT_FIELD, KEY_FIELD];
    let there: Vec<String> = reply.edits.iter().filter_map(name).collect();
    all.into_iter().filter(|name| there.iter().any(|known| known == name)).collect()
}

fn deletes(reply: &Reply, name: &str) -> bool {
    reply.edits.iter().any(|edit| matches!(edit, Edit::Delete { name: known, .. } if known == name))
}

fn check(wishes: Wishes, surroundings: &[Around]) {
    for around in surroundings {
        for bringer in BRINGERS {
            let reply = settled(wishes, *around, bringer, false);
            let outcome = match bringer {
                Bringer::Stranger => of_a_stranger(wishes, *around, &reply),
                _ => of_a_login(wishes, *around, bringer, &reply),
            };
            if let Err(wrong) = outcome {
                panic!("{wishes:?}\n{around:?} {bringer:?}\n{reply:?}\n{wrong}");
            }
        }
    }
}

/// Whoever is elsewhere gets it like one who accepts it; the key is gone for all, and the status is there for all.
fn of_a_stranger(wishes: Wishes, around: Around, reply: &Reply) -> Result<(), String> {
    let accept = (Accept, Notify::default(), MarkAs::Header);
    let as_if: Vec<Wish> = wishes.iter().map(|wish| wish.unwrap_or(accept)).collect();
    hold_true(&as_if, around, reply)?;
    if matches!(reply.verdict, Verdict::Accept | Verdict::Hold(_)) {
        let good = deletes(reply, KEY_FIELD) && inserted(reply) == [STATUS_FIELD, RESULTS_FIELD];
        return if good { Ok(()) } else { Err("the key stays, or the status is not there".into()) };
    }
    if reply.edits.is_empty() { Ok(()) } else { Err("edits of what is not accepted".into()) }
}

/// Those elsewhere get what was submitted, stamped or not, and no word of ours; nobody here gets the same message.
fn of_a_login(wishes: Wishes, around: Around, bringer: Bringer, reply: &Reply) -> Result<(), String> {
    let want = |truth: bool, what: &str| if truth { Ok(()) } else { Err(what.to_owned()) };
    for index in 0..wishes.len() {
        let fate = fate_of(reply, index).map_err(|e| format!("recipient {index}: {e}"))?;
        let right = due_apart(wishes, index, around);
        want(fate == right, &format!("recipient {index} is {fate:?} and not {right:?}"))?;
        let goes_out = wishes[index].is_none() && reply.verdict == Verdict::Accept;
        want(goes_out == (fate == Fate::Plain), "somebody here gets the message that goes out")?;
    }
    want(reply.redirected.is_empty(), "a folder here for the message that goes out")?;
    let defers = wishes.iter().flatten().any(|(disposition, ..)| *disposition == Defer);
    if reply.verdict == Verdict::Accept {
        let stamp: &[&str] = if bringer == Bringer::Stamped { &[AGENT_FIELD, KEY_FIELD] } else { &[] };
        want(inserted(reply) == stamp, "a field of ours goes out, or the stamp does not")?;
        want(deletes(reply, STATUS_FIELD), "a forged status goes out")?;
        let first = reply.owed.first() == Some(&Owed::Record);
        want(first && reply.owed.iter().filter(|owed| **owed == Owed::Record).count() == 1, "no row, or two")?;
    } else {
        want(reply.edits.is_empty() && reply.owed.is_empty(), "what is not taken is edited, or owes")?;
    }
    let reported = reply.owes_report();
    want(!reported || around.permit && !around.null, "a report without a permit")?;
    let notice = |owed: &Owed| if let Owed::Notice(index) = owed { Some(*index) } else { None };
    let notices: Vec<usize> = reply.owed.iter().filter_map(notice).collect();
    let noticed = |(_, wish): &(usize, &Option<Wish>)| {
        wish.is_some_and(|(disposition, notify, _)| notify.recipient && matches!(disposition, Reject | Quarantine))
    };
    let due: Vec<usize> = wishes.iter().enumerate().filter(noticed).map(|(index, _)| index).collect();
    let taken = !defers && reply.verdict == Verdict::Accept;
    want(notices == if taken { due } else { Vec::new() }, "notices to others than those who are to have one")
}

#[test]
fn one_here_and_one_elsewhere_have_exactly_one_fate_each() {
    let surroundings = surroundings();
    for wish in wishes() {
        check(&[Some(wish), None], &surroundings);
        check(&[None, Some(wish)], &surroundings);
    }
}

#[test]
fn two_here_and_one_elsewhere_have_exactly_one_fate_each() {
    let surroundings = surroundings();
    for (number, one) in wishes().into_iter().enumerate() {
        for (other_number, other) in wishes().into_iter().enumerate() {
            let at = (number * 40 + other_number) * 41;
            let some: Vec<Around> = (0..4).map(|turn| surroundings[(at + 32 * turn) % 128]).collect();
            check(&[Some(one), None, Some(other)], &some);
            check(&[None, Some(one), Some(other)], &some);
        }
    }
}

#[test]
fn whoever_is_elsewhere_is_decided_about_by_nobody_and_whoever_is_here_by_somebody() {
    let around = Around { refuse: true, permit: true, ..surroundings()[0] };
    for bringer in BRINGERS {
        let (mail, rules) = (brought(2, around, bringer), rules_of(around));
        let finding = finding(&[Some((Accept, Notify::default(), MarkAs::Header)), None], bringer);
        for recipients in [&[0, 1][..], &[1], &[], &[0, 0]] {
            let decisions = [Decision { recipients: recipients.to_vec(), ..decision(Accept, false, false) }];
            let reply = settle(&mail, &finding, &decisions, &rules, &permits_of(around));
            assert!(matches!(reply.verdict, Verdict::Defer(_)), "{bringer:?} {recipients:?}: {reply:?}");
        }
    }
}

#[test]
fn observing_takes_the_key_from_those_here_and_does_nothing_else() {
    for wish in wishes() {
        for around in surroundings() {
            let settled = |bringer| settled(&[Some(wish), None], around, bringer, true);
            let stranger = settled(Bringer::Stranger);
            assert_eq!(Reply { edits: vec![], ..stranger.clone() }, Reply::bare(Verdict::Accept));
            assert!(deletes(&stranger, KEY_FIELD) && inserted(&stranger) == [STATUS_FIELD, RESULTS_FIELD]);

            let bare = settled(Bringer::Bare);
            assert_eq!(Reply { edits: vec![], ..bare.clone() }, Reply::bare(Verdict::Accept), "no key, no copy");
            assert!(inserted(&bare).is_empty() && deletes(&bare, STATUS_FIELD));

            for (bringer, stamp) in [(Bringer::Stamped, &[AGENT_FIELD, KEY_FIELD][..]), (Bringer::Client, &[])] {
                let reply = settled(bringer);
                assert_eq!(reply.verdict, Verdict::Accept);
                if around.truncated {
                    // No copy could be whole: then the key goes to nobody.
                    assert!(deletes(&reply, KEY_FIELD) && inserted(&reply).is_empty() && reply.removed.is_empty());
                } else {
                    assert_eq!(
                        (&reply.removed[..], &reply.owed[..]),
                        (&[0][..], &[Owed::Record, Owed::Apart(vec![0])][..])
                    );
                    assert_eq!(inserted(&reply), stamp);
                }
            }
        }
    }
}

#[test]
fn who_cannot_be_written_to_keeps_the_message_from_going_both_ways() {
    let around = Around { refuse: true, permit: true, ..surroundings()[0] };
    let wish = Some((Accept, Notify::default(), MarkAs::Header));
    let mail = brought(2, around, Bringer::Stamped)
        .altered(|envelope, _| envelope.recipients[0] = Recipient::new("<postmaster>"));
    let finding = finding(&[wish, None], Bringer::Stamped);
    let settled = |observe| {
        let rules = Rules { observe, ..rules_of(around) };
        settle(&mail, &finding, &decided(&[wish, None]), &rules, &permits_of(around))
    };
    let refused = settled(false);
    assert!(matches!(&refused.verdict, Verdict::Reject(refusal) if refusal.code == 550), "{refused:?}");
    let observed = settled(true);
    assert_eq!(observed.verdict, Verdict::Accept);
    assert!(deletes(&observed, KEY_FIELD) && inserted(&observed).is_empty() && observed.removed.is_empty());
}
