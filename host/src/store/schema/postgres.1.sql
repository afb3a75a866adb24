-- What several hosts share: the AS's table and the keyring, as in authority.*.sql and keyring.1.sql. Times are seconds since
-- 1970. Texts sort and compare by their octets, as they do in SQLite.

-- Addresses and the K of their keys. Never the keys themselves: what is stolen from here forges no mail.
CREATE TABLE addrauth.addresses (
    address text COLLATE "C" PRIMARY KEY,
    generation bigint NOT NULL
);

CREATE TABLE addrauth.keys (
    address text COLLATE "C" NOT NULL REFERENCES addrauth.addresses (address) ON DELETE CASCADE,
    generation bigint NOT NULL,
    k bytea NOT NULL CHECK (octet_length(k) = 32),
    created bigint NOT NULL,
    expires bigint NOT NULL,
    revoked bigint,
    PRIMARY KEY (address, generation)
);

CREATE INDEX keys_by_end ON addrauth.keys (least(expires, coalesce(revoked, expires)));

-- The addresses that get a new key every AGI. `agi` and `avt` in seconds; absent: the configuration's. `due`: their next turn.
CREATE TABLE addrauth.settings (
    address text COLLATE "C" PRIMARY KEY,
    domain text COLLATE "C" NOT NULL,
    agi bigint,
    avt bigint,
    created bigint NOT NULL,
    due bigint NOT NULL
);

CREATE INDEX settings_by_due ON addrauth.settings (due, address);
CREATE INDEX settings_by_domain ON addrauth.settings (domain, address);

-- INVALIDKEY answers, counted by day. `address` is empty for all addresses that have no key, `verifier` where none was told,
-- `network` where there was no room to tell them apart.
CREATE TABLE addrauth.forged (
    domain text COLLATE "C" NOT NULL,
    day bigint NOT NULL,
    address text COLLATE "C" NOT NULL,
    verifier text COLLATE "C" NOT NULL,
    network text COLLATE "C" NOT NULL,
    answers bigint NOT NULL,
    first bigint NOT NULL,
    last bigint NOT NULL,
    PRIMARY KEY (domain, day, address, verifier, network)
);

CREATE INDEX forged_by_day ON addrauth.forged (day);

-- New keys that are still to reach their addresses. `sealed` holds the key, to be opened by whoever posts it alone, and is
-- gone as soon as the row ends; `outcome`: absent while it is owed, then `sent`, `stored`, `revoked`, `expired`, or why it was
-- given up.
CREATE TABLE addrauth.posts (
    address text COLLATE "C" NOT NULL,
    generation bigint NOT NULL,
    sealed bytea,
    created bigint NOT NULL,
    tries bigint NOT NULL DEFAULT 0,
    next_try bigint NOT NULL,
    ended bigint,
    outcome text,
    note text,
    PRIMARY KEY (address, generation),
    FOREIGN KEY (address, generation) REFERENCES addrauth.keys (address, generation) ON DELETE CASCADE
);

CREATE INDEX posts_due ON addrauth.posts (next_try, address, generation) WHERE ended IS NULL;

-- The keys of our own addresses. `sealed` is the key, to be opened by whoever stamps alone; it is absent in a row that was
-- superseded, which stays so that its key is not learned again. `present` says the same, to whoever may not read `sealed`.
CREATE TABLE addrauth.keyring (
    address text COLLATE "C" NOT NULL,
    fingerprint text COLLATE "C" NOT NULL,
    sealed bytea,
    present boolean NOT NULL,
    learned bigint NOT NULL,
    expires bigint NOT NULL,
    PRIMARY KEY (address, fingerprint),
    CHECK (present = (sealed IS NOT NULL))
);

CREATE UNIQUE INDEX keyring_present ON addrauth.keyring (address) WHERE present;
CREATE INDEX keyring_by_end ON addrauth.keyring (expires);
