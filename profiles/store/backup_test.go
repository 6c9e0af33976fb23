package store

import (
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sonde-io/sonde/internal/backup"
	"github.com/sonde-io/sonde/profiles"
)

// hosted reads a session of a host.
type hosted struct {
	h  *backup.Host
	id string
}

func (s hosted) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	r, _, err := s.h.Open(ctx, s.id, name)
	return r, err
}

// TestBackupUnderLoad backs a store up while it is pushed to, compacted and cleaned: what is restored passes the check and holds of every pusher all that was acknowledged
// before the backup began, and what follows without a gap.
func TestBackupUnderLoad(t *testing.T) {
	e := newEnv(t, func(c *Config) { c.Grace = time.Millisecond })
	const pushers = 4
	type pusher struct {
		pushes  []Push
		samples [][][]sample
		acked   atomic.Int64
	}
	all := make([]*pusher, pushers)
	for i := range all {
		rng := rand.New(rand.NewPCG(uint64(i), 9))
		all[i] = &pusher{}
		for w := range 400 {
			start := epoch + int64(w)*15_000
			p, samples := randomPush(rng, []string{"cart", "pay"}[i%2], fmt.Sprint("i", i), uint64(w+1), start, start+15_000)
			all[i].pushes, all[i].samples = append(all[i].pushes, p), append(all[i].samples, samples)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for _, p := range all {
		wg.Go(func() {
			for i := range p.pushes {
				if ctx.Err() != nil {
					return
				}
				if err := e.store.Append(context.Background(), p.pushes[i]); err != nil {
					t.Error(err)
					return
				}
				p.acked.Add(1)
			}
		})
	}
	wg.Go(func() {
		for ctx.Err() == nil {
			if err := e.store.Compact(ctx, true); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
			if err := e.store.Clean(ctx); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		}
	})
	for _, p := range all {
		for p.acked.Load() < 30 && !t.Failed() {
			time.Sleep(time.Millisecond)
		}
	}
	var before [pushers]int64
	for i, p := range all {
		before[i] = p.acked.Load()
	}
	host := &backup.Host{Dir: e.dir, Catalog: e.cat, Blobs: e.cfg.Blobs}
	s, err := host.Begin(t.Context())
	must(t, err)
	for _, p := range all { // much is compacted and deleted before the first blob is read
		for n := p.acked.Load(); p.acked.Load() < min(n+30, 400) && !t.Failed(); {
			time.Sleep(time.Millisecond)
		}
	}
	to := filepath.Join(t.TempDir(), "backup")
	_, err = backup.ToDir(t.Context(), s.Manifest, hosted{host, s.ID}, to)
	must(t, err)
	must(t, host.End(t.Context(), s.ID))
	stop()
	wg.Wait()
	must(t, host.Close())

	restored := &env{t: t, dir: filepath.Join(t.TempDir(), "data"), clock: e.clock, cfg: e.cfg}
	_, err = backup.Restore(t.Context(), to, restored.dir, backup.Layout{Catalog: "catalog.db", Blobs: "blobs"})
	must(t, err)
	restored.open()
	defer restored.close()
	restored.check()
	cpu := profiles.Type{Profile: "cpu", Sample: "cpu"}
	for i, p := range all {
		q := Query{Type: cpu, From: epoch, To: epoch + 400*15_000, Matchers: equal(instanceLabel, fmt.Sprint("i", i))}
		got, err := restored.store.Merge(t.Context(), q)
		must(t, err)
		want, n := &reference{}, int64(0)
		matches := func() bool { return maps.Equal(byStack(t, got), want.merge(q)) }
		for ; n < int64(len(p.pushes)) && (n < before[i] || !matches()); n++ {
			want.add(p.pushes[n], p.samples[n], 300_000)
		}
		if !matches() {
			t.Errorf("pusher %d: the restored store does not hold a prefix of what it pushed, of which %d were acknowledged before", i, before[i])
		}
	}
	p, _ := randomPush(rand.New(rand.NewPCG(5, 5)), "cart", "new", 1, epoch, epoch+15_000)
	must(t, restored.store.Append(t.Context(), p))
	must(t, restored.store.Compact(t.Context(), true))
	must(t, restored.store.Clean(t.Context()))
	restored.check()
}
