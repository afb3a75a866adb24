//! Rows looked for and counted, block by block: what a block says of its rows decides whether they are read.

use rusqlite::types::ValueRef;
use rusqlite::{CachedStatement, Connection, Row, params};

use super::{COLUMNS, JournalRow, Search, read};
use crate::case::WrittenCase;
use crate::store::block::{self, Block, Name, Names, ROWS, SoughtWords, Tally, fits};
use crate::store::sqlite::Fault;
use crate::store::{RowResult, RowVerdict, seconds};

/// Blocks, or rows that are in none, that are counted in one go.
const PART: usize = 4_096;
/// Octets before an `@` in which a local part and its tag are looked for: more than RFC 5321 §4.5.3.1.1 allows.
const LOCAL_PART: usize = 320;

/// What is looked for, in the forms in which it is looked for.
#[derive(Clone, Debug)]
pub(super) struct Sought {
    search: Search,
    queue_id: Option<String>,
    since: i64,
    names: Vec<Name>,
    /// Local part and domain, the first empty where all of a domain is looked for. They stand literally in a row.
    addresses: Vec<(String, String)>,
    /// The same of recipients of whom one is enough; empty: any is.
    any: Vec<(Name, (String, String))>,
    /// The same of what a row of an older version has as JSON.
    quoted: Vec<String>,
}

impl Sought {
    pub(super) fn new(search: Search) -> Sought {
        let whom = [(&search.sender, block::sender as fn(&str) -> Name), (&search.recipient, block::recipient)];
        let whom: Vec<_> = whom.into_iter().filter_map(|(whom, name)| Some((whom.as_deref()?, name))).collect();
        let parts = |whom: &str| {
            let (local, domain) = whom.rsplit_once('@').unwrap_or(("", whom));
            (local.to_owned(), format!("@{domain}"))
        };
        let words = [("disposition", &search.decision), ("policy", &search.policy)];
        let quoted = |(name, word): (&str, &Option<String>)| {
            Some(format!("\"{name}\":{}", serde_json::Value::from(word.as_deref()?)))
        };
        Sought {
            queue_id: None,
            since: search.since.map_or(i64::MIN, seconds),
            names: whom.iter().map(|(whom, name)| name(whom)).collect(),
            addresses: whom.iter().map(|(whom, _)| parts(whom)).collect(),
            any: search.recipients.iter().map(|whom| (block::recipient(whom), parts(whom))).collect(),
            quoted: words.into_iter().filter_map(quoted).collect(),
            search,
        }
    }

    pub(super) fn of_queue_id(id: &str) -> Sought {
        let names = vec![block::queue_id(id)];
        Sought { queue_id: Some(id.to_owned()), names, ..Sought::new(Search::default()) }
    }

    /// At most so many of the newest rows below this number, newest first.
    pub(super) fn page(&self, work: &Connection, below: i64, most: u32) -> Result<Vec<JournalRow>, Fault> {
        self.page_within(work, below, most, usize::MAX).map(|(rows, _)| rows)
    }

    /// The same of so many blocks whose rows are looked at; where to go on, if there were more of them.
    pub(super) fn page_within(
        &self,
        work: &Connection,
        below: i64,
        most: u32,
        candidates: usize,
    ) -> Result<(Vec<JournalRow>, Option<i64>), Fault> {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let mut known = Known::prepare(work)?;
        let (mut found, mut upto, mut looked) = (Vec::new(), below, 0);
        let mut blocks = work.prepare_cached("SELECT block, newest FROM block WHERE block <= ? ORDER BY block DESC")?;
        let mut blocks = blocks.query([block::of_row(below.saturating_sub(1))])?;
        while let Some(row) = blocks.next()? {
            let (number, newest): (i64, i64) = (row.get(0)?, row.get(1)?);
            let begin = number.saturating_mul(ROWS);
            let end = begin.saturating_add(ROWS);
            if end < upto {
                self.rows(work, (end, upto), None, most, &mut found)?;
            }
            if found.len() < most
                && newest >= self.since
                && let Some(block) = self.candidate(&mut known, number)?
            {
                self.rows(work, (begin, end.min(upto)), block.as_ref(), most, &mut found)?;
                looked += 1;
            }
            if found.len() >= most {
                return Ok((found, None));
            }
            upto = begin;
            if looked >= candidates {
                return Ok((found, Some(upto)));
            }
        }
        self.rows(work, (i64::MIN, upto), None, most, &mut found)?;
        Ok((found, None))
    }

    /// Whether rows of this block may be among those that are looked for, and what is known of them; of a block that this version
    /// cannot read nothing is. The names are asked first: where they say no, nothing else of the block is read.
    fn candidate(&self, known: &mut Known<'_>, number: i64) -> Result<Option<Option<Block>>, Fault> {
        if !known.may_hold(number, self)? {
            return Ok(None);
        }
        let Search { result, verdict, decision, policy, .. } = &self.search;
        let words = SoughtWords {
            result: result.as_ref().map(RowResult::word),
            verdict: verdict.as_ref().map(RowVerdict::word),
            decision: decision.as_deref(),
            policy: policy.as_deref(),
        };
        if words.are_none() { Ok(Some(None)) } else { known.block(number, words) }
    }

    /// Adds the rows of these numbers that may fit, newest first, until there are as many as are wanted.
    fn rows(
        &self,
        work: &Connection,
        (begin, end): (i64, i64),
        block: Option<&Block>,
        most: usize,
        found: &mut Vec<JournalRow>,
    ) -> Result<(), Fault> {
        let Search { result, verdict, decision, policy, .. } = &self.search;
        let bits = block.map(|block| block.bits(decision.as_deref(), policy.as_deref()));
        let rows = format!(
            "SELECT {COLUMNS} FROM journal WHERE id >= ?1 AND id < ?2 AND at >= ?3 AND (?4 IS NULL OR queue_id = ?4)
             AND (?5 IS NULL OR result = ?5) AND (?6 IS NULL OR verdict = ?6) ORDER BY id DESC"
        );
        let (result, verdict) = (result.as_ref().map(|r| r.word()), verdict.as_ref().map(|v| v.word()));
        let mut rows = work.prepare_cached(&rows)?;
        let mut rows = rows.query(params![begin, end, self.since, self.queue_id, result, verdict])?;
        while found.len() < most
            && let Some(row) = rows.next()?
        {
            let has_words = match block.zip(bits) {
                Some((block, bits)) => fits(block.words(row.get("id")?), bits),
                None => true,
            };
            if has_words && self.may_fit(row)? {
                found.push(read(row)?);
            }
        }
        Ok(())
    }

    /// Whether the texts that are looked for stand in the row's octets; it is not unpacked for that.
    fn may_fit(&self, row: &Row<'_>) -> Result<bool, Fault> {
        if self.addresses.is_empty() && self.any.is_empty() && self.quoted.is_empty() {
            return Ok(true);
        }
        let [sender, entry, story] = [row.get_ref("sender")?, row.get_ref("entry")?, row.get_ref("story")?].map(octets);
        let names = |(local, domain): &(String, String)| {
            [sender, entry, story].iter().any(|text| names_address(text, local, domain, LOCAL_PART))
        };
        let is_packed = !story.is_empty();
        let says = |quoted: &String| is_packed || contains(entry, quoted.as_bytes());
        let has_one = self.any.is_empty() || self.any.iter().any(|(_, parts)| names(parts));
        Ok(has_one && self.addresses.iter().all(names) && self.quoted.iter().all(says))
    }
}

/// What is known of blocks, read as it is asked for.
struct Known<'a> {
    names: CachedStatement<'a>,
    summary: CachedStatement<'a>,
}

impl<'a> Known<'a> {
    fn prepare(work: &'a Connection) -> Result<Known<'a>, Fault> {
        Ok(Known {
            names: work.prepare_cached("SELECT names FROM block_names WHERE block = ?")?,
            summary: work.prepare_cached("SELECT summary FROM block_summary WHERE block = ?")?,
        })
    }

    /// Whether all names that are looked for may be in a block; in one without a filter they may.
    fn may_hold(&mut self, number: i64, sought: &Sought) -> Result<bool, Fault> {
        if sought.names.is_empty() && sought.any.is_empty() {
            return Ok(true);
        }
        let mut rows = self.names.query([number])?;
        let Some(row) = rows.next()? else { return Ok(true) };
        let ValueRef::Blob(filter) = row.get_ref(0)? else { return Ok(true) };
        let may_hold = |name: &Name| Names::may_hold(filter, *name);
        let has_one = sought.any.is_empty() || sought.any.iter().any(|(name, _)| may_hold(name));
        Ok(has_one && sought.names.iter().all(may_hold))
    }

    /// What is known of a block that may have rows with these words; absent inside where this version cannot read it.
    fn block(&mut self, number: i64, words: SoughtWords<'_>) -> Result<Option<Option<Block>>, Fault> {
        let mut rows = self.summary.query([number])?;
        let Some(row) = rows.next()? else { return Ok(Some(None)) };
        let summary = row.get_ref(0)?.as_blob().unwrap_or_default();
        Ok(match Block::may_have(summary, words) {
            Some(false) => None,
            _ => Some(Block::read_words(summary)),
        })
    }
}

/// The octets of a text or a blob.
pub(in crate::store) fn octets<'a>(value: ValueRef<'a>) -> &'a [u8] {
    match value {
        ValueRef::Text(octets) | ValueRef::Blob(octets) => octets,
        ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) => &[],
    }
}

/// Whether an address of this local part, with or without a +tag, and of this domain, `@` before it, stands among these octets,
/// in ASCII letters of either case. A tag is looked for no further than `reach` octets before the `@`.
pub(in crate::store) fn names_address(octets: &[u8], local: &str, domain: &str, reach: usize) -> bool {
    let at_signs = octets.iter().enumerate().filter(|(_, octet)| **octet == b'@').map(|(at, _)| at);
    let mut followed = at_signs.filter(|at| {
        let end = octets.get(*at..at.saturating_add(domain.len()));
        end.is_some_and(|end| end.eq_ignore_ascii_case(domain.as_bytes()))
    });
    followed.any(|at| {
        let before = octets.get(..at).unwrap_or_default();
        let (length, local) = (local.len(), local.as_bytes());
        let end = before.len().checked_sub(length).and_then(|from| before.get(from..));
        let is_tagged = |part: &[u8]| {
            part.split_last().is_some_and(|(plus, part)| *plus == b'+' && part.eq_ignore_ascii_case(local))
        };
        let reached = before.get(before.len().saturating_sub(reach)..).unwrap_or_default();
        end.is_some_and(|end| end.eq_ignore_ascii_case(local)) || reached.windows(length + 1).any(is_tagged)
    })
}

fn contains(octets: &[u8], some: &[u8]) -> bool {
    octets.windows(some.len().max(1)).any(|window| window == some)
}

/// How the next messages below this number were judged, newest first, and where to go on; absent where it is done.
pub(super) fn tallies(work: &Connection, below: i64, since: i64) -> Result<(Vec<Tally>, Option<i64>), Fault> {
    let (mut all, mut upto, mut count) = (Vec::new(), below, 0);
    let mut blocks = work.prepare_cached(
        "SELECT block, oldest, newest, summary FROM block JOIN block_summary USING (block) WHERE block <= ?
         ORDER BY block DESC LIMIT 4096",
    )?;
    let mut blocks = blocks.query([block::of_row(below.saturating_sub(1))])?;
    while let Some(row) = blocks.next()? {
        let begin = row.get::<_, i64>(0)?.saturating_mul(ROWS);
        let end = begin.saturating_add(ROWS);
        if end < upto
            && let Some(left) = each(work, (end, upto), since, &mut all)?
        {
            return Ok((all, Some(left)));
        }
        let (oldest, newest): (i64, i64) = (row.get(1)?, row.get(2)?);
        // Not of a block of which a part was counted row by row already.
        let is_whole = oldest >= since && end <= upto;
        let summary = row.get_ref(3)?.as_blob().unwrap_or_default();
        match Block::read_tally(summary).filter(|_| is_whole) {
            _ if newest < since => {}
            Some(tally) => all.push(tally),
            // A block has no more rows than are counted in one go.
            None => drop(each(work, (begin, end.min(upto)), since, &mut all)?),
        }
        (upto, count) = (begin, count + 1);
    }
    if count == PART {
        return Ok((all, Some(upto)));
    }
    let left = each(work, (i64::MIN, upto), since, &mut all)?;
    Ok((all, left))
}

/// Counts rows one by one, newest first; where to go on, if there are more.
fn each(work: &Connection, (begin, end): (i64, i64), since: i64, all: &mut Vec<Tally>) -> Result<Option<i64>, Fault> {
    let rows =
        format!("SELECT {COLUMNS} FROM journal WHERE id >= ? AND id < ? AND at >= ? ORDER BY id DESC LIMIT 4096");
    let mut rows = work.prepare_cached(&rows)?;
    let mut rows = rows.query([begin, end, since])?;
    let (mut count, mut last) = (0, end);
    while let Some(row) = rows.next()? {
        let JournalRow { id, entry, .. } = read(row)?;
        let mut tally = Tally::default();
        tally.add(&entry.result, WrittenCase::read(&entry.json).ok().as_ref());
        all.push(tally);
        (count, last) = (count + 1, id);
    }
    Ok((count == PART).then_some(last))
}
