package catalog

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
)

func (t *tx) addEvents(es []Event) error {
	if len(es) == 0 {
		return nil
	}
	var last int64
	if err := t.row(`UPDATE counters SET value = value + ? WHERE name = 'event' RETURNING value`, []any{len(es)}, &last); err != nil {
		return fmt.Errorf("number events: %w", err)
	}
	for i, e := range es {
		if told, err := t.betterEnd(e); err != nil {
			return fmt.Errorf("look for the event of the same end: %w", err)
		} else if told {
			continue
		}
		attrs, err := json.Marshal(e.Attrs)
		if err != nil {
			return err
		}
		id := last - int64(len(es)-1-i)
		if _, err := t.exec(`INSERT INTO events (id, time, kind, service, text, attrs) VALUES (?, COALESCE(NULLIF(CAST(? AS BIGINT), 0), NOW()), ?, ?, ?, ?)`,
			id, e.Time, e.Kind, e.Service, e.Text, string(attrs)); err != nil {
			return fmt.Errorf("insert event: %w", err)
		}
		if err := t.leftBy(e); err != nil {
			return fmt.Errorf("look for a restart: %w", err)
		}
	}
	return nil
}

const (
	// sameEnd is how far (ms) apart two may tell of one process's end: who watches it looks every few seconds, who waits for it knows at once.
	sameEnd = 60 * 1000
	// maxEnds bounds the events that are looked through for one of the same end.
	maxEnds = 500
)

// betterEnd makes one event of two that tell of one process's end, and reports whether that has been done with e. That the kernel killed it for its memory is the best word, then its code or
// signal.
func (t *tx) betterEnd(e Event) (told bool, err error) {
	rank, instance := endRank(e), e.Attrs["instance"]
	if rank == 0 || instance == "" || e.Time == 0 {
		return false, nil
	}
	others, err := collect(t.ctx, t.Tx, t.d, scanEvent, `SELECT id, time, kind, service, text, attrs FROM events WHERE service = ? AND time BETWEEN ? AND ? AND kind IN ('exit', 'oom_kill')
		ORDER BY time DESC LIMIT ?`, e.Service, e.Time-sameEnd, e.Time+sameEnd, maxEnds)
	if err != nil {
		return false, err
	}
	for _, o := range others {
		switch {
		case o.Attrs["instance"] != instance:
			continue
		case endRank(o) >= rank:
			return true, nil
		}
		attrs, err := json.Marshal(e.Attrs)
		if err != nil {
			return false, err
		}
		if _, err := t.exec(`UPDATE events SET time = ?, kind = ?, text = ?, attrs = ? WHERE id = ?`, e.Time, e.Kind, e.Text, string(attrs), o.ID); err != nil {
			return false, err
		}
		return true, t.leftBy(e)
	}
	return false, nil
}

// endRank says how much an event knows of a process's end; 0: it tells of none. An agent that is closed mostly means that its process ends, and not how: who saw it gone knows more.
func endRank(e Event) int {
	switch {
	case e.Kind == "oom_kill":
		return 4
	case e.Kind == "exit" && (e.Attrs["exit_code"] != "" || e.Attrs["signal"] != ""):
		return 3
	case e.Kind == "exit" && e.Attrs["by"] != "agent":
		return 2
	case e.Kind == "exit":
		return 1
	}
	return 0
}

func scanEvent(rows *sql.Rows) (Event, error) {
	var e Event
	var attrs string
	if err := rows.Scan(&e.ID, &e.Time, &e.Kind, &e.Service, &e.Text, &attrs); err != nil {
		return e, err
	}
	if err := json.Unmarshal([]byte(attrs), &e.Attrs); err != nil {
		return e, fmt.Errorf("attributes of event %d: %w", e.ID, err)
	}
	return e, nil
}

// Events implements Catalog.
func (db *DB) Events(ctx context.Context, f EventFilter) ([]Event, error) {
	query, args := `SELECT id, time, kind, service, text, attrs FROM events`, []any(nil)
	var where []string
	if f.From != 0 {
		where, args = append(where, "time >= ?"), append(args, f.From)
	}
	if f.To != 0 {
		where, args = append(where, "time < ?"), append(args, f.To)
	}
	if f.Service != "" {
		where, args = append(where, "service = ?"), append(args, f.Service)
	}
	if f.Kind != "" {
		where, args = append(where, "kind = ?"), append(args, f.Kind)
	}
	if len(where) > 0 {
		query += " WHERE " + strings.Join(where, " AND ")
	}
	query += " ORDER BY time DESC, id DESC"
	if f.Limit > 0 {
		query, args = query+" LIMIT ?", append(args, f.Limit)
	}
	es, err := collect(ctx, db.r, db.d, scanEvent, query, args...)
	if err != nil {
		return nil, fmt.Errorf("list events in catalogue: %w", err)
	}
	return es, nil
}
