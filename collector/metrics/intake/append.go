package intake

import (
	"context"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/storage"

	"github.com/sonde-io/sonde/collector/series"
)

// appendable gives what speaks Prometheus' interfaces to a series.Appender, for where there is no database.
type appendable struct{ to series.Appender }

func (a appendable) Appender(ctx context.Context) storage.Appender {
	return &appender{ctx: ctx, to: a.to}
}

// appender gathers a batch, and gives it away when it is committed.
type appender struct {
	ctx   context.Context
	to    series.Appender
	batch series.Batch
}

func (a *appender) Append(ref storage.SeriesRef, ls labels.Labels, t int64, v float64) (storage.SeriesRef, error) {
	a.batch.Samples = append(a.batch.Samples, series.Sample{Labels: ls, T: t, V: v})
	return ref, nil
}

func (a *appender) AppendHistogram(ref storage.SeriesRef, ls labels.Labels, t int64, h *histogram.Histogram, fh *histogram.FloatHistogram) (storage.SeriesRef, error) {
	if h != nil {
		if err := h.Validate(); err != nil {
			return 0, err
		}
		fh = h.ToFloat(nil)
	} else if err := fh.Validate(); err != nil {
		return 0, err
	}
	a.batch.Samples = append(a.batch.Samples, series.Sample{Labels: ls, T: t, H: fh})
	return ref, nil
}

// AppendExemplar leaves the exemplar out: batches have none.
func (a *appender) AppendExemplar(ref storage.SeriesRef, _ labels.Labels, _ exemplar.Exemplar) (storage.SeriesRef, error) {
	return ref, nil
}

// UpdateMetadata leaves the metadata out where the vocabulary has it.
func (a *appender) UpdateMetadata(ref storage.SeriesRef, ls labels.Labels, m metadata.Metadata) (storage.SeriesRef, error) {
	name := ls.Get(model.MetricNameLabel)
	if _, known := series.Describe(name); !known {
		a.batch.Metadata = append(a.batch.Metadata, series.Metadata{Name: name, Type: m.Type, Help: m.Help, Unit: m.Unit})
	}
	return ref, nil
}

func (a *appender) AppendSTZeroSample(ref storage.SeriesRef, _ labels.Labels, _, _ int64) (storage.SeriesRef, error) {
	return ref, nil
}

func (a *appender) AppendHistogramSTZeroSample(ref storage.SeriesRef, _ labels.Labels, _, _ int64, _ *histogram.Histogram, _ *histogram.FloatHistogram) (storage.SeriesRef, error) {
	return ref, nil
}

func (a *appender) SetOptions(*storage.AppendOptions) {}

func (a *appender) Commit() error {
	if len(a.batch.Samples)+len(a.batch.Metadata) == 0 {
		return nil
	}
	return a.to.AppendSeries(a.ctx, a.batch)
}

func (a *appender) Rollback() error {
	a.batch = series.Batch{}
	return nil
}
