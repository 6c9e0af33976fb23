package sd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sonde-io/sonde/collector/discover"
	"github.com/sonde-io/sonde/collector/discover/kube"
	"github.com/sonde-io/sonde/collector/scrape"
)

// kubeSource is the name of the source of pods, jobPrefix begins those of jobs: by the order of names a job wins where both list a process.
const (
	kubeSource = "kubernetes"
	jobPrefix  = "job/"
)

// Options are what a Manager uses besides its Config.
type Options struct {
	Version    string                // Sonde's, for the User-Agent
	KubeClient kube.Client           // nil: made from the Config
	Resolver   *net.Resolver         // nil: the system's
	Logger     *slog.Logger          // nil: discard
	Registerer prometheus.Registerer // nil: no metrics
}

// Status is what is known of one source of targets.
type Status struct {
	Source    string    `json:"source"`
	Targets   int       `json:"targets"`
	Dropped   int       `json:"dropped,omitempty"` // by relabeling
	Refused   int       `json:"refused,omitempty"` // that are no targets, or beyond the limit
	LastError string    `json:"last_error,omitempty"`
	Refreshed time.Time `json:"refreshed,omitzero"` // last time that the source told its list in full
}

// Manager follows every source of a Config. Make one with New.
type Manager struct {
	cfg      Config
	log      *slog.Logger
	resolver resolver
	kube     *kube.Watcher
	jobs     []*job
	errors   *prometheus.CounterVec
	targets  *prometheus.GaugeVec

	mu     sync.Mutex
	ran    bool
	set    func(source string, ts []scrape.Target) error
	status map[string]*Status
}

// job is one list, gathered from its providers.
type job struct {
	Job
	mu        sync.Mutex // one update at a time
	providers []*provider
	told      []scrape.Target
	once      bool
}

// provider is one way in which a job gets targets.
type provider struct {
	name string
	sets []set
	err  error
	run  func(ctx context.Context) // nil for a static one
}

// New makes the sources. It connects to nothing and starts nothing.
func New(cfg Config, opts Options) (*Manager, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	m := &Manager{cfg: cfg, log: opts.Logger, resolver: opts.Resolver, status: map[string]*Status{},
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sonde_sd_errors_total", Help: "Times that a source of targets could not be read; its last good list stayed in force."}, []string{"source"}),
		targets: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "sonde_sd_targets", Help: "Targets that service discovery lists, by source and by what became of them: listed, dropped by relabeling, refused for being none or beyond the limit."}, []string{"source", "state"}),
	}
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	if opts.Resolver == nil {
		m.resolver = net.DefaultResolver
	}
	if cfg.Kubernetes != nil {
		var err error
		if m.kube, err = kube.New(cfg.Kubernetes.Config, kube.Options{Version: opts.Version, Client: opts.KubeClient, Logger: opts.Logger}); err != nil {
			return nil, fmt.Errorf("service discovery: kubernetes: %w", err)
		}
	}
	for _, j := range cfg.Jobs {
		m.jobs = append(m.jobs, m.newJob(j))
	}
	if opts.Registerer != nil {
		for _, c := range []prometheus.Collector{m.errors, m.targets} {
			if err := opts.Registerer.Register(c); err != nil {
				return nil, fmt.Errorf("service discovery: %w", err)
			}
		}
	}
	return m, nil
}

func (m *Manager) newJob(cfg Job) *job {
	j := &job{Job: cfg}
	if len(cfg.Static) > 0 {
		j.providers = append(j.providers, &provider{name: "static", sets: groupSets(cfg.Static, nil)})
	}
	for _, f := range cfg.Files {
		p := &provider{name: "file"}
		p.run = func(ctx context.Context) { m.runFiles(ctx, j, p, f) }
		j.providers = append(j.providers, p)
	}
	for _, d := range cfg.DNS {
		p := &provider{name: "dns"}
		p.run = func(ctx context.Context) { m.runDNS(ctx, j, p, d) }
		j.providers = append(j.providers, p)
	}
	return j
}

// Placed returns discover.Config.Placed, nil where pods are not watched.
func (m *Manager) Placed() func(containerID, podUID, container string) *discover.Placement {
	if m.kube == nil {
		return nil
	}
	return m.kube.Placed
}

// Run follows every source until ctx is done and gives set the targets of each at first and whenever they change. It returns when every goroutine has ended: nil, or why pods
// cannot be watched at all. It can be called once.
func (m *Manager) Run(ctx context.Context, set func(source string, ts []scrape.Target) error) error {
	m.mu.Lock()
	if m.ran {
		m.mu.Unlock()
		return errors.New("run service discovery: it ran before")
	}
	m.ran, m.set = true, set
	m.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	for _, j := range m.jobs {
		static := true
		for _, p := range j.providers {
			if p.run != nil {
				static = false
				wg.Go(func() { p.run(ctx) })
			}
		}
		if static {
			m.refresh(j)
		}
	}
	var err error
	if m.kube != nil {
		err = m.kube.Run(ctx, m.pods)
	}
	if err == nil {
		<-ctx.Done()
	}
	cancel()
	wg.Wait()
	return err
}

// update takes over what a provider lists. After an error it may be a part.
func (m *Manager) update(j *job, p *provider, sets []set, err error) {
	j.mu.Lock()
	said := fmt.Sprint(p.err) == fmt.Sprint(err)
	p.sets, p.err = sets, err
	j.mu.Unlock()
	if err != nil {
		m.errors.WithLabelValues(jobPrefix + j.Name).Inc()
		if !said {
			m.log.Warn("cannot refresh targets, the last good list stays in force", "job", j.Name, "by", p.name, "error", err)
		}
	}
	m.refresh(j)
}

// refresh makes a job's targets of what its providers list.
func (m *Manager) refresh(j *job) {
	j.mu.Lock()
	defer j.mu.Unlock()
	var sets []set
	var bad error
	for _, p := range j.providers {
		sets = append(sets, p.sets...)
		bad = errors.Join(bad, p.err)
	}
	for i, s := range sets {
		sets[i] = j.defaults(s)
	}
	st := &Status{Source: jobPrefix + j.Name}
	ts := m.make(st, sets, func(s set) (scrape.Target, error) { return makeTarget(s, j.Relabel, j.HTTPOptions, j.Name) })
	m.tell(st, ts, bad, &j.told, &j.once)
}

// defaults fills in what a list leaves to its job. The set stays as it is.
func (j *Job) defaults(s set) set {
	out := set{schemeLabel: j.Scheme, pathLabel: j.Path, typesLabel: strings.Join(j.Types, ","), "job": j.Name}
	if j.Scheme == "" {
		out[schemeLabel] = "http"
	}
	if j.Path == "" {
		out[pathLabel] = "/debug/pprof"
	}
	if j.MetricsPath != "" {
		out[metricsLabel] = j.MetricsPath
	}
	maps.Copy(out, s)
	return out
}

// pods makes targets of the pods that ask for it.
func (m *Manager) pods(list []kube.Target) {
	cfg := m.cfg.Kubernetes
	var sets []set
	for _, t := range list {
		sets = append(sets, t)
	}
	st := &Status{Source: kubeSource}
	ts := m.make(st, sets, func(s set) (scrape.Target, error) {
		t, err := makeTarget(s, cfg.Relabel, cfg.HTTPOptions, s["k8s_pod_name"])
		// The name that the pod suggests gives way to that of the process's own environment, one that a rule made does not.
		t.Guessed = t.Guessed || t.Service == s[serviceLabel]
		return t, err
	})
	var told []scrape.Target
	var once bool
	m.tell(st, ts, nil, &told, &once)
}

// make makes the targets of sets and counts the others.
func (m *Manager) make(st *Status, sets []set, one func(set) (scrape.Target, error)) (out []scrape.Target) {
	var first error
	for _, s := range sets {
		t, err := one(s)
		if err == nil && len(out) >= maxTargets {
			err = fmt.Errorf("more than %d targets in one source", maxTargets)
		}
		switch {
		case errors.Is(err, errDropped):
			st.Dropped++
		case err != nil:
			if st.Refused++; first == nil {
				first = fmt.Errorf("target %.128s: %w", s[addressLabel], err)
			}
		default:
			out = append(out, t)
		}
	}
	if first != nil {
		st.LastError = first.Error()
	}
	return out
}

// tell gives a source's targets away, if they changed.
func (m *Manager) tell(st *Status, ts []scrape.Target, bad error, told *[]scrape.Target, once *bool) {
	m.mu.Lock()
	set := m.set
	old := m.status[st.Source]
	st.Targets, st.Refreshed = len(ts), time.Now()
	if bad != nil {
		st.LastError = bad.Error()
		if st.Refreshed = (time.Time{}); old != nil {
			st.Refreshed = old.Refreshed
		}
	}
	m.status[st.Source] = st
	m.mu.Unlock()
	m.targets.WithLabelValues(st.Source, "listed").Set(float64(st.Targets))
	m.targets.WithLabelValues(st.Source, "dropped").Set(float64(st.Dropped))
	m.targets.WithLabelValues(st.Source, "refused").Set(float64(st.Refused))
	if *once && reflect.DeepEqual(*told, ts) {
		return
	}
	*told, *once = ts, true
	if err := set(st.Source, ts); err != nil {
		m.log.Error("targets cannot be scraped", "source", st.Source, "error", err)
	}
}

// Status returns what is known of each source, by name.
func (m *Manager) Status() []Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []Status
	for _, source := range slices.Sorted(maps.Keys(m.status)) {
		st := *m.status[source]
		if source == kubeSource && st.LastError == "" {
			st.LastError = m.kube.Failing()
		}
		out = append(out, st)
	}
	return out
}

// sleep waits for d and reports whether ctx is still alive.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
