package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// Pin keeps the profiles that Selector and Type select and that start in [Start, End) from retention, for good.
type Pin struct {
	ID         int64  `json:"id"`
	Selector   string `json:"query"` // as ParseSelector reads it
	Type       string `json:"type"`  // of profiles; "": every type
	Start, End int64  `json:"-"`     // Unix ms
	Note       string `json:"note"`
	Created    int64  `json:"created"` // Unix ms; 0 where it is stored: the database's clock
}

// PutPin implements Catalog.
func (db *DB) PutPin(ctx context.Context, p Pin) (id int64, err error) {
	err = db.write(ctx, "put pin", func(t *tx) error {
		if err := t.row(`UPDATE counters SET value = value + 1 WHERE name = 'pin' RETURNING value`, nil, &id); err != nil {
			return fmt.Errorf("number pin: %w", err)
		}
		if _, err := t.exec(`UPDATE counters SET value = value + 1 WHERE name = 'pins'`); err != nil {
			return err
		}
		_, err := t.exec(`INSERT INTO pins (id, selector, type, start_at, end_at, note, created) VALUES (?, ?, ?, ?, ?, ?, COALESCE(NULLIF(CAST(? AS BIGINT), 0), NOW()))`,
			id, p.Selector, p.Type, p.Start, p.End, p.Note, p.Created)
		return err
	})
	return id, err
}

// Pins implements Catalog.
func (db *DB) Pins(ctx context.Context) (pins []Pin, state int64, err error) {
	// The state first: a change in between makes it too old, which costs a look and loses nothing.
	if err := db.r.QueryRowContext(ctx, `SELECT value FROM counters WHERE name = 'pins'`).Scan(&state); err != nil {
		return nil, 0, fmt.Errorf("read the state of the pins in catalogue: %w", err)
	}
	scan := func(rows *sql.Rows) (p Pin, err error) {
		err = rows.Scan(&p.ID, &p.Selector, &p.Type, &p.Start, &p.End, &p.Note, &p.Created)
		return p, err
	}
	pins, err = collect(ctx, db.r, db.d, scan, `SELECT id, selector, type, start_at, end_at, note, created FROM pins ORDER BY id`)
	if err != nil {
		return nil, 0, fmt.Errorf("list pins in catalogue: %w", err)
	}
	return pins, state, nil
}

// DeletePin implements Catalog.
func (db *DB) DeletePin(ctx context.Context, id int64) error {
	return db.write(ctx, "delete pin", func(t *tx) error {
		n, err := t.exec(`DELETE FROM pins WHERE id = ?`, id)
		if err == nil && n == 0 {
			err = fmt.Errorf("pin %d: %w", id, ErrNotFound)
		}
		if err != nil {
			return err
		}
		_, err = t.exec(`UPDATE counters SET value = value + 1 WHERE name = 'pins'`)
		return err
	})
}

// MarkPinned implements Catalog.
func (db *DB) MarkPinned(ctx context.Context, block string, state int64) error {
	return db.write(ctx, "mark block as pinned", func(t *tx) error {
		n, err := t.exec(`UPDATE blocks SET pinned = ? WHERE id = ?`, state, block)
		if err == nil && n == 0 {
			err = fmt.Errorf("%w: block %s is not live", ErrConflict, block)
		}
		return err
	})
}

// RetentionClock implements Catalog.
func (db *DB) RetentionClock(ctx context.Context) (int64, error) {
	var ms int64
	err := db.r.QueryRowContext(ctx, `SELECT value FROM counters WHERE name = 'retention'`).Scan(&ms)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read retention's clock in catalogue: %w", err)
	}
	return ms, nil
}

// SetRetentionClock implements Catalog.
func (db *DB) SetRetentionClock(ctx context.Context, ms int64) error {
	return db.write(ctx, "set retention's clock", func(t *tx) error {
		_, err := t.exec(`UPDATE counters SET value = ? WHERE name = 'retention'`, ms)
		return err
	})
}
