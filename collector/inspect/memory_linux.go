package inspect

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// process is a process that is being read. Its directory in /proc, once open, is that process's and never that of another with the same pid.
type process struct {
	pid    int
	dir    *os.File
	local  []unix.Iovec
	remote []unix.RemoteIovec
}

// openProcess opens the process with that pid.
func openProcess(pid int) (*process, error) {
	dir, err := os.Open("/proc/" + strconv.Itoa(pid))
	if errors.Is(err, os.ErrNotExist) {
		return nil, errGone
	}
	if err != nil {
		return nil, err
	}
	return &process{pid: pid, dir: dir}, nil
}

func (p *process) close() { p.dir.Close() }

// file opens a file of the process's directory.
func (p *process) file(name string) (*os.File, error) {
	fd, err := unix.Openat(int(p.dir.Fd()), name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENOENT) {
		return nil, errGone
	}
	if err != nil {
		return nil, fmt.Errorf("open /proc/%d/%s: %w", p.pid, name, err)
	}
	return os.NewFile(uintptr(fd), "/proc/"+strconv.Itoa(p.pid)+"/"+name), nil
}

// exe returns what tells the binary that the process runs from others.
func (p *process) exe() (exeID, error) {
	var st unix.Stat_t
	err := unix.Fstatat(int(p.dir.Fd()), "exe", &st, 0)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENOENT) {
		return exeID{}, errGone
	}
	if err != nil {
		return exeID{}, fmt.Errorf("look at /proc/%d/exe: %w", p.pid, err)
	}
	return exeID{uint64(st.Dev), st.Ino, st.Mtim.Nano(), st.Size}, nil
}

// entry returns the address at which the process's binary was started, which says where it was loaded.
func (p *process) entry() (uint64, error) {
	const atEntry = 9
	f, err := p.file("auxv")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var b [1024]byte
	n, err := f.Read(b[:])
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, fmt.Errorf("read /proc/%d/auxv: %w", p.pid, err)
	}
	for i := 0; i+16 <= n; i += 16 {
		if le.Uint64(b[i:]) == atEntry {
			return le.Uint64(b[i+8:]), nil
		}
	}
	return 0, fmt.Errorf("read /proc/%d/auxv: %w", p.pid, errStarting)
}

// alive returns errGone unless the process that was opened still runs the same binary: then all that was read was that process's.
func (p *process) alive(id exeID) error {
	now, err := p.exe()
	if err == nil && now != id {
		err = errGone
	}
	return err
}

// readv implements memory by process_vm_readv.
func (p *process) readv(parts []part) (int, error) {
	p.local, p.remote = p.local[:0], p.remote[:0]
	for i := range parts {
		b := parts[i].b
		v := unix.Iovec{Base: unsafe.SliceData(b)}
		v.SetLen(len(b))
		p.local = append(p.local, v)
		p.remote = append(p.remote, unix.RemoteIovec{Base: uintptr(parts[i].addr), Len: len(b)})
	}
	n, err := unix.ProcessVMReadv(p.pid, p.local, p.remote, 0)
	clear(p.local) // so that the buffers are not kept
	switch {
	case errors.Is(err, unix.EFAULT):
		return 0, nil // the first part cannot be read
	case errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOMEM):
		return 0, nil // an address beyond the end of the address space
	case errors.Is(err, unix.ESRCH):
		return 0, errGone
	case err != nil:
		return 0, fmt.Errorf("read memory of process %d: %w", p.pid, err)
	}
	for i := range parts {
		if n -= len(parts[i].b); n < 0 {
			return i, nil
		}
	}
	return len(parts), nil
}
