package metrics

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/common/route"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/labels"
	promrules "github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/scrape"
	"github.com/prometheus/prometheus/tsdb"
	apiv1 "github.com/prometheus/prometheus/web/api/v1"

	"github.com/sonde-io/sonde/collector/reply"
)

// Prefix is where Prometheus' API is, as Mimir has it: /api/v1/labels and /api/v1/series are Sonde's own and mean profiles.
const Prefix = "/prometheus"

const (
	apiPrefix     = Prefix + "/api/v1"
	maxQueryBytes = 1 << 20 // of the body of a query
	readFrame     = 1 << 20 // bytes of one frame of an answer of remote-read
)

// queries are the endpoints that answer from what is stored: with query_url they are somebody else's.
var queries = []string{"/query", "/query_range", "/query_exemplars", "/labels", "/label/{name}/values", "/series", "/metadata", "/format_query", "/parse_query", "/status/buildinfo", "/read"}

// own are the endpoints that tell of this collector.
var own = []string{"/rules", "/alerts", "/alertmanagers", "/status/tsdb", "/status/runtimeinfo"}

// Register adds Prometheus' API under /prometheus, for reading: what takes samples is not registered here, its handlers use Appendable or AppendSeries.
func (s *Store) Register(mux *http.ServeMux) error {
	router := route.New().WithPrefix(apiPrefix)
	s.newAPI().Register(router)
	local := limitBody(router)
	answer, federate := s.oneOfMany(local), s.oneOfMany(limitBody(http.HandlerFunc(s.federate)))
	if s.set.QueryURL != "" {
		proxy, err := newProxy(s.set, s.log)
		if err != nil {
			return err
		}
		answer, federate = proxy, proxy
	}
	for _, path := range queries {
		mux.Handle(apiPrefix+path, answer)
	}
	for _, path := range own {
		mux.Handle("GET "+apiPrefix+path, local)
	}
	mux.Handle("GET "+Prefix+"/federate", federate)
	mux.HandleFunc("GET "+Prefix+"/-/ready", healthy)
	mux.HandleFunc("GET "+Prefix+"/-/healthy", healthy)
	mux.HandleFunc(Prefix+"/", func(w http.ResponseWriter, r *http.Request) {
		e := reply.Errorf(http.StatusNotFound, "no such endpoint: %s %.200s", r.Method, r.URL.Path)
		e.Hint = "of Prometheus' API these are here: " + apiPrefix + "{" + strings.Join(slices.Concat(queries, own), ",") + "}, " + Prefix + "/federate"
		reply.Fail(w, e)
	})
	return nil
}

func healthy(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) }

func limitBody(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxQueryBytes)
		if _, tooLarge := errors.AsType[*http.MaxBytesError](r.ParseForm()); tooLarge { // of any other error Prometheus' handlers tell
			reply.Fail(w, reply.Errorf(http.StatusRequestEntityTooLarge, "the form has more than %d bytes (max_query_bytes)", maxQueryBytes))
			return
		}
		h.ServeHTTP(w, r)
	})
}

// RulesRetriever and AlertmanagerRetriever are what the endpoints rules, alerts and alertmanagers show; Prometheus' rules.Manager and notifier.Manager are some.
type (
	RulesRetriever        = apiv1.RulesRetriever
	AlertmanagerRetriever = apiv1.AlertmanagerRetriever
)

type ruleViews struct {
	rules RulesRetriever
	alert AlertmanagerRetriever
}

// ShowRules has /prometheus/api/v1/{rules,alerts,alertmanagers} show these; nil shows none. It may be called while requests are answered.
func (s *Store) ShowRules(r RulesRetriever, a AlertmanagerRetriever) {
	v := &ruleViews{r, a}
	if r == nil {
		v.rules = nothing{}
	}
	if a == nil {
		v.alert = nothing{}
	}
	s.rules.Store(v)
}

// nothing are no rules, no Alertmanagers and no targets.
type nothing struct{}

func (nothing) RuleGroups() []*promrules.Group              { return nil }
func (nothing) AlertingRules() []*promrules.AlertingRule    { return nil }
func (nothing) Alertmanagers() []*url.URL                   { return nil }
func (nothing) DroppedAlertmanagers() []*url.URL            { return nil }
func (nothing) TargetsDropped() map[string][]*scrape.Target { return nil }
func (nothing) TargetsDroppedCounts() map[string]int        { return nil }
func (nothing) ScrapePools() []string                       { return nil }
func (nothing) ScrapePoolConfig(string) (*config.ScrapeConfig, error) {
	return nil, errNoScrapePool
}

// newAPI makes Prometheus' own handlers.
func (s *Store) newAPI() *apiv1.API {
	if s.rules.Load() == nil {
		s.ShowRules(nil, nil)
	}
	known := newKnownTarget(s)
	registerer := s.cfg.Registerer
	if registerer == nil {
		registerer = prometheus.NewRegistry() // its handlers count in it, whatever is wanted
	}
	var gatherer prometheus.Gatherer = prometheus.NewRegistry()
	if r, ok := registerer.(prometheus.Gatherer); ok {
		gatherer = r // status/tsdb counts chunks by what the database says in it
	}
	build := &apiv1.PrometheusVersion{Version: emulated, Revision: cmp.Or(s.cfg.Version, "dev"), Branch: "sonde", BuildUser: "sonde", GoVersion: runtime.Version()}
	return apiv1.NewAPI(newWeighed(s.engine, answersBytes, s.set.MaxQuerySamples), s.db, nil, nil, s.db,
		func(context.Context) apiv1.ScrapePoolsRetriever { return nothing{} },
		func(context.Context) apiv1.TargetRetriever { return known },
		func(context.Context) apiv1.AlertmanagerRetriever { return s.rules.Load().alert },
		func() config.Config { return config.DefaultConfig }, nil, apiv1.GlobalURLOptions{},
		func(h http.HandlerFunc) http.HandlerFunc { return h },
		admin{s.db}, s.cfg.Dir, false, false, 0, s.log,
		func(context.Context) apiv1.RulesRetriever { return s.rules.Load().rules },
		s.set.MaxQuerySamples, s.set.MaxConcurrentQueries, readFrame, false, nil, s.runtimeInfo, build, nil, nil, gatherer, registerer, nil,
		false, nil, false, false, false, false, lookback, false, false, nil, nil, apiv1.OpenAPIOptions{}, s.parser)
}

// emulated is the version of Prometheus whose API this is: Grafana asks for it to know what a server can do.
const emulated = "3.15.0"

var started = time.Now()

func (s *Store) runtimeInfo() (apiv1.RuntimeInfo, error) {
	return apiv1.RuntimeInfo{StartTime: started, ServerTime: time.Now(), ReloadConfigSuccess: true, GoroutineCount: runtime.NumGoroutine(), GOMAXPROCS: runtime.GOMAXPROCS(0),
		StorageRetention: s.set.RetentionAge.String()}, nil
}

// knownTarget is the one target of the API's metadata: what is known of the names that are stored.
type knownTarget struct {
	nothing
	s      *Store
	target *scrape.Target
}

func newKnownTarget(s *Store) *knownTarget {
	k := &knownTarget{s: s, target: scrape.NewTarget(labels.FromStrings(model.JobLabel, "sonde"), &config.ScrapeConfig{}, nil, nil)}
	k.target.SetMetadataStore(k)
	return k
}

// TargetsActive implements apiv1.TargetRetriever.
func (k *knownTarget) TargetsActive() map[string][]*scrape.Target {
	return map[string][]*scrape.Target{"sonde": {k.target}}
}

// ListMetadata implements scrape.MetricMetadataStore.
func (k *knownTarget) ListMetadata() []scrape.MetricMetadata {
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(k.s.set.QueryTimeout))
	defer cancel()
	names, err := k.s.names(ctx)
	if err != nil {
		k.s.log.Error("cannot list the names of metrics", "error", err)
	}
	seen := map[string]bool{}
	out := make([]scrape.MetricMetadata, 0, len(names))
	for _, name := range names {
		m, ok := k.s.meta.get(name)
		if !ok {
			m, ok = k.s.meta.get(family(name))
		}
		if ok && !seen[m.MetricFamily] {
			seen[m.MetricFamily] = true
			out = append(out, m)
		}
	}
	return out
}

// GetMetadata implements scrape.MetricMetadataStore.
func (k *knownTarget) GetMetadata(name string) (scrape.MetricMetadata, bool) {
	return k.s.meta.get(name)
}

// SizeMetadata implements scrape.MetricMetadataStore.
func (k *knownTarget) SizeMetadata() int { return 0 }

// LengthMetadata implements scrape.MetricMetadataStore.
func (k *knownTarget) LengthMetadata() int { return len(k.ListMetadata()) }

// names lists the names of all series that are stored.
func (s *Store) names(ctx context.Context) ([]string, error) {
	q, err := s.db.Querier(earliest, latest())
	if err != nil {
		return nil, err
	}
	defer q.Close()
	names, _, err := q.LabelValues(ctx, model.MetricNameLabel, nil)
	return names, err
}

// admin is what the API asks of a database for its status; nothing can be changed through it.
type admin struct{ db *tsdb.DB }

func (admin) CleanTombstones() error                                         { return errReadOnly }
func (admin) Delete(context.Context, int64, int64, ...*labels.Matcher) error { return errReadOnly }
func (admin) Snapshot(string, bool) error                                    { return errReadOnly }
func (a admin) Stats(label string, limit int) (*tsdb.Stats, error) {
	return a.db.Head().Stats(label, limit), nil
}
func (admin) WALReplayStatus() (tsdb.WALReplayStatus, error) { return tsdb.WALReplayStatus{}, nil }
func (a admin) BlockMetas() ([]tsdb.BlockMeta, error)        { return a.db.BlockMetas(), nil }
