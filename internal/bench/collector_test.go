//go:build unix

package bench_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/sonde-io/sonde/collector/api"
	"github.com/sonde-io/sonde/collector/receive"
	"github.com/sonde-io/sonde/internal/blob"
	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/internal/fsys"
	"github.com/sonde-io/sonde/profiles/store"
)

// clock is the time that a benchmark's collector lives in.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) set(ms int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = time.UnixMilli(ms)
}

// catalogue is the real one, whose garbage becomes due by the benchmark's clock: half an hour is over in seconds here, and blobs that were replaced must lie
// there as long as they would in production.
type catalogue struct {
	*catalog.DB
	clock *clock
	mu    sync.Mutex
	due   map[string]time.Time // by block
}

func (c *catalogue) Now(context.Context) (time.Time, error) { return c.clock.Now(), nil }

func (c *catalogue) Swap(ctx context.Context, in []string, out []catalog.Block, deleteAfter time.Time) error {
	c.mu.Lock()
	for _, id := range in {
		c.due[id] = deleteAfter
	}
	c.mu.Unlock()
	return c.DB.Swap(ctx, in, out, deleteAfter)
}

func (c *catalogue) Garbage(ctx context.Context, limit int) ([]string, error) {
	names, err := c.Pending(ctx)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	for _, name := range names {
		if id := path.Base(name); (limit == 0 || len(out) < limit) && !c.due[id].After(c.clock.Now()) {
			delete(c.due, id)
			out = append(out, name)
		}
	}
	return out, nil
}

// collector is what sonde serve wires together, on a clock of its own and without a listener.
type collector struct {
	t     testing.TB
	dir   string
	clock *clock
	cat   *catalogue
	store *store.Store
	mux   *http.ServeMux
}

// century is a retention that keeps all.
const century = 100 * 365 * 24 * time.Hour

func openCollector(t testing.TB, dir string, now int64, edit func(*store.Config)) *collector {
	t.Helper()
	c := &collector{t: t, dir: dir, clock: new(clock), mux: http.NewServeMux()}
	c.clock.set(now)
	blobs, err := blob.OpenFiles(fsys.OS{}, filepath.Join(dir, "blobs"))
	c.must(err)
	db, err := catalog.OpenSQLite(t.Context(), filepath.Join(dir, "catalog.db"))
	c.must(err)
	c.cat = &catalogue{DB: db, clock: c.clock, due: map[string]time.Time{}}
	cfg := store.Config{Blobs: blobs, Catalog: c.cat, Now: c.clock.Now, MaxAge: century, MaxBytes: 1 << 50}
	if edit != nil {
		edit(&cfg)
	}
	c.store, err = store.Open(t.Context(), cfg)
	c.must(err)
	receive.New(receive.Config{Sink: c.store, Processes: c.cat, Now: c.clock.Now, Limits: receive.Limits{BodyBytes: 16 << 20, DecompressedBytes: 64 << 20, Samples: 500_000,
		Labels: 64, LabelNameBytes: 128, LabelValueBytes: 1024, Concurrent: 256}}).Register(c.mux)
	api.New(api.Config{Store: c.store, Catalog: c.cat, Now: c.clock.Now}).Register(c.mux)
	t.Cleanup(c.close)
	return c
}

func (c *collector) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// close ends the collector. It may be called twice.
func (c *collector) close() {
	c.must(c.store.Close())
	c.must(c.cat.Close())
}

// compact does what a collector does in the background every few seconds, and every minute.
func (c *collector) compact() {
	c.must(c.store.Compact(context.Background(), false))
	c.must(c.store.Clean(context.Background()))
}

// settle lets the clock go on until there is nothing left to compact and no garbage left to delete.
func (c *collector) settle(now int64) {
	for _, later := range []time.Duration{0, 3 * time.Hour, 6 * time.Hour, 9 * time.Hour} {
		c.clock.set(now + later.Milliseconds())
		c.compact()
	}
}

// answer asks for path and returns the answer's body.
func (c *collector) answer(path string) []byte {
	c.t.Helper()
	w := httptest.NewRecorder()
	c.mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	if w.Code != http.StatusOK {
		c.t.Fatalf("GET %s: %d %.300s", path, w.Code, w.Body)
	}
	return w.Body.Bytes()
}

// push sends a window's body and fails unless it is acknowledged.
func (c *collector) push(body *http.Request) error {
	w := httptest.NewRecorder()
	c.mux.ServeHTTP(w, body)
	if w.Code != http.StatusOK {
		return fmt.Errorf("push: %d %.300s", w.Code, w.Body)
	}
	return nil
}
