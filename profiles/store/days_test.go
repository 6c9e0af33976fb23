//go:build unix

package store

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/internal/bench"
	"github.com/sonde-io/sonde/internal/catalog"
)

// daysMade is one more each time that TestDays makes other data, so that what was made before is not taken for it.
const daysMade = 1

// TestDays makes the data directories that the benchmarks of long ranges read, once, below .cache/bench, and says where they are: day holds 24 hours of a
// service's 60 instances, pushed raw window by window with compactions as the clock goes on; month holds them and the 29 days before, as the production writer
// leaves them once their raw profiles are too old: sums by minute, each day the sums of the day that was pushed with their times moved. It takes some minutes, so
// it is only done where SONDE_BENCH_DAYS names one of them.
//
//	SONDE_BENCH_DAYS=month go test ./profiles/store -run '^TestDays$' -timeout 30m -v
func TestDays(t *testing.T) {
	which := os.Getenv(bench.DaysEnv)
	if which != bench.DayData && which != bench.MonthData {
		t.Skipf("makes data for benchmarks, where %s is %s or %s", bench.DaysEnv, bench.DayData, bench.MonthData)
	}
	dir, err := filepath.Abs(filepath.Join("..", "..", ".cache", "bench", fmt.Sprintf("days-format%d-%d", version2, daysMade)))
	must(t, err)
	day := filepath.Join(dir, bench.DayData)
	makeOnce(t, day, makeDay)
	if which == bench.MonthData {
		makeOnce(t, filepath.Join(dir, which), func(t *testing.T, dir string) {
			must(t, copyDirectory(day, dir))
			makeMonth(t, dir)
		})
	}
	fmt.Println(bench.DaysMark + filepath.Join(dir, which))
}

// makeOnce calls fill for a folder that becomes dir once it is filled.
func makeOnce(t *testing.T, dir string, fill func(t *testing.T, dir string)) {
	if _, err := os.Stat(dir); err == nil {
		return
	}
	filling := dir + ".new"
	must(t, os.RemoveAll(filling))
	must(t, os.MkdirAll(filling, 0o755))
	fill(t, filling)
	must(t, os.Rename(filling, dir))
}

// openDays opens a store on dir whose garbage is due at once.
func openDays(t *testing.T, dir string) *env {
	e := &env{t: t, dir: dir, clock: &clock{now: time.UnixMilli(bench.DaysStart)}}
	e.cfg = Config{Now: e.clock.Now, MaxAge: 100 * 365 * 24 * time.Hour, MaxBytes: 1 << 50, GatherPause: -1, Grace: time.Nanosecond}
	e.open()
	t.Cleanup(e.close)
	return e
}

func makeDay(t *testing.T, dir string) {
	e := openDays(t, dir)
	r := bench.NewReplicas(t, bench.DaysInstances, "cpu")
	r.Start = bench.DaysStart
	began := time.Now()
	const windows = int(bench.Day / bench.ReplicaPeriod)
	for w := range windows {
		e.clock.set(r.Start + int64(w+1)*bench.ReplicaPeriod)
		r.Send(t, w, func(w bench.Window) error {
			p := Push{Key: catalog.Key{Instance: w.Instance, Window: w.Number}}
			if w.Number == 1 {
				p.Process = &catalog.Process{Instance: w.Instance, Service: w.Labels.Get(serviceLabel), Labels: w.Labels, Gatherer: "agent", State: "running", BuildID: "b1", LastSeen: w.End}
				p.Build = &catalog.Build{ID: "b1", Module: "go.etcd.io/etcd", FirstSeen: w.End}
			}
			for i, data := range w.Profiles {
				p.Profiles = append(p.Profiles, Profile{Labels: w.Labels, Type: w.Types[i], Start: w.Start, End: w.End, Data: data})
			}
			return e.store.Append(t.Context(), p)
		})
		must(t, e.store.Compact(t.Context(), false))
		if w%40 == 39 {
			must(t, e.store.collectGarbage(t.Context()))
		}
		if w%720 == 719 {
			t.Logf("%d of %d windows after %v", w+1, windows, time.Since(began).Round(time.Second))
		}
	}
	settle(t, e, r.Start+bench.Day)
	must(t, e.store.collectGarbage(t.Context()))
	u, err := e.store.Usage(t.Context())
	must(t, err)
	t.Logf("a day: %+v", u)
	e.close()
}

// makeMonth adds the older days to a copy of the day.
func makeMonth(t *testing.T, dir string) {
	e := openDays(t, dir)
	e.clock.set(bench.DaysStart + 4*bench.Day)
	s := e.store
	raw, err := e.cat.Blocks(t.Context(), catalog.BlockFilter{})
	must(t, err)
	minutes := sumsOf(t, s, raw, time.Minute.Milliseconds())
	t.Run("older", func(t *testing.T) { // ends when all of its own have ended
		for day := range int64(bench.DaysOlder) {
			t.Run(fmt.Sprint(day+1), func(t *testing.T) {
				t.Parallel()
				row := shifted(t, s, minutes, -(day+1)*bench.Day)
				must(t, e.cat.Register(t.Context(), catalog.Registration{Block: &row}))
			})
		}
	})
	u, err := s.Usage(t.Context())
	must(t, err)
	t.Logf("a month: %+v", u)
	must(t, s.cfg.Blobs.Delete(t.Context(), minutes.Blob))
	e.close()
}

// sumsOf writes what downsampling makes of blocks that hold a day as a blob that is not registered.
func sumsOf(t *testing.T, s *Store, in []catalog.Block, resolution int64) (out catalog.Block) {
	c := &compaction{store: s, level: nextLevel(in), resolution: resolution, window: bench.Day, w: &fileWriter{}}
	defer c.close()
	must(t, c.openInputs(t.Context(), in))
	must(t, c.each(t.Context(), func(data []byte, row catalog.Block) error {
		if out.Blob != "" {
			t.Fatal("a day is more than one block")
		}
		out = row
		return s.cfg.Blobs.Put(t.Context(), row.Blob, data)
	}))
	return out
}

// shifted writes a copy of a downsampled block whose windows are by ms later.
func shifted(t *testing.T, s *Store, in catalog.Block, by int64) (out catalog.Block) {
	ctx := context.Background()
	c := &compaction{store: s, level: in.Level, resolution: in.Resolution, window: bench.Day, w: &fileWriter{}}
	defer c.close()
	must(t, c.openInputs(ctx, []catalog.Block{in}))
	service := in.Datasets[0].Service
	sources, _, err := c.sources(service)
	must(t, err)
	from, to := bench.DaysStart, bench.DaysStart+bench.Day
	syms, origin, remaps, err := c.symbols(ctx, sources, from, to)
	must(t, err)
	now := s.cfg.Now()
	c.w.reset(s.ids.next(now), c.level, now.UnixMilli(), c.resolution)
	c.w.last = true
	f, ds := sources[0].file, sources[0].ds
	var all []labels.Labels
	for i := range ds.series {
		all = append(all, ds.series[i].Labels)
	}
	c.w.begin(service, all)
	c.w.sizes = objectSizes(syms, c.w.sizes[:0])
	for i := range ds.series {
		si := &ds.series[i]
		u := newRollup(rollupInfo{Columns: si.Columns})
		must(t, c.addSums(ctx, u, f, si, remaps[0], from, to))
		l := u.finest(c.resolution)
		for _, times := range [][]int64{l.head.start, l.head.first, l.head.last} {
			for k := range times {
				times[k] += by
			}
		}
		groups := groupsOf(si.Columns)
		c.w.addSums(&series{labels: si.Labels, typ: si.Type, columns: si.Columns, period: si.Period}, l, &groups)
	}
	must(t, c.w.end(syms, origin))
	data, row := c.w.finish(nil)
	must(t, s.cfg.Blobs.Put(ctx, row.Blob, data))
	return row
}

// copyDirectory copies a data directory of a store that is closed. Blobs never change, so they are linked.
func copyDirectory(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		switch {
		case d.IsDir():
			return os.MkdirAll(target, 0o755)
		case slices.Contains([]string{"segments", "blocks"}, filepath.Base(filepath.Dir(path))):
			return os.Link(path, target)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(target, data, 0o600)
	})
}
