-- The keys of our own addresses. `sealed` is the key, to be opened by whoever stamps alone; it is absent in a row that was
-- superseded, which stays so that its key is not learned again.
CREATE TABLE keyring (
    address TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    sealed BLOB,
    learned INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    PRIMARY KEY (address, fingerprint)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX keyring_current ON keyring (address) WHERE sealed IS NOT NULL;
CREATE INDEX keyring_by_end ON keyring (expires);
