//! The texts of our mail, read again.

use addrauth::filter::Filter;
use addrauth::policy::Trial;

use super::*;

#[tokio::test]
async fn texts_are_read_again_all_of_them_or_none() {
    let (dir, texts, server) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), Script::default().start());
    let mut config = config(dir.path(), server.address);
    config.notices.templates = texts.path().to_owned();
    let custody = Custody::open(&config, &Arc::new(Limits::default())).await.unwrap();
    std::fs::write(texts.path().join("report.txt"), "Subject: Nope\n\nTo {recipients} and no further.\n").unwrap();
    custody.reload(&config).unwrap();
    std::fs::write(texts.path().join("notice.txt"), "Subject: {nothing}\n\nx\n").unwrap();
    let error = custody.reload(&config).unwrap_err().to_string();
    assert!(error.contains("notice.txt") && error.contains("{nothing}"), "{error}");
    assert!(Custody::open(&config, &Arc::new(Limits::default())).await.is_err(), "nor does it start with it");
    custody.keep(case("alice@x.example", &["bob@example.com", "carol@example.com"]), None).await;
    assert_eq!(custody.outbox().turn(SystemTime::now()).await.unwrap(), Turn::Sent);
    let text = server.text();
    assert!(text.contains("Subject: Nope\r\n") && text.contains("carol@example.com and no further."), "{text}");
}

#[tokio::test]
async fn a_reload_that_fails_leaves_the_texts_alone_and_one_that_does_not_brings_the_new_ones() {
    let (dir, texts, server) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), Script::default().start());
    let mut config =
        Config { final_domains: vec!["example.com".parse().unwrap()], ..config(dir.path(), server.address) };
    config.verify.dns = vec!["127.0.0.1:9".parse().unwrap()];
    config.notices.templates = texts.path().to_owned();
    let filter = Filter::builder(config.clone(), Trial::waived()).open().await.unwrap();
    std::fs::write(texts.path().join("report.txt"), "Subject: Nope\n\nTo {recipients} and no further.\n").unwrap();
    // The texts are good, but nobody can stamp: there is no secret half.
    let mut stamps = config.clone();
    stamps.keyring.stamp = addrauth::config::Where::All(true);
    assert!(matches!(filter.reload(stamps).await, Err(addrauth::filter::Error::Keyring(_))));
    let custody = filter.custody().unwrap();
    custody.keep(case("alice@x.example", &["bob@example.com", "carol@example.com"]), None).await;
    assert_eq!(custody.outbox().turn(SystemTime::now()).await.unwrap(), Turn::Sent);
    let text = server.text();
    assert!(text.contains("carol@example.com") && !text.contains("Subject: Nope"), "{text}");
    assert!(filter.reload(config).await.is_ok());
    custody.keep(case("dave@x.example", &["bob@example.com", "carol@example.com"]), None).await;
    assert_eq!(custody.outbox().turn(SystemTime::now()).await.unwrap(), Turn::Sent);
    assert!(server.text().contains("Subject: Nope"), "{}", server.text());
}

#[tokio::test]
async fn a_user_whose_rules_cannot_be_read_gets_one_letter_and_each_message() {
    let (dir, mailbox) = (tempfile::tempdir().unwrap(), Mailbox::start().unwrap());
    let custody = open(dir.path(), mailbox.address()).await;
    for sender in ["eve@x.example", "mallory@y.example"] {
        let mut case = case(sender, &["bob@example.com"]);
        case.decisions.truncate(1);
        case.decisions[0].rules_unread = Some("line 3, column 7: `mising`".into());
        case.reply = Reply { owed: vec![Owed::RulesUnread(0)], ..Reply::bare(Verdict::Accept) };
        assert_eq!(custody.keep(case, None).await.reply.verdict, Verdict::Accept);
    }
    assert_eq!(custody.outbox().turn(SystemTime::now()).await.unwrap(), Turn::Sent);
    assert_eq!(custody.outbox().turn(SystemTime::now()).await.unwrap(), Turn::Idle);
    let taken = mailbox.taken();
    assert_eq!(taken.len(), 1);
    let text = format!("{:?}", taken[0]);
    assert!(text.contains("line 3, column 7: `mising`") && text.contains("bob@example.com"), "{text}");
    custody.flush().await;
    assert_eq!(custody.journal(9).await.unwrap().len(), 2);
}
