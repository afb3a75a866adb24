//! Listening for VERIFY on UDP: a thread for each socket, which receives questions and sends answers at its own pace.
//!
//! The pace is that of `ticks`: neither questions nor work set it. The thread looks keys up by itself where that is a short
//! read; else the runtime does, and does not wake the thread: that finds the answers when a step begins.

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
use super::ticks::{Received, Ticks, Turn};
use super::waiting::{Number, Waiting};
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

    /// Whether the thread has something to be told.
    fn are_there(&self) -> bool {
        self.stops.load(Ordering::SeqCst) || self.asked.load(Ordering::SeqCst) > 0
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

/// What came of questions, and when that was ready.
struct Answered {
    received: Received,
    done: Instant,
    replies: Vec<(Number, Vec<u8>, Asker)>,
}

/// What one look at the socket gave.
#[derive(Clone, Copy, Debug, Default)]
struct Came {
    count: usize,
    /// Whether there may be more.
    is_full: bool,
}

/// A socket, and what is under way on it.
struct Answering {
    authority: Arc<Authority>,
    datagrams: Datagrams,
    calls: Arc<Calls>,
    runtime: Handle,
    ticks: Ticks,
    waiting: Waiting,
    /// Lookups that the runtime works on.
    under_way: usize,
    /// Whether it is to stop, and has looked at what had gathered.
    has_looked_last: bool,
    answered: mpsc::Receiver<Answered>,
    answers: mpsc::Sender<Answered>,
}

impl Answering {
    fn new(authority: Arc<Authority>, socket: UdpSocket, calls: Arc<Calls>, runtime: Handle) -> io::Result<Answering> {
        let limits = &authority.limits.authority;
        let datagrams = Datagrams::new(socket, limits.answers_together.saturating_mul(limits.answers_at_once))?;
        let ticks = Ticks::new(limits.answer_after, authority.readings.clone());
        let (answers, answered) = mpsc::channel();
        let (waiting, under_way, has_looked_last) = (Waiting::default(), 0, false);
        Ok(Answering {
            authority,
            datagrams,
            calls,
            runtime,
            ticks,
            waiting,
            under_way,
            has_looked_last,
            answered,
            answers,
        })
    }

    fn run(mut self) {
        datagrams::wake_on_time();
        loop {
            match catch_unwind(AssertUnwindSafe(|| self.turn())) {
                Ok(true) => {}
                Ok(false) => return,
                // The hook has told of it. Questions of one look are lost, as datagrams may be.
                Err(_) => thread::sleep(BREATH),
            }
        }
    }

    /// Receives and sends what is due, answers what was received, and waits for the next thing to do; whether there is any.
    fn turn(&mut self) -> bool {
        self.calls.answer_pulse();
        let stops = self.calls.stops.load(Ordering::SeqCst);
        let now = Instant::now();
        let turn = self.ticks.advance(now);
        self.collect();
        // Once it is to stop, one last look, whenever that is: what has gathered is answered.
        let looks = if stops { !std::mem::replace(&mut self.has_looked_last, true) } else { turn != Turn::Nothing };
        // Before anything is sent, and so before who waits for that asks again: that comes in the middle of the step.
        let came = if looks { self.receive() } else { Came::default() };
        // What was due before, and was ready too late for that, waits for the next step: other wakings are askers' doing.
        let sent = if turn == Turn::Begin { self.send(now) } else { 0 };
        let is_flood = came.count > 0 && self.answer(now) && came.is_full;
        self.ticks.looked(now, came.count + sent, self.is_idle());
        if stops && self.is_idle() {
            return false;
        }
        if is_flood && !stops {
            self.skip_junk();
        }
        self.wait(stops);
        true
    }

    /// Whether nothing waits or is worked on.
    fn is_idle(&self) -> bool {
        self.waiting.len() == 0 && self.under_way == 0
    }

    /// A look found as much as it takes and no question in it: looks again, for as long as that is so and there is nothing else
    /// to do. Meanwhile the socket's buffer would overflow. The time that junk takes is no secret.
    fn skip_junk(&mut self) {
        while self.ticks.next().is_some_and(|next| Instant::now() < next) && !self.calls.are_there() {
            let (now, came) = (Instant::now(), self.receive());
            if came.count == 0 || !self.answer(now) || !came.is_full {
                return;
            }
        }
    }

    /// Waits for the time to go on, or to be called; where nothing waits, for a question, or where another one would be received
    /// in this step.
    fn wait(&mut self, stops: bool) {
        let wait = self.ticks.next().map(|next| next.saturating_duration_since(Instant::now()));
        match self.datagrams.wait(&self.calls.bell, !stops && self.ticks.listens(), wait) {
            Ok(true) => self.ticks.expect(Instant::now()),
            Ok(false) => {}
            Err(e) => {
                warn!("cannot wait for questions: {e}");
                thread::sleep(BREATH);
            }
        }
    }

    /// Takes what the runtime has answered.
    fn collect(&mut self) {
        while let Ok(Answered { received, done, replies }) = self.answered.try_recv() {
            self.under_way -= 1;
            self.waiting.keep(self.ticks.leave(received, done, false), replies);
        }
    }

    /// Receives as many questions as there is room for.
    fn receive(&mut self) -> Came {
        let limits = &self.authority.limits.authority;
        let room = limits.answers_waiting.max(1).saturating_sub(self.waiting.len());
        let lookups = limits.answers_at_once.max(1).saturating_sub(self.under_way);
        let most = room.min(lookups.saturating_mul(limits.answers_together.max(1)));
        if most == 0 {
            return Came::default();
        }
        match self.datagrams.receive(most) {
            Ok(count) => Came { count, is_full: count >= most.min(self.datagrams.most()) },
            Err(e) => {
                report(&e);
                Came::default()
            }
        }
    }

    /// Sends the answers whose time has come; how many.
    fn send(&mut self, now: Instant) -> usize {
        let mut sent = 0;
        while let Some(replies) = self.waiting.take(now) {
            sent += replies.len();
            for reply in &replies {
                if let Err(e) = self.datagrams.send(&reply.octets, &reply.to) {
                    debug!(peer = %reply.to.peer, "the answer cannot be sent: {e}");
                }
            }
        }
        sent
    }

    /// Answers what was received at this time: at once where keys are at hand, else later. Whether there was no question in it.
    fn answer(&mut self, at: Instant) -> bool {
        self.ticks.start(at);
        let received = self.ticks.received(at);
        let Self { authority, datagrams, waiting, .. } = self;
        let NowAndLater { now, from_memory, later, is_junk } =
            answered_now(authority, datagrams.came().map(|(octets, to)| (waiting.number(), octets, to)));
        self.waiting.keep(self.ticks.leave(received, Instant::now(), from_memory), now);
        let together = self.authority.limits.authority.answers_together.max(1);
        let mut later = later.into_iter().peekable();
        while later.peek().is_some() {
            self.answer_later(received, later.by_ref().take(together).collect());
        }
        is_junk
    }

    /// Has the runtime answer these.
    fn answer_later(&mut self, received: Received, lines: Vec<(Number, Vec<u8>, Asker)>) {
        self.under_way += 1;
        let authority = self.authority.clone();
        // Whatever becomes of it, the socket's thread must not wait for it for ever: a runtime that ends drops it unpolled.
        let back = Back { received, replies: Vec::new(), answers: self.answers.clone() };
        self.runtime.spawn(async move {
            let read = lines.iter().map(|(_, line, to)| authority.read(Over::Udp, line, to.peer)).collect::<Vec<_>>();
            let replies = authority.answers(&read).await;
            let replies = iter::zip(replies, &lines);
            back.bring(replies.filter_map(|(reply, (number, _, to))| Some((*number, reply?, *to))).collect());
        });
    }
}

/// Brings to a socket's thread what the runtime has answered, and nothing where that broke off.
struct Back {
    received: Received,
    replies: Vec<(Number, Vec<u8>, Asker)>,
    answers: mpsc::Sender<Answered>,
}

impl Back {
    fn bring(mut self, replies: Vec<(Number, Vec<u8>, Asker)>) {
        self.replies = replies;
    }
}

impl Drop for Back {
    fn drop(&mut self) {
        let (received, done, replies) = (self.received, Instant::now(), std::mem::take(&mut self.replies));
        let _ = self.answers.send(Answered { received, done, replies });
    }
}

/// Replies to questions whose keys are at hand, and the others.
struct NowAndLater {
    now: Vec<(Number, Vec<u8>, Asker)>,
    /// Whether nothing was read for these replies.
    from_memory: bool,
    later: Vec<(Number, Vec<u8>, Asker)>,
    /// Whether none of them is a question.
    is_junk: bool,
}

fn answered_now<'a>(
    authority: &Authority,
    came: impl ExactSizeIterator<Item = (Number, &'a [u8], Asker)>,
) -> NowAndLater {
    let mut lines = Vec::with_capacity(came.len());
    lines.extend(came.map(|(number, octets, to)| (authority.read(Over::Udp, octets, to.peer), number, octets, to)));
    let wanted: Vec<&str> = lines.iter().filter_map(|(line, ..)| line.own.as_deref()).collect();
    let at_once = authority.keys.log().is_some();
    let Found { keys, from_memory } = match at_once {
        _ if wanted.is_empty() => Found { keys: Vec::new(), from_memory: true },
        // It is done when it is first polled.
        true => authority.look_up(&wanted).now_or_never().unwrap_or_else(|| Found::nothing(wanted.len())),
        false => Found { keys: vec![None; wanted.len()], from_memory: true },
    };
    let (mut keys, mut now, mut later) = (keys.into_iter(), Vec::with_capacity(lines.len()), Vec::new());
    for (line, number, octets, to) in &lines {
        match line.own.as_ref().and_then(|_| keys.next()) {
            Some(None) if !at_once => later.push((*number, octets.to_vec(), *to)),
            keys => {
                let reply = authority.answer_one(line, keys.flatten().as_deref());
                now.extend(reply.map(|reply| (*number, reply, *to)));
            }
        }
    }
    let is_junk = lines.iter().all(|(line, ..)| line.is_junk());
    NowAndLater { now, from_memory, later, is_junk }
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

#[cfg(test)]
#[path = "udp/tests.rs"]
mod tests;
