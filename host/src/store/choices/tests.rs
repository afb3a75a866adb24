use std::time::{Duration, Instant};

use super::super::{Entry, NewRow, Opening};
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
    let plan = format!("EXPLAIN QUERY PLAN {CHOSEN}");
    let steps = ledger.0.read(|work| work.all(&plan, ["[]"], |row| Ok(row.get("detail")?)));
    let steps: Vec<String> = steps.unwrap();
    for search in [
        "SEARCH choice USING PRIMARY KEY (address=?)",
        "SEARCH allowed USING PRIMARY KEY (address=? AND sender=?)",
        "SEARCH one USING PRIMARY KEY (address=?)",
    ] {
        assert!(steps.iter().any(|step| step == search), "{steps:?}");
    }
    assert!(!steps.iter().any(|step| step.starts_with("SCAN choice") || step.starts_with("SCAN allowed")), "{steps:?}");
}

/// The wishes as somebody reads them who remembers nothing.
async fn afresh(dir: &tempfile::TempDir, asked: &[Option<Mailbox>], sender: &Mailbox) -> Vec<Wish> {
    let fresh = Ledger::open(dir.path(), OPENING).await.unwrap();
    fresh.wishes(asked, Some(sender)).await.unwrap()
}

#[tokio::test]
async fn whatever_changes_a_choice_and_wherever_the_next_message_sees_it() {
    let (dir, ledger) = ledger().await;
    let other = Ledger::open(dir.path(), OPENING).await.unwrap();
    let asked = all(&["bob@home.example", "carol@home.example", "dave@home.example"]);
    let (bob, carol) = (mailbox("bob@home.example"), mailbox("carol@home.example"));
    let sender = mailbox("a@x.example");
    let mut before = afresh(&dir, &asked, &sender).await;
    assert_eq!(ledger.wishes(&asked, Some(&sender)).await.unwrap(), before);
    for step in 0..12 {
        match step {
            0 => other.choose(&bob, "invalid", "quarantine").await.unwrap(),
            1 => ledger.choose(&bob, "invalid", "mark").await.unwrap(),
            2 => other.choose_all(&carol, &[("mark", "folder"), ("missing", "mark")]).await.unwrap(),
            3 => assert!(other.allow(&bob, "@x.example", 9).await.unwrap()),
            4 => assert!(other.disallow(&bob, "@x.example").await.unwrap()),
            5 => assert!(ledger.allow(&carol, "a@x.example", 9).await.unwrap()),
            6 => assert_eq!(other.unchoose(&carol, Some("mark")).await.unwrap(), 1),
            7 => assert_eq!(other.disallow_all(&carol).await.unwrap(), 1),
            // As somebody does who knows the tables.
            8 => other.0.run("UPDATE choice SET value = 'accept' WHERE address LIKE 'bob%'").await.unwrap(),
            9 => other
                .0
                .run("INSERT OR REPLACE INTO choice VALUES ('bob@home.example', 'none', 'mark', 0)")
                .await
                .unwrap(),
            10 => other.0.run("INSERT INTO allowed VALUES ('dave@home.example', '@x.example', 0)").await.unwrap(),
            _ => other.0.run("DELETE FROM choice; DELETE FROM allowed").await.unwrap(),
        }
        let now = afresh(&dir, &asked, &sender).await;
        assert_ne!(now, before, "step {step}");
        for _ in 0..2 {
            assert_eq!(ledger.wishes(&asked, Some(&sender)).await.unwrap(), now, "step {step}");
        }
        before = now;
    }
}

#[tokio::test]
async fn what_is_remembered_is_what_is_written_after_any_changes() {
    let (dir, ledger) = ledger().await;
    let others = [ledger.clone(), Ledger::open(dir.path(), OPENING).await.unwrap()];
    let asked = all(&["u0@home.example", "u1@home.example", "u2@home.example", "u0+x@home.example"]);
    let senders = ["a@x.example", "b@x.example"].map(mailbox);
    let mut random = 7_u64;
    let mut next = |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    for step in 0..150 {
        let (other, user) = (&others[next(2) as usize], mailbox(&format!("u{}@home.example", next(3))));
        let sender = ["a@x.example", "@x.example"][next(2) as usize];
        match next(5) {
            0 => other.choose(&user, ["invalid", "missing"][next(2) as usize], "mark").await.unwrap(),
            1 => _ = other.unchoose(&user, None).await.unwrap(),
            2 => _ = other.allow(&user, sender, 9).await.unwrap(),
            3 => _ = other.disallow(&user, sender).await.unwrap(),
            _ => other.append(vec![Arc::new(NewRow::again(Entry::default(), SystemTime::now()))]).await.unwrap(),
        }
        // Not always of those whose choice was changed: what is remembered of the others must go as well.
        let asked = &asked[next(4) as usize..][..1];
        let sender = &senders[next(2) as usize];
        let found = ledger.wishes(asked, Some(sender)).await.unwrap();
        assert_eq!(found, afresh(&dir, asked, sender).await, "step {step}");
    }
}

#[tokio::test]
async fn journal_rows_empty_no_memory_and_without_any_commit_nothing_is_asked_of_the_database() {
    let (_dir, ledger) = ledger().await;
    let (bob, carol) = (all(&["bob@home.example"]), all(&["carol@home.example"]));
    ledger.choose(&mailbox("bob@home.example"), "invalid", "mark").await.unwrap();
    ledger.wishes(&bob, None).await.unwrap();
    let now = ledger.0.commits().unwrap();
    assert!(ledger.1.all(now, &bob).is_some() && ledger.1.all(now, &carol).is_none());
    ledger.append(vec![Arc::new(NewRow::again(Entry::default(), SystemTime::now()))]).await.unwrap();
    let later = ledger.0.commits().unwrap();
    assert!(ledger.1.all(later, &bob).is_none(), "it might have been a choice");
    ledger.wishes(&carol, None).await.unwrap();
    assert!(ledger.1.all(later, &bob).is_some() && ledger.1.all(later, &carol).is_some());
    ledger.choose(&mailbox("dave@home.example"), "invalid", "mark").await.unwrap();
    ledger.wishes(&carol, None).await.unwrap();
    assert_eq!(ledger.1.mailboxes(), 1, "any choice empties it");
}

#[tokio::test]
async fn long_lists_of_senders_are_asked_about_and_what_is_remembered_is_bounded() {
    let (_dir, ledger) = ledger().await;
    ledger
        .0
        .run(
            "CREATE TABLE n (value INTEGER);
             WITH RECURSIVE up (value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM up WHERE value < 1100)
             INSERT INTO n SELECT value FROM up;
             INSERT INTO allowed SELECT 'u' || u.value || '@home.example', 's' || s.value || '@x.example', 0
             FROM n u JOIN n s WHERE u.value <= 1100 AND s.value <= 101;
             INSERT INTO allowed SELECT 'many@home.example', 's' || value || '@x.example', 0 FROM n WHERE value <= 150;
             DROP TABLE n",
        )
        .await
        .unwrap();
    for (sender, allows) in [("s150@x.example", true), ("s1@x.example", true), ("s151@x.example", false)] {
        for _ in 0..2 {
            let wishes = ledger.wishes(&all(&["many@home.example"]), Some(&mailbox(sender))).await.unwrap();
            assert_eq!(wishes[0].allows, allows, "{sender}");
        }
    }
    for number in 1..=1_100 {
        let asked = [Mailbox::parse(&format!("u{number}@home.example"))];
        assert!(ledger.wishes(&asked, Some(&mailbox("s101@x.example"))).await.unwrap()[0].allows);
    }
    assert!(ledger.1.mailboxes() < 1_000, "{}", ledger.1.mailboxes());
}

#[tokio::test]
async fn a_database_that_takes_the_place_of_another_is_read_and_not_remembered() {
    let (dir, ledger) = ledger().await;
    let (bob, asked) = (mailbox("bob@home.example"), all(&["bob@home.example"]));
    ledger.choose(&bob, "invalid", "quarantine").await.unwrap();
    ledger.wishes(&asked, None).await.unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let restored = Ledger::open(elsewhere.path(), OPENING).await.unwrap();
    // Changed as often as the other one.
    restored.choose(&bob, "invalid", "mark").await.unwrap();
    restored.close().await;
    std::fs::rename(elsewhere.path().join("filter.db"), dir.path().join("filter.db")).unwrap();
    let begin = Instant::now();
    let wishes = loop {
        match ledger.wishes(&asked, None).await {
            Ok(wishes) => break wishes,
            Err(e) => assert!(begin.elapsed() < Duration::from_secs(60), "{e}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(wishes[0].policies, [(KeyStatus::Invalid, "mark".to_owned())].into());
}
