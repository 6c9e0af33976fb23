package collector

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/collector/receive"
	"github.com/sonde-io/sonde/collector/rotate"
	"github.com/sonde-io/sonde/profiles"
)

// agentSettings are what agents are told, in force; reloading replaces them while pushes ask.
type agentSettings struct {
	inForce atomic.Pointer[ruleSet]
	fleet   *rotate.Fleet // nil: all replicas are profiled
	now     func() time.Time
}

// ruleSet is one configuration's rules.
type ruleSet struct {
	agents   []agentRule
	triggers []triggerRule
	captures bool
}

type agentRule struct {
	matchers []*labels.Matcher
	until    time.Time // zero: no end
	settings receive.Settings
	rotation rotate.Rule
}

type triggerRule struct {
	matchers []*labels.Matcher
	encoded  json.RawMessage // a capture.Rule
}

// set replaces the rules by those of cfg. If one is wrong nothing is changed.
func (r *agentSettings) set(cfg *Config) error {
	next := &ruleSet{captures: !cfg.Captures.Disabled}
	for i, a := range cfg.AgentRules {
		ms, err := profiles.ParseSelector(a.Selector)
		if err != nil {
			return fmt.Errorf("agent_rules[%d]: %w", i, err)
		}
		c := agentRule{matchers: ms, rotation: a.rotation(),
			settings: receive.Settings{Rev: a.Rev(), Enabled: a.Enabled, Metrics: a.Metrics, Types: slices.Clone(a.Types), CPURate: a.CPURate, PeriodMs: a.Period.D().Milliseconds()}}
		if a.Until != nil {
			c.until = *a.Until
			c.settings.Until = a.Until.UnixMilli()
		}
		next.agents = append(next.agents, c)
	}
	for _, t := range cfg.captureRules() {
		var c triggerRule
		var err error
		if t.Selector != "" {
			if c.matchers, err = profiles.ParseSelector(t.Selector); err != nil {
				return fmt.Errorf("trigger %s: %w", t.Name, err)
			}
		}
		if c.encoded, err = json.Marshal(t); err != nil {
			return fmt.Errorf("trigger %s: %w", t.Name, err)
		}
		next.triggers = append(next.triggers, c)
	}
	r.inForce.Store(next)
	return nil
}

// settings returns what the agent of process is told: what the first rule that is still in force and matches says, whose turn it is, and what it may be asked for. nil: nothing.
func (r *agentSettings) settings(process labels.Labels) *receive.Settings {
	set := r.inForce.Load()
	if set == nil {
		return nil
	}
	var s receive.Settings
	rule := set.agentRule(process, r.now())
	if rule != nil {
		s = rule.settings
		s.Rotate = r.rotation(rule, process)
	}
	if set.captures {
		s.Captures = &receive.CaptureOffer{Poll: true}
		s.Triggers = set.triggersOf(process)
	}
	if rule == nil && !set.captures {
		return nil
	}
	s.Rev = revision(&s)
	return &s
}

// rotation says how the replicas of process's service take turns, nil where all are profiled.
func (r *agentSettings) rotation(rule *agentRule, process labels.Labels) *receive.Rotate {
	if r.fleet == nil {
		return nil
	}
	return (*receive.Rotate)(r.fleet.Rotate(rule.rotation, process.Get("service_name")))
}

// turns says how the replicas of a process that this machine gathers itself take turns, nil where all are profiled.
func (r *agentSettings) turns(process labels.Labels) *rotate.Settings {
	if set := r.inForce.Load(); set != nil && r.fleet != nil {
		if rule := set.agentRule(process, r.now()); rule != nil {
			return r.fleet.Rotate(rule.rotation, process.Get("service_name"))
		}
	}
	return nil
}

func (s *ruleSet) agentRule(process labels.Labels, now time.Time) *agentRule {
	for i := range s.agents {
		if c := &s.agents[i]; (c.until.IsZero() || now.Before(c.until)) && matchesAll(c.matchers, process) {
			return c
		}
	}
	return nil
}

// triggersOf returns the list of those rules that watch process, nil for none.
func (s *ruleSet) triggersOf(process labels.Labels) json.RawMessage {
	var list json.RawMessage
	for _, t := range s.triggers {
		if !matchesAll(t.matchers, process) {
			continue
		}
		sep := byte(',')
		if list == nil {
			sep = '['
		}
		list = append(append(list, sep), t.encoded...)
	}
	if list != nil {
		list = append(list, ']')
	}
	return list
}

func matchesAll(ms []*labels.Matcher, l labels.Labels) bool {
	return !slices.ContainsFunc(ms, func(m *labels.Matcher) bool { return !m.Matches(l.Get(m.Name)) })
}

// revision tells one settings' content from another's: an agent that has it already does nothing.
func revision(s *receive.Settings) string {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s\x00%v\x00%s\x00", s.Rev, s.Captures != nil, s.Triggers)
	if s.Rotate != nil {
		fmt.Fprintf(h, "%+v", *s.Rotate)
	}
	return strconv.FormatUint(h.Sum64(), 16)
}
