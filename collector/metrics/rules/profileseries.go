package rules

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/profiles"
)

// ProfileSeries says how a series is made out of profiles.
type ProfileSeries struct {
	// Record is the name of the series, such as sonde:cart_json_share.
	Record string `yaml:"record"`
	// Query selects the processes, such as {service_name="cart"}. "": all.
	Query string `yaml:"query,omitempty"`
	// Type is the type of profile, such as cpu or heap:inuse_space. Of goroutines it is goroutine and of silent none.
	Type string `yaml:"type,omitempty"`
	// Stat says what is recorded. "total": what the selection adds up to, an interval's per second, estimated from what was profiled (cpu: cores; heap:alloc_space: bytes a second), a gauge's mean. "share": the share
	// of it, 0 to 1, in stacks with the function. "goroutines": how many there are, by where they wait (label function) and what began them (label root), or with function those
	// in whose stack it is. "silent": seconds since the last profile of each service that query's matchers on service_name select, and that was heard of within 7 days.
	Stat string `yaml:"stat,omitempty"` // "": total
	// Function is the full name of a function, and FunctionRE an RE2 expression that a name is to contain; stacks with such a frame count. Of total and goroutines optional.
	Function   string `yaml:"function,omitempty"`
	FunctionRE string `yaml:"function_re,omitempty"`
	// By are the labels by which the series are told apart, those of samples as sample.NAME. Absent: service_name. Empty: none.
	By []string `yaml:"by"`
	// Every is the window of a sample. 0: 1m.
	Every model.Duration `yaml:"every,omitempty"`
	// Delay is how long after the end of a window it is computed: profiles come by then. 0: 1m.
	Delay model.Duration `yaml:"delay,omitempty"`
	// Top bounds the series: those with the largest values are kept. 0: 100; of silent 1000.
	Top int `yaml:"top,omitempty"`
	// Labels are added to the series.
	Labels map[string]string `yaml:"labels,omitempty"`
}

// The stats of a ProfileSeries.
const (
	statTotal      = "total"
	statShare      = "share"
	statGoroutines = "goroutines"
	statSilent     = "silent"
)

const (
	defaultEvery = time.Minute
	defaultDelay = time.Minute
	minEvery     = 10 * time.Second
	maxEvery     = 24 * time.Hour
	defaultTop   = 100
	maxTop       = 1000
)

// compiled is a ProfileSeries that was checked.
type compiled struct {
	name     string
	matchers []*labels.Matcher
	typ      profiles.Type
	stat     string
	focus    *regexp.Regexp // nil: all stacks
	by       []string
	every    time.Duration
	delay    time.Duration
	top      int
	labels   labels.Labels // __name__ among them
}

// compileAll compiles all, or says what is wrong with each.
func compileAll(in []ProfileSeries) ([]*compiled, error) {
	var errs []error
	out := make([]*compiled, 0, len(in))
	for i := range in {
		c, err := in[i].compile()
		if err != nil {
			errs = append(errs, fmt.Errorf("profile_series[%d]: %w", i, err))
			continue
		}
		for _, o := range out {
			if labels.Equal(o.labels, c.labels) {
				errs = append(errs, fmt.Errorf("profile_series[%d]: %s is recorded twice: give one of them another name or label", i, c.name))
			}
		}
		out = append(out, c)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return out, nil
}

func (p *ProfileSeries) compile() (*compiled, error) {
	c := &compiled{name: p.Record, stat: p.Stat, by: p.By, every: defaultEvery, delay: defaultDelay, top: defaultTop}
	if !model.LegacyValidation.IsValidMetricName(p.Record) {
		return nil, fmt.Errorf("record: %q is no name of a series, such as sonde:cart_json_share", p.Record)
	}
	if c.stat == "" {
		c.stat = statTotal
	}
	if p.By == nil && c.stat != statSilent {
		c.by = []string{serviceLabel}
	}
	if c.stat == statSilent {
		c.top = maxTop
	}
	b := labels.NewBuilder(labels.EmptyLabels())
	for name, value := range p.Labels {
		if !model.LegacyValidation.IsValidLabelName(name) || strings.HasPrefix(name, "__") {
			return nil, fmt.Errorf("labels: %q is no name of a label", name)
		}
		b.Set(name, value)
	}
	c.labels = b.Set(model.MetricNameLabel, p.Record).Labels()
	if err := c.setTimes(p); err != nil {
		return nil, err
	}
	if err := c.setSelection(p); err != nil {
		return nil, err
	}
	return c, c.checkStat(p)
}

func (c *compiled) setTimes(p *ProfileSeries) error {
	if p.Every != 0 {
		if c.every = time.Duration(p.Every); c.every < minEvery || c.every > maxEvery {
			return fmt.Errorf("every: %v, want %v to %v", c.every, minEvery, maxEvery)
		}
	}
	if p.Delay != 0 {
		if c.delay = time.Duration(p.Delay); c.delay < 0 || c.delay > maxEvery {
			return fmt.Errorf("delay: %v, want 0 to %v", c.delay, maxEvery)
		}
	}
	if p.Top != 0 {
		if c.top = p.Top; c.top < 0 || c.top > maxTop {
			return fmt.Errorf("top: %d, want 1 to %d", c.top, maxTop)
		}
	}
	return nil
}

func (c *compiled) setSelection(p *ProfileSeries) (err error) {
	if p.Query != "" {
		if c.matchers, err = profiles.ParseSelector(p.Query); err != nil {
			return fmt.Errorf("query: %w", err)
		}
	}
	if p.Type != "" {
		if c.typ, err = profiles.ParseType(p.Type); err != nil {
			return fmt.Errorf("type: %w", err)
		}
	}
	switch {
	case p.Function != "" && p.FunctionRE != "":
		return errors.New("function and function_re: want one of them")
	case p.Function != "":
		c.focus = regexp.MustCompile("^" + regexp.QuoteMeta(p.Function) + "$")
	case p.FunctionRE != "":
		if c.focus, err = regexp.Compile(p.FunctionRE); err != nil {
			return fmt.Errorf("function_re: %w", err)
		}
	}
	for _, name := range c.by {
		if label := strings.TrimPrefix(name, samplePrefix); label == "" || strings.HasPrefix(label, "__") {
			return fmt.Errorf("by: %q is no name of a label", name)
		}
	}
	return nil
}

// checkStat checks what only some stats can do.
func (c *compiled) checkStat(p *ProfileSeries) error {
	switch c.stat {
	case statTotal, statShare:
		if p.Type == "" {
			return fmt.Errorf("type: missing, such as cpu, heap:inuse_space, goroutine")
		}
		if c.stat == statShare && c.focus == nil {
			return fmt.Errorf("stat share: of which function? Name it by function or function_re")
		}
	case statGoroutines:
		if p.Type != "" && c.typ.Profile != "goroutine" {
			return fmt.Errorf("type: %s, but stat goroutines counts goroutines", p.Type)
		}
		c.typ = profiles.Type{Profile: "goroutine", Sample: "goroutine"}
		if c.focus == nil && slices.ContainsFunc(c.by, func(s string) bool { return strings.HasPrefix(s, samplePrefix) }) {
			return errors.New("by: labels of samples need function or function_re with stat goroutines")
		}
	case statSilent:
		if p.Type != "" || c.focus != nil || len(p.By) > 0 {
			return errors.New("stat silent: takes no type, function or by: it is of services")
		}
		for _, m := range c.matchers {
			if m.Name != serviceLabel {
				return fmt.Errorf("query: stat silent is of services, %s cannot be matched", m.Name)
			}
		}
	default:
		return fmt.Errorf("stat: %q, want total, share, goroutines or silent", c.stat)
	}
	return nil
}
