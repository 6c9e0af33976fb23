package catalog

import (
	"context"
	"database/sql"
	"fmt"
	"runtime/debug"
)

// maxModules bounds the modules of one build that are kept; the largest programs have a tenth of that.
const maxModules = 10_000

// modulesOf returns the modules that a build's info lists, none where it cannot be read. Of a path that comes twice the first is meant.
func modulesOf(id, info string) []BuildModule {
	mod, err := debug.ParseBuildInfo(info)
	if err != nil {
		return nil
	}
	var out []BuildModule
	if mod.Main.Path != "" {
		out = append(out, moduleOf(id, &mod.Main))
		out[0].Main = true
	}
	for _, d := range mod.Deps {
		if d != nil && d.Path != "" && len(out) < maxModules {
			out = append(out, moduleOf(id, d))
		}
	}
	return out
}

// moduleOf returns what was compiled for m: where a folder takes a module's place, code of that path without a version.
func moduleOf(id string, m *debug.Module) BuildModule {
	b := BuildModule{Build: id, Path: m.Path, Version: m.Version}
	if r := m.Replace; r != nil {
		b.Declared, b.DeclaredVersion = m.Path, m.Version
		if b.Version = r.Version; r.Version != "" {
			b.Path = r.Path
		}
	}
	if b.Version == "(devel)" {
		b.Version = ""
	}
	return b
}

// putModules makes the rows of a build's modules anew, if nobody has since its info is known.
func (t *tx) putModules(id string) error {
	var info string
	var have int
	if err := t.row(`SELECT info, modules FROM builds WHERE id = ?`, []any{id}, &info, &have); err != nil {
		return err
	}
	if have >= 0 {
		return nil
	}
	ms := modulesOf(id, info)
	for _, m := range ms {
		main := 0
		if m.Main {
			main = 1
		}
		if _, err := t.exec(`INSERT INTO build_modules (path, build_id, version, main, declared, declared_version) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (path, build_id) DO NOTHING`,
			m.Path, id, m.Version, main, m.Declared, m.DeclaredVersion); err != nil {
			return fmt.Errorf("insert module %s: %w", m.Path, err)
		}
	}
	_, err := t.exec(`UPDATE builds SET modules = ? WHERE id = ?`, len(ms), id)
	return err
}

// fillModules makes the rows of builds that an earlier release stored.
func (db *DB) fillModules(ctx context.Context) error {
	ids, err := collect(ctx, db.r, db.d, scanOne[string], `SELECT id FROM builds WHERE modules < 0`)
	if err != nil || len(ids) == 0 {
		return err
	}
	return db.write(ctx, "read the modules of builds", func(t *tx) error {
		for _, id := range ids {
			if err := t.putModules(id); err != nil {
				return fmt.Errorf("build %s: %w", id, err)
			}
		}
		return nil
	})
}

// refillModules makes the rows of all builds anew.
func (db *DB) refillModules(ctx context.Context) error {
	err := db.write(ctx, "forget the modules of builds", func(t *tx) error {
		_, err := t.exec(`UPDATE builds SET modules = -1`)
		return err
	})
	if err != nil {
		return err
	}
	return db.fillModules(ctx)
}

// deleteOrphans removes the modules of builds, and the conditions of processes, that are not there any more.
func (t *tx) deleteOrphans() error {
	for _, query := range []string{
		`DELETE FROM build_modules WHERE build_id NOT IN (SELECT id FROM builds)`,
		`DELETE FROM conditions WHERE id NOT IN (SELECT conditions FROM processes)`,
	} {
		if _, err := t.exec(query); err != nil {
			return err
		}
	}
	return nil
}

// BuildsWith implements BuildStore.
func (db *DB) BuildsWith(ctx context.Context, path string) ([]BuildModule, error) {
	scan := func(rows *sql.Rows) (m BuildModule, err error) {
		var main int
		err = rows.Scan(&m.Build, &m.Path, &m.Version, &main, &m.Declared, &m.DeclaredVersion)
		m.Main = main != 0
		return m, err
	}
	query, args := `SELECT build_id, path, version, main, declared, declared_version FROM build_modules`, []any(nil)
	if path != "" {
		// Two indices, where OR would read the whole table.
		query, args = query+` WHERE path = ? UNION `+query+` WHERE declared = ? AND declared <> ''`, []any{path, path}
	}
	ms, err := collect(ctx, db.r, db.d, scan, query+` ORDER BY 1, 2`, args...)
	if err != nil {
		return nil, fmt.Errorf("list builds with module %s in catalogue: %w", path, err)
	}
	return ms, nil
}
