//! Listening for VERIFY on UDP: a thread for each socket, which waits for questions and for the time of their answers.
//!
//! Every answer waits for its time (see `hold`), and questions are taken meanwhile. While several answers wait, questions are
//! gathered for a quarter of that time: then one look at the table serves many. The thread looks keys up by itself where
//! that is a short read; else the runtime does, and the answers wait for their time like all others.

use std::collections::VecDeque;
use std::net::{SocketAddr, UdpSocket};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};
use std::{io, iter};

use futures_util::FutureExt as _;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error, warn};

use super::answer::{Found, Over};
use super::datagrams::{Asker, Datagrams, Doorbell};
use super::hold::deadline;
use super::{Authority, Error, datagrams};
use crate::pulse::Pulse;

/// How long a socket that cannot be read rests: what lasts must not spin.
const BREATH: Duration = Duration::from_millis(10);

impl Authority {
    /// Opens one UDP socket for each address of `authority.listen`. An answer leaves from the address that was asked, on a
    /// wildcard address too.
    ///
    /// # Errors
    /// There is no address, or one cannot be had.
    pub fn bind(&self) -> Result<Vec<UdpSocket>, Error> {
        if self.listen.is_empty() {
            return Err(Error::NoListen);
        }
        let open = |address: &SocketAddr| {
            let socket = UdpSocket::bind(address).and_then(|socket| datagrams::prepare(&socket).map(|()| socket));
            socket.map_err(|source| Error::Listen { address: *address, source })
        };
        self.listen.iter().map(open).collect()
    }

    /// Answers on these sockets, each by a thread of its own, sweeps ended keys and writes down who was forged now and then,
    /// until `shutdown`; questions at hand are finished.
    pub async fn serve(self: Arc<Self>, sockets: Vec<UdpSocket>, shutdown: CancellationToken) {
        let tasks = TaskTracker::new();
        for (number, socket) in sockets.into_iter().enumerate() {
            let pulse = self.pulses.get(number).cloned().unwrap_or_default();
            tasks.spawn(self.clone().answer_on(number, socket, pulse, shutdown.clone()));
        }
        tasks.spawn(self.clone().write_counts_often(shutdown.clone()));
        tasks.spawn(self.clone().sweep_often(shutdown));
        tasks.close();
        tasks.wait().await;
        self.write_counts_or_warn().await;
    }

    /// Runs the thread of a socket, and carries to it what the runtime knows: that it is to stop, and that it is asked whether it
    /// turns.
    async fn answer_on(
        self: Arc<Self>,
        number: usize,
        socket: UdpSocket,
        pulse: Arc<Pulse>,
        shutdown: CancellationToken,
    ) {
        let calls = match Calls::new(pulse.clone()) {
            Ok(calls) => Arc::new(calls),
            Err(e) => return error!("a socket of authority.listen is not answered on: {e}"),
        };
        // Also where this is dropped.
        let _stop = StopWhenDropped(calls.clone());
        let (ends, mut ended) = oneshot::channel::<()>();
        let (its, runtime) = (calls.clone(), Handle::current());
        let run = move || {
            let _ends = ends;
            let _entered = runtime.enter();
            match Answering::new(self, socket, its, runtime.clone()) {
                Ok(answering) => answering.run(),
                Err(e) => error!("a socket of authority.listen is not answered on: {e}"),
            }
        };
        if let Err(e) = thread::Builder::new().name(format!("answer-{number}")).spawn(run) {
            return error!("a socket of authority.listen is not answered on: {e}");
        }
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                asked = pulse.asked() => calls.ask(asked),
                _ = &mut ended => return,
            }
        }
        calls.stop();
        let _ = ended.await;
    }
}

/// What others tell the thread of a socket.
struct Calls {
    bell: Doorbell,
    stops: AtomicBool,
    /// What `pulse` is to be answered with, once.
    asked: AtomicU64,
    pulse: Arc<Pulse>,
}

impl Calls {
    fn new(pulse: Arc<Pulse>) -> io::Result<Calls> {
        Ok(Calls { bell: Doorbell::new()?, stops: AtomicBool::new(false), asked: AtomicU64::new(0), pulse })
    }

    fn stop(&self) {
        self.stops.store(true, Ordering::SeqCst);
        self.bell.ring();
    }

    fn ask(&self, number: u64) {
        self.asked.store(number, Ordering::SeqCst);
        self.bell.ring();
    }

    fn answer_pulse(&self) {
        let number = self.asked.swap(0, Ordering::SeqCst);
        if number > 0 {
            self.pulse.tell(number);
        }
    }
}

struct StopWhenDropped(Arc<Calls>);

impl Drop for StopWhenDropped {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// An answer that waits for its time.
struct Due {
    at: Instant,
    reply: Vec<u8>,
    to: Asker,
}

/// Questions that came together, and when.
struct Together {
    begin: Instant,
    count: usize,
}

/// What the runtime has answered.
struct Answered {
    together: Together,
    replies: Vec<(Option<Vec<u8>>, Asker)>,
}

/// A socket, and what is under way on it.
struct Answering {
    authority: Arc<Authority>,
    datagrams: Datagrams,
    calls: Arc<Calls>,
    runtime: Handle,
    /// By their time.
    due: VecDeque<Due>,
    /// Until then questions are gathered.
    gathers: Option<Instant>,
    /// Batches that the runtime works on.
    under_way: usize,
    answered: mpsc::Receiver<Answered>,
    answers: mpsc::Sender<Answered>,
}

impl Answering {
    fn new(authority: Arc<Authority>, socket: UdpSocket, calls: Arc<Calls>, runtime: Handle) -> io::Result<Answering> {
        let datagrams = Datagrams::new(socket, authority.limits.authority.answers_together)?;
        let (answers, answered) = mpsc::channel();
        let (due, gathers, under_way) = (VecDeque::new(), None, 0);
        Ok(Answering { authority, datagrams, calls, runtime, due, gathers, under_way, answered, answers })
    }

    fn run(mut self) {
        datagrams::wake_on_time();
        loop {
            match catch_unwind(AssertUnwindSafe(|| self.turn())) {
                Ok(true) => {}
                Ok(false) => return,
                // The hook has told of it. Questions of one batch are lost, as datagrams may be.
                Err(_) => thread::sleep(BREATH),
            }
        }
    }

    /// Sends what is due, and waits for the next thing to do; whether there is any.
    fn turn(&mut self) -> bool {
        self.calls.answer_pulse();
        while let Ok(Answered { together, replies }) = self.answered.try_recv() {
            self.under_way -= 1;
            self.keep(&together, false, replies);
        }
        let now = Instant::now();
        self.send_due(now);
        let stops = self.calls.stops.load(Ordering::SeqCst);
        if stops && self.due.is_empty() && self.under_way == 0 {
            return false;
        }
        let has_room = !stops
            && self.due.len() < self.authority.limits.authority.answers_waiting.max(1)
            && self.under_way < self.authority.limits.authority.answers_at_once.max(1);
        let gathers = self.gathers.filter(|until| has_room && now < *until);
        if has_room && gathers.is_none() && self.gathers.take().is_some() && self.take() {
            return true;
        }
        let until = self.due.front().map(|due| due.at).into_iter().chain(gathers).min();
        let wait = until.map(|until| until.saturating_duration_since(now));
        match self.datagrams.wait(&self.calls.bell, has_room && gathers.is_none(), wait) {
            Ok(true) => drop(self.take()),
            Ok(false) => {}
            Err(e) => {
                warn!("cannot wait for questions: {e}");
                thread::sleep(BREATH);
            }
        }
        true
    }

    fn send_due(&mut self, now: Instant) {
        while self.due.front().is_some_and(|due| due.at <= now)
            && let Some(Due { reply, to, .. }) = self.due.pop_front()
        {
            if let Err(e) = self.datagrams.send(&reply, &to) {
                debug!(peer = %to.peer, "the answer cannot be sent: {e}");
            }
        }
    }

    /// Takes the questions that have come, and answers those whose keys are at hand; whether there were any.
    fn take(&mut self) -> bool {
        let begin = Instant::now();
        let count = match self.datagrams.receive() {
            Ok(0) => return false,
            Ok(count) => count,
            Err(e) => {
                report(&e);
                return false;
            }
        };
        let NowAndLater { now, from_memory, later } = answered_now(&self.authority, self.datagrams.came());
        let together = Together { begin, count };
        self.keep(&together, from_memory, now);
        if !later.is_empty() {
            self.answer_later(together, later);
        }
        let gather = self.authority.limits.authority.answer_after / 4;
        self.gathers = (self.due.len() > 1 && !self.datagrams.is_full()).then(|| begin + gather);
        true
    }

    /// Keeps answers until their time.
    fn keep(
        &mut self,
        Together { begin, count }: &Together,
        from_memory: bool,
        replies: impl IntoIterator<Item = (Option<Vec<u8>>, Asker)>,
    ) {
        let (now, step) = (Instant::now(), self.authority.limits.authority.answer_after);
        let done = match from_memory {
            true => now.max(*begin + step * self.authority.pace.draw().saturating_sub(1)),
            false => {
                self.authority.pace.note(now.saturating_duration_since(*begin), step);
                now
            }
        };
        let at = deadline(step, *begin, *count, done).unwrap_or(now);
        let place = self.due.partition_point(|due| due.at <= at);
        let replies = replies.into_iter().filter_map(|(reply, to)| Some(Due { at, reply: reply?, to }));
        if place == self.due.len() {
            self.due.extend(replies);
        } else {
            let later = self.due.split_off(place);
            self.due.extend(replies.chain(later));
        }
    }

    /// Has the runtime answer these.
    fn answer_later(&mut self, together: Together, lines: Vec<(Vec<u8>, Asker)>) {
        self.under_way += 1;
        let (authority, calls, answers) = (self.authority.clone(), self.calls.clone(), self.answers.clone());
        self.runtime.spawn(async move {
            // Whatever becomes of it, the socket's thread must not wait for it for ever.
            let mut back = Back { answered: Some(Answered { together, replies: Vec::new() }), answers, calls };
            let mut read = Vec::with_capacity(lines.len());
            for (line, to) in &lines {
                read.push(authority.read(Over::Udp, line, to.peer));
            }
            let replies = authority.answers(&read).await;
            if let Some(answered) = &mut back.answered {
                answered.replies = iter::zip(replies, lines.into_iter().map(|(_, to)| to)).collect();
            }
        });
    }
}

/// Brings to a socket's thread what the runtime has answered, and nothing where that broke off.
struct Back {
    answered: Option<Answered>,
    answers: mpsc::Sender<Answered>,
    calls: Arc<Calls>,
}

impl Drop for Back {
    fn drop(&mut self) {
        if let Some(answered) = self.answered.take() {
            let _ = self.answers.send(answered);
            self.calls.bell.ring();
        }
    }
}

/// Replies to questions whose keys are at hand, and the others.
struct NowAndLater {
    now: Vec<(Option<Vec<u8>>, Asker)>,
    /// Whether nothing was read for these replies.
    from_memory: bool,
    later: Vec<(Vec<u8>, Asker)>,
}

fn answered_now<'a>(authority: &Authority, came: impl Iterator<Item = (&'a [u8], Asker)>) -> NowAndLater {
    let lines: Vec<_> = came.map(|(octets, to)| (authority.read(Over::Udp, octets, to.peer), octets, to)).collect();
    let wanted: Vec<String> = lines.iter().filter_map(|(line, ..)| line.own.clone()).collect();
    let at_once = authority.keys.log().is_some();
    let Found { keys, from_memory } = match at_once {
        _ if wanted.is_empty() => Found { keys: Vec::new(), from_memory: true },
        // It is done when it is first polled.
        true => authority.look_up(&wanted).now_or_never().unwrap_or_else(|| Found::nothing(wanted.len())),
        false => Found { keys: vec![None; wanted.len()], from_memory: true },
    };
    let (mut keys, mut now, mut later) = (keys.into_iter(), Vec::with_capacity(lines.len()), Vec::new());
    for (line, octets, to) in lines {
        match line.own.as_ref().and_then(|_| keys.next()) {
            Some(None) if !at_once => later.push((octets.to_vec(), to)),
            keys => now.push((authority.answer_one(&line, keys.flatten().as_deref()), to)),
        }
    }
    NowAndLater { now, from_memory, later }
}

/// ICMP errors of earlier answers surface where questions are received.
fn report(e: &io::Error) {
    match e.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => debug!("an answer was not taken: {e}"),
        _ => {
            warn!("cannot receive questions: {e}");
            thread::sleep(BREATH);
        }
    }
}
