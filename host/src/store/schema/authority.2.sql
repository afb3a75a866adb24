-- The addresses that get a new key every AGI. `agi` and `avt` in seconds; absent: the configuration's. `due`: their next turn.
CREATE TABLE settings (
    address TEXT PRIMARY KEY,
    domain TEXT NOT NULL,
    agi INTEGER,
    avt INTEGER,
    created INTEGER NOT NULL,
    due INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX settings_by_due ON settings (due);
CREATE INDEX settings_by_domain ON settings (domain, address);

-- INVALIDKEY answers, counted by day. `address` is empty for all addresses that have no key, `verifier` where none was told,
-- `network` where there was no room to tell them apart.
CREATE TABLE forged (
    domain TEXT NOT NULL,
    day INTEGER NOT NULL,
    address TEXT NOT NULL,
    verifier TEXT NOT NULL,
    network TEXT NOT NULL,
    answers INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    PRIMARY KEY (domain, day, address, verifier, network)
) STRICT, WITHOUT ROWID;

CREATE INDEX forged_by_day ON forged (day);
