package promenc

import (
	"math"
	"path"
	"runtime/metrics"
	"strings"
)

var (
	dashes = strings.NewReplacer("/", "_", "-", "_")
	units  = strings.NewReplacer("-", "_", "*", "_", "/", "_per_")
)

// Name returns the name that Prometheus' Go client gives a metric of runtime/metrics ("/gc/heap/live:bytes" is go_gc_heap_live_bytes), and whether there is one.
func Name(d *metrics.Description) (string, bool) {
	key, unit, ok := strings.Cut(d.Name, ":")
	if !ok || len(key) < 2 || key[0] != '/' {
		return "", false
	}
	name := "go_" + dashes.Replace(path.Dir(key[1:])) + "_" + strings.ReplaceAll(path.Base(key), "-", "_") + "_" + units.Replace(unit)
	if d.Cumulative && d.Kind != metrics.KindFloat64Histogram {
		name += "_total"
	}
	return name, valid(name)
}

func valid(name string) bool {
	return strings.IndexFunc(name, func(c rune) bool {
		return c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z')
	}) < 0
}

// Sum estimates the sum of what a histogram of runtime/metrics counted, none of which is below 0: as if all of a bucket lay in its middle, or at its one finite end. It never falls
// while the counts grow.
func Sum(bounds []float64, counts []uint64) (sum float64) {
	for i, c := range counts {
		if c == 0 {
			continue
		}
		lo, hi := bounds[i], bounds[i+1]
		switch {
		case math.IsInf(hi, 1):
			sum += float64(c) * max(lo, 0)
		case math.IsInf(lo, -1):
			sum += float64(c) * max(hi, 0)
		default:
			sum += float64(c) * (lo + (hi-lo)/2)
		}
	}
	return sum
}
