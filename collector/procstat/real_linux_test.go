package procstat

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"golang.org/x/sys/unix"

	"github.com/sonde-io/sonde/collector/discover"
	"github.com/sonde-io/sonde/collector/discover/discovertest"
)

// startOf returns when a process began, in ticks after boot.
func startOf(t testing.TB, pid int) uint64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	st, err := parseStat(b)
	if err != nil {
		t.Fatal(err)
	}
	return st.start
}

// TestOwnProcess reads this process and compares with what it knows of itself.
func TestOwnProcess(t *testing.T) {
	k := new(kept)
	m := New(Config{Series: k})
	pid := os.Getpid()
	m.SetTargets([]Target{{PID: pid, Start: startOf(t, pid), Instance: "self", Labels: labels.FromStrings("service_instance_id", "self"), Started: time.Now()}})
	var fds []*os.File
	for range 20 {
		f, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		fds = append(fds, f)
	}
	m.Round(t.Context())
	got := k.got["self"]
	var ru unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &ru); err != nil {
		t.Fatal(err)
	}
	after := time.Duration(ru.Utime.Nano() + ru.Stime.Nano()).Seconds()
	if v := got["process_cpu_seconds_total"]; v > after+0.02 {
		t.Errorf("%v s of CPU, at most %v", v, after)
	}
	if v := got["process_resident_memory_bytes"]; v < 1<<20 || v > float64(ru.Maxrss)*1024+1<<20 {
		t.Errorf("%v bytes resident, at most %v KiB", v, ru.Maxrss)
	}
	if v := got["process_open_fds"]; v < float64(len(fds)) || v > got["process_max_fds"] {
		t.Errorf("%v descriptors of %v", v, got["process_max_fds"])
	}
	if v := got["process_threads"]; v < 2 {
		t.Errorf("%v threads", v)
	}
	if v := got["process_context_switches_total voluntary"]; v > float64(ru.Nvcsw)+1e6 || v == 0 {
		t.Errorf("%v voluntary switches, %v by getrusage", v, ru.Nvcsw)
	}
}

// TestRealCgroup puts a busy process into cgroups with limits, of the version that the machine has, and sees it throttled.
func TestRealCgroup(t *testing.T) {
	busy, idle := exec.Command("sh", "-c", "while :; do :; done"), exec.Command("sleep", "1000")
	end := func(cmd *exec.Cmd) {
		cmd.Process.Kill()
		cmd.Wait()
	}
	for _, cmd := range []*exec.Cmd{busy, idle} {
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer end(cmd)
	}
	put := func(dir string, files ...string) {
		t.Helper()
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Skipf("SKIPPED: no cgroup can be made here, so limits are NOT read from a real one: %v", err)
		}
		t.Cleanup(func() {
			end(busy)
			end(idle)
			for range 100 { // the kernel may hold it for a moment after its last process
				if os.Remove(dir) == nil {
					return
				}
				time.Sleep(20 * time.Millisecond)
			}
			t.Errorf("cannot remove %s", dir)
		})
		for i := 0; i < len(files); i += 2 {
			if err := os.WriteFile(filepath.Join(dir, files[i]), []byte(files[i+1]), 0o644); err != nil {
				t.Skipf("SKIPPED: limits cannot be set here, so they are NOT read from a real cgroup: %v", err)
			}
		}
		for _, cmd := range []*exec.Cmd{busy, idle} {
			if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(cmd.Process.Pid)), 0o644); err != nil {
				t.Skipf("SKIPPED: no process can be put into a cgroup here, so throttling is NOT seen: %v", err)
			}
		}
	}
	name := fmt.Sprintf("sonde-procstat-%d", os.Getpid())
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.procs"); err == nil {
		put("/sys/fs/cgroup/"+name, "cpu.max", "20000 100000", "memory.max", "104857600")
	} else {
		put("/sys/fs/cgroup/cpu/"+name, "cpu.cfs_period_us", "100000", "cpu.cfs_quota_us", "20000")
		put("/sys/fs/cgroup/memory/"+name, "memory.limit_in_bytes", "104857600")
		if _, err := os.Stat("/sys/fs/cgroup/cpuacct/" + name); err != nil { // it may be mounted apart
			put("/sys/fs/cgroup/cpuacct/" + name)
		}
	}
	k := new(kept)
	m := New(Config{Series: k})
	of := func(cmd *exec.Cmd, name string) Target {
		return Target{PID: cmd.Process.Pid, Start: startOf(t, cmd.Process.Pid), Instance: name, Labels: labels.FromStrings("service_instance_id", name)}
	}
	younger := of(idle, "idle")
	m.SetTargets([]Target{younger, of(busy, "busy")})
	for range 300 {
		m.Round(t.Context())
		if k.got["busy"]["container_cpu_cfs_throttled_seconds_total"] > 0 && k.got["busy"]["container_cpu_usage_seconds_total"] > 0 {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	got := k.got["busy"]
	if got["container_cpu_cfs_throttled_seconds_total"] <= 0 || got["container_cpu_cfs_throttled_periods_total"] <= 0 || got["container_cpu_cfs_periods_total"] < got["container_cpu_cfs_throttled_periods_total"] ||
		got["container_spec_cpu_quota"] != 20000 || got["container_spec_cpu_period"] != 100000 || got["container_spec_memory_limit_bytes"] != 104857600 || got["container_memory_usage_bytes"] < 0 ||
		got["container_cpu_usage_seconds_total"] <= 0 {
		t.Errorf("%s", k.text("busy"))
	}
	if _, ok := got["container_oom_events_total"]; !ok {
		t.Error("no OOM events")
	}
	if owners := k.shares("container_memory_usage_bytes"); !slices.Equal(owners, []string{"busy"}) || k.got["idle"]["process_resident_memory_bytes"] <= 0 {
		t.Errorf("the cgroup of two processes is told of by %v, and of the younger one there is %v", owners, k.got["idle"])
	}
	end(busy)
	m.Round(t.Context())
	if owners := k.shares("container_memory_usage_bytes"); !slices.Equal(owners, []string{"idle"}) || k.got["idle"]["container_spec_memory_limit_bytes"] != 104857600 {
		t.Errorf("after the end of the elder one the cgroup is told of by %v, with %v", owners, k.got["idle"])
	}
}

// BenchmarkRound reads 500 Go processes. cpu-ms/round is all CPU that a round takes.
//
//	go test -run xxx -bench Round -benchtime 40x ./collector/procstat
func BenchmarkRound(b *testing.B) {
	file := discovertest.Build(b)
	for range 500 {
		discovertest.Start(b, file, discovertest.Options{Env: []string{"GOMEMLIMIT=8MiB", "GOMAXPROCS=1"}}, "-http=127.0.0.1:0")
	}
	s, err := discover.New(discover.Config{Rules: discover.Rules{AllowExes: []string{file}, NoProbes: true}})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	r, err := s.Scan(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	m := New(Config{Series: new(kept)})
	targets := Targets(r, "n1", nil)
	m.SetTargets(targets)
	m.Round(b.Context())
	cpu := func() time.Duration {
		var ru unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &ru); err != nil {
			b.Fatal(err)
		}
		return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
	}
	m.cfg.Series = nothing{}
	before := cpu()
	for b.Loop() {
		m.Round(b.Context())
	}
	b.ReportMetric(float64((cpu()-before).Microseconds())/1000/float64(b.N), "cpu-ms/round")
	b.ReportMetric(float64(len(targets)), "processes")
	b.ReportMetric(float64(len(m.r.out)), "samples")
	runtime.KeepAlive(s)
}

func TestMain(m *testing.M) { os.Exit(discovertest.Main(m)) }
