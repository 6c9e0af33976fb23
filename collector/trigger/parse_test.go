package trigger

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/sonde-io/sonde/internal/cgroup"
)

// The texts are those of Linux 6.18.
func TestParse(t *testing.T) {
	p := cgroup.ParsePaths([]byte("9:name=systemd:/\n4:memory:/process_api/3573\n2:cpu,cpuacct:/a b\n0::/kubepods.slice/pod1/c1\n"))
	if p != (cgroup.Paths{Memory: "/process_api/3573", CPU: "/a b", CPUAcct: "/a b", Unified: "/kubepods.slice/pod1/c1"}) {
		t.Errorf("cgroups %+v", p)
	}
	if n, ok := cgroup.Keyed([]byte("low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n"), "oom_kill"); n != 2 || !ok {
		t.Errorf("kills %d, %v", n, ok)
	}
	if n, ok := cgroup.Keyed([]byte("oom_kill_disable 0\nunder_oom 0\noom_kill 1\n"), "oom_kill"); n != 1 || !ok {
		t.Errorf("kills of version 1: %d, %v", n, ok)
	}
	if v, full, err := cgroup.ParsePressure([]byte("some avg10=12.34 avg60=1.00 avg300=0.10 total=123\nfull avg10=1.00 avg60=0.00 avg300=0.00 total=9\n")); v != (cgroup.Pressure{Avg10: 12.34, Total: 123}) || full.Total != 9 || err != nil {
		t.Errorf("pressure %v, %v, %v", v, full, err)
	}
	for text, want := range map[string]float64{"max 100000\n": 0, "50000 100000\n": 0.5, "250000 100000": 2.5} {
		if v, err := cgroup.ParseCPUMax([]byte(text)); v != want || err != nil {
			t.Errorf("cpu.max %q: %v, %v", text, v, err)
		}
	}
	for text, want := range map[string]int64{"max\n": cgroup.Unlimited, "9223372036854771712\n": cgroup.Unlimited, "1048576\n": 1 << 20} {
		if v, err := cgroup.ParseLimit([]byte(text)); v != want || err != nil {
			t.Errorf("limit %q: %v, %v", text, v, err)
		}
	}
	st, err := parseStat([]byte("4711 (a) b) c) S 1 4711 4711 0 -1 4194560 1 2 3 4 250 50 7 8 20 0 12 0 98765 1 2 3"))
	if err != nil || st != (procStat{'S', 300, 98765}) {
		t.Errorf("stat %+v, %v", st, err)
	}
	for _, bad := range []string{"", "1 (x", "1 (x) S 1 2", "1 (x) S 1 4711 4711 0 -1 4194560 1 2 3 4 x 50 7 8 20 0 12 0 98765"} {
		if _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("stat %q is accepted", bad)
		}
	}
}

// tree writes files below a folder.
func tree(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestUnified reads cgroups of version 2 as a Kubernetes node has them: the container has no limit of its own, its pod has.
func TestUnified(t *testing.T) {
	dir := t.TempDir()
	tree(t, dir, map[string]string{
		"cgroup/pods/pod1/c1/memory.current":  "900000\n",
		"cgroup/pods/pod1/c1/memory.max":      "max\n",
		"cgroup/pods/pod1/c1/memory.stat":     "anon 700000\ninactive_file 100000\nactive_file 1000\n",
		"cgroup/pods/pod1/c1/memory.events":   "oom 0\noom_kill 0\n",
		"cgroup/pods/pod1/c1/memory.pressure": "some avg10=3.50 avg60=0.00 avg300=0.00 total=0\n",
		"cgroup/pods/pod1/c1/cpu.max":         "max 100000\n",
		"cgroup/pods/pod1/memory.current":     "1000000\n",
		"cgroup/pods/pod1/memory.max":         "2000000\n",
		"cgroup/pods/pod1/memory.stat":        "inactive_file 200000\n",
		"cgroup/pods/pod1/memory.events":      "oom_kill 4\n",
		"cgroup/pods/pod1/cpu.max":            "50000 100000\n",
		"cgroup/pods/cpu.max":                 "400000 100000\n",
		"proc/vmstat":                         "nr_free_pages 1\noom_kill 7\n",
	})
	f := files{filepath.Join(dir, "proc"), filepath.Join(dir, "cgroup")}
	paths := cgroup.Paths{Unified: "/pods/pod1/c1"}
	g := f.memoryOf(1, paths)
	if g == nil || !g.v2 || len(g.levels) != 1 {
		t.Fatalf("cgroup %+v", g)
	}
	m, err := g.read()
	if err != nil || m.ratio != 0.4 || m.used != 800000 || m.limit != 2000000 || m.usage != 1000000 {
		t.Errorf("memory %+v, %v", m, err)
	}
	if p, err := g.pressure(); p != 3.5 || err != nil {
		t.Errorf("pressure %v, %v", p, err)
	}
	if n := f.cpuLimit(paths); n != 0.5 {
		t.Errorf("%v CPUs, want 0.5", n)
	}
	if n, direct, ok := g.killsAbove(); n != 4 || !direct || !ok {
		t.Errorf("kills above: %d, %v, %v", n, direct, ok)
	}
	if n := f.machineKills(); n != 7 {
		t.Errorf("%d kills on the machine", n)
	}
	if g := f.memoryOf(1, cgroup.Paths{Unified: "/../../etc"}); g != nil {
		t.Errorf("a path out of the mount was taken: %+v", g)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("4:memory:/a\n0::/b\n"))
	f.Add([]byte("some avg10=12.34 avg60=1.00 total=1\n"))
	f.Add([]byte("oom_kill 1\n"))
	f.Add([]byte("50000 100000\n"))
	f.Add([]byte("4711 (a) b) S 1 4711 4711 0 -1 4194560 1 2 3 4 250 50 7 8 20 0 12 0 98765 1"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if p := cgroup.ParsePaths(b); len(p.Memory) > cgroup.MaxPath || p.Unified != "" && p.Unified[0] != '/' {
			t.Errorf("cgroups %+v", p)
		}
		if n, ok := cgroup.Keyed(b, "oom_kill"); ok && n < 0 {
			t.Errorf("%d kills", n)
		}
		if n, err := cgroup.ParseLimit(b); err == nil && n < 0 {
			t.Errorf("limit %d", n)
		}
		if v, full, err := cgroup.ParsePressure(b); err == nil && !(v.Avg10 >= 0 && full.Avg10 <= 100) {
			t.Errorf("pressure %v", v)
		}
		if v, err := cgroup.ParseCPUMax(b); err == nil && !(v >= 0) {
			t.Errorf("%v CPUs", v)
		}
		parseStat(b)
	})
}
