package perf

import (
	"fmt"
	"log/slog"
	"time"
)

// governor keeps the sampler's own CPU below a limit: it halves the rate, three times at most, then leaves out windows.
type governor struct {
	limit float64 // of one CPU; below 0: none
	hz    int     // as configured
	every int
	log   *slog.Logger

	level int
	calm  int // windows in a row far below the limit
}

const (
	rateLevels = 3 // halvings of the rate
	lastLevel  = 6 // and of the windows, to an eighth
	calmAfter  = 8 // windows far below the limit before a step is taken back
)

// rate returns the samples per second and of how many windows one is sampled.
func (g *governor) rate() (hz, every int) {
	return max(g.hz>>min(g.level, rateLevels), 1), g.every << max(g.level-rateLevels, 0)
}

// window is told what a window cost. It reports whether the rate changed. A step is taken back only where twice the cost stays below half of the limit.
func (g *governor) window(cpu, wall time.Duration) bool {
	if g.limit < 0 || wall <= 0 {
		return false
	}
	share := cpu.Seconds() / wall.Seconds()
	switch {
	case share > g.limit && g.level < lastLevel:
		g.level++
		g.calm = 0
	case share > g.limit:
		return false
	case share < g.limit/4 && g.level > 0:
		if g.calm++; g.calm < calmAfter {
			return false
		}
		g.level--
		g.calm = 0
	default:
		g.calm = 0
		return false
	}
	hz, every := g.rate()
	text := "perf samples at a lower rate: its own CPU time was over the limit"
	if share <= g.limit {
		text = "perf samples at a higher rate again"
	}
	g.log.Warn(text, "cpu", fmt.Sprintf("%.2f %%", 100*share), "limit", fmt.Sprintf("%.2f %%", 100*g.limit), "hz", hz, "one_window_of", every)
	return true
}
