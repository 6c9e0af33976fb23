package catalog

import (
	"context"
	"database/sql"
	"sync"
)

// maxStatements bounds the statements that are kept: all that are written out in this package, and some of those that are put together.
const maxStatements = 96

// statements are the statements that ran on a pool, prepared: to parse one costs more than to run it. Safe for concurrent use.
type statements struct {
	pool *sql.DB
	d    *dialect
	mu   sync.Mutex
	m    map[string]*sql.Stmt // by query as it is written here, not as the database wants it
}

// get returns the prepared statement, nil if it is not there.
func (s *statements) get(query string) *sql.Stmt {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.m[query]
}

// prepare prepares a statement and keeps it where there is room. It waits for a connection of the pool, so the caller must have none. Where it returns
// nil the statement runs unprepared.
func (s *statements) prepare(ctx context.Context, query string) *sql.Stmt {
	s.mu.Lock()
	stmt, full := s.m[query], len(s.m) >= maxStatements
	s.mu.Unlock()
	if stmt != nil || full {
		return stmt
	}
	stmt, err := s.pool.PrepareContext(ctx, s.d.sql(query))
	if err != nil {
		return nil // whoever runs it finds out why
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if other := s.m[query]; other != nil {
		stmt.Close()
		return other
	}
	if s.m == nil {
		s.m = map[string]*sql.Stmt{}
	}
	s.m[query] = stmt
	return stmt
}

// QueryContext implements querier.
func (s *statements) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if stmt := s.prepare(ctx, query); stmt != nil {
		return stmt.QueryContext(ctx, args...)
	}
	return s.pool.QueryContext(ctx, s.d.sql(query), args...)
}
