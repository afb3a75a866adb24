//! The filter as a whole: which way a message goes, what is asked, what is kept, with real DNS packets and a real socket.

use addrauth::case::{Body, Case, Direction, Field, Finding, KeyStatus, Mail, Recipient, ReversePath, Verdict, Why};
use addrauth::config::{Config, Observe, QuarantineIn, StateDir};
use addrauth::filter::Filter;
use addrauth::policy::Trial;
use addrauth::proto::address::{Address, Mailbox};
use addrauth::proto::header::Edit;
use addrauth_lab::zone::Zone;
use addrauth_tests::authority::{Act, Authority};
use addrauth_tests::world::{self, ALICE, GOOD, leading_to};

/// A filter for home.example, the AS that it asks about example.com, and what both stand on.
struct Stage {
    filter: Filter,
    server: Authority,
    _zone: Zone,
    _home: tempfile::TempDir,
}

/// Sets the stage; `change` has the last word on the configuration.
async fn stage(acts: impl Into<Vec<Act>>, change: impl FnOnce(&mut Config)) -> Stage {
    let server = Authority::start(acts).await.unwrap();
    let zone = Zone::start(leading_to(&[&server], "")).await.unwrap();
    let home = tempfile::tempdir().unwrap();
    let mut config = Config {
        hostname: "mx.home.example".into(),
        final_domains: vec!["home.example".parse().unwrap()],
        observe: Observe(false),
        state_dir: StateDir(home.path().to_owned()),
        verify: world::config(&zone),
        ..Config::default()
    };
    change(&mut config);
    let filter = Filter::builder(config, Trial::waived()).open().await.unwrap();
    Stage { filter, server, _zone: zone, _home: home }
}

/// Alice's message to these recipients.
fn mail(keys: &[&str], recipients: &[&str]) -> Mail {
    let recipient = |text: &&str| Recipient::new(format!("<{text}>"));
    world::mail(&[ALICE], keys).altered(|envelope, _| envelope.recipients = recipients.iter().map(recipient).collect())
}

async fn judged(stage: &Stage, mail: Mail) -> Case {
    stage.filter.keep(stage.filter.examine(mail).await, None).await
}

fn found(case: &Case) -> (KeyStatus, Option<Why>) {
    match &case.finding {
        Finding::Found(found) => (found.status, found.why),
        other => panic!("not examined: {other:?}"),
    }
}

#[tokio::test]
async fn without_final_domains_nothing_is_asked_and_nothing_is_changed() {
    let stage = stage([Act::valid()], |config| config.final_domains.clear()).await;
    let case = judged(&stage, mail(&[GOOD], &["bob@home.example"])).await;
    assert_eq!(case.finding, Finding::Passing(Direction::Relay));
    assert_eq!((case.reply.verdict, case.reply.edits.len(), stage.server.count()), (Verdict::Accept, 0, 0));
}

#[tokio::test]
async fn mail_for_elsewhere_keeps_its_key_and_one_final_recipient_is_enough_to_strip_it() {
    let stage = stage([Act::valid()], |_| {}).await;
    let case = judged(&stage, mail(&[GOOD], &["carol@elsewhere.example"])).await;
    assert_eq!((case.finding, case.reply.edits.len()), (Finding::Passing(Direction::Relay), 0));
    let case = judged(&stage, mail(&[GOOD], &["carol@elsewhere.example", "bob@home.example"])).await;
    assert_eq!(found(&case), (KeyStatus::Valid, None));
    assert!(case.reply.edits.contains(&Edit::Delete { name: "X-Auth-Key".into(), index: 1 }));
}

#[tokio::test]
async fn a_recipient_that_is_no_addr_spec_and_yet_local_gets_no_key_either() {
    let stage = stage([Act::valid()], |_| {}).await;
    for local in
        ["postmaster", "bob@[127.0.0.1]", "bob@HOME.example.", "bob..b@home.example", "@a.example:bob@home.example"]
    {
        let case = judged(&stage, mail(&[GOOD], &[local])).await;
        assert_eq!(found(&case), (KeyStatus::Valid, None), "{local}");
    }
    for foreign in ["bob..b@elsewhere.example", "bob%x.example@elsewhere.example"] {
        let case = judged(&stage, mail(&[GOOD], &[foreign])).await;
        assert_eq!(case.finding, Finding::Passing(Direction::Relay), "{foreign}");
    }
}

#[tokio::test]
async fn a_logins_mail_to_elsewhere_is_left_alone() {
    let stage = stage([Act::valid()], |_| {}).await;
    let mail = mail(&[GOOD], &["carol@elsewhere.example"])
        .altered(|envelope, _| envelope.login = Some("alice@example.com".into()));
    let case = judged(&stage, mail).await;
    assert_eq!((case.finding, case.reply.edits.len()), (Finding::Passing(Direction::Outbound), 0));
}

#[tokio::test]
async fn inside_a_login_is_valid_as_itself_alone() {
    let stage = stage([Act::invalid()], |_| {}).await;
    let inside = |login: &str, keys: &[&str]| {
        mail(keys, &["bob@home.example"]).altered(|envelope, _| envelope.login = Some(login.into()))
    };
    let case = judged(&stage, inside("ALICE@example.com", &[GOOD])).await;
    assert_eq!((found(&case), stage.server.count()), ((KeyStatus::Valid, None), 0));
    assert!(case.reply.edits.contains(&Edit::Delete { name: "X-Auth-Key".into(), index: 1 }), "bob must not get it");
    for mallory in ["mallory@example.com", "alice", "alice@example.org"] {
        let case = judged(&stage, inside(mallory, &[])).await;
        assert_eq!(found(&case), (KeyStatus::Missing, None), "{mallory}");
    }
}

#[tokio::test]
async fn before_a_drop_the_server_is_asked_once_more_and_must_agree() {
    let silently = |config: &mut Config| config.policy.invalid = "reject-silently".into();
    let steadfast = stage([Act::invalid()], silently).await;
    let case = judged(&steadfast, mail(&[GOOD], &["bob@home.example"])).await;
    assert_eq!((found(&case), case.reply.verdict), ((KeyStatus::Invalid, Some(Why::Wrong)), Verdict::Discard));
    assert_eq!(steadfast.server.count(), 2, "asked, and asked once more");
    let journal = steadfast.filter.custody().unwrap().journal(10).await.unwrap();
    assert_eq!(journal.len(), 1, "the drop is in the journal");

    let wavering = stage([Act::invalid(), Act::valid()], silently).await;
    let case = judged(&wavering, mail(&[GOOD], &["bob@home.example"])).await;
    assert_eq!((found(&case).0, case.reply.verdict), (KeyStatus::Unverified, Verdict::Accept));
    let seqs: Vec<String> = wavering.server.received().iter().map(|r| r.word(1).to_owned()).collect();
    assert!(seqs.len() == 2 && seqs[0] != seqs[1], "with another sequence number: {seqs:?}");
}

#[tokio::test]
async fn from_the_null_path_a_wish_to_tell_the_sender_is_a_drop_and_is_asked_about_again() {
    let wishes = |config: &mut Config| {
        let bindings = |id: &str| addrauth::config::Bindings { invalid: Some(id.into()), ..Default::default() };
        config.policy.recipient.insert(Mailbox::parse("bob@home.example").unwrap(), bindings("reject-notify-sender"));
        config.policy.recipient.insert(Mailbox::parse("carol@home.example").unwrap(), bindings("accept"));
    };
    for (path, questions) in [(ReversePath::Null, 2), (ReversePath::Path(None), 1)] {
        let stage = stage([Act::invalid()], wishes).await;
        let mail = mail(&[GOOD], &["bob@home.example", "carol@home.example"]);
        stage.filter.examine(mail.altered(|envelope, _| envelope.reverse_path = path)).await;
        assert_eq!(stage.server.count(), questions);
    }
}

#[tokio::test]
async fn a_message_that_is_owed_no_report_after_all_does_not_take_the_senders_one_of_the_hour() {
    let stage = stage([Act::invalid()], |config| {
        let bindings = |id: &str| addrauth::config::Bindings { invalid: Some(id.into()), ..Default::default() };
        config.trusted_authserv_ids = vec!["mx.home.example".into()];
        config.policy.recipient.insert(Mailbox::parse("bob@home.example").unwrap(), bindings("reject-notify-sender"));
        config.policy.recipient.insert(Mailbox::parse("carol@home.example").unwrap(), bindings("accept"));
        config.policy.invalid = "quarantine".into();
    })
    .await;
    let sent = async |recipients: &[&str]| {
        let value = b" mx.home.example; spf=pass smtp.mailfrom=example.com".to_vec();
        let mail = mail(&[GOOD], recipients).altered(|envelope, head| {
            envelope.reverse_path = ReversePath::Path(Address::parse(b"alice@example.com", false).ok());
            head.fields.push(Field { name: "Authentication-Results".into(), value });
        });
        stage.filter.examine(mail).await.reply
    };
    // A copy cannot be sent to one without a domain: the mail server keeps the message.
    let held = sent(&["bob@home.example", "postmaster"]).await;
    assert!(matches!(held.verdict, Verdict::Hold(_)) && !held.owes_report(), "{held:?}");
    let told = sent(&["bob@home.example", "carol@home.example"]).await;
    assert!(told.verdict == Verdict::Accept && told.owes_report(), "{told:?}");
    let second = sent(&["bob@home.example", "carol@home.example"]).await;
    assert!(!second.owes_report(), "one in an hour: {second:?}");
}

#[tokio::test]
async fn observing_drops_nothing_and_asks_once() {
    let stage = stage([Act::invalid()], |config| {
        config.policy.invalid = "reject-silently".into();
        config.observe = Observe(true);
    })
    .await;
    let case = judged(&stage, mail(&[GOOD], &["bob@home.example"])).await;
    assert_eq!((case.reply.verdict, case.reply.edits.len()), (Verdict::Accept, 2));
    assert_eq!((case.decisions[0].policy.as_str(), stage.server.count()), ("reject-silently", 1));
}

#[tokio::test]
async fn our_own_mark_lets_our_notice_pass_and_nobody_elses_mail() {
    let stage = stage([Act::invalid()], |_| {}).await;
    let text = |name: &str, value: &str| Field { name: name.into(), value: format!(" {value}").into_bytes() };
    let marked = |recipients: &[&str], path: ReversePath, id: &str| {
        let custody = stage.filter.custody().unwrap();
        mail(&[], recipients).altered(|envelope, head| {
            envelope.reverse_path = path;
            let mark = custody.mark().write(envelope.received, "", "bob@home.example", "<1@mx.home.example>");
            head.fields.extend([text("Message-ID", id), text("X-Addrauth-Mark", &mark)]);
        })
    };
    let bob = ["bob@home.example"];
    let own = judged(&stage, marked(&bob, ReversePath::Null, "<1@mx.home.example>")).await;
    assert_eq!(own.finding, Finding::Passing(Direction::Own));
    assert_eq!(own.reply.edits, [Edit::Delete { name: "X-Addrauth-Mark".into(), index: 1 }]);

    let alice = ReversePath::Path(Address::parse(b"alice@example.com", false).ok());
    for stolen in [
        marked(&["carol@home.example"], ReversePath::Null, "<1@mx.home.example>"),
        marked(&["bob@home.example", "carol@home.example"], ReversePath::Null, "<1@mx.home.example>"),
        marked(&bob, ReversePath::Null, "<2@mx.home.example>"),
        marked(&bob, alice, "<1@mx.home.example>"),
    ] {
        let case = judged(&stage, stolen).await;
        assert_eq!(found(&case), (KeyStatus::Missing, None));
        assert!(case.reply.edits.contains(&Edit::Delete { name: "X-Addrauth-Mark".into(), index: 1 }));
    }
}

#[tokio::test]
async fn a_reload_is_taken_whole_or_not_at_all() {
    let stage = stage([Act::invalid()], |_| {}).await;
    let config = |invalid: &str| {
        let mut config = stage.filter.config().clone();
        config.policy.invalid = invalid.into();
        config
    };
    let error = stage.filter.reload(config("no-such-policy")).await.err().unwrap().to_string();
    assert!(error.contains("no-such-policy"), "{error}");
    let case = judged(&stage, mail(&[GOOD], &["bob@home.example"])).await;
    assert_eq!(case.decisions[0].policy, "mark", "the old one goes on");
    let new = stage.filter.reload(config("quarantine")).await.unwrap();
    let case = new.keep(new.examine(mail(&[GOOD], &["bob@home.example"])).await, Some(Body::default())).await;
    assert_eq!(case.reply.verdict, Verdict::Discard);
    assert_eq!(new.custody().unwrap().held(None).await.unwrap().len(), 1, "it is in our own quarantine");
    let mut config = config("quarantine");
    config.policy.quarantine = QuarantineIn::Mta;
    let new = stage.filter.reload(config).await.unwrap();
    let case = new.keep(new.examine(mail(&[GOOD], &["bob@home.example"])).await, None).await;
    assert!(matches!(case.reply.verdict, Verdict::Hold(_)));
    assert_eq!(stage.server.count(), 1, "what the verifier remembers lives on");
}
