package catalog

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
)

// ErrNewerSchema says that a newer program has changed the catalogue in a way that this one does not know.
var ErrNewerSchema = errors.New("catalogue was written by a newer version of sonde")

//go:embed migrations/*.sql
var migrationFiles embed.FS

// migration is one step of the schema. Its number is its position, from 1; a released one is never edited.
type migration struct{ name, sql string }

// migrations are the files of folder migrations, in order.
var migrations = mustLoadMigrations()

func mustLoadMigrations() []migration {
	ms, err := loadMigrations(migrationFiles)
	if err != nil {
		panic(err) // the files are embedded: a test would have met it
	}
	return ms
}

func loadMigrations(files fs.FS) ([]migration, error) {
	names, err := fs.Glob(files, "migrations/*.sql")
	if err != nil {
		return nil, err
	}
	var out []migration
	for i, name := range names {
		number, _, _ := strings.Cut(strings.TrimPrefix(name, "migrations/"), "_")
		if n, err := strconv.Atoi(number); err != nil || n != i+1 {
			return nil, fmt.Errorf("load migrations: %s should have the number %d", name, i+1)
		}
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, err
		}
		out = append(out, migration{name: name, sql: string(text)})
	}
	return out, nil
}

// migrate runs the migrations that are missing, each in a transaction of its own.
func migrate(ctx context.Context, db *sql.DB, d *dialect) error {
	for {
		more, err := migrateStep(ctx, db, d, migrations)
		if err != nil || !more {
			return err
		}
	}
}

// migrateStep runs the next migration and reports whether there may be more. The version is read in the transaction that changes it, so
// two programs that start at once do not run one twice.
func migrateStep(ctx context.Context, db *sql.DB, d *dialect, all []migration) (more bool, err error) {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return false, err
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS schema_migrations (version BIGINT NOT NULL PRIMARY KEY, name TEXT NOT NULL, applied BIGINT NOT NULL)`); err != nil {
		return false, fmt.Errorf("create schema_migrations: %w", err)
	}
	var version int
	if err := tx.QueryRowContext(ctx, `SELECT COALESCE(MAX(version), 0) FROM schema_migrations`).Scan(&version); err != nil {
		return false, fmt.Errorf("read schema version: %w", err)
	}
	if version > len(all) {
		return false, newer(version, len(all))
	}
	if version == len(all) {
		return false, nil
	}
	next := all[version]
	if _, err := tx.ExecContext(ctx, d.sql(next.sql)); err != nil {
		return false, fmt.Errorf("run %s: %w", next.name, err)
	}
	if _, err := tx.ExecContext(ctx, d.sql(`INSERT INTO schema_migrations (version, name, applied) VALUES (?, ?, NOW())`), version+1, next.name); err != nil {
		return false, fmt.Errorf("record %s: %w", next.name, err)
	}
	return true, tx.Commit()
}

func newer(version, known int) error {
	return fmt.Errorf("%w: its schema is version %d, this program knows up to %d (run the newer version)", ErrNewerSchema, version, known)
}

// checkSchema returns an error unless the schema is the one this program knows.
func checkSchema(ctx context.Context, db *sql.DB, d *dialect) error {
	var version int
	if err := db.QueryRowContext(ctx, `SELECT COALESCE(MAX(version), 0) FROM schema_migrations`).Scan(&version); err != nil {
		return fmt.Errorf("read schema version: %w", explain(err))
	}
	switch known := len(migrations); {
	case version > known:
		return newer(version, known)
	case version < known:
		return fmt.Errorf("its schema is version %d, this program reads version %d (start sonde serve once to bring it up to date)", version, known)
	}
	return nil
}
