package agent

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"time"
)

// The bounds of rules.
const (
	maxRules        = 64
	maxRuleName     = 64 // bytes
	defaultCooldown = time.Hour
	minCooldown     = time.Minute
	defaultNew      = 10 * time.Minute // a build is new, where the rule does not say
	claimAgain      = time.Minute      // after a claim that nobody answered
)

// rule is a trigger: it takes captures when a metric of the process is above a value, or so many times its own mean of the last hour, for a while.
type rule struct {
	Name       string   `json:"name"`
	Metric     string   `json:"metric"`
	Above      float64  `json:"above"`
	Jump       float64  `json:"jump"`
	ForMS      int64    `json:"for_ms"`
	Take       []string `json:"take"`
	DurationMS int64    `json:"duration_ms"`
	CooldownMS int64    `json:"cooldown_ms"`
	Shadow     bool     `json:"shadow"`
}

// The metrics of rules. The first ones are sampled; the others are moments.
const (
	metricCPU        = iota // cores used ÷ those there are
	metricHeap              // bytes of live heap
	metricGoroutines        // their number
	metricGC                // share of the CPU that the collector takes
	metricMemory            // of the cgroup ÷ its limit
	metricPressure          // percent of the last 10 s in which something waited for memory
	sampledMetrics
	metricNewBuild = iota // the process is younger than the rule's time
	metricStop            // Close
)

var metricNames = map[string]int{"cpu": metricCPU, "heap": metricHeap, "goroutines": metricGoroutines, "gc": metricGC, "memory": metricMemory,
	"pressure": metricPressure, "new_build": metricNewBuild, "stop": metricStop}

// check completes r with defaults and says what is wrong with it.
func (r *rule) check() error {
	metric, ok := metricNames[r.Metric]
	switch {
	case r.Name == "" || len(r.Name) > maxRuleName:
		return fmt.Errorf("name of %d bytes: want 1 to %d", len(r.Name), maxRuleName)
	case !ok:
		return fmt.Errorf("metric %q: not known to this agent", r.Metric)
	case metric < sampledMetrics && !(r.Above > 0) && !(r.Jump > 0):
		return fmt.Errorf("neither above nor jump is over 0")
	}
	if len(r.Take) == 0 {
		r.Take = []string{"heap", "goroutine"}
		if metric == metricCPU || metric == metricGC {
			r.Take = []string{"cpu", "goroutine"}
		}
	}
	var take []string
	for _, k := range r.Take { // others than an agent's take what it cannot
		if slices.Contains(kinds, k) && !slices.Contains(take, k) {
			take = append(take, k)
		}
	}
	if len(take) == 0 {
		return fmt.Errorf("take %q: want some of %v", r.Take, kinds)
	}
	r.Take = take
	return nil
}

// span turns milliseconds from outside into a duration within [lo, hi]; def stands for 0.
func span(ms int64, def, lo, hi time.Duration) time.Duration {
	if ms == 0 {
		return def
	}
	return time.Duration(min(max(ms, lo.Milliseconds()), hi.Milliseconds())) * time.Millisecond
}

func (r *rule) hold() time.Duration { return span(r.ForMS, 0, 0, maxHistory) }
func (r *rule) cooldown() time.Duration {
	return span(r.CooldownMS, defaultCooldown, minCooldown, 30*24*time.Hour)
}
func (r *rule) duration() time.Duration {
	return span(r.DurationMS, defaultCapture, time.Second, maxCapture)
}

// fires reports whether the rule's condition is met by a value whose mean of the last hour is mean; NaN stands for what is not known.
func (r *rule) fires(value, mean float64) bool {
	return r.Above > 0 && value >= r.Above || r.Jump > 0 && mean > 0 && value >= r.Jump*mean
}

// rules returns the usable rules of s; the others are said once and left out.
func (a *Agent) rules(s *settings) []rule {
	if s == nil || a.cfg.Captures == Off {
		return nil
	}
	var out []rule
	for i, r := range s.Triggers {
		if i >= maxRules {
			a.say("rules", "sonde agent: triggers left out", "more than", maxRules)
			break
		}
		if err := r.check(); err != nil {
			a.say("rule "+r.Name, "sonde agent: trigger left out", "name", fmt.Sprintf("%.64q", r.Name), "err", err)
			continue
		}
		out = append(out, r)
	}
	return out
}

// The history that jumps are held against.
const (
	historyMinutes = 60
	enoughMinutes  = 10
	maxHistory     = historyMinutes * time.Minute
)

// history holds a metric's mean of each of the last minutes that are over.
type history struct {
	means [historyMinutes]float64
	n     int // minutes in means
	at    int // where the next goes
	sum   float64
	count int
	began time.Time // of the minute that runs
}

// add counts a value in. A minute without one is left out.
func (h *history) add(now time.Time, value float64) {
	if h.began.IsZero() {
		h.began = now
	}
	if now.Sub(h.began) >= time.Minute {
		if h.count > 0 {
			h.means[h.at] = h.sum / float64(h.count)
			h.at = (h.at + 1) % historyMinutes
			h.n = min(h.n+1, historyMinutes)
		}
		h.sum, h.count, h.began = 0, 0, now
	}
	if !math.IsNaN(value) {
		h.sum += value
		h.count++
	}
}

// mean returns the mean of the last hour without the minute that runs; NaN where less than ten minutes are known.
func (h *history) mean() float64 {
	if h.n < enoughMinutes {
		return math.NaN()
	}
	sum := 0.0
	for _, m := range h.means[:h.n] {
		sum += m
	}
	return sum / float64(h.n)
}

// sameRules reports whether two lists hold the same rules.
func sameRules(a, b []rule) bool { return reflect.DeepEqual(a, b) }
