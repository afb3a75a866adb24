//! Components that are made to be dear to compile, against the real trial, the daemon and the verbs (attack K15).

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use addrauth::config::{self, Config, Limits};
use addrauth::filter::Filter;
use addrauth::policy::{Error, Policies, Refused, Trial};
use addrauth_tests::bombs;
use addrauth_tests::daemon::{Daemon, binary, component};

/// By which the program tries a component.
const TRIAL_VERB: &str = "try-component";

/// For what happens at once, on a machine that does much else. What does not happen at all takes an hour (see `bench`).
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(5);

/// What a process has taken so far.
#[derive(Clone, Copy, Debug, Default)]
struct Taken {
    /// Octets of address space at most.
    space: u64,
    /// Processor time in hundredths of a second.
    time: u64,
}

/// The second field of this name in a file of /proc; none where the process has gone.
fn field(pid: u32, file: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().find_map(|word| word.parse().ok())
}

/// The fields of /proc/PID/stat after the program's name.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(text.rsplit_once(')')?.1.split_whitespace().map(String::from).collect())
}

fn taken(pid: u32) -> Option<Taken> {
    let (space, stat) = (field(pid, "status", "VmPeak:")?, stat(pid)?);
    let ticks = |at: usize| stat.get(at).and_then(|ticks| ticks.parse::<u64>().ok());
    Some(Taken { space: space * 1024, time: ticks(11)? + ticks(12)? })
}

/// The processes that this one has begun and not waited for, with their state.
fn children(parent: u32) -> Vec<(u32, String)> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| {
        let stat = stat(pid)?;
        (stat.get(1)?.parse() == Ok(parent)).then(|| (pid, stat[0].clone()))
    })
    .collect()
}

/// Those of them that try a component.
fn trying(parent: u32) -> Vec<u32> {
    let tries =
        |pid: &u32| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.ends_with(b"try-component\0"));
    children(parent).into_iter().map(|(pid, _)| pid).filter(tries).collect()
}

fn is_gone(pid: u32) -> bool {
    // A container may have nobody who waits for orphans.
    stat(pid).is_none_or(|stat| stat[0] == "Z" || stat[0] == "X")
}

fn until(what: &str, mut there: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !there() {
        assert!(begin.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(PAUSE);
    }
}

fn signal(pid: u32, name: &str) {
    assert!(Command::new("kill").args(["-s", name, &pid.to_string()]).status().unwrap().success());
}

fn by_the_program() -> Trial {
    Trial::by(binary(), [TRIAL_VERB]).with("MIMALLOC_ARENA_RESERVE", "0")
}

/// Loads these octets as the policy `x`.
fn load(octets: &[u8], trial: &Trial) -> Result<Policies, Error> {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("x.wasm"), octets).unwrap();
    let bindings = config::Policy { dir: dir.path().into(), invalid: "x".into(), ..config::Policy::default() };
    // The child's own limits end it, however long that takes here.
    let limits = Limits::default().with(|limits| limits.policy.compile = Duration::from_secs(3_600));
    Policies::load(&bindings, &BTreeMap::new(), &Arc::new(limits), trial)
}

/// The same by the program, and what the process that tried them took. The one that another test here begins takes no more.
fn load_and_look(octets: &[u8]) -> (Result<Policies, Error>, Taken) {
    let (done, mut most) = (AtomicBool::new(false), Taken::default());
    let loaded = std::thread::scope(|scope| {
        let loading = scope.spawn(|| {
            let loaded = load(octets, &by_the_program());
            done.store(true, Ordering::Relaxed);
            loaded
        });
        while !done.load(Ordering::Relaxed) {
            for taken in trying(std::process::id()).into_iter().filter_map(taken) {
                most = Taken { space: most.space.max(taken.space), time: most.time.max(taken.time) };
            }
            std::thread::sleep(PAUSE);
        }
        loading.join().unwrap()
    });
    (loaded, most)
}

fn why(loaded: Result<Policies, Error>) -> Refused {
    match loaded.unwrap_err() {
        Error::At { source, .. } => match *source {
            Error::Refused { why, .. } => why,
            error => panic!("{error}"),
        },
        error => panic!("{error}"),
    }
}

#[test]
fn k15_components_within_components_are_refused_before_a_process_begins() {
    // It would say that it could not be tried.
    let nobody = Trial::by("/nowhere/addrauth", [TRIAL_VERB]);
    for (name, bomb) in bombs::of_components().into_iter().chain(bombs::of_many()) {
        let why = why(load(&bomb, &nobody));
        assert!(matches!(why, Refused::Outline(_)), "{name}, {} octets: {why}", bomb.len());
    }
}

#[test]
fn k15_code_that_is_dear_to_compile_ends_within_the_limits_of_the_process_that_tries_it() {
    let limits = Limits::default();
    // The processor's time is counted by the second, and some of it passes before the limit is set.
    let time = (limits.policy.trial_time.as_secs() + 1) * 100;
    let mut ended = 0;
    for (name, bomb) in bombs::of_code() {
        assert!(bomb.len() < 760 * 1024, "{name}: {}", bomb.len());
        let (loaded, taken) = load_and_look(&bomb);
        let why = why(loaded);
        match why {
            Refused::TrialTime { .. } | Refused::TrialMemory { .. } => {
                assert!(why.to_string().contains("bind another policy"), "{why}");
                ended += 1;
            }
            // A fast machine compiles some of them in time.
            why => assert!(matches!(why, Refused::NoPolicy), "{name}: {why}"),
        }
        assert!(taken.time > 0 && taken.time <= time, "{name}: {taken:?}");
        assert!(taken.space <= limits.policy.trial_memory as u64, "{name}: {taken:?}");
    }
    assert!(ended >= 3, "{ended}");
    assert_eq!(trying(std::process::id()), Vec::<u32>::new());
    for id in ["mark", "missing-direct", "reject-notify-both"] {
        let loaded = load(&component(id), &by_the_program()).unwrap();
        assert!(loaded.list().iter().any(|policy| policy.id == "x"), "{id}");
    }
}

/// Octets of address space that the trial of a component took at most, by `policy check` of the built program, and what that said.
fn checked(octets: &[u8]) -> (Taken, Option<i32>, String) {
    let bed = Bed::with(octets);
    let file = bed.path("shelf").join("x.wasm");
    let mut command = Command::new(binary());
    command.arg("--config").arg(bed.path("filter.toml")).args(["policy", "check"]).arg(file).stdin(Stdio::null());
    let (out, said) = (bed.path("said"), bed.path("more"));
    command.stdout(fs::File::create(&out).unwrap()).stderr(fs::File::create(&said).unwrap());
    let (mut checking, mut most) = (command.spawn().unwrap(), Taken::default());
    let status = loop {
        for taken in trying(checking.id()).into_iter().filter_map(taken) {
            most = Taken { space: most.space.max(taken.space), time: most.time.max(taken.time) };
        }
        if let Some(status) = checking.try_wait().unwrap() {
            break status;
        }
        std::thread::sleep(PAUSE / 5);
    };
    (most, status.code(), [out, said].map(|file| fs::read_to_string(file).unwrap()).concat())
}

/// The trial as the program itself asks for it, its allocator included.
#[test]
fn k15_the_program_tries_good_components_within_half_of_the_bound_and_refuses_a_bomb_by_it() {
    let bound = Limits::default().policy.trial_memory as u64;
    for id in ["mark", "reject-notify-both", "rules"] {
        // A look in between may miss a process that lives for so short a time.
        let mut all = (0..50).map(|_| {
            let (taken, code, said) = checked(&component(id));
            assert_eq!(code, Some(0), "{id}: {said}");
            taken
        });
        let taken = all.find(|taken| taken.space > 64 << 20).expect("one trial that is seen");
        println!("{id}: {} MiB of address space of {}", taken.space >> 20, bound >> 20);
        assert!(taken.space <= bound / 2, "{id}: {taken:?}");
    }
    let (name, bomb) = &bombs::of_code()[0];
    let (taken, code, said) = checked(bomb);
    assert_eq!(code, Some(1), "{name}: {said}");
    // On a machine that does much else the clock may be first.
    let told = said.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        ["compiling it takes more than", "compiling it took longer than"].iter().any(|words| told.contains(words)),
        "{said}"
    );
    assert!(taken.space > 0 && taken.space <= bound, "{name}: {taken:?}");
}

#[test]
fn k15_a_file_of_100_mb_is_not_even_read() {
    let dir = tempfile::tempdir().unwrap();
    let file = fs::File::create(dir.path().join("x.wasm")).unwrap();
    file.set_len(100 << 20).unwrap();
    let bindings = config::Policy { dir: dir.path().into(), invalid: "x".into(), ..config::Policy::default() };
    let said = Policies::load(&bindings, &BTreeMap::new(), &Arc::default(), &by_the_program()).unwrap_err().to_string();
    assert!(said.contains("is larger than 4 MiB"), "{said}");
    // Whoever hands it to the child itself is told so too.
    let given = fs::File::open(dir.path().join("x.wasm")).unwrap();
    let mut command = Command::new(binary());
    let out = command.arg(TRIAL_VERB).env("MIMALLOC_ARENA_RESERVE", "0").stdin(given).output().unwrap();
    assert_eq!((out.status.code(), out.stdout.starts_with(b"cannot try it: ")), (Some(2), true));
}

#[test]
fn only_what_comes_from_a_file_needs_a_trial_and_without_one_it_does_not_load() {
    let nobody = Trial::by("/nowhere/addrauth", [TRIAL_VERB]);
    Policies::load(&config::Policy::default(), &BTreeMap::new(), &Arc::default(), &nobody).unwrap();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("mark.wasm"), component("mark")).unwrap();
    let bindings = config::Policy { dir: dir.path().into(), ..config::Policy::default() };
    let refused = why(Policies::load(&bindings, &BTreeMap::new(), &Arc::default(), &nobody));
    assert!(matches!(refused, Refused::Untried(_)), "{refused}");
}

#[tokio::test]
async fn a_load_that_is_dropped_leaves_no_process() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("x.wasm"), component("mark")).unwrap();
    let (script, pid) = (dir.path().join("tester"), dir.path().join("pid"));
    fs::write(&script, "#!/bin/sh\necho $$ > \"$1.new\"\nmv \"$1.new\" \"$1\"\nexec sleep 3600\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let bindings = config::Policy { dir: dir.path().into(), invalid: "x".into(), ..config::Policy::default() };
    let limits = Arc::new(Limits::default().with(|limits| limits.policy.compile = Duration::from_secs(3_600)));
    let (none, trial) = (BTreeMap::new(), Trial::by(script, [&pid]));
    tokio::select! {
        loaded = Policies::load_apart(&bindings, &none, &limits, &trial) => panic!("{loaded:?}"),
        () = async { while !pid.exists() { tokio::time::sleep(PAUSE).await } } => {}
    }
    let pid: u32 = fs::read_to_string(pid).unwrap().trim().parse().unwrap();
    until("the child is ended and waited for", || stat(pid).is_none());
}

#[tokio::test]
async fn a_reload_tries_only_what_has_changed() {
    let dir = tempfile::tempdir().unwrap();
    let (shelf, script, count) = (dir.path().join("shelf"), dir.path().join("tester"), dir.path().join("count"));
    fs::create_dir(&shelf).unwrap();
    for id in ["x", "y"] {
        let own = [component("mark"), custom_section(id)].concat();
        fs::write(shelf.join(format!("{id}.wasm")), own).unwrap();
    }
    let text = format!("#!/bin/sh\necho x >> \"$1\"\nexec {} {TRIAL_VERB}\n", binary().display());
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let tries = || fs::read_to_string(&count).unwrap().lines().count();
    let policy = config::Policy { dir: shelf.clone(), invalid: "x".into(), missing: "y".into(), ..Default::default() };
    let config = Config { policy, ..Config::default() };
    let filter = Filter::builder(config.clone(), Trial::by(script, [&count]).with("MIMALLOC_ARENA_RESERVE", "0"))
        .open()
        .await
        .unwrap();
    assert_eq!(tries(), 2);
    let filter = filter.reload(config.clone()).await.unwrap();
    assert_eq!(tries(), 2);
    fs::write(shelf.join("y.wasm"), [component("mark"), custom_section("z")].concat()).unwrap();
    let filter = filter.reload(config.clone()).await.unwrap();
    assert_eq!(tries(), 3);
    fs::write(shelf.join("y.wasm"), &bombs::of_code()[0].1).unwrap();
    for more in 1..=2 {
        assert!(filter.reload(config.clone()).await.is_err());
        assert_eq!(tries(), 3 + more, "what was refused is tried again");
    }
}

/// A section that means nothing and changes the digest.
fn custom_section(name: &str) -> Vec<u8> {
    [&[0, name.len() as u8 + 1, name.len() as u8], name.as_bytes()].concat()
}

/// A filter's directory: its configuration's file, and `x.wasm` in `policy.dir` as `invalid` is bound to it.
struct Bed {
    dir: tempfile::TempDir,
}

impl Bed {
    fn with(octets: &[u8]) -> Bed {
        let bed = Bed { dir: tempfile::tempdir().unwrap() };
        let (shelf, state, socket) = (bed.path("shelf"), bed.path("state"), bed.path("milter"));
        fs::create_dir(&shelf).unwrap();
        let text = format!(
            "hostname = \"mx.example.com\"\nfinal_domains = [\"example.com\"]\nobserve = false\nstate_dir = {state:?}\n\
             [milter]\nlisten = [\"unix:{}\"]\n[policy]\ndir = {shelf:?}\ninvalid = \"x\"\n",
            socket.display()
        );
        fs::write(bed.path("filter.toml"), text).unwrap();
        bed.put(octets);
        bed
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn put(&self, octets: &[u8]) {
        fs::write(self.path("x.new"), octets).unwrap();
        fs::rename(self.path("x.new"), self.path("shelf").join("x.wasm")).unwrap();
    }

    fn start(&self) -> Daemon {
        let mut daemon = Daemon::start("filter", &self.path("filter.toml"));
        daemon.until_it_takes_mail(&format!("unix:{}", self.path("milter").display()));
        daemon
    }

    /// The exit code of a verb, and all that it said.
    fn says(&self, words: &[&str]) -> (Option<i32>, String) {
        let mut command = Command::new(binary());
        command.arg("--config").arg(self.path("filter.toml")).args(words).stdin(Stdio::null());
        let out = command.output().unwrap();
        (out.status.code(), String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned())
    }
}

/// A component that is being tried for as long as a test wants: its process is stopped as soon as it is there.
fn held(daemon: &Daemon) -> u32 {
    let mut child = None;
    until("a process tries it", || {
        child = trying(daemon.pid()).first().copied();
        child.is_some()
    });
    let child = child.unwrap();
    // It binds itself to the life of its parent first of all, and to limits then.
    let bound = || field(child, "limits", "Max cpu time").is_some();
    until("it is bound", || is_gone(child) || bound());
    signal(child, "STOP");
    child
}

#[test]
fn k15_four_reloads_in_a_row_leave_no_process_and_the_old_policies_in_force() {
    let bed = Bed::with(&component("mark"));
    let daemon = bed.start();
    bed.put(&bombs::of_code()[0].1);
    for _ in 0..4 {
        daemon.signal("HUP");
        std::thread::sleep(Duration::from_millis(300));
    }
    until("a reload is refused", || daemon.log().contains("not reloaded"));
    let mut quiet = Instant::now();
    until("nothing is tried any more", || {
        if !children(daemon.pid()).is_empty() {
            quiet = Instant::now();
        }
        quiet.elapsed() > Duration::from_secs(3)
    });
    assert!(daemon.log().contains("another build of it or bind another policy"), "{}", daemon.log());
    bed.put(&component("accept"));
    daemon.signal("HUP");
    until("a good one is taken", || daemon.log().contains("reloaded: the next message"));
}

#[test]
fn a_filter_that_is_killed_takes_the_process_that_tries_a_component_with_it() {
    let bed = Bed::with(&component("mark"));
    let daemon = bed.start();
    bed.put(&bombs::of_code()[0].1);
    daemon.signal("HUP");
    let child = held(&daemon);
    daemon.kill();
    until("it is gone", || is_gone(child));
}

#[test]
fn k15_sigterm_is_answered_at_once_while_a_component_is_tried() {
    let bed = Bed::with(&component("mark"));
    let daemon = bed.start();
    bed.put(&bombs::of_code()[0].1);
    daemon.signal("HUP");
    let child = held(&daemon);
    let begin = Instant::now();
    daemon.signal("TERM");
    until("the filter ends", || is_gone(daemon.pid()));
    assert!(begin.elapsed() < Limits::default().policy.compile, "only when the trial was over: {:?}", begin.elapsed());
    until("the process that tries ends", || is_gone(child));
}

#[test]
fn k15_the_verbs_tell_of_a_refused_component_and_what_to_do() {
    let bed = Bed::with(&bombs::of_code()[0].1);
    let file = bed.path("shelf").join("x.wasm");
    let file = file.to_str().unwrap();
    let cases = "[[case]]\nname = \"a\"\nfacts = { status = \"valid\" }\nexpect = { disposition = \"accept\" }\n";
    fs::write(Path::new(file).with_file_name("cases.toml"), cases).unwrap();
    let verbs = [
        (&["config", "check"][..], 1),
        (&["doctor"], 1),
        (&["policy", "check", file], 1),
        (&["policy", "test", file], 2),
    ];
    for (words, expected) in verbs {
        let (code, said) = bed.says(words);
        assert_eq!(code, Some(expected), "{words:?}: {said}");
        let told = ["x.wasm", "refused", "compiling it t", "another build of it or bind another policy"];
        // Long lines are broken between words.
        let line = said.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(told.iter().all(|words| line.contains(words)), "{words:?}: {said}");
    }
}
