//! What processes cost: processor time and voluntary switches by /proc, system calls by perf.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The unit of /proc/PID/stat and /proc/stat: hundredths of a second.
const TICK: Duration = Duration::from_millis(10);

/// A process and all that it started and theirs, as far as they live.
pub fn family(root: u32) -> Vec<u32> {
    let mut all = vec![root];
    let mut at = 0;
    while let Some(pid) = all.get(at) {
        let lists = threads(*pid).into_iter().filter_map(|task| fs::read_to_string(task.join("children")).ok());
        let children: Vec<u32> =
            lists.flat_map(|list| list.split(' ').filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect();
        all.extend(children);
        at += 1;
    }
    all
}

fn threads(pid: u32) -> Vec<PathBuf> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten();
    entries.flatten().map(|entry| entry.path()).collect()
}

/// What one thread had used when it was looked at.
#[derive(Clone, Copy, Debug, Default)]
struct Thread {
    ran: Duration,
    voluntary: u64,
}

/// What one process had used: its living threads one by one, and all together, ended ones included, but in ticks.
#[derive(Clone, Debug, Default)]
struct Process {
    threads: HashMap<PathBuf, Thread>,
    all: Duration,
}

impl Process {
    fn look(pid: u32) -> Process {
        let thread = |task: PathBuf| {
            let ran = fs::read_to_string(task.join("schedstat")).ok()?.split(' ').next()?.parse().ok()?;
            let status = fs::read_to_string(task.join("status")).ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
            Some((task, Thread { ran: Duration::from_nanos(ran), voluntary: line.trim().parse().ok()? }))
        };
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // Behind the name, which may hold anything: state is the first, utime and stime are the 12th and 13th.
        let behind = stat.rsplit_once(") ").map_or("", |(_, behind)| behind);
        let ticks = behind.split(' ').skip(11).take(2).filter_map(|word| word.parse::<u32>().ok()).sum::<u32>();
        Process { threads: threads(pid).into_iter().filter_map(thread).collect(), all: TICK * ticks }
    }
}

/// Processes at one moment.
#[derive(Clone, Debug)]
pub struct Look(HashMap<u32, Process>);

/// What processes used between two looks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    /// Processor time of all threads.
    pub ran: Duration,
    /// Switches because a thread had nothing to do; `None` where threads or processes ended meanwhile and took theirs along.
    pub voluntary: Option<u64>,
}

impl Look {
    /// Looks at these processes.
    pub fn at(pids: &[u32]) -> Look {
        Look(pids.iter().map(|pid| (*pid, Process::look(*pid))).collect())
    }

    /// What they used until a later look; a process that is not in this one began meanwhile, at zero.
    pub fn until(&self, later: &Look) -> Spent {
        let mut whole = self.0.keys().all(|pid| later.0.contains_key(pid));
        let mut spent = Spent::default();
        let mut switches = 0;
        for (pid, process) in &later.0 {
            let before = self.0.get(pid).cloned().unwrap_or_default();
            let mut ran = Duration::ZERO;
            for (task, thread) in &process.threads {
                let before = before.threads.get(task).copied().unwrap_or_default();
                ran += thread.ran.saturating_sub(before.ran);
                switches += thread.voluntary.saturating_sub(before.voluntary);
            }
            // Threads that began and ended between the looks are in the sum of the process alone.
            let all = process.all.saturating_sub(before.all);
            let ended = all > ran + 2 * TICK;
            whole &= !ended && before.threads.keys().all(|task| process.threads.contains_key(task));
            spent.ran += if ended { all } else { ran };
        }
        spent.voluntary = whole.then_some(switches);
        spent
    }
}

/// The machine at one moment: what all its processors did together, this container's work and others' alike.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    at: Instant,
    busy: Duration,
}

impl Machine {
    /// Looks at it.
    pub fn look() -> Machine {
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let numbers = stat.lines().next().unwrap_or_default().split_ascii_whitespace().skip(1);
        let ticks: Vec<u64> = numbers.filter_map(|word| word.parse().ok()).collect();
        // user, nice, system, (idle, iowait,) irq, softirq, steal
        let busy: u64 = [0, 1, 2, 5, 6, 7].iter().filter_map(|at| ticks.get(*at)).sum();
        let busy = Duration::from_millis(busy * 10);
        Machine { at: Instant::now(), busy }
    }

    /// The share of its processors that went, since this look, into anything else than what `ours` accounts for.
    pub fn elsewhere(&self, ours: Duration) -> f64 {
        let now = Machine::look();
        let cores = u32::try_from(cores()).unwrap_or(1);
        let other = (now.busy.saturating_sub(self.busy)).saturating_sub(ours);
        other.as_secs_f64() / ((now.at - self.at) * cores).as_secs_f64()
    }
}

/// How many processors the machine has.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// What perf counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// System calls.
    pub calls: u64,
    /// Switches of both kinds.
    pub switches: u64,
}

/// Counts the system calls and the switches of these processes, new threads and children included, while the work is done.
/// It slows them, so nothing is timed meanwhile. `None` where perf is missing or may not count.
pub fn count(pids: &[u32], work: impl FnOnce()) -> Option<Counted> {
    let file = tempfile::NamedTempFile::new().ok()?;
    let list = pids.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    let mut perf = Command::new("perf");
    perf.args(["stat", "-x", ",", "-e", "raw_syscalls:sys_enter,context-switches", "-p", &list, "-o"]).arg(file.path());
    // perf counts as long as this command runs; its echo says that it does.
    perf.args(["--", "cat"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let started = perf.spawn();
    let (mut child, mut input, output) = match started {
        Ok(mut child) => {
            let (input, output) = (child.stdin.take()?, child.stdout.take()?);
            (child, input, output)
        }
        Err(_) => {
            work();
            return None;
        }
    };
    let mut line = String::new();
    let counts =
        writeln!(input, "on").is_ok() && BufReader::new(output).read_line(&mut line).is_ok_and(|read| read > 0);
    work();
    drop(input);
    let ended = child.wait().is_ok_and(|status| status.success());
    if !(counts && ended) {
        return None;
    }
    parse(&fs::read_to_string(file.path()).ok()?)
}

/// perf's lines: the value first, the event third. What did not happen is `<not counted>`.
fn parse(text: &str) -> Option<Counted> {
    let value = |event: &str| {
        let line = text.lines().find(|line| line.contains(event))?;
        let word = line.split(',').next()?;
        if word == "<not counted>" { Some(0) } else { word.parse().ok() }
    };
    Some(Counted { calls: value("raw_syscalls:sys_enter")?, switches: value("context-switches")? })
}

/// The processes of several families, each once.
pub fn families(roots: &[u32]) -> Vec<u32> {
    let all: HashSet<u32> = roots.iter().flat_map(|root| family(*root)).collect();
    all.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_seen_in_processor_time_and_sleep_in_switches() {
        let pid = std::process::id();
        let before = Look::at(&[pid]);
        let begin = Instant::now();
        let mut sum = 0_u64;
        while begin.elapsed() < Duration::from_millis(100) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(1));
        }
        let spent = before.until(&Look::at(&[pid]));
        assert!(spent.ran > Duration::from_millis(5), "{spent:?}");
        // Another test's thread may have ended meanwhile.
        assert!(spent.voluntary.is_none_or(|switches| switches >= 20), "{spent:?}");
    }

    #[test]
    fn a_process_that_is_gone_leaves_no_number_of_switches() {
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let pids = [child.id()];
        assert!(family(std::process::id()).contains(&child.id()));
        let before = Look::at(&pids);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(before.until(&Look::at(&[])).voluntary, None);
    }

    #[test]
    fn what_perf_writes_is_read() {
        let text = "# started on Sun\n\n109,,raw_syscalls:sys_enter,1,100.00,,\n2,,context-switches,1,100.00,,\n";
        assert_eq!(parse(text), Some(Counted { calls: 109, switches: 2 }));
        let none = "<not counted>,,raw_syscalls:sys_enter,0,0.00,,\n<not counted>,,context-switches,0,0.00,,\n";
        assert_eq!(parse(none), Some(Counted { calls: 0, switches: 0 }));
        assert_eq!(parse("<not supported>,,raw_syscalls:sys_enter,0,0.00,,\n"), None);
    }
}
