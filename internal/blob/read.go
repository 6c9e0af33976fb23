package blob

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/sonde-io/sonde/internal/fsys"
)

// Open implements Store.
func (f *Files) Open(ctx context.Context, name string) (Reader, error) {
	r, err := f.open(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("open blob %s: %w", name, err)
	}
	return r, nil
}

func (f *Files) open(ctx context.Context, name string) (Reader, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	st, err := f.fs.Stat(f.path(name))
	if errors.Is(err, fs.ErrNotExist) || err == nil && st.IsDir() {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	file, err := f.fs.Open(f.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	size, err := file.Size()
	if err != nil {
		file.Close()
		return nil, err
	}
	return &reader{file: file, size: size, name: name}, nil
}

type reader struct {
	file fsys.File
	size int64
	name string

	once sync.Once
	err  error
}

func (r *reader) Size() int64 { return r.size }

func (r *reader) ReadAt(p []byte, off int64) (int, error) { return r.file.ReadAt(p, off) }

func (r *reader) Close() error {
	r.once.Do(func() {
		if err := r.file.Close(); err != nil {
			r.err = fmt.Errorf("close blob %s: %w", r.name, err)
		}
	})
	return r.err
}

// List implements Store. Files whose names cannot be a blob's are passed over, and blobs deleted meanwhile may be.
func (f *Files) List(ctx context.Context, prefix string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		dir := ""
		if i := strings.LastIndexByte(prefix, '/'); i >= 0 {
			dir = prefix[:i]
			if err := CheckName(dir); err != nil {
				yield(Info{}, fmt.Errorf("list blobs %q: %w", prefix, err))
				return
			}
		}
		w := walk{f: f, ctx: ctx, prefix: prefix, yield: yield}
		if err := w.dir(dir); err != nil && !errors.Is(err, errStopped) {
			yield(Info{}, fmt.Errorf("list blobs %q: %w", prefix, err))
		}
	}
}

var errStopped = errors.New("stopped")

type walk struct {
	f      *Files
	ctx    context.Context
	prefix string
	yield  func(Info, error) bool
}

// dir yields the blobs below the directory that name stands for, in name order.
func (w *walk) dir(name string) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	entries, err := w.f.fs.ReadDir(filepath.Join(w.f.root, filepath.FromSlash(name)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	// A directory sorts as its blobs do, with the slash: "a-b" comes before "a/b".
	slices.SortFunc(entries, func(x, y fs.DirEntry) int { return strings.Compare(sortKey(x), sortKey(y)) })
	for _, e := range entries {
		if err := w.entry(path.Join(name, e.Name()), e); err != nil {
			return err
		}
	}
	return nil
}

func sortKey(e fs.DirEntry) string {
	if e.IsDir() {
		return e.Name() + "/"
	}
	return e.Name()
}

func (w *walk) entry(name string, e fs.DirEntry) error {
	if CheckName(name) != nil {
		return nil
	}
	if e.IsDir() {
		if below := name + "/"; !strings.HasPrefix(below, w.prefix) && !strings.HasPrefix(w.prefix, below) {
			return nil
		}
		return w.dir(name)
	}
	if !strings.HasPrefix(name, w.prefix) {
		return nil
	}
	st, err := e.Info()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !w.yield(Info{Name: name, Size: st.Size(), ModTime: st.ModTime()}, nil) {
		return errStopped
	}
	return nil
}
