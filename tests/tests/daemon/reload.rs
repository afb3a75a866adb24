//! A reload that would lose the configuration is refused, and the old one stays.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Command;

use addrauth_lab::mta::Fate;
use addrauth_tests::daemon::binary;

use crate::bed::{Bed, ended, fifo, is_root, without_rights};

#[tokio::test]
async fn a_configuration_that_is_gone_empty_cut_or_no_file_leaves_the_old_one_in_force() {
    let bed = Bed::new();
    let mut filter = bed.filter();
    bed.until_it_listens();
    let (file, text) = (bed.file(), bed.text());
    let half = &text[..text.find("[verify]").unwrap()];
    let within = &text[..text.find("\"quarantine\"").unwrap()];
    type Change<'a> = (&'a str, &'a dyn Fn());
    let put = |text: String| {
        let _ = fs::remove_file(&file);
        fs::write(&file, text).unwrap();
    };
    let changes: [Change<'_>; 12] = [
        ("is gone", &|| fs::remove_file(&file).unwrap()),
        ("a link that leads nowhere", &|| symlink(bed.path("nowhere"), &file).unwrap()),
        ("is empty", &|| put(String::new())),
        ("is empty", &|| put("# nothing\n".into())),
        ("the beginning of the configuration in force", &|| put(half.into())),
        ("TOML", &|| put(within.into())),
        ("has no end", &|| put(text.trim_end().replace("quarantine", "mark"))),
        ("sets no final_domains", &|| put(text.replace("final_domains", "#"))),
        ("does not set observe", &|| put(text.replace("observe = false\n", ""))),
        ("a FIFO", &|| {
            fs::remove_file(&file).unwrap();
            fifo(&file);
        }),
        ("a device", &|| {
            fs::remove_file(&file).unwrap();
            symlink("/dev/zero", &file).unwrap();
        }),
        ("a directory", &|| {
            fs::remove_file(&file).unwrap();
            fs::create_dir(&file).unwrap();
        }),
    ];
    let mut ids = Vec::new();
    for (number, (words, change)) in changes.iter().enumerate() {
        change();
        filter.signal("HUP");
        bed.until_said("not reloaded, the old configuration stays in force", number + 1);
        let log = bed.log();
        let line = log.lines().rfind(|line| line.contains("not reloaded")).unwrap();
        assert!(line.contains(words) || (*words == "TOML" && log.contains("addrauth.toml")), "{words}: {line}");
        ids.push(format!("4R{number:02}"));
        assert_eq!(bed.send(&ids[number]).await, Fate::Discarded, "{words}");
        assert!(filter.is_alive());
    }
    fs::remove_dir(&file).unwrap();
    bed.write(&text);
    assert_eq!(bed.kept(), ids);
    // What is meant goes through.
    bed.write(&text.replace("\"quarantine\"", "\"accept\""));
    filter.signal("HUP");
    bed.until_said("reloaded: the next message", 1);
    assert_eq!(bed.send("4R99").await, Fate::Delivered);
}

#[test]
fn reloads_reserve_no_more_address_space() {
    let bed = Bed::new();
    let filter = bed.filter();
    bed.until_it_listens();
    let before = filter.address_space();
    assert!(before > 5 << 30, "{before}: the sandbox has its memories");
    for number in 1..=4 {
        filter.signal("HUP");
        bed.until_said("reloaded: the next message", number);
        let now = filter.address_space();
        assert!(now < before + (2 << 30), "{before} {now}");
    }
}

#[test]
fn a_reload_says_what_became_weaker_and_what_is_in_force() {
    let bed = Bed::new();
    let filter = bed.filter();
    bed.until_it_listens();
    let text = bed.text();
    bed.write(&text.replace("unusable = \"quarantine\"\n", "").replace("[\"home", "[\"new.example\", \"home"));
    filter.signal("HUP");
    bed.until_said("reloaded: the next message", 1);
    let log = bed.log();
    let line = log.lines().find(|line| line.contains("takes away")).unwrap();
    assert!(line.contains("WARN") && line.contains("policy.unusable is not set"), "{line}");
    bed.write(&text.replace("observe = false", "observe = true"));
    filter.signal("HUP");
    bed.until_said("reloaded: the next message", 2);
    let log = bed.log();
    let line = log.lines().rfind(|line| line.contains("takes away")).unwrap();
    assert!(line.contains("observe is true") && line.contains("new.example"), "{line}");
    assert!(log.contains("nothing else is done to it"), "the state is told as at the start: {log}");
    bed.write(&text);
    filter.signal("HUP");
    bed.until_said("reloaded: the next message", 3);
    bed.until_said("takes away", 2);
}

#[tokio::test]
async fn a_component_that_cannot_be_looked_at_is_not_replaced_by_the_shipped_one() {
    let bed = Bed::new();
    let mut filter = bed.filter();
    bed.until_it_listens();
    let own = bed.path("policies").join("mark.wasm");
    for (number, target) in ["nowhere", "nowhere/at/all"].into_iter().enumerate() {
        symlink(bed.path(target), &own).unwrap();
        filter.signal("HUP");
        bed.until_said("not reloaded", number + 1);
        assert!(bed.log().contains("mark.wasm"), "{}", bed.log());
        fs::remove_file(&own).unwrap();
    }
    assert!(filter.is_alive());
    // The shipped one was in force all the time, and none of one's own has ever been there.
    filter.signal("HUP");
    bed.until_said("reloaded: the next message", 1);
}

/// The policy that treats mail that names no sender in these tests.
const OWN: &str = "quarantine";

#[tokio::test]
async fn a_component_of_ones_own_that_is_gone_is_not_replaced_by_the_shipped_one() {
    let bed = Bed::new();
    let (dir, away) = (bed.path("policies"), bed.path("away"));
    let (file, aside) = (dir.join(format!("{OWN}.wasm")), bed.path("aside.wasm"));
    // Told apart from the shipped one by what becomes of the message: this one delivers it.
    let accepts = concat!(env!("CARGO_MANIFEST_DIR"), "/../policies/accept/accept.wasm");
    fs::copy(accepts, &file).unwrap();
    let mut filter = bed.filter();
    bed.until_it_listens();
    assert_eq!(bed.send("4O00").await, Fate::Delivered);
    type Change<'a> = (&'a dyn Fn(), &'a dyn Fn());
    let losses: [Change<'_>; 3] = [
        // Between the rm and the cp of a deploy.
        (&|| fs::rename(&file, &aside).unwrap(), &|| fs::rename(&aside, &file).unwrap()),
        // A file system that is not mounted.
        (
            &|| {
                fs::rename(&dir, &away).unwrap();
                fs::create_dir(&dir).unwrap();
            },
            &|| {
                fs::remove_dir(&dir).unwrap();
                fs::rename(&away, &dir).unwrap();
            },
        ),
        // Its settings may change meanwhile.
        (
            &|| {
                fs::rename(&file, &aside).unwrap();
                bed.write(&format!("{}[policies.{OWN}]\non_fault = \"reject\"\n", bed.text()));
            },
            &|| fs::rename(&aside, &file).unwrap(),
        ),
    ];
    for (number, (lose, put_back)) in losses.iter().enumerate() {
        lose();
        filter.signal("HUP");
        bed.until_said("not reloaded", number + 1);
        let log = bed.log();
        let line = log.lines().rfind(|line| line.contains("not reloaded")).unwrap();
        for words in ["quarantine.wasm is gone", "put it back", "restart", "policy.dir", "policies.quarantine.module"] {
            assert!(line.contains(words), "{words}: {line}");
        }
        assert_eq!(bed.send(&format!("4O1{number}")).await, Fate::Delivered, "{log}");
        put_back();
        filter.signal("HUP");
        bed.until_said("reloaded: the next message", number + 1);
        assert_eq!(bed.send(&format!("4O2{number}")).await, Fate::Delivered, "{}", bed.log());
    }
    assert!(filter.is_alive());
    // Another directory is meant so.
    fs::create_dir(&away).unwrap();
    bed.write(&bed.text().replace("/policies", "/away"));
    filter.signal("HUP");
    bed.until_said("reloaded: the next message", losses.len() + 1);
    assert_eq!(bed.send("4O99").await, Fate::Discarded, "{}", bed.log());
}

#[test]
fn what_one_may_not_look_at_is_not_absent() {
    let bed = Bed::new();
    let closed = bed.path("closed");
    fs::create_dir(&closed).unwrap();
    fs::write(closed.join("addrauth.toml"), bed.text()).unwrap();
    fs::write(closed.join("mark.wasm"), "none").unwrap();
    fs::set_permissions(bed.path("."), fs::Permissions::from_mode(0o755)).unwrap();
    let mode = |mode| fs::set_permissions(&closed, fs::Permissions::from_mode(mode)).unwrap();
    mode(if is_root() { 0o700 } else { 0o600 });
    // The configuration itself.
    let mut named = Command::new(binary());
    named.args(["config", "check", "--config"]).arg(closed.join("addrauth.toml"));
    without_rights(&mut named);
    let (code, out, err) = ended(named);
    assert!(code != Some(0) && err.contains("addrauth.toml") && err.contains("ermission"), "{code:?} {out}{err}");
    // A component beside: the shipped one does not take its place.
    bed.write(&bed.text().replace("/policies", "/closed"));
    let mut command = bed.command(&["config", "check"]);
    without_rights(&mut command);
    let (code, out, err) = ended(command);
    assert!(code == Some(2) && out.contains("closed"), "{code:?} {out}{err}");
    command_fails_to_start(&bed);
    mode(0o700);
}

/// The filter itself does not start either, whoever is right about the rest.
fn command_fails_to_start(bed: &Bed) {
    let mut command = bed.command(&["filter"]);
    without_rights(&mut command);
    let (code, out, err) = ended(command);
    assert!(code == Some(2) && err.contains("closed"), "{code:?} {out}{err}");
}

#[test]
fn a_configuration_that_is_named_has_to_be_there() {
    let bed = Bed::new();
    fs::remove_file(bed.file()).unwrap();
    for verb in [&["filter"][..], &["authority"], &["config", "check"], &["journal", "list"]] {
        let (code, out, err) = bed.run(verb);
        assert!(code != Some(0) && err.contains("addrauth.toml"), "{verb:?}: {code:?} {out}{err}");
    }
}
