package rules

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/notifier"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	promrules "github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/storage"

	"github.com/sonde-io/sonde/collector/series"
)

// Config configures a Manager. Engine, Queryable, Appendable and Series are required, Profiles where there are profile series.
type Config struct {
	Settings   Settings
	Engine     promql.QueryEngine // evaluates rules
	Queryable  storage.Queryable  // what they read
	Appendable storage.Appendable // takes what recording rules give, and ALERTS
	Series     series.Appender    // takes profile series
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
	profiles []*compiled
	rules    *promrules.Manager
	notifier *notifier.Manager
	targets  map[string][]*targetgroup.Group
	files    []string
	cancel   context.CancelFunc // of what rules evaluate
}

// New checks the settings, reads the rule files, and returns a Manager that Run starts.
func New(cfg Config) (*Manager, error) {
	if err := cfg.Settings.Validate(); err != nil {
		return nil, fmt.Errorf("rules: %w", err)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = defaultTimeout
	}
	s := &cfg.Settings
	m := &Manager{cfg: cfg, log: cfg.Log, metrics: newMetrics(cfg.Registerer)}
	var err error
	if m.profiles, err = compileAll(s.ProfileSeries); err != nil {
		return nil, fmt.Errorf("rules: %w", err)
	}
	if len(m.profiles) > 0 && cfg.Profiles == nil {
		return nil, errors.New("rules: profile_series: there are no profiles here to make series of")
	}
	alerting, targets, err := s.alerting()
	if err != nil {
		return nil, fmt.Errorf("rules: %w", err)
	}
	m.targets = targets
	m.notifier = notifier.NewManager(&notifier.Options{QueueCapacity: queueCapacity, DrainOnShutdown: true, Registerer: cfg.Registerer}, model.UTF8Validation, m.log)
	if err := m.notifier.ApplyConfig(alerting); err != nil {
		return nil, fmt.Errorf("rules: alertmanagers: %w", err)
	}
	external, err := url.Parse(s.ExternalURL)
	if err != nil {
		return nil, fmt.Errorf("rules: external_url: %w", err)
	}
	var ctx context.Context
	ctx, m.cancel = context.WithCancel(context.Background())
	m.rules = promrules.NewManager(&promrules.ManagerOptions{
		NameValidationScheme: model.UTF8Validation, ExternalURL: external, Context: ctx,
		QueryFunc: promrules.EngineQueryFunc(cfg.Engine, cfg.Queryable), NotifyFunc: m.notify,
		Appendable: cfg.Appendable, Queryable: cfg.Queryable, Logger: m.log, Registerer: cfg.Registerer,
		OutageTolerance: outageTolerance, ForGracePeriod: forGracePeriod, ResendDelay: resendDelay, GroupLoader: loader{s},
	})
	if m.files, err = s.files(); err != nil {
		m.cancel()
		return nil, fmt.Errorf("rules: %w", err)
	}
	for _, file := range m.sources() {
		if _, errs := (loader{s}).Load(file, false, model.UTF8Validation); len(errs) > 0 {
			m.cancel()
			return nil, fmt.Errorf("rules: %w", errors.Join(errs...))
		}
	}
	return m, nil
}

// notify queues alerts for the Alertmanagers. Their link asks for what the rule asked.
func (m *Manager) notify(_ context.Context, expr string, alerts ...*promrules.Alert) {
	link := ""
	if base := m.cfg.Settings.ExternalURL; base != "" {
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

// sources are the names of what holds groups.
func (m *Manager) sources() []string {
	if len(m.cfg.Settings.Groups) == 0 {
		return m.files
	}
	return append([]string{inConfig}, m.files...)
}

// loader reads rule files, and the configuration as one.
type loader struct{ settings *Settings }

func (l loader) Load(name string, ignoreUnknown bool, scheme model.ValidationScheme) (*rulefmt.RuleGroups, []error) {
	if name == inConfig {
		return parseGroups(l.settings.Groups)
	}
	return rulefmt.ParseFile(name, ignoreUnknown, scheme, parser.NewParser(parser.Options{}), promslog.NewNopLogger())
}

func (loader) Parse(query string) (parser.Expr, error) {
	return parser.NewParser(parser.Options{}).ParseExpr(query)
}

// Run evaluates and notifies until ctx ends. What is queued for Alertmanagers is sent before it returns.
func (m *Manager) Run(ctx context.Context) error {
	defer m.cancel()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := &m.cfg.Settings
	var wg sync.WaitGroup
	found := make(chan map[string][]*targetgroup.Group, 1)
	found <- m.targets
	wg.Go(func() { m.notifier.Run(found) })
	wg.Go(func() { m.recordProfiles(ctx) })
	m.awaitTargets(ctx)
	wg.Go(m.rules.Run)
	err := m.rules.Update(s.interval(), m.sources(), s.externalLabels(), s.ExternalURL, nil)
	if err == nil {
		<-ctx.Done()
	} else {
		err = fmt.Errorf("put rules in force: %w", err)
	}
	cancel()
	m.rules.Stop()
	m.notifier.Stop()
	wg.Wait()
	return err
}

// awaitTargets waits until the notifier knows where alerts go: what is sent before would be lost until it is sent again.
func (m *Manager) awaitTargets(ctx context.Context) {
	for len(m.targets) > 0 && len(m.notifier.Alertmanagers())+len(m.notifier.DroppedAlertmanagers()) == 0 && sleepUntil(ctx, time.Now().Add(time.Millisecond)) {
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
