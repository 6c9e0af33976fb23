package sd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/relabel"
	"go.yaml.in/yaml/v3"

	"github.com/sonde-io/sonde/collector/discover/kube"
	"github.com/sonde-io/sonde/collector/scrape"
	"github.com/sonde-io/sonde/profiles"
)

// Config is the setting service_discovery. The zero Config lists nothing.
type Config struct {
	Kubernetes     *Kubernetes       `yaml:"kubernetes"`              // nil: no pods; {}: those of this node
	Jobs           []Job             `yaml:"scrape_configs"`          // lists of targets
	ProcessRelabel []*relabel.Config `yaml:"process_relabel_configs"` // of the processes that are found in /proc, before anything of them is touched
}

// Kubernetes watches pods.
type Kubernetes struct {
	kube.Config        `yaml:",inline"`
	scrape.HTTPOptions `yaml:",inline"`
	Relabel            []*relabel.Config `yaml:"relabel_configs"`
}

// Job is one of Prometheus' scrape_configs, as far as it concerns profiles.
type Job struct {
	Name               string   `yaml:"job_name"`
	Scheme             string   `yaml:"scheme"`       // "": http
	Path               string   `yaml:"profile_path"` // base; "": /debug/pprof
	MetricsPath        string   `yaml:"metrics_path"` // of the target's metrics; "": /metrics beside its profiles
	Types              []string `yaml:"types"`        // none: all
	scrape.HTTPOptions `yaml:",inline"`
	Static             []Group           `yaml:"static_configs"`
	Files              []FileSD          `yaml:"file_sd_configs"`
	DNS                []DNSSD           `yaml:"dns_sd_configs"`
	Relabel            []*relabel.Config `yaml:"relabel_configs"`
}

// Group is a list of addresses that share labels, as static_configs and files have it.
type Group struct {
	Targets []string          `yaml:"targets" json:"targets"` // host:port
	Labels  map[string]string `yaml:"labels" json:"labels"`
}

// FileSD reads groups from files.
type FileSD struct {
	Files   []string       `yaml:"files"`            // patterns, whose last part may have a *; .json, .yml or .yaml
	Refresh model.Duration `yaml:"refresh_interval"` // how often the files are looked for; those that are known are looked at every 5 s. 0: 5 min
}

// DNSSD asks name servers.
type DNSSD struct {
	Names   []string       `yaml:"names"`
	Type    string         `yaml:"type"`             // SRV, A, AAAA, MX or NS; "": SRV
	Port    int            `yaml:"port"`             // of all but SRV
	Refresh model.Duration `yaml:"refresh_interval"` // 0: 30 s
}

// Limits, each of which is an error that names it, or counted.
const (
	maxJobs    = 100
	maxSources = 1000    // file patterns, names and the like, of all jobs together
	maxTargets = 10_000  // of one job
	maxLabels  = 64      // of one target besides those with __
	maxFile    = 4 << 20 // bytes of one file
	maxFiles   = 1000    // that one pattern matches
)

// Parse reads the setting from YAML, strictly: a key that is not known is an error.
func Parse(b []byte) (Config, error) {
	var c Config
	dec := yaml.NewDecoder(bytes.NewReader(b))
	dec.KnownFields(true)
	if err := dec.Decode(&c); err != nil && !errors.Is(err, io.EOF) {
		return Config{}, fmt.Errorf("parse service discovery: %w", err)
	}
	if err := c.Validate(); err != nil {
		return Config{}, err
	}
	return c, nil
}

// Enabled reports whether c lists or changes anything.
func (c *Config) Enabled() bool {
	return c.Kubernetes != nil || len(c.Jobs) > 0 || len(c.ProcessRelabel) > 0
}

// Validate checks c and makes the rules of relabeling ready. It returns the first thing that is wrong, with where it stands.
func (c *Config) Validate() error {
	if len(c.Jobs) > maxJobs {
		return fmt.Errorf("service_discovery: scrape_configs: %d are more than %d", len(c.Jobs), maxJobs)
	}
	if k := c.Kubernetes; k != nil {
		err := errors.Join(k.Config.Validate(), k.HTTPOptions.Validate(), validateRelabel(k.Relabel))
		if err != nil {
			return fmt.Errorf("service_discovery: kubernetes: %w", err)
		}
	}
	if err := validateRelabel(c.ProcessRelabel); err != nil {
		return fmt.Errorf("service_discovery: process_relabel_configs: %w", err)
	}
	names, sources := map[string]bool{}, 0
	for i := range c.Jobs {
		j := &c.Jobs[i]
		if err := j.validate(); err != nil {
			return fmt.Errorf("service_discovery: scrape_configs: job %q: %w", j.Name, err)
		}
		if names[j.Name] {
			return fmt.Errorf("service_discovery: scrape_configs: two jobs are named %q", j.Name)
		}
		names[j.Name] = true
		sources += len(j.Static)
		for _, f := range j.Files {
			sources += len(f.Files)
		}
		for _, d := range j.DNS {
			sources += len(d.Names)
		}
	}
	if sources > maxSources {
		return fmt.Errorf("service_discovery: %d groups, files and names are more than %d", sources, maxSources)
	}
	return nil
}

func (j *Job) validate() error {
	switch {
	case j.Name == "" || len(j.Name) > 128:
		return errors.New("job_name is empty or longer than 128 bytes")
	case j.Scheme != "" && j.Scheme != "http" && j.Scheme != "https":
		return fmt.Errorf("scheme %q is neither http nor https", j.Scheme)
	case j.Path != "" && !strings.HasPrefix(j.Path, "/"):
		return fmt.Errorf("profile_path %q does not start with /", j.Path)
	case j.MetricsPath != "" && !strings.HasPrefix(j.MetricsPath, "/"):
		return fmt.Errorf("metrics_path %q does not start with /", j.MetricsPath)
	}
	for _, t := range j.Types {
		if !profiles.ValidName(t) {
			return fmt.Errorf("types: %q cannot name a type of profile", t)
		}
	}
	for i := range j.Static {
		if err := j.Static[i].validate(); err != nil {
			return fmt.Errorf("static_configs: %w", err)
		}
	}
	for i := range j.Files {
		if err := j.Files[i].validate(); err != nil {
			return fmt.Errorf("file_sd_configs: %w", err)
		}
	}
	for i := range j.DNS {
		if err := j.DNS[i].validate(); err != nil {
			return fmt.Errorf("dns_sd_configs: %w", err)
		}
	}
	return errors.Join(j.HTTPOptions.Validate(), validateRelabel(j.Relabel))
}

func (g *Group) validate() error {
	for _, t := range g.Targets {
		if err := checkAddress(t); err != nil {
			return err
		}
	}
	if len(g.Labels) > maxLabels {
		return fmt.Errorf("%d labels are more than %d", len(g.Labels), maxLabels)
	}
	for k, v := range g.Labels {
		if !model.LegacyValidation.IsValidLabelName(k) || !model.LabelValue(v).IsValid() {
			return fmt.Errorf("label %q=%.64q: not a label", k, v)
		}
	}
	return nil
}

// checkAddress wants host:port; a host alone gets the scheme's port later, as in Prometheus.
func checkAddress(s string) error {
	if strings.ContainsAny(s, "/ \t\r\n\x00?#@") || s == "" {
		return fmt.Errorf("target %.128q is no host:port", s)
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		if !strings.Contains(s, ":") || net.ParseIP(strings.Trim(s, "[]")) != nil {
			return nil
		}
		return fmt.Errorf("target %.128q is no host:port", s)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 || host == "" {
		return fmt.Errorf("target %.128q is no host:port", s)
	}
	return nil
}

func (f *FileSD) validate() error {
	if len(f.Files) == 0 {
		return errors.New("files is empty")
	}
	for _, p := range f.Files {
		if _, err := filepath.Match(filepath.Base(p), ""); err != nil {
			return fmt.Errorf("files: %q: %w", p, err)
		}
		if !slices.Contains([]string{".json", ".yml", ".yaml"}, strings.ToLower(filepath.Ext(p))) || strings.ContainsAny(filepath.Dir(p), "*?[") {
			return fmt.Errorf("files: %q: want a path that ends in .json, .yml or .yaml, with a * in its last part only", p)
		}
	}
	return checkRefresh(f.Refresh)
}

var dnsTypes = []string{"SRV", "A", "AAAA", "MX", "NS"}

func (d *DNSSD) validate() error {
	if len(d.Names) == 0 {
		return errors.New("names is empty")
	}
	switch {
	case d.Type != "" && !slices.Contains(dnsTypes, strings.ToUpper(d.Type)):
		return fmt.Errorf("type %q is none of %s", d.Type, strings.Join(dnsTypes, ", "))
	case d.Type != "" && !strings.EqualFold(d.Type, "SRV") && (d.Port < 1 || d.Port > 65535):
		return fmt.Errorf("port %d: records of type %s need one", d.Port, d.Type)
	}
	return checkRefresh(d.Refresh)
}

func checkRefresh(d model.Duration) error {
	if d != 0 && time.Duration(d) < time.Second {
		return fmt.Errorf("refresh_interval %v is shorter than 1 s", time.Duration(d))
	}
	return nil
}

// validateRelabel fills in the defaults of rules and checks them. Rules are made ready in place.
func validateRelabel(rules []*relabel.Config) error {
	for i, r := range rules {
		if r == nil {
			return fmt.Errorf("relabel_configs: rule %d is empty", i+1)
		}
		if err := r.Validate(model.LegacyValidation); err != nil {
			return fmt.Errorf("relabel_configs: rule %d: %w", i+1, err)
		}
	}
	return nil
}
