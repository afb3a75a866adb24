//! Users' own rules: what of them counts (INVARIANTS §1.5).

use super::*;
use crate::case::By;

const OPEN: [&str; 4] = ["accept", "mark", "reject-notify-sender", "reject-silently"];

/// Each decision that a text can say, as the line for a result; the last one only for a wrong key.
const DECISIONS: [&str; 6] =
    ["accept", "mark", "defer", "quarantine", "reject, tell the sender", "reject, tell nobody"];

fn site(base: &str, open: &[&str]) -> Policies {
    load(
        &config::Policy {
            user_rules: true,
            user_may: open.iter().map(ToString::to_string).collect(),
            unverified: base.into(),
            unusable: base.into(),
            none: base.into(),
            ..bindings(base)
        },
        "",
    )
    .unwrap()
}

fn with(text: &str) -> Wish {
    Wish { rules: Some(text.into()), ..Wish::default() }
}

fn text(decision: &str) -> String {
    match decision.ends_with("nobody") {
        true => format!("when result is invalid and why is wrong: {decision}\notherwise mark"),
        false => format!("# mine\n\notherwise {decision}"),
    }
}

fn findings() -> impl Iterator<Item = Found> {
    let whys = |status| match status {
        KeyStatus::Invalid => vec![Some(Why::Wrong), Some(Why::Expired)],
        KeyStatus::Unusable => vec![Some(Why::NoFrom), Some(Why::NoAddress)],
        KeyStatus::Unverified => vec![Some(Why::Dns)],
        _ => vec![None],
    };
    let claims = [None, Some(Claim::Testing), Some(Claim::Some), Some(Claim::All)];
    let all = KeyStatus::ALL.into_iter().flat_map(move |status| whys(status).into_iter().map(move |why| (status, why)));
    all.flat_map(move |(status, why)| claims.map(|claim| Found { claim, ..Found::bare(status, why, None) }))
}

/// What must come out, worked out from the words of the manual: disposition, whether somebody is told, and whether it is the
/// user's word.
fn expected(base: &str, said: &str, found: &Found) -> (&'static str, bool) {
    let rank = ["accept", "mark", "defer", "quarantine", "reject"];
    let word = |text: &str| *rank.iter().find(|word| text.starts_with(**word)).unwrap();
    let silent = said.ends_with("nobody") && found.why == Some(Why::Wrong);
    // Its second line, where the first is for wrong keys.
    let says = if said.ends_with("nobody") && !silent { "mark" } else { word(said) };
    let is_asked = found.status != KeyStatus::Valid && found.why != Some(Why::NoAddress);
    let is_open = matches!(says, "accept" | "mark" | "reject");
    // A claim that nobody knows is not read as the mild one.
    let is_mild = matches!(found.claim, Some(Claim::Testing | Claim::Some));
    let denied = found.why == Some(Why::Wrong) || found.status == KeyStatus::Missing && !is_mild;
    let base = word(base);
    let place = |word: &str| rank.iter().position(|known| *known == word);
    match is_asked && is_open && (!denied || place(says) > place(base)) {
        true => (says, true),
        false => (base, false),
    }
}

#[tokio::test]
async fn they_decide_what_is_open_to_users_and_nothing_milder_where_the_senders_domain_denies_the_message() {
    let (mut users, mut sites) = (0, 0);
    for base in ["accept", "mark", "quarantine", "reject-notify-both"] {
        let policies = site(base, &OPEN);
        for said in DECISIONS {
            let wish = with(&text(said));
            for found in findings() {
                let decided = policies.decide(&mail(1), &found, std::slice::from_ref(&wish)).await;
                let [decision] = decided.as_slice() else { panic!("{decided:?}") };
                // Bounces and valid mail have policies of their own, which none of this touches.
                if found.status == KeyStatus::Valid || found.why == Some(Why::NoAddress) {
                    assert_eq!((decision.by, &decision.passed_over), (By::Site, &None), "{found:?}");
                    continue;
                }
                let (word, is_users) = expected(base, said, &found);
                let by = if is_users { By::User } else { By::Site };
                assert_eq!((decision.disposition.word(), decision.by), (word, by), "{base} {said} {found:?}");
                assert_eq!(decision.passed_over.is_some(), !is_users, "{decision:?}");
                assert!(decision.fault.is_none());
                users += usize::from(is_users);
                sites += usize::from(!is_users);
            }
        }
    }
    assert!(users > 100 && sites > 100, "{users} {sites}");
}

#[tokio::test]
async fn what_users_may_drop_silently_is_what_the_administrator_opened() {
    let (said, found) = (with(&text("reject, tell nobody")), wrong_key());
    for (open, by) in [(&OPEN[..3], By::Site), (&OPEN[..], By::User)] {
        let decided = site("mark", open).decide(&mail(1), &found, std::slice::from_ref(&said)).await;
        assert_eq!(decided[0].by, by, "{decided:?}");
    }
}

#[tokio::test]
async fn a_text_that_is_none_falls_to_the_sites_policy_and_never_to_a_deferral() {
    let policies = site("quarantine", &OPEN);
    let long = "# x\n".repeat(5_000) + "otherwise accept";
    for (text, why) in [
        ("when result is mising: accept\notherwise accept", "line 1, column 16"),
        ("accept", "line 1"),
        ("", "rules"),
        (long.as_str(), "longer than 16 KiB"),
        ("otherwise accept\nwhen tls: mark", "line 2"),
    ] {
        let decided = policies.decide(&mail(1), &wrong_key(), &[with(text)]).await;
        let [decision] = decided.as_slice() else { panic!("{decided:?}") };
        assert_eq!((decision.disposition, decision.by), (Disposition::Quarantine, By::Site), "{text:.40}");
        assert!(decision.passed_over.as_deref().unwrap().contains("`addrauth user show` says why"), "{decision:?}");
        let told = policies.read_own_rules(text).unwrap().unwrap_err();
        assert_eq!(decision.rules_unread.as_deref(), Some(told.as_str()));
        assert!(told.contains(why) && told.len() < 500, "{told}");
    }
    assert_eq!(policies.read_own_rules("otherwise accept"), Some(Ok(())));
}

#[tokio::test]
async fn stronger_words_go_first_and_without_user_rules_nobody_reads_a_text() {
    let policies = site("quarantine", &OPEN);
    let own = with("otherwise mark");
    let chosen = [(KeyStatus::Invalid, "accept".to_owned())].into();
    let expired = Found::bare(KeyStatus::Invalid, Some(Why::Expired), None);
    for (wish, word, by) in [
        (own.clone(), "mark", By::User),
        (Wish { policies: chosen, ..own.clone() }, "accept", By::User),
        (Wish { allows: true, ..own.clone() }, "accept", By::AllowList),
    ] {
        let decided = policies.decide(&mail(1), &expired, std::slice::from_ref(&wish)).await;
        assert_eq!((decided[0].disposition.word(), decided[0].by), (word, by), "{wish:?}");
    }
    let off = load(&config::Policy { user_may: vec!["mark".into()], ..bindings("quarantine") }, "").unwrap();
    let decided = off.decide(&mail(1), &expired, std::slice::from_ref(&own)).await;
    assert_eq!((decided[0].disposition, decided[0].by), (Disposition::Quarantine, By::Site));
    assert_eq!((&decided[0].passed_over, off.read_own_rules("otherwise mark")), (&None, None));
}

#[tokio::test]
async fn each_recipient_of_a_message_has_rules_of_his_own_and_they_are_rehearsed_as_they_are_in_force() {
    let policies = Arc::new(site("mark", &OPEN));
    let wishes = [
        with("otherwise accept"),
        Wish::default(),
        with("when result is none: reject, tell the sender\notherwise mark"),
    ];
    let none = Found::bare(KeyStatus::None, None, None);
    let decided = policies.decide(&mail(3), &none, &wishes).await;
    let of = |index: usize| decided.iter().find(|decision| decision.recipients == [index]).unwrap();
    assert_eq!(
        [0, 1, 2].map(|index| (of(index).disposition.word(), of(index).by)),
        [("accept", By::User), ("mark", By::Site), ("reject", By::User)]
    );
    let recipient = Recipient::new(b"<bob@example.com>");
    let mut rehearsed = 0;
    for wish in wishes {
        let subject = rehearse::Subject::site("bob", &policies, recipient.clone(), wish.clone());
        for found in findings() {
            let facts = rehearse::facts_of(&mail(1), &found, &[]).remove(0).0;
            let Ok(answer) = subject.decide(&facts) else { continue };
            let decided = policies.decide(&mail(1), &found, std::slice::from_ref(&wish)).await;
            rehearsed += 1;
            let answered = answer.decision.map(|decision| (decision.disposition, decision.notify));
            assert_eq!(answered, Some((decided[0].disposition, decided[0].notify)), "{found:?} {wish:?}");
        }
    }
    assert!(rehearsed > 60, "{rehearsed}");
}

#[tokio::test]
async fn whom_a_text_may_tell_is_what_is_open_as_well() {
    let found = Found::bare(KeyStatus::None, None, None);
    for (open, said, by) in [
        ("reject-notify-recipient", "reject, tell the recipient", By::User),
        ("reject-notify-recipient", "reject, tell the sender", By::Site),
        ("reject-notify-recipient", "reject, tell both", By::Site),
        ("reject-notify-both", "reject, tell the sender", By::User),
        ("reject-notify-sender", "reject, tell both", By::Site),
        ("quarantine", "quarantine, tell the recipient", By::Site),
        ("quarantine", "quarantine", By::User),
    ] {
        let text = format!("otherwise {said}");
        let decided = site("mark", &[open]).decide(&mail(1), &found, &[with(&text)]).await;
        assert_eq!(decided[0].by, by, "{open} {said}");
    }
}

#[tokio::test]
async fn one_text_is_asked_once_for_all_who_have_it_and_so_is_what_takes_its_place() {
    let policies = site("quarantine", &OPEN);
    let found = Found::bare(KeyStatus::None, None, None);
    let groups = |decided: Vec<Decision>| decided.into_iter().map(|d| (d.recipients, d.by)).collect::<Vec<_>>();
    let same = [with("otherwise mark"), with("otherwise mark"), with("otherwise accept"), with("otherwise mark")];
    let decided = policies.decide(&mail(4), &found, &same).await;
    assert_eq!(groups(decided), [(vec![0, 1, 3], By::User), (vec![2], By::User)]);
    // Two texts that do not count fall to one policy, which is asked once; the site's recipients have it to themselves.
    let fall = [with("otherwise defer"), Wish::default(), with("# x\notherwise defer"), with("nonsense")];
    let decided = policies.decide(&mail(4), &found, &fall).await;
    assert_eq!(groups(decided), [(vec![1], By::Site), (vec![0, 2], By::Site), (vec![3], By::Site)]);
}

#[tokio::test]
async fn a_decision_by_them_can_be_made_again() {
    let policies = site("mark", &OPEN);
    let found = Found::bare(KeyStatus::None, None, None);
    let decided =
        policies.decide(&mail(1), &found, &[with("when result is none: accept 'mine'\notherwise mark")]).await;
    let Decision { policy, digest, facts, settings, .. } = &decided[0];
    let again = policies.recompute(&KeptDecision { policy, digest, facts, settings }).unwrap();
    assert_eq!((again.disposition, again.reason.as_str()), (Disposition::Accept, "mine"));
}
