package collector

import (
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

var update = flag.Bool("update", false, "write golden files")

func env(kv map[string]string) func(string) (string, bool) {
	return func(k string) (string, bool) { v, ok := kv[k]; return v, ok }
}

func writeFile(t *testing.T, text string) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "sonde.yaml")
	if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestEveryFieldIsASetting(t *testing.T) {
	if len(settings) > 40 { // --config, which says where they stand, is none
		t.Errorf("%d settings, at most 40 wanted", len(settings))
	}
	typ := reflect.TypeFor[Config]()
	fields := 0
	for i := range typ.NumField() {
		if typ.Field(i).IsExported() {
			fields++
		}
	}
	if fields != len(settings) {
		t.Errorf("%d exported fields, %d rows", fields, len(settings))
	}
	var c Config
	for _, s := range settings {
		c.field(s.name) // panics where there is none
		if s.doc == "" || s.zero == "" {
			t.Errorf("%s: no meaning or no meaning of 0", s.name)
		}
	}
}

func TestSettingsDocument(t *testing.T) {
	want := Markdown()
	if *update {
		if err := os.WriteFile("CONFIG.md", []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile("CONFIG.md")
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("CONFIG.md is stale: go test ./collector -run TestSettingsDocument -update")
	}
}

func TestLoadPrecedence(t *testing.T) {
	file := writeFile(t, `
retention_age: 3d
retention_size: 1GB
scrape_period: 2m
max_series_per_service: 0
deny: ["uid:0", "uid:5"]
targets:
  - service: cart
    url: http://user:secret@localhost:6060/debug/pprof
agent_rules:
  - selector: '{service_name="cart"}'
    enabled: false
    period: 1m
    until: 2026-12-01T00:00:00Z
`)
	fs := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	RegisterFlags(fs)
	if err := fs.Parse([]string{"--config", file, "--retention-age=1w", "--insecure", "--allow", "port:22,port:80"}); err != nil {
		t.Fatal(err)
	}
	c, err := Load(fs, env(map[string]string{"SONDE_RETENTION_AGE": "5d", "SONDE_RETENTION_SIZE": "2GB", "SONDE_DISCOVER": "false"}))
	if err != nil {
		t.Fatal(err)
	}
	type vs struct{ value, source string }
	want := map[string]vs{
		"config":                 {file, "flag"},
		"retention_age":          {"7d", "flag"},
		"retention_size":         {"2GB", "env"},
		"scrape_period":          {"2m", "file"},
		"max_series_per_service": {"20000", "default"}, // 0 means the default
		"insecure":               {"true", "flag"},
		"allow":                  {"port:22,port:80", "flag"},
		"deny":                   {"uid:0,uid:5", "file"},
		"discover":               {"false", "env"},
		"max_body_bytes":         {"16MiB", "default"},
		"targets":                {`[{"service":"cart","url":"http://user:xxxxx@localhost:6060/debug/pprof"}]`, "file"},
		"agent_rules":            {`[{"selector":"{service_name=\"cart\"}","enabled":false,"period":"1m","until":"2026-12-01T00:00:00Z"}]`, "file"},
	}
	seen := 0
	for _, s := range c.Effective() {
		if w, ok := want[s.Name]; ok {
			seen++
			if (vs{s.Value, string(s.Source)}) != w {
				t.Errorf("%s = %s from %s, want %s from %s", s.Name, s.Value, s.Source, w.value, w.source)
			}
		}
	}
	if seen != len(want) {
		t.Errorf("saw %d of %d settings", seen, len(want))
	}
}

func TestLoadRefuses(t *testing.T) {
	for _, tt := range []struct {
		name, file string
		env        map[string]string
		want       []string
	}{
		{"unknown key", "listen: 127.0.0.1:1\nretenton_age: 3d\n", nil, []string{`line 2: unknown key "retenton_age"; did you mean "retention_age"?`}},
		{"dashes", "retention-age: 3d\n", nil, []string{`did you mean "retention_age"?`}},
		{"an entry of another form", "godebug:\n  files: [/x/*.log]\n", nil, []string{"line 2: godebug.files: `/x/*.log` is no entry; want path, format, service, labels, such as `- path: /var/log/cart.log`"}},
		{"a target of another form", "targets: [cart]\n", nil, []string{"line 1: targets: `cart` is no entry; want service, url, labels, types, metrics_url, such as `- url:"}},
		{"nothing near", "zzz: 1\n", nil, []string{`line 1: unknown key "zzz"`}},
		{"unknown key of a target", "targets:\n  - service: a\n    ulr: http://h:1/\n", nil, []string{`line 3: unknown key "ulr"; did you mean "url"?`}},
		{"key twice", "listen: 127.0.0.1:1\nlisten: 127.0.0.1:2\n", nil, []string{`line 2: mapping key "listen" already defined at line 1`}},
		{"bad duration", "\nretention_age: 3 days\n", nil, []string{"line 2", `"3 days"`, "1h30m"}},
		{"bad size", "retention_size: lots\n", nil, []string{"line 1", `"lots"`}},
		{"bad number", "max_series_per_service: many\n", nil, []string{"line 1"}},
		{"not a map", "- a\n", nil, []string{"line 1"}},
		{"two documents", "listen: 127.0.0.1:1\n---\nlisten: 127.0.0.1:2\n", nil, []string{"more than one"}},
		{"not YAML", "a: [", nil, []string{"line 1"}},
		{"environment", "", map[string]string{"SONDE_MAX_SERIES_PER_SERVICE": "x"}, []string{"SONDE_MAX_SERIES_PER_SERVICE", `"x"`}},
		{"two things at once", "log_level: loud\nlog_format: xml\n", nil, []string{"log_level", "log_format"}},
		{"negative", "max_series_per_service: -1\n", nil, []string{"max_series_per_service", "-1"}},
		{"negative limit", "limits: {max_samples: -1}\n", nil, []string{"limits", "negative"}},
		{"limits", "limits: {max_decompressed_bytes: 1MiB}\n", nil, []string{"max_decompressed_bytes 1MiB", "max_body_bytes 16MiB"}},
		{"unknown limit", "limits: {max_sample: 1}\n", nil, []string{`did you mean "max_samples"?`}},
		{"listen", "listen: localhost\n", nil, []string{"missing port"}},
		{"half of TLS", "tls_cert: a.pem\n", nil, []string{"go together"}},
		{"open address", "listen: 0.0.0.0:7070\n", nil, []string{"not loopback", "token_file"}},
		{"selector", "agent_rules:\n  - selector: '{a'\n", nil, []string{"agent_rules[0]"}},
		{"rule rate", "agent_rules:\n  - selector: '{}'\n    cpu_rate: 5000\n", nil, []string{"cpu_rate 5000"}},
		{"metrics of a target", "targets:\n  - service: a\n    url: http://h:1/debug/pprof\n    metrics_url: h:2/metrics\n", nil, []string{"targets[0]", `metrics_url "h:2/metrics"`}},
		{"target URL", "targets:\n  - service: a\n    url: localhost:6060\n", nil, []string{"targets[0]", "http://"}},
		{"ports", "deny: ['port:70000']\n", nil, []string{"70000"}},
		{"what is touched", "allow: ['user:me']\n", nil, []string{"user:me", "uid:N"}},
		{"ways to gather", "gather: [ptrace]\n", nil, []string{"ptrace", "perf"}},
		{"upstream", "upstream: localhost:7070\n", nil, []string{"upstream", "http://"}},
		{"cpu", "cpu_duration: 2m\n", nil, []string{"cpu_duration", "cpu_period"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := map[string]string{"SONDE_CONFIG": writeFile(t, tt.file)}
			for k, v := range tt.env {
				e[k] = v
			}
			_, err := Load(nil, env(e))
			if err == nil {
				t.Fatal("no error")
			}
			for _, w := range tt.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("error %q does not say %q", err, w)
				}
			}
		})
	}
}

func TestLoadEmptyFile(t *testing.T) {
	for _, text := range []string{"", "# nothing\n"} {
		c, err := Load(nil, env(map[string]string{"SONDE_CONFIG": writeFile(t, text)}))
		if err != nil {
			t.Fatal(err)
		}
		if c.RetentionAge.D() != 7*24*time.Hour {
			t.Errorf("retention %v", c.RetentionAge)
		}
	}
}

func TestDuration(t *testing.T) {
	for in, want := range map[string]string{
		"0": "0", "15s": "15s", "90s": "1m30s", "7d": "7d", "1w2d12h": "9d12h", "2w": "14d", "36h": "1d12h", "10m": "10m", "1.5d": "1d12h", "1h0m5s": "1h0m5s",
	} {
		d, err := ParseDuration(in)
		if err != nil || d.String() != want {
			t.Errorf("%s: %v %v, want %s", in, d, err, want)
		}
		if again, err := ParseDuration(d.String()); err != nil || again != d {
			t.Errorf("%s does not read back: %v %v", d, again, err)
		}
	}
	for _, in := range []string{"", "7", "d", "7d7", "300y", "-1d", "1d-3h", "10000000d", "NaNd"} {
		if d, err := ParseDuration(in); err == nil {
			t.Errorf("%q: %v, want an error", in, d)
		}
	}
}

func TestSize(t *testing.T) {
	for in, want := range map[string]string{
		"0": "0", "10GB": "10GB", "16MiB": "16MiB", "16 mib": "16MiB", "4096": "4KiB", "1.5GiB": "1536MiB", "100B": "100", "500kb": "500kB",
	} {
		s, err := ParseSize(in)
		if err != nil || s.String() != want {
			t.Errorf("%s: %v %v, want %s", in, s, err, want)
		}
	}
	for _, in := range []string{"", "GB", "-1", "1e40", "NaN", "x"} {
		if s, err := ParseSize(in); err == nil {
			t.Errorf("%q: %v, want an error", in, s)
		}
	}
}

func TestDefaultDataDir(t *testing.T) {
	for _, tt := range []struct {
		env  map[string]string
		want string
	}{
		{map[string]string{"XDG_DATA_HOME": "/x", "HOME": "/home/a"}, "/x/sonde"},
		{map[string]string{"XDG_DATA_HOME": "rel", "HOME": "/home/a"}, "/home/a/.local/share/sonde"},
		{map[string]string{"HOME": "/"}, "sonde-data"},
		{nil, "sonde-data"},
	} {
		if got := defaultDataDir(env(tt.env)); got != filepath.FromSlash(tt.want) {
			t.Errorf("%v: %s, want %s", tt.env, got, tt.want)
		}
	}
}

// FuzzFile reads any bytes as a configuration file: an error, or a Config whose settings can all be printed and read back.
func FuzzFile(f *testing.F) {
	for _, s := range []string{"", "listen: 127.0.0.1:1\nretention_age: 7d\nmax_series_per_service: 3\n", "deny: [uid:1]\nallow: [path:/a/*]\n",
		"targets:\n  - {service: a, url: 'http://h:1/x', labels: {a: b}, types: [cpu]}\n", "agent_rules:\n  - {selector: '{a=\"b\"}', period: 1m, until: 2026-12-01T00:00:00Z}\n",
		"retention_size: 1e30\n", "a: &a [*a]\n", "x: {y: z", "listen: !!binary aGk=\n", "- 1\n", "retention_age: {}\n", "targets: 3\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c := DefaultConfig()
		c.sources = map[string]Source{}
		if c.parseFile(b) != nil {
			return
		}
		c.applyZeros()
		if c.Validate() != nil {
			return
		}
		for _, s := range settings {
			text := c.value(s.name)
			v := newValue(c.field(s.name))
			if v == nil || v.Type() == "strings" {
				continue // structures; a path may hold a comma where the file wrote a list
			}
			if err := setText(v, text); err != nil || c.value(s.name) != text {
				t.Errorf("%s: %q does not read back: %v, now %q", s.name, text, err, c.value(s.name))
			}
		}
	})
}
