package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"
)

// The states of a capture.
const (
	CaptureAsked   = "asked"   // it waits for its turn, or for its process's executor
	CaptureRunning = "running" // an executor has it
	CaptureDone    = "done"    // it is stored
	CaptureFailed  = "failed"  // the executor said why not
	CaptureExpired = "expired" // nobody delivered it in time
	CaptureShadow  = "shadow"  // it was only said what would have been done
)

// Capture is something that was taken, or is to be taken, of one process on demand or by a trigger.
type Capture struct {
	ID          string `json:"id"`
	Request     string `json:"request"` // shared by those that were asked for, or claimed, at once
	Kind        string `json:"kind"`    // cpu, heap, goroutines, trace, …
	Service     string `json:"service"`
	Instance    string `json:"instance"`
	Build       string `json:"build"`
	Host        string `json:"host"`
	Trigger     string `json:"trigger"` // the rule's name; "": somebody asked
	Reason      string `json:"reason"`  // in words
	State       string `json:"state"`
	Error       string `json:"error"`
	Attempt     int    `json:"attempt"`  // from 1: a lost executor's capture may be asked of another process
	Spread      string `json:"-"`        // what of its service was asked for: one, all; "" for a trigger's
	Created     int64  `json:"created"`  // Unix ms, as Started, Finished, Deadline, From and To
	Started     int64  `json:"started"`  // 0: not yet
	Finished    int64  `json:"finished"` // 0: not yet
	Deadline    int64  `json:"deadline"` // when it is given up; 0: it does not run
	Duration    int64  `json:"duration"` // ms that were asked for; 0: a moment
	From        int64  `json:"from"`     // what it covers
	To          int64  `json:"to"`
	Size        int64  `json:"size"` // bytes
	Blob        string `json:"-"`    // "": none
	ContentType string `json:"content_type"`
}

// CaptureFilter selects captures. Zero fields select all.
type CaptureFilter struct {
	Request  string
	Service  string
	Instance string
	Kind     string
	Trigger  string
	States   []string
	From, To int64 // created in [From, To)
	Limit    int
}

// CaptureClaim says that a trigger has taken its capture of a build.
type CaptureClaim struct {
	Service, Build, Trigger string
	Request                 string // of the captures
	Instance                string // that took them
	Taken, Until            int64  // Unix ms
}

// CaptureStore is the part of a catalogue that keeps captures.
type CaptureStore interface {
	// PutCaptures inserts captures; those that are there are left as they are.
	PutCaptures(ctx context.Context, cs []Capture) error
	// StartCapture makes a capture that was asked for run; ErrConflict where it does not wait any more.
	StartCapture(ctx context.Context, id string, started, deadline int64) error
	// FinishCapture sets what c says of state, error, times, size, blob and content type. It is ErrConflict where the capture is done already, or is not known. Where none of a claim's
	// captures was done and none is under way, the claim is taken back, so that another process may take them.
	FinishCapture(ctx context.Context, c Capture) error
	// Capture returns one capture, or ErrNotFound.
	Capture(ctx context.Context, id string) (Capture, error)
	// Captures returns the captures that f selects, newest first.
	Captures(ctx context.Context, f CaptureFilter) ([]Capture, error)
	// ClaimCaptures inserts cs unless a claim of the same service, build and trigger is in force by the database's clock, and makes a claim of c for the given time. It returns the claim in
	// force and whether it is this one.
	ClaimCaptures(ctx context.Context, c CaptureClaim, cs []Capture, cooldown time.Duration) (CaptureClaim, bool, error)
	// ExpireCaptures removes captures that ended before the given time (Unix ms), then the oldest ended ones over maxBytes in all and over maxRows; their blobs become garbage. 0 keeps all.
	ExpireCaptures(ctx context.Context, before, maxBytes int64, maxRows int) (removed int64, err error)
	// CaptureBytes returns how many captures are stored and their bytes.
	CaptureBytes(ctx context.Context) (n, bytes int64, err error)
}

const captureColumns = `id, request, kind, service, instance, build, host, trigger_name, reason, state, error, attempt, spread, created, started, finished, deadline, duration, from_at, to_at, size, blob, content_type`

func scanCapture(rows *sql.Rows) (c Capture, err error) {
	err = rows.Scan(&c.ID, &c.Request, &c.Kind, &c.Service, &c.Instance, &c.Build, &c.Host, &c.Trigger, &c.Reason, &c.State, &c.Error, &c.Attempt, &c.Spread,
		&c.Created, &c.Started, &c.Finished, &c.Deadline, &c.Duration, &c.From, &c.To, &c.Size, &c.Blob, &c.ContentType)
	return c, err
}

// PutCaptures implements CaptureStore.
func (db *DB) PutCaptures(ctx context.Context, cs []Capture) error {
	return db.write(ctx, "put captures", func(t *tx) error { return t.putCaptures(cs) })
}

func (t *tx) putCaptures(cs []Capture) error {
	for _, c := range cs {
		if c.ID == "" {
			return errors.New("a capture has no id")
		}
		if _, err := t.exec(`INSERT INTO captures (`+captureColumns+`) VALUES (`+marks(23)+`) ON CONFLICT (id) DO NOTHING`,
			c.ID, c.Request, c.Kind, c.Service, c.Instance, c.Build, c.Host, c.Trigger, c.Reason, c.State, c.Error, c.Attempt, c.Spread,
			c.Created, c.Started, c.Finished, c.Deadline, c.Duration, c.From, c.To, c.Size, c.Blob, c.ContentType); err != nil {
			return fmt.Errorf("insert capture %s: %w", c.ID, err)
		}
	}
	return nil
}

// StartCapture implements CaptureStore.
func (db *DB) StartCapture(ctx context.Context, id string, started, deadline int64) error {
	return db.write(ctx, "start capture", func(t *tx) error {
		n, err := t.exec(`UPDATE captures SET state = 'running', started = ?, deadline = ? WHERE id = ? AND state = 'asked'`, started, deadline, id)
		if err == nil && n == 0 {
			err = fmt.Errorf("%w: capture %s does not wait", ErrConflict, id)
		}
		return err
	})
}

// FinishCapture implements CaptureStore.
func (db *DB) FinishCapture(ctx context.Context, c Capture) error {
	return db.write(ctx, "finish capture", func(t *tx) error {
		n, err := t.exec(`UPDATE captures SET state = ?, error = ?, finished = ?, from_at = ?, to_at = ?, size = ?, blob = ?, content_type = ? WHERE id = ? AND state <> 'done'`,
			c.State, c.Error, c.Finished, c.From, c.To, c.Size, c.Blob, c.ContentType, c.ID)
		if err == nil && n == 0 {
			err = fmt.Errorf("%w: capture %s is done or not known", ErrConflict, c.ID)
		}
		if err != nil || c.State == CaptureDone {
			return err
		}
		_, err = t.exec(`DELETE FROM claims WHERE request = ? AND NOT EXISTS (SELECT 1 FROM captures c WHERE c.request = claims.request AND c.state NOT IN ('failed', 'expired'))`, c.Request)
		return err
	})
}

// Capture implements CaptureStore.
func (db *DB) Capture(ctx context.Context, id string) (Capture, error) {
	cs, err := collect(ctx, db.r, db.d, scanCapture, `SELECT `+captureColumns+` FROM captures WHERE id = ?`, id)
	if err == nil && len(cs) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return Capture{}, fmt.Errorf("read capture %s: %w", id, err)
	}
	return cs[0], nil
}

// Captures implements CaptureStore.
func (db *DB) Captures(ctx context.Context, f CaptureFilter) ([]Capture, error) {
	query, args := `SELECT `+captureColumns+` FROM captures`, []any(nil)
	var where []string
	add := func(condition string, arg any) { where, args = append(where, condition), append(args, arg) }
	for _, c := range []struct{ column, value string }{{"request", f.Request}, {"service", f.Service}, {"instance", f.Instance}, {"kind", f.Kind}, {"trigger_name", f.Trigger}} {
		if c.value != "" {
			add(c.column+" = ?", c.value)
		}
	}
	if len(f.States) > 0 {
		where = append(where, "state IN ("+marks(len(f.States))+")")
		for _, s := range f.States {
			args = append(args, s)
		}
	}
	if f.From != 0 {
		add("created >= ?", f.From)
	}
	if f.To != 0 {
		add("created < ?", f.To)
	}
	if len(where) > 0 {
		query += " WHERE " + strings.Join(where, " AND ")
	}
	query += " ORDER BY created DESC, id DESC"
	if f.Limit > 0 {
		query, args = query+" LIMIT ?", append(args, f.Limit)
	}
	cs, err := collect(ctx, db.r, db.d, scanCapture, query, args...)
	if err != nil {
		return nil, fmt.Errorf("list captures in catalogue: %w", err)
	}
	return cs, nil
}

// ClaimCaptures implements CaptureStore.
func (db *DB) ClaimCaptures(ctx context.Context, c CaptureClaim, cs []Capture, cooldown time.Duration) (in CaptureClaim, granted bool, err error) {
	err = db.write(ctx, "claim captures", func(t *tx) error {
		// The WHERE decides and the row is locked while it does, so of four hundred takers one changes it.
		n, err := t.exec(`INSERT INTO claims (service, build, trigger_name, request, instance, taken, until) VALUES (?, ?, ?, ?, ?, NOW(), NOW() + CAST(? AS BIGINT))
			ON CONFLICT (service, build, trigger_name) DO UPDATE SET request = excluded.request, instance = excluded.instance, taken = excluded.taken, until = excluded.until
			WHERE claims.until <= NOW()`, c.Service, c.Build, c.Trigger, c.Request, c.Instance, cooldown.Milliseconds())
		if err != nil {
			return err
		}
		in = CaptureClaim{Service: c.Service, Build: c.Build, Trigger: c.Trigger}
		if err := t.row(`SELECT request, instance, taken, until FROM claims WHERE service = ? AND build = ? AND trigger_name = ?`, []any{c.Service, c.Build, c.Trigger},
			&in.Request, &in.Instance, &in.Taken, &in.Until); err != nil {
			return err
		}
		if granted = n == 1; !granted {
			return nil
		}
		return t.putCaptures(cs)
	})
	return in, granted && err == nil, err
}

// over selects the captures that ended and are not among the newest that may stay.
const over = `SELECT id FROM (SELECT id, finished, SUM(size) OVER (ORDER BY created DESC, id DESC) AS bytes, ROW_NUMBER() OVER (ORDER BY created DESC, id DESC) AS n FROM captures) x
	WHERE finished > 0 AND (finished < ? OR bytes > ? OR n > ?)`

// ExpireCaptures implements CaptureStore.
func (db *DB) ExpireCaptures(ctx context.Context, before, maxBytes int64, maxRows int) (removed int64, err error) {
	if maxBytes <= 0 {
		maxBytes = 1<<63 - 1
	}
	rows := int64(maxRows)
	if rows <= 0 {
		rows = 1<<63 - 1
	}
	err = db.write(ctx, "expire captures", func(t *tx) error {
		if _, err := t.exec(`INSERT INTO garbage (blob, delete_at) SELECT blob, NOW() FROM captures WHERE blob <> '' AND id IN (`+over+`) ON CONFLICT (blob) DO NOTHING`, before, maxBytes, rows); err != nil {
			return err
		}
		if removed, err = t.exec(`DELETE FROM captures WHERE id IN (`+over+`)`, before, maxBytes, rows); err != nil {
			return err
		}
		// A claim whose time is over decides nothing any more.
		_, err = t.exec(`DELETE FROM claims WHERE until <= NOW()`)
		return err
	})
	return removed, err
}

// CaptureBytes implements CaptureStore.
func (db *DB) CaptureBytes(ctx context.Context) (n, bytes int64, err error) {
	if err := db.r.QueryRowContext(ctx, `SELECT COUNT(*), COALESCE(SUM(size), 0) FROM captures WHERE blob <> ''`).Scan(&n, &bytes); err != nil {
		return 0, 0, fmt.Errorf("count captures in catalogue: %w", err)
	}
	return n, bytes, nil
}
