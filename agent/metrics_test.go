package agent

import (
	"bytes"
	"io"
	"maps"
	"math"
	"runtime"
	"runtime/metrics"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sonde-io/sonde/agent/internal/promenc"
	"github.com/sonde-io/sonde/agent/internal/promenc/promtest"
)

// readSeries returns the series of a message by their names.
func readSeries(t *testing.T, msg []byte) map[string]promtest.Series {
	t.Helper()
	all, err := promtest.Read(msg)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]promtest.Series{}
	for _, s := range all {
		name := s.Labels["__name__"]
		if _, twice := out[name]; twice {
			t.Errorf("%s is there twice", name)
		}
		out[name] = s
	}
	return out
}

// message returns what m encodes.
func message(t *testing.T, m *metering) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := m.encode(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func newMeteringForTest() *metering { return newMetering(metrics.All(), runtime.Version(), 1234500) }

// TestMetricsOfAWindow checks what leaves: every metric of the runtime and of the process, once, with a time in its window.
func TestMetricsOfAWindow(t *testing.T) {
	c := newCollector(t)
	runtime.GC()
	begun := time.Now().UnixMilli()
	a := quick(t, c, 300*time.Millisecond, Config{Types: []Type{Heap}})
	wait(t, "2 windows", func() bool { return len(c.stored()) >= 2 })
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	p := c.stored()[0]
	if p.meta.Metrics != metricsPart {
		t.Fatalf("the first window names the part %q", p.meta.Metrics)
	}
	got := readSeries(t, p.data[metricsPart])
	want := slices.Clone(beside)
	for _, m := range memstats {
		want = append(want, m.name)
	}
	for _, d := range metrics.All() {
		if name, ok := promenc.Name(&d); ok && !strings.HasPrefix(d.Name, "/godebug/") {
			want = append(want, name)
		}
	}
	for _, name := range want {
		s, ok := got[name]
		if !ok {
			if runtime.GOOS == "linux" || !strings.HasPrefix(name, "process_") {
				t.Errorf("%s is missing", name)
			}
			continue
		}
		if len(s.Samples)+len(s.Histograms) != 1 {
			t.Errorf("%s has %d samples and %d histograms", name, len(s.Samples), len(s.Histograms))
			continue
		}
		at := int64(0)
		if len(s.Samples) == 1 {
			at = s.Samples[0].T
		} else {
			at = s.Histograms[0].T
		}
		if at < begun || at > p.meta.End {
			t.Errorf("%s is of %d, outside of the window %d to %d", name, at, p.meta.Start, p.meta.End)
		}
		delete(got, name)
	}
	for name := range got {
		if !strings.HasPrefix(name, "go_godebug_") {
			t.Errorf("%s came too", name)
		}
	}
	if second := c.stored()[1]; second.meta.Metrics != "" || second.data[metricsPart] != nil {
		t.Error("a window that ended before the next reading has metrics")
	}
}

func TestMetricsOff(t *testing.T) {
	for name, tc := range map[string]struct {
		cfg    Config
		remote string
	}{
		"by the program":   {Config{Types: []Type{Heap}, Metrics: Off}, `null`},
		"by the collector": {Config{Types: []Type{Heap}}, `{"metrics":false}`},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCollector(t)
			c.offer(tc.remote)
			a := quick(t, c, 50*time.Millisecond, tc.cfg)
			wait(t, "windows", func() bool { return len(c.stored()) >= 3 })
			if err := a.Close(); err != nil {
				t.Fatal(err)
			}
			for i, p := range c.stored() {
				if (i > 0 || tc.cfg.Metrics == Off) && p.meta.Metrics != "" {
					t.Errorf("window %d has metrics", p.meta.Window)
				}
			}
		})
	}
}

// TestReadingsEveryTenSeconds drives the recorder through a minute.
func TestReadingsEveryTenSeconds(t *testing.T) {
	a := idle(t, Config{Types: []Type{Goroutine}, Period: time.Hour})
	r, now := a.rec, time.UnixMilli(1_795_241_445_123)
	r.begin(now, time.Hour)
	r.plan.period = 15 * time.Second
	for elapsed := time.Duration(0); elapsed <= time.Minute; elapsed += time.Second {
		r.step(now.Add(elapsed))
	}
	if n := len(r.metering.taken); n != 7 {
		t.Errorf("%d readings in a minute, want that of the start and 6", n)
	}
	if next := r.step(now.Add(61 * time.Second)); next.After(now.Add(70 * time.Second)) {
		t.Errorf("the recorder sleeps for %v, past the next reading", next.Sub(now))
	}
	a.obey(&settings{Metrics: ptr(false)})
	r.step(now.Add(62 * time.Second))
	if n := len(r.metering.taken); n != 0 {
		t.Errorf("%d readings wait although metrics are off", n)
	}
	a.obey(nil)
	r.step(now.Add(63 * time.Second))
	if n := len(r.metering.taken); n != 1 {
		t.Errorf("%d readings after metrics came back, want one at once", n)
	}
}

func TestTimeBetweenReadings(t *testing.T) {
	for _, tc := range []struct{ period, want time.Duration }{{time.Second, 10 * time.Second}, {15 * time.Second, 10 * time.Second}, {4 * time.Minute, 10 * time.Second}, {time.Hour, 150 * time.Second}} {
		if got := every(tc.period); got != tc.want {
			t.Errorf("windows of %v: a reading every %v, want %v", tc.period, got, tc.want)
		}
	}
}

// TestReadingsHaveBounds checks that a window holds no more than the collector takes, and that reading and encoding on and on does not grow.
func TestReadingsHaveBounds(t *testing.T) {
	m := newMeteringForTest()
	now := time.UnixMilli(1_795_241_445_123)
	for i := range 3 * maxReadings {
		m.read(now.Add(time.Duration(i) * 10 * time.Second))
	}
	msg := message(t, m)
	samples := 0
	for name, s := range readSeries(t, msg) {
		samples += len(s.Samples) + len(s.Histograms)
		if n := len(s.Samples) + len(s.Histograms); n != maxReadings {
			t.Errorf("%s has %d readings, want %d", name, n, maxReadings)
		}
	}
	if len(msg) > 1<<20 || samples > 20_000 {
		t.Errorf("%d bytes and %d samples, more than the collector takes in one push", len(msg), samples)
	}
	t.Logf("%d readings: %d bytes, %d samples", maxReadings, len(msg), samples)
	if len(m.taken) != 0 {
		t.Error("readings are sent twice")
	}
	if len(m.spare) != keepReadings {
		t.Errorf("the memory of %d readings is kept", len(m.spare))
	}
	n := testing.AllocsPerRun(100, func() {
		m.read(now)
		m.read(now)
		if err := m.encode(io.Discard); err != nil {
			t.Fatal(err)
		}
	})
	if n > 30 { // what the files of /proc need
		t.Errorf("%v allocations for two readings", n)
	}
}

// TestQuietCounters: a counter that is 0 costs nothing until it counts, and then its first count is a rise.
func TestQuietCounters(t *testing.T) {
	m := &metering{values: []series{{name: "quiet", quiet: true}, {name: "plain"}}}
	add := func(at int64, quiet float64) {
		m.taken = append(m.taken, reading{t: at, values: []float64{quiet, 0}})
	}
	add(1000, 0)
	if got := readSeries(t, message(t, m)); len(got) != 1 || len(got["plain"].Samples) != 1 {
		t.Errorf("at first %v", got)
	}
	add(2000, 3)
	add(3000, 3)
	if got := readSeries(t, message(t, m))["quiet"].Samples; !slices.Equal(got, []promtest.Sample{{T: 1000, V: 0}, {T: 2000, V: 3}, {T: 3000, V: 3}}) {
		t.Errorf("when it counts %v", got)
	}
	add(4000, 3)
	if got := readSeries(t, message(t, m))["quiet"].Samples; !slices.Equal(got, []promtest.Sample{{T: 4000, V: 3}}) {
		t.Errorf("from then on %v", got)
	}
}

func TestUnknownValuesAreLeftOut(t *testing.T) {
	m := &metering{values: []series{{name: "process_open_fds"}, {name: "process_max_fds"}}}
	m.taken = []reading{{t: 1000, values: []float64{math.NaN(), math.NaN()}}, {t: 2000, values: []float64{7, math.NaN()}}}
	got := readSeries(t, message(t, m))
	if len(got) != 1 || !slices.Equal(got["process_open_fds"].Samples, []promtest.Sample{{T: 2000, V: 7}}) {
		t.Errorf("got %v", got)
	}
}

// TestMetricsOfAnotherRelease: what this runtime does not have, or has under a name that Prometheus does not, is left out.
func TestMetricsOfAnotherRelease(t *testing.T) {
	all := append(metrics.All(), metrics.Description{Name: "/gc/of/the/future:bytes", Kind: metrics.KindUint64}, metrics.Description{Name: "/gc/größe:bytes", Kind: metrics.KindUint64})
	m := newMetering(all, "go1.99", 0)
	m.read(time.UnixMilli(1000))
	got := readSeries(t, message(t, m))
	for name := range got {
		if strings.Contains(name, "future") || strings.Contains(name, "größe") {
			t.Errorf("%s is sent", name)
		}
	}
	few := newMetering(metrics.All()[:3], "go1.99", 0) // a release without what go_memstats_ is made of
	few.read(time.UnixMilli(1000))
	for name := range readSeries(t, message(t, few)) {
		if strings.HasPrefix(name, "go_memstats_") {
			t.Errorf("%s is sent", name)
		}
	}
}

// TestHistogramsAreTheRuntimes compares a histogram with what the runtime says at the same moment.
func TestHistogramsAreTheRuntimes(t *testing.T) {
	runtime.GC()
	m := newMeteringForTest()
	m.read(time.UnixMilli(1000))
	got := readSeries(t, message(t, m))
	for i, s := range m.samples {
		if s.Value.Kind() != metrics.KindFloat64Histogram {
			continue
		}
		name, _ := promenc.Name(&metrics.Description{Name: s.Name, Kind: metrics.KindFloat64Histogram})
		h, total := got[name].Histograms[0], uint64(0)
		for _, c := range m.samples[i].Value.Float64Histogram().Counts {
			total += c
		}
		if h.Count != total || len(h.Bounds) < len(m.samples[i].Value.Float64Histogram().Buckets)-2 || (total > 0) != (h.Sum > 0) {
			t.Errorf("%s: %d counts, %d bounds, sum %v; the runtime has %d counts", name, h.Count, len(h.Bounds), h.Sum, total)
		}
	}
	if got["go_gc_heap_allocs_by_size_bytes"].Histograms[0].Sum != got["go_gc_heap_allocs_bytes_total"].Samples[0].V {
		t.Error("the sum of allocations by size is not that of all allocations")
	}
	if h := got["go_gc_pauses_seconds"].Histograms[0]; h.Count == 0 || h.Sum > time.Hour.Seconds() {
		t.Errorf("pauses: %d, %v s", h.Count, h.Sum)
	}
}

// TestMetricsOverBudget: readings that the budget does not cover go with a later window.
func TestMetricsOverBudget(t *testing.T) {
	c := newCollector(t)
	a := quick(t, c, time.Hour, Config{Types: []Type{Heap}})
	wait(t, "the first reading", func() bool {
		a.rec.mu.Lock()
		defer a.rec.mu.Unlock()
		return a.rec.metering != nil
	})
	a.rec.mu.Lock()
	for _, purse := range []time.Duration{-time.Hour, time.Hour} {
		a.rec.budget = newBudget(time.Now().Add(time.Hour)) // refills with nothing
		a.rec.budget.purse = purse
		a.rec.capture(time.Now(), false)
	}
	_, charged := a.rec.budget.cost[metricsPart]
	a.rec.mu.Unlock()
	wait(t, "both windows", func() bool { return len(c.stored()) == 2 })
	first, second := c.stored()[0], c.stored()[1]
	if first.meta.Metrics != "" || first.meta.Stats.Skipped["metrics"] != "over budget" {
		t.Errorf("the first window has %q, skipped %v", first.meta.Metrics, first.meta.Stats.Skipped)
	}
	if got := readSeries(t, second.data[metricsPart]); got["go_goroutines"].Samples == nil || got["go_goroutines"].Samples[0].T > first.meta.End {
		t.Errorf("the second window has %v, want the reading of the first", slices.Collect(maps.Keys(got)))
	}
	if !charged {
		t.Error("the budget knows no cost")
	}
}

func TestPauseDropsReadings(t *testing.T) {
	c := newCollector(t)
	a := quick(t, c, time.Hour, Config{Types: []Type{Heap}})
	wait(t, "the first reading", func() bool {
		a.rec.mu.Lock()
		defer a.rec.mu.Unlock()
		return a.rec.metering != nil
	})
	a.Pause()
	a.rec.mu.Lock()
	waiting := len(a.rec.metering.taken)
	a.rec.mu.Unlock()
	if waiting != 0 {
		t.Errorf("%d readings wait while paused", waiting)
	}
	a.Resume()
	wait(t, "a reading after it", func() bool {
		a.rec.mu.Lock()
		defer a.rec.mu.Unlock()
		return len(a.rec.metering.taken) == 1
	})
}

func BenchmarkMetrics(b *testing.B) {
	now := time.UnixMilli(1_795_241_445_123)
	b.Run("read", func(b *testing.B) {
		m := newMeteringForTest()
		b.ReportAllocs()
		for range b.N {
			m.read(now)
			m.forget()
		}
	})
	b.Run("window", func(b *testing.B) {
		a := &Agent{cfg: Config{}}
		a.privacy, _ = newPrivacy(&a.cfg)
		r := newRecorder(a, mappingForTest)
		r.metering, r.budget = newMeteringForTest(), newBudget(now)
		size := 0
		b.ReportAllocs()
		for range b.N {
			r.metering.read(now)
			r.metering.read(now.Add(10 * time.Second))
			w := &draft{skipped: map[string]string{}}
			r.takeMetrics(w, true)
			r.enc.Rest()
			size = len(w.metrics)
		}
		b.ReportMetric(float64(size), "bytes/window")
	})
}
