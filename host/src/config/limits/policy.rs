//! The bounds of components and their decisions.

use std::time::Duration;

use super::PolicyOutline;
use crate::config::size::Size;

/// What a component may be, and what its decisions may take. Where both classes are bounded, these are the bounds of the class
/// [`Policy::size`], and [`Policy::other`] has those of the other class; [`Policy::of`] exchanges them.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Policy {
    /// The class whose bounds these are.
    pub size: Size,
    /// What is different in the other class.
    pub other: PolicyClass,
    /// Whether components are interpreted; `policy.interpreter` of the configuration sets it.
    pub interpreter: bool,
    /// How long one call of a policy may run. A decision takes microseconds.
    pub time: Duration,
    /// How long all decisions on one message may take.
    pub message: Duration,
    /// Decisions that wait for a free thread; beyond it the failure decision applies.
    pub queue: usize,
    /// Threads that decide, apart from the daemon's own; a decision takes microseconds, so a few serve any machine.
    pub threads: usize,
    /// Memory of one policy instance, in octets.
    pub memory: usize,
    /// Octets of native stack that a policy may use; its own memory holds most of what it works on.
    pub stack: usize,
    /// Octets that a policy may hand back in one call.
    pub result: usize,
    /// Octets of a policy's text that are kept.
    pub text: usize,
    /// Octets of a component file.
    pub file: usize,
    /// Octets of a component's signature: it takes some 330.
    pub signature: u64,
    /// Octets of the file that keeps which signed versions were in force: some 150 a policy.
    pub floor: u64,
    /// What a component may be made of.
    pub outline: PolicyOutline,
    /// How long trying one component may take by the clock, and compiling it. A policy takes 25 ms; the rest is for a slow or
    /// busy machine.
    pub compile: Duration,
    /// Processor time for the trial of one component, in whole seconds: one of 25 KB takes 0.03 s, one in JavaScript, 1 MB of it its
    /// language, 1 to 2 s. By the clock it takes more where the machine is busy; `compile` bounds that.
    pub trial_time: Duration,
    /// Address space of the process that tries a component, in octets: the program itself and its compiler take 220 MiB
    /// in a build that is not optimised, whichever of our policies it is.
    pub trial_memory: usize,
    /// Octets of the answer of the process that tries a component; they fit into a pipe at once.
    pub trial_answer: u64,
    /// Digests that are remembered of components that passed their trial; a server has some ten.
    pub trials_known: usize,
    /// Octets of a policy's test cases, and of the other files of its workshop.
    pub cases_octets: u64,
    /// Combinations of facts that a policy is tried on: a decision takes some 5 microseconds, so a million takes seconds.
    pub rows: usize,
    /// The same for a proof that is asked to be exhaustive: a minute, and some hundred octets a row.
    pub rows_exhaustive: usize,
    /// Samples of a fact that has no end of values.
    pub samples: usize,
    /// How long a policy may be tried on all of them.
    pub rehearsal: Duration,
    /// Merged rows of a table that are told.
    pub merged: usize,
    /// Octets of a user's own rules: as many as the policy `rules` takes.
    pub own_rules: usize,
    /// Octets of users' rules that are held ready; others are read again, which takes as long as a decision.
    pub own_rules_held: u64,
    /// How long the cases beside a component may take before it is loaded: each takes some 20 microseconds.
    pub cases_time: Duration,
    /// How long the end of a message may wait for a candidate that decides beside a policy; what comes later is not recorded. One
    /// that failed or was late three times is not waited for any more.
    pub shadow: Duration,
    /// Decisions that wait for the thread of candidates; beyond it they are late.
    pub shadow_queue: usize,
    /// How often changed component files are looked for, and how long they rest before they are read (`policy.watch`).
    pub watch: Duration,
    /// Decisions that are timed: a million takes seconds, and their times 16 MiB.
    pub timed: usize,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            size: Size::Small,
            other: PolicyClass::large(),
            interpreter: false,
            time: Duration::from_millis(10),
            message: Duration::from_secs(2),
            queue: 1_000,
            threads: std::thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 8)),
            memory: 16 * 1024 * 1024,
            stack: 256 * 1024,
            result: 64 * 1024,
            text: 400,
            file: 4 * 1024 * 1024,
            signature: 4_096,
            floor: 1024 * 1024,
            outline: PolicyOutline::default(),
            compile: Duration::from_secs(20),
            trial_time: Duration::from_secs(5),
            trial_memory: 512 * 1024 * 1024,
            trial_answer: 1_024,
            trials_known: 1_024,
            cases_octets: 4 * 1024 * 1024,
            rows: 1_000_000,
            rows_exhaustive: 5_000_000,
            samples: 24,
            rehearsal: Duration::from_secs(120),
            merged: 2_000,
            own_rules: 16 * 1024,
            own_rules_held: 16 * 1024 * 1024,
            cases_time: Duration::from_secs(5),
            shadow: Duration::from_millis(100),
            shadow_queue: 256,
            watch: Duration::from_secs(1),
            timed: 1_000_000,
        }
    }
}

/// The bounds in which classes differ (`policies.ID.size`).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PolicyClass {
    /// How long one call of a policy may run. In Python a decision takes some milliseconds.
    pub time: Duration,
    /// Threads that decide, beside those of class small.
    pub threads: usize,
    /// Decisions that wait for one of them: as many as they make in a second.
    pub queue: usize,
    /// Memory of one policy instance, in octets.
    pub memory: usize,
    /// Octets of native stack that a policy may use: an interpreter calls itself for each call of the program.
    pub stack: usize,
    /// Octets of a component file: in Python some 17 MB.
    pub file: usize,
    /// What a component may be made of.
    pub outline: PolicyOutline,
    /// How long trying one component may take by the clock, and compiling it.
    pub compile: Duration,
    /// Processor time for the trial of one component, in whole seconds.
    pub trial_time: Duration,
    /// Address space of the process that tries a component, in octets.
    pub trial_memory: usize,
}

impl PolicyClass {
    /// Those of class large: a component brings its language along.
    fn large() -> PolicyClass {
        PolicyClass {
            time: Duration::from_millis(50),
            threads: std::thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 4)),
            queue: 1_000,
            memory: 128 * 1024 * 1024,
            stack: 1024 * 1024,
            file: 48 * 1024 * 1024,
            outline: PolicyOutline::large(),
            compile: Duration::from_secs(180),
            trial_time: Duration::from_secs(60),
            trial_memory: 2 * 1024 * 1024 * 1024,
        }
    }
}

impl Policy {
    /// The bounds of a class.
    #[must_use]
    pub fn of(&self, size: Size) -> Policy {
        if size == self.size {
            return self.clone();
        }
        let ours = PolicyClass {
            time: self.time,
            threads: self.threads,
            queue: self.queue,
            memory: self.memory,
            stack: self.stack,
            file: self.file,
            outline: self.outline.clone(),
            compile: self.compile,
            trial_time: self.trial_time,
            trial_memory: self.trial_memory,
        };
        let PolicyClass { time, threads, queue, memory, stack, file, outline, compile, trial_time, trial_memory } =
            self.other.clone();
        Policy {
            size,
            other: ours,
            time,
            threads,
            queue,
            memory,
            stack,
            file,
            outline,
            compile,
            trial_time,
            trial_memory,
            ..self.clone()
        }
    }
}
