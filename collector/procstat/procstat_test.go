package procstat

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/collector/discover"
	"github.com/sonde-io/sonde/collector/series"
	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/internal/cgroup"
	"github.com/sonde-io/sonde/symbols/build"
)

// kept is an appender that writes down what it takes: by instance and series.
type kept struct {
	err  error
	got  map[string]map[string]float64
	many atomic.Int32 // calls
}

func (k *kept) AppendSeries(_ context.Context, bs ...series.Batch) error {
	k.many.Add(1)
	if k.err != nil {
		return k.err
	}
	k.got = map[string]map[string]float64{}
	for _, b := range bs {
		of := map[string]float64{}
		for _, s := range b.Samples {
			name := s.Labels.Get(model.MetricNameLabel)
			if ty := s.Labels.Get("type"); ty != "" {
				name += " " + ty
			}
			if _, ok := of[name]; ok {
				return fmt.Errorf("%s twice", name)
			}
			of[name] = s.V
		}
		k.got[b.Process.Get("service_instance_id")] = of
	}
	return nil
}

// text is what was kept of an instance, a line a series.
func (k *kept) text(instance string) string {
	var out []string
	for name, v := range k.got[instance] {
		out = append(out, fmt.Sprintf("%s %v\n", name, v))
	}
	slices.Sort(out)
	return strings.Join(out, "")
}

func tree(t testing.TB, dir string, files map[string]string) {
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

func target(pid int, instance string) Target {
	return Target{PID: pid, Start: 98765, Instance: instance, Labels: labels.FromStrings("service_name", "cart", "service_instance_id", instance), Started: time.UnixMilli(1795241480500)}
}

const statLine = " (a) b) c) S 1 4711 4711 0 -1 4194560 1 2 3 4 250 50 7 8 20 0 12 0 98765 1073741824 256 18446744073709551615"

// node is a machine with cgroups of version 2: two processes in one container, whose pod has the limits.
func node(t testing.TB) cgroup.Mounts {
	dir := t.TempDir()
	files := map[string]string{
		"cgroup/pods/pod1/c1/memory.current":  "900000\n",
		"cgroup/pods/pod1/c1/memory.max":      "max\n",
		"cgroup/pods/pod1/c1/memory.stat":     "anon 700000\nfile 5\ninactive_file 100000\nactive_file 1000\n",
		"cgroup/pods/pod1/c1/memory.events":   "oom 3\noom_kill 2\n",
		"cgroup/pods/pod1/c1/cpu.stat":        "usage_usec 2500000\nuser_usec 1\nnr_periods 0\nnr_throttled 0\nthrottled_usec 0\n",
		"cgroup/pods/pod1/c1/cpu.max":         "max 100000\n",
		"cgroup/pods/pod1/c1/cpu.pressure":    "some avg10=3.50 avg60=0.00 avg300=0.00 total=1500000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=500000\n",
		"cgroup/pods/pod1/c1/memory.pressure": "some avg10=0.00 avg60=0.00 avg300=0.00 total=250000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
		"cgroup/pods/pod1/memory.max":         "2000000\n",
		"cgroup/pods/pod1/cpu.max":            "50000 100000\n",
		"cgroup/pods/pod1/cpu.stat":           "usage_usec 9\nnr_periods 40\nnr_throttled 4\nthrottled_usec 250000\n",
		"cgroup/pods/cpu.max":                 "400000 100000\n",
	}
	for _, pid := range []string{"11", "12"} {
		files["proc/"+pid+"/stat"] = pid + statLine
		files["proc/"+pid+"/limits"] = "Limit                     Soft Limit           Hard Limit           Units     \nMax open files            1024                 524288               files     \n"
		files["proc/"+pid+"/cgroup"] = "0::/pods/pod1/c1\n"
		files["proc/"+pid+"/task/"+pid+"/status"] = "Name:\tcart\nvoluntary_ctxt_switches:\t100\nnonvoluntary_ctxt_switches:\t10\n"
		files["proc/"+pid+"/task/99/status"] = "Name:\tcart\nvoluntary_ctxt_switches:\t5\nnonvoluntary_ctxt_switches:\t1\n"
		files["proc/"+pid+"/fd/0"] = ""
	}
	tree(t, dir, files)
	return cgroup.Mounts{Proc: filepath.Join(dir, "proc"), Cgroup: filepath.Join(dir, "cgroup")}
}

// container is what the node's processes share.
const container = `container_cpu_cfs_periods_total 40
container_cpu_cfs_throttled_periods_total 4
container_cpu_cfs_throttled_seconds_total 0.25
container_cpu_usage_seconds_total 2.5
container_memory_rss 700000
container_memory_usage_bytes 900000
container_memory_working_set_bytes 800000
container_oom_events_total 2
container_pressure_cpu_stalled_seconds_total 0.5
container_pressure_cpu_waiting_seconds_total 1.5
container_pressure_memory_stalled_seconds_total 0
container_pressure_memory_waiting_seconds_total 0.25
container_spec_cpu_period 100000
container_spec_cpu_quota 50000
container_spec_memory_limit_bytes 2e+06
`

func TestRound(t *testing.T) {
	k, reg := new(kept), prometheus.NewRegistry()
	mounts := node(t)
	m := New(Config{Series: k, Mounts: mounts, Registerer: reg, Given: func(instance, name string) bool { return instance == "twelve" && name == "process_open_fds" }})
	agent := target(12, "agent")
	agent.Agent = true
	another := target(11, "another")
	another.Start = 5
	fds := float64(1)
	if st, err := os.Stat(filepath.Join(mounts.Proc, "11", "fd")); err == nil && st.Size() > 0 {
		fds = float64(st.Size()) // of a folder that is not the kernel's
	}
	own := fmt.Sprintf(`process_context_switches_total involuntary 11
process_context_switches_total voluntary 105
process_cpu_seconds_total 3
process_max_fds 1024
process_open_fds %v
process_resident_memory_bytes %v
process_start_time_seconds 1.7952414805e+09
process_threads 12
process_virtual_memory_bytes 1.073741824e+09
`, fds, float64(256*os.Getpagesize()))
	for name, tt := range map[string]struct {
		target Target
		want   string
	}{
		"without anything": {target(11, "eleven"), container + own},
		"with an agent": {agent, container + `process_context_switches_total involuntary 11
process_context_switches_total voluntary 105
process_threads 12
`},
		"with metrics of its own": {target(12, "twelve"), container + strings.Replace(own, fmt.Sprintf("process_open_fds %v\n", fds), "", 1)},
		"whose pid another has":   {another, ""},
		"that is gone":            {target(13, "gone"), ""},
	} {
		k.got = nil
		m.processes = map[int]*process{}
		m.SetTargets([]Target{tt.target})
		m.Round(t.Context())
		if got := k.text(tt.target.Instance); got != tt.want {
			t.Errorf("a process %s:\n%s\nwant\n%s", name, got, tt.want)
		}
	}
	if n := testutil.ToFloat64(m.metrics.skipped.WithLabelValues("ended")) + testutil.ToFloat64(m.metrics.skipped.WithLabelValues("not_readable")); n != 2 {
		t.Errorf("%v processes were skipped", n)
	}
}

// TestRounds reads what is costly now and then, keeps counters from falling, and follows limits that change.
func TestRounds(t *testing.T) {
	k, mounts := new(kept), node(t)
	m := New(Config{Series: k, Mounts: mounts})
	m.SetTargets([]Target{target(11, "eleven"), target(12, "twelve")})
	counted := map[string]int{}
	for round := range 2 * slowRounds {
		switch round {
		case 1:
			tree(t, mounts.Cgroup, map[string]string{"pods/pod1/memory.max": "3000000\n", "pods/pod1/cpu.max": "max 100000\n", "pods/cpu.max": "max 100000\n"})
			if err := os.RemoveAll(filepath.Join(mounts.Proc, "11/task/99")); err != nil {
				t.Fatal(err)
			}
			tree(t, mounts.Proc, map[string]string{"11/task/11/status": "voluntary_ctxt_switches:\t150\nnonvoluntary_ctxt_switches:\t10\n"})
		}
		m.Round(t.Context())
		for instance, of := range k.got {
			if _, ok := of["process_context_switches_total voluntary"]; ok {
				counted[instance]++
			}
			if least := map[string]int{"eleven": 15, "twelve": 7}[instance]; len(of) < least { // the cgroup is the first one's
				t.Errorf("round %d, %s: %v", round, instance, of)
			}
		}
		if v, ok := k.got["eleven"]["process_context_switches_total voluntary"]; ok && round > 0 && v != 155 {
			t.Errorf("round %d: %v switches, want 155", round, v)
		}
	}
	if want := 2 * slowRounds / switchRounds; counted["eleven"] < want || counted["eleven"] > want+1 || counted["twelve"] < want || counted["twelve"] > want+1 {
		t.Errorf("switches were counted %v times, want %d", counted, want)
	}
	got := k.got["eleven"]
	if _, ok := got["container_spec_cpu_quota"]; ok || got["container_spec_memory_limit_bytes"] != 3000000 {
		t.Errorf("limits that changed: %v", got)
	}
	k.err = errors.New("no space")
	m.Round(t.Context())
	if n := testutil.ToFloat64(m.metrics.samples.WithLabelValues("lost")); n == 0 {
		t.Error("no lost sample was counted")
	}
	m.SetTargets(nil)
	many := k.many.Load()
	if m.Round(t.Context()); k.many.Load() != many || len(m.processes) != 0 {
		t.Error("processes that are no targets any more")
	}
}

// shares are the instances that told of a series in the last round.
func (k *kept) shares(name string) (instances []string) {
	for instance, of := range k.got {
		if _, ok := of[name]; ok {
			instances = append(instances, instance)
		}
	}
	slices.Sort(instances)
	return instances
}

// TestCgroupOnce has two processes in one cgroup: the eldest tells of it, whatever order the targets come in, and the next one once that has ended.
func TestCgroupOnce(t *testing.T) {
	k, mounts := new(kept), node(t)
	young := strings.Replace(statLine, " 98765 ", " 98766 ", 1)
	tree(t, mounts.Proc, map[string]string{"11/stat": "11" + young, "13/stat": "13" + statLine, "13/cgroup": "0::/pods/pod1/c1\n"})
	eleven, twelve, thirteen := target(11, "eleven"), target(12, "twelve"), target(13, "thirteen")
	eleven.Start = 98766
	m := New(Config{Series: k, Mounts: mounts})
	check := func(what, want string) {
		t.Helper()
		for range slowRounds + 1 { // the cgroups are looked up anew meanwhile
			m.Round(t.Context())
			for name := range strings.Lines(container) {
				name, _, _ = strings.Cut(name, " ")
				if got := k.shares(name); !slices.Equal(got, []string{want}) {
					t.Fatalf("%s, round %d: %s is of %v, want %s", what, m.round, name, got, want)
				}
			}
		}
	}
	for _, ts := range [][]Target{{eleven, twelve, thirteen}, {thirteen, eleven, twelve}} {
		m.SetTargets(ts)
		check("three processes", "twelve") // of two that began at the same time the one with the lower pid
	}
	if got := k.shares("process_cpu_seconds_total"); len(got) != 3 {
		t.Errorf("process_cpu_seconds_total of %v, want all three", got)
	}
	launcher := twelve
	launcher.Launcher = true
	m.SetTargets([]Target{eleven, launcher, thirteen})
	check("the eldest started the others", "thirteen")
	m.SetTargets([]Target{launcher})
	check("a launcher alone", "twelve")
	m.SetTargets([]Target{thirteen, eleven, twelve})
	if err := os.RemoveAll(filepath.Join(mounts.Proc, "12")); err != nil {
		t.Fatal(err)
	}
	check("the eldest has ended, which no scan has seen yet", "thirteen")
	m.SetTargets([]Target{eleven})
	check("one process", "eleven")
	apart := target(14, "apart")
	tree(t, mounts.Proc, map[string]string{"14/stat": "14" + statLine, "14/cgroup": "0::/pods/pod1/c2\n"})
	tree(t, mounts.Cgroup, map[string]string{"pods/pod1/c2/memory.current": "100\n"})
	m.SetTargets([]Target{eleven, apart})
	m.Round(t.Context())
	if got := k.shares("container_memory_usage_bytes"); !slices.Equal(got, []string{"apart", "eleven"}) {
		t.Errorf("two cgroups are told of by %v", got)
	}
}

// TestRun reads when there is something to read, then every period, and ends.
func TestRun(t *testing.T) {
	mounts := node(t)
	synctest.Test(t, func(t *testing.T) {
		k := new(kept)
		m := New(Config{Series: k, Mounts: mounts})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- m.Run(ctx) }()
		time.Sleep(time.Hour)
		if synctest.Wait(); k.many.Load() != 0 {
			t.Errorf("%d rounds without targets", k.many.Load())
		}
		for range 2 {
			m.SetTargets([]Target{target(11, "eleven")})
		}
		if synctest.Wait(); k.many.Load() != 1 {
			t.Errorf("%d rounds at once", k.many.Load())
		}
		time.Sleep(time.Minute + time.Second)
		if synctest.Wait(); k.many.Load() != 5 {
			t.Errorf("%d rounds after a minute", k.many.Load())
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := New(Config{Series: k}).Run(ctx); err != nil {
			t.Error(err)
		}
	})
}

func TestTargets(t *testing.T) {
	process := func(pid int, state discover.State) discover.Process {
		return discover.Process{PID: pid, Instance: fmt.Sprint("i", pid), Service: "cart", State: state, Identity: discover.Identity{StartTicks: uint64(pid), PIDs: []int{pid}}}
	}
	off := process(8, discover.Profiling)
	off.Off = true
	run := process(10, discover.Profiling)
	run.Build = &build.Info{Mod: &debug.BuildInfo{Path: "github.com/sonde-io/sonde/cmd/sonde"}}
	r := discover.Report{Processes: []discover.Process{process(1, discover.Profiling), process(2, discover.ByAgent), process(3, discover.ByAgent), process(4, discover.Denied),
		process(5, discover.SelfProcess), process(6, discover.Waiting), process(7, discover.NeedsRoot), off, process(9, discover.NoEndpoint), run}}
	ts := Targets(r, "n1", func(id discover.Identity) (catalog.Process, bool) {
		return catalog.Process{Instance: "agent", Labels: labels.FromStrings("service_instance_id", "agent", "service_name", "shop")}, id.PIDs[0] == 2
	})
	var got []string
	for _, t := range ts {
		got = append(got, fmt.Sprint(t.PID, t.Start, t.Instance, t.Labels, t.Agent)+map[bool]string{true: "launcher"}[t.Launcher])
	}
	want := []string{`1 1i1{service_instance_id="i1", service_name="cart"}false`, `2 2agent{service_instance_id="agent", service_name="shop"}true`,
		`3 3i3{service_instance_id="i3", service_name="cart"}false`, `7 7i7{service_instance_id="i7", service_name="cart"}false`, `9 9i9{service_instance_id="i9", service_name="cart"}false`,
		`10 10i10{service_instance_id="i10", service_name="cart"}falselauncher`}
	if len(got) != len(want) || !slices.EqualFunc(got, want, func(a, b string) bool { return strings.ReplaceAll(a, " ", "") == strings.ReplaceAll(b, " ", "") }) {
		t.Errorf("targets %q, want %q", got, want)
	}
}

func TestParse(t *testing.T) {
	st, err := parseStat([]byte("4711" + statLine))
	if want := (stat{'S', 300, 12, 98765, 1 << 30, 256}); err != nil || st != want {
		t.Errorf("%+v, %v, want %+v", st, err, want)
	}
	for _, bad := range []string{"", "1 (x", "1 (x) S 1 2", "4711" + strings.Replace(statLine, "250", "x", 1), "4711" + strings.Replace(statLine, "250", "99999999999999999999", 1)} {
		if _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("stat %q is accepted", bad)
		}
	}
	for text, want := range map[string]uint64{"Max open files            1024                 524288               files\n": 1024, "Max open files  unlimited unlimited files\n": 0} {
		if n, err := parseOpenFiles([]byte(text)); n != want || err != nil {
			t.Errorf("limits %q: %d, %v", text, n, err)
		}
	}
	for _, bad := range []string{"", "Max open files\n", "Max open files -1 2 files\n"} {
		if _, err := parseOpenFiles([]byte(bad)); err == nil {
			t.Errorf("limits %q are accepted", bad)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("4711" + statLine))
	f.Add([]byte("voluntary_ctxt_switches:\t100\nnonvoluntary_ctxt_switches:\t10\n"))
	f.Add([]byte("Max open files            1024                 524288               files\n"))
	f.Add([]byte("4:memory:/a\n0::/b\n"))
	f.Add([]byte("some avg10=12.34 avg60=1.00 total=1\nfull avg10=0 total=2\n"))
	f.Add([]byte("50000 100000\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		parseStat(b)
		parseSwitches(b)
		parseOpenFiles(b)
		if q, p, err := cgroup.ParseQuota(b); err == nil && p != 0 && (q <= 0 || p < 0) {
			t.Errorf("quota %d of %d", q, p)
		}
		if some, full, err := cgroup.ParsePressure(b); err == nil && !(some.Avg10 >= 0 && full.Avg10 <= 100) {
			t.Errorf("pressure %v %v", some, full)
		}
		if p := cgroup.ParsePaths(b); len(p.CPUAcct) > cgroup.MaxPath || p.Unified != "" && p.Unified[0] != '/' {
			t.Errorf("cgroups %+v", p)
		}
	})
}

// nothing is an appender that takes all.
type nothing struct{}

func (nothing) AppendSeries(context.Context, ...series.Batch) error { return nil }
