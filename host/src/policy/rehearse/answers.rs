//! Asks a subject about every row of a space, in the sandbox and on several threads.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::super::sandbox::contract::Facts;
use super::space::{Space, sees};
use super::subject::{Answer, Subject};
use crate::config::Limits;

/// Tries of one decision that ran out of its time by the clock.
const TRIES: usize = 40;
/// How many times its time a decision has to have worked before it counts as one that takes too long.
const WORKED: u32 = 2;
/// Rows that a thread takes at a time.
const PORTION: usize = 1_024;
/// A row that there was no time for.
const UNASKED: u32 = u32::MAX;

/// What a subject answers to the rows of a space.
pub(super) struct Answers {
    /// The answers that occur.
    pub(super) distinct: Vec<Answer>,
    of_row: Vec<u32>,
    /// How long it took.
    pub(super) took: Duration,
}

impl Answers {
    /// The answer to a row, by its place among those that occur; none where there was no time for it.
    pub(super) fn number(&self, row: usize) -> Option<u32> {
        self.of_row.get(row).copied().filter(|number| *number != UNASKED)
    }

    /// The answer to a row.
    pub(super) fn of_row(&self, row: usize) -> Option<&Answer> {
        self.distinct.get(usize::try_from(self.number(row)?).ok()?)
    }

    /// Rows that there was no time for.
    pub(super) fn unasked(&self) -> usize {
        self.of_row.iter().filter(|number| **number == UNASKED).count()
    }
}

/// What the threads share.
struct Work<'a> {
    space: &'a Space,
    subject: &'a Subject,
    /// The rows to be asked about.
    questions: &'a [usize],
    next: AtomicUsize,
    time: Duration,
    until: Instant,
    answers: Mutex<Numbered>,
    done: Mutex<Vec<(usize, Vec<u32>)>>,
}

#[derive(Default)]
struct Numbered {
    distinct: Vec<Answer>,
    numbers: HashMap<Answer, u32>,
}

impl Space {
    /// Asks a subject about every row; about rows that it cannot tell apart once. What is not done within
    /// `limits.policy.rehearsal` is left.
    pub(super) fn ask(&self, subject: &Subject, limits: &Limits) -> Answers {
        let begin = Instant::now();
        let limits = limits.of(subject.size());
        let (questions, question_of_row) = self.questions(subject);
        let work = Work {
            space: self,
            subject,
            questions: &questions,
            next: AtomicUsize::new(0),
            time: limits.policy.time,
            until: begin + limits.policy.rehearsal,
            answers: Mutex::default(),
            done: Mutex::default(),
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(limits.policy.threads).max(1);
        match threads.min(questions.len().div_ceil(PORTION)) {
            0 | 1 => work.run(),
            threads => std::thread::scope(|scope| (0..threads).for_each(|_| _ = scope.spawn(|| work.run()))),
        }
        let mut of_question = vec![UNASKED; questions.len()];
        for (begin, numbers) in work.done.into_inner().unwrap_or_else(PoisonError::into_inner) {
            for (place, number) in of_question.iter_mut().skip(begin).zip(numbers) {
                *place = number;
            }
        }
        let of_row = match question_of_row {
            None => of_question,
            Some(of_row) => {
                of_row.iter().map(|question| of_question.get(*question).copied().unwrap_or(UNASKED)).collect()
            }
        };
        let distinct = work.answers.into_inner().unwrap_or_else(PoisonError::into_inner).distinct;
        Answers { distinct, of_row, took: begin.elapsed() }
    }

    /// The rows to be asked about, and for each row the question that answers it where that is not the row itself.
    fn questions(&self, subject: &Subject) -> (Vec<usize>, Option<Vec<usize>>) {
        let seen: Vec<bool> = self.axes.iter().map(|axis| sees(subject.wanted(), &axis.kind)).collect();
        // The reason is part of the axis of results.
        let whys = subject.facts().contains(&"why") || !self.tells_why();
        if whys && seen.iter().all(|seen| *seen) {
            return ((0..self.len()).collect(), None);
        }
        let mut numbers: HashMap<Vec<u8>, usize> = HashMap::new();
        let (mut questions, mut of_row) = (Vec::new(), Vec::with_capacity(self.len()));
        for row in 0..self.len() {
            let key: Vec<u8> = (self.row(row).iter().zip(&seen).enumerate())
                .map(|(place, (class, seen))| match (place, seen) {
                    (0, _) if !whys => self.status_of(*class),
                    (_, true) => *class,
                    (_, false) => 0,
                })
                .collect();
            let next = questions.len();
            let number = *numbers.entry(key).or_insert(next);
            if number == next {
                questions.push(row);
            }
            of_row.push(number);
        }
        (questions, Some(of_row))
    }
}

impl Work<'_> {
    fn run(&self) {
        let mut known: HashMap<Answer, u32> = HashMap::new();
        loop {
            let begin = self.next.fetch_add(PORTION, Ordering::Relaxed);
            let Some(rows) = self.questions.get(begin..self.questions.len().min(begin.saturating_add(PORTION))) else {
                return;
            };
            if rows.is_empty() {
                return;
            }
            let mut numbers = Vec::with_capacity(rows.len());
            for row in rows {
                if Instant::now() >= self.until {
                    break;
                }
                let answer = self.answer(*row);
                let number = match known.get(&answer) {
                    Some(number) => *number,
                    None => {
                        let number = self.number(&answer);
                        known.insert(answer, number);
                        number
                    }
                };
                numbers.push(number);
            }
            self.done.lock().unwrap_or_else(PoisonError::into_inner).push((begin, numbers));
        }
    }

    fn answer(&self, row: usize) -> Answer {
        let facts = self.space.facts(self.space.row(row));
        patiently(self.subject, &facts, &self.space.wanted().headers, (self.time, self.until))
    }

    fn number(&self, answer: &Answer) -> u32 {
        let mut shared = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let next = u32::try_from(shared.distinct.len()).unwrap_or(UNASKED);
        if let Some(number) = shared.numbers.get(answer) {
            return *number;
        }
        shared.numbers.insert(answer.clone(), next);
        shared.distinct.push(answer.clone());
        next
    }
}

/// What a subject answers, however busy the machine is. A decision's time goes by the clock, and others may have had all of it: one
/// whose time was up is tried again, until this thread has worked so long or that moment has come. A true fault comes back.
pub(super) fn patiently(
    subject: &Subject,
    facts: &Facts,
    headers: &[String],
    (time, until): (Duration, Instant),
) -> Answer {
    let first = subject.answer(facts, headers);
    if !is_late(&first) {
        return first;
    }
    let (begin, mut tries) = (worked(), 1);
    loop {
        let answer = subject.answer(facts, headers);
        tries += 1;
        let enough = worked().saturating_sub(begin) >= time.saturating_mul(WORKED);
        if !is_late(&answer) || enough || tries >= TRIES || Instant::now() >= until {
            return answer;
        }
    }
}

fn is_late(answer: &Answer) -> bool {
    answer.fault.as_ref().is_some_and(|fault| fault.contains("ran longer than"))
}

/// How long this thread has worked, others' time left out.
fn worked() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}
