package trigger

import (
	"strings"

	"github.com/sonde-io/sonde/collector/capture"
	"github.com/sonde-io/sonde/profiles"
)

// Observe takes what rules watch from a profile that was gathered anyway, as it was decoded: heap, goroutines, and the garbage collector's share of a CPU profile. p is not kept.
func (e *Engine) Observe(instance, ty string, p *profiles.Profile) {
	metric, v, ok := "", 0.0, false
	switch ty {
	case "heap":
		metric = capture.MetricHeap
		v, ok = columnSum(p, "inuse_space")
	case "goroutine":
		metric = capture.MetricGoroutines
		if v, ok = columnSum(p, "goroutine"); !ok {
			v, ok = columnSum(p, "goroutines")
		}
	case "cpu":
		metric = capture.MetricGC
		v, ok = gcShare(p)
	}
	if !ok {
		return
	}
	e.mu.Lock()
	w := e.watches[instance]
	e.mu.Unlock()
	if w != nil {
		e.set(w, metric, v, e.cfg.Now())
	}
}

func columnSum(p *profiles.Profile, column string) (sum float64, ok bool) {
	c := p.Column(column)
	if c < 0 {
		return 0, false
	}
	for i := range p.Samples {
		sum += float64(p.Row(i)[c])
	}
	return sum, true
}

// collecting are the functions below which the runtime collects garbage: its workers, what it makes goroutines do for their allocations, and the sweepers.
var collecting = []string{"runtime.gcBgMarkWorker", "runtime.gcAssistAlloc", "runtime.bgsweep", "runtime.bgscavenge", "runtime.gcStart", "runtime.GC", "runtime.(*mspan).sweep"}

// gcShare returns the part of a CPU profile that the garbage collector took; ok is false for one that has next to no samples.
func gcShare(p *profiles.Profile) (share float64, ok bool) {
	c := p.Column("cpu")
	if c < 0 || len(p.Samples) < 10 {
		return 0, false
	}
	is := make([]bool, len(p.Functions))
	for i := range p.Functions {
		for _, name := range collecting {
			if strings.HasPrefix(p.Functions[i].Name, name) {
				is[i] = true
			}
		}
	}
	gc := make([]bool, len(p.Locations))
	for i, l := range p.Locations {
		for _, line := range p.Lines[l.Lines.Lo:l.Lines.Hi] {
			gc[i] = gc[i] || is[line.Function]
		}
	}
	var all, in float64
	for i, s := range p.Samples {
		v := float64(p.Row(i)[c])
		all += v
		for _, l := range p.LocationIDs[s.Locations.Lo:s.Locations.Hi] {
			if gc[l] {
				in += v
				break
			}
		}
	}
	if all <= 0 {
		return 0, false
	}
	return in / all, true
}
