package metrics

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"google.golang.org/protobuf/proto"

	"github.com/sonde-io/sonde/collector/reply"
)

var (
	errReadOnly     = errors.New("the collector's series are not changed through this API")
	errNoScrapePool = errors.New("there are no scrape pools: `sonde ps` lists what is gathered")
)

// federate answers /prometheus/federate?match[]=SELECTOR: the last sample of each series that was not older than five minutes, for another Prometheus to scrape (honor_labels: true).
func (s *Store) federate(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		reply.Fail(w, reply.Errorf(http.StatusBadRequest, "read parameters: %v", err))
		return
	}
	if len(r.Form["match[]"]) == 0 {
		e := reply.Errorf(http.StatusBadRequest, "parameter match[] is missing")
		e.Hint = `name what is wanted: match[]={__name__=~"go_.*"}`
		reply.Fail(w, e)
		return
	}
	sets, err := s.parser.ParseMetricSelectors(r.Form["match[]"])
	if err != nil {
		reply.Fail(w, reply.Errorf(http.StatusBadRequest, "read match[]: %v", err))
		return
	}
	slot, err := s.slots.Insert(r.Context(), "federate")
	if err != nil {
		reply.Fail(w, reply.Errorf(http.StatusServiceUnavailable, "%v", err))
		return
	}
	defer s.slots.Delete(slot)
	last, err := s.lastSamples(r, sets)
	if err != nil {
		if _, told := errors.AsType[*reply.Error](err); !told {
			s.log.Error("cannot federate", "error", err)
		}
		reply.Fail(w, err)
		return
	}
	format := expfmt.NegotiateAccept(r.Header, expfmt.NewFormat(expfmt.TypeProtoDelim), expfmt.NewFormat(expfmt.TypeProtoText), expfmt.NewFormat(expfmt.TypeProtoCompact), expfmt.NewFormat(expfmt.TypeTextPlain))
	w.Header().Set("Content-Type", string(format))
	enc := expfmt.NewEncoder(w, format)
	for len(last) > 0 {
		n := 1
		for n < len(last) && last[n].name == last[0].name && (last[n].h == nil) == (last[0].h == nil) {
			n++
		}
		if f := s.dtoFamily(last[:n], isProto(format)); f != nil {
			if err := enc.Encode(f); err != nil {
				return // the reader is gone
			}
		}
		last = last[n:]
	}
}

func isProto(f expfmt.Format) bool {
	switch f.FormatType() {
	case expfmt.TypeProtoDelim, expfmt.TypeProtoText, expfmt.TypeProtoCompact:
		return true
	}
	return false
}

// lastSample is the newest sample of a series.
type lastSample struct {
	name   string
	labels labels.Labels
	t      int64
	v      float64
	h      *histogram.FloatHistogram
}

// lastSamples returns the newest sample of each series that one of sets selects, by name.
func (s *Store) lastSamples(r *http.Request, sets [][]*labels.Matcher) ([]lastSample, error) {
	now := time.Now()
	from, to := now.Add(-lookback).UnixMilli(), now.UnixMilli()
	q, err := s.db.Querier(from, to)
	if err != nil {
		return nil, fmt.Errorf("read series: %w", err)
	}
	defer q.Close()
	hints := &storage.SelectHints{Start: from, End: to}
	selected := make([]storage.SeriesSet, len(sets))
	for i, matchers := range sets {
		if err := r.Context().Err(); err != nil {
			return nil, s.tooSlow(err)
		}
		selected[i] = q.Select(r.Context(), true, hints, matchers...)
	}
	merged := storage.NewMergeSeriesSet(selected, 0, storage.ChainedSeriesMerge)
	var out []lastSample
	var it chunkenc.Iterator
	for merged.Next() {
		if err := r.Context().Err(); err != nil {
			return nil, s.tooSlow(err)
		}
		if len(out) >= s.set.MaxQuerySamples {
			return nil, &reply.Error{Status: http.StatusUnprocessableEntity, Message: "too many series", Limit: "max_query_samples", Max: int64(s.set.MaxQuerySamples)}
		}
		at := merged.At()
		x := lastSample{labels: at.Labels(), name: at.Labels().Get(model.MetricNameLabel)}
		it = at.Iterator(it)
		found := false
		for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
			found = true
			if typ == chunkenc.ValFloat {
				x.t, x.v = it.At()
				x.h = nil
			} else {
				x.t, x.h = it.AtFloatHistogram(nil)
			}
		}
		if err := it.Err(); err != nil {
			return nil, fmt.Errorf("read series: %w", err)
		}
		// The formats have no word for the end of a series.
		if found && x.name != "" && !value.IsStaleNaN(x.v) && (x.h == nil || !value.IsStaleNaN(x.h.Sum)) {
			out = append(out, x)
		}
	}
	slices.SortStableFunc(out, func(a, b lastSample) int {
		return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(btoi(a.h != nil), btoi(b.h != nil)))
	})
	return out, merged.Err()
}

// tooSlow is what is answered when the time of a request is over.
func (s *Store) tooSlow(err error) error {
	return &reply.Error{Status: http.StatusServiceUnavailable, Message: fmt.Sprintf("it took longer than query_timeout (%s)", s.set.QueryTimeout), Limit: "query_timeout", Hint: "fewer selectors, or narrower ones", Cause: err}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// dtoFamily returns samples of one name and kind in the form of the exposition formats, nil where the format cannot say it: text has no histograms of exponential buckets.
func (s *Store) dtoFamily(xs []lastSample, proto3 bool) *dto.MetricFamily {
	f := &dto.MetricFamily{Name: proto.String(xs[0].name), Type: dto.MetricType_UNTYPED.Enum()}
	if m, ok := s.meta.get(xs[0].name); ok {
		f.Help = proto.String(m.Help)
		switch {
		case xs[0].h != nil:
		case m.Type == model.MetricTypeCounter:
			f.Type = dto.MetricType_COUNTER.Enum()
		case m.Type == model.MetricTypeGauge:
			f.Type = dto.MetricType_GAUGE.Enum()
		}
	}
	if xs[0].h != nil {
		f.Type = dto.MetricType_HISTOGRAM.Enum()
	}
	for _, x := range xs {
		m := &dto.Metric{TimestampMs: proto.Int64(x.t)}
		noInstance := true
		x.labels.Range(func(l labels.Label) {
			noInstance = noInstance && l.Name != model.InstanceLabel
			if l.Name != model.MetricNameLabel {
				m.Label = append(m.Label, &dto.LabelPair{Name: proto.String(l.Name), Value: proto.String(l.Value)})
			}
		})
		if noInstance { // with honor_labels the scraper would put its own there
			m.Label = append(m.Label, &dto.LabelPair{Name: proto.String(model.InstanceLabel), Value: proto.String("")})
		}
		switch {
		case x.h != nil && x.h.UsesCustomBuckets():
			m.Histogram = classicHistogram(x.h)
		case x.h != nil && !proto3:
			continue
		case x.h != nil:
			m.Histogram = nativeHistogram(x.h)
		case f.GetType() == dto.MetricType_COUNTER:
			m.Counter = &dto.Counter{Value: proto.Float64(x.v)}
		case f.GetType() == dto.MetricType_GAUGE:
			m.Gauge = &dto.Gauge{Value: proto.Float64(x.v)}
		default:
			m.Untyped = &dto.Untyped{Value: proto.Float64(x.v)}
		}
		f.Metric = append(f.Metric, m)
	}
	if len(f.Metric) == 0 {
		return nil
	}
	return f
}

// classicHistogram writes custom buckets as a histogram with upper bounds, which every format has; +Inf is left to the format.
func classicHistogram(h *histogram.FloatHistogram) *dto.Histogram {
	out := &dto.Histogram{SampleCountFloat: proto.Float64(h.Count), SampleSum: proto.Float64(h.Sum)}
	counts := make([]float64, len(h.CustomValues)+1)
	for it := h.PositiveBucketIterator(); it.Next(); {
		if b := it.At(); b.Index >= 0 && int(b.Index) < len(counts) {
			counts[b.Index] = b.Count
		}
	}
	sum := 0.0
	for i, bound := range h.CustomValues {
		sum += counts[i]
		out.Bucket = append(out.Bucket, &dto.Bucket{UpperBound: proto.Float64(bound), CumulativeCountFloat: proto.Float64(sum)})
	}
	return out
}

func nativeHistogram(h *histogram.FloatHistogram) *dto.Histogram {
	out := &dto.Histogram{SampleCountFloat: proto.Float64(h.Count), SampleSum: proto.Float64(h.Sum), Schema: proto.Int32(h.Schema), ZeroThreshold: proto.Float64(h.ZeroThreshold),
		ZeroCountFloat: proto.Float64(h.ZeroCount), PositiveCount: h.PositiveBuckets, NegativeCount: h.NegativeBuckets}
	spans := func(in []histogram.Span) (out []*dto.BucketSpan) {
		for _, s := range in {
			out = append(out, &dto.BucketSpan{Offset: proto.Int32(s.Offset), Length: proto.Uint32(s.Length)})
		}
		return out
	}
	out.PositiveSpan, out.NegativeSpan = spans(h.PositiveSpans), spans(h.NegativeSpans)
	return out
}
