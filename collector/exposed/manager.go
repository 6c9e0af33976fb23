package exposed

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sonde-io/sonde/collector/scrape"
	"github.com/sonde-io/sonde/collector/series"
)

// Source says which targets there are; *scrape.Manager is one.
type Source interface {
	Endpoints() []scrape.Endpoint
}

// Config configures a Manager. Source and Series are required.
type Config struct {
	Source Source
	Series series.Appender
	// Keep are regular expressions (RE2) of whole names: the metrics that are kept; nil: DefaultKeep.
	Keep       []string
	Own        *Own          // nil: this program is no target
	Every      time.Duration // between two looks at a target; 0: 15 s
	MaxBody    int64         // bytes of one answer; 0: 8 MiB
	MaxSamples int           // of one answer, once what is not kept is left out; 0: 5,000
	Logger     *slog.Logger  // nil: discard
	Registerer prometheus.Registerer
}

// DefaultKeep are the metrics of the runtime, of the process, and of the handler that serves them.
var DefaultKeep = []string{"go_.*", "process_.*", "promhttp_.*"}

// keepOf makes one expression of those of Config.Keep.
func keepOf(patterns []string) (*regexp.Regexp, error) {
	for _, p := range patterns {
		if _, err := regexp.Compile(p); err != nil || p == "" {
			return nil, fmt.Errorf("%q is no regular expression of names, such as go_.*: %w", p, cmp.Or(err, errors.New("it is empty")))
		}
	}
	return regexp.Compile("^(?:(?:" + strings.Join(patterns, ")|(?:") + "))$")
}

const (
	slots       = 4               // targets that are asked at the same time
	retryAbsent = 5 * time.Minute // until a target that has no metrics is asked again
	flushAfter  = time.Second     // batches are handed on together
	flushAt     = 64
)

// Manager asks targets for their metrics.
type Manager struct {
	cfg     Config
	keep    *regexp.Regexp
	metrics metrics

	mu     sync.Mutex
	states map[string]*state // by instance
	kept   map[string]bool   // names that were looked up; cleared when it grows

	failing bool // the appender is; of who hands on alone
}

// state is what is known of one target.
type state struct {
	url    string
	absent time.Time       // not to be asked before; zero: it has metrics, or was not asked yet
	given  map[string]bool // names of process_* that it gave the last time
	until  time.Time       // when that is too long ago
	err    string          // of the last try
	busy   bool
}

type metrics struct {
	scrapes *prometheus.CounterVec
	samples *prometheus.CounterVec
	left    prometheus.Counter
	limits  *prometheus.CounterVec
}

// New returns a Manager, which asks nobody until Run.
func New(cfg Config) (*Manager, error) {
	if cfg.Keep == nil {
		cfg.Keep = DefaultKeep
	}
	keep, err := keepOf(cfg.Keep)
	if err != nil {
		return nil, fmt.Errorf("gather exposed metrics: keep: %w", err)
	}
	if cfg.Every <= 0 {
		cfg.Every = 15 * time.Second
	}
	if cfg.MaxBody <= 0 {
		cfg.MaxBody = 8 << 20
	}
	if cfg.MaxSamples <= 0 {
		cfg.MaxSamples = 5000
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	m := &Manager{cfg: cfg, keep: keep, states: map[string]*state{}, kept: map[string]bool{}}
	counter := func(name, help string, ls ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, ls)
	}
	m.metrics = metrics{
		scrapes: counter("sonde_exposed_scrapes_total", "Requests for the metrics of targets, by result; absent: it has none; busy: its gops agent takes a profile.", "kind", "result"),
		samples: counter("sonde_exposed_samples_total", "Samples of metrics of targets, by what became of them; lost: they could not be kept.", "result"),
		left:    prometheus.NewCounter(prometheus.CounterOpts{Name: "sonde_exposed_left_out_total", Help: "Series left out because their labels pass a limit, or their histogram is none."}),
		limits:  counter("sonde_exposed_limits_total", "Answers refused, by the limit that they passed.", "limit"),
	}
	if cfg.Registerer != nil {
		cfg.Registerer.MustRegister(m.metrics.scrapes, m.metrics.samples, m.metrics.left, m.metrics.limits)
	}
	return m, nil
}

// Given reports whether a process gives the metric of that name itself: procstat.Config.Given.
func (m *Manager) Given(instance, name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.states[instance]
	return s != nil && s.given[name] && time.Now().Before(s.until)
}

// Run asks all targets, spread over the period, until ctx ends.
func (m *Manager) Run(ctx context.Context) error {
	batches := make(chan series.Batch)
	var gathering, handing sync.WaitGroup
	handing.Go(func() { m.handOn(context.WithoutCancel(ctx), batches) })
	if m.cfg.Own != nil {
		gathering.Go(func() { m.gatherOwn(ctx, batches) })
	}
	free := make(chan struct{}, slots)
	for ctx.Err() == nil {
		began := time.Now()
		for _, e := range m.round() {
			if !sleep(ctx, time.Until(began.Add(offset(e.Instance, m.cfg.Every)))) {
				break
			}
			free <- struct{}{} // a request has a deadline
			gathering.Go(func() {
				defer func() { <-free }()
				if b, ok := m.gather(ctx, &e); ok {
					batches <- b
				}
			})
		}
		sleep(ctx, time.Until(began.Add(m.cfg.Every)))
	}
	gathering.Wait()
	close(batches)
	handing.Wait()
	return nil
}

// round returns the targets in the order in which they are asked, and forgets those that are gone.
func (m *Manager) round() []scrape.Endpoint {
	es := m.cfg.Source.Endpoints()
	slices.SortFunc(es, func(a, b scrape.Endpoint) int {
		if d := offset(a.Instance, m.cfg.Every) - offset(b.Instance, m.cfg.Every); d != 0 {
			return int(d)
		}
		return strings.Compare(a.Instance, b.Instance)
	})
	m.mu.Lock()
	defer m.mu.Unlock()
	next := make(map[string]*state, len(es))
	if m.cfg.Own != nil {
		if id := m.cfg.Own.Process().Get("service_instance_id"); m.states[id] != nil {
			next[id] = m.states[id]
		}
	}
	for _, e := range es {
		s := m.states[e.Instance]
		if s == nil || s.url != e.Metrics {
			s = &state{url: e.Metrics}
		}
		next[e.Instance] = s
	}
	m.states = next
	return es
}

// offset is when in each period a target is asked: always at the same place, and not all at once.
func offset(instance string, every time.Duration) time.Duration {
	h := fnv.New64a()
	h.Write([]byte(instance))
	return time.Duration(h.Sum64() % uint64(every))
}

// gather asks one target. Its errors are counted, and logged when they are new.
func (m *Manager) gather(ctx context.Context, e *scrape.Endpoint) (series.Batch, bool) {
	m.mu.Lock()
	s := m.states[e.Instance]
	skip := s == nil || s.busy || time.Now().Before(s.absent)
	if !skip {
		s.busy = true
	}
	m.mu.Unlock()
	if skip {
		return series.Batch{}, false
	}
	kind, ask := "http", m.scrape
	if e.Metrics == "" {
		kind, ask = "gops", m.gops
	}
	b, err := ask(ctx, e)
	m.mu.Lock()
	defer m.mu.Unlock()
	s.busy = false
	result, text := "ok", ""
	switch limit, _ := errors.AsType[*limitError](err); {
	case err == nil:
	case errors.Is(err, scrape.ErrBusy):
		result = "busy"
	case errors.Is(err, scrape.ErrNotServed), errors.Is(err, errNoMetrics):
		result, s.absent = "absent", time.Now().Add(retryAbsent)
	case ctx.Err() != nil:
		return series.Batch{}, false
	default:
		if result, text = "failed", err.Error(); limit != nil {
			m.metrics.limits.WithLabelValues(limit.limit).Inc()
		}
		if text != s.err {
			m.cfg.Logger.Info("cannot read the metrics of a target", "instance", e.Instance, "service", e.Labels.Get("service_name"), "url", redacted(e.Metrics), "error", err)
		}
	}
	s.err = text
	m.metrics.scrapes.WithLabelValues(kind, result).Inc()
	if err != nil {
		return series.Batch{}, false
	}
	s.given = givenBy(b)
	s.until = time.Now().Add(3 * m.cfg.Every)
	return b, len(b.Samples) > 0
}

// givenBy are the names of a batch that /proc has too.
func givenBy(b series.Batch) map[string]bool {
	given := map[string]bool{}
	for _, s := range b.Samples {
		if name := s.Labels.Get("__name__"); strings.HasPrefix(name, "process_") {
			given[name] = true
		}
	}
	return given
}

// scrape asks for metrics over HTTP.
func (m *Manager) scrape(ctx context.Context, e *scrape.Endpoint) (series.Batch, error) {
	at := time.Now()
	body, contentType, err := e.Get(ctx, accept, m.cfg.MaxBody)
	if err != nil {
		return series.Batch{}, err
	}
	f, err := formOf(contentType)
	if err != nil {
		return series.Batch{}, err
	}
	families, err := decode(body, f, m.keeps)
	if err != nil {
		return series.Batch{}, fmt.Errorf("read metrics: %w", err)
	}
	b, left, err := convert(families, e.Labels, at.UnixMilli(), m.cfg.MaxSamples)
	m.metrics.left.Add(float64(left))
	return b, err
}

// gops asks a gops agent. What it answers to memstats stops the program for some microseconds, as runtime.ReadMemStats does.
func (m *Manager) gops(ctx context.Context, e *scrape.Endpoint) (series.Batch, error) {
	t := time.Now().UnixMilli()
	b := series.Batch{Process: e.Labels}
	for _, what := range []string{"memstats", "stats"} {
		text, err := e.Gops(ctx, what)
		if err == nil {
			b.Samples, err = gopsSamples(b.Samples, text, t)
		}
		if err != nil {
			return series.Batch{}, err
		}
	}
	if e.GoVersion != "" {
		b.Samples = append(b.Samples, series.Sample{Labels: named("go_info", "version", e.GoVersion), T: t, V: 1})
	}
	b.Samples = slices.DeleteFunc(b.Samples, func(s series.Sample) bool { return !m.keeps([]byte(s.Labels.Get("__name__"))) })
	return b, nil
}

// maxKept bounds the names that are remembered.
const maxKept = 4096

// keeps reports whether metrics of that name are kept.
func (m *Manager) keeps(name []byte) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	keep, ok := m.kept[string(name)]
	if ok {
		return keep
	}
	keep = m.keep.Match(name)
	if len(m.kept) >= maxKept {
		clear(m.kept)
	}
	if len(name) <= maxLabelBytes {
		m.kept[string(name)] = keep
	}
	return keep
}

// handOn hands batches on, several at a time, until there are no more.
func (m *Manager) handOn(ctx context.Context, in <-chan series.Batch) {
	var have []series.Batch
	var due <-chan time.Time
	flush := func() {
		if len(have) > 0 {
			m.append(ctx, have)
		}
		have, due = have[:0], nil
	}
	for {
		select {
		case b, ok := <-in:
			if !ok {
				flush()
				return
			}
			if have = append(have, b); len(have) == 1 {
				due = time.After(flushAfter)
			}
			if len(have) >= flushAt {
				flush()
			}
		case <-due:
			flush()
		}
	}
}

// appendTimeout bounds one attempt to keep batches.
const appendTimeout = 10 * time.Second

func (m *Manager) append(ctx context.Context, bs []series.Batch) {
	ctx, cancel := context.WithTimeout(ctx, appendTimeout)
	defer cancel()
	n := 0
	for _, b := range bs {
		n += len(b.Samples)
	}
	if err := m.cfg.Series.AppendSeries(ctx, bs...); err != nil {
		m.metrics.samples.WithLabelValues("lost").Add(float64(n))
		if !m.failing {
			m.cfg.Logger.Warn("cannot keep the metrics of targets; this is said once until it works again", "error", err)
		}
		m.failing = true
		return
	}
	m.failing = false
	m.metrics.samples.WithLabelValues("kept").Add(float64(n))
}

// sleep waits and reports whether ctx is still alive.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(max(d, 0))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return ctx.Err() == nil
	}
}
