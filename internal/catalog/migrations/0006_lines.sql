-- Lines that processes' runtimes printed about themselves, in chunks of at most 64 KiB of gzipped text: data. key is the same for the same chunk, which is kept once. from_at and to_at are the
-- times of the first line and of the last.
CREATE TABLE lines (
    key      TEXT   NOT NULL PRIMARY KEY,
    service  TEXT   NOT NULL,
    instance TEXT   NOT NULL,
    source   TEXT   NOT NULL,
    from_at  BIGINT NOT NULL,
    to_at    BIGINT NOT NULL,
    count    BIGINT NOT NULL,
    bytes    BIGINT NOT NULL,
    size     BIGINT NOT NULL,
    data     BYTEA  NOT NULL
);
CREATE INDEX lines_by_service ON lines (service, to_at);
CREATE INDEX lines_by_instance ON lines (instance, to_at);
CREATE INDEX lines_by_time ON lines (to_at, size);
