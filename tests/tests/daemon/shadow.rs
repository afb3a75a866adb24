//! A candidate beside a policy: recorded, promoted where its record allows it, and taken back.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Instant;

use addrauth::config::{Config, Limits};
use addrauth::policy::{Policies, Trial};
use addrauth_lab::mta::{Fate, Outcome};
use addrauth_tests::daemon::component;

use crate::bed::{Bed, Running, until};
use crate::watch::{digest, journal, put};

/// A message that names no sender, which `ours` treats.
const MESSAGE: &str = "Subject: nobody\n\nbody\n";

/// A bed in which `ours` accepts what names no sender, and this section says what else of it.
fn bed(section: &str) -> Bed {
    let bed = Bed::new();
    put(&bed.path("policies").join("ours.wasm"), &component("accept"));
    put(&bed.path("policies").join("next.wasm"), &component("mark"));
    bed.write(&format!("{}{section}", bed.text().replace("unusable = \"quarantine\"", "unusable = \"ours\"")));
    bed
}

/// A section with a pin, comments, and a candidate that marks.
fn section() -> String {
    format!(
        "[policies.ours] # what names nobody\nmodule = \"ours.wasm\" # the file\n# tried since today\nshadow = \"next.wasm\"\n\
         sha256 = \"{}\" # pinned\n",
        digest(&component("accept"))
    )
}

fn is_marked(outcome: &Outcome) -> bool {
    assert_eq!(outcome.fate, Fate::Delivered);
    String::from_utf8_lossy(&outcome.message).contains("X-Spam-Flag: YES")
}

/// Sends so many messages, none of them marked, and waits for their rows.
async fn send(bed: &Bed, count: usize) {
    for number in 0..count {
        assert!(!is_marked(&bed.talk(&format!("4P{number:03}"), MESSAGE).await));
    }
    journal(bed, count);
}

fn reload(bed: &Bed, filter: &Running, times: usize) {
    filter.signal("HUP");
    bed.until_said("reloaded: the next message", times);
}

/// The names in a directory.
fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// `why` and the summary tell what the candidate decided.
fn assert_told(bed: &Bed, count: usize) {
    let (code, out, _) = bed.run(&["why", "4P000"]);
    assert!(code == Some(0) && out.contains("Beside it the candidate") && out.contains("stricter"), "{out}");
    let (_, out, _) = bed.run(&["journal", "summary", "--json"]);
    let summary: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(summary["shadows"][0]["decisions"]["stricter"], count, "{out}");
    assert_eq!(summary["shadows"][0]["policy"], "ours");
}

#[tokio::test]
async fn a_promotion_that_is_refused_says_why_and_one_that_is_not_can_be_taken_back_after_a_restart() {
    const COUNT: usize = 12;
    let bed = bed(&section());
    let filter = bed.filter();
    bed.until_it_listens();
    bed.until_said("its candidate (next.wasm", 1);
    send(&bed, COUNT).await;
    assert_told(&bed, COUNT);

    // Over one's own mail, as far as `ours` decided it.
    let (code, out, err) = bed.run(&["policy", "diff", "ours", "mark", "--journal", "7d"]);
    assert!(code == Some(1) && out.contains("Over the mail that ours decided"), "{out}{err}");
    assert!(out.contains("stricter  accept -> mark\n  12 decisions for 12 recipients, from 1 domains"), "{out}");

    let before = (fs::read_to_string(bed.file()).unwrap(), names(&bed.path("policies")));
    let few = (COUNT / 2).to_string();
    for (gates, words) in [
        (vec![], "12 decisions are recorded, and 1000 are asked for"),
        (vec!["--at-least", &few], "12 of 12 decisions change, 100.000%"),
        (vec!["--at-least", &few, "--max-change", "100%", "--never", "accept:mark"], "go from accept to mark"),
        (vec!["--at-least", &few, "--since", "2020-01-01", "--max-change", "50%"], "and 50% may"),
    ] {
        let (code, out, err) = bed.run(&[vec!["policy", "promote", "ours"], gates].concat());
        assert_eq!(code, Some(1), "{out}{err}");
        assert!(out.contains(words) && out.contains("accept -> mark") && out.contains("e.g. row"), "{out}");
        assert_eq!((fs::read_to_string(bed.file()).unwrap(), names(&bed.path("policies"))), before, "{words}");
    }
    let promote = ["policy", "promote", "ours", "--at-least", &few, "--max-change", "100%"];
    let (code, out, err) = bed.run(&promote);
    assert!(code == Some(0) && out.contains("systemctl reload"), "{out}{err}");
    let text = fs::read_to_string(bed.file()).unwrap();
    let [old, new] = ["accept", "mark"].map(|id| digest(&component(id)));
    assert!(text.contains(&format!("module = \"ours.{}.wasm\" # the file\n", &new[..12])), "{text}");
    assert!(text.contains(&format!("sha256 = \"{new}\" # pinned")) && text.contains("# tried since today"), "{text}");
    assert!(!text.contains("shadow"), "{text}");
    assert!(names(&bed.path("policies")).contains(&format!("ours.{}.wasm", &old[..12])));
    assert!(!is_marked(&bed.talk("4PA0", MESSAGE).await), "the filter was not told yet");
    reload(&bed, &filter, 1);
    assert!(is_marked(&bed.talk("4PA1", MESSAGE).await), "{}", bed.log());
    // There is nothing to promote any more.
    let (code, _, err) = bed.run(&promote);
    assert!(code == Some(2) && err.contains("names no candidate"), "{err}");

    // Somebody puts another component where the old one was, and edits the rest; the machine restarts.
    put(&bed.path("policies").join("ours.wasm"), &component("quarantine"));
    bed.write(&text.replace("observe = false", "observe = false # a new comment"));
    drop(filter);
    let filter = bed.filter();
    bed.until_it_listens();
    let (code, out, err) = bed.run(&["policy", "rollback", "ours"]);
    assert_eq!(code, Some(0), "{out}{err}");
    let text = fs::read_to_string(bed.file()).unwrap();
    assert!(text.contains("# a new comment") && text.contains(&format!("ours.{}.wasm", &old[..12])), "{text}");
    assert!(text.contains(&old) && text.contains("shadow = \"next.wasm\""), "{text}");
    reload(&bed, &filter, 2);
    assert!(!is_marked(&bed.talk("4PA2", MESSAGE).await));
    let (code, _, err) = bed.run(&["policy", "rollback", "ours"]);
    assert!(code == Some(2) && err.contains("is not what a promotion wrote"), "{err}");
}

#[tokio::test]
async fn rules_as_text_are_shadowed_promoted_and_taken_back_with_all_comments() {
    let section = "[policies.ours]\nmodule = \"rules\"\n# by hand\nsettings.rules = [\n  # no rule yet\n  \"otherwise accept\", # all\n]\n\
                   shadow = \"next.toml\"\n# the end\n";
    let bed = bed(section);
    let next = "[policies.ours]\nmodule = \"rules\"\nsettings.rules = [\"when result is unusable: mark\", \"otherwise accept\"]\n";
    fs::write(bed.path("policies").join("next.toml"), next).unwrap();
    let filter = bed.filter();
    bed.until_it_listens();
    send(&bed, 3).await;
    let before = fs::read_to_string(bed.file()).unwrap();
    let (code, out, err) = bed.run(&["policy", "promote", "ours", "--at-least", "3", "--max-change", "100%"]);
    assert_eq!(code, Some(0), "{out}{err}");
    let text = fs::read_to_string(bed.file()).unwrap();
    assert!(text.contains("when result is unusable: mark") && text.contains("# by hand"), "{text}");
    assert!(!text.contains("shadow") && text.contains("# the end"), "{text}");
    reload(&bed, &filter, 1);
    assert!(is_marked(&bed.talk("4PB0", MESSAGE).await));
    let (code, out, err) = bed.run(&["policy", "rollback", "ours"]);
    assert_eq!(code, Some(0), "{out}{err}");
    assert_eq!(fs::read_to_string(bed.file()).unwrap(), before, "nothing was edited meanwhile: comments and all");
    reload(&bed, &filter, 2);
    assert!(!is_marked(&bed.talk("4PB1", MESSAGE).await));
}

#[tokio::test]
async fn candidates_that_loop_trap_or_are_broken_change_no_answer() {
    let hostile = Path::new(env!("CARGO_MANIFEST_DIR")).join("hostile/hostile.wasm");
    for (does, words) in [
        ("loop", "Beside it the candidate"),
        ("trap", "trapped"),
        ("grow", "Beside it the candidate"),
        ("none", "NO candidate"),
    ] {
        let bed = bed("[policies.ours]\nmodule = \"ours.wasm\"\nshadow = \"next.toml\"\n");
        let next = format!("[policies.ours]\nmodule = {hostile:?}\nsettings.does = {does:?}\n");
        let next = if does == "none" { next.replace("settings", "setting") } else { next };
        fs::write(bed.path("policies").join("next.toml"), next).unwrap();
        let _filter = bed.filter();
        bed.until_it_listens();
        let begin = Instant::now();
        send(&bed, 8).await;
        println!("{does}: 8 messages in {:?}", begin.elapsed());
        let (code, out, err) = bed.run(&["why", "4P001"]);
        assert!(code == Some(0) && (out + &bed.log()).contains(words), "{does}: {err}");
        let (code, out, err) = bed.run(&["policy", "promote", "ours", "--at-least", "0", "--max-change", "100%"]);
        assert!(code == Some(if does == "none" { 2 } else { 1 }), "{does}: {out}{err}");
        let says = ["NOT PROMOTED: the candidate failed", "came too late"].iter().any(|words| out.contains(words));
        assert!(says || does == "none", "{does}: {out}{err}");
    }
}

#[tokio::test]
async fn rows_with_a_candidate_hold_the_facts_that_it_asked_for() {
    let shadow = "shadow = \"missing-direct.wasm\"\n";
    for (shadow, code, words) in [(shadow, 0, "2 of 2 decisions the same"), ("", 2, "their rows lack trail")] {
        let bed = bed(&format!("[policies.ours]\nmodule = \"ours.wasm\"\n{shadow}"));
        put(&bed.path("policies").join("missing-direct.wasm"), &component("missing-direct"));
        let _filter = bed.filter();
        bed.until_it_listens();
        send(&bed, 2).await;
        let (said, out, err) = bed.run(&["policy", "replay", "missing-direct", "--of", "ours"]);
        assert!(said == Some(code) && out.contains(words), "{said:?} {out}{err}");
    }
}

#[tokio::test]
async fn wherever_a_promotion_is_killed_the_old_policy_or_the_new_one_is_whole() {
    let bed = bed(&section());
    let filter = bed.filter();
    bed.until_it_listens();
    send(&bed, 3).await;
    drop(filter);
    let [old, new] = ["accept", "mark"].map(|id| digest(&component(id)));
    let promote = ["policy", "promote", "ours", "--at-least", "1", "--max-change", "100%"];
    let text = fs::read_to_string(bed.file()).unwrap();
    let kept = |digest: &str| bed.path("policies").join(format!("ours.{}.wasm", &digest[..12]));
    let is_kept = || names(&bed.path(".")).iter().any(|name| name.starts_with("addrauth.toml.before-ours-"));
    let is_done = || fs::read_to_string(bed.file()).unwrap() != text;
    type Step<'a> = (&'a str, &'a dyn Fn() -> bool);
    let steps: [Step<'_>; 5] = [
        ("the start", &|| true),
        ("the old component is kept", &|| kept(&old).exists()),
        ("the new component is there", &|| kept(&new).exists()),
        ("the configuration is kept", &is_kept),
        ("the configuration is edited", &is_done),
    ];
    for (step, reached) in steps {
        let mut child = bed.command(&promote).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        until(step, || reached() || child.try_wait().unwrap().is_some(), String::new);
        child.kill().unwrap();
        child.wait().unwrap();
        let digest = in_force(&bed);
        let now = fs::read_to_string(bed.file()).unwrap();
        assert_eq!(now.contains("shadow = "), digest == old, "{step}: half of it: {now}");
        assert!(digest == old || digest == new, "{step}");
        println!("killed when {step}: {} is in force", if digest == old { "the old one" } else { "the new one" });
        // Whatever it left, it can be done again, and taken back.
        if digest == old {
            let (code, out, err) = bed.run(&promote);
            assert_eq!(code, Some(0), "{step}: {out}{err}");
        }
        let (code, out, err) = bed.run(&["policy", "rollback", "ours"]);
        assert_eq!((code, in_force(&bed)), (Some(0), old.clone()), "{step}: {out}{err}");
        for name in names(&bed.path("policies")).iter().filter(|name| name.starts_with("ours.") && *name != "ours.wasm")
        {
            fs::remove_file(bed.path("policies").join(name)).unwrap();
        }
        for name in names(&bed.path(".")).iter().filter(|name| name.contains(".before-ours-")) {
            fs::remove_file(bed.path(name)).unwrap();
        }
        bed.write(&text);
    }
}

/// The digest of `ours` that a filter would load now.
fn in_force(bed: &Bed) -> String {
    let text = fs::read_to_string(bed.file()).unwrap();
    let config = Config::parse(&text, Path::new("x")).unwrap();
    let policies = Policies::load(&config.policy, &config.policies, &Arc::new(Limits::default()), &Trial::waived());
    policies.unwrap().decider("ours").unwrap().digest
}
