package catalog

import (
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
)

func TestOpenAgainKeepsWhatIsThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "catalog.db")
	for _, id := range []string{"a", "b", "c"} {
		db, err := OpenSQLite(t.Context(), path)
		must(t, err)
		register(t, db, block(id, 0, 1, 2, "s"))
		must(t, db.Close())
		must(t, db.Close())
	}
	db := openAt(t, path)
	got, err := db.Blocks(t.Context(), BlockFilter{})
	if err != nil || ids(got) != "a b c" {
		t.Errorf("Blocks = %q, %v, want a b c", ids(got), err)
	}
	if n := schemaVersion(t, db.r); n != len(migrations) {
		t.Errorf("schema version %d, want %d", n, len(migrations))
	}
}

func schemaVersion(t *testing.T, db *sql.DB) (n int) {
	t.Helper()
	must(t, db.QueryRow(`SELECT COUNT(*) FROM schema_migrations`).Scan(&n))
	return n
}

func TestProgramsThatStartAtOnceMigrateOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "catalog.db")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			db, err := OpenSQLite(t.Context(), path)
			if err != nil {
				t.Errorf("open: %v", err)
				return
			}
			defer db.Close()
			if err := db.AddEvents(t.Context(), []Event{{Kind: "start"}}); err != nil {
				t.Errorf("write: %v", err)
			}
		})
	}
	wg.Wait()
	es, err := openAt(t, path).Events(t.Context(), EventFilter{})
	if err != nil || len(es) != 8 {
		t.Errorf("%d events, %v, want 8", len(es), err)
	}
}

func TestNewerSchemaIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "catalog.db")
	db, err := OpenSQLite(t.Context(), path)
	must(t, err)
	_, err = db.w.Exec(`INSERT INTO schema_migrations (version, name, applied) VALUES (99, 'from the future', 0)`)
	must(t, err)
	must(t, db.Close())
	for name, open := range map[string]func() (*DB, error){
		"OpenSQLite": func() (*DB, error) { return OpenSQLite(t.Context(), path) },
		"ReadSQLite": func() (*DB, error) { return ReadSQLite(t.Context(), path) },
	} {
		_, err := open()
		if !errors.Is(err, ErrNewerSchema) || !strings.Contains(err.Error(), "99") || !strings.Contains(err.Error(), path) {
			t.Errorf("%s = %v, want ErrNewerSchema with version 99 and the path", name, err)
		}
	}
}

func TestNotACatalogue(t *testing.T) {
	path := filepath.Join(t.TempDir(), "catalog.db")
	must(t, os.WriteFile(path, []byte(strings.Repeat("this is not a database\n", 100)), 0o600))
	if _, err := OpenSQLite(t.Context(), path); err == nil {
		t.Error("OpenSQLite of a text file: no error")
	}
	must(t, os.WriteFile(path, nil, 0o600))
	if _, err := ReadSQLite(t.Context(), path); !errors.Is(err, ErrNotCatalogue) {
		t.Errorf("ReadSQLite of an empty file = %v", err)
	}
}

// TestAFailedMigrationLeavesTheOldSchema runs a good and a bad step on top of the real ones.
func TestAFailedMigrationLeavesTheOldSchema(t *testing.T) {
	db := open(t)
	good := migration{"good", `CREATE TABLE extra (n BIGINT NOT NULL); INSERT INTO extra (n) VALUES (1);`}
	bad := migration{"bad", `INSERT INTO extra (n) VALUES (2); INSERT INTO nowhere (n) VALUES (1);`}
	all := append(append([]migration(nil), migrations...), good, bad)
	more, err := migrateStep(t.Context(), db.w, db.d, all)
	if err != nil || !more {
		t.Fatalf("good step = %v, %v", more, err)
	}
	if _, err := migrateStep(t.Context(), db.w, db.d, all); err == nil || !strings.Contains(err.Error(), "run bad") {
		t.Errorf("bad step = %v, want an error that names it", err)
	}
	var n int
	must(t, db.w.QueryRow(`SELECT COUNT(*) FROM extra`).Scan(&n))
	if v := schemaVersion(t, db.w); n != 1 || v != len(all)-1 {
		t.Errorf("%d rows at version %d, want 1 at %d: a failed step changes nothing", n, v, len(all)-1)
	}
}

func TestMigrationNumbersHaveNoGap(t *testing.T) {
	for name, files := range map[string]fstest.MapFS{
		"gap":       {"migrations/0001_a.sql": {}, "migrations/0003_b.sql": {}},
		"twice":     {"migrations/0001_a.sql": {}, "migrations/0001_b.sql": {}},
		"no number": {"migrations/a.sql": {}},
	} {
		if _, err := loadMigrations(files); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestPlaceholders(t *testing.T) {
	postgres := dialect{name: "postgres", numbered: true, now: "clock()"}
	if got := postgres.sql(`SELECT ? WHERE a IN (` + marks(2) + `) AND b < NOW()`); got != `SELECT $1 WHERE a IN ($2, $3) AND b < clock()` {
		t.Errorf("sql = %q", got)
	}
	if got := postgres.sql(`CREATE TABLE t (a TEXT) WITHOUT ROWID;`); got != `CREATE TABLE t (a TEXT);` {
		t.Errorf("sql = %q", got)
	}
}
