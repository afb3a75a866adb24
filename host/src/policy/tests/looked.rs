//! What is looked up is what would be worked out.

use super::*;
use crate::proto::address::Mailbox;

/// Tables alone, open to users, and at least one for each result.
const OPEN: [&str; 3] = ["accept", "quarantine", "reject-notify-recipient"];

/// Every finding on which a choice or a table hangs, for mail that ends here and for mail that does not.
fn findings() -> impl Iterator<Item = Found> {
    let whys = [None, Some(Why::Wrong), Some(Why::Expired), Some(Why::NoAddress)];
    let claims = [None, Some(Claim::Testing), Some(Claim::Some), Some(Claim::All)];
    let all = KeyStatus::ALL.into_iter().flat_map(move |status| whys.map(|why| (status, why)));
    let all = all.flat_map(move |(status, why)| claims.map(|claim| Found { claim, ..Found::bare(status, why, None) }));
    all.flat_map(|found| [Vec::new(), vec![0], vec![1]].map(|elsewhere| Found { elsewhere, ..found.clone() }))
}

/// Nothing, an allow-list, each choice for all results, a mark, and several of them.
fn wishes() -> Vec<Wish> {
    let all_by = |id: &str| KeyStatus::ALL.into_iter().map(|status| (status, id.to_owned())).collect();
    let chosen = OPEN.into_iter().chain(["not-open", "reject-silently"]);
    let mut wishes = vec![Wish::default()];
    wishes.extend(chosen.map(|id| Wish { policies: all_by(id), ..Wish::default() }));
    wishes.push(Wish { mark: Some(MarkAs::Folder), ..wishes[1].clone() });
    let allowing: Vec<Wish> = wishes.iter().map(|wish| Wish { allows: true, ..wish.clone() }).collect();
    wishes.into_iter().chain(allowing).collect()
}

#[tokio::test]
async fn a_decision_that_is_looked_up_equals_the_one_that_would_be_worked_out() {
    let line = config::Bindings { unverified: Some("mark".into()), ..config::Bindings::default() };
    let policies = load(
        &config::Policy {
            valid: "mark".into(),
            invalid: "reject-silently".into(),
            missing: "reject-notify-sender".into(),
            none: "accept".into(),
            // No table: it looks at more than the result.
            unusable: "missing-direct".into(),
            no_address: "quarantine".into(),
            user_may: OPEN.iter().chain(&["reject-silently"]).map(ToString::to_string).collect(),
            recipient: [(Mailbox::parse("bob@example.com").unwrap(), line)].into(),
            ..config::Policy::default()
        },
        "",
    )
    .unwrap();
    let (mut looked_up, mut clamped, mut nobody) = (0, 0, 0);
    for (found, wish) in findings().flat_map(|found| wishes().into_iter().map(move |wish| (found.clone(), wish))) {
        for (recipients, wishes) in [(1, std::slice::from_ref(&wish)), (1, &[]), (2, &[wish.clone(), Wish::default()])]
        {
            let mail = mail(recipients);
            let decided = policies.decide(&mail, &found, wishes).await;
            let worked_out = policies.worked_out(&mail, &found, wishes).await;
            assert_eq!(decided, worked_out, "{recipients}, {found:?}, {wishes:?}");
            looked_up += usize::from(policies.looked_up(&mail, &found, wishes).is_some());
            clamped += decided.iter().filter(|decision| decision.clamped.is_some()).count();
            nobody += usize::from(decided.is_empty());
        }
    }
    assert!(looked_up > 500 && clamped > 50 && nobody > 200, "{looked_up}, {clamped}, {nobody}");
}
