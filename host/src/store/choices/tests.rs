use std::time::{Duration, Instant};

use super::super::Opening;
use super::*;

const OPENING: Opening = Opening { busy: Duration::from_secs(2), readers: 2 };

fn mailbox(address: &str) -> Mailbox {
    Mailbox::parse(address).unwrap()
}

async fn ledger() -> (tempfile::TempDir, Ledger) {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(dir.path(), OPENING).await.unwrap();
    (dir, ledger)
}

fn all(addresses: &[&str]) -> Vec<Option<Mailbox>> {
    addresses.iter().map(|address| Mailbox::parse(address)).collect()
}

#[tokio::test]
async fn wishes_come_in_the_order_of_the_recipients_and_one_mailbox_has_one_wish() {
    let (_dir, ledger) = ledger().await;
    ledger.choose(&mailbox("Bob@Home.example"), "invalid", "quarantine").await.unwrap();
    ledger.choose_all(&mailbox("carol+x@home.example"), &[("mark", "folder"), ("none", "mark")]).await.unwrap();
    let mut asked = all(&["dave@home.example", "bob+news@HOME.example", "carol@home.example", "BOB@home.example"]);
    asked.insert(1, None);
    let wishes = ledger.wishes(&asked, None).await.unwrap();
    let bob = Wish { policies: [(KeyStatus::Invalid, "quarantine".into())].into(), ..Wish::default() };
    let carol =
        Wish { policies: [(KeyStatus::None, "mark".into())].into(), mark: Some(MarkAs::Folder), ..Wish::default() };
    assert_eq!(wishes, [Wish::default(), Wish::default(), bob.clone(), carol, bob]);
}

#[tokio::test]
async fn a_wanted_sender_is_known_by_address_or_domain_and_nobody_like_him() {
    let (_dir, ledger) = ledger().await;
    for sender in ["alice@example.com", "@list.example"] {
        assert!(ledger.allow(&mailbox("bob@home.example"), sender, 10).await.unwrap());
    }
    for (sender, allows) in [
        (Some("alice@example.com"), true),
        (Some("Alice+tag@example.com"), true),
        (Some("anybody@list.example"), true),
        (Some("malice@example.com"), false),
        (Some("alice@sub.example.com"), false),
        (Some("x@sub.list.example"), false),
        (Some("x@nolist.example"), false),
        (Some("\"@list.example\"@evil.example"), false),
        (None, false),
    ] {
        let from = sender.and_then(Mailbox::parse);
        let wishes = ledger.wishes(&all(&["bob@home.example", "carol@home.example"]), from.as_ref()).await.unwrap();
        assert_eq!((wishes[0].allows, wishes[1].allows), (allows, false), "{sender:?}");
    }
}

#[test]
fn a_wanted_sender_is_an_address_or_a_domain_behind_an_at_sign() {
    for (text, want) in [
        ("Alice+x@Example.COM", Some("alice@example.com")),
        ("@Example.COM.", Some("@example.com")),
        ("@b\u{fc}cher.example", Some("@xn--bcher-kva.example")),
        ("\"a b\"@example.com", Some("\"a b\"@example.com")),
        ("example.com", None),
        ("@", None),
        ("@com", None),
        ("@a@example.com", None),
        ("@[127.0.0.1]", None),
        ("@*.example.com", None),
        ("", None),
    ] {
        assert_eq!(wanted(text).as_deref(), want, "{text}");
    }
}

#[tokio::test]
async fn what_a_later_version_wrote_is_passed_over_and_still_shown() {
    let (_dir, ledger) = ledger().await;
    let rows = [("forged", "accept"), ("mark", "sound"), ("missing", "quarantine")];
    ledger.choose_all(&mailbox("bob@home.example"), &rows).await.unwrap();
    let wish = ledger.wishes(&all(&["bob@home.example"]), None).await.unwrap().remove(0);
    assert_eq!(wish.policies, [(KeyStatus::Missing, "quarantine".to_owned())].into());
    assert_eq!(wish.mark, None);
    assert_eq!(ledger.choices(&mailbox("bob@home.example")).await.unwrap().len(), 3);
}

#[tokio::test]
async fn choices_are_replaced_and_taken_back_one_or_all() {
    let (_dir, ledger) = ledger().await;
    let bob = "bob@home.example";
    ledger.choose_all(&mailbox(bob), &[("invalid", "mark"), ("missing", "mark"), ("mark", "header")]).await.unwrap();
    ledger.choose(&mailbox("BOB+x@home.example"), "invalid", "quarantine").await.unwrap();
    ledger.choose(&mailbox("carol@home.example"), "invalid", "mark").await.unwrap();
    assert_eq!(ledger.choices(&mailbox(bob)).await.unwrap()["invalid"], "quarantine");
    assert_eq!(ledger.unchoose(&mailbox(bob), Some("missing")).await.unwrap(), 1);
    assert_eq!(ledger.unchoose(&mailbox(bob), Some("missing")).await.unwrap(), 0);
    assert_eq!(ledger.choices(&mailbox(bob)).await.unwrap().into_keys().collect::<Vec<_>>(), ["invalid", "mark"]);
    assert_eq!(ledger.unchoose(&mailbox("Bob@home.example"), None).await.unwrap(), 2);
    assert!(ledger.choices(&mailbox(bob)).await.unwrap().is_empty());
    assert_eq!(ledger.choices(&mailbox("carol@home.example")).await.unwrap().len(), 1, "nobody else's");
}

#[tokio::test]
async fn a_list_of_wanted_senders_ends_at_its_bound() {
    let (_dir, ledger) = ledger().await;
    let bob = "bob@home.example";
    assert!(ledger.allow(&mailbox(bob), "a@x.example", 2).await.unwrap());
    assert!(!ledger.allow(&mailbox("BOB@home.example"), "a@x.example", 2).await.unwrap(), "there already");
    assert!(ledger.allow(&mailbox(bob), "@x.example", 2).await.unwrap());
    assert!(!ledger.allow(&mailbox(bob), "@x.example", 2).await.unwrap(), "a full list still knows who is on it");
    let error = ledger.allow(&mailbox(bob), "c@x.example", 2).await.unwrap_err();
    assert!(
        matches!(error, Error::TooManyAllowed { most: 2, .. }) && error.to_string().contains("disallow"),
        "{error}"
    );
    assert_eq!(ledger.allowed(&mailbox(bob)).await.unwrap(), ["@x.example", "a@x.example"]);
    assert!(ledger.allow(&mailbox("carol@home.example"), "c@x.example", 2).await.unwrap(), "each list by itself");
    assert!(ledger.disallow(&mailbox("bob+x@home.example"), "@x.example").await.unwrap());
    assert!(!ledger.disallow(&mailbox(bob), "@x.example").await.unwrap());
    assert!(ledger.allow(&mailbox(bob), "c@x.example", 2).await.unwrap());
}

#[tokio::test]
async fn users_are_listed_a_page_at_a_time() {
    let (_dir, ledger) = ledger().await;
    for n in 0..5 {
        ledger.choose(&mailbox(&format!("u{n}@home.example")), "invalid", "mark").await.unwrap();
    }
    ledger.allow(&mailbox("u1@home.example"), "@x.example", 9).await.unwrap();
    ledger.allow(&mailbox("u9@home.example"), "@x.example", 9).await.unwrap();
    let row = |address: &str, choices, allowed| UserRow { address: address.into(), choices, allowed };
    let first = ledger.users("", 2).await.unwrap();
    assert_eq!(first, [row("u0@home.example", 1, 0), row("u1@home.example", 1, 1)]);
    let rest = ledger.users("u1@home.example", 9).await.unwrap();
    assert_eq!(rest.len(), 4);
    assert_eq!(rest[3], row("u9@home.example", 0, 1));
}

#[tokio::test]
async fn a_thousand_recipients_are_asked_about_at_once() {
    let (_dir, ledger) = ledger().await;
    ledger.choose(&mailbox("u999@home.example"), "none", "mark").await.unwrap();
    ledger.allow(&mailbox("u500@home.example"), "@x.example", 9).await.unwrap();
    let asked: Vec<_> = (0..1000).map(|n| Mailbox::parse(&format!("u{n}@home.example"))).collect();
    let begin = Instant::now();
    let wishes = ledger.wishes(&asked, Some(&mailbox("a@x.example"))).await.unwrap();
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    let with = |(n, wish): (usize, &Wish)| (*wish != Wish::default()).then_some(n);
    assert_eq!(wishes.iter().enumerate().filter_map(with).collect::<Vec<_>>(), [500, 999]);
}

#[tokio::test]
async fn a_table_that_is_gone_is_an_error_and_never_no_wish() {
    let (_dir, ledger) = ledger().await;
    ledger.0.run("DROP TABLE allowed").await.unwrap();
    let error = ledger.wishes(&all(&["bob@home.example"]), None).await.unwrap_err().to_string();
    assert!(error.contains("filter.db"), "{error}");
    ledger.close().await;
    assert!(ledger.wishes(&all(&["bob@home.example"]), None).await.is_err());
}

#[tokio::test]
async fn wishes_are_found_by_the_tables_keys_and_no_table_is_read_whole() {
    let (_dir, ledger) = ledger().await;
    let plan = format!("EXPLAIN QUERY PLAN {WISHES}");
    let steps = ledger.0.read(|work| work.all(&plan, ["[]", "", ""], |row| Ok(row.get("detail")?)));
    let steps: Vec<String> = steps.unwrap();
    for search in
        ["SEARCH choice USING PRIMARY KEY (address=?)", "SEARCH allowed USING PRIMARY KEY (address=? AND sender=?)"]
    {
        assert!(steps.iter().any(|step| step == search), "{steps:?}");
    }
    assert!(!steps.iter().any(|step| step.starts_with("SCAN choice") || step.starts_with("SCAN allowed")), "{steps:?}");
}
