package store

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/profiles"
)

// rewriteAll rewrites all that is there in version 1, and fails if something is not.
func (e *env) rewriteAll() {
	e.t.Helper()
	e.store.compacting.Lock()
	defer e.store.compacting.Unlock()
	for _, b := range e.blobs() {
		must(e.t, e.store.rewriteV1(e.t.Context(), b))
	}
	for _, b := range e.blobs() {
		f, err := openFile(e.t.Context(), e.cfg.Blobs, b.Blob, nil)
		must(e.t, err)
		if f.opened.foot.version != version1 || b.Resolution != 0 || b.Level == 0 {
			e.t.Errorf("block %s has version %d, resolution %d and level %d", b.ID, f.opened.foot.version, b.Resolution, b.Level)
		}
		f.close()
	}
}

// TestBack rewrites segments and blocks in version 1: every answer stays as it is.
func TestBack(t *testing.T) {
	e := newEnv(t, nil)
	rng := rand.New(rand.NewPCG(13, 3))
	r := &reference{}
	for i := range 80 {
		start := epoch + int64(i)*200_000
		p, s := randomPush(rng, []string{"cart", "pay"}[i%2], "a", uint64(i+1), start, start+15_000)
		must(t, e.store.Append(t.Context(), p))
		r.add(p, s, 300_000)
		if i == 60 {
			must(t, e.store.Compact(t.Context(), true))
		}
	}
	e.rewriteAll()
	e.verify(r, rng, epoch-60_000, epoch+81*200_000, 40)
	e.check()
	e.reopen()
	e.verify(r, rng, epoch-60_000, epoch+81*200_000, 40)
}

// TestBackFromSums rewrites minutes: each becomes a profile, intervals exact and gauges as the mean.
func TestBackFromSums(t *testing.T) {
	e := newEnv(t, nil)
	types := []profiles.ValueType{{Type: "inuse_objects", Unit: "count"}, {Type: "alloc_space", Unit: "bytes"}}
	rng := rand.New(rand.NewPCG(14, 3))
	p, _ := randomPush(rng, "cart", "a", 1, epoch, epoch+1)
	ls := p.Process.Labels
	for i, v := range []int64{10, 11, 13} { // 20 s each: a mean of 11.33
		start := epoch + int64(i)*20_000
		data := profileOf(types, 1, []sample{{stack: []string{"f", "main"}, values: []int64{v, 100}}})
		must(t, e.store.Append(t.Context(), Push{Key: catalog.Key{Instance: "a", Window: uint64(i + 2)}, Profiles: []Profile{{Labels: ls, Type: "heap", Start: start, End: start + 20_000, Data: data}}}))
	}
	must(t, e.store.Compact(t.Context(), true))
	e.store.compacting.Lock()
	must(t, e.store.downsample(t.Context(), e.blobs(), 60_000, 24*time.Hour))
	e.store.compacting.Unlock()
	e.rewriteAll()
	e.check()
	for _, want := range []struct {
		sample string
		total  int64
	}{{"inuse_objects", 11}, {"alloc_space", 300}} {
		got, err := e.store.Merge(t.Context(), Query{Type: profiles.Type{Profile: "heap", Sample: want.sample}, From: epoch, To: epoch + 60_000})
		must(t, err)
		if sums := fmt.Sprint(byStack(t, got)); sums != fmt.Sprintf("map[f;main|:%d]", want.total) || got.Stats.Profiles != 1 || got.Stats.Last != epoch+60_000 {
			t.Errorf("%s is %s of %d profiles, want %d of one", want.sample, sums, got.Stats.Profiles, want.total)
		}
	}
}
