//! The table of faults (tests/cases/faults.tsv): whatever breaks, a message has exactly one fate, and the published one.
//!
//! A sample runs always, every fault with every scenario once, at each door; all of it with `ADDRAUTH_LONG=1`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use addrauth_tests::agent::Delivery;
use addrauth_tests::fault::{Filter, Place};
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, block_in_place};

mod seen;
mod stage;

use seen::Seen;
use stage::{Heard, Part, SCENARIOS, Stage, Way, key, queue_id};

const SHAPES: [&str; 2] = ["one", "mixed"];
/// Filters that run at once: more would only wait for each other's turn on a small machine.
const AT_ONCE: usize = 3;
/// How far the clock jumps: beyond every lifetime and cap there is.
const JUMP: i64 = 400 * 86_400;

/// A line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Expected {
    result: String,
    answer: String,
    own: String,
    other: String,
    journal: bool,
    notices: usize,
}

/// Fault, scenario, shape.
type Cell = (String, String, String);
type Table = BTreeMap<Cell, Expected>;

fn table() -> Table {
    let text = include_str!("../../cases/faults.tsv");
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    assert_eq!(lines.next(), Some("class\tscenario\tshape\tresult\tanswer\town\tother\tjournal\tnotice"));
    let mut table = BTreeMap::new();
    for line in lines {
        let words: Vec<String> = line.split('\t').map(String::from).collect();
        let [class, scenario, shape, result, answer, own, other, journal, notice] = words.try_into().expect("9 words");
        let expected =
            Expected { result, answer, own, other, journal: journal == "1", notices: notice.parse().unwrap() };
        assert!(table.insert((class, scenario, shape), expected).is_none(), "twice: {line}");
    }
    table
}

/// What the table says of a cell at this door.
fn expected(table: &Table, (class, scenario, shape): (&str, &str, &str), way: Way) -> Expected {
    let cell = |class: &str| &table[&(class.to_owned(), scenario.to_owned(), shape.to_owned())];
    match way {
        Way::Milter | Way::Draft01 => cell(class).clone(),
        // It shows nobody's word for who the sender is, so no report goes out.
        Way::Stalwart => {
            let row = cell(class).clone();
            let own = if row.own == "reported" { "kept".into() } else { row.own };
            Expected { own, ..row }
        }
        Way::Lmtp => between_queue_and_mailbox(table, (class, scenario, shape), cell(class)),
    }
}

/// The same between the MTA's queue and the mailboxes: nothing is refused for good, a mark needs no copy, and who is to be told of a
/// refusal gets a report where that is proved to be the sender; else the message is kept (INVARIANTS §3.6).
fn between_queue_and_mailbox(table: &Table, (class, scenario, shape): (&str, &str, &str), row: &Expected) -> Expected {
    let mut rows = table.iter().filter(|((of, ..), _)| of == class);
    let cannot_write = rows.any(|(_, row)| row.answer == "defer");
    let own = match scenario {
        _ if row.answer == "gone" => "deferred",
        "accept" => "inbox",
        "mark" => "marked",
        _ if cannot_write => "deferred",
        "sender" => "reported",
        "silent" if row.result == "invalid/wrong" => "dropped",
        "recipient" => "dropped",
        _ => "kept",
    };
    let (is_mixed, is_put_off) = (shape == "mixed", own == "deferred");
    let other = match is_mixed {
        true if is_put_off => "deferred",
        true => "inbox",
        false => "-",
    };
    let answer = match own {
        _ if row.answer == "gone" => "gone",
        "deferred" => "defer",
        "inbox" | "marked" => "deliver",
        _ if is_mixed => "deliver",
        _ => "drop",
    };
    Expected {
        result: row.result.clone(),
        answer: answer.into(),
        own: own.into(),
        other: other.into(),
        journal: matches!(own, "dropped" | "kept" | "reported"),
        notices: usize::from(matches!(scenario, "recipient" | "both") && !is_put_off),
    }
}

/// What the delivery agent got of a scenario's message.
fn copies(all: &[Delivery], scenario: &str) -> Vec<Delivery> {
    let id = format!("Message-ID: <{scenario}@example.net>");
    let of = |copy: &&Delivery| String::from_utf8_lossy(&copy.message).contains(&id);
    all.iter().filter(of).cloned().collect()
}

/// Brings the messages while the fault is there; the filter afterwards is one that has none.
async fn under_fault(class: &str, stage: &Stage, parts: &[Part], filter: &mut Filter) -> BTreeMap<Part, Heard> {
    let door = filter.door;
    let bring = stage.bring(door, parts, false);
    match class {
        "kill-9" => {
            let kill = async {
                stage.asked().await;
                block_in_place(|| filter.kill());
            };
            let (told, ()) = tokio::join!(bring, kill);
            stage.heal();
            *filter = block_in_place(|| Filter::start(stage.dir(), Place::Usual));
            told
        }
        "disk-full" => {
            stage.warm_up(&mut stage.connect(door).await).await;
            block_in_place(|| filter.fill_disk());
            let told = bring.await;
            filter.free_disk();
            told
        }
        "no-descriptors" => {
            // A connection is a descriptor too: all messages come over the one that is there.
            let mut carrier = stage.connect(door).await;
            stage.warm_up(&mut carrier).await;
            block_in_place(|| filter.take_descriptors());
            let mut told = BTreeMap::new();
            for part in parts {
                told.insert(*part, carrier.bring(&stage.parcel(*part, false)).await);
            }
            filter.give_descriptors();
            told
        }
        "clock-jump" => {
            stage.warm_up(&mut stage.connect(door).await).await;
            let jump = async {
                stage.asked().await;
                filter.shift_clock(jump(parts));
            };
            tokio::join!(bring, jump).0
        }
        _ => bring.await,
    }
}

/// Forward, and where the first message is a mixed one, back.
fn jump(parts: &[Part]) -> i64 {
    if parts.first().is_some_and(|(_, shape)| *shape == "one") { JUMP } else { -JUMP }
}

/// Runs some cells of one fault in one filter; what is wrong, by cell.
async fn run(class: &str, parts: &[Part], way: Way, table: &Table) -> Vec<String> {
    let stage = Stage::set(class, parts, way).await;
    let place = match class {
        "disk-full" => Place::SmallDisk,
        "clock-jump" => Place::OwnClock,
        _ => Place::Usual,
    };
    let mut filter = block_in_place(|| Filter::start(stage.dir(), place));
    let heard = under_fault(class, &stage, parts, &mut filter).await;
    let delivered = stage.delivered();
    let mut wrong = Vec::new();
    let mut deferred = Vec::new();
    for (part, heard) in heard {
        let (scenario, shape) = part;
        let seen = Seen::look(&filter, &queue_id(scenario, false), heard, copies(&delivered, scenario));
        let expected = expected(table, (class, scenario, shape), way);
        wrong.extend(seen.differs(scenario, shape, &expected).map(|how| format!("{class} {scenario} {shape}: {how}")));
        if class == "clock-jump" {
            let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
            let off = seen.journal.iter().any(|(_, at)| (at - now - jump(parts)).abs() > 3_600);
            wrong.extend(off.then(|| format!("{class} {scenario} {shape}: the clock did not jump {:?}", seen.journal)));
        }
        if matches!(seen.answer(), "defer" | "gone") {
            deferred.push(part);
        }
    }
    // Whoever was put off comes again, and finds the fault gone.
    let again = stage.bring(filter.door, &deferred, true).await;
    let delivered = stage.delivered();
    for (part, heard) in again {
        let (scenario, shape) = part;
        let seen = Seen::look(&filter, &queue_id(scenario, true), heard, copies(&delivered, scenario));
        let expected = expected(table, ("well", scenario, shape), way);
        wrong.extend(
            seen.differs(scenario, shape, &expected).map(|how| format!("{class} {scenario} {shape} again: {how}")),
        );
    }
    if !filter.is_alive() {
        wrong.push(format!("{class}: the filter died of it"));
    }
    let log = filter.log();
    let told_key = parts.iter().find(|(scenario, _)| log.contains(&key(scenario)));
    wrong.extend(told_key.map(|part| format!("{class} {part:?}: the key is in the log")));
    if !wrong.is_empty() {
        wrong.push(format!("--- the log of {class} by {way:?}\n{log}"));
    }
    wrong
}

/// The faults of the table, and `well`.
fn classes(table: &Table) -> BTreeSet<&String> {
    table.keys().map(|(class, ..)| class).collect()
}

/// The cells to run: a filter for each line.
fn plan(table: &Table, long: bool, way: Way) -> Vec<(String, Vec<Part>)> {
    let mut plan = Vec::new();
    // Who connects for each request needs a descriptor of the filter's.
    let cannot_be = |class: &str| class == "no-descriptors" && matches!(way, Way::Stalwart | Way::Draft01);
    for (number, class) in classes(table).into_iter().enumerate().filter(|(_, class)| !cannot_be(class)) {
        let scenarios = SCENARIOS.iter().enumerate();
        if long || class == "well" {
            for shape in SHAPES {
                plan.push((class.clone(), scenarios.clone().map(|(_, (scenario, _))| (*scenario, shape)).collect()));
            }
        } else {
            let part = |(at, (scenario, _)): (usize, &(&'static str, _))| (*scenario, SHAPES[(number + at) % 2]);
            plan.push((class.clone(), scenarios.map(part).collect()));
        }
    }
    plan
}

#[test]
fn the_table_has_every_fault_with_every_scenario_for_one_and_for_two() {
    let table = table();
    assert_eq!(classes(&table).len(), 15, "14 faults, and none at all");
    let cells = |long| -> BTreeSet<Cell> {
        let cells = plan(&table, long, Way::Milter).into_iter().flat_map(|(class, parts)| {
            parts.into_iter().map(move |(scenario, shape)| (class.clone(), scenario.into(), shape.into()))
        });
        cells.collect()
    };
    let cells_of_table = table.keys().cloned().collect();
    assert!(cells(true).len() == 180 && cells(true) == cells_of_table, "the long run is the whole table");
    assert!(cells(false).len() == 84 + 12 && cells(false).is_subset(&cells(true)));
    for (cell, expected) in &table {
        let (_, scenario, shape) = cell;
        assert!(scenario == "accept" || expected.own != "inbox", "{cell:?} delivers what is not wanted");
        let lost = matches!(expected.own.as_str(), "dropped" | "kept" | "copy" | "reported");
        assert!(!lost || expected.journal, "{cell:?} takes a message and writes nothing down");
        assert_eq!(shape == "one", expected.other == "-", "{cell:?}");
        let friend = matches!(expected.other.as_str(), "-" | "inbox") || expected.own == "deferred";
        assert!(friend, "{cell:?} takes the message from who wants it");
    }
}

#[test]
fn between_queue_and_mailbox_nothing_is_refused_and_nothing_is_lost() {
    let table = table();
    for ((class, scenario, shape), row) in &table {
        let cell = (class.as_str(), scenario.as_str(), shape.as_str());
        let own = expected(&table, cell, Way::Lmtp);
        assert!(!matches!(own.answer.as_str(), "refuse"), "{cell:?} {own:?}");
        assert_eq!(own.result, row.result);
        assert!(scenario == "accept" || own.own != "inbox", "{cell:?} delivers what is not wanted");
        // What the milter's door puts off, this one does too, but where a mark takes no copy of ours.
        assert!(row.own != "deferred" || own.own == "deferred" || scenario == "mark", "{cell:?} {row:?} {own:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whatever_breaks_a_message_has_the_published_fate() {
    all_by(Way::Milter).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whatever_breaks_a_message_between_queue_and_mailbox_has_its_fate_too() {
    all_by(Way::Lmtp).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whatever_breaks_a_message_that_is_asked_about_by_hooks_has_the_published_fate() {
    all_by(Way::Stalwart).await;
    all_by(Way::Draft01).await;
}

async fn all_by(way: Way) {
    let table = Arc::new(table());
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let (mut runs, begin) = (JoinSet::new(), Instant::now());
    for (class, parts) in plan(&table, std::env::var_os("ADDRAUTH_LONG").is_some(), way) {
        let (table, turns) = (table.clone(), turns.clone());
        runs.spawn(async move {
            let _turn = turns.acquire_owned().await.unwrap();
            let begin = Instant::now();
            let wrong = run(&class, &parts, way, &table).await;
            eprintln!("{class} by {way:?}: {} cells in {:.1} s", parts.len(), begin.elapsed().as_secs_f64());
            (parts.len(), wrong)
        });
    }
    let (mut cells, mut wrong) = (0, Vec::new());
    while let Some(ran) = runs.join_next().await {
        match ran {
            Ok((count, more)) => {
                cells += count;
                wrong.extend(more);
            }
            Err(panicked) => wrong.push(panicked.to_string()),
        }
    }
    eprintln!("{cells} cells in {:.1} s", begin.elapsed().as_secs_f64());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
