package collector

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sonde-io/sonde/collector/capture"
	"github.com/sonde-io/sonde/collector/discover"
	"github.com/sonde-io/sonde/collector/discover/sd"
	"github.com/sonde-io/sonde/collector/godebug"
	"github.com/sonde-io/sonde/collector/metrics"
	"github.com/sonde-io/sonde/collector/metrics/rules"
	"github.com/sonde-io/sonde/collector/rotate"
	"github.com/sonde-io/sonde/internal/listen"
	"github.com/sonde-io/sonde/profiles"
	"github.com/sonde-io/sonde/symbols/vulns"
)

// Config is everything that can be set about a collector. DefaultConfig returns the one that works without any setting; Load
// reads flags over environment over the file. The yaml name of a field is its name everywhere: `retention_age` in the file,
// --retention-age on the command line, SONDE_RETENTION_AGE in the environment. What each one means stands in the table in
// settings.go, and in CONFIG.md, which is made from it.
type Config struct {
	Listen    string `yaml:"listen"`
	TokenFile string `yaml:"token_file"`
	TLSCert   string `yaml:"tls_cert"`
	TLSKey    string `yaml:"tls_key"`
	Insecure  bool   `yaml:"insecure"`

	Data           string          `yaml:"data"`
	RetentionAge   Duration        `yaml:"retention_age"`
	RetentionSize  Size            `yaml:"retention_size"`
	RetentionRules []RetentionRule `yaml:"retention_rules"`
	CacheBytes     Size            `yaml:"cache_bytes"`

	MaxBodyBytes         Size     `yaml:"max_body_bytes"`
	MaxSeriesPerService  int      `yaml:"max_series_per_service"`
	MaxConcurrentQueries int      `yaml:"max_concurrent_queries"`
	QueryTimeout         Duration `yaml:"query_timeout"`
	Limits               Limits   `yaml:"limits"`
	MemoryLimit          Size     `yaml:"memory_limit"`

	Discover     bool     `yaml:"discover"`
	Gather       []string `yaml:"gather"`
	Allow        []string `yaml:"allow"`
	Deny         []string `yaml:"deny"`
	ScrapePeriod Duration `yaml:"scrape_period"`
	CPUPeriod    Duration `yaml:"cpu_period"`
	CPUDuration  Duration `yaml:"cpu_duration"`
	Targets      []Target `yaml:"targets"`

	ServiceDiscovery sd.Config `yaml:"service_discovery"`

	Upstream          string `yaml:"upstream"`
	UpstreamTokenFile string `yaml:"upstream_token_file"`
	SpoolBytes        Size   `yaml:"spool_bytes"`

	AgentRules []AgentRule `yaml:"agent_rules"`
	Captures   Captures    `yaml:"captures"`
	Triggers   []Trigger   `yaml:"triggers"`
	Privacy    Privacy     `yaml:"privacy"`

	Metrics metrics.Settings `yaml:"metrics"`
	Rules   rules.Settings   `yaml:"rules"`
	Godebug godebug.Settings `yaml:"godebug"`
	Builds  Builds           `yaml:"builds"`

	LogLevel        string   `yaml:"log_level"`
	LogFormat       string   `yaml:"log_format"`
	ShutdownTimeout Duration `yaml:"shutdown_timeout"`

	sources map[string]Source // of settings that are not at their default; File is in it as "config"
	file    string            // the file that was read, "" for none
}

// Builds says what builds are compared with, and what of a process's start is told besides its build.
type Builds struct {
	vulns.Settings         `yaml:",inline"`
	discover.BuildSettings `yaml:",inline"`
}

// Validate reports what is wrong with b.
func (b *Builds) Validate() error {
	return errors.Join(b.Settings.Validate(), b.BuildSettings.Validate())
}

// Target is a static target: a base URL under which net/http/pprof answers.
type Target struct {
	Service string            `yaml:"service" json:"service"`
	URL     string            `yaml:"url" json:"url"` // such as http://10.0.0.7:6060/debug/pprof
	Labels  map[string]string `yaml:"labels" json:"labels,omitempty"`
	Types   []string          `yaml:"types" json:"types,omitempty"` // empty: every type that the target serves
	// MetricsURL is where its metrics are, such as http://10.0.0.7:9090/metrics; "": where discovery finds them, else /metrics beside /debug/pprof.
	MetricsURL string `yaml:"metrics_url" json:"metrics_url,omitempty"`
}

// AgentRule is the brake from afar: settings that agents of matching processes are given in the answer to their push.
// The first rule that matches counts. Fields that are not set leave the agent's own setting.
type AgentRule struct {
	Selector string     `yaml:"selector" json:"selector"`
	Enabled  *bool      `yaml:"enabled" json:"enabled,omitempty"`
	Metrics  *bool      `yaml:"metrics" json:"metrics,omitempty"` // false: the agent sends none
	Types    []string   `yaml:"types" json:"types,omitempty"`
	CPURate  int        `yaml:"cpu_rate" json:"cpu_rate,omitempty"` // samples per second
	Period   Duration   `yaml:"period" json:"period,omitempty"`     // of a window
	Until    *time.Time `yaml:"until" json:"until,omitempty"`       // nil: until told otherwise

	// Replicas is how many of a service's processes are profiled at a time, in turns, each counting for those whose turn it is not. 0: all.
	Replicas    int      `yaml:"replicas" json:"replicas,omitempty"`
	RotateTypes []string `yaml:"rotate_types" json:"rotate_types,omitempty"` // the types that this holds for; empty: cpu
}

// rotation returns the rule's part that says how replicas take turns.
func (r AgentRule) rotation() rotate.Rule {
	return rotate.Rule{Replicas: r.Replicas, Types: r.RotateTypes}
}

// Rev identifies the rule's content: agents apply a rule once.
func (r AgentRule) Rev() string {
	b, err := json.Marshal(r)
	if err != nil {
		// Every field marshals; a rule that cannot is none.
		return ""
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:4])
}

// DefaultConfig returns the Config that is in force where nothing is set.
func DefaultConfig() Config {
	return Config{
		Listen:               "127.0.0.1:7070",
		Data:                 defaultDataDir(os.LookupEnv),
		RetentionAge:         Duration(7 * 24 * time.Hour),
		RetentionSize:        10_000_000_000,
		CacheBytes:           256 << 20,
		MaxBodyBytes:         16 << 20,
		MaxSeriesPerService:  20_000,
		MaxConcurrentQueries: 8,
		QueryTimeout:         Duration(30 * time.Second),
		Limits:               defaultLimits,
		Discover:             true,
		Gather:               []string{GatherScrape, GatherGops, GatherPerf, GatherMemory, GatherMetrics},
		ScrapePeriod:         Duration(15 * time.Second),
		CPUPeriod:            Duration(time.Minute),
		CPUDuration:          Duration(10 * time.Second),
		SpoolBytes:           1 << 30,
		LogLevel:             "info",
		LogFormat:            "text",
		ShutdownTimeout:      Duration(15 * time.Second),
	}
}

// defaultDataDir is the XDG data home's sonde folder, else ./sonde-data for accounts without a home.
func defaultDataDir(lookup func(string) (string, bool)) string {
	if d, ok := lookup("XDG_DATA_HOME"); ok && filepath.IsAbs(d) {
		return filepath.Join(d, "sonde")
	}
	if h, ok := lookup("HOME"); ok && filepath.IsAbs(h) && h != "/" {
		return filepath.Join(h, ".local", "share", "sonde")
	}
	return "sonde-data"
}

// Validate reports everything that is wrong with c, one error per setting.
func (c *Config) Validate() error {
	var errs []error
	bad := func(name, format string, args ...any) {
		errs = append(errs, fmt.Errorf("setting %s: "+format, append([]any{name}, args...)...))
	}
	for _, s := range settings {
		if n, ok := numeric(c.field(s.name)); ok && n < 0 {
			bad(s.name, "%v is negative", c.value(s.name))
		}
	}
	if err := c.policy().Check(); err != nil {
		bad("listen", "%w", err)
	}
	if c.Data == "" {
		bad("data", "is empty")
	}
	if err := c.Limits.validate(c.MaxBodyBytes); err != nil {
		bad("limits", "%w", err)
	}
	if c.CPUDuration > c.CPUPeriod {
		bad("cpu_duration", "%v is longer than cpu_period %v", c.CPUDuration, c.CPUPeriod)
	}
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, c.LogLevel) {
		bad("log_level", "%q is none of debug, info, warn, error", c.LogLevel)
	}
	if !slices.Contains([]string{"text", "json"}, c.LogFormat) {
		bad("log_format", "%q is neither text nor json", c.LogFormat)
	}
	if _, err := c.touchRules(); err != nil {
		bad("allow, deny", "%w", err)
	}
	for _, g := range c.Gather {
		if !slices.Contains(gatherWays, g) {
			bad("gather", "%q is none of %s", g, strings.Join(gatherWays, ", "))
		}
	}
	if err := c.validateUpstream(); err != nil {
		bad("upstream", "%w", err)
	}
	for i, t := range c.Targets {
		if err := t.validate(); err != nil {
			bad(fmt.Sprintf("targets[%d]", i), "%w", err)
		}
	}
	def := false
	for i, r := range c.RetentionRules {
		name := fmt.Sprintf("retention_rules[%d]", i)
		if err := r.validate(); err != nil {
			bad(name, "%w", err)
		}
		if r.Service == "" && def {
			bad(name, "is the second without a service")
		}
		def = def || r.Service == ""
	}
	for i, r := range c.AgentRules {
		if err := r.validate(); err != nil {
			bad(fmt.Sprintf("agent_rules[%d]", i), "%w", err)
		}
	}
	if err := c.ServiceDiscovery.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("setting %w", err))
	}
	if err := c.Captures.validate(); err != nil {
		bad("captures", "%w", err)
	}
	if err := capture.ValidateRules(c.captureRules()); err != nil {
		bad("triggers", "%w", err)
	}
	if _, err := c.Privacy.filter(); err != nil {
		errs = append(errs, err)
	}
	for name, v := range map[string]interface{ Validate() error }{"metrics": c.Metrics, "rules": &c.Rules, "godebug": &c.Godebug, "builds": &c.Builds} {
		if err := v.Validate(); err != nil {
			bad(name, "%w", err)
		}
	}
	return errors.Join(errs...)
}

// policy says where to listen and who may come in.
func (c *Config) policy() listen.Policy {
	return listen.Policy{Address: c.Listen, TokenFile: c.TokenFile, TLSCertFile: c.TLSCert, TLSKeyFile: c.TLSKey, Insecure: c.Insecure}
}

func (t Target) validate() error {
	switch {
	case t.Service == "":
		return errors.New("service is empty")
	case !isHTTP(t.URL):
		return fmt.Errorf("url %q is not http://HOST:PORT/PATH", redact(t.URL))
	case t.MetricsURL != "" && !isHTTP(t.MetricsURL):
		return fmt.Errorf("metrics_url %q is not http://HOST:PORT/PATH", redact(t.MetricsURL))
	}
	for _, ty := range t.Types {
		if !profiles.ValidName(ty) {
			return fmt.Errorf("type %q cannot name a type of profile", ty)
		}
	}
	return nil
}

func isHTTP(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Host != "" && (u.Scheme == "http" || u.Scheme == "https")
}

func (r AgentRule) validate() error {
	if r.Selector == "" {
		return errors.New("selector is empty; {} matches every process")
	}
	if _, err := profiles.ParseSelector(r.Selector); err != nil {
		return err
	}
	if r.CPURate < 0 || r.CPURate > 1000 {
		return fmt.Errorf("cpu_rate %d is not within 0 and 1000", r.CPURate)
	}
	if r.Period != 0 && (r.Period < Duration(time.Second) || r.Period > Duration(time.Hour)) {
		return fmt.Errorf("period %v is not within 1s and 1h", r.Period)
	}
	for _, ty := range slices.Concat(r.Types, r.RotateTypes) {
		if !profiles.ValidName(ty) {
			return fmt.Errorf("type %q cannot name a type of profile", ty)
		}
	}
	return r.rotation().Validate()
}

// redact hides a password in a URL.
func redact(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return "(not a URL)"
	}
	return u.Redacted()
}
