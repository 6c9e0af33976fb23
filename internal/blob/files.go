package blob

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/sonde-io/sonde/internal/fsys"
)

// tempSuffix ends the name of a file that is being written. A blob is written under such a name, synced, renamed and the directory synced, in
// this order, because a file that is written in place would be seen half-written by a reader and after a crash; one that is renamed before its
// bytes are synced can be empty or full of zeros after a power loss although its name is right; and one whose directory is not synced can
// be missing after a power loss although it was acked. What a crash leaves behind therefore carries the suffix and is removed at the next open.
const tempSuffix = ".tmp"

var (
	// ErrNoSpace says that the disk or the quota is full. The error that wraps it names the cure.
	ErrNoSpace = errors.New("no space left for blobs")
	// ErrReadOnly says that the store was opened with ReadFiles.
	ErrReadOnly = errors.New("blob store is open for reading only")
)

// Files is a Store of files below one directory, a blob's name being its path.
type Files struct {
	fs       fsys.FS
	root     string
	readOnly bool
	temps    atomic.Uint64 // makes names of temporary files unique

	mu      sync.Mutex
	durable map[string]bool // directories whose entries up to the root are known to be synced
}

var _ Store = (*Files)(nil)

// OpenFiles opens the store in dir for reading and writing, creates dir where it is missing, and removes what interrupted writes left behind.
// No other process may have dir open for writing.
func OpenFiles(fsy fsys.FS, dir string) (*Files, error) {
	f := &Files{fs: fsy, root: filepath.Clean(dir), durable: map[string]bool{}}
	if err := f.makeRoot(); err != nil {
		return nil, fmt.Errorf("open blob store: %w", f.explain(err))
	}
	if err := f.removeLeftovers(f.root); err != nil {
		return nil, fmt.Errorf("open blob store: remove leftovers: %w", err)
	}
	return f, nil
}

// ReadFiles opens the store in dir for reading only; it changes nothing on disk, so another process may be writing. The error wraps
// fs.ErrNotExist if there is no dir.
func ReadFiles(fsy fsys.FS, dir string) (*Files, error) {
	f := &Files{fs: fsy, root: filepath.Clean(dir), readOnly: true}
	st, err := fsy.Stat(f.root)
	if err != nil {
		return nil, fmt.Errorf("open blob store: %w", err)
	}
	if !st.IsDir() {
		return nil, fmt.Errorf("open blob store: %s is not a directory", f.root)
	}
	return f, nil
}

// makeRoot creates the root durably, with the directories above it that are missing. Those that are there may have been made a moment ago by the
// caller and not been synced, so they are synced too as far as we may: one that can be entered but not read cannot be opened for it.
func (f *Files) makeRoot() error {
	type ancestor struct {
		dir     string
		changed bool // something new comes into it
	}
	var ancestors []ancestor
	for dir := f.root; filepath.Dir(dir) != dir; dir = filepath.Dir(dir) {
		_, err := f.fs.Stat(dir)
		ancestors = append(ancestors, ancestor{filepath.Dir(dir), err != nil})
	}
	if err := f.fs.MkdirAll(f.root); err != nil {
		return err
	}
	for _, a := range ancestors {
		if err := f.fs.SyncDir(a.dir); err != nil && a.changed {
			return err
		}
	}
	f.durable[f.root] = true
	return nil
}

func (f *Files) removeLeftovers(dir string) error {
	entries, err := f.fs.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		switch {
		case e.IsDir():
			err = f.removeLeftovers(path)
		case strings.HasSuffix(e.Name(), tempSuffix):
			err = f.fs.Remove(path)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (f *Files) path(name string) string { return filepath.Join(f.root, filepath.FromSlash(name)) }

// Put implements Store. An error wraps ErrNoSpace where the disk is full. If the sync of the directory fails and the removal that
// follows fails too, the blob may show up again after a power loss, whole: it is then an orphan that no catalogue knows.
func (f *Files) Put(ctx context.Context, name string, data []byte) error {
	if err := f.put(ctx, name, data); err != nil {
		return fmt.Errorf("put blob %s (%d bytes): %w", name, len(data), f.explain(err))
	}
	return nil
}

func (f *Files) put(ctx context.Context, name string, data []byte) error {
	if f.readOnly {
		return ErrReadOnly
	}
	if err := CheckName(name); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	path := f.path(name)
	dir := filepath.Dir(path)
	if err := f.makeDir(dir); err != nil {
		return err
	}
	// Names are never used twice, so the file could be written under its own at once, and a half-written one left by a crash would be an orphan. But whoever
	// lists blobs, to rebuild the catalogue from them above all, takes each for whole, and the rename costs 30 µs of 250.
	temp := fmt.Sprintf("%s.%d%s", path, f.temps.Add(1), tempSuffix)
	if err := f.writeSynced(temp, data); err != nil {
		f.fs.Remove(temp) // best effort: the next open removes it otherwise
		return err
	}
	err := f.fs.Rename(temp, path)
	if err == nil {
		err = f.fs.SyncDir(dir)
	}
	if err != nil {
		// Whether the rename took place, and whether it reached the disk, is not known. So both names go, durably.
		f.fs.Remove(temp)
		f.fs.Remove(path)
		f.fs.SyncDir(dir)
	}
	return err
}

// writeSynced creates the file path with data, synced.
func (f *Files) writeSynced(path string, data []byte) error {
	file, err := f.fs.Create(path)
	if err != nil {
		return err
	}
	if _, err = file.Write(data); err == nil {
		err = file.Sync()
	}
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	return err
}

// makeDir creates dir and makes its name durable, and those of the directories between it and the root.
func (f *Files) makeDir(dir string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.durable[dir] {
		return nil
	}
	if err := f.fs.MkdirAll(dir); err != nil {
		return err
	}
	// A directory that is there already may have been made by a Put that died before it synced, so existence alone proves nothing.
	var made []string
	for d := dir; !f.durable[d]; d = filepath.Dir(d) {
		if err := f.fs.SyncDir(filepath.Dir(d)); err != nil {
			return err
		}
		made = append(made, d)
	}
	for _, d := range made {
		f.durable[d] = true
	}
	return nil
}

// explain adds the cure to the errors that have one.
func (f *Files) explain(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w (free space in %s, or keep less: lower the size or the age of the retention)", ErrNoSpace, err, f.root)
	}
	return err
}

// Delete implements Store. When it returns nil the blob stays deleted.
func (f *Files) Delete(ctx context.Context, name string) error {
	if err := f.remove(ctx, name); err != nil {
		return fmt.Errorf("delete blob %s: %w", name, err)
	}
	return nil
}

func (f *Files) remove(ctx context.Context, name string) error {
	if f.readOnly {
		return ErrReadOnly
	}
	if err := CheckName(name); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	path := f.path(name)
	err := f.fs.Remove(path)
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing {
		return err
	}
	// Also where it was missing: an earlier Delete may have removed it and failed to sync.
	if err := f.fs.SyncDir(filepath.Dir(path)); err != nil && !(missing && errors.Is(err, fs.ErrNotExist)) {
		return err
	}
	return nil
}
