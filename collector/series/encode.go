package series

import (
	"errors"
	"fmt"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
)

// Limits bound what Decode takes. Zero fields mean no limit.
type Limits struct {
	Samples int // of one message, histograms included
	Labels  int // of one series
}

// LimitError says which limit a message passed.
type LimitError struct {
	Limit    string // max_metric_samples, max_labels
	Max, Got int
}

func (e *LimitError) Error() string { return fmt.Sprintf("%s: %d, at most %d", e.Limit, e.Got, e.Max) }

// ErrMessage says that bytes are no WriteRequest, or not a valid one.
var ErrMessage = errors.New("not a remote-write message")

// Encode returns b's samples and metadata as a WriteRequest, not compressed. The labels of the process are in it where process is true: for a message that stands alone.
// Neighbouring samples of the same labels become one TimeSeries.
func Encode(b *Batch, process bool) ([]byte, error) {
	req := prompb.WriteRequest{Timeseries: make([]prompb.TimeSeries, 0, len(b.Samples))}
	var last labels.Labels
	for i := range b.Samples {
		s := &b.Samples[i]
		if i == 0 || !labels.Equal(last, s.Labels) {
			last = s.Labels
			all := s.Labels
			if process {
				all = Merge(b.Process, s.Labels)
			}
			req.Timeseries = append(req.Timeseries, prompb.TimeSeries{Labels: prompb.FromLabels(all, nil)})
		}
		ts := &req.Timeseries[len(req.Timeseries)-1]
		if s.H != nil {
			ts.Histograms = append(ts.Histograms, prompb.FromFloatHistogram(s.T, s.H))
		} else {
			ts.Samples = append(ts.Samples, prompb.Sample{Timestamp: s.T, Value: s.V})
		}
	}
	for _, m := range b.Metadata {
		req.Metadata = append(req.Metadata, prompb.MetricMetadata{Type: prompb.FromMetadataType(m.Type), MetricFamilyName: m.Name, Help: m.Help, Unit: m.Unit})
	}
	return req.Marshal()
}

// Merge returns the labels of a process with those of one of its series, which win.
func Merge(process, own labels.Labels) labels.Labels {
	if process.IsEmpty() {
		return own
	}
	b := labels.NewBuilder(process)
	own.Range(func(l labels.Label) { b.Set(l.Name, l.Value) })
	return b.Labels()
}

// Decode reads a WriteRequest, of remote-write 1.0, into a Batch without a process. Labels must have names of their own and a __name__; values may be any text. The error wraps ErrMessage, or is a *LimitError.
func Decode(msg []byte, l Limits) (*Batch, error) {
	var req prompb.WriteRequest
	if err := req.Unmarshal(msg); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMessage, err)
	}
	n := 0
	for i := range req.Timeseries {
		ts := &req.Timeseries[i]
		n += len(ts.Samples) + len(ts.Histograms)
		if l.Labels > 0 && len(ts.Labels) > l.Labels {
			return nil, &LimitError{"max_labels", l.Labels, len(ts.Labels)}
		}
	}
	if l.Samples > 0 && n > l.Samples {
		return nil, &LimitError{"max_metric_samples", l.Samples, n}
	}
	b := &Batch{Samples: make([]Sample, 0, n)}
	scratch := labels.NewScratchBuilder(8)
	for i := range req.Timeseries {
		ts := &req.Timeseries[i]
		ls := ts.ToLabels(&scratch, nil)
		if name, dup := ls.HasDuplicateLabelNames(); dup {
			return nil, fmt.Errorf("%w: label %q twice in one series", ErrMessage, name)
		}
		if ls.Get(model.MetricNameLabel) == "" {
			return nil, fmt.Errorf("%w: a series without a name: %v", ErrMessage, ls)
		}
		for _, s := range ts.Samples {
			b.Samples = append(b.Samples, Sample{Labels: ls, T: s.Timestamp, V: s.Value})
		}
		for _, h := range ts.Histograms {
			fh := h.ToFloatHistogram()
			if !h.IsFloatHistogram() {
				fh = h.ToIntHistogram().ToFloat(nil)
			}
			if err := fh.Validate(); err != nil {
				return nil, fmt.Errorf("%w: histogram of %s: %w", ErrMessage, ls.Get(model.MetricNameLabel), err)
			}
			b.Samples = append(b.Samples, Sample{Labels: ls, T: h.Timestamp, H: fh})
		}
	}
	for _, m := range req.Metadata {
		b.Metadata = append(b.Metadata, Metadata{Name: m.MetricFamilyName, Type: metadataType(m.Type), Help: m.Help, Unit: m.Unit})
	}
	return b, nil
}

func metadataType(t prompb.MetricMetadata_MetricType) model.MetricType {
	for _, known := range []model.MetricType{model.MetricTypeCounter, model.MetricTypeGauge, model.MetricTypeHistogram, model.MetricTypeGaugeHistogram, model.MetricTypeSummary, model.MetricTypeInfo, model.MetricTypeStateset} {
		if prompb.FromMetadataType(known) == t {
			return known
		}
	}
	return model.MetricTypeUnknown
}
