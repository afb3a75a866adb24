//! The units of systemd: how much of the system the daemons in them can reach. `tests/debian/units` runs them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Tenths of systemd's measure of exposure, 0 to 100: no unit may have more.
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
    for name in ["addrauth-filter.service", "addrauth-authority.service", "addrauth-console.service"] {
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
    for name in ["addrauth-filter.service", "addrauth-authority.service", "addrauth-console.service"] {
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
        // Those that compile policies are without it, and get it with the interpreter.
        let denied = settings.contains_key("MemoryDenyWriteExecute");
        assert_eq!(denied, name.contains("authority"), "{name}");
    }
    let drop_in = fs::read_to_string(etc().join("addrauth-filter.service.d/no-jit.conf")).unwrap();
    assert_eq!(settings(&drop_in).get("MemoryDenyWriteExecute"), Some(&vec!["yes"]));
    assert!(drop_in.contains("interpreter = true"));
}

/// The directories that a unit lets its daemon write to.
fn writable(unit: &str) -> Vec<PathBuf> {
    let text = fs::read_to_string(etc().join(unit)).unwrap();
    let settings = settings(&text);
    assert_eq!(settings["ProtectSystem"], ["strict"], "{unit}: everything else could be written as well");
    let below = [("StateDirectory", "/var/lib"), ("RuntimeDirectory", "/run"), ("ReadWritePaths", "/")];
    let named = |(setting, top): (&str, &str)| {
        let values: Vec<&str> =
            settings.get(setting).into_iter().flatten().flat_map(|value| value.split(' ')).collect();
        values.into_iter().map(|value| Path::new(top).join(value.trim_start_matches('-'))).collect::<Vec<_>>()
    };
    below.into_iter().flat_map(named).collect()
}

/// The unit whose daemon makes the socket or the directory at this path.
fn unit_of(path: &Path) -> &'static str {
    match path.iter().any(|part| part == "addrauth-as") {
        true => "addrauth-authority.service",
        false => "addrauth-filter.service",
    }
}

/// The paths of unix sockets and state directories that a text has a daemon make. Those of other programs, to which it connects, and
/// those of the console, which has no unit, stand on lines of their own.
fn made(text: &str) -> Vec<PathBuf> {
    let of_others = ["next =", "next\"", "delivery agent", "trusted_proxy", "proxy_pass", "lmtp:unix", "smtpd_milters"];
    let lines = text.lines().filter(|line| !of_others.iter().any(|other| line.contains(other)));
    let mut paths = Vec::new();
    for line in lines {
        let sockets = line.split("unix:").skip(1).filter(|rest| rest.starts_with('/'));
        let state = line.split("state_dir = \"").skip(1);
        for rest in sockets.chain(state) {
            let path =
                rest.split(|c: char| !(c.is_ascii_alphanumeric() || "/-_.".contains(c))).next().unwrap_or_default();
            if !path.ends_with("/PATH") {
                paths.push(PathBuf::from(path));
            }
        }
    }
    paths
}

#[test]
fn what_the_samples_and_the_manual_have_a_daemon_make_its_unit_lets_it_make() {
    let host = etc().join("../..");
    let mut files: Vec<PathBuf> =
        ["cli/etc/addrauth.toml", "cli/etc/debian/addrauth.toml", "cli/etc/debian/authority.toml"]
            .map(|file| host.join(file))
            .into();
    files.extend(fs::read_dir(host.join("doc")).unwrap().map(|entry| entry.unwrap().path()));
    files.push(host.join("../README.md"));
    let mut seen: BTreeMap<&str, Vec<PathBuf>> = BTreeMap::new();
    for file in files {
        for path in made(&fs::read_to_string(&file).unwrap()) {
            let unit = unit_of(&path);
            let writable = writable(unit);
            let is_below = |dir: &PathBuf| path.starts_with(dir);
            assert!(writable.iter().any(is_below), "{}: {unit} forbids {}", file.display(), path.display());
            seen.entry(unit).or_default().push(path);
        }
    }
    for (unit, path) in [
        ("addrauth-filter.service", "/var/spool/postfix/addrauth/milter"),
        ("addrauth-filter.service", "/var/spool/postfix/addrauth/lmtp"),
        ("addrauth-filter.service", "/run/addrauth/hooks"),
        ("addrauth-filter.service", "/run/addrauth/metrics"),
        ("addrauth-filter.service", "/var/lib/addrauth"),
        ("addrauth-authority.service", "/run/addrauth-as/metrics"),
        ("addrauth-authority.service", "/var/lib/addrauth-as"),
    ] {
        assert!(seen[unit].iter().any(|known| known == Path::new(path)), "{path} is not in the manual: {seen:?}");
    }
    let all = writable("addrauth-filter.service");
    for other in ["/run/dovecot/lmtp", "/var/spool/postfix/private/x", "/run/addrauth-as/metrics", "/etc/addrauth/x"] {
        assert!(!all.iter().any(|dir| Path::new(other).starts_with(dir)), "{other}");
    }
}

#[test]
fn no_unit_stands_between_a_daemon_and_the_places_where_it_listens() {
    for name in ["addrauth-filter.service", "addrauth-authority.service"] {
        let text = fs::read_to_string(etc().join(name)).unwrap();
        let settings = settings(&text);
        let families: Vec<&str> =
            settings["RestrictAddressFamilies"].iter().flat_map(|value| value.split(' ')).collect();
        for family in ["AF_INET", "AF_INET6", "AF_UNIX"] {
            assert!(families.contains(&family), "{name}: {family}");
        }
        let shut =
            ["PrivateNetwork", "IPAddressDeny", "SocketBindDeny", "RestrictNetworkInterfaces", "InaccessiblePaths"];
        assert!(!shut.iter().any(|setting| settings.contains_key(setting)), "{name}");
    }
    // The directory in Postfix's chroot is there before the unit starts, and what is made in it gets its group.
    let tmpfiles = fs::read_to_string(etc().join("debian/addrauth.tmpfiles")).unwrap();
    let line = tmpfiles.lines().find(|line| line.starts_with("d ")).unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    let made = Path::new(words[1]).to_owned();
    assert!(writable("addrauth-filter.service").contains(&made), "{line}");
    let unit = fs::read_to_string(etc().join("addrauth-filter.service")).unwrap();
    let settings = settings(&unit);
    assert_eq!((words[2], words[3], words[4]), ("2750", settings["User"][0], settings["Group"][0]));
}
