package catalog

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// CopyAtSchema writes a copy of the catalogue, which nobody may be writing, to the new file path as a release has it that knows the schema up to version
// only. What later migrations made room for is not in it: of captures neither rows nor claims, so that to the earlier release their blobs are files that nobody names. It is synced
// when CopyAtSchema returns nil.
func (db *DB) CopyAtSchema(ctx context.Context, path string, version int) error {
	if _, err := os.Stat(path); err == nil {
		return fmt.Errorf("copy catalogue to %s: the file exists", path)
	}
	if version < 1 || version > len(migrations) {
		return fmt.Errorf("copy catalogue to %s: there is no schema %d", path, version)
	}
	if err := db.copyAtSchema(ctx, path, version); err != nil {
		return fmt.Errorf("copy catalogue to %s: %w", path, err)
	}
	return syncFile(path)
}

func (db *DB) copyAtSchema(ctx context.Context, path string, version int) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	to, err := connect(path, "")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	for range version {
		if _, err := migrateStep(ctx, to.w, to.d, migrations[:version]); err != nil {
			return err
		}
	}
	tables, err := collect(ctx, to.w, to.d, scanOne[string], `SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT IN ('schema_migrations', 'leases', 'counters') ORDER BY name`)
	if err != nil {
		return err
	}
	for _, table := range tables { // blocks come before datasets, which refer to them
		if _, readErr, err := to.salvageTable(ctx, db.r, table); err != nil || readErr != nil {
			return fmt.Errorf("table %s: %w", table, errors.Join(readErr, err))
		}
	}
	counters, err := collect(ctx, to.w, to.d, scanOne[string], `SELECT name FROM counters`)
	if err != nil {
		return err
	}
	for _, name := range counters {
		var value int64
		if err := db.r.QueryRowContext(ctx, `SELECT value FROM counters WHERE name = ?`, name).Scan(&value); err != nil {
			return fmt.Errorf("counter %s: %w", name, err)
		}
		if _, err := to.w.ExecContext(ctx, `UPDATE counters SET value = ? WHERE name = ?`, value, name); err != nil {
			return fmt.Errorf("counter %s: %w", name, err)
		}
	}
	return nil
}
