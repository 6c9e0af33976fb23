package faultfs

import (
	"io"
	"io/fs"
	"syscall"
)

type file struct {
	m      *FS
	n      *node
	path   string
	write  bool
	life   int
	closed bool
}

// do runs one operation on f under the file system's lock, with its faults.
func (f *file) do(op Op, name string, work func(v verdict) error) error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	var err error
	switch {
	case f.closed:
		err = fs.ErrClosed
	case f.life != f.m.life:
		err = ErrDead
	default:
		v := f.m.before(op)
		if err = work(v); err == nil {
			err = v.err
		}
	}
	if err != nil && err != io.EOF {
		return &fs.PathError{Op: name, Path: f.path, Err: err}
	}
	return err
}

func (f *file) Write(p []byte) (int, error) {
	n := 0
	err := f.do(Write, "write", func(v verdict) error {
		if !f.write {
			return syscall.EBADF
		}
		switch {
		case v.err == nil || v.late:
			n = len(p)
		case v.short:
			n = len(p) / 2
		}
		f.n.data = append(f.n.data, p[:n]...)
		f.n.mod = f.m.now()
		return nil
	})
	return n, err
}

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	n := 0
	err := f.do(ReadAt, "read", func(v verdict) error {
		if v.err != nil {
			return nil
		}
		if f.n.isDir() {
			return syscall.EISDIR
		}
		if off < 0 {
			return fs.ErrInvalid
		}
		if off < int64(len(f.n.data)) {
			n = copy(p, f.n.data[off:])
		}
		if n < len(p) {
			return io.EOF
		}
		return nil
	})
	return n, err
}

func (f *file) Sync() error {
	return f.do(Sync, "sync", func(v verdict) error {
		if v.err != nil && !v.late {
			f.n.lost = true
		}
		if !f.n.lost {
			f.n.synced = len(f.n.data)
		}
		return nil
	})
}

func (f *file) Size() (int64, error) {
	var size int64
	err := f.do(Stat, "stat", func(v verdict) error {
		size = int64(len(f.n.data))
		return nil
	})
	return size, err
}

// Close closes f even where it fails, as close(2) does.
func (f *file) Close() error {
	return f.do(Close, "close", func(verdict) error {
		f.closed = true
		return nil
	})
}
