package cgroup

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// MaxFile bounds what is read of one file: memory.stat has 3 KiB.
const MaxFile = 64 << 10

// Read reads a small file of the kernel's into buf, which grows where it must.
func Read(buf []byte, name string) ([]byte, error) {
	file, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	b := buf[:0]
	for len(b) < MaxFile {
		if len(b) == cap(b) {
			b = slices.Grow(b, max(len(b), 4096))
		}
		n, err := file.Read(b[len(b):min(cap(b), MaxFile)])
		b = b[:len(b)+n]
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	return b, nil
}

// Place is where the cgroup of a process may be found.
type Place struct {
	Root   string // of the mount
	Path   string // below it
	V2     bool
	Inside bool // it is as the process itself sees it
}

// Dir returns the folder of the cgroup.
func (p Place) Dir() string { return filepath.Join(p.Root, filepath.Clean("/"+p.Path)) }

// Real reports whether the place can be trusted to be a cgroup.
func (p Place) Real() bool { return !p.Inside || Is(p.Dir()) }

// Top reports whether the place is the machine's own cgroup, above all others: it limits nothing and counts everything. What a container sees as its root is none.
func (p Place) Top() bool {
	if p.Dir() != p.Root {
		return false
	}
	if p.V2 {
		_, err := os.Stat(filepath.Join(p.Root, "cgroup.events"))
		return err != nil
	}
	_, err := os.Stat(filepath.Join(p.Root, "release_agent"))
	return err == nil
}

// Parents returns the folders above the cgroup up to the root of the mount, the nearest first, at most maxDepth.
func (p Place) Parents() (out []string) {
	own := p.Dir()
	for dir := filepath.Dir(own); len(out) < maxDepth && strings.HasPrefix(dir, p.Root) && own != p.Root; dir = filepath.Dir(dir) {
		out = append(out, dir)
		if dir == p.Root {
			break
		}
	}
	return out
}

// maxDepth bounds the cgroups above each other that are looked at.
const maxDepth = 32

// Mounts are where /proc and the cgroups are mounted.
type Mounts struct{ Proc, Cgroup string }

// Places returns where a controller's cgroup of a process may be found, the likeliest first: path is its path of version 1, "" where it has none.
func (m Mounts) Places(pid int, controller, path string, unified string) (out []Place) {
	inside := filepath.Join(m.Proc, strconv.Itoa(pid), "root/sys/fs/cgroup") // as a process in its own cgroup namespace sees them
	if path != "" {
		out = append(out, Place{filepath.Join(m.Cgroup, controller), path, false, false}, Place{filepath.Join(inside, controller), "/", false, true})
	}
	if unified != "" {
		out = append(out, Place{m.Cgroup, unified, true, false}, Place{filepath.Join(m.Cgroup, "unified"), unified, true, false}, Place{inside, "/", true, true})
	}
	return out
}
