//go:build unix

package bench_test

import (
	"bytes"
	"cmp"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/sonde-io/sonde/internal/bench"
	"github.com/sonde-io/sonde/profiles/store"
)

// BenchmarkIngest measures what storing a profile costs, from the request's body to the ack and on to the last level of compaction, and what is left on disk.
// Bodies are made beforehand and given to the real handler with a recorder, so that no client's CPU counts; the clock goes on by a window at a time, and with it
// compaction, retention and the deletion of garbage as sonde serve does them. The yardsticks are measured over the same bytes before and after.
//
// corpus sends each file once, from one instance of each service; fleet is 60 instances over 30 minutes, whose pushes of a window come close together and share
// segments; cpu is the same with CPU profiles only; trickle is the fleet with every push in a segment of its own.
//
//	go test ./internal/bench -run '^$' -bench 'Ingest/(corpus|fleet)' -benchtime 1x
func BenchmarkIngest(b *testing.B) {
	all, cpu := bench.LoadCorpus(b), bench.LoadCorpus(b, "cpu")
	limits := ingestLimits{decode: 2, google: 0.9, peak: 3}
	for _, c := range []struct {
		name   string
		fleet  bench.Fleet
		alone  bool // every push is a segment of its own
		limits func(*ingestLimits)
	}{
		{"corpus", bench.Fleet{Corpus: all, Instances: len(all.Services), Windows: 30, Period: 15_000, Once: true}, false, func(l *ingestLimits) { l.gzip = 0.05 }},
		{"fleet", bench.Fleet{Corpus: all, Instances: 60, Windows: 120, Period: 15_000}, false, func(l *ingestLimits) { l.bytes = 400 }},
		{"cpu", bench.Fleet{Corpus: cpu, Instances: 60, Windows: 120, Period: 15_000}, false, func(l *ingestLimits) { l.bytes = 150 }},
		{"trickle", bench.Fleet{Corpus: all, Instances: 60, Windows: 20, Period: 15_000}, true, func(*ingestLimits) {}},
	} {
		b.Run(c.name, func(b *testing.B) {
			l := limits
			c.limits(&l)
			for b.Loop() {
				ingest(b, &c.fleet, c.alone, l)
			}
		})
	}
}

// ingestLimits are what the figures are held to; 0: nothing.
type ingestLimits struct {
	decode, google float64 // × the yardsticks
	gzip           float64 // × the bytes as sent
	bytes          float64 // of a profile
	peak           float64 // × the bytes in the end
}

func ingest(b *testing.B, f *bench.Fleet, alone bool, l ingestLimits) {
	yard := f.Yardsticks(b)
	c := openCollector(b, b.TempDir(), bench.Epoch, func(cfg *store.Config) {
		if alone {
			cfg.GatherPause = -1
		}
	})
	pushers := f.Instances
	if alone {
		pushers = 1
	}
	s := newSending(c, f, pushers)
	var pushing, compacting bench.Meter
	var peak int64
	look := func() {
		_, allocated := bench.Disk(b, c.dir)
		peak = max(peak, allocated)
	}
	for w := range f.Windows {
		s.prepare(w)
		_, end := f.Times(f.Instances-1, w)
		c.clock.set(end)
		pushing.Run(b, s.send)
		look()
		compacting.Run(b, c.compact)
		look()
	}
	compacting.Run(b, func() { c.settle(f.End()) })
	c.close()
	yard = yard.Mean(f.Yardsticks(b))
	total, allocated := bench.Disk(b, c.dir)

	n := float64(s.profiles)
	each := float64(pushing.Total+compacting.Total) / n
	bench.AtMost(b, each/float64(yard.Decode), "x-gunzip+decode", l.decode)
	bench.AtMost(b, each/float64(yard.Google), "x-gunzip+google", l.google)
	bench.AtMost(b, float64(total)/float64(s.gzipped), "x-gzip-bytes", l.gzip)
	bench.AtMost(b, float64(total)/n, "B/profile", l.bytes)
	bench.AtMost(b, float64(peak)/float64(allocated), "x-final-du-peak", l.peak)
	b.ReportMetric(float64(peak)/n, "B/profile-du-peak")
	b.ReportMetric(each/1e3, "µs/profile")
	b.ReportMetric(float64(pushing.Total)/n/1e3, "µs-to-ack")
	b.ReportMetric(float64(yard.Decode.Nanoseconds())/1e3, "µs-gunzip+decode")
	b.ReportMetric(n, "profiles")
}

// sending is the pushes of a fleet, one window at a time.
type sending struct {
	c                 *collector
	f                 *bench.Fleet
	pushers           int
	senders           []*bench.Sender
	bodies            [][]byte
	numbers           []uint64
	profiles, gzipped int
}

func newSending(c *collector, f *bench.Fleet, pushers int) *sending {
	s := &sending{c: c, f: f, pushers: pushers, bodies: make([][]byte, f.Instances), numbers: make([]uint64, f.Instances)}
	for i := range f.Instances {
		s.senders = append(s.senders, bench.NewSender(c.t, f.Service(i), f.Name(i), i))
	}
	return s
}

// prepare makes the bodies of window w.
func (s *sending) prepare(w int) {
	for i := range s.f.Instances {
		entries := s.f.Entries(i, w)
		if len(entries) == 0 {
			s.bodies[i] = s.bodies[i][:0]
			continue
		}
		for _, e := range entries {
			s.profiles++
			s.gzipped += len(e.Data)
		}
		start, end := s.f.Times(i, w)
		s.numbers[i]++
		s.bodies[i] = s.senders[i].Body(s.c.t, s.bodies[i], s.numbers[i], start, end, entries)
	}
}

// send pushes what was prepared and returns once all of it is acknowledged.
func (s *sending) send() {
	work := make(chan int, len(s.bodies))
	for i, body := range s.bodies {
		if len(body) > 0 {
			work <- i
		}
	}
	close(work)
	var wg sync.WaitGroup
	for range cmp.Or(s.pushers, 1) {
		wg.Go(func() {
			for i := range work {
				r := httptest.NewRequest(http.MethodPost, "/api/v1/push", bytes.NewReader(s.bodies[i]))
				r.Header.Set("Content-Type", bench.ContentType)
				if err := s.c.push(r); err != nil {
					s.c.t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}
