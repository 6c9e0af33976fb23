package intake

import (
	"iter"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
)

// point is what bounds and costs ask of a data point.
type point struct {
	attributes, attributeBytes int
	samples                    int // that it becomes: one, or one for each bucket or quantile
}

// allMetrics yields the metrics of a request.
func allMetrics(md pmetric.Metrics) iter.Seq[pmetric.Metric] {
	return func(yield func(pmetric.Metric) bool) {
		for _, rm := range md.ResourceMetrics().All() {
			for _, sm := range rm.ScopeMetrics().All() {
				for _, m := range sm.Metrics().All() {
					if !yield(m) {
						return
					}
				}
			}
		}
	}
}

// countPoints counts the data points of a resource.
func countPoints(rm pmetric.ResourceMetrics) (n int64) {
	for _, sm := range rm.ScopeMetrics().All() {
		for _, m := range sm.Metrics().All() {
			eachPoint(m, func(point) bool { n++; return false })
		}
	}
	return n
}

// eachPoint calls fn for the data points of a metric, and removes those for which it returns true.
func eachPoint(m pmetric.Metric, fn func(point) bool) {
	of := func(attributes pcommon.Map, samples int) bool {
		p := point{attributes: attributes.Len(), samples: samples}
		for k, v := range attributes.All() {
			p.attributeBytes += len(k) + sizeOf(v)
		}
		return fn(p)
	}
	number := func(p pmetric.NumberDataPoint) bool { return of(p.Attributes(), 1) }
	switch m.Type() {
	case pmetric.MetricTypeGauge:
		m.Gauge().DataPoints().RemoveIf(number)
	case pmetric.MetricTypeSum:
		m.Sum().DataPoints().RemoveIf(number)
	case pmetric.MetricTypeHistogram:
		m.Histogram().DataPoints().RemoveIf(func(p pmetric.HistogramDataPoint) bool { return of(p.Attributes(), p.BucketCounts().Len()+2) })
	case pmetric.MetricTypeExponentialHistogram:
		m.ExponentialHistogram().DataPoints().RemoveIf(func(p pmetric.ExponentialHistogramDataPoint) bool {
			return of(p.Attributes(), 1+(p.Positive().BucketCounts().Len()+p.Negative().BucketCounts().Len())/8)
		})
	case pmetric.MetricTypeSummary:
		m.Summary().DataPoints().RemoveIf(func(p pmetric.SummaryDataPoint) bool { return of(p.Attributes(), p.QuantileValues().Len()+2) })
	}
}

// sizeOf returns about how long a value is as text.
func sizeOf(v pcommon.Value) int {
	switch v.Type() {
	case pcommon.ValueTypeStr:
		return len(v.Str())
	case pcommon.ValueTypeBytes:
		return v.Bytes().Len() * 4 / 3
	case pcommon.ValueTypeMap, pcommon.ValueTypeSlice:
		return len(v.AsString())
	}
	return 24
}
