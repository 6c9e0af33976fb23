package receive

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"unicode/utf8"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/collector/reply"
	"github.com/sonde-io/sonde/collector/series"
	"github.com/sonde-io/sonde/collector/wire"
	"github.com/sonde-io/sonde/profiles"
)

// ownLabels is how many labels a series may have besides those of a process.
const ownLabels = 32

// decodedMetrics is how many bytes of memory one byte of a WriteRequest can become: an empty series is two bytes, and a struct of four slices, twice while its list grows.
const decodedMetrics = 128

// usualMetrics is the same for a real one, once it is decoded.
const usualMetrics = 4

// metrics decodes the metrics of a push about the process with labels ls; empty: its series carry all that there is. It is called in a turn to decode.
func (q *request) metrics(raw []byte, ls labels.Labels) (*series.Batch, error) {
	data, err := q.gunzipPart("metrics", raw, "max_metrics_bytes", wire.MaxMetricsBytes)
	if err != nil {
		return nil, err
	}
	settle, err := q.holdMemory(decodedMetrics * int64(len(data)))
	if err != nil {
		return nil, err
	}
	defer settle(usualMetrics * int64(len(data)))
	l := q.h.cfg.Limits
	b, err := series.Decode(data, series.Limits{Samples: wire.MaxMetricSamples, Labels: l.Labels + ownLabels})
	if le, ok := errors.AsType[*series.LimitError](err); ok {
		return nil, &reply.Error{Status: http.StatusUnprocessableEntity, Message: "metrics: " + le.Error(), Limit: le.Limit, Max: int64(le.Max), Got: int64(le.Got)}
	}
	if err != nil {
		return nil, reply.Errorf(http.StatusUnprocessableEntity, "metrics: %v", err)
	}
	var last labels.Labels
	for i := range b.Samples {
		if ls := b.Samples[i].Labels; i == 0 || !labels.Equal(ls, last) {
			if err := q.h.checkSeries(ls); err != nil {
				return nil, err
			}
			last = ls
		}
	}
	b.Process = ls
	return b, nil
}

// checkSeries checks the labels of one series.
func (h *Handler) checkSeries(ls labels.Labels) error {
	l := h.cfg.Limits
	return ls.Validate(func(label labels.Label) error {
		limit, most, got := "", 0, 0
		switch {
		case len(label.Name) > l.LabelNameBytes:
			limit, most, got = "max_label_name_bytes", l.LabelNameBytes, len(label.Name)
		case len(label.Value) > l.LabelValueBytes:
			limit, most, got = "max_label_value_bytes", l.LabelValueBytes, len(label.Value)
		case !utf8.ValidString(label.Name) || !utf8.ValidString(label.Value):
			return reply.Errorf(http.StatusUnprocessableEntity, "metrics: label %q is not UTF-8", clip(label.Name, 64))
		case label.Name == "":
			return reply.Errorf(http.StatusUnprocessableEntity, "metrics: a label of %.64q has no name", ls.Get(model.MetricNameLabel))
		default:
			return nil
		}
		return &reply.Error{Status: http.StatusUnprocessableEntity, Message: fmt.Sprintf("metrics: label %q of %q is too long", clip(label.Name, 64), clip(ls.Get(model.MetricNameLabel), 64)),
			Limit: limit, Max: int64(most), Got: int64(got)}
	})
}

// putSeries keeps the metrics of a push. It is done before the push is stored, and of one that comes again: doing it twice changes nothing.
func (h *Handler) putSeries(ctx context.Context, b *series.Batch) error {
	if b == nil || len(b.Samples)+len(b.Metadata) == 0 {
		return nil
	}
	if h.cfg.Series == nil {
		h.metrics.samples.WithLabelValues("dropped").Add(float64(len(b.Samples)))
		return nil
	}
	if err := h.cfg.Series.AppendSeries(ctx, *b); err != nil {
		_, err = h.stored(ctx, err)
		return err
	}
	h.metrics.samples.WithLabelValues("kept").Add(float64(len(b.Samples)))
	return nil
}

// gunzipPart decompresses a part that is gzip, to at most most bytes; limit is what they are called in errors. The result is valid until release.
func (q *request) gunzipPart(what string, raw []byte, limit string, most int64) ([]byte, error) {
	if !profiles.IsGzip(raw) {
		return nil, reply.Errorf(http.StatusUnprocessableEntity, "%s: not gzip", what)
	}
	left := q.h.cfg.Limits.DecompressedBytes - q.decompressed
	data, err := q.gunzip(raw, min(left, most))
	if le, ok := errors.AsType[*profiles.LimitError](err); ok && most <= left {
		return nil, &reply.Error{Status: http.StatusRequestEntityTooLarge, Message: what + ": too many decompressed bytes", Limit: limit, Max: most, Got: le.Got}
	}
	if err != nil {
		return nil, q.decodeError(what, err)
	}
	q.decompressed += int64(len(data))
	return data, nil
}
