package catalog

import (
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// schemaOf describes every table with its columns and every index with its own, and the rows that migrations made.
func schemaOf(t *testing.T, db *DB) []string {
	t.Helper()
	scan := scanOne[string]
	out, err := collect(t.Context(), db.w, db.d, scan, `SELECT m.type || ' ' || m.name || ' ' || c.name || ' ' || c.type || ' ' || c."notnull" || ' ' || COALESCE(c.dflt_value, '') || ' ' || c.pk
		FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table' ORDER BY 1`)
	must(t, err)
	for _, query := range []string{`SELECT m.name || ' ' || c.name FROM sqlite_master m, pragma_index_info(m.name) c WHERE m.type = 'index' ORDER BY m.name, c.seqno`,
		`SELECT 'counter ' || name FROM counters ORDER BY name`, `SELECT 'migration ' || version || ' ' || name FROM schema_migrations ORDER BY version`} {
		more, err := collect(t.Context(), db.w, db.d, scan, query)
		must(t, err)
		out = append(out, more...)
	}
	return out
}

// TestCopyAtSchema goes back to each earlier schema: the copy is as one that was never further, and the rows are there.
func TestCopyAtSchema(t *testing.T) {
	for to := 1; to <= len(migrations); to++ {
		ctx, dir := t.Context(), t.TempDir()
		want := atSchema(t, filepath.Join(dir, "want.db"), to)
		db, err := OpenSQLite(ctx, filepath.Join(dir, "db.db"))
		must(t, err)
		must(t, db.Register(ctx, Registration{Block: &Block{ID: "a", Blob: "segments/a", Size: 7, Datasets: []Dataset{{Service: "cart", Types: []string{"cpu"}}}}, Keys: []Key{{Instance: "i", Window: 3}},
			Events: []Event{{Time: 1, Kind: "deploy", Service: "cart"}}}))
		must(t, db.Swap(ctx, []string{"a"}, []Block{{ID: "b", Blob: "blocks/b", Size: 8, Datasets: []Dataset{{Service: "cart", Types: []string{"cpu"}}}}}, time.Now()))
		must(t, db.PutCaptures(ctx, []Capture{{ID: "c", Service: "cart", Blob: "captures/c"}}))
		path := filepath.Join(dir, "copy.db")
		must(t, db.CopyAtSchema(ctx, path, to))
		must(t, db.Close())
		got := atSchema(t, path, to)
		if g, w := schemaOf(t, got), schemaOf(t, want); !slices.Equal(g, w) {
			t.Errorf("schema %d: got\n%q\nwant\n%q", to, g, w)
		}
		counts := map[string]int{"blocks": 1, "datasets": 1, "garbage": 1, "windows": 1, "events": 1}
		if to >= 3 {
			counts["captures"] = 1
		}
		for table, n := range counts {
			var rows int
			must(t, got.w.QueryRowContext(ctx, `SELECT COUNT(*) FROM `+table).Scan(&rows))
			if rows != n {
				t.Errorf("schema %d: %d rows in %s, want %d", to, rows, table, n)
			}
		}
		must(t, got.Close())
		// The way up again is open.
		again, err := OpenSQLite(ctx, path)
		must(t, err)
		blocks, err := again.Blocks(ctx, BlockFilter{})
		must(t, err)
		if len(blocks) != 1 || blocks[0].ID != "b" || len(blocks[0].Datasets) != 1 {
			t.Errorf("schema %d: after the way up again blocks are %+v", to, blocks)
		}
		must(t, again.AddEvents(ctx, []Event{{Time: 2, Kind: "deploy", Service: "cart"}}))
		must(t, again.Close())
	}
}

// atSchema opens the catalogue at path as a release does that knows the schema up to version, and makes it where it is missing.
func atSchema(t *testing.T, path string, version int) *DB {
	t.Helper()
	db, err := connect(path, "")
	must(t, err)
	t.Cleanup(func() { db.Close() })
	for range version {
		_, err := migrateStep(t.Context(), db.w, db.d, migrations[:version])
		must(t, err)
	}
	return db
}
