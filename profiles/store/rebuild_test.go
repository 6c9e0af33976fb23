package store

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sonde-io/sonde/internal/blob"
	"github.com/sonde-io/sonde/internal/catalog"
)

// rebuild loses the catalogue and makes it anew from the blobs. It returns what Rebuild said.
func (e *env) rebuild() *Rebuilt {
	e.t.Helper()
	e.close()
	old, err := filepath.Glob(filepath.Join(e.dir, "catalog.db*"))
	must(e.t, err)
	for _, path := range old {
		must(e.t, os.Remove(path))
	}
	r, err := Rebuild(context.Background(), e.cfg.Blobs, nil)
	must(e.t, err)
	e.open()
	r.now = e.clock.Now
	must(e.t, r.Fill(context.Background(), e.cat))
	return r
}

// crashing is a blob store and a catalogue of a process that dies at the n-th change it makes: nothing is changed after that.
type crashing struct {
	left  int // changes until it dies; negative: never
	after bool
}

type crashingBlobs struct {
	blob.Store
	c *crashing
}

type crashingCatalog struct {
	*catalog.DB
	c *crashing
}

var errCrashed = fmt.Errorf("crashed")

func (c *crashing) do(fn func() error) error {
	if c.left == 0 {
		return errCrashed
	}
	if c.left--; c.left == 0 && !c.after {
		return errCrashed
	}
	err := fn()
	if c.left == 0 {
		return errCrashed
	}
	return err
}

func (b crashingBlobs) Put(ctx context.Context, name string, data []byte) error {
	return b.c.do(func() error { return b.Store.Put(ctx, name, data) })
}

func (b crashingBlobs) Delete(ctx context.Context, name string) error {
	return b.c.do(func() error { return b.Store.Delete(ctx, name) })
}

func (x crashingCatalog) Register(ctx context.Context, r catalog.Registration) error {
	return x.c.do(func() error { return x.DB.Register(ctx, r) })
}

func (x crashingCatalog) Swap(ctx context.Context, in []string, out []catalog.Block, at time.Time) error {
	return x.c.do(func() error { return x.DB.Swap(ctx, in, out, at) })
}

func (x crashingCatalog) Forget(ctx context.Context, names []string) error {
	return x.c.do(func() error { return x.DB.Forget(ctx, names) })
}

// TestRebuild runs random histories with crashes at any change of disk and catalogue. A push that was not acknowledged is sent again, as agents do. In the
// end, and sometimes in the middle, the catalogue is lost and rebuilt: every query answers as before.
func TestRebuild(t *testing.T) {
	seeds := uint64(16)
	if testing.Short() {
		seeds = 6
	}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(seed, 77))
			crash := &crashing{left: -1}
			e := newEnv(t, func(c *Config) { c.Grace = time.Duration(1+rng.IntN(2)*3_600_000) * time.Millisecond })
			// hold puts the crash between the store and its disk.
			hold := func() {
				cfg := e.cfg
				cfg.Blobs, cfg.Catalog = crashingBlobs{e.cfg.Blobs, crash}, crashingCatalog{e.cat, crash}
				must(t, e.store.Close())
				s, err := Open(t.Context(), cfg)
				must(t, err)
				e.store = s
			}
			hold()
			r := &reference{}
			now, window := epoch, uint64(0)
			for range 60 {
				now += 1 + rng.Int64N(600_000)
				e.clock.set(now)
				if rng.IntN(6) == 0 {
					crash.left, crash.after = 1+rng.IntN(6), rng.IntN(2) == 0
				}
				window++
				start := now - rng.Int64N(3*3_600_000)
				push, samples := twoServices(rng, window, start)
				for range 3 {
					if err := e.store.Append(t.Context(), push); err == nil || strings.Contains(err.Error(), catalog.ErrDuplicate.Error()) {
						break
					}
					crash.left = -1
					_ = e.store.Close()
					e.store = nil
					must(t, e.cat.Close())
					e.open()
					hold()
				}
				r.add(push, samples, 300_000)
				var err error
				switch rng.IntN(6) {
				case 0:
					err = e.store.Compact(t.Context(), true)
				case 1:
					err = e.store.Compact(t.Context(), false)
				case 2:
					err = e.store.Clean(t.Context())
				}
				if crash.left == 0 || err != nil {
					crash.left = -1
					_ = e.store.Close()
					e.store = nil
					must(t, e.cat.Close())
					e.open()
					hold()
				}
				if rng.IntN(10) == 0 {
					d := Deletion{Service: []string{"cart", "db"}[rng.IntN(2)], From: now - rng.Int64N(3*3_600_000), To: now}
					if rng.IntN(3) == 0 {
						crash.left, crash.after = 1+rng.IntN(4), rng.IntN(2) == 0
					}
					before, err := e.cat.Deletions(t.Context())
					must(t, err)
					_, err = e.store.Delete(t.Context(), d)
					crash.left = -1
					if err != nil {
						_ = e.store.Close()
						e.store = nil
						must(t, e.cat.Close())
						e.open()
						hold()
						must(t, e.store.Clean(t.Context()))
					}
					after, lerr := e.cat.Deletions(t.Context())
					must(t, lerr)
					if len(after) > len(before) {
						r = r.without(func(s, _ string, at int64) bool { return s == d.Service && at >= d.From && at < d.To })
					} else if err == nil {
						t.Error("a deletion that was done is not in the catalogue")
					}
				}
				if rng.IntN(12) == 0 {
					crash.left = -1
					e.rebuild()
					e.verify(r, rng, epoch-4*3_600_000, now+60_000, 4)
					hold()
				}
			}
			crash.left = -1
			e.verify(r, rng, epoch-4*3_600_000, now+60_000, 8)
			before := e.blobs()
			rebuilt := e.rebuild()
			for _, p := range rebuilt.Problems {
				t.Errorf("rebuild: %s: %s", p.Blob, p.What)
			}
			e.verify(r, rng, epoch-4*3_600_000, now+60_000, 20)
			e.check()
			t.Logf("%d live before, %d after, %d of garbage", len(before), len(e.blobs()), len(rebuilt.Garbage))
			must(t, e.store.Compact(t.Context(), true))
			e.verify(r, rng, epoch-4*3_600_000, now+60_000, 8)
		})
	}
}

// twoServices makes a push of a process of one of two services, sometimes with profiles of a second process of the other.
func twoServices(rng *rand.Rand, window uint64, start int64) (Push, [][]sample) {
	name := []string{"cart", "pay"}[rng.IntN(2)]
	push, samples := randomPush(rng, name, name+"-1", window, start, start+15_000)
	for len(push.Profiles) == 0 {
		push, samples = randomPush(rng, name, name+"-1", window, start, start+15_000)
	}
	if rng.IntN(2) == 0 {
		other, more := randomPush(rng, "db", "db-1", window, start+1, start+20_000)
		push.Profiles, samples = append(push.Profiles, other.Profiles...), append(samples, more...)
	}
	return push, samples
}

// TestRebuildReports names what cannot be read and leaves it out.
func TestRebuildReports(t *testing.T) {
	e := filled(t)
	all := e.blobs()
	bad := all[len(all)-1]
	e.flip(bad.Blob, bad.Size-30)
	must(t, e.cfg.Blobs.Put(t.Context(), blockFolder+"00000000000000000000000000", []byte("this is no block")))
	r := e.rebuild()
	if len(r.Live) != len(all)-1 || slices.ContainsFunc(r.Live, func(b catalog.Block) bool { return b.ID == bad.ID }) {
		t.Errorf("live are %v, want all but %s", r.Live, bad.ID)
	}
	if len(r.Problems) != 2 || !slices.ContainsFunc(r.Problems, func(p Problem) bool { return p.Blob == bad.Blob && strings.Contains(p.What, "left out") }) {
		t.Errorf("problems are %v", r.Problems)
	}
}

// TestStrangers starts with an empty catalogue where the old one was lost: nothing of what is on the disk is deleted as an orphan, however long that takes, and check says what
// to do.
func TestStrangers(t *testing.T) {
	e := filled(t)
	n := len(e.hold())
	e.close()
	must(t, os.Remove(filepath.Join(e.dir, "catalog.db")))
	e.open()
	e.clock.set(time.Now().Add(100 * orphanAge).UnixMilli())
	must(t, e.store.Clean(t.Context()))
	if left := len(e.hold()); left != n {
		t.Fatalf("%d of %d blobs are left", left, n)
	}
	_, problems, err := Check(t.Context(), e.cfg.Blobs, e.cat, -time.Hour)
	must(t, err)
	if !slices.ContainsFunc(problems, func(p Problem) bool { return strings.Contains(p.What, "--rebuild") }) {
		t.Errorf("problems are %v", problems)
	}
	e.rebuild()
	must(t, e.mergeAll())
}

// TestCheckTombstones finds a tombstone that is gone, and one that says something else.
func TestCheckTombstones(t *testing.T) {
	e := filled(t)
	d, err := e.store.Delete(t.Context(), Deletion{Service: "pay", To: maxTime})
	must(t, err)
	e.check()
	name := tombstoneFolder + d.ID
	for _, test := range []struct{ content, want string }{
		{"", "missing"}, {"{", "unexpected end"}, {`{"v":1,"id":"` + d.ID + `","service":"cart","from":0,"to":5,"created":1}`, "the catalogue says"},
	} {
		if test.content == "" {
			must(t, os.Remove(e.path(name)))
		} else {
			must(t, os.WriteFile(e.path(name), []byte(test.content), 0o600))
		}
		_, problems, err := Check(t.Context(), e.cfg.Blobs, e.cat, time.Hour)
		must(t, err)
		if len(problems) != 1 || problems[0].Blob != name || !strings.Contains(problems[0].What, test.want) {
			t.Errorf("%q: problems are %v, want one with %q", test.content, problems, test.want)
		}
	}
}
