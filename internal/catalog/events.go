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
