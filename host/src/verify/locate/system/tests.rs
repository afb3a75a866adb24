use std::fs;

use super::*;

fn read_from(text: &[u8]) -> Named {
    named(text, PORT, |name| (name == "eth0.100" || name == "br-lan").then_some(7))
}

fn servers(text: &str) -> Vec<String> {
    read_from(text.as_bytes()).servers.iter().map(ToString::to_string).collect()
}

#[test]
fn name_servers_are_read_as_the_system_writes_them() {
    for (text, expected) in [
        ("", &[][..]),
        ("# nothing\n; nothing\nsearch nameserver\nnameserver\nnameserver   \n", &[]),
        (
            "nameserver 10.0.0.1\nnameserver\t::1 # y\n nameserver 10.0.0.2\n",
            &["10.0.0.1:53", "[::1]:53", "10.0.0.2:53"],
        ),
        ("nameserver 10.0.0.1", &["10.0.0.1:53"]),
        ("nameserver 10.0.0.1;x\r\nnameserver 10.0.0.2\r\n", &["10.0.0.1:53", "10.0.0.2:53"]),
        ("\u{feff}nameserver 10.0.0.1\n", &["10.0.0.1:53"]),
        (
            "nameserver 1.1.1.1\nnameserver 2.2.2.2\nnameserver 3.3.3.3\nnameserver 4.4.4.4\n",
            &["1.1.1.1:53", "2.2.2.2:53", "3.3.3.3:53"],
        ),
        ("nameserver 1.1.1.1\nnameserver 1.1.1.1\nnameserver 2.2.2.2\n", &["1.1.1.1:53", "2.2.2.2:53"]),
        ("nameserver 1.1.1.1 2.2.2.2\n", &["1.1.1.1:53"]),
        ("nameserver 0.0.0.0\nnameserver ::\n", &["127.0.0.1:53", "[::1]:53"]),
        (
            "nameserver fe80::1%br-lan\nnameserver fe80::1%eth0.100\nnameserver fe80::2%3\n",
            &["[fe80::1%7]:53", "[fe80::2%3]:53"],
        ),
        (
            "search . -- a..b \u{e9} _x,y\ndomain\noptions ndots:99999999999 edns0:x no-such-option rotate timeout:\nsortlist x\nlookup y\nnonsense\nnameserver 9.9.9.9\n",
            &["9.9.9.9:53"],
        ),
        ("NAMESERVER 10.0.0.1\nnameservers 10.0.0.2\nnameserver10.0.0.3\n", &[]),
    ] {
        assert_eq!(servers(text), expected, "{text:?}");
    }
}

#[test]
fn what_names_a_server_and_cannot_be_used_is_told_and_spoils_no_other_line() {
    for word in ["x", "10.0.0.256", "fe80::1%no-such", "fe80::1%", "10.0.0.1%eth0", "1.2.3.4:53", "fe80::1%../../x"] {
        let read = read_from(format!("nameserver {word}\nnameserver 10.0.0.9\n").as_bytes());
        assert_eq!((read.servers.len(), read.unusable.len()), (1, 1), "{word}: {read:?}");
        assert!(read.unusable[0].contains(word), "{read:?}");
    }
    let bytes =
        [&b"\xff\xfe nameserver 1.1.1.1\nnameserver \xc3\x28\nnameserver \x1b[2J\nnameserver 10.0.0.9\n"[..], &[0; 99]]
            .concat();
    let read = read_from(&bytes);
    assert_eq!(read.servers, ["10.0.0.9:53".parse().unwrap()]);
    assert!(read.unusable.iter().all(|text| !text.contains(char::is_control)), "{read:?}");
}

#[test]
fn an_interface_has_a_number() {
    assert_eq!(interface("lo"), Some(1));
    for name in ["", "no-such", "../net/lo", "lo/", "."] {
        assert_eq!(interface(name), None, "{name}");
    }
}

#[test]
fn missing_or_empty_means_this_machine_and_whatever_stands_there_is_no_reason_not_to_start() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("empty"), "").unwrap();
    fs::write(at("search"), "search example.com\n").unwrap();
    fs::write(at("large"), vec![b'x'; 1 << 20]).unwrap();
    fs::create_dir(at("folder")).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(at("fifo")).status().unwrap().success());
    std::os::unix::fs::symlink("/dev/zero", at("zero")).unwrap();
    std::os::unix::fs::symlink("nowhere", at("dangling")).unwrap();
    for name in ["missing", "empty", "search", "large", "folder", "fifo", "zero", "dangling"] {
        assert_eq!(Followed::new(&at(name), PORT).servers(), [local(53)], "{name}");
        assert_eq!(now(&at(name)).0, [local(53)], "{name}");
    }
}

#[test]
fn a_change_is_followed_and_a_half_written_file_is_not_believed_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("resolv.conf");
    let mut followed = Followed::new(&path, PORT);
    let one: Vec<SocketAddr> = vec!["10.0.0.1:53".parse().unwrap()];
    let two: Vec<SocketAddr> = vec!["10.0.0.2:53".parse().unwrap()];
    fs::write(&path, "nameserver 10.0.0.1\n").unwrap();
    assert!(followed.look() && followed.servers() == one, "it came");
    assert!(!followed.look());
    // Replaced by one of the same size, as network managers do.
    fs::write(dir.path().join("new"), "nameserver 10.0.0.2\n").unwrap();
    fs::rename(dir.path().join("new"), &path).unwrap();
    assert!(followed.look() && followed.servers() == two, "another file");
    // Being written.
    fs::write(&path, "").unwrap();
    assert!(!followed.look() && followed.servers() == two);
    fs::write(&path, "nameserver 10.0.0.1\n").unwrap();
    assert!(followed.look() && followed.servers() == one);
    // Gone for good.
    fs::remove_file(&path).unwrap();
    assert!(!followed.look() && followed.servers() == one);
    assert!(followed.look() && followed.servers() == [local(53)]);
    assert!(!followed.look());
    // No file any more: the last servers stay.
    fs::write(&path, "nameserver 10.0.0.1\n").unwrap();
    assert!(followed.look());
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(!followed.look() && !followed.look() && followed.servers() == one);
    // Empty and left so.
    fs::remove_dir(&path).unwrap();
    fs::write(&path, "").unwrap();
    assert!(!followed.look());
    assert!(followed.look() && followed.servers() == [local(53)]);
}
