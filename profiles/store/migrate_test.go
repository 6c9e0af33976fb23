package store

import (
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/profiles"
)

// v1Readable applies the rules by which a release that knows version 1 alone reads a file: the header's version, the magic at the end, the version of what lies
// between, no section and no region that came later.
func (e *env) v1Readable(b catalog.Block) {
	e.t.Helper()
	data, err := os.ReadFile(e.path(b.Blob))
	must(e.t, err)
	if string(data[:8]) != "SONDEPRF" || data[8] != 1 || !slices.Equal(data[10:16], make([]byte, 6)) || string(data[len(data)-8:]) != "SONDEEND" {
		e.t.Errorf("%s: header % x, end %q: not of version 1", b.Blob, data[:16], data[len(data)-8:])
		return
	}
	f := &file{name: b.Blob, r: memory{data}, size: int64(len(data))}
	must(e.t, f.readFooter())
	if f.opened.foot.version != version1 || f.opened.foot.resolution != 0 {
		e.t.Errorf("%s: footer of version %d, resolution %d", b.Blob, f.opened.foot.version, f.opened.foot.resolution)
	}
	for _, ds := range f.opened.foot.datasets {
		for i, s := range ds.sections {
			if !sections1[i] && s.stored > 0 {
				e.t.Errorf("%s: has section %s", b.Blob, sectionNames[i])
			}
		}
		if windowStart(ds.MinStart, blockWindow.Milliseconds()) != windowStart(ds.MaxStart, blockWindow.Milliseconds()) {
			e.t.Errorf("%s: reaches over the window of a block: [%d, %d]", b.Blob, ds.MinStart, ds.MaxStart)
		}
	}
}

// TestMigrateBack takes a store with everything in it back to version 1: every answer of raw profiles is as before, and sums amount to what they did.
func TestMigrateBack(t *testing.T) {
	e := newEnv(t, nil)
	rng := rand.New(rand.NewPCG(8, 8))
	day := int64(24 * 3_600_000)
	old := windowStart(epoch, day) - 2*day
	r, summed := &reference{}, &reference{}
	push := func(window uint64, start int64, to ...*reference) {
		p, s := twoServices(rng, window, start)
		must(t, e.store.Append(t.Context(), p))
		for _, r := range to {
			r.add(p, s, 300_000)
		}
	}
	for i := range 200 {
		push(uint64(i+1), old+rng.Int64N(6*3_600_000), summed)
	}
	must(t, e.store.Compact(t.Context(), true))
	for _, service := range []string{"cart", "pay", "db"} {
		var in []catalog.Block
		for _, b := range e.blobs() {
			if b.Datasets[0].Service == service {
				in = append(in, b)
			}
		}
		e.store.compacting.Lock()
		must(t, e.store.downsample(t.Context(), in, 60_000, 24*time.Hour))
		e.store.compacting.Unlock()
	}
	for i := range 60 {
		push(uint64(i+1000), epoch+rng.Int64N(3*3_600_000), r)
		if i == 40 {
			must(t, e.store.Compact(t.Context(), true))
		}
	}
	e.verify(r, rng, epoch-60_000, epoch+4*3_600_000, 10)
	intervals := []profiles.Type{{Profile: "cpu", Sample: "cpu"}, {Profile: "heap", Sample: "alloc_space"}}
	whole := func(typ profiles.Type) string {
		q := Query{Type: typ, From: old, To: old + day}
		got, err := e.store.Merge(t.Context(), q)
		must(t, err)
		return difference(byStack(t, got), summed.merge(q))
	}
	for _, typ := range intervals {
		if d := whole(typ); d != "" {
			t.Fatalf("sums before: %s", d)
		}
	}
	_, err := e.store.Pin(t.Context(), catalog.Pin{Selector: "cart", Start: epoch, End: epoch + 1000})
	must(t, err)
	must(t, e.store.Close())

	m, err := MigrateBack(t.Context(), e.cfg.Blobs, e.cat)
	must(t, err)
	again, err := MigrateBack(t.Context(), e.cfg.Blobs, e.cat)
	must(t, err)
	if m.Kept != 0 || again.Rewritten != 0 || again.Kept == 0 {
		t.Errorf("first %+v, then %+v: want nothing kept, and then everything", m, again)
	}
	if lost := strings.Join(m.Lost, "; "); !strings.Contains(lost, "3 blocks of sums") || !strings.Contains(lost, "1 pins") {
		t.Errorf("lost: %s", lost)
	}
	e.store, err = Open(t.Context(), e.cfg)
	must(t, err)
	for _, b := range e.blobs() {
		e.v1Readable(b)
	}
	e.verify(r, rng, epoch-60_000, epoch+4*3_600_000, 20)
	for _, typ := range intervals {
		if d := whole(typ); d != "" {
			t.Errorf("sums of %s after: %s", typ, d)
		}
	}
	e.check()
}

// TestMigrateBackLeavesOutWhatCannotBeRead takes a damaged block out of the catalogue, says so, and keeps its blob.
func TestMigrateBackLeavesOutWhatCannotBeRead(t *testing.T) {
	e := filled(t)
	bad := e.blobs()[0]
	e.flip(bad.Blob, bad.Size/2)
	must(t, e.store.Close())
	m, err := MigrateBack(t.Context(), e.cfg.Blobs, e.cat)
	must(t, err)
	if len(m.Lost) != 1 || !strings.Contains(m.Lost[0], bad.Blob) || m.Rewritten != 2 {
		t.Errorf("got %+v, want 2 blobs rewritten and %s lost", m, bad.Blob)
	}
	e.store, err = Open(t.Context(), e.cfg)
	must(t, err)
	must(t, e.mergeAll())
	if _, err := os.Stat(e.path(bad.Blob)); err != nil {
		t.Errorf("the damaged blob is gone: %v", err)
	}
}
