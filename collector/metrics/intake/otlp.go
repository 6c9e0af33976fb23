package intake

import (
	"context"
	"errors"
	"fmt"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/storage/remote/otlptranslator/prometheusremotewrite"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/sonde-io/sonde/collector/series"
)

// The bounds of one data point. What passes them is left out.
const (
	maxAttributes     = 64
	maxAttributeBytes = 8 << 10 // names and values together
	maxBuckets        = 1000
)

// CostOTLP returns about how many bytes of memory converting md takes, beyond md itself: each bucket of a histogram is a sample with all labels.
func (in *Intake) CostOTLP(md pmetric.Metrics) int64 {
	total := int64(0)
	for m := range allMetrics(md) {
		eachPoint(m, func(p point) bool {
			total += int64(p.samples+1) * int64(p.attributeBytes+sampleBytes)
			return false
		})
	}
	return total
}

// sampleBytes is what a sample takes beyond its attributes, with the labels that it always has.
const sampleBytes = 512

// rejected says what was left out of a request of which the rest was kept.
type rejected struct {
	points int64
	why    string // of the first, and its cure
}

// KeepOTLP keeps the metrics of a request, which it changes, and says how many data points it left out, and why the first. process gives the labels of the process that a resource's
// attributes describe. An error is one that a repeat of the request may cure.
func (in *Intake) KeepOTLP(ctx context.Context, md pmetric.Metrics, process func(attributes map[string]string) (labels.Labels, error)) (int64, string, error) {
	var left rejected
	batches := make([]series.Batch, 0, md.ResourceMetrics().Len())
	var exemplars []exemplarOf
	for _, rm := range md.ResourceMetrics().All() {
		in.refuse(rm, &left)
		points := countPoints(rm)
		if points == 0 {
			continue
		}
		ls, err := process(attributesOf(rm.Resource().Attributes()))
		if err != nil {
			in.reject(&left, reasonInvalid, points, "resource: "+err.Error())
			continue
		}
		rm.Resource().Attributes().Clear() // they are the process's, not each series'
		g := &gatherer{batch: series.Batch{Process: ls}, described: map[string]bool{}}
		if err := g.convert(ctx, rm); err != nil {
			if ctx.Err() != nil {
				return 0, "", err
			}
			in.reject(&left, reasonInvalid, 1, err.Error())
		}
		g.batch.Samples = series.Canonical(g.batch.Samples)
		batches = append(batches, g.batch)
		for _, e := range g.exemplars {
			exemplars = append(exemplars, exemplarOf{series.Merge(series.WithTarget(ls), e.labels), e.exemplar})
		}
		in.metrics.points.Add(float64(points))
	}
	if len(batches) > 0 {
		if err := in.series.AppendSeries(ctx, batches...); err != nil {
			return 0, "", err
		}
		in.appendExemplars(ctx, exemplars)
	}
	return left.points, left.why, nil
}

// exemplarOf is an exemplar with the labels of its series.
type exemplarOf struct {
	labels   labels.Labels
	exemplar exemplar.Exemplar
}

// appendExemplars keeps exemplars where there is room for them. They are a help and no promise: an error costs nobody anything.
func (in *Intake) appendExemplars(ctx context.Context, all []exemplarOf) {
	if in.appendable == nil || len(all) == 0 {
		return
	}
	app := in.appendable.Appender(ctx)
	for _, e := range all {
		_, _ = app.AppendExemplar(0, e.labels, e.exemplar)
	}
	_ = app.Commit()
}

func (in *Intake) reject(left *rejected, reason string, points int64, why string) {
	in.metrics.rejected.WithLabelValues(reason).Add(float64(points))
	if left.points += points; left.why == "" {
		left.why = why
	}
}

// refuse takes out of rm what is not taken.
func (in *Intake) refuse(rm pmetric.ResourceMetrics, left *rejected) {
	for _, sm := range rm.ScopeMetrics().All() {
		sm.Metrics().RemoveIf(func(m pmetric.Metric) bool {
			if !isDelta(m) {
				return false
			}
			n := int64(0)
			eachPoint(m, func(point) bool { n++; return false })
			in.reject(left, reasonDelta, n, fmt.Sprintf("metric %.200q is of delta temporality: have the sender count from its start (OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE=cumulative)", m.Name()))
			return true
		})
		for _, m := range sm.Metrics().All() {
			eachPoint(m, func(p point) bool {
				switch {
				case p.attributes > maxAttributes:
					in.reject(left, reasonAttributes, 1, fmt.Sprintf("metric %.200q: a data point has %d attributes (max_point_attributes is %d)", m.Name(), p.attributes, maxAttributes))
				case p.attributeBytes > maxAttributeBytes:
					in.reject(left, reasonAttributes, 1, fmt.Sprintf("metric %.200q: a data point has %d bytes of attributes (max_point_attribute_bytes is %d)", m.Name(), p.attributeBytes, maxAttributeBytes))
				case p.samples > maxBuckets:
					in.reject(left, reasonBuckets, 1, fmt.Sprintf("metric %.200q: a histogram has %d buckets (max_buckets is %d)", m.Name(), p.samples, maxBuckets))
				default:
					return false
				}
				return true
			})
		}
	}
}

func isDelta(m pmetric.Metric) bool {
	switch m.Type() {
	case pmetric.MetricTypeSum:
		return m.Sum().AggregationTemporality() != pmetric.AggregationTemporalityCumulative
	case pmetric.MetricTypeHistogram:
		return m.Histogram().AggregationTemporality() != pmetric.AggregationTemporalityCumulative
	case pmetric.MetricTypeExponentialHistogram:
		return m.ExponentialHistogram().AggregationTemporality() != pmetric.AggregationTemporalityCumulative
	}
	return false
}

// gatherer is the storage to which Prometheus' converter writes: it gathers a batch.
type gatherer struct {
	batch     series.Batch
	exemplars []exemplarOf
	described map[string]bool
}

// convert converts what rm holds. Histograms of the scheduler's latencies are native ones here, as those of all of runtime/metrics; others stay as their dashboards expect them.
func (g *gatherer) convert(ctx context.Context, rm pmetric.ResourceMetrics) error {
	native := pmetric.NewMetrics()
	to := native.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty().Metrics()
	rest := pmetric.NewMetrics()
	for _, sm := range rm.ScopeMetrics().All() {
		sm.Metrics().RemoveIf(func(m pmetric.Metric) bool {
			if m.Name() != "go.schedule.duration" {
				return false
			}
			m.MoveTo(to.AppendEmpty())
			return true
		})
	}
	rm.MoveTo(rest.ResourceMetrics().AppendEmpty())
	settings := prometheusremotewrite.Settings{AddMetricSuffixes: true, DisableTargetInfo: true, LabelNameUnderscoreSanitization: true, LabelNamePreserveMultipleUnderscores: true,
		PromoteResourceAttributes: &prometheusremotewrite.PromoteResourceAttributes{}}
	_, err := prometheusremotewrite.NewPrometheusConverter(g).FromMetrics(ctx, rest, settings)
	settings.ConvertHistogramsToNHCB = true
	_, errNative := prometheusremotewrite.NewPrometheusConverter(g).FromMetrics(ctx, native, settings)
	return errors.Join(err, errNative)
}

// Append implements storage.AppenderV2.
func (g *gatherer) Append(ref storage.SeriesRef, ls labels.Labels, _, t int64, v float64, h *histogram.Histogram, fh *histogram.FloatHistogram, o storage.AppendV2Options) (storage.SeriesRef, error) {
	if h != nil {
		fh = h.ToFloat(nil)
	}
	if fh != nil {
		if err := fh.Validate(); err != nil {
			return 0, fmt.Errorf("histogram %.200s: %w", o.MetricFamilyName, err)
		}
	}
	g.batch.Samples = append(g.batch.Samples, series.Sample{Labels: ls, T: t, V: v, H: fh})
	for _, e := range o.Exemplars {
		g.exemplars = append(g.exemplars, exemplarOf{ls, e})
	}
	if name := o.MetricFamilyName; name != "" && !g.described[name] {
		g.described[name] = true
		if _, known := series.Describe(series.CanonicalName(name)); !known {
			g.batch.Metadata = append(g.batch.Metadata, series.Metadata{Name: name, Type: o.Metadata.Type, Help: o.Metadata.Help, Unit: o.Metadata.Unit})
		}
	}
	return ref, nil
}

// Commit implements storage.AppenderV2.
func (g *gatherer) Commit() error { return nil }

// Rollback implements storage.AppenderV2.
func (g *gatherer) Rollback() error { return nil }

// attributesOf returns attributes as text.
func attributesOf(m pcommon.Map) map[string]string {
	out := make(map[string]string, m.Len())
	for k, v := range m.All() {
		out[k] = v.AsString()
	}
	return out
}
