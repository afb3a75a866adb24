//! Single turns of a socket's thread, on the test's own.

use tokio::runtime::Runtime;

use super::*;
use crate::config::{Config, Limits, StateDir};

/// So long that no step begins by itself while a test runs.
const STEP: Duration = Duration::from_secs(600);

/// A socket of an Authentication Server for example.com, and who asks there.
struct Bed {
    answering: Answering,
    client: UdpSocket,
    runtime: Runtime,
    _dir: tempfile::TempDir,
}

impl Bed {
    /// It looks up so many questions together, and receives as many at once.
    fn of(together: usize) -> Bed {
        let (dir, runtime) = (tempfile::tempdir().unwrap(), Runtime::new().unwrap());
        let mut config = Config { state_dir: StateDir(dir.path().to_owned()), ..Config::default() };
        config.authority.domains = vec!["example.com".parse().unwrap()];
        let limits = Arc::new(Limits::default().with(|limits| {
            limits.authority.answer_after = STEP;
            (limits.authority.answers_together, limits.authority.answers_at_once) = (together, 1);
        }));
        let authority = Arc::new(runtime.block_on(Authority::open(&config, &limits)).unwrap());
        let (socket, client) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        client.connect(socket.local_addr().unwrap()).unwrap();
        client.set_nonblocking(true).unwrap();
        let calls = Arc::new(Calls::new(Arc::default()).unwrap());
        let answering = Answering::new(authority, socket, calls, runtime.handle().clone()).unwrap();
        Bed { answering, client, runtime, _dir: dir }
    }

    /// One turn, which does not wait at its end; whether there is another one.
    fn turn(&mut self) -> bool {
        let _entered = self.runtime.enter();
        self.answering.calls.bell.ring();
        self.answering.turn()
    }

    /// The first step began so long ago.
    fn start(&mut self, ago: Duration) -> Instant {
        let begin = Instant::now().checked_sub(ago).unwrap();
        self.answering.ticks = Ticks::new(STEP, self.answering.authority.readings.clone());
        self.answering.ticks.start(begin);
        begin
    }

    fn asker(&self) -> Asker {
        Asker::at_bound(self.client.local_addr().unwrap())
    }

    fn got(&self) -> Option<Vec<u8>> {
        let mut room = [0; 600];
        self.client.recv(&mut room).ok().map(|length| room[..length].to_vec())
    }
}

#[test]
fn h_an_answer_that_was_ready_in_time_and_told_late_waits_for_the_next_step_whoever_wakes_the_thread() {
    let mut bed = Bed::of(4);
    let begin = bed.start(STEP + STEP / 4);
    let received = bed.answering.ticks.received(begin);
    assert_eq!(bed.answering.ticks.advance(Instant::now()), Turn::Begin);
    let replies = vec![(bed.answering.waiting.number(), b"late".to_vec(), bed.asker())];
    bed.answering.under_way = 1;
    bed.answering.answers.send(Answered { received, done: begin + STEP / 2, replies }).unwrap();
    for _ in 0..3 {
        bed.client.send(b"who wakes it").unwrap();
        assert!(bed.turn());
        assert_eq!((bed.got(), bed.answering.waiting.len()), (None, 1));
    }
    // The middle of the step.
    let begin = bed.start(STEP - STEP / 4);
    bed.answering.ticks.expect(begin);
    assert!(bed.turn());
    assert_eq!((bed.got(), bed.answering.waiting.len()), (None, 1));
    bed.start(STEP + STEP / 4);
    assert!(bed.turn());
    assert_eq!((bed.got(), bed.answering.waiting.len()), (Some(b"late".to_vec()), 0));
}

#[test]
fn a_lookup_that_the_runtime_drops_before_it_begins_is_not_waited_for() {
    let mut bed = Bed::of(4);
    let begin = bed.start(Duration::ZERO);
    let received = bed.answering.ticks.received(begin);
    // A runtime that has ended drops what it is given.
    let ended = Runtime::new().unwrap();
    bed.answering.runtime = ended.handle().clone();
    drop(ended);
    let line = (bed.answering.waiting.number(), b"VERIFY".to_vec(), bed.asker());
    bed.answering.answer_later(received, vec![line]);
    assert_eq!(bed.answering.under_way, 1);
    bed.answering.collect();
    assert!(bed.answering.is_idle());
}

#[test]
fn a_question_behind_more_junk_than_one_look_takes_is_received_in_the_same_turn() {
    let mut bed = Bed::of(4);
    let line = format!("VERIFY {:032x} nobody@example.com {} v=1\r\n", 1, "x".repeat(64));
    for _ in 0..50 {
        bed.client.send(b"junk").unwrap();
    }
    bed.client.send(line.as_bytes()).unwrap();
    assert!(bed.turn());
    assert_eq!(bed.answering.waiting.len(), 1);
}

#[test]
fn one_that_is_to_stop_looks_once_more_whatever_time_it_is_and_no_flood_keeps_it() {
    let mut bed = Bed::of(4);
    let line = |n| format!("VERIFY {n:032x} nobody@example.com {} v=1\r\n", "x".repeat(64));
    bed.start(STEP / 4);
    for n in 0..3 {
        bed.client.send(line(n).as_bytes()).unwrap();
    }
    assert!(bed.turn());
    assert_eq!(bed.answering.waiting.len(), 0, "it is no time to look");
    bed.answering.calls.stop();
    assert!(bed.turn());
    assert_eq!(bed.answering.waiting.len(), 3);
    for _ in 0..50 {
        bed.client.send(b"junk").unwrap();
    }
    assert!(bed.turn());
    assert_eq!(bed.answering.waiting.take(Instant::now() + STEP).map(|left| left.len()), Some(3));
    assert!(!bed.turn());
}
