use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use super::*;

/// A component that passes the first look.
const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";
const DIGEST: &str = "00ff";

/// A trial by a shell script, which finds this directory in its `$1`.
fn scripted(dir: &Path, script: &str) -> Trial {
    let program = dir.join("tester");
    std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    Trial::by(program, [dir])
}

fn run(trial: &Trial, limits: &Limits) -> Result<(), Refused> {
    trial.run(EMPTY, DIGEST, limits, &AtomicBool::new(false))
}

/// Whether the process that wrote its id into this file is there no more, not even to be waited for.
fn is_gone(pid_file: &Path) -> bool {
    let pid = std::fs::read_to_string(pid_file).unwrap();
    !Path::new("/proc").join(pid.trim()).exists()
}

#[test]
fn only_the_whole_answer_of_a_child_counts() {
    let dir = tempfile::tempdir().unwrap();
    let said = |script: &str| run(&scripted(dir.path(), script), &Limits::default()).unwrap_err().to_string();
    let unclear = [
        "exit 0",
        "printf 'passes '",
        "printf 'passes 00ff and more'",
        "printf 'passes ff00'",
        "printf 'passes 00ff'; exit 1",
        "printf 'passes 00ff'; exit 2",
        "printf 'passes 00ff'; kill -TERM $$",
        "printf 'passes 00ff'; kill -KILL $$",
        "printf 'refused: no'; exit 0",
        "printf 'refused: no'; exit 101",
        "exec >&-; exit 0",
    ];
    for script in unclear {
        let said = said(script);
        assert!(said.starts_with("it could not be tried: it ended with "), "{script}: {said}");
        assert!(said.len() < 500 && !said.contains('\0'), "{script}: {said}");
    }
    assert!(said("printf 'refused: it is\\r\\nodd%%'; exit 1").ends_with("it is  odd?"));
    for signal in ["ABRT", "SEGV", "BUS"] {
        assert!(said(&format!("kill -{signal} $$")).contains("more than 512 MiB of memory"), "{signal}");
    }
    assert!(said("kill -XCPU $$").contains("more than 5.0 s of processor time"));
    run(&scripted(dir.path(), "printf 'passes 00ff'"), &Limits::default()).unwrap();
}

#[test]
fn a_program_that_is_not_there_or_another_one_is_a_refusal() {
    let here = std::env::current_exe().unwrap();
    // It runs no test at all, and ends with 0.
    for trial in [Trial::by("/nowhere/addrauth", ["try"]), Trial::by(here, ["no-test-is-called-so"])] {
        let refused = run(&trial, &Limits::default()).unwrap_err();
        assert!(matches!(refused, Refused::Untried(_)), "{refused}");
    }
}

#[test]
fn where_there_is_no_proc_the_way_out_is_told() {
    let refused = run(&Trial::by("/proc/nowhere/exe", ["try"]), &Limits::default()).unwrap_err().to_string();
    assert!(refused.contains("could not be tried") && refused.contains("mount /proc"), "{refused}");
}

#[test]
fn a_child_gets_the_component_and_no_environment_but_what_it_is_given() {
    let dir = tempfile::tempdir().unwrap();
    // A shell makes these three by itself.
    let trial =
        scripted(dir.path(), "cat > \"$1/got\"; env | grep -vE '^(PWD|SHLVL|_)=' > \"$1/env\"; printf 'passes 00ff'");
    run(&trial, &Limits::default()).unwrap();
    assert_eq!(std::fs::read(dir.path().join("got")).unwrap(), EMPTY);
    let environment = || std::fs::read_to_string(dir.path().join("env")).unwrap();
    assert_eq!(environment(), "");
    let other = scripted(dir.path(), "env | grep -vE '^(PWD|SHLVL|_)=' > \"$1/env\"; printf 'passes 00ff'");
    run(&other.with("A", "b"), &Limits::default()).unwrap();
    assert_eq!(environment(), "A=b\n");
    let limits = Limits::default().with(|limits| limits.policy.interpreter = true);
    run(&scripted(dir.path(), "env | grep -vE '^(PWD|SHLVL|_)=' > \"$1/env\"; printf 'passes 00ff'"), &limits).unwrap();
    assert_eq!(environment(), "ADDRAUTH_TRIAL_ENGINE=interpreter\n");
}

#[test]
fn a_child_that_does_not_end_is_ended_and_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid");
    // The second says more than anybody reads, and so never comes to its end.
    for endless in ["sleep 3600", "head -c 1000000 /dev/zero"] {
        let trial = scripted(dir.path(), &format!("echo $$ > \"$1/pid\"; exec {endless}"));
        let limits = Limits::default().with(|limits| limits.policy.compile = Duration::from_secs(2));
        let refused = run(&trial, &limits).unwrap_err();
        assert!(refused.to_string().starts_with("compiling it took longer than 2.0 s"), "{refused}");
        assert!(is_gone(&pid));
    }
}

#[test]
fn a_trial_that_nobody_waits_for_ends_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid");
    let trial = scripted(dir.path(), "echo $$ > \"$1/new\"; mv \"$1/new\" \"$1/pid\"; exec sleep 3600");
    let limits = Limits::default().with(|limits| limits.policy.compile = Duration::from_secs(3_600));
    let given_up = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let running = scope.spawn(|| trial.run(EMPTY, DIGEST, &limits, &given_up));
        while !pid.exists() {
            assert!(!running.is_finished());
            std::thread::sleep(PAUSE);
        }
        given_up.store(true, Ordering::Relaxed);
        assert!(matches!(running.join().unwrap(), Err(Refused::Untried(_))));
    });
    assert!(is_gone(&pid));
}

#[test]
fn what_passed_is_not_tried_again_and_what_did_not_is() {
    let dir = tempfile::tempdir().unwrap();
    let tries = || std::fs::read_to_string(dir.path().join("tries")).unwrap().lines().count();
    let fails = scripted(dir.path(), "echo x >> \"$1/tries\"; printf 'refused: no'; exit 1");
    run(&fails, &Limits::default()).unwrap_err();
    run(&fails, &Limits::default()).unwrap_err();
    assert_eq!(tries(), 2);
    let passes = scripted(dir.path(), "echo x >> \"$1/tries\"; printf 'passes 00ff'");
    run(&passes, &Limits::default()).unwrap();
    run(&passes.clone(), &Limits::default()).unwrap();
    assert_eq!(tries(), 3);
    let other = passes.run(EMPTY, "ff00", &Limits::default(), &AtomicBool::new(false));
    assert!(matches!(other, Err(Refused::Untried(_))));
    assert_eq!(tries(), 4);
}

#[test]
fn what_is_no_component_is_refused_without_a_child() {
    let trial = Trial::by("/nowhere/addrauth", ["try"]);
    for octets in [&b""[..], b"\x7fELF", b"\0asm\x01\0\0\0", b"\0asm\x0d\0\x01\0\x04"] {
        let refused = trial.run(octets, DIGEST, &Limits::default(), &AtomicBool::new(false)).unwrap_err();
        assert!(matches!(refused, Refused::Compile(_)), "{octets:?}: {refused}");
    }
}
