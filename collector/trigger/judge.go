package trigger

import (
	"context"
	"time"

	"github.com/sonde-io/sonde/collector/capture"
)

// ruleState is how far one rule has come with one process.
type ruleState struct {
	rule  capture.Rule
	since time.Time // since when it holds; zero: it does not
	rest  time.Time // it does not fire before
	past  history
}

const (
	minute = time.Minute
	// known is how much of the last hour must be known to call something a jump.
	known = 10 * time.Minute
	// stale is how long a value counts that is not seen anew: twice the longest time between two profiles.
	stale = 3 * time.Minute
	// denied is how long a rule rests after its claim was refused.
	denied = 5 * time.Minute
	// buildTime is how long after its start a process of a new build is captured, where the rule does not say.
	buildTime = time.Minute
	// full is how soon the memory must be expected to be full for a capture to be taken before the rule's threshold.
	fullSoon = 2 * time.Second
)

// history is the mean of a metric by minute over the last hour.
type history struct {
	sum   [60]float64
	n     [60]int
	at    int64 // the minute of the newest
	begun bool
}

func (h *history) add(v float64, now time.Time) {
	m := now.Unix() / 60
	if !h.begun || m-h.at >= 60 || m < h.at {
		*h = history{at: m, begun: true}
	}
	for ; h.at < m; h.at++ {
		i := (h.at + 1) % 60
		h.sum[i], h.n[i] = 0, 0
	}
	h.sum[m%60] += v
	h.n[m%60]++
}

// mean returns the mean over the minutes before the current one, and how many of them are known.
func (h *history) mean() (mean float64, minutes int) {
	for i := range h.sum {
		if h.n[i] > 0 && int64(i) != h.at%60 {
			mean += h.sum[i] / float64(h.n[i])
			minutes++
		}
	}
	if minutes > 0 {
		mean /= float64(minutes)
	}
	return mean, minutes
}

// holds reports whether the rule's condition holds of value v.
func (r *ruleState) holds(v float64) bool {
	if r.rule.Above > 0 && v > r.rule.Above {
		return true
	}
	if r.rule.Jump > 0 {
		mean, minutes := r.past.mean()
		return time.Duration(minutes)*minute >= known && mean > 0 && v > r.rule.Jump*mean
	}
	return false
}

// fires reports whether the rule fires now, with what its metric is.
func (r *ruleState) fires(w *watch, now time.Time) (v float64, ok bool) {
	hold := time.Duration(r.rule.ForMs) * time.Millisecond
	switch r.rule.Metric {
	case capture.MetricStop:
		return 0, false // nobody outside knows before
	case capture.MetricNewBuild:
		if hold == 0 {
			hold = buildTime
		}
		// A process that was found late, as after a restart, is not new.
		return 0, !w.first.IsZero() && w.t.Process.Started > 0 && now.Sub(time.UnixMilli(w.t.Process.Started)) <= hold+lookFar && now.Sub(w.first) >= min(hold/2, lookFar) && !now.Before(r.rest)
	}
	v, has := w.values[r.rule.Metric]
	if !has || now.Sub(w.seen[r.rule.Metric]) > stale || !r.holds(v) {
		r.since = time.Time{}
		return v, false
	}
	if r.since.IsZero() {
		r.since = now
	}
	return v, now.Sub(r.since) >= hold && !now.Before(r.rest)
}

// judge lets rules fire, and keeps what may be wanted once the process is dead.
func (e *Engine) judge(ctx context.Context, w *watch, now time.Time) {
	if w.t.Agent || e.cfg.Executor == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if w.busy || w.left {
		return
	}
	for _, r := range w.matched {
		v, ok := r.fires(w, now)
		if !ok {
			continue
		}
		urgent := r.rule.Metric == capture.MetricMemory || r.rule.Metric == capture.MetricPressure
		if e.act(ctx, w, action{rule: r, value: v, keep: urgent, claim: true}) {
			r.rest = now.Add(denied)
		}
		return
	}
	if r := w.keeper(); r != nil && w.wantsKept(r, now) {
		e.act(ctx, w, action{rule: r, value: w.mem.ratio, keep: true})
	}
}

// keeper is the rule that says what is kept from just before the memory is full.
func (w *watch) keeper() *ruleState {
	for _, r := range w.matched {
		if r.rule.Metric == capture.MetricMemory && r.rule.Above > 0 {
			return r
		}
	}
	return nil
}

// wantsKept reports whether newer captures should be kept: the memory is near its limit, and since the last ones it has grown by a good part of what was left.
func (w *watch) wantsKept(r *ruleState, now time.Time) bool {
	near := w.mem.ratio > r.rule.Above || w.mem.ratio > 0.5 && w.full() < fullSoon
	if w.mem.ratio == 0 || !near {
		return false
	}
	if w.keptAt.IsZero() {
		return true
	}
	gap := w.mem.limit - w.keptUsed
	return w.mem.used-w.keptUsed >= max(gap/4, 1) && now.Sub(w.keptAt) >= keepPause
}

// keepPause is the least time between two captures that are kept.
const keepPause = 500 * time.Millisecond
