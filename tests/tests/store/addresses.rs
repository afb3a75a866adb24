//! The addresses that get keys in time.

use addrauth::store::Error;

use crate::*;

on_each_store! {
    what_is_in_already_keeps_what_the_new_row_does_not_name
    those_whose_turn_has_come_stand_in_the_order_of_their_turns
    taking_addresses_out_ends_their_keys_or_does_nothing
    many_addresses_are_put_in_whole_and_progress_is_told
    settings_are_written_over_as_they_are_given
}

fn names(rows: Vec<SettingsRow>) -> Vec<String> {
    rows.into_iter().map(|row| row.address).collect()
}

async fn what_is_in_already_keeps_what_the_new_row_does_not_name(bed: Bed) {
    let table = bed.keys().await;
    let rows = [row("a@example.com", Some(7_200), 500), row("b@example.net", None, 400)];
    assert_eq!(table.enlist(&rows, &mut |_| {}).await.unwrap(), 2);
    let again = [row("a@example.com", None, 900), row("b@example.net", Some(3_600), 800)];
    assert_eq!(table.enlist(&again, &mut |_| {}).await.unwrap(), 0);
    assert_eq!(table.settings("a@example.com").await.unwrap().unwrap(), rows[0]);
    assert_eq!(table.settings("b@example.net").await.unwrap().unwrap(), again[1]);
    let avt = SettingsRow { avt: Some(Duration::from_secs(9_000)), ..row("a@example.com", Some(7_200), 950) };
    assert_eq!(table.enlist(std::slice::from_ref(&avt), &mut |_| {}).await.unwrap(), 0);
    let found = table.settings("a@example.com").await.unwrap().unwrap();
    assert_eq!((found.avt, found.due), (avt.avt, at(500)), "its AGI is what it was, and so is its turn");
    assert_eq!(table.enlisted(Some("example.net")).await.unwrap().len(), 1);
    assert_eq!(table.enlisted(Some("ample.net")).await.unwrap().len(), 0);
    assert_eq!(names(table.enlisted(None).await.unwrap()), ["a@example.com", "b@example.net"]);
    let rate = table.turns_per_second(Duration::from_secs(60)).await.unwrap();
    assert!((rate - (1.0 / 7_200.0 + 1.0 / 3_600.0)).abs() < 1e-9, "{rate}");
}

async fn those_whose_turn_has_come_stand_in_the_order_of_their_turns(bed: Bed) {
    let table = bed.keys().await;
    let rows = [
        row("c@example.com", None, 300),
        row("a@example.com", None, 200),
        row("b@example.com", None, 301),
        row("B@example.com", None, 300),
        row("early@left.example", None, 100),
    ];
    table.enlist(&rows, &mut |_| {}).await.unwrap();
    assert_eq!(
        names(table.due(&domains(), at(300), 9).await.unwrap()),
        ["a@example.com", "B@example.com", "c@example.com"]
    );
    assert_eq!(names(table.due(&domains(), at(900), 1).await.unwrap()), ["a@example.com"]);
    assert!(table.due(&domains(), at(900), 0).await.unwrap().is_empty());
    let left = table.due(&["left.example".to_owned()], at(900), 9).await.unwrap();
    assert_eq!(names(left), ["early@left.example"]);
    assert!(table.due(&[], at(900), 9).await.unwrap().is_empty());
    assert_eq!(table.turns_per_second(Duration::ZERO).await.unwrap(), 5.0);
}

async fn taking_addresses_out_ends_their_keys_or_does_nothing(bed: Bed) {
    let table = bed.keys().await;
    table.enlist(&[row("a@example.com", None, 300)], &mut |_| {}).await.unwrap();
    table.add(&mailbox("a@example.com"), &k(7), at(100), at(150), 4).await.unwrap();
    table.add(&mailbox("a@example.com"), &k(7), at(100), at(900), 4).await.unwrap();
    let both = ["a@example.com".to_owned(), "b@example.com".to_owned()];
    let twice = ["a@example.com".to_owned(), "a@example.com".to_owned()];
    for (list, missing) in [(&both, "b@example.com"), (&twice, "a@example.com")] {
        let error = table.strike(list, at(200)).await.unwrap_err();
        assert!(matches!(&error, Error::NotEnlisted { address } if address == missing), "{error}");
        assert_eq!(table.of(&mailbox("a@example.com")).await.unwrap()[0].revoked, None);
    }
    assert_eq!(table.strike(&both[..1], at(200)).await.unwrap(), 1, "the other one ended by itself");
    assert_eq!(table.of(&mailbox("a@example.com")).await.unwrap()[0].revoked, Some(at(200)));
    assert_eq!(table.of(&mailbox("a@example.com")).await.unwrap()[1].revoked, None);
    assert_eq!(table.settings("a@example.com").await.unwrap(), None);
}

async fn many_addresses_are_put_in_whole_and_progress_is_told(bed: Bed) {
    let table = bed.keys().await;
    let mut rows: Vec<_> = (0..12_000).map(|n| row(&format!("u{n}@example.com"), None, n)).collect();
    rows.push(row("u7@example.com", Some(7_200), 20_000));
    let mut told = Vec::new();
    assert_eq!(table.enlist(&rows, &mut |count| told.push(count)).await.unwrap(), 12_000);
    assert_eq!(told.last(), Some(&12_001));
    assert!(told.windows(2).all(|pair| pair[0] < pair[1]), "{told:?}");
    assert_eq!(table.enlisted(None).await.unwrap().len(), 12_000);
    let twice = table.settings("u7@example.com").await.unwrap().unwrap();
    assert_eq!((twice.agi, twice.due), (Some(Duration::from_secs(7_200)), at(20_000)), "the later row counts");
}

async fn settings_are_written_over_as_they_are_given(bed: Bed) {
    let table = bed.keys().await;
    table.enlist(&[row("a@example.com", Some(7_200), 300)], &mut |_| {}).await.unwrap();
    let new = SettingsRow { avt: Some(Duration::from_secs(5)), ..row("a@example.com", None, 999) };
    assert!(table.set(&new).await.unwrap());
    assert_eq!(table.settings("a@example.com").await.unwrap().unwrap(), new);
    assert!(!table.set(&row("b@example.com", None, 1)).await.unwrap());
    assert_eq!(table.settings("b@example.com").await.unwrap(), None);
}
