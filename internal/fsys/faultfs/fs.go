package faultfs

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sonde-io/sonde/internal/fsys"
)

// FS is the file system. Its root exists; relative paths start there too.
type FS struct {
	mu     sync.Mutex
	root   *node
	faults []*Fault
	counts map[Op]int
	fired  int
	dead   bool
	life   int // counts Kill and PowerLoss: files of an earlier life are dead
	now    func() time.Time
}

var _ fsys.FS = (*FS)(nil)

// New returns an empty file system.
func New() *FS { return &FS{root: newDir(), counts: map[Op]int{}, now: time.Now} }

// SetNow sets the clock of modification times; nil is time.Now.
func (m *FS) SetNow(now func() time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if now == nil {
		now = time.Now
	}
	m.now = now
}

// do runs one operation on path under the lock, with its faults.
func (m *FS) do(op Op, name, path string, work func() error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	v := m.before(op)
	err := v.err
	if err == nil || v.late {
		if workErr := work(); workErr != nil {
			err = workErr
		}
	}
	if err != nil {
		return &fs.PathError{Op: name, Path: path, Err: err}
	}
	return nil
}

// Create implements fsys.FS.
func (m *FS) Create(path string) (fsys.File, error) {
	var f *file
	err := m.do(Create, "create", path, func() error {
		dir, base, err := m.parent(path)
		if err != nil {
			return err
		}
		n := dir.entries[base]
		switch {
		case n == nil:
			n = &node{}
			dir.set(base, n)
		case n.isDir():
			return syscall.EISDIR
		default:
			n.data, n.synced, n.lost = nil, 0, false
		}
		n.mod = m.now()
		f = &file{m: m, n: n, path: path, write: true, life: m.life}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Open implements fsys.FS.
func (m *FS) Open(path string) (fsys.File, error) {
	var f *file
	err := m.do(Open, "open", path, func() error {
		n, err := m.lookup(path)
		if err != nil {
			return err
		}
		f = &file{m: m, n: n, path: path, life: m.life}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Rename implements fsys.FS.
func (m *FS) Rename(oldPath, newPath string) error {
	err := m.do(Rename, "rename", oldPath, func() error {
		from, oldBase, err := m.parent(oldPath)
		if err != nil {
			return err
		}
		to, newBase, err := m.parent(newPath)
		if err != nil {
			return err
		}
		n := from.entries[oldBase]
		if n == nil {
			return fs.ErrNotExist
		}
		if was := to.entries[newBase]; was != nil && was.isDir() {
			return fs.ErrExist
		}
		if from == to {
			from.move(oldBase, newBase, n)
			return nil
		}
		to.set(newBase, n)
		from.unset(oldBase)
		return nil
	})
	if err != nil {
		return &os.LinkError{Op: "rename", Old: oldPath, New: newPath, Err: errors.Unwrap(err)}
	}
	return nil
}

// Remove implements fsys.FS.
func (m *FS) Remove(path string) error {
	return m.do(Remove, "remove", path, func() error {
		dir, base, err := m.parent(path)
		if err != nil {
			return err
		}
		n := dir.entries[base]
		if n == nil {
			return fs.ErrNotExist
		}
		if len(n.entries) > 0 {
			return syscall.ENOTEMPTY
		}
		dir.unset(base)
		return nil
	})
}

// MkdirAll implements fsys.FS.
func (m *FS) MkdirAll(path string) error {
	return m.do(Mkdir, "mkdir", path, func() error {
		d := m.root
		for _, name := range split(path) {
			next := d.entries[name]
			if next == nil {
				next = newDir()
				next.mod = m.now()
				d.set(name, next)
			}
			if !next.isDir() {
				return syscall.ENOTDIR
			}
			d = next
		}
		return nil
	})
}

// ReadDir implements fsys.FS.
func (m *FS) ReadDir(path string) ([]fs.DirEntry, error) {
	var out []fs.DirEntry
	err := m.do(ReadDir, "readdir", path, func() error {
		d, err := m.lookup(path)
		if err != nil {
			return err
		}
		if !d.isDir() {
			return syscall.ENOTDIR
		}
		for _, name := range slices.Sorted(maps.Keys(d.entries)) {
			out = append(out, fs.FileInfoToDirEntry(d.entries[name].info(name)))
		}
		return nil
	})
	return out, err
}

// Stat implements fsys.FS.
func (m *FS) Stat(path string) (fs.FileInfo, error) {
	var fi fs.FileInfo
	err := m.do(Stat, "stat", path, func() error {
		n, err := m.lookup(path)
		if err != nil {
			return err
		}
		fi = n.info(filepath.Base(path))
		return nil
	})
	return fi, err
}

// SyncDir implements fsys.FS.
func (m *FS) SyncDir(path string) error {
	return m.do(SyncDir, "syncdir", path, func() error {
		d, err := m.lookup(path)
		if err != nil {
			return err
		}
		if !d.isDir() {
			return syscall.ENOTDIR
		}
		d.durable, d.log = maps.Clone(d.entries), nil
		return nil
	})
}

// lookup finds what path names.
func (m *FS) lookup(path string) (*node, error) {
	n := m.root
	for _, name := range split(path) {
		if !n.isDir() {
			return nil, syscall.ENOTDIR
		}
		next := n.entries[name]
		if next == nil {
			return nil, fs.ErrNotExist
		}
		n = next
	}
	return n, nil
}

// parent finds the directory that holds path, and path's name in it.
func (m *FS) parent(path string) (*node, string, error) {
	parts := split(path)
	if len(parts) == 0 {
		return nil, "", fs.ErrInvalid
	}
	last := len(parts) - 1
	d, err := m.lookup(strings.Join(parts[:last], string(filepath.Separator)))
	if err != nil {
		return nil, "", err
	}
	if !d.isDir() {
		return nil, "", syscall.ENOTDIR
	}
	return d, parts[last], nil
}

func split(path string) []string {
	clean := filepath.Clean(string(filepath.Separator) + path)
	return strings.FieldsFunc(clean, func(r rune) bool { return r == filepath.Separator })
}
