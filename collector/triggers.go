package collector

import (
	"errors"
	"fmt"

	"github.com/sonde-io/sonde/collector/capture"
	"github.com/sonde-io/sonde/collector/privacy"
)

// Captures bounds what is taken on demand and by triggers. What is not set is the broker's default.
type Captures struct {
	Disabled     bool     `yaml:"disabled" json:"disabled,omitempty"`           // nobody is asked for captures, no trigger takes any
	Shadow       bool     `yaml:"shadow" json:"shadow,omitempty"`               // triggers only say what they would take
	MaxRunning   int      `yaml:"max_running" json:"max_running,omitempty"`     // at once over the whole fleet
	MaxExpensive int      `yaml:"max_expensive" json:"max_expensive,omitempty"` // of these, of each kind that stops or slows a process
	PerMinute    int      `yaml:"per_minute" json:"per_minute,omitempty"`       // of one service that start in a minute
	MaxAge       Duration `yaml:"max_age" json:"max_age,omitempty"`             // of what is kept
	MaxBytes     Size     `yaml:"max_bytes" json:"max_bytes,omitempty"`         // of all that is kept
}

func (c *Captures) validate() error {
	if min(int64(c.MaxRunning), int64(c.MaxExpensive), int64(c.PerMinute), int64(c.MaxAge), int64(c.MaxBytes)) < 0 {
		return errors.New("a limit is negative")
	}
	return nil
}

// Trigger takes captures of a process when something happens to it.
type Trigger struct {
	Name     string   `yaml:"name" json:"name"`
	Selector string   `yaml:"selector" json:"selector,omitempty"` // which processes; "": all
	Metric   string   `yaml:"metric" json:"metric"`               // cpu, heap, goroutines, gc, memory, pressure, new_build, stop
	Above    float64  `yaml:"above" json:"above,omitempty"`       // in the metric's unit
	Jump     float64  `yaml:"jump" json:"jump,omitempty"`         // times the process's own mean of the last hour
	For      Duration `yaml:"for" json:"for,omitempty"`           // how long that must hold
	Take     []string `yaml:"take" json:"take"`                   // kinds of captures
	Duration Duration `yaml:"duration" json:"duration,omitempty"` // of those that last
	Cooldown Duration `yaml:"cooldown" json:"cooldown,omitempty"` // of one service and build; 0: 1 h, of new_build 30 d
	Shadow   bool     `yaml:"shadow" json:"shadow,omitempty"`     // only say what it would take
}

func (t Trigger) rule() capture.Rule {
	return capture.Rule{Selector: t.Selector, Name: t.Name, Metric: t.Metric, Above: t.Above, Jump: t.Jump, ForMs: t.For.D().Milliseconds(), Take: t.Take,
		DurationMs: t.Duration.D().Milliseconds(), CooldownMs: t.Cooldown.D().Milliseconds(), Shadow: t.Shadow}
}

// captureRules returns the triggers that are in force.
func (c *Config) captureRules() []capture.Rule {
	switch {
	case c.Captures.Disabled:
		return nil
	case len(c.Triggers) == 0:
		return capture.DefaultRules()
	}
	rules := make([]capture.Rule, len(c.Triggers))
	for i, t := range c.Triggers {
		rules[i] = t.rule()
	}
	return rules
}

// Privacy says what of a profile may leave the machine that it was taken on.
type Privacy struct {
	KeepLabels []string `yaml:"keep_labels" json:"keep_labels,omitempty"` // of samples, by path.Match on the key; none: all
	DropLabels []string `yaml:"drop_labels" json:"drop_labels,omitempty"`
	Redact     []string `yaml:"redact" json:"redact,omitempty"` // RE2; what matches in texts and label values becomes [redacted]
}

func (p Privacy) filter() (*privacy.Filter, error) {
	f, err := privacy.New(privacy.Config{KeepLabels: p.KeepLabels, DropLabels: p.DropLabels, Redact: p.Redact})
	if err != nil {
		return nil, fmt.Errorf("setting privacy: %w", err)
	}
	return f, nil
}
