package collector

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/collector/capture"
	"github.com/sonde-io/sonde/collector/rotate"
)

func TestRules(t *testing.T) {
	clock := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	soon := clock.Add(time.Minute)
	off := false
	r := &agentSettings{now: func() time.Time { return clock }}
	cart := labels.FromStrings("service_name", "cart", "service_version", "v1")
	if r.settings(cart) != nil {
		t.Error("settings without rules")
	}
	if err := r.set(&Config{Captures: Captures{Disabled: true}}); err != nil || r.settings(cart) != nil {
		t.Errorf("settings where nothing is asked for: %v, %v", r.settings(cart), err)
	}
	err := r.set(&Config{AgentRules: []AgentRule{
		{Selector: `{service_name="cart",service_version="v2"}`, CPURate: 1},
		{Selector: `{service_name="cart"}`, Enabled: &off, Period: Duration(time.Minute), Until: &soon},
		{Selector: `{}`, CPURate: 19},
	}})
	if err != nil {
		t.Fatal(err)
	}
	s := r.settings(cart)
	if s == nil || s.Enabled == nil || *s.Enabled || s.PeriodMs != 60000 || s.Until != soon.UnixMilli() || s.Rev == "" {
		t.Fatalf("cart: %+v", s)
	}
	if other := r.settings(labels.FromStrings("service_name", "web")); other == nil || other.CPURate != 19 || other.Rev == s.Rev {
		t.Errorf("web: %+v", other)
	}
	clock = soon
	if s := r.settings(cart); s == nil || s.CPURate != 19 {
		t.Errorf("cart after the rule's end: %+v, want the next rule", s)
	}
	if err := r.set(&Config{AgentRules: []AgentRule{{Selector: `{`}}}); err == nil {
		t.Error("a broken selector was taken")
	}
	if r.settings(cart) == nil {
		t.Error("the rules in force are gone")
	}
}

func TestRulesOfTurnsAndTriggers(t *testing.T) {
	r := &agentSettings{now: time.Now, fleet: rotate.New(rotate.Config{})}
	r.fleet.Set(map[string]int{"edge": 400, "cart": 400})
	err := r.set(&Config{
		AgentRules: []AgentRule{{Selector: `{service_name="edge"}`, Replicas: 7}},
		Triggers:   []Trigger{{Name: "jump", Selector: `{service_name="edge"}`, Metric: "cpu", Jump: 3, For: Duration(30 * time.Second), Take: []string{"cpu"}}, {Name: "all", Metric: "memory", Above: 0.8, Take: []string{"heap"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	edge, cart := labels.FromStrings("service_name", "edge"), labels.FromStrings("service_name", "cart")
	s := r.settings(edge)
	if s.Rotate == nil || s.Rotate.Groups != 58 || s.Captures == nil || !s.Captures.Poll {
		t.Errorf("edge: %+v, want turns in 58 groups and an offer of captures", s)
	}
	var rules []capture.Rule
	if err := json.Unmarshal(s.Triggers, &rules); err != nil || len(rules) != 2 || rules[0].Jump != 3 || rules[0].ForMs != 30_000 || rules[1].Name != "all" {
		t.Errorf("edge's triggers %s: %v", s.Triggers, err)
	}
	if other := r.settings(cart); other.Rotate != nil || other.Rev == s.Rev || strings.Contains(string(other.Triggers), "jump") || !strings.Contains(string(other.Triggers), "all") {
		t.Errorf("cart: %+v, %s", other, other.Triggers)
	}
	if again := r.settings(edge); again.Rev != s.Rev {
		t.Errorf("the same settings have the revisions %s and %s", s.Rev, again.Rev)
	}
	if r.turns(edge) == nil || r.turns(cart) != nil {
		t.Errorf("turns of what is gathered here: %v, %v", r.turns(edge), r.turns(cart))
	}
}
