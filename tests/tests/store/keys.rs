//! The AS's keys.

use addrauth::store::{Added, Error, NewKey, RunningOut};

use crate::*;

on_each_store! {
    addresses_whose_keys_run_out_are_counted
    generations_go_on_counting_after_a_sweep
    living_keys_are_bounded_and_revoking_makes_room
    a_closed_table_is_an_error_and_no_panic
    a_key_is_made_only_while_it_is_the_turn_of_its_address
    a_batch_is_answered_in_its_order_and_an_address_may_come_twice_in_it
    older_keys_end_where_the_new_one_says_so
    an_older_key_that_lives_longer_than_the_new_one_keeps_its_end
    keys_that_nobody_read_are_revoked_and_due_again
    who_loses_the_last_living_key_has_a_turn_at_once
    what_was_acknowledged_is_there_after_a_restart
    letter_case_tags_and_odd_characters_find_the_same_address
    the_keys_of_several_addresses_come_together_and_apart
}

async fn addresses_whose_keys_run_out_are_counted(bed: Bed) {
    let table = bed.keys().await;
    let at = |seconds: i64| at(1_000_000 + seconds);
    let none = table.running_out(at(0), at(100)).await.unwrap();
    assert_eq!(none, RunningOut { addresses: 0, without: 0, soon: 0 });
    for (address, ends) in [("a@x.test", 50), ("b@x.test", 500), ("b@x.test", 60), ("c@x.test", 5), ("d@x.test", 500)] {
        table.add(&mailbox(address), &k(7), at(0), at(ends), 64).await.unwrap();
    }
    table.revoke(&mailbox("d@x.test"), &[1], at(1)).await.unwrap();
    let found = table.running_out(at(10), at(100)).await.unwrap();
    assert_eq!(found, RunningOut { addresses: 2, without: 0, soon: 1 }, "nobody waits for keys of c and d");
    table.enlist(&[row("d@x.test", None, 300)], &mut |_| {}).await.unwrap();
    let found = table.running_out(at(10), at(100)).await.unwrap();
    assert_eq!(found, RunningOut { addresses: 3, without: 1, soon: 1 });
}

async fn generations_go_on_counting_after_a_sweep(bed: Bed) {
    let table = bed.keys().await;
    assert_eq!(table.add(&mailbox("Alice+x@Example.com"), &k(7), at(100), at(200), 4).await.unwrap(), 1);
    assert_eq!(table.add(&mailbox("alice@example.com"), &k(7), at(150), at(250), 4).await.unwrap(), 2);
    assert_eq!(table.sweep(at(200)).await.unwrap(), 0);
    assert_eq!(table.sweep(at(201)).await.unwrap(), 1);
    assert_eq!(table.sweep(at(900)).await.unwrap(), 1);
    assert!(table.of(&mailbox("alice@example.com")).await.unwrap().is_empty());
    assert_eq!(table.add(&mailbox("ALICE@example.com"), &k(9), at(900), at(999), 4).await.unwrap(), 3);
    let rows = table.of(&mailbox("alice+y@example.com")).await.unwrap();
    assert_eq!((rows.len(), rows[0].generation, rows[0].expires), (1, 3, at(999)));
    assert!(rows[0].k == k(9) && rows[0].created == at(900));
}

async fn living_keys_are_bounded_and_revoking_makes_room(bed: Bed) {
    let table = bed.keys().await;
    for _ in 0..3 {
        table.add(&mailbox("a@example.com"), &k(7), at(100), at(200), 3).await.unwrap();
    }
    let error = table.add(&mailbox("a@example.com"), &k(7), at(100), at(200), 3).await.unwrap_err();
    assert!(matches!(error, Error::TooManyKeys { count: 3, .. }), "{error}");
    assert_eq!(table.revoke(&mailbox("a@example.com"), &[2, 9], at(110)).await.unwrap(), 1);
    assert_eq!(table.revoke(&mailbox("a@example.com"), &[2], at(120)).await.unwrap(), 0);
    assert_eq!(table.of(&mailbox("a@example.com")).await.unwrap()[1].revoked, Some(at(110)));
    table.add(&mailbox("a@example.com"), &k(7), at(120), at(200), 3).await.unwrap();
}

async fn a_closed_table_is_an_error_and_no_panic(bed: Bed) {
    let (table, keyring) = (bed.keys().await, bed.keyring().await);
    table.of(&mailbox("a@example.com")).await.unwrap();
    table.close().await;
    keyring.close().await;
    assert!(table.of(&mailbox("a@example.com")).await.is_err());
    assert!(table.add(&mailbox("a@example.com"), &k(7), at(1), at(2), 4).await.is_err());
    assert!(keyring.newest(&mailbox("a@example.com")).await.is_err());
    table.close().await;
}

async fn a_key_is_made_only_while_it_is_the_turn_of_its_address(bed: Bed) {
    let table = bed.keys().await;
    table.enlist(&[row("a@example.com", None, 300)], &mut |_| {}).await.unwrap();
    let keys = [turn_key("a@example.com", 299, 800), turn_key("b@example.com", 299, 800)];
    assert_eq!(table.add_all(&keys, 4).await.unwrap(), [Added::NotDue, Added::NotDue]);
    let none = table.running_out(at(0), at(0)).await.unwrap();
    assert_eq!(none.addresses, 0, "an address that got no key has had none");
    let now = [turn_key("a@example.com", 300, 800)];
    assert_eq!(table.add_all(&now, 4).await.unwrap(), [Added::Generation(1)]);
    assert_eq!(table.add_all(&now, 4).await.unwrap(), [Added::NotDue], "its turn has passed");
    assert_eq!(table.settings("a@example.com").await.unwrap().unwrap().due, at(800));
    let by_hand = NewKey { only_due: false, ..turn_key("a@example.com", 310, 900) };
    assert_eq!(table.add_all(&[by_hand], 4).await.unwrap(), [Added::Generation(2)]);
    assert_eq!(table.settings("a@example.com").await.unwrap().unwrap().due, at(900));
    let full = [turn_key("a@example.com", 900, 1_500)];
    assert_eq!(table.add_all(&full, 2).await.unwrap(), [Added::Full(2)]);
    assert_eq!(table.settings("a@example.com").await.unwrap().unwrap().due, at(1_500), "its turn passes all the same");
}

async fn a_batch_is_answered_in_its_order_and_an_address_may_come_twice_in_it(bed: Bed) {
    let table = bed.keys().await;
    table.enlist(&[row("d@example.com", None, 900)], &mut |_| {}).await.unwrap();
    let names = ["c@example.com", "a@example.com", "c@example.com", "b@example.com", "c@example.com"];
    let mut keys: Vec<NewKey> = names.iter().map(|name| new_key(name, 100)).collect();
    keys.push(turn_key("d@example.com", 100, 950));
    let expected = [
        Added::Generation(1),
        Added::Generation(1),
        Added::Generation(2),
        Added::Generation(1),
        Added::Full(2),
        Added::NotDue,
    ];
    assert_eq!(table.add_all(&keys, 2).await.unwrap(), expected);
    assert_eq!(table.add_all(&[], 2).await.unwrap(), []);
    let generations = |rows: Vec<store::KeyRow>| rows.into_iter().map(|row| row.generation).collect::<Vec<_>>();
    assert_eq!(generations(table.of(&mailbox("c@example.com")).await.unwrap()), [2, 1]);
    assert!(table.of(&mailbox("d@example.com")).await.unwrap().is_empty());
}

async fn older_keys_end_where_the_new_one_says_so(bed: Bed) {
    let table = bed.keys().await;
    for created in [100, 200, 300] {
        table.add_all(&[new_key("a@example.com", created)], 9).await.unwrap();
    }
    table.revoke(&mailbox("a@example.com"), &[2], at(310)).await.unwrap();
    let key = NewKey { others_end: Some(at(1_150)), ..new_key("a@example.com", 400) };
    table.add_all(&[key, new_key("b@example.com", 400)], 9).await.unwrap();
    let ends: Vec<_> = table.of(&mailbox("a@example.com")).await.unwrap().iter().map(|row| row.expires).collect();
    assert_eq!(ends, [at(1_400), at(1_150), at(1_200), at(1_100)], "not the revoked one, and none later than before");
}

async fn an_older_key_that_lives_longer_than_the_new_one_keeps_its_end(bed: Bed) {
    let table = bed.keys().await;
    for (created, ends) in [(100, 9_000), (200, 1_399), (300, 1_398)] {
        table.add_all(&[NewKey { expires: at(ends), ..new_key("a@example.com", created) }], 9).await.unwrap();
    }
    let key = NewKey { others_end: Some(at(700)), expires: at(1_400), ..new_key("a@example.com", 400) };
    table.add_all(&[key], 9).await.unwrap();
    let ends: Vec<_> = table.of(&mailbox("a@example.com")).await.unwrap().iter().map(|row| row.expires).collect();
    assert_eq!(ends, [at(1_400), at(700), at(1_399), at(9_000)], "a second less is no less to who learned both");
}

async fn keys_that_nobody_read_are_revoked_and_due_again(bed: Bed) {
    let table = bed.keys().await;
    table.enlist(&[row("a@example.com", None, 300), row("b@example.com", None, 200)], &mut |_| {}).await.unwrap();
    table.add_all(&[turn_key("a@example.com", 300, 800), turn_key("b@example.com", 300, 250)], 4).await.unwrap();
    let keys = [("a@example.com".to_owned(), 1), ("b@example.com".to_owned(), 1), ("none@example.com".to_owned(), 7)];
    table.take_back(&keys, at(310)).await.unwrap();
    table.take_back(&keys, at(320)).await.unwrap();
    for (address, due) in [("a@example.com", 310), ("b@example.com", 250)] {
        assert_eq!(table.of(&mailbox(address)).await.unwrap()[0].revoked, Some(at(310)), "{address}");
        assert_eq!(table.settings(address).await.unwrap().unwrap().due, at(due), "{address}");
    }
}

async fn what_was_acknowledged_is_there_after_a_restart(bed: Bed) {
    if !bed.is_durable() {
        return;
    }
    let (table, keyring) = (bed.keys().await, bed.keyring().await);
    table.enlist(&[row("a@example.com", Some(7_200), 300)], &mut |_| {}).await.unwrap();
    table.add_all(&[turn_key("a@example.com", 300, 800)], 4).await.unwrap();
    keyring.learn(&learned("a@example.com", "f1", 900)).await.unwrap();
    table.close().await;
    keyring.close().await;
    let (table, keyring) = (bed.keys().await, bed.keyring().await);
    assert_eq!(table.settings("a@example.com").await.unwrap().unwrap().agi, Some(Duration::from_secs(7_200)));
    assert_eq!(table.of(&mailbox("a@example.com")).await.unwrap().len(), 1);
    let post = table.take_post(at(300), |_| Duration::from_secs(60)).await.unwrap().unwrap();
    assert_eq!(post.sealed, sealed("a@example.com 300"));
    assert_eq!(keyring.newest(&mailbox("a@example.com")).await.unwrap().unwrap().sealed, sealed("f1"));
}

async fn letter_case_tags_and_odd_characters_find_the_same_address(bed: Bed) {
    let table = bed.keys().await;
    for (number, address) in
        ["o'hara;--@example.com", "müller@example.com", "\"a b\"@example.com", "a\\b%_@example.com"]
            .into_iter()
            .enumerate()
    {
        let mine = k(u8::try_from(number).unwrap());
        table.add(&mailbox(address), &mine, at(100), at(200), 4).await.unwrap();
        let rows = table.of(&mailbox(address)).await.unwrap();
        assert!(rows.len() == 1 && rows[0].k == mine, "{address}");
        assert_eq!(rows[0].address, store::folded(address).unwrap());
    }
    assert!(table.of_all(&["no address".into(), String::new()]).await.unwrap().is_empty());
}

async fn the_keys_of_several_addresses_come_together_and_apart(bed: Bed) {
    let table = bed.keys().await;
    for address in ["a@example.com", "b@example.com", "a@example.com", "c@example.com"] {
        table.add_all(&[new_key(address, 100)], 9).await.unwrap();
    }
    let wanted = ["c@example.com", "a@example.com", "nobody@example.com", "a@example.com", "a\0b@example.com"];
    let rows = table.of_all(&wanted.map(str::to_owned)).await.unwrap();
    let found: Vec<_> = rows.iter().map(|row| (row.address.as_str(), row.generation)).collect();
    assert_eq!(found, [("a@example.com", 2), ("a@example.com", 1), ("c@example.com", 1)]);
    assert!(table.of_all(&[]).await.unwrap().is_empty());
}

async fn who_loses_the_last_living_key_has_a_turn_at_once(bed: Bed) {
    let table = bed.keys().await;
    table.enlist(&[row("a@example.com", None, 900), row("b@example.com", None, 900)], &mut |_| {}).await.unwrap();
    for expires in [150, 500, 600] {
        table.add(&mailbox("a@example.com"), &k(1), at(100), at(expires), 4).await.unwrap();
    }
    let due = async || table.settings("a@example.com").await.unwrap().unwrap().due;
    assert_eq!(table.revoke(&mailbox("a@example.com"), &[2], at(200)).await.unwrap(), 1);
    assert_eq!(due().await, at(900), "the third one lives");
    assert_eq!(table.revoke(&mailbox("a@example.com"), &[2, 9], at(210)).await.unwrap(), 0);
    assert_eq!(due().await, at(900));
    assert_eq!(table.revoke(&mailbox("A@example.com"), &[3], at(220)).await.unwrap(), 1);
    assert_eq!(due().await, at(220), "the first one has ended");
    assert_eq!(table.settings("b@example.com").await.unwrap().unwrap().due, at(900));
}
