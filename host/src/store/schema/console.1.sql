-- Those who may use the console by a name and a password of their own. The password stands as Argon2id's string.
CREATE TABLE account (
    name TEXT PRIMARY KEY,
    role TEXT NOT NULL,
    scope TEXT NOT NULL,
    password TEXT NOT NULL,
    changed INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Who is logged in: by an account, or by a link that reached the mailbox. The cookie stands as its SHA-256.
CREATE TABLE session (
    token BLOB PRIMARY KEY,
    account TEXT REFERENCES account (name) ON DELETE CASCADE,
    mailbox TEXT,
    begun INTEGER NOT NULL,
    seen INTEGER NOT NULL,
    CHECK ((account IS NULL) <> (mailbox IS NULL))
) STRICT, WITHOUT ROWID;

CREATE INDEX session_by_account ON session (account);
CREATE INDEX session_by_time ON session (seen);

-- Links that were mailed: each is for one mailbox and one act, and works once.
CREATE TABLE link (
    token BLOB PRIMARY KEY,
    mailbox TEXT NOT NULL,
    act TEXT NOT NULL,
    quarantine INTEGER,
    made INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    used INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX link_by_mailbox ON link (mailbox, made);
CREATE INDEX link_by_time ON link (expires);

-- Who did what.
CREATE TABLE act (
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    who TEXT NOT NULL,
    role TEXT NOT NULL,
    source TEXT NOT NULL,
    act TEXT NOT NULL,
    about TEXT NOT NULL,
    journal INTEGER,
    quarantine INTEGER,
    mailbox TEXT,
    outcome TEXT NOT NULL
) STRICT;

CREATE INDEX act_by_journal ON act (journal) WHERE journal IS NOT NULL;
CREATE INDEX act_by_quarantine ON act (quarantine) WHERE quarantine IS NOT NULL;
CREATE INDEX act_by_time ON act (at);

-- Up to which message of the quarantine a mailbox was told.
CREATE TABLE told (
    mailbox TEXT PRIMARY KEY,
    upto INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
