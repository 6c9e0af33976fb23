package cgroup

import (
	"math"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
)

// maxLevels is how many cgroups above one another may set a limit; further ones are not looked at.
const maxLevels = 8

// Group is the cgroup of this process. Its methods may be called on nil.
type Group struct {
	levels   []level
	pressure int // descriptor; -1: none
	cores    float64
	buf      [8 << 10]byte
}

// level is a cgroup that limits its memory.
type level struct {
	limit    float64
	usage    int // descriptors
	stat     int
	inactive string // of stat: what is page cache that nobody used lately
}

// Self finds the cgroup of this process. It never fails: what is not there is not known.
func Self() *Group { return open("/") }

// open is Self below another root.
func open(root string) *Group {
	g := &Group{pressure: -1, cores: math.Inf(1)}
	unified, v1 := groups(read(filepath.Join(root, "proc/self/cgroup")))
	at, at1 := mounts(read(filepath.Join(root, "proc/self/mountinfo")))
	dir2, mount2 := "", ""
	if at != nil {
		dir2, mount2 = filepath.Join(root, at.dir(unified)), filepath.Join(root, at.mount)
	}
	if p, ok := at1["memory"]; ok {
		g.memory(filepath.Join(root, p.dir(v1["memory"])), filepath.Join(root, p.mount), "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file ")
	} else if at != nil {
		g.memory(dir2, mount2, "memory.max", "memory.current", "inactive_file ")
	}
	if p, ok := at1["cpu"]; ok {
		for dir := range up(filepath.Join(root, p.dir(v1["cpu"])), filepath.Join(root, p.mount)) {
			g.cores = min(g.cores, quota(strings.TrimSpace(read(path.Join(dir, "cpu.cfs_quota_us"))), strings.TrimSpace(read(path.Join(dir, "cpu.cfs_period_us")))))
		}
	} else if at != nil {
		for dir := range up(dir2, mount2) {
			if f := strings.Fields(read(path.Join(dir, "cpu.max"))); len(f) == 2 {
				g.cores = min(g.cores, quota(f[0], f[1]))
			}
		}
	}
	if dir2 != "" {
		g.pressure = openFile(filepath.Join(dir2, "memory.pressure"))
	}
	if g.pressure < 0 { // of the whole machine
		g.pressure = openFile(filepath.Join(root, "proc/pressure/memory"))
	}
	return g
}

// up yields dir and the directories above it up to mount.
func up(dir, mount string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for strings.HasPrefix(dir, mount) {
			if !yield(dir) || dir == mount || dir == "/" {
				return
			}
			dir = path.Dir(dir)
		}
	}
}

// memory opens the files of the cgroups that limit their memory.
func (g *Group) memory(dir, mount, limit, usage, inactive string) {
	for dir := range up(dir, mount) {
		l := level{limit: memoryLimit(read(path.Join(dir, limit))), inactive: inactive}
		if l.limit <= 0 || len(g.levels) == maxLevels {
			continue
		}
		l.usage, l.stat = openFile(path.Join(dir, usage)), openFile(path.Join(dir, "memory.stat"))
		g.levels = append(g.levels, l)
	}
}

func read(name string) string {
	b, err := os.ReadFile(name)
	if err != nil {
		return "" // not there is not known
	}
	return string(b)
}

// openFile returns a descriptor, -1 where the file cannot be opened.
func openFile(name string) int {
	for {
		fd, err := syscall.Open(name, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
		if err == nil {
			return fd
		}
		if err != syscall.EINTR {
			return -1
		}
	}
}

// Close gives the files back. It may be called twice.
func (g *Group) Close() {
	if g == nil {
		return
	}
	for _, l := range g.levels {
		closeFile(l.usage)
		closeFile(l.stat)
	}
	closeFile(g.pressure)
	g.levels, g.pressure = nil, -1
}

func closeFile(fd int) {
	if fd >= 0 {
		_ = syscall.Close(fd) // it was only read
	}
}

// content reads a file from its start, as much as fits; nil where it cannot be read.
func (g *Group) content(fd int) []byte {
	if fd < 0 {
		return nil
	}
	n, err := syscall.Pread(fd, g.buf[:], 0)
	if err != nil || n <= 0 {
		return nil
	}
	return g.buf[:n]
}

// Memory returns the memory in use as a share of its limit, 0 to about 1, of whichever cgroup is nearest to its own; NaN where none has one.
func (g *Group) Memory() float64 {
	share := math.NaN()
	if g == nil {
		return share
	}
	for _, l := range g.levels {
		used, ok := number(g.content(l.usage))
		if !ok {
			continue
		}
		if inactive, ok := field(g.content(l.stat), l.inactive); ok {
			used = max(0, used-inactive)
		}
		if s := used / l.limit; !(share >= s) { // NaN is less than all
			share = s
		}
	}
	return share
}

// Pressure returns the percentage of the last 10 s in which some task waited for memory; NaN where the kernel does not tell.
func (g *Group) Pressure() float64 {
	if g == nil {
		return math.NaN()
	}
	if v, ok := pressure(g.content(g.pressure)); ok {
		return v
	}
	return math.NaN()
}

// Cores returns how many cores the process may use; +Inf where nothing limits it.
func (g *Group) Cores() float64 {
	if g == nil {
		return math.Inf(1)
	}
	return g.cores
}

// MemoryLimit returns the lowest memory limit in bytes; +Inf where nothing limits it.
func (g *Group) MemoryLimit() float64 {
	limit := math.Inf(1)
	if g != nil {
		for _, l := range g.levels {
			limit = min(limit, l.limit)
		}
	}
	return limit
}
