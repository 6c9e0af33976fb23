package collector

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"regexp"
	"strings"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/sonde-io/sonde/collector/discover/sd"
	"github.com/sonde-io/sonde/collector/godebug"
	"github.com/sonde-io/sonde/collector/metrics"
	"github.com/sonde-io/sonde/collector/metrics/rules"
)

// Load builds the Config in force: flags that were set in fs (RegisterFlags added them; nil: no flags) over the environment
// over the file over the defaults. It is validated. lookup is os.LookupEnv but in tests.
func Load(fs *pflag.FlagSet, lookup func(string) (string, bool)) (Config, error) {
	c := DefaultConfig()
	c.sources = map[string]Source{}
	if lookup == nil {
		lookup = os.LookupEnv
	}
	if err := c.loadFile(fs, lookup); err != nil {
		return Config{}, err
	}
	if err := c.loadEnv(lookup); err != nil {
		return Config{}, err
	}
	if err := c.loadFlags(fs); err != nil {
		return Config{}, err
	}
	c.applyZeros()
	if err := c.Validate(); err != nil {
		return Config{}, err
	}
	return c, nil
}

// File returns the path of the configuration file that was read, "" for none.
func (c *Config) File() string { return c.file }

func (c *Config) loadFile(fs *pflag.FlagSet, lookup func(string) (string, bool)) error {
	if v, ok := lookup(envName("config")); ok && v != "" {
		c.file, c.sources["config"] = v, SourceEnv
	}
	if fs != nil {
		if f := fs.Lookup("config"); f != nil && f.Changed {
			c.file, c.sources["config"] = f.Value.String(), SourceFlag
		}
	}
	if c.file == "" {
		return nil
	}
	b, err := os.ReadFile(c.file)
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	if err := c.parseFile(b); err != nil {
		return fmt.Errorf("read configuration %s: %w", c.file, err)
	}
	return nil
}

// parseFile reads YAML over c. Unknown keys, keys given twice and values of the wrong type are errors with their line.
func (c *Config) parseFile(b []byte) error {
	dec := yaml.NewDecoder(bytes.NewReader(b))
	dec.KnownFields(true)
	if err := dec.Decode(c); err != nil {
		if errors.Is(err, io.EOF) {
			return nil // an empty file sets nothing
		}
		return explainYAML(err)
	}
	var more any
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		return errors.New("more than one YAML document")
	}
	var top map[string]yaml.Node
	if err := yaml.Unmarshal(b, &top); err != nil {
		return err
	}
	for name := range top {
		c.sources[name] = SourceFile
	}
	return nil
}

var unknownField = regexp.MustCompile(`^line (\d+): field (.*) not found in type (.*)$`)

var wrongForm = regexp.MustCompile("^line (\\d+): cannot unmarshal \\S+ (`.*`) into (\\S+)$")

// entries are the types of what lists in the file hold, with the list's key and an entry of it.
var entries = map[string]struct{ key, example string }{
	"collector.Target":        {"targets", "- url: http://10.0.0.7:6060/debug/pprof"},
	"collector.AgentRule":     {"agent_rules", `- selector: '{service_name="cart"}'`},
	"collector.RetentionRule": {"retention_rules", "- service: cart"},
	"collector.Trigger":       {"triggers", "- name: memory-limit"},
	"godebug.File":            {"godebug.files", "- path: /var/log/cart.log"},
	"rules.ProfileSeries":     {"rules.profile_series", "- record: cart:cpu"},
}

// explainYAML turns the decoder's words about unknown fields into the user's, with the key that was probably meant.
func explainYAML(err error) error {
	te, ok := errors.AsType[*yaml.TypeError](err)
	if !ok {
		return err
	}
	out := make([]error, 0, len(te.Errors))
	for _, s := range te.Errors {
		m := unknownField.FindStringSubmatch(s)
		if w := wrongForm.FindStringSubmatch(s); w != nil && entries[w[3]].key != "" {
			e := entries[w[3]]
			out = append(out, fmt.Errorf("line %s: %s: %s is no entry; want %s, such as `%s`", w[1], e.key, w[2], strings.Join(yamlKeys(w[3]), ", "), e.example))
			continue
		}
		if m == nil {
			out = append(out, errors.New(strings.TrimPrefix(s, "yaml: ")))
			continue
		}
		msg := fmt.Sprintf("line %s: unknown key %q", m[1], m[2])
		if near := nearest(m[2], yamlKeys(m[3])); near != "" {
			msg += fmt.Sprintf("; did you mean %q?", near)
		}
		out = append(out, errors.New(msg))
	}
	return errors.Join(out...)
}

// yamlKeys lists the keys of one of the types that the file is made of.
func yamlKeys(typeName string) []string {
	for _, x := range []any{Config{}, Target{}, AgentRule{}, RetentionRule{}, Limits{}, Captures{}, Trigger{}, Privacy{}, metrics.Settings{}, rules.Settings{}, rules.ProfileSeries{}, godebug.Settings{}, godebug.File{}, Builds{}, sd.Config{}, sd.Job{}} {
		t := reflect.TypeOf(x)
		if t.String() != typeName {
			continue
		}
		var keys []string
		for i := range t.NumField() {
			if k, _, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ","); k != "" {
				keys = append(keys, k)
			}
		}
		return keys
	}
	return nil
}

// nearest returns the key with the smallest edit distance from s, or "" where none is near.
func nearest(s string, keys []string) string {
	best, bestDist := "", max(2, len(s)/2)+1
	for _, k := range keys {
		if d := editDistance(strings.ReplaceAll(strings.ToLower(s), "-", "_"), k); d < bestDist {
			best, bestDist = k, d
		}
	}
	return best
}

func editDistance(a, b string) int {
	prev := make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := range len(a) {
		diag := prev[0]
		prev[0] = i + 1
		for j := range len(b) {
			cost := diag
			if a[i] != b[j] {
				cost++
			}
			diag = prev[j+1]
			prev[j+1] = min(cost, prev[j]+1, prev[j+1]+1)
		}
	}
	return prev[len(b)]
}

func (c *Config) loadEnv(lookup func(string) (string, bool)) error {
	for _, s := range settings {
		v := newValue(c.field(s.name))
		if v == nil {
			continue
		}
		text, ok := lookup(envName(s.name))
		if !ok {
			continue
		}
		if err := setText(v, text); err != nil {
			return fmt.Errorf("read environment variable %s: %w", envName(s.name), err)
		}
		c.sources[s.name] = SourceEnv
	}
	return nil
}

func (c *Config) loadFlags(fs *pflag.FlagSet) error {
	if fs == nil {
		return nil
	}
	for _, s := range settings {
		v := newValue(c.field(s.name))
		if v == nil {
			continue
		}
		f := fs.Lookup(flagName(s.name))
		if f == nil || !f.Changed {
			continue
		}
		if err := setText(v, f.Value.String()); err != nil {
			return fmt.Errorf("read flag --%s: %w", f.Name, err)
		}
		c.sources[s.name] = SourceFlag
	}
	return nil
}

// setText sets v; the empty string is the zero value of every type, as it is in the documentation.
func setText(v pflag.Value, s string) error {
	if s == "" {
		switch v.Type() {
		case "int", "duration", "size":
			s = "0"
		case "bool":
			s = "false"
		}
	}
	return v.Set(s)
}
