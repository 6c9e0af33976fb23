package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"os"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync"
	"testing"
	"time"
)

func env(pairs ...string) func(string) string {
	m := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	return func(k string) string { return m[k] }
}

// logBuffer is a logger's output that can be read while it is written.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logBuffer) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// quick starts an agent whose windows, the first included, last d. It checks at the end that no goroutine is left.
func quick(t *testing.T, c *collector, d time.Duration, cfg Config) *Agent {
	t.Helper()
	before := agentGoroutines()
	cfg.URL, cfg.Service = c.URL, "test"
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	queue := cfg.QueueBytes
	a := start(cfg, effects{first: d, getenv: env(), tune: func(c *Config) {
		c.Period = d // below what Config allows
		if queue > 0 {
			c.QueueBytes = queue
		}
	}})
	t.Cleanup(func() {
		_ = a.Close() // the test looked at its error where it matters
		c.CloseClientConnections()
		wait(t, "the agent's goroutines to end", func() bool { return agentGoroutines() <= before })
	})
	return a
}

// agentGoroutines counts the goroutines that run the agent's own code.
func agentGoroutines() int {
	buf := make([]byte, 1<<20)
	n := 0
	for _, g := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if strings.Contains(g, "agent.(*recorder).run") || strings.Contains(g, "agent.(*uploader).run") || strings.Contains(g, "runtime/pprof.profileWriter") {
			n++
		}
	}
	return n
}

//go:noinline
func burn(until time.Time) (n int) {
	for time.Now().Before(until) {
		for i := range 10000 {
			n += i * i
		}
	}
	return n
}

func hasString(p []byte, s string) bool { return bytes.Contains(p, []byte(s)) }

func TestWindowsFollowEachOther(t *testing.T) {
	c := newCollector(t)
	a := quick(t, c, 100*time.Millisecond, Config{Environment: "prod", Labels: map[string]string{"team.name": "blue"}, Token: "s3cret"})
	wait(t, "3 windows", func() bool { burn(time.Now().Add(20 * time.Millisecond)); return len(c.stored()) >= 3 })
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	pushes := c.stored()
	for i, p := range pushes {
		if p.meta.Window != uint64(i+1) || p.meta.Part != 0 || p.meta.V != 1 || p.meta.Instance != a.instance {
			t.Errorf("push %d: window %d, part %d, version %d, instance %s", i, p.meta.Window, p.meta.Part, p.meta.V, p.meta.Instance)
		}
		if (p.meta.Process != nil) != (i == 0) {
			t.Errorf("push %d carries the process: %v", i, p.meta.Process != nil)
		}
		if i > 0 && p.meta.Start != pushes[i-1].meta.End {
			t.Errorf("window %d starts at %d, the one before ends at %d", i+1, p.meta.Start, pushes[i-1].meta.End)
		}
		for _, e := range p.meta.Profiles {
			if e.Start >= e.End || e.Part != string(e.Type) || p.data[e.Type] == nil {
				t.Errorf("push %d: entry %+v, %d bytes", i, e, len(p.data[e.Type]))
			}
		}
		if p.header.Get("Authorization") != "Bearer s3cret" || !strings.HasPrefix(p.header.Get("User-Agent"), "sonde-agent/") {
			t.Errorf("headers %v", p.header)
		}
	}
	labels := pushes[0].process.Labels
	for k, want := range map[string]string{"service_name": "test", "deployment_environment_name": "prod", "team_name": "blue"} {
		if labels[k] != want {
			t.Errorf("label %s is %q, want %q", k, labels[k], want)
		}
	}
	if pushes[0].process.PID != os.Getpid() || pushes[0].process.GoVersion != runtime.Version() {
		t.Errorf("process %+v", pushes[0].process)
	}
}

// TestIntervalsTouch checks that the intervals of one type cover the run without a hole or an overlap.
func TestIntervalsTouch(t *testing.T) {
	c := newCollector(t)
	a := quick(t, c, 60*time.Millisecond, Config{Types: []Type{Heap, Goroutine}})
	wait(t, "4 windows", func() bool { return len(c.stored()) >= 4 })
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	last := map[Type]int64{}
	for _, p := range c.stored() {
		for _, e := range p.meta.Profiles {
			if l := last[e.Type]; l != 0 && l != e.Start {
				t.Errorf("%s of window %d starts at %d, the one before ended at %d", e.Type, p.meta.Window, e.Start, l)
			}
			last[e.Type] = e.End
		}
	}
	if len(last) != 2 {
		t.Errorf("types seen: %v", last)
	}
}

func TestCloseFlushesEveryType(t *testing.T) {
	c := newCollector(t)
	a := quick(t, c, time.Hour, Config{MutexFraction: 1, BlockRate: 1})
	var mu sync.Mutex
	mu.Lock()
	done := make(chan struct{})
	go func() { defer close(done); mu.Lock(); defer mu.Unlock() }()
	burn(time.Now().Add(300 * time.Millisecond))
	mu.Unlock()
	<-done
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	pushes := c.stored()
	if len(pushes) != 1 {
		t.Fatalf("%d pushes, want 1", len(pushes))
	}
	for _, typ := range allTypes {
		if pushes[0].data[typ] == nil {
			t.Errorf("no %s profile; skipped: %v", typ, pushes[0].meta.Stats.Skipped)
		}
	}
	if !hasString(pushes[0].data[CPU], "agent.burn") {
		t.Error("the CPU profile does not show the function that burned")
	}
	if runtime.SetMutexProfileFraction(-1) != 0 {
		t.Error("the mutex fraction is not back to what it was")
	}
}

func TestRetryAfterIsHonouredAndBytesStay(t *testing.T) {
	c := newCollector(t)
	var mu sync.Mutex
	var at []time.Time
	c.set(func(w http.ResponseWriter, p push) bool {
		mu.Lock()
		defer mu.Unlock()
		at = append(at, time.Now())
		if len(at) == 1 {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		}
		return false
	})
	quick(t, c, 50*time.Millisecond, Config{Types: []Type{Heap}})
	wait(t, "a window to be stored", func() bool { return len(c.stored()) > 0 })
	tries := c.tried()
	if !bytes.Equal(tries[0].body, tries[1].body) {
		t.Error("the retry has other bytes than the first attempt")
	}
	mu.Lock()
	defer mu.Unlock()
	if pause := at[1].Sub(at[0]); pause < time.Second {
		t.Errorf("retried after %v, the collector asked for 1 s", pause)
	}
}

func TestLostAnswerIsSentAgain(t *testing.T) {
	c := newCollector(t)
	n := 0
	c.set(func(w http.ResponseWriter, p push) bool {
		if n++; n == 1 { // the agent has one connection, so this is called by one goroutine at a time
			c.mu.Lock()
			c.pushes = append(c.pushes, p) // committed, then the answer is lost
			c.mu.Unlock()
			panic(http.ErrAbortHandler)
		}
		_, _ = io.WriteString(w, `{"status":"duplicate","settings":null}`)
		return p.meta.Window == 1
	})
	a := quick(t, c, time.Hour, Config{Types: []Type{Heap}})
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	tries := c.tried()
	if len(tries) != 2 || !bytes.Equal(tries[0].body, tries[1].body) {
		t.Errorf("%d attempts, want 2 with the same bytes", len(tries))
	}
}

func TestUnknownProcessIsSentAgainWithIt(t *testing.T) {
	c := newCollector(t)
	known := true
	c.set(func(w http.ResponseWriter, p push) bool {
		if p.meta.Process != nil {
			known = true
		}
		if p.meta.Window == 2 && p.meta.Process == nil {
			known = false // the collector was replaced by one with an empty catalogue
		}
		if !known {
			w.WriteHeader(http.StatusPreconditionRequired)
			return true
		}
		return false
	})
	a := quick(t, c, 50*time.Millisecond, Config{Types: []Type{Heap}})
	wait(t, "window 2", func() bool { return len(c.stored()) >= 2 })
	p := c.stored()[1]
	if p.meta.Window != 2 || p.process.Labels["service_name"] != "test" {
		t.Errorf("window %d with process %+v, want window 2 with it", p.meta.Window, p.process)
	}
	if a.up.failed.Load() != 0 {
		t.Errorf("%d windows failed", a.up.failed.Load())
	}
}

func TestRefusedWindowIsCountedAndLoggedOnce(t *testing.T) {
	c := newCollector(t)
	c.set(func(w http.ResponseWriter, p push) bool {
		if p.meta.Window > 3 {
			return false
		}
		http.Error(w, `{"error":"too large"}`, http.StatusRequestEntityTooLarge)
		return true
	})
	var log logBuffer
	quick(t, c, 50*time.Millisecond, Config{Types: []Type{Heap}, Logger: log.logger()})
	wait(t, "a window after the refused ones", func() bool { return len(c.stored()) > 0 })
	tries := c.tried()
	for i := range 3 {
		if tries[i].meta.Window != uint64(i+1) {
			t.Errorf("attempt %d is of window %d: a refused window is not retried", i, tries[i].meta.Window)
		}
	}
	wait(t, "the count of failed windows", func() bool {
		p := c.stored()
		return p[len(p)-1].meta.Stats.WindowsFailed == 3
	})
	if n := strings.Count(log.String(), "refused"); n != 1 {
		t.Errorf("logged %d times, want once:\n%s", n, log.String())
	}
}

func TestQueueDropsTheOldest(t *testing.T) {
	c := newCollector(t)
	a := quick(t, c, time.Hour, Config{QueueBytes: 4000})
	block := make(chan struct{})
	started := make(chan struct{}, 16)
	c.set(func(w http.ResponseWriter, p push) bool {
		started <- struct{}{}
		<-block
		return false
	})
	for i := range 10 {
		w, err := newWindow(meta{V: 1, Window: uint64(i + 100), Profiles: []entry{{"heap", Heap, 1, 2}}}, nil, [][]byte{gzipped(t, make([]byte, 500))}, a.boundary)
		if err != nil {
			t.Fatal(err)
		}
		a.up.push(w)
		if i == 0 {
			<-started
		}
	}
	a.up.mu.Lock()
	held := a.up.bytes
	a.up.mu.Unlock()
	if held > 4000 {
		t.Errorf("the queue holds %d bytes, at most 4000", held)
	}
	close(block)
	wait(t, "the queue to empty", func() bool { return a.up.left() == 0 })
	pushes, dropped := c.stored(), int(a.up.dropped.Load())
	if dropped == 0 || len(pushes)+dropped != 10 {
		t.Errorf("%d stored and %d dropped, want 10 together", len(pushes), dropped)
	}
	if pushes[0].meta.Window != 100 || pushes[len(pushes)-1].meta.Window != 109 || pushes[1].meta.Window == 101 {
		t.Errorf("the window on the wire and the newest stay, the oldest go: kept %d, %d, …, %d", pushes[0].meta.Window, pushes[1].meta.Window, pushes[len(pushes)-1].meta.Window)
	}
}

func TestCloseKeepsItsDeadline(t *testing.T) {
	c := newCollector(t)
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	c.set(func(w http.ResponseWriter, p push) bool { <-release; return true })
	a := quick(t, c, time.Hour, Config{Types: []Type{Heap}, CloseTimeout: 100 * time.Millisecond})
	err := a.Close()
	if err == nil || !strings.Contains(err.Error(), "1 windows not sent within 100ms") {
		t.Errorf("Close says %v", err)
	}
}

func TestCloseDoesNotWaitForALongRetryAfter(t *testing.T) {
	c := newCollector(t)
	c.set(func(w http.ResponseWriter, p push) bool {
		w.Header().Set("Retry-After", "300")
		w.WriteHeader(http.StatusTooManyRequests)
		return true
	})
	a := quick(t, c, 50*time.Millisecond, Config{Types: []Type{Heap}, CloseTimeout: time.Minute})
	wait(t, "an attempt", func() bool { return len(c.tried()) > 0 })
	if err := a.Close(); err == nil {
		t.Error("Close says nothing of the windows it left behind")
	}
	if n := len(c.tried()); n != 1 {
		t.Errorf("%d attempts, want 1: the collector asked for 300 s", n)
	}
}

func TestNilAndDisabled(t *testing.T) {
	var none *Agent
	off := start(Config{}, effects{first: time.Second, getenv: env("SONDE_DISABLED", "1")})
	for _, a := range []*Agent{none, off} {
		a.Pause()
		a.Resume()
		a.SetLabels(map[string]string{"a": "b"})
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestLocalSwitchBeatsTheCollector(t *testing.T) {
	c := newCollector(t)
	c.set(func(w http.ResponseWriter, p push) bool {
		_, _ = io.WriteString(w, `{"status":"ok","settings":{"rev":"1","enabled":true,"types":["cpu"],"period_ms":1000}}`)
		return true
	})
	a := quick(t, c, 30*time.Millisecond, Config{})
	wait(t, "a push", func() bool { return len(c.tried()) > 0 })
	a.Pause()
	// The program has the CPU profile for itself now, whatever the collector wants.
	if err := pprof.StartCPUProfile(io.Discard); err != nil {
		t.Errorf("while paused: %v", err)
	}
	wait(t, "what was queued to be sent", func() bool { return a.up.left() == 0 })
	n := len(c.tried())
	a.obey(&settings{PeriodMS: ptr(int64(1000))})
	time.Sleep(100 * time.Millisecond)
	if m := len(c.tried()); m != n {
		t.Errorf("%d windows were sent while paused", m-n)
	}
	pprof.StopCPUProfile()
	a.Resume()
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if len(c.tried()) == n {
		t.Error("no window after Resume")
	}
}

func ptr[T any](v T) *T { return &v }

func TestRemoteSettings(t *testing.T) {
	now := time.UnixMilli(1_000_000)
	a := &Agent{cfg: Config{Types: []Type{CPU, Heap, Goroutine}, CPURate: 100, Period: 15 * time.Second}}
	a.rec = newRecorder(a, mappingForTest)
	own := plan{enabled: true, types: a.cfg.Types, rate: 100, period: 15 * time.Second}
	for _, tc := range []struct {
		name, json string
		want       plan
	}{
		{"none", `null`, own},
		{"empty leaves everything", `{"rev":"a"}`, own},
		{"off", `{"enabled":false}`, plan{false, own.types, 100, own.period, time.Time{}}},
		{"types are taken away, never added", `{"types":["cpu","mutex","nonsense"]}`, plan{true, []Type{CPU}, 100, own.period, time.Time{}}},
		{"no types", `{"types":[]}`, plan{true, nil, 100, own.period, time.Time{}}},
		{"rate and period", `{"cpu_rate":19,"period_ms":60000}`, plan{true, own.types, 19, time.Minute, time.Time{}}},
		{"out of bounds", `{"cpu_rate":-4,"period_ms":9223372036854775807}`, plan{true, own.types, 1, time.Hour, time.Time{}}},
		{"still valid", `{"enabled":false,"until":1000001}`, plan{false, own.types, 100, own.period, time.UnixMilli(1_000_001)}},
		{"expired", `{"enabled":false,"until":1000000}`, own},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var s *settings
			if err := json.Unmarshal([]byte(tc.json), &s); err != nil {
				t.Fatal(err)
			}
			a.obey(s)
			if got := a.plan(now); !got.equal(tc.want) || !got.until.Equal(tc.want.until) {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
		})
	}
}

func TestCollectorTurnsOffAndOnAgain(t *testing.T) {
	c := newCollector(t)
	c.set(func(w http.ResponseWriter, p push) bool {
		enabled := "true"
		if p.meta.Window < 3 {
			enabled = "false"
		}
		c.mu.Lock()
		c.pushes = append(c.pushes, p)
		c.mu.Unlock()
		_, _ = io.WriteString(w, `{"status":"ok","settings":{"enabled":`+enabled+`}}`)
		return true
	})
	quick(t, c, 100*time.Millisecond, Config{Types: []Type{Heap}})
	with := func() (windows []uint64) {
		for _, p := range c.stored() {
			if len(p.data) > 0 {
				windows = append(windows, p.meta.Window)
			}
		}
		return windows
	}
	wait(t, "profiles after the collector allowed them again", func() bool { w := with(); return len(w) > 1 && w[len(w)-1] > 3 })
	for _, w := range with() {
		if w == 3 {
			t.Error("window 3 holds profiles, though the collector had turned the agent off")
		}
	}
}

func TestSetLabelsSendsTheProcessAgain(t *testing.T) {
	c := newCollector(t)
	a := quick(t, c, 50*time.Millisecond, Config{Types: []Type{Heap}})
	wait(t, "the first window", func() bool { return len(c.stored()) > 0 })
	a.SetLabels(map[string]string{"shard": "7", "service_name": "other"})
	wait(t, "a process with the label", func() bool {
		for _, p := range c.stored()[1:] {
			if p.process.Labels["shard"] == "7" && p.process.Labels["service_name"] == "test" {
				return true
			}
		}
		return false
	})
}

func TestDoLabelsArriveAndLongOnesAreStripped(t *testing.T) {
	c := newCollector(t)
	a := quick(t, c, time.Hour, Config{Types: []Type{CPU, Goroutine}})
	long := strings.Repeat("x", MaxLabelValue+1)
	stop, ready := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		Do(context.Background(), Labels("route", "/checkout", "body", long, "odd"), func(context.Context) {
			close(ready)
			<-stop
		})
	}()
	<-ready
	pprof.Do(context.Background(), pprof.Labels("query", long, "tier", "gold"), func(context.Context) {
		burn(time.Now().Add(300 * time.Millisecond))
	})
	before := strippedInDo.Load()
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	close(stop)
	wg.Wait()
	if before == 0 {
		t.Error("Labels counted nothing")
	}
	p := c.stored()[0]
	if p.data[CPU] == nil || p.data[Goroutine] == nil {
		t.Fatalf("skipped: %v", p.meta.Stats.Skipped)
	}
	for typ, want := range map[Type][]string{Goroutine: {"route", "/checkout", "odd", "sonde_stripped"}, CPU: {"tier", "gold", "sonde_stripped"}} {
		for _, s := range want {
			if !hasString(p.data[typ], s) {
				t.Errorf("%s: no %q", typ, s)
			}
		}
		if hasString(p.data[typ], long) {
			t.Errorf("%s: the long value is still there", typ)
		}
	}
	if p.meta.Stats.LabelsStripped == 0 {
		t.Error("the window does not say that labels were stripped")
	}
}

func TestWrongSettingsAreReportedOnce(t *testing.T) {
	c := newCollector(t)
	var log logBuffer
	a := start(Config{Logger: log.logger(), Types: []Type{"cpu", "nonsense"}, Labels: map[string]string{"x": strings.Repeat("y", 5000)}}, effects{first: time.Hour,
		getenv: env("SONDE_PERIOD", "soon", "SONDE_CPU_RATE", "1000", "SONDE_QUEUE_BYTES", "-1", "SONDE_URL", c.URL)})
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	for _, s := range []string{"SONDE_PERIOD", "SONDE_CPU_RATE=1000: above 100", "SONDE_QUEUE_BYTES", "nonsense"} {
		if n := strings.Count(log.String(), s); n != 1 {
			t.Errorf("%q is logged %d times, want once", s, n)
		}
	}
	if a.cfg.Period != defaultPeriod || a.cfg.CPURate != 100 || a.cfg.QueueBytes != 64<<10 {
		t.Errorf("settings in force: %+v", a.cfg)
	}
	p := c.stored()[0]
	if p.process.Labels["sonde_stripped"] != "1" || p.process.Labels["x"] != "" || p.meta.Stats.LabelsStripped != 1 {
		t.Errorf("labels %v, stats %+v", p.process.Labels, p.meta.Stats)
	}
}
