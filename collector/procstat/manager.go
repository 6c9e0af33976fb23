package procstat

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sonde-io/sonde/collector/series"
	"github.com/sonde-io/sonde/internal/cgroup"
)

// Config configures a Manager. Series is required.
type Config struct {
	Series series.Appender
	// Given reports whether something else than this package gives the series of that name of an instance, such as its own /metrics. nil: nothing does.
	Given      func(instance, name string) bool
	Every      time.Duration // between two rounds; 0: 15 s
	Mounts     cgroup.Mounts // zero: /proc and /sys/fs/cgroup
	Logger     *slog.Logger  // nil: discard
	Registerer prometheus.Registerer
}

// Manager reads processes in rounds.
type Manager struct {
	cfg     Config
	r       *reader
	metrics metrics

	first   chan struct{} // closed when there are targets for the first time
	mu      sync.Mutex
	targets []Target
	begun   bool // first is closed

	// Of Run alone.
	round     int
	processes map[int]*process // by pid
	groups    map[groupKey]*group
	batches   []series.Batch
	failing   bool
}

type metrics struct {
	samples *prometheus.CounterVec
	targets prometheus.Gauge
	seconds prometheus.Counter
	skipped *prometheus.CounterVec
}

// New returns a Manager, which reads nothing until Run.
func New(cfg Config) *Manager {
	if cfg.Every <= 0 {
		cfg.Every = 15 * time.Second
	}
	if cfg.Mounts.Proc == "" {
		cfg.Mounts.Proc = "/proc"
	}
	if cfg.Mounts.Cgroup == "" {
		cfg.Mounts.Cgroup = "/sys/fs/cgroup"
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	m := &Manager{cfg: cfg, first: make(chan struct{}), processes: map[int]*process{}, groups: map[groupKey]*group{}}
	m.r = &reader{mounts: cfg.Mounts, given: cfg.Given, buf: make([]byte, 0, 8<<10)}
	m.metrics = metrics{
		samples: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sonde_procstat_samples_total", Help: "Samples read from /proc and cgroups, by what became of them; lost: they could not be kept."}, []string{"result"}),
		targets: prometheus.NewGauge(prometheus.GaugeOpts{Name: "sonde_procstat_processes", Help: "Processes read in the last round."}),
		seconds: prometheus.NewCounter(prometheus.CounterOpts{Name: "sonde_procstat_read_seconds_total", Help: "Time spent reading /proc and cgroups."}),
		skipped: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sonde_procstat_skipped_total", Help: "Processes that were not read in a round, by reason: ended, or not_readable."}, []string{"reason"}),
	}
	if cfg.Registerer != nil {
		cfg.Registerer.MustRegister(m.metrics.samples, m.metrics.targets, m.metrics.seconds, m.metrics.skipped)
	}
	return m
}

// SetTargets says what is read from the next round on. They are read from the eldest on, launchers last: the first of a cgroup that can be read tells of it, and the next one goes on when that one has ended.
func (m *Manager) SetTargets(targets []Target) {
	targets = slices.Clone(targets)
	slices.SortFunc(targets, func(a, b Target) int {
		if a.Launcher != b.Launcher {
			return map[bool]int{true: 1, false: -1}[a.Launcher]
		}
		return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(a.PID, b.PID))
	})
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(targets) > 0 && !m.begun {
		m.begun = true
		close(m.first)
	}
	m.targets = targets
}

// Run reads until ctx ends, for the first time as soon as it is known what.
func (m *Manager) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-m.first:
	}
	m.Round(ctx)
	tick := time.NewTicker(m.cfg.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			m.Round(ctx)
		}
	}
}

// Round reads all targets once and hands on what it found. Run calls it; one of the two is to be used.
func (m *Manager) Round(ctx context.Context) {
	begin := time.Now()
	m.mu.Lock()
	targets := m.targets
	m.mu.Unlock()
	m.follow(targets)
	m.batches = m.batches[:0]
	m.r.out = m.r.out[:0]
	type span struct{ from, to int }
	spans := make([]span, 0, len(targets)) // r.out grows: slices of it are taken at the end
	for _, t := range targets {
		p := m.processes[t.PID]
		from := len(m.r.out)
		if err := m.read(p); err != nil {
			m.metrics.skipped.WithLabelValues(reason(err)).Inc()
			m.r.out = m.r.out[:from]
			continue
		}
		m.batches = append(m.batches, series.Batch{Process: p.t.Labels})
		spans = append(spans, span{from, len(m.r.out)})
	}
	for i, s := range spans {
		m.batches[i].Samples = m.r.out[s.from:s.to:s.to]
	}
	m.metrics.targets.Set(float64(len(m.batches)))
	m.metrics.seconds.Add(time.Since(begin).Seconds())
	m.round++
	m.hand(ctx)
}

// hand gives the batches to the appender. What it does not take is lost: the next round tells of now.
func (m *Manager) hand(ctx context.Context) {
	if len(m.batches) == 0 {
		return
	}
	err := m.cfg.Series.AppendSeries(ctx, m.batches...)
	if err == nil {
		m.metrics.samples.WithLabelValues("kept").Add(float64(len(m.r.out)))
		m.failing = false
		return
	}
	m.metrics.samples.WithLabelValues("lost").Add(float64(len(m.r.out)))
	if !m.failing && ctx.Err() == nil {
		m.cfg.Logger.Warn("cannot keep the metrics of processes; this is said once until it works again", "processes", len(m.batches), "error", err)
	}
	m.failing = true
}

// follow makes the processes those of the targets.
func (m *Manager) follow(targets []Target) {
	now := make(map[int]*process, len(targets))
	for _, t := range targets {
		p := m.processes[t.PID]
		if p == nil || p.t.Start != t.Start {
			p = &process{fresh: true, phase: t.PID, dir: m.r.dir(t.PID)}
		}
		p.t = t
		now[t.PID] = p
	}
	m.processes = now
	if m.round%slowRounds == 0 { // groups that nobody is in any more
		clear(m.groups)
		for _, p := range m.processes {
			p.placed = false
		}
	}
}

// read reads one process, and its group unless another process of the group told of it in this round: sums over processes must not count it twice.
func (m *Manager) read(p *process) error {
	now := time.Now()
	if err := m.r.read(p, m.round, now); err != nil {
		return err
	}
	if !p.placed {
		p.group, p.placed = m.r.groupOf(p, m.groups), true
	}
	p.fresh = false
	if p.group != nil {
		m.r.sample(p.group, m.round, now.UnixMilli())
	}
	return nil
}

func reason(err error) string {
	switch err {
	case errAnother, errHasEnded:
		return "ended"
	}
	return "not_readable"
}
