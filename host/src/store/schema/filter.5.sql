-- What is counted of the rows of a block, by a better name.
ALTER TABLE block_told RENAME TO block_summary;
ALTER TABLE block_summary RENAME COLUMN told TO summary;

-- Known senders: `day` (since 1970, UTC) is the one on which an AS vouched last for the sender. `sender` is no address: it is the
-- number that stands for one under mark.key.
CREATE TABLE known (sender INTEGER PRIMARY KEY, day INTEGER NOT NULL) STRICT;

-- How many there are of each day, so that nobody has to count them.
CREATE TABLE known_days (day INTEGER PRIMARY KEY, senders INTEGER NOT NULL) STRICT;

CREATE TRIGGER known_first AFTER INSERT ON known BEGIN INSERT INTO known_days VALUES (new.day, 1) ON CONFLICT (day) DO UPDATE SET senders = senders + 1; END;
CREATE TRIGGER known_again AFTER UPDATE OF day ON known BEGIN UPDATE known_days SET senders = senders - 1 WHERE day = old.day; INSERT INTO known_days VALUES (new.day, 1) ON CONFLICT (day) DO UPDATE SET senders = senders + 1; END;
CREATE TRIGGER known_no_more AFTER DELETE ON known BEGIN UPDATE known_days SET senders = senders - 1 WHERE day = old.day; END;
