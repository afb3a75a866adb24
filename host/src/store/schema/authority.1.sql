-- Addresses and the K of their keys. Never the keys themselves: what is stolen from here forges no mail.
CREATE TABLE addresses (
    address TEXT PRIMARY KEY,
    generation INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE keys (
    address TEXT NOT NULL REFERENCES addresses (address) ON DELETE CASCADE,
    generation INTEGER NOT NULL,
    k BLOB NOT NULL CHECK (length(k) = 32),
    created INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    revoked INTEGER,
    PRIMARY KEY (address, generation)
) STRICT, WITHOUT ROWID;

CREATE INDEX keys_by_end ON keys (min(expires, coalesce(revoked, expires)));
