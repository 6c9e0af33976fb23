package cgroup

import (
	"os"
	"path/filepath"
	"testing"
)

func TestLimits(t *testing.T) {
	for _, tt := range []struct {
		name   string
		files  map[string]string
		paths  Paths
		cpus   float64
		memory int64
	}{
		{"v2, the one above is smaller", map[string]string{"a/cgroup.procs": "", "a/b/cgroup.procs": "", "a/b/memory.max": "2000\n", "a/memory.max": "1000\n", "a/b/cpu.max": "50000 100000\n", "a/cpu.max": "max 100000\n"},
			Paths{Unified: "/a/b"}, 0.5, 1000},
		{"v2, no limit", map[string]string{"a/cgroup.procs": "", "a/memory.max": "max\n", "a/cpu.max": "max 100000\n"}, Paths{Unified: "/a"}, 0, 0},
		{"v1", map[string]string{"memory/a/cgroup.procs": "", "memory/a/memory.limit_in_bytes": "4096\n", "cpu/a/cgroup.procs": "", "cpu/a/cpu.cfs_quota_us": "150000\n", "cpu/a/cpu.cfs_period_us": "100000\n"},
			Paths{Memory: "/a", CPU: "/a"}, 1.5, 4096},
		{"v1, no limit", map[string]string{"memory/a/cgroup.procs": "", "memory/a/memory.limit_in_bytes": "9223372036854771712\n", "cpu/a/cgroup.procs": "", "cpu/a/cpu.cfs_quota_us": "-1\n", "cpu/a/cpu.cfs_period_us": "100000\n"},
			Paths{Memory: "/a", CPU: "/a"}, 0, 0},
		{"nothing there", nil, Paths{Unified: "/a"}, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			for name, text := range tt.files {
				path := filepath.Join(root, name)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			cpus, memory := (Mounts{Proc: filepath.Join(root, "proc"), Cgroup: root}).Limits(1, tt.paths)
			if cpus != tt.cpus || memory != tt.memory {
				t.Errorf("%v CPUs and %d bytes, want %v and %d", cpus, memory, tt.cpus, tt.memory)
			}
		})
	}
}
