package capture

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"path/filepath"
	"runtime/pprof"
	"runtime/trace"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/internal/blob"
	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/internal/fsys"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// clock is a clock that a test moves.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Now()} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// bench is a Broker with a real catalogue and real blobs.
type bench struct {
	*Broker
	t     testing.TB
	cat   *catalog.DB
	blobs *blob.Files
	clock *clock
}

func newBench(t testing.TB, cfg Config) *bench {
	t.Helper()
	dir := t.TempDir()
	cat, err := catalog.OpenSQLite(t.Context(), filepath.Join(dir, "catalog.db"))
	must(t, err)
	t.Cleanup(func() { must(t, cat.Close()) })
	blobs, err := blob.OpenFiles(fsys.OS{}, filepath.Join(dir, "blobs"))
	must(t, err)
	b := &bench{t: t, cat: cat, blobs: blobs, clock: newClock()}
	b.reopen(cfg)
	return b
}

func (b *bench) reopen(cfg Config) {
	b.t.Helper()
	cfg.Catalog, cfg.Blobs, cfg.Now = b.cat, b.blobs, b.clock.now
	var err error
	b.Broker, err = New(b.t.Context(), cfg)
	must(b.t, err)
}

// processes puts n running processes of service cart into the catalogue and returns their instances.
func (b *bench) processes(n int) (instances []string) {
	b.t.Helper()
	var ps []catalog.Process
	for i := range n {
		id := fmt.Sprintf("%032x", i+1)
		instances = append(instances, id)
		ps = append(ps, catalog.Process{Instance: id, Service: "cart", BuildID: "b1", Labels: labels.FromStrings("service_name", "cart", "zone", fmt.Sprint("z", i%2)), Gatherer: "agent", State: "running",
			LastSeen: b.clock.now().UnixMilli()})
	}
	must(b.t, b.cat.PutProcesses(b.t.Context(), ps))
	return instances
}

func (b *bench) ask(r Request) *Asked {
	b.t.Helper()
	a, err := b.Ask(b.t.Context(), r)
	must(b.t, err)
	return a
}

func (b *bench) states(request string) map[string]int {
	b.t.Helper()
	cs, err := b.cat.Captures(b.t.Context(), catalog.CaptureFilter{Request: request})
	must(b.t, err)
	out := map[string]int{}
	for _, c := range cs {
		out[c.State]++
	}
	return out
}

// until waits until ok says so. The limit only ends a test that would hang.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// background runs fn until the end of the test, which waits for it.
func background(t testing.TB, fn func(ctx context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- fn(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("background: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// sample returns a real capture of the test's own process.
func sample(t testing.TB, kind string) []byte {
	t.Helper()
	var buf bytes.Buffer
	switch kind {
	case Trace, Flight:
		must(t, trace.Start(&buf))
		trace.Stop()
	case Goroutines:
		must(t, pprof.Lookup("goroutine").WriteTo(&buf, 2))
	case CPU:
		must(t, pprof.StartCPUProfile(&buf))
		pprof.StopCPUProfile()
	default:
		must(t, pprof.Lookup(kind).WriteTo(&buf, 0))
	}
	return buf.Bytes()
}

// fake is an Executor whose captures are given by a function.
type fake struct {
	instances []string
	take      func(t Task) ([]byte, error)
}

func (f *fake) Instances() []string { return f.instances }

func (f *fake) Capture(_ context.Context, t Task) (string, io.ReadCloser, error) {
	data, err := f.take(t)
	if err != nil {
		return "", nil, err
	}
	return ContentType(t.Kind), io.NopCloser(bytes.NewReader(data)), nil
}
