package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// BuildStore is what is kept of builds, and asked of them.
type BuildStore interface {
	// PutBuilds inserts builds that are new, and of others what was not known before.
	PutBuilds(ctx context.Context, bs []Build) error
	// Build returns one build, or ErrNotFound.
	Build(ctx context.Context, id string) (Build, error)
	// BuildIDs returns the ids that begin with prefix, of builds and of what processes run, sorted, at most limit.
	BuildIDs(ctx context.Context, prefix string, limit int) ([]string, error)
	// Builds returns the builds that processes of service ran ("" for all), first seen first.
	Builds(ctx context.Context, service string) ([]Build, error)
	// BuildHeads returns all builds without their Info, first seen first: of many builds the texts are hundreds of megabytes.
	BuildHeads(ctx context.Context) ([]BuildHead, error)
	// BuildUses returns who ran which build, of the processes last seen at or after since (Unix ms), sorted by service, then the one seen last first; build "" is all, at most limit.
	BuildUses(ctx context.Context, build string, since int64, limit int) ([]BuildUse, error)
	// BuildsWith returns who has the module at path in it, compiled or declared, by build id. An empty path is every module that is declared or compiled anywhere.
	BuildsWith(ctx context.Context, path string) ([]BuildModule, error)
	// Modules returns the main modules of those builds, without the rest of them, sorted, at most limit.
	Modules(ctx context.Context, service string, limit int) ([]string, error)
}

// BuildHead is a build without its text.
type BuildHead struct {
	Build      // Info is empty
	Known bool // whether there is a text
}

// BuildUse is what the processes of one service did with one build.
type BuildUse struct {
	Service, Build, Version string // Version is the service's, "" where no process says one
	GoVersion               string // as its processes say, for builds of which nothing else is known
	Processes               int    // one that several see counts for each
	Running                 int    // those that nobody saw end and that were seen within the last minutes
	First, Last             int64  // Unix ms
}

// BuildModule is a module of a build.
type BuildModule struct {
	Build   string
	Path    string // of what was compiled
	Version string // of what was compiled; "" for a folder, and for a main module without one
	Main    bool
	// Declared and DeclaredVersion are what go.mod asks for where that was replaced, else "".
	Declared, DeclaredVersion string
}

const buildColumns = `id, go_build_id, gnu_build_id, go_version, module, version, info, first_seen, size, stripped`

// putBuilds inserts the builds that are new, and adds to the others what was not known. A zero FirstSeen is the database's clock.
func (t *tx) putBuilds(bs []Build) error {
	for i := range bs {
		if bs[i].ID == "" {
			return errors.New("put build: it has no id")
		}
		if err := t.putBuild(&bs[i]); err != nil {
			return fmt.Errorf("put build %s: %w", bs[i].ID, err)
		}
	}
	return nil
}

func (t *tx) putBuild(b *Build) error {
	n, err := t.exec(`INSERT INTO builds (`+buildColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, COALESCE(NULLIF(CAST(? AS BIGINT), 0), NOW()), ?, ?) ON CONFLICT (id) DO NOTHING`,
		b.ID, b.GoBuildID, b.GNUBuildID, b.GoVersion, b.Module, b.Version, b.Info, b.FirstSeen, b.Size, b.Stripped)
	if err != nil {
		return err
	}
	if n == 0 { // mostly there is nothing to add, and then nothing is written
		n, err = t.exec(`UPDATE builds SET
			go_build_id = COALESCE(NULLIF(go_build_id, ''), ?), gnu_build_id = COALESCE(NULLIF(gnu_build_id, ''), ?), go_version = COALESCE(NULLIF(go_version, ''), ?),
			module = COALESCE(NULLIF(module, ''), ?), version = COALESCE(NULLIF(version, ''), ?), modules = CASE WHEN info = '' THEN -1 ELSE modules END,
			info = COALESCE(NULLIF(info, ''), ?), size = COALESCE(NULLIF(size, 0), ?), stripped = COALESCE(NULLIF(stripped, ''), ?)
			WHERE id = ? AND (go_build_id = '' AND ? <> '' OR gnu_build_id = '' AND ? <> '' OR go_version = '' AND ? <> '' OR info = '' AND ? <> ''
				OR size = 0 AND CAST(? AS BIGINT) <> 0 OR stripped = '' AND ? <> '')`,
			b.GoBuildID, b.GNUBuildID, b.GoVersion, b.Module, b.Version, b.Info, b.Size, b.Stripped,
			b.ID, b.GoBuildID, b.GNUBuildID, b.GoVersion, b.Info, b.Size, b.Stripped)
		if err != nil || n == 0 {
			return err
		}
	}
	return t.putModules(b.ID)
}

func scanBuild(rows *sql.Rows) (Build, error) {
	var b Build
	err := rows.Scan(&b.ID, &b.GoBuildID, &b.GNUBuildID, &b.GoVersion, &b.Module, &b.Version, &b.Info, &b.FirstSeen, &b.Size, &b.Stripped)
	return b, err
}

// Build implements BuildStore.
func (db *DB) Build(ctx context.Context, id string) (Build, error) {
	bs, err := collect(ctx, db.r, db.d, scanBuild, `SELECT `+buildColumns+` FROM builds WHERE id = ?`, id)
	if err == nil && len(bs) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return Build{}, fmt.Errorf("read build %s: %w", id, err)
	}
	return bs[0], nil
}

// BuildIDs implements BuildStore.
func (db *DB) BuildIDs(ctx context.Context, prefix string, limit int) ([]string, error) {
	end := prefix + "\U0010FFFF" // after all that begins with prefix
	ids, err := collect(ctx, db.r, db.d, scanOne[string], `SELECT id FROM builds WHERE id >= ? AND id < ?
		UNION SELECT build_id FROM processes WHERE build_id >= ? AND build_id < ? AND build_id <> '' ORDER BY 1 LIMIT ?`, prefix, end, prefix, end, limit)
	if err != nil {
		return nil, fmt.Errorf("list ids of builds in catalogue: %w", err)
	}
	return ids, nil
}

// Builds implements BuildStore.
func (db *DB) Builds(ctx context.Context, service string) ([]Build, error) {
	query, args := `SELECT `+buildColumns+` FROM builds`, []any(nil)
	if service != "" {
		query += ` WHERE EXISTS (SELECT 1 FROM processes p WHERE p.service = ? AND p.build_id = builds.id)`
		args = []any{service}
	}
	bs, err := collect(ctx, db.r, db.d, scanBuild, query+` ORDER BY first_seen, id`, args...)
	if err != nil {
		return nil, fmt.Errorf("list builds in catalogue: %w", err)
	}
	return bs, nil
}

// BuildHeads implements BuildStore.
func (db *DB) BuildHeads(ctx context.Context) ([]BuildHead, error) {
	scan := func(rows *sql.Rows) (h BuildHead, err error) {
		var known int
		err = rows.Scan(&h.ID, &h.GoBuildID, &h.GNUBuildID, &h.GoVersion, &h.Module, &h.Version, &h.FirstSeen, &h.Size, &h.Stripped, &known)
		h.Known = known != 0
		return h, err
	}
	hs, err := collect(ctx, db.r, db.d, scan, `SELECT id, go_build_id, gnu_build_id, go_version, module, version, first_seen, size, stripped, CASE WHEN info = '' THEN 0 ELSE 1 END
		FROM builds ORDER BY first_seen, id`)
	if err != nil {
		return nil, fmt.Errorf("list builds in catalogue: %w", err)
	}
	return hs, nil
}

// runningFor is how long (ms) a process counts as running that nobody saw end and that was not seen again.
const runningFor = 5 * 60 * 1000

// BuildUses implements BuildStore.
func (db *DB) BuildUses(ctx context.Context, build string, since int64, limit int) ([]BuildUse, error) {
	scan := func(rows *sql.Rows) (u BuildUse, err error) {
		err = rows.Scan(&u.Service, &u.Build, &u.Version, &u.GoVersion, &u.Processes, &u.Running, &u.First, &u.Last)
		return u, err
	}
	where, args := `build_id <> ''`, []any{since}
	if build != "" {
		where, args = `build_id = ?`, []any{since, build}
	}
	us, err := collect(ctx, db.r, db.d, scan, `SELECT service, build_id, version, MAX(go_version), COUNT(*), SUM(CASE WHEN `+notEnded+` AND last_seen >= NOW() - `+fmt.Sprint(runningFor)+` THEN 1 ELSE 0 END),
			MIN(CASE WHEN started > 0 THEN started ELSE first_seen END), MAX(last_seen)
		FROM processes WHERE last_seen >= ? AND `+where+` GROUP BY service, build_id, version
		ORDER BY service, MAX(last_seen) DESC, MAX(first_seen) DESC, build_id, version LIMIT ?`, append(args, limit)...)
	if err != nil {
		return nil, fmt.Errorf("list uses of builds in catalogue: %w", err)
	}
	return us, nil
}

// Modules implements BuildStore.
func (db *DB) Modules(ctx context.Context, service string, limit int) ([]string, error) {
	query, args := `SELECT DISTINCT module FROM builds WHERE module <> ''`, []any(nil)
	if service != "" {
		query += ` AND id IN (SELECT build_id FROM processes WHERE service = ?)`
		args = append(args, service)
	}
	ms, err := collect(ctx, db.r, db.d, scanOne[string], query+` ORDER BY module LIMIT ?`, append(args, limit)...)
	if err != nil {
		return nil, fmt.Errorf("list modules in catalogue: %w", err)
	}
	return ms, nil
}
