-- Rows of the journal in fewer octets, and what is known of many rows without reading them.
--
-- `story` is the case's JSON packed (store/packed.rs); `entry` is '' then. A row that an older version wrote has no `story`
-- and keeps its `entry` until the filter packs it.
ALTER TABLE journal ADD COLUMN story BLOB;

DROP INDEX IF EXISTS journal_by_time;
DROP INDEX IF EXISTS journal_by_queue_id;
DROP INDEX IF EXISTS journal_by_sender;

-- A block is the rows of 256 numbers that follow each other: `block` is their number divided by 256. Rows below the lowest
-- block are in none yet. `oldest` and `newest` are the least and the greatest `at` of its rows.
CREATE TABLE block (
    block INTEGER PRIMARY KEY,
    oldest INTEGER NOT NULL,
    newest INTEGER NOT NULL,
    rows INTEGER NOT NULL,
    octets INTEGER NOT NULL
) STRICT;

CREATE INDEX block_by_oldest ON block (oldest);

-- What is counted of its rows, and which words stand in which of them (store/block.rs).
CREATE TABLE block_told (block INTEGER PRIMARY KEY, told BLOB NOT NULL) STRICT;

-- Which addresses and queue ids may be in its rows: a Bloom filter.
CREATE TABLE block_names (block INTEGER PRIMARY KEY, names BLOB NOT NULL) STRICT;
