use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;
use std::sync::mpsc::channel;
use std::time::Duration;

use super::*;

/// What this comes to, which must not wait for anybody.
fn at_once<T: Send + 'static>(what: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, came) = channel();
    std::thread::spawn(move || done.send(what()));
    came.recv_timeout(Duration::from_secs(60)).expect("it waits")
}

/// Everything that is no regular file, with the word that tells.
fn odd(dir: &Path) -> Vec<(PathBuf, &'static str)> {
    let fifo = dir.join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let socket = dir.join("socket");
    std::os::unix::net::UnixListener::bind(&socket).unwrap();
    symlink(&fifo, dir.join("link")).unwrap();
    vec![
        (dir.to_owned(), "a directory"),
        (dir.join("link"), "a FIFO"),
        (fifo, "a FIFO"),
        (socket, "a socket"),
        ("/dev/zero".into(), "a device"),
        ("/dev/null".into(), "a device"),
    ]
}

#[test]
fn what_is_no_regular_file_is_named_and_never_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    for (path, word) in odd(dir.path()) {
        let told = {
            let path = path.clone();
            at_once(move || read(&path, 10)).unwrap_err()
        };
        assert!(matches!(told, Error::Kind(_)) && told.to_string().contains(word), "{path:?}: {told}");
        assert!(is_there(&path).unwrap(), "{path:?}");
        let told = at_once(move || open_with(&path, OpenOptions::new().append(true))).unwrap_err();
        assert!(!told.is_absent(), "{told}");
    }
}

#[test]
fn a_file_is_read_up_to_its_bound_and_not_beyond() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    for (length, good) in [(0, true), (9, true), (10, true), (11, false), (100_000, false)] {
        fs::write(&path, vec![b'x'; length]).unwrap();
        let found = read(&path, 10);
        assert_eq!(found.as_ref().map(Vec::len).ok(), good.then_some(length), "{length}");
        assert!(good || matches!(found, Err(Error::Long(10))));
    }
    // The system tells no length of these.
    assert!(read(Path::new("/proc/self/status"), 1 << 20).unwrap().len() > 100);
    assert!(matches!(read(Path::new("/proc/self/status"), 10), Err(Error::Long(10))));
}

#[test]
fn absent_is_what_the_system_calls_so_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let inside = |name: &str| dir.path().join(name);
    fs::write(inside("file"), "x").unwrap();
    symlink(inside("nowhere"), inside("link")).unwrap();
    symlink(inside("loop"), inside("loop")).unwrap();
    symlink(inside("file"), inside("good")).unwrap();
    for (name, there) in [("nothing", false), ("no/folder/here", false), ("file", true), ("good", true)] {
        assert_eq!(is_there(&inside(name)).unwrap(), there, "{name}");
        assert_eq!(read(&inside(name), 10).is_err_and(|e| e.is_absent()), !there, "{name}");
    }
    assert!(!is_there(Path::new("no-such-file-at-all")).unwrap(), "a relative path");
    for name in ["link", "link/below", "loop", "file/below"] {
        let told = is_there(&inside(name)).unwrap_err();
        assert!(!told.is_absent() && !read(&inside(name), 10).unwrap_err().is_absent(), "{name}: {told}");
        assert_ne!(io::Error::from(told).kind(), ErrorKind::NotFound, "{name}");
    }
    assert!(matches!(is_there(&inside("link/below")), Err(Error::Dangling(link)) if link == inside("link")));
}

#[test]
fn a_directory_that_may_not_be_passed_hides_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let closed = dir.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::write(closed.join("file"), "x").unwrap();
    fs::set_permissions(&closed, PermissionsExt::from_mode(0o600)).unwrap();
    let looked = is_there(&closed.join("file"));
    if looked.as_ref().is_ok_and(|there| *there) {
        println!("skipped: root passes every directory");
    } else {
        assert!(!looked.unwrap_err().is_absent());
        assert!(!is_there(&closed.join("nothing")).unwrap_err().is_absent());
    }
    fs::set_permissions(&closed, PermissionsExt::from_mode(0o700)).unwrap();
}

#[test]
fn a_byte_order_mark_is_no_part_of_a_text() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    for (octets, expected) in [
        (&b"\xef\xbb\xbfabc"[..], Some("abc")),
        (b"abc", Some("abc")),
        (b"\xef\xbb\xbf", Some("")),
        (b"", Some("")),
        (b"a\xef\xbb\xbfb", Some("a\u{feff}b")),
        (b"\xff\xfea\0b\0", None),
    ] {
        fs::write(&path, octets).unwrap();
        assert_eq!(read_text(&path, 100).ok().as_deref(), expected, "{octets:?}");
        if let Some(expected) = expected {
            assert_eq!(without_mark(octets), expected.as_bytes());
        }
    }
}

#[test]
fn a_pipe_that_the_shell_opened_is_read_where_a_person_names_it() {
    let mut child = Command::new("sleep").arg("0").stdout(std::process::Stdio::piped()).spawn().unwrap();
    let pipe = child.stdout.take().unwrap();
    let path = format!("/dev/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&pipe));
    child.wait().unwrap();
    assert_eq!(read_given(Path::new(&path), 10).unwrap(), b"");
    assert!(matches!(read(Path::new(&path), 10), Err(Error::Kind("a FIFO"))));
    let dir = tempfile::tempdir().unwrap();
    for (path, _) in odd(dir.path()) {
        assert!(at_once(move || read_given(&path, 10)).is_err());
    }
}
