package agent

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestRulesAreChecked(t *testing.T) {
	for _, tc := range []struct{ json, problem, take string }{
		{`{"name":"a","metric":"cpu","above":0.9}`, "", "cpu,goroutine"},
		{`{"name":"a","metric":"memory","above":0.9}`, "", "heap,goroutine"},
		{`{"name":"a","metric":"heap","jump":3,"take":["heap","heap","trace"]}`, "", "heap,trace"},
		{`{"name":"a","metric":"stop"}`, "", "heap,goroutine"},
		{`{"name":"a","metric":"new_build","for_ms":60000}`, "", "heap,goroutine"},
		{`{"name":"a","metric":"new_build"}`, "", "heap,goroutine"},
		{`{"name":"a","metric":"cpu","above":1,"take":["cpu","offcpu"]}`, "", "cpu"},
		{`{"name":"","metric":"cpu","above":1}`, "name of 0 bytes", ""},
		{`{"name":"` + strings.Repeat("n", 65) + `","metric":"cpu","above":1}`, "name of 65 bytes", ""},
		{`{"name":"a","metric":"moon","above":1}`, `metric "moon": not known`, ""},
		{`{"name":"a","metric":"cpu"}`, "neither above nor jump", ""},
		{`{"name":"a","metric":"cpu","above":-1,"jump":-2}`, "neither above nor jump", ""},
		{`{"name":"a","metric":"cpu","above":1,"take":["offcpu"]}`, `take ["offcpu"]`, ""},
	} {
		var r rule
		if err := json.Unmarshal([]byte(tc.json), &r); err != nil {
			t.Fatal(err)
		}
		err := r.check()
		switch {
		case tc.problem == "" && (err != nil || strings.Join(r.Take, ",") != tc.take):
			t.Errorf("%s: %v, takes %v", tc.json, err, r.Take)
		case tc.problem != "" && (err == nil || !strings.Contains(err.Error(), tc.problem)):
			t.Errorf("%s: %v, want %q", tc.json, err, tc.problem)
		}
	}
	r := rule{ForMS: -1, DurationMS: math.MaxInt64, CooldownMS: 1}
	if r.hold() != 0 || r.duration() != maxCapture || r.cooldown() != minCooldown {
		t.Errorf("bounds: %v, %v, %v", r.hold(), r.duration(), r.cooldown())
	}
}

// watched is a recorder without goroutines that looks at values which the test sets.
func watched(t *testing.T, rules string) (r *recorder, values *[sampledMetrics]float64) {
	t.Helper()
	a := idle(t, Config{Types: []Type{Heap, Goroutine}})
	s := &settings{}
	if err := json.Unmarshal([]byte(rules), &s.Triggers); err != nil {
		t.Fatal(err)
	}
	a.taker.started = true // nobody takes: the firings stay
	values = &[sampledMetrics]float64{}
	a.rec.watch.set(time.UnixMilli(0), a.rules(s))
	a.rec.watch.read = func(_ time.Time, to *[sampledMetrics]float64) { *to = *values }
	t.Cleanup(a.rec.watch.close)
	return a.rec, values
}

// idle is an agent that does nothing by itself.
func idle(t *testing.T, cfg Config) *Agent {
	t.Helper()
	cfg.URL = "http://127.0.0.1:1"
	for _, p := range cfg.resolve(env()) {
		t.Fatal(p)
	}
	a := &Agent{cfg: cfg, instance: goldenInstance, boundary: goldenBoundary, said: map[string]bool{}, closing: make(chan struct{})}
	a.privacy, _ = newPrivacy(&a.cfg)
	a.info = &processInfo{Labels: map[string]string{"service_name": "test"}, GNUBuildID: "b1"}
	if err := a.encodeProcess(); err != nil {
		t.Fatal(err)
	}
	a.rec, a.up, a.taker = newRecorder(a, mappingForTest), newUploader(a, nil), newTaker(a)
	a.rec.budget, a.rec.plan = newBudget(time.Now()), a.plan(time.Now())
	t.Cleanup(a.rec.release)
	return a
}

// fired returns and forgets what the rules fired.
func fired(r *recorder) (names []string) {
	t := r.a.taker
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range t.fired {
		names = append(names, f.rule.Name)
	}
	t.fired = nil
	return names
}

func TestTriggers(t *testing.T) {
	r, v := watched(t, `[{"name":"high","metric":"goroutines","above":100,"for_ms":30000,"cooldown_ms":600000},{"name":"leap","metric":"heap","jump":3},
		{"name":"young","metric":"new_build","for_ms":60000},{"name":"end","metric":"stop"}]`)
	now := time.UnixMilli(0)
	*v = [sampledMetrics]float64{metricHeap: 10 << 20, metricGoroutines: 5, metricMemory: math.NaN()}
	for _, step := range []struct {
		what       string
		seconds    int
		goroutines float64
		heap       float64
		want       string
	}{
		{"a new process", 1, 5, 10, "[young]"},
		{"no longer than it has to", 20, 200, 10, "[]"},
		{"a moment below begins anew", 1, 5, 10, "[]"},
		{"not long enough", 29, 200, 10, "[]"},
		{"long enough", 3, 200, 10, "[high]"},
		{"in the cool-down, and no hour known to jump against", 500, 200, 100, "[]"},
		{"after the cool-down, still above", 110, 200, 100, "[high]"},
		{"quiet for an hour", 3700, 5, 10, "[]"},
		{"not three times", 10, 5, 29, "[]"},
		{"three times the mean", 1, 5, 31, "[leap]"},
	} {
		v[metricGoroutines], v[metricHeap] = step.goroutines, step.heap
		var got []string
		for range step.seconds {
			now = now.Add(time.Second)
			r.look(now)
			got = append(got, fired(r)...)
		}
		if fmt.Sprint(got) != step.want {
			t.Errorf("%s: %v fired, want %s", step.what, got, step.want)
		}
	}
	if at := r.atStop(); len(at) != 1 || at[0].rule.Name != "end" {
		t.Errorf("at the stop: %+v", at)
	}
	// A rule that stays keeps its cool-down, and its history, through other settings.
	kept := r.watch.given[1]
	r.watch.set(now, []rule{kept, {Name: "new", Metric: "cpu", Above: 0.9, Take: []string{"cpu"}}})
	if r.look(now.Add(2 * time.Second)); len(fired(r)) != 0 || r.watch.past[metricHeap].n == 0 {
		t.Error("the rule forgot that it fired, or the process its past")
	}
	r.watch.set(now, nil)
	if r.watch.vitals != nil || r.watch.past[metricHeap].n != 0 || !r.watch.next.IsZero() {
		t.Error("something is left without rules")
	}
}

// TestLooksComeFasterNearTheLimit checks the pace: once a second, and faster as the memory nears the value of a rule.
func TestLooksComeFasterNearTheLimit(t *testing.T) {
	r, v := watched(t, `[{"name":"oom","metric":"memory","above":0.9,"for_ms":3600000}]`)
	now := time.UnixMilli(0)
	for _, step := range []struct {
		memory float64
		want   time.Duration
	}{
		{math.NaN(), time.Second}, {0.1, time.Second}, {0.1, time.Second}, {0.11, time.Second},
		{0.31, 737500 * time.Microsecond}, // 0.59 to go at 0.2 a second: 2.95 s, a quarter of it
		{0.73, 100 * time.Millisecond}, {0.95, 100 * time.Millisecond}, {0.2, time.Second},
	} {
		now = now.Add(time.Second)
		v[metricMemory] = step.memory
		r.watch.next, r.watch.last = now, now.Add(-time.Second)
		r.look(now)
		if got := r.watch.next.Sub(now); got < step.want-time.Millisecond || got > step.want+time.Millisecond {
			t.Errorf("at %v the next look comes after %v, want %v", step.memory, got, step.want)
		}
	}
}

// TestLooksAllocateNothing checks the promise that triggers do not move the garbage collector.
func TestLooksAllocateNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("SKIPPED under the race detector, which allocates itself: run go test without -race")
	}
	r, _ := watched(t, `[{"name":"a","metric":"cpu","above":1000},{"name":"b","metric":"heap","above":1e15,"jump":1e9},{"name":"c","metric":"goroutines","above":1e9},
		{"name":"d","metric":"gc","above":2},{"name":"e","metric":"memory","above":100},{"name":"f","metric":"pressure","above":1000}]`)
	r.watch.read = r.watch.vitals.read
	now := time.UnixMilli(0)
	r.look(now)
	if n := testing.AllocsPerRun(200, func() { now = now.Add(time.Second); r.watch.vitals.limits = now; r.look(now) }); n != 0 {
		t.Errorf("%v allocations for a look", n)
	}
}

// TestVitals checks what is measured against what the program does.
func TestVitals(t *testing.T) {
	now := time.Now()
	v := newVitals(now)
	defer v.close()
	var got [sampledMetrics]float64
	stop := make(chan struct{})
	defer close(stop)
	v.read(now, &got)
	before := got[metricGoroutines]
	for range 500 {
		go func() { <-stop }()
	}
	burn(time.Now().Add(time.Second))
	gcTwice() // the live heap is the last collection's
	v.read(time.Now(), &got)
	if n := got[metricGoroutines] - before; n < 450 || n > 550 { // others of the test come and go
		t.Errorf("%v more goroutines, want about 500", n)
	}
	if got[metricCPU] <= 0.01 || got[metricCPU] > 1.5 {
		t.Errorf("cpu %v after a second of burning", got[metricCPU])
	}
	if got[metricHeap] < 1<<16 || got[metricGC] < 0 || got[metricGC] > 1 {
		t.Errorf("heap %v, gc %v", got[metricHeap], got[metricGC])
	}
}

// near makes the rules of a running agent see the memory as it is set.
func near(a *Agent, memory float64) {
	a.rec.mu.Lock()
	defer a.rec.mu.Unlock()
	a.rec.watch.read = func(_ time.Time, to *[sampledMetrics]float64) { to[metricMemory] = memory }
	a.rec.watch.next = time.Now()
}

const oomRule = `{"triggers":[{"name":"oom","metric":"memory","above":0.9,"take":["heap","goroutine","allocs"]}]}`

// memoryTrip runs an agent into its memory rule, with a claim that is answered by grant.
func memoryTrip(t *testing.T, settings string, grant func(claim) granted) (*collector, *Agent) {
	t.Helper()
	c := newCollector(t)
	c.offer(settings)
	c.broker.grant = grant
	a := quick(t, c, 50*time.Millisecond, Config{Types: []Type{Heap, Goroutine}})
	rules := func() int { a.rec.mu.Lock(); defer a.rec.mu.Unlock(); return len(a.rec.watch.rules) }
	wait(t, "the rules", func() bool { return rules() > 0 })
	a.rec.mu.Lock() // no other window ends meanwhile
	a.cfg.Period, a.rec.plan.period, a.rec.end = time.Hour, time.Hour, time.Now().Add(time.Hour)
	a.rec.mu.Unlock()
	wait(t, "the windows before to be sent", func() bool { return a.up.left() == 0 })
	near(a, 0.95)
	a.rec.poke()
	wait(t, "the claim", func() bool { _, claims := c.broker.got(""); return len(claims) > 0 })
	return c, a
}

// marked returns the window whose profiles name a capture.
func marked(c *collector) (p push, ids map[Type]string) {
	for _, p := range c.stored() {
		ids := map[Type]string{}
		for _, e := range p.meta.Profiles {
			if e.Capture != "" {
				ids[e.Type] = e.Capture
			}
		}
		if len(ids) > 0 {
			return p, ids
		}
	}
	return push{}, nil
}

func TestMemoryTriggerSendsFirst(t *testing.T) {
	c, a := memoryTrip(t, oomRule, nil)
	var got []result2
	wait(t, "three results", func() bool { got, _ = c.broker.got("c1"); return len(got) == 3 })
	_, claims := c.broker.got("")
	if want := (claim{a.instance, "test", claims[0].Build, "oom", "memory", 0.95, []string{"heap", "goroutine", "allocs"}, false}); fmt.Sprint(claims) != fmt.Sprint([]claim{want}) || want.Build == "" {
		t.Errorf("claims %+v", claims)
	}
	p, ids := marked(c)
	if len(ids) != 2 || ids[Heap] != "c1" || ids[Goroutine] != "c1" {
		t.Errorf("marked: %v", ids)
	}
	order := c.broker.history()
	i := slices.Index(order, "claim")
	if want := "claim push result heap result goroutine result allocs"; i < 0 || strings.Join(order[i:min(i+5, len(order))], " ") != want {
		t.Errorf("order %v, want … %s", order, want)
	}
	for _, r := range got {
		if raw := gunzip(t, r.body); r.problem != "" || r.kind != "allocs" && string(raw) != string(p.data[Type(r.kind)]) || len(raw) == 0 {
			t.Errorf("%s: %q, not what the window has", r.kind, r.problem)
		}
	}
}

func TestRefusedMemoryTriggerSendsTheWindowAsAnother(t *testing.T) {
	c, _ := memoryTrip(t, oomRule, func(claim) granted { return granted{Reason: "taken already"} })
	n := len(c.stored())
	wait(t, "the window", func() bool {
		return len(c.stored()) > n-1 && slices.Index(c.broker.history(), "claim") < len(c.broker.history())-1
	})
	if _, ids := marked(c); ids != nil {
		t.Errorf("marked %v though refused", ids)
	}
	if got, _ := c.broker.got("c1"); len(got) > 0 {
		t.Errorf("%d results though refused", len(got))
	}
}

func TestShadowTriggerTakesNothing(t *testing.T) {
	c, a := memoryTrip(t, `{"triggers":[{"name":"oom","metric":"memory","above":0.9,"shadow":true}]}`, nil)
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	_, claims := c.broker.got("")
	if got, _ := c.broker.got("c1"); len(claims) != 1 || !claims[0].Shadow || len(got) > 0 {
		t.Errorf("claims %+v, %d results", claims, len(got))
	}
	if _, ids := marked(c); ids != nil {
		t.Errorf("marked %v in the shadow", ids)
	}
}

// TestClaimWithoutAnswerIsTriedAgain checks that a collector that is down for a moment costs the trigger a minute and not its cool-down, and no window.
func TestClaimWithoutAnswerIsTriedAgain(t *testing.T) {
	a := idle(t, Config{Types: []Type{Heap, Goroutine}, URL: "http://127.0.0.1:1"})
	a.deadline = newCloseDeadline()
	a.ctx = a.deadline
	r := rule{Name: "oom", Metric: "memory", Above: 0.9, Take: []string{"heap"}}
	a.rec.mu.Lock()
	a.rec.watch.set(time.Now(), []rule{r})
	a.rec.watch.rules[0].ready = time.Now().Add(time.Hour)
	a.rec.open(time.Now(), time.Hour)
	f := firing{rule: r}
	a.rec.takeNow(time.Now(), &f)
	a.rec.mu.Unlock()
	a.taker.handle(a.ctx, f)
	if a.up.left() != 1 {
		t.Errorf("%d windows wait, want the one that could not be sent", a.up.left())
	}
	if d := time.Until(a.rec.watch.rules[0].ready); d > claimAgain {
		t.Errorf("the rule is ready in %v", d)
	}
}

func TestStopTriggerCapturesInClose(t *testing.T) {
	c := newCollector(t)
	c.offer(`{"triggers":[{"name":"bye","metric":"stop","take":["heap","goroutine","cpu"]}]}`)
	a := quick(t, c, 50*time.Millisecond, Config{Types: []Type{Heap}})
	rules := func() int { a.rec.mu.Lock(); defer a.rec.mu.Unlock(); return len(a.rec.watch.rules) }
	wait(t, "the rules", func() bool { return rules() > 0 })
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	got, claims := c.broker.got("c1")
	if len(claims) != 1 || claims[0].Trigger != "bye" || len(got) != 3 {
		t.Fatalf("claims %+v, %d results", claims, len(got))
	}
	if len(got[0].body) == 0 || len(got[1].body) == 0 || !strings.Contains(got[2].problem, "the program is ending") {
		t.Errorf("results %+v", got)
	}
	order := c.broker.history()
	if order[len(order)-1] != "push" {
		t.Errorf("%v: the last window comes last", order)
	}
}

// TestTriggerTakesSpans checks that a trigger that may ask first captures after the grant, and that the memory's captures do not wait for a span that runs.
func TestTriggerTakesSpans(t *testing.T) {
	c := newCollector(t)
	c.offer(`{"captures":{"poll":true},"triggers":[{"name":"busy","metric":"goroutines","above":1,"take":["cpu"],"duration_ms":3600000},{"name":"oom","metric":"memory","above":0.9}]}`)
	c.broker.grant = func(cl claim) granted { return granted{Granted: true, ID: cl.Trigger} }
	a := quick(t, c, 50*time.Millisecond, Config{Types: []Type{Heap, Goroutine}})
	running := func() bool { cpu.mu.Lock(); defer cpu.mu.Unlock(); return cpu.running }
	wait(t, "the CPU capture to run", running)
	near(a, 0.95)
	a.rec.poke()
	var got []result2
	wait(t, "the memory's captures", func() bool { got, _ = c.broker.got("oom"); return len(got) == 2 })
	if !running() {
		t.Error("the CPU capture was given up")
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if got, _ := c.broker.got("busy"); len(got) != 1 || got[0].problem != "" {
		t.Errorf("the CPU capture: %+v", got)
	}
}

func FuzzSettings(f *testing.F) {
	f.Add(`{"rotate":{"types":["cpu"],"groups":4,"slot_ms":300000},"captures":{"poll":true},"triggers":[{"name":"a","metric":"cpu","above":0.9,"for_ms":30000}]}`, int64(1795241445123))
	f.Add(`{"rotate":{"types":["cpu","heap"],"groups":-1,"slot_ms":9223372036854775807},"triggers":[{"name":"b","metric":"heap","jump":1e308,"cooldown_ms":-5}]}`, int64(-1))
	f.Fuzz(func(t *testing.T, text string, ms int64) {
		var s settings
		if json.Unmarshal([]byte(text), &s) != nil {
			return
		}
		a := &Agent{cfg: Config{Types: allTypes, CPURate: 100, Period: time.Second}, instance: goldenInstance, said: map[string]bool{}}
		a.cfg.Logger = discardLogger
		a.remote, a.remoteRules = &s, a.rules(&s)
		p := a.plan(time.UnixMilli(ms))
		if p.weight < 0 || p.weight > maxGroups || p.period < minPeriod || len(p.rules) > maxRules {
			t.Errorf("plan %+v", p)
		}
		w := newWatch()
		defer w.close()
		w.set(time.UnixMilli(ms), p.rules)
		for i := range w.rules {
			r := &w.rules[i]
			if r.hold() < 0 || r.cooldown() < minCooldown || r.duration() < time.Second || r.duration() > maxCapture || len(r.Take) == 0 {
				t.Errorf("rule %+v", r)
			}
		}
	})
}
