package series

import (
	"context"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
)

// Sample is one reading of one series.
type Sample struct {
	Labels labels.Labels // __name__ and the labels of the series itself, without those of its process
	T      int64         // Unix ms
	V      float64
	H      *histogram.FloatHistogram // a native histogram in place of V; nil: V counts. Not changed by whoever takes it
}

// Metadata describes the series of one name.
type Metadata struct {
	Name string
	Type model.MetricType
	Help string
	Unit string
}

// Batch is what was read of one process.
type Batch struct {
	// Process are the labels of the process, added to each sample; a sample's own label of the same name wins. Empty: the samples carry all that there is.
	Process  labels.Labels
	Samples  []Sample
	Metadata []Metadata // of names that the vocabulary does not know
}

// Appender takes batches. A nil error says that they are kept as far as they can be: samples that are too old, repeated or over a limit are counted and left out. An error says that
// nothing is known to be kept and that the same batches are to be given again. Nothing of a batch is held on to after AppendSeries returns.
type Appender interface {
	AppendSeries(ctx context.Context, batches ...Batch) error
}
