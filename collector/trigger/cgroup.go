package trigger

import (
	"bytes"
	"io/fs"
	"path/filepath"
	"strconv"

	"github.com/sonde-io/sonde/internal/cgroup"
)

// files reads /proc and the cgroups.
type files struct {
	proc, cgroup string // where they are mounted
}

func (f files) pid(pid int, name string) ([]byte, error) {
	return readSmall(filepath.Join(f.proc, strconv.Itoa(pid), name))
}

func readSmall(name string) ([]byte, error) { return cgroup.Read(nil, name) }

// level is one cgroup of a process that has a limit, or its own.
type level struct {
	dir   string
	limit int64
}

// memoryGroup is the memory cgroup of processes, with those above it that limit it.
type memoryGroup struct {
	dir     string // its own
	v2      bool
	levels  []level  // those with a limit, its own first
	parents []string // all above its own, the nearest first: where a cgroup is removed they still count what was killed in it
}

// maxDepth bounds the cgroups above each other that are looked at.
const maxDepth = 32

// memoryOf finds the memory cgroup of a process; nil where there is none that can be read.
func (f files) memoryOf(pid int, p cgroup.Paths) *memoryGroup {
	for _, at := range (cgroup.Mounts{Proc: f.proc, Cgroup: f.cgroup}).Places(pid, "memory", p.Memory, p.Unified) {
		g := &memoryGroup{dir: at.Dir(), v2: at.V2}
		// What a process sees below its own root may be files of its making.
		if !at.Real() {
			continue
		}
		if _, err := g.usage(g.dir); err != nil {
			continue
		}
		g.parents = at.Parents()
		g.limits()
		return g
	}
	return nil
}

// limits reads the limits anew.
func (g *memoryGroup) limits() {
	name := "memory.limit_in_bytes"
	if g.v2 {
		name = "memory.max"
	}
	g.levels = g.levels[:0]
	for _, dir := range append([]string{g.dir}, g.parents...) {
		b, err := readSmall(filepath.Join(dir, name))
		if err != nil {
			continue // the root has none
		}
		if n, err := cgroup.ParseLimit(b); err == nil && n > 0 && n < cgroup.Unlimited {
			g.levels = append(g.levels, level{dir, n})
		}
	}
}

// usage returns what a cgroup uses in bytes.
func (g *memoryGroup) usage(dir string) (int64, error) {
	name := "memory.usage_in_bytes"
	if g.v2 {
		name = "memory.current"
	}
	b, err := readSmall(filepath.Join(dir, name))
	if err != nil {
		return 0, err
	}
	return cgroup.ParseLimit(b)
}

// used returns the working set of a cgroup in bytes: what of its usage is left without file pages that nobody has looked at lately, which go first.
func (g *memoryGroup) used(dir string, usage int64) (int64, error) {
	inactive := "total_inactive_file"
	if g.v2 {
		inactive = "inactive_file"
	}
	b, err := readSmall(filepath.Join(dir, "memory.stat"))
	if err != nil {
		return 0, err
	}
	file, _ := cgroup.Keyed(b, inactive) // a kernel without it counts all
	return max(usage-file, 0), nil
}

// memory is what was read of a memory cgroup.
type memory struct {
	used, limit int64   // of the level that is nearest to its limit
	usage       int64   // of that level, with file pages that nobody has looked at lately
	ratio       float64 // used ÷ limit; 0: there is no limit
	kills       int64   // processes that the OOM killer has killed in it
}

// quick reads only what the cgroups use, the limit that is nearest to it, and no kills.
func (g *memoryGroup) quick() (m memory, err error) {
	for _, l := range g.levels {
		n, err := g.usage(l.dir)
		if err != nil {
			return m, err
		}
		if r := float64(n) / float64(l.limit); r >= m.ratio {
			m = memory{used: n, usage: n, limit: l.limit, ratio: r}
		}
	}
	return m, nil
}

// read reads the counter of kills first, so that what is counted later is found when the process has ended.
func (g *memoryGroup) read() (m memory, err error) {
	if m.kills, err = g.kills(g.dir); err != nil {
		return m, err
	}
	for _, l := range g.levels {
		usage, err := g.usage(l.dir)
		if err != nil {
			return m, err
		}
		used, err := g.used(l.dir, usage)
		if err != nil {
			return m, err
		}
		if r := float64(used) / float64(l.limit); r >= m.ratio {
			m.used, m.usage, m.limit, m.ratio = used, usage, l.limit, r
		}
	}
	return m, nil
}

func (g *memoryGroup) kills(dir string) (int64, error) {
	name := "memory.oom_control"
	if g.v2 {
		name = "memory.events"
	}
	b, err := readSmall(filepath.Join(dir, name))
	if err != nil {
		return 0, err
	}
	n, _ := cgroup.Keyed(b, "oom_kill") // kernels before 4.13 do not count
	return n, nil
}

// killsAbove returns the counter of the nearest cgroup above that is still there, and whether that is the one right above; of version 1 they do not count what happens below them.
func (g *memoryGroup) killsAbove() (n int64, direct, ok bool) {
	if !g.v2 {
		return 0, false, false
	}
	for i, dir := range g.parents {
		if n, err := g.kills(dir); err == nil {
			return n, i == 0, true
		}
	}
	return 0, false, false
}

// pressure returns PSI's avg10 of the cgroup; version 1 has none of a cgroup.
func (g *memoryGroup) pressure() (float64, error) {
	if !g.v2 {
		return 0, fs.ErrNotExist
	}
	b, err := readSmall(filepath.Join(g.dir, "memory.pressure"))
	if err != nil {
		return 0, err
	}
	some, _, err := cgroup.ParsePressure(b)
	return some.Avg10, err
}

// machineKills returns how many processes the OOM killer has killed on this machine.
func (f files) machineKills() int64 {
	b, err := readSmall(filepath.Join(f.proc, "vmstat"))
	if err != nil {
		return 0
	}
	n, _ := cgroup.Keyed(b, "oom_kill")
	return n
}

// cpuLimit returns how many CPUs a process may use: the least that its cgroup and those above allow, 0 where nothing does.
func (f files) cpuLimit(p cgroup.Paths) (least float64) {
	take := func(n float64, err error) {
		if err == nil && n > 0 && (least == 0 || n < least) {
			least = n
		}
	}
	for dir, n := p.Unified, 0; dir != "" && n < maxDepth; dir, n = filepath.Dir(dir), n+1 {
		for _, root := range []string{f.cgroup, filepath.Join(f.cgroup, "unified")} {
			if b, err := readSmall(filepath.Join(root, filepath.Clean("/"+dir), "cpu.max")); err == nil {
				take(cgroup.ParseCPUMax(b))
			}
		}
		if dir == "/" {
			break
		}
	}
	for dir, n := p.CPU, 0; dir != "" && n < maxDepth; dir, n = filepath.Dir(dir), n+1 {
		at := filepath.Join(f.cgroup, "cpu", filepath.Clean("/"+dir))
		quota, err := readSmall(filepath.Join(at, "cpu.cfs_quota_us"))
		period, err2 := readSmall(filepath.Join(at, "cpu.cfs_period_us"))
		if err == nil && err2 == nil {
			take(cgroup.CPUs(bytes.TrimSpace(quota), bytes.TrimSpace(period)))
		}
		if dir == "/" {
			break
		}
	}
	return least
}
