//! The keyring.

use addrauth::store::{KeyringRow, Learned};

use crate::*;

on_each_store! {
    a_longer_lived_key_takes_the_place_of_the_present_one_for_ever
    keys_are_listed_by_domain_and_by_their_end
    what_is_forgotten_can_be_learned_again
    what_ended_is_swept_superseded_or_not
    a_key_that_is_taken_out_is_neither_found_nor_learned_again
}

fn names(rows: Vec<KeyringRow>) -> Vec<String> {
    rows.into_iter().map(|row| row.address).collect()
}

async fn a_longer_lived_key_takes_the_place_of_the_present_one_for_ever(bed: Bed) {
    let keyring = bed.keyring().await;
    let learn =
        async |fingerprint, expires| keyring.learn(&learned("a@example.com", fingerprint, expires)).await.unwrap();
    assert!(keyring.newest(&mailbox("a@example.com")).await.unwrap().is_none());
    assert_eq!(learn("f1", 500).await, Learned::Newest);
    assert_eq!(learn("f1", 500).await, Learned::Known);
    assert_eq!(learn("f2", 500).await, Learned::Shorter);
    assert_eq!(learn("f3", 501).await, Learned::Newest);
    assert_eq!(learn("f1", 900).await, Learned::Superseded);
    let newest = keyring.newest(&mailbox("A+tag@Example.com")).await.unwrap().unwrap();
    assert_eq!((newest.address.as_str(), newest.fingerprint.as_str()), ("a@example.com", "f3"));
    assert_eq!((newest.sealed, newest.learned, newest.expires), (sealed("f3"), at(100), at(501)));
    assert_eq!(learn("f2", 600).await, Learned::Newest, "it never was the present one");
    let other = keyring.learn(&learned("b@example.com", "f1", 10)).await.unwrap();
    assert_eq!(other, Learned::Newest, "another address has keys of its own");
}

async fn keys_are_listed_by_domain_and_by_their_end(bed: Bed) {
    let keyring = bed.keyring().await;
    let keys = [("c@example.com", 300), ("a@sub.example.com", 200), ("b@example.com", 200), ("a@example.com", 900)];
    for (address, expires) in keys {
        keyring.learn(&learned(address, "old", 100)).await.unwrap();
        keyring.learn(&learned(address, "f", expires)).await.unwrap();
    }
    let of_domain = names(keyring.rows(Some("example.com")).await.unwrap());
    assert_eq!(of_domain, ["a@example.com", "b@example.com", "c@example.com"]);
    assert!(keyring.rows(Some("")).await.unwrap().is_empty());
    let all = keyring.rows(None).await.unwrap();
    assert!(all.iter().all(|row| row.fingerprint == "f"), "{all:?}");
    assert_eq!(names(all), ["a@example.com", "a@sub.example.com", "b@example.com", "c@example.com"]);
    let ending = names(keyring.ending(at(900), 2).await.unwrap());
    assert_eq!(ending, ["a@sub.example.com", "b@example.com"]);
    assert_eq!(keyring.ending(at(301), 9).await.unwrap().len(), 3);
    assert!(keyring.ending(at(200), 9).await.unwrap().is_empty());
    for (now, ended) in [(199, [0, 0]), (200, [1, 1]), (300, [2, 1]), (900, [3, 1])] {
        let ages = keyring.ages(at(now)).await.unwrap();
        let told: Vec<_> = ages.iter().map(|ages| (ages.domain.as_str(), ages.addresses, ages.ended)).collect();
        assert_eq!(told, [("example.com", 3, ended[0]), ("sub.example.com", 1, ended[1])], "{now}");
        let lives: Vec<_> = ages.iter().map(|ages| ages.oldest.is_some()).collect();
        assert_eq!(lives, [ended[0] < 3, ended[1] < 1], "{now}");
    }
}

async fn what_is_forgotten_can_be_learned_again(bed: Bed) {
    let keyring = bed.keyring().await;
    for (fingerprint, expires) in [("f1", 500), ("f2", 600)] {
        keyring.learn(&learned("a@example.com", fingerprint, expires)).await.unwrap();
    }
    assert!(keyring.forget(&mailbox("A@example.com")).await.unwrap());
    assert!(!keyring.forget(&mailbox("a@example.com")).await.unwrap());
    assert!(keyring.newest(&mailbox("a@example.com")).await.unwrap().is_none());
    assert_eq!(keyring.learn(&learned("a@example.com", "f1", 500)).await.unwrap(), Learned::Newest);
}

async fn what_ended_is_swept_superseded_or_not(bed: Bed) {
    let keyring = bed.keyring().await;
    for (fingerprint, expires) in [("f1", 500), ("f2", 600)] {
        keyring.learn(&learned("a@example.com", fingerprint, expires)).await.unwrap();
    }
    assert_eq!(keyring.sweep(at(500)).await.unwrap(), 0);
    assert_eq!(keyring.sweep(at(501)).await.unwrap(), 1);
    assert_eq!(keyring.learn(&learned("a@example.com", "f2", 600)).await.unwrap(), Learned::Known);
    assert_eq!(keyring.sweep(at(601)).await.unwrap(), 1);
    assert!(keyring.newest(&mailbox("a@example.com")).await.unwrap().is_none());
}

async fn a_key_that_is_taken_out_is_neither_found_nor_learned_again(bed: Bed) {
    let keyring = bed.keyring().await;
    for (fingerprint, expires) in [("f1", 500), ("f2", 600)] {
        keyring.learn(&learned("a@example.com", fingerprint, expires)).await.unwrap();
        keyring.learn(&learned("b@example.com", fingerprint, expires)).await.unwrap();
    }
    let supersede = async |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        keyring.supersede(&mailbox("A@example.com"), &names).await.unwrap()
    };
    assert!(!supersede(&["f1", "f3"]).await && !supersede(&[]).await);
    assert_eq!(keyring.newest(&mailbox("a@example.com")).await.unwrap().unwrap().fingerprint, "f2");
    assert!(supersede(&["f3", "f2"]).await);
    assert!(!supersede(&["f2"]).await);
    assert!(keyring.newest(&mailbox("a@example.com")).await.unwrap().is_none());
    assert_eq!(keyring.learn(&learned("a@example.com", "f2", 900)).await.unwrap(), Learned::Superseded);
    assert_eq!(
        keyring.learn(&learned("a@example.com", "f4", 300)).await.unwrap(),
        Learned::Newest,
        "nothing is longer"
    );
    assert_eq!(keyring.newest(&mailbox("b@example.com")).await.unwrap().unwrap().fingerprint, "f2");
}
