package store

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/profiles"
)

// fleetOf pushes 40 windows of two instances each of two services, compacting some of it, and returns what was pushed.
func fleetOf(t *testing.T, e *env) *reference {
	t.Helper()
	rng := rand.New(rand.NewPCG(11, 3))
	r := &reference{}
	for w := range 40 {
		for _, who := range []string{"cart a", "cart b", "pay c", "pay d"} {
			service, instance, _ := strings.Cut(who, " ")
			start := epoch + int64(w)*240_000 // over more than two hours
			p, samples := randomPush(rng, service, instance, uint64(w+1), start, start+15_000)
			p.Process = &catalog.Process{Instance: instance, Service: service, Gatherer: "agent", LastSeen: start}
			must(t, e.store.Append(t.Context(), p))
			r.add(p, samples, 300_000)
		}
		if w%10 == 5 {
			must(t, e.store.Compact(t.Context(), true))
		}
	}
	return r
}

// without returns the reference without what gone selects.
func (r *reference) without(gone func(service, instance string, start int64) bool) *reference {
	out := &reference{}
	for _, p := range r.all {
		if !gone(p.labels.Get(serviceLabel), p.labels.Get(instanceLabel), p.start) {
			out.all = append(out.all, p)
		}
	}
	return out
}

// equals fails the test unless the store holds exactly what r does.
func (e *env) equals(r *reference) {
	e.t.Helper()
	for _, typ := range modelTypes {
		q := Query{Type: typ, From: epoch - 1, To: epoch + 4*3_600_000}
		got, err := e.store.Merge(context.Background(), q)
		must(e.t, err)
		if g, want := byStack(e.t, got), r.merge(q); !maps.Equal(g, want) {
			e.t.Errorf("%s: %d stacks, want %d; %s", typ, len(g), len(want), difference(g, want))
		}
	}
}

func TestDelete(t *testing.T) {
	middle := epoch + 20*240_000
	for _, test := range []struct {
		name string
		d    Deletion
		gone func(service, instance string, start int64) bool
	}{
		{"a service", Deletion{Service: "cart", To: maxTime}, func(s, _ string, _ int64) bool { return s == "cart" }},
		{"an instance", Deletion{Instance: "d", To: maxTime}, func(_, i string, _ int64) bool { return i == "d" }},
		{"a service's last hour", Deletion{Service: "pay", From: middle, To: maxTime}, func(s, _ string, at int64) bool { return s == "pay" && at >= middle }},
		{"an instance's first hour", Deletion{Instance: "a", To: middle}, func(_, i string, at int64) bool { return i == "a" && at < middle }},
		{"an instance of another service", Deletion{Service: "pay", Instance: "a", To: maxTime}, func(string, string, int64) bool { return false }},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := newEnv(t, func(c *Config) { c.Grace = time.Millisecond })
			all := fleetOf(t, e)
			want := all.without(test.gone)
			got, err := e.store.Delete(t.Context(), test.d)
			must(t, err)
			if n := int64(len(all.all) - len(want.all)); got.Profiles != n {
				t.Errorf("it says that %d profiles are gone, want %d: %+v", got.Profiles, n, got)
			}
			e.equals(want)
			e.check()
			ds, err := e.cat.Deletions(t.Context())
			must(t, err)
			stones, err := readTombstones(t.Context(), e.cfg.Blobs)
			must(t, err)
			if len(ds) != 1 || !ds[0].Finished || len(stones) != 1 || stones[0].ID != ds[0].ID || stones[0].Service != test.d.Service || stones[0].End != test.d.To {
				t.Errorf("catalogue has %+v, blobs %+v", ds, stones)
			}
			// What is pushed from now on stays, through compactions too.
			p, samples := randomPush(rand.New(rand.NewPCG(1, 1)), "cart", "a", 1000, epoch+1000, epoch+16_000)
			must(t, e.store.Append(t.Context(), p))
			want.add(p, samples, 300_000)
			must(t, e.store.Compact(t.Context(), true))
			must(t, e.store.Clean(t.Context()))
			e.equals(want)
			if test.d.Instance == "d" {
				e.noTrace("d")
			}
		})
	}
}

// noTrace fails the test if a series of the instance is in any blob, replaced ones included, once the grace is over.
func (e *env) noTrace(instance string) {
	e.t.Helper()
	time.Sleep(3 * time.Millisecond)
	must(e.t, e.store.Clean(e.t.Context()))
	for _, folder := range []string{segmentFolder, blockFolder} {
		for info, err := range e.cfg.Blobs.List(e.t.Context(), folder) {
			must(e.t, err)
			f, err := openFile(e.t.Context(), e.cfg.Blobs, info.Name, nil)
			must(e.t, err)
			for _, d := range f.opened.foot.datasets {
				ds, err := f.dataset(d.Service)
				must(e.t, err)
				if slices.ContainsFunc(ds.series, func(si seriesInfo) bool { return si.Labels.Get(instanceLabel) == instance }) {
					e.t.Errorf("blob %s still has a series of %s", info.Name, instance)
				}
			}
			f.close()
		}
	}
}

// TestDeleteRows: the rows of what ran go too, those of what runs stay.
func TestDeleteRows(t *testing.T) {
	e := newEnv(t, nil)
	e.clock.set(epoch + 24*3_600_000)
	rng := rand.New(rand.NewPCG(11, 3))
	for i, seen := range []time.Duration{24 * time.Hour, time.Minute} {
		p, _ := randomPush(rng, "cart", string(rune('a'+i)), 1, epoch, epoch+15_000)
		p.Process = &catalog.Process{Instance: string(rune('a' + i)), Service: "cart", Gatherer: "agent", LastSeen: e.clock.Now().Add(-seen).UnixMilli()}
		p.Events = []catalog.Event{{Time: epoch, Kind: "start", Service: "cart"}}
		must(t, e.store.Append(t.Context(), p))
	}
	got, err := e.store.Delete(t.Context(), Deletion{Service: "cart", To: maxTime})
	must(t, err)
	if got.Processes != 1 || got.Keys != 1 || got.Events != 2 {
		t.Errorf("removed %+v, want one process, its key, and both events", got.Removed)
	}
	if _, err := e.cat.Process(t.Context(), "b"); err != nil {
		t.Errorf("the process that runs: %v", err)
	}
}

func TestDeletePinned(t *testing.T) {
	e := newEnv(t, nil)
	all := fleetOf(t, e)
	id, err := e.store.Pin(t.Context(), catalog.Pin{Selector: `{service_name="cart",service_instance_id="b"}`, Type: "cpu", Start: epoch, End: epoch + 600_000})
	must(t, err)
	var pinned *PinnedError
	if _, err := e.store.Delete(t.Context(), Deletion{Service: "cart", To: maxTime}); !errors.As(err, &pinned) || pinned.Pin.ID != id {
		t.Fatalf("a pinned service: %v, want a PinnedError of pin %d", err, id)
	}
	e.equals(all)
	for _, d := range []Deletion{{Instance: "a", To: maxTime}, {Service: "cart", From: epoch + 600_000, To: maxTime}} {
		if _, err := e.store.Delete(t.Context(), d); err != nil {
			t.Errorf("%+v, which is not pinned: %v", d, err)
		}
	}
	_, err = e.store.Delete(t.Context(), Deletion{Service: "cart", To: maxTime, Force: true})
	must(t, err)
	e.equals(all.without(func(s, _ string, _ int64) bool { return s == "cart" }))
	for _, d := range []Deletion{{To: 5}, {Service: "cart"}, {Service: "cart", From: 5, To: 5}} {
		if _, err := e.store.Delete(t.Context(), d); err == nil {
			t.Errorf("%+v was carried out", d)
		}
	}
}

// TestDeleteIsResumed: what was begun before a kill is carried to its end.
func TestDeleteIsResumed(t *testing.T) {
	e := newEnv(t, nil)
	all := fleetOf(t, e)
	_, err := e.store.bury(t.Context(), Deletion{Service: "cart", To: maxTime})
	must(t, err)
	e.equals(all)
	e.reopen()
	must(t, e.store.Clean(t.Context()))
	e.equals(all.without(func(s, _ string, _ int64) bool { return s == "cart" }))
	stones, err := readTombstones(t.Context(), e.cfg.Blobs)
	if err != nil || len(stones) != 1 {
		t.Errorf("tombstones: %+v, %v", stones, err)
	}
	// A catalogue that was made anew knows nothing of it, but the tombstone does.
	must(t, e.cat.ForgetDeletion(t.Context(), stones[0].ID))
	blocks, err := e.cat.Blocks(t.Context(), catalog.BlockFilter{})
	must(t, err)
	var back []catalog.Block
	for _, name := range pendingNames(t, e) { // as if the old blocks were live again
		if f, err := openFile(t.Context(), e.cfg.Blobs, name, nil); err == nil {
			back = append(back, f.opened.foot.block(f.size))
			f.close()
		}
	}
	ids := make([]string, len(blocks))
	for i, b := range blocks {
		ids[i] = b.ID
	}
	must(t, e.cat.Swap(t.Context(), ids, nil, time.UnixMilli(1)))
	must(t, e.cat.Forget(t.Context(), pendingNames(t, e)))
	oldest := map[string]catalog.Block{}
	for _, b := range back {
		if b.Level == 0 {
			oldest[b.ID] = b
		}
	}
	for _, b := range blocks {
		if b.Level == 0 {
			oldest[b.ID] = b
		}
	}
	for _, b := range oldest {
		must(t, e.cat.Register(t.Context(), catalog.Registration{Block: &b}))
	}
	e.equals(all)
	e.reopen()
	must(t, e.store.Clean(t.Context()))
	e.equals(all.without(func(s, _ string, _ int64) bool { return s == "cart" }))
	e.clock.set(epoch + (tombstoneAge + time.Hour).Milliseconds())
	must(t, e.store.Clean(t.Context()))
	if stones, err := readTombstones(t.Context(), e.cfg.Blobs); err != nil || len(stones) != 0 {
		t.Errorf("tombstones a month later: %+v, %v", stones, err)
	}
	if _, err := readTombstones(t.Context(), e.cfg.Blobs); err != nil {
		t.Error(err)
	}
	must(t, e.cfg.Blobs.Put(t.Context(), tombstoneFolder+"X", []byte(`{"v":2}`)))
	if _, err := readTombstones(t.Context(), e.cfg.Blobs); err == nil {
		t.Error("a tombstone of another version was read")
	}
}

// pendingNames are the blobs that wait to be deleted.
func pendingNames(t *testing.T, e *env) []string {
	t.Helper()
	names, err := e.cat.Pending(t.Context())
	must(t, err)
	return names
}

// TestPinsSurviveRetention: of a service whose profiles are not kept, what is pinned stays as it came, and nothing else.
func TestPinsSurviveRetention(t *testing.T) {
	e := newEnv(t, func(c *Config) { c.MaxAge, c.MinuteAge, c.HourAge, c.Grace = 7*day, -1, -1, time.Millisecond })
	all := fleetOf(t, e)
	id, err := e.store.Pin(t.Context(), catalog.Pin{Selector: `{service_instance_id="b"}`, Type: "cpu", Start: epoch + 240_000, End: epoch + 1_200_000})
	must(t, err)
	must(t, e.store.Clean(t.Context()))
	e.equals(all)
	for range 10 { // day by day: a clock that jumps is not believed
		e.clock.set(e.clock.Now().Add(day).UnixMilli())
		must(t, e.store.Clean(t.Context()))
	}
	want := &reference{}
	for _, p := range all.all {
		if p.typ == "cpu" && p.labels.Get(instanceLabel) == "b" && p.start >= epoch+240_000 && p.start < epoch+1_200_000 {
			want.all = append(want.all, p)
		}
	}
	e.equals(want)
	e.check()
	before, err := e.cat.Blocks(t.Context(), catalog.BlockFilter{})
	must(t, err)
	must(t, e.store.Clean(t.Context()))
	must(t, e.store.Compact(t.Context(), true))
	after, err := e.cat.Blocks(t.Context(), catalog.BlockFilter{})
	must(t, err)
	if len(before) != len(after) || before[0].ID != after[0].ID {
		t.Errorf("what is pinned was written again: %v, then %v", before, after)
	}
	q := Query{Type: profiles.Type{Profile: "cpu", Sample: "cpu"}, From: epoch, To: epoch + 1_200_000, Matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "service_name", "pay")}}
	if got, err := e.store.Merge(t.Context(), q); err != nil || got.Stats.Profiles != 0 {
		t.Errorf("of the other service there are %d profiles, %v", got.Stats.Profiles, err)
	}
	must(t, e.store.Unpin(t.Context(), id))
	must(t, e.store.Clean(t.Context()))
	e.equals(&reference{})
	if err := e.store.Unpin(t.Context(), id); !errors.Is(err, catalog.ErrNotFound) {
		t.Errorf("unpin again: %v", err)
	}
	for _, p := range []catalog.Pin{{Selector: "{", Start: 1, End: 2}, {Selector: "{}", Start: 2, End: 2}} {
		if _, err := e.store.Pin(t.Context(), p); err == nil {
			t.Errorf("pin %+v was taken", p)
		}
	}
}

// TestClockJumps: a clock that jumps by years takes nothing at once, and everything goes on.
func TestClockJumps(t *testing.T) {
	e := newEnv(t, func(c *Config) { c.MaxAge, c.MinuteAge, c.HourAge = 7*day, -1, -1 })
	all := fleetOf(t, e)
	must(t, e.store.Clean(t.Context()))
	e.clock.set(epoch + 5*365*day.Milliseconds())
	for range 3 {
		must(t, e.store.Clean(t.Context()))
	}
	e.equals(all)
	e.clock.set(epoch + 10*3_600_000)
	must(t, e.store.Clean(t.Context()))
	e.equals(all)
}
