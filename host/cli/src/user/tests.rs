use clap::{Args as _, Command, FromArgMatches as _};

use super::*;
use addrauth::config;
use addrauth::policy::Trial;
use addrauth::proto::address::Mailbox;

const CONFIG: &str = r#"
final_domains = ["home.example"]
[policy]
spam_folder = "+Junk"
user_may = ["mark", "quarantine", "reject-silently"]
[policy.recipient."boss@home.example"]
invalid = "accept"
"#;

/// A state directory and a configuration.
struct Home {
    dir: tempfile::TempDir,
    config: Config,
}

fn home(text: &str) -> Home {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::parse(text, "x.toml".as_ref()).unwrap();
    std::fs::create_dir(dir.path().join("state")).unwrap();
    config.state_dir = config::StateDir(dir.path().join("state"));
    Home { dir, config }
}

fn named(address: &str) -> Mailbox {
    Mailbox::parse(address).unwrap()
}

async fn done(home: &Home, words: &str) -> Result<bool, Error> {
    let command = Args::augment_args(Command::new("user").no_binary_name(true));
    let matches = command.try_get_matches_from(words.split(' ')).unwrap();
    carry_out(Args::from_arg_matches(&matches).unwrap().verb, &home.config, false).await
}

async fn chosen(home: &Home, address: &str) -> Vec<String> {
    let Some(ledger) = ledger(&home.config).await.unwrap() else { return Vec::new() };
    let choices = ledger.choices(&named(address)).await.unwrap();
    choices.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

#[tokio::test]
async fn what_is_refused_is_refused_whole_and_says_the_way_out() {
    let home = home(CONFIG);
    for (words, says) in [
        ("set bob invalid=mark", "bob@example.com"),
        ("set bob@elsewhere.example invalid=mark", "final_domains (home.example)"),
        ("allow bob@elsewhere.example a@x.example", "final_domains"),
        ("set bob@home.example invalid=mark valid=mark", "no say over valid"),
        ("set bob@home.example invalid=accept", "What can: mark, quarantine, reject-silently"),
        ("set bob@home.example missing=reject-silently", "What can be chosen: mark, quarantine"),
        ("set bob@home.example missing=accept", "cannot be chosen for missing"),
        ("set bob@home.example invalid=mark invalid=quarantine", "invalid is chosen twice"),
        ("set bob@home.example invalid", "RESULT=POLICY"),
        ("set bob@home.example forged=mark", "RESULT=POLICY"),
        ("set bob@home.example mark=sound", "mark=header"),
        ("clear bob@home.example forged", "is no result"),
        ("allow bob@home.example a@x.example example.com", "@example.com for all of a domain"),
        ("disallow bob@home.example *@x.example.", "is no sender"),
        ("allow bob@home.example *@x.example", "write @x.example"),
    ] {
        let error = done(&home, words).await.unwrap_err();
        assert!(error.to_string().contains(says), "{words}: {error}");
        let typed = matches!(error, Error::Address(_) | Error::Sender(_) | Error::Star(..));
        assert_eq!(error.code(), if typed { exit::unknown() } else { exit::no() }, "{words}");
    }
    assert!(!home.dir.path().join("state/filter.db").exists(), "not even a database is made");
}

#[tokio::test]
async fn where_nothing_is_open_to_users_or_no_folder_has_an_address_the_way_is_shown() {
    let home = home("final_domains = [\"home.example\"]\n");
    let error = done(&home, "set bob@home.example invalid=mark").await.unwrap_err().to_string();
    assert!(error.contains("policy.user_may = ["), "{error}");
    let error = done(&home, "set bob@home.example mark=folder").await.unwrap_err().to_string();
    assert!(error.contains("policy.spam_folder"), "{error}");
    assert!(done(&home, "set bob@home.example mark=header").await.unwrap());
}

#[tokio::test]
async fn choices_are_set_shown_and_cleared_by_mailbox() {
    let home = home(CONFIG);
    assert!(!done(&home, "show bob@home.example").await.unwrap());
    assert!(done(&home, "set Bob+x@HOME.example invalid=reject-silently missing=mark mark=folder").await.unwrap());
    assert_eq!(chosen(&home, "bob@home.example").await, ["invalid=reject-silently", "mark=folder", "missing=mark"]);
    assert!(done(&home, "show bob@home.example").await.unwrap());
    assert!(done(&home, "clear bob@home.example mark missing").await.unwrap());
    assert!(!done(&home, "clear bob@home.example mark").await.unwrap(), "nothing left of it");
    assert!(done(&home, "clear BOB@home.example").await.unwrap());
    assert!(chosen(&home, "bob@home.example").await.is_empty());
    assert!(!done(&home, "list").await.unwrap());
}

#[tokio::test]
async fn what_is_not_open_to_users_any_more_is_marked() {
    let mut home = home(CONFIG);
    assert!(done(&home, "set bob@home.example invalid=reject-silently missing=mark mark=folder").await.unwrap());
    home.config.policy.user_may = vec!["mark".into()];
    home.config.policy.spam_folder = String::new();
    let ledger = ledger(&home.config).await.unwrap().unwrap();
    let choices = ledger.choices(&named("bob@home.example")).await.unwrap();
    let bob = read("bob@home.example").unwrap();
    assert_eq!(not_open(&home.config, &load(&home.config).unwrap(), &bob, &choices), ["invalid", "mark"]);
    assert!(done(&home, "show bob@home.example").await.unwrap());
    assert!(done(&home, "list").await.unwrap());
}

#[tokio::test]
async fn a_clear_without_names_takes_the_wanted_senders_too() {
    let home = home(CONFIG);
    assert!(done(&home, "set bob@home.example invalid=mark").await.unwrap());
    assert!(done(&home, "allow bob@home.example alice@example.com @list.example").await.unwrap());
    assert!(done(&home, "clear bob@home.example invalid").await.unwrap());
    assert!(done(&home, "show bob@home.example").await.unwrap(), "the list stays");
    assert!(done(&home, "clear Bob@home.example").await.unwrap());
    assert!(!done(&home, "show bob@home.example").await.unwrap());
}

#[tokio::test]
async fn wanted_senders_come_and_go() {
    let home = home(CONFIG);
    assert!(done(&home, "allow bob@home.example Alice+x@Example.com @LIST.example").await.unwrap());
    let ledger = ledger(&home.config).await.unwrap().unwrap();
    assert_eq!(ledger.allowed(&named("bob@home.example")).await.unwrap(), ["@list.example", "alice@example.com"]);
    assert!(done(&home, "show bob@home.example").await.unwrap());
    assert!(!done(&home, "disallow bob@home.example carol@example.com").await.unwrap());
    assert!(done(&home, "disallow bob@home.example @list.example alice@example.com").await.unwrap());
    assert!(ledger.allowed(&named("bob@home.example")).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_choice_that_the_administrators_line_goes_before_is_kept_and_told() {
    let home = home(CONFIG);
    let policies =
        Policies::load(&home.config.policy, &home.config.policies, &Arc::default(), &Trial::waived()).unwrap();
    let mut wish = Wish::default();
    let boss = read("boss@home.example").unwrap();
    for (name, value) in [("invalid", "quarantine"), ("none", "mark"), ("mark", "folder")] {
        policies.check_choice(&home.config, &boss.mailbox(), (name, value), &mut wish).unwrap();
    }
    assert_eq!(lost(&policies, &boss, &wish), ["invalid"]);
}

#[tokio::test]
async fn where_no_filter_ever_started_nothing_is_made() {
    let home = home(CONFIG);
    let state = home.dir.path().join("state");
    std::fs::remove_dir(&state).unwrap();
    for words in ["set bob@home.example invalid=mark", "allow bob@home.example alice@example.com"] {
        let error = done(&home, words).await.unwrap_err();
        assert!(error.to_string().contains("the filter makes it when it first starts"), "{error}");
        assert_eq!(error.code(), exit::unknown());
    }
    assert!(!state.exists());
}

#[tokio::test]
async fn a_state_directory_that_is_none_is_no_answer() {
    let mut home = home(CONFIG);
    let file = home.dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    home.config.state_dir = config::StateDir(file);
    for words in ["set bob@home.example invalid=mark", "show bob@home.example", "list"] {
        let error = done(&home, words).await.unwrap_err();
        assert_eq!(error.code(), exit::unknown(), "{words}: {error}");
    }
}
