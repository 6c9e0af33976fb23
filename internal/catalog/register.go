package catalog

import "context"

// Register implements Catalog.
func (db *DB) Register(ctx context.Context, r Registration) error {
	err := db.write(ctx, "register", func(t *tx) error {
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
	db.highest.learn(r.Keys, err == nil)
	return err
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
