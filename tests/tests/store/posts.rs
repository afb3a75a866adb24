//! Keys on their way to their addresses.

use addrauth::store::{Added, Owing, Post, PostEnd};

use crate::*;

on_each_store! {
    a_post_is_handed_out_again_after_its_time_until_it_ends
    posts_of_dead_keys_are_never_handed_out_and_end
    those_that_waited_longest_come_first_and_the_others_are_counted
    posts_go_with_their_keys_when_those_are_swept
}

fn minutes(tries: u32) -> Duration {
    Duration::from_secs(60 * u64::from(tries))
}

/// A new key with a post; its generation.
async fn owed(table: &Arc<dyn KeyTable>, address: &str, created: i64) -> i64 {
    let key = NewKey { post: Some(sealed(&format!("{address} {created}"))), ..new_key(address, created) };
    match table.add_all(&[key], 9).await.unwrap()[..] {
        [Added::Generation(generation)] => generation,
        ref other => panic!("{other:?}"),
    }
}

async fn take(table: &Arc<dyn KeyTable>, now: i64) -> Option<Post> {
    table.take_post(at(now), minutes).await.unwrap()
}

async fn a_post_is_handed_out_again_after_its_time_until_it_ends(bed: Bed) {
    let table = bed.keys().await;
    owed(&table, "a@example.com", 100).await;
    assert!(take(&table, 99).await.is_none());
    let post = take(&table, 100).await.unwrap();
    assert_eq!((post.address.as_str(), post.generation, post.tries), ("a@example.com", 1, 1));
    assert_eq!((post.created, post.expires, &post.sealed), (at(100), at(1_100), &sealed("a@example.com 100")));
    assert!(take(&table, 159).await.is_none(), "the next try is a minute later");
    table.postpone_post(&post, "451 later").await.unwrap();
    let row = &table.posts_of(&mailbox("A+x@example.com")).await.unwrap()[0];
    assert_eq!((row.tries, row.next_try, &row.outcome), (1, at(160), &None));
    assert_eq!(row.note.as_deref(), Some("451 later"));
    let post = take(&table, 160).await.unwrap();
    assert_eq!(post.tries, 2);
    assert!(take(&table, 279).await.is_none());
    table.end_post(&post, &PostEnd::Sent, at(170)).await.unwrap();
    table.end_post(&post, &PostEnd::GivenUp("x".into()), at(180)).await.unwrap();
    table.postpone_post(&post, "too late").await.unwrap();
    let row = &table.posts_of(&mailbox("a@example.com")).await.unwrap()[0];
    assert_eq!((&row.outcome, row.note.as_deref()), (&Some(PostEnd::Sent), None));
    assert!(take(&table, 900).await.is_none());
}

async fn posts_of_dead_keys_are_never_handed_out_and_end(bed: Bed) {
    let table = bed.keys().await;
    for n in 0..250 {
        owed(&table, &format!("dead{n}@example.com"), 100).await;
        table.revoke(&mailbox(&format!("dead{n}@example.com")), &[1], at(110)).await.unwrap();
    }
    owed(&table, "old@example.com", 101).await;
    owed(&table, "new@example.com", 1_000).await;
    let post = take(&table, 1_101).await.unwrap();
    assert_eq!(post.address.as_str(), "new@example.com");
    assert!(take(&table, 1_101).await.is_none());
    for (address, outcome) in [("dead0", PostEnd::Revoked), ("dead249", PostEnd::Revoked), ("old", PostEnd::Expired)] {
        let rows = table.posts_of(&mailbox(&format!("{address}@example.com"))).await.unwrap();
        assert_eq!(rows[0].outcome, Some(outcome), "{address}");
    }
    assert_eq!(table.owing().await.unwrap(), Owing { waiting: 1, oldest: Some(at(1_000)) });
}

async fn those_that_waited_longest_come_first_and_the_others_are_counted(bed: Bed) {
    let table = bed.keys().await;
    assert_eq!(table.owing().await.unwrap(), Owing { waiting: 0, oldest: None });
    for (address, created) in [("b@example.com", 100), ("c@example.com", 90), ("a@example.com", 100)] {
        owed(&table, address, created).await;
    }
    owed(&table, "a@example.com", 100).await;
    assert_eq!(table.owing().await.unwrap(), Owing { waiting: 4, oldest: Some(at(90)) });
    let mut order = Vec::new();
    while let Some(post) = take(&table, 100).await {
        order.push(format!("{} {}", post.address, post.generation));
        table.end_post(&post, &PostEnd::Sent, at(100)).await.unwrap();
    }
    assert_eq!(order, ["c@example.com 1", "a@example.com 1", "a@example.com 2", "b@example.com 1"]);
    assert_eq!(table.owing().await.unwrap().waiting, 0);
    let generations: Vec<_> =
        table.posts_of(&mailbox("a@example.com")).await.unwrap().iter().map(|row| row.generation).collect();
    assert_eq!(generations, [2, 1]);
}

async fn posts_go_with_their_keys_when_those_are_swept(bed: Bed) {
    let table = bed.keys().await;
    owed(&table, "a@example.com", 100).await;
    assert_eq!(table.sweep(at(9_000)).await.unwrap(), 1);
    assert!(table.posts_of(&mailbox("a@example.com")).await.unwrap().is_empty());
    assert!(take(&table, 9_000).await.is_none());
}
