-- What a binary says besides: its size in bytes, and whether it was stripped, 'yes' or 'no'. modules is how many rows of build_modules it has, -1 while nobody has read its info for them.
ALTER TABLE builds ADD COLUMN size BIGINT NOT NULL DEFAULT 0;
ALTER TABLE builds ADD COLUMN stripped TEXT NOT NULL DEFAULT '';
ALTER TABLE builds ADD COLUMN modules BIGINT NOT NULL DEFAULT -1;

-- The modules of each build, by what was compiled: of a replaced one the replacement, with what go.mod declares beside it. A replacement by a folder has no version, and keeps the declared path. main is 1 for the main module. Sums are in the build's info.
CREATE TABLE build_modules (
    path             TEXT   NOT NULL,
    build_id         TEXT   NOT NULL,
    version          TEXT   NOT NULL,
    main             BIGINT NOT NULL,
    declared         TEXT   NOT NULL,
    declared_version TEXT   NOT NULL,
    PRIMARY KEY (path, build_id)
) WITHOUT ROWID;
CREATE INDEX build_modules_declared ON build_modules (declared) WHERE declared <> '';

-- What processes were started with besides their build, a JSON object; the replicas of a service share a row. id is the start of its SHA-256.
CREATE TABLE conditions (
    id   TEXT NOT NULL PRIMARY KEY,
    text TEXT NOT NULL
) WITHOUT ROWID;
ALTER TABLE processes ADD COLUMN conditions TEXT NOT NULL DEFAULT '';

-- Who came last of a service's build is asked with every start.
DROP INDEX processes_by_service;
CREATE INDEX processes_by_service ON processes (service, build_id, started);

-- Processes that came (came 1) or went (0) a moment ago. process is the identity that all share who see it, ran how long (ms) one had run that went. mate is the instance that one replaced, or was replaced by; '' while there is none.
CREATE TABLE turnover (
    process    TEXT   NOT NULL,
    came       BIGINT NOT NULL,
    service    TEXT   NOT NULL,
    build_id   TEXT   NOT NULL,
    at         BIGINT NOT NULL,
    instance   TEXT   NOT NULL,
    node       TEXT   NOT NULL,
    pod        TEXT   NOT NULL,
    conditions TEXT   NOT NULL,
    crashed    BIGINT NOT NULL,
    ran        BIGINT NOT NULL,
    version    TEXT   NOT NULL,
    mate       TEXT   NOT NULL,
    PRIMARY KEY (process, came)
) WITHOUT ROWID;
CREATE INDEX turnover_waiting ON turnover (service, build_id, came, at) WHERE mate = '';
CREATE INDEX turnover_alike ON turnover (service, build_id, came, conditions) WHERE mate = '';

-- Events that count on while more of the same happens.
CREATE INDEX events_counting ON events (service, time) WHERE kind IN ('restart', 'change');
