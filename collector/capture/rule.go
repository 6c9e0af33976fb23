package capture

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/profiles"
)

// The metrics that rules watch.
const (
	MetricCPU        = "cpu"        // cores used ÷ GOMAXPROCS or the CPU limit: 0 to 1
	MetricHeap       = "heap"       // bytes alive
	MetricGoroutines = "goroutines" // number
	MetricGC         = "gc"         // share of the CPU that the garbage collector takes: 0 to 1
	MetricMemory     = "memory"     // the cgroup's memory in use ÷ its limit: 0 to 1
	MetricPressure   = "pressure"   // PSI: share of the last 10 s in which some task waited for memory, 0 to 100
	MetricNewBuild   = "new_build"  // the first ForMs of a build's first processes
	MetricStop       = "stop"       // before a graceful stop
)

// Metrics are all of them.
var Metrics = []string{MetricCPU, MetricHeap, MetricGoroutines, MetricGC, MetricMemory, MetricPressure, MetricNewBuild, MetricStop}

// Rule takes captures when something happens. Either Above or Jump, where set, fires once it has held for ForMs.
type Rule struct {
	Selector   string   `yaml:"selector" json:"-"` // which processes; "": all
	Name       string   `yaml:"name" json:"name"`
	Metric     string   `yaml:"metric" json:"metric"`
	Above      float64  `yaml:"above" json:"above,omitempty"` // absolute, in the metric's unit
	Jump       float64  `yaml:"jump" json:"jump,omitempty"`   // times the metric's own mean of the last hour, of which at least 10 minutes are known
	ForMs      int64    `yaml:"for_ms" json:"for_ms,omitempty"`
	Take       []string `yaml:"take" json:"take"` // kinds
	DurationMs int64    `yaml:"duration_ms" json:"duration_ms,omitempty"`
	CooldownMs int64    `yaml:"cooldown_ms" json:"cooldown_ms,omitempty"` // 0: an hour; of new_build 30 days
	Shadow     bool     `yaml:"shadow" json:"shadow,omitempty"`           // only say what would be done
}

const (
	defaultCooldown  = time.Hour
	newBuildCooldown = 30 * 24 * time.Hour
	maxRules         = 64
	maxName          = 64
)

// Cooldown returns how long after its capture the rule's trigger rests, for one service and build.
func (r Rule) Cooldown() time.Duration { return cooldown(r.CooldownMs, r.Metric) }

func cooldown(ms int64, metric string) time.Duration {
	switch {
	case ms > 0:
		return time.Duration(ms) * time.Millisecond
	case metric == MetricNewBuild:
		return newBuildCooldown
	}
	return defaultCooldown
}

// DefaultRules are in force where none are configured: what tells afterwards why a process was killed for its memory.
func DefaultRules() []Rule {
	return []Rule{{Name: "memory-limit", Metric: MetricMemory, Above: 0.9, Take: []string{Heap, Goroutine}}}
}

// Validate returns what is wrong with the rule.
func (r Rule) Validate() error {
	wrong := func(format string, args ...any) error {
		return fmt.Errorf("trigger %.64q: "+format, append([]any{r.Name}, args...)...)
	}
	switch {
	case !profiles.ValidName(r.Name) || len(r.Name) > maxName:
		return wrong("name: want 1 to %d of letters, digits, _ - .", maxName)
	case !slices.Contains(Metrics, r.Metric):
		return wrong("metric %.64q is none of %s", r.Metric, strings.Join(Metrics, ", "))
	case r.Above < 0 || r.Jump < 0 || r.Jump > 0 && r.Jump <= 1:
		return wrong("above must be positive, and jump more than 1")
	case r.Above == 0 && r.Jump == 0 && r.Metric != MetricNewBuild && r.Metric != MetricStop:
		return wrong("says neither above nor jump")
	case r.ForMs < 0 || r.ForMs > time.Hour.Milliseconds():
		return wrong("for_ms %d is not within 0 and an hour", r.ForMs)
	case len(r.Take) == 0 || len(r.Take) > maxTake:
		return wrong("take: want 1 to %d kinds of captures", maxTake)
	case r.DurationMs < 0 || r.DurationMs > maxDuration.Milliseconds():
		return wrong("duration_ms %d is not within 0 and %v", r.DurationMs, maxDuration)
	case r.CooldownMs < 0:
		return wrong("cooldown_ms is negative")
	}
	for _, k := range r.Take {
		if !ValidKind(k) {
			return wrong("take: %.64q is none of %s", k, strings.Join(Kinds, ", "))
		}
	}
	if r.Selector != "" {
		if _, err := profiles.ParseSelector(r.Selector); err != nil {
			return wrong("selector: %w", err)
		}
	}
	return nil
}

// maxTake bounds the kinds that one trigger takes.
const maxTake = 4

// ValidateRules returns what is wrong with a list of rules.
func ValidateRules(rs []Rule) error {
	if len(rs) > maxRules {
		return fmt.Errorf("%d triggers, at most %d", len(rs), maxRules)
	}
	names := map[string]bool{}
	var errs []error
	for _, r := range rs {
		if err := r.Validate(); err != nil {
			errs = append(errs, err)
		}
		if names[r.Name] {
			errs = append(errs, fmt.Errorf("trigger %.64q is there twice", r.Name))
		}
		names[r.Name] = true
	}
	return errors.Join(errs...)
}

// Selects reports whether matchers select a process: by its labels, its service and its instance.
func Selects(ms []*labels.Matcher, p catalog.Process) bool {
	return !slices.ContainsFunc(ms, func(m *labels.Matcher) bool {
		v := p.Labels.Get(m.Name)
		switch m.Name {
		case "service_name":
			v = p.Service
		case "service_instance_id":
			v = p.Instance
		}
		return !m.Matches(v)
	})
}

// RuleSet is the rules by whom they select. Safe for concurrent use.
type RuleSet struct {
	rules    []Rule
	matchers [][]*labels.Matcher
}

// NewRuleSet checks rules.
func NewRuleSet(rules []Rule) (*RuleSet, error) {
	if err := ValidateRules(rules); err != nil {
		return nil, err
	}
	s := &RuleSet{rules: slices.Clone(rules)}
	for _, r := range rules {
		var ms []*labels.Matcher
		if r.Selector != "" {
			var err error
			if ms, err = profiles.ParseSelector(r.Selector); err != nil {
				return nil, err
			}
		}
		s.matchers = append(s.matchers, ms)
	}
	return s, nil
}

// For returns the rules that select the process with these labels: what its agent is sent.
func (s *RuleSet) For(lbls labels.Labels) []Rule {
	var out []Rule
	p := catalog.Process{Labels: lbls, Service: lbls.Get("service_name"), Instance: lbls.Get("service_instance_id")}
	for i, r := range s.rules {
		if Selects(s.matchers[i], p) {
			out = append(out, r)
		}
	}
	return out
}
