package discover

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// procfs reads files of a mounted proc by descriptors relative to its root: no path is walked twice, and nothing is allocated
// for a file that is only looked at.
type procfs struct {
	root string
	dir  *os.File
	fd   int
}

// exeKey says which file a process runs. A file that is replaced gets another inode or another mtime.
type exeKey struct {
	dev, ino uint64
	mtime    int64 // ns
}

func openProc(root string) (*procfs, error) {
	dir, err := os.Open(root)
	if err != nil {
		return nil, fmt.Errorf("open proc: %w", err)
	}
	p := &procfs{root: root, dir: dir, fd: int(dir.Fd())}
	if _, err := p.read("stat", make([]byte, 4096)); err != nil {
		dir.Close()
		return nil, fmt.Errorf("open proc: %s is not a mounted proc: %w", root, err)
	}
	return p, nil
}

func (p *procfs) close() error { return p.dir.Close() }

// pids returns the process ids, in the order of the directory.
func (p *procfs) pids(buf []int) ([]int, error) {
	if _, err := p.dir.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	names, err := p.dir.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	buf = buf[:0]
	for _, n := range names {
		if n[0] < '1' || n[0] > '9' {
			continue
		}
		if pid, err := strconv.Atoi(n); err == nil {
			buf = append(buf, pid)
		}
	}
	return buf, nil
}

// exe follows PID/exe.
func (p *procfs) exe(pid int) (exeKey, error) { return p.statFile(strconv.Itoa(pid) + "/exe") }

// statFile follows name, which may be absolute.
func (p *procfs) statFile(name string) (exeKey, error) {
	var st unix.Stat_t
	if err := ignoringEINTR(func() error { return unix.Fstatat(p.fd, name, &st, 0) }); err != nil {
		return exeKey{}, err
	}
	return exeKey{dev: st.Dev, ino: st.Ino, mtime: st.Mtim.Nano()}, nil
}

// namespace returns the inode of a namespace (pid, net) of a process.
func (p *procfs) namespace(pid, kind string) (uint64, error) {
	k, err := p.statFile(pid + "/ns/" + kind)
	return k.ino, err
}

// read reads at most len(buf) bytes of a file.
func (p *procfs) read(name string, buf []byte) ([]byte, error) {
	return p.readUntil(name, buf, func([]byte) bool { return false })
}

// readUntil is read that ends once enough says so of what was read so far. Files of /proc are made as they are read, a few kilobytes at a time.
func (p *procfs) readUntil(name string, buf []byte, enough func([]byte) bool) ([]byte, error) {
	var fd int
	err := ignoringEINTR(func() (err error) {
		fd, err = unix.Openat(p.fd, name, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		return err
	})
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: filepath.Join(p.root, name), Err: err}
	}
	defer unix.Close(fd)
	n := 0
	for n < len(buf) {
		var m int
		err := ignoringEINTR(func() (err error) { m, err = unix.Read(fd, buf[n:]); return err })
		if err != nil {
			return nil, &fs.PathError{Op: "read", Path: filepath.Join(p.root, name), Err: err}
		}
		if m <= 0 {
			break
		}
		n += m
		if enough(buf[:n]) {
			break
		}
	}
	return buf[:n], nil
}

// sockets calls yield with the inode of each socket among the first maxFDs descriptors of a process, until yield says no.
func (p *procfs) sockets(pid int, yield func(inode uint64) bool) error {
	name := strconv.Itoa(pid) + "/fd"
	dir, err := os.Open(filepath.Join(p.root, name))
	if err != nil {
		return err
	}
	defer dir.Close()
	dirfd := int(dir.Fd())
	var buf [64]byte
	for left := maxFDs; left > 0; {
		names, err := dir.Readdirnames(min(left, 1024))
		left -= len(names)
		for _, fd := range names {
			n, err := unix.Readlinkat(dirfd, fd, buf[:])
			if err != nil {
				continue // closed since
			}
			if inode, ok := socketInode(buf[:n]); ok && !yield(inode) {
				return nil
			}
		}
		if errors.Is(err, io.EOF) || len(names) == 0 {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// portFile reads the port file of a gops agent inside the file system that the process sees. Its links are followed inside of that only, and nothing but
// a regular file is read: a process cannot make the scanner open files of its choice elsewhere, or wait for a pipe.
func (p *procfs) portFile(pid int, name string) ([]byte, error) {
	root, err := os.OpenRoot(filepath.Join(p.root, strconv.Itoa(pid), "root"))
	if err != nil {
		return nil, err
	}
	defer root.Close()
	rel, err := filepath.Rel("/", name)
	if err != nil {
		return nil, err
	}
	f, err := root.OpenFile(rel, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return nil, fmt.Errorf("read %s: not a regular file", name)
	}
	buf := make([]byte, 16)
	n, err := io.ReadFull(f, buf)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	return buf[:n], nil
}

func ignoringEINTR(f func() error) error {
	for {
		if err := f(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
