package agent

import (
	"slices"
	"time"
)

// plan is what is in force: the Config, or the collector's wishes over it.
type plan struct {
	enabled bool
	metrics bool // where it is enabled
	types   []Type
	rate    int // CPU samples per second
	period  time.Duration
	until   time.Time // when to look again; zero: never
	rotated []Type    // of types, those whose turn it is
	weight  int64     // of the rotated ones
	waiting []Type    // those that would be in types if it were their turn
	rules   []rule    // the triggers
	src     *settings // that it was made of
	expired bool      // src holds no more
}

func (p plan) equal(o plan) bool {
	return p.enabled == o.enabled && p.metrics == o.metrics && p.rate == o.rate && p.period == o.period && p.weight == o.weight && slices.Equal(p.types, o.types) &&
		slices.Equal(p.rotated, o.rotated)
}

func (p plan) takes(t Type) bool { return p.enabled && slices.Contains(p.types, t) }

// plan returns what is in force at now. The collector can turn the agent off, take types and the metrics away, and set rate and period within the
// bounds of Config; it cannot add a type that the program did not ask for.
func (a *Agent) plan(now time.Time) plan {
	p := plan{enabled: true, metrics: a.cfg.Metrics != Off, types: a.cfg.Types, rate: a.cfg.CPURate, period: a.cfg.Period}
	a.mu.Lock()
	s, rules := a.remote, a.remoteRules
	a.mu.Unlock()
	p.src = s
	if s == nil {
		return p
	}
	if s.Until > 0 {
		until := time.UnixMilli(s.Until)
		if !now.Before(until) {
			p.expired = true
			return p
		}
		p.until = until
	}
	p.rules = rules
	if s.Enabled != nil {
		p.enabled = *s.Enabled
	}
	if s.Metrics != nil {
		p.metrics = p.metrics && *s.Metrics
	}
	if s.Types != nil {
		p.types = intersect(a.cfg.Types, s.Types)
	}
	if s.CPURate != nil {
		p.rate = min(max(*s.CPURate, 1), runtimeCPURate)
	}
	if s.PeriodMS != nil {
		// Bounded before the multiplication: a number that is too large would overflow into the past.
		ms := min(max(*s.PeriodMS, minPeriod.Milliseconds()), maxPeriod.Milliseconds())
		p.period = time.Duration(ms) * time.Millisecond
	}
	if t, ok := s.Rotate.at(a.instance, now); ok {
		t.apply(&p)
	}
	return p
}

// stale reports whether the plan may not be what is in force at now: it is not made anew in every step.
func (a *Agent) stale(p plan, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return p.src != a.remote || !p.until.IsZero() && !now.Before(p.until)
}

// obey takes the collector's settings over; nil takes earlier ones back.
func (a *Agent) obey(s *settings) {
	rules := a.rules(s)
	a.mu.Lock()
	a.remote, a.remoteRules = s, rules
	a.mu.Unlock()
	a.taker.offer(a.offered(s))
	a.rec.poke()
}

// offered reports whether s wants the agent to ask for captures, and the program lets it.
func (a *Agent) offered(s *settings) bool {
	return a.cfg.Captures != Off && s != nil && s.Captures != nil && s.Captures.Poll
}
