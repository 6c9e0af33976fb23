package inspect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/collector/discover"
	"github.com/sonde-io/sonde/collector/discover/discovertest"
	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/internal/testgo"
	"github.com/sonde-io/sonde/profiles/store"
)

// rightsHelper makes the test binary say whether it can read a process: it is run as another user.
const rightsHelper = "INSPECT_TEST_RIGHTS"

func TestMain(m *testing.M) {
	if s := os.Getenv(rightsHelper); s != "" {
		pid, _ := strconv.Atoi(s)
		ins, err := New(Config{Sink: sinkFunc(nil)})
		if err != nil {
			panic(err)
		}
		ok, why := ins.Can(discover.Process{PID: pid, Instance: "x", GoVersion: testgo.Local()})
		fmt.Print(ok, " ", why)
		w := newWatch(targetOf(pid), time.Now(), time.Hour) // one that was watched all the same
		ins.round(context.Background(), w)
		if w.status.State == stateFailing {
			fmt.Print("; ", w.status.Reason)
		}
		return
	}
	os.Exit(m.Run())
}

type sinkFunc func(store.Push) error

func (f sinkFunc) Append(_ context.Context, p store.Push) error { return f(p) }

// row is what a test keeps of one profile of a push: the profile is not the sink's to keep.
type row struct {
	key        catalog.Key
	process    catalog.Process
	typ        string
	start, end int64
	sums       []int64
	stacks     map[string][]int64
}

// recorder is a sink that remembers.
type recorder struct {
	mu   sync.Mutex
	rows []row
	fail func(try int) error
	n    int
}

func (r *recorder) Append(_ context.Context, p store.Push) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.n++
	if r.fail != nil {
		if err := r.fail(r.n); err != nil {
			return err
		}
	}
	for _, pr := range p.Profiles {
		out := row{key: p.Key, process: *p.Process, typ: pr.Type, start: pr.Start, end: pr.End, sums: make([]int64, pr.Data.Columns()), stacks: stacks(pr.Data, 128)}
		for i := range pr.Data.Samples {
			for c, v := range pr.Data.Row(i) {
				out.sums[c] += v
			}
		}
		r.rows = append(r.rows, out)
	}
	return nil
}

func (r *recorder) of(typ string) (out []row) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.rows {
		if s.typ == typ {
			out = append(out, s)
		}
	}
	return out
}

// until waits until ok says that something is so. The limit only ends a test that would hang.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// run starts an inspector; stop ends it and checks that nothing is left of it.
func run(t *testing.T, cfg Config) (ins *Inspector, stop func()) {
	t.Helper()
	ins, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- ins.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
		if s := discovertest.Leaked("collector/inspect"); s != "" {
			t.Errorf("goroutines left behind:\n%s", s)
		}
	})
	t.Cleanup(stop)
	return ins, stop
}

func targetOf(pid int) Target {
	instance := fmt.Sprintf("%032x", pid)
	return Target{PID: pid, Weight: 1, Process: catalog.Process{
		Instance: instance, Service: "target", PID: pid, Exe: "/srv/target",
		Labels: labels.FromStrings("service_name", "target", "service_instance_id", instance),
	}}
}

func TestRunStoresIntervals(t *testing.T) {
	p := start(t, testgo.Local(), nil, "TARGET_RATE=4096")
	p.do("goroutines", "mutex 1", "block 1")
	settle(t, attach(t, p.pid), 30)
	sink := &recorder{fail: func(try int) error {
		if try == 2 {
			return errors.New("the disk is full")
		}
		return nil
	}}
	ins, stop := run(t, Config{Sink: sink, Period: 200 * time.Millisecond, CPULimit: -1, Registerer: prometheus.NewRegistry()})
	target := targetOf(p.pid)
	target.Weight = 3
	ins.SetTargets([]Target{target, target})
	until(t, "a first profile", func() bool { return len(sink.of("goroutine")) > 0 })
	p.do("contend", "allocate", "gc")
	until(t, "all types", func() bool {
		return len(sink.of("mutex")) > 0 && len(sink.of("block")) > 0 && slices.ContainsFunc(sink.of("heap"), func(r row) bool { return len(of(r.stacks, "main.large")) > 0 })
	})
	until(t, "ten profiles", func() bool { return len(sink.of("goroutine")) >= 10 })
	st := ins.Status()
	if len(st) != 1 || st[0].State != stateWatching || st[0].Goroutines < 20 || st[0].Profiles == 0 || st[0].PID != p.pid {
		t.Errorf("status %+v", st)
	}
	stop()

	windows := map[uint64]bool{}
	var end int64
	for _, r := range sink.of("goroutine") {
		if windows[r.key.Window] || !strings.HasPrefix(r.key.Instance, "memory/") || !strings.HasSuffix(r.key.Instance, "/"+target.Process.Instance) {
			t.Errorf("key %+v", r.key)
		}
		windows[r.key.Window] = true
		if r.process.Gatherer != "perf" || r.start >= r.end || r.start < end {
			t.Errorf("gatherer %q, [%d, %d) after %d", r.process.Gatherer, r.start, r.end, end)
		}
		end = r.end
		for stack, v := range of(r.stacks, "main.selects") {
			if v[0] != 9 { // three goroutines, each for three
				t.Errorf("%d times\n%s", v[0], stack)
			}
		}
	}
	// What was allocated is in one interval only, and stays in use in all that follow.
	var allocated, held int
	for _, r := range sink.of("heap") {
		for _, v := range of(r.stacks, "main.deepNode") {
			if v[0] > 0 {
				allocated++
			}
			if v[3] > 0 {
				held++
			}
		}
	}
	if allocated == 0 || held <= allocated {
		t.Errorf("allocated in %d intervals, held in %d", allocated, held)
	}
	if err := ins.Run(t.Context()); err == nil {
		t.Error("ran twice")
	}
}

func TestTargetThatEnds(t *testing.T) {
	p := start(t, testgo.Local(), nil)
	sink := &recorder{}
	ins, _ := run(t, Config{Sink: sink, Period: 50 * time.Millisecond, CPULimit: -1})
	target := targetOf(p.pid)
	ins.SetTargets([]Target{target})
	until(t, "a profile", func() bool { return len(sink.of("goroutine")) > 0 })
	syscall.Kill(p.pid, syscall.SIGKILL)
	p.out.Scan() // its end
	until(t, "the status to say so", func() bool { return ins.Status()[0].State == stateFailing })
	if st := ins.Status()[0]; st.Reason == "" || st.Gaps == 0 {
		t.Errorf("%+v", st)
	}
	// Another process with its pid is not taken for it.
	other := start(t, testgo.Local(), nil)
	target = targetOf(other.pid)
	target.Process.StartTicks = 1
	ins.SetTargets([]Target{target})
	until(t, "the other to be refused", func() bool {
		st := ins.Status()
		return len(st) == 1 && st[0].State == stateFailing && strings.Contains(st[0].Reason, "ended")
	})
	if _, err := ins.Text(t.Context(), target.Process.Instance); !errors.Is(err, errGone) {
		t.Errorf("text of another process: %v", err)
	}
	ins.SetTargets(nil)
	if st := ins.Status(); len(st) != 0 {
		t.Errorf("%+v", st)
	}
}

func TestCaptureOnDemand(t *testing.T) {
	p := start(t, testgo.Local(), nil, "TARGET_RATE=4096")
	p.do("goroutines", "mutex 1", "allocate", "contend", "gc")
	settle(t, attach(t, p.pid), 30)
	sink := &recorder{}
	ins, _ := run(t, Config{Sink: sink})
	target := targetOf(p.pid)
	ins.SetTargets([]Target{target})
	for kind, function := range map[string]string{"goroutine": "main.deep", "heap": "main.deepNode", "allocs": "main.large", "mutex": "main.unlockInlined"} {
		pr, err := ins.Capture(t.Context(), target.Process.Instance, kind, 0)
		if err != nil {
			t.Fatal(err)
		}
		if len(of(stacks(pr, 128), function)) == 0 {
			t.Errorf("%s: nothing of %s", kind, function)
		}
	}
	if pr, err := ins.Capture(t.Context(), target.Process.Instance, "mutex", time.Millisecond); err != nil || len(of(stacks(pr, 128), "main.")) != 0 {
		t.Errorf("mutex of a millisecond: %v", err)
	}
	for _, kind := range []string{"cpu", "trace", "", "block"} {
		_, err := ins.Capture(t.Context(), target.Process.Instance, kind, 0)
		if err == nil {
			t.Errorf("captured %q", kind)
		}
		if kind == "block" && !strings.Contains(fmt.Sprint(err), "SetBlockProfileRate") {
			t.Errorf("block: %v", err)
		}
	}
	if _, err := ins.Capture(t.Context(), "nobody", "goroutine", 0); err == nil {
		t.Error("captured nobody")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := ins.Capture(ctx, target.Process.Instance, "goroutine", 0); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestTextIsThatOfTheRuntime(t *testing.T) {
	header := regexp.MustCompile(`(?m)^goroutine (\d+) \[([^\],]*)`)
	first := regexp.MustCompile(`^[^\n]*\n([^\n(]*)`)
	eachTarget(t, func(t *testing.T, version string, flags []string) {
		p := start(t, version, flags)
		p.do("serve", "goroutines")
		v := attach(t, p.pid)
		read := func(text string) map[string]string {
			out := map[string]string{}
			for block := range strings.SplitSeq(text, "\n\n") {
				h := header.FindStringSubmatch(block)
				if h == nil || strings.Contains(block, "net/http") || strings.Contains(block, "main.main") {
					continue // these serve the questions
				}
				created := ""
				if i := strings.Index(block, "created by "); i >= 0 {
					created = strings.TrimSpace(strings.SplitN(block[i:], "+0x", 2)[0])
				}
				out[h[1]] = h[2] + "; " + first.FindStringSubmatch(block)[1] + "; " + created
			}
			return out
		}
		agree(t, func() string {
			ours, err := v.text(monotonic())
			if err != nil {
				t.Fatal(err)
			}
			got, want := read(string(ours)), read(string(p.get("goroutine?debug=2")))
			if maps.Equal(got, want) && len(got) >= 25 {
				return ""
			}
			diff := fmt.Sprintf("%d goroutines, the process itself says %d", len(got), len(want))
			for id, w := range want {
				if got[id] != w {
					diff += fmt.Sprintf("\ngoroutine %s: got %q, the process itself says %q", id, got[id], w)
				}
			}
			return diff
		})
	})
}

func TestLabelsAreThoseOfTheProgram(t *testing.T) {
	eachTarget(t, func(t *testing.T, version string, flags []string) {
		p := start(t, version, flags)
		p.do("goroutines")
		v := attach(t, p.pid)
		settle(t, v, 30)
		got, _, err := v.goroutineProfile()
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]int{}
		for _, s := range got.Samples {
			set := got.Labels[s.Labels.Lo:s.Labels.Hi]
			if !slices.IsSortedFunc(set, compareLabels) {
				t.Errorf("labels %v are not sorted", set)
			}
			var text []string
			for _, l := range set {
				text = append(text, l.Key+"="+l.Str)
			}
			seen[strings.Join(text, " ")]++
		}
		for _, want := range []string{"account=0 region=north state=waiting wait_reason=chan receive", "account=1 region=north state=waiting wait_reason=chan receive", "state=syscall", "state=waiting wait_reason=select"} {
			if seen[want] == 0 {
				t.Errorf("no sample with the labels %s", want)
			}
		}
		many := false
		for set := range seen {
			many = many || strings.Count(set, "label") == 20 && strings.Contains(set, "label17=value17")
		}
		if !many {
			t.Errorf("no sample with twenty labels in %v", slices.Collect(maps.Keys(seen)))
		}
	})
}

// A parked goroutine's stack all but says why it waits: the labels of state may not make many more samples, each of which is a row in every sum of the store.
func TestStateLabelsMakeFewSamples(t *testing.T) {
	p := start(t, testgo.Local(), nil)
	p.do("goroutines", "churn", "spin")
	v := attach(t, p.pid)
	got, _, err := v.goroutineProfile()
	if err != nil {
		t.Fatal(err)
	}
	distinct := map[string]bool{}
	for _, s := range got.Samples {
		distinct[fmt.Sprint(got.LocationIDs[s.Locations.Lo:s.Locations.Hi])] = true
	}
	t.Logf("%d stacks, %d samples", len(distinct), len(got.Samples))
	if len(got.Samples) > 2*len(distinct) {
		t.Errorf("%d samples of %d stacks", len(got.Samples), len(distinct))
	}
}

func TestWhatIsOffIsSaid(t *testing.T) {
	const source = `package main

import "os"

func main() { os.Stdin.Read(make([]byte, 1)) }
`
	for _, version := range testgo.Toolchains() {
		p := startProgram(t, testgo.BuildSource(t, version, []string{"-ldflags=-s -w"}, source))
		v := attach(t, p.pid)
		until(t, "main to run", func() bool { _, _, err := v.goroutineProfile(); return err == nil })
		_, _, err := v.heapProfile()
		if no, ok := errors.AsType[*offError](err); !ok || !strings.Contains(no.why, "linker") {
			t.Errorf("%s: heap: %v", version, err)
		}
	}
	p := start(t, testgo.Local(), nil, "TARGET_RATE=0")
	p.do("goroutines")
	_, _, err := attach(t, p.pid).heapProfile()
	if no, ok := errors.AsType[*offError](err); !ok || !strings.Contains(no.why, "MemProfileRate") {
		t.Errorf("heap: %v", err)
	}
}

func TestUnknownVersionIsRefused(t *testing.T) {
	program, err := os.ReadFile(testgo.Build(t, testgo.Local(), []string{"-ldflags=-s -w"}, "testdata/target"))
	if err != nil {
		t.Fatal(err)
	}
	local := testgo.Local()
	start := func(version string) *target {
		other := bytes.ReplaceAll(program, []byte(local), []byte(version))
		path := filepath.Join(t.TempDir(), "target")
		if err := os.WriteFile(path, other, 0o755); err != nil {
			t.Fatal(err)
		}
		p := startProgram(t, path)
		p.do("goroutines")
		return p
	}
	sink := &recorder{}
	ins, _ := run(t, Config{Sink: sink, Period: 50 * time.Millisecond, CPULimit: -1})
	future := "go1.9" + local[len("go1.2"):]
	for _, version := range []string{"go1.27" + local[len("go1.26"):], future} {
		p := start(version)
		ins.SetTargets([]Target{targetOf(p.pid)})
		until(t, version+" to be refused", func() bool { return ins.Status()[0].State == stateRefused })
		if st := ins.Status()[0]; !strings.Contains(st.Reason, version) {
			t.Errorf("reason %q does not name %s", st.Reason, version)
		}
		if ok, why := ins.Can(discover.Process{PID: p.pid, Instance: "x", GoVersion: version}); ok || !strings.Contains(why, version) {
			t.Errorf("can read %s: %s", version, why)
		}
	}
	// One that lies about its version has another layout: what is read there is no goroutine.
	p := start("go1.23" + local[len("go1.26"):])
	ins.SetTargets([]Target{targetOf(p.pid)})
	until(t, "it to be found out", func() bool { st := ins.Status(); return len(st) == 1 && st[0].State == stateFailing })
	if got := sink.of("goroutine"); len(got) > 0 {
		t.Errorf("%d profiles were stored", len(got))
	}
}

func TestRightsAreSaid(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: starting a process as another user takes root")
	}
	p := start(t, testgo.Local(), nil)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(os.TempDir(), fmt.Sprintf("sonde-inspect-rights-%d", os.Getpid()))
	if b, err := os.ReadFile(self); err != nil {
		t.Fatal(err)
	} else if err := os.WriteFile(copied, b, 0o755); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(copied)
	as := func(attr *syscall.SysProcAttr) string {
		cmd := exec.Command(copied)
		cmd.Env = append(os.Environ(), rightsHelper+"="+strconv.Itoa(p.pid))
		cmd.SysProcAttr = attr
		cmd.Dir = "/"
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	if got := as(nil); got != "true " {
		t.Errorf("as root: %s", got)
	}
	other := as(&syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}})
	if !strings.HasPrefix(other, "false ") || strings.Count(other, "CAP_SYS_PTRACE is missing") != 2 || !strings.Contains(other, "65534") {
		t.Errorf("as nobody: %s", other)
	}
}

func TestConfigIsChecked(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Error("no sink")
	}
	if _, err := New(Config{Sink: &recorder{}, Types: []string{"cpu"}}); err == nil || !strings.Contains(err.Error(), "cpu") {
		t.Errorf("type cpu: %v", err)
	}
	reg := prometheus.NewRegistry()
	if _, err := New(Config{Sink: &recorder{}, Registerer: reg}); err != nil {
		t.Error(err)
	}
	if _, err := New(Config{Sink: &recorder{}, Registerer: reg}); err == nil {
		t.Error("registered twice")
	}
}

func TestChargeKeepsTheLimit(t *testing.T) {
	ins := &Inspector{cfg: Config{CPULimit: 0.02, Period: time.Minute}}
	now := time.Unix(1000, 0)
	free := now
	var used time.Duration
	for end := now.Add(time.Hour); now.Before(end); {
		now = later(now, free)
		used += 30 * time.Millisecond
		free = ins.charge(free, now, 30*time.Millisecond)
	}
	if share := used.Seconds() / 3600; share > 0.0205 || share < 0.019 {
		t.Errorf("took %.4f of a CPU", share)
	}
	// After a rest, a period's share may be used at once, not more.
	now = now.Add(24 * time.Hour)
	used = 0
	for start := now; !now.After(start); now = later(now, free) {
		used += 30 * time.Millisecond
		free = ins.charge(free, now, 30*time.Millisecond)
	}
	if used > 1300*time.Millisecond {
		t.Errorf("took %v at once", used)
	}
}
