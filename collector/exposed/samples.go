package exposed

import (
	"fmt"
	"math"
	"net/url"
	"slices"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/collector/series"
)

// The bounds of the labels of a series; those of the process come on top.
const (
	maxLabels     = 32
	maxLabelBytes = 1024 // of a name and its value together
	maxBuckets    = 1000 // of a native histogram
)

// limitError says which limit an answer passed.
type limitError struct {
	limit    string
	max, got int
}

func (e *limitError) Error() string { return fmt.Sprintf("%s: %d, at most %d", e.limit, e.got, e.max) }

// converter makes samples of families.
type converter struct {
	process labels.Labels
	t       int64
	max     int // samples
	out     series.Batch
	left    int // series that are left out: their labels pass a limit, or a histogram is none
	wide    []labels.Label
}

// convert returns the samples of families, of the process with these labels at t, and how many were left out.
func convert(families []*dto.MetricFamily, process labels.Labels, t int64, max int) (series.Batch, int, error) {
	c := &converter{process: process, t: t, max: max, out: series.Batch{Process: process}}
	slices.SortFunc(families, func(a, b *dto.MetricFamily) int { return strings.Compare(a.GetName(), b.GetName()) })
	for _, mf := range families {
		if mf.GetName() == "" {
			c.left += len(mf.GetMetric())
			continue
		}
		c.out.Metadata = append(c.out.Metadata, series.Metadata{Name: mf.GetName(), Type: typeOf(mf.GetType()), Help: clip(mf.GetHelp()), Unit: clip(mf.GetUnit())})
		for _, m := range mf.GetMetric() {
			c.metric(mf, m)
			if len(c.out.Samples) > c.max {
				return series.Batch{}, 0, &limitError{"max_metric_samples", c.max, len(c.out.Samples)}
			}
		}
	}
	c.out.Samples = series.Canonical(c.out.Samples)
	return c.out, c.left, nil
}

func clip(s string) string { return strings.ToValidUTF8(s[:min(len(s), maxLabelBytes)], "") }

func typeOf(t dto.MetricType) model.MetricType {
	switch t {
	case dto.MetricType_COUNTER:
		return model.MetricTypeCounter
	case dto.MetricType_GAUGE:
		return model.MetricTypeGauge
	case dto.MetricType_SUMMARY:
		return model.MetricTypeSummary
	case dto.MetricType_HISTOGRAM:
		return model.MetricTypeHistogram
	case dto.MetricType_GAUGE_HISTOGRAM:
		return model.MetricTypeGaugeHistogram
	}
	return model.MetricTypeUnknown
}

func (c *converter) metric(mf *dto.MetricFamily, m *dto.Metric) {
	name := mf.GetName()
	switch {
	case m.Counter != nil:
		c.put(name, m, m.Counter.GetValue())
	case m.Gauge != nil:
		c.put(name, m, m.Gauge.GetValue())
	case m.Untyped != nil:
		c.put(name, m, m.Untyped.GetValue())
	case m.Summary != nil:
		for _, q := range m.Summary.GetQuantile() {
			c.put(name, m, q.GetValue(), labels.Label{Name: model.QuantileLabel, Value: number(q.GetQuantile())})
		}
		c.put(name+"_sum", m, m.Summary.GetSampleSum())
		c.put(name+"_count", m, float64(m.Summary.GetSampleCount()))
	case m.Histogram != nil:
		c.histogram(name, m)
	}
}

func (c *converter) histogram(name string, m *dto.Metric) {
	h := m.Histogram
	if isNative(h) {
		c.putHistogram(name, m, native(h))
		return
	}
	// Those of runtime/metrics are native histograms here, whoever reads them: the agent sends them so, and one query must do for all.
	if fh := custom(h); fh != nil && strings.HasPrefix(name, "go_") {
		c.putHistogram(name, m, fh)
		return
	}
	count, infinite := countOf(h), false
	for _, b := range h.GetBucket() {
		infinite = infinite || math.IsInf(b.GetUpperBound(), 1)
		c.put(name+"_bucket", m, cumulative(b), labels.Label{Name: model.BucketLabel, Value: number(b.GetUpperBound())})
	}
	if !infinite {
		c.put(name+"_bucket", m, count, labels.Label{Name: model.BucketLabel, Value: "+Inf"})
	}
	c.put(name+"_sum", m, h.GetSampleSum())
	c.put(name+"_count", m, count)
}

// number writes a bound as Prometheus does since version 3, however it was written.
func number(v float64) string {
	switch {
	case math.IsInf(v, 1):
		return "+Inf"
	case math.IsInf(v, -1), math.IsNaN(v):
		return strconv.FormatFloat(v, 'g', -1, 64)
	}
	s := strconv.FormatFloat(v, 'g', -1, 64)
	if !strings.ContainsAny(s, "e.") {
		s += ".0"
	}
	return s
}

func countOf(h *dto.Histogram) float64 {
	if f := h.GetSampleCountFloat(); f > 0 {
		return f
	}
	return float64(h.GetSampleCount())
}

func cumulative(b *dto.Bucket) float64 {
	if f := b.GetCumulativeCountFloat(); f > 0 {
		return f
	}
	return float64(b.GetCumulativeCount())
}

// isNative is Prometheus' own test.
func isNative(h *dto.Histogram) bool {
	return h.GetZeroThreshold() > 0 || h.GetZeroCount() > 0 || h.GetZeroCountFloat() > 0 || len(h.GetPositiveSpan()) > 0 || len(h.GetNegativeSpan()) > 0
}

// native returns a native histogram; nil where it is not a valid one.
func native(h *dto.Histogram) *histogram.FloatHistogram {
	spans := func(in []*dto.BucketSpan) (out []histogram.Span) {
		for _, s := range in {
			out = append(out, histogram.Span{Offset: s.GetOffset(), Length: s.GetLength()})
		}
		return out
	}
	if h.GetSampleCountFloat() > 0 || h.GetZeroCountFloat() > 0 {
		return &histogram.FloatHistogram{Schema: h.GetSchema(), ZeroThreshold: h.GetZeroThreshold(), ZeroCount: h.GetZeroCountFloat(), Count: h.GetSampleCountFloat(), Sum: h.GetSampleSum(),
			PositiveSpans: spans(h.GetPositiveSpan()), PositiveBuckets: h.GetPositiveCount(), NegativeSpans: spans(h.GetNegativeSpan()), NegativeBuckets: h.GetNegativeCount()}
	}
	ih := &histogram.Histogram{Schema: h.GetSchema(), ZeroThreshold: h.GetZeroThreshold(), ZeroCount: h.GetZeroCount(), Count: h.GetSampleCount(), Sum: h.GetSampleSum(),
		PositiveSpans: spans(h.GetPositiveSpan()), PositiveBuckets: h.GetPositiveDelta(), NegativeSpans: spans(h.GetNegativeSpan()), NegativeBuckets: h.GetNegativeDelta()}
	if ih.Validate() != nil { // before it is converted, which trusts the spans
		return nil
	}
	return ih.ToFloat(nil)
}

// custom returns a classic histogram as a native one with its own bounds; nil where they do not rise or the counts fall.
func custom(h *dto.Histogram) *histogram.FloatHistogram {
	bs := h.GetBucket()
	if !sort.SliceIsSorted(bs, func(i, j int) bool { return bs[i].GetUpperBound() < bs[j].GetUpperBound() }) || len(bs) == 0 {
		return nil
	}
	fh := &histogram.FloatHistogram{Schema: histogram.CustomBucketsSchema, Count: countOf(h), Sum: h.GetSampleSum()}
	before := 0.0
	for _, b := range bs {
		n := cumulative(b)
		if n < before || math.IsNaN(b.GetUpperBound()) {
			return nil
		}
		if !math.IsInf(b.GetUpperBound(), 1) {
			fh.CustomValues = append(fh.CustomValues, b.GetUpperBound())
			fh.PositiveBuckets = append(fh.PositiveBuckets, n-before)
			before = n
		}
	}
	fh.PositiveBuckets = append(fh.PositiveBuckets, fh.Count-before)
	fh.PositiveSpans = []histogram.Span{{Length: uint32(len(fh.PositiveBuckets))}}
	if fh.Validate() != nil {
		return nil
	}
	return fh.Compact(0)
}

func (c *converter) put(name string, m *dto.Metric, v float64, more ...labels.Label) {
	if ls, ok := c.labels(name, m, more); ok {
		c.out.Samples = append(c.out.Samples, series.Sample{Labels: ls, T: c.t, V: v})
	}
}

func (c *converter) putHistogram(name string, m *dto.Metric, fh *histogram.FloatHistogram) {
	if fh == nil || len(fh.PositiveBuckets)+len(fh.NegativeBuckets) > maxBuckets || fh.Validate() != nil {
		c.left++
		return
	}
	if ls, ok := c.labels(name, m, nil); ok {
		c.out.Samples = append(c.out.Samples, series.Sample{Labels: ls, T: c.t, H: fh})
	}
}

// labels returns the labels of a series; not ok, and counted, where they pass a limit.
func (c *converter) labels(name string, m *dto.Metric, more []labels.Label) (labels.Labels, bool) {
	all := append(c.wide[:0], labels.Label{Name: model.MetricNameLabel, Value: name})
	for _, l := range m.GetLabel() {
		if l.GetValue() == "" {
			continue // the same as no label
		}
		n := l.GetName()
		if c.process.Has(n) || n == model.JobLabel || n == model.InstanceLabel {
			n = model.ExportedLabelPrefix + n
		}
		all = append(all, labels.Label{Name: n, Value: l.GetValue()})
	}
	all = append(all, more...)
	c.wide = all
	ok := len(all) <= maxLabels
	for _, l := range all {
		ok = ok && len(l.Name)+len(l.Value) <= maxLabelBytes && l.Name != "" && utf8.ValidString(l.Name) && utf8.ValidString(l.Value)
	}
	if ok {
		ls := labels.New(slices.Clone(all)...)
		if _, twice := ls.HasDuplicateLabelNames(); !twice {
			return ls, true
		}
	}
	c.left++
	return labels.EmptyLabels(), false
}

// redacted returns a URL without a password.
func redacted(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return "(not a URL)"
	}
	return u.Redacted()
}
