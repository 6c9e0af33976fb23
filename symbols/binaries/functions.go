package binaries

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/sonde-io/sonde/symbols/pclntab"
)

// Functions are the names of the functions of a Go program; *pclntab.Table has them, and so has a list of them.
type Functions interface {
	// EachName calls fn with every name, in no order that means anything, until fn returns false.
	EachName(fn func(name string) bool)
	Close() error
}

// Bounds of the lists of functions that are kept.
const (
	listSuffix = ".functions"
	maxLists   = 16_384
	listBlock  = 4096 // bytes that a list counts with at least
)

// buildID is the form of the id of a build, which becomes a file's name.
var buildID = regexp.MustCompile(`^[0-9a-f]{8,128}$`)

// ErrBuildID says that a text is no id of a build.
var ErrBuildID = errors.New("not the id of a build: want 8 to 128 hex digits")

// CheckBuildID returns an error that wraps ErrBuildID where id is none.
func CheckBuildID(id string) error {
	if !buildID.MatchString(id) {
		return fmt.Errorf("%.64q is %w", id, ErrBuildID)
	}
	return nil
}

// Functions opens the names of the functions of the Go binary with a build id: of a copy, of a local process's own file while that is there, or of a list. The caller closes it. The error
// wraps os.ErrNotExist where there is none of them, and what pclntab says of a binary that is no Go program or of a Go version that it does not know. Unlike a frame's question it makes
// no binary wanted.
func (s *Store) Functions(id string) (Functions, error) {
	t, err := s.table(id)
	if err == nil {
		return t, nil
	}
	if l, lerr := s.list(id); lerr == nil {
		return l, nil
	} else if !errors.Is(lerr, os.ErrNotExist) {
		err = errors.Join(err, lerr)
	}
	return nil, fmt.Errorf("open functions of build %s: %w", id, err)
}

// table opens the function table of a binary.
func (s *Store) table(id string) (*pclntab.Table, error) {
	s.mu.Lock()
	path, copied := s.candidates[id], s.files[id]
	s.mu.Unlock()
	if copied != nil {
		return pclntab.Open(copied.path)
	}
	if path == "" {
		return nil, fmt.Errorf("no such binary: %w", os.ErrNotExist)
	}
	// The path may be another file's by now: a process ended, and its id was given to the next.
	f, _, ids, err := identifyFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", os.ErrNotExist, err)
	}
	defer f.Close()
	if !slices.Contains(ids.all(), id) {
		return nil, fmt.Errorf("%s is another binary now: %w", path, os.ErrNotExist)
	}
	return pclntab.Open(fmt.Sprintf("/proc/self/fd/%d", f.Fd())) // the file that was looked at, whatever is at its path; only Linux has local processes
}

// list is an open list of functions, which was read to its end before.
type list struct{ f *os.File }

// EachName implements Functions.
func (l list) EachName(fn func(name string) bool) {
	// It was whole when it was opened, and files here are never written to.
	_, _ = readList(io.NewSectionReader(l.f, 0, maxListFile), func(name []byte) bool { return fn(string(name)) })
}

// Close implements Functions.
func (l list) Close() error { return l.f.Close() }

// list opens the list of a build. One that is damaged is deleted, so that it comes again.
func (s *Store) list(id string) (list, error) {
	f, err := s.openList(id)
	if err != nil {
		return list{}, err
	}
	if _, err := readList(io.NewSectionReader(f, 0, maxListFile), func([]byte) bool { return true }); err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		if l := s.lists[id]; l != nil {
			s.remove(l)
			err = errors.Join(err, os.Remove(l.path))
		}
		return list{}, errors.Join(fmt.Errorf("read list of functions: %w", err), f.Close())
	}
	return list{f}, nil
}

// openList opens the file of the list of a build, which is in use from now.
func (s *Store) openList(id string) (*os.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lists[id]
	if l == nil || s.closed {
		return nil, fmt.Errorf("no such list of functions: %w", os.ErrNotExist)
	}
	s.use(l)
	return os.Open(l.path)
}

// use notes that f is in use, to the hour. s.mu is held.
func (s *Store) use(f *file) {
	if now := s.cfg.Now(); now.Sub(f.used) > time.Hour {
		f.used = now
		_ = os.Chtimes(f.path, now, now) // only for the order in which files go
	}
}

// MissingFunctions returns the ids of those builds of which there is neither a binary nor a list. The lists of the others are in use: somebody runs these builds.
func (s *Store) MissingFunctions(ids []string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	missing := []string{}
	for _, id := range ids {
		switch {
		case s.files[id] != nil:
		case s.lists[id] != nil:
			s.use(s.lists[id])
		default:
			missing = append(missing, id)
		}
	}
	return missing
}

// PutFunctions takes the list of the functions of a build from r, which is read to its end. It replaces the one that there is. The error wraps ErrBuildID or ErrBadList, is a
// *LimitError, or says why nothing can be kept.
func (s *Store) PutFunctions(ctx context.Context, id string, r io.Reader) error {
	if err := CheckBuildID(id); err != nil {
		return err
	}
	return s.keepList(ctx, id, func(w io.Writer) error {
		_, err := readList(io.TeeReader(r, w), func([]byte) bool { return ctx.Err() == nil })
		return err
	})
}

// FunctionList opens the list of the functions of a build, and makes it of the binary where there is none yet. The error is as that of Functions, or a *LimitError. The caller closes
// the file.
func (s *Store) FunctionList(ctx context.Context, id string) (*os.File, error) {
	if err := CheckBuildID(id); err != nil {
		return nil, err
	}
	if l, err := s.list(id); err == nil {
		return l.f, nil
	}
	t, err := s.table(id)
	if err != nil {
		return nil, fmt.Errorf("list functions of build %s: %w", id, err)
	}
	defer t.Close()
	if err := s.keepList(ctx, id, func(w io.Writer) error { return listOf(ctx, s.cfg.Dir, t, w) }); err != nil {
		return nil, fmt.Errorf("list functions of build %s: %w", id, err)
	}
	return s.openList(id)
}

// listOf writes the list of functions to w. What it cannot hold in memory it keeps in dir meanwhile.
func listOf(ctx context.Context, dir string, functions Functions, w io.Writer) (err error) {
	names := &sorter{dir: dir}
	defer func() { err = errors.Join(err, names.close()) }()
	functions.EachName(func(name string) bool {
		if err = ctx.Err(); err == nil {
			err = names.add(name)
		}
		return err == nil
	})
	if err != nil {
		return err
	}
	return writeList(w, names.each)
}

// keepList makes what write writes the list of a build.
func (s *Store) keepList(ctx context.Context, id string, write func(io.Writer) error) error {
	tmp, err := os.CreateTemp(s.cfg.Dir, tempPattern)
	if err != nil {
		return fmt.Errorf("keep list of functions: %w", err)
	}
	defer os.Remove(tmp.Name()) // gone once it is renamed
	defer tmp.Close()
	counted := &boundedWriter{bounded: bounded{maxListFile, errListFile}, w: tmp}
	if err := write(counted); counted.failed != nil {
		return fmt.Errorf("keep list of functions: %w", counted.failed)
	} else if err != nil {
		return err
	}
	if err := errors.Join(ctx.Err(), tmp.Sync(), tmp.Close()); err != nil {
		return fmt.Errorf("keep list of functions: %w", err)
	}
	l := newList(id, maxListFile-counted.left)
	l.path, l.used = filepath.Join(s.cfg.Dir, id+listSuffix), s.cfg.Now()
	if l.bytes > s.cfg.MaxBytes {
		return &LimitError{"max_binaries_bytes", s.cfg.MaxBytes}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fmt.Errorf("keep list of functions: %w", os.ErrClosed)
	}
	if err := os.Rename(tmp.Name(), l.path); err != nil {
		return fmt.Errorf("keep list of functions: %w", err)
	}
	if old := s.lists[id]; old != nil {
		s.remove(old)
	}
	s.insertList(l)
	return s.makeRoom(l)
}

// newList is a list whose file has so many bytes.
func newList(id string, bytes int64) *file {
	return &file{list: id, bytes: max((bytes+listBlock-1)/listBlock*listBlock, listBlock)}
}

// parseList reads the name of a list's file, nil where it is none.
func parseList(name string, bytes int64) *file {
	id, ok := strings.CutSuffix(name, listSuffix)
	if !ok || !buildID.MatchString(id) {
		return nil
	}
	return newList(id, bytes)
}

// insertList makes l known. s.mu is held, or nobody else has s.
func (s *Store) insertList(l *file) {
	s.lists[l.list] = l
	s.bytes += l.bytes
}

// remove forgets f, whose file somebody deletes. s.mu is held.
func (s *Store) remove(f *file) {
	s.bytes -= f.bytes
	if f.list != "" {
		delete(s.lists, f.list)
		return
	}
	for _, name := range f.ids.all() {
		if s.files[name] == f {
			delete(s.files, name)
		}
	}
}
