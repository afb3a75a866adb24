//! Known senders: an address whose mail had a right key lately, and comes without one.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use addrauth::case::{
    Body, Case, Disposition, Field, Finding, Found, KeyStatus, Mail, Recipient, ReversePath, Verdict,
};
use addrauth::config::{Config, Verify};
use addrauth::filter::Filter;
use addrauth::policy::Trial;
use addrauth::proto::wire::Reason;
use addrauth_lab::zone::Zone;
use addrauth_tests::authority::{Act, Authority};
use addrauth_tests::daemon::binary;
use addrauth_tests::keys::sender;
use addrauth_tests::world::{self, ALICE, GOOD, leading_to};

const DAY: Duration = Duration::from_secs(86_400);
const RULES: &str = r#"
hostname = "mx.home.example"
final_domains = ["home.example"]
observe = false
[policy]
missing = "missing-known"
"#;

/// A filter on a configuration file that the command line reads too, and what both stand on.
struct Stage {
    filter: Filter,
    config: Config,
    file: PathBuf,
    state: PathBuf,
    server: Authority,
    _zone: Zone,
    _home: tempfile::TempDir,
}

async fn stage(text: &str) -> Stage {
    let home = tempfile::tempdir().unwrap();
    let (file, state) = (home.path().join("addrauth.toml"), home.path().join("state"));
    std::fs::write(&file, format!("state_dir = {state:?}\n{text}")).unwrap();
    let server = Authority::start([Act::valid()]).await.unwrap();
    let zone = Zone::start(leading_to(&[&server], "; m=some")).await.unwrap();
    let verify: Verify = world::config(&zone);
    let config = Config { verify, ..Config::read(&file).unwrap() };
    let filter = open(&config).await;
    Stage { filter, config, file, state, server, _zone: zone, _home: home }
}

async fn open(config: &Config) -> Filter {
    Filter::builder(config.clone(), Trial::waived()).open().await.unwrap()
}

/// So many days after now.
fn later(days: u32) -> SystemTime {
    SystemTime::now() + days * DAY
}

fn mail(from: &str, keys: &[&str], received: SystemTime) -> Mail {
    world::mail(&[from], keys).altered(|envelope, _| {
        envelope.received = received;
        envelope.queue_id = Some("4ZbX2k1mQz".into());
        envelope.reverse_path = ReversePath::Path(sender("bounces@example.com"));
        envelope.recipients = vec![Recipient::new("<bob@home.example>")];
    })
}

/// What becomes of a message; its row is on disk then.
async fn judged(filter: &Filter, mail: Mail) -> Case {
    let case = filter.keep(filter.examine(mail).await, None).await;
    if let Some(custody) = filter.custody() {
        custody.flush().await;
    }
    case
}

fn found(case: &Case) -> &Found {
    let Finding::Found(found) = &case.finding else { panic!("{case:?}") };
    found
}

/// The result, and what was decided.
fn told(case: &Case) -> (KeyStatus, Disposition) {
    (found(case).status, case.decisions[0].disposition)
}

/// The fact as the policy saw it.
fn ago(case: &Case) -> Option<u64> {
    case.decisions[0].facts.get("last-valid").and_then(serde_json::Value::as_u64)
}

impl Stage {
    /// Mail of this sender with a right key, today.
    async fn valid(&self, from: &str) {
        let case = judged(&self.filter, mail(from, &[GOOD], later(0))).await;
        assert_eq!(told(&case), (KeyStatus::Valid, Disposition::Accept));
    }

    /// What is decided about mail of this sender without a key, so many days from now.
    async fn without(&self, from: &str, days: u32) -> (Disposition, Option<u64>) {
        let case = judged(&self.filter, mail(from, &[], later(days))).await;
        let (status, disposition) = told(&case);
        assert_eq!(status, KeyStatus::Missing);
        (disposition, ago(&case))
    }

    fn run(&self, words: &[&str]) -> Output {
        Command::new(binary()).arg("--config").arg(&self.file).args(words).output().unwrap()
    }

    fn said(&self, code: i32, words: &[&str]) -> String {
        let output = self.run(words);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(code), "{words:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
        said
    }
}

fn deferred(case: &Case) -> bool {
    matches!(&case.reply.verdict, Verdict::Defer(refusal) if refusal.code == 451)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_without_a_key_is_treated_by_when_its_sender_last_had_one() {
    let stage = stage(RULES).await;
    assert_eq!(stage.without(ALICE, 0).await, (Disposition::Accept, None));
    stage.valid(ALICE).await;
    assert_eq!(stage.without(ALICE, 0).await, (Disposition::Mark, Some(0)));
    assert_eq!(stage.without("Alice+x@Example.COM", 0).await, (Disposition::Mark, Some(0)), "the same mailbox");
    for other in ["malice@example.com", "bob@example.com", "alic@example.com"] {
        assert_eq!(stage.without(other, 0).await, (Disposition::Accept, None), "{other}");
    }
    assert_eq!(stage.without(ALICE, 3).await, (Disposition::Mark, Some(3)));
    assert_eq!(stage.without(ALICE, 90).await, (Disposition::Mark, Some(90)));
    assert_eq!(stage.without(ALICE, 91).await, (Disposition::Accept, Some(91)));
    assert_eq!(stage.without(ALICE, 365).await, (Disposition::Accept, Some(365)));
    assert_eq!(stage.without(ALICE, 366).await, (Disposition::Accept, None), "a year is all that is told");
    let list = mail(ALICE, &[], later(0)).altered(|_, head| {
        head.fields.push(Field { name: "List-Id".into(), value: b" <x.example.org>".to_vec() });
    });
    assert_eq!(told(&judged(&stage.filter, list).await), (KeyStatus::Missing, Disposition::Accept));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_journal_keeps_what_the_policy_saw_and_why_tells_of_it_in_words() {
    let stage = stage(RULES).await;
    stage.valid(ALICE).await;
    judged(&stage.filter, mail(ALICE, &[], later(3))).await;
    let said = stage.said(0, &["why", "2"]);
    for words in
        ["last-valid = 3", "The sender's mail had its last right key here 3 days before.", ": the same decision."]
    {
        assert!(said.contains(words), "{said}");
    }
    let first = stage.said(0, &["why", "1"]);
    assert!(!first.contains("last-valid") && !first.contains("last right key"), "{first}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_look_up_of_a_message_does_not_see_what_the_message_itself_shows() {
    let stage = stage(&format!("{RULES}valid = \"missing-known\"\n")).await;
    for want in [None, Some(0)] {
        let case = judged(&stage.filter, mail(ALICE, &[GOOD], later(0))).await;
        assert_eq!((told(&case), ago(&case)), ((KeyStatus::Valid, Disposition::Accept), want));
    }
    let case = judged(&stage.filter, mail(ALICE, &[GOOD], later(5))).await;
    assert_eq!(ago(&case), Some(5));
    assert_eq!(stage.without(ALICE, 6).await.1, Some(1), "valid mail counts on each day anew");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_looked_up_where_no_policy_wants_it_and_valid_mail_counts_all_the_same() {
    let stage = stage(&RULES.replace("missing-known", "accept")).await;
    stage.valid(ALICE).await;
    let case = judged(&stage.filter, mail(ALICE, &[], later(0))).await;
    assert_eq!((found(&case).last_valid, ago(&case)), (None, None));
    let mut config = stage.config.clone();
    config.policy.missing = "missing-known".into();
    let filter = stage.filter.reload(config).await.unwrap();
    let case = judged(&filter, mail(ALICE, &[], later(0))).await;
    assert_eq!((told(&case).1, ago(&case)), (Disposition::Mark, Some(0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_as_vouched_for_makes_nobody_known() {
    let stage = stage(RULES).await;
    for act in [Act::invalid(), Act::unverified(Reason::Temp)] {
        stage.server.now_does(act);
        judged(&stage.filter, mail(ALICE, &[world::JUNK], later(0))).await;
    }
    let mut login = mail(ALICE, &[], later(0));
    login = login.altered(|envelope, _| envelope.login = Some("alice@example.com".into()));
    assert_eq!(told(&judged(&stage.filter, login).await).0, KeyStatus::Valid, "a login owns the address that it is");
    assert_eq!(stage.without(ALICE, 0).await, (Disposition::Accept, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erased_address_is_forgotten_beside_the_running_filter_until_another_day() {
    let stage = stage(RULES).await;
    for from in [ALICE, "carol@example.com"] {
        stage.valid(from).await;
    }
    let said = stage.said(0, &["journal", "erase", "Alice+x@example.com"]);
    assert!(said.contains("it was a known sender, and is none any more"), "{said}");
    assert_eq!(stage.without(ALICE, 0).await, (Disposition::Accept, None));
    assert_eq!(stage.without("carol@example.com", 0).await, (Disposition::Mark, Some(0)));
    let said = stage.said(0, &["--json", "journal", "erase", "alice@example.com"]);
    assert!(said.contains("\"forgotten\":false"), "{said}");
    stage.valid(ALICE).await;
    assert_eq!(stage.without(ALICE, 0).await, (Disposition::Accept, None), "not on the day of the erasure");
    judged(&stage.filter, mail(ALICE, &[GOOD], later(1))).await;
    assert_eq!(stage.without(ALICE, 1).await, (Disposition::Mark, Some(0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_erased_where_it_cannot_be_told_who_is_known() {
    let stage = stage(RULES).await;
    stage.valid(ALICE).await;
    std::fs::write(stage.state.join("mark.key"), "short").unwrap();
    let output = stage.run(&["journal", "erase", "alice@example.com"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("mark.key"));
    assert!(stage.said(0, &["journal", "list"]).contains("alice@example.com"), "nothing was erased");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_that_is_kept_back_makes_its_sender_known_like_any_other() {
    let stage = stage(&format!("{RULES}valid = \"quarantine\"\n")).await;
    let case = stage.filter.examine(mail(ALICE, &[GOOD], later(0))).await;
    let case = stage.filter.keep(case, Some(Body(b"Hello\r\n".to_vec()))).await;
    assert!(!deferred(&case) && told(&case) == (KeyStatus::Valid, Disposition::Quarantine), "{}", case.line());
    assert_eq!(stage.without(ALICE, 0).await, (Disposition::Mark, Some(0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_knows_whom_the_first_one_knows() {
    let stage = stage(RULES).await;
    let other = open(&stage.config).await;
    stage.valid(ALICE).await;
    let case = judged(&other, mail(ALICE, &[], later(0))).await;
    assert_eq!((told(&case).1, ago(&case)), (Disposition::Mark, Some(0)));
    judged(&other, mail("carol@example.com", &[GOOD], later(0))).await;
    assert_eq!(stage.without("carol@example.com", 0).await, (Disposition::Mark, Some(0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_look_up_that_fails_defers_the_mail_whose_policy_wants_it_and_no_other() {
    let stage = stage(&format!("{RULES}none = \"missing-known\"\n")).await;
    stage.valid(ALICE).await;
    let file = rusqlite::Connection::open(stage.state.join("filter.db")).unwrap();
    file.execute_batch("ALTER TABLE known RENAME TO away").unwrap();
    let case = judged(&stage.filter, mail(ALICE, &[], later(0))).await;
    assert!(deferred(&case) && case.decisions.is_empty(), "{}", case.line());
    // Its sender's domain takes no part: there is nothing to look up, whatever the policy wants.
    let case = judged(&stage.filter, mail("x@nowhere.example", &[], later(0))).await;
    assert!(!deferred(&case), "{}", case.line());
    file.execute_batch("ALTER TABLE away RENAME TO known").unwrap();
    assert_eq!(stage.without(ALICE, 0).await, (Disposition::Mark, Some(0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_keeps_nothing_knows_nobody() {
    let stage = stage(&format!("{RULES}[custody]\nknown_kept = \"0s\"\n")).await;
    stage.valid(ALICE).await;
    assert_eq!(stage.without(ALICE, 0).await, (Disposition::Accept, None));
}
