package catalog

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// putBlock inserts a live block.
func (t *tx) putBlock(b *Block) error {
	if _, err := t.exec(`INSERT INTO blocks (id, level, blob, size, created, resolution, pinned) VALUES (?, ?, ?, ?, ?, ?, ?)`, b.ID, b.Level, b.Blob, b.Size, b.Created, b.Resolution, b.Pinned); err != nil {
		return fmt.Errorf("insert block %s: %w", b.ID, err)
	}
	for _, d := range b.Datasets {
		types, err := json.Marshal(d.Types)
		if err != nil {
			return err
		}
		if _, err := t.exec(`INSERT INTO datasets (block_id, service, min_start, max_start, max_end, types, profiles) VALUES (?, ?, ?, ?, ?, ?, ?)`,
			b.ID, d.Service, d.MinStart, d.MaxStart, d.MaxEnd, string(types), d.Profiles); err != nil {
			return fmt.Errorf("insert dataset %s of block %s: %w", d.Service, b.ID, err)
		}
	}
	return nil
}

// blockRow is one block joined with one of its datasets, if it has any.
type blockRow struct {
	block   Block
	service sql.NullString
	dataset Dataset
}

func scanBlockRow(rows *sql.Rows) (blockRow, error) {
	var r blockRow
	var types sql.NullString
	var minStart, maxStart, maxEnd, profiles sql.NullInt64
	err := rows.Scan(&r.block.ID, &r.block.Level, &r.block.Blob, &r.block.Size, &r.block.Created, &r.block.Resolution, &r.block.Pinned,
		&r.service, &minStart, &maxStart, &maxEnd, &types, &profiles)
	if err != nil || !r.service.Valid {
		return r, err
	}
	r.dataset = Dataset{Service: r.service.String, MinStart: minStart.Int64, MaxStart: maxStart.Int64, MaxEnd: maxEnd.Int64, Profiles: profiles.Int64}
	return r, json.Unmarshal([]byte(types.String), &r.dataset.Types)
}

// Blocks implements Catalog.
func (db *DB) Blocks(ctx context.Context, f BlockFilter) ([]Block, error) {
	query, args := f.query()
	rows, err := collect(ctx, &db.reads, db.d, scanBlockRow, query, args...)
	if err != nil {
		return nil, fmt.Errorf("list blocks in catalogue: %w", err)
	}
	var out []Block
	for _, r := range rows {
		if f.Type != "" && !slices.Contains(r.dataset.Types, f.Type) {
			continue
		}
		if len(out) == 0 || out[len(out)-1].ID != r.block.ID {
			out = append(out, r.block)
		}
		if r.service.Valid {
			last := &out[len(out)-1]
			last.Datasets = append(last.Datasets, r.dataset)
		}
	}
	return out, nil
}

// query returns the SQL of f but for the type, which the caller filters.
func (f BlockFilter) query() (string, []any) {
	var where []string
	var args []any
	add := func(cond string, values ...any) {
		where = append(where, cond)
		args = append(args, values...)
	}
	join := "LEFT JOIN"
	if f.From != 0 {
		add("d.max_start >= ?", f.From)
	}
	if f.To != 0 {
		add("d.min_start < ?", f.To)
	}
	if len(f.Services) > 0 {
		add("d.service IN ("+marks(len(f.Services))+")", anys(f.Services)...)
	}
	if len(where) > 0 || f.Type != "" {
		join = "JOIN"
	}
	if len(f.Levels) > 0 {
		add("b.level IN ("+marks(len(f.Levels))+")", anys(f.Levels)...)
	}
	query := `SELECT b.id, b.level, b.blob, b.size, b.created, b.resolution, b.pinned, d.service, d.min_start, d.max_start, d.max_end, d.types, d.profiles
		FROM blocks b ` + join + ` datasets d ON d.block_id = b.id`
	if len(where) > 0 {
		query += " WHERE " + strings.Join(where, " AND ")
	}
	return query + " ORDER BY b.id, d.service", args
}

func anys[T any](values []T) []any {
	out := make([]any, len(values))
	for i, v := range values {
		out[i] = v
	}
	return out
}

// Swap implements Catalog.
func (db *DB) Swap(ctx context.Context, in []string, out []Block, deleteAfter time.Time) error {
	return db.write(ctx, "swap blocks", func(t *tx) error {
		for _, id := range in {
			if err := t.retire(id, deleteAfter.UnixMilli()); err != nil {
				return err
			}
		}
		for i := range out {
			if err := t.putBlock(&out[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

// retire makes the live block id garbage. A block that is not live any more, or named twice, is a conflict: the row that is deleted is the fence.
func (t *tx) retire(id string, deleteAt int64) error {
	var blob string
	err := t.row(`DELETE FROM blocks WHERE id = ? RETURNING blob`, []any{id}, &blob)
	if errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("%w: block %s is not live", ErrConflict, id)
	}
	if err != nil {
		return err
	}
	_, err = t.exec(`INSERT INTO garbage (blob, delete_at) VALUES (?, ?) ON CONFLICT (blob) DO NOTHING`, blob, deleteAt)
	return err
}

// Garbage implements Catalog. A limit of 0 is none. The oldest come first. While somebody holds garbage there is none to be deleted.
func (db *DB) Garbage(ctx context.Context, limit int) ([]string, error) {
	query, args := `SELECT blob FROM garbage WHERE delete_at <= NOW() AND NOT EXISTS (SELECT 1 FROM holds WHERE expires > NOW()) ORDER BY delete_at, blob`, []any(nil)
	if limit > 0 {
		query, args = query+" LIMIT ?", []any{limit}
	}
	names, err := collect(ctx, db.r, db.d, scanOne[string], query, args...)
	if err != nil {
		return nil, fmt.Errorf("list garbage in catalogue: %w", err)
	}
	return names, nil
}

// Pending returns the names of all blobs that wait to be deleted, whether their time has come or not, sorted. They are not orphans.
func (db *DB) Pending(ctx context.Context) ([]string, error) {
	names, err := collect(ctx, db.r, db.d, scanOne[string], `SELECT blob FROM garbage ORDER BY blob`)
	if err != nil {
		return nil, fmt.Errorf("list pending deletions in catalogue: %w", err)
	}
	return names, nil
}

// Forget implements Catalog.
func (db *DB) Forget(ctx context.Context, names []string) error {
	if len(names) == 0 {
		return nil
	}
	return db.write(ctx, "forget garbage", func(t *tx) error {
		for _, name := range names {
			if _, err := t.exec(`DELETE FROM garbage WHERE blob = ?`, name); err != nil {
				return err
			}
		}
		return nil
	})
}
