package agent

import (
	"slices"
	"time"
)

// plan is what is in force: the Config, or the collector's wishes over it.
type plan struct {
	enabled bool
	types   []Type
	rate    int // CPU samples per second
	period  time.Duration
	until   time.Time // when to look again; zero: never
}

func (p plan) equal(o plan) bool {
	return p.enabled == o.enabled && p.rate == o.rate && p.period == o.period && slices.Equal(p.types, o.types)
}

func (p plan) takes(t Type) bool { return p.enabled && slices.Contains(p.types, t) }

// plan returns what is in force at now. The collector can turn the agent off, take types away, and set rate and period within the
// bounds of Config; it cannot add a type that the program did not ask for.
func (a *Agent) plan(now time.Time) plan {
	p := plan{enabled: true, types: a.cfg.Types, rate: a.cfg.CPURate, period: a.cfg.Period}
	a.mu.Lock()
	s := a.remote
	a.mu.Unlock()
	if s == nil {
		return p
	}
	if s.Until > 0 {
		until := time.UnixMilli(s.Until)
		if !now.Before(until) {
			return p
		}
		p.until = until
	}
	if s.Enabled != nil {
		p.enabled = *s.Enabled
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
	return p
}

// obey takes the collector's settings over; nil takes earlier ones back.
func (a *Agent) obey(s *settings) {
	a.mu.Lock()
	a.remote = s
	a.mu.Unlock()
	a.rec.poke()
}
