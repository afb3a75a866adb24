-- Whose keys changed, in the order of the commits: by it a server that remembers keys knows which of them still hold. The newest
-- rows stay; `mark` tells a row from one of another history that has the same number. There is always a row.
CREATE TABLE changes (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    address TEXT NOT NULL,
    mark INTEGER NOT NULL DEFAULT (random())
) STRICT;

INSERT INTO changes (address) VALUES ('');

CREATE TRIGGER keys_made AFTER INSERT ON keys BEGIN
    INSERT INTO changes (address) VALUES (NEW.address);
END;

CREATE TRIGGER keys_altered AFTER UPDATE ON keys BEGIN
    INSERT INTO changes (address) SELECT OLD.address UNION SELECT NEW.address;
END;

CREATE TRIGGER keys_gone AFTER DELETE ON keys BEGIN
    INSERT INTO changes (address) VALUES (OLD.address);
END;
