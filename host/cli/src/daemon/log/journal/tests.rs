use std::collections::BTreeMap;
use std::os::fd::AsFd as _;
use std::time::Duration;

use tracing_subscriber::layer::SubscriberExt as _;

use super::super::Log;
use super::*;

const LONG: Duration = Duration::from_secs(60);

/// The fields of a record, read as the journal reads them.
fn read(mut octets: &[u8]) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    while !octets.is_empty() {
        let end = octets.iter().position(|octet| matches!(octet, b'=' | b'\n')).unwrap();
        let (name, rest) = (&octets[..end], &octets[end + 1..]);
        let (value, rest) = if octets[end] == b'=' {
            let end = rest.iter().position(|octet| *octet == b'\n').unwrap();
            (&rest[..end], &rest[end + 1..])
        } else {
            let (length, rest) = rest.split_at(8);
            let length = usize::try_from(u64::from_le_bytes(length.try_into().unwrap())).unwrap();
            assert_eq!(rest[length], b'\n');
            (&rest[..length], &rest[length + 1..])
        };
        let text = |octets: &[u8]| String::from_utf8(octets.to_vec()).unwrap();
        assert!(fields.insert(text(name), text(value)).is_none(), "{name:?} stands there twice");
        octets = rest;
    }
    fields
}

/// A journal that was played, standard error as its stream, and what `JOURNAL_STREAM` says of that.
struct Played {
    dir: tempfile::TempDir,
    socket: UnixDatagram,
    stderr: File,
    stream: String,
}

fn played() -> Played {
    let dir = tempfile::tempdir().unwrap();
    let socket = UnixDatagram::bind(dir.path().join("socket")).unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    let (stderr, _) = std::os::unix::net::UnixStream::pair().unwrap();
    let stderr = File::from(stderr.as_fd().try_clone_to_owned().unwrap());
    let known = stderr.metadata().unwrap();
    let stream = format!("{}:{}", known.dev(), known.ino());
    Played { dir, socket, stderr, stream }
}

impl Played {
    fn journal(&self) -> Journal {
        Journal::of(Some(self.stream.as_ref()), &self.stderr, &self.dir.path().join("socket")).unwrap()
    }

    fn hears(&self) -> BTreeMap<String, String> {
        let mut octets = vec![0; 1 << 20];
        let length = self.socket.recv(&mut octets).unwrap();
        read(&octets[..length])
    }

    fn hears_nothing_more(&self) {
        self.socket.set_nonblocking(true).unwrap();
        assert_eq!(self.socket.recv(&mut [0; 8]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        self.socket.set_nonblocking(false).unwrap();
    }
}

/// The log of these events, in the journal.
fn logged(journal: Journal, events: impl FnOnce()) -> Log {
    let log = Log::start(journal, 1 << 20, |lines| assert_eq!(lines, 0, "lost")).unwrap();
    let records = log.clone();
    let subscriber = tracing_subscriber::registry().with(Records(move |record: &[u8]| records.push(record)));
    tracing::subscriber::with_default(subscriber, events);
    log
}

/// What the filter says of a message.
fn case(queue_id: &str, decision: Option<&'static str>) {
    tracing::info!(
        case.queue_id = %queue_id,
        case.result = "invalid",
        case.decision = decision,
        case.verdict = "reject",
        "{queue_id}: result=invalid"
    );
}

#[test]
fn a_message_is_found_by_its_queue_id_and_its_line_is_told_once() {
    let played = played();
    let log = logged(played.journal(), || {
        case("4ZbX2k1mQz", Some("mark"));
        case("-", None);
        tracing::warn!(queue_id = "4Y", count = 3, error = %"a\nb", "put off");
        tracing::error!("two\nlines");
    });
    assert!(log.flush(LONG));
    let expected: [&[(&str, &str)]; 4] = [
        &[
            ("PRIORITY", "6"),
            ("MESSAGE", "4ZbX2k1mQz: result=invalid"),
            ("ADDRAUTH_QUEUE_ID", "4ZbX2k1mQz"),
            ("ADDRAUTH_RESULT", "invalid"),
            ("ADDRAUTH_DECISION", "mark"),
            ("ADDRAUTH_VERDICT", "reject"),
        ],
        &[
            ("PRIORITY", "6"),
            ("MESSAGE", "-: result=invalid"),
            ("ADDRAUTH_RESULT", "invalid"),
            ("ADDRAUTH_VERDICT", "reject"),
        ],
        &[("PRIORITY", "4"), ("MESSAGE", "put off queue_id=\"4Y\" count=3 error=a\nb"), ("ADDRAUTH_QUEUE_ID", "4Y")],
        &[("PRIORITY", "3"), ("MESSAGE", "two\nlines")],
    ];
    for fields in expected {
        let mut heard = played.hears();
        assert_eq!(heard.remove("SYSLOG_IDENTIFIER").as_deref(), Some("addrauth"));
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        assert_eq!(heard, fields.collect());
    }
    played.hears_nothing_more();
}

#[test]
fn no_value_makes_a_field_of_another_name_and_a_long_one_is_cut() {
    let forged = "4Z\nADDRAUTH_RESULT=valid\nMESSAGE\n\u{1}";
    let fields = read(&record(&Level::INFO, forged, &[("ADDRAUTH_QUEUE_ID", forged.to_owned())]));
    assert_eq!(fields.keys().collect::<Vec<_>>(), ["ADDRAUTH_QUEUE_ID", "MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER"]);
    assert_eq!((fields["MESSAGE"].as_str(), fields["ADDRAUTH_QUEUE_ID"].as_str()), (forged, forged));
    for long in ["x".repeat(3 * WORDS), "ü".repeat(WORDS), format!("x{}", "€\n".repeat(WORDS))] {
        let fields = read(&record(&Level::INFO, &long, &[]));
        let cut = &fields["MESSAGE"];
        assert!(long.starts_with(cut) && (WORDS - 3..=WORDS).contains(&cut.len()), "{}", cut.len());
    }
}

#[test]
fn only_a_standard_error_that_the_journal_reads_makes_records() {
    let played = played();
    let path = played.dir.path().join("socket");
    let of = |stream: &str, path: &Path| Journal::of(Some(stream.as_ref()), &played.stderr, path).is_some();
    assert!(of(&played.stream, &path));
    assert!(Journal::of(None, &played.stderr, &path).is_none());
    let (device, inode) = played.stream.split_once(':').unwrap();
    let elsewhere = ["", ":", "1:1", device, &format!("{device}:{inode}0"), &format!("{inode}:{device}x"), "-1:-1"];
    for stream in elsewhere {
        assert!(!of(stream, &path), "{stream}");
    }
    // A sandbox in which there is no such socket, and a file that is none.
    assert!(!of(&played.stream, &played.dir.path().join("nowhere")));
    std::fs::write(played.dir.path().join("file"), "").unwrap();
    assert!(!of(&played.stream, &played.dir.path().join("file")));
}

#[test]
fn a_journal_that_is_started_anew_gets_what_follows_and_what_it_missed_is_counted() {
    let played = played();
    let lost = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let told = std::sync::Arc::clone(&lost);
    let tell = move |lines| _ = told.fetch_add(lines, std::sync::atomic::Ordering::SeqCst);
    let log = Log::start(played.journal(), 1 << 20, tell).unwrap();
    let path = played.dir.path().join("socket");
    std::fs::remove_file(&path).unwrap();
    log.push(&record(&Level::INFO, "missed", &[]));
    assert!(log.flush(LONG));
    let anew = UnixDatagram::bind(&path).unwrap();
    anew.set_read_timeout(Some(LONG)).unwrap();
    log.push(&record(&Level::INFO, "heard", &[]));
    assert!(log.flush(LONG));
    let mut octets = [0; 1_024];
    let length = anew.recv(&mut octets).unwrap();
    assert_eq!(read(&octets[..length])["MESSAGE"], "heard");
    assert_eq!(lost.load(std::sync::atomic::Ordering::SeqCst), 1);
}

#[test]
fn lines_of_text_leave_the_words_of_a_case_out() {
    #[derive(Clone, Default)]
    struct Sink(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);
    impl Write for Sink {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(octets);
            Ok(octets.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let sink = Sink::default();
    let written = sink.clone();
    let lines = tracing_subscriber::fmt().with_ansi(false).with_target(false).without_time().fmt_fields(LineFields);
    let lines = lines.with_writer(move || written.clone()).finish();
    tracing::subscriber::with_default(lines, || {
        case("4Z", Some("mark"));
        tracing::warn!(queue_id = "4Y", count = 3, "put off");
    });
    let said = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
    assert_eq!(said, " INFO 4Z: result=invalid\n WARN put off queue_id=\"4Y\" count=3\n");
}
