package agent

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"runtime/pprof"
	"runtime/trace"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const pollOffered = `{"captures":{"poll":true}}`

// taken asks for one capture and returns its result.
func taken(t *testing.T, c *collector, k task) result2 {
	t.Helper()
	k.ID = "t-" + k.Kind + strconv.Itoa(len(c.broker.history()))
	c.broker.ask(k)
	var got []result2
	wait(t, "the "+k.Kind+" capture", func() bool { got, _ = c.broker.got(k.ID); return len(got) > 0 })
	if len(got) != 1 {
		t.Fatalf("%d results for one task", len(got))
	}
	return got[0]
}

func polling(t *testing.T, cfg Config) (*collector, *Agent) {
	t.Helper()
	c := newCollector(t)
	c.offer(pollOffered)
	a := quick(t, c, 50*time.Millisecond, cfg)
	wait(t, "the poll", func() bool { return c.broker.polled() > 0 })
	return c, a
}

func TestCapturesOnDemand(t *testing.T) {
	c, a := polling(t, Config{MutexFraction: 1, BlockRate: 1})
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for !isClosed(stop) {
			burnForCaller(time.Now().Add(20 * time.Millisecond))
		}
	}()
	defer func() { close(stop); <-done }()
	contend(t)
	for kind, want := range map[string]string{"cpu": "agent.burnForCaller", "heap": "inuse_space", "allocs": "alloc_space", "goroutine": "agent.burnForCaller",
		"mutex": "agent.contend", "block": "agent.contend", "threadcreate": "threadcreate", "wall": "agent.burnForCaller"} {
		d := int64(0)
		if !momentary(kind) {
			d = 400
		}
		r := taken(t, c, task{Kind: kind, DurationMS: d})
		for tries := 0; (kind == "cpu" || kind == "wall") && r.problem == "" && !hasString(gunzip(t, r.body), want) && tries < 20; tries++ {
			r = taken(t, c, task{Kind: kind, DurationMS: 400}) // a machine that is busy enough lets nobody burn
		}
		if r.problem != "" || r.instance != a.instance || r.kind != kind || r.contentType != "application/octet-stream" || r.length != int64(len(r.body)) || r.from == "" || r.to == "" {
			t.Errorf("%s: %q, kind %q, type %q, length %d of %d, from %q to %q", kind, r.problem, r.kind, r.contentType, r.length, len(r.body), r.from, r.to)
			continue
		}
		if !hasString(gunzip(t, r.body), want) {
			t.Errorf("%s: no %s in it", kind, want)
		}
	}
}

// TestCapturesOfASpan checks that a cumulative profile over a span holds what was counted in it, and that the windows beside it lose nothing.
func TestCapturesOfASpan(t *testing.T) {
	c, a := polling(t, Config{Types: []Type{Heap}, MutexFraction: 1})
	keepEight()
	gcTwice()
	for _, kind := range []string{"heap", "allocs", "mutex"} {
		id := "span-" + kind
		c.broker.ask(task{ID: id, Kind: kind, DurationMS: 300_000})
		wait(t, "its baseline", func() bool { return stacksWith("agent.(*taker).wait(", "agent.(*taker).captureDelta(") == 1 })
		keepSpan()
		contend(t)
		gcTwice()
		a.taker.cutShort()
		var got []result2
		wait(t, "the "+kind+" capture", func() bool { got, _ = c.broker.got(id); return len(got) > 0 })
		if got[0].problem != "" {
			t.Fatalf("%s: %s", kind, got[0].problem)
		}
		raw := gunzip(t, got[0].body)
		if kind == "mutex" {
			if !hasString(raw, "agent.contend") {
				t.Error("the mutex capture does not show who contended")
			}
			continue
		}
		if all, mine := allocated(t, raw, "agent.keepEight"), allocated(t, raw, "agent.keepSpan"); all != 0 || mine < 8<<20 {
			t.Errorf("%s: %d bytes of before and %d of the span, want 0 and 8 MiB", kind, all, mine)
		}
	}
}

// stacksWith returns how many goroutines are in all of the functions.
func stacksWith(functions ...string) (n int) {
	buf := make([]byte, 1<<20)
	for _, g := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if !slices.ContainsFunc(functions, func(f string) bool { return !strings.Contains(g, f) }) {
			n++
		}
	}
	return n
}

//go:noinline
func keepSpan() { kept = append(kept, make([]byte, 8<<20)) }

// cutShort ends the waiting of a capture as its time does.
func (t *taker) cutShort() {
	t.mu.Lock()
	t.halted = true
	t.mu.Unlock()
	t.wake <- struct{}{}
}

//go:noinline
func contend(t *testing.T) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	mu.Lock()
	for range 4 {
		wg.Add(1)
		go func() { defer wg.Done(); mu.Lock(); defer mu.Unlock() }()
	}
	wait(t, "contention", func() bool { return stacksWith("sync.(*Mutex).Lock", "agent.contend.func") == 4 })
	mu.Unlock()
	wg.Wait()
}

func TestDumpOfAllGoroutines(t *testing.T) {
	c, _ := polling(t, Config{Redact: []string{`created by [^ ]*`}})
	r := taken(t, c, task{Kind: "goroutines"})
	text := string(r.body)
	if r.problem != "" || !strings.HasPrefix(r.contentType, "text/plain") || !strings.HasPrefix(text, "goroutine ") || !strings.Contains(text, "agent.TestDumpOfAllGoroutines") {
		t.Fatalf("%q, %s: %.300s", r.problem, r.contentType, text)
	}
	if !strings.Contains(text, "sonde agent: the program stood still for ") || strings.Contains(text, "cut at") {
		t.Errorf("the text ends with %q", text[max(0, len(text)-200):])
	}
	if !strings.Contains(text, redacted) || strings.Contains(text, "created by ") {
		t.Error("the text is not redacted")
	}
	r = taken(t, c, task{Kind: "goroutines", MaxBytes: 2048})
	if len(r.body) > 2048 || !strings.Contains(string(r.body), "cut at "+strconv.Itoa(2048-256)+" bytes") {
		t.Errorf("%d bytes with a limit of 2048, ending %q", len(r.body), r.body[max(0, len(r.body)-100):])
	}
	for _, kind := range []string{"trace", "flight"} {
		if r := taken(t, c, task{Kind: kind, DurationMS: 10}); !strings.Contains(r.problem, "cannot be redacted") {
			t.Errorf("%s with patterns to redact: %q", kind, r.problem)
		}
	}
}

func TestExecutionTrace(t *testing.T) {
	c, _ := polling(t, Config{Types: []Type{Heap}})
	r := taken(t, c, task{Kind: "trace", DurationMS: 100})
	if r.problem != "" || r.broken || r.length != -1 || !bytes.HasPrefix(r.body, []byte("go 1.")) {
		t.Fatalf("%q, broken %v, length %d: %.40q", r.problem, r.broken, r.length, r.body)
	}
	parsed(t, r.body)
	if trace.IsEnabled() {
		t.Error("the trace still runs")
	}
	if err := trace.Start(io.Discard); err != nil {
		t.Fatal(err)
	}
	r = taken(t, c, task{Kind: "trace", DurationMS: 100})
	trace.Stop()
	if !strings.Contains(r.problem, "the program traces itself, and is left alone") {
		t.Errorf("beside the program's own trace: %q", r.problem)
	}
}

// parsed has the go command's own reader read the trace.
func parsed(t *testing.T, data []byte) {
	t.Helper()
	name := t.TempDir() + "/trace"
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := command(".", "local", nil, "tool", "trace", "-pprof=sched", name); err != nil || len(out) == 0 {
		t.Errorf("go tool trace: %v\n%.500s", err, out)
	}
}

// TestTraceKeepsItsLimits checks that a trace ends early rather than hold more than it may, and fails rather than hold much more.
func TestTraceKeepsItsLimits(t *testing.T) {
	s, err := startTrace(context.Background(), nil, time.Hour, 64<<10)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		pace := time.NewTicker(time.Millisecond)
		defer pace.Stop()
		for n := 0; !isClosed(stop); n++ {
			trace.Log(context.Background(), "fill", strconv.Itoa(n)+strings.Repeat("x", 900)) // the runtime writes a text once
			<-pace.C
		}
	}()
	data, err := io.ReadAll(s)
	close(stop)
	<-done
	if err != nil || len(data) < 64<<10 || len(data) > 64<<10+traceSlack {
		t.Errorf("%d bytes, %v", len(data), err)
	}
	parsed(t, data)
	over := &traceStream{limit: 1, more: make(chan struct{}, 1), full: make(chan struct{})}
	if _, err := over.Write(make([]byte, traceSlack+2)); err != nil {
		t.Fatal(err)
	}
	if _, err := over.pop(make([]byte, 10)); err == nil || !strings.Contains(err.Error(), "more than fits") {
		t.Errorf("too much: %v", err)
	}
}

func TestFlightRecorder(t *testing.T) {
	c, a := polling(t, Config{FlightRecorder: true, Types: []Type{Heap}})
	r := taken(t, c, task{Kind: "flight"})
	if a.flight == nil { // before Go 1.25
		if !strings.Contains(r.problem, "flight recorder is off") {
			t.Errorf("without one: %q", r.problem)
		}
		return
	}
	if r.problem != "" {
		t.Fatal(r.problem)
	}
	parsed(t, r.body)
	if r := taken(t, c, task{Kind: "flight", MaxBytes: 100}); !strings.Contains(r.problem, "more than max_bytes 100") {
		t.Errorf("at most 100 bytes: %q", r.problem)
	}
	if r := taken(t, c, task{Kind: "trace", DurationMS: 50}); r.problem != "" {
		t.Errorf("a trace beside the flight recorder: %s", r.problem)
	}
}

func TestCapturesThatFailSayWhy(t *testing.T) {
	c, a := polling(t, Config{Types: []Type{Heap}, MaxGoroutines: 1})
	for kind, want := range map[string]string{
		"flight": "Config.FlightRecorder or SONDE_FLIGHT_RECORDER=1", "nonsense": `kind "nonsense": want one of`, "goroutine": "more than MaxGoroutines 1",
		"goroutines": "more than MaxGoroutines 1", "wall": "goroutines, more than 1",
	} {
		if r := taken(t, c, task{Kind: kind, DurationMS: 10}); !strings.Contains(r.problem, want) || len(r.body) > 0 {
			t.Errorf("%s: %q and %d bytes, want %q", kind, r.problem, len(r.body), want)
		}
	}
	if r := taken(t, c, task{Kind: "heap", MaxBytes: 10}); !strings.Contains(r.problem, "more than max_bytes 10") {
		t.Errorf("a limit of 10 bytes: %q", r.problem)
	}
	a.Pause()
	if r := taken(t, c, task{Kind: "heap"}); r.problem != "the agent is paused" {
		t.Errorf("paused: %q", r.problem)
	}
}

// TestCaptureSharesTheCPUProfile checks that a capture, a request of CPUHandler and the agent's windows all get the profile at once.
func TestCaptureSharesTheCPUProfile(t *testing.T) {
	c, _ := polling(t, Config{Types: []Type{CPU}})
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		w := httptest.NewRecorder()
		CPUHandler().ServeHTTP(w, httptest.NewRequest("GET", "/?seconds=0.6", nil))
		if w.Code != http.StatusOK {
			t.Errorf("CPUHandler: %d %s", w.Code, w.Body)
		}
	}()
	before := len(c.stored())
	for i := range 20 {
		id := "shared" + strconv.Itoa(i)
		c.broker.ask(task{ID: id, Kind: "cpu", DurationMS: 500})
		var got []result2
		wait(t, "the capture", func() bool {
			burnForCaller(time.Now().Add(20 * time.Millisecond))
			got, _ = c.broker.got(id)
			return len(got) > 0
		})
		if got[0].problem != "" {
			t.Fatalf("the capture: %s", got[0].problem)
		}
		if hasString(gunzip(t, got[0].body), "agent.burnForCaller") {
			break
		}
		if i == 19 { // a machine that is busy enough lets nobody burn, but not for ten seconds
			t.Error("no capture shows what burned")
		}
	}
	<-asked
	for _, p := range c.stored()[before:] {
		if p.meta.Stats.Skipped["cpu"] != "" {
			t.Errorf("window %d: %s", p.meta.Window, p.meta.Stats.Skipped["cpu"])
		}
	}
}

// TestPollIsOpenedOnlyWhereOffered checks the collector's switch, and that the program's own beats it.
func TestPollIsOpenedOnlyWhereOffered(t *testing.T) {
	for name, tc := range map[string]struct {
		settings string
		cfg      Config
	}{
		"not offered":        {`null`, Config{}},
		"turned off by hand": {`{"captures":{"poll":true},"triggers":[{"name":"n","metric":"goroutines","above":1}]}`, Config{Captures: Off}},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCollector(t)
			c.offer(tc.settings)
			tc.cfg.Types = []Type{Heap}
			a := quick(t, c, 20*time.Millisecond, tc.cfg)
			wait(t, "some windows", func() bool { return len(c.stored()) > 3 })
			if err := a.Close(); err != nil {
				t.Fatal(err)
			}
			if got, claims := c.broker.got("c1"); c.broker.polled() > 0 || len(got)+len(claims) > 0 || a.taker.started {
				t.Errorf("%d polls, %d claims", c.broker.polled(), len(claims))
			}
		})
	}
	c, a := polling(t, Config{Types: []Type{Heap}})
	c.offer(`null`)
	open := func() int { c.broker.mu.Lock(); defer c.broker.mu.Unlock(); return c.broker.open }
	wait(t, "the poll to be given up", func() bool { return open() == 0 })
	polls := c.broker.polled()
	c.offer(pollOffered)
	wait(t, "another poll", func() bool { return c.broker.polled() > polls && open() == 1 })
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	wait(t, "no poll after Close", func() bool { return open() == 0 })
}

// TestPollOfACollectorThatTakesNone checks that a collector without the path is asked once for each offer and no more.
func TestPollOfACollectorThatTakesNone(t *testing.T) {
	c := newCollector(t)
	asked := 0
	c.broker.refuse = func(w http.ResponseWriter, r *http.Request) bool {
		c.broker.mu.Lock()
		asked++
		c.broker.mu.Unlock()
		http.NotFound(w, r)
		return true
	}
	c.offer(pollOffered)
	quick(t, c, 30*time.Millisecond, Config{Types: []Type{Heap}})
	wait(t, "windows", func() bool { return len(c.stored()) > 5 })
	c.broker.mu.Lock()
	defer c.broker.mu.Unlock()
	if asked == 0 || asked > len(c.stored())+1 {
		t.Errorf("%d polls for %d offers", asked, len(c.stored()))
	}
}

// TestResultIsSentAgain checks that a capture survives a collector that is busy for a moment.
func TestResultIsSentAgain(t *testing.T) {
	c, _ := polling(t, Config{Types: []Type{Heap}})
	tries := 0
	c.broker.mu.Lock()
	c.broker.refuse = func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "/result") {
			return false
		}
		c.broker.mu.Lock()
		defer c.broker.mu.Unlock()
		if tries++; tries > 1 {
			return false
		}
		http.Error(w, "busy", http.StatusServiceUnavailable)
		return true
	}
	c.broker.mu.Unlock()
	if r := taken(t, c, task{Kind: "heap"}); r.problem != "" || len(r.body) == 0 {
		t.Errorf("%q, %d bytes", r.problem, len(r.body))
	}
}

// TestCloseEndsACapture checks that a long capture does not hold up Close, and that what there is of it is sent.
func TestCloseEndsACapture(t *testing.T) {
	for _, kind := range []string{"cpu", "trace"} {
		t.Run(kind, func(t *testing.T) {
			c, a := polling(t, Config{Types: []Type{Heap}, CloseTimeout: time.Minute})
			c.broker.ask(task{ID: "long", Kind: kind, DurationMS: 300_000})
			running := func() bool {
				if kind == "trace" {
					return trace.IsEnabled()
				}
				cpu.mu.Lock()
				defer cpu.mu.Unlock()
				return cpu.running
			}
			wait(t, "the capture to begin", running)
			began := time.Now()
			if err := a.Close(); err != nil {
				t.Error(err)
			}
			if took := time.Since(began); took > 20*time.Second {
				t.Errorf("Close took %v", took)
			}
			if got, _ := c.broker.got("long"); len(got) != 1 || got[0].problem != "" || len(got[0].body) == 0 {
				t.Errorf("results %+v", got)
			}
			if running() {
				t.Error("it still runs")
			}
		})
	}
}

// TestPauseEndsACapture checks that Pause leaves the profile and the trace to the program, whatever the collector asked for.
func TestPauseEndsACapture(t *testing.T) {
	c, a := polling(t, Config{Types: []Type{Heap}, FlightRecorder: true})
	hubRuns := func() bool { cpu.mu.Lock(); defer cpu.mu.Unlock(); return cpu.running }
	for kind, running := range map[string]func() bool{"cpu": hubRuns, "trace": tracing} {
		c.broker.ask(task{ID: kind, Kind: kind, DurationMS: 300_000})
		wait(t, "the capture to begin", func() bool {
			return stacksWith("agent.(*traceStream).Read(")+stacksWith("agent.(*taker).captureCPU(", "agent.(*taker).wait(") > 0
		})
		a.Pause()
		if running() {
			t.Errorf("%s runs after Pause", kind)
		}
		if err := pprof.StartCPUProfile(io.Discard); err != nil {
			t.Error(err)
		}
		pprof.StopCPUProfile()
		wait(t, "the error", func() bool { // the body that broke off can be seen before it or after
			got, _ := c.broker.got(kind)
			return slices.ContainsFunc(got, func(r result2) bool { return strings.Contains(r.problem, errPaused.Error()) })
		})
		a.Resume()
	}
	if r := taken(t, c, task{Kind: "heap"}); r.problem != "" {
		t.Errorf("after Resume: %s", r.problem)
	}
}

// tracing reports whether trace.Start was called: the flight recorder beside it makes trace.IsEnabled useless.
func tracing() bool {
	if err := trace.Start(io.Discard); err != nil {
		return true
	}
	trace.Stop()
	return false
}

// TestUrgentGoesBeforeAResult checks that what may be the last that a process sends does not wait for a collector that is slow to take a capture.
func TestUrgentGoesBeforeAResult(t *testing.T) {
	c := newCollector(t)
	c.offer(`{"captures":{"poll":true},"triggers":[{"name":"oom","metric":"memory","above":0.9}]}`)
	held, release := make(chan struct{}, 9), make(chan struct{})
	defer close(release)
	c.broker.refuse = func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/slow/") || len(held) > 0 {
			return false
		}
		held <- struct{}{}
		select {
		case <-release:
		case <-r.Context().Done():
		}
		return true
	}
	a := quick(t, c, 50*time.Millisecond, Config{Types: []Type{Heap, Goroutine}})
	wait(t, "the poll", func() bool { return c.broker.polled() > 0 })
	c.broker.ask(task{ID: "slow", Kind: "heap"})
	wait(t, "the result that hangs", func() bool { return len(held) > 0 })
	near(a, 0.95)
	a.rec.poke()
	wait(t, "the memory's captures", func() bool { got, _ := c.broker.got("c1"); return len(got) == 2 })
	wait(t, "the slow one, once more", func() bool { got, _ := c.broker.got("slow"); return len(got) == 1 && got[0].problem == "" })
}

// TestPollLeavesTheProgramsConnection checks that a client of the program's with one connection still sends windows while a poll is open.
func TestPollLeavesTheProgramsConnection(t *testing.T) {
	c, _ := polling(t, Config{Types: []Type{Heap}, HTTPClient: &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}}})
	n := len(c.stored())
	wait(t, "windows beside the poll", func() bool { return len(c.stored()) > n+3 })
}
