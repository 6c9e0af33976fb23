package rules

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/notifier"
	"github.com/prometheus/prometheus/promql/parser"
	promrules "github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/storage"

	"github.com/sonde-io/sonde/collector/series"
)

// Config configures a Manager. Query, Queryable, Appendable and Series are required, Profiles where there are profile series.
type Config struct {
	Settings   Settings
	Query      promrules.QueryFunc // evaluates a rule's expression: here, or over what a server has
	Queryable  storage.Queryable   // for how long alerts were pending before a restart: here, where Appendable keeps ALERTS_FOR_STATE
	Appendable storage.Appendable  // takes what recording rules give, ALERTS and ALERTS_FOR_STATE
	Series     series.Appender     // takes profile series
	Profiles   Profiles
	Timeout    time.Duration         // of the evaluation of one profile series; 0: 30s
	Log        *slog.Logger          // nil: none
	Registerer prometheus.Registerer // nil: no metrics
}

// The times of alerting, Prometheus' defaults.
const (
	outageTolerance = time.Hour
	forGracePeriod  = 10 * time.Minute
	resendDelay     = time.Minute
	queueCapacity   = 10_000
	defaultTimeout  = 30 * time.Second
)

// Manager evaluates rules and sends alerts.
type Manager struct {
	cfg      Config
	log      *slog.Logger
	metrics  *metrics
	started  time.Time
	state    atomic.Pointer[state]
	changed  chan struct{} // holds one where state is not yet in force
	rules    *promrules.Manager
	notifier *notifier.Manager
	cancel   context.CancelFunc // of what rules evaluate
}

// state is what settings come to.
type state struct {
	settings Settings
	profiles []*compiled
	alerting *config.Config
	targets  map[string][]*targetgroup.Group // of alerting
	sources  []string                        // rule files, and inConfig
}

// newState checks settings and reads the rule files.
func newState(s Settings, p Profiles) (*state, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	st := &state{settings: s}
	var err error
	if st.profiles, err = compileAll(s.ProfileSeries); err != nil {
		return nil, err
	}
	if len(st.profiles) > 0 && p == nil {
		return nil, errors.New("profile_series: there are no profiles here to make series of")
	}
	if st.alerting, st.targets, err = s.alerting(); err != nil {
		return nil, err
	}
	if st.sources, err = s.files(); err != nil {
		return nil, err
	}
	if len(s.Groups) > 0 {
		st.sources = append(st.sources, inConfig)
	}
	for _, name := range st.sources {
		if _, errs := st.load(name, false, model.UTF8Validation); len(errs) > 0 {
			return nil, errors.Join(errs...)
		}
	}
	return st, nil
}

// New checks the settings, reads the rule files, and returns a Manager that Run starts.
func New(cfg Config) (*Manager, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = defaultTimeout
	}
	st, err := newState(cfg.Settings, cfg.Profiles)
	if err != nil {
		return nil, fmt.Errorf("rules: %w", err)
	}
	m := &Manager{cfg: cfg, log: cfg.Log, metrics: newMetrics(cfg.Registerer), started: time.Now(), changed: make(chan struct{}, 1)}
	m.state.Store(st)
	m.notifier = notifier.NewManager(&notifier.Options{QueueCapacity: queueCapacity, DrainOnShutdown: true, Registerer: cfg.Registerer}, model.UTF8Validation, m.log)
	if err := m.notifier.ApplyConfig(st.alerting); err != nil {
		return nil, fmt.Errorf("rules: alertmanagers: %w", err)
	}
	external, err := url.Parse(cfg.Settings.ExternalURL)
	if err != nil {
		return nil, fmt.Errorf("rules: external_url: %w", err)
	}
	var ctx context.Context
	ctx, m.cancel = context.WithCancel(context.Background())
	m.rules = promrules.NewManager(&promrules.ManagerOptions{
		NameValidationScheme: model.UTF8Validation, ExternalURL: external, Context: ctx,
		QueryFunc: cfg.Query, NotifyFunc: m.notify,
		Appendable: cfg.Appendable, Queryable: cfg.Queryable, Logger: m.log, Registerer: cfg.Registerer,
		OutageTolerance: outageTolerance, ForGracePeriod: forGracePeriod, ResendDelay: resendDelay, GroupLoader: loader{m},
	})
	return m, nil
}

// Reload puts other settings in force while Run runs. Settings that are wrong change nothing. Alerts that are active stay so where their group and rule do.
func (m *Manager) Reload(s Settings) error {
	st, err := newState(s, m.cfg.Profiles)
	if err != nil {
		return fmt.Errorf("rules: %w", err)
	}
	m.state.Store(st)
	select {
	case m.changed <- struct{}{}:
	default: // one that was not yet looked at
	}
	return nil
}

// notify queues alerts for the Alertmanagers. Their link asks for what the rule asked.
func (m *Manager) notify(_ context.Context, expr string, alerts ...*promrules.Alert) {
	link := ""
	if base := m.state.Load().settings.ExternalURL; base != "" {
		link = strings.TrimSuffix(base, "/") + "/prometheus/api/v1/query?query=" + url.QueryEscape(expr)
	}
	for _, a := range alerts {
		ends := a.ResolvedAt
		if ends.IsZero() {
			ends = a.ValidUntil
		}
		m.notifier.Send(&notifier.Alert{StartsAt: a.FiredAt, EndsAt: ends, Labels: a.Labels, Annotations: a.Annotations, GeneratorURL: link})
	}
}

// inConfig is the name of the groups in the configuration file, as if that were a rule file.
const inConfig = "config"

// load reads a source of rules.
func (st *state) load(name string, ignoreUnknown bool, scheme model.ValidationScheme) (*rulefmt.RuleGroups, []error) {
	if name == inConfig {
		return parseGroups(st.settings.Groups)
	}
	return rulefmt.ParseFile(name, ignoreUnknown, scheme, parser.NewParser(parser.Options{}), promslog.NewNopLogger())
}

// loader reads rule files, and the configuration as one.
type loader struct{ m *Manager }

func (l loader) Load(name string, ignoreUnknown bool, scheme model.ValidationScheme) (*rulefmt.RuleGroups, []error) {
	return l.m.state.Load().load(name, ignoreUnknown, scheme)
}

func (loader) Parse(query string) (parser.Expr, error) {
	return parser.NewParser(parser.Options{}).ParseExpr(query)
}

// Run evaluates and notifies until ctx ends. What is queued for Alertmanagers is sent before it returns.
func (m *Manager) Run(ctx context.Context) error {
	defer m.cancel()
	var wg sync.WaitGroup
	found := make(chan map[string][]*targetgroup.Group, 1)
	wg.Go(func() { m.notifier.Run(found) })
	started := false
	for ctx.Err() == nil {
		st := m.state.Load()
		if err := m.putInForce(ctx, st, found); err != nil {
			// What was in force is so still: newState had read the same files.
			m.log.Error("cannot put rules in force", "error", err)
		}
		if !started {
			started = true
			wg.Go(m.rules.Run)
		}
		m.recordUntilChange(ctx, st)
	}
	m.rules.Stop()
	m.notifier.Stop()
	wg.Wait()
	return nil
}

// putInForce tells Prometheus' managers what st says.
func (m *Manager) putInForce(ctx context.Context, st *state, found chan<- map[string][]*targetgroup.Group) error {
	if err := m.notifier.ApplyConfig(st.alerting); err != nil {
		return fmt.Errorf("alertmanagers: %w", err)
	}
	select {
	case found <- st.targets:
	case <-ctx.Done():
		return nil
	}
	// An alert that is sent before the notifier knows where to would be lost until it is sent again.
	for len(st.targets) > 0 && len(m.notifier.Alertmanagers())+len(m.notifier.DroppedAlertmanagers()) == 0 && sleepUntil(ctx, time.Now().Add(time.Millisecond)) {
	}
	return m.rules.Update(st.settings.interval(), st.sources, st.settings.externalLabels(), st.settings.ExternalURL, nil)
}

// recordUntilChange records the profile series of st until there are other settings, or ctx ends.
func (m *Manager) recordUntilChange(ctx context.Context, st *state) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { m.recordProfiles(ctx, st.profiles) })
	select {
	case <-ctx.Done():
	case <-m.changed:
		cancel()
	}
}

// RuleGroups returns the groups in force, for Prometheus' API.
func (m *Manager) RuleGroups() []*promrules.Group { return m.rules.RuleGroups() }

// AlertingRules returns the alerting rules in force, for Prometheus' API.
func (m *Manager) AlertingRules() []*promrules.AlertingRule { return m.rules.AlertingRules() }

// Alertmanagers returns where alerts go, for Prometheus' API.
func (m *Manager) Alertmanagers() []*url.URL { return m.notifier.Alertmanagers() }

// DroppedAlertmanagers returns what relabelling left out of them, for Prometheus' API.
func (m *Manager) DroppedAlertmanagers() []*url.URL { return m.notifier.DroppedAlertmanagers() }
