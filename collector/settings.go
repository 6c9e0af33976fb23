package collector

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/sonde-io/sonde/collector/discover/sd"
	"github.com/sonde-io/sonde/collector/godebug"
	"github.com/sonde-io/sonde/collector/metrics/rules"
)

// setting is one row of the table that the file, the flags, the environment, `sonde config` and CONFIG.md are made from.
type setting struct {
	name string // the yaml key of a field of Config
	doc  string
	zero string // what 0, "" or an empty list means
}

// zeroDefault is what 0 means where no limit at all would be a trap.
const zeroDefault = "the default"

var settings = []setting{
	{"listen", "addresses to listen on, with commas between them, HOST:PORT or unix:PATH; any host but loopback needs token_file and tls_cert, or insecure", zeroDefault},
	{"token_file", "file with the bearer token that requests must carry", "no token is asked for"},
	{"tls_cert", "PEM file with the certificate chain", "no TLS"},
	{"tls_key", "PEM file with the certificate's private key", "no TLS"},
	{"insecure", "allow an address that is not loopback without token or TLS", "closed by default"},
	{"data", "directory for everything that is stored; one collector at a time", zeroDefault},
	{"retention_age", "keep profiles as they came for this long; then they are added up, by minute until they are 30 days old and by hour until 400 (retention_rules)", "keep whatever the age"},
	{"retention_size", "while all take more bytes than this, add up the oldest days but the last, then delete the oldest", "keep whatever the size"},
	{"retention_rules", "for some services: service, raw, minutes, hours, size; the first that matches counts, one without a service changes the default (file only)", "the default for all"},
	{"cache_bytes", "memory for opened blocks", zeroDefault},
	{"max_body_bytes", "largest body of a push as sent; over it 413", zeroDefault},
	{"max_series_per_service", "most series (label sets and types) of a service that are alive; over it 429", zeroDefault},
	{"max_concurrent_queries", "queries handled at once; the next wait", zeroDefault},
	{"query_timeout", "longest time of a query, waiting included; over it 503", zeroDefault},
	{"limits", "of one push: max_decompressed_bytes (64MiB; over it 413), max_samples of a profile (500000), max_labels of a process (64; over these 422), max_concurrent_pushes (64; over it 429); of one query: query_cpu (20s) and query_memory (256MiB; over these 422) (file only)", "the defaults; of query_cpu and query_memory no limit"},
	{"memory_limit", "soft limit of the collector's memory: its garbage collector works harder near it", "no limit, or what GOMEMLIMIT says"},
	{"discover", "find the Go processes of this machine and scrape those with a pprof or gops endpoint", "only static targets and pushes"},
	{"gather", "how processes are gathered that no agent reports: scrape (pprof endpoints), gops (its agents), perf (CPU of what has neither), memory (goroutines, heap, mutex and block of these, read from their memory), metrics (what processes offer under /metrics, and what the kernel knows of them and their cgroups); besides, where wanted: offcpu (time off the CPU by perf), kernel (kernel frames in perf's stacks), self (this program too)", "processes are listed only"},
	{"allow", "touch only processes that match: uid:N, port:N, path:PATTERN (path.Match on the executable's whole path); of each kind that is named one must match", "all"},
	{"deny", "touch no process that matches one of these, written as in allow", "none"},
	{"scrape_period", "time between two captures of a target, CPU profiles apart", zeroDefault},
	{"cpu_period", "time in which one CPU profile of a target is taken", zeroDefault},
	{"cpu_duration", "length of the CPU profile taken in each cpu_period", "no CPU profiles by scraping"},
	{"targets", "static targets: service, url, labels, types, metrics_url (file only)", "none"},
	{"service_discovery", "targets from elsewhere, and relabeling, as Prometheus writes them: kubernetes, scrape_configs, process_relabel_configs (file only)", "none"},
	{"agent_rules", "settings given to agents: selector, enabled, metrics, types, cpu_rate, period, until, replicas, rotate_types; the first that matches counts (file only)", "agents keep their own settings"},
	{"captures", "bounds of captures: disabled, shadow, max_running, max_expensive, per_minute, max_age, max_bytes (file only)", "the defaults below"},
	{"triggers", "what takes captures by itself: name, selector, metric, above, jump, for, take, duration, cooldown, shadow (file only)", "heap and goroutines at 90 % of the memory limit"},
	{"privacy", "what leaves the machine: keep_labels, drop_labels (of samples), redact (file only)", "everything"},
	{"metrics", "the time series database: retention_age (30d), retention_size (10GB), out_of_order (1d), max_series (500000), max_concurrent_queries, max_query_samples, query_timeout, query_url (a Prometheus-compatible server that answers instead), remote_write (servers that all is sent on to, as Prometheus writes it), keep (regular expressions of whole names: what is kept of a scraped /metrics; go_.*, process_.*, promhttp_.*) (file only)", "the defaults"},
	{"rules", "what is evaluated over time series and profiles: groups and files as Prometheus writes rules, profile_series, alertmanagers (file only)", "none"},
	{"godebug", "lines of GODEBUG traces: max_age (7d), max_bytes (512MiB), files (logs that are followed: path, format, service, labels) (file only)", "no log is followed"},
	{"builds", "what builds are compared with: vulndb (a copy of the Go vulnerability database), go_releases (a table in place of the built-in one); env (variables of processes, besides the Go runtime's own, whose change is an event) (file only)", "no vulnerabilities are looked for"},
	{"upstream", "URL of the collector that a sidecar forwards to, http(s)://HOST:PORT (sidecar only)", "a sidecar needs one"},
	{"upstream_token_file", "file with the bearer token for the upstream (sidecar only)", "none is sent"},
	{"spool_bytes", "most bytes that a sidecar keeps on disk for its upstream; beyond it the oldest are dropped and counted (sidecar only)", zeroDefault},
	{"log_level", "debug, info, warn or error", zeroDefault},
	{"log_format", "text or json", zeroDefault},
	{"shutdown_timeout", "longest time for requests in flight to end after SIGTERM", zeroDefault},
}

// Source says where a setting's value came from.
type Source string

// The sources, strongest first.
const (
	SourceFlag    Source = "flag"
	SourceEnv     Source = "env"
	SourceFile    Source = "file"
	SourceDefault Source = "default"
)

// Setting is one line of what `sonde config` prints. Secrets are in files, so no value is one; passwords in target URLs are hidden.
type Setting struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	Source Source `json:"source"`
	Doc    string `json:"doc"`
	Zero   string `json:"zero"` // what 0, "" or an empty list means
}

// Effective lists every setting with its value in force and where that came from, in the order of CONFIG.md.
func (c *Config) Effective() []Setting {
	out := make([]Setting, 0, len(settings)+1)
	src := c.sources["config"]
	if src == "" {
		src = SourceDefault
	}
	out = append(out, Setting{Name: "config", Value: c.file, Source: src, Doc: configDoc, Zero: "no file"})
	for _, s := range settings {
		e := Setting{Name: s.name, Value: c.value(s.name), Source: c.sources[s.name], Doc: s.doc, Zero: s.zero}
		if e.Source == "" {
			e.Source = SourceDefault
		}
		out = append(out, e)
	}
	return out
}

const configDoc = "the configuration file (YAML)"

// RegisterFlags adds --config and one flag per setting to fs. Load reads them back.
func RegisterFlags(fs *pflag.FlagSet) {
	fs.String("config", "", configDoc)
	def := DefaultConfig()
	for _, s := range settings {
		v := newValue(def.field(s.name))
		if v == nil {
			continue // lists of structures are for the file only
		}
		f := fs.VarPF(v, flagName(s.name), "", s.doc+"; 0 or empty: "+s.zero)
		if v.Type() == "bool" {
			f.NoOptDefVal = "true"
		}
	}
}

func flagName(name string) string { return strings.ReplaceAll(name, "_", "-") }
func envName(name string) string  { return "SONDE_" + strings.ToUpper(name) }

// field returns the field of c whose yaml key is name.
func (c *Config) field(name string) reflect.Value {
	v := reflect.ValueOf(c).Elem()
	for i := range v.NumField() {
		if v.Type().Field(i).Tag.Get("yaml") == name {
			return v.Field(i)
		}
	}
	panic("collector: no field for setting " + name)
}

// value renders a setting as it would be written in a flag; targets and rules as JSON.
func (c *Config) value(name string) string {
	f := c.field(name)
	if v := newValue(f); v != nil {
		return v.String()
	}
	x := f.Interface()
	if ts, ok := x.([]Target); ok {
		ts = slices.Clone(ts)
		for i := range ts {
			ts[i].URL = redact(ts[i].URL)
		}
		x = ts
	}
	if f.IsZero() || f.Kind() == reflect.Slice && f.Len() == 0 {
		return ""
	}
	switch x.(type) {
	case sd.Config, rules.Settings, godebug.Settings, Builds:
		return flow(x)
	}
	b, err := json.Marshal(x)
	if err != nil {
		return fmt.Sprintf("(%v)", err)
	}
	return string(b)
}

// flow writes x as YAML in one line: what has no other names than the file's.
func flow(x any) string {
	var n yaml.Node
	if err := n.Encode(x); err != nil {
		return fmt.Sprintf("(%v)", err)
	}
	n.Style = yaml.FlowStyle
	b, err := yaml.Marshal(&n)
	if err != nil {
		return fmt.Sprintf("(%v)", err)
	}
	return strings.Join(strings.Fields(string(b)), " ")
}

// applyZeros puts the default where a setting is zero and zero means the default.
func (c *Config) applyZeros() {
	def := DefaultConfig()
	for _, s := range settings {
		if f := c.field(s.name); s.zero == zeroDefault && f.IsZero() {
			f.Set(def.field(s.name))
			delete(c.sources, s.name)
		}
	}
	c.Limits.applyZeros()
}

// Markdown renders the settings as the table in CONFIG.md.
func Markdown() string {
	var b strings.Builder
	b.WriteString("# Settings\n\n")
	b.WriteString("Flags beat the environment, the environment beats the file named by `--config` (or `SONDE_CONFIG`). `sonde config` prints what is in\n")
	b.WriteString("force and where each value came from. Unknown keys in the file are errors. Durations: `15s`, `10m`, `36h`, `7d`, `2w`. Sizes: `500MB` (powers\nof 1000), `16MiB` (powers of 1024), or bytes. ")
	b.WriteString("Lists are comma-separated in flags and in the environment. SIGHUP reads `targets`, `agent_rules`, `triggers` and `rules` again.\n\n")
	b.WriteString("This file is made by `go test ./collector -run TestSettingsDocument -update`.\n\n")
	b.WriteString("| file | flag | environment | default | meaning | 0 or empty |\n|---|---|---|---|---|---|\n")
	def := DefaultConfig()
	def.Data = "$XDG_DATA_HOME/sonde"
	for _, s := range settings {
		flag, env := "`--"+flagName(s.name)+"`", "`"+envName(s.name)+"`"
		if newValue(def.field(s.name)) == nil {
			flag, env = "", ""
		}
		val := def.value(s.name)
		if val != "" {
			val = "`" + val + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s |\n", s.name, flag, env, val, s.doc, s.zero)
	}
	b.WriteString(markdownExample)
	return b.String()
}

const markdownExample = `
## Retention rules

raw, minutes and hours say until which age profiles are kept as they came, added up by minute, and added up by hour; a step that ends no later than one before it is left out, and so are
minutes and hours of 0. size bounds each of the services. What a rule does not set is as in the default. Whole days go to the next step at once, so that each lasts up to a day longer.
What is pinned (sonde pin) is kept as it came, whatever its age and the size.

` + "```yaml" + `
retention_rules:
  - service: checkout
    raw: 30d
  - service: '{service_name=~"batch-.*"}'
    raw: 1d
    hours: 0
    size: 500MB
  - minutes: 60d # the default of all others
` + "```" + `

## Service discovery

What Prometheus calls scrape_configs, with its words: static_configs, file_sd_configs, dns_sd_configs, relabel_configs, authorization, basic_auth, tls_config. profile_path is the base, /debug/pprof where it is not given. kubernetes
watches the pods of this node (node, or the environment variable SONDE_NODE_NAME), names the processes in them, and scrapes those that ask for it by annotation (sonde.io/scrape, profiles.grafana.com/*, prometheus.io/*); a pod with sonde.io/profile: "false" is left
alone. process_relabel_configs are for the processes that are found in /proc. A process that is reached by several ways is scraped once.

` + "```yaml" + `
service_discovery:
  kubernetes: {}
  scrape_configs:
    - job_name: edge
      file_sd_configs:
        - files: [/etc/sonde/edge/*.yaml]
      relabel_configs:
        - source_labels: [__address__]
          regex: '(.+):\d+'
          target_label: host_name
    - job_name: cart
      dns_sd_configs:
        - names: [_pprof._tcp.cart.example]
` + "```" + `

## Captures and triggers

A trigger watches one metric of every process that its selector matches, and takes captures once what it says has held for some time. Of a service and build one process takes them for all; then the trigger rests.
Metrics: cpu (cores used ÷ GOMAXPROCS or the CPU limit), heap (bytes alive), goroutines, gc (share of the CPU), memory (the cgroup's memory in use ÷ its limit), pressure (PSI: share of 10 s, 0 to 100), new_build (the
first time of a build's first processes), stop (before a graceful stop). jump is measured against the process's own mean of the last hour. Where nothing is set there are at most 32 captures at once, 4 of each kind that stops or slows a
process, 60 of a service in a minute; they are kept for 30 days and up to 2 GiB.

` + "```yaml" + `
captures:
  max_running: 8
triggers:
  - name: memory-limit
    metric: memory
    above: 0.9
    take: [heap, goroutine]
  - name: cpu-jump
    selector: '{service_name="cart"}'
    metric: cpu
    jump: 3
    for: 30s
    take: [cpu, trace]
    duration: 10s
    cooldown: 6h
privacy:
  drop_labels: [user_*, email]
  redact: ['[\w.+-]+@[\w.-]+']
` + "```" + `

## Logs with traces, and what is kept of /metrics

godebug.files are the logs that lines of GODEBUG traces (gctrace, schedtrace and so on) are read from, at most 64 entries. path is a pattern of files as path/filepath.Match has it. format says how lines stand in them:
plain, cri (Kubernetes), docker (its JSON), journald, or auto, which goes by the first line and is the default; with journald path is a unit, and without one the whole journal is meant. service names whose
logs they are: unset, it is the process that the container or pid in the log leads to, else the file's name. labels are added to those of the process. max_age and max_bytes (a number) bound the lines that are kept.

metrics.keep are regular expressions of whole names. Of what a process offers under /metrics only series with such a name are kept; what is listed takes the place of the default, so name that too.

` + "```yaml" + `
godebug:
  files:
    - path: /var/log/cart/*.log
      service: cart
      labels: {deployment_environment_name: prod}
    - path: /var/log/containers/*.log
      format: cri
    - path: cart.service
      format: journald
metrics:
  keep: [go_.*, process_.*, promhttp_.*, http_request_duration_seconds.*]
` + "```" + `

## Targets and agent rules

` + "```yaml" + `
targets:
  - service: cart
    url: http://10.0.0.7:6060/debug/pprof
    labels: {deployment_environment_name: prod}
    types: [cpu, heap]
    metrics_url: http://10.0.0.7:9090/metrics # unset: where discovery finds them, else /metrics beside /debug/pprof
agent_rules:
  - selector: '{service_name="cart"}'
    enabled: true
    types: [cpu, heap]
    cpu_rate: 19
    period: 1m
    until: 2026-12-01T00:00:00Z
  - selector: '{service_name="edge"}'
    replicas: 7 # of 400 at a time
` + "```" + `
`
