package collector

import (
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/profiles"
	"github.com/sonde-io/sonde/profiles/store"
)

// RetentionRule says for how long the profiles of services are kept in which form: as they came, added up by minute, added up by hour. Each time counts from the profile.
// The first rule whose selector matches counts; one without a service changes what holds for the services that no rule matches. What a rule does not set is as in the default.
type RetentionRule struct {
	Service string    `yaml:"service" json:"service,omitempty"` // a name, or a selector on service_name
	Raw     *Duration `yaml:"raw" json:"raw,omitempty"`         // 0: whatever the age
	Minutes *Duration `yaml:"minutes" json:"minutes,omitempty"` // 0: no such sums
	Hours   *Duration `yaml:"hours" json:"hours,omitempty"`     // 0: no such sums
	Size    *Size     `yaml:"size" json:"size,omitempty"`       // of each service; 0: no limit of its own
}

// How long sums are kept where no rule says otherwise.
const (
	defaultMinutes = 30 * 24 * time.Hour
	defaultHours   = 400 * 24 * time.Hour
)

func (r *RetentionRule) validate() error {
	for name, d := range map[string]*Duration{"raw": r.Raw, "minutes": r.Minutes, "hours": r.Hours} {
		if d != nil && *d < 0 {
			return fmt.Errorf("%s: %v is negative", name, *d)
		}
	}
	_, err := r.services()
	return err
}

// services returns the rule's matchers, none for the default's.
func (r *RetentionRule) services() ([]*labels.Matcher, error) {
	if strings.TrimSpace(r.Service) == "" {
		return nil, nil
	}
	ms, err := profiles.ParseSelector(r.Service)
	if err != nil {
		return nil, err
	}
	for _, m := range ms {
		if m.Name != "service_name" {
			return nil, fmt.Errorf("service: selects by %s; blocks are of one service, so that rules can tell them apart by service_name alone", m.Name)
		}
	}
	return ms, nil
}

// over returns what holds where r is set over base.
func (r *RetentionRule) over(base store.Retention) store.Retention {
	if r.Raw != nil {
		base.Raw = orForever(r.Raw.D())
	}
	if r.Minutes != nil {
		base.Minutes = r.Minutes.D()
	}
	if r.Hours != nil {
		base.Hours = r.Hours.D()
	}
	if r.Size != nil {
		base.Bytes = int64(*r.Size)
	}
	return base
}

// retention returns what holds by default, and the rules for some services.
func (c *Config) retention() (def store.Retention, rules []store.RetentionRule, err error) {
	def = store.Retention{Raw: orForever(c.RetentionAge.D()), Minutes: defaultMinutes, Hours: defaultHours}
	for i := range c.RetentionRules {
		if ms, err := c.RetentionRules[i].services(); err == nil && len(ms) == 0 {
			def = c.RetentionRules[i].over(def)
			break
		}
	}
	for i := range c.RetentionRules {
		ms, err := c.RetentionRules[i].services()
		if err != nil {
			return def, nil, fmt.Errorf("retention_rules[%d]: %w", i, err)
		}
		if len(ms) > 0 {
			rules = append(rules, store.RetentionRule{Services: ms, Retention: c.RetentionRules[i].over(def)})
		}
	}
	return def, rules, nil
}

// longestRaw is how old a profile may be that is still taken.
func (c *Config) longestRaw() time.Duration {
	def, rules, err := c.retention()
	if err != nil { // a Config that is valid has none
		return c.RetentionAge.D()
	}
	longest := def.Raw
	for _, r := range rules {
		longest = max(longest, r.Raw)
	}
	return longest
}

// none is the store's word for no sums: its own 0 means a default.
func none(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
}

// grace is how long blobs that were replaced stay on disk: twice as long as the longest query, so that one that has just listed them and then waited its turn
// reads them to its end.
func (c *Config) grace() time.Duration { return max(time.Minute, 2*c.QueryTimeout.D()) }
