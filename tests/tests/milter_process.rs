//! The filter's own process behind milter connections: what it holds in its memory, within one bound for all and no key longer
//! than it is needed, and what its log says of an MTA that it does not know.

use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use addrauth_tests::daemon::Daemon;
use addrauth_tests::milter::{POSTFIX, frame};

/// How long the filter may take for what it has to do on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A filter of its own, and where it takes milter connections.
fn filter(dir: &tempfile::TempDir, settings: &str) -> (Daemon, String) {
    let config = dir.path().join("filter.toml");
    let text = format!(
        "hostname = \"mx.home.example\"\nfinal_domains = [\"home.example\"]\nstate_dir = {:?}\n\
         {settings}[milter]\nlisten = [\"inet:127.0.0.1:0\"]\n",
        dir.path().join("state")
    );
    fs::write(&config, text).unwrap();
    let daemon = Daemon::start("filter", &config);
    let begin = Instant::now();
    loop {
        let log = daemon.log();
        let place = log.lines().find_map(|line| line.split_once("listening on inet:")).map(|(_, place)| place);
        if let Some(place) = place {
            let place = place.chars().take_while(|c| c.is_ascii_digit() || matches!(c, '.' | ':')).collect();
            return (daemon, place);
        }
        assert!(begin.elapsed() < PATIENCE, "{log}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn connect(place: &str) -> TcpStream {
    let mut stream = TcpStream::connect(place).unwrap();
    stream.write_all(&frame(b'O', &POSTFIX.map(u32::to_be_bytes).concat())).unwrap();
    assert_eq!(hear(&mut stream).first(), Some(&b'O'));
    stream
}

/// The next frame, without its length.
fn hear(stream: &mut TcpStream) -> Vec<u8> {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut frame = vec![0; u32::from_be_bytes(length).try_into().unwrap()];
    stream.read_exact(&mut frame).unwrap();
    frame
}

/// Resident octets of a process.
fn resident(daemon: &Daemon) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    1024 * line.trim().trim_end_matches(" kB").parse::<usize>().unwrap()
}

#[test]
fn half_sent_frames_of_hundreds_of_connections_together_stay_within_one_bound() {
    const CONNECTIONS: usize = 400;
    let dir = tempfile::tempdir().unwrap();
    let (daemon, place) = filter(&dir, "");
    let before = resident(&daemon);
    let half = vec![b'x'; (1 << 20) - 2];
    let mut streams = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut stream = connect(&place);
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        // All of a frame but its last octet.
        let begun = [&(1u32 << 20).to_be_bytes()[..], b"B"].concat();
        // Where there is no room any more, the filter closes.
        let _ = stream.write_all(&begun).and_then(|()| stream.write_all(&half));
        streams.push(stream);
    }
    let begin = Instant::now();
    while !daemon.log().contains("octets of milter frames") {
        assert!(begin.elapsed() < PATIENCE, "nothing is said of it: {}", daemon.log().len());
        std::thread::sleep(Duration::from_millis(50));
    }
    let grown = resident(&daemon).saturating_sub(before);
    println!("{CONNECTIONS} half frames of 1 MiB: {} MiB more", grown >> 20);
    assert!(grown < 200 << 20, "{} MiB", grown >> 20);
    assert!(grown > 30 << 20, "{} MiB: the frames were not read, so nothing is shown", grown >> 20);
    drop(streams);
    // The room is there again.
    let mut stream = connect(&place);
    stream.write_all(&frame(b'M', b"<a@one.example>\0")).unwrap();
    assert_eq!(hear(&mut stream), b"c");
}

/// How often these octets stand in the memory of a process that this one may look into; absent where it may not.
fn found(daemon: &Daemon, octets: &[u8]) -> Option<usize> {
    let pid = daemon.pid();
    let mut memory = fs::File::open(format!("/proc/{pid}/mem")).ok()?;
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
    let (mut count, mut pieces) = (0, 0);
    for line in maps.lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some(range), Some(rights)) = (words.next(), words.next()) else { continue };
        let Some((from, to)) = range.split_once('-') else { continue };
        let number = |text: &str| u64::from_str_radix(text, 16).unwrap();
        let (mut at, to) = (number(from), number(to));
        if !rights.starts_with("rw") {
            continue;
        }
        let mut tail: Vec<u8> = Vec::new();
        while at < to {
            let mut piece = vec![0; usize::try_from((to - at).min(1 << 20)).unwrap()];
            let read = memory.seek(SeekFrom::Start(at)).and_then(|_| memory.read(&mut piece));
            let read = match read {
                Ok(0) | Err(_) => break,
                Ok(read) => read,
            };
            tail.extend_from_slice(&piece[..read]);
            count += tail.windows(octets.len()).filter(|window| *window == octets).count();
            tail.drain(..tail.len().saturating_sub(octets.len() - 1));
            at += read as u64;
            pieces += 1;
        }
    }
    (pieces > 0).then_some(count)
}

#[test]
fn a11_no_key_stays_in_memory_of_a_frame_that_was_cut_off_or_of_a_message_that_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let (daemon, place) = filter(&dir, "");
    let secret = |number: usize| format!("{number:03}-kept-in-no-memory-{}", "q".repeat(24));
    let pattern = "-kept-in-no-memory-".as_bytes();
    // A key that is being read is there: the search finds what there is to find.
    let mut begun = connect(&place);
    let field = format!("X-Auth-Key\0 {}", secret(0));
    begun.write_all(&[&1_000u32.to_be_bytes()[..], b"L", field.as_bytes()].concat()).unwrap();
    let begin = Instant::now();
    loop {
        match found(&daemon, pattern) {
            None => return println!("skipped: the memory of another process cannot be read here"),
            Some(count) if count > 0 => break,
            Some(_) => assert!(begin.elapsed() < PATIENCE, "the key is never read"),
        }
    }
    let mut streams = vec![begun];
    for number in 1..40 {
        let mut stream = connect(&place);
        let field = |name: &str| format!("{name}\0 {}\0", secret(number));
        stream.write_all(&frame(b'M', b"<a@one.example>\0")).unwrap();
        assert_eq!(hear(&mut stream), b"c");
        let whole = [frame(b'L', field("X-Auth-Key").as_bytes()), frame(b'L', field("X-New-Auth-Key").as_bytes())];
        stream.write_all(&whole.concat()).unwrap();
        match number % 4 {
            // Cut off in a small frame, and in one that had to be moved while it grew.
            0 => stream.write_all(&frame(b'L', field("X-Auth-Key").as_bytes())[..60]).unwrap(),
            1 => {
                let long = frame(b'L', (field("X-Auth-Key") + &"x".repeat(300_000)).as_bytes());
                stream.write_all(&long[..200_000]).unwrap();
            }
            2 => stream.write_all(&frame(b'A', b"")).unwrap(),
            _ => {}
        }
        streams.push(stream);
    }
    drop(streams);
    let begin = Instant::now();
    loop {
        match found(&daemon, pattern).unwrap() {
            0 => break,
            left => assert!(begin.elapsed() < PATIENCE, "{left} times a key is left in the memory of the filter"),
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    // It still runs, and takes mail.
    let mut stream = connect(&place);
    stream.write_all(&frame(b'M', b"<a@one.example>\0")).unwrap();
    assert_eq!(hear(&mut stream), b"c");
}

/// Says macros of CONNECT and MAIL, and hears the answer to it.
fn mail(place: &str, macros: &str) -> String {
    let mut stream = connect(place);
    let said = [frame(b'D', format!("C{macros}").as_bytes()), frame(b'M', b"<a@one.example>\0")];
    stream.write_all(&said.concat()).unwrap();
    String::from_utf8(hear(&mut stream)).unwrap()
}

#[test]
fn of_a_mail_server_that_is_not_known_the_log_tells_once() {
    let dir = tempfile::tempdir().unwrap();
    let (daemon, place) = filter(&dir, "");
    let about = |words: &str| daemon.log().lines().filter(|line| line.contains("WARN") && line.contains(words)).count();
    let (refused, unknown) = ("does not fit", "does not say that it is a Postfix");
    for _ in 0..3 {
        assert_eq!(mail(&place, "v\0Postfix 3.7.11\0"), "c");
        assert_eq!(mail(&place, STALWART), "c");
    }
    assert_eq!((about(refused), about(unknown)), (0, 0));
    for _ in 0..3 {
        assert_eq!(mail(&place, "{daemon_name}\0mx.one.example\0v\08.17.1\0"), "c");
        assert_eq!(mail(&place, ""), "c");
    }
    assert_eq!((about(refused), about(unknown)), (0, 1), "{}", daemon.log());
}

/// How a Stalwart introduces itself.
const STALWART: &str = "{daemon_name}\0Stalwart v0.15.5\0j\0mx.one.example\0";

#[test]
fn a_stalwart_that_settings_do_not_fit_is_told_so_each_time_and_the_log_once() {
    for (settings, names) in [
        ("[policy]\nquarantine = \"mta\"", "policy.quarantine"),
        ("[policy]\nspam_folder = \"+Junk\"\nmark = \"folder\"", "policy.spam_folder"),
        ("trusted_authserv_ids = [\"mx.home.example\"]", "trusted_authserv_ids"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (daemon, place) = filter(&dir, &format!("observe = false\n{settings}\n"));
        for _ in 0..3 {
            let words = "y451 4.3.5 Address Authentication: its settings here do not fit this mail server\0";
            assert_eq!(mail(&place, STALWART), words);
            assert_eq!(mail(&place, "v\0Postfix 3.7.11\0"), "c");
        }
        let log = daemon.log();
        let told =
            log.lines().filter(|line| line.contains("WARN") && line.contains(names) && line.contains("does not fit"));
        assert_eq!(told.count(), 1, "{log}");
    }
}
