//! INVALIDKEY answers, counted.

use addrauth::store::ForgedRow;

use crate::*;

const DAY: i64 = 86_400;

on_each_store! {
    counts_add_up_over_days_and_go_when_they_are_old
    a_full_table_counts_what_it_does_not_know_for_the_domain_alone
    rows_that_are_alike_are_added_up_and_the_most_stand_first
}

fn forged(address: &str, verifier: &str, answers: u64, when: i64) -> ForgedRow {
    ForgedRow {
        domain: "example.com".into(),
        address: address.into(),
        verifier: verifier.into(),
        network: "192.0.2.0/24".into(),
        answers,
        first: at(when),
        last: at(when),
    }
}

async fn counts_add_up_over_days_and_go_when_they_are_old(bed: Bed) {
    let table = bed.keys().await;
    let day = |n: i64| n * DAY + 50;
    let first = [forged("a@example.com", "x.test", 2, day(10)), forged("", "x.test", 1, day(10))];
    table.count_forged(&first, 99).await.unwrap();
    table.count_forged(&[forged("a@example.com", "x.test", 3, day(12))], 99).await.unwrap();
    let all = table.forged(Some("example.com"), at(0)).await.unwrap();
    assert_eq!(all.len(), 2);
    assert_eq!((all[0].answers, all[0].first, all[0].last), (5, at(day(10)), at(day(12))));
    assert_eq!(table.forged(None, at(day(11))).await.unwrap()[0].answers, 3);
    assert!(table.forged(Some("example.net"), at(0)).await.unwrap().is_empty());
    assert_eq!(table.sweep_forged(at(day(12))).await.unwrap(), 2);
    assert_eq!(table.forged(None, at(0)).await.unwrap()[0].answers, 3);
}

async fn a_full_table_counts_what_it_does_not_know_for_the_domain_alone(bed: Bed) {
    let table = bed.keys().await;
    table.count_forged(&[forged("a@example.com", "x.test", 1, 50)], 3).await.unwrap();
    for n in 0..20 {
        let rows: Vec<_> = (0..5).map(|m| forged("a@example.com", &format!("v{n}-{m}.test"), 1, 60)).collect();
        table.count_forged(&[rows, vec![forged("a@example.com", "x.test", 1, 70)]].concat(), 3).await.unwrap();
    }
    let rows = table.forged(None, at(0)).await.unwrap();
    assert_eq!(rows.len(), 2, "{rows:?}");
    let others = rows.iter().find(|row| row.verifier.is_empty()).unwrap();
    assert_eq!((others.address.as_str(), others.network.as_str(), others.answers), ("", "", 100));
    assert_eq!(rows.iter().map(|row| row.answers).sum::<u64>(), 121);
}

async fn rows_that_are_alike_are_added_up_and_the_most_stand_first(bed: Bed) {
    let table = bed.keys().await;
    table.count_forged(&[], 9).await.unwrap();
    let rows = [
        forged("b@example.com", "x.test", 2, 70),
        forged("a@example.com", "x.test", 2, 50),
        forged("a@example.com", "y.test", 4, 60),
        forged("b@example.com", "x.test", 1, 40),
        forged("a@example.com", "x.test", 1, 90),
    ];
    table.count_forged(&rows, 99).await.unwrap();
    let told: Vec<_> = table.forged(None, at(0)).await.unwrap();
    let told: Vec<_> = told.iter().map(|row| (row.address.as_str(), row.verifier.as_str(), row.answers)).collect();
    assert_eq!(told, [("a@example.com", "y.test", 4), ("a@example.com", "x.test", 3), ("b@example.com", "x.test", 3)]);
    let b = &table.forged(None, at(0)).await.unwrap()[2];
    assert_eq!((b.first, b.last), (at(40), at(70)));
}
