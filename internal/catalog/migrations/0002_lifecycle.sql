-- Width in ms of the windows that the values of a block are added up in; 0: raw profiles.
ALTER TABLE blocks ADD COLUMN resolution BIGINT NOT NULL DEFAULT 0;

-- The state of the pins (counter pins) in which all of the block was found to be pinned; 0: never.
ALTER TABLE blocks ADD COLUMN pinned BIGINT NOT NULL DEFAULT 0;

-- Selections that retention keeps: profiles that start in [start_at, end_at). type '' is every type.
CREATE TABLE pins (
    id       BIGINT NOT NULL PRIMARY KEY,
    selector TEXT   NOT NULL,
    type     TEXT   NOT NULL,
    start_at BIGINT NOT NULL,
    end_at   BIGINT NOT NULL,
    note     TEXT   NOT NULL,
    created  BIGINT NOT NULL
);

-- What was deleted on request; the blobs under tombstones/ say the same. id sorts with the ids of blocks: only older ones are concerned. finished is 0
-- while blocks may still hold what is to go.
CREATE TABLE deletions (
    id       TEXT   NOT NULL PRIMARY KEY,
    service  TEXT   NOT NULL,
    instance TEXT   NOT NULL,
    start_at BIGINT NOT NULL,
    end_at   BIGINT NOT NULL,
    created  BIGINT NOT NULL,
    finished BIGINT NOT NULL
);

-- While one of these has not run out no garbage is given out to be deleted.
CREATE TABLE holds (
    id      TEXT   NOT NULL PRIMARY KEY,
    expires BIGINT NOT NULL
);

-- pin: the last pin's id. pins: grows with every pin that is removed. retention: the time in Unix ms that retention last went by.
INSERT INTO counters (name, value) VALUES ('pin', 0), ('pins', 1), ('retention', 0);
