package perf

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sonde-io/sonde/collector/discover"
	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/internal/testgo"
	"github.com/sonde-io/sonde/profiles/store"
)

// TestRingWrapsAndLoses reads a small ring many times around, then leaves it alone until records are lost.
func TestRingWrapsAndLoses(t *testing.T) {
	needPerf(t)
	cmd := run(t, busy(t, testgo.Local()), "run", "60s")
	budget := 1000
	attr := cpuClock(5000, false, false)
	cpus, err := onlineCPUs()
	if err != nil {
		t.Fatal(err)
	}
	e, err := openEvents(ModeProcess, cpus, attr, 4, &budget)
	if err != nil {
		t.Fatal(err)
	}
	defer e.close()
	e.enabled = true
	fds, err := e.addProcess(cmd.Process.Pid, func(int) bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		e.shut(fds)
	}()
	d := decoder{regs: userRegs()}
	samples, lost, bytes := 0, uint64(0), 0
	read := func() {
		for _, r := range e.rings {
			r.drain(func(b []byte) {
				bytes += len(b)
				rec, ok := d.decode(b)
				switch {
				case !ok:
					t.Fatalf("a record of %d bytes cannot be decoded: %x", len(b), b)
				case rec.kind == recordSample:
					samples++
					if int(rec.pid) != cmd.Process.Pid || len(rec.user) == 0 || rec.period != 200_000 {
						t.Fatalf("%+v", rec)
					}
				case rec.kind == recordLost:
					lost += rec.lost
				}
			})
		}
	}
	size := len(e.rings[0].mem) - 4096
	for end := time.Now().Add(60 * time.Second); bytes < 5*size*len(e.rings); {
		read()
		time.Sleep(2 * time.Millisecond)
		if time.Now().After(end) {
			t.Fatalf("only %d bytes in a minute", bytes)
		}
	}
	for end := time.Now().Add(60 * time.Second); lost == 0; {
		time.Sleep(200 * time.Millisecond)
		read()
		if time.Now().After(end) {
			t.Fatal("nothing was lost in a minute")
		}
	}
	t.Logf("%d samples, %d lost", samples, lost)
}

// TestLostRecordsAreCounted makes the loop see a record of losses.
func TestLostRecordsAreCounted(t *testing.T) {
	needPerf(t)
	s, err := New(Config{Sink: &memory{}})
	if err != nil {
		t.Fatal(err)
	}
	l := &loop{s: s}
	b := make([]byte, 40)
	b[0], b[6], b[16] = recordLost, 40, 17
	l.record(b)
	l.record(b[:39])
	l.record(nil)
	if l.stats.Lost != 17 || l.stats.Malformed != 2 {
		t.Errorf("%+v", l.stats)
	}
}

// TestDutyAndWeight multiplies by what is left out.
func TestDutyAndWeight(t *testing.T) {
	needPerf(t)
	r := start(t, Config{Every: 2, Window: 500 * time.Millisecond})
	cmd := run(t, busy(t, testgo.Local()), "run", "60s")
	one := target(cmd.Process.Pid, "weighted")
	one.Weight = 3
	r.SetTargets([]Target{one})
	r.until(60*time.Second, "three profiles", func() bool { return sumOf(r.sink.all(), "weighted", "cpu").pushes >= 3 })
	last := uint64(0)
	for i, push := range r.sink.all() {
		p := push.Profiles[0]
		if v := p.Data.Row(0)[0]; v%6 != 0 {
			t.Errorf("a value of %d in one window of two with weight 3", v)
		}
		if i > 0 && push.Key.Window != last+2 {
			t.Errorf("window %d after %d", push.Key.Window, last)
		}
		last = push.Key.Window
	}
}

// TestCapture profiles on demand, beside the windows.
func TestCapture(t *testing.T) {
	needPerf(t)
	r := start(t, Config{Every: 1000, Hz: 999}) // no window is sampled
	cmd := run(t, busy(t, testgo.Local()), "run", "60s")
	to := target(cmd.Process.Pid, "captured")
	r.SetTargets([]Target{to})
	r.until(60*time.Second, "watching", func() bool { return r.Stats().Watched == 1 })
	p, err := r.Capture(t.Context(), to.Process.Instance, "cpu", 700*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	s := sumOf(nil, "", "")
	s.add(p)
	if s.total == 0 || s.share("main.(*worker).run") < 0.4 {
		t.Errorf("captured\n%s", s)
	}
	if len(r.sink.all()) != 0 {
		t.Error("a window was appended")
	}
	for _, tc := range []struct{ instance, kind, want string }{
		{"nobody", "cpu", "perf does not watch it"},
		{to.Process.Instance, "heap", "perf takes cpu and offcpu only"},
		{to.Process.Instance, "offcpu", "not switched on"},
	} {
		if _, err := r.Capture(t.Context(), tc.instance, tc.kind, time.Second); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("capture %s of %s: %v", tc.kind, tc.instance, err)
		}
	}
	// The process ends before the capture does: it has what there was.
	time.AfterFunc(400*time.Millisecond, func() { _ = cmd.Process.Kill() })
	began := time.Now()
	if _, err := r.Capture(t.Context(), to.Process.Instance, "cpu", time.Minute); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("the capture of a process that ended took %v", took)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Capture(ctx, to.Process.Instance, "cpu", time.Minute); err == nil {
		t.Error("a capture was taken though nobody waits")
	}
	r.stop()
	if _, err := r.Capture(t.Context(), to.Process.Instance, "cpu", time.Second); !errors.Is(err, errClosed) {
		t.Errorf("after the end: %v", err)
	}
}

// TestSinkRefuses tries again under the same key.
func TestSinkRefuses(t *testing.T) {
	needPerf(t)
	sink := &memory{came: make(chan struct{}, 1)}
	var refused []uint64 // windows; guarded by sink.mu
	sink.refuse = func(p store.Push) error {
		if len(refused) < 2 {
			refused = append(refused, p.Key.Window)
			return errors.New("not now")
		}
		return nil
	}
	r := start(t, Config{Sink: sink})
	r.sink = sink
	cmd := run(t, busy(t, testgo.Local()), "run", "60s")
	r.SetTargets([]Target{target(cmd.Process.Pid, "refused")})
	r.until(60*time.Second, "the windows that were refused", func() bool {
		came := map[uint64]bool{}
		for _, p := range sink.all() {
			came[p.Key.Window] = true
		}
		sink.mu.Lock()
		defer sink.mu.Unlock()
		return len(refused) == 2 && came[refused[0]] && came[refused[1]]
	})
	sink.mu.Lock()
	sink.refuse = func(store.Push) error { return &store.LimitError{} }
	sink.mu.Unlock()
	r.until(60*time.Second, "a gap", func() bool {
		for _, st := range r.Status() {
			if st.Gaps > 0 {
				return true
			}
		}
		return false
	})
}

// TestTargetsComeAndGo starts and ends watches as it is told, and knows a pid that has another owner.
func TestTargetsComeAndGo(t *testing.T) {
	needPerf(t)
	r := start(t, Config{MaxProcesses: 2})
	program := busy(t, testgo.Local())
	a, b, c := run(t, program, "idle", "60s"), run(t, program, "idle", "60s"), run(t, program, "idle", "60s")
	ta, tb, tc := target(a.Process.Pid, "a"), target(b.Process.Pid, "b"), target(c.Process.Pid, "c")
	states := func(want string) func() bool {
		return func() bool {
			var got []string
			for _, st := range r.Status() {
				got = append(got, st.Service+" "+st.State+" "+st.Reason)
			}
			return strings.Join(got, ", ") == want
		}
	}
	r.SetTargets([]Target{ta, tb})
	r.until(60*time.Second, "two watched", states("a watching , b watching "))
	r.SetTargets([]Target{ta, tb, tc})
	r.until(60*time.Second, "the third refused", states("a watching , b watching , c refused 2 processes are watched already"))
	r.SetTargets([]Target{ta, tc})
	r.until(60*time.Second, "b left alone", func() bool { return strings.Contains(r.log.String(), "service=b reason=\"no longer a target\"") })
	r.SetTargets([]Target{ta, tc})
	r.until(60*time.Second, "c watched", states("a watching , c watching "))
	other := ta
	other.Process.StartTicks++ // a pid that was given to another process since
	other.Process.Service = "reused"
	r.SetTargets([]Target{other, tc})
	r.until(60*time.Second, "a ended", states("c watching "))
	if log := r.log.String(); strings.Contains(log, "service=reused") {
		t.Errorf("another process was watched under its pid:\n%s", log)
	}
	_ = c.Process.Kill()
	_ = c.Wait()
	r.until(60*time.Second, "c exited", func() bool { return strings.Contains(r.log.String(), "service=c reason=exited") })
	if n := len(r.sink.all()); n > 10 {
		t.Errorf("%d pushes of processes that do nothing", n)
	}
}

// TestEventsAreBounded refuses what does not fit, and takes what fits.
func TestEventsAreBounded(t *testing.T) {
	needPerf(t)
	cpus, err := onlineCPUs()
	if err != nil {
		t.Fatal(err)
	}
	r := start(t, Config{Mode: ModeProcess, MaxEvents: len(cpus) + 1})
	cmd := run(t, busy(t, testgo.Local()), "run", "60s")
	r.SetTargets([]Target{target(cmd.Process.Pid, "large")})
	r.until(60*time.Second, "refused", func() bool {
		st := r.Status()
		return len(st) == 1 && st[0].State == "refused" && strings.Contains(st[0].Reason, "more events than are left")
	})
	r.until(60*time.Second, "the events closed again", func() bool { return r.Stats().Events == len(cpus) })
}

// TestCPUsComeAndGo opens the events anew when the list of CPUs changes.
func TestCPUsComeAndGo(t *testing.T) {
	needPerf(t)
	all, err := onlineCPUs()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 2 {
		t.Skip("SKIPPED: there is one CPU only")
	}
	for _, mode := range []Mode{ModeAuto, ModeProcess} {
		var grown atomic.Bool
		r := startWith(t, Config{Mode: mode, Hz: 499}, func(s *Sampler) {
			s.cpus = func() ([]int, error) {
				if grown.Load() {
					return all, nil
				}
				return all[:1], nil
			}
		})
		cmd := run(t, busy(t, testgo.Local()), "run", "60s")
		r.SetTargets([]Target{target(cmd.Process.Pid, "moves")})
		r.until(60*time.Second, "watching", func() bool { return r.Stats().Watched == 1 && r.Stats().Events > 0 })
		before := r.Stats().Events
		grown.Store(true)
		r.until(60*time.Second, "events on all CPUs", func() bool { return r.Stats().Events >= before*len(all) })
		n := sumOf(r.sink.all(), "moves", "cpu").total
		r.until(60*time.Second, "samples after that", func() bool { return sumOf(r.sink.all(), "moves", "cpu").total > n+20 })
	}
}

// TestNotGo leaves alone what is no Go program, and what ended.
func TestNotGo(t *testing.T) {
	needPerf(t)
	r := start(t, Config{})
	cmd := run(t, "/bin/sh", "-c", "echo ready; sleep 60")
	r.SetTargets([]Target{target(cmd.Process.Pid, "shell"), target(1<<22+5, "gone")})
	r.until(60*time.Second, "refused", func() bool {
		st := r.Status()
		return len(st) == 1 && st[0].State == "refused" && strings.Contains(st[0].Reason, "no Go function table")
	})
	r.until(60*time.Second, "counted", func() bool { return r.Stats().EndedEarly == 1 })
}

func TestCan(t *testing.T) {
	needSystem(t)
	s, err := New(Config{Sink: &memory{}})
	if err != nil {
		t.Fatal(err)
	}
	if ok, reason := s.Can(discover.Process{GoVersion: "go1.26.1"}); !ok {
		t.Error(reason)
	}
	if ok, reason := s.Can(discover.Process{GoVersion: "go1.17.2"}); ok || !strings.Contains(reason, "go1.17.2") {
		t.Errorf("go1.17.2: %v, %q", ok, reason)
	}
}

// TestRunLeavesNothingBehind ends while processes are watched and being opened.
func TestRunLeavesNothingBehind(t *testing.T) {
	needPerf(t)
	program := busy(t, testgo.Local())
	cmd := run(t, program, "run", "60s")
	var seen atomic.Int64
	before := runtime.NumGoroutine()
	for range 3 {
		s, err := New(Config{Sink: &memory{came: make(chan struct{}, 1)}, Seen: func(context.Context, []catalog.Process) { seen.Add(1) },
			Describe: func(ctx context.Context, pid int) (Target, bool) { <-ctx.Done(); return Target{}, false }})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		s.SetTargets([]Target{target(cmd.Process.Pid, "last")})
		for end := time.Now().Add(10 * time.Second); s.Stats().Watched == 0 && time.Now().Before(end); {
			time.Sleep(10 * time.Millisecond)
		}
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if err := s.Run(t.Context()); err == nil {
			t.Error("Run ran twice")
		}
	}
	for range 100 {
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	buf := make([]byte, 1<<16)
	t.Errorf("%d goroutines before, %d after:\n%s", before, runtime.NumGoroutine(), buf[:runtime.Stack(buf, true)])
}

func TestConfigIsChecked(t *testing.T) {
	for _, tc := range []struct {
		cfg  Config
		want string
	}{{Config{}, "no sink"}, {Config{Sink: &memory{}, Mode: "all"}, `mode "all"`}, {Config{Sink: &memory{}, Hz: 1e6}, "at most 10000"}} {
		if _, err := New(tc.cfg); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v: %v", tc.cfg, fmt.Sprint(err))
		}
	}
}
