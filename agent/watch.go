package agent

import (
	"math"
	"slices"
	"time"
)

// How often the process is looked at where there are triggers.
const (
	lookEvery    = time.Second
	lookFast     = 100 * time.Millisecond // near the memory's limit
	nearMemory   = 0.8                    // of the value of the rule is near
	lookAhead    = 4                      // looks before the memory would reach the rule's value as it grows
	limitsEvery  = time.Minute            // between two readings of the cgroup's limits
	shortestRate = 900 * time.Millisecond // over which a rate of CPU use is computed
)

// watch evaluates the triggers. It belongs to the recorder and is guarded by its lock. Without rules it does nothing and holds nothing.
type watch struct {
	rules  []ruleState
	given  []rule // as they came
	next   time.Time
	last   time.Time
	vitals *vitals
	read   func(time.Time, *[sampledMetrics]float64) // the vitals'
	values [sampledMetrics]float64
	past   [sampledMetrics]history
}

// ruleState is a rule and where it stands.
type ruleState struct {
	rule
	metric int
	since  time.Time // the condition is met; zero: it is not
	ready  time.Time // the cool-down's end
	done   bool      // what happens once in a process has happened
}

func newWatch() *watch { return &watch{} }

// set puts rules in force. One that stays as it was keeps its state; the history of the process is kept as long as there is any rule.
func (w *watch) set(now time.Time, rules []rule) {
	if sameRules(rules, w.given) {
		return
	}
	old := w.rules
	w.given, w.rules = rules, nil
	for _, r := range rules {
		s := ruleState{rule: r, metric: metricNames[r.Metric]}
		if i := slices.IndexFunc(old, func(o ruleState) bool { return sameRules([]rule{o.rule}, []rule{r}) }); i >= 0 {
			s = old[i]
		}
		w.rules = append(w.rules, s)
	}
	if len(rules) == 0 {
		w.close()
		return
	}
	if w.vitals == nil {
		w.vitals, w.next = newVitals(now), now
		w.read = w.vitals.read
	}
}

// close gives everything back. It may be called twice.
func (w *watch) close() {
	if w.vitals != nil {
		w.vitals.close()
	}
	*w = watch{}
}

// again lets the rule fire earlier than its cool-down says: its claim got no answer.
func (r *recorder) again(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.watch.rules {
		if s := &r.watch.rules[i]; s.Name == name {
			s.ready, s.done = time.Now().Add(claimAgain), false
		}
	}
}

// look samples the process where that is due and fires the rules that are met.
func (r *recorder) look(now time.Time) {
	w := r.watch
	if len(w.rules) == 0 || now.Before(w.next) {
		return
	}
	before := w.values[metricMemory]
	w.read(now, &w.values)
	for m := range w.past {
		w.past[m].add(now, w.values[m])
	}
	for i := range w.rules {
		if s := &w.rules[i]; s.due(now, w, time.UnixMilli(r.a.info.Started)) {
			r.fire(now, s)
		}
	}
	w.next = now.Add(w.pause(before, now.Sub(w.last)))
	w.last = now
}

// due reports whether the rule fires at now, and begins its cool-down.
func (s *ruleState) due(now time.Time, w *watch, started time.Time) bool {
	met := false
	switch s.metric {
	case metricStop:
		return false
	case metricNewBuild:
		met = !s.done && now.Sub(started) < s.hold()
	default:
		met = s.fires(w.values[s.metric], w.past[s.metric].mean())
	}
	if !met {
		s.since = time.Time{}
		return false
	}
	if s.since.IsZero() {
		s.since = now
	}
	if now.Before(s.ready) || s.metric != metricNewBuild && now.Sub(s.since) < s.hold() {
		return false
	}
	s.since, s.ready, s.done = time.Time{}, now.Add(s.cooldown()), true
	return true
}

// pause returns how long to wait for the next look: a second, and less the nearer the memory is to a rule's value.
func (w *watch) pause(before float64, elapsed time.Duration) time.Duration {
	v, pause := w.values[metricMemory], lookEvery
	for i := range w.rules {
		above := w.rules[i].Above
		if w.rules[i].metric != metricMemory || above <= 0 || math.IsNaN(v) {
			continue
		}
		if v >= nearMemory*above {
			return lookFast
		}
		if grown := v - before; grown > 0 && elapsed > 0 {
			ahead := float64(elapsed) * (above - v) / grown / lookAhead
			pause = min(pause, max(lookFast, time.Duration(min(ahead, float64(lookEvery)))))
		}
	}
	return pause
}

// firing is a trigger that was met, and what was taken at once.
type firing struct {
	rule   rule
	value  float64
	window *window     // to be sent first; nil where there is time to ask
	marked []Type      // of the window's profiles, those that belong to the capture
	taken  []takenKind // beside the window
}

type takenKind struct {
	kind     string
	data     []byte
	err      error
	from, to time.Time
}

// fire hands a rule that is met to the taker. Near the memory's limit there is no time to ask: the window ends, and what the rule takes of a
// moment is taken before anything else.
func (r *recorder) fire(now time.Time, s *ruleState) {
	f := firing{rule: s.rule}
	if s.metric < sampledMetrics {
		f.value = w0(r.watch.values[s.metric])
	}
	if (s.metric == metricMemory || s.metric == metricPressure) && !s.Shadow {
		r.takeNow(now, &f)
	}
	if !r.a.taker.fire(f) && f.window != nil {
		r.a.up.push(f.window)
	}
}

// w0 is v, or 0 where it is not a number: JSON has none for that.
func w0(v float64) float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return 0
	}
	return v
}

// takeNow ends the running window with the types that the rule takes, whatever the budget says, and takes snapshots of what is no type of it.
func (r *recorder) takeNow(now time.Time, f *firing) {
	r.lastMetrics(now)
	f.window = r.window(now, func(t Type) bool { return slices.Contains(f.rule.Take, string(t)) })
	r.open(now, jitter(r.plan.period))
	r.cpu(now)
	has := map[string]int{}
	if f.window != nil {
		for i, e := range f.window.meta.Profiles {
			has[string(e.Type)] = i
		}
	}
	for _, k := range f.rule.Take {
		i, ok := has[k]
		switch {
		case ok && momentary(k):
			f.marked = append(f.marked, Type(k))
			e := f.window.meta.Profiles[i]
			f.taken = append(f.taken, takenKind{kind: k, data: f.window.data(i), from: time.UnixMilli(e.Start), to: time.UnixMilli(e.End)})
		case momentary(k) && k != "goroutines" && k != "flight":
			data, err := r.snapshotLocked(k)
			f.taken = append(f.taken, takenKind{kind: k, data: data, err: err, from: now, to: time.Now()})
		}
	}
}

// atStop returns the firings of the rules that capture before a graceful stop.
func (r *recorder) atStop() (out []firing) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.paused {
		return nil
	}
	for _, s := range r.watch.rules {
		if s.metric == metricStop {
			out = append(out, firing{rule: s.rule})
		}
	}
	return out
}
