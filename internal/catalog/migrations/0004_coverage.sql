-- Where a process runs, out of its labels: node is k8s_node_name, else the host; pod is NAMESPACE/NAME; container is the container's id. A list of a whole fleet reads these, and no labels.
-- Rows of before get them with the next report of their process.
ALTER TABLE processes ADD COLUMN node TEXT NOT NULL DEFAULT '';
ALTER TABLE processes ADD COLUMN pod TEXT NOT NULL DEFAULT '';
ALTER TABLE processes ADD COLUMN container TEXT NOT NULL DEFAULT '';

-- What each node reported last of the Go programs that run there: report is a gzipped JSON object, which the package collector/coverage reads.
CREATE TABLE expected (
    node     TEXT   NOT NULL PRIMARY KEY,
    reported BIGINT NOT NULL,
    report   BYTEA  NOT NULL
);
CREATE INDEX expected_by_time ON expected (reported);
