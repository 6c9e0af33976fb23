package metrics

import (
	"context"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/storage"

	"github.com/sonde-io/sonde/collector/series"
)

// Appendable takes samples of whoever speaks Prometheus' interfaces: rules, and its handlers of remote-write and OTLP. As with AppendSeries, what is too old, in the future, repeated or
// over max_series is counted and left out, and is no error, so that one such sample does not have the rest of its message refused or sent for ever. Metadata is kept.
func (s *Store) Appendable() interface {
	storage.Appendable
	storage.AppendableV2
} {
	return appendable{s}
}

type appendable struct{ s *Store }

// Appender implements storage.Appendable.
func (a appendable) Appender(ctx context.Context) storage.Appender {
	return &guarded{Appender: a.s.db.Appender(ctx), guard: guard{s: a.s, latest: latest()}}
}

// AppenderV2 implements storage.AppendableV2.
func (a appendable) AppenderV2(ctx context.Context) storage.AppenderV2 {
	return &guardedV2{AppenderV2: a.s.db.AppenderV2(ctx), guard: guard{s: a.s, latest: latest()}}
}

// guard leaves out single samples.
type guard struct {
	s       *Store
	latest  int64
	pending int
}

// future reports whether a sample is too far in the future, and counts it.
func (g *guard) future(t int64) bool {
	if t <= g.latest {
		return false
	}
	g.s.metrics.dropped.WithLabelValues(reasonFuture).Inc()
	return true
}

// wide reports whether a histogram has more buckets than are taken, and counts it.
func (g *guard) wide(h *histogram.Histogram, fh *histogram.FloatHistogram) bool {
	if !isTooWide(h, fh) {
		return false
	}
	g.s.metrics.dropped.WithLabelValues(reasonInvalid).Inc()
	return true
}

// judge counts what became of a sample, and returns err only where the whole message failed. A sample that was left out has no reference.
func (g *guard) judge(ref storage.SeriesRef, err error) (storage.SeriesRef, error) {
	if err == nil {
		g.pending++
		return ref, nil
	}
	if reason := reasonOf(err); reason != "" {
		g.s.metrics.dropped.WithLabelValues(reason).Inc()
		return 0, nil
	}
	return 0, err
}

func (g *guard) committed(err error) error {
	if err == nil {
		g.s.metrics.appended.Add(float64(g.pending))
	}
	return err
}

type guarded struct {
	storage.Appender
	guard
}

func (a *guarded) Append(ref storage.SeriesRef, ls labels.Labels, t int64, v float64) (storage.SeriesRef, error) {
	if a.future(t) {
		return ref, nil
	}
	return a.judge(a.Appender.Append(ref, ls, t, v))
}

func (a *guarded) AppendHistogram(ref storage.SeriesRef, ls labels.Labels, t int64, h *histogram.Histogram, fh *histogram.FloatHistogram) (storage.SeriesRef, error) {
	if a.future(t) || a.wide(h, fh) {
		return ref, nil
	}
	return a.judge(a.Appender.AppendHistogram(ref, ls, t, h, fh))
}

func (a *guarded) UpdateMetadata(ref storage.SeriesRef, ls labels.Labels, m metadata.Metadata) (storage.SeriesRef, error) {
	a.s.meta.put(series.Metadata{Name: family(ls.Get(model.MetricNameLabel)), Type: m.Type, Help: m.Help, Unit: m.Unit})
	return ref, nil
}

func (a *guarded) Commit() error { return a.committed(a.Appender.Commit()) }

type guardedV2 struct {
	storage.AppenderV2
	guard
}

func (a *guardedV2) Append(ref storage.SeriesRef, ls labels.Labels, st, t int64, v float64, h *histogram.Histogram, fh *histogram.FloatHistogram, o storage.AppendV2Options) (storage.SeriesRef, error) {
	if m := o.Metadata; !m.IsEmpty() {
		name := o.MetricFamilyName
		if name == "" {
			name = family(ls.Get(model.MetricNameLabel))
		}
		a.s.meta.put(series.Metadata{Name: name, Type: m.Type, Help: m.Help, Unit: m.Unit})
	}
	if a.future(t) || a.wide(h, fh) {
		return ref, nil
	}
	return a.judge(a.AppenderV2.Append(ref, ls, st, t, v, h, fh, o))
}

func (a *guardedV2) Commit() error { return a.committed(a.AppenderV2.Commit()) }

// family returns the name under which a series' metadata is: without what classic histograms and summaries add.
func family(name string) string {
	for _, suffix := range []string{"_bucket", "_count", "_sum"} {
		if base, ok := strings.CutSuffix(name, suffix); ok {
			return base
		}
	}
	return name
}
