package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// Deletion is what was deleted on request: the profiles of a service or of an instance, or of an instance of a service, that start in [Start, End).
// It concerns blocks whose ID is less than its own.
type Deletion struct {
	ID         string `json:"id"` // made as the ids of blocks are
	Service    string `json:"service"`
	Instance   string `json:"instance"`
	Start, End int64  // Unix ms
	Created    int64  // Unix ms
	Finished   bool   // no live block holds any of it any more
}

// Removed counts the rows that went with a deletion.
type Removed struct {
	Processes, Keys, Events, Captures int64
}

// PutDeletion implements Catalog.
func (db *DB) PutDeletion(ctx context.Context, d Deletion) error {
	if d.Service == "" && d.Instance == "" {
		return errors.New("put deletion in catalogue: it names neither service nor instance")
	}
	return db.write(ctx, "put deletion", func(t *tx) error { return t.putDeletion(d) })
}

func (t *tx) putDeletion(d Deletion) error {
	_, err := t.exec(`INSERT INTO deletions (id, service, instance, start_at, end_at, created, finished) VALUES (?, ?, ?, ?, ?, ?, 0) ON CONFLICT (id) DO NOTHING`,
		d.ID, d.Service, d.Instance, d.Start, d.End, d.Created)
	return err
}

// Deletions implements Catalog.
func (db *DB) Deletions(ctx context.Context) ([]Deletion, error) {
	scan := func(rows *sql.Rows) (d Deletion, err error) {
		var finished int64
		err = rows.Scan(&d.ID, &d.Service, &d.Instance, &d.Start, &d.End, &d.Created, &finished)
		d.Finished = finished != 0
		return d, err
	}
	ds, err := collect(ctx, db.r, db.d, scan, `SELECT id, service, instance, start_at, end_at, created, finished FROM deletions ORDER BY id`)
	if err != nil {
		return nil, fmt.Errorf("list deletions in catalogue: %w", err)
	}
	return ds, nil
}

// FinishDeletion implements Catalog.
func (db *DB) FinishDeletion(ctx context.Context, d Deletion, seenBefore int64) (r Removed, err error) {
	err = db.write(ctx, "finish deletion", func(t *tx) error {
		r = Removed{}
		if _, err := t.exec(`UPDATE deletions SET finished = 1 WHERE id = ?`, d.ID); err != nil {
			return err
		}
		if err := t.deleteCaptures(d, &r); err != nil {
			return err
		}
		if err := t.deleteLines(d); err != nil {
			return err
		}
		if seenBefore > 0 {
			if err := t.deleteProcesses(d, seenBefore, &r); err != nil {
				return err
			}
		}
		if d.Service == "" || d.Instance != "" {
			return nil
		}
		r.Events, err = t.exec(`DELETE FROM events WHERE service = ? AND time >= ? AND time < ?`, d.Service, d.Start, d.End)
		return err
	})
	return r, err
}

// deleteProcesses removes the processes that d names, last seen before the given time, with their keys and the builds that none runs any more.
func (t *tx) deleteProcesses(d Deletion, seenBefore int64, r *Removed) (err error) {
	where, args := "last_seen < ?", []any{seenBefore}
	if d.Service != "" {
		where, args = where+" AND service = ?", append(args, d.Service)
	}
	if d.Instance != "" {
		where, args = where+" AND instance = ?", append(args, d.Instance)
	}
	if r.Keys, err = t.exec(`DELETE FROM windows WHERE instance IN (SELECT instance FROM processes WHERE `+where+`)`, args...); err != nil {
		return err
	}
	if r.Processes, err = t.exec(`DELETE FROM processes WHERE `+where, args...); err != nil {
		return err
	}
	if _, err = t.exec(`DELETE FROM turnover WHERE instance NOT IN (SELECT instance FROM processes)`); err != nil {
		return err
	}
	if _, err = t.exec(`DELETE FROM builds WHERE first_seen < ? AND id NOT IN (SELECT build_id FROM processes)`, seenBefore); err != nil {
		return err
	}
	return t.deleteOrphans()
}

// deleteCaptures removes the captures that d names and that were asked for in its range; their blobs become garbage.
func (t *tx) deleteCaptures(d Deletion, r *Removed) (err error) {
	end := d.End
	if d.Created > 0 { // what was taken after it was asked for is none of it, also where it is carried out again
		end = min(end, d.Created)
	}
	where, args := "created >= ? AND created < ?", []any{d.Start, end}
	if d.Service != "" {
		where, args = where+" AND service = ?", append(args, d.Service)
	}
	if d.Instance != "" {
		where, args = where+" AND instance = ?", append(args, d.Instance)
	}
	if _, err = t.exec(`INSERT INTO garbage (blob, delete_at) SELECT blob, NOW() FROM captures WHERE blob <> '' AND `+where+` ON CONFLICT (blob) DO NOTHING`, args...); err != nil {
		return err
	}
	r.Captures, err = t.exec(`DELETE FROM captures WHERE `+where, args...)
	return err
}

// ForgetDeletion implements Catalog.
func (db *DB) ForgetDeletion(ctx context.Context, id string) error {
	return db.write(ctx, "forget deletion", func(t *tx) error {
		_, err := t.exec(`DELETE FROM deletions WHERE id = ?`, id)
		return err
	})
}
