package agent

import (
	"bytes"
	"errors"
	"io"
	"math"
	"runtime"
	"runtime/metrics"
	"strings"
	"time"

	"github.com/sonde-io/sonde/agent/internal/cputime"
	"github.com/sonde-io/sonde/agent/internal/procself"
	"github.com/sonde-io/sonde/agent/internal/promenc"
)

// How often the metrics are read, and how many readings wait for a window's end. A window of more than maxReadings times metricsEvery has fewer, so that it stays small.
const (
	metricsEvery = 10 * time.Second
	maxReadings  = 24
	keepReadings = 4           // whose memory stays between two windows
	metricsLast  = time.Second // from the newest reading to one more at a window's end
	flushMetrics = 16 << 10    // bytes that are gathered before they are compressed
)

// metricsPart is the name of a window's part with the metrics, and what the budget knows them by.
const metricsPart Type = "metrics"

// series is one series and how to get its value from a reading.
type series struct {
	name   string
	labels []string // name, value, …
	quiet  bool     // a counter that hardly ever counts: it is not sent as long as it is 0
	spoken bool     // it was sent
}

// distribution is a histogram of runtime/metrics.
type distribution struct {
	name   string
	index  int       // of metering.samples
	sum    int       // of metering.samples, the one that is its exact sum; -1: there is none
	bounds []float64 // the runtime's; they never change
	at     int       // of its first count in reading.counts
	n      int
}

// reading is all values at one moment. NaN is a value that is not known.
type reading struct {
	t      int64 // Unix milliseconds
	values []float64
	counts []uint64
	sums   []float64
}

// metering reads the metrics of the runtime and of the process, and writes them as Prometheus' remote-write. It belongs to the recorder and is guarded by its lock. It holds one
// sample of each metric and the readings of the running window, and reads without allocating but for what files need.
type metering struct {
	samples   []metrics.Sample // all that the runtime has
	scalars   []int            // indices of samples, in the order of values
	memstats  []derived
	values    []series // those of scalars, then of memstats, then the others
	histogram []distribution
	counts    int   // of all histograms
	started   int64 // of the process, Unix milliseconds

	taken  []reading // of the running window
	spare  []reading
	next   time.Time // of the next reading
	before int64     // the time of the last reading that was encoded; 0: none
	out    promenc.Writer
}

// sums names the exact sums of two of the runtime's histograms, as Prometheus' Go client does.
var sums = map[string]string{"/gc/heap/allocs-by-size:bytes": "/gc/heap/allocs:bytes", "/gc/heap/frees-by-size:bytes": "/gc/heap/frees:bytes"}

// beside are the series beside those of runtime/metrics, in the order in which read sets them.
var beside = []string{"go_info", "go_goroutines", "go_threads", "process_cpu_seconds_total", "process_start_time_seconds", "process_resident_memory_bytes",
	"process_virtual_memory_bytes", "process_open_fds", "process_max_fds"}

// newMetering looks up which of all metrics there are. version is what go_info says of the program's Go.
func newMetering(all []metrics.Description, version string, started int64) *metering {
	m := &metering{started: started}
	index := map[string]int{}
	for _, d := range all {
		index[d.Name] = len(m.samples)
		m.samples = append(m.samples, metrics.Sample{Name: d.Name})
	}
	metrics.Read(m.samples)
	for i := range all {
		name, ok := promenc.Name(&all[i])
		if !ok {
			continue
		}
		switch v := m.samples[i].Value; v.Kind() {
		case metrics.KindUint64, metrics.KindFloat64:
			m.scalars = append(m.scalars, i)
			m.values = append(m.values, series{name: name, quiet: strings.HasPrefix(all[i].Name, "/godebug/")})
		case metrics.KindFloat64Histogram:
			d := distribution{name: name, index: i, sum: -1, bounds: v.Float64Histogram().Buckets, at: m.counts, n: len(v.Float64Histogram().Counts)}
			if at, ok := index[sums[all[i].Name]]; ok && m.samples[at].Value.Kind() == metrics.KindUint64 {
				d.sum = at
			}
			m.counts += d.n
			m.histogram = append(m.histogram, d)
		} // a kind that this code does not know is left out
	}
	m.memstats = findMemstats(index, m.samples)
	for i := range m.memstats {
		m.values = append(m.values, series{name: m.memstats[i].name})
	}
	for _, name := range beside {
		s := series{name: name}
		if name == "go_info" {
			s.labels = []string{"version", version}
		}
		m.values = append(m.values, s)
	}
	return m
}

// every returns the time between two readings for windows of length period.
func every(period time.Duration) time.Duration { return max(metricsEvery, period/maxReadings) }

// read takes a reading at now. Where as many wait as may, the oldest goes.
func (m *metering) read(now time.Time) {
	var r reading
	switch {
	case len(m.taken) >= maxReadings:
		r = m.taken[0]
		copy(m.taken, m.taken[1:])
		m.taken = m.taken[:len(m.taken)-1]
	case len(m.spare) > 0:
		r = m.spare[len(m.spare)-1]
		m.spare = m.spare[:len(m.spare)-1]
	default:
		r = reading{values: make([]float64, 0, len(m.values)), counts: make([]uint64, m.counts), sums: make([]float64, len(m.histogram))}
	}
	metrics.Read(m.samples)
	r.t = now.UnixMilli()
	r.values = r.values[:0]
	for _, i := range m.scalars {
		r.values = append(r.values, number(m.samples[i].Value))
	}
	for i := range m.memstats {
		r.values = append(r.values, m.memstats[i].value(m.samples))
	}
	threads, _ := runtime.ThreadCreateProfile(nil)
	p := procself.Read()
	r.values = append(r.values, 1, float64(runtime.NumGoroutine()), float64(threads), cputime.Process().Seconds(), float64(m.started)/1000,
		p.ResidentBytes, p.VirtualBytes, p.OpenFDs, p.MaxFDs)
	for i, d := range m.histogram {
		counts := r.counts[d.at : d.at+d.n]
		copy(counts, m.samples[d.index].Value.Float64Histogram().Counts)
		if d.sum >= 0 {
			r.sums[i] = number(m.samples[d.sum].Value)
		} else {
			r.sums[i] = promenc.Sum(d.bounds, counts)
		}
	}
	m.taken = append(m.taken, r)
}

// number returns the value of a metric that has one.
func number(v metrics.Value) float64 {
	if v.Kind() == metrics.KindUint64 {
		return float64(v.Uint64())
	}
	return v.Float64()
}

// encode writes the readings, of which there is at least one, to w as a message, and forgets them.
func (m *metering) encode(w io.Writer) error {
	var err error
	flush := func(above int) {
		if p := m.out.Bytes(); err == nil && len(p) > above {
			_, err = w.Write(p)
			m.out.Reset()
		}
	}
	m.out.Reset()
	for i := range m.values {
		m.encodeValues(i)
		flush(flushMetrics)
	}
	for i, d := range m.histogram {
		m.out.Begin(d.name)
		for _, r := range m.taken {
			m.out.Histogram(r.t, d.bounds, r.counts[d.at:d.at+d.n], r.sums[i])
		}
		m.out.End()
		flush(flushMetrics)
	}
	flush(0)
	m.before = m.taken[len(m.taken)-1].t
	m.forget()
	return err
}

// encodeValues writes series i. One that is quiet begins with a 0 of the reading before, so that its first count is seen as a rise.
func (m *metering) encodeValues(i int) {
	s := &m.values[i]
	known, counted := false, false
	for _, r := range m.taken {
		v := r.values[i]
		known = known || !math.IsNaN(v)
		counted = counted || v != 0
	}
	if !known || s.quiet && !s.spoken && !counted {
		return
	}
	m.out.Begin(s.name, s.labels...)
	if s.quiet && !s.spoken && m.before > 0 {
		m.out.Sample(m.before, 0)
	}
	s.spoken = true
	for _, r := range m.taken {
		if v := r.values[i]; !math.IsNaN(v) {
			m.out.Sample(r.t, v)
		}
	}
	m.out.End()
}

// forget drops the readings and keeps the memory of a few.
func (m *metering) forget() {
	for _, r := range m.taken {
		if len(m.spare) < keepReadings {
			m.spare = append(m.spare, r)
		}
	}
	clear(m.taken)
	m.taken = m.taken[:0]
}

// last returns the time of the newest reading that waits or was encoded; the zero time: there is none.
func (m *metering) last() time.Time {
	if n := len(m.taken); n > 0 {
		return time.UnixMilli(m.taken[n-1].t)
	}
	if m.before > 0 {
		return time.UnixMilli(m.before)
	}
	return time.Time{}
}

// readMetrics takes a reading where one is due. What it costs is charged with the step, and is less than a tenth of a millisecond.
func (r *recorder) readMetrics(now time.Time) {
	if !r.plan.enabled || !r.plan.metrics {
		r.stopMetrics()
		return
	}
	m := r.metering
	if m == nil {
		m = newMetering(metrics.All(), r.a.privacy.text(runtime.Version()), r.a.info.Started)
		r.metering = m
	}
	// The plan may have a shorter period than that by which next was chosen.
	if soonest := m.last().Add(every(r.plan.period)); m.next.After(soonest) {
		m.next = soonest
	}
	if now.Before(m.next) {
		return
	}
	m.read(now)
	m.next = now.Add(every(r.plan.period))
}

// lastMetrics takes a reading before a window that may be the last, unless there is one of a moment ago.
func (r *recorder) lastMetrics(now time.Time) {
	r.readMetrics(now)
	if m := r.metering; m != nil && r.plan.enabled && r.plan.metrics && now.Sub(m.last()) >= metricsLast {
		m.read(now)
	}
}

// nextMetrics returns when a reading is due; the zero time: never.
func (r *recorder) nextMetrics() time.Time {
	if r.metering == nil || !r.plan.enabled || !r.plan.metrics {
		return time.Time{}
	}
	return r.metering.next
}

// stopMetrics drops what waits. The next reading comes at once.
func (r *recorder) stopMetrics() {
	if r.metering != nil {
		r.metering.forget()
		r.metering.next = time.Time{}
	}
}

// takeMetrics puts what was read into w. What the budget does not cover waits for the next window, as far as maxReadings go.
func (r *recorder) takeMetrics(w *draft, must bool) {
	m := r.metering
	if m == nil || len(m.taken) == 0 {
		return
	}
	if !must && !r.budget.affords(metricsPart) {
		w.skipped[string(metricsPart)] = "over budget"
		return
	}
	err := r.pay(metricsPart, func() error {
		r.buf.Reset()
		gz := r.enc.Compressor(&r.buf)
		if err := errors.Join(m.encode(gz), gz.Close()); err != nil {
			return err
		}
		w.metrics = bytes.Clone(r.buf.Bytes())
		return nil
	})
	if err != nil {
		w.skipped[string(metricsPart)] = err.Error()
	}
}
