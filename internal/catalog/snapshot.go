package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/sonde-io/sonde/internal/fsys"
)

// Hold implements Catalog.
func (db *DB) Hold(ctx context.Context, id string, ttl time.Duration) error {
	return db.write(ctx, "hold garbage", func(t *tx) error {
		if _, err := t.exec(`DELETE FROM holds WHERE id = ? OR expires <= NOW()`, id); err != nil || ttl <= 0 {
			return err
		}
		_, err := t.exec(`INSERT INTO holds (id, expires) VALUES (?, NOW() + CAST(? AS BIGINT))`, id, ttl.Milliseconds())
		return err
	})
}

// Snapshot writes a copy of the catalogue as of one moment to the new file path: all that was committed before it was called is in it. It is what a
// restored catalogue has to be: garbage, leases and holds, which are about blobs and programs that the copy does not have, are left out. It is synced when
// Snapshot returns nil. Writers go on meanwhile.
func (db *DB) Snapshot(ctx context.Context, path string) error {
	if _, err := os.Stat(path); err == nil {
		return fmt.Errorf("copy catalogue to %s: the file exists", path)
	}
	if err := db.snapshot(ctx, path); err != nil {
		os.Remove(path)
		return fmt.Errorf("copy catalogue to %s: %w", path, err)
	}
	return nil
}

func (db *DB) snapshot(ctx context.Context, path string) error {
	conn, err := db.r.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	// VACUUM INTO reads in one transaction of its own, and writes to the copy alone; the pragma that guards the readers does not tell them apart.
	if _, err := conn.ExecContext(ctx, "PRAGMA query_only = 0"); err != nil {
		return err
	}
	_, err = conn.ExecContext(ctx, "VACUUM INTO ?", path)
	if _, perr := conn.ExecContext(context.WithoutCancel(ctx), "PRAGMA query_only = 1"); err == nil {
		err = perr
	}
	if err != nil {
		return err
	}
	if err := trim(ctx, path); err != nil {
		return err
	}
	return syncFile(path)
}

// trim takes out of a copy what is about the original.
func trim(ctx context.Context, path string) error {
	if err := os.Chmod(path, 0o600); err != nil {
		return err
	}
	db, err := sql.Open("sqlite", dsn(path, "rw", "_pragma=journal_mode(DELETE)"))
	if err != nil {
		return err
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	for _, q := range []string{"PRAGMA journal_mode = DELETE", "DELETE FROM garbage", "DELETE FROM leases", "DELETE FROM holds"} {
		if _, err := db.ExecContext(ctx, q); err != nil {
			return err
		}
	}
	return db.Close()
}

func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	return (fsys.OS{}).SyncDir(filepath.Dir(path))
}
