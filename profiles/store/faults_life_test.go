package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/internal/fsys/faultfs"
)

// life is a store on a file system and a catalogue that fail, through all that can happen to its profiles: pushes, compaction, a pin, retention's steps,
// the deletion of a service, garbage.
type life struct {
	*faulty
	services []string // of each push
	deleted  bool     // Delete returned nil
}

func newLife(t *testing.T, desc string, wrap func(catalog.Catalog) catalog.Catalog) *life {
	l := &life{faulty: newFaulty(t, desc, wrap)}
	l.configure = func(c *Config) {
		c.MaxAge, c.MinuteAge, c.HourAge, c.Grace = 7*day, 20*day, 100*day, time.Millisecond
	}
	l.clock.set(epoch + 2*day.Milliseconds())
	rng := rand.New(rand.NewPCG(21, 7))
	l.pushes, l.samples = nil, nil
	for i := range 8 { // four of each service, of them two older than raw profiles are kept
		service := []string{"cart", "pay"}[i%2]
		start := epoch + int64(i)*15_000
		if i < 4 {
			start -= 6 * day.Milliseconds()
		}
		for {
			p, s := randomPush(rng, service, fmt.Sprint("i", i), 1, start, start+15_000)
			if len(p.Profiles) == 2 {
				l.pushes, l.samples, l.services = append(l.pushes, p), append(l.samples, s), append(l.services, service)
				break
			}
		}
	}
	l.acked = make([]bool, len(l.pushes))
	return l
}

// script goes through the life. Errors are what the faults are for.
func (l *life) script() {
	if l.open() != nil {
		return
	}
	ctx := context.Background()
	_, _ = l.store.Pin(ctx, catalog.Pin{Selector: `{service_instance_id="i0"}`, Start: 0, End: epoch})
	for i := range l.pushes {
		l.acked[i] = l.store.Append(ctx, l.pushes[i]) == nil
		if i == 3 { // what comes after it is in segments when pay is deleted
			_ = l.store.Compact(ctx, true)
		}
	}
	_ = l.store.Clean(ctx) // takes the pinned apart and adds the rest of the old ones up
	_, err := l.store.Delete(ctx, Deletion{Service: "pay", To: maxTime})
	l.deleted = err == nil
	time.Sleep(3 * time.Millisecond) // the grace, by the database's clock
	_ = l.store.Clean(ctx)
	_ = l.store.Compact(ctx, true)
}

// verify carries on what was interrupted and checks that what was acknowledged is there once, that what was deleted is not, and that nothing is there in half.
func (l *life) verify() {
	l.t.Helper()
	ctx := context.Background()
	l.clock.set(l.clock.Now().Add(time.Minute).UnixMilli())
	must(l.t, l.store.Compact(ctx, true)) // as Run does it: compaction comes first
	must(l.t, l.store.Clean(ctx))
	buried, err := l.cat.Deletions(ctx)
	must(l.t, err)
	if l.deleted && len(buried) != 1 {
		l.t.Errorf("%s: the deletion is not in the catalogue", l.desc)
	}
	r := &reference{}
	for i := range l.pushes {
		want := &reference{}
		want.add(l.pushes[i], l.samples[i], 300_000)
		there := l.matches(want, l.pushes[i].Key.Instance)
		nothing := there || l.matches(&reference{}, l.pushes[i].Key.Instance)
		switch gone := len(buried) > 0 && l.services[i] == "pay"; {
		case !nothing:
			l.t.Errorf("%s: push %d is there in half", l.desc, i)
		case gone && there:
			l.t.Errorf("%s: push %d was deleted and is there", l.desc, i)
		case !gone && !there && l.acked[i]:
			l.t.Errorf("%s: push %d was acknowledged and is not there", l.desc, i)
		case gone:
			continue
		}
		err := l.store.Append(ctx, l.pushes[i])
		if there != errors.Is(err, catalog.ErrDuplicate) || !there && err != nil {
			l.t.Errorf("%s: push %d again, there: %v: %v", l.desc, i, there, err)
		}
		r.add(l.pushes[i], l.samples[i], 300_000)
	}
	must(l.t, l.store.Compact(ctx, true))
	must(l.t, l.store.Clean(ctx))
	if !l.matches(r, "") {
		l.t.Errorf("%s: after the retries not all is there once", l.desc)
	}
	l.raw(r)
	l.lose(r)
	_, problems, err := Check(ctx, l.blobs, l.cat, time.Hour)
	must(l.t, err)
	for _, p := range problems {
		l.t.Errorf("%s: check: %s: %s", l.desc, p.Blob, p.What)
	}
}

// lose loses the catalogue and makes it anew: all is as it was.
func (l *life) lose(r *reference) {
	l.t.Helper()
	ctx := context.Background()
	must(l.t, l.store.Close())
	must(l.t, l.cat.Close())
	rebuilt, err := Rebuild(ctx, l.blobs, nil)
	must(l.t, err)
	for _, p := range rebuilt.Problems {
		l.t.Errorf("%s: rebuild: %s: %s", l.desc, p.Blob, p.What)
	}
	l.cat, err = catalog.OpenSQLite(ctx, filepath.Join(l.dir, "rebuilt.db"))
	must(l.t, err)
	rebuilt.now = l.clock.Now
	must(l.t, rebuilt.Fill(ctx, l.cat))
	must(l.t, l.open())
	if !l.matches(r, "") {
		l.t.Errorf("%s: after a rebuild not all is there once", l.desc)
	}
	must(l.t, l.store.Compact(ctx, true))
	must(l.t, l.store.Clean(ctx))
	if !l.matches(r, "") {
		l.t.Errorf("%s: after a rebuild and retention not all is there once", l.desc)
	}
}

// raw checks that what is pinned is there to the millisecond, where its neighbours are not any more.
func (l *life) raw(r *reference) {
	pins, _, err := l.cat.Pins(context.Background())
	must(l.t, err)
	if len(pins) == 0 {
		return
	}
	for _, typ := range modelTypes {
		q := Query{Type: typ, Matchers: equal("service_instance_id", "i0"), From: l.pushes[0].Profiles[0].Start, To: l.pushes[0].Profiles[0].Start + 1}
		got, err := l.store.Merge(context.Background(), q)
		must(l.t, err)
		if !maps.Equal(byStack(l.t, got), r.merge(q)) {
			l.t.Errorf("%s: %s of what is pinned is not as it came", l.desc, typ)
		}
	}
}

// step says which of many faults are injected: each where there is time for it.
func everyNth(n int) int {
	if testing.Short() {
		return 9 * n
	}
	if longTests {
		return 1
	}
	return n
}

// TestEveryFaultOfALife fails, or cuts, or has the process or the machine die at each change of the disk in turn.
func TestEveryFaultOfALife(t *testing.T) {
	clean := newLife(t, "no fault", nil)
	clean.script()
	for i, ok := range clean.acked {
		if !ok || !clean.deleted {
			t.Fatalf("push %d: %v, deletion: %v, without a fault", i, ok, clean.deleted)
		}
	}
	blocks, err := clean.cat.Blocks(t.Context(), catalog.BlockFilter{})
	must(t, err)
	summed, pinned := 0, 0
	for _, b := range blocks {
		summed += int(bit(b.Resolution > 0))
		pinned += int(bit(b.Pinned > 0))
	}
	if summed == 0 || pinned == 0 {
		t.Fatalf("the life leaves %d blocks of sums and %d of what is pinned, want some of each", summed, pinned)
	}
	total := clean.fs.Count(faultfs.Mutations)
	clean.verify()
	clean.close()
	t.Logf("%d changes of the disk", total)
	for _, kind := range []struct {
		name  string
		step  int
		fault faultfs.Fault
		after func(m *faultfs.FS, n int)
	}{
		{"fails", 7, faultfs.Fault{}, nil},
		{"is cut short", 7, faultfs.Fault{Ops: faultfs.Write, Short: true}, nil},
		{"is the last before a kill", 7, faultfs.Fault{Crash: true}, func(m *faultfs.FS, _ int) { m.Kill() }},
		{"is the last before the power goes", 7, faultfs.Fault{Crash: true, Late: true}, func(m *faultfs.FS, n int) { m.PowerLoss(uint64(n)) }},
	} {
		t.Run(kind.name, func(t *testing.T) {
			var numbers []int
			for n := 1; n <= total; n += everyNth(kind.step) {
				numbers = append(numbers, n)
			}
			atOnce(t, numbers, func(t *testing.T, n int) {
				l := newLife(t, fmt.Sprintf("change %d %s", n, kind.name), nil)
				fault := kind.fault
				fault.N = n
				l.fs.Inject(fault)
				l.script()
				fired := l.fs.Fired() > 0
				l.fs.Inject()
				l.close()
				if !fired {
					return
				}
				if kind.after != nil {
					kind.after(l.fs, n)
				}
				must(t, l.open())
				l.verify()
				l.close()
			})
		})
	}
}

// TestFailingCatalogueOfALife loses the catalogue's answer to each write in turn, before and after the commit.
func TestFailingCatalogueOfALife(t *testing.T) {
	left := -1
	clean := newLife(t, "no fault", func(c catalog.Catalog) catalog.Catalog { return flaky{c, &left, false} })
	clean.script()
	total := -1 - left
	clean.close()
	var numbers []int
	for n := 1; n <= total; n += everyNth(2) {
		numbers = append(numbers, n)
	}
	t.Logf("%d writes of the catalogue", total)
	atOnce(t, numbers, func(t *testing.T, n int) {
		for _, after := range []bool{false, true} {
			left := n
			l := newLife(t, fmt.Sprintf("write %d of the catalogue fails, after the commit: %v", n, after), func(c catalog.Catalog) catalog.Catalog {
				return flaky{c, &left, after}
			})
			l.script()
			l.close()
			left = -1
			must(t, l.open())
			l.verify()
			l.close()
		}
	})
}
