//! Rows written, and the blocks that tell of them kept true in the same transaction.

use rusqlite::{Connection, params};
use serde::Deserialize;

use super::row::{Columns, NewRow};
use super::{COLUMNS, JournalRow, read};
use crate::store::block::{Block, BlockRow, Name, Names, ROWS, names_of, of_row};
use crate::store::scrub::without_any;
use crate::store::sqlite::{Fault, Statements as _};

/// Octets that SQLite needs for a row beside its columns.
const FRAME: u64 = 24;

/// Writes rows one after the other; the block that they fall into is written once.
pub(in crate::store) struct RowWriter<'a> {
    work: &'a Connection,
    open: Option<(i64, Block)>,
}

impl<'a> RowWriter<'a> {
    pub(in crate::store) fn new(work: &'a Connection) -> RowWriter<'a> {
        RowWriter { work, open: None }
    }

    /// Writes one row; its number. [`RowWriter::close`] has to follow the last one.
    pub(in crate::store) fn write(&mut self, row: &NewRow) -> Result<i64, Fault> {
        let Columns { queue_id, sender, result, verdict, note } = &row.columns;
        let (text, story) = row.stored.columns();
        let id: i64 = self.work.one(
            "INSERT INTO journal (at, queue_id, sender, result, verdict, entry, note, story)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
            params![row.at, queue_id, sender, result.word(), verdict.word(), text, note, story],
        )?;
        self.turn_to(id)?;
        if let Some((_, block)) = &mut self.open {
            block.add(block_row(id, row));
        }
        Ok(id)
    }

    /// Takes up the block of this row. None is open where it was made just now, from all of its rows.
    fn turn_to(&mut self, id: i64) -> Result<(), Fault> {
        let number = of_row(id);
        if self.open.as_ref().is_some_and(|(open, _)| *open == number) {
            return Ok(());
        }
        self.close()?;
        let others = "SELECT EXISTS (SELECT 1 FROM journal WHERE id >= ?1 AND id < ?1 + 256 AND id <> ?2)";
        self.open = match load(self.work, number)? {
            Some(block) => Some((number, block)),
            // Rows of an older version, which are in no block yet.
            None if self.work.one(others, [number * ROWS, id])? => {
                survey(self.work, number)?;
                None
            }
            None => Some((number, Block::default())),
        };
        Ok(())
    }

    /// Writes the block.
    pub(in crate::store) fn close(&mut self) -> Result<(), Fault> {
        match self.open.take() {
            // Many recipients: the filter is made anew, as large as it has to be.
            Some((number, block)) if block.names.is_crowded() => survey(self.work, number),
            Some((number, block)) => keep(self.work, number, &block),
            None => Ok(()),
        }
    }
}

/// Writes one row; its number.
pub(in crate::store) fn insert(work: &Connection, row: &NewRow) -> Result<i64, Fault> {
    let mut writer = RowWriter::new(work);
    let id = writer.write(row)?;
    writer.close()?;
    Ok(id)
}

fn block_row(id: i64, row: &NewRow) -> BlockRow<'_> {
    let NewRow { at, columns: Columns { queue_id, sender, result, verdict, note }, stored, case, .. } = row;
    let texts = [queue_id.as_deref(), sender.as_deref(), Some(result.word()), Some(verdict.word()), Some(note)];
    let octets = FRAME + (texts.into_iter().flatten().map(str::len).sum::<usize>() + stored.len()) as u64;
    BlockRow { id, at: *at, octets, queue_id: queue_id.as_deref(), result, verdict, story: case.as_ref() }
}

/// Makes a block anew from its rows. What stands in them as JSON is packed.
pub(in crate::store) fn survey(work: &Connection, number: i64) -> Result<(), Fault> {
    let rows = format!("SELECT {COLUMNS}, story IS NULL FROM journal WHERE id >= ?1 AND id < ?1 + 256 ORDER BY id");
    let rows = work.all(&rows, [number * ROWS], |row| Ok((read(row)?, row.get::<_, bool>(9)?)))?;
    if rows.is_empty() {
        for table in ["block", "block_summary", "block_names"] {
            work.run(&format!("DELETE FROM {table} WHERE block = ?"), [number])?;
        }
        return Ok(());
    }
    let (mut block, mut names) = (Block::default(), Vec::<Name>::new());
    for (JournalRow { id, at, entry }, is_text) in rows {
        let row = NewRow::again(entry, at);
        if let (true, ("", Some(story))) = (is_text, row.stored.columns()) {
            work.run("UPDATE journal SET entry = '', story = ? WHERE id = ?", params![story, id])?;
        }
        block.add(block_row(id, &row));
        names_of(row.queue_id(), row.case.as_ref(), |name| names.push(name));
    }
    names.sort_unstable();
    names.dedup();
    block.names = Names::of(&names);
    keep(work, number, &block)
}

fn keep(work: &Connection, number: i64, block: &Block) -> Result<(), Fault> {
    let Block { oldest, newest, rows, octets, names, .. } = block;
    let count = |number: &u64| i64::try_from(*number).unwrap_or(i64::MAX);
    work.run(
        "INSERT INTO block (block, oldest, newest, rows, octets) VALUES (?, ?, ?, ?, ?)
         ON CONFLICT (block) DO UPDATE SET oldest = excluded.oldest, newest = excluded.newest, rows = excluded.rows,
         octets = excluded.octets",
        params![number, oldest, newest, count(rows), count(octets)],
    )?;
    work.run(
        "INSERT INTO block_summary (block, summary) VALUES (?, ?) ON CONFLICT (block) DO UPDATE SET summary = excluded.summary",
        params![number, block.summary()],
    )?;
    work.run(
        "INSERT INTO block_names (block, names) VALUES (?, ?) ON CONFLICT (block) DO UPDATE SET names = excluded.names",
        params![number, names.octets()],
    )?;
    Ok(())
}

/// The block as it was written; absent where there is none, or it is of another version.
fn load(work: &Connection, number: i64) -> Result<Option<Block>, Fault> {
    let loaded = work.first(
        "SELECT oldest, newest, rows, octets, summary, names
         FROM block JOIN block_summary USING (block) JOIN block_names USING (block) WHERE block = ?",
        [number],
        |row| {
            let count = |at: usize| row.get::<_, i64>(at).map(i64::unsigned_abs);
            let Some(mut block) = Block::read(row.get_ref(4)?.as_blob().unwrap_or_default()) else { return Ok(None) };
            (block.oldest, block.newest) = (row.get(0)?, row.get(1)?);
            (block.rows, block.octets) = (count(2)?, count(3)?);
            block.names = Names::new(row.get(5)?);
            Ok(Some(block))
        },
    );
    Ok(loaded?.flatten())
}

/// The one member that [`annotate`] asks a story for.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Remark {
    erased: bool,
}

/// Adds words to a row's note. Once an address was taken out of the row, no address comes into it any more: which one it was
/// nobody knows, and that is the point of it.
pub(in crate::store) fn annotate(work: &Connection, journal: i64, words: &str) -> Result<(), Fault> {
    let row = work.first(&format!("SELECT {COLUMNS} FROM journal WHERE id = ?"), [journal], read)?;
    let is_erased = row.is_some_and(|row| {
        let remark: Remark = serde_json::from_str(&row.entry.json).unwrap_or_default();
        remark.erased
    });
    let words = if is_erased { without_any(words) } else { words.to_owned() };
    work.run(
        "UPDATE journal SET note = CASE note WHEN '' THEN ?1 ELSE note || '; ' || ?1 END WHERE id = ?2",
        params![words, journal],
    )?;
    Ok(())
}
