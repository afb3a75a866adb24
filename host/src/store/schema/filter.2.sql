-- What users chose for their own mail: `name` is a result's word or `mark`.
CREATE TABLE choice (
    address TEXT NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (address, name)
) STRICT, WITHOUT ROWID;

-- Senders whose mail a user wants; `sender` is a folded address, or `@domain`.
CREATE TABLE allowed (
    address TEXT NOT NULL,
    sender TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (address, sender)
) STRICT, WITHOUT ROWID;

-- Messages kept back, whole but for their keys. A row goes when nobody waits for it any more.
CREATE TABLE quarantine (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    journal INTEGER REFERENCES journal (id) ON DELETE SET NULL,
    at INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    queue_id TEXT,
    sender TEXT,
    reverse_path TEXT NOT NULL,
    subject TEXT NOT NULL,
    reason TEXT NOT NULL,
    size INTEGER NOT NULL,
    message BLOB NOT NULL
) STRICT;

-- The size is in it so that the sum of all sizes is read from the index alone.
CREATE INDEX quarantine_by_expiry ON quarantine (expires, size);
CREATE INDEX quarantine_by_journal ON quarantine (journal);

-- For whom. `outcome`: absent while kept, then released, copied or deleted; absent again, with a `note`, where the MTA
-- would not take what was released.
CREATE TABLE held (
    quarantine INTEGER NOT NULL REFERENCES quarantine (id) ON DELETE CASCADE,
    recipient TEXT NOT NULL,
    folded TEXT NOT NULL,
    outcome TEXT,
    ended INTEGER,
    note TEXT,
    PRIMARY KEY (quarantine, recipient)
) STRICT, WITHOUT ROWID;

CREATE INDEX held_by_recipient ON held (folded);

-- The outbox holds more than notices now: `notice`, `digest`, `report`, `release`, `copy`.
ALTER TABLE outbox ADD COLUMN kind TEXT NOT NULL DEFAULT 'notice';
ALTER TABLE outbox ADD COLUMN reverse_path TEXT NOT NULL DEFAULT '';
-- Where a release or a copy has its message; `message` is empty then.
ALTER TABLE outbox ADD COLUMN quarantine INTEGER REFERENCES quarantine (id) ON DELETE SET NULL;
-- Why the last try did not succeed, until the row ends.
ALTER TABLE outbox ADD COLUMN note TEXT;

CREATE INDEX outbox_by_quarantine ON outbox (quarantine) WHERE quarantine IS NOT NULL;

-- Notices held back by the hourly cap, told together later; `journal`: the row of the newest, `senders`: one a line.
CREATE TABLE digest (
    capped_as TEXT PRIMARY KEY,
    recipient TEXT NOT NULL,
    journal INTEGER NOT NULL REFERENCES journal (id) ON DELETE CASCADE,
    since INTEGER NOT NULL,
    count INTEGER NOT NULL,
    senders TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX digest_by_journal ON digest (journal);

CREATE INDEX journal_by_queue_id ON journal (queue_id);
CREATE INDEX journal_by_sender ON journal (sender);
