package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

const buildColumns = `id, go_build_id, gnu_build_id, go_version, module, version, info, first_seen`

// putBuilds inserts the builds that are new. A zero FirstSeen is the database's clock.
func (t *tx) putBuilds(bs []Build) error {
	for _, b := range bs {
		if b.ID == "" {
			return errors.New("put build: it has no id")
		}
		if _, err := t.exec(`INSERT INTO builds (`+buildColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, COALESCE(NULLIF(CAST(? AS BIGINT), 0), NOW())) ON CONFLICT (id) DO NOTHING`,
			b.ID, b.GoBuildID, b.GNUBuildID, b.GoVersion, b.Module, b.Version, b.Info, b.FirstSeen); err != nil {
			return fmt.Errorf("put build %s: %w", b.ID, err)
		}
	}
	return nil
}

func scanBuild(rows *sql.Rows) (Build, error) {
	var b Build
	err := rows.Scan(&b.ID, &b.GoBuildID, &b.GNUBuildID, &b.GoVersion, &b.Module, &b.Version, &b.Info, &b.FirstSeen)
	return b, err
}

// Build implements Catalog.
func (db *DB) Build(ctx context.Context, id string) (Build, error) {
	bs, err := collect(ctx, db.r, db.d, scanBuild, `SELECT `+buildColumns+` FROM builds WHERE id = ?`, id)
	if err == nil && len(bs) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return Build{}, fmt.Errorf("read build %s: %w", id, err)
	}
	return bs[0], nil
}

// Builds implements Catalog.
func (db *DB) Builds(ctx context.Context, service string) ([]Build, error) {
	query, args := `SELECT `+buildColumns+` FROM builds`, []any(nil)
	if service != "" {
		query += ` WHERE EXISTS (SELECT 1 FROM processes p WHERE p.service = ? AND p.build_id = builds.id)`
		args = []any{service}
	}
	bs, err := collect(ctx, db.r, db.d, scanBuild, query+` ORDER BY first_seen, id`, args...)
	if err != nil {
		return nil, fmt.Errorf("list builds in catalogue: %w", err)
	}
	return bs, nil
}

// Modules implements Catalog.
func (db *DB) Modules(ctx context.Context, service string, limit int) ([]string, error) {
	query, args := `SELECT DISTINCT module FROM builds WHERE module <> ''`, []any(nil)
	if service != "" {
		query += ` AND id IN (SELECT build_id FROM processes WHERE service = ?)`
		args = append(args, service)
	}
	ms, err := collect(ctx, db.r, db.d, scanOne[string], query+` ORDER BY module LIMIT ?`, append(args, limit)...)
	if err != nil {
		return nil, fmt.Errorf("list modules in catalogue: %w", err)
	}
	return ms, nil
}
