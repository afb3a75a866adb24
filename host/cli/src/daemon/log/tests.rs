use std::ffi::OsString;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

const LONG: Duration = Duration::from_secs(60);

/// A place to write to that stands still, fails or takes a part, as told.
#[derive(Clone, Default)]
struct Sink(Arc<(Mutex<Told>, Condvar)>);

#[derive(Default)]
struct Told {
    stands: bool,
    fails: Option<ErrorKind>,
    /// Octets that are taken before it fails.
    takes: usize,
    written: Vec<u8>,
}

impl Sink {
    fn told(&self, change: impl FnOnce(&mut Told)) {
        change(&mut self.0.0.lock().unwrap());
        self.0.1.notify_all();
    }

    fn written(&self) -> String {
        String::from_utf8(self.0.0.lock().unwrap().written.clone()).unwrap()
    }
}

impl Write for Sink {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let mut told = self.0.1.wait_while(self.0.0.lock().unwrap(), |told| told.stands).unwrap();
        let count = match told.fails {
            None => octets.len(),
            Some(kind) if told.takes == 0 => return Err(kind.into()),
            Some(_) => std::mem::take(&mut told.takes).min(octets.len()),
        };
        told.written.extend_from_slice(&octets[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A log with this much room, and how many lines it told to be lost.
fn log(sink: &Sink, room: usize) -> (Log, Arc<AtomicU64>) {
    let lost = Arc::new(AtomicU64::new(0));
    let told = Arc::clone(&lost);
    (Log::start(sink.clone(), room, move |lines| _ = told.fetch_add(lines, Ordering::SeqCst)).unwrap(), lost)
}

#[test]
fn lines_are_written_whole_and_in_their_order() {
    let sink = Sink::default();
    let (log, lost) = log(&sink, 1 << 20);
    let lines: Vec<String> = (0..1_000).map(|number| format!("line {number}\n")).collect();
    for line in &lines {
        log.make_writer().write_all(line.as_bytes()).unwrap();
    }
    assert!(log.flush(LONG));
    assert_eq!((sink.written(), lost.load(Ordering::SeqCst)), (lines.concat(), 0));
}

#[test]
fn a_reader_that_stands_keeps_nobody_and_what_is_lost_is_told_once_he_goes_on() {
    let sink = Sink::default();
    sink.told(|told| told.stands = true);
    let (log, lost) = log(&sink, 100);
    for _ in 0..10_000 {
        log.push(b"ten octets");
    }
    assert!(!log.flush(Duration::from_millis(50)), "the end does not wait for him either");
    sink.told(|told| told.stands = false);
    assert!(log.flush(LONG));
    log.push(b"later");
    assert!(log.flush(LONG));
    let (written, lost) = (sink.written(), lost.load(Ordering::SeqCst));
    let kept = u64::try_from(written.matches("ten octets").count()).unwrap();
    assert!((10..=20).contains(&kept), "{kept} lines");
    assert_eq!(kept + lost, 10_000);
    assert!(written.ends_with("later"));
}

#[test]
fn what_cannot_be_written_is_counted_and_a_torn_line_is_ended() {
    for kind in [ErrorKind::BrokenPipe, ErrorKind::StorageFull, ErrorKind::Other] {
        let sink = Sink::default();
        let (log, lost) = log(&sink, 1 << 20);
        sink.told(|told| (told.fails, told.takes) = (Some(kind), 3));
        for line in ["one line\n", "two\n", "three\n"] {
            log.push(line.as_bytes());
            assert!(log.flush(LONG), "{kind}: it fails at once");
        }
        assert_eq!((sink.written().as_str(), lost.load(Ordering::SeqCst)), ("one", 0));
        sink.told(|told| told.fails = None);
        log.push(b"four\n");
        assert!(log.flush(LONG));
        assert_eq!((sink.written().as_str(), lost.load(Ordering::SeqCst)), ("one\nfour\n", 3), "{kind}");
    }
}

#[test]
fn a_descriptor_that_another_made_non_blocking_loses_nothing() {
    let sink = Sink::default();
    let (log, lost) = log(&sink, 1 << 20);
    sink.told(|told| (told.fails, told.takes) = (Some(ErrorKind::WouldBlock), 2));
    log.push(b"abcdef\n");
    assert!(!log.flush(Duration::from_millis(100)));
    sink.told(|told| told.fails = None);
    assert!(log.flush(LONG));
    assert_eq!((sink.written().as_str(), lost.load(Ordering::SeqCst)), ("abcdef\n", 0));
}

#[test]
fn a_level_that_is_empty_or_wrong_is_told() {
    for good in ["info", "debug", "WARN", "off", "addrauth::verify=debug", "info,addrauth=trace,sqlx=warn", "addrauth"]
    {
        assert_eq!(level(Some(good.into()), "info").1, None, "{good}");
    }
    assert_eq!(level(None, "info").1, None);
    assert_eq!(level(None, "info").0.to_string(), "info");
    let not_text: OsString = std::os::unix::ffi::OsStringExt::from_vec(vec![0xff]);
    let wrong =
        ["", " ", "verbose", "inof", "info,verbos", "info,", "addrauth=loud", "a=b=c", "[", "addrauth::verify debug"];
    for wrong in wrong.map(OsString::from).into_iter().chain([not_text]) {
        let (filter, complaint) = level(Some(wrong.clone()), "warn");
        let complaint = complaint.unwrap_or_else(|| panic!("{wrong:?} is good"));
        assert!(complaint.starts_with("ADDRAUTH_LOG ") && complaint.contains("counts as warn"), "{complaint}");
        assert_eq!(filter.to_string(), "warn", "{wrong:?}");
    }
}
