package catalog

import "context"

// Register implements Catalog.
func (db *DB) Register(ctx context.Context, r Registration) error {
	return db.write(ctx, "register", func(t *tx) error {
		if err := t.addKeys(r.Keys); err != nil {
			return err
		}
		if r.Block != nil {
			if err := t.putBlock(r.Block); err != nil {
				return err
			}
		}
		if err := t.putBuilds(r.Builds); err != nil {
			return err
		}
		if err := t.putProcesses(r.Processes); err != nil {
			return err
		}
		return t.addEvents(r.Events)
	})
}

// PutProcesses implements Catalog.
func (db *DB) PutProcesses(ctx context.Context, ps []Process) error {
	if len(ps) == 0 {
		return nil
	}
	return db.write(ctx, "put processes", func(t *tx) error { return t.putProcesses(ps) })
}

// PutBuilds implements Catalog.
func (db *DB) PutBuilds(ctx context.Context, bs []Build) error {
	if len(bs) == 0 {
		return nil
	}
	return db.write(ctx, "put builds", func(t *tx) error { return t.putBuilds(bs) })
}

// AddEvents implements Catalog. An event's ID is assigned by the catalogue, a zero Time is the database's clock.
func (db *DB) AddEvents(ctx context.Context, es []Event) error {
	if len(es) == 0 {
		return nil
	}
	return db.write(ctx, "add events", func(t *tx) error { return t.addEvents(es) })
}

// glimpsed is how long (ms) a process is remembered that was never profiled, from when it was last seen: compilers and the like come and go by the
// thousand. While it lives gatherers report it at least once a minute.
const glimpsed = 10 * 60 * 1000

// Expire implements Catalog.
func (db *DB) Expire(ctx context.Context, keysBefore, processesBefore, eventsBefore int64) error {
	return db.write(ctx, "expire", func(t *tx) error {
		for _, e := range []struct {
			query  string
			before int64
		}{
			{`DELETE FROM windows WHERE updated < ?`, keysBefore},
			{`DELETE FROM idempotency WHERE created < ?`, keysBefore},
			{`DELETE FROM processes WHERE last_seen < ?`, processesBefore},
			{`DELETE FROM events WHERE time < ?`, eventsBefore},
			// A build is asked for by the processes that run it: without one it is only weight, up to a megabyte of it.
			{`DELETE FROM builds WHERE first_seen < ? AND id NOT IN (SELECT build_id FROM processes)`, processesBefore},
		} {
			if e.before == 0 {
				continue
			}
			if _, err := t.exec(e.query, e.before); err != nil {
				return err
			}
		}
		_, err := t.exec(`DELETE FROM processes WHERE gatherer = '' AND last_seen < NOW() - ?`, glimpsed)
		return err
	})
}
