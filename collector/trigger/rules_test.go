package trigger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/collector/capture"
	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/profiles"
)

// desk is a Source that notes what it is asked, and an Executor that notes what it takes.
type desk struct {
	mu        sync.Mutex
	grant     bool
	reach     string
	claims    []capture.Claim
	delivered []string // kinds
	errors    []string
	took      []string
	fail      error
}

func (d *desk) Next(context.Context, []string, time.Duration) ([]capture.Task, error) {
	return nil, errors.New("not asked here")
}

func (d *desk) Claim(_ context.Context, c capture.Claim) (capture.Grant, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.claims = append(d.claims, c)
	if !d.grant {
		return capture.Grant{Reason: "taken already"}, nil
	}
	return capture.Grant{Granted: true, ID: fmt.Sprintf("r%d", len(d.claims))}, nil
}

func (d *desk) Deliver(_ context.Context, r capture.Result) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r.Error != "" {
		d.errors = append(d.errors, r.Error)
		return nil
	}
	if b, err := io.ReadAll(r.Body); err != nil || string(b) != r.Kind {
		return fmt.Errorf("%q, %v", b, err)
	}
	d.delivered = append(d.delivered, r.Kind)
	return nil
}

func (d *desk) Instances() []string { return []string{d.reach} }

func (d *desk) Capture(_ context.Context, t capture.Task) (string, io.ReadCloser, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.took = append(d.took, t.Kind)
	if d.fail != nil {
		return "", nil, d.fail
	}
	return capture.ContentType(t.Kind), io.NopCloser(bytes.NewReader([]byte(t.Kind))), nil
}

// stage is an Engine over a proc and cgroups of files, with a clock that the test moves.
type stage struct {
	*Engine
	t      *testing.T
	dir    string
	desk   *desk
	mu     sync.Mutex
	now    time.Time
	events []catalog.Event
}

func newStage(t *testing.T, rules ...capture.Rule) *stage {
	t.Helper()
	s := &stage{t: t, dir: t.TempDir(), desk: &desk{grant: true, reach: "i"}, now: time.UnixMilli(1_800_000_000_000)}
	var err error
	s.Engine, err = New(Config{Executor: s.desk, Source: s.desk, ProcRoot: filepath.Join(s.dir, "proc"), CgroupRoot: filepath.Join(s.dir, "cgroup"),
		Now: func() time.Time { return s.now }, Events: func(_ context.Context, es []catalog.Event) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.events = append(s.events, es...)
			return nil
		}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SetRules(rules); err != nil {
		t.Fatal(err)
	}
	s.memory(10)
	s.write(map[string]string{"proc/7/cgroup": "0::/c\n", "proc/vmstat": "oom_kill 0\n", "cgroup/c/memory.max": "100\n", "cgroup/c/memory.stat": "inactive_file 0\n",
		"cgroup/c/memory.events": "oom_kill 0\n", "cgroup/c/memory.pressure": "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n", "cgroup/c/cpu.max": "100000 100000\n"})
	s.cpu(0)
	s.targets(catalog.Process{Started: s.now.Add(-time.Hour).UnixMilli()})
	return s
}

func (s *stage) targets(p catalog.Process) {
	p.Instance, p.Service, p.BuildID, p.Labels = "i", "cart", "b", labels.FromStrings("service_name", "cart")
	s.SetTargets([]Target{{PID: 7, Process: p, Start: 5}})
}

func (s *stage) write(files map[string]string) { tree(s.t, s.dir, files) }
func (s *stage) memory(used int) {
	s.write(map[string]string{"cgroup/c/memory.current": fmt.Sprintln(used)})
}
func (s *stage) cpu(ticks int) {
	s.write(map[string]string{"proc/7/stat": fmt.Sprintf("7 (x) S 1 1 1 0 -1 0 1 2 3 4 %d 0 7 8 20 0 12 0 5 1", ticks)})
}

// step moves the clock and has everything looked at.
func (s *stage) step(d time.Duration) {
	s.t.Helper()
	s.now = s.now.Add(d)
	s.Engine.mu.Lock()
	for _, w := range s.watches {
		w.next = s.now
	}
	s.Engine.mu.Unlock()
	s.round(s.t.Context(), s.now)
	s.wg.Wait()
}

func (s *stage) want(claims int, delivered ...string) {
	s.t.Helper()
	if len(s.desk.claims) != claims || fmt.Sprint(s.desk.delivered) != fmt.Sprint(delivered) {
		s.t.Fatalf("%d claims %+v, delivered %v; want %d, %v", len(s.desk.claims), s.desk.claims, s.desk.delivered, claims, delivered)
	}
}

// TestCPUAbove: the rule fires once it has held for its time, and then rests for its cool-down.
func TestCPUAbove(t *testing.T) {
	s := newStage(t, capture.Rule{Name: "busy", Metric: capture.MetricCPU, Above: 0.9, ForMs: 10_000, Take: []string{capture.CPU}, DurationMs: 5000, CooldownMs: 60_000})
	ticks := 0
	run := func(seconds int, share float64) {
		for range seconds {
			ticks += int(share * ticksPerSecond)
			s.cpu(ticks)
			s.step(time.Second)
		}
	}
	run(20, 0.5)
	s.want(0)
	run(9, 1)
	s.want(0)
	run(1, 0.2) // it did not last
	run(9, 1)
	s.want(0)
	run(5, 1)
	s.want(1, capture.CPU)
	if c := s.desk.claims[0]; c.Value < 0.9 || c.Trigger != "busy" || c.Build != "b" || c.Service != "cart" {
		t.Errorf("claim %+v", c)
	}
	run(40, 1)
	s.want(1, capture.CPU)
	run(40, 1)
	s.want(2, capture.CPU, capture.CPU)
}

// TestHeapJump: a heap of three times its own mean of the last hour; not before ten minutes of it are known.
func TestHeapJump(t *testing.T) {
	s := newStage(t, capture.Rule{Name: "jump", Metric: capture.MetricHeap, Jump: 3, Take: []string{capture.Heap, capture.Goroutine}})
	heap := func(bytes int64) *profiles.Profile {
		return &profiles.Profile{SampleTypes: []profiles.ValueType{{Type: "inuse_space"}}, Samples: make([]profiles.Sample, 2), Values: []int64{bytes / 2, bytes / 2}}
	}
	for i := range 9 {
		s.Observe("i", "heap", heap(100))
		s.step(time.Minute)
		if i == 4 {
			s.Observe("i", "heap", heap(1000))
			s.step(time.Second)
			s.want(0)
		}
	}
	for range 4 {
		s.Observe("i", "heap", heap(100))
		s.step(time.Minute)
	}
	s.Observe("i", "heap", heap(400))
	s.step(time.Second)
	s.want(0) // the one before has made the mean larger
	s.Observe("i", "heap", heap(800))
	s.step(time.Second)
	s.want(1, capture.Heap, capture.Goroutine)
	s.Observe("nobody", "heap", heap(800))
	s.Observe("i", "heap", &profiles.Profile{})
}

// TestDenied: what is not granted is not taken, and not asked for again at once.
func TestDenied(t *testing.T) {
	s := newStage(t, capture.Rule{Name: "many", Metric: capture.MetricGoroutines, Above: 10, Take: []string{capture.Goroutines}})
	s.desk.grant = false
	many := &profiles.Profile{SampleTypes: []profiles.ValueType{{Type: "goroutine"}}, Samples: make([]profiles.Sample, 1), Values: []int64{11}}
	for range 120 {
		s.Observe("i", "goroutine", many)
		s.step(time.Second)
	}
	s.want(1)
	if len(s.desk.took) > 0 {
		t.Errorf("took %v without a grant", s.desk.took)
	}
	s.Observe("i", "goroutine", many)
	s.step(stale + time.Second) // what was seen long ago is not true any more
	s.step(denied)
	s.want(1)
}

// TestMemoryFirst: near the limit it is taken before it is asked for; what is newest is kept, and delivered when the process was killed.
func TestMemoryFirst(t *testing.T) {
	s := newStage(t, capture.DefaultRules()...)
	s.step(time.Second)
	s.memory(91)
	s.step(time.Second)
	s.want(1, capture.Heap, capture.Goroutine)
	if fmt.Sprint(s.desk.took) != "[heap goroutine]" {
		t.Errorf("took %v", s.desk.took)
	}
	s.memory(95)
	s.step(time.Second)
	s.want(1, capture.Heap, capture.Goroutine) // taken anew, kept
	if len(s.desk.took) != 4 || s.kept == 0 {
		t.Errorf("took %v, keeps %d bytes", s.desk.took, s.kept)
	}
	s.write(map[string]string{"cgroup/c/memory.events": "oom_kill 1\n"})
	s.step(10 * time.Millisecond)
	s.write(map[string]string{"cgroup/c/memory.events": "oom_kill 2\n"}) // that was another of the same cgroup; this is ours
	s.write(map[string]string{"proc/7/stat": "7 (x) Z 1 1 1 0 -1 0 1 2 3 4 9 0 7 8 20 0 12 0 5 1"})
	s.step(10 * time.Millisecond)
	s.want(2, capture.Heap, capture.Goroutine, capture.Heap, capture.Goroutine)
	if len(s.events) != 1 || s.events[0].Kind != capture.EventOOMKill || s.events[0].Attrs["captures_request"] != "r2" || s.desk.claims[1].Trigger != TriggerOOM {
		t.Errorf("events %+v, claims %+v", s.events, s.desk.claims)
	}
	if s.kept != 0 || len(s.watches) != 0 {
		t.Errorf("%d bytes are kept, %d watched", s.kept, len(s.watches))
	}
}

// TestDying: a process that is counted as killed is seen alive for a moment, and may be found gone long after it; one that lives on was not the one.
func TestDying(t *testing.T) {
	for _, c := range []struct {
		lives, wait time.Duration
		want        string
	}{
		{0, 200 * time.Millisecond, capture.EventOOMKill},
		{0, time.Minute, capture.EventOOMKill},
		{dying / 2, time.Minute, capture.EventOOMKill},
		{dying + time.Second, 200 * time.Millisecond, EventExit},
	} {
		s := newStage(t)
		s.step(6 * time.Second)
		s.memory(99)
		s.write(map[string]string{"cgroup/c/memory.events": "oom_kill 1\n"})
		s.step(time.Second)
		if c.lives > 0 {
			s.step(c.lives)
		}
		s.write(map[string]string{"proc/7/stat": "7 (x) Z 1 1 1 0 -1 0 1 2 3 4 9 0 7 8 20 0 12 0 5 1"})
		s.step(c.wait)
		if len(s.events) != 1 || s.events[0].Kind != c.want {
			t.Errorf("alive %v after the count, gone %v later: %+v, want %s", c.lives, c.wait, s.events, c.want)
		}
	}
}

// TestLeft: a process that a scan does not find any more because it is dying is watched on for its end, one that another watch has is not, and one that lives on is forgotten.
func TestLeft(t *testing.T) {
	killed := map[string]string{"cgroup/c/memory.events": "oom_kill 1\n", "proc/7/stat": "7 (x) Z 1 1 1 0 -1 0 1 2 3 4 9 0 7 8 20 0 12 0 5 1"}
	for _, c := range []struct {
		name  string
		next  []Target
		lives time.Duration
		want  []string // instances whose end is told
	}{
		{"dying", nil, 100 * time.Millisecond, []string{"i"}},
		{"dying for long", nil, lingers - time.Second, []string{"i"}},
		{"living on", nil, lingers + time.Second, nil},
		{"with an agent", []Target{{PID: 7, Start: 5, Agent: true, Process: catalog.Process{Instance: "agents", Service: "cart"}}}, time.Second, []string{"agents"}},
	} {
		s := newStage(t, capture.DefaultRules()...)
		s.step(6 * time.Second)
		s.SetTargets(c.next)
		s.memory(95)
		s.step(time.Millisecond)
		s.SetTargets(c.next)
		s.step(c.lives)
		s.write(killed)
		s.step(50 * time.Millisecond)
		var got []string
		for _, e := range s.events {
			if got = append(got, e.Attrs["instance"]); e.Kind != capture.EventOOMKill {
				t.Errorf("%s: %+v", c.name, e)
			}
		}
		if !slices.Equal(got, c.want) || len(s.watches) != 0 || len(s.desk.took) != 0 {
			t.Errorf("%s: the ends of %q are told, want %q; %d are watched, taken: %q", c.name, got, c.want, len(s.watches), s.desk.took)
		}
	}
}

// TestStandstill: a machine that stands still during a round does not make the next one come late.
func TestStandstill(t *testing.T) {
	s := newStage(t)
	s.memory(95)
	began := time.Now()
	var looks atomic.Int32
	s.cfg.Now = func() time.Time {
		if looks.Add(1) == 3 { // as the second round begins; the 4th is after it
			time.Sleep(500 * time.Millisecond)
		}
		return s.now.Add(time.Since(began))
	}
	background(t, s.Run)
	for deadline := began.Add(30 * time.Second); looks.Load() < 4; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no second round")
		}
	}
	s.write(map[string]string{"cgroup/c/memory.events": "oom_kill 1\n", "proc/7/stat": "7 (x) Z 1 1 1 0 -1 0 1 2 3 4 9 0 7 8 20 0 12 0 5 1"})
	for told := false; !told; time.Sleep(10 * time.Millisecond) {
		s.mu.Lock()
		told = len(s.events) == 1 && s.events[0].Kind == capture.EventOOMKill
		s.mu.Unlock()
		if time.Since(began) > 15*time.Second { // share alone would have it rest for 25 s
			t.Fatalf("not told after %v", time.Since(began))
		}
	}
}

// TestNotKilled: who ends by itself while others of its cgroup were killed before, or whose pid is another process now, was not killed.
func TestNotKilled(t *testing.T) {
	s := newStage(t)
	s.write(map[string]string{"cgroup/c/memory.events": "oom_kill 3\n"})
	s.step(6 * time.Second)
	s.write(map[string]string{"proc/7/stat": "7 (x) S 1 1 1 0 -1 0 1 2 3 4 9 0 7 8 20 0 12 0 6 1"}) // it started later
	s.step(time.Second)
	if len(s.events) != 1 || s.events[0].Kind != EventExit || s.events[0].Attrs["ran_ms"] != "3606000" || s.events[0].Attrs["ran_most_ms"] != "3607000" ||
		s.events[0].Text != "cart ended after 1h0m6s to 1h0m7s" {
		t.Errorf("events %+v", s.events)
	}
}

// TestTakeFails: what cannot be taken is said where it was granted, and the event of the kill is told all the same.
func TestTakeFails(t *testing.T) {
	s := newStage(t, capture.DefaultRules()...)
	s.desk.fail = errors.New("no answer")
	s.step(time.Second)
	s.memory(92)
	s.step(time.Second)
	s.want(1)
	if len(s.desk.errors) != 2 {
		t.Errorf("errors %v", s.desk.errors)
	}
	s.write(map[string]string{"cgroup/c/memory.events": "oom_kill 1\n", "proc/7/stat": "7 (x) X 1 1 1 0 -1 0 1 2 3 4 9 0 7 8 20 0 12 0 5 1"})
	s.step(time.Second)
	if len(s.events) != 1 || s.events[0].Kind != capture.EventOOMKill || s.events[0].Attrs["captures"] != "" {
		t.Errorf("events %+v", s.events)
	}
}

// TestAgentsOwn: of a process whose agent takes its captures only the end is told.
func TestAgentsOwn(t *testing.T) {
	s := newStage(t, capture.DefaultRules()...)
	s.SetTargets([]Target{{PID: 7, Start: 5, Agent: true, Process: catalog.Process{Instance: "agents", Service: "cart"}}})
	s.memory(95)
	s.step(time.Second)
	s.step(time.Second)
	s.want(0)
	s.write(map[string]string{"cgroup/c/memory.events": "oom_kill 1\n", "proc/7/stat": "7 (x) Z 1 1 1 0 -1 0 1 2 3 4 9 0 7 8 20 0 12 0 5 1"})
	s.step(time.Second)
	if len(s.events) != 1 || s.events[0].Kind != capture.EventOOMKill || s.events[0].Attrs["instance"] != "agents" {
		t.Errorf("events %+v", s.events)
	}
}

// TestNewBuild: a process that has just begun is captured, one that was found late is not; pressure is read where a rule wants it.
func TestNewBuild(t *testing.T) {
	rules := []capture.Rule{{Name: "fresh", Metric: capture.MetricNewBuild, ForMs: 60_000, Take: []string{capture.CPU}},
		{Name: "pressed", Metric: capture.MetricPressure, Above: 20, Take: []string{capture.Heap}}}
	s := newStage(t, rules...)
	s.step(10 * time.Second)
	s.step(10 * time.Second)
	s.want(0)
	s.write(map[string]string{"cgroup/c/memory.pressure": "some avg10=33.00 avg60=0.00 avg300=0.00 total=0\n"})
	s.step(10 * time.Second)
	s.want(1, capture.Heap)
	s = newStage(t, rules...)
	s.targets(catalog.Process{Started: s.now.Add(-time.Second).UnixMilli()})
	s.step(time.Second)
	s.want(0)
	s.step(6 * time.Second)
	s.want(1, capture.CPU)
	s.step(6 * time.Second)
	s.want(1, capture.CPU)
}

func TestGCShare(t *testing.T) {
	p := &profiles.Profile{SampleTypes: []profiles.ValueType{{Type: "samples"}, {Type: "cpu"}}, Functions: []profiles.Function{{Name: "main.work"}, {Name: "runtime.gcBgMarkWorker.func2"}},
		Lines: []profiles.Line{{Function: 0}, {Function: 1}}, Locations: []profiles.Location{{Lines: profiles.Span{Lo: 0, Hi: 1}}, {Lines: profiles.Span{Lo: 1, Hi: 2}}}, LocationIDs: []uint32{0, 1}}
	for i := range uint32(20) {
		at := uint32(0)
		if i%4 == 0 {
			at = 1
		}
		p.Samples = append(p.Samples, profiles.Sample{Locations: profiles.Span{Lo: at, Hi: at + 1}})
		p.Values = append(p.Values, 1, 10)
	}
	if v, ok := gcShare(p); v != 0.25 || !ok {
		t.Errorf("share %v, %v", v, ok)
	}
}
