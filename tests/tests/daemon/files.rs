//! Whatever a configuration or a command names: a FIFO, a device or a directory is refused at once and by its name.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use addrauth_tests::daemon::binary;

use crate::bed::{Bed, ended, fifo};

/// Puts something that never ends, or is no file, at this path.
fn put(kind: &str, path: &Path) {
    let _ = fs::remove_file(path);
    let _ = fs::remove_dir(path);
    match kind {
        "a FIFO" => fifo(path),
        "a device" => symlink("/dev/zero", path).unwrap(),
        "a directory" => fs::create_dir(path).unwrap(),
        _ => unreachable!(),
    }
}

const KINDS: [&str; 3] = ["a FIFO", "a device", "a directory"];

/// A configuration with every kind of file in place: nothing is wrong with it.
struct Whole {
    bed: Bed,
    /// The files' names in the bed, and which daemons do not start without each.
    named: Vec<(&'static str, &'static [&'static str])>,
}

fn whole() -> Whole {
    let bed = Bed::new();
    let path = |name: &str| bed.path(name);
    let secret = |name: &str, text: &str| {
        fs::write(path(name), text).unwrap();
        fs::set_permissions(path(name), fs::Permissions::from_mode(0o600)).unwrap();
    };
    let certificates = addrauth_tests::certificates::Root::new();
    let pair = certificates.issue("as.home.example");
    fs::copy(pair.certificate, path("chain.pem")).unwrap();
    fs::copy(pair.key, path("key.pem")).unwrap();
    fs::copy(certificates.file(), path("roots.pem")).unwrap();
    secret("token", &"t".repeat(40));
    fs::create_dir(path("templates")).unwrap();
    fs::write(path("templates/notice.txt"), "Subject: x\n\n{sender}\n").unwrap();
    fs::write(path("owners"), "alice@home.example alice\n").unwrap();
    let mark = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies/mark/mark.wasm");
    fs::copy(&mark, path("policies/mark.wasm")).unwrap();
    fs::copy(&mark, path("own.wasm")).unwrap();
    secret("state/mark.key", &"m".repeat(32));
    fs::write(path("state/filter.db"), "").unwrap();
    let p = |name: &str| format!("{:?}", path(name));
    let text = bed
        .text()
        .replace("[verify]\n", &format!("templates = {}\n[verify]\ntls_roots = {}\n", p("templates"), p("roots.pem")))
        + &format!(
            "[policies.own]\nmodule = {}\n[keyring]\nstamp = [\"ORIGINATING\"]\nowners = [\"hash:{}\"]\nsecret_file = {}\n\
             fetch_from = \"as.home.example:4410\"\nfetch_token_file = {}\n\
             [authority]\ndomains = [\"home.example\"]\nlisten = [\"127.0.0.1:0\"]\nfetch_token_file = {}\n\
             tls = {{ certificate = {}, key = {} }}\n",
            p("own.wasm"),
            path("owners").display(),
            p("keyring.key"),
            p("token"),
            p("token"),
            p("chain.pem"),
            p("key.pem"),
        );
    bed.write(&text);
    let (code, out, err) = bed.run(&["keyring", "key"]);
    assert_eq!(code, Some(0), "{out}{err}");
    // A table of owners is read when a message needs it.
    let named: Vec<(&str, &[&str])> = vec![
        ("addrauth.toml", &["filter", "authority"]),
        ("policies/mark.wasm", &["filter"]),
        ("own.wasm", &["filter"]),
        ("templates/notice.txt", &["filter", "authority"]),
        ("chain.pem", &["authority"]),
        ("key.pem", &["authority"]),
        ("roots.pem", &["filter"]),
        ("token", &["filter", "authority"]),
        ("owners", &[]),
        ("keyring.key", &["filter"]),
        ("state/mark.key", &["filter"]),
        ("state/filter.db", &["filter"]),
    ];
    Whole { bed, named }
}

#[test]
fn each_file_of_a_configuration_is_refused_where_it_is_none() {
    let Whole { bed, named } = whole();
    let (code, out, err) = bed.run(&["config", "check"]);
    assert_eq!(code, Some(0), "all is in place: {out}{err}");
    for (number, (name, readers)) in named.into_iter().enumerate() {
        let (path, aside) = (bed.path(name), bed.path("aside"));
        fs::rename(&path, &aside).unwrap();
        for kind in KINDS {
            put(kind, &path);
            let (code, out, err) = bed.run(&["config", "check"]);
            assert_eq!(code, Some(1), "{name} is {kind}: {out}{err}");
            let file = name.rsplit('/').next().unwrap();
            assert!(err.contains(file) && err.contains(kind), "{name} is {kind}: {err}");
        }
        let kind = KINDS[number % KINDS.len()];
        put(kind, &path);
        for verb in readers {
            let (code, out, err) = bed.run(&[verb]);
            assert_eq!(code, Some(2), "{verb}, {name} is {kind}: {out}{err}");
        }
        let _ = fs::remove_file(&path);
        let _ = fs::remove_dir(&path);
        fs::rename(&aside, &path).unwrap();
    }
}

#[test]
fn each_file_of_a_command_is_refused_where_it_is_none() {
    let Whole { bed, .. } = whole();
    let odd = bed.path("odd");
    for kind in KINDS {
        put(kind, &odd);
        let name = odd.to_str().unwrap();
        for verb in [
            &["ask", "alice@home.example", "--key-file", name][..],
            &["address", "import", name],
            &["policy", "check", name],
            &["demo", "--mail", name],
        ] {
            if kind == "a directory" && verb[0] == "policy" {
                continue; // There the directory of a policy is meant.
            }
            let (code, out, err) = bed.run(verb);
            assert!(code != Some(0) && (err.clone() + &out).contains(kind), "{verb:?}: {code:?} {out}{err}");
        }
    }
}

#[test]
fn a_byte_order_mark_changes_nothing() {
    let Whole { bed, named } = whole();
    for name in
        named.iter().map(|(name, _)| name).filter(|name| !name.ends_with(".wasm") && !name.starts_with("state/"))
    {
        let text = fs::read(bed.path(name)).unwrap();
        let (file, mode) = (bed.path(name), fs::metadata(bed.path(name)).unwrap().permissions());
        fs::write(&file, [b"\xef\xbb\xbf", &text[..]].concat()).unwrap();
        fs::set_permissions(&file, mode).unwrap();
    }
    let (code, out, err) = bed.run(&["config", "check"]);
    assert_eq!(code, Some(0), "{out}{err}");
    fs::write(bed.path("list"), "\u{feff}alice@home.example\n").unwrap();
    let (code, out, err) = bed.run(&["address", "import", bed.path("list").to_str().unwrap()]);
    assert_eq!(code, Some(0), "{out}{err}");
}

#[test]
fn a_list_may_come_through_standard_input() {
    let Whole { bed, .. } = whole();
    for name in ["-", "/dev/stdin"] {
        let list = bed.path("list");
        fs::write(&list, "alice@home.example\n").unwrap();
        let mut command = bed.command(&["address", "import", name]);
        let told = command.stdin(fs::File::open(&list).unwrap()).output().unwrap();
        assert!(told.status.success(), "{name}: {}", String::from_utf8_lossy(&told.stderr));
    }
}

#[test]
fn the_want_of_address_space_is_named_with_the_way_out() {
    let bed = Bed::new();
    for (verb, code) in [("filter", 2), ("config check", 1)] {
        let mut command = Command::new("sh");
        let script = format!("ulimit -v 4194304; exec \"$0\" --config \"$1\" {verb}");
        command.args(["-c", &script]).arg(binary()).arg(bed.file());
        let (ended_with, out, err) = ended(command);
        assert_eq!(ended_with, Some(code), "{out}{err}");
        for words in ["address space", "GiB", "LimitAS", "ulimit -v"] {
            assert!(err.contains(words), "{words}: {err}");
        }
        // What it says is enough.
        let words = err.split_whitespace().collect::<Vec<_>>();
        let gib = words.windows(2).find(|pair| pair[1] == "GiB").unwrap()[0].parse::<u64>().unwrap();
        let mut command = Command::new("sh");
        let script = format!("ulimit -v {}; exec \"$0\" --config \"$1\" config check", gib << 20);
        command.args(["-c", &script]).arg(binary()).arg(bed.file());
        let (ended_with, out, err) = ended(command);
        assert_eq!(ended_with, Some(0), "{gib} GiB: {out}{err}");
    }
}

/// What `config check` calls good starts, and what it refuses does not.
#[test]
fn good_is_what_starts() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = port.local_addr().unwrap();
    let change = |from: &str, to: &str| {
        let (from, to) = (from.to_owned(), to.to_owned());
        move |text: String| text.replace(&from, &to)
    };
    type Change = Box<dyn Fn(String) -> String>;
    let changes: Vec<(&str, Change)> = vec![
        ("a port of another program", Box::new(move |text| place(&text, &format!("inet:{taken}")))),
        ("an address of another host", Box::new(|text| place(&text, "inet:192.0.2.1:8891"))),
        ("no directory for the socket", Box::new(|text| place(&text, "unix:/nowhere/at/all/milter"))),
        ("a path that is too long", Box::new(|text| place(&text, &format!("unix:/tmp/{}", "x".repeat(120))))),
        ("a group that is none", Box::new(change("[notices]", "group = \"no such group\"\n[notices]"))),
        ("a state directory that is a file", Box::new(change("/state\"", "/addrauth.toml\""))),
        ("no state directory, and none can be made", Box::new(change("/state\"", "/addrauth.toml/state\""))),
        ("a host name that is none", Box::new(change("mx.home.example", "mx home"))),
        ("a policy that is none", Box::new(change("\"quarantine\"", "\"no-such-policy\""))),
        ("a server that is none", Box::new(change("127.0.0.1:9\"\n[verify]", "nowhere\"\n[verify]"))),
    ];
    for (what, change) in changes {
        let bed = Bed::new();
        bed.write(&change(bed.text()));
        let (code, out, err) = bed.run(&["config", "check"]);
        assert_eq!(code, Some(1), "{what}: {out}{err}");
        let (code, out, err) = bed.run(&["filter"]);
        assert_eq!(code, Some(2), "{what}: {out}{err}");
    }
    for (name, content) in [("mark.key", "short"), ("filter.db", "no database, and longer than sixteen octets")] {
        let bed = Bed::new();
        fs::write(bed.path("state").join(name), content.repeat(200)).unwrap();
        fs::set_permissions(bed.path("state").join(name), fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(bed.run(&["config", "check"]).0, Some(1), "{name}");
        assert_eq!(bed.run(&["filter"]).0, Some(2), "{name}");
    }
    // A newer program's: the version is in the octets from 60 on.
    let bed = Bed::new();
    let mut newer = b"SQLite format 3\0".repeat(256);
    newer[60..64].copy_from_slice(&1_000_u32.to_be_bytes());
    fs::write(bed.path("state").join("filter.db"), newer).unwrap();
    let (code, out, err) = bed.run(&["config", "check"]);
    assert!(code == Some(1) && format!("{out}{err}").contains("newer addrauth"), "{out}{err}");
    // Beside the filter that runs, its own place is no fault.
    let bed = Bed::new();
    let before = bed.run(&["config", "check"]);
    assert_eq!(before.0, Some(0), "{before:?}");
    assert!(
        !bed.path("milter").exists() && fs::read_dir(bed.path("state")).unwrap().next().is_none(),
        "nothing is made"
    );
    let _filter = bed.filter();
    bed.until_it_listens();
    let (code, out, err) = bed.run(&["config", "check"]);
    assert!(code == Some(0) && out.contains("note: a milter listens on"), "{out}{err}");
}

/// The configuration with another place to listen.
fn place(text: &str, place: &str) -> String {
    let line = text.lines().find(|line| line.starts_with("listen = ")).unwrap();
    text.replacen(line, &format!("listen = [\"{place}\"]"), 1)
}

#[test]
fn what_this_user_may_not_look_at_is_said_to_be_unknown() {
    if !crate::bed::is_root() {
        println!("skipped: only root has files that this process may not read");
        return;
    }
    let bed = Bed::new();
    fs::set_permissions(bed.path("."), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(bed.path("state"), fs::Permissions::from_mode(0o700)).unwrap();
    let mut command = bed.command(&["config", "check"]);
    crate::bed::without_rights(&mut command);
    let (code, out, err) = ended(command);
    assert_eq!(code, Some(2), "{out}{err}");
    assert!(out.contains("not checked, since this user may not") && out.contains("state"), "{out}");
}

#[test]
fn a_host_name_that_is_no_full_one_is_told_of() {
    let bed = Bed::new();
    bed.write(&bed.text().replace("mx.home.example", "vm"));
    let (code, out, err) = bed.run(&["config", "check"]);
    assert!(code == Some(0) && out.contains("hostname = \"vm\""), "{out}{err}");
    let (_, out, _) = bed.run(&["doctor", "--postconf", "/nowhere/at/all"]);
    assert!(out.contains("hostname = \"vm\""), "{out}");
    let _filter = bed.filter();
    bed.until_it_listens();
    bed.until_said("hostname = \"vm\"", 1);
}

#[tokio::test]
async fn what_the_mail_server_calls_itself_stands_in_where_no_host_name_is_set() {
    for (set, by) in [(true, "mx.home.example"), (false, "mx.example")] {
        let bed = Bed::new();
        if !set {
            bed.write(&bed.text().replace("hostname = \"mx.home.example\"\n", ""));
        }
        let mut filter = bed.filter();
        bed.until_it_listens();
        let outcome = bed.talk("4H1", "From: eve@far.example\nSubject: x\n\nx\n").await;
        let delivered = String::from_utf8(outcome.message).unwrap();
        assert!(delivered.contains(&format!("; by={by}")), "{delivered}");
        bed.send("4H2").await;
        filter.signal("TERM");
        filter.end();
        let (_, kept, _) = bed.run(&["quarantine", "show", "1", "--raw"]);
        assert!(kept.contains(&format!("; by={by}")), "{kept}");
    }
}
