//! The table of fates (tests/cases/fates.tsv): a direction belongs to a recipient, whoever brings a message and whoever else
//! gets it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use addrauth_lab::mta::Outcome;
use addrauth_tests::world::{GOOD, JUNK};
use tokio::task::JoinSet;

mod seen;
mod stage;
mod table;

use seen::{Seen, Tables};
use stage::Stage;
use table::{Cell, Table};

/// Messages that are brought at once.
const AT_ONCE: usize = 6;

/// Brings all of these messages, over a few connections.
async fn bring(stage: &Arc<Stage>, cells: &[Cell]) -> BTreeMap<usize, Outcome> {
    let mut all = JoinSet::new();
    for turn in 0..AT_ONCE {
        let cells: Vec<Cell> = cells.iter().copied().skip(turn).step_by(AT_ONCE).collect();
        let stage = stage.clone();
        all.spawn(async move {
            let mut mta = stage.mta().await;
            let mut outcomes = Vec::new();
            for cell in cells {
                outcomes.push((cell.number, stage::bring(&mut mta, &cell).await));
            }
            outcomes
        });
    }
    all.join_all().await.into_iter().flatten().collect()
}

#[test]
fn exactly_one_line_of_the_table_speaks_of_each_cell() {
    let (table, cells) = (Table::read(), Cell::all());
    assert_eq!(cells.len(), 9 * 3 * 3 * 4 * 9);
    for cell in &cells {
        let expected = table.of(cell);
        let nobody_here = cell.place == "outside";
        assert_eq!(expected.here == "-", nobody_here, "{cell}");
        assert_eq!(expected.away == "-", cell.place == "inside", "{cell}");
        // What is decided for those here takes the message from nobody elsewhere, and marks it for nobody.
        let goes = ["stamped", "key", "bare", "told", "-"].contains(&expected.away.as_str());
        assert!(goes || expected.answer == "defer", "{cell}");
        let ours = cell.who == "login" || (cell.who, cell.from) == ("submitter", "own");
        assert!(!ours || expected.away != "told", "{cell} sends a field of ours out");
        // Who is here gets the message that goes out only where it has no key.
        let shares = cell.place == "both" && ["inbox", "marked", "folder", "same"].contains(&expected.here.as_str());
        assert!(!shares || ["bare", "told"].contains(&expected.away.as_str()), "{cell} hands a key to those here");
        let lost =
            ["dropped", "kept", "reported", "copy", "copy+mark", "copy+folder"].contains(&expected.here.as_str());
        assert!(!lost || expected.result.is_some(), "{cell} takes a message and writes nothing down");
    }
    assert!(table.idle(&cells).is_empty(), "{:?}", table.idle(&cells));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_brings_a_message_each_recipient_has_the_fate_of_his_own_direction() {
    let (table, begin) = (Table::read(), Instant::now());
    let mut wrong = Vec::new();
    for observe in [false, true] {
        let cells: Vec<Cell> = Cell::all().into_iter().filter(|cell| cell.observe == observe).collect();
        let stage = Arc::new(Stage::set(&cells, observe).await);
        let outcomes = bring(&stage, &cells).await;
        let rows = cells.iter().filter(|cell| table.of(cell).result.is_some()).count();
        let tables = Tables::read(&stage, rows).await;
        for cell in &cells {
            let seen = Seen { cell, outcome: &outcomes[&cell.number], tables: &tables };
            wrong.extend(seen.differs(&table.of(cell)));
        }
        eprintln!("{} cells in {:.1} s", cells.len(), begin.elapsed().as_secs_f64());
        for entry in std::fs::read_dir(stage.dir().join("state")).unwrap().flatten() {
            let octets = std::fs::read(entry.path()).unwrap();
            let has = |key: &str| octets.windows(key.len()).any(|octets| octets == key.as_bytes());
            assert!(!has(GOOD) && !has(JUNK), "{} holds a key", entry.path().display());
        }
        let log = stage.filter.log();
        assert!(!log.contains(GOOD) && !log.contains(JUNK), "the log holds a key");
    }
    let count = wrong.len();
    wrong.truncate(60);
    assert!(wrong.is_empty(), "{count} differences\n{}", wrong.join("\n"));
}
