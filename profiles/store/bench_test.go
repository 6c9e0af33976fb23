//go:build unix

package store

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/pprof/profile"

	"github.com/sonde-io/sonde/internal/blob"
	"github.com/sonde-io/sonde/profiles"
)

// cpuTime returns the CPU time of the process so far: user and system, of all threads.
func cpuTime(b *testing.B) time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// baseline is the CPU time per profile that google/pprof takes to read what the fleet sends, garbage collection included.
func baseline(b *testing.B, f *fleet) time.Duration {
	count := map[*byte]int{}
	data := map[*byte][]byte{}
	for i := range f.instances {
		for w := range f.windows {
			for _, typ := range f.types[f.service(i)] {
				d := f.data[f.service(i)][typ][f.file(i, w, typ)]
				count[&d[0]]++
				data[&d[0]] = d
			}
		}
	}
	var sum time.Duration
	n := 0
	for k, d := range data {
		const rounds = 5
		before := cpuTime(b)
		for range rounds {
			_, err := profile.ParseData(d)
			must(b, err)
		}
		sum += (cpuTime(b) - before) / rounds * time.Duration(count[k])
		n += count[k]
	}
	return sum / time.Duration(n)
}

// BenchmarkIngest measures decoding, storing and compacting, against what it takes google/pprof's ParseData to read the same bytes, and what is left on
// disk. CPU time is that of the process, the garbage collector included. corpus sends each file about once; fleet is many instances of few services, whose
// pushes come close together and share segments; trickle is the same with every push in a segment of its own.
func BenchmarkIngest(b *testing.B) {
	c := loadCorpus(b)
	for _, bench := range []struct {
		name  string
		fleet fleet
		pause time.Duration
	}{
		{"corpus", fleet{c, len(c.services), 30, 15_000, 0}, 0},
		{"fleet", fleet{c, 60, 40, 15_000, 0}, 0},
		{"trickle", fleet{c, 60, 40, 15_000, 1}, -1},
	} {
		b.Run(bench.name, func(b *testing.B) {
			f := &bench.fleet
			base := baseline(b, f)
			for b.Loop() {
				b.StopTimer()
				e := newEnv(b, func(c *Config) { c.GatherPause = bench.pause })
				blobs := &countingBlobs{Store: e.cfg.Blobs}
				e.store.cfg.Blobs = blobs
				before := cpuTime(b)
				b.StartTimer()
				sent, gzipped := f.send(b, e.store, func(w int) {
					_, end := f.times(0, w)
					e.clock.set(end)
					if w%2 == 1 {
						must(b, e.store.Compact(b.Context(), false))
					}
				})
				pushed := cpuTime(b) - before
				_, end := f.times(f.instances-1, f.windows)
				settle(b, e, end)
				cpu := cpuTime(b) - before
				b.StopTimer()
				u, err := e.store.Usage(b.Context())
				must(b, err)
				e.close()
				rows, err := os.Stat(filepath.Join(e.dir, "catalog.db"))
				must(b, err)
				b.ReportMetric(float64(cpu)/float64(sent)/float64(base), "cpu/google")
				b.ReportMetric(float64(pushed)/float64(sent)/float64(base), "cpu-before-last-compaction/google")
				b.ReportMetric(float64(cpu.Microseconds())/float64(sent), "cpu-µs/profile")
				b.ReportMetric(float64(sent)/float64(blobs.segments.Load()), "profiles/segment")
				b.ReportMetric(float64(u.Bytes+rows.Size())/float64(gzipped), "bytes/gzip")
				b.ReportMetric(float64(u.Bytes)/float64(gzipped), "blocks/gzip")
				b.ReportMetric(float64(u.Bytes+rows.Size())/float64(sent), "B/profile")
				b.StartTimer()
			}
		})
	}
}

// countingBlobs counts the segments that are written.
type countingBlobs struct {
	blob.Store
	segments atomic.Int64
}

func (c *countingBlobs) Put(ctx context.Context, name string, data []byte) error {
	if strings.HasPrefix(name, segmentFolder) {
		c.segments.Add(1)
	}
	return c.Store.Put(ctx, name, data)
}

// BenchmarkMerge measures merges of the whole fleet per sample of the raw profiles, of each type's main column.
func BenchmarkMerge(b *testing.B) {
	c := loadCorpus(b)
	f := &fleet{c, 60, 40, 15_000, 0}
	e := newEnv(b, nil)
	f.send(b, e.store, nil)
	_, end := f.times(f.instances-1, f.windows)
	settle(b, e, end)
	for _, bench := range []struct {
		name string
		use  sumUse
	}{{"raw", sumsNever}, {"sums", sumsAlways}, {"auto", sumsAuto}} {
		b.Run(bench.name, func(b *testing.B) {
			merge := func(use sumUse) (samples int) {
				e.store.sumUse = use
				for _, id := range []string{"cpu", "heap:inuse_space", "heap:alloc_space", "goroutine", "mutex"} {
					t, err := profiles.ParseType(id)
					must(b, err)
					r, err := e.store.Merge(b.Context(), Query{Type: t, From: epoch, To: end})
					must(b, err)
					samples += r.Stats.Samples
				}
				return samples
			}
			samples := merge(sumsNever)
			merge(bench.use)
			before, n := cpuTime(b), 0
			for b.Loop() {
				merge(bench.use)
				n++
			}
			b.ReportMetric(float64(cpuTime(b)-before)/float64(n)/float64(samples), "ns/sample")
		})
	}
}
