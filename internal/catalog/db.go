package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"
)

// ErrReadOnly says that the catalogue was opened with ReadSQLite.
var ErrReadOnly = errors.New("catalogue is open for reading only")

// DB is a Catalog in an SQL database.
type DB struct {
	w, r     *sql.DB // the writer's one connection, and those that read
	d        *dialect
	readOnly bool
	writes   statements // of w
	reads    statements // of r
	highest  highest

	closing  sync.Once
	closeErr error
}

var _ Catalog = (*DB)(nil)

// Close implements Catalog. It waits for transactions in flight and may be called twice.
func (db *DB) Close() error {
	db.closing.Do(func() {
		// The writer last: SQLite moves the WAL into the database when the last connection closes.
		if err := errors.Join(db.r.Close(), db.w.Close()); err != nil {
			db.closeErr = fmt.Errorf("close catalogue: %w", err)
		}
	})
	return db.closeErr
}

// errAgain makes write repeat its transaction: another writer changed what it had read.
var errAgain = errors.New("changed by another writer")

// tx is a transaction that writes.
type tx struct {
	*sql.Tx
	ctx   context.Context
	d     *dialect
	kept  *statements
	stmts map[string]*sql.Stmt // what ran already
	fresh []string             // what had to be prepared for this transaction alone
}

// write runs fn in one transaction and commits it. ctx ends the wait for the writer's turn; once begun, a transaction is short and runs to its end,
// so that whoever cancels learns what became of it.
func (db *DB) write(ctx context.Context, what string, fn func(t *tx) error) error {
	if db.readOnly {
		return fmt.Errorf("%s: %w", what, ErrReadOnly)
	}
	const tries = 5
	err := errAgain
	for n := 0; n < tries && errors.Is(err, errAgain); n++ {
		err = db.writeOnce(ctx, fn)
	}
	if isFull(err) {
		err = fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	if err != nil {
		return fmt.Errorf("%s in catalogue: %w", what, err)
	}
	return nil
}

func (db *DB) writeOnce(ctx context.Context, fn func(t *tx) error) error {
	growStack(0)
	fresh, err := db.transact(ctx, fn)
	for _, query := range fresh { // the connection is free again
		db.writes.prepare(context.WithoutCancel(ctx), query)
	}
	return err
}

// growStack makes the goroutine's stack as large as SQLite needs it. The goroutine that writes a segment is a new one, and a stack that doubles again and again while
// SQLite's many frames are on it is copied each time: 75 µs for every segment.
//
//go:noinline
func growStack(i int) byte {
	var room [16 << 10]byte
	return room[i]
}

// transact runs fn in one transaction, commits it, and returns the statements that were new.
func (db *DB) transact(ctx context.Context, fn func(t *tx) error) (fresh []string, err error) {
	conn, err := db.w.Conn(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	ctx = context.WithoutCancel(ctx)
	sqlTx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer sqlTx.Rollback() // does nothing after the commit
	t := &tx{Tx: sqlTx, ctx: ctx, d: db.d, kept: &db.writes, stmts: map[string]*sql.Stmt{}}
	if err := fn(t); err != nil {
		return t.fresh, err
	}
	return t.fresh, sqlTx.Commit()
}

// stmt returns query prepared. The end of the transaction closes it.
func (t *tx) stmt(query string) (*sql.Stmt, error) {
	if s := t.stmts[query]; s != nil {
		return s, nil
	}
	if kept := t.kept.get(query); kept != nil {
		s := t.StmtContext(t.ctx, kept)
		t.stmts[query] = s
		return s, nil
	}
	s, err := t.PrepareContext(t.ctx, t.d.sql(query))
	if err == nil {
		t.stmts[query], t.fresh = s, append(t.fresh, query)
	}
	return s, err
}

// exec runs a statement and returns how many rows it changed.
func (t *tx) exec(query string, args ...any) (int64, error) {
	s, err := t.stmt(query)
	if err != nil {
		return 0, err
	}
	res, err := s.ExecContext(t.ctx, args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// row runs a query for one row. The error is sql.ErrNoRows if there is none.
func (t *tx) row(query string, args []any, dest ...any) error {
	s, err := t.stmt(query)
	if err != nil {
		return err
	}
	return s.QueryRowContext(t.ctx, args...).Scan(dest...)
}

// querier is a pool or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// collect runs a query and reads each row with scan.
func collect[T any](ctx context.Context, q querier, d *dialect, scan func(rows *sql.Rows) (T, error), query string, args ...any) ([]T, error) {
	rows, err := q.QueryContext(ctx, d.sql(query), args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []T
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, rows.Err()
}

// scanOne reads rows of one column.
func scanOne[T any](rows *sql.Rows) (T, error) {
	var v T
	err := rows.Scan(&v)
	return v, err
}

// Now implements Catalog.
func (db *DB) Now(ctx context.Context) (time.Time, error) {
	var ms int64
	if err := db.r.QueryRowContext(ctx, db.d.sql("SELECT NOW()")).Scan(&ms); err != nil {
		return time.Time{}, fmt.Errorf("read the catalogue's clock: %w", err)
	}
	return time.UnixMilli(ms), nil
}

// now returns the database's clock.
func (t *tx) now() (int64, error) {
	var ms int64
	err := t.row("SELECT NOW()", nil, &ms)
	return ms, err
}

// Check implements Catalog.
func (db *DB) Check(ctx context.Context) ([]string, error) {
	queries := append([]string{
		`SELECT 'block ' || id || ' holds no service' FROM blocks WHERE NOT EXISTS (SELECT 1 FROM datasets WHERE block_id = id)`,
		`SELECT 'blob ' || blob || ' is live and waits to be deleted' FROM garbage WHERE blob IN (SELECT blob FROM blocks)`,
		`SELECT 'blob ' || blob || ' of a capture waits to be deleted' FROM garbage WHERE blob IN (SELECT blob FROM captures)`,
	}, db.d.check...)
	var problems []string
	for _, query := range queries {
		found, err := collect(ctx, db.r, db.d, scanOne[string], query)
		if err != nil {
			return nil, fmt.Errorf("check catalogue: %w", explain(err))
		}
		for _, p := range found {
			if p != "ok" {
				problems = append(problems, p)
			}
		}
	}
	return problems, nil
}
