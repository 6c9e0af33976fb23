package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/internal/blob"
	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/internal/fsys/faultfs"
	"github.com/sonde-io/sonde/profiles"
)

// faulty is a store on a file system and a catalogue that fail, with what its pushes were told.
type faulty struct {
	t     *testing.T
	desc  string
	fs    *faultfs.FS
	dir   string
	cat   *catalog.DB
	wrap  func(catalog.Catalog) catalog.Catalog
	store *Store

	configure func(*Config)
	blobs     *blob.Files
	clock     *clock

	pushes  []Push
	samples [][][]sample
	acked   []bool
}

func newFaulty(t *testing.T, desc string, wrap func(catalog.Catalog) catalog.Catalog) *faulty {
	f := &faulty{t: t, desc: desc, fs: faultfs.New(), dir: t.TempDir(), wrap: wrap, clock: &clock{now: time.UnixMilli(epoch)}}
	rng := rand.New(rand.NewPCG(7, 7))
	for i := range 5 {
		start := epoch + int64(i)*15_000
		p, s := randomPush(rng, []string{"cart", "pay"}[i%2], fmt.Sprintf("i%d", i), 1, start, start+15_000)
		for len(p.Profiles) == 0 {
			p, s = randomPush(rng, "cart", fmt.Sprintf("i%d", i), 1, start, start+15_000)
		}
		f.pushes, f.samples = append(f.pushes, p), append(f.samples, s)
	}
	f.acked = make([]bool, len(f.pushes))
	return f
}

// open opens the store; an injected fault may make that fail.
func (f *faulty) open() (err error) {
	if f.cat == nil {
		f.cat, err = catalog.OpenSQLite(context.Background(), filepath.Join(f.dir, "catalog.db"))
		must(f.t, err)
	}
	var cat catalog.Catalog = f.cat
	if f.wrap != nil {
		cat = f.wrap(cat)
	}
	if f.blobs, err = blob.OpenFiles(f.fs, "/blobs"); err != nil {
		return err
	}
	cfg := Config{Blobs: f.blobs, Catalog: cat, Now: f.clock.Now, GatherPause: -1, Grace: time.Millisecond, MaxAge: 100 * 365 * 24 * time.Hour}
	if f.configure != nil {
		f.configure(&cfg)
	}
	f.store, err = Open(context.Background(), cfg)
	return err
}

func (f *faulty) close() {
	if f.store != nil {
		must(f.t, f.store.Close())
		f.store = nil
	}
	if f.cat != nil {
		must(f.t, f.cat.Close())
		f.cat = nil
	}
}

// script is the store's life: pushes, compactions and the deletion of garbage. Errors are what the faults are for; pushes remember theirs.
func (f *faulty) script() {
	if f.open() != nil {
		return
	}
	ctx := context.Background()
	for i := range f.pushes {
		f.acked[i] = f.store.Append(ctx, f.pushes[i]) == nil
		if i%2 == 1 {
			_ = f.store.Compact(ctx, true)
		}
	}
	time.Sleep(3 * time.Millisecond) // the grace, by the database's clock
	_ = f.store.Clean(ctx)
}

// verify checks that what was acknowledged is there, that nothing is there in half, and that a retry of the rest makes all of it be there once.
func (f *faulty) verify() {
	f.t.Helper()
	ctx := context.Background()
	r := &reference{}
	for i := range f.pushes {
		want := &reference{}
		want.add(f.pushes[i], f.samples[i], 300_000)
		r.add(f.pushes[i], f.samples[i], 300_000)
		there := f.matches(want, f.pushes[i].Key.Instance)
		if !there && (f.acked[i] || !f.matches(&reference{}, f.pushes[i].Key.Instance)) {
			f.t.Errorf("%s: push %d, acknowledged: %v, is not there as a whole", f.desc, i, f.acked[i])
		}
		err := f.store.Append(ctx, f.pushes[i])
		if there != errors.Is(err, catalog.ErrDuplicate) || !there && err != nil {
			f.t.Errorf("%s: push %d again, there: %v: %v", f.desc, i, there, err)
		}
	}
	must(f.t, f.store.Compact(ctx, true))
	if !f.matches(r, "") {
		f.t.Errorf("%s: after the retries not all is there once", f.desc)
	}
	_, problems, err := Check(ctx, f.blobs, f.cat, time.Hour)
	must(f.t, err)
	for _, p := range problems {
		f.t.Errorf("%s: check: %s: %s", f.desc, p.Blob, p.What)
	}
}

// matches compares all that the store holds of an instance ("" for all) with the reference.
func (f *faulty) matches(r *reference, instance string) bool {
	f.t.Helper()
	for _, typ := range modelTypes {
		q := Query{Type: typ, From: epoch - 30*day.Milliseconds(), To: epoch + 3_600_000}
		if instance != "" {
			q.Matchers = append(q.Matchers, labels.MustNewMatcher(labels.MatchEqual, "service_instance_id", instance))
		}
		got, err := f.store.Merge(context.Background(), q)
		if err != nil {
			f.t.Fatalf("%s: %v", f.desc, err)
		}
		n := 0
		for _, p := range r.all {
			if p.typ == typ.Profile {
				n++
			}
		}
		if !maps.Equal(byStack(f.t, got), r.merge(q)) || got.Stats.Profiles != n {
			return false
		}
	}
	return true
}

// TestEveryFaultInTurn fails or cuts each change of the disk in turn, or has the process or the machine die there.
func TestEveryFaultInTurn(t *testing.T) {
	clean := newFaulty(t, "no fault", nil)
	clean.script()
	for i, ok := range clean.acked {
		if !ok {
			t.Fatalf("push %d failed without a fault", i)
		}
	}
	clean.verify()
	total := clean.fs.Count(faultfs.Mutations)
	clean.close()
	t.Logf("%d changes of the disk", total)
	for _, kind := range []struct {
		name  string
		step  int // every change, or every step-th
		fault faultfs.Fault
		after func(m *faultfs.FS, n int)
	}{
		{"fails", 1, faultfs.Fault{}, nil},
		{"is cut short", 1, faultfs.Fault{Ops: faultfs.Write, Short: true}, nil},
		{"fails after it was done", 2, faultfs.Fault{Late: true}, nil},
		{"is the last before a kill", 3, faultfs.Fault{Crash: true}, func(m *faultfs.FS, _ int) { m.Kill() }},
		{"is the last before the power goes", 1, faultfs.Fault{Crash: true, Late: true}, func(m *faultfs.FS, n int) { m.PowerLoss(uint64(n)) }},
	} {
		t.Run(kind.name, func(t *testing.T) {
			step := kind.step
			if testing.Short() {
				step *= 7
			}
			var numbers []int
			for n := 1; n <= total; n += step {
				numbers = append(numbers, n)
			}
			atOnce(t, numbers, func(t *testing.T, n int) {
				f := newFaulty(t, fmt.Sprintf("change %d %s", n, kind.name), nil)
				fault := kind.fault
				fault.N = n
				f.fs.Inject(fault)
				f.script()
				fired := f.fs.Fired() > 0 // there are fewer writes than changes
				f.fs.Inject()
				f.close()
				if !fired {
					return
				}
				if kind.after != nil {
					kind.after(f.fs, n)
				}
				must(t, f.open())
				f.verify()
				f.close()
			})
		})
	}
}

// atOnce runs fn for each of numbers as a subtest, several at the same time: they mostly wait for the catalogue's syncs.
func atOnce(t *testing.T, numbers []int, fn func(t *testing.T, n int)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 12 {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(numbers); i = int(next.Add(1)) - 1 {
				t.Run(fmt.Sprint(numbers[i]), func(t *testing.T) { fn(t, numbers[i]) })
			}
		})
	}
	wg.Wait()
}

// flaky is a catalogue whose n-th write fails, before or after the commit.
type flaky struct {
	catalog.Catalog
	n     *int
	after bool
}

var errFlaky = errors.New("connection lost")

func (c flaky) do(fn func() error) error {
	*c.n--
	if *c.n != 0 {
		return fn()
	}
	if c.after {
		if err := fn(); err != nil {
			return err
		}
	}
	return errFlaky
}

func (c flaky) Register(ctx context.Context, r catalog.Registration) error {
	return c.do(func() error { return c.Catalog.Register(ctx, r) })
}

func (c flaky) Swap(ctx context.Context, in []string, out []catalog.Block, at time.Time) error {
	return c.do(func() error { return c.Catalog.Swap(ctx, in, out, at) })
}

func (c flaky) Forget(ctx context.Context, names []string) error {
	return c.do(func() error { return c.Catalog.Forget(ctx, names) })
}

func (c flaky) PutPin(ctx context.Context, p catalog.Pin) (id int64, err error) {
	err = c.do(func() (err error) { id, err = c.Catalog.PutPin(ctx, p); return err })
	return id, err
}

func (c flaky) MarkPinned(ctx context.Context, block string, state int64) error {
	return c.do(func() error { return c.Catalog.MarkPinned(ctx, block, state) })
}

func (c flaky) PutDeletion(ctx context.Context, d catalog.Deletion) error {
	return c.do(func() error { return c.Catalog.PutDeletion(ctx, d) })
}

func (c flaky) FinishDeletion(ctx context.Context, d catalog.Deletion, seenBefore int64) (r catalog.Removed, err error) {
	err = c.do(func() (err error) { r, err = c.Catalog.FinishDeletion(ctx, d, seenBefore); return err })
	return r, err
}

func (c flaky) SetRetentionClock(ctx context.Context, ms int64) error {
	return c.do(func() error { return c.Catalog.SetRetentionClock(ctx, ms) })
}

func (c flaky) Expire(ctx context.Context, keys, processes, events int64) error {
	return c.do(func() error { return c.Catalog.Expire(ctx, keys, processes, events) })
}

// TestFailingCatalogue loses the catalogue's answer to each write in turn. Where a registration was committed all the same its push is acknowledged.
func TestFailingCatalogue(t *testing.T) {
	atOnce(t, []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, func(t *testing.T, n int) {
		for _, after := range []bool{false, true} {
			left := n
			f := newFaulty(t, fmt.Sprintf("write %d of the catalogue fails, after the commit: %v", n, after), func(c catalog.Catalog) catalog.Catalog {
				return flaky{c, &left, after}
			})
			f.script()
			if after {
				for i, ok := range f.acked {
					if !ok {
						t.Errorf("%s: push %d was committed and not acknowledged", f.desc, i)
					}
				}
			}
			f.close()
			left = -1
			must(t, f.open())
			f.verify()
			f.close()
		}
	})
}

// TestConflictingCompactors runs the same compaction twice: the second finds its inputs gone and leaves nothing behind.
func TestConflictingCompactors(t *testing.T) {
	e := newEnv(t, nil)
	rng := rand.New(rand.NewPCG(3, 3))
	r := &reference{}
	for i := range 6 {
		p, s := randomPush(rng, "cart", "a", uint64(i+1), epoch+int64(i)*15_000, epoch+int64(i+1)*15_000)
		must(t, e.store.Append(t.Context(), p))
		r.add(p, s, 300_000)
	}
	blocks, err := e.cat.Blocks(t.Context(), catalog.BlockFilter{})
	must(t, err)
	j := plan(blocks, e.clock.Now(), true)[0]
	must(t, e.store.run(t.Context(), j))
	if err := e.store.run(t.Context(), j); !errors.Is(err, catalog.ErrConflict) {
		t.Fatalf("second run: got %v, want ErrConflict", err)
	}
	n := 0
	for _, err := range e.cfg.Blobs.List(t.Context(), blockFolder) {
		must(t, err)
		n++
	}
	if n != 1 {
		t.Errorf("%d blocks are on disk, want 1", n)
	}
	e.verify(r, rng, epoch, epoch+120_000, 5)
	e.check()
}

// TestDuplicates loses the answer to a push and sends it again: at once, at the same time, after a compaction, and after that and a restart.
func TestDuplicates(t *testing.T) {
	e := newEnv(t, nil)
	rng := rand.New(rand.NewPCG(5, 5))
	r := &reference{}
	p, s := randomPush(rng, "cart", "a", 1, epoch, epoch+15_000)
	for len(p.Profiles) < 2 {
		p, s = randomPush(rng, "cart", "a", 1, epoch, epoch+15_000)
	}
	r.add(p, s, 300_000)
	results := make(chan error, 16)
	for range cap(results) {
		go func() { results <- e.store.Append(t.Context(), p) }()
	}
	stored := 0
	for range cap(results) {
		if err := <-results; err == nil {
			stored++
		} else if !errors.Is(err, catalog.ErrDuplicate) {
			t.Error(err)
		}
	}
	if stored != 1 {
		t.Errorf("%d of %d pushes with the same key were stored, want 1", stored, cap(results))
	}
	again := func(when string) {
		t.Helper()
		if err := e.store.Append(t.Context(), p); !errors.Is(err, catalog.ErrDuplicate) {
			t.Errorf("%s: got %v, want ErrDuplicate", when, err)
		}
		got, err := e.store.Merge(t.Context(), Query{Type: profiles.Type{Profile: "cpu", Sample: "cpu"}, From: epoch, To: epoch + 1})
		must(t, err)
		if got.Stats.Profiles != 1 {
			t.Errorf("%s: there are %d profiles, want 1", when, got.Stats.Profiles)
		}
	}
	again("at once")
	must(t, e.store.Compact(t.Context(), true))
	again("after a compaction")
	e.reopen()
	again("after a restart")
	e.verify(r, rng, epoch-60_000, epoch+60_000, 5)
	e.check()
}

// blind is a catalogue in which Seen sees nothing, as in the moment before another collector registers the same push.
type blind struct{ catalog.Catalog }

func (blind) Seen(_ context.Context, keys []catalog.Key) ([]bool, error) {
	return make([]bool, len(keys)), nil
}

// TestDuplicateFoundAtRegistration has pushes gathered with a duplicate: they are stored without it.
func TestDuplicateFoundAtRegistration(t *testing.T) {
	e := newEnv(t, nil)
	rng := rand.New(rand.NewPCG(6, 6))
	r := &reference{}
	push := func(i int) (Push, [][]sample) {
		for {
			if p, s := randomPush(rng, "cart", fmt.Sprint("i", i), 1, epoch, epoch+15_000); len(p.Profiles) == 2 {
				return p, s
			}
		}
	}
	first, s := push(0)
	must(t, e.store.Append(t.Context(), first))
	r.add(first, s, 300_000)
	cfg := e.cfg
	cfg.Catalog = blind{e.cat}
	other, err := Open(t.Context(), cfg)
	must(t, err)
	b := newBatch()
	var rec recorder
	add := func(p Push) {
		keys := make([]string, len(p.Profiles))
		for i, pr := range p.Profiles {
			keys[i] = seriesKey(pr.Labels, pr.Type, columnsOf(pr.Type, pr.Data.SampleTypes))
		}
		b.add(&p, keys, 300*time.Second, &rec, newDictionaries())
	}
	add(first)
	for i := range 3 {
		p, s := push(i + 1)
		add(p)
		r.add(p, s, 300_000)
	}
	b.cut()
	must(t, other.store(b))
	for i, p := range b.pushes {
		if p.duplicate != (i == 0) {
			t.Errorf("push %d: duplicate is %v", i, p.duplicate)
		}
	}
	must(t, other.Close())
	e.verify(r, rng, epoch-60_000, epoch+60_000, 10)
	e.check()
}
