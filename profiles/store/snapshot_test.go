package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/sonde-io/sonde/internal/catalog"
)

// TestReadsWhileBlocksAreSwapped merges one service again and again while its blocks are compacted, taken apart by a pin, put together again, added up, and while others are pushed
// and deleted beside it: every answer is the same, and pushes are taken all the time.
func TestReadsWhileBlocksAreSwapped(t *testing.T) {
	e := newEnv(t, nil)
	all := fleetOf(t, e)
	cart := all.without(func(s, _ string, _ int64) bool { return s != "cart" })
	q := Query{Type: modelTypes[0], From: epoch, To: epoch + 4*3_600_000, Matchers: equal(serviceLabel, "cart")}
	want := cart.merge(q)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	reads, pushes := 0, 0
	wg.Go(func() {
		for ; ctx.Err() == nil; reads++ {
			got, err := e.store.Merge(context.Background(), q)
			if err != nil {
				t.Error(err)
				return
			}
			if g := byStack(t, got); !maps.Equal(g, want) {
				t.Errorf("read %d: %s", reads, difference(g, want))
				return
			}
		}
	})
	wg.Go(func() {
		rng := rand.New(rand.NewPCG(2, 2))
		for ; ctx.Err() == nil; pushes++ {
			time.Sleep(20 * time.Millisecond) // Compact goes on for as long as there is something to compact
			p, _ := randomPush(rng, "pay", "z", uint64(pushes+1), epoch+int64(pushes)*100, epoch+int64(pushes)*100+100)
			if err := e.store.Append(context.Background(), p); err != nil {
				t.Error(err)
				return
			}
		}
	})
	change := func(what string, fn func() error) {
		t.Helper()
		if err := fn(); err != nil && !errors.Is(err, catalog.ErrConflict) {
			t.Errorf("%s: %v", what, err)
		}
	}
	live := func() (raw, sums []catalog.Block) {
		blocks, err := e.cat.Blocks(t.Context(), catalog.BlockFilter{Services: []string{"cart"}})
		must(t, err)
		for _, b := range blocks {
			if b.Resolution > 0 {
				sums = append(sums, b)
			} else if b.Level > 0 {
				raw = append(raw, b)
			}
		}
		return raw, sums
	}
	for i := range 6 {
		id, err := e.store.Pin(t.Context(), catalog.Pin{Selector: `{service_name="cart",service_instance_id="a"}`, Start: epoch + int64(i)*600_000, End: epoch + int64(i+2)*600_000})
		must(t, err)
		change("compact", func() error { return e.store.Compact(t.Context(), true) })
		ps, err := readPins(t.Context(), e.cat)
		must(t, err)
		raw, _ := live()
		for _, b := range raw {
			change("split", func() error {
				return e.store.cleaning(t.Context(), func(ctx context.Context) error { return e.store.split(ctx, b, ps) })
			})
		}
		must(t, e.store.Unpin(t.Context(), id))
		change("clean", func() error { return e.store.Clean(t.Context()) })
		_, err = e.store.Delete(t.Context(), Deletion{Instance: fmt.Sprint("z", i), To: maxTime})
		must(t, err)
		_, err = e.store.Delete(t.Context(), Deletion{Service: "pay", To: epoch + int64(i)*60_000 + 1})
		must(t, err)
	}
	raw, _ := live()
	change("add up", func() error {
		return e.store.cleaning(t.Context(), func(ctx context.Context) error { return e.store.downsample(ctx, raw, 60_000, day) })
	})
	_, sums := live()
	if len(sums) == 0 {
		t.Error("there are no sums")
	}
	time.Sleep(50 * time.Millisecond)
	stop()
	wg.Wait()
	if reads < 10 || pushes < 10 {
		t.Errorf("%d reads and %d pushes while blocks were swapped, want more", reads, pushes)
	}
	e.check()
}

// meanwhile is a catalogue in which something happens right after the blocks were listed for the first time.
type meanwhile struct {
	catalog.Catalog
	fn func()
}

func (m *meanwhile) Blocks(ctx context.Context, f catalog.BlockFilter) ([]catalog.Block, error) {
	blocks, err := m.Catalog.Blocks(ctx, f)
	if fn := m.fn; fn != nil {
		m.fn = nil
		fn()
	}
	return blocks, err
}

// TestCheckWhileBlobsGo: what is replaced and deleted while a check goes on is no problem.
func TestCheckWhileBlobsGo(t *testing.T) {
	e := newEnv(t, func(c *Config) { c.Grace = time.Millisecond })
	rng := rand.New(rand.NewPCG(4, 4))
	for i := range 4 {
		p, _ := randomPush(rng, "cart", "a", uint64(i+1), epoch, epoch+15_000)
		must(t, e.store.Append(t.Context(), p))
		if i == 1 {
			must(t, e.store.Compact(t.Context(), true)) // leaves garbage that is gone when the check comes to it
		}
	}
	cat := &meanwhile{Catalog: e.cat, fn: func() {
		must(t, e.store.Compact(t.Context(), true))
		time.Sleep(3 * time.Millisecond)
		must(t, e.store.Clean(t.Context()))
	}}
	checked, problems, err := Check(t.Context(), e.cfg.Blobs, cat, 0)
	if err != nil || len(problems) > 0 || checked != 0 {
		t.Errorf("%d checked, problems %v, %v; want none of what is gone", checked, problems, err)
	}
	e.check()
}
