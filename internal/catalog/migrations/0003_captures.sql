-- What was taken on demand or by a trigger. request is shared by those that were asked for at once. trigger is the rule's name, '' where somebody asked. state is asked,
-- running, done, failed, expired or shadow. deadline is when one that runs is given up. from_at and to_at are what a finished one covers; blob is '' where there is
-- none, and where it went to the profiles of its instance.
CREATE TABLE captures (
    id           TEXT   NOT NULL PRIMARY KEY,
    request      TEXT   NOT NULL,
    kind         TEXT   NOT NULL,
    service      TEXT   NOT NULL,
    instance     TEXT   NOT NULL,
    build        TEXT   NOT NULL,
    host         TEXT   NOT NULL,
    trigger_name TEXT   NOT NULL,
    reason       TEXT   NOT NULL,
    state        TEXT   NOT NULL,
    error        TEXT   NOT NULL,
    attempt      BIGINT NOT NULL,
    spread       TEXT   NOT NULL,
    created      BIGINT NOT NULL,
    started      BIGINT NOT NULL,
    finished     BIGINT NOT NULL,
    deadline     BIGINT NOT NULL,
    duration     BIGINT NOT NULL,
    from_at      BIGINT NOT NULL,
    to_at        BIGINT NOT NULL,
    size         BIGINT NOT NULL,
    blob         TEXT   NOT NULL,
    content_type TEXT   NOT NULL
);
CREATE INDEX captures_by_time ON captures (created);
CREATE INDEX captures_by_request ON captures (request);
CREATE INDEX captures_by_instance ON captures (instance, created);

-- Which trigger has taken its capture of which build, and until when no other process may take one.
CREATE TABLE claims (
    service      TEXT   NOT NULL,
    build        TEXT   NOT NULL,
    trigger_name TEXT   NOT NULL,
    request      TEXT   NOT NULL,
    instance     TEXT   NOT NULL,
    taken        BIGINT NOT NULL,
    until        BIGINT NOT NULL,
    PRIMARY KEY (service, build, trigger_name)
) WITHOUT ROWID;
