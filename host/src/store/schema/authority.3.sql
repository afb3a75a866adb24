-- New keys that are still to reach their addresses. `sealed` holds the key, to be opened by whoever posts it alone, and is
-- gone as soon as the row ends; `outcome`: absent while it is owed, then `sent`, `stored`, `revoked`, `expired`, or why it was
-- given up.
CREATE TABLE posts (
    address TEXT NOT NULL,
    generation INTEGER NOT NULL,
    sealed BLOB,
    created INTEGER NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0,
    next_try INTEGER NOT NULL,
    ended INTEGER,
    outcome TEXT,
    note TEXT,
    PRIMARY KEY (address, generation),
    FOREIGN KEY (address, generation) REFERENCES keys (address, generation) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE INDEX posts_due ON posts (next_try) WHERE ended IS NULL;
