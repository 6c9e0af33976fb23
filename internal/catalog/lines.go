package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
)

// LineChunk is a chunk of the lines that a process's runtime printed about itself, in their order.
type LineChunk struct {
	Key      string // the same for the same chunk
	Service  string
	Instance string // "": not known
	Source   string // stderr, or the file that they were read from
	From, To int64  // Unix ms, of the first line and of the last
	Count    int    // lines
	Bytes    int    // of text
	Data     []byte // the text, gzipped, at most MaxLineChunk
}

// MaxLineChunk bounds the gzipped text of a chunk, in bytes: SQLite keeps blobs of this size in rows faster than a file system in files.
const MaxLineChunk = 64 << 10

// LineFilter selects chunks. Zero fields select all.
type LineFilter struct {
	Service  string
	Instance string
	From, To int64 // chunks with a line in [From, To)
	Newest   bool  // by their last lines, newest first
	Limit    int
}

// LineStore is the part of a catalogue that keeps lines.
type LineStore interface {
	// PutLines keeps chunks; those whose key is there are left as they are.
	PutLines(ctx context.Context, cs []LineChunk) error
	// EachLines calls fn with the chunks that f selects, by their first lines, oldest first, one at a time, and ends with fn's error. Data is fn's to keep.
	EachLines(ctx context.Context, f LineFilter, fn func(c LineChunk) error) error
	// ExpireLines removes chunks whose last line is older than the given time (Unix ms), then the oldest over maxBytes in all, as they are stored. 0 keeps all.
	ExpireLines(ctx context.Context, before, maxBytes int64) (removed int64, err error)
	// LineBytes returns how many chunks there are and their bytes as they are stored.
	LineBytes(ctx context.Context) (n, bytes int64, err error)
}

var _ LineStore = (*DB)(nil)

const lineColumns = `key, service, instance, source, from_at, to_at, count, bytes, data`

// PutLines implements LineStore.
func (db *DB) PutLines(ctx context.Context, cs []LineChunk) error {
	return db.write(ctx, "put lines", func(t *tx) error {
		for _, c := range cs {
			switch {
			case c.Key == "":
				return errors.New("a chunk of lines has no key")
			case len(c.Data) > MaxLineChunk:
				return fmt.Errorf("a chunk of lines has %d bytes, at most %d", len(c.Data), MaxLineChunk)
			}
			if _, err := t.exec(`INSERT INTO lines (`+lineColumns+`, size) VALUES (`+marks(10)+`) ON CONFLICT (key) DO NOTHING`,
				c.Key, c.Service, c.Instance, c.Source, c.From, c.To, c.Count, c.Bytes, c.Data, len(c.Data)); err != nil {
				return fmt.Errorf("insert lines of %s: %w", c.Service, err)
			}
		}
		return nil
	})
}

// EachLines implements LineStore.
func (db *DB) EachLines(ctx context.Context, f LineFilter, fn func(c LineChunk) error) (err error) {
	query, args := f.query()
	rows, err := db.r.QueryContext(ctx, db.d.sql(query), args...)
	if err != nil {
		return fmt.Errorf("list lines in catalogue: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		c, err := scanLines(rows)
		if err != nil {
			return fmt.Errorf("list lines in catalogue: %w", err)
		}
		if err := fn(c); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("list lines in catalogue: %w", err)
	}
	return nil
}

func scanLines(rows *sql.Rows) (c LineChunk, err error) {
	err = rows.Scan(&c.Key, &c.Service, &c.Instance, &c.Source, &c.From, &c.To, &c.Count, &c.Bytes, &c.Data)
	return c, err
}

func (f LineFilter) query() (string, []any) {
	query, args := `SELECT `+lineColumns+` FROM lines`, []any(nil)
	var where []string
	add := func(condition string, arg any) { where, args = append(where, condition), append(args, arg) }
	if f.Service != "" {
		add("service = ?", f.Service)
	}
	if f.Instance != "" {
		add("instance = ?", f.Instance)
	}
	if f.From != 0 {
		add("to_at >= ?", f.From)
	}
	if f.To != 0 {
		add("from_at < ?", f.To)
	}
	if len(where) > 0 {
		query += " WHERE " + strings.Join(where, " AND ")
	}
	if f.Newest {
		query += " ORDER BY to_at DESC, key DESC"
	} else {
		query += " ORDER BY from_at, key"
	}
	if f.Limit > 0 {
		query, args = query+" LIMIT ?", append(args, f.Limit)
	}
	return query, args
}

// ExpireLines implements LineStore.
func (db *DB) ExpireLines(ctx context.Context, before, maxBytes int64) (removed int64, err error) {
	if maxBytes <= 0 {
		maxBytes = 1<<63 - 1
	}
	err = db.write(ctx, "expire lines", func(t *tx) error {
		removed, err = t.exec(`DELETE FROM lines WHERE to_at < ? OR key IN (SELECT key FROM (SELECT key, SUM(size) OVER (ORDER BY to_at DESC, key DESC) AS upto FROM lines) x WHERE upto > ?)`, before, maxBytes)
		return err
	})
	return removed, err
}

// LineBytes implements LineStore.
func (db *DB) LineBytes(ctx context.Context) (n, bytes int64, err error) {
	if err := db.r.QueryRowContext(ctx, `SELECT COUNT(*), COALESCE(SUM(size), 0) FROM lines`).Scan(&n, &bytes); err != nil {
		return 0, 0, fmt.Errorf("count lines in catalogue: %w", err)
	}
	return n, bytes, nil
}

// deleteLines removes the chunks that d names with a line in its range.
func (t *tx) deleteLines(d Deletion) error {
	where, args := "to_at >= ? AND from_at < ?", []any{d.Start, d.End}
	if d.Service != "" {
		where, args = where+" AND service = ?", append(args, d.Service)
	}
	if d.Instance != "" {
		where, args = where+" AND instance = ?", append(args, d.Instance)
	}
	_, err := t.exec(`DELETE FROM lines WHERE `+where, args...)
	return err
}
