package collector

import (
	"strings"
	"testing"
	"time"

	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/profiles/store"
)

func TestDiskOutlook(t *testing.T) {
	hours := func(from, to int64) catalog.Dataset {
		return catalog.Dataset{MinStart: 1e12 + from*3600_000, MaxEnd: 1e12 + to*3600_000}
	}
	for _, tt := range []struct {
		name   string
		blocks []catalog.Block
		want   string
	}{
		{"empty", nil, "0 B stored, about 20.2 MB a day expected for each process (estimated: 28800 profiles of 700 bytes)"},
		{"too short", []catalog.Block{{Size: 5000, Datasets: []catalog.Dataset{hours(0, 0)}}},
			"5 kB stored, about 20.2 MB a day expected for each process (estimated: 28800 profiles of 700 bytes)"},
		{"measured", []catalog.Block{{Size: 10_000_000, Datasets: []catalog.Dataset{hours(2, 12), hours(0, 3)}}, {Size: 2_000_000, Datasets: []catalog.Dataset{hours(11, 36)}}},
			"12 MB stored, about 8 MB a day expected (measured over the last 1d12h)"},
	} {
		if got := diskOutlook(tt.blocks); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestRetentionText(t *testing.T) {
	dur := func(d time.Duration) *Duration { x := Duration(d); return &x }
	for _, tt := range []struct {
		age   time.Duration
		size  Size
		rules []RetentionRule
		want  string
	}{
		{7 * 24 * time.Hour, 10e9, nil, "kept: the last 7d, sums by the minute of 30d, sums by the hour of 400d, at most 10GB"},
		{0, 10e9, nil, "kept: everything, at most 10GB"},
		{36 * time.Hour, 0, []RetentionRule{{Minutes: dur(0), Hours: dur(0)}}, "kept: the last 1d12h"},
		{60 * 24 * time.Hour, 0, []RetentionRule{{Service: "cart", Raw: dur(time.Hour)}}, "kept: the last 60d, sums by the hour of 400d, with 1 rules for some services"},
		{0, 0, nil, "everything is kept: retention_age and retention_size are 0"},
	} {
		if got := retentionText(&Config{RetentionAge: Duration(tt.age), RetentionSize: tt.size, RetentionRules: tt.rules}); got != tt.want {
			t.Errorf("%v %v: %q, want %q", tt.age, tt.size, got, tt.want)
		}
	}
}

func TestRetentionRules(t *testing.T) {
	c := DefaultConfig()
	if err := c.parseFileForTest("retention_rules:\n- service: checkout\n  raw: 30d\n- service: '{service_name=~\"batch-.*\"}'\n  raw: 1d\n  hours: 0\n  size: 500MB\n- minutes: 60d\n"); err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	def, rules, err := c.retention()
	if err != nil {
		t.Fatal(err)
	}
	const day = 24 * time.Hour
	if want := (store.Retention{Raw: 7 * day, Minutes: 60 * day, Hours: 400 * day}); def != want {
		t.Errorf("default is %+v, want %+v", def, want)
	}
	if len(rules) != 2 || rules[0].Retention != (store.Retention{Raw: 30 * day, Minutes: 60 * day, Hours: 400 * day}) || rules[1].Retention != (store.Retention{Raw: day, Minutes: 60 * day, Bytes: 500e6}) ||
		!rules[1].Services[0].Matches("batch-1") || rules[1].Services[0].Matches("cart") {
		t.Errorf("rules are %+v", rules)
	}
	if got := c.longestRaw(); got != 30*day {
		t.Errorf("pushes may be %v old, want 30d", got)
	}
	for text, want := range map[string]string{
		"retention_rules: [{service: '{pod=\"x\"}'}]": "selects by pod",
		"retention_rules: [{service: '{'}]":           "retention_rules[0]",
		"retention_rules: [{raw: -1h}]":               "-1h",
		"retention_rules: [{}, {raw: 1d}]":            "second without a service",
		"retention_rules: [{rav: 1d}]":                "did you mean \"raw\"",
	} {
		c := DefaultConfig()
		err := c.parseFileForTest(text)
		if err == nil {
			err = c.Validate()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// parseFileForTest reads a configuration file's text.
func (c *Config) parseFileForTest(text string) error {
	c.sources = map[string]Source{}
	return c.parseFile([]byte(text))
}

func TestGrace(t *testing.T) {
	for timeout, want := range map[time.Duration]time.Duration{10 * time.Second: time.Minute, 30 * time.Second: time.Minute, 5 * time.Minute: 10 * time.Minute} {
		if got := (&Config{QueryTimeout: Duration(timeout)}).grace(); got != want {
			t.Errorf("with a query_timeout of %v the grace is %v, want %v", timeout, got, want)
		}
	}
}
