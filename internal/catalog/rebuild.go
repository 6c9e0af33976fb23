package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Fill makes blocks live, garbage wait to be deleted from the given time on, and deletions, those that are there too, be carried out. It is for a catalogue
// that is built anew.
func (db *DB) Fill(ctx context.Context, blocks []Block, garbage []string, deletions []Deletion, deleteAfter time.Time) error {
	return db.write(ctx, "fill", func(t *tx) error {
		for _, d := range deletions {
			if err := t.putDeletion(d); err != nil {
				return err
			}
		}
		if _, err := t.exec(`UPDATE deletions SET finished = 0`); err != nil {
			return err
		}
		for i := range blocks {
			if err := t.putBlock(&blocks[i]); err != nil {
				return err
			}
		}
		for _, name := range garbage {
			if _, err := t.exec(`INSERT INTO garbage (blob, delete_at) VALUES (?, ?) ON CONFLICT (blob) DO NOTHING`, name, deleteAfter.UnixMilli()); err != nil {
				return fmt.Errorf("insert garbage %s: %w", name, err)
			}
		}
		return nil
	})
}

// Born returns when the catalogue was created. A blob that is older was not made under it.
func (db *DB) Born(ctx context.Context) (time.Time, error) {
	var ms int64
	if err := db.r.QueryRowContext(ctx, `SELECT MIN(applied) FROM schema_migrations`).Scan(&ms); err != nil {
		return time.Time{}, fmt.Errorf("read the age of the catalogue: %w", err)
	}
	return time.UnixMilli(ms), nil
}

// notSalvaged are the tables that Salvage leaves out: what a rebuild makes anew, and what is about programs that run.
var notSalvaged = []string{"blocks", "datasets", "garbage", "leases", "holds", "schema_migrations", "build_modules", "turnover"}

// Salvaged is what Salvage got out of a damaged catalogue.
type Salvaged struct {
	Rows    map[string]int64 // by table
	Garbage []string         // blobs that it listed as garbage: they were replaced or deleted
	Lost    []string         // what could not be read, in words
}

// Salvage copies from the catalogue in the file at path, which may be damaged and which nobody may have open, whatever can be read of processes, builds,
// events, keys and the rest that is not about blocks. Rows that are there already are replaced. The error says that nothing could be read.
func (db *DB) Salvage(ctx context.Context, path string) (*Salvaged, error) {
	old, err := sql.Open("sqlite", dsn(path, "rw"))
	if err != nil {
		return nil, fmt.Errorf("salvage catalogue %s: %w", path, err)
	}
	defer old.Close()
	old.SetMaxOpenConns(1)
	tables, err := collect(ctx, old, db.d, scanOne[string], `SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name`)
	if err != nil {
		return nil, fmt.Errorf("salvage catalogue %s: %w", path, explain(err))
	}
	if !slices.Contains(tables, "schema_migrations") {
		return nil, fmt.Errorf("salvage catalogue %s: %w", path, ErrNotCatalogue)
	}
	s := &Salvaged{Rows: map[string]int64{}}
	if s.Garbage, err = collect(ctx, old, db.d, scanOne[string], `SELECT blob FROM garbage ORDER BY blob`); err != nil {
		s.Lost = append(s.Lost, fmt.Sprintf("garbage: %v", err))
	}
	known, err := collect(ctx, db.r, db.d, scanOne[string], `SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'`)
	if err != nil {
		return nil, fmt.Errorf("salvage catalogue %s: %w", path, err)
	}
	for _, table := range tables {
		if slices.Contains(notSalvaged, table) || !slices.Contains(known, table) {
			continue
		}
		rows, readErr, err := db.salvageTable(ctx, old, table)
		if err != nil {
			return nil, fmt.Errorf("salvage table %s of catalogue %s: %w", table, path, err)
		}
		if readErr != nil {
			s.Lost = append(s.Lost, fmt.Sprintf("%s: all but %d rows: %v", table, rows, readErr))
		}
		s.Rows[table] = rows
	}
	if err := db.refillModules(ctx); err != nil {
		return nil, fmt.Errorf("salvage catalogue %s: %w", path, err)
	}
	return s, nil
}

// salvageTable copies the rows of one table up to the first that cannot be read. Columns that only one of the two catalogues has are left out.
func (db *DB) salvageTable(ctx context.Context, old *sql.DB, table string) (n int64, readErr, err error) {
	names := func(q querier) ([]string, error) {
		return collect(ctx, q, db.d, scanOne[string], `SELECT name FROM pragma_table_info('`+table+`')`)
	}
	here, err := names(db.r)
	if err != nil {
		return 0, nil, err
	}
	there, err := names(old)
	if err != nil {
		return 0, err, nil
	}
	columns := slices.DeleteFunc(here, func(c string) bool { return !slices.Contains(there, c) })
	list := strings.Join(columns, ", ")
	rows, err := old.QueryContext(ctx, "SELECT "+list+" FROM "+table)
	if err != nil {
		return 0, err, nil
	}
	defer rows.Close()
	err = db.write(ctx, "salvage "+table, func(t *tx) error {
		for rows.Next() {
			values, dest := make([]any, len(columns)), make([]any, len(columns))
			for i := range values {
				dest[i] = &values[i]
			}
			if readErr = rows.Scan(dest...); readErr != nil {
				return nil
			}
			if _, err := t.exec("INSERT OR REPLACE INTO "+table+" ("+list+") VALUES ("+marks(len(columns))+")", values...); err != nil {
				if readErr = err; isConstraint(err) { // a row that a damaged file made up
					continue
				}
				return err
			}
			n++
		}
		readErr = errors.Join(readErr, rows.Err())
		return nil
	})
	return n, readErr, err
}

var (
	// ErrNotCatalogue says that a file is no catalogue of Sonde.
	ErrNotCatalogue = errors.New("it is not a catalogue of sonde")
	// ErrDamaged says that a catalogue cannot be read because its bytes are not what was written.
	ErrDamaged = errors.New("the catalogue is damaged")
)

// The result codes of SQLite that have words of our own.
const (
	sqliteCorrupt    = 11
	sqliteConstraint = 19
	sqliteNotADB     = 26
)

func sqliteCode(err error) int {
	var e interface{ Code() int }
	if errors.As(err, &e) {
		return e.Code() & 0xff
	}
	return 0
}

func isConstraint(err error) bool { return sqliteCode(err) == sqliteConstraint }

// explain says what it means that reading the schema's version failed.
func explain(err error) error {
	switch {
	case err == nil:
		return nil
	case sqliteCode(err) == sqliteNotADB, strings.Contains(err.Error(), "no such table: schema_migrations"):
		return ErrNotCatalogue
	case sqliteCode(err) == sqliteCorrupt:
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return err
}
