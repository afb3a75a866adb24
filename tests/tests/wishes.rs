//! Whose policy it is: site, domain, recipient and user, from the command line to the answer that the MTA gets.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use addrauth::case::{By, Case, KeyStatus, MarkAs, Owed, Recipient, Verdict};
use addrauth::config::{Config, StateDir, Verify};
use addrauth::filter::Filter;
use addrauth::policy::Trial;
use addrauth_lab::zone::Zone;
use addrauth_tests::authority::{Act, Authority};
use addrauth_tests::daemon::binary;
use addrauth_tests::world::{self, ALICE, JUNK, leading_to};

/// Lines on every level for one result.
const LEVELS: &str = r#"
hostname = "mx.home.example"
final_domains = ["home.example", "two.example", "three.example"]
observe = false
[policy]
spam_folder = "+Junk"
user_may = ["accept", "mark", "quarantine", "reject-silently"]
invalid = "accept"
[policy.domain."two.example"]
invalid = "mark"
mark = "folder"
[policy.recipient."Carol+x@Home.example"]
invalid = "reject-notify-recipient"
"#;

/// A filter on a configuration file that the command line reads too, and what both stand on.
struct Stage {
    filter: Filter,
    file: PathBuf,
    state: PathBuf,
    _server: Authority,
    _zone: Zone,
    _home: tempfile::TempDir,
}

async fn stage(act: Act, text: &str) -> Stage {
    let home = tempfile::tempdir().unwrap();
    let (file, state) = (home.path().join("addrauth.toml"), home.path().join("state"));
    std::fs::write(&file, format!("state_dir = {state:?}\n{text}")).unwrap();
    let server = Authority::start([act]).await.unwrap();
    let zone = Zone::start(leading_to(&[&server], "")).await.unwrap();
    let verify: Verify = world::config(&zone);
    let config = Config { verify, ..Config::read(&file).unwrap() };
    assert_eq!(config.state_dir, StateDir(state.clone()));
    let filter = Filter::builder(config, Trial::waived()).open().await.unwrap();
    Stage { filter, file, state, _server: server, _zone: zone, _home: home }
}

impl Stage {
    /// Runs `addrauth VERB…` with this configuration, and blocks the thread of the test. The filter's own tasks go on meanwhile
    /// on those of a runtime with several: one that has begun a transaction on a blocked thread would never end it, and lock
    /// the command out.
    fn run(&self, words: &[&str]) -> Output {
        Command::new(binary()).arg("--config").arg(&self.file).args(words).output().unwrap()
    }

    /// The same, where it must succeed.
    fn done(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// What becomes of alice's message with these keys to these recipients.
    async fn judged(&self, keys: &[&str], recipients: &[&str]) -> Case {
        let mail = world::mail(&[ALICE], keys)
            .altered(|envelope, _| envelope.recipients = recipients.iter().map(|text| rcpt(text)).collect());
        self.filter.keep(self.filter.examine(mail).await, None).await
    }

    async fn alike(&self, first: &str, next: &str) -> bool {
        self.filter.alike(&Default::default(), &rcpt(first), &rcpt(next)).await
    }
}

fn rcpt(text: &str) -> Recipient {
    Recipient::new(format!("<{text}>"))
}

/// The policy and whose word it is, for each recipient in order.
fn words(case: &Case) -> Vec<(String, By)> {
    let of = |index: usize| case.decisions.iter().find(|d| d.recipients.contains(&index)).unwrap();
    (0..case.mail.recipients.len()).map(|index| (of(index).policy.clone(), of(index).by)).collect()
}

fn deferred(case: &Case) -> bool {
    matches!(&case.reply.verdict, Verdict::Defer(refusal) if refusal.code == 451)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_recipients_of_one_message_are_treated_by_four_levels() {
    let stage = stage(Act::invalid(), LEVELS).await;
    stage.done(&["user", "set", "bob@home.example", "invalid=reject-silently"]);
    let all = ["dave@three.example", "erin@two.example", "carol@home.example", "bob@home.example"];
    let case = stage.judged(&[JUNK], &all).await;
    let expected = [
        ("accept", By::Site),
        ("mark", By::Domain),
        ("reject-notify-recipient", By::Recipient),
        ("reject-silently", By::User),
    ];
    assert_eq!(words(&case), expected.map(|(id, by)| (id.to_owned(), by)));
    let reply = &case.reply;
    assert_eq!((&reply.verdict, &reply.removed), (&Verdict::Accept, &vec![2, 3]));
    assert_eq!((reply.redirected.len(), reply.redirected[0].to.to_string()), (1, "erin+Junk@two.example".into()));
    assert_eq!(reply.owed, [Owed::Record, Owed::Notice(2)]);
    assert_eq!(stage.filter.custody().unwrap().journal(10).await.unwrap().len(), 1, "one row for the message");
    // However RCPT spells them, in any order.
    let odd = ["BOB+x@home.example", "carol@HOME.example.", "Erin@Two.Example", "\"dave\"@three.example"];
    let mut mirrored = expected.map(|(id, by)| (id.to_owned(), by));
    mirrored.reverse();
    assert_eq!(words(&stage.judged(&[JUNK], &odd).await), mirrored);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_user_sets_counts_from_the_next_message_on_beside_the_running_filter() {
    let stage = stage(Act::invalid(), LEVELS).await;
    let bob = ["bob@two.example"];
    let word = async |stage: &Stage| words(&stage.judged(&[JUNK], &bob).await).remove(0);
    assert_eq!(word(&stage).await, ("mark".into(), By::Domain));
    stage.done(&["user", "set", "Bob@two.example", "invalid=reject-silently", "mark=header"]);
    let case = stage.judged(&[JUNK], &bob).await;
    assert_eq!(
        (words(&case)[0].clone(), &case.reply.verdict),
        (("reject-silently".into(), By::User), &Verdict::Discard)
    );
    assert_eq!(case.decisions[0].mark, MarkAs::Header);
    stage.done(&["user", "set", "bob@two.example", "invalid=accept"]);
    assert_eq!(word(&stage).await, ("accept".into(), By::User));
    // Said, and of no use: the administrator's line goes first.
    let told = stage.done(&["user", "set", "carol@home.example", "invalid=accept"]);
    assert!(told.contains("[policy.recipient.\"carol@home.example\"].invalid goes before"), "{told}");
    assert_eq!(words(&stage.judged(&[JUNK], &["carol@home.example"]).await)[0].1, By::Recipient);
    // A configuration that opens less to users takes the choice away, and a wider one gives it back.
    let mut narrow = stage.filter.config().clone();
    narrow.policy.user_may = vec!["mark".into()];
    let narrow = stage.filter.reload(narrow).await.unwrap();
    let mail = world::mail(&[ALICE], &[JUNK]).altered(|envelope, _| envelope.recipients = vec![rcpt(bob[0])]);
    assert_eq!(words(&narrow.examine(mail).await)[0].1, By::Domain);
    assert_eq!(word(&stage).await.1, By::User);
    stage.done(&["user", "clear", "bob@two.example"]);
    assert_eq!(word(&stage).await, ("mark".into(), By::Domain));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wanted_senders_mail_passes_unless_his_own_domain_denies_it() {
    let text = LEVELS.replace("invalid = \"accept\"", "invalid = \"accept\"\nmissing = \"quarantine\"");
    let stage = stage(Act::invalid(), &text).await;
    let bob = ["bob@two.example", "dave@two.example"];
    assert!(words(&stage.judged(&[], &bob).await).iter().all(|word| *word == ("quarantine".into(), By::Site)));
    stage.done(&["user", "allow", "bob@two.example", "Alice+list@example.com"]);
    let expected = [("accept".to_owned(), By::AllowList), ("quarantine".to_owned(), By::Site)];
    let mixed = stage.judged(&[], &bob).await;
    assert_eq!(words(&mixed), expected);
    let line = mixed.line();
    assert!(
        line.contains("by=allow-list to=<bob@two.example> ") && line.contains("by=site to=<dave@two.example> "),
        "{line}"
    );
    let denied = stage.judged(&[JUNK], &bob).await;
    assert!(words(&denied).iter().all(|(_, by)| *by == By::Domain), "an AS said that alice did not write it");
    stage.done(&["user", "disallow", "bob@two.example", "alice@example.com"]);
    stage.done(&["user", "allow", "bob@two.example", "@example.com"]);
    assert_eq!(words(&stage.judged(&[], &bob).await), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_users_own_rules_count_from_the_next_message_on_within_what_is_open() {
    let stage =
        stage(Act::invalid(), &LEVELS.replace("invalid = \"accept\"", "invalid = \"accept\"\nuser_rules = true")).await;
    let file = |text: &str| {
        let path = stage.file.with_file_name("mine.rules");
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let refused = |words: &[&str], code: i32| {
        let output = stage.run(words);
        assert_eq!(output.status.code(), Some(code), "{words:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let dave = ["dave@three.example"];
    let bad = file("# mine\nwhen result is invalid and sender is @exmple.com; mark\notherwise accept\n");
    let told = refused(&["user", "rules", dave[0], &bad], 2);
    assert!(told.contains("mine.rules: ") && told.contains("line 2, column "), "{told}");
    assert_eq!(words(&stage.judged(&[JUNK], &dave).await), [("accept".into(), By::Site)]);
    let good = file(
        "# mine\nwhen result is invalid and sender is @example.com: quarantine 'not from her'\notherwise accept\n",
    );
    let told = stage.done(&["user", "rules", "Dave+x@three.example", &good]);
    assert!(told.contains("dave@three.example: 2 rules; they may decide: accept, mark, quarantine"), "{told}");
    let case = stage.judged(&[JUNK], &dave).await;
    assert_eq!(words(&case), [("rules".into(), By::User)]);
    assert_eq!(case.decisions[0].reason, "not from her");
    let shown = stage.done(&["user", "show", dave[0]]);
    assert!(shown.contains("rules:\n  # mine\n  when result is invalid and sender"), "{shown}");
    let explained = stage.done(&["config", "explain", dave[0]]);
    assert!(explained.contains("own rules go first for invalid, missing, none"), "{explained}");
    let table = stage.done(&["policy", "table", &format!("--bindings={}", dave[0]), "--csv"]);
    assert!(table.contains("quarantine: not from her"), "{table}");
    // A recipient with other rules, or none, comes in a message apart where that is wanted.
    assert!(!stage.alike(dave[0], "frank@three.example").await && stage.alike(dave[0], "DAVE+y@three.example").await);
    let why = {
        let id = stage.filter.custody().unwrap().journal(1).await.unwrap()[0].id.to_string();
        stage.done(&["why", &id])
    };
    assert!(why.contains("not from her"), "{why}");
    // The administrator's line for a recipient goes before them, and so does what the user chose for a result.
    let told = stage.done(&["user", "rules", "carol@home.example", &good]);
    assert!(told.contains("for invalid a choice of its own, or the administrator's line"), "{told}");
    assert_eq!(words(&stage.judged(&[JUNK], &["carol@home.example"]).await)[0].1, By::Recipient);
    // What an update or an administrator took away falls to the site's policy, and is told.
    let mut without = stage.filter.config().clone();
    without.policy.user_may = vec!["mark".into()];
    let narrow = stage.filter.reload(without.clone()).await.unwrap();
    let mail = world::mail(&[ALICE], &[JUNK]).altered(|envelope, _| envelope.recipients = vec![rcpt(dave[0])]);
    let case = narrow.examine(mail.clone()).await;
    assert_eq!(words(&case), [("accept".into(), By::Site)]);
    assert!(case.line().contains("passed-over=") && case.line().contains("not open to users"), "{}", case.line());
    without.policy.user_rules = false;
    assert_eq!(words(&stage.filter.reload(without).await.unwrap().examine(mail).await), [("accept".into(), By::Site)]);
    stage.done(&["user", "clear", dave[0], "rules"]);
    assert_eq!(words(&stage.judged(&[JUNK], &dave).await), [("accept".into(), By::Site)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_users_have_no_rules_of_their_own_that_is_said() {
    let stage = stage(Act::invalid(), LEVELS).await;
    let path = stage.file.with_file_name("mine.rules");
    std::fs::write(&path, "otherwise accept\n").unwrap();
    let output = stage.run(&["user", "rules", "dave@three.example", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("policy.user_rules = true"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_users_choices_a_message_is_deferred_and_never_treated_by_the_sites_policy() {
    let stage = stage(Act::invalid(), LEVELS).await;
    stage.done(&["user", "set", "bob@home.example", "invalid=reject-silently"]);
    stage.filter.custody().unwrap().close().await;
    let case = stage.judged(&[JUNK], &["bob@home.example", "dave@three.example"]).await;
    assert!(deferred(&case) && case.decisions.is_empty() && case.reply.edits.is_empty(), "{}", case.line());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_that_is_damaged_defers_too() {
    let stage = stage(Act::invalid(), LEVELS).await;
    // All of it anew: the filter's last connection would move what it has in the log into a file that stayed.
    for file in ["filter.db", "filter.db-wal", "filter.db-shm"] {
        let _ = std::fs::remove_file(stage.state.join(file));
    }
    std::fs::write(stage.state.join("filter.db"), vec![b'x'; 65_536]).unwrap();
    let case = stage.judged(&[JUNK], &["bob@home.example"]).await;
    assert!(deferred(&case), "{}", case.line());
    assert!(
        !stage.alike("bob@home.example", "erin@two.example").await,
        "the administrator's lines are known all the same"
    );
    for words in [&["user", "show", "bob@home.example"][..], &["config", "explain", "bob@home.example"]] {
        let output = stage.run(words);
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("filter.db"), "{words:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_rcpt_those_are_alike_whose_bindings_are_the_same_for_every_result() {
    let stage = stage(Act::invalid(), &LEVELS.replace("[policy]\n", "[policy]\nmixed = \"split\"\n")).await;
    assert!(stage.filter.splits());
    for (first, next, alike) in [
        ("bob@home.example", "dave@three.example", true),
        ("bob@home.example", "BOB+x@home.example", true),
        ("erin@two.example", "frank@two.example", true),
        ("erin@two.example", "bob@home.example", false),
        ("bob@home.example", "carol@home.example", false),
        ("carol@home.example", "Carol+y@HOME.example.", true),
        ("bob@home.example", "postmaster", true),
    ] {
        assert_eq!(stage.alike(first, next).await, alike, "{first} {next}");
        assert_eq!(stage.alike(next, first).await, alike, "{next} {first}");
    }
    // A choice for any one result is enough, and so is the mark; the same words by another level are no difference.
    for choice in ["missing=quarantine", "unusable=accept", "mark=folder"] {
        stage.done(&["user", "set", "bob@home.example", choice]);
        assert!(!stage.alike("bob@home.example", "dave@three.example").await, "{choice}");
        stage.done(&["user", "clear", "bob@home.example"]);
    }
    stage.done(&["user", "set", "bob@home.example", "unusable=mark", "mark=header"]);
    assert!(stage.alike("bob@home.example", "dave@three.example").await, "as it was anyway");
    // Who writes is not known at RCPT.
    stage.done(&["user", "allow", "dave@three.example", "@example.com"]);
    assert!(stage.alike("bob@home.example", "dave@three.example").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_told_apart_at_rcpt_where_the_choices_cannot_be_read_or_nothing_is_done() {
    let text = LEVELS.replace("[policy]\n", "[policy]\nmixed = \"split\"\n");
    let stage = stage(Act::invalid(), &text).await;
    stage.done(&["user", "set", "bob@home.example", "invalid=quarantine"]);
    assert!(!stage.alike("bob@home.example", "dave@three.example").await);
    stage.filter.custody().unwrap().close().await;
    assert!(stage.alike("bob@home.example", "dave@three.example").await, "the end of the message defers it");
    for (from, to) in [("observe = false", "observe = true"), ("mixed = \"split\"", "mixed = \"settle\"")] {
        let config = Config::parse(&text.replace(from, to), "x.toml".as_ref()).unwrap();
        let state_dir = stage.filter.config().state_dir.clone();
        let filter = Filter::builder(Config { state_dir, ..config }, Trial::waived()).open().await.unwrap();
        assert!(!filter.splits(), "{to}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_explanation_says_what_the_filter_will_do() {
    let stage = stage(Act::invalid(), LEVELS).await;
    stage.done(&["user", "set", "erin@two.example", "invalid=quarantine"]);
    stage.done(&["user", "allow", "erin@two.example", "alice@example.com"]);
    let text = stage.done(&["config", "explain", "Erin+x@two.example"]);
    for line in [
        "[policy.domain.\"two.example\"].invalid = \"mark\" loses to the user's choice",
        "[policy].mark = \"header\" loses to [policy.domain.\"two.example\"].mark",
        "note: senders wanted by the user: 1; --sender ADDRESS shows what becomes of their mail",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    let explain = |recipient: &str| {
        let text = stage.done(&["--json", "config", "explain", recipient, "--sender", "alice@example.com"]);
        serde_json::from_str::<serde_json::Value>(&text).unwrap()
    };
    for recipient in ["dave@three.example", "erin@two.example", "carol@home.example"] {
        for (keys, status) in [(&[JUNK][..], KeyStatus::Invalid), (&[], KeyStatus::Missing)] {
            let case = stage.judged(keys, &[recipient]).await;
            let (told, decision) = (explain(recipient), &case.decisions[0]);
            let line = told["results"].as_array().unwrap().iter().find(|line| line["result"] == status.word()).unwrap();
            assert_eq!(line["policy"], decision.policy.as_str(), "{recipient} {status:?}");
            assert_eq!(line["by"], decision.by.word(), "{recipient} {status:?}");
            assert_eq!(line["digest"], decision.digest.as_str());
            assert_eq!(told["mark"]["mark"] == "folder", decision.mark == MarkAs::Folder, "{recipient}");
        }
    }
    let lines = explain("erin@two.example")["results"].as_array().unwrap().clone();
    let late = lines.iter().find(|line| line["why"] == "expired").unwrap();
    assert_eq!((&late["by"], &late["policy"], lines.len()), (&"allow-list".into(), &"accept".into(), 8));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_may_not_look_is_told_who_may() {
    let stage = stage(Act::invalid(), LEVELS).await;
    let mode = |path: &Path, mode| std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    mode(stage.file.parent().unwrap(), 0o755);
    mode(&stage.file, 0o644);
    mode(&stage.state, 0o000);
    let root = std::fs::metadata(&stage.state).unwrap().uid() == 0;
    // Where it was built another user may not reach it.
    let program = stage.file.with_file_name("addrauth");
    std::fs::hard_link(binary(), &program).or_else(|_| std::fs::copy(binary(), &program).map(|_| ())).unwrap();
    for words in [
        &["quarantine", "list"][..],
        &["journal", "list"],
        &["why", "4F1"],
        &["user", "show", "bob@home.example"],
        &["user", "set", "bob@home.example", "invalid=quarantine"],
    ] {
        let mut command = Command::new(&program);
        command.arg("--config").arg(&stage.file).args(words);
        if root {
            // No mode keeps root out.
            command.uid(65_534).gid(65_534);
        }
        let output = command.output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {error}");
        assert!(error.contains("permission denied: run this as root or as the filter's user ("), "{words:?}: {error}");
        assert!(!error.contains("there is no"), "{words:?}: {error}");
    }
    mode(&stage.state, 0o700);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn explaining_makes_no_state_and_says_what_is_not_ours() {
    let stage = stage(Act::invalid(), LEVELS).await;
    let elsewhere = stage.done(&["config", "explain", "bob@elsewhere.example"]);
    assert!(elsewhere.contains("none of final_domains") && elsewhere.contains("passed untouched"), "{elsewhere}");
    let fresh = stage.state.join("fresh");
    std::fs::write(&stage.file, format!("state_dir = {fresh:?}\n{LEVELS}")).unwrap();
    let text = stage.done(&["config", "explain", "bob@home.example"]);
    assert!(text.contains("without users' choices"), "{text}");
    assert_eq!(stage.run(&["user", "show", "bob@home.example"]).status.code(), Some(1));
    assert_eq!(stage.run(&["user", "disallow", "bob@home.example", "@x.example"]).status.code(), Some(1));
    let none = stage.run(&["user", "list"]);
    assert_eq!((none.status.code(), none.stdout.len()), (Some(1), 0));
    assert!(String::from_utf8_lossy(&none.stderr).contains("no user chose anything"));
    assert!(!fresh.exists(), "looking makes nothing");
    let lines = "[policy.domain.\"B\u{fc}cher.example\"]\n[policy.recipient.\"x@elsewhere.example\"]\n";
    std::fs::write(&stage.file, format!("state_dir = {fresh:?}\n{LEVELS}{lines}")).unwrap();
    let checked = stage.done(&["config", "check"]);
    for warning in
        ["policy.domain.\"xn--bcher-kva.example\": the domain is not", "policy.recipient.\"x@elsewhere.example\": the"]
    {
        assert!(checked.contains(warning), "{checked}");
    }
    assert!(!checked.contains("two.example"), "{checked}");
    assert_eq!(stage.run(&["config", "explain", "nonsense"]).status.code(), Some(2));
    let refused = stage.run(&["user", "set", "bob@home.example", "valid=mark"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("no say over valid"));
    std::fs::write(&stage.file, "nonsense").unwrap();
    assert_eq!(stage.run(&["user", "show", "bob@home.example"]).status.code(), Some(2));
}
