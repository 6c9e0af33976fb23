package catalog

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/sonde-io/sonde/internal/fsys"
)

// readers is how many connections read at the same time. A read of the WAL is CPU-bound, so more would only queue for the cores.
const readers = 4

// pragmas apply to every connection.
//
// synchronous=FULL is what makes a commit durable: with WAL's usual NORMAL, commits since the last checkpoint are gone after a power
// loss. fullfsync does the same on macOS, where a plain fsync stops at the disk's cache. Another process may hold the write lock for as long as
// it checkpoints, hence the long busy_timeout (ms). journal_size_limit (bytes) lets the WAL shrink again after a long read held it up.
//
// page_size (bytes) is for new files: each table and each index takes a page at least, a commit writes whole pages, and the WAL grows to 1,000 of them.
var pragmas = []string{"busy_timeout(15000)", "foreign_keys(1)", "fullfsync(1)", "journal_size_limit(67108864)", "page_size(1024)", "synchronous(FULL)"}

// OpenSQLite opens the catalogue in the file at path, creates it where it is missing and brings its schema up to date. Several processes may
// have it open. A schema newer than this program knows yields an error that wraps ErrNewerSchema.
func OpenSQLite(ctx context.Context, path string) (*DB, error) {
	db, err := openSQLite(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("open catalogue %s: %w", path, err)
	}
	return db, nil
}

func openSQLite(ctx context.Context, path string) (*DB, error) {
	// SQLite would create the file readable by all, and its WAL with the same mode.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	db, err := connect(path, "")
	if err != nil {
		return nil, err
	}
	err = migrate(ctx, db.w, db.d)
	if err == nil {
		err = db.fillModules(ctx)
	}
	if err != nil {
		db.Close()
		return nil, err
	}
	// SQLite syncs the directory for its WAL but not for the database file itself.
	if err := (fsys.OS{}).SyncDir(filepath.Dir(path)); err != nil {
		db.Close()
		return nil, err
	}
	return db, nil
}

// ReadSQLite opens the catalogue at path for reading only: it creates and migrates nothing, and methods that write return ErrReadOnly. Another
// process may be writing. The error wraps fs.ErrNotExist if there is no such file.
func ReadSQLite(ctx context.Context, path string) (*DB, error) {
	db, err := readSQLite(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("read catalogue %s: %w", path, err)
	}
	return db, nil
}

func readSQLite(ctx context.Context, path string) (*DB, error) {
	if st, err := os.Stat(path); err != nil {
		return nil, err
	} else if st.IsDir() {
		return nil, fmt.Errorf("is a directory: %w", fs.ErrInvalid)
	}
	db, err := connect(path, "rw")
	if err != nil {
		return nil, err
	}
	db.readOnly = true
	if err := checkSchema(ctx, db.r, db.d); err != nil {
		db.Close()
		return nil, err
	}
	return db, nil
}

// connect opens the two pools: one connection that writes, because SQLite has one writer and waiting in line here is cheaper than there, and
// some that read.
func connect(path, mode string) (*DB, error) {
	w, err := sql.Open("sqlite", dsn(path, mode, "_txlock=immediate"))
	if err != nil {
		return nil, err
	}
	w.SetMaxOpenConns(1)
	r, err := sql.Open("sqlite", dsn(path, mode, "_pragma=query_only(1)"))
	if err != nil {
		w.Close()
		return nil, err
	}
	r.SetMaxOpenConns(readers)
	r.SetMaxIdleConns(readers)
	return &DB{w: w, r: r, d: &sqlite, writes: statements{pool: w, d: &sqlite}, reads: statements{pool: r, d: &sqlite}}, nil
}

func dsn(path, mode string, more ...string) string {
	params := append([]string{"_journal_mode=WAL"}, more...) // the driver applies it after the pragmas, which it sorts; a page size must come before
	if mode != "" {
		params = append(params, "mode="+mode)
	}
	for _, p := range pragmas {
		params = append(params, "_pragma="+p)
	}
	// Escaped, because a path may have a ? in it. "file:a/b" is relative as a/b is.
	u := url.URL{Path: filepath.ToSlash(filepath.Clean(path))}
	return "file:" + u.EscapedPath() + "?" + strings.Join(params, "&")
}
