use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use super::*;
use addrauth::case::Wish;
use addrauth::case::{
    Answerer, AuthResult, Case, Client, Decision, Disposition, Envelope, Finding, Found, Head, KeyStatus, Learned,
    Mail, MailAuth, NewKey, NotLearned, NotStamped, Notify, Postponed, Proven, Recipient, ReversePath, Stamp,
    Submitted, Unreported, Why,
};
use addrauth::config::{Config, Policy};
use addrauth::policy::Policies;
use addrauth::proto::address::Address;
use addrauth::proto::key::AuthKey;
use addrauth::proto::record::Claim;
use addrauth::settle::{Permits, Rules, settle};
use addrauth::store::{HeldTrace, Kind, Sending, SentTrace, Traces, time};

fn address(text: &str) -> Option<Address> {
    Some(Address::parse(text.as_bytes(), true).unwrap())
}

fn mail(to: &[&str]) -> Mail {
    let recipient = |to: &&str| Recipient::new(format!("<{to}@home.example>"));
    Mail::new(
        Envelope {
            received: UNIX_EPOCH + Duration::from_secs(1_763_768_565),
            queue_id: Some("4XyZ1bQ7".into()),
            client: Client {
                ip: Some("192.0.2.7".parse().unwrap()),
                name: None,
                helo: "mail.elsewhere.example".into(),
                tls: true,
                ..Client::default()
            },
            daemon: "smtpd".into(),
            reverse_path: ReversePath::Path(address("bounces@elsewhere.example")),
            size: Some(4_321),
            recipients: to.iter().map(recipient).collect(),
            ..Envelope::default()
        },
        Head::default(),
    )
}

fn found(status: KeyStatus, why: Option<Why>) -> Found {
    Found {
        claim: Some(Claim::All),
        authority: Some(Answerer::over_udp("as.bank.example:4410")),
        ..Found::bare(status, why, address("alice@bank.example"))
    }
}

fn load(policy: &str) -> Policies {
    let config: Policy = toml::from_str(policy).unwrap();
    let config = Config { policy: config, ..Config::default() };
    why::policies(&config, &[], &trial()).unwrap()
}

/// A message as the filter treats it.
async fn case(policies: &Policies, to: &[&str], found: Found, wishes: &[Wish]) -> Case {
    let mail = mail(to);
    let decisions = policies.decide(&mail, &found, wishes).await;
    answered(mail, found, decisions)
}

fn answered(mail: Mail, found: Found, decisions: Vec<Decision>) -> Case {
    let permits = Permits { report: Err(Unreported::Undecided), refuse: true };
    let finding = Finding::Found(found);
    let reply = settle(&mail, &finding, &decisions, &Rules::default(), &permits);
    Case { mail, finding, decisions, reply }
}

/// The account of a case that went through the journal's form.
fn account(case: &Case, policies: Policies, traces: Traces) -> Account {
    let story = serde_json::from_str(&serde_json::to_string(case).unwrap()).unwrap();
    let note = String::new();
    let mut account = Account { id: 17, at: case.mail.received, story, note, traces, proofs: Vec::new() };
    account.prove(Ok(&policies));
    account
}

fn notice(recipient: &str) -> SentTrace {
    SentTrace {
        kind: Kind::Notice,
        recipient: format!("{recipient}@home.example"),
        tries: 1,
        next_try: time(1_763_768_630),
        ended: Some(time(1_763_768_570)),
        outcome: Some(Sending::Sent),
    }
}

/// Compares with the text beside this file; `ADDRAUTH_WRITE_GOLDEN=1` writes it anew.
fn expect(name: &str, account: &Account) {
    let mut text = account.text();
    for decision in &account.story.decisions {
        // Another compiler makes another component.
        text = text.replace(&decision.digest[..12], "0123456789ab");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/why/golden/{name}.txt"));
    if std::env::var_os("ADDRAUTH_WRITE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&path).unwrap(), "{}", path.display());
}

fn words(account: &Account) -> Vec<&str> {
    account.proofs.iter().map(Proof::word).collect()
}

const WRONG: (KeyStatus, Option<Why>) = (KeyStatus::Invalid, Some(Why::Wrong));

#[tokio::test]
async fn a_forged_key_that_was_dropped_silently() {
    let policies = load("invalid = \"reject-silently\"");
    let case = case(&policies, &["bob"], found(WRONG.0, WRONG.1), &[]).await;
    let account = account(&case, policies, Traces::default());
    expect("dropped", &account);
    assert_eq!(words(&account), ["same"]);
}

#[tokio::test]
async fn a_message_that_was_refused() {
    let policies = load("invalid = \"reject-notify-sender\"");
    let found = Found {
        mail_auth: Some(MailAuth { spf: AuthResult::Pass, dkim: AuthResult::Fail, ..MailAuth::default() }),
        ..found(WRONG.0, WRONG.1)
    };
    let case = case(&policies, &["bob", "carol"], found, &[]).await;
    expect("refused", &account(&case, policies, Traces::default()));
}

#[tokio::test]
async fn a_message_of_which_the_recipient_was_told() {
    let policies = load("invalid = \"reject-notify-recipient\"");
    let case = case(&policies, &["bob"], found(WRONG.0, WRONG.1), &[]).await;
    expect("notice", &account(&case, policies, Traces { sent: vec![notice("bob")], held: vec![] }));
}

#[tokio::test]
async fn three_recipients_with_three_wishes() {
    let policies = load(
        "invalid = \"mark\"\nuser_may = [\"quarantine\"]\n[domain.\"home.example\"]\ninvalid = \"reject-notify-recipient\"\n\
         [recipient.\"bob@home.example\"]\ninvalid = \"accept\"",
    );
    let chosen = [(KeyStatus::Invalid, "quarantine".to_owned())].into();
    let wishes = [Wish::default(), Wish::default(), Wish { policies: chosen, ..Wish::default() }];
    let case = case(&policies, &["bob", "carol", "dora"], found(WRONG.0, WRONG.1), &wishes).await;
    let kept =
        HeldTrace { quarantine: 3, recipient: "dora@home.example".into(), expires: time(1_766_360_565), outcome: None };
    let failed = SentTrace { ended: None, outcome: None, tries: 2, ..notice("carol") };
    let account = account(&case, policies, Traces { sent: vec![failed], held: vec![kept] });
    expect("mixed", &account);
    assert_eq!(words(&account), ["same"; 3]);
}

/// The same message to bob, to carol, who wants it kept back, and to somebody elsewhere.
async fn both_ways(stamp: Option<Stamp>) -> Account {
    let policies = load("[recipient.\"carol@home.example\"]\nmissing = \"quarantine\"\nvalid = \"quarantine\"");
    let away = Recipient::new("<xenia@elsewhere.example>");
    let login = stamp.is_some().then(|| "alice@home.example".to_owned());
    let (status, sender) = if login.is_some() {
        (KeyStatus::Valid, "alice@home.example")
    } else {
        (KeyStatus::Missing, "alice@bank.example")
    };
    let found = Found { elsewhere: vec![1], ..Found::bare(status, None, address(sender)) };
    let mail = mail(&["bob", "carol"]).altered(|envelope, head| {
        envelope.recipients.insert(1, away);
        envelope.login = login;
        head.keys = Vec::new();
    });
    let decisions = policies.decide(&mail, &found, &[]).await;
    let finding = match stamp {
        Some(stamp) => Finding::Submitted(Submitted { sender: address(sender), stamp, inside: Some(found) }),
        None => Finding::Found(found),
    };
    let permits = Permits { report: Err(Unreported::Undecided), refuse: true };
    let reply = settle(&mail, &finding, &decisions, &Rules::default(), &permits);
    let case = Case { mail, finding, decisions, reply };
    let copy = SentTrace { kind: Kind::Copy, ..notice("bob") };
    let held = HeldTrace {
        quarantine: 4,
        recipient: "carol@home.example".into(),
        expires: time(1_766_360_565),
        outcome: None,
    };
    let sent = if case.mail.login.is_some() { vec![copy] } else { Vec::new() };
    account(&case, policies, Traces { sent, held: vec![held] })
}

#[tokio::test]
async fn a_message_of_a_login_that_goes_here_and_elsewhere() {
    let account = both_ways(Some(Stamp::Newest(AuthKey::parse(&[b'k'; 64]).unwrap()))).await;
    expect("both", &account);
    assert_eq!(words(&account), ["same"; 2]);
}

#[tokio::test]
async fn a_message_from_outside_that_goes_here_and_elsewhere() {
    expect("relayed", &both_ways(None).await);
}

/// A message for bob, who wants it, and carol, whose server is to refuse it and tell the sender.
async fn refused_for_one(policies: &Policies, report: Result<(), Unreported>) -> Case {
    let mail = mail(&["bob", "carol"]);
    let found = found(WRONG.0, WRONG.1);
    let decisions = policies.decide(&mail, &found, &[]).await;
    let finding = Finding::Found(found);
    let reply = settle(&mail, &finding, &decisions, &Rules::default(), &Permits { report, refuse: true });
    Case { mail, finding, decisions, reply }
}

const ONE_REFUSES: &str =
    "invalid = \"accept\"\n[recipient.\"carol@home.example\"]\ninvalid = \"reject-notify-sender\"";

#[tokio::test]
async fn a_report_is_told_of_as_it_went() {
    let policies = || load(ONE_REFUSES);
    let case = refused_for_one(&policies(), Ok(())).await;
    let given_up = || Sending::GivenUp("550 no".into());
    let report = |ended: Option<Sending>| SentTrace {
        kind: Kind::Report,
        recipient: "bounces@elsewhere.example".into(),
        outcome: ended,
        ..notice("carol")
    };
    let cases = [
        (vec![], "what came of it is not known any more"),
        (vec![report(None)], "was written, and waits to be sent."),
        (vec![report(Some(Sending::Sent))], "was written, and sent."),
        (vec![report(Some(given_up())), notice("bob")], "given up: nobody was told of it. "),
        (vec![report(Some(given_up())), notice("carol")], "given up: the sender was not told of it. "),
    ];
    for (sent, words_of_it) in cases {
        let account = account(&case, policies(), Traces { sent, held: vec![] });
        let text = account.text().split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains(words_of_it), "{text}");
    }
    let given_up = Traces { sent: vec![report(Some(Sending::GivenUp("550 5.1.1 no such user".into())))], held: vec![] };
    expect("report", &account(&case, policies(), given_up));
}

#[tokio::test]
async fn a_message_kept_since_its_sender_cannot_be_told() {
    let policies = load(ONE_REFUSES);
    let mut case = refused_for_one(&policies, Err(Unreported::Bulk)).await;
    let said = account(&case, load(ONE_REFUSES), Traces::default()).text();
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains("no report may go to him: the message is list, bulk or automatic mail"), "{said}");
    // A row of a version that told of it in the note alone.
    case.reply.unreported = None;
    let kept = HeldTrace {
        quarantine: 4,
        recipient: "carol@home.example".into(),
        expires: time(1_766_360_565),
        outcome: None,
    };
    let mut account = account(&case, policies, Traces { sent: vec![], held: vec![kept] });
    account.note = "kept in quarantine as 4; no report to the sender: nobody vouches for him".into();
    expect("untold", &account);
}

#[tokio::test]
async fn a_valid_message() {
    let policies = load("");
    let found = Found { cached: true, ..found(KeyStatus::Valid, None) };
    let case = case(&policies, &["bob"], found, &[]).await;
    expect("valid", &account(&case, policies, Traces::default()));
}

#[tokio::test]
async fn a_wanted_sender_without_a_key() {
    let policies = load("missing = \"reject-notify-sender\"");
    let wishes = [Wish { allows: true, ..Wish::default() }];
    // Of a domain that does not say that all its mail has a key: else the list would not count.
    let found = Found { claim: Some(Claim::Some), ..found(KeyStatus::Missing, None) };
    let case = case(&policies, &["bob"], found, &wishes).await;
    expect("allow-list", &account(&case, policies, Traces::default()));
}

#[tokio::test]
async fn a_policy_that_failed() {
    let policies = load("");
    let mut decided = case(&policies, &["bob"], found(WRONG.0, WRONG.1), &[]).await;
    let failed = Decision {
        disposition: Disposition::Defer,
        notify: Notify::default(),
        reason: "the delivery policy failed".into(),
        fault: Some("did not decide within 2.0 s".into()),
        ..decided.decisions.remove(0)
    };
    let case = answered(decided.mail, found(WRONG.0, WRONG.1), vec![failed]);
    let account = account(&case, policies, Traces::default());
    expect("fault", &account);
    assert_eq!(words(&account), ["unknown"]);
}

#[tokio::test]
async fn a_server_that_did_not_answer() {
    let policies = load("");
    let case = case(&policies, &["bob"], found(KeyStatus::Unverified, Some(Why::Timeout)), &[]).await;
    expect("unverified", &account(&case, policies, Traces::default()));
}

#[tokio::test]
async fn a_decision_that_comes_out_otherwise_or_cannot_is_told() {
    let policies = || load("unusable = \"reject-silently\"");
    let held_back = case(&policies(), &["bob"], found(KeyStatus::Unusable, Some(Why::BadKey)), &[]).await;
    assert!(held_back.decisions[0].clamped.is_some());
    let judge = |change: fn(&mut Decision)| {
        let mut case = held_back.clone();
        change(&mut case.decisions[0]);
        account(&case, policies(), Traces::default())
    };
    type Case = (fn(&mut Decision), &'static str, &'static str);
    let cases: [Case; 5] = [
        (|_| {}, "same", "would be held back again"),
        (|d| d.disposition = Disposition::Mark, "differs", "ANOTHER DECISION: do not deliver it, and tell nobody"),
        (|d| d.digest = "f".repeat(64), "unknown", "the component was replaced since"),
        (|d| d.policy = "gone".into(), "unknown", "no policy of that name is in force any more"),
        (|d| d.facts = serde_json::json!({"status": 7}), "unknown", "does not fit the policy"),
    ];
    for (change, word, words_of_it) in cases {
        let account = judge(change);
        assert_eq!(words(&account), [word]);
        let text = account.text().split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains(words_of_it), "{text}");
        assert_eq!(json(&account)["proofs"][0]["recomputed"], word);
        let got = format!("{:?}", code(&[account]));
        let want = match word {
            "same" => exit::YES,
            "differs" => exit::no(),
            _ => exit::unknown(),
        };
        assert_eq!(got, format!("{want:?}"));
    }
}

#[tokio::test]
async fn what_was_erased_or_left_out_is_no_other_decision() {
    let policies = load("invalid = \"mark\"");
    let case = case(&policies, &["bob"], found(WRONG.0, WRONG.1), &[]).await;
    let mut account = account(&case, policies, Traces::default());
    account.story.erased = true;
    account.story.decisions[0].reason = "another".into();
    account.prove(Ok(&load("invalid = \"mark\"")));
    assert!(matches!(&account.proofs[..], [Proof::Impossible(why)] if why.contains("erased")), "{:?}", account.proofs);
    account.story.shortened = true;
    account.prove(Ok(&load("invalid = \"mark\"")));
    assert!(
        matches!(&account.proofs[..], [Proof::Impossible(why)] if why.contains("too large")),
        "{:?}",
        account.proofs
    );
}

#[test]
fn nothing_from_outside_steers_a_terminal() {
    assert_eq!(addrauth::proto::text::shown("a\u{1b}[31m\r\n\u{202e}ü"), "a\\u001b[31m\\u000d\\u000a\\u202eü");
}

#[test]
fn a_mail_that_brought_a_new_key_is_explained() {
    let key = AuthKey::parse(&[b'k'; 64]).unwrap();
    let proven = Proven {
        address: address("bob@home.example").unwrap(),
        key,
        ends: UNIX_EPOCH + Duration::from_secs(1_764_000_000),
        authority: Some(Answerer::over_udp("as.home.example:4410")),
        learned: Some(Learned::Newest),
    };
    let found = Found {
        new_key: Some(NewKey::Proven(proven)),
        ..Found::bare(KeyStatus::Missing, None, address("keys@home.example"))
    };
    let case = answered(mail(&["bob"]), found, Vec::new());
    let mut account = account(&case, load(""), Traces::default());
    account.note = case.finding.notes().join("; ");
    expect("learned", &account);
}

#[test]
fn what_is_said_of_keys_that_are_not_learned_and_of_mail_that_goes_out_holds_its_reason() {
    let text = |finding: Finding| {
        let reply = settle(
            &mail(&["bob"]),
            &finding,
            &[],
            &Rules::default(),
            &Permits { report: Err(Unreported::Undecided), refuse: true },
        );
        let case = Case { mail: mail(&["bob"]), finding, decisions: Vec::new(), reply };
        account(&case, load(""), Traces::default()).text().split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let own = || address("alice@home.example");
    let refused = Found {
        new_key: Some(NewKey::Refused(NotLearned::SeveralKeys)),
        own_key: true,
        ..Found::bare(KeyStatus::Valid, None, own())
    };
    let told = text(Finding::Found(refused));
    assert!(told.contains("taken off and not learned, since the message brings several"), "{told}");
    assert!(
        told.contains("somebody elsewhere has this key")
            && told.contains("key rotate alice@home.example")
            && told.contains("addrauth key revoke alice@home.example --only FINGERPRINT"),
        "{told}"
    );
    let sent = |stamp| text(Finding::Submitted(Submitted { sender: own(), stamp, inside: None }));
    let key = AuthKey::parse(&[b'k'; 64]).unwrap();
    let newest = sent(Stamp::Newest(key.clone()));
    assert!(newest.contains(&format!("(fingerprint {})", key.verify_key().fingerprint())), "{newest}");
    assert!(newest.contains("X-Auth-Key, X-Auth-Agent") || newest.contains("X-Auth-Agent, X-Auth-Key"), "{newest}");
    assert!(!newest.contains("kkkk") && sent(Stamp::Client).contains("its mail program put its own key there"));
    assert!(sent(Stamp::Bare(NotStamped::Ended)).contains("newest key of this address in the keyring has ended"));
    let later = text(Finding::Postponed(Postponed::NewKey(Why::Timeout)));
    assert!(later.contains("could not be checked at the Authentication Server (timeout)"), "{later}");
    // What a row does not keep is not said to be missing in the message.
    for unjudged in [later, text(Finding::Unclear)] {
        assert!(unjudged.contains("not judged") && !unjudged.contains("no single usable address"), "{unjudged}");
    }
}
