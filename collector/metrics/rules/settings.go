package rules

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"go.yaml.in/yaml/v3"
)

// Settings are the rules of a collector as its configuration file has them. The zero value is no rules.
type Settings struct {
	// Interval is how often groups are evaluated that do not say it themselves. 0: 1m.
	Interval model.Duration `yaml:"interval,omitempty"`
	// Groups are groups of recording and alerting rules as in a rule file of Prometheus.
	Groups []rulefmt.RuleGroup `yaml:"groups,omitempty"`
	// Files are rule files of Prometheus, or globs of them. Relative ones are below the folder of the configuration file.
	Files []string `yaml:"files,omitempty"`
	// ProfileSeries are the series that are made out of profiles.
	ProfileSeries []ProfileSeries `yaml:"profile_series,omitempty"`
	// Alertmanagers are where alerts go, as in Prometheus' `alerting: alertmanagers:`, found by static_configs.
	Alertmanagers []yaml.Node `yaml:"alertmanagers,omitempty"`
	// ExternalLabels are added to alerts, so that those of several collectors can be told apart.
	ExternalLabels map[string]string `yaml:"external_labels,omitempty"`
	// ExternalURL is how people reach this collector: alerts link to it. "": no links.
	ExternalURL string `yaml:"external_url,omitempty"`
}

// The bounds of settings.
const (
	defaultInterval = time.Minute
	maxProfileRules = 200
)

// IsZero reports whether there is nothing to evaluate.
func (s *Settings) IsZero() bool { return len(s.Groups)+len(s.Files)+len(s.ProfileSeries) == 0 }

// SetDirectory says where relative names of rule files begin.
func (s *Settings) SetDirectory(dir string) {
	for i, f := range s.Files {
		if f != "" && !filepath.IsAbs(f) {
			s.Files[i] = filepath.Join(dir, f)
		}
	}
}

// Validate reports everything that is wrong with s. Rule files are read when the rules are put in force, not here.
func (s *Settings) Validate() error {
	var errs []error
	if err := s.checkGroups(); err != nil {
		errs = append(errs, err)
	}
	for i, f := range s.Files {
		if _, err := filepath.Match(f, ""); f == "" || err != nil {
			errs = append(errs, fmt.Errorf("files[%d]: %q is no file name", i, f))
		}
	}
	if n := len(s.ProfileSeries); n > maxProfileRules {
		errs = append(errs, fmt.Errorf("profile_series: %d of them, at most %d", n, maxProfileRules))
	}
	if _, err := compileAll(s.ProfileSeries); err != nil {
		errs = append(errs, err)
	}
	if _, _, err := s.alerting(); err != nil {
		errs = append(errs, err)
	}
	if u, err := url.Parse(s.ExternalURL); err != nil || s.ExternalURL != "" && (u.Scheme != "http" && u.Scheme != "https" || u.Host == "") {
		errs = append(errs, fmt.Errorf("external_url: %q is no URL such as https://sonde.example", s.ExternalURL))
	}
	return errors.Join(errs...)
}

// interval returns how often groups are evaluated that do not say it.
func (s *Settings) interval() time.Duration {
	if s.Interval > 0 {
		return time.Duration(s.Interval)
	}
	return defaultInterval
}

// checkGroups has Prometheus' own reader check the groups of the configuration.
func (s *Settings) checkGroups() error {
	_, errs := parseGroups(s.Groups)
	return errors.Join(errs...)
}

// parseGroups passes groups through Prometheus' reader, which checks what it reads.
func parseGroups(groups []rulefmt.RuleGroup) (*rulefmt.RuleGroups, []error) {
	if len(groups) == 0 {
		return &rulefmt.RuleGroups{}, nil
	}
	text, err := yaml.Marshal(rulefmt.RuleGroups{Groups: groups})
	if err != nil {
		return nil, []error{fmt.Errorf("groups: %w", err)}
	}
	parsed, errs := rulefmt.Parse(text, false, model.UTF8Validation, parser.NewParser(parser.Options{}), promslog.NewNopLogger())
	for i, err := range errs {
		errs[i] = errors.New("groups: " + writtenAt.ReplaceAllString(err.Error(), ""))
	}
	return parsed, errs
}

// writtenAt are lines and columns of what parseGroups wrote, which is not what its user wrote; group and rule follow in words.
var writtenAt = regexp.MustCompile(`^(\d+:\d+: )+`)

// files returns the rule files that there are. A name without a glob must be there.
func (s *Settings) files() ([]string, error) {
	var out []string
	for _, pattern := range s.Files {
		found, err := filepath.Glob(pattern)
		if err != nil {
			return nil, fmt.Errorf("rule files %s: %w", pattern, err)
		}
		if len(found) == 0 {
			if _, err := os.Stat(pattern); err != nil && !isGlob(pattern) {
				return nil, fmt.Errorf("read rule file: %w", err)
			}
		}
		out = append(out, found...)
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

func isGlob(s string) bool {
	for _, c := range s {
		if c == '*' || c == '?' || c == '[' {
			return true
		}
	}
	return false
}

// alerting reads the Alertmanagers as Prometheus does, and what is found without discovery.
func (s *Settings) alerting() (*config.Config, map[string][]*targetgroup.Group, error) {
	type alerting struct {
		Alertmanagers []yaml.Node `yaml:"alertmanagers,omitempty"`
	}
	text, err := yaml.Marshal(map[string]any{"global": map[string]any{"external_labels": s.ExternalLabels}, "alerting": alerting{s.Alertmanagers}})
	if err != nil {
		return nil, nil, fmt.Errorf("alertmanagers: %w", err)
	}
	cfg, err := config.Load(string(text), promslog.NewNopLogger())
	if err != nil {
		return nil, nil, fmt.Errorf("alertmanagers: as in Prometheus' alerting.alertmanagers, with static_configs: %w", err)
	}
	targets := map[string][]*targetgroup.Group{}
	for key, am := range cfg.AlertingConfig.AlertmanagerConfigs.ToMap() {
		n := 0
		for _, d := range am.ServiceDiscoveryConfigs {
			static, ok := d.(discovery.StaticConfig)
			if !ok {
				return nil, nil, fmt.Errorf("alertmanagers: %s is not supported, only static_configs is", d.Name())
			}
			for _, g := range static {
				n += len(g.Targets)
			}
			targets[key] = append(targets[key], static...)
		}
		if n == 0 {
			return nil, nil, fmt.Errorf("alertmanagers: one has no static_configs with targets, such as [\"alertmanager:9093\"]")
		}
	}
	return cfg, targets, nil
}

// externalLabels returns the labels that are added to alerts.
func (s *Settings) externalLabels() labels.Labels { return labels.FromMap(s.ExternalLabels) }
