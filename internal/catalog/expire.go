package catalog

import "context"

// glimpsed is how long (ms) a process is remembered that was never profiled, from when it was last seen: compilers and the like come and go by the
// thousand. While it lives gatherers report it at least once a minute.
const glimpsed = 10 * 60 * 1000

// nodeGone is how long (ms) a node's last report is kept: a sidecar that is silent longer has no node any more.
const nodeGone = 24 * 60 * 60 * 1000

// around is how far (ms) before and after what a block holds its service's processes and events are kept with it: who reads the block wants to see the
// deploy right before it.
const around = 60 * 60 * 1000

// Expire implements Catalog. What is older than the raw profiles are kept for is still told of by sums and by pinned profiles: it goes with the last block of
// its service that reaches into its time.
func (db *DB) Expire(ctx context.Context, keysBefore, processesBefore, eventsBefore int64) error {
	return db.write(ctx, "expire", func(t *tx) error {
		for _, e := range []struct {
			query  string
			before int64
			args   []any
		}{
			{`DELETE FROM windows WHERE updated < ?`, keysBefore, nil},
			{`DELETE FROM idempotency WHERE created < ?`, keysBefore, nil},
			{`DELETE FROM processes WHERE last_seen < ? AND NOT EXISTS (SELECT 1 FROM datasets d WHERE d.service = processes.service
				AND d.max_start >= processes.first_seen - ? AND d.min_start <= processes.last_seen + ?)`, processesBefore, []any{around, around}},
			{`DELETE FROM events WHERE time < ? AND NOT EXISTS (SELECT 1 FROM datasets d WHERE d.service = events.service
				AND d.max_start >= events.time - ? AND d.min_start <= events.time + ?)`, eventsBefore, []any{around, around}},
			// A build is asked for by the processes that run it: without one it is only weight, up to a megabyte of it.
			{`DELETE FROM builds WHERE first_seen < ? AND id NOT IN (SELECT build_id FROM processes)`, processesBefore, nil},
		} {
			if e.before == 0 {
				continue
			}
			if _, err := t.exec(e.query, append([]any{e.before}, e.args...)...); err != nil {
				return err
			}
		}
		if _, err := t.exec(`DELETE FROM expected WHERE reported < NOW() - ?`, nodeGone); err != nil {
			return err
		}
		if err := t.deleteOrphans(); err != nil {
			return err
		}
		if _, err := t.exec(`DELETE FROM turnover WHERE at < NOW() - ?`, turnoverKept); err != nil {
			return err
		}
		_, err := t.exec(`DELETE FROM processes WHERE gatherer = '' AND last_seen < NOW() - ?`, glimpsed)
		return err
	})
}
