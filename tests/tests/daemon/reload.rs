//! A reload that would lose the configuration is refused, and the old one stays.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Command;

use addrauth::cli::demo::mta::Fate;
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
    let changes: [Change<'_>; 11] = [
        ("is gone", &|| fs::remove_file(&file).unwrap()),
        ("a link that leads nowhere", &|| symlink(bed.path("nowhere"), &file).unwrap()),
        ("is empty", &|| put(String::new())),
        ("is empty", &|| put("# nothing\n".into())),
        ("the beginning of the configuration in force", &|| put(half.into())),
        ("TOML", &|| put(within.into())),
        ("has no end", &|| put(text.trim_end().replace("quarantine", "mark"))),
        ("sets no final_domains", &|| put(text.replace("final_domains", "#"))),
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
    filter.signal("HUP");
    bed.until_said("reloaded: the next message", 1);
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
