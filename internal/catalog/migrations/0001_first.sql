-- Types and syntax are those that SQLite and PostgreSQL share. Times are Unix milliseconds; '' and 0 mean unknown.

CREATE TABLE blocks (
    id      TEXT   NOT NULL PRIMARY KEY,
    level   BIGINT NOT NULL,
    blob    TEXT   NOT NULL,
    size    BIGINT NOT NULL,
    created BIGINT NOT NULL
);

-- One row per block and service. types is a JSON array of profile types.
CREATE TABLE datasets (
    block_id  TEXT   NOT NULL REFERENCES blocks (id) ON DELETE CASCADE,
    service   TEXT   NOT NULL,
    min_start BIGINT NOT NULL,
    max_start BIGINT NOT NULL,
    max_end   BIGINT NOT NULL,
    types     TEXT   NOT NULL,
    profiles  BIGINT NOT NULL,
    PRIMARY KEY (block_id, service)
);
CREATE INDEX datasets_by_service ON datasets (service, max_start);
CREATE INDEX datasets_by_time ON datasets (max_start);

-- The window numbers of one part of one instance that were registered: a windowSet, see windows.go.
CREATE TABLE windows (
    instance TEXT   NOT NULL,
    part     BIGINT NOT NULL,
    seen     BYTEA  NOT NULL,
    updated  BIGINT NOT NULL,
    PRIMARY KEY (instance, part)
);
CREATE INDEX windows_by_time ON windows (updated);

CREATE TABLE idempotency (
    key     TEXT   NOT NULL PRIMARY KEY,
    created BIGINT NOT NULL
);
CREATE INDEX idempotency_by_time ON idempotency (created);

-- labels is a JSON object, ns_pids a JSON array.
CREATE TABLE processes (
    instance    TEXT   NOT NULL PRIMARY KEY,
    service     TEXT   NOT NULL,
    labels      TEXT   NOT NULL,
    labels_hash TEXT   NOT NULL,
    build_id    TEXT   NOT NULL,
    version     TEXT   NOT NULL,
    go_version  TEXT   NOT NULL,
    exe         TEXT   NOT NULL,
    pid         BIGINT NOT NULL,
    boot_id     TEXT   NOT NULL,
    pid_ns      BIGINT NOT NULL,
    start_ticks BIGINT NOT NULL,
    ns_pids     TEXT   NOT NULL,
    host        TEXT   NOT NULL,
    gatherer    TEXT   NOT NULL,
    state       TEXT   NOT NULL,
    reason      TEXT   NOT NULL,
    started     BIGINT NOT NULL,
    first_seen  BIGINT NOT NULL,
    last_seen   BIGINT NOT NULL
);
CREATE INDEX processes_by_service ON processes (service, build_id, last_seen);
CREATE INDEX processes_by_time ON processes (last_seen);

CREATE TABLE builds (
    id           TEXT   NOT NULL PRIMARY KEY,
    go_build_id  TEXT   NOT NULL,
    gnu_build_id TEXT   NOT NULL,
    go_version   TEXT   NOT NULL,
    module       TEXT   NOT NULL,
    version      TEXT   NOT NULL,
    info         TEXT   NOT NULL,
    first_seen   BIGINT NOT NULL
);

-- attrs is a JSON object. id comes from counters: numbers of expired events are not used again.
CREATE TABLE events (
    id      BIGINT NOT NULL PRIMARY KEY,
    time    BIGINT NOT NULL,
    kind    TEXT   NOT NULL,
    service TEXT   NOT NULL,
    text    TEXT   NOT NULL,
    attrs   TEXT   NOT NULL
);
CREATE INDEX events_by_time ON events (time);
CREATE INDEX events_by_service ON events (service, time);

CREATE TABLE counters (
    name  TEXT   NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO counters (name, value) VALUES ('event', 0);

-- Blobs to be deleted from delete_at on.
CREATE TABLE garbage (
    blob      TEXT   NOT NULL PRIMARY KEY,
    delete_at BIGINT NOT NULL
);
CREATE INDEX garbage_by_time ON garbage (delete_at);

CREATE TABLE leases (
    name    TEXT   NOT NULL PRIMARY KEY,
    holder  TEXT   NOT NULL,
    expires BIGINT NOT NULL
);
