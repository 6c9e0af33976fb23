package collector

import (
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/collector/receive"
	"github.com/sonde-io/sonde/profiles"
)

// rules are the agent rules in force; reloading replaces them while pushes ask.
type rules struct {
	list atomic.Pointer[[]rule]
	now  func() time.Time
}

type rule struct {
	matchers []*labels.Matcher
	until    time.Time // zero: no end
	settings *receive.Settings
}

// set replaces the rules. If one is wrong nothing is changed.
func (r *rules) set(from []AgentRule) error {
	list := make([]rule, len(from))
	for i, a := range from {
		ms, err := profiles.ParseSelector(a.Selector)
		if err != nil {
			return fmt.Errorf("agent_rules[%d]: %w", i, err)
		}
		s := &receive.Settings{Rev: a.Rev(), Enabled: a.Enabled, Types: slices.Clone(a.Types), CPURate: a.CPURate, PeriodMs: a.Period.D().Milliseconds()}
		list[i] = rule{matchers: ms, settings: s}
		if a.Until != nil {
			list[i].until = *a.Until
			s.Until = a.Until.UnixMilli()
		}
	}
	r.list.Store(&list)
	return nil
}

// settings returns what the first rule that is still in force and matches process says, nil for none.
func (r *rules) settings(process labels.Labels) *receive.Settings {
	list := r.list.Load()
	if list == nil {
		return nil
	}
	for _, c := range *list {
		if !c.until.IsZero() && !r.now().Before(c.until) {
			continue
		}
		if !slices.ContainsFunc(c.matchers, func(m *labels.Matcher) bool { return !m.Matches(process.Get(m.Name)) }) {
			return c.settings
		}
	}
	return nil
}
