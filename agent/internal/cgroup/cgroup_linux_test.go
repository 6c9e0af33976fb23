package cgroup

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// tree writes files below a new root. A line of the mounts is a directory, what is mounted of it, and the type.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		name = filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// The mount tables are of a host of systemd, of a container with a cgroup namespace, of one of version 1 without, and of a hybrid host.
const (
	mountHost2     = "35 24 0:30 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n"
	mountPod2      = "2310 2305 0:30 / /sys/fs/cgroup ro,nosuid,nodev,noexec,relatime - cgroup2 cgroup rw\n"
	mountDocker1   = "911 901 0:29 /docker/4f2e /sys/fs/cgroup/memory ro,nosuid,nodev,noexec,relatime master:13 - cgroup cgroup rw,memory\n912 901 0:31 /docker/4f2e /sys/fs/cgroup/cpu,cpuacct ro,relatime master:14 - cgroup cgroup rw,cpu,cpuacct\n"
	mountHybrid    = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
	stat2          = "anon 402653184\nfile 123456789\nkernel 5242880\nworkingset_refault_anon 0\ninactive_anon 1\nactive_anon 402653184\ninactive_file 20971520\nactive_file 4194304\n"
	stat1          = "cache 123\nrss 456\ninactive_file 1\ntotal_cache 30000\ntotal_inactive_file 10485760\n"
	pressureText   = "some avg10=12.34 avg60=1.00 avg300=0.10 total=123456\nfull avg10=3.00 avg60=0.00 avg300=0.00 total=1234\n"
	pressureOfHost = "some avg10=0.50 avg60=1.00 avg300=0.10 total=1\n"
)

func TestGroup(t *testing.T) {
	none := math.NaN()
	for _, tc := range []struct {
		name                    string
		files                   map[string]string
		memory, pressure, cores float64
		limit                   float64
	}{
		{"a service of systemd", map[string]string{
			"proc/self/cgroup": "0::/system.slice/cart.service\n", "proc/self/mountinfo": mountHost2, "proc/pressure/memory": pressureOfHost,
			"sys/fs/cgroup/system.slice/cart.service/memory.max": "536870912\n", "sys/fs/cgroup/system.slice/cart.service/memory.current": "423624704\n",
			"sys/fs/cgroup/system.slice/cart.service/memory.stat": stat2, "sys/fs/cgroup/system.slice/cart.service/cpu.max": "150000 100000\n",
			"sys/fs/cgroup/system.slice/cart.service/memory.pressure": pressureText,
			"sys/fs/cgroup/system.slice/memory.max":                   "max\n", "sys/fs/cgroup/system.slice/memory.current": "999999999\n", "sys/fs/cgroup/system.slice/cpu.max": "max 100000\n",
		}, 0.75, 12.34, 1.5, 512 << 20},
		{"a pod that is nearer to its limit than its container", map[string]string{
			"proc/self/cgroup": "0::/kubepods/pod1/c1\n", "proc/self/mountinfo": mountHost2,
			"sys/fs/cgroup/kubepods/pod1/c1/memory.max": "1000\n", "sys/fs/cgroup/kubepods/pod1/c1/memory.current": "100\n", "sys/fs/cgroup/kubepods/pod1/c1/cpu.max": "max 100000\n",
			"sys/fs/cgroup/kubepods/pod1/memory.max": "2000\n", "sys/fs/cgroup/kubepods/pod1/memory.current": "1900\n", "sys/fs/cgroup/kubepods/pod1/cpu.max": "50000 100000\n",
		}, 0.95, none, 0.5, 1000},
		{"a container that sees its own cgroup as the root", map[string]string{
			"proc/self/cgroup": "0::/\n", "proc/self/mountinfo": mountPod2, "sys/fs/cgroup/memory.max": "1000\n", "sys/fs/cgroup/memory.current": "500\n",
			"sys/fs/cgroup/memory.pressure": pressureText,
		}, 0.5, 12.34, math.Inf(1), 1000},
		{"a path outside of the namespace", map[string]string{
			"proc/self/cgroup": "0::/../../other\n", "proc/self/mountinfo": mountPod2, "sys/fs/cgroup/memory.max": "1000\n", "sys/fs/cgroup/memory.current": "250\n",
		}, 0.25, none, math.Inf(1), 1000},
		{"version 1 in a container without a namespace", map[string]string{
			"proc/self/cgroup": "4:memory:/docker/4f2e\n3:cpu,cpuacct:/docker/4f2e\n0::/docker/4f2e\n", "proc/self/mountinfo": mountDocker1, "proc/pressure/memory": pressureOfHost,
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "104857600\n", "sys/fs/cgroup/memory/memory.usage_in_bytes": "62914560\n", "sys/fs/cgroup/memory/memory.stat": stat1,
			"sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "200000\n", "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
		}, 0.5, 0.5, 2, 100 << 20},
		{"a hybrid host", map[string]string{
			"proc/self/cgroup": "4:memory:/a/b\n0::/\n", "proc/self/mountinfo": mountHybrid, "proc/pressure/memory": pressureOfHost,
			"sys/fs/cgroup/memory/a/b/memory.limit_in_bytes": "9223372036854771712\n", "sys/fs/cgroup/memory/a/b/memory.usage_in_bytes": "5\n",
			"sys/fs/cgroup/memory/a/memory.limit_in_bytes": "100\n", "sys/fs/cgroup/memory/a/memory.usage_in_bytes": "90\n",
		}, 0.9, 0.5, math.Inf(1), 100},
		{"no limit", map[string]string{"proc/self/cgroup": "0::/x\n", "proc/self/mountinfo": mountHost2, "sys/fs/cgroup/x/memory.max": "max\n"}, none, none, math.Inf(1), math.Inf(1)},
		{"nothing at all", nil, none, none, math.Inf(1), math.Inf(1)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := open(tree(t, tc.files))
			defer g.Close()
			same := func(a, b float64) bool { return a == b || math.IsNaN(a) && math.IsNaN(b) || math.Abs(a-b) < 1e-9 }
			if m, p, c := g.Memory(), g.Pressure(), g.Cores(); !same(m, tc.memory) || !same(p, tc.pressure) || !same(c, tc.cores) {
				t.Errorf("memory %v, pressure %v, cores %v; want %v, %v, %v", m, p, c, tc.memory, tc.pressure, tc.cores)
			}
			if limit := g.MemoryLimit(); limit != tc.limit {
				t.Errorf("memory limit %v, want %v", limit, tc.limit)
			}
			if n := testing.AllocsPerRun(20, func() { g.Memory(); g.Pressure() }); n != 0 {
				t.Errorf("%v allocations for a reading", n)
			}
		})
	}
}

// TestCloseGivesTheFilesBack counts descriptors over many groups.
func TestCloseGivesTheFilesBack(t *testing.T) {
	open := func() int {
		d, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(d)
	}
	before := open()
	for range 50 {
		g := Self()
		g.Close()
		g.Close()
	}
	if after := open(); after > before {
		t.Errorf("%d descriptors, %d before", after, before)
	}
	var none *Group
	none.Close()
	if !math.IsNaN(none.Memory()) || !math.IsNaN(none.Pressure()) || !math.IsInf(none.Cores(), 1) || !math.IsInf(none.MemoryLimit(), 1) {
		t.Error("a nil group knows something")
	}
}

func FuzzTexts(f *testing.F) {
	f.Add("0::/a\n4:memory:/b\n", mountHybrid+mountDocker1, stat2, pressureText)
	f.Add("::\n:", "a b c \\040 / - cgroup2 - rw\n", "inactive_file \n", "some avg10=.")
	f.Fuzz(func(t *testing.T, groupText, mountText, stat, press string) {
		unified, v1 := groups(groupText)
		at, at1 := mounts(mountText)
		if at != nil {
			if dir := at.dir(unified); !strings.HasPrefix(filepath.Clean(dir), filepath.Clean(at.mount)) && filepath.Clean(at.mount) != "." {
				t.Errorf("%q is outside of %q", dir, at.mount)
			}
		}
		for c, p := range at1 {
			p.dir(v1[c])
		}
		if v, ok := field([]byte(stat), "inactive_file "); ok && v < 0 {
			t.Errorf("field %v", v)
		}
		if v, ok := pressure([]byte(press)); ok && v < 0 {
			t.Errorf("pressure %v", v)
		}
		memoryLimit(stat)
		quota(stat, press)
	})
}
