-- What became of messages that we did not simply let pass.
CREATE TABLE journal (
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    queue_id TEXT,
    sender TEXT,
    result TEXT NOT NULL,
    verdict TEXT NOT NULL,
    entry TEXT NOT NULL,
    note TEXT NOT NULL DEFAULT ''
) STRICT;

CREATE INDEX journal_by_time ON journal (at);

-- Notices: those still to be sent, and for a while those sent, since the caps count them.
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY,
    journal INTEGER NOT NULL REFERENCES journal (id) ON DELETE CASCADE,
    recipient TEXT NOT NULL,
    capped_as TEXT NOT NULL,
    sender TEXT NOT NULL,
    message_id TEXT NOT NULL UNIQUE,
    message BLOB NOT NULL,
    created INTEGER NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0,
    next_try INTEGER NOT NULL,
    ended INTEGER,
    outcome TEXT
) STRICT;

CREATE INDEX outbox_due ON outbox (next_try) WHERE ended IS NULL;
CREATE INDEX outbox_by_recipient ON outbox (capped_as, created);
CREATE INDEX outbox_by_journal ON outbox (journal);
