//! The units of systemd: how much of the system the daemons in them can reach. `tests/debian/units` runs them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Tenths of systemd's measure of exposure, 0 to 100: neither unit may have more.
const MOST: u32 = 15;

fn etc() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../host/cli/etc")
}

/// A unit's settings, each with all of its values.
fn settings(text: &str) -> BTreeMap<&str, Vec<&str>> {
    let mut settings: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, value) in text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('=')) {
        settings.entry(name).or_default().push(value);
    }
    settings
}

/// Whether systemd finds a unit with this text exposed to no more than this; none where there is no such systemd.
fn is_within(name: &str, text: &str, most: u32) -> Option<bool> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(name);
    fs::write(&file, text).unwrap();
    let mut command = Command::new("systemd-analyze");
    command.args(["security", "--no-pager", "--offline=true", &format!("--threshold={most}")]).arg(&file);
    let Ok(output) = command.output() else {
        println!("skipped: systemd-analyze is not installed");
        return None;
    };
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    if !said.contains("Overall exposure level") && said.contains("option") {
        println!("skipped: this systemd-analyze does not look at files: {said}");
        return None;
    }
    assert!(said.contains("Overall exposure level"), "{said}");
    println!("{}", said.lines().rfind(|line| line.contains("Overall")).unwrap_or_default());
    Some(output.status.success())
}

#[test]
fn the_units_are_exposed_to_little() {
    for name in ["addrauth-filter.service", "addrauth-authority.service"] {
        let text = fs::read_to_string(etc().join(name)).unwrap();
        let Some(within) = is_within(name, &text, MOST) else { return };
        assert!(within, "{name} is exposed to more than {MOST}");
        // The measure measures: without the filter of system calls it is too much.
        let open: String =
            text.lines().filter(|line| !line.starts_with("SystemCallFilter")).map(|l| format!("{l}\n")).collect();
        assert_eq!(is_within(name, &open, MOST), Some(false), "{name}");
        let bare = "[Service]\nExecStart=/usr/bin/addrauth filter\nUser=addrauth\n";
        assert_eq!(is_within(name, bare, 80), Some(false));
    }
}

/// What another version of systemd may weigh otherwise is there in any case.
#[test]
fn each_unit_says_what_it_gives_up() {
    for name in ["addrauth-filter.service", "addrauth-authority.service"] {
        let text = fs::read_to_string(etc().join(name)).unwrap();
        let settings = settings(&text);
        for (setting, values) in [
            ("NoNewPrivileges", vec!["yes"]),
            ("CapabilityBoundingSet", vec![""]),
            ("PrivateUsers", vec!["yes"]),
            ("ProtectSystem", vec!["strict"]),
            ("ProcSubset", vec!["pid"]),
            ("RestrictNamespaces", vec!["yes"]),
            ("SystemCallArchitectures", vec!["native"]),
            ("SystemCallFilter", vec!["@system-service", "~@privileged @resources"]),
            ("UMask", vec!["0077"]),
        ] {
            assert_eq!(settings.get(setting), Some(&values), "{name}: {setting}");
        }
        // Only the one that compiles policies is without it, and gets it with the interpreter.
        let denied = settings.contains_key("MemoryDenyWriteExecute");
        assert_eq!(denied, name.contains("authority"), "{name}");
    }
    let drop_in = fs::read_to_string(etc().join("addrauth-filter.service.d/no-jit.conf")).unwrap();
    assert_eq!(settings(&drop_in).get("MemoryDenyWriteExecute"), Some(&vec!["yes"]));
    assert!(drop_in.contains("interpreter = true"));
}
