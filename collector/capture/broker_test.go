package capture

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/profiles"
)

// TestAskOne: one of the processes that are reached is asked, within the promised time, directly, over HTTP and through a relay; what it took is stored as it is.
func TestAskOne(t *testing.T) {
	heap := sample(t, Heap)
	for _, way := range []string{"direct", "http", "relay"} {
		t.Run(way, func(t *testing.T) {
			b := newBench(t, Config{})
			background(t, b.Run)
			instances := b.processes(3)
			exec := &fake{instances: instances[:2], take: func(Task) ([]byte, error) { return heap, nil }}
			var source Source = b.Broker
			if way != "direct" {
				source = overHTTP(t, b.Broker)
			}
			if way == "relay" { // the agents poll a sidecar, which polls the collector
				relay := &Relay{Upstream: source}
				background(t, (&Poller{Source: source, Executor: relay}).Run)
				source = overHTTP(t, relay)
			}
			background(t, (&Poller{Source: source, Executor: exec}).Run)
			until(t, "the processes to be reached", func() bool {
				_, err := b.Ask(t.Context(), Request{Service: "cart", Kind: Heap, Shadow: true})
				return err == nil
			})
			began := time.Now()
			a := b.ask(Request{Service: "cart", Kind: Heap})
			if len(a.Captures) != 1 || a.Known != 3 || a.Reached != 2 {
				t.Fatalf("asked %+v", a)
			}
			until(t, "the capture", func() bool { return b.states(a.Request)[catalog.CaptureDone] == 1 })
			c, data, err := b.Data(t.Context(), a.Captures[0].ID)
			must(t, err)
			took := time.UnixMilli(c.Started).Sub(time.UnixMilli(c.Created))
			if t.Logf("it started %v after it was asked for, and was stored after %v", took, time.Since(began)); took > 5*time.Second {
				t.Errorf("it started %v after it was asked for", took)
			}
			if !bytes.Equal(data, heap) || c.ContentType != Binary || c.Instance == instances[2] {
				t.Errorf("%d bytes of %+v, want the %d that were taken", len(data), c, len(heap))
			}
			if n, problems, err := Check(t.Context(), b.blobs, b.cat, 0); n != 1 || len(problems) > 0 || err != nil {
				t.Errorf("check: %d, %v, %v", n, problems, err)
			}
		})
	}
}

func overHTTP(t *testing.T, s Source) *Remote {
	mux := http.NewServeMux()
	Register(mux, s, nil)
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return &Remote{URL: srv.URL, Client: srv.Client()}
}

// TestFourHundredTrip: of four hundred processes that trip together one takes the captures.
func TestFourHundredTrip(t *testing.T) {
	b := newBench(t, Config{})
	b.SetRules([]Rule{{Name: "heap-jump", Metric: MetricHeap, Jump: 3, Take: []string{Heap, Goroutine}}})
	instances := b.processes(400)
	var wg sync.WaitGroup
	var granted, denied atomic.Int64
	var id atomic.Value
	for _, i := range instances {
		wg.Go(func() {
			g, err := b.Claim(t.Context(), Claim{Instance: i, Service: "cart", Build: "b1", Trigger: "heap-jump", Value: 5e9, Kinds: []string{Heap, Goroutine}})
			switch {
			case err != nil:
				t.Error(err)
			case g.Granted:
				granted.Add(1)
				id.Store(i + " " + g.ID)
			case g.Reason != "":
				denied.Add(1)
			}
		})
	}
	wg.Wait()
	if granted.Load() != 1 || denied.Load() != 399 {
		t.Fatalf("granted %d, denied %d", granted.Load(), denied.Load())
	}
	var instance, request string
	fmt.Sscan(id.Load().(string), &instance, &request)
	// Its results come under the claim's id: with their kind, and without.
	must(t, b.Deliver(t.Context(), Result{ID: request, Instance: instance, Kind: Goroutine, Body: bytes.NewReader(sample(t, Goroutine))}))
	must(t, b.Deliver(t.Context(), Result{ID: request, Instance: instance, Body: bytes.NewReader(sample(t, Heap))}))
	if s := b.states(request); s[catalog.CaptureDone] != 2 {
		t.Errorf("states %v", s)
	}
	es, err := b.cat.Events(t.Context(), catalog.EventFilter{Kind: "capture"})
	must(t, err)
	if len(es) != 2 || es[0].Attrs["trigger"] != "heap-jump" {
		t.Errorf("events %+v", es)
	}
	// A new collector knows it too.
	b.reopen(Config{})
	g, err := b.Claim(t.Context(), Claim{Instance: instances[7], Service: "cart", Build: "b1", Trigger: "heap-jump", Kinds: []string{Heap}})
	must(t, err)
	if g.Granted {
		t.Error("granted again after a restart")
	}
}

func TestShadow(t *testing.T) {
	b := newBench(t, Config{})
	b.SetRules([]Rule{{Name: "r", Metric: MetricHeap, Above: 1, Take: []string{Heap}, Shadow: true}})
	i := b.processes(1)[0]
	g, err := b.Claim(t.Context(), Claim{Instance: i, Trigger: "r", Kinds: []string{Heap}})
	must(t, err)
	cs, err := b.cat.Captures(t.Context(), catalog.CaptureFilter{})
	must(t, err)
	if g.Granted || len(cs) != 1 || cs[0].State != catalog.CaptureShadow || cs[0].Service != "cart" {
		t.Errorf("%+v, %+v", g, cs)
	}
	if err := b.Deliver(t.Context(), Result{ID: cs[0].ID, Instance: i, Body: bytes.NewReader(sample(t, Heap))}); !errors.Is(err, ErrUnknown) {
		t.Errorf("a shadow was delivered: %v", err)
	}
}

// TestLimits: of forty processes all are captured, in turns: never more at once than the limits say.
func TestLimits(t *testing.T) {
	text := sample(t, Goroutines)
	b := newBench(t, Config{MaxRunning: 8, MaxExpensive: 3, PerMinute: 1000})
	background(t, b.Run)
	instances := b.processes(40)
	var now, most atomic.Int64
	for g := range 4 { // four sidecars
		exec := &fake{instances: instances[g*10 : g*10+10], take: func(Task) ([]byte, error) {
			n := now.Add(1)
			defer now.Add(-1)
			for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
			}
			time.Sleep(5 * time.Millisecond)
			return text, nil
		}}
		background(t, (&Poller{Source: b.Broker, Executor: exec}).Run)
	}
	until(t, "all to be reached", func() bool {
		a, err := b.Ask(t.Context(), Request{Service: "cart", Kind: Goroutines, All: true, Shadow: true})
		return err == nil && a.Reached == 40
	})
	for kind, limit := range map[string]int64{Goroutines: 3} {
		most.Store(0)
		a := b.ask(Request{Service: "cart", Kind: kind, All: true})
		until(t, "all to be captured", func() bool { return b.states(a.Request)[catalog.CaptureDone] == 40 })
		if most.Load() != limit {
			t.Errorf("%d captures ran at once, want %d", most.Load(), limit)
		}
	}
}

// TestRate: a service starts no more captures in a minute than it may.
func TestRate(t *testing.T) {
	b := newBench(t, Config{PerMinute: 5})
	instances := b.processes(20)
	_, err := b.Next(t.Context(), instances, 0)
	must(t, err)
	b.ask(Request{Service: "cart", Kind: Heap, All: true})
	take := func() int {
		tasks, err := b.Next(t.Context(), instances, 0)
		must(t, err)
		return len(tasks)
	}
	if n := take() + take(); n != 5 {
		t.Errorf("%d started at once, want 5", n)
	}
	b.clock.add(12 * time.Second)
	if n := take(); n != 1 {
		t.Errorf("%d started after a fifth of a minute, want 1", n)
	}
}

// TestLostExecutor: a capture that is not delivered expires and is asked of another process.
func TestLostExecutor(t *testing.T) {
	b := newBench(t, Config{})
	instances := b.processes(2)
	_, err := b.Next(t.Context(), instances, 0)
	must(t, err)
	a := b.ask(Request{Service: "cart", Kind: CPU, Duration: 10 * time.Second})
	tasks, err := b.Next(t.Context(), instances, 0)
	must(t, err)
	if len(tasks) != 1 || tasks[0].DurationMs != 10_000 {
		t.Fatalf("tasks %+v", tasks)
	}
	lost := tasks[0]
	if more, err := b.Next(t.Context(), instances, 0); err != nil || len(more) != 0 {
		t.Errorf("given out twice: %+v, %v", more, err)
	}
	for b.clock.now().UnixMilli() <= lost.Deadline { // the other one polls meanwhile
		b.clock.add(15 * time.Second)
		_, err := b.Next(t.Context(), instances, 0)
		must(t, err)
	}
	b.expire(t.Context())
	if s := b.states(a.Request); s[catalog.CaptureExpired] != 1 || s[catalog.CaptureAsked] != 1 {
		t.Fatalf("states %v", s)
	}
	tasks, err = b.Next(t.Context(), instances, 0)
	must(t, err)
	if len(tasks) != 1 || tasks[0].Instance == lost.Instance {
		t.Fatalf("then asked %+v", tasks)
	}
	must(t, b.Deliver(t.Context(), Result{ID: tasks[0].ID, Instance: tasks[0].Instance, Body: bytes.NewReader(sample(t, CPU))}))
	// Late is better than never.
	must(t, b.Deliver(t.Context(), Result{ID: lost.ID, Instance: lost.Instance, Body: bytes.NewReader(sample(t, CPU))}))
	if s := b.states(a.Request); s[catalog.CaptureDone] != 2 {
		t.Errorf("states %v", s)
	}
	// One whose executor does not come back at all.
	a = b.ask(Request{Instance: instances[0], Kind: Heap})
	b.expire(t.Context())
	b.clock.add(untaken + time.Second)
	b.expire(t.Context())
	if s := b.states(a.Request); s[catalog.CaptureExpired] != 1 {
		t.Errorf("states %v", s)
	}
	if b.running != 0 || len(b.busy) != 0 || len(b.queue) != 0 || len(b.tasks) != 0 {
		t.Errorf("left: %d running, %v, %d waiting, %d tasks", b.running, b.busy, len(b.queue), len(b.tasks))
	}
}

// TestRefusals: what is not what was asked for is not stored, and the capture says why.
func TestRefusals(t *testing.T) {
	b := newBench(t, Config{})
	b.limit = 1 << 20
	i := b.processes(1)[0]
	for _, tt := range []struct {
		name, kind string
		body       io.Reader
		state      string
	}{
		{"a profile of another kind", Heap, bytes.NewReader(sample(t, Goroutine)), catalog.CaptureFailed},
		{"text", CPU, bytes.NewReader([]byte("404 page not found")), catalog.CaptureFailed},
		{"nothing", Heap, bytes.NewReader(nil), catalog.CaptureFailed},
		{"half a profile", Heap, bytes.NewReader(sample(t, Heap)[:100]), catalog.CaptureFailed},
		{"no trace", Trace, bytes.NewReader(sample(t, Heap)), catalog.CaptureFailed},
		{"no goroutines", Goroutines, bytes.NewReader([]byte("goroutine \x00")), catalog.CaptureFailed},
		{"without end", Trace, endless{}, catalog.CaptureFailed},
		{"a trace", Trace, bytes.NewReader(sample(t, Trace)), catalog.CaptureDone},
		{"goroutines", Goroutines, bytes.NewReader(sample(t, Goroutines)), catalog.CaptureDone},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := b.Next(t.Context(), []string{i}, 0)
			must(t, err)
			a := b.ask(Request{Instance: i, Kind: tt.kind, Duration: time.Second})
			tasks, err := b.Next(t.Context(), []string{i}, 0)
			must(t, err)
			if len(tasks) != 1 {
				t.Fatalf("tasks %+v", tasks)
			}
			if err := b.Deliver(t.Context(), Result{ID: tasks[0].ID, Instance: "other", Body: tt.body}); !errors.Is(err, ErrUnknown) {
				t.Errorf("from another process: %v", err)
			}
			err = b.Deliver(t.Context(), Result{ID: tasks[0].ID, Instance: i, Body: tt.body})
			if (err == nil) != (tt.state == catalog.CaptureDone) {
				t.Errorf("deliver: %v", err)
			}
			c, _, err := b.Data(t.Context(), a.Captures[0].ID)
			must(t, err)
			if c.State != tt.state || (c.Error == "") != (tt.state == catalog.CaptureDone) {
				t.Errorf("state %s, error %q", c.State, c.Error)
			}
		})
	}
	for _, r := range []Request{{Kind: "all"}, {Kind: CPU, Duration: time.Hour}, {Kind: CPU, Duration: time.Millisecond}} {
		if _, err := b.Ask(t.Context(), r); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v", r, err)
		}
	}
	if _, err := b.Ask(t.Context(), Request{Service: "none", Kind: CPU}); !errors.Is(err, ErrNobody) {
		t.Errorf("no such service: %v", err)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// TestSelector: labels of the process select too.
func TestSelector(t *testing.T) {
	b := newBench(t, Config{})
	instances := b.processes(4)
	_, err := b.Next(t.Context(), instances, 0)
	must(t, err)
	ms, err := profiles.ParseSelector(`{service_name="cart",zone="z1"}`)
	must(t, err)
	a := b.ask(Request{Matchers: ms, Kind: Heap, All: true})
	if len(a.Captures) != 2 || a.Captures[0].Instance == instances[0] || a.Captures[1].Instance == instances[0] {
		t.Errorf("asked of %+v", a.Captures)
	}
}

// TestAble: of a service whose processes are gathered in several ways one that can is asked, and where none can it is said at once.
func TestAble(t *testing.T) {
	b := newBench(t, Config{})
	instances := b.processes(3)
	must(t, b.cat.PutProcesses(t.Context(), []catalog.Process{{Instance: instances[0], Gatherer: "perf"}, {Instance: instances[1], Gatherer: "gops"}}))
	_, err := b.Next(t.Context(), instances, 0)
	must(t, err)
	for kind, want := range map[string]int{Trace: 2, Wall: 1, OffCPU: 1, Heap: 3, Mutex: 2} {
		a, err := b.Ask(t.Context(), Request{Service: "cart", Kind: kind, All: true, Shadow: true})
		must(t, err)
		if len(a.Captures) != want || a.Reached != 3 {
			t.Errorf("%s: %d are asked of %d, want %d", kind, len(a.Captures), a.Reached, want)
		}
	}
	must(t, b.cat.PutProcesses(t.Context(), []catalog.Process{{Instance: instances[2], Gatherer: "gops"}}))
	if _, err := b.Ask(t.Context(), Request{Service: "cart", Kind: Flight}); !errors.Is(err, ErrNobody) {
		t.Errorf("flight: %v", err)
	}
	if a, err := b.Ask(t.Context(), Request{Instance: instances[0], Kind: Flight}); err != nil || len(a.Captures) != 1 {
		t.Errorf("flight of one that is named: %+v, %v", a, err)
	}
}

// TestShutdown: at the end polls return at once, and later ones are refused.
func TestShutdown(t *testing.T) {
	b := newBench(t, Config{})
	stop := background(t, b.Run)
	returned := make(chan error, 1)
	go func() {
		_, err := b.Next(context.Background(), []string{"x"}, time.Hour)
		returned <- err
	}()
	until(t, "the poll", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.polls == 1
	})
	stop()
	if err := <-returned; err != nil {
		t.Errorf("the poll: %v", err)
	}
	if _, err := b.Next(t.Context(), []string{"x"}, time.Hour); !errors.Is(err, ErrClosing) {
		t.Errorf("a poll after the end: %v", err)
	}
}

// TestGoneClient: what was given to a poll whose client is gone is given to the next.
func TestGoneClient(t *testing.T) {
	b := newBench(t, Config{})
	i := b.processes(1)
	ctx, cancel := context.WithCancel(t.Context())
	w := &waiter{instances: i, ready: make(chan struct{})}
	must(t, b.wait(w))
	b.ask(Request{Instance: i[0], Kind: Heap})
	given := b.leave(w)
	cancel()
	if len(given) != 1 || ctx.Err() == nil {
		t.Fatalf("given %d", len(given))
	}
	b.putBack(given)
	tasks, err := b.Next(t.Context(), i, 0)
	must(t, err)
	if len(tasks) != 1 || b.running != 1 {
		t.Errorf("tasks %+v, %d running", tasks, b.running)
	}
}

// TestRestart: what waits survives a restart, and what nobody named is taken up.
func TestRestart(t *testing.T) {
	b := newBench(t, Config{})
	instances := b.processes(2)
	_, err := b.Next(t.Context(), instances, 0)
	must(t, err)
	b.ask(Request{Service: "cart", Kind: Heap, All: true})
	tasks, err := b.Next(t.Context(), instances[:1], 0)
	must(t, err)
	b.reopen(Config{})
	must(t, b.Deliver(t.Context(), Result{ID: tasks[0].ID, Instance: tasks[0].Instance, Body: bytes.NewReader(sample(t, Heap))}))
	more, err := b.Next(t.Context(), instances, 0)
	must(t, err)
	if len(more) != 1 || more[0].Instance != instances[1] {
		t.Errorf("after the restart: %+v", more)
	}
	// Another catalogue: its captures are found by what they say of themselves.
	fresh := newBench(t, Config{})
	n, problems, err := Adopt(t.Context(), b.blobs, fresh.cat, -time.Minute)
	must(t, err)
	got, err := fresh.cat.Capture(t.Context(), tasks[0].ID)
	must(t, err)
	want, err := b.cat.Capture(t.Context(), tasks[0].ID)
	must(t, err)
	if n != 1 || len(problems) > 0 || got != want {
		t.Errorf("adopted %d, %v:\n%+v\nwant\n%+v", n, problems, got, want)
	}
	must(t, b.blobs.Put(t.Context(), folder+"rubbish", []byte("no capture at all, but long enough")))
	if _, problems, err := Adopt(t.Context(), b.blobs, fresh.cat, -time.Minute); err != nil || len(problems) != 1 {
		t.Errorf("rubbish: %v, %v", problems, err)
	}
	if _, problems, err := Check(t.Context(), b.blobs, fresh.cat, -time.Minute); err != nil || len(problems) != 1 {
		t.Errorf("check: %v, %v", problems, err)
	}
}

// TestAttach: the captures of a killed process are named in its event.
func TestAttach(t *testing.T) {
	b := newBench(t, Config{})
	now := b.clock.now().UnixMilli()
	must(t, b.cat.PutCaptures(t.Context(), []catalog.Capture{
		{ID: "a", Kind: Heap, Instance: "i", State: catalog.CaptureDone, Created: now - 5000}, {ID: "b", Kind: Heap, Instance: "i", State: catalog.CaptureDone, Created: now - 1000},
		{ID: "c", Kind: Heap, Instance: "j", State: catalog.CaptureDone, Created: now}, {ID: "d", Kind: Goroutine, Instance: "i", State: catalog.CaptureFailed, Created: now},
	}))
	es := b.Attach(t.Context(), []catalog.Event{{Time: now, Kind: EventOOMKill, Attrs: map[string]string{"instance": "i", "captures": "a"}}})
	if a := es[0].Attrs; a["captures"] != "a,b" || a["capture_heap"] != "b" || a["capture_goroutine"] != "" {
		t.Errorf("attributes %v", a)
	}
}
