package rules

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	promrules "github.com/prometheus/prometheus/rules"

	"github.com/sonde-io/sonde/profiles/store"
)

func contextOf(t testing.TB) (context.Context, context.CancelFunc) {
	return context.WithCancel(t.Context())
}

// servicesOnly is a store that knows of one service, heard of once.
type servicesOnly struct {
	Profiles
	since time.Time
}

func (s servicesOnly) Services(context.Context, int64, int64) ([]store.ServiceInfo, error) {
	return []store.ServiceInfo{{Name: "cart", MaxEnd: s.since.UnixMilli()}}, nil
}

// posted is an alert as it comes to an Alertmanager.
type posted struct {
	Labels       map[string]string `json:"labels"`
	Annotations  map[string]string `json:"annotations"`
	StartsAt     time.Time         `json:"startsAt"`
	EndsAt       time.Time         `json:"endsAt"`
	GeneratorURL string            `json:"generatorURL"`
}

// alertmanager takes alerts over HTTP as an Alertmanager does.
type alertmanager struct {
	address string
	mu      sync.Mutex
	alerts  []posted
}

func newAlertmanager(t testing.TB) *alertmanager {
	am := &alertmanager{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var all []posted
		if r.Method != http.MethodPost || r.URL.Path != "/am/api/v2/alerts" || r.Header.Get("Authorization") != "Bearer s3cret" || json.NewDecoder(r.Body).Decode(&all) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		am.mu.Lock()
		defer am.mu.Unlock()
		am.alerts = append(am.alerts, all...)
	}))
	t.Cleanup(srv.Close)
	am.address = strings.TrimPrefix(srv.URL, "http://")
	return am
}

// patience is how long what comes within a second may take on a machine that does much else.
const patience = 3 * time.Minute

// await returns the first alert of a name that came and is as it should be.
func (am *alertmanager) await(t testing.TB, name string, is func(posted) bool) posted {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		am.mu.Lock()
		at := slices.IndexFunc(am.alerts, func(a posted) bool { return a.Labels["alertname"] == name && is(a) })
		if at >= 0 {
			defer am.mu.Unlock()
			return am.alerts[at]
		}
		am.mu.Unlock()
	}
	t.Fatalf("no alert %s came as it should be", name)
	return posted{}
}

func firing(a posted) bool { return a.EndsAt.After(time.Now()) }

func resolved(a posted) bool { return !firing(a) }

// TestAlerts: a rule of the configuration file and one of a rule file fire, an Alertmanager hears of it, and of the end; a recording rule records; the rules are listed.
func TestAlerts(t *testing.T) {
	db := newDatabase(t)
	am := newAlertmanager(t)
	file := filepath.Join(t.TempDir(), "more.yml")
	must(t, os.WriteFile(file, []byte("groups: [{name: more, interval: 100ms, rules: [{alert: Filed, expr: 'vector(1)'}]}]"), 0o600))
	s := settings(t, fmt.Sprintf(`
groups:
- name: cart
  interval: 100ms
  rules:
  - {record: 'cart:errors:double', expr: cart_errors * 2}
  - alert: CartErrors
    expr: cart:errors:double > 6
    labels: {severity: page}
    annotations: {summary: '{{ $labels.service_name }} has {{ $value }}'}
files: [%q]
alertmanagers:
- static_configs: [{targets: [%q]}]
  path_prefix: /am
  authorization: {credentials: s3cret}
external_labels: {cluster: blue}
external_url: https://sonde.example/
`, filepath.Join(filepath.Dir(file), "*.yml"), am.address))
	m, err := New(Config{Settings: s, Query: promrules.EngineQueryFunc(db.engine, db), Queryable: db, Appendable: db, Series: db, Registerer: prometheus.NewPedanticRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	db.set(t, 5, "__name__", "cart_errors", "service_name", "cart")
	ctx, cancel := contextOf(t)
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()

	a := am.await(t, "CartErrors", firing)
	if a.Labels["severity"] != "page" || a.Labels["cluster"] != "blue" || a.Labels["service_name"] != "cart" || a.Annotations["summary"] != "cart has 10" ||
		a.GeneratorURL != "https://sonde.example/prometheus/api/v1/query?query=cart%3Aerrors%3Adouble+%3E+6" {
		t.Errorf("the Alertmanager got %+v", a)
	}
	am.await(t, "Filed", firing)
	if got := db.query(t, "cart:errors:double"); len(got) != 1 || got[0].F != 10 {
		t.Errorf("the recording rule gave %v", got)
	}
	for deadline := time.Now().Add(patience); len(db.query(t, `ALERTS{alertname="CartErrors",alertstate="firing"}`)) != 1; time.Sleep(10 * time.Millisecond) { // it is kept after the alert was sent
		if time.Now().After(deadline) {
			t.Fatal("the alert fires and is not among ALERTS")
		}
	}
	if g, r, u := m.RuleGroups(), m.AlertingRules(), m.Alertmanagers(); len(g) != 2 || len(r) != 2 || len(u) != 1 || u[0].Host != am.address {
		t.Errorf("listed are groups %v, rules %v, Alertmanagers %v", g, r, u)
	}

	db.set(t, 1, "__name__", "cart_errors", "service_name", "cart")
	am.await(t, "CartErrors", resolved)
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestSilentServicePages: a service of which profiles stop coming becomes an alert.
func TestSilentServicePages(t *testing.T) {
	db := newDatabase(t)
	am := newAlertmanager(t)
	s := settings(t, fmt.Sprintf(`
profile_series: [{record: 'sonde:silent_seconds', stat: silent, every: 10s, delay: 1ms}]
groups: [{name: silent, interval: 100ms, rules: [{alert: ServiceSilent, expr: 'sonde:silent_seconds > 300'}]}]
alertmanagers: [{static_configs: [{targets: [%q]}], path_prefix: /am, authorization: {credentials: s3cret}}]
`, am.address))
	m, err := New(Config{Settings: s, Query: promrules.EngineQueryFunc(db.engine, db), Queryable: db, Appendable: db, Series: db, Profiles: servicesOnly{since: time.Now().Add(-time.Hour)}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := contextOf(t)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	must(t, m.record(ctx, m.state.Load().profiles[0], time.Now())) // the first window ends in up to 10 s
	a := am.await(t, "ServiceSilent", firing)
	if a.Labels["service_name"] != "cart" {
		t.Errorf("the Alertmanager got %+v", a)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestReload: other settings come into force without a restart, and wrong ones do not.
func TestReload(t *testing.T) {
	db := newDatabase(t)
	am := newAlertmanager(t)
	m, err := New(Config{Query: promrules.EngineQueryFunc(db.engine, db), Queryable: db, Appendable: db, Series: db, Registerer: prometheus.NewPedanticRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := contextOf(t)
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	one := func(alert string) Settings {
		return settings(t, fmt.Sprintf(`
groups: [{name: a, interval: 100ms, rules: [{alert: %s, expr: 'vector(1)'}]}]
alertmanagers: [{static_configs: [{targets: [%q]}], path_prefix: /am, authorization: {credentials: s3cret}}]
`, alert, am.address))
	}
	must(t, m.Reload(one("First")))
	am.await(t, "First", firing)
	if err := m.Reload(settings(t, `groups: [{name: a, rules: [{record: x, expr: 'sum('}]}]`)); err == nil {
		t.Error("wrong settings were taken")
	}
	must(t, m.Reload(one("Second")))
	am.await(t, "Second", firing)
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestSettingsRefused(t *testing.T) {
	for text, want := range map[string]string{
		`groups: [{name: a, rules: [{record: x, expr: 'sum('}]}]`:       "groups: group \"a\", rule 1, \"x\": could not parse",
		`groups: [{name: a, rules: [{record: x, alert: y, expr: up}]}]`: "record",
		`groups: [{name: a, rules: []}, {name: a, rules: []}]`:          "repeated",
		`alertmanagers: [{}]`:                                                  "static_configs",
		`alertmanagers: [{dns_sd_configs: [{names: [a]}]}]`:                    "dns_sd_configs",
		`alertmanagers: [{static_configs: [{targets: ["http://a:9093/x"]}]}]`:  "alertmanagers",
		`alertmanagers: [{static_configs: [{targets: [a]}], nonsense: 1}]`:     "nonsense",
		`alertmanagers: [{static_configs: [{targets: [a]}], api_version: v1}]`: "alertmanagers",
		`external_url: sonde`:                                                  "external_url",
		`files: ['']`:                                                          "files[0]",
	} {
		s := settings(t, text)
		if err := s.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", text, err, want)
		}
	}
	for text, want := range map[string]string{`files: [/nonexistent.yml]`: "nonexistent", `profile_series: [{record: x, type: cpu}]`: "profiles"} {
		if _, err := New(Config{Settings: settings(t, text)}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", text, err, want)
		}
	}
}

// TestRuleFileErrors: a rule file that is wrong is named, with the line.
func TestRuleFileErrors(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "bad.yml"), []byte("groups:\n- name: a\n  rules:\n  - {record: x, expr: 'sum('}\n"), 0o600))
	s := settings(t, "files: [bad.yml]")
	s.SetDirectory(dir)
	if _, err := New(Config{Settings: s}); err == nil || !strings.Contains(err.Error(), "bad.yml") || !strings.Contains(err.Error(), "4:") {
		t.Errorf("error %v, want one that names file and line", err)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
