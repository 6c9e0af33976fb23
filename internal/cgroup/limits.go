package cgroup

import (
	"os"
	"path/filepath"
)

// Limits returns how many CPUs and how many bytes a process may use: the least that its cgroups and those above them allow; 0 where nothing does, or nothing can be read.
func (m Mounts) Limits(pid int, p Paths) (cpus float64, memory int64) {
	m.each(pid, "memory", p.Memory, p.Unified, "memory.limit_in_bytes", "memory.max", func(b, _ []byte) {
		if n, err := ParseLimit(b); err == nil && n > 0 && n < Unlimited && (memory == 0 || n < memory) {
			memory = n
		}
	})
	m.each(pid, "cpu", p.CPU, p.Unified, "cpu.cfs_quota_us", "cpu.max", func(b, period []byte) {
		n, err := ParseCPUMax(b)
		if period != nil {
			n, err = CPUs(b, period)
		}
		if err == nil && n > 0 && (cpus == 0 || n < cpus) {
			cpus = n
		}
	})
	return cpus, memory
}

// each calls fn with the file of a controller in the first cgroup of the process that can be read and in those above it; period is cpu.cfs_period_us beside cpu.cfs_quota_us, else nil.
func (m Mounts) each(pid int, controller, path, unified, v1, v2 string, fn func(b, period []byte)) {
	for _, at := range m.Places(pid, controller, path, unified) {
		if _, err := os.Stat(filepath.Join(at.Dir(), "cgroup.procs")); err != nil || !at.Real() {
			continue
		}
		name := v1
		if at.V2 {
			name = v2
		}
		for _, dir := range append([]string{at.Dir()}, at.Parents()...) {
			b, err := Read(nil, filepath.Join(dir, name))
			if err != nil {
				continue // the root has none
			}
			if name != "cpu.cfs_quota_us" {
				fn(b, nil)
			} else if period, err := Read(nil, filepath.Join(dir, "cpu.cfs_period_us")); err == nil {
				fn(b, period)
			}
		}
		return
	}
}
