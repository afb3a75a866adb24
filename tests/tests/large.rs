//! Policies of class large in a process: the trial's bounds, memory that goes back, and mail that goes on meanwhile.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use addrauth::case::{Disposition, Envelope, Found, Head, KeyStatus, Mail, Recipient, Why, Wish};
use addrauth::config::{self, Limits, Module, Size};
use addrauth::policy::{Policies, Trial};
use addrauth_tests::bombs;
use addrauth_tests::daemon::binary;

const PAUSE: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_secs(60);

fn hostile() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("hostile/hostile.wasm")
}

/// `invalid` bound to this component in class large, with this misdeed where it has one.
fn large(component: &Path, does: Option<&str>) -> (config::Policy, BTreeMap<String, Module>) {
    let mut text = format!("[x]\nmodule = {component:?}\nsize = \"large\"\n");
    text += &does.map(|does| format!("settings.does = \"{does}\"\n")).unwrap_or_default();
    let bindings = config::Policy { invalid: "x".into(), ..config::Policy::default() };
    (bindings, toml::from_str(&text).unwrap())
}

async fn decided(policies: &Policies) -> (Disposition, String) {
    let envelope =
        Envelope { recipients: vec![Recipient::new(b"<bob@example.com>")], size: Some(1), ..Envelope::default() };
    let mail = Mail::new(envelope, Head::default());
    let found = Found::bare(KeyStatus::Invalid, Some(Why::Wrong), None);
    let mut decisions = policies.decide(&mail, &found, &[Wish::default()]).await;
    let decision = decisions.remove(0);
    (decision.disposition, decision.fault.unwrap_or(decision.reason))
}

/// A program that says the number of its process, waits for a file, and then does what a trial does.
fn waiting(dir: &Path) -> Trial {
    let script = dir.join("tester");
    let text = format!(
        "#!/bin/sh\necho $$ > \"$1/new\"\nmv \"$1/new\" \"$1/pid\"\nwhile [ ! -e \"$1/go\" ]; do sleep 0.01; done\nexec {} \
         try-component\n",
        binary().display()
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    Trial::by(script, [dir]).with("MIMALLOC_ARENA_RESERVE", "0")
}

async fn until(what: &str, mut there: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !there() {
        assert!(begin.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(PAUSE).await;
    }
}

#[tokio::test]
async fn k15_the_trial_of_a_large_component_has_the_bounds_of_its_class() {
    let dir = tempfile::tempdir().unwrap();
    let (name, bomb) = &bombs::of_code()[0];
    let file = dir.path().join("bomb.wasm");
    fs::write(&file, bomb).unwrap();
    let (bindings, modules) = large(&file, None);
    let limits = Arc::<Limits>::default();
    let (trial, pid) = (waiting(dir.path()), dir.path().join("pid"));
    fs::write(dir.path().join("go"), "").unwrap();
    let bounds = |name: &str| {
        let pid = fs::read_to_string(&pid).ok()?;
        let told = fs::read_to_string(format!("/proc/{}/limits", pid.trim())).ok()?;
        let line = told.lines().find(|line| line.starts_with(name))?.to_owned();
        line.split_whitespace().find_map(|word| word.parse::<u64>().ok())
    };
    let large = &limits.policy.other;
    tokio::select! {
        loaded = Policies::load_apart(&bindings, &modules, &limits, &trial) => panic!("{name}: {loaded:?}"),
        () = until("the child has bound itself", || {
            bounds("Max cpu time") == Some(large.trial_time.as_secs())
                && bounds("Max address space") == Some(large.trial_memory as u64)
        }) => {}
    }
    let pid = fs::read_to_string(pid).unwrap();
    until("the child is ended and waited for", || !Path::new("/proc").join(pid.trim()).exists()).await;
}

#[tokio::test]
async fn k2_memory_that_large_decisions_took_goes_back() {
    let limits = Limits::default().with(|limits| limits.policy.other.time = Duration::from_secs(20));
    let (bindings, modules) = large(&hostile(), Some("grow"));
    let policies = Policies::load(&bindings, &modules, &Arc::new(limits), &Trial::waived()).unwrap();
    let resident = || {
        let told = fs::read_to_string("/proc/self/status").unwrap();
        let line = told.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap() >> 10
    };
    let before = resident();
    for n in 0..30 {
        let (disposition, said) = decided(&policies).await;
        assert_eq!((disposition, said.as_str()), (Disposition::Defer, "wanted more than 128 MiB of memory"), "{n}");
    }
    // Each took 128 MiB. What stays is what is kept of each place, 2 MiB, and what others here do meanwhile.
    let more = resident().saturating_sub(before);
    println!("{more} MiB more than before");
    assert!(more < 100, "{more} MiB more than before");
}

#[tokio::test]
async fn the_policies_in_force_decide_while_a_large_one_is_tried_and_compiled() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Arc::new(Limits::default().with(|limits| {
        limits.policy.time = Duration::from_secs(20);
        limits.policy.other.compile = Duration::from_secs(3_600);
    }));
    let trial = waiting(dir.path());
    // One that looks at more than the result, so that the sandbox decides.
    let (bindings, mut modules) = large(&hostile(), Some("words"));
    modules.values_mut().for_each(|module| module.size = Size::Small);
    let old = Policies::load(&bindings, &modules, &limits, &Trial::waived()).unwrap();
    let (bindings, modules) = large(&hostile(), Some("state"));
    let mut reload = std::pin::pin!(old.reload_apart(&bindings, &modules, &trial));
    let mut meanwhile = 0;
    let begin = Instant::now();
    while meanwhile < 50 || !dir.path().join("pid").exists() {
        tokio::select! {
            biased;
            new = &mut reload => panic!("{new:?}"),
            (disposition, _) = decided(&old) => assert_eq!(disposition, Disposition::Mark),
        }
        meanwhile += 1;
        assert!(begin.elapsed() < PATIENCE);
        tokio::time::sleep(PAUSE).await;
    }
    fs::write(dir.path().join("go"), "").unwrap();
    let new = loop {
        tokio::select! {
            biased;
            new = &mut reload => break new.unwrap(),
            (disposition, _) = decided(&old) => assert_eq!(disposition, Disposition::Mark),
        }
        tokio::time::sleep(PAUSE).await;
    };
    for _ in 0..5 {
        // It counts its calls, and each instance begins anew.
        assert_eq!(decided(&new).await, (Disposition::Mark, "0".into()));
    }
}
