-- How often choices and wanted senders were changed, by whomever: who remembers some of them sees by it whether they still hold.
CREATE TABLE choices_changed (
    times INTEGER NOT NULL
) STRICT;

INSERT INTO choices_changed VALUES (0);

CREATE TRIGGER choice_made AFTER INSERT ON choice BEGIN UPDATE choices_changed SET times = times + 1; END;
CREATE TRIGGER choice_changed AFTER UPDATE ON choice BEGIN UPDATE choices_changed SET times = times + 1; END;
CREATE TRIGGER choice_taken_back AFTER DELETE ON choice BEGIN UPDATE choices_changed SET times = times + 1; END;
CREATE TRIGGER sender_allowed AFTER INSERT ON allowed BEGIN UPDATE choices_changed SET times = times + 1; END;
CREATE TRIGGER allowed_changed AFTER UPDATE ON allowed BEGIN UPDATE choices_changed SET times = times + 1; END;
CREATE TRIGGER sender_disallowed AFTER DELETE ON allowed BEGIN UPDATE choices_changed SET times = times + 1; END;
