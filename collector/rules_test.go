package collector

import (
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
)

func TestRules(t *testing.T) {
	clock := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	soon := clock.Add(time.Minute)
	off := false
	r := &rules{now: func() time.Time { return clock }}
	cart := labels.FromStrings("service_name", "cart", "service_version", "v1")
	if r.settings(cart) != nil {
		t.Error("settings without rules")
	}
	err := r.set([]AgentRule{
		{Selector: `{service_name="cart",service_version="v2"}`, CPURate: 1},
		{Selector: `{service_name="cart"}`, Enabled: &off, Period: Duration(time.Minute), Until: &soon},
		{Selector: `{}`, CPURate: 19},
	})
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
	if err := r.set([]AgentRule{{Selector: `{`}}); err == nil {
		t.Error("a broken selector was taken")
	}
	if r.settings(cart) == nil {
		t.Error("the rules in force are gone")
	}
}
