-- Whose keys changed: by it a server that remembers keys knows which of them still hold. The newest rows stay; `mark` tells a row
-- from one of another history that has the same number. Numbers are given before the commit, so that a row may become visible
-- after one with a higher number: `made_by` tells by a snapshot which are new. There is always a row.
CREATE TABLE addrauth.changes (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    address text COLLATE "C" NOT NULL,
    mark bigint NOT NULL DEFAULT ((random() - 0.5) * 1.8e19)::bigint,
    made_by xid8 NOT NULL DEFAULT pg_current_xact_id()
);

CREATE INDEX changes_made_by ON addrauth.changes (made_by);

INSERT INTO addrauth.changes (address) VALUES ('');

CREATE FUNCTION addrauth.log_changes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO addrauth.changes (address) SELECT DISTINCT address FROM made;
    ELSIF TG_OP = 'UPDATE' THEN
        INSERT INTO addrauth.changes (address) SELECT address FROM gone UNION SELECT address FROM made;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO addrauth.changes (address) SELECT DISTINCT address FROM gone;
    ELSE
        DELETE FROM addrauth.changes;
        INSERT INTO addrauth.changes (address) VALUES ('');
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER keys_made AFTER INSERT ON addrauth.keys
    REFERENCING NEW TABLE AS made FOR EACH STATEMENT EXECUTE FUNCTION addrauth.log_changes();
CREATE TRIGGER keys_altered AFTER UPDATE ON addrauth.keys
    REFERENCING OLD TABLE AS gone NEW TABLE AS made FOR EACH STATEMENT EXECUTE FUNCTION addrauth.log_changes();
CREATE TRIGGER keys_gone AFTER DELETE ON addrauth.keys
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION addrauth.log_changes();
CREATE TRIGGER keys_emptied AFTER TRUNCATE ON addrauth.keys
    FOR EACH STATEMENT EXECUTE FUNCTION addrauth.log_changes();
